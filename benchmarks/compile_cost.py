"""W8: what including fedagent costs: compile time and object size, beside the same use of Asio.

compile_cost.py <directory for the objects> [--repetitions <n>]

Prints what Google Benchmark prints with --benchmark_format=json, as far as report.py reads it.
CXX picks the compiler.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
FLAGS = ["-std=c++20", "-O2", "-DNDEBUG", f"-I{HERE.parent / 'include'}"]
FILES = {"fedagent": "with_fedagent.cpp", "raw_asio": "with_asio.cpp"}


def compile_once(source, target):
    """Returns the CPU time of the compiler in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    compiler = os.environ.get("CXX", "c++")
    subprocess.run([compiler, *FLAGS, "-c", str(source), "-o", str(target)], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    benchmarks = []
    for _ in range(arguments.repetitions):  # by turns
        for peer, file in FILES.items():
            target = arguments.directory / f"{peer}.o"
            seconds = compile_once(HERE / "compile" / file, target)
            benchmarks.append(
                {
                    "name": f"W8/{peer}",
                    "run_type": "iteration",
                    "time_unit": "ns",
                    "cpu_time": seconds * 1e9,
                    "object_bytes": target.stat().st_size,
                }
            )
    json.dump({"benchmarks": benchmarks}, sys.stdout, indent=1)
    print()


main()
