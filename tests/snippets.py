"""Fails when code in the docs differs from the compiled code it was taken from.

snippets.py <markdown file>...

A code block below the comment `<!-- snippet: examples/01_hello.cpp#tag -->` must equal the lines
between `// [tag]` and `// [/tag]` in that file, less their common indentation. Run from the root.
"""

import difflib
import pathlib
import re
import sys
import textwrap

BLOCK = re.compile(r"<!-- snippet: (?P<path>\S+)#(?P<tag>\S+) -->\n+```\w*\n(?P<code>.*?)^```$", re.S | re.M)
MARK = "<!-- snippet:"


def source_of(path, tag):
    text = pathlib.Path(path).read_text(encoding="utf-8")
    marked = re.search(rf"^[ \t]*// \[{re.escape(tag)}\]\n(.*?)^[ \t]*// \[/{re.escape(tag)}\]$", text, re.S | re.M)
    return textwrap.dedent(marked[1]) if marked else None


def main():
    failed = False
    compared = 0
    for document in sys.argv[1:]:
        text = pathlib.Path(document).read_text(encoding="utf-8")
        blocks = list(BLOCK.finditer(text))
        if len(blocks) != text.count(MARK):
            print(f"{document}: a snippet comment without a code block below it")
            failed = True
        for block in blocks:
            path, tag = block["path"], block["tag"]
            source = source_of(path, tag) if pathlib.Path(path).is_file() else None
            compared += 1
            if source is None:
                print(f"{document}: there is no `// [{tag}]` … `// [/{tag}]` in {path}")
                failed = True
            elif source != block["code"]:
                print(f"{document}: the code differs from {path}#{tag}")
                sys.stdout.writelines(
                    difflib.unified_diff(
                        source.splitlines(keepends=True), block["code"].splitlines(keepends=True), path, document
                    )
                )
                failed = True
    print(f"{compared} snippets compared")
    return 1 if failed else 0


sys.exit(main())
