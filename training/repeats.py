"""What the data say more than once, in a line: captions of one image, and what a batch would take for negatives."""

from zoo.inputs.identity import Answers, Right

from .dataloader import Feed
from .losses import Loss

_STEPS = 4  # batches that are counted
_BLOCK = 256


def repeats(feed: Feed, loss: Loss) -> str:
    """ "5 captions an image, 2.6 false negatives a row: masked": by all pairs, and by the first batches of the run."""
    answers = feed.answers
    query, answer = _called(answers)
    parts = [f"{_number(answers.per_query)} {_several(answer, answers.per_query)} {_each(query)}"]
    if answers.per_answer >= 1.005:
        parts.append(f"{_number(answers.per_answer)} {_several(query, answers.per_answer)} {_each(answer)}")
    if "right" in loss.reads | loss.may_read and getattr(loss, "in_batch", True):
        false = [further(answers.right(*feed.numbers(step))) for step in range(_STEPS)]
        mean = sum(count for count, _ in false) / max(1, sum(rows for _, rows in false))
        what, done = ("further positive", "") if loss.all_positives else ("false negative", ": masked")
        parts.append(f"{_number(mean)} {_several(what, mean)} a row{done}" if mean else f"no {what}s")
    return ", ".join(filter(None, [*parts, feed.told]))


def further(right: Right) -> tuple[int, int]:
    """(right targets beside each query's own positive, rows) of a batch."""
    count, rows = 0, len(right.queries)
    for start in range(0, rows, _BLOCK):
        part = slice(start, start + _BLOCK)
        count += int((right.answers(part) | right.same(part)).sum())
    return count - rows, rows


def _called(answers: Answers) -> tuple[str, str]:
    """What a query and an answer are called, by the modality that all of them have."""
    there = answers.sizes > 0
    sides = []
    for slot in (0, 1):
        kinds = {answers.contents.modalities[i] for i in answers.numbers[answers.starts[there] + slot].tolist()}
        sides.append(next(iter(kinds)) if len(kinds) == 1 else frozenset())
    if sides[0] == sides[1] or not all(len(kind) == 1 for kind in sides):
        return "query", "answer"
    query, answer = ("caption" if (name := next(iter(kind))) == "text" else name for kind in sides)
    return query, answer


def _number(value: float) -> str:
    return f"{value:.2g}" if value < 100 else f"{value:,.0f}"


def _several(name: str, value: float) -> str:
    if _number(value) == "1" or name == "audio":
        return name
    return f"{name[:-1]}ies" if name.endswith("y") else f"{name}s"


def _each(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
