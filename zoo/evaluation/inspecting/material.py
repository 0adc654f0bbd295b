"""What a model is inspected with: samples of pairs, long texts, paraphrases, and names in several languages."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from zoo.errors import MissingPackError, TooFewPairsError
from zoo.evaluation.inspecting.tasks import LANGUAGE, LENGTH
from zoo.evaluation.queries import QUERIES, Query, read_queries
from zoo.inputs.item import Item
from zoo.spec import ModelSpec
from zoo.tables.pack_files import read_pack
from zoo.tables.pairs import Pair

T = TypeVar("T")
SPLIT = "test"
PHOTOS, PASSAGES, PARAPHRASES, NAMES = "photos", "passages", "paraphrases", "names"
_MEDIA = {"image": PHOTOS, "audio": "audio", "video": "video"}  # the pack of each
LENGTHS = (4, 8, 16, 32, 64, 128, 256)  # words of a text
_LEAST_LONG = 30  # texts that have so many words
_LOOKED_AT = 20  # pairs that are read for each one that is taken
LANGUAGES = {  # that names are known in
    "de": "German",
    "fr": "French",
    "es": "Spanish",
    "pt": "Portuguese",
    "it": "Italian",
    "ru": "Russian",
    "ar": "Arabic",
    "hi": "Hindi",
    "zh": "Chinese",
    "ja": "Japanese",
    "ko": "Korean",
}


@dataclass(frozen=True)
class Sample:
    """Pairs that are measured together; row i of the lists is one.

    Attributes:
        name, split: of the data. queries, targets: what asks and what it should find.
        groups: pairs of one group show the same thing; "" where only the content tells.
    """

    name: str
    split: str
    queries: list[Item]
    targets: list[Item]
    groups: list[str]

    def __len__(self) -> int:
        return len(self.queries)


@dataclass(frozen=True)
class Names:
    """Things by their names: `english[i]` and `others[code][i]` are one thing."""

    split: str
    english: list[str]
    others: dict[str, list[str]]


@dataclass
class Material:
    """All that a model is inspected with.

    Attributes:
        samples: of pairs. texts: long ones, for similarity by length, and `texts_of`, where they are from.
        paraphrases: queries by the labels that answer them, and `labels`, how each label is asked for plainly.
        names: in several languages. missing: what could not be had → why.
    """

    samples: list[Sample] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    texts_of: str = ""
    paraphrases: list[Query] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    names: Names | None = None
    missing: dict[str, str] = field(default_factory=dict)


def packaged(spec: ModelSpec, limit: int) -> Material:
    """The data packs that suit what the model reads; of a pack that is not here `missing` says so.

    Args:
        limit: the most rows of a pack, evenly over its classes.
    """
    found = Material()
    for kind, pack in _MEDIA.items():
        if kind in spec.modalities:
            found.samples += _had(found, kind, pack, partial(_media_sample, kind, pack, limit))
    if "text" in spec.modalities:
        found.samples += _had(found, PASSAGES, "text", partial(_passages_sample, limit))
        add_texts(found, limit)
        if any(one.name == PHOTOS for one in found.samples):  # there each label has a caption of its own
            found.labels = {row["label"]: row["captions"][0] for row in read_pack(PHOTOS, SPLIT, ["label", "captions"])}
    return found


def own(samples: Sequence[Sample], spec: ModelSpec, limit: int) -> Material:
    """Samples of one's own in place of the packs."""
    found = Material(list(samples))
    if "text" in spec.modalities:
        texts = [item.text for one in samples for item in (*one.queries, *one.targets) if item.modalities == {"text"}]
        add_texts(found, limit, [text for text in dict.fromkeys(texts) if text], ", ".join(one.name for one in samples))
    return found


def sample_of(name: str, pairs: Iterable[Pair], limit: int, split: str = "") -> Sample:
    """A sample of pairs, evenly over their groups; those graded below a half are none, and of a row the first positive counts.

    Raises:
        TooFewPairsError: there is no pair.
    """
    rows = list(islice((pair for pair in pairs if pair.right), _LOOKED_AT * limit))
    if not rows:
        raise TooFewPairsError(f"{name} holds no right pair, and a model is inspected with pairs")
    rows = spread(rows, [pair.group or number for number, pair in enumerate(rows)], limit)
    return Sample(name, split, [p.query for p in rows], [p.positive for p in rows], [p.group for p in rows])


