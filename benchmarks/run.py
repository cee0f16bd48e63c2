"""Runs all benchmarks of a build, by turns, and writes and reports what they measured.

run.py <build directory> [--quick] [--filter <regular expression>] [--rounds <n>]

Every program runs on one processor, always the same, but for those that measure several threads. In
each round all programs run, and in each program the peers take turns; what counts is the median of
the CPU time over all of it. Writes <build directory>/bench.json and bench.svg.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile

import report

HERE = pathlib.Path(__file__).parent
# These need more than one processor.
UNPINNED = ("bench_threads", "bench_net_")
PEERS = ("limit", "raw_asio", "fedagent", "fedagent_coroutines", "caf")
UNITS = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}


def one_processor():
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def say(text):
    print(f"== {text}", file=sys.stderr, flush=True)


class Runner:
    def __init__(self, build, quick, pattern):
        self.programs = sorted(
            p for p in (build / "benchmarks").glob("bench_*") if p.is_file() and os.access(p, os.X_OK)
        )
        self.build = build
        self.quick = quick
        self.pattern = pattern
        self.measured = []
        self.failed = []

    def round(self):
        for program in self.programs:
            self.google_benchmark(program, self.wanted())
            if program.name in ("bench_idle", "bench_caf_actors"):
                self.memory_of_peers(program)
        self.script("asyncio_agent.py", *(["--quick"] if self.quick else []), "--filter", self.pattern)
        if not self.pattern or "W8" in self.pattern:
            self.script("compile_cost.py", str(self.build / "compile"), "--repetitions", "1")

    def wanted(self):
        if self.pattern:
            return self.pattern
        return "-(W2.memory|/1000000)" if self.quick else "-W2.memory"

    # Resident sizes are right in a process that does nothing else.
    def memory_of_peers(self, program):
        if self.pattern and "W2" not in self.pattern:
            return
        for peer in PEERS:
            for size in [100_000] if self.quick else [100_000, 1_000_000]:
                self.google_benchmark(program, f"^W2.memory/{peer}/{size}/", "--benchmark_repetitions=1")

    def google_benchmark(self, program, pattern, *options):
        with tempfile.NamedTemporaryFile(suffix=".json") as out:
            command = [
                str(program),
                f"--benchmark_filter={pattern}",
                f"--benchmark_min_time={0.05 if self.quick else 0.2}",
                f"--benchmark_repetitions={1 if self.quick else 3}",
                "--benchmark_enable_random_interleaving=true",
                f"--benchmark_out={out.name}",
                "--benchmark_out_format=json",
                *options,
            ]
            self.run(command, not program.name.startswith(UNPINNED))
            text = out.read()
        if text.strip():
            self.take(json.loads(text))

    def script(self, name, *arguments):
        self.take(json.loads(self.run([sys.executable, str(HERE / name), *arguments], True) or "{}"))

    def run(self, command, pinned):
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=one_processor if pinned else None,
        )
        if done.returncode != 0:
            self.failed.append(f"{pathlib.Path(command[0]).name} ended with {done.returncode}")
            print(done.stderr, file=sys.stderr)
        return done.stdout

    def take(self, output):
        for benchmark in output.get("benchmarks", []):
            if benchmark.get("error_occurred"):
                self.failed.append(f"{benchmark['name']}: {benchmark['error_message']}")
            elif benchmark.get("run_type") == "iteration":
                self.measured.append(figures_of(benchmark))


def figures_of(benchmark):
    """The name without Google Benchmark's remarks, and all figures, for one operation."""
    parts = benchmark["name"].split("/")
    sizes = [p for p in parts[2:] if p.isdigit()] + [
        p.removeprefix("threads:") for p in parts[2:] if p.startswith("threads:")
    ]
    unit = UNITS[benchmark["time_unit"]] / benchmark.get("ops", 1)
    figures = {k: v for k, v in benchmark.items() if isinstance(v, (int, float))}
    figures["ns"] = benchmark["cpu_time"] * unit
    figures["wall_ns"] = benchmark.get("real_time", 0) * unit
    for key in ("cpu_time", "real_time", "iterations", "ops", "repetition_index", "threads",
                "repetitions", "family_index", "per_family_instance_index"):
        figures.pop(key, None)
    return "/".join(parts[:2] + sizes[:1]), figures


def medians(measured):
    by_name = {}
    for name, figures in measured:
        for metric, value in figures.items():
            by_name.setdefault(name, {}).setdefault(metric, []).append(value)
    return {
        name: {metric: statistics.median(values) for metric, values in metrics.items()}
        | {
            "runs": len(metrics["ns"]),
            "spread": spread(metrics["ns"]),
        }
        for name, metrics in sorted(by_name.items())
    }


def spread(values):
    """How far the middle half of the runs lies apart, as a part of the median."""
    middle = statistics.median(values)
    if len(values) < 4 or middle == 0:
        return None
    quarters = statistics.quantiles(values, n=4)
    return (quarters[2] - quarters[0]) / middle


def machine():
    cpu = "unknown"
    for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            cpu = line.split(":", 1)[1].strip()
            break
    version = subprocess.run(
        [os.environ.get("CXX", "c++"), "--version"], stdout=subprocess.PIPE, text=True, check=True
    )
    return {
        "cpu": cpu,
        "processors": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "compiler": version.stdout.splitlines()[0],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--quick", action="store_true", help="small, and judged: see report.py")
    parser.add_argument("--filter", default="", help="only benchmarks with such a name")
    parser.add_argument("--rounds", type=int)
    arguments = parser.parse_args()

    runner = Runner(arguments.build, arguments.quick, arguments.filter)
    load = [os.getloadavg()[0]]
    rounds = arguments.rounds or (1 if arguments.quick else 2)
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        runner.round()
        load.append(os.getloadavg()[0])

    results = {
        "machine": machine() | {"load": load},
        "quick": arguments.quick,
        "benchmarks": medians(runner.measured),
    }
    path = arguments.build / "bench.json"
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    status = report.report(path)
    for failure in runner.failed:
        print(f"bench: {failure}", file=sys.stderr)
    sys.exit(1 if runner.failed else status)


main()
