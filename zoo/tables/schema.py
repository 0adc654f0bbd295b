"""Schema: which columns are the query, the positive and the negatives, and of which modality; determined by their names."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from zoo.errors import TableError
from zoo.tables.names import FACTS, FURTHER, LABELS, MATTERING, Meaning, read_name

_SAY = "columns={{{0!r}: {1!r}}} (--column {0}={1})"


@dataclass(frozen=True)
class Column:
    """A column as it was found.

    Attributes:
        kind: "text", "int", "float", "media" (bytes), "other", or "" where the file does not say; "bit" for whole numbers
            that are 0 or 1, "verdict" for words such as entailment, "field" for a field of the objects in another column.
        modality: of bytes, where the file says it.
        rank: of two columns that could be the same, the one with the lower rank is.
    """

    name: str
    kind: str = ""
    modality: str = ""
    rank: int = 0


@dataclass(frozen=True)
class Part:
    """A column that makes an item or a part of one.

    Attributes:
        modality: text, image, video or audio; "media" where every row's bytes tell.
        many: its name is a plural: a CSV cell is a JSON list.
    """

    column: str
    modality: str
    many: bool = False


class Leftover(NamedTuple):
    """A column that became no part of a pair, and what it holds: score, label, teacher_scores, weights, text, image, …"""

    column: str
    kind: str


@dataclass(frozen=True)
class Schema:
    """Roles of a table's columns; `str()` is a small table to show before training.

    Attributes:
        source: the table's name.
        query, positive, extra_positives: columns of each item; several are one item (an image with a text).
        negatives: columns of each hard negative.
        score, group, dataset, teacher_scores: columns of these facts, None where there are none.
        query_instruction, positive_instruction: columns of the task in words, for queries and for targets.
        split: column that says of which split a row is.
        query_regions, positive_regions, also_regions, negatives_regions: columns of regions of the images of that role.
        unused: the other columns. left: those of them whose meaning is known.
        ignored: columns that were read as if they were not there, as was asked for.
        rows: how many pairs there are. splits: rows by split. chosen: the split of these rows. notes: what else to show.
    """

    source: str
    query: tuple[Part, ...]
    positive: tuple[Part, ...]
    negatives: tuple[tuple[Part, ...], ...] = ()
    extra_positives: tuple[Part, ...] = ()
    score: str | None = None
    group: str | None = None
    dataset: str | None = None
    teacher_scores: str | None = None
    query_instruction: str | None = None
    positive_instruction: str | None = None
    split: str | None = None
    query_regions: str | None = None
    positive_regions: str | None = None
    also_regions: str | None = None
    negatives_regions: str | None = None
    unused: tuple[str, ...] = ()
    left: tuple[Leftover, ...] = ()
    ignored: tuple[str, ...] = ()
    rows: int | None = None
    splits: tuple[tuple[str, int], ...] = ()
    chosen: str = ""
    notes: tuple[str, ...] = ()

    @property
    def facts(self) -> dict[str, str]:
        """Column by fact."""
        return {fact: column for fact in FACTS if (column := getattr(self, fact, None)) is not None}

    @property
    def parts(self) -> tuple[Part, ...]:
        """All columns that make items."""
        return (
            *self.query,
            *self.positive,
            *(part for parts in self.negatives for part in parts),
            *self.extra_positives,
        )

    @property
    def used(self) -> tuple[str, ...]:
        """All columns that are read."""
        return tuple(dict.fromkeys([part.column for part in self.parts] + list(self.facts.values())))

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns."""
        return (*self.used, *self.unused, *self.ignored)

    def __str__(self) -> str:
        numbered = len(self.negatives) > 1
        roles = [("query", self.query), ("positive", self.positive)]
        roles += [(f"negative {i}" if numbered else "negative", parts) for i, parts in enumerate(self.negatives, 1)]
        roles += [("also", self.extra_positives)] if self.extra_positives else []
        lines = [(role, " + ".join(p.modality for p in parts), [p.column for p in parts]) for role, parts in roles]
        lines += [(fact.replace("_", " "), "", [column]) for fact, column in self.facts.items()]
        width, wide = (max(len(line[i]) for line in lines) for i in (0, 1))
        title = self.source + (f": {self.rows:,} pairs" if self.rows is not None else "")
        shown = [
            f"  {role:{width}}  {what:{wide}}  column{'s' if len(names) > 1 else ''} {', '.join(names)}"
            for role, what, names in lines
        ]
        if self.splits:
            told = ", ".join(f"{name} {count:,}" for name, count in self.splits)
            shown.append(f"  of column {self.split}: {told}; these are {self.chosen}")
        shown += [f"  {note}" for note in self.notes]
        if self.ignored:
            shown.append(f"  ignored, as was asked for: {', '.join(self.ignored)}")
        if self.unused:
            names = ", ".join(self.unused)
            plural = "s" if len(self.unused) > 1 else ""
            shown.append(f"  {len(self.unused)} column{plural} not used: {names}")
            if "instruction" in self.unused and self.query_instruction is None:
                shown.append(
                    "  (the task of the queries is read from query_instruction: --column query_instruction=instruction)"
                )
        return "\n".join([title, *shown])


