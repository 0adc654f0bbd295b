"""What every loss is, how losses are named, and how a row-wise loss is computed in little memory."""

import math
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from zoo.arguments import checked, flag, text
from zoo.registry.plugins import discover, ours_first

from ..errors import LossError
from ..naming import check_options, read_call, what_there_is

_LARGEST_SCALE = 100.0  # as in CLIP: a higher one makes training unstable
_SMALLEST_DIVISOR = 1e-3
_COLDEST = 1e-30  # a temperature whose inverse float32 still holds
_BLOCK_ENTRIES = 2**20  # similarities in memory at once: 4 MB in float32


class Loss(nn.Module):
    """Base of all losses: `(queries, targets)` and named tensors of the batch → one number.

    Row i of `targets` `(B + B·M, D)` is the positive of query i `(B, D)`; row `B + i·M + k` is its hard negative k. Of a
    query with fewer than M the last ones are empty places, any vector: `right` spares them, and `empty` tells them. A loss
    that reads neither is refused such data. A loss knows tensors, never a model.

    Attributes:
        reads: names of what it needs beyond queries and targets. The trainer gives these, and refuses data without:
            `right`, a `zoo.inputs.identity.Right`: which targets are right for which queries, so never negatives; it is
            given where anything is but each query's own positive;
            `empty` `(B + B·M,)` bool: places without a target; given where there are some;
            `ignore` `(B, B + B·M)` bool: further targets that are no fair negatives of a query;
            `scores` `(B,)`: graded similarity of the pair, 0 to 1;
            `teacher_queries` `(B, D')`, `teacher_targets` `(B + B·M, D')`: a frozen model's unit vectors of the items;
            `teacher_scores` `(B, 1 + M)`: a reranker's scores of the positive, then of the own negatives; -inf for
            an empty place;
            `progress`: share of the run that is done, 0 to 1, a float.
        may_read: names that it uses where the data have them.
        all_positives: whether all positives of a pair are to be targets, the further ones after its hard negatives;
            else one of them is drawn for each step.
        hard_negatives: whether it looks at them. needs_negatives: whether a query without any teaches it nothing.
        variants: how it is written to read what it does not by default: {"teacher_scores": "distillation(space='group')"}.
        grades: how many different `scores` it tells apart, such as 2 for right and wrong; None for any number.
        layers: encoder blocks whose embeddings it compares, counted from 1, or "all"; then queries are `(B, L, D)` and
            targets `(B + B·M, L, D)`, the last layer last. () is the final embedding alone.
        similarities: of the models that it trains (`ModelSpec.similarity`): "cosine", whose vectors are of unit length, and
            "dot" where its maths also holds for vectors with norms.
        teachers: the same of the model whose embeddings it reads.
        of_model: whether its temperature is the model's own: where one begins that nobody named, and what the model keeps
            when the run is over. Of the losses that compare every query with every target.
    """

    reads: frozenset[str] = frozenset()
    may_read: frozenset[str] = frozenset()
    all_positives: bool = False
    hard_negatives: bool = True
    needs_negatives: bool = False
    variants: ClassVar[dict[str, str]] = {}
    grades: int | None = None
    layers: tuple[int, ...] | Literal["all"] = ()
    similarities: frozenset[str] = frozenset({"cosine"})
    teachers: frozenset[str] = frozenset({"cosine", "dot"})
    of_model: bool = False

    def of(self, part: int) -> "Loss":
        """The loss of a batch; there are several in a stage with one for each kind of data (`ByData`)."""
        return self

    def check_negatives(self, count: int) -> None:
        """Raises an error where so many places for hard negatives a query are too few to compute it."""

    def used(self) -> list["Loss"]:
        """Itself, or of several those that some data have (`ByData`)."""
        return [self]

    def forward(self, queries: Tensor, targets: Tensor, **extras: Any) -> Tensor:
        """The mean loss over the queries, in nats where it is a likelihood."""
        raise NotImplementedError(f"{type(self).__name__} must define forward")


