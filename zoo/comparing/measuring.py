"""Comparing: every model embeds the data once, one model after the other; figures are of what all of them could embed."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from zoo.arguments import checked, flag, named_texts, optional, path, text, whole
from zoo.arguments import device as device_here
from zoo.callers import warn
from zoo.comparing.budget import Budget
from zoo.comparing.comparison import Comparison, Entry
from zoo.comparing.contenders import Contender, contenders
from zoo.comparing.costs import Cost, measured
from zoo.comparing.packs import PackQuestion
from zoo.comparing.questions import Question
from zoo.comparing.reading import read_questions
from zoo.comparing.reranked import TOP, Reranking, a_reranker, check_reranked, opened
from zoo.comparing.scoring import Scores, scores_of
from zoo.comparing.vectors import Side, VectorCache, check_reads, embed
from zoo.errors import ArgumentError, QuestionsError, ZooError
from zoo.inputs.item import Item
from zoo.inputs.remembering import MOST, Pixels, remembering
from zoo.tables.options import Options

Say = Callable[[str], None]
Asked = Question | PackQuestion


@checked(
    class_prompt=text,
    split=optional(text),
    columns=optional(named_texts),
    speed=flag,
    device=optional(device_here),
    cache=optional(path),
    reranker=optional(a_reranker),
    rerank_top=whole(),
)
def compare(
    models: Any,
    pairs: Any,
    *,
    budget: "str | Budget | None" = None,
    class_prompt: str = "{}",
    split: str | None = None,
    columns: dict[str, str] | None = None,
    speed: bool = True,
    device: str | None = None,
    cache: "Path | str | None" = None,
    reranker: Any = None,
    rerank_top: int = TOP,
) -> Comparison:
    """Which model is best for some data: recall and other figures with paired intervals, what each model costs here, and where they differ.

    Args:
        models: names, folders or open models, also with settings: "zoo-mini@dim=64".
        pairs: a file, a folder, "hf:…", "pack:…", an open table, a list of (query, target) or (query, target, score), or a list of
            several files. See `zoo.comparing.read_questions`.
        budget: "ms=20,mb=500,license=commercial,languages=de", within which the best is told.
        class_prompt: how the name of a class is put to the models, such as "a photo of a {}". split, columns: as in `zoo.tables.open_pairs`.
        speed: measure milliseconds, items a second and memory, in processes of their own. device: for the models.
        cache: a folder in which vectors are kept, so that the same models on the same data need no second pass; None for none.
        reranker: a name, a folder or an open one: every model is told with and without its first `rerank_top` results reranked. The data
            must be retrieval, which is then asked one way.

    Returns:
        An object with `.table`, `.html`, `.best(budget)`, and `.results(entry)` of each of `.entries`. A model that cannot read the
        data is in `.left_out`, with the reason.

    Raises:
        ArgumentError: no such budget, setting or model. QuestionsError, TableError: the data asks nothing that can be measured.
        NothingFitsError: no model could be measured.
    """
    wanted, named = Budget.parse(budget), contenders(models)
    options = Options(columns=columns, split=split)
    device = None if device is None else str(device)
    several = isinstance(pairs, list | tuple) and pairs and all(isinstance(one, str | Path) for one in pairs)
    questions: list[Asked] = []
    words = [] if class_prompt == "{}" else ["--class-prompt", class_prompt]
    words += [] if split is None else ["--split", split]
    sources = []
    for one in pairs if several else [pairs]:
        told = isinstance(one, str | Path)
        here = ["--data", shown_source(one)] if told else []
        sources += here
        questions += read_questions(one, options, class_prompt=class_prompt, words=[*here, *words])
    kept = None if cache is None else VectorCache(Path(cache).expanduser())
    rerank = None
    if reranker is not None:
        check_reranked(questions)
        rerank = opened(reranker, rerank_top, device)
    found = run(
        named,
        questions,
        device=device,
        cache=kept,
        budget=wanted,
        rerank=rerank,
        words=[*sources, *words, *(["--budget", str(wanted)] if wanted else []), *(rerank.words if rerank else ())],
    )
    return with_costs(found, named, device) if speed else found


def shown_source(source: "str | Path") -> str:
    """A source as a command names it: of files their names alone."""
    from zoo.tables import named_source

    name, place = named_source(source)
    place = str(place) if str(place).startswith(("hf:", "pack:")) else Path(place).expanduser().resolve().name
    return f"{name}={place}" if name else place


def run(
    named: Sequence[Contender],
    questions: Sequence[Asked],
    *,
    device: str | None = None,
    ignore: Sequence[str] = (),
    cache: VectorCache | None = None,
    budget: Budget | None = None,
    words: Sequence[str] = (),
    pixels: int = MOST,
    rerank: Reranking | None = None,
    say: Say = lambda message: None,
) -> Comparison:
    """Measures models on questions; costs are not measured (see `with_costs`).

    Args:
        pixels: bytes of decoded images that are kept for the next model. rerank: tells every model with it, too. say: told what is being done.

    Raises:
        NothingFitsError: no model could be measured, with the reason of each. QuestionsError: nothing is left to measure.
    """
    if not questions:
        raise QuestionsError("nothing is asked; name some data")
    _check_names(questions)
    if rerank is not None:
        if budget:
            raise ArgumentError(
                "a budget is of one model, and a reranker beside it costs more than is measured; leave one of them out"
            )
        check_reranked(questions)
        questions = [rerank.asked(question) for question in questions]
    left_out: dict[str, str] = {}
    passes: list[_Pass] = []
    memory = Pixels(pixels if len(named) > 1 else 0)
    with remembering(memory):
        for number, one in enumerate(named, 1):
            say(f"{number} of {len(named)}: {one.shown}")
            try:
                passes.append(_embedded(one, questions, device, ignore, cache, say))
            except (ZooError, ValueError, OSError) as error:
                if len(named) == 1:
                    raise
                left_out[one.shown] = " ".join(str(error).split())
                say(f"  left out: {error}")
    measured_ones = [one for one in passes if any(side is not None for side in one.sides)]
    for one in passes:
        if one not in measured_ones:
            left_out[one.entry.name] = "; ".join(dict.fromkeys(one.entry.unread.values()))
    if not measured_ones:
        told = "; ".join(f"{name}: {why}" for name, why in left_out.items())
        raise QuestionsError(f"no model can be measured on this data: {told}")
    bad = [row for question in questions for row in question.source.bad]
    names = [one.entry.name for one in measured_ones]
    names += [rerank.name(name) for name in names] if rerank is not None else []
    scores: dict[str, dict[tuple[str, ...], Scores]] = {name: {} for name in names}
    for place, question in enumerate(questions):
        readers = [one for one in measured_ones if one.sides[place] is not None]
        for name, found in _scored(question, place, readers, rerank):
            scores[name] |= {row.key: row for row in found}
        bad += dict.fromkeys(message for one in readers for message in one.skipped[place])
    with_reranker = [_reranked(one.entry, rerank) for one in measured_ones] if rerank else []
    entries = tuple(
        replace(entry, scores=scores[entry.name]) for entry in (*(one.entry for one in measured_ones), *with_reranker)
    )
    return Comparison(
        entries,
        left_out,
        list(questions),
        budget or Budget(),
        tuple(words),
        (memory.decoded, memory.found),
        tuple(dict.fromkeys(bad)),
    )


def with_costs(
    found: Comparison, named: Sequence[Contender], device: str | None = None, say: Say = lambda message: None
) -> Comparison:
    """The same comparison, with what the models that were measured cost on this machine."""
    names = {entry.name for entry in found.entries}
    taking = [one for one in named if one.shown in names]
    say("measuring speed and memory, in turn")
    costs = measured(taking, *_embedded_most(found), device)
    entries = []
    for entry in found.entries:
        cost = costs.get(entry.name, "")
        told = {"cost": cost} if isinstance(cost, Cost) else {"notes": (*entry.notes, *filter(None, [cost]))}
        entries.append(replace(entry, **told))
    return replace(found, entries=tuple(entries))


def _embedded_most(found: Comparison) -> tuple[tuple[Sequence[Item], Sequence[Item]], tuple[str, str]]:
    """What is embedded to measure costs, queries and candidates, and their kinds: of the first question that all models read.

    People ask with texts: where one side is texts, those are the queries.
    """
    unread = {name for entry in found.entries for name in entry.unread}
    read = [one for one in found.questions if one.source.name not in unread] or list(found.questions)
    question = next((one for one in read if one.kind == "retrieval"), read[0])
    sides, kinds = (question.left, question.right), question.sides
    if kinds[1] == "text" != kinds[0]:
        return sides[::-1], kinds[::-1]  # type: ignore[return-value]
    return sides, kinds


def _check_names(questions: Sequence[Asked]) -> None:
    """Raises ArgumentError where figures of two data sets could not be told apart."""
    seen: dict[tuple[str, str], int] = {}
    for question in questions:
        key = (question.source.name, question.source.split)
        if seen.setdefault(key, id(question.source)) != id(question.source):
            raise ArgumentError(
                f"two sources would both be the data set {key[0]!r}; give one of them a name: NAME={key[0]}"
            )


class _Pass:
    """What one model gave.

    Attributes:
        sides: of every question its vectors, or its scores of a pack; None where the model does not read it. skipped: what it could
            not embed, by question.
    """

    def __init__(self, entry: Entry, sides: list[Any], skipped: list[tuple[str, ...]]) -> None:
        self.entry, self.sides, self.skipped = entry, sides, skipped


def _embedded(
    one: Contender,
    questions: Sequence[Asked],
    device: str | None,
    ignore: Sequence[str],
    cache: VectorCache | None,
    say: Say,
) -> _Pass:
    start = time.monotonic()
    model = one.opened(device, ignore)
    sides: list[Any] = []
    skipped: list[tuple[str, ...]] = []
    unread: dict[str, str] = {}
    fresh = total = 0
    for question in questions:
        try:
            if isinstance(question, PackQuestion):
                sides.append(question.scores(model, one, cache))
                skipped.append(())
                continue
            check_reads(model, question)
            left, right = embed(model, question, cache)
            if not (left.there.any() and right.there.any()):  # it would leave no row for the others
                why = (*left.skipped, *right.skipped)[0]
                raise QuestionsError(
                    f"{one.shown} could embed nothing of {question.source.name}; the first reason: {why}"
                )
        except ZooError as error:
            if isinstance(error, ArgumentError):
                raise
            unread[question.source.name] = " ".join(str(error).split())
            say(f"  {question.source.name}: {error}")
            sides.append(None)
            skipped.append(())
            continue
        fresh, total = fresh + left.fresh + right.fresh, total + len(left.there) + len(right.there)
        sides.append(tuple(replace(side, vectors=one.cut(model, side.vectors)) for side in (left, right)))
        skipped.append((*left.skipped, *right.skipped))
    if total:
        kept = f", {total - fresh:,} of them kept from before" if fresh < total else ""
        say(f"  {total:,} items in {time.monotonic() - start:.1f} s{kept}")
    weights = list(model.parameters())
    note = one.note(model)
    if note:
        warn(f"{one.shown}: {note}")
    entry = Entry(
        one.shown,
        one.word,
        model.spec,
        one.settings.get("dim") or model.spec.dim,
        sum(weight.numel() for weight in weights),
        sum(weight.numel() * weight.element_size() for weight in weights) / 1e6,
        {},
        unread,
        notes=(note,) if note else (),
    )
    return _Pass(entry, sides, skipped)


def _reranked(entry: Entry, rerank: Reranking) -> Entry:
    """A model and a reranker together."""
    weights = list(rerank.model.parameters())
    return replace(
        entry,
        name=rerank.name(entry.name),
        params=entry.params + sum(weight.numel() for weight in weights),
        size=entry.size + sum(weight.numel() * weight.element_size() for weight in weights) / 1e6,
        notes=tuple(rerank.unread),
    )


def _scored(
    question: Asked, place: int, readers: Sequence[_Pass], rerank: Reranking | None = None
) -> list[tuple[str, list[Scores]]]:
    """The figures of all models that read a question, over what every one of them could embed."""
    if not readers:
        return []
    if isinstance(question, PackQuestion):
        return [(one.entry.name, one.sides[place]) for one in readers]
    sides: list[tuple[Side, Side]] = [one.sides[place] for one in readers]
    there = tuple(np.logical_and.reduce([side[number].there for side in sides]) for number in (0, 1))
    lost = sum(int((~some).sum()) for some in there)
    uneven = any((side[number].there != there[number]).any() for side in sides for number in (0, 1))
    rows = len(question.source.bad) + lost
    more = f"; {question.source.note}" if question.source.note else ""
    more += f"; {rows:,} left out" if rows else ""
    more += f": of what not every model could embed ({', '.join(one.entry.name for one in readers)})" if uneven else ""
    found = []
    for one, (left, right) in zip(readers, sides, strict=True):
        vectors: tuple[Tensor, Tensor] = left.vectors, right.vectors
        found.append((one.entry.name, scores_of(question, *vectors, there, more)))
        if rerank is not None:
            found.append((rerank.name(one.entry.name), scores_of(question, *vectors, there, more, rerank)))
    return found
