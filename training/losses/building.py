"""Losses from how a recipe writes them: `infonce + focal(2) + mixing(4) + guided(bge) + matryoshka(256, 128)`."""

import inspect
from collections.abc import Sequence
from typing import Any

from ..errors import LossError
from ..spec_strings import Term, check_options, read_sum, what_there_is
from .base import Loss, find_loss, list_losses
from .infonce import InfoNCE
from .parts import Part, Wrapper
from .row_blocks import check_block
from .total import Total

_EXAMPLE = "write a loss like infonce(temperature=0.05) + focal(2)"


def build_loss(text: str) -> Loss:
    """A loss from how a recipe writes it.

    `infonce`, `infonce(temperature=0.05)`: a loss and its options, the first of which may stand without its name.
    `infonce + focal(2) + mixing(4)`: with masks, mixers and weights, in any order. `focal` alone is `infonce + focal`.
    `infonce + 0.5 * distillation(space='group')`: a sum of losses; what is added shares the temperature of the first
    unless it names one.
    `infonce + matryoshka(256, 128)`, or `matryoshka(256, 128): infonce`: a wrapper is around all of the sum.

    Raises:
        LossError: no such name or option, or a part that does not fit; the message names it.
    """
    outer, inner = _split(text)
    try:
        terms = read_sum(outer)
    except ValueError as error:
        raise LossError(f"{error}; {_EXAMPLE}") from error
    if inner is not None:
        term, *more = terms
        if more or not _is(term, Wrapper):
            raise LossError(f"{term.name} wraps none: write {term.name!r}")
        return _made(term, build_loss(inner))
    wrappers = [term for term in terms if _is(term, Wrapper)]
    for term in (*wrappers, *(term for term in terms[1:] if _is(term, Part))):
        if term.weight != 1:
            raise LossError(f"{term.name} is no loss that a number could weigh; its own options say how strong it is")
        if [other.name for other in terms].count(term.name) > 1:
            raise LossError(f"{term.name} stands twice")
    if len(wrappers) == len(terms):
        name = wrappers[0].name
        raise LossError(f"{name} wraps another loss: write '{name}:infonce' or 'infonce + {name}'")
    loss = _summed([term for term in terms if not _is(term, Wrapper)])
    for term in sorted(wrappers, key=lambda term: find_loss(term.name)[0].over_layers):
        loss = _made(term, loss)
    return loss


def _summed(terms: Sequence[Term]) -> Loss:
    """The losses of some terms, with the parts that stand among them, and their sum where there are several.

    A part is of the first loss that takes its kind; a part in the first place stands for InfoNCE with it.
    """
    losses = [terms[0], *(term for term in terms[1:] if not _is(term, Part))]
    parts: list[list[Term]] = [[] for _ in losses]
    for term in terms[1:]:
        if _is(term, Part):
            fitting = (i for i, loss in enumerate(losses) if any(_is(term, kind) for kind in _takes(loss)))
            place = next(fitting, None)
            if place is None:
                raise LossError(_misfit(term, losses[0]))
            parts[place].append(term)
    made = [_made(term, parts=its) for term, its in zip(losses, parts, strict=True)]
    first = made[0]
    for term, loss in zip(losses[1:], made[1:], strict=True):
        if isinstance(loss, InfoNCE) and isinstance(first, InfoNCE) and "temperature" not in term.options:
            loss.temperature = first.temperature
    if len(losses) == 1 and losses[0].weight == 1:
        return first
    try:
        return Total([(term.weight, loss) for term, loss in zip(losses, made, strict=True)])
    except ValueError as error:
        raise LossError(f"{' + '.join(term.name for term in losses)}: {error}") from error


def _is(term: Term, kind: type) -> bool:
    """Whether a term's name is one of a kind of part or loss; raises LossError for an unknown name."""
    names = list_losses()
    if term.name not in names:
        raise LossError(f"no loss is called {term.name!r}; {what_there_is(term.name, names)}")
    maker, _ = find_loss(term.name)
    return isinstance(maker, type) and issubclass(maker, kind)


def _made(term: Term, *inner: Loss, parts: Sequence[Term] = ()) -> Loss | Part:
    """The loss, wrapper or part of a term, with parts of its own."""
    maker, alone = find_loss(term.name)
    made = [_part(part) for part in parts]
    try:
        options = _named(term, maker, given=len(inner))
        if alone is None:
            check_options(maker, options, given=("inner", "parts"))
            loss = maker(*inner, **options, **({"parts": made} if made else {}))
        else:
            loss = _standing_alone(maker, options, alone, made)
        check_block(getattr(loss, "block", None))
        return loss
    except (TypeError, ValueError) as error:
        raise LossError(f"{' + '.join([term.name, *(part.name for part in parts)])}: {error}") from error


