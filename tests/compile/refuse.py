"""Passes when the source is refused by the compiler, with our sentence in the first error line.

refuse.py <compile_commands.json> <source>

The source's first line says what is expected: `// expect: fedagent: …`.
"""

import sys

from compiler import Compiler

MARK = "// expect: "


def main():
    compile_commands, path = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        text = file.read()
    first_line = text.partition("\n")[0]
    if not first_line.startswith(MARK):
        print(f"{path} must begin with `{MARK}fedagent: …`")
        return 1
    expected = first_line.removeprefix(MARK).strip()

    result = Compiler(compile_commands).run(["-fsyntax-only", "-fdiagnostics-color=never"], text)
    errors = [line for line in result.stderr.splitlines() if "error:" in line]
    if result.returncode == 0 or not errors:
        print(f"expected to be refused, but compiled: {path}")
        return 1
    if expected not in errors[0]:
        print(f"expected: {expected}\nfirst error: {errors[0]}\n\n{result.stderr}")
        return 1
    print(errors[0])
    return 0


sys.exit(main())
