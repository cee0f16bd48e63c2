"""Compiles a source as the build compiles odr_a.cpp: same compiler, same flags."""

import json
import os
import shlex
import subprocess


class Compiler:
    def __init__(self, compile_commands):
        with open(compile_commands, encoding="utf-8") as file:
            commands = json.load(file)
        command = next(c for c in commands if c["file"].endswith("compile/odr_a.cpp"))
        self._directory = command["directory"]
        self._arguments = _without_files(shlex.split(command["command"]))

    def run(self, options, source_text):
        """Runs the compiler with the options on the text. The messages are in English."""
        return subprocess.run(
            [*self._arguments, *options, "-x", "c++", "-"],
            cwd=self._directory,
            env={**os.environ, "LC_ALL": "C"},
            input=source_text,
            capture_output=True,
            text=True,
            check=False,
        )


def _without_files(arguments):
    """Drops what names a source, an object or a dependency file."""
    kept = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in ("-o", "-MF", "-MQ", "-MT"):
            skip = True
        elif argument not in ("-c", "-MD", "-MMD") and not argument.endswith(".cpp"):
            kept.append(argument)
    return kept
