"""Holds the library's messages against those of the node in Python.

test_agree.py <the program of messages.cpp>

Two tables of the message classes were written from one description; here they must agree on every
class, in both versions, on what is a message and what is none.
"""

import json
import pathlib
import subprocess
import sys
import unittest
import warnings
from random import Random

from google.protobuf.message import DecodeError

import wire

VECTORS = pathlib.Path(__file__).with_name("vectors.json")

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


def mutated(random, data, others):
    """The bytes after some accidents."""
    data = bytearray(data)
    for _ in range(random.randint(0, 3)):
        at = random.randrange(len(data) + 1)
        match random.randrange(6):
            case 0:
                data[at : at + 1] = bytes([random.randrange(256)])
            case 1:
                data[at:at] = bytes(random.randrange(256) for _ in range(random.randint(1, 3)))
            case 2:
                del data[at : at + random.randint(1, 4)]
            case 3:
                data += random.choice(others)
            case 4:
                data = data[:at]
            case 5:
                data[at:at] = random.choice(PIECES)
    return bytes(data)


# What is likely to be taken in different ways.
PIECES = [bytes.fromhex(text) for text in (
    "7b7c", "7b08017c", "0b0c", "780178ffffffffffffffffff01", "08ffffffffffffffffff7f", "0a00", "1a00",
    "0a02c3a9", "0a01ff", "22030a01ff", "7d00000000", "7900000000000000008001", "0a8100", "8a808000",
    "1a053a030a0161", "1a023a00", "1a073a0515000080bf", "1a024000", "1a026000", "1a021802", "2000",
)]  # fmt: skip


def reread(kind, data):
    """What protobuf itself reads, in bytes."""
    # Of bytes after an end that should not be there Python's protobuf only warns.
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            message = kind.FromString(data)
        except DecodeError:
            return "bad"
    message.DiscardUnknownFields()
    if kind is wire.FeedbackMessage and message.WhichOneof("feedback_type") == "scalar":
        # Entries with one key are several until somebody looks.
        metric = dict(message.scalar.metric)
        message.scalar.metric.clear()
        for name, value in metric.items():
            message.scalar.metric[name] = value
    return "bad" if told else message.SerializeToString(deterministic=True).hex()


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

    def test_c2_protobuf_reads_the_same(self):
        random = Random(5)
        vectors = json.loads(VECTORS.read_text(encoding="utf-8"))
        kinds = {"TaskRequest": wire.TaskRequest, "TaskResponse": wire.TaskResponse,
                 "FeedbackMessage": wire.FeedbackMessage, "Scalar": wire.FeedbackMessage}
        seeds = {name: bytes.fromhex(vectors[name]) for name in kinds}
        asked = []
        for _ in range(20_000):
            name = random.choice(list(kinds))
            asked.append((name, mutated(random, seeds[name], list(seeds.values()) + PIECES)))
        answers = run("wire", lines=[f"{name} {data.hex()}" for name, data in asked])
        well = 0
        for (name, data), answer in zip(asked, answers, strict=True):
            expected = reread(kinds[name], data)
            well += expected != "bad"
            self.assertEqual(answer, expected, f"{name} {data.hex()}")
        self.assertTrue(5000 < well < 15_000, well)


if __name__ == "__main__":
    unittest.main()
