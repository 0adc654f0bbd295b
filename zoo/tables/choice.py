"""Which columns of a table are the item that is embedded: determined by the names that pairs are determined by, or chosen."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import NamedTuple

from zoo.errors import TableError
from zoo.tables.names import FACTS, REGIONS, Meaning, read_name
from zoo.tables.schema import Column, Part, meanings_of

_MEDIA = ("image", "video", "audio", "document")
_REGIONS = {*REGIONS, *(word for fact, words in FACTS.items() if fact.endswith("_regions") for word in words)}
_PLURALS = {
    "text": "texts",
    "image": "images",
    "video": "videos",
    "audio": "audio",
    "document": "documents",
    "media": "media",
    "regions": "regions",
}


class Choice(NamedTuple):
    """Columns that make one item.

    Attributes:
        parts: a column and a modality each. others: columns that could be embedded as well.
    """

    parts: tuple[Part, ...]
    others: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The modalities of an item: "text", "image+text"."""
        return "+".join(part.modality for part in self.parts)


def choose(
    source: str,
    columns: Sequence[Column],
    asked: Sequence[str] = (),
    *,
    kind: str | None = None,
    modalities: Collection[str] = ("text", *_MEDIA),
    usual: str = "",
) -> Choice:
    """The columns to embed.

    Columns of one role (`query_image`, `query_text`) are one item; columns without a role are an item each. Where several
    could be embedded it is the one that the model reads, and where that are several too, the user says.

    Args:
        asked: names of columns, which together are one item; "image+text" is two, and "image=photo" says what one holds, also
            in "video=clip+text=title".
        kind: what a column holds, where its name does not say it.
        modalities: what the model reads. usual: a column that is meant where no other is asked for.

    Raises:
        TableError: no such column, none that is recognised, several, or one that the model does not read.
    """
    if asked:
        parts = tuple(_asked(source, columns, asked, kind))
        if len({part.modality for part in parts}) < len(parts):
            names = " and ".join(f"{part.column} ({part.modality})" for part in parts)
            raise TableError(
                f"{source}: columns {names} cannot be one item, which has one of a kind; choose one of them"
            )
        _check_read(source, parts, modalities)
        _check_types(source, parts, columns)
        return Choice((*parts, *_regions(source, parts, columns)))
    items = _items(columns)
    if kind is not None:
        items = [[part for part in parts if part.modality in (kind, "media")] for parts in items]
    items = [parts for parts in items if parts]
    readable = [parts for parts in items if all(_reads(part, modalities) for part in parts)]
    chosen = readable or items
    if usual:
        chosen = [parts for parts in chosen if any(part.column == usual for part in parts)] or chosen
    names = [part.column for parts in chosen for part in parts]
    if not chosen:
        raise TableError(
            f"none of the columns of {source} is clearly a text or an image: {_listed([c.name for c in columns])}; choose one "
            "with --column NAME --kind text|image"
        )
    if len(chosen) > 1:
        media, texts = (
            [p.column for ps in chosen for p in ps if (p.modality == "text") == told] for told in (False, True)
        )
        both = f", or both as one item: --column {media[0]}+{texts[0]}" if len(media) == len(texts) == 1 else ""
        raise TableError(
            f"{source} has several columns that could be embedded: {_listed(names)}; choose one with --column {names[0]}{both}"
        )
    _check_read(source, chosen[0], modalities)
    _check_types(source, chosen[0], columns)
    others = [part.column for parts in items for part in parts if part.column not in names]
    return Choice((*chosen[0], *_regions(source, chosen[0], columns)), tuple(others))


def _regions(source: str, parts: Sequence[Part], columns: Sequence[Column]) -> list[Part]:
    """The column of the regions of an item's image where there is one; none where they are chosen already.

    Raises:
        TableError: several could be it, or regions are chosen without their image.
    """
    image = next((part for part in parts if part.modality in ("image", "media")), None)
    chosen = next((part for part in parts if part.modality == "regions"), None)
    if image is None and chosen is not None:
        raise TableError(
            f"{source}: column {chosen.column} holds regions of an image; choose both: --column image+{chosen.column}"
        )
    if image is None or chosen is not None:
        return []
    meaning = read_name(image.column)
    role = {"negative": "negatives"}.get(meaning.role, meaning.role) if meaning is not None else ""
    words = (*REGIONS, *FACTS.get(f"{role}_regions", ()))
    found = [Part(column.name, "regions") for column in columns if column.name.lower() in words]
    if len(found) > 1:
        names = " and ".join(part.column for part in found)
        raise TableError(
            f"{source}: columns {names} could both be the regions of {image.column}; choose: --column {image.column}+{found[0].column}"
        )
    return found


