"""The Fed-BioMed wire in Python: the protobuf messages, chunks, the map and its classes.

It shares no code with the library: what both get wrong in the same way, neither would show.
"""

import msgpack
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

CHUNK_SIZE = 3_999_967
SERVICE = "researcher.ResearcherService"


class WireError(Exception):
    """The bytes are not what the wire asks for."""


class VersionMismatch(WireError):
    """The message is of another version."""


# --- Protobuf ------------------------------------------------------------------------------------

# A message a line, nested ones with a dot; then name, number and type. `?` is an optional field, `|`
# one of the oneof.
_PROTO = """
Empty
TaskRequest               node=1:string protocol_version=2:string
TaskResponse              size=1:int32 iteration=2:int32 bytes_=3:bytes
TaskResult                size=1:int32 iteration=2:int32 bytes_=3:bytes
ProtocolVersion           protocol_version=101:string
FeedbackMessage           protocol_version=1:string researcher_id=2:string? scalar=3:.Scalar| log=4:.Log|
FeedbackMessage.Scalar    node_id=1:string experiment_id=2:string train=3:bool test=4:bool \
 test_on_local_updates=5:bool test_on_global_updates=6:bool metric=7:map epoch=8:int32? \
 total_samples=9:int32 batch_samples=10:int32 num_batches=11:int32 num_samples_trained=12:int32? \
 iteration=13:int32 node_name=14:string
FeedbackMessage.Log       node_id=1:string level=2:string msg=3:string
"""


