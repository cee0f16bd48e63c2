"""Checks that node.py behaves as the stock node does, against a small server in Python.

Names of tests begin with the place on the wire page.
"""

import asyncio
import json
import logging
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import grpc
import grpc.aio

import wire

HERE = pathlib.Path(__file__).resolve().parent
PATIENCE = 60

VECTORS = json.loads((HERE / "vectors.json").read_text(encoding="utf-8"))


def request(name="PingRequest", request_id="q1", version="7", **fields):
    return wire.encode(name, version, **{"researcher_id": "R", "request_id": request_id, **fields})


class Vectors(unittest.TestCase):
    def test_c8_protobuf_messages(self):
        feedback = wire.FeedbackMessage(protocol_version="7", researcher_id="R")
        feedback.log.node_id, feedback.log.level, feedback.log.msg = "N", "INFO", "{}"
        made = {
            "TaskRequest": wire.TaskRequest(node="N", protocol_version="7"),
            "TaskResponse": wire.TaskResponse(size=1, iteration=1, bytes_=b"ab"),
            "FeedbackMessage": feedback,
        }
        for name, message in made.items():
            self.assertEqual(message.SerializeToString().hex(), VECTORS[name], name)

    def test_c2_a_scalar_with_all_its_fields(self):
        message = wire.FeedbackMessage(protocol_version="7")
        scalar = message.scalar
        scalar.node_id, scalar.experiment_id, scalar.node_name = "N", "E", "name"
        scalar.train = scalar.test = True
        scalar.test_on_local_updates = scalar.test_on_global_updates = True
        for name, value in {"": 0.0, "Loss": 0.25, "Ö": -1.5}.items():
            scalar.metric[name] = value
        scalar.epoch, scalar.total_samples, scalar.batch_samples = 0, 1, 300
        scalar.num_batches, scalar.num_samples_trained, scalar.iteration = -1, 2**31 - 1, -(2**31)
        self.assertEqual(message.SerializeToString(deterministic=True).hex(), VECTORS["Scalar"])

    def test_c8_messages(self):
        made = {
            "PingRequest": request(),
            "PingReply": request("PingReply", node_id="N", node_name="nn"),
            "OverlayMessage": wire.encode(
                "OverlayMessage", "7", researcher_id="R", node_id="A", dest_node_id="B",
                overlay=b"\1\2", setup=False, salt=b"s", nonce=b"n"),
        }
        for name, data in made.items():
            self.assertEqual(data.hex(), VECTORS[name], name)
            self.assertEqual(wire.decode(data, "7")[0], name)

    def test_c8_extra_types(self):
        array = wire.Array(bytes.fromhex("0000803f00000040"), "float32", [2])
        for name, value in {"tuple": (1, 2), "int": 2**64, "array": array}.items():
            self.assertEqual(wire.pack(value).hex(), VECTORS[name], name)
            self.assertEqual(wire.unpack(wire.pack(value)), value, name)
        for value in (2**64 - 1, -(2**63), -(2**63) - 1, 2**200, -(2**200)):
            self.assertEqual(wire.unpack(wire.pack(value)), value)

    def test_c5_bad_fields(self):
        for fields in ({"extra": 1}, {"researcher_id": 1}, {"request_id": 1}):
            with self.assertRaises(wire.WireError):
                request(**fields)
        with self.assertRaises(wire.WireError):
            request("SearchRequest")
        with self.assertRaises(wire.WireError):
            request("FARequest", version="5", experiment_id="", dataset_id="", fa_id="")
        with self.assertRaises(wire.WireError):
            request("TrainReply", sample_size=1.0)