def infer(
    source: str,
    columns: Sequence[Column],
    explicit: Mapping[str, str] | None = None,
    ignore: Collection[str] = (),
) -> Schema:
    """The schema of a table.

    Without roles in the names, the image, video or audio is the query and the text its positive; where only one role
    is named, the one other item is the other role; a text column `label` or `class` stands in for a missing text. Else
    `label` is a group, or a score where its values are broken numbers.

    Args:
        explicit: meaning → column, e.g. {"query_image": "photo", "score": "stars"}; goes before what names say.
        ignore: columns that are read as if they were not there.

    Raises:
        TableError: no pair can be made of the columns, or two columns could be the same part of it.
    """
    ignored = tuple(column.name for column in columns if column.name in ignore)
    if both := sorted(set(ignored) & set((explicit or {}).values())):
        raise TableError(f"{source}: column {both[0]} is both ignored and said to be something; do one of them")
    columns = [column for column in columns if column.name not in ignored]
    by_name = {column.name: column for column in columns}
    said = _explicit(source, by_name, explicit or {})
    taken = {column.name for _, _, column in said}
    told = meanings_of([column for column in columns if column.name not in taken])
    slots = _Slots(source, [entry for entry in said if isinstance(entry[0], Meaning)] + told)
    facts = _facts(source, by_name, {m: c.name for m, _, c in said if isinstance(m, str)}, taken)
    _place_roleless(slots, by_name, facts)
    _place_regions(slots, facts, explicit or {})
    if "group" in facts and facts["group"] not in taken:
        _judge_label(source, by_name[facts["group"]], facts, slots)
    parts = slots.parts
    for name in ("query", "positive"):
        if not parts[name]:
            raise _no_pair(source, slots, by_name, f"there is no {name}")
    if any(part.many for part in parts["query"]):
        raise TableError(
            f"{source}: column {parts['query'][0].column} holds lists, and a query is one thing; "
            f"say which column it is: {_SAY.format('query', 'COLUMN')}"
        )
    schema = Schema(source, parts["query"], parts["positive"], tuple(slots.negatives), parts["also"], **facts)
    used = set(schema.used)
    unused = tuple(column.name for column in columns if column.name not in used)
    meant = {(m.role, m.number, m.modality or "text") for name in schema.used if (m := read_name(name))}
    kinds = [(column.name, _left_kind(column, meant)) for column in columns if column.name in unused]
    left = tuple(Leftover(name, kind) for name, kind in kinds if kind)
    return replace(schema, unused=unused, left=left, ignored=ignored)


def meanings_of(columns: Sequence[Column]) -> list[tuple[Meaning, int, Column]]:
    """What the names of a table's columns say, seen together: the one list of names, for pairs and for `zoo.bulk`.

    Returns:
        Meaning, rank and column of each that has one.
    """
    names = [column for column in columns if column.kind != "field"]
    told = [(meaning, column.rank, column) for column in names if (meaning := read_name(column.name))]
    return _captions(told) + _titles(names, [meaning for meaning, _, _ in told])


def _left_kind(column: Column, meant: set[tuple[str, int, str]]) -> str:
    """What an unused column holds that matters; "" for nothing that is known, and for names of files.

    Args:
        meant: what the used columns are, for which a field of a shard's JSON only stands in.
    """
    word = column.name.rpartition(".")[2].lower()
    if kind := next((kind for kind, words in MATTERING.items() if word in words), ""):
        return kind
    if column.kind == "field":
        meaning = read_name(word)
        return "" if meaning is None or meaning.weak else meaning.modality or "text"
    if column.kind in ("int", "float", "bit"):
        return ""
    meaning = read_name(column.name)
    if meaning is not None and column.rank and (meaning.role, meaning.number, meaning.modality or "text") in meant:
        return ""
    # caption_3, image2: as the name without its number.
    if meaning is None and column.kind == "text" and FURTHER.fullmatch(column.name.lower()):
        return "text"
    meaning = meaning or read_name(re.sub(r"[_-]?\d+(?=[_-]|$)", "", column.name))
    return "" if meaning is None or meaning.weak else meaning.modality or "text"


