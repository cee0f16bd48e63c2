"""End-to-end tests of the Fed-BioMed server: real processes, TLS, and nodes that behave as installed ones.

run.py SERVER RESEARCHER NODE SCENARIO, or `all` for all of them. The server is server.cpp, the
researcher the example, the node tests/fedbiomed/node.py. Waits are for events, with generous limits.
"""

import json
import os
import random
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

LIMIT = 60  # seconds for anything that must happen
RESEARCHER_ID = "RESEARCHER_end_to_end"


class Failed(Exception):
    pass


def check(holds, what):
    if not holds:
        raise Failed(what)


class Process:
    """A program that prints a JSON line for each event."""

    def __init__(self, arguments):
        self.events = []
        self.changed = threading.Condition()
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self.changed:
                self.events.append(json.loads(line))
                self.changed.notify_all()
        with self.changed:
            self.events.append({"event": "end of output"})
            self.changed.notify_all()

    def seen(self, event, **fields):
        return [e for e in list(self.events)
                if e["event"] == event and all(e.get(name) == value for name, value in fields.items())]

    def wait(self, event, count=1, limit=LIMIT, **fields):
        """The count-th event of this kind with these fields."""
        with self.changed:
            there = self.changed.wait_for(
                lambda: len(self.seen(event, **fields)) >= count or self.seen("end of output"), limit)
        found = self.seen(event, **fields)
        check(len(found) >= count, f"{event} {fields}: {len(found)} of {count} "
              f"{'' if there else 'in time'}; the last events: {self.events[-5:]}")
        return found[count - 1]

    def order(self, **what):
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self, limit=LIMIT):
        """Waits for the end. @return The exit code."""
        code = self.process.wait(limit)
        self.reader.join(LIMIT)
        return code


class World:
    """Certificates, programs, and the end of all that was started."""

    def __init__(self, programs, folder):
        self.server_program, self.researcher_program, self.node_program = programs
        self.folder = folder
        self.started = []
        self.certificate("server", f"/CN=localhost/O={RESEARCHER_ID}", san="DNS:localhost")

    def path(self, name):
        return os.path.join(self.folder, name)

    def openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)

    def certificate(self, name, subject, san=None, signer=None):
        """name.pem and name.key, signed by itself or by another one."""
        key, pem = self.path(f"{name}.key"), self.path(f"{name}.pem")
        if signer is None:
            self.openssl("req", "-x509", "-newkey", "rsa:2048", "-sha256", "-nodes", "-days", "2", "-keyout", key,
                         "-out", pem, "-subj", subject, *(["-addext", f"subjectAltName={san}"] if san else []))
            return
        request, extensions = self.path(f"{name}.csr"), self.path(f"{name}.ext")
        with open(extensions, "w", encoding="utf-8") as file:
            file.write(f"subjectAltName={san}\n" if san else "basicConstraints=CA:FALSE\n")
        self.openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, "-subj", subject)
        self.openssl("x509", "-req", "-in", request, "-CA", self.path(f"{signer}.pem"), "-CAkey",
                     self.path(f"{signer}.key"), "-CAcreateserial", "-days", "2", "-sha256", "-extfile", extensions,
                     "-out", pem)

    def server(self, port=0, **options):
        options = {"cert": self.path("server.pem"), "key": self.path("server.key"), **options}
        server = Process([self.server_program, f"localhost:{port}", json.dumps(options)])
        self.started.append(server)
        server.port = server.wait("listening")["port"]
        return server

    def node(self, server, node_id, *arguments, port=None):
        node = Process([sys.executable, self.node_program, "--server", f"localhost:{port or server.port}",
                        "--node-id", node_id, *map(str, arguments)])
        self.started.append(node)
        return node

    def end(self):
        for process in self.started:
            if process.process.poll() is None:
                process.kill()


def outcome(server, request_id, limit=LIMIT):
    return server.wait("outcome", limit=limit, id=request_id)


def stopped(server):
    """Stops a server in good order. @return Its counters."""
    server.order(do="stop")
    counters = server.wait("counters")
    check(server.end() == 0, "the server did not end well")
    check(counters["balanced"], f"the counters do not add up: {counters}")
    return counters


# --- The scenarios: each a sentence that the line of the issue asks for


