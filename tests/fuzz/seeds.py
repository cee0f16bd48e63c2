"""Writes what the fuzz targets begin with, for each target a folder in this one:

messages | seeds.py <vectors.json> <folder>

`messages` is the program of tests/fedbiomed/messages.cpp: it prints a message of each class.
"""

import json
import pathlib
import sys


def main():
    vectors_path, folder = map(pathlib.Path, sys.argv[1:])
    vectors = json.loads(vectors_path.read_text(encoding="utf-8"))
    vectors = {name: bytes.fromhex(text) for name, text in vectors.items()}
    wire = {"TaskRequest", "TaskResponse", "FeedbackMessage", "Scalar"}
    messages = {}
    for i, line in enumerate(map(json.loads, sys.stdin)):
        messages[f"{line['class']}_{line['version']}_{i}"] = bytes.fromhex(line["hex"])
    seeds = {
        "fuzz_wire": {n: data for n, data in vectors.items() if n in wire},
        "fuzz_message": {
            **{n: data for n, data in vectors.items() if n not in wire},
            **messages,
        },
        # The last byte chooses: chunks of any kind, or a message that is cut.
        "fuzz_chunks": {n + kind: data + kind.encode() for n, data in vectors.items() for kind in "01"},
    }
    for target, files in seeds.items():
        (folder / target).mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (folder / target / name).write_bytes(data)


main()
