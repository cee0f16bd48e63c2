"""Fails when a header includes Asio, directly or through another one.

without_asio.py <compile_commands.json> <header below fedagent/>...
"""

import sys

from compiler import Compiler


def main():
    compiler = Compiler(sys.argv[1])
    failed = False
    for header in sys.argv[2:]:
        result = compiler.run(["-M"], f"#include <fedagent/{header}>\n")
        if result.returncode != 0:
            print(result.stderr, file=sys.stderr)
            return 1
        asio = [path for path in result.stdout.split() if "boost/asio" in path]
        print(f"{'FAILED' if asio else 'ok'}: {header}", f"includes {asio[0]}" if asio else "")
        failed = failed or bool(asio)
    return 1 if failed else 0


sys.exit(main())