def _captions(told: list[tuple[Meaning, int, Column]]) -> list[tuple[Meaning, int, Column]]:
    """`caption1` and `caption2` beside an image are two captions of it, not a query and its positive."""
    if not any(not m.role and not m.weak and m.modality not in ("", "text") for m, _, _ in told):
        return told
    numbered = re.compile(r"(?i)(text|txt|caption|sentence)s?[_-]?[12]")
    return [(replace(m, role="") if numbered.fullmatch(c.name) else m, rank, c) for m, rank, c in told]


def _titles(columns: Sequence[Column], known: Sequence[Meaning]) -> list[tuple[Meaning, int, Column]]:
    """The texts of open_clip's tables, whose header is `filepath,title`; elsewhere a title is often not the text."""
    by_name = {column.name.lower(): column for column in columns}
    if not {"filepath", "title"} <= set(by_name) or any(m.modality == "text" or m.role for m in known):
        return []
    return [(Meaning("", "text", -1, False), 0, by_name["title"])]


def _explicit(
    source: str, by_name: Mapping[str, Column], explicit: Mapping[str, str]
) -> list[tuple["Meaning | str", int, Column]]:
    said: list[tuple[Meaning | str, int, Column]] = []
    for key, name in explicit.items():
        if name not in by_name:
            raise TableError(f"{source} has no column {name} (said to be {key}); it has {_listed(by_name)}")
        meaning = key if key in FACTS else read_name(key)
        if meaning is None:
            raise TableError(
                f"{key!r} (said of column {name}) is no part of a pair; say query, positive, negative or negative_1 with or "
                f"without _text, _image, _video or _audio, or one of {', '.join(FACTS)}"
            )
        said.append((meaning, -1, by_name[name]))
    return said


class _Slots:
    """Columns by role, number and modality."""

    def __init__(self, source: str, found: Sequence[tuple[Meaning, int, Column]]) -> None:
        self.source = source
        best: dict[tuple[str, int, str], tuple[int, Part]] = {}
        media = any(not m.role and not m.weak and m.modality not in ("", "text") for m, _, _ in found)
        for meaning, rank, column in found:
            if meaning.weak and media and rank >= 0:
                continue
            modality = meaning.modality or ((column.modality or "media") if column.kind == "media" else "text")
            key, part = (meaning.role, meaning.number, modality), Part(column.name, modality, meaning.many)
            if key in best and best[key][0] == rank:
                what = meaning.role or ("positive" if modality == "text" else "query")
                what += f"_{meaning.number}" if meaning.number >= 0 else ""
                raise TableError(
                    f"{source}: columns {best[key][1].column} and {column.name} could both be the {what}'s {modality}; "
                    f"say which is: {_SAY.format(f'{what}_{modality}', column.name)}; the other may be a further right one: "
                    f"{_SAY.format(f'also_{modality}', best[key][1].column)}, or left out: --ignore {best[key][1].column}"
                )
            if key not in best or rank < best[key][0]:
                best[key] = (rank, part)
        self.by_key = {key: part for key, (_, part) in best.items()}
        self.parts = {role: self._of(role) for role in ("query", "positive", "also")}
        self.roleless = list(self._of(""))

    def _of(self, role: str, number: int = -1) -> tuple[Part, ...]:
        return tuple(part for key, part in self.by_key.items() if key[:2] == (role, number))

    @property
    def negatives(self) -> list[tuple[Part, ...]]:
        return [self._of("negative", n) for n in sorted({key[1] for key in self.by_key if key[0] == "negative"})]


