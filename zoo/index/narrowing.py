"""Narrowing a search to kinds: which vectors of a folder are of images, videos, audio, documents or texts, said as a filter."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zoo.errors import FilterError
from zoo.index.kinds import KINDS


def narrowed(manifest: Mapping[str, Any], kinds: Sequence[str], where: str | None = None) -> str | None:
    """The filter that keeps vectors of these kinds alone, together with another; that other where no kind is said.

    Folders in which each vector stands with its kind are asked by that column; of others the manifest says of what all of them are,
    and the columns of pages and frames which are of documents and videos.

    Args:
        manifest: of the folder. kinds: of `KINDS`. where: another filter, or None.

    Raises:
        FilterError: a word that is no kind, or of which there is nothing in the folder.
    """
    conditions = [_condition(manifest, kind) for kind in kinds]
    if not conditions or "" in conditions:
        return where
    kept = " OR ".join(dict.fromkeys(conditions))
    return f"({kept})" if where is None else f"({where}) AND ({kept})"


def check_kinds(manifest: Mapping[str, Any], kinds: Sequence[str], count: Callable[[str | None], int]) -> None:
    """Raises FilterError for a kind of which there is nothing in an index; see `narrowed`.

    Args:
        count: of the index: how many rows a filter keeps.
    """
    for kind in kinds:
        if not count(narrowed(manifest, [kind])):
            raise _absent(manifest, kind)


def kind_of_row(manifest: Mapping[str, Any], attributes: Mapping[str, Any]) -> str | None:
    """Of which kind a row is, by what stands beside its vector; None where nothing tells."""
    source = manifest["source"]
    if (column := _column(source)) is not None and attributes.get(column) in KINDS:
        return attributes[column]
    pages, times = _places(source)
    if pages is not None and attributes.get(pages) is not None:
        return "document"
    if times is not None and attributes.get(times) is not None and source["kind"] == "image":
        return "video"
    whole = [kind for kind in source["kind"].split("+") if kind != "regions"]
    return whole[0] if len(whole) == 1 and whole[0] in KINDS else None


def _condition(manifest: Mapping[str, Any], kind: str) -> str:
    """What keeps the rows of a kind, "" where that are all."""
    if kind not in KINDS:
        raise FilterError(f"there is no kind {kind!r}; expected {', '.join(KINDS)}")
    source = manifest["source"]
    if (column := _column(source)) is not None:
        return f"{_quoted(column)} = '{kind}'"
    held = source["kind"].split("+")
    pages, times = _places(source)
    if source["kind"] == "image":  # pages and frames are images, too
        if pages is not None and kind in ("image", "document"):
            return f"{_quoted(pages)} IS {'NOT ' * (kind == 'document')}NULL"
        if times is not None and kind in ("image", "video"):
            return f"{_quoted(times)} IS {'NOT ' * (kind == 'video')}NULL"
    if kind in held:
        return ""
    if "media" in held:
        raise FilterError(
            f"the vectors are of a column of files of any kind, and do not say which is {kind}; embed a folder of the files instead"
        )
    raise _absent(manifest, kind)


def _absent(manifest: Mapping[str, Any], kind: str) -> FilterError:
    counts = manifest["counts"].get("kinds") or {}
    listed = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    return FilterError(f"there is no {kind} among the vectors; there is {listed or manifest['source']['kind']}")


def _column(source: Mapping[str, Any]) -> str | None:
    return (source.get("kinds") or {}).get("column")


def _places(source: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The columns of pages and of beginnings in seconds, those that there are."""
    said = source.get("parts")
    columns = said.get("columns") if isinstance(said, Mapping) else None
    columns = [str(one) for one in columns] if isinstance(columns, list) else []
    paged = len(columns) in (1, 3)
    return (columns[0] if paged else None), (columns[-2] if len(columns) > 1 else None)


def _quoted(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'
