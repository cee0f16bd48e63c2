"""Fails when a header or a test on disk is in no list of the meson files, so that none is forgotten.

listed.py <source root> --headers <header>... --unit <file>... --threads <file>... --tls <file>...
          --fedbiomed <file>... --fuzz <file>... --grpc <file>... --refused <file>...
"""

import argparse
import pathlib
import sys


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("root", type=pathlib.Path)
    for kind in ("headers", "unit", "threads", "tls", "fedbiomed", "fuzz", "grpc", "refused"):
        parser.add_argument(f"--{kind}", nargs="*", default=[])
    arguments = parser.parse_args()

    include = arguments.root / "include" / "fedagent"
    tests = arguments.root / "tests"
    on_disk_and_listed = [
        ("fedagent_headers", include.rglob("*.hpp"), {include / h for h in arguments.headers}),
        ("unit_sources", tests.glob("test_*.cpp"), _resolved(arguments.unit)),
        ("threads_sources", tests.glob("threads/*.cpp"), _resolved(arguments.threads)),
        ("tls_sources", tests.glob("tls/*.cpp"), _resolved(arguments.tls)),
        ("fedbiomed_sources", tests.glob("fedbiomed/*.cpp"), _resolved(arguments.fedbiomed)),
        ("fuzz_sources", tests.glob("fuzz/*.cpp"), _resolved(arguments.fuzz)),
        ("grpc_sources", tests.glob("grpc/*.cpp"), _resolved(arguments.grpc)),
        ("refused", tests.glob("compile/refuse_*.cpp"), _resolved(arguments.refused)),
    ]
    failed = False
    for name, on_disk, listed in on_disk_and_listed:
        for path in sorted(set(on_disk) - listed):
            print(f"{path.relative_to(arguments.root)} is not in {name}")
            failed = True
    return 1 if failed else 0


def _resolved(paths):
    return {pathlib.Path(path).resolve() for path in paths}


sys.exit(main())