def _place_roleless(slots: _Slots, by_name: Mapping[str, Column], facts: dict[str, str]) -> None:
    """Gives the columns that name a modality alone a role."""
    parts, loose = slots.parts, slots.roleless
    empty = [role for role in ("query", "positive") if not parts[role]]
    if empty == ["query"] and len(media := [part for part in loose if part.modality != "text"]) == 1:
        loose = media  # the texts beside it are left over, and named
    if len(empty) == 1 and loose:
        if len(loose) > 1:
            names = " and ".join(part.column for part in loose)
            raise TableError(
                f"{slots.source}: columns {names} could each be the {empty[0]}; "
                f"say which is: {_SAY.format(f'{empty[0]}_{loose[0].modality}', loose[0].column)}"
            )
        parts[empty[0]] = (loose[0],)
    elif len(empty) == 2:
        media = [part for part in loose if part.modality != "text"]
        texts = [part for part in loose if part.modality == "text"]
        label = facts.get("group")
        if len(media) == 1 and not texts and label in LABELS and by_name[label].kind in ("text", "verdict", ""):
            texts = [Part(label, "text")]
            del facts["group"]
        if len(media) > 1:
            raise TableError(
                f"{slots.source}: columns {' and '.join(part.column for part in media)} could each be the query; "
                f"say which is: {_SAY.format(f'query_{media[0].modality}', media[0].column)}"
            )
        if not media or not texts:
            missing = "there is a text and nothing that it belongs to" if texts else "there is no text"
            raise _no_pair(slots.source, slots, by_name, missing if loose else "none of them is known")
        parts["query"], parts["positive"] = tuple(media), tuple(texts)


def _place_regions(slots: _Slots, facts: dict[str, str], said: Mapping[str, str]) -> None:
    """Gives regions that name no role to the image that they are of: a column of no image is not read, unless it was said."""
    parts = {**slots.parts, "negatives": tuple(part for parts in slots.negatives for part in parts)}
    images = [role for role in parts if any(part.modality in ("image", "media") for part in parts[role])]
    both = [role for role in images if role in ("query", "positive")]
    if (loose := facts.pop("regions", None)) is not None and (both or "regions" in said):
        if len(both) != 1 or f"{both[0]}_regions" in facts:
            roles = " or ".join(f"{role}_regions" for role in parts)
            raise TableError(
                f"{slots.source}: of which image are the regions in column {loose}? Say it: {roles} ({_SAY.format('query_regions', loose)})"
            )
        facts[f"{both[0]}_regions"] = loose
    for role in parts:
        if (column := facts.get(f"{role}_regions")) is not None and role not in images:
            raise TableError(
                f"{slots.source}: column {column} holds regions of the {role}, and no column is an image of it; --ignore {column}"
            )


def _facts(source: str, by_name: Mapping[str, Column], said: Mapping[str, str], taken: set[str]) -> dict[str, str]:
    facts = dict(said)
    for fact, words in FACTS.items():
        for word in words:  # the first that is there
            names = [name for name in by_name if name.lower() == word and name not in taken]
            if len(names) > 1:
                raise TableError(f"{source}: columns {' and '.join(names)} could both be the {fact}; rename one")
            if names:
                facts.setdefault(fact, names[0])
    return facts


def _judge_label(source: str, column: Column, facts: dict[str, str], slots: _Slots) -> None:
    """`label` of broken numbers is a score, and so are 0 and 1 beside named roles; else whole numbers could be either."""
    if column.name.lower() == "group":
        return
    bit = column.kind == "bit" and column.name.lower() == "label"
    if column.kind == "float" or (bit and not slots.roleless and "score" not in facts):
        del facts["group"]
        facts.setdefault("score", column.name)
    elif "score" not in facts and (column.kind == "bit" or (column.kind == "int" and not slots.roleless)):
        raise TableError(
            f"{source}: column {column.name} holds whole numbers: a score of 0 or 1, or a class whose rows are no negatives "
            f"of one another? Say {_SAY.format('score', column.name)} and take a loss that reads grades, or, where every "
            f"row is a right pair, {_SAY.format('group', column.name)}"
        )
    elif column.kind == "verdict":
        raise TableError(
            f"{source}: column {column.name} says whether a pair is right (entailment, contradiction, …), which no loss "
            f"reads as words: keep the rows that are right, or write grades from 0 to 1; all rows as right pairs: --ignore "
            f"{column.name}"
        )


def _no_pair(source: str, slots: _Slots, by_name: Mapping[str, Column], why: str) -> TableError:
    known = [f"{part.column} ({' '.join(filter(None, (part.modality, key[0])))})" for key, part in slots.by_key.items()]
    understood = f", of which {', '.join(known)} {'is' if len(known) == 1 else 'are'} understood" if known else ""
    hint = ""
    if len(by_name) == 1 and (mark := next((m for m in ";\t|" if m in next(iter(by_name))), None)):
        hint = f"; or are they separated by {mark!r}? Say --separator {mark!r}"
    return TableError(
        f"{source}: no pairs can be made of the columns {_listed(by_name)}{understood}: {why}. Name them image,text or "
        f"query,positive, or say which they are: {_SAY.format('query_image', 'COLUMN')}{hint}"
    )


def _listed(names: Mapping[str, Column]) -> str:
    shown = ", ".join(list(names)[:12]) or "none"
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "")