class Server:
    """A researcher's server that does what the test says."""

    def __init__(self, directory, organization="R"):
        self.polls = asyncio.Queue()  # (request, out): put messages, codes or None (OK) in out
        self.replies = asyncio.Queue()
        self.feedback = asyncio.Queue()
        self.reply_code = None
        self.piece = wire.CHUNK_SIZE
        self.key, self.certificate = make_certificate(directory, organization)
        self.client_ca = None
        self.seen_by = []  # the common names of clients that have shown a certificate
        self.port = 0
        self._server = None

    async def start(self):
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        handlers = {
            "GetTaskUnary": grpc.unary_stream_rpc_method_handler(
                self._get_task, wire.TaskRequest.FromString, wire.TaskResponse.SerializeToString),
            "ReplyTask": grpc.stream_unary_rpc_method_handler(
                self._reply, wire.TaskResult.FromString, wire.Empty.SerializeToString),
            "Feedback": grpc.unary_unary_rpc_method_handler(
                self._feedback, wire.FeedbackMessage.FromString, wire.Empty.SerializeToString),
        }
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(wire.SERVICE, handlers)])
        credentials = grpc.ssl_server_credentials(
            [(self.key, self.certificate)], self.client_ca, self.client_ca is not None)
        self.port = self._server.add_secure_port(f"127.0.0.1:{self.port}", credentials)
        await self._server.start()

    async def stop(self):
        await self._server.stop(None)

    async def _get_task(self, poll, context):
        out = asyncio.Queue()
        self.seen_by += context.auth_context().get("x509_common_name", [])
        await self.polls.put((poll, out))
        while True:
            what = await out.get()
            if what is None:
                return
            if isinstance(what, grpc.StatusCode):
                await context.abort(what, "as the test says")
            for chunk in wire.split(what, wire.TaskResponse, self.piece):
                yield chunk

    async def _reply(self, chunks, context):
        joiner = wire.Joiner()
        async for chunk in chunks:
            whole = joiner.add(chunk)
            if whole is not None:
                await self.replies.put(whole)
        if joiner.begun or joiner.faults:
            await self.replies.put("truncated")
        if self.reply_code is not None:
            await context.abort(self.reply_code, "as the test says")
        return wire.Empty()

    async def _feedback(self, message, _):
        await self.feedback.put(message)
        return wire.Empty()

    async def poll(self):
        return await asyncio.wait_for(self.polls.get(), PATIENCE)

    async def reply(self, version="7"):
        return wire.decode(await asyncio.wait_for(self.replies.get(), PATIENCE), version)


def make_certificate(directory, organization, host="127.0.0.1", name="127.0.0.1"):
    subject = f"/CN={name}" + (f"/O={organization}" if organization else "")
    key, certificate = pathlib.Path(directory, "key.pem"), pathlib.Path(directory, "cert.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-sha256", "-days", "2",
         "-subj", subject, "-addext", f"subjectAltName=IP:{host}", "-keyout", key, "-out", certificate],
        check=True, capture_output=True)
    return key.read_bytes(), certificate.read_bytes()


class Running:
    """A node in a process of its own."""

    def __init__(self, process):
        self.process = process
        self.events = []

    @classmethod
    async def start(cls, port, node_id, *arguments):
        return cls(await asyncio.create_subprocess_exec(
            sys.executable, str(HERE / "node.py"), "--server", f"127.0.0.1:{port}",
            "--node-id", node_id, "--time-scale", "0.05", *arguments,
            stdout=asyncio.subprocess.PIPE))

    async def event(self, name, **wanted):
        """The next event of this name, with these members."""
        while True:
            line = await asyncio.wait_for(self.process.stdout.readline(), PATIENCE)
            if not line:
                raise AssertionError(f"no {name} {wanted}; the node told {self.events}")
            event = json.loads(line)
            self.events.append(event)
            if event["event"] == name and wanted.items() <= event.items():
                return event

    def count(self, name, **wanted):
        wanted["event"] = name
        return sum(wanted.items() <= event.items() for event in self.events)

    async def end(self):
        """Asks it to stop. Returns the exit code."""
        if self.process.returncode is None:
            self.process.terminate()
        return await self.ended()

    async def ended(self):
        """The exit code of a node that ends by itself: a signal after its last word would kill it."""
        await asyncio.wait_for(self.process.communicate(), PATIENCE)
        return self.process.returncode


