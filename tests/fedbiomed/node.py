"""A node that behaves towards a server as the stock Fed-BioMed node does, for tests.

Prints one JSON line for each thing that happens: {"event": ..., "node": ..., ...}. The events:

connected         channel, organization: the certificate was fetched and is the trust root now
probe_failed      channel, reason: the server cannot be reached yet
poll_opened       poll: how many there were
poll_ended        code, details, truncated: whether a message was there in part
task              class, request_id, size, chunks
parse_error       reason: the task is not one that this node can read
queued_for_work   request_id: the task waits for the worker
reply_sent        class, request_id, size, chunks
reply_result      code: what the server said in the end; nothing follows from it
reply_retried     attempt, code       reply_discarded   class, request_id
feedback_sent     kind, code
overlay_sent      to, size            overlay_received  from, size
overlay_answered  by                  overlay_timeout   to      overlay_ignored  to
security_event    kind: unexpected_status or malicious_researcher
listener_error    reason              dying             chunks
stopped           reason, polls, tasks, replies: the last line, but after SIGKILL

The exit code is 0 after --tasks, --seconds or SIGTERM, and 3 when the node gave up.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

import grpc
import grpc.aio

import wire

# Answered at once; the others that are requests wait for the one worker.
AT_ONCE = {
    "PingRequest",
    "SearchRequest",
    "ListRequest",
    "ApprovalRequest",
    "TrainingPlanStatusRequest",
    "SecaggDeleteRequest",
}
BY_WORKER = {
    "TrainRequest",
    "SecaggRequest",
    "AdditiveSSSetupRequest",
    "FARequest",
    "PreprocRequest",
}
CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", 100 * 1024 * 1024),
    ("grpc.max_receive_message_length", 100 * 1024 * 1024),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.enable_retries", 1),
    ("grpc.enable_http_proxy", 0),
    # Each channel has a connection of its own, as in three processes.
    ("grpc.use_local_subchannel_pool", 1),
]
RETRIES = 5
DATABASES = [{"name": "MNIST", "data_type": "default", "tags": ["#MNIST", "#dataset"],
              "description": "digits", "shape": [60000, 1, 28, 28], "dataset_id": "dataset_1"}]


class GaveUp(Exception):
    """The node's client stops for good."""


