"""What the small files of an index may say: index.json, and the facts in a segment of the exact store."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

from zoo.errors import ZooError
from zoo.shards.facts import MOST_COLUMNS, Count, Dim, Precision
from zoo.strangers.schema import Range, check, parse

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
ORIGIN = "_origin"
DEEPEST_TYPE = 8  # lists and objects in each other, in a column
LONGEST_SEGMENT = 64 << 20  # bytes of the facts of a segment: millions of rows that it replaces


class _MadeBy(TypedDict, total=False):
    """What is asked of the fingerprint of an index, which may be anybody's."""

    similarity: Literal["cosine", "dot"]


class _Index(TypedDict):
    format: Literal[1]
    backend: Annotated[str, Range(1, 100)]
    fingerprint: _MadeBy
    dim: Dim
    precision: Precision
    columns: str


class SegmentFacts(TypedDict):
    """Rows `start` to `stop` of the vector file, the rows that they replace, the shard that they come from."""

    start: Count
    stop: Count
    replaces: list[Count]
    origin: Annotated[str, Range(0, 1_000)]


def index_facts(content: bytes, where: object, error: type[ZooError]) -> dict[str, Any]:
    """The facts of an index from the bytes of its index.json, `columns` as an Arrow schema; raises `error`."""
    facts = check(parse(content, where, error), _Index, where, error)
    facts = {name: facts[name] for name in ("backend", "fingerprint", "dim", "precision", "columns")}
    if facts["precision"] == "binary" and facts["dim"] % 8:
        raise error(f"{where}: dim is {facts['dim']}; that of binary vectors is divisible by 8")
    facts["columns"] = _columns(facts["columns"], where, error)
    return facts


def _columns(text: str, where: object, error: type[ZooError]) -> "pa.Schema":
    import pyarrow as pa

    try:
        found = pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(text)))
        names = found.names
    except (pa.ArrowException, OSError, ValueError) as problem:
        raise error(f"{where}: columns are no Arrow schema in hexadecimal ({problem})") from problem
    if len(names) > MOST_COLUMNS or len(set(names)) < len(names) or {"id", "reference", "vector", ORIGIN} & set(names):
        raise error(f"{where}: columns have over {MOST_COLUMNS:,} names, one twice, or one that is the zoo's own")
    if deep := next((column.name for column in found if _depth(column.type) > DEEPEST_TYPE), None):
        raise error(f"{where}: the column {deep!r:.60} lists lists over {DEEPEST_TYPE} levels deep")
    return found


def _depth(kind: "pa.DataType") -> int:
    depth, level = 0, [kind]
    while level and depth <= DEEPEST_TYPE:
        level = [one.field(place).type for one in level for place in range(one.num_fields)]
        depth += 1
    return depth


def segment_facts(content: bytes, where: object, rows: int, error: type[ZooError]) -> SegmentFacts:
    """The facts of a segment that holds so many rows; raises `error`."""
    if len(content) > LONGEST_SEGMENT:
        raise error(f"{where} has facts of {len(content):,} bytes; no segment has so many")
    facts = check(parse(content, where, error), SegmentFacts, where, error)
    if facts["stop"] - facts["start"] != rows:
        raise error(f"{where} says rows {facts['start']:,} to {facts['stop']:,} and holds {rows:,}")
    if facts["replaces"] and max(facts["replaces"]) >= facts["stop"]:
        raise error(f"{where} replaces row {max(facts['replaces']):,}, which is not there yet")
    return facts