def add_texts(found: Material, limit: int, texts: Sequence[str] = (), of: str = "") -> None:
    """What is asked of every model that reads text: paraphrases, names in other languages, similarity by length.

    Args:
        texts: long ones of one's own; where too few are long, the passages of the pack are taken. of: where they are from.
    """
    found.paraphrases = [query for query in read_queries(QUERIES) if query.pack == PHOTOS]
    labels = dict.fromkeys(label for query in found.paraphrases for label in query.labels)
    found.labels = {label: f"a photo of a {label}" for label in labels}
    found.names = next(iter(_had(found, LANGUAGE, "text", partial(_names, limit))), None)
    if len([text for text in texts if len(text.split()) >= LENGTHS[3]]) >= _LEAST_LONG:
        found.texts, found.texts_of = list(texts), of
    else:
        found.texts = [text for texts in _had(found, LENGTH, "text", _passages) for text in texts]
        found.texts_of = PASSAGES


def spread(rows: Sequence[Any], groups: Sequence[Hashable], limit: int) -> list[Any]:
    """At most `limit` rows in their order: of every group the first, then of every group the second, and so on."""
    seen: Counter[Hashable] = Counter()
    order = []
    for place, group in enumerate(groups):
        order.append((seen[group], place))
        seen[group] += 1
    return [rows[place] for place in sorted(place for _, place in sorted(order)[:limit])]


def cut_to(texts: Sequence[str], limit: int) -> dict[int, list[str]]:
    """The same texts by their first 4, 8, 16, … words, up to the longest length that 30 of them have; {} where none has.

    Texts that begin alike are left out, so that no two are equal.
    """
    words = [text.split() for text in texts]
    longest = max((n for n in LENGTHS if sum(len(w) >= n for w in words) >= _LEAST_LONG), default=0)
    first = {" ".join(w[: LENGTHS[0]]): w for w in words if len(w) >= longest}
    chosen = list(first.values())[:limit]
    return {n: [" ".join(w[:n]) for w in chosen] for n in LENGTHS if n <= longest} if len(chosen) > 1 else {}


def _had(found: Material, what: str, pack: str, read: Callable[[], T]) -> list[T]:
    """What is read of a pack; [] where the pack is not here, which `missing` then says. No place of this machine is told."""
    try:
        return [read()]
    except MissingPackError:
        found.missing[what] = (
            f"the data pack {pack} is not here; set ZOO_DATA to the folder that holds it, or give pairs of your own"
        )
        return []


def _media_sample(kind: str, pack: str, limit: int) -> Sample:
    rows = read_pack(pack, SPLIT, [kind, "captions"])
    rows = spread(rows, [row["captions"][0] for row in rows], limit)
    captions = [row["captions"][0] for row in rows]
    queries, targets = [Item(text=caption) for caption in captions], [Item(**{kind: row[kind]}) for row in rows]
    return Sample(pack, SPLIT, queries, targets, captions)


def _passages_sample(limit: int) -> Sample:
    rows = read_pack("text", f"passages-{SPLIT}")
    rows = spread(rows, [row["doc"] for row in rows], limit)
    queries, targets = [Item(text=row["query"]) for row in rows], [Item(text=row["passage"]) for row in rows]
    return Sample(PASSAGES, SPLIT, queries, targets, [""] * len(rows))


def _passages() -> list[str]:
    """Those of all splits: long ones are few, and nothing is asked of them that training could know."""
    rows = [row for split in ("test", "val", "train") for row in read_pack("text", f"passages-{split}", ["passage"])]
    return [row["passage"] for row in rows]


def _names(limit: int) -> Names:
    columns = ["split", "name_en", *(f"name_{code}" for code in LANGUAGES)]
    rows = [row for row in read_pack("text", "multilingual-names", columns) if row["split"] == SPLIT]
    rows = [row for row in rows if all(row[column] for column in columns)][:limit]
    others = {code: [row[f"name_{code}"] for row in rows] for code in LANGUAGES}
    return Names(SPLIT, [row["name_en"] for row in rows], others)