class Connection:
    """A channel, and what comes before it: a probe, and a visit to fetch the certificate."""

    def __init__(self, node, name):
        self.node = node
        self.name = name
        self.organization = ""
        self.channel = None

    async def open(self):
        """Ends when there is a channel. gRPC itself connects when it is used."""
        if self.channel is not None:
            return
        while True:
            try:
                await asyncio.to_thread(self._probe)
                pem = await asyncio.to_thread(self._fetch_certificate)
                break
            except OSError as error:
                self.node.emit("probe_failed", channel=self.name, reason=str(error))
                await self.node.pause(2)
        self.organization = organization_of(pem)
        args = self.node.args
        credentials = grpc.ssl_channel_credentials(
            pem.encode(), _read(args.client_key), _read(args.client_cert)
        )
        self.channel = grpc.aio.secure_channel(args.server, credentials, CHANNEL_OPTIONS)
        self.node.emit("connected", channel=self.name, organization=self.organization)

    async def close(self):
        if self.channel is not None:
            await self.channel.close()
            self.channel = None

    def _socket(self):
        host, _, port = self.node.args.server.rpartition(":")
        probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        probe.settimeout(2)
        try:
            probe.connect((host, int(port)))
        except OSError:
            probe.close()
            raise
        return probe

    def _probe(self):
        self._socket().close()

    def _fetch_certificate(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # and no ALPN
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if self.node.args.client_cert:
            context.load_cert_chain(self.node.args.client_cert, self.node.args.client_key)
        with self._socket() as plain, context.wrap_socket(plain) as secure:
            return ssl.DER_cert_to_PEM_cert(secure.getpeercert(binary_form=True))

    def calls(self, method, kind, request, response):
        make = getattr(self.channel, kind)
        return make(
            f"/{wire.SERVICE}/{method}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )


def organization_of(pem):
    """The O of the subject. Without one the stock node fails with an IndexError, for good."""
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(pem)
        file.flush()
        shown = subprocess.run(
            ["openssl", "x509", "-in", file.name, "-noout", "-subject", "-nameopt", "multiline,utf8,-esc_msb"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    pairs = [line.partition("=") for line in shown.splitlines()]
    found = [value.strip() for name, _, value in pairs if name.strip() == "organizationName"]
    if not found:
        raise GaveUp("the certificate has no O")
    return found[0]


def _read(path):
    if not path:
        return None
    with open(path, "rb") as file:
        return file.read()


class Node:
    def __init__(self, args):
        self.args = args
        self.version = args.version
        claimed = args.claim_id or args.node_id
        self.poll_id = claimed if args.claim_in in ("poll", "both") else args.node_id
        self.reply_id = claimed if args.claim_in in ("reply", "both") else args.node_id
        self.listening = Connection(self, "tasks")
        self.sending = Connection(self, "replies")
        self.reporting = Connection(self, "feedback")
        self.out = asyncio.Queue()
        self.work = asyncio.Queue()
        self.unread = set()  # calls whose result nobody waits for
        self.answers = asyncio.Queue()
        self.chunks = 0
        self.polls = 0
        self.tasks = 0
        self.replies = 0
        self.first_poll = asyncio.Event()
        self.enough = asyncio.Event()

    def emit(self, event, **more):
        line = {"event": event, "node": self.args.node_id, "time": round(time.time(), 4), **more}
        print(json.dumps(line), flush=True)

    async def pause(self, seconds):
        await asyncio.sleep(seconds * self.args.time_scale)

    async def run(self):
        parts = [self.listen(), self.send(), self.do_work(), self.go_first()]
        ends = [self.enough.wait()]
        if self.args.seconds:
            ends.append(asyncio.sleep(self.args.seconds))
        ends = [asyncio.ensure_future(end) for end in ends]
        parts = [asyncio.ensure_future(part) for part in parts]
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.enough.set)
        reason, status = "asked to", 0
        try:
            waiting = set(ends + parts)
            while not any(end.done() for end in ends):
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for part in done:
                    part.result()
        except GaveUp as error:
            reason, status = str(error), 3
        for task in ends + parts:
            task.cancel()
        await asyncio.gather(*ends, *parts, return_exceptions=True)
        for connection in (self.listening, self.sending, self.reporting):
            await connection.close()
        self.emit("stopped", reason=reason, polls=self.polls, tasks=self.tasks, replies=self.replies)
        return status

    # --- Tasks

    async def listen(self):
        failures = 0
        while True:
            await self.listening.open()
            try:
                async with contextlib.aclosing(self.poll()) as messages:
                    async for whole, chunks in messages:
                        self.take(whole, chunks)
                        failures = 0
            except grpc.aio.AioRpcError as error:
                code = error.code()
                self.emit("poll_ended", code=code.name, details=error.details())
                if code == grpc.StatusCode.DEADLINE_EXCEEDED:
                    continue
                if code != grpc.StatusCode.UNAVAILABLE:
                    self.emit("security_event", kind="unexpected_status", code=code.name,
                              details=error.details())
                await self.pause(2)
                await self.listening.close()
            except Exception as error:  # whatever the handling of a task raises
                failures += 1
                self.emit("listener_error", reason=repr(error), failures=failures)
                if failures > RETRIES:
                    raise GaveUp("too many failures without a success between") from error
                await self.pause(2)

    async def poll(self):
        """One poll. Gives every message as soon as it is whole."""
        self.polls += 1
        self.emit("poll_opened", poll=self.polls, id=self.poll_id)
        poll = self.listening.calls("GetTaskUnary", "unary_stream", wire.TaskRequest, wire.TaskResponse)
        request = wire.TaskRequest(node=self.poll_id, protocol_version=self.args.poll_version or self.version)
        joiner = wire.Joiner()
        chunks = 0
        call = poll(request, timeout=self.args.poll_deadline)
        self.first_poll.set()
        try:
            async for chunk in call:
                chunks += 1
                self.chunks += 1
                if self.chunks == self.args.die_after_chunks:
                    self.emit("dying", chunks=self.chunks)
                    os.kill(os.getpid(), signal.SIGKILL)
                whole = joiner.add(chunk)
                for fault in joiner.faults:
                    self.emit("chunk_fault", reason=fault)
                joiner.faults.clear()
                if whole is not None:
                    yield whole, chunks
                    chunks = 0
        finally:
            call.cancel()  # nothing when it has ended
        self.emit("poll_ended", code="OK", truncated=joiner.begun)

    def take(self, whole, chunks):
        """What the stock node's listener does with a message."""
        try:
            name, fields = wire.decode(whole, self.version)
        except wire.VersionMismatch as error:
            self.emit("parse_error", reason=str(error))
            return
        except wire.WireError as error:
            self.emit("parse_error", reason=str(error))
            self.refuse(None, "FB301", str(error))
            return
        researcher = fields["researcher_id"]
        if researcher != self.listening.organization:
            self.emit("security_event", kind="malicious_researcher", researcher_id=researcher,
                      expected=self.listening.organization)
            return
        if name == "OverlayMessage":
            self.take_overlay(fields)
            return
        if name == self.args.fail_on:
            raise RuntimeError("asked to fail")
        self.tasks += 1
        request_id = fields["request_id"]
        self.emit("task", **{"class": name}, request_id=request_id, size=len(whole), chunks=chunks,
                  sha=hashlib.sha256(whole).hexdigest())
        if name in AT_ONCE:
            self.reply(*answer_at_once(self, name, fields), request_id)
        elif name in BY_WORKER:
            self.emit("queued_for_work", request_id=request_id)
            self.work.put_nowait((name, fields))
        else:
            self.refuse(request_id, "FB301", f"{name} is no request")

    async def do_work(self):
        while True:
            name, fields = await self.work.get()
            await asyncio.sleep(self.args.work_seconds)
            self.reply(*answer_by_worker(self, name, fields), fields["request_id"])

    # --- Replies

    def reply(self, name, fields, request_id):
        fields = {"researcher_id": self.listening.organization, "request_id": request_id,
                  "node_id": self.reply_id, "node_name": self.node_name(), **fields}
        if self.version == "5":
            del fields["node_name"]
        if name == "OverlayMessage":
            del fields["request_id"]
            fields.pop("node_name", None)
        data = wire.encode(name, self.version, **fields)
        for _ in range(2 if self.args.duplicate_replies else 1):
            self.out.put_nowait((name, request_id, data))

    def refuse(self, request_id, number, text):
        self.reply("ErrorMessage", {"extra_msg": text, "errnum": number}, request_id)

    def node_name(self):
        return f"name of {self.args.node_id}"

    async def send(self):
        """Replies and feedback wait in one queue, and go out one at a time."""
        while True:
            item = await self.out.get()
            if isinstance(item, wire.FeedbackMessage):
                await self.send_feedback(item)
            else:
                await self.send_reply(*item)
            if self.args.tasks and self.replies >= self.args.tasks and self.out.empty():
                await asyncio.gather(*self.unread, return_exceptions=True)
                self.enough.set()

    async def send_reply(self, name, request_id, data):
        what = {"class": name, "request_id": request_id}
        for attempt in range(RETRIES + 1):
            await self.sending.open()
            try:
                chunks = await self.send_once(data)
                self.replies += name != "OverlayMessage"
                self.emit("reply_sent", **what, size=len(data), chunks=chunks,
                          sha=hashlib.sha256(data).hexdigest())
                return
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
                if attempt == RETRIES:
                    self.emit("reply_discarded", **what)
                    return
                code = error.code().name if isinstance(error, grpc.aio.AioRpcError) else repr(error)
                self.emit("reply_retried", attempt=attempt + 1, code=code)
                await self.pause(2)
                await self.sending.close()

    async def send_once(self, data):
        call = self.sending.calls("ReplyTask", "stream_unary", wire.TaskResult, wire.Empty)()
        chunks = wire.split(data, wire.TaskResult, self.args.chunk_size)
        for chunk in chunks[: -1 if self.args.truncate_replies else None]:
            await call.write(chunk)
        await call.done_writing()
        # Nobody reads the result. It is only told, and the next reply does not wait for it.
        result = asyncio.ensure_future(self.tell_result(call))
        self.unread.add(result)
        result.add_done_callback(self.unread.discard)
        return len(chunks)

    async def tell_result(self, call):
        code = await call.code()
        self.emit("reply_result", code=code.name, details=await call.details())

    async def send_feedback(self, message):
        kind = message.WhichOneof("feedback_type")
        for _ in range(RETRIES + 1):
            await self.reporting.open()
            call = self.reporting.calls("Feedback", "unary_unary", wire.FeedbackMessage, wire.Empty)
            try:
                await call(message)
                self.emit("feedback_sent", kind=kind, code="OK")
                return
            except grpc.aio.AioRpcError as error:
                self.emit("feedback_sent", kind=kind, code=error.code().name, details=error.details())
                await self.pause(2)
                await self.reporting.close()

    def feedback(self, i):
        message = wire.FeedbackMessage(
            protocol_version=self.version, researcher_id=self.listening.organization
        )
        if i % 2 == 0:
            message.log.node_id = self.reply_id
            message.log.level = "INFO"
            message.log.msg = json.dumps({"message": f"line {i}"})
        else:
            message.scalar.node_id = self.reply_id
            message.scalar.experiment_id = "experiment"
            message.scalar.train = True
            message.scalar.metric["Loss"] = 1.0 / i
            message.scalar.epoch = 0
            message.scalar.iteration = i
            if self.version != "5":
                message.scalar.node_name = self.node_name()
        return message

    # --- Overlay

    async def go_first(self):
        """What the node sends without being asked. Then waits for ever."""
        await self.first_poll.wait()
        for i in range(self.args.feedback):
            self.out.put_nowait(self.feedback(i))
        if self.args.overlay_to:
            await self.pause(self.args.overlay_delay)
            self.overlay(self.args.overlay_to, b"question")
            try:
                await asyncio.wait_for(self.answers.get(), 30 * self.args.time_scale)
            except asyncio.TimeoutError:
                self.emit("overlay_timeout", to=self.args.overlay_to)
        await asyncio.Event().wait()

    def overlay(self, to, inside):
        inside += bytes(self.args.reply_bytes)
        self.emit("overlay_sent", to=to, size=len(inside))
        self.reply("OverlayMessage", {"dest_node_id": to, "overlay": inside, "setup": True,
                                      "salt": os.urandom(32), "nonce": os.urandom(16)}, None)

    def take_overlay(self, fields):
        source, to, inside = fields["node_id"], fields["dest_node_id"], fields["overlay"]
        if to != self.args.node_id:
            self.emit("overlay_ignored", to=to, **{"from": source})
            return
        self.emit("overlay_received", **{"from": source}, size=len(inside))
        if inside.startswith(b"question"):
            self.overlay(source, b"answer")
        else:
            self.emit("overlay_answered", by=source)
            self.answers.put_nowait(source)


def answer_at_once(node, name, fields):
    """The class and the fields of a reply."""
    padding = node.args.reply_bytes
    if name == "PingRequest":
        return "PingReply", {"node_name": node.node_name() + "-" * padding}
    if name in ("SearchRequest", "ListRequest"):
        found = node.args.databases
        if name == "SearchRequest":
            found = [d for d in found if set(fields["tags"]) <= set(d["tags"])]
        reply = {"databases": found, "count": len(found)}
        if padding:
            reply["databases"] = found + [{"padding": bytes(padding)}]
        if name == "SearchRequest":
            return "SearchReply", reply
        return "ListReply", {"success": True, **reply}
    if name == "ApprovalRequest":
        return "ApprovalReply", {"training_plan_id": "training_plan_1", "message": "-" * padding,
                                 "status": 0, "success": True}
    if name == "TrainingPlanStatusRequest":
        return "TrainingPlanStatusReply", {
            "experiment_id": fields["experiment_id"], "success": True, "approval_obligation": False,
            "status": "Approved", "msg": "-" * padding, "training_plan": fields["training_plan"],
            "training_plan_id": None}
    return "SecaggDeleteReply", {"secagg_id": fields["secagg_id"], "success": True, "msg": ""}


def answer_by_worker(node, name, fields):
    padding = bytes(node.args.reply_bytes)
    if name == "TrainRequest":
        weights = wire.Array(bytes(8), "float32", [2], "torch.Tensor")
        params = {"weights": weights, "padding": padding} if padding else {"weights": weights}
        return "TrainReply", {
            "experiment_id": fields["experiment_id"], "success": True,
            "dataset_id": fields["dataset_id"], "timing": {"rtime_training": 0.5}, "msg": "",
            "state_id": fields["state_id"], "sample_size": 100, "encrypted": False, "params": params,
            "optimizer_args": {"lr": {"weights": 0.01}}}
    if name == "FARequest":
        return "FAReply", {"experiment_id": fields["experiment_id"], "fa_id": fields["fa_id"],
                           "stats": ["mean"], "output": {"mean": 0.5}, "encrypted": False}
    if name == "PreprocRequest":
        return "PreprocReply", {"experiment_id": fields["experiment_id"], "msg": "",
                                "preproc_output": {"padding": padding}, "state_id": fields["state_id"]}
    reply = {"secagg_id": fields["secagg_id"], "success": True, "msg": ""}
    if name == "SecaggRequest":
        return "SecaggReply", reply
    return "AdditiveSSSetupReply", {**reply, "share": 2**100}


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--server", required=True, metavar="HOST:PORT")
    add("--node-id", required=True)
    add("--version", default="7", choices=sorted(wire.CLASSES))
    add("--poll-version", help="the version that the poll tells, when it is to be another one")
    add("--time-scale", type=float, default=1.0, help="for all waits but deadlines")
    add("--poll-deadline", type=float, default=3600.0, metavar="SECONDS")
    add("--chunk-size", type=int, default=wire.CHUNK_SIZE, help="of replies")
    add("--databases", default=DATABASES, type=load_databases, metavar="FILE",
        help="a JSON array of maps with tags; or none")
    add("--client-cert", help="for mutual TLS")
    add("--client-key")
    add("--claim-id", help="poll and reply under this id, which is not the node's own")
    add("--claim-in", choices=("poll", "reply", "both"), default="both")
    add("--die-after-chunks", type=int, default=0, help="SIGKILL after reading so many")
    add("--reply-bytes", type=int, default=0, help="make replies larger by this")
    add("--duplicate-replies", action="store_true", help="send each reply twice")
    add("--truncate-replies", action="store_true", help="leave the last chunk of each reply out")
    add("--work-seconds", type=float, default=0.0, help="how long the worker takes for a task")
    add("--fail-on", metavar="CLASS", help="raise while handling tasks of this class")
    add("--overlay-to", metavar="ID", help="send an overlay message and wait for the answer")
    add("--overlay-delay", type=float, default=0.0, help="wait before that, scaled")
    add("--feedback", type=int, default=0, help="send so many log lines and scalars, by turns")
    add("--tasks", type=int, default=0, help="stop after so many replies")
    add("--seconds", type=float, default=0.0, help="stop after this time")
    return parser.parse_args(arguments)


def load_databases(path):
    if path == "none":
        return []
    with open(path, encoding="utf-8") as file:
        return json.load(file)


if __name__ == "__main__":
    sys.exit(asyncio.run(Node(parse_arguments(sys.argv[1:])).run()))
