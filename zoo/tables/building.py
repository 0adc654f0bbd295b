"""PairBuilder: the cells of a row → a Pair, or an error that names the row."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PureWindowsPath
from typing import Any

from zoo.inputs.item import Item
from zoo.tables.cells import json_list
from zoo.tables.fences import Fence
from zoo.tables.pairs import Pair
from zoo.tables.schema import Part, Schema
from zoo.tables.values import (
    BadCellError,
    cell_value,
    check_there,
    described,
    find_file,
    region_cell,
    told_modality,
)


class PairBuilder:
    """Makes pairs of one table.

    Args:
        root: where relative paths begin. dataset: name of the data set where no column says it.
        as_text: words that are texts, though they often stand for a missing one ("nan", "None").
        fence: the folder outside of which no file is opened.
    """

    def __init__(
        self, schema: Schema, root: Path, dataset: str, as_text: Sequence[str] = (), fence: Fence | None = None
    ) -> None:
        self.schema, self.root, self.dataset, self.as_text, self.fence = schema, root, dataset, as_text, fence

    def pair(self, cells: Mapping[str, Any], where: str) -> Pair:
        """The pair of a row.

        Raises:
            BadRowError: a cell is empty, of a wrong type, or names no file. One missing file of several further positives
                or negatives is no reason: it is met again where the file is read.
        """
        schema = self.schema
        try:
            (query,) = self._marked("query", self._one("query", schema.query, cells), cells)
            positive, *also = self._positives(cells)
            also += self._marked("also", self._items(schema.extra_positives, cells, {}), cells)
            negatives = [item for parts in schema.negatives for item in self._items(parts, cells, {})]
            negatives = self._marked("negatives", negatives, cells)
            (query,) = self._instructed("query", [query], cells)
            positive, *also = self._instructed("positive", [positive, *also], cells)
            negatives = self._instructed("positive", negatives, cells)
            group = self._fact("group", cells)
            dataset = self._fact("dataset", cells)
            return Pair(
                query,
                positive,
                tuple(negatives),
                tuple(also),
                group="" if group is None else str(group),
                dataset=self.dataset if dataset in (None, "") else str(dataset),
                score=self._score(cells),
                teacher_scores=self._teacher_scores(cells, len(negatives)),
                where=where,
            )
        except BadCellError as error:
            raise error.kind(f"{where}: {error}", what=where) from None

    def _positives(self, cells: Mapping[str, Any]) -> list[Item]:
        """The positives of a row; those whose files are there come first."""
        absent: dict[int, BadCellError] = {}
        items = self._one("positive", self.schema.positive, cells, absent)
        if len(absent) == len(items):
            raise next(iter(absent.values()))
        items = self._marked("positive", items, cells)
        return sorted(items, key=lambda item: any(items[i] is item for i in absent)) if absent else items

    def _one(
        self,
        role: str,
        parts: Sequence[Part],
        cells: Mapping[str, Any],
        absent: "dict[int, BadCellError] | None" = None,
    ) -> list[Item]:
        """At least one item; exactly one for a query."""
        items = self._items(parts, cells, absent)
        if not items:
            names = [part.column for part in parts]
            what = names[0] if len(names) == 1 else f"{role} ({', '.join(names)})"
            raise BadCellError(f"the {what} is empty")
        if role == "query" and len(items) > 1:
            raise BadCellError(f"the {parts[0].column} is a list of {len(items)}, and a query is one thing")
        return items

    def _items(
        self,
        parts: Sequence[Part],
        cells: Mapping[str, Any],
        absent: "dict[int, BadCellError] | None" = None,
    ) -> list[Item]:
        """The items that some columns make together; lists go side by side, and what is empty in all columns is none.

        Args:
            absent: where files that are missing are noted by the number of their item; None raises their error.
        """

        def value_of(part: Part, cell: Any) -> tuple[str, Any]:
            try:
                return self._value(part, cell)
            except _NoFileCellError as error:
                if absent is None:
                    raise
                absent[len(items)] = error
                return part.modality, error.path

        items: list[Item] = []
        if len(parts) == 1 and not isinstance(cell := cells.get(parts[0].column), list):  # nearly always
            modality, value = value_of(parts[0], cell)
            return [] if value is None else [Item(**{modality: value})]
        columns = [(part, value) for part in parts if (value := cells.get(part.column)) is not None]
        lists = [value if isinstance(value, list) else [value] for _, value in columns]
        if len({len(values) for values in lists if values}) > 1:
            told = ", ".join(f"{part.column} {len(values)}" for (part, _), values in zip(columns, lists, strict=True))
            raise BadCellError(f"lists of different lengths: {told}")
        for i in range(max(map(len, lists), default=0)):
            found: dict[str, Any] = {}
            for (part, _), values in zip(columns, lists, strict=True):
                modality, value = value_of(part, values[i]) if values else ("", None)
                if value is not None:
                    found[modality] = value
            if found:
                items.append(Item(**found))
        return items

    def _marked(self, role: str, items: list[Item], cells: Mapping[str, Any]) -> list[Item]:
        """Items with their regions; where they are several, the cell is a list with those of each."""
        column = getattr(self.schema, f"{role}_regions")
        value = cells.get(column) if column is not None else None
        if value is None or value == "":
            return items
        if isinstance(value, str) and value.lstrip().startswith("["):
            value = value if (found := json_list(value)) is None else found
        listed = isinstance(value, list)
        if len(items) == 1:
            alone = listed and len(value) == 1 and (value[0] is None or isinstance(value[0], list | str))
            each = value if alone else [value]
        elif listed and len(value) == len(items):
            each = value
        else:
            told = f"a list of {len(value)}" if listed else described(value)
            raise BadCellError(f"the {column} is {told}, and the row has {len(items)} items that it could be of")
        found = []
        for item, one in zip(items, each, strict=True):
            regions = region_cell(column, one, self.root, self.fence)
            if regions and item.image is None:
                raise BadCellError(f"the {column} holds regions, and there is no image that they are of")
            found.append(replace(item, regions=regions) if regions else item)
        return found

    def _value(self, part: Part, value: Any) -> tuple[str, Any]:
        """A cell as its modality and what an Item holds of it; None where it is empty."""
        modality, value = cell_value(part, value, self.as_text)
        if value is None or modality == "text":
            return modality, value
        value = self._file(part, value) if isinstance(value, str) else value
        return told_modality(part, value), value

    def _file(self, part: Part, name: str) -> Path:
        url = name.startswith(("http://", "https://"))
        path, there = find_file(self.root, part, name, None if url else self.fence)
        if not there:
            remedy = "say root=FOLDER if it is elsewhere"
            if PureWindowsPath(name).drive:
                remedy = "it is a path of another machine (Windows): write it relative to a folder, and say root=FOLDER"
            if url:
                path, remedy = Path(name), "a URL is never fetched: download it and give the path"
            raise _NoFileCellError(f"no {'file' if part.modality == 'media' else part.modality} {path}; {remedy}", path)
        return path

    def _fact(self, fact: str, cells: Mapping[str, Any]) -> Any:
        column = getattr(self.schema, fact)
        if column is None:
            return None
        value = cells.get(column)
        if isinstance(value, dict | list | bytes | bool):
            raise BadCellError(f"the {column} is {described(value)}, not a word or a number")
        if isinstance(value, float) and math.isnan(value):  # what pandas makes of an empty cell
            return None
        value = value.strip() if isinstance(value, str) else value
        check_there(column, value, self.as_text)
        return value

    def _instructed(self, role: str, items: list[Item], cells: Mapping[str, Any]) -> list[Item]:
        """Items with the row's instruction for their role; negatives have that of the positives."""
        column = getattr(self.schema, f"{role}_instruction")
        words = cells.get(column) if column is not None else None
        if words is None or (isinstance(words, str) and not words.strip()):
            return items
        if not isinstance(words, str):
            raise BadCellError(f"the {column} is {described(words)}, not text")
        check_there(column, words.strip(), self.as_text)
        # Not stripped: some models were trained with the space or line break at its end.
        return [replace(item, instruction=words) for item in items]

    def _score(self, cells: Mapping[str, Any]) -> float | None:
        if self.schema.score is None:
            return None
        value = _number(cells.get(self.schema.score), self.schema.score)
        if not 0 <= value <= 1:
            raise BadCellError(f"the {self.schema.score} is {value:g}; it must be from 0 to 1: divide by the highest")
        return value

    def _teacher_scores(self, cells: Mapping[str, Any], negatives: int) -> tuple[float, ...]:
        column = self.schema.teacher_scores
        value = cells.get(column) if column is not None else None
        if value is None:
            return ()
        if not isinstance(value, list):
            raise BadCellError(f"the {column} is {described(value)}, not a list of numbers")
        # Tables with a column for each negative keep a place in the scores for those that a row has not.
        if value.count(None) == len(value) - 1 - negatives:
            value = [score for score in value if score is not None]
        scores = tuple(_number(score, column) for score in value)
        if scores and len(scores) != 1 + negatives:
            raise BadCellError(f"the {column} are {len(scores)}, for a positive and {negatives} negatives")
        return scores


class _NoFileCellError(BadCellError):
    def __init__(self, message: str, path: Path) -> None:
        super().__init__(message)
        self.path = path


def _number(value: Any, column: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadCellError(f"the {column} is {described(value)}, not a number")
    if not math.isfinite(value):
        raise BadCellError(f"the {column} is {value}, not a finite number")
    return float(value)