def ten_nodes(world):
    """10 nodes and 200 pings each over TLS: nothing is lost, nothing comes twice"""
    port_line = re.compile(r"listening on port (\d+)")
    researcher = subprocess.Popen(
        [world.researcher_program, "--listen", "localhost:0", "--cert", world.path("server.pem"), "--key",
         world.path("server.key"), "--researcher-id", RESEARCHER_ID, "--wait-nodes", "10", "--ping", "200",
         "--timeout", "60", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        port = None
        while port is None:
            line = researcher.stderr.readline()
            check(line, "the researcher ended at once")
            found = port_line.search(line)
            port = found and found.group(1)
        nodes = [world.node(None, f"node-{i}", port=port) for i in range(10)]
        output, _ = researcher.communicate(timeout=90)
        check(researcher.returncode == 0, f"the researcher ended with {researcher.returncode}")
        summary = json.loads(output)
        print("  ", json.dumps(summary))
        check(summary["round_trips"] == 2000, "round trips are missing")
        for name in ("errors", "duplicates", "redelivered", "dropped"):
            check(summary[name] == 0, f"there are {name}")
        for node in nodes:
            node.wait("reply_sent", count=200)
            check(len(node.seen("task")) == 200, "a task came twice, or not at all")
            check(not node.seen("security_event", kind="malicious_researcher"), "a node saw a malicious researcher")
    finally:
        researcher.kill()


def sizes(world, *megabytes):
    server = world.server()
    for size in megabytes:
        number = size * 1_000_000
        node = world.node(server, f"node-{size}", "--reply-bytes", number, "--tasks", 1)
        node.wait("poll_opened")
        server.order(do="request", node=f"node-{size}", id=f"r{size}", **{"class": "train"}, bytes=number)
        sent = server.wait("sending", id=f"r{size}")
        task = node.wait("task")
        check(task["sha"] == sent["sha"], "the task has other bytes")
        check(task["chunks"] == -(-sent["size"] // 3_999_967), f"{task['chunks']} chunks")
        reply = outcome(server, f"r{size}")
        check(reply.get("class") == "TrainReply", f"no reply: {reply}")
        check(reply["sha"] == node.wait("reply_sent")["sha"], "the reply has other bytes")
        check(min(reply["size"], sent["size"]) > number, "too small")
        check(node.end() == 0, "the node did not end well")
    stopped(server)


def small_sizes(world):
    """1, 4 and 9 MB to the node and back: every byte arrives, in 1, 2 and 3 chunks"""
    sizes(world, 1, 4, 9)


def hundred_megabytes(world):
    """100 MB, and more than the 100 MiB of a gRPC message, to the node and back"""
    sizes(world, 100, 110)


def too_large(world):
    """A reply above the server's own limit is refused, and the server goes on"""
    server = world.server(max_message=500_000)
    node = world.node(server, "node", "--reply-bytes", 600_000)
    node.wait("poll_opened")
    server.order(do="request", node="node", id="large", timeout_ms=5000)
    check(node.wait("reply_result")["code"] == "INVALID_ARGUMENT", "not refused")
    check("deadline" in outcome(server, "large")["error"], "the request did not end by its deadline")
    other = world.node(server, "other")
    other.wait("poll_opened")
    server.order(do="request", node="other", id="small")
    check(outcome(server, "small").get("class") == "PingReply", "the server does not go on")
    stopped(server)


def killed_after_one_chunk(world):
    """A node that is killed after reading one chunk of a 1 MB message gets it again when it is back"""
    server = world.server(chunk_size=100_000)
    node = world.node(server, "node", "--die-after-chunks", 1)
    node.wait("poll_opened")
    server.order(do="request", node="node", id="again", **{"class": "train"}, bytes=1_000_000)
    node.wait("dying")
    node.end()
    back = world.node(server, "node")
    task = back.wait("task", request_id="again")
    check(task["sha"] == server.wait("sending", id="again")["sha"], "the task has other bytes")
    check(outcome(server, "again").get("class") == "TrainReply", "no reply")
    check(len(back.seen("task")) == 1, "it came more than once")
    check(stopped(server)["redelivered"] == 1, "it was not counted as redelivered")


def killed_after_the_whole_task(world):
    """A node that is killed after reading a whole task, before its reply, gets it again when it is back"""
    server = world.server()
    node = world.node(server, "node", "--work-seconds", 100)
    node.wait("poll_opened")
    server.order(do="request", node="node", id="again", **{"class": "train"}, bytes=1000)
    node.wait("queued_for_work")
    node.kill()
    back = world.node(server, "node")
    check(outcome(server, "again").get("class") == "TrainReply", "no reply")
    back.wait("task", request_id="again")
    stopped(server)


def working_node_is_not_asked_twice(world):
    """A node that works for longer than its poll is open has confirmed its task by polling again"""
    server = world.server(poll_timeout_ms=1000)
    node = world.node(server, "node", "--work-seconds", 4)
    node.wait("poll_opened")
    server.order(do="request", node="node", id="long", **{"class": "train"}, bytes=1000)
    check(outcome(server, "long").get("class") == "TrainReply", "no reply")
    check(len(node.seen("task")) == 1, "the task came twice")
    check(len(node.seen("poll_opened")) > 1, "the node did not poll again")
    check(not node.seen("security_event"), "a poll did not end well")
    check(stopped(server)["redelivered"] == 0, "it was delivered again")


def several_tasks_in_one_stream(world):
    """Several tasks reach a node in one stream, which the server then ends with OK"""
    server = world.server()
    node = world.node(server, "node")
    node.wait("poll_opened")
    for i in range(5):
        server.order(do="request", node="node", id=f"task-{i}")
        outcome(server, f"task-{i}")
    check(len(node.seen("poll_opened")) == 1, "the node had to poll again between two tasks")
    check(node.wait("poll_ended")["code"] == "OK", "the poll did not end well")
    node.wait("poll_opened", count=2)
    stopped(server)


def duplicates(world):
    """A reply that comes twice counts once"""
    server = world.server()
    node = world.node(server, "node", "--duplicate-replies")
    node.wait("poll_opened")
    server.order(do="request", node="node", id="twice")
    check(outcome(server, "twice").get("class") == "PingReply", "no reply")
    server.wait("reply", id="twice", disposition="duplicate")
    check([r["code"] for r in (node.wait("reply_result"), node.wait("reply_result", count=2))] == ["OK", "OK"],
          "a duplicate is no error for the node")
    check(len(server.seen("outcome")) == 1, "more than one outcome")
    stopped(server)


def truncated(world):
    """A reply whose last chunk is missing is INVALID_ARGUMENT"""
    server = world.server()
    node = world.node(server, "node", "--truncate-replies", "--chunk-size", 50)
    node.wait("poll_opened")
    server.order(do="request", node="node", id="cut", timeout_ms=2000)
    result = node.wait("reply_result")
    check(result["code"] == "INVALID_ARGUMENT", f"{result}")
    check("error" in outcome(server, "cut"), "it was taken for a reply")
    stopped(server)


def server_restarted(world):
    """A server that is killed and started anew: its nodes come back and are served"""
    server = world.server()
    node = world.node(server, "node", "--work-seconds", 3)
    node.wait("poll_opened")
    server.order(do="request", node="node", id="lost", **{"class": "train"}, bytes=10)
    node.wait("queued_for_work")
    server.kill()
    again = world.server(port=server.port)
    node.wait("reply_sent", request_id="lost", limit=90)
    again.order(do="request", node="node", id="found")
    check(outcome(again, "found", limit=90).get("class") == "PingReply", "no reply after the restart")
    check(all(e["code"] in ("UNAVAILABLE", "OK") for e in node.seen("poll_ended")), "a poll ended in another way")
    stopped(again)


def overlay(world):
    """Overlay messages between two nodes are relayed, unread; one without a destination is NOT_FOUND"""
    server = world.server()
    b = world.node(server, "B")
    b.wait("poll_opened")
    server.order(do="request", node="B", id="there")
    outcome(server, "there")
    a = world.node(server, "A", "--overlay-to", "B")
    b.wait("overlay_received", **{"from": "A"})
    a.wait("overlay_answered", by="B")
    lost = world.node(server, "C", "--overlay-to", "nobody", "--time-scale", 0.1)
    result = lost.wait("reply_result")
    check(result["code"] == "NOT_FOUND", f"{result}")
    stopped(server)


def feedback(world):
    """Log lines and metrics reach the observer"""
    server = world.server()
    node = world.node(server, "node", "--feedback", 10)
    server.wait("feedback", count=5, kind="log", node="node")
    scalar = server.wait("feedback", count=5, kind="scalar", node="node")
    check("Loss" in scalar["metric"], f"{scalar}")
    node.wait("feedback_sent", count=10, code="OK")
    stopped(server)


def versions(world):
    """Nodes of versions 5 and 7 are served at the same time; version 6 is told what the server speaks"""
    server = world.server()
    for version in ("5", "7"):
        node = world.node(server, f"node-{version}", "--version", version)
        node.wait("poll_opened")
    deadline = time.monotonic() + LIMIT
    for version in ("5", "7"):
        known = ""
        while known != version:
            check(time.monotonic() < deadline, f"the server does not know of version {version}")
            before = len(server.seen("look"))
            server.order(do="look", node=f"node-{version}")
            known = server.wait("look", count=before + 1)["version"]
        server.order(do="request", node=f"node-{version}", id=f"r{version}")
        check(outcome(server, f"r{version}").get("class") == "PingReply", f"no reply of version {version}")
    wrong = world.node(server, "node-6", "--poll-version", "6")
    refused = wrong.wait("poll_ended")
    check(refused["code"] == "FAILED_PRECONDITION", f"{refused}")
    for number in ("5", "6", "7"):
        check(f'"{number}"' in refused["details"], f"{refused} does not name version {number}")
    stopped(server)


def impersonation(world, where):
    world.certificate("ca", "/CN=the authority")
    options = {"client_ca": world.path("ca.pem")}
    if where == "CN":
        for name in ("A", "B"):
            world.certificate(name, f"/CN={name}", signer="ca")
    else:
        options["id_in_san"] = True
        for name in ("A", "B"):
            world.certificate(name, "/CN=somebody", san=f"URI:urn:x,DNS:{name}", signer="ca")
    server = world.server(**options)

    def node(own, *arguments):
        return world.node(server, own, "--client-cert", world.path(f"{own}.pem"), "--client-key",
                          world.path(f"{own}.key"), *arguments)

    honest = node("A")
    honest.wait("poll_opened")
    server.order(do="request", node="A", id="honest")
    check(outcome(server, "honest").get("class") == "PingReply", "the honest node is not served")
    check(not server.seen("warning"), "with client certificates there is nothing to warn of")

    poller = node("B", "--claim-id", "A", "--claim-in", "poll")
    check(poller.wait("poll_ended")["code"] == "PERMISSION_DENIED", "a poll under a foreign id was served")
    poller.kill()
    told = {"node": "B" if where == "CN" else "urn:x", "claim": "A"}  # the first of its alternative names
    server.wait("wrong_node", **told)

    forger = node("B", "--claim-id", "A", "--claim-in", "reply", "--feedback", "1")
    before = len(server.seen("wrong_node"))
    forger.wait("poll_opened")
    check(forger.wait("feedback_sent")["code"] == "PERMISSION_DENIED", "feedback under a foreign id was taken")
    server.order(do="request", node="B", id="forged", timeout_ms=3000)
    check(forger.wait("reply_result")["code"] == "PERMISSION_DENIED", "a reply under a foreign id was taken")
    server.wait("wrong_node", count=before + 2, **told)
    check("error" in outcome(server, "forged"), "a forged reply was taken for the reply")
    check(not server.seen("feedback"), "forged feedback reached the observer")

    # Without a certificate one does not even connect.
    nobody = world.node(server, "A", "--time-scale", "0.1")
    ends = [nobody.wait("poll_ended")] if nobody.wait("poll_opened") else []
    check(all(e["code"] == "UNAVAILABLE" for e in ends), f"{ends}")
    stopped(server)


def impersonation_by_name(world):
    """Mutual TLS: who polls, replies or reports under another id than its certificate's CN is refused"""
    impersonation(world, "CN")


def impersonation_by_alternative_name(world):
    """Mutual TLS with the id in the alternative names: the same"""
    impersonation(world, "SAN")


def claims(world):
    """Without client certificates the server warns, once"""
    server = world.server()
    server.wait("warning")
    check(len(server.seen("warning")) == 1, "more than one warning")
    stopped(server)


def probes(world):
    """Connect-and-close, TLS without ALPN, and garbage do no harm"""
    server = world.server()
    for i in range(20):
        socket.create_connection(("localhost", server.port)).close()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with socket.create_connection(("localhost", server.port)) as plain:
            with context.wrap_socket(plain) as secure:
                check(secure.getpeercert(binary_form=True), "no certificate")
        with socket.create_connection(("localhost", server.port)) as garbage:
            garbage.sendall(bytes(range(256)) * 10)
    node = world.node(server, "node")
    node.wait("poll_opened")
    server.order(do="request", node="node", id="after")
    check(outcome(server, "after").get("class") == "PingReply", "the server does not go on")
    stopped(server)


def port_in_use(world):
    """A second server on the port, and a certificate without O, are errors that say so"""
    server = world.server()
    second = Process([world.server_program, f"localhost:{server.port}", json.dumps(
        {"cert": world.path("server.pem"), "key": world.path("server.key")})])
    check("in use" in second.wait("failed")["error"], "no clear error")
    check(second.end() == 2, "it did not end with 2")
    world.certificate("nameless", "/CN=localhost", san="DNS:localhost")
    third = Process([world.server_program, "localhost:0", json.dumps(
        {"cert": world.path("nameless.pem"), "key": world.path("nameless.key")})])
    check("organization" in third.wait("failed")["error"], "no clear error")
    stopped(server)


def churn(world):
    """30 s of nodes that come and go at random while requests flow: every request has exactly one outcome"""
    seed = int(os.environ.get("FEDAGENT_SEED", "0")) or random.randrange(1, 2**31)
    print(f"   seed {seed} (FEDAGENT_SEED repeats it)")
    chance = random.Random(seed)
    server = world.server(chunk_size=20_000, poll_timeout_ms=2000)
    names = [f"node-{i}" for i in range(6)]
    alive = {}
    sent = []
    end = time.monotonic() + 30
    while time.monotonic() < end:
        name = chance.choice(names)
        what = chance.random()
        if what < 0.12:
            if name in alive:
                process = alive.pop(name)
                process.kill() if chance.random() < 0.7 else process.process.terminate()
            else:
                extra = ["--die-after-chunks", chance.randrange(1, 40)] if chance.random() < 0.4 else []
                alive[name] = world.node(server, name, "--time-scale", 0.2, *extra)
        else:
            request_id = f"r{len(sent)}"
            sent.append(request_id)
            big = chance.random() < 0.2
            server.order(do="request", node=name, id=request_id, timeout_ms=chance.randrange(50, 8_000),
                         **({"class": "train", "bytes": chance.randrange(500_000)} if big else {}))
        time.sleep(chance.random() * 0.06)
        for gone in [n for n, p in alive.items() if p.process.poll() is not None]:
            alive.pop(gone)
    for request_id in sent:
        outcome(server, request_id)
    counters = stopped(server)
    outcomes = server.seen("outcome")
    check(len(outcomes) == len(sent), f"{len(outcomes)} outcomes for {len(sent)} requests")
    check(len({o["id"] for o in outcomes}) == len(sent), "a request has two outcomes")
    replies = sum("class" in o for o in outcomes)
    print(f"   {len(sent)} requests, {replies} replies, {counters}")
    check(replies > len(sent) // 20, "hardly anything was served")


SCENARIOS = [ten_nodes, small_sizes, hundred_megabytes, too_large, killed_after_one_chunk,
             killed_after_the_whole_task, working_node_is_not_asked_twice, several_tasks_in_one_stream,
             duplicates, truncated, server_restarted, overlay, feedback, versions, impersonation_by_name,
             impersonation_by_alternative_name, claims, probes, port_in_use, churn]


def main():
    *programs, wanted = sys.argv[1:]
    chosen = [s for s in SCENARIOS if wanted in (s.__name__, "all")]
    if len(programs) != 3 or not chosen:
        sys.exit(__doc__)
    failed = 0
    for scenario in chosen:
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            world = World(programs, folder)
            try:
                scenario(world)
                verdict = "ok    "
            except Failed as why:
                failed += 1
                verdict = f"FAILED: {why}\n      "
            finally:
                world.end()
        print(f"{verdict} {scenario.__doc__} ({time.monotonic() - start:.1f} s)", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
