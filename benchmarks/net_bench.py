#!/usr/bin/env python3
"""The network workloads: what a server costs for a round trip (W5) and for an idle connection (W6).

Three servers speak the frames of docs/stream-protocol.md to the same nodes over loopback TCP: `epoll`
is written by hand on raw epoll, `asio` is a plain Asio coroutine server, `fedagent` is the library's.
What they leave out is said at the top of each source.

A server runs on one core, the nodes on another. Runs are interleaved, and the table has medians; a
ratio is the median of the ratios of runs that stood side by side.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time

SERVERS = ("epoll", "asio", "fedagent")
SIZES = {64: "64 B", 4096: "4 KiB", 1 << 20: "1 MiB"}
CPU_TO_EPOLL = {64: 1.3, 4096: 1.3, 1 << 20: 1.1}
CPU_TO_ASIO = {64: 0.75, 4096: 0.75, 1 << 20: None}
HEAP_EACH = 2048


def two_cores():
    """A core for the server and one for the nodes; none where there is only one."""
    cores = sorted(os.sched_getaffinity(0))
    return (cores[0], cores[-1]) if len(cores) > 1 else (None, None)


def pinned(core):
    return None if core is None else lambda: os.sched_setaffinity(0, {core})


class Bench:
    def __init__(self, build):
        self.programs = os.path.join(build, "benchmarks")
        self.cores = two_cores()

    def program(self, name):
        path = os.path.join(self.programs, name)
        if not os.access(path, os.X_OK):
            sys.exit(f"net_bench: there is no {path}; build with -Dbenchmarks=true")
        return path

    def run(self, server, nodes, payload, seconds, warm_up):
        """One server, its nodes, and what the server printed last."""
        arguments = ["--nodes", str(nodes), "--payload", str(payload)]
        serving = subprocess.Popen(
            [self.program(f"net_server_{server}"), *arguments,
             "--seconds", str(seconds), "--warm-up", str(warm_up)],
            stdout=subprocess.PIPE, text=True, preexec_fn=pinned(self.cores[0]))
        loading = None
        try:
            announced = serving.stdout.readline().split()
            if len(announced) != 2 or announced[0] != "port":
                sys.exit(f"net_bench: the {server} server did not start, see above")
            loading = subprocess.Popen([self.program("net_load"), *arguments, "--port", announced[1]],
                                       preexec_fn=pinned(self.cores[1]))
            limit = time.monotonic() + warm_up + seconds + 60
            while serving.poll() is None and loading.poll() is None and time.monotonic() < limit:
                time.sleep(0.02)
            # A server that is done ends first; nodes that end first have lost it.
            output, _ = serving.communicate(timeout=10)
            if serving.returncode != 0:
                sys.exit(f"net_bench: the {server} server failed, see above")
            return json.loads(output.splitlines()[-1])
        except subprocess.TimeoutExpired:
            sys.exit(f"net_bench: the {server} server with {nodes} nodes did not end")
        finally:
            for process in (serving, loading):
                if process is not None and process.poll() is None:
                    process.kill()
                    process.wait()


def medians(runs):
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def spread(runs, name):
    values = [run[name] for run in runs]
    return (max(values) - min(values)) / statistics.median(values)


def ratio(runs, others, name):
    return statistics.median(run[name] / other[name] for run, other in zip(runs, others))


def measure_w5(bench, arguments):
    rows = {size: {server: [] for server in SERVERS} for size in SIZES}
    for repetition in range(arguments.repetitions):
        for size in SIZES:
            # Another one goes first each time.
            for at in range(len(SERVERS)):
                server = SERVERS[(at + repetition) % len(SERVERS)]
                run = bench.run(server, arguments.nodes, size, arguments.seconds, arguments.warm_up)
                alone = bench.run(server, 1, size, arguments.seconds / 2, arguments.warm_up / 2)
                rows[size][server].append({
                    "cpu_us": 1e6 * run["cpu"] / run["round_trips"],
                    "per_second": run["round_trips"] / run["seconds"],
                    "p50_us": run["p50"], "p99_us": run["p99"],
                    "alone_p50_us": alone["p50"], "alone_p99_us": alone["p99"]})
    return [{"payload": size, "server": server, **medians(runs), "cpu_spread": spread(runs, "cpu_us"),
             "cpu_to_epoll": ratio(runs, servers["epoll"], "cpu_us"),
             "cpu_to_asio": ratio(runs, servers["asio"], "cpu_us")}
            for size, servers in rows.items() for server, runs in servers.items()]


def measure_w6(bench, arguments):
    repetitions = 1 if arguments.quick else min(3, arguments.repetitions)
    rows = {server: [] for server in SERVERS}
    for _ in range(repetitions):
        for server in SERVERS:
            rows[server].append(bench.run(server, arguments.idle_nodes, 64, 0, 0))
    return [{"server": server, "nodes": arguments.idle_nodes, "heap": medians(runs)["heap"],
             "rss": medians(runs)["rss"]} for server, runs in rows.items()]


def of(rows, **wanted):
    return next(row for row in rows if all(row[name] == value for name, value in wanted.items()))


def judge(value, most):
    return "" if most is None else f"{'reached' if value <= most else 'MISSED'} (<= {most:g})"


def print_w5(rows, nodes, judged):
    print(f"\nW5: a request and its reply, {nodes} polling nodes with one outstanding each. CPU is the")
    print("server's for a round trip; 'alone' is the time of a round trip with one node.")
    print(f"{'':6} {'':9} {'CPU us':>8} {'+-':>5} {'x epoll':>8} {'x asio':>7} {'trips/s':>9} "
          f"{'p50 us':>8} {'p99 us':>8} {'alone p50':>10} {'alone p99':>10}  target")
    for row in rows:
        size, server = row["payload"], row["server"]
        to_epoll, to_asio = row["cpu_to_epoll"], row["cpu_to_asio"]
        target = ""
        if server == "fedagent" and judged:
            target = "epoll: " + judge(to_epoll, CPU_TO_EPOLL[size])
            if CPU_TO_ASIO[size] is not None:
                target += ", asio: " + judge(to_asio, CPU_TO_ASIO[size])
        print(f"{SIZES[size]:6} {server:9} {row['cpu_us']:8.1f} {row['cpu_spread']:5.0%} {to_epoll:8.2f} "
              f"{to_asio:7.2f} {row['per_second']:9.0f} {row['p50_us']:8.0f} {row['p99_us']:8.0f} "
              f"{row['alone_p50_us']:10.0f} {row['alone_p99_us']:10.0f}  {target}")


def print_w6(rows):
    print(f"\nW6: {rows[0]['nodes']} connected nodes with a parked poll each; bytes of the server for each.")
    print(f"{'':9} {'heap':>8} {'RSS':>8} {'x epoll':>8} {'x asio':>7}  target (heap)")
    for row in rows:
        target = judge(row["heap"], HEAP_EACH) if row["server"] == "fedagent" else ""
        print(f"{row['server']:9} {row['heap']:8.0f} {row['rss']:8.0f} "
              f"{row['heap'] / of(rows, server='epoll')['heap']:8.1f} "
              f"{row['heap'] / of(rows, server='asio')['heap']:7.2f}  {target}")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", help="a build directory made with -Dbenchmarks=true")
    parser.add_argument("--quick", action="store_true",
                        help="under 40 s; judges only the heap for each idle connection")
    parser.add_argument("--json", metavar="FILE", help="writes the figures there too")
    parser.add_argument("--nodes", type=int, default=100, help="polling nodes of W5")
    parser.add_argument("--idle-nodes", type=int, help="nodes of W6: 8000, or 1000 with --quick")
    parser.add_argument("--repetitions", type=int, help="of W5: 5, or 1 with --quick")
    parser.add_argument("--seconds", type=float, help="of each run: 2, or 0.4 with --quick")
    parser.add_argument("--warm-up", type=float, help="before it: 0.5, or 0.2 with --quick")
    parser.add_argument("--only", choices=("W5", "W6"))
    arguments = parser.parse_args()
    quick = arguments.quick
    defaults = {"idle_nodes": (8000, 1000), "repetitions": (5, 1), "seconds": (2.0, 0.4),
                "warm_up": (0.5, 0.2)}
    for name, values in defaults.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, values[quick])

    bench = Bench(arguments.build)
    report = {"machine": {"cores": os.cpu_count(), "system": platform.platform(),
                          "pinned": bench.cores[0] is not None}, "quick": quick}
    if not report["machine"]["pinned"]:
        print("net_bench: one core only: the nodes take time from the server", file=sys.stderr)
    if arguments.only != "W5":
        report["W6"] = measure_w6(bench, arguments)
        print_w6(report["W6"])
    if arguments.only != "W6":
        report["W5"] = measure_w5(bench, arguments)
        print_w5(report["W5"], arguments.nodes, not quick)
        if quick:
            print("A quick run: times are not judged.")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)
    if quick and "W6" in report:
        heap = of(report["W6"], server="fedagent")["heap"]
        if heap > HEAP_EACH:
            print(f"\nnet_bench: FAILED: an idle connection takes {heap:.0f} bytes of heap, and may take "
                  f"{HEAP_EACH}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