class Proxy:
    """Stands before a server and notes how each connection begins."""

    def __init__(self, port):
        self.to = port
        self.port = 0
        self.seen = []
        self._server = None

    async def start(self):
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self):
        self._server.close()

    async def _take(self, reader, writer):
        first = await reader.read(65536)
        # A client's hello begins with 22, and names its protocols in plain text.
        kind = "nothing" if not first else "tls" if first[0] == 22 else "other"
        self.seen.append("h2" if b"\x02h2" in first else kind)
        if first:
            there, to = await asyncio.open_connection("127.0.0.1", self.to)
            to.write(first)
            await asyncio.gather(_copy(reader, to), _copy(there, writer))
        writer.close()


async def _copy(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()


class NodeTest(unittest.IsolatedAsyncioTestCase):
    organization = "R"

    async def asyncSetUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.server = Server(self.directory.name, self.organization)
        await self.server.start()
        self.addAsyncCleanup(self.server.stop)

    async def node(self, *arguments, node_id="N", port=None):
        running = await Running.start(port or self.server.port, node_id, *arguments)
        self.addAsyncCleanup(running.end)
        return running


class Connecting(NodeTest):
    async def test_c1_probe_then_certificate_then_grpc(self):
        proxy = Proxy(self.server.port)
        await proxy.start()
        self.addCleanup(proxy.stop)
        node = await self.node(port=proxy.port)
        poll, out = await self.server.poll()
        self.assertEqual((poll.node, poll.protocol_version), ("N", "7"))
        self.assertEqual(proxy.seen, ["nothing", "tls", "h2"])
        connected = await node.event("connected")
        self.assertEqual(connected["organization"], "R")
        await out.put(request())
        await self.server.reply()
        # The replies have a channel of their own, which begins in the same way.
        self.assertEqual(proxy.seen, ["nothing", "tls", "h2"] * 2)

    async def test_c1_waits_for_a_server_that_is_not_there_yet(self):
        await self.server.stop()
        node = await self.node()
        await node.event("probe_failed")
        await self.server.start()
        await self.server.poll()
        self.assertEqual(await node.end(), 0)

    async def test_c1_trusts_the_certificate_of_each_connection(self):
        node = await self.node()
        _, out = await self.server.poll()
        await self.server.stop()
        self.server.key, self.server.certificate = make_certificate(self.directory.name, "R2")
        await self.server.start()
        await self.server.poll()
        await node.event("connected", organization="R2")


    async def test_c1_the_certificate_must_be_for_the_host(self):
        await self.server.stop()
        self.server.key, self.server.certificate = make_certificate(
            self.directory.name, "R", host="127.0.0.2", name="other")
        await self.server.start()
        node = await self.node()
        await node.event("poll_ended", code="UNAVAILABLE")
        self.assertTrue(self.server.polls.empty())

    async def test_c1_a_client_certificate_when_it_has_one(self):
        await self.server.stop()
        with tempfile.TemporaryDirectory() as directory:
            _, self.server.client_ca = make_certificate(directory, "", name="N")
            await self.server.start()
            without = await self.node()
            await without.event("poll_ended", code="UNAVAILABLE")
            await self.node("--client-cert", f"{directory}/cert.pem", "--client-key", f"{directory}/key.pem")
            _, out = await self.server.poll()
            self.assertEqual(self.server.seen_by, [b"N"])
            await out.put(request())
            await self.server.reply()


class WithoutOrganization(NodeTest):
    organization = ""

    async def test_c1_a_certificate_without_o_ends_the_node(self):
        node = await self.node()
        await node.event("stopped")
        self.assertEqual(await node.ended(), 3)
        self.assertTrue(self.server.polls.empty())


class Polling(NodeTest):
    async def test_c3_several_messages_in_one_stream_in_pieces_of_any_size(self):
        node = await self.node()
        self.server.piece = 40
        _, out = await self.server.poll()
        for i in range(3):
            await out.put(request(request_id=f"q{i}"))
            name, fields = await self.server.reply()
            self.assertEqual((name, fields["request_id"]), ("PingReply", f"q{i}"))
        self.assertTrue(self.server.polls.empty())
        await node.event("task", request_id="q2")
        self.assertEqual(node.count("poll_opened"), 1)

    async def test_c3_polls_again_at_once_after_ok_also_without_a_message(self):
        # With this scale a pause would outlast the patience of the test.
        node = await self.node("--time-scale", "100")
        for _ in range(3):
            _, out = await self.server.poll()
            await out.put(None)
        _, out = await self.server.poll()
        await out.put(request())
        await out.put(None)
        await self.server.poll()
        await node.event("poll_opened", poll=5)
        self.assertEqual(node.count("connected", channel="tasks"), 1)

    async def test_c3_polls_again_at_once_after_its_own_deadline(self):
        node = await self.node("--time-scale", "100", "--poll-deadline", "0.3")
        await self.server.poll()
        await self.server.poll()
        await node.event("poll_ended", code="DEADLINE_EXCEEDED")

    async def test_c3_unavailable_makes_it_connect_again(self):
        node = await self.node()
        _, out = await self.server.poll()
        await out.put(grpc.StatusCode.UNAVAILABLE)
        await self.server.poll()
        await node.event("poll_opened", poll=2)
        self.assertEqual(node.count("connected", channel="tasks"), 2)
        self.assertEqual(node.count("security_event"), 0)

    async def test_c3_any_other_status_is_a_security_event(self):
        node = await self.node()
        _, out = await self.server.poll()
        await out.put(grpc.StatusCode.RESOURCE_EXHAUSTED)
        await self.server.poll()
        event = await node.event("security_event", kind="unexpected_status")
        self.assertEqual(event["code"], "RESOURCE_EXHAUSTED")
        await node.event("connected")

    async def give(self, *names):
        """A task of each class, each to a poll of its own."""
        for name in names:
            _, out = await self.server.poll()
            await out.put(request(name, name))
            await out.put(None)

    async def test_c3_gives_up_after_five_failures_without_a_success_between(self):
        node = await self.node("--fail-on", "ListRequest")
        await self.give(*["ListRequest"] * 6)
        await node.event("stopped")
        self.assertEqual(await node.ended(), 3)
        self.assertEqual(node.count("listener_error"), 6)

    async def test_c3_a_success_between_failures_counts(self):
        node = await self.node("--fail-on", "ListRequest")
        for _ in range(2):
            await self.give(*["ListRequest"] * 5, "PingRequest")
            self.assertEqual((await self.server.reply())[0], "PingReply")
        self.assertIsNone(node.process.returncode)

    async def test_c3_another_researcher_is_a_security_event(self):
        node = await self.node()
        _, out = await self.server.poll()
        await out.put(request(researcher_id="S"))
        event = await node.event("security_event", kind="malicious_researcher")
        self.assertEqual((event["researcher_id"], event["expected"]), ("S", "R"))
        await out.put(request(request_id="mine"))
        self.assertEqual((await self.server.reply())[1]["request_id"], "mine")

    async def test_killed_after_so_many_chunks(self):
        node = await self.node("--die-after-chunks", "2")
        self.server.piece = 40
        _, out = await self.server.poll()
        await out.put(request())
        self.assertEqual(await asyncio.wait_for(node.process.wait(), PATIENCE), -9)
        self.assertTrue(self.server.replies.empty())


class Strictness(NodeTest):
    async def test_c5_what_cannot_be_read_is_answered_without_a_request_id(self):
        await self.node()
        _, out = await self.server.poll()
        good = wire.unpack(request("SearchRequest", tags=[]))
        bad = [{**good, "trace": "t"}, {**good, "tags": "t"}, {n: v for n, v in good.items() if n != "tags"},
               {**good, "__type_message__": {"module": "m", "class": "Wish"}}, [1, 2]]
        for message in bad:
            await out.put(wire.pack(message))
            name, fields = await self.server.reply()
            self.assertEqual((name, fields["errnum"], fields["request_id"]), ("ErrorMessage", "FB301", None))
        await out.put(wire.pack({**good, "__type_message__": {"module": "m", "class": "SearchRequest"}}))
        self.assertEqual((await self.server.reply())[0], "SearchReply")

    async def test_c7_a_search_finds_what_has_all_the_tags(self):
        path = pathlib.Path(self.directory.name, "databases.json")
        path.write_text(json.dumps([{"dataset_id": "1", "tags": ["a", "b"]}, {"dataset_id": "2", "tags": ["a"]}]))
        for databases, found in ((str(path), {"a": "12", "b": "1", "c": ""}), ("none", {"a": ""})):
            await self.node("--databases", databases)
            _, out = await self.server.poll()
            for tag, ids in found.items():
                await out.put(request("SearchRequest", tags=[tag]))
                _, fields = await self.server.reply()
                self.assertEqual("".join(d["dataset_id"] for d in fields["databases"]), ids)
                self.assertEqual(fields["count"], len(ids))

    async def test_c5_another_version_is_not_read(self):
        node = await self.node()
        _, out = await self.server.poll()
        await out.put(request(version="5"))
        await node.event("parse_error")
        await out.put(request(request_id="good"))
        self.assertEqual((await self.server.reply())[1]["request_id"], "good")

    async def test_c7_every_request_has_its_reply_in_both_versions(self):
        text, thing = "text", {"a": 1}
        requests = {
            "PingRequest": {}, "SearchRequest": {"tags": ["#MNIST"]}, "ListRequest": {},
            "ApprovalRequest": {"description": text, "training_plan": text},
            "TrainingPlanStatusRequest": {"experiment_id": text, "training_plan": text},
            "TrainRequest": {
                "experiment_id": text, "training_args": thing, "dataset_id": text, "training": True,
                "model_args": thing, "params": {"w": wire.Array(bytes(4), "float32", [1])},
                "training_plan": text, "training_plan_class": text, "round": 1, "aggregator_args": thing},
            "FARequest": {"experiment_id": text, "dataset_id": text, "fa_id": text, "dataset_schema": (1,)},
            "PreprocRequest": {"experiment_id": text, "dataset_id": text, "preproc_type": 1,
                               "preproc_step": 1, "preproc_id": text, "preproc_args": thing},
            "SecaggRequest": {"secagg_id": text, "element": 0, "experiment_id": text, "parties": [text]},
            "AdditiveSSSetupRequest": {"secagg_id": text, "element": 0, "experiment_id": text, "parties": []},
            "SecaggDeleteRequest": {"secagg_id": text, "element": 0},
        }
        for version in ("7", "5"):
            await self.node("--version", version, node_id=f"N{version}")
            poll, out = await self.server.poll()
            self.assertEqual(poll.protocol_version, version)
            for name, fields in requests.items():
                if name in wire.CLASSES[version]:
                    await out.put(request(name, name, version, **fields))
                    reply, got = await self.server.reply(version)
                    self.assertEqual(reply, name.replace("Request", "Reply"))
                    self.assertEqual((got["request_id"], got["node_id"]), (name, f"N{version}"))
                    self.assertEqual("node_name" in got, version == "7")


class Replying(NodeTest):
    async def test_c4_the_result_of_a_reply_is_not_looked_at(self):
        node = await self.node()
        self.server.reply_code = grpc.StatusCode.INTERNAL
        _, out = await self.server.poll()
        for i in range(2):
            await out.put(request(request_id=f"q{i}"))
            await self.server.reply()
        await node.event("reply_result", code="INTERNAL")
        await node.event("reply_result", code="INTERNAL")
        self.assertEqual(node.count("reply_retried"), 0)
        self.assertTrue(self.server.replies.empty())

    async def test_c4_a_reply_that_cannot_be_written_is_sent_again(self):
        node = await self.node("--work-seconds", "0.5", "--reply-bytes", "3000000", "--chunk-size", "1000000")
        _, out = await self.server.poll()
        await out.put(request("PingRequest"))
        await self.server.reply()
        await out.put(request("SecaggRequest", "late", secagg_id="", element=0, experiment_id="", parties=[]))
        await node.event("queued_for_work")
        await self.server.stop()
        await node.event("reply_retried", attempt=1)
        await self.server.start()
        self.assertEqual((await self.server.reply())[1]["request_id"], "late")

    async def test_c4_replies_in_chunks_and_twice_and_cut_short(self):
        await self.node("--chunk-size", "1000", "--reply-bytes", "5000", "--duplicate-replies")
        _, out = await self.server.poll()
        await out.put(request())
        for _ in range(2):
            _, fields = await self.server.reply()
            self.assertGreater(len(fields["node_name"]), 5000)
        await self.node("--chunk-size", "1000", "--reply-bytes", "5000", "--truncate-replies", node_id="M")
        _, out = await self.server.poll()
        await out.put(request())
        self.assertEqual(await asyncio.wait_for(self.server.replies.get(), PATIENCE), "truncated")

    async def test_c4_feedback_of_both_kinds(self):
        node = await self.node("--feedback", "3")
        await self.server.poll()
        kinds = []
        for _ in range(3):
            message = await asyncio.wait_for(self.server.feedback.get(), PATIENCE)
            kinds.append(message.WhichOneof("feedback_type"))
            self.assertEqual((message.researcher_id, message.protocol_version), ("R", "7"))
        self.assertEqual(kinds, ["log", "scalar", "log"])
        await node.event("feedback_sent", code="OK")

    async def test_c7_overlay_messages_and_their_answer(self):
        to = await self.node(node_id="B")
        _, out_b = await self.server.poll()
        source = await self.node("--overlay-to", "B", node_id="A")
        _, out_a = await self.server.poll()
        for out in (out_b, out_a):
            whole = await asyncio.wait_for(self.server.replies.get(), PATIENCE)
            self.assertEqual(wire.decode(whole, "7")[0], "OverlayMessage")
            await out.put(whole)
        await to.event("overlay_received", **{"from": "A"})
        await source.event("overlay_answered", by="B")

    async def test_c7_an_overlay_message_for_another_node_is_ignored_and_the_source_waits_30_s(self):
        other = await self.node(node_id="C")
        _, out = await self.server.poll()
        source = await self.node("--overlay-to", "B", node_id="A")
        whole = await asyncio.wait_for(self.server.replies.get(), PATIENCE)
        await out.put(whole)
        await other.event("overlay_ignored", to="B")
        await source.event("overlay_timeout")

    async def test_claims_another_id_where_it_is_told_to(self):
        await self.node("--claim-id", "M", "--claim-in", "reply")
        poll, out = await self.server.poll()
        await out.put(request())
        self.assertEqual((poll.node, (await self.server.reply())[1]["node_id"]), ("N", "M"))

    async def test_stops_after_so_many_tasks(self):
        node = await self.node("--tasks", "2")
        _, out = await self.server.poll()
        await out.put(request(request_id="a"))
        await out.put(request(request_id="b"))
        stopped = await node.event("stopped")
        self.assertEqual((stopped["tasks"], stopped["replies"]), (2, 2))
        self.assertEqual(await node.ended(), 0)


if __name__ == "__main__":
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it tells of every slow step in tests
    unittest.main()