def _items(columns: Sequence[Column]) -> list[list[Part]]:
    """The items that the names of columns tell of, each as its parts."""
    told = meanings_of(columns)
    media = any(not meaning.weak and _modality(meaning, column) != "text" for meaning, _, column in told)
    told = [entry for entry in told if not (entry[0].weak and media)]
    best: dict[tuple, int] = {}
    for meaning, rank, column in told:  # a field of a shard's JSON stands in where there is no such file
        key = (meaning.role, meaning.number, _modality(meaning, column))
        best[key] = min(rank, best.get(key, rank))
    items: dict[tuple, list[Part]] = {}
    for meaning, rank, column in told:
        modality = _modality(meaning, column)
        if rank > best[meaning.role, meaning.number, modality]:
            continue
        part = Part(column.name, modality, meaning.many)
        group = (meaning.role, meaning.number) if meaning.role else (column.name,)
        taken = [other.modality for other in items.get(group, ())]
        items.setdefault((*group, column.name) if modality in taken else group, []).append(part)
    if not items and len(held := [column for column in columns if column.kind == "media"]) == 1:
        items[held[0].name,] = [Part(held[0].name, held[0].modality or "media")]
    return list(items.values())


def _modality(meaning: Meaning | None, column: Column) -> str:
    if column.kind == "media":
        named = meaning.modality if meaning is not None and meaning.modality in _MEDIA else ""
        return column.modality or named or "media"
    return (meaning.modality or "text") if meaning is not None else ""


def _asked(source: str, columns: Sequence[Column], asked: Sequence[str], kind: str | None) -> list[Part]:
    by_name = {column.name: column for column in columns}
    entries = [piece for entry in asked for piece in _pieces(entry, by_name)]
    parts = []
    for entry in entries:
        said, equals, name = entry.partition("=")
        if entry in by_name or not equals:
            said, name = "", entry
        if name not in by_name:
            raise TableError(f"{source} has no column {name!r}; its columns are {_listed(list(by_name))}")
        meaning = read_name(said) if said else next((m for m, _, c in meanings_of(columns) if c.name == name), None)
        if said == "regions" or (not said and name.lower() in _REGIONS):
            parts.append(Part(name, "regions"))
            continue
        if said and (meaning is None or meaning.weak):
            raise TableError(f"{said!r} (said of column {name}) is none of text, image, video, audio, pdf, regions")
        modality = _modality(meaning, by_name[name])
        modality = (meaning.modality or "text") if said and by_name[name].kind != "media" else modality
        parts.append(Part(name, modality, bool(meaning is not None and meaning.many)))
    if kind is not None and len(parts) == 1:
        parts = [replace(parts[0], modality=kind)]
    for place, part in enumerate(parts):
        if not part.modality:
            parts[place] = replace(part, modality=_untold([p.modality for p in parts], kind))
    if unclear := next((part.column for part in parts if not part.modality), None):
        raise TableError(
            f"does column {unclear!r} of {source} hold texts, or paths of images? Say --kind text or --kind image "
            f"(of several columns: --column text={unclear}, or --column image=A+text=B)"
        )
    return sorted(parts, key=lambda part: part.modality == "regions")  # an image comes before its regions


def _pieces(entry: str, names: Collection[str]) -> list[str]:
    """ "image+text" in two; a column may be called so itself, also in "image=a+b"."""
    _, equals, name = entry.partition("=")
    if entry in names or (equals and name in names):
        return [entry]
    return [piece.strip() for piece in entry.split("+")]


def _untold(told: Sequence[str], kind: str | None) -> str:
    """What a column of an item holds whose name does not say it: the kind that was said, else beside a medium its text."""
    if kind is not None and kind not in told:
        return kind
    return "text" if "text" not in told and set(told) & {*_MEDIA, "media"} else ""


def _reads(part: Part, modalities: Collection[str]) -> bool:
    if part.modality == "regions":  # of an image: whether the model reads them is asked with it
        return "image" in modalities
    return part.modality in modalities or (part.modality == "media" and bool(set(_MEDIA) & set(modalities)))


def _check_read(source: str, parts: Sequence[Part], modalities: Collection[str]) -> None:
    for part in parts:
        if not _reads(part, modalities):
            raise TableError(unread(source, part.modality, modalities))


def _check_types(source: str, parts: Sequence[Part], columns: Sequence[Column]) -> None:
    """Raises TableError where the file says that a column holds something else than what it is taken for."""
    kinds = {column.name: column.kind for column in columns}
    for part in (part for part in parts if part.modality != "regions"):
        kind = kinds[part.column]
        if kind in ("int", "float", "other") or (kind == "media" and part.modality == "text"):
            held = {"int": "whole numbers", "float": "numbers", "media": "bytes"}.get(kind, "neither texts nor bytes")
            what = "text" if part.modality == "text" else "bytes or paths"
            raise TableError(f"{source}: column {part.column} holds {held}, not {what}; choose one with --column")


def unread(source: object, modality: str, modalities: Collection[str]) -> str:
    """What to say where a model does not read what a source holds."""
    wanted = "image" if modality == "document" else modality  # a page is one
    return (
        f"{source} holds {_PLURALS[modality]}, and this model reads {' and '.join(sorted(modalities))} only; choose another "
        f"model (zoo list --modality {wanted})"
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:12])
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "")