class Temperature(nn.Module):
    """The learned temperature of a loss: its inverse kept as a logarithm (CLIP, Radford et al., 2021), or itself.

    Args:
        temperature: at the start. learn: whether it is trained; it then falls to 0.01 at the least, as in CLIP, or to where
            it began.
        divisor: train the temperature itself (U-MARVEL, Li et al., 2025), not the logarithm; it falls to 0.001.
        named: whether somebody chose the number. One that nobody chose gives way to the checkpoint's own or to where the
            stage before ended (see `zoo.training.temperatures`).

    Raises:
        ValueError: no number above 0, or one whose inverse no float32 holds.
    """

    def __init__(self, temperature: float, learn: bool, divisor: bool = False, *, named: bool = True) -> None:
        super().__init__()
        if not isinstance(temperature, int | float) or not temperature > 0:
            raise ValueError(f"temperature must be above 0, not {temperature!r}")
        if not _COLDEST <= temperature <= 1 / _COLDEST:
            raise ValueError(f"temperature must be a number such as 0.05, not {temperature}")
        self.learn, self.named = learn, named
        self.largest = math.log(1 / _SMALLEST_DIVISOR if divisor else _LARGEST_SCALE)  # logarithm of the scale
        start = torch.tensor(float(temperature) if divisor else -math.log(temperature))
        self.register_parameter("divisor" if divisor else "log_scale", nn.Parameter(start, requires_grad=learn))
        self.largest = max(self.largest, self.log)

    @property
    def scale(self) -> Tensor:
        """What similarities are multiplied by."""
        return 1 / self.divisor if hasattr(self, "divisor") else self.log_scale.exp()

    @property
    def log(self) -> float:
        """Logarithm of the scale, exact where it is kept as one."""
        return -math.log(self.divisor.item()) if hasattr(self, "divisor") else self.log_scale.item()

    @torch.no_grad()
    def begin(self, log: float) -> None:
        """Starts from the logarithm of a scale, which may lie above the limit: that of SigLIP's checkpoints does."""
        self.largest = max(self.largest, log)
        if hasattr(self, "divisor"):
            self.divisor.fill_(math.exp(-log))
        else:
            self.log_scale.fill_(log)

    @torch.no_grad()
    def limit(self) -> None:
        """Keeps the temperature in its range; after a step, not in the loss, where the gradient would die at the limit."""
        if hasattr(self, "divisor"):
            self.divisor.clamp_(min=math.exp(-self.largest))
        else:
            self.log_scale.clamp_(max=self.largest)


def without_empty(targets: Tensor, empty: Tensor | None) -> Tensor:
    """The rows of `(N, ...)` that stand for a target."""
    return targets if empty is None else targets[~empty]


def check_layout(queries: Tensor, targets: Tensor) -> int:
    """Hard negatives per query M; raises ValueError where `targets` is no `(B + B·M, D)`."""
    count = len(queries)
    if count == 0 or len(targets) < count or len(targets) % count:
        raise ValueError(f"{count} queries need {count} positives and as many negatives each, not {len(targets)} rows")
    return len(targets) // count - 1


# ---------------------------------------------------------------------------------------------------- names

Maker = Callable[..., Loss]


class _Registry:
    makers: ClassVar[dict[str, Maker]] = {}
    wrappers: ClassVar[set[str]] = set()


@checked(name=text, wraps=flag)
def register_loss(name: str, *, wraps: bool = False) -> Callable[[type], type]:
    """Names a loss for recipes and `--loss`; `wraps` says that its first argument is another loss."""

    def register(cls: type) -> type:
        ours_first(cls.__module__, __package__)
        if name in _Registry.makers:
            raise ValueError(f"two losses are called {name!r}")
        _Registry.makers[name] = cls
        if wraps:
            _Registry.wrappers.add(name)
        return cls

    return register


def list_losses() -> list[str]:
    """Names of all losses; a file dropped into `training/losses` is enough, or a package with an entry point."""
    discover("losses", __package__)
    return sorted(_Registry.makers)


def describe_losses() -> list[tuple[str, str]]:
    """How each loss is written, and what it does in a line."""
    lines = []
    for name in list_losses():
        written = f"{name}:…" if name in _Registry.wrappers else name
        lines.append((written, str(_Registry.makers[name].__doc__).strip().splitlines()[0]))
    return lines


def losses_reading(name: str) -> list[str]:
    """How the losses are written that read a named tensor of the batch (`Loss.reads`); wrappers read what they wrap."""
    written = []
    for known in list_losses():
        if known in _Registry.wrappers:
            continue
        try:
            loss: Any = build_loss(known)
        except LossError:  # it has no defaults
            loss = _Registry.makers[known]
        if name in loss.reads | loss.may_read:
            written.append(known)
        elif name in loss.variants:
            written.append(loss.variants[name])
    return written


