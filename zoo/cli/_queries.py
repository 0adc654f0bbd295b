"""`zoo search DIR --queries FILE`: a file of queries, answered in its order by a line of JSON for each."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.cli._finding import as_json
from zoo.errors import ZooError
from zoo.strangers.terminal import json_text

if TYPE_CHECKING:
    from zoo.index import SearchHit

TOGETHER = 256  # queries that are encoded and searched at once
KEYS = ("id", "text", "image")
# (queries) → the results of each. It raises ZooError if one of them cannot be answered.
Answer = Callable[[Sequence[Any]], "list[list[SearchHit]]"]


@dataclass(frozen=True)
class Query:
    """A line of the file: what is asked for, and what its answer begins with."""

    asked: Any
    told: dict[str, Any]


def read_queries(file: Path) -> list[Query]:
    """The queries of a file: texts, one to a line; of a .jsonl file objects with `text`, `image` (a path from the file's folder) or both.

    Raises:
        ZooError: it cannot be read, or a line is no query; it names the line.
    """
    try:
        lines = file.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ZooError(f"--queries {file} cannot be read as a text file in UTF-8: {error}") from error
    read = _of_json if file.suffix.lower() == ".jsonl" else _of_text
    found = [read(line, file, number) for number, line in enumerate(lines, start=1) if line.strip()]
    if not found:
        raise ZooError(f"--queries {file} holds no query; write one to a line")
    return found


def _of_text(line: str, file: Path, number: int) -> Query:
    return Query(line.strip(), {"query": line.strip()})


def _of_json(line: str, file: Path, number: int) -> Query:
    from zoo.inputs.item import Item

    where = f"--queries {file}, line {number}"
    try:
        said = json.loads(line)
    except ValueError as error:
        raise ZooError(f"{where} is no JSON: {error}") from error
    if not isinstance(said, dict) or not {"text", "image"} & set(said):
        raise ZooError(
            f'{where}: expected an object such as {{"id": "q1", "text": "a boat"}}, with text, image or both'
        )
    if unknown := sorted(set(said) - set(KEYS)):
        raise ZooError(f"{where}: unknown key {unknown[0]!r}; a query has {', '.join(KEYS)}")
    if wrong := [name for name in ("text", "image") if name in said and not isinstance(said[name], str)]:
        raise ZooError(f"{where}: {wrong[0]} is no text")
    image = file.parent / said["image"] if "image" in said else None
    if image is not None and not image.is_file():
        raise ZooError(f"{where}: {image} is no file")
    asked = Item(text=said["text"], image=image) if image and "text" in said else image or said["text"]
    return Query(asked, {"query": said["id"]} if "id" in said else {"query": said.get("text", said.get("image"))})


def answer_all(queries: Sequence[Query], answer: Answer, place: "Callable[[SearchHit], str]") -> int:
    """Prints the answers; status 2 if one of the queries failed, 1 if nothing was found at all."""
    failed = anything = False
    for start in range(0, len(queries), TOGETHER):
        for query, found in _answered(queries[start : start + TOGETHER], answer):
            if isinstance(found, ZooError):
                failed = True
                print(json_text({**query.told, "error": str(found)}))
                continue
            anything = anything or bool(found)
            print(json_text({**query.told, "results": [{**as_json(one), "path": place(one)} for one in found]}))
    return 2 if failed else 0 if anything else 1


def _answered(queries: Sequence[Query], answer: Answer) -> "Iterator[tuple[Query, list[SearchHit] | ZooError]]":
    """Each with its results, or with why there are none: where one fails, all of these are asked one by one."""
    try:
        yield from zip(queries, answer([query.asked for query in queries]), strict=True)
        return
    except ZooError as error:
        if len(queries) == 1:
            yield queries[0], error
            return
    for query in queries:
        yield from _answered([query], answer)
