"""Where models differ: what one finds first and another does not, each with what was asked, what is right and what came first."""

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zoo.comparing.questions import TASKS, Question
from zoo.errors import InputError
from zoo.inputs.excerpts import DocumentPage, Excerpt
from zoo.inputs.image import load_pixels
from zoo.inputs.item import Item
from zoo.inputs.outlines import outlined

if TYPE_CHECKING:
    from zoo.comparing.comparison import Comparison, Entry, Key
    from zoo.comparing.packs import PackQuestion

EACH = 4  # cases of a question in which one of two models is right
SIDE = 200  # pixels of a thumbnail
_LETTERS = 240


@dataclass(frozen=True)
class Case:
    """One query on which two models differ.

    Attributes:
        asked, right: the query and one right answer. found: what came first, of the first and of the second model. ranks: where the first
            right answer stood.
    """

    asked: Item
    right: Item | None
    found: tuple[Item, Item]
    ranks: tuple[int, int]


@dataclass(frozen=True)
class Apart:
    """On how many queries of a question two models differ, and some of them.

    Attributes:
        first, second: how many only the one model gets right. total: queries.
    """

    first: int
    second: int
    total: int
    cases: tuple[Case, ...]


def apart(found: "Comparison", key: "Key", entry: "Entry", other: "Entry", *, each: int = EACH) -> Apart | None:
    """Where two models differ on a question; None where nothing is ranked."""
    a, b = entry.scores[key], other.scores[key]
    if a.ranking is None or b.ranking is None:
        return None
    question = next(
        q for q in found.questions if (q.source.name, q.source.split) == (a.dataset, a.split) and _asks(q, a.task)
    )
    asking, answering = (question.right, question.left) if a.backward else (question.left, question.right)
    ranks = a.ranking.ranks, b.ranking.ranks
    only = [np.flatnonzero((mine == 1) & (theirs > 1)) for mine, theirs in (ranks, ranks[::-1])]
    chosen = [
        some[np.argsort(-other_ranks[some], kind="stable")][:each]
        for some, other_ranks in zip(only, ranks[::-1], strict=True)
    ]
    cases = []
    for place in np.concatenate(chosen).tolist():
        row = int(a.ranking.rows[place])
        right = question.right_of(row, a.backward)
        cases.append(
            Case(
                asking[row],
                None if right is None else answering[right],
                (answering[int(a.ranking.first[place])], answering[int(b.ranking.first[place])]),
                (int(ranks[0][place]), int(ranks[1][place])),
            )
        )
    return Apart(len(only[0]), len(only[1]), len(ranks[0]), tuple(cases))


def _asks(question: "Question | PackQuestion", task: str) -> bool:
    """Whether figures of a task are of this question."""
    return question.kind == "pack" or TASKS[question.kind] == task


def shown(item: Item) -> Iterator[tuple[str, str]]:
    """What is to be seen of an item: ("image", data of a JPEG), ("text", …) or ("note", …), nothing escaped."""
    for part in item.parts or (item,):
        yield from _shown(part if isinstance(part, Item) else Item(text=str(part)))


def _shown(item: Item) -> Iterator[tuple[str, str]]:
    for kind in ("image", "video", "document", "audio"):
        value = getattr(item, kind)
        if value is None:
            continue
        name = value.name if isinstance(value, Path) else kind
        if kind == "audio":
            yield "note", f"audio: {name}"
            continue
        try:
            yield "image", thumbnail(value, kind, item)
            if kind != "image":
                yield "note", name
        except (InputError, OSError) as error:
            yield "note", f"{name} cannot be shown: {error}"
    if item.text is not None:
        yield "text", item.text if len(item.text) <= _LETTERS else item.text[: _LETTERS - 1] + "…"


def thumbnail(value: object, kind: str, item: Item) -> str:
    """A small JPEG as data of a page; of a video a frame of its middle, of a document its first page; regions are outlined.

    Raises:
        InputError: it cannot be read.
    """
    from PIL import Image

    from zoo.inputs.video import load_video

    if kind == "document":
        value = DocumentPage(value, 1)  # type: ignore[arg-type]
    if kind == "video" or isinstance(value, Excerpt):
        frames = load_video(value, frames=3).frames
        pixels = frames[len(frames) // 2]
    else:
        pixels = load_pixels(value)
    buffer = io.BytesIO()
    Image.fromarray(outlined(pixels, item.regions, SIDE)).save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