def _field(into, text, scope):
    name, _, kind = text.partition(":")
    name, _, number = name.partition("=")
    types = descriptor_pb2.FieldDescriptorProto
    field = into.field.add(name=name, number=int(number), label=types.LABEL_OPTIONAL)
    if kind == "map":
        field.label = types.LABEL_REPEATED
        field.type = types.TYPE_MESSAGE
        field.type_name = f"{scope}.MetricEntry"
        entry = into.nested_type.add(name="MetricEntry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, label=1, type=types.TYPE_STRING)
        entry.field.add(name="value", number=2, label=1, type=types.TYPE_FLOAT)
    elif kind.endswith("|"):
        field.type = types.TYPE_MESSAGE
        field.type_name = scope + kind[:-1]
        if not into.oneof_decl:
            into.oneof_decl.add(name="feedback_type")
        field.oneof_index = 0
    else:
        field.type = getattr(types, f"TYPE_{kind.rstrip('?').upper()}")
        field.proto3_optional = kind.endswith("?")
    return field


def _build():
    file = descriptor_pb2.FileDescriptorProto(
        name="researcher.proto", package="researcher", syntax="proto3"
    )
    made = {}
    for line in _PROTO.strip().splitlines():
        name, *fields = line.split()
        outer, _, inner = name.partition(".")
        into = made[outer].nested_type.add(name=inner) if inner else file.message_type.add(name=name)
        made[name] = into
        optional = [f for f in (_field(into, text, f".researcher.{name}") for text in fields) if f.proto3_optional]
        # The oneof of one member that protoc makes for each optional field; they come last.
        for field in optional:
            field.oneof_index = len(into.oneof_decl)
            into.oneof_decl.add(name=f"_{field.name}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    factory = message_factory.MessageFactory(pool)
    return {n: factory.GetPrototype(pool.FindMessageTypeByName(f"researcher.{n}")) for n in made}


_TYPES = _build()
Empty = _TYPES["Empty"]
TaskRequest = _TYPES["TaskRequest"]
TaskResponse = _TYPES["TaskResponse"]
TaskResult = _TYPES["TaskResult"]
FeedbackMessage = _TYPES["FeedbackMessage"]


# --- Chunks --------------------------------------------------------------------------------------


def split(data, kind, size=CHUNK_SIZE):
    """The chunks of an encoded message."""
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return [
        kind(size=len(pieces), iteration=i, bytes_=piece) for i, piece in enumerate(pieces, start=1)
    ]


class Joiner:
    """Joins what comes in a stream. A message is whole at size == iteration, and nothing else is
    looked at, as in the stock node; `faults` tells what a strict receiver would not take."""

    def __init__(self):
        self.faults = []
        self._pieces = []

    def add(self, chunk):
        """Returns the message when it is whole, else None."""
        if chunk.iteration != len(self._pieces) + 1:
            self.faults.append(f"chunk {chunk.iteration} after {len(self._pieces)}")
        if not chunk.bytes_:
            self.faults.append("empty chunk")
        self._pieces.append(chunk.bytes_)
        if chunk.size != chunk.iteration:
            return None
        whole = b"".join(self._pieces)
        self._pieces = []
        return whole

    @property
    def begun(self):
        return bool(self._pieces)


# --- Extra types ---------------------------------------------------------------------------------


class Array:
    """An np.ndarray or a torch.Tensor, as far as a node without either needs one."""

    def __init__(self, data, dtype, shape, kind="np.ndarray"):
        self.data, self.dtype, self.shape, self.kind = data, dtype, list(shape), kind

    def __eq__(self, other):
        return isinstance(other, Array) and vars(self) == vars(other)


class Extra:
    """A value of one of the other types, which this node need not understand."""

    def __init__(self, kind, value):
        self.kind, self.value = kind, value


_OTHERS = {"np.generic", "Vector", "VectorSpec", "MetricTypes", "EncryptedAuxVar"}


def _pack_extra(value):
    if isinstance(value, int):  # one of more than 64 bits
        # For a negative number Python counts the bits of its absolute value.
        size = (value.bit_length() + 7) // 8 + 1
        return {"__type__": "int", "value": value.to_bytes(size, "big", signed=True)}
    if isinstance(value, (tuple, set)):
        return {"__type__": type(value).__name__, "value": list(value)}
    if isinstance(value, Array):
        return {"__type__": value.kind, "value": [value.data, value.dtype, value.shape]}
    if isinstance(value, Extra):
        return {"__type__": value.kind, "value": value.value}
    raise TypeError(f"cannot be sent: {type(value)}")


def _unpack_extra(value):
    kind = value.get("__type__")
    if kind == "int":
        return int.from_bytes(value["value"], "big", signed=True)
    if kind in ("tuple", "set"):
        return {"tuple": tuple, "set": set}[kind](value["value"])
    if kind in ("np.ndarray", "torch.Tensor"):
        return Array(*value["value"], kind=kind)
    if isinstance(kind, str) and (kind in _OTHERS or kind.startswith("AuxVar")):
        return Extra(kind, value.get("value"))
    return value


def pack(value):
    return msgpack.packb(value, default=_pack_extra, strict_types=True)


def unpack(data):
    return msgpack.unpackb(data, object_hook=_unpack_extra)


# --- Message classes -----------------------------------------------------------------------------

# All have protocol_version, all but OverlayMessage request_id. `?`: may be nil, may be left out;
# `=`: may be left out; `@7`: not there in version 5.
_CLASSES = """
PingRequest
PingReply                  node_id:str node_name:str@7
SearchRequest              tags:list
SearchReply                databases:list node_id:str node_name:str@7 count:int
ListRequest
ListReply                  success:bool databases:list node_id:str node_name:str@7 count:int
ApprovalRequest            description:str training_plan:str
ApprovalReply              training_plan_id:str? message:str node_id:str node_name:str@7 status:int success:bool
TrainingPlanStatusRequest  experiment_id:str training_plan:str
TrainingPlanStatusReply    node_id:str node_name:str@7 experiment_id:str success:bool \
 approval_obligation:bool status:str msg:str training_plan:str training_plan_id:str?
TrainRequest               experiment_id:str state_id:str? training_args:dict dataset_id:str training:bool \
 model_args:dict params:dict training_plan:str training_plan_class:str round:int aggregator_args:dict \
 secagg_arguments:dict? optim_aux_var:dict?
TrainReply                 experiment_id:str success:bool node_id:str node_name:str@7 dataset_id:str \
 timing:dict msg:str state_id:str? sample_size:int? encrypted:bool= params:dict/list? \
 optimizer_args:dict? optim_aux_var:dict? encryption_factor:list?
FARequest@7                experiment_id:str dataset_id:str fa_id:str stats:list? stats_args:dict? \
 dataset_schema:list/tuple/dict? secagg_arguments:dict?
FAReply@7                  experiment_id:str fa_id:str node_id:str node_name:str stats:list? \
 output:dict/tuple? encrypted:bool= params_encrypted:list? output_schema:list?
PreprocRequest@7           experiment_id:str dataset_id:str preproc_type:int preproc_step:int \
 preproc_id:str preproc_args:dict state_id:str?
PreprocReply@7             experiment_id:str node_id:str node_name:str msg:str preproc_output:dict state_id:str?
SecaggRequest              secagg_id:str element:int experiment_id:str parties:list
AdditiveSSSetupRequest     secagg_id:str element:int experiment_id:str parties:list
SecaggReply                secagg_id:str success:bool node_id:str node_name:str@7 msg:str?
AdditiveSSSetupReply       secagg_id:str success:bool node_id:str node_name:str@7 msg:str? share:int/list
SecaggDeleteRequest        secagg_id:str element:int experiment_id:str?
SecaggDeleteReply          secagg_id:str success:bool node_id:str node_name:str@7 msg:str?
ErrorMessage               node_id:str node_name:str@7 extra_msg:str errnum:str?
OverlayMessage             node_id:str dest_node_id:str overlay:bytes setup:bool salt:bytes nonce:bytes
"""
_PYTHON_TYPES = {t.__name__: t for t in (str, bool, int, list, dict, tuple, bytes)}


class _Field:
    def __init__(self, text):
        self.name, _, kind = text.partition(":")
        kind, _, since = kind.partition("@")
        self.since = since
        self.nullable = kind.endswith("?")
        self.optional = self.nullable or kind.endswith("=")
        self.types = tuple(_PYTHON_TYPES[name] for name in kind.rstrip("?=").split("/"))

    def takes(self, value):
        # To isinstance a bool is an int, and that is what the stock node goes by.
        return isinstance(value, self.types) or (self.nullable and value is None)


def _classes(version):
    classes = {}
    for line in _CLASSES.strip().splitlines():
        name, *texts = line.split()
        name, _, since = name.partition("@")
        if since and version == "5":
            continue
        common = ["protocol_version:str"]
        common += ["request_id:str?"] if name != "OverlayMessage" else []
        fields = map(_Field, common + ["researcher_id:str"] + texts)
        classes[name] = {f.name: f for f in fields if not (f.since and version == "5")}
    if version == "5":
        classes["SecaggReply"]["msg"] = _Field("msg:str")  # declared twice there; the last one counts
    return classes


CLASSES = {version: _classes(version) for version in ("5", "7")}


def _check(name, fields, version):
    known = CLASSES[version].get(name)
    if known is None:
        raise WireError(f"no message class {name}")
    for field in known.values():
        if field.name not in fields:
            if not field.optional:
                raise WireError(f"{name}: {field.name} is missing")
        elif not field.takes(fields[field.name]):
            raise WireError(f"{name}: {field.name} is a {type(fields[field.name]).__name__}")
    for extra in fields.keys() - known.keys():
        raise WireError(f"{name}: there is no field {extra}")
    if name == "FAReply":
        there = [fields.get(n) is not None for n in ("params_encrypted", "output_schema", "output")]
        if fields.get("encrypted", False):
            consistent = there == [True, True, False]
        else:
            consistent = there[:2] == [False, False]
        if not consistent:
            raise WireError("FAReply: what is encrypted does not go together")


def encode(name, version, **fields):
    """The bytes of a message; fields that are left out and may be nil are nil."""
    known = CLASSES[version].get(name, {})
    whole = {"protocol_version": version, **fields}
    for field in known.values():
        if field.nullable:
            whole.setdefault(field.name, None)
    _check(name, whole, version)
    whole = {n: whole[n] for n in known if n in whole}
    whole["__type_message__"] = {"module": "fedbiomed.common.message", "class": name}
    return pack(whole)


def decode(data, version):
    """The class and the fields of a message, read as strictly as the stock node does."""
    try:
        fields = unpack(data)
        name = fields.pop("__type_message__")["class"]
        theirs = fields["protocol_version"]
    except (ValueError, KeyError, TypeError, AttributeError, msgpack.UnpackException) as error:
        raise WireError(f"not a message: {error!r}") from error
    if theirs != version:
        raise VersionMismatch(f"version {theirs}, and not {version}")
    _check(name, fields, version)
    return name, fields
