"""What is written beside vectors, and what it may say: the manifest of a folder, the footer of a shard."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, Required, TypedDict

from zoo.errors import DamagedShardError
from zoo.shards.content import CONTENT_BYTES, STAMP_BYTES, UNKNOWN
from zoo.strangers.schema import Range, check, parse

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
MOST_COLUMNS = 4_096
Precision = Literal["float32", "int8", "binary"]
DELETED = "deleted"  # the reason of an input whose vector was deleted on purpose
Count = Annotated[int, Range(0, 10**12)]
Dim = Annotated[int, Range(1, 1_000_000)]
Generation = Annotated[int, Range(0, 999_999)]  # six digits of a file's name


class Fingerprint(TypedDict, total=False):
    """What made the vectors; see `Embedder.fingerprint`."""

    model: str | None
    revision: str | None
    dim: Required[Dim]
    prompt: str | None
    preprocessing: str
    weights: str
    similarity: Literal["cosine", "dot"]
    heads: str


class _Kinds(TypedDict):
    """Of files of several kinds: the column that says of which kind each is, and which kinds were looked for."""

    column: str
    of: list[str]


class _Source(TypedDict):
    path: str
    root: str
    base: NotRequired[str | None]
    kind: str
    column: NotRequired[str | None]
    media: NotRequired[str | None]
    attribute: NotRequired[str | None]
    regions: NotRequired[str | None]
    outside: NotRequired[bool]
    within: NotRequired[str | None]
    kinds: NotRequired[_Kinds]


class _Counts(TypedDict):
    inputs: Count
    vectors: Count
    total: NotRequired[Count]
    kept: NotRequired[Count]
    bad: NotRequired[Count]
    deleted: NotRequired[Count]
    reasons: NotRequired[dict[str, Count]]
    ignored: NotRequired[dict[str, Count]]
    kinds: NotRequired[dict[str, Count]]


class _Building(TypedDict):
    generation: Generation
    inputs: Count
    total: Count


class Manifest(TypedDict):
    """manifest.json: what older versions left out is not required, and what newer ones add is left alone."""

    format: NotRequired[Literal[1]]
    zoo: NotRequired[str]
    model: str
    split: NotRequired[str | None]
    regions: NotRequired[str | None]
    prompt: str | None
    prompt_name: NotRequired[str | None]
    fingerprint: Fingerprint
    precision: Precision
    dim: Dim
    source: _Source
    attributes: dict[str, str]
    counts: _Counts
    shards: NotRequired[Count]
    generation: NotRequired[Generation]
    finished: bool
    building: NotRequired[_Building | None]
    rewriting: NotRequired[Generation | None]
    created: NotRequired[str]
    updated: NotRequired[str]


@dataclass(frozen=True)
class Bad:
    """An input that could not be embedded, as the quarantine file lists it."""

    index: Count
    id: str
    reference: str
    reason: str
    message: str

    def line(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self)) + "\n"


class Footer(TypedDict):
    """What the footer of a shard says of its rows."""

    format: NotRequired[Literal[1]]
    start: Count
    stop: Count
    stamps: str
    contents: NotRequired[str]
    bad: NotRequired[list[Bad]]
    fingerprint: Fingerprint
    precision: Precision
    kept: NotRequired[bool]
    generation: NotRequired[Generation]


def manifest_of(content: bytes, where: Path) -> dict[str, Any]:
    """A manifest, from the bytes of its file; raises DamagedShardError that names the file and the key."""
    try:
        facts = check(parse(content, where, DamagedShardError), Manifest, where, DamagedShardError)
        _check_fingerprint(facts, where)
        if facts["dim"] != facts["fingerprint"]["dim"]:
            raise DamagedShardError(f"{where}: dim is {facts['dim']}, its fingerprint's {facts['fingerprint']['dim']}")
    except DamagedShardError as error:
        raise DamagedShardError(
            f"{error}. Delete it and run the command that made it again, or fetch it again"
        ) from error
    return facts


def footer_of(content: bytes, where: object, rows: int, *, known: bool = False) -> dict[str, Any]:
    """The facts of a shard, from the bytes in its footer: `stamps` and `contents` as bytes, `bad` as `Bad`.

    Args:
        rows: of vectors in the file; the facts are held to them. known: whether these bytes were held to their schema before.

    Raises:
        DamagedShardError: it names the key.
    """
    if known:
        facts = json.loads(content)
    else:
        facts = check(parse(content, where, DamagedShardError), Footer, where, DamagedShardError)
        _check_fingerprint(facts, where)
    if (inputs := facts["stop"] - facts["start"]) < 0:
        raise DamagedShardError(f"{where}: it begins at {facts['start']:,} and ends at {facts['stop']:,}")
    # Shards of earlier versions say no contents.
    for name, width in (("stamps", STAMP_BYTES), ("contents", CONTENT_BYTES)):
        facts[name] = _bytes(facts[name], name, where, inputs * width) if name in facts else UNKNOWN * inputs
    facts["bad"] = tuple(Bad(**bad) for bad in facts.get("bad", ()))
    places = {bad.index for bad in facts["bad"]}
    if len(places) < len(facts["bad"]) or not all(facts["start"] <= place < facts["stop"] for place in places):
        raise DamagedShardError(
            f"{where}: bad lists an input twice, or one that is not of {facts['start']} to {facts['stop']}"
        )
    if rows != inputs - len(places):
        raise DamagedShardError(
            f"{where}: it holds {rows:,} vectors where {inputs:,} inputs with {len(places):,} bad ones make {inputs - len(places):,}"
        )
    return facts


def _bytes(text: str, name: str, where: object, length: int) -> bytes:
    try:
        found = bytes.fromhex(text)
    except ValueError:
        raise DamagedShardError(f"{where}: {name} is no text of bytes in hexadecimal") from None
    if len(found) != length:
        raise DamagedShardError(f"{where}: {name} has {len(found):,} bytes; its inputs make {length:,}")
    return found


def _check_fingerprint(facts: dict[str, Any], where: object) -> None:
    made_by, precision = facts["fingerprint"], facts["precision"]
    if made_by.get("similarity") == "dot" and precision != "float32":
        raise DamagedShardError(f"{where}: precision is {precision!r}, which drops the norms that its similarity needs")
    if precision == "binary" and made_by["dim"] % 8:
        raise DamagedShardError(f"{where}: dim is {made_by['dim']}; that of binary vectors is divisible by 8")


def vector_type(dim: int, precision: str) -> "pa.DataType":
    """The Arrow type of a vector: `dim` floats, `dim` int8, or `dim / 8` bytes of sign bits."""
    import pyarrow as pa

    kinds = {"float32": (pa.float32(), dim), "int8": (pa.int8(), dim), "binary": (pa.uint8(), dim // 8)}
    value, length = kinds[precision]
    return pa.list_(value, length)


def check_columns(schema: "pa.Schema", facts: dict[str, Any], where: object) -> None:
    """Holds the columns of a shard to its facts: id, reference, vector, and attributes of types that `zoo embed` keeps.

    Raises:
        DamagedShardError: it names the column.
    """
    import pyarrow as pa

    if len(schema.names) > MOST_COLUMNS:
        raise DamagedShardError(f"{where} has {len(schema.names):,} columns; a shard has at most {MOST_COLUMNS:,}")
    if len(set(schema.names)) < len(schema.names):
        raise DamagedShardError(f"{where} has two columns of one name")
    wanted = {"id": pa.string(), "reference": pa.string()}
    wanted["vector"] = vector_type(facts["fingerprint"]["dim"], facts["precision"])
    for name, kind in wanted.items():
        if name not in schema.names:
            raise DamagedShardError(f"{where} lacks the column {name}")
        there = schema.field(name).type
        same = there == kind if name != "vector" else _listed(there) == _listed(kind)
        if not same:
            raise DamagedShardError(f"{where}: the column {name} is of type {there}; its facts say {kind}")
    for column in schema:
        if column.name not in wanted and not (is_plain(column.type) or column.type == pa.string()):
            raise DamagedShardError(
                f"{where}: the column {column.name!r:.60} is of type {str(column.type)[:60]}, as none is kept"
            )


def is_plain(kind: "pa.DataType") -> bool:
    """Whether a column of this type is kept beside vectors as it is: numbers, decimals, truth values, dates, times, UUIDs."""
    import pyarrow as pa
    import pyarrow.types as types

    if isinstance(kind, pa.BaseExtensionType):
        return isinstance(kind, pa.UuidType)
    plain = (types.is_integer, types.is_floating, types.is_boolean, types.is_temporal, types.is_decimal)
    return any(test(kind) for test in plain) and not types.is_interval(kind)


def _listed(kind: "pa.DataType") -> "tuple[pa.DataType, int] | None":
    """What a vector's type holds, and how much; the names that Arrow gives to what is listed do not count."""
    import pyarrow as pa

    return (kind.value_type, kind.list_size) if pa.types.is_fixed_size_list(kind) else None
