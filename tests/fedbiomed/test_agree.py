"""Holds the library's messages against those of the node in Python.

test_agree.py <the program of messages.cpp>

Two tables of the message classes were written from one description; here they must agree on every
class, in both versions, on what is a message and what is none.
"""

import json
import subprocess
import sys
import unittest

import wire

PROGRAM = sys.argv.pop(1)

# A value of each type that a field can have.
VALUES = [
    None, True, 7, -1, 2**63 - 1, 1.5, "text", b"bytes", [], ["a"], {}, {"a": 1}, (1, "a"), {1},
    wire.Array(bytes(4), "float32", [1]), {"__type__": "Vector", "value": {}},
    {"__type__": "AuxVarScaffold", "value": "x"}, {"__type__": "not known", "value": 1},
]  # fmt: skip


def run(*arguments, lines=()):
    done = subprocess.run([PROGRAM, *arguments], input="\n".join(lines), check=True,
                          capture_output=True, text=True)
    return done.stdout.splitlines()


def examples():
    """(class, version, bytes) of every example of the library."""
    for line in run():
        line = json.loads(line)
        yield line["class"], line["version"], bytes.fromhex(line["hex"])


def takes(data, version):
    try:
        wire.decode(data, version)
        return True, "well"
    except wire.WireError as error:
        return False, str(error)


def variants(data):
    """(what was done, bytes): a message with one thing changed."""
    fields = wire.msgpack.unpackb(data)
    for name in fields:
        yield f"without {name}", wire.pack({n: v for n, v in fields.items() if n != name})
        for value in VALUES:
            yield f"{name} = {value!r}", wire.pack({**fields, name: value})
    yield "one more", wire.pack({**fields, "trace_id": "t"})
    if "share" in fields:
        yield "share = 2^64", wire.pack({**fields, "share": 2**64})
    for name in ("Wish", "PingReply", "TrainReply", None):
        kind = {"module": "any", "class": name}
        yield f"class {name}", wire.pack({**fields, "__type_message__": kind})


class Agreement(unittest.TestCase):
    def test_c7_every_class_is_there_in_both_versions(self):
        seen = {}
        for name, version, _ in examples():
            seen.setdefault(version, set()).add(name)
        self.assertEqual(seen, {v: set(classes) for v, classes in wire.CLASSES.items()})

    def test_c7_messages_are_read_and_written_in_the_same_way(self):
        for name, version, data in examples():
            with self.subTest(name, version=version):
                got, fields = wire.decode(data, version)
                self.assertEqual(got, name)
                self.assertEqual(wire.encode(name, version, **fields).hex(), data.hex())

    def test_c5_what_is_no_message_to_the_one_is_none_to_the_other(self):
        asked = []
        for name, version, data in examples():
            # A version that it does not expect is no message to a node, but one to the server.
            asked += [(name, version, what, changed) for what, changed in variants(data)
                      if not what.startswith("protocol_version")]
        answers = run("decode", lines=[changed.hex() for *_, changed in asked])
        self.assertEqual(len(answers), len(asked))
        self.assertGreater(len(asked), 10_000)
        well = 0
        for (name, version, what, changed), answer in zip(asked, answers):
            taken, said = takes(changed, version)
            well += taken
            self.assertEqual(answer == "well", taken, f"{name} {version}, {what}: {answer}; {said}")
        # Most changes are for the worse, and some are not.
        self.assertTrue(1000 < well < len(asked) / 2, well)


if __name__ == "__main__":
    unittest.main()