def _standing_alone(maker: Any, options: dict[str, Any], alone: dict[str, Any], parts: Sequence[Part]) -> InfoNCE:
    """InfoNCE with a part that is written without it: its options are those of both."""
    own = inspect.signature(maker).parameters
    check_options(maker, options, given=("parts",), more=InfoNCE)
    mine = {name: value for name, value in options.items() if name in own}
    rest = {name: value for name, value in options.items() if name not in own}
    loss = InfoNCE(**{**alone, **rest}, parts=[maker(**mine), *parts])
    if rest.get("learn") and "temperature" not in rest:  # it begins at the checkpoint's own, if that has one
        loss.temperature.named = False
    return loss


def _part(term: Term) -> Part:
    """A part beside the loss that it is of."""
    maker, _ = find_loss(term.name)
    try:
        options = _named(term, maker)
        own = inspect.signature(maker).parameters
        for option in options:
            if option not in own and option in inspect.signature(InfoNCE).parameters:
                raise ValueError(f"{option} is an option of infonce: write infonce({option}=…) + {term.name}")
        check_options(maker, options)
        return maker(**options)
    except (TypeError, ValueError) as error:
        raise LossError(f"{term.name}: {error}") from error


def _takes(term: Term) -> tuple[type, ...]:
    """Kinds of parts that the loss of a term takes."""
    maker, alone = find_loss(term.name)
    return InfoNCE.takes if alone is not None else getattr(maker, "takes", ())


def _misfit(part: Term, loss: Term) -> str:
    """That a part is of no loss like that of a term."""
    kinds = " and ".join(f"a {kind.__name__.lower()}" for kind in _takes(loss))
    return (
        f"{part.name} does not fit: it changes an InfoNCE, and {loss.name} takes no part{kinds and f' but {kinds}'}; write "
        f"infonce + {part.name} + {loss.name}"
    )


def _named(term: Term, maker: Any, given: int = 0) -> dict[str, Any]:
    """The options of a term, with the values that stand without a name under that of the first; where that is a list,
    several stand for its entries.
    """
    if not term.values:
        return term.options
    name = list(inspect.signature(maker).parameters)[given]
    if name in term.options:
        raise ValueError(f"{name} is given twice: {term.values[0]!r} and {term.options[name]!r}")
    whole = dict(term.options)
    try:
        one = term.values[0] if len(term.values) == 1 else list(term.values)
        check_options(maker, {name: one})
    except ValueError as error:
        if len(term.values) > 1:
            raise ValueError(f"only the first option, {name}, may stand without its name") from error
        one = list(term.values)  # of a list the only entry
        try:
            check_options(maker, {name: one})
        except ValueError:
            raise error from None
    return {name: one, **whole}


def _split(text: str) -> tuple[str, str | None]:
    """At the first colon outside brackets."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == ":" and depth == 0:
            return text[:place], text[place + 1 :]
    return text, None


# ---------------------------------------------------------------------------------------------------- what there is


def describe_losses() -> list[tuple[str, str]]:
    """How each loss and part is written, and what it does in a line."""
    lines = []
    for name in list_losses():
        maker, alone = find_loss(name)
        kind = maker if isinstance(maker, type) else object
        written = f"… + {name}" if alone is not None or issubclass(kind, Wrapper) else name
        lines.append((written, str(maker.__doc__).strip().splitlines()[0]))
    return lines


def losses_reading(name: str, trains: str = "embedders") -> list[str]:
    """How the losses of a kind of model are written that read a named tensor of the batch (`Loss.reads`); wrappers read what
    they wrap. Of "scores" a reranker's `labels` are made.
    """
    name = "labels" if (name, trains) == ("scores", "rerankers") else name
    written = []
    for known in list_losses():
        maker, _ = find_loss(known)
        if isinstance(maker, type) and issubclass(maker, Wrapper):
            continue
        try:
            loss: Any = build_loss(known)
        except LossError:  # it has no defaults
            loss = maker
        if loss.trains != trains:
            continue
        if name in loss.reads | loss.may_read:
            written.append(known)
        elif name in loss.variants:
            written.append(loss.variants[name])
    return written
