#!/usr/bin/env python3
"""What the Fed-BioMed server costs for a round trip, beside a server without agents (W7).

Two servers take the same calls from the same nodes: `bare` is gRPC's callback API without agents,
`fedagent` is the library's server with a store. What the bare one leaves out is said at the top of its
source. A server runs on one core, the nodes on another. Runs are interleaved, and the table has medians;
the ratio is the median of the ratios of runs that stood side by side. The runs are short and many: what other
machines on the same host leave of its caches changes within seconds, and a round trip lives on it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

from net_bench import medians, pinned, ratio, spread, two_cores

SERVERS = ("bare", "fedagent")
SIZES = {64: "64 B", 4096: "4 KiB", 1 << 20: "1 MiB"}
MOST = 1.25
# Both servers keep the memory that they free: whether glibc gives that of a large message back to the system, and
# has it made anew for the next one, is chance, and costs a tenth to a fifth of a round trip of 1 MiB.
KEEPS_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(256 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}


class Bench:
    def __init__(self, build, folder):
        self.programs = os.path.join(build, "benchmarks")
        self.cores = two_cores()
        self.cert = os.path.join(folder, "cert.pem")
        self.key = os.path.join(folder, "key.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-sha256", "-nodes", "-days", "2",
                        "-keyout", self.key, "-out", self.cert, "-subj", "/CN=localhost/O=researcher",
                        "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)

    def program(self, name):
        return os.path.join(self.programs, name)

    def run(self, server, nodes, payload, tls, seconds, warm_up):
        """One server, its nodes, and what the server printed last."""
        arguments = ["--nodes", str(nodes), "--payload", str(payload)]
        secret = ["--cert", self.cert, "--key", self.key] if tls else []
        serving = subprocess.Popen([self.program(f"grpc_server_{server}"), *arguments, *secret, "--seconds",
                                    str(seconds), "--warm-up", str(warm_up)],
                                   env=os.environ | KEEPS_MEMORY, stdout=subprocess.PIPE, text=True,
                                   preexec_fn=pinned(self.cores[0]))
        loading = None
        try:
            announced = serving.stdout.readline().split()
            if len(announced) != 2 or announced[0] != "port":
                sys.exit(f"grpc_bench: the {server} server did not start, see above")
            loading = subprocess.Popen([self.program("grpc_load"), *arguments, *secret[:2], "--port", announced[1]],
                                       preexec_fn=pinned(self.cores[1]))
            limit = time.monotonic() + warm_up + seconds + 60
            while serving.poll() is None and loading.poll() is None and time.monotonic() < limit:
                time.sleep(0.02)
            output, _ = serving.communicate(timeout=10)
            if serving.returncode != 0:
                sys.exit(f"grpc_bench: the {server} server failed, see above")
            return json.loads(output.splitlines()[-1])
        except subprocess.TimeoutExpired:
            sys.exit(f"grpc_bench: the {server} server with {nodes} nodes did not end")
        finally:
            for process in (serving, loading):
                if process is not None and process.poll() is None:
                    process.kill()
                    process.wait()


def measure(bench, arguments):
    """A row for each way, number of nodes, size and server."""
    cases = [(True, nodes, size) for nodes in arguments.nodes for size in SIZES]
    cases += [(False, arguments.nodes[-1], size) for size in SIZES]
    if arguments.quick:
        cases = [(True, arguments.nodes[-1], 64)]
    runs = {case: {server: [] for server in SERVERS} for case in cases}
    for repetition in range(arguments.repetitions):
        for case in cases:
            tls, nodes, size = case
            for at in range(len(SERVERS)):
                server = SERVERS[(at + repetition) % len(SERVERS)]
                run = bench.run(server, nodes, size, tls, arguments.seconds, arguments.warm_up)
                runs[case][server].append({
                    "cpu_us": 1e6 * run["cpu"] / run["round_trips"],
                    "per_second": run["round_trips"] / run["seconds"], "p50_us": run["p50"], "p99_us": run["p99"]})
    return [{"tls": tls, "nodes": nodes, "payload": size, "server": server, **medians(of),
             "cpu_spread": spread(of, "cpu_us"), "cpu_to_bare": ratio(of, servers["bare"], "cpu_us")}
            for (tls, nodes, size), servers in runs.items() for server, of in servers.items()]


def print_rows(rows, judged):
    print("\nW7: a request and its reply over the Fed-BioMed wire, one outstanding for each node. CPU is the")
    print("server's for a round trip.")
    print(f"{'':5} {'nodes':>5} {'':6} {'':9} {'CPU us':>8} {'+-':>5} {'x bare':>7} {'trips/s':>8} {'p50 us':>8} "
          f"{'p99 us':>8}  target")
    for row in rows:
        target = ""
        if row["server"] == "fedagent" and judged:
            target = f"{'reached' if row['cpu_to_bare'] <= MOST else 'MISSED'} (<= {MOST:g})"
        print(f"{'TLS' if row['tls'] else 'plain':5} {row['nodes']:5} {SIZES[row['payload']]:6} {row['server']:9} "
              f"{row['cpu_us']:8.1f} {row['cpu_spread']:5.0%} {row['cpu_to_bare']:7.2f} {row['per_second']:8.0f} "
              f"{row['p50_us']:8.0f} {row['p99_us']:8.0f}  {target}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", help="a build directory made with -Dbenchmarks=true")
    parser.add_argument("--quick", action="store_true", help="one short run of each server; judges nothing")
    parser.add_argument("--json", metavar="FILE", help="writes the figures there too")
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 10, 50])
    parser.add_argument("--repetitions", type=int, help="11, or 1 with --quick")
    parser.add_argument("--seconds", type=float, help="of each run: 0.9, or 0.4 with --quick")
    parser.add_argument("--warm-up", type=float, help="before it: 0.3, or 0.2 with --quick")
    arguments = parser.parse_args()
    for name, values in {"repetitions": (11, 1), "seconds": (0.9, 0.4), "warm_up": (0.3, 0.2)}.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, values[arguments.quick])
    if not os.access(os.path.join(arguments.build, "benchmarks", "grpc_load"), os.X_OK):
        print("grpc_bench: left out: built without gRPC")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Bench(arguments.build, folder), arguments)
    print_rows(rows, not arguments.quick)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"W7": rows, "quick": arguments.quick}, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