def build_loss(text: str) -> Loss:
    """A loss from how a recipe writes it: `infonce`, `infonce(temperature=0.05)`, `matryoshka(dims=[64, 32]):infonce`.

    A wrapper is followed by a colon and the loss that it wraps.

    Raises:
        LossError: no such name or option.
    """
    names = list_losses()
    call, rest = _split(text)
    try:
        name, options = read_call(call)
    except ValueError as error:
        raise LossError(f"{error}; write a loss like infonce(temperature=0.05)") from error
    if name not in names:
        raise LossError(f"no loss is called {name!r}; {what_there_is(name, names)}")
    if (name in _Registry.wrappers) != (rest is not None):
        example = f"{name}:infonce" if rest is None else name
        raise LossError(f"{name} {'wraps another loss' if rest is None else 'wraps none'}: write {example!r}")
    inner = () if rest is None else (build_loss(rest),)
    try:
        check_options(_Registry.makers[name], options, given=("inner",) if inner else ())
        loss = _Registry.makers[name](*inner, **options)
        _check_block(getattr(loss, "block", None))
        return loss
    except (TypeError, ValueError) as error:
        raise LossError(f"{name}: {error}") from error


def _split(text: str) -> tuple[str, str | None]:
    """At the first colon outside brackets."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == ":" and depth == 0:
            return text[:place], text[place + 1 :]
    return text, None


# ---------------------------------------------------------------------------------------------------- row blocks

RowLoss = Callable[..., Tensor | Iterable[Tensor]]


def in_row_blocks(
    loss: RowLoss, rows: tuple[Tensor, ...], shared: tuple[Tensor, ...], block: int | None = None
) -> Tensor:
    """Sum of a row-wise loss, computed a block of rows at a time: memory grows with the rows, never with their square.

    The gradient is formed in the forward pass, while the block's similarities are there, and is exact: nothing is
    computed twice. There is no second derivative.

    Args:
        loss: `loss(start, *rows, *shared)` → scalar sum over the block whose first row is number `start`; or a
            generator of scalars that add up to it, each dealt with before the next is computed.
        rows: `(B, ...)` each, cut into blocks; those after the first may be longer and are cut off at B.
        shared: seen whole by every block; the very tensors of `rows` may be among them.
        block: rows at once; by default what keeps about a million entries of the first of `shared` in memory.
    """
    _check_block(block)
    if block is None:
        block = max(16, _BLOCK_ENTRIES // max(1, len(shared[0])))
    return _RowBlocks.apply(loss, block, len(rows), *rows, *shared)


def _check_block(block: int | None) -> None:
    if block is not None and block < 1:
        raise ValueError(f"block must be 1 row or more, not {block}")


class _RowBlocks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: RowLoss, block: int, cut: int, *tensors: Tensor) -> Tensor:
        wanted = ctx.needs_input_grad[3:]
        # A tensor that comes twice has one gradient: at these sizes each costs as much as the vectors themselves.
        first = [next(i for i, other in enumerate(tensors) if other is tensor) for tensor in tensors]
        grads = [
            torch.zeros_like(t) if need and first[i] == i else None
            for i, (t, need) in enumerate(zip(tensors, wanted, strict=True))
        ]
        whole = [t.detach().requires_grad_(need) for t, need in zip(tensors[cut:], wanted[cut:], strict=True)]
        total, count = tensors[0].new_zeros(()), len(tensors[0])
        for start in range(0, count, block):
            part = slice(start, min(start + block, count))
            mine = [t[part].detach().requires_grad_(n) for t, n in zip(tensors[:cut], wanted[:cut], strict=True)]
            leaves = [(i, leaf) for i, leaf in enumerate((*mine, *whole)) if leaf.requires_grad]
            with torch.enable_grad():
                values = loss(start, *mine, *whole)
                for value in (values,) if isinstance(values, Tensor) else values:
                    total += value.detach()
                    if not leaves or not value.requires_grad:
                        continue
                    steps = torch.autograd.grad(value, [leaf for _, leaf in leaves], allow_unused=True)
                    with torch.no_grad():
                        for (i, _), step in zip(leaves, steps, strict=True):
                            if step is not None:
                                (grads[first[i]][part] if i < cut else grads[first[i]]).add_(step)
                    del value, steps
        ctx.grads = grads
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, None, *(None if grad is None else grad * upstream for grad in ctx.grads))
