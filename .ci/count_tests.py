"""Prints how many tests passed and how many failed, from meson's test logs.

count_tests.py <testlog.json>...

A doctest program counts as its test cases, any other test as one. A log that is not there has none.
"""

import json
import pathlib
import re
import sys

CASES = re.compile(r"\[doctest\] test cases:\s*\d+\s*\|\s*(\d+) passed\s*\|\s*(\d+) failed")


def main():
    passed = failed = 0
    for path in map(pathlib.Path, sys.argv[1:]):
        if not path.is_file():
            continue
        for line in path.read_text(encoding="utf-8").splitlines():
            test = json.loads(line)
            ok = test["result"] in ("OK", "EXPECTEDFAIL")
            cases = CASES.search(test.get("stdout", ""))
            passed += int(cases[1]) if cases else int(ok)
            # A program can also fail with all its cases passed: a leak, a crash at its end.
            failed += max(int(cases[2]) if cases else 0, int(not ok))
    print(passed, failed)


main()
