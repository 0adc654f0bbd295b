"""What every loss is, its temperature, and the names of losses and of their parts."""

import math
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from zoo.arguments import checked, one_of, optional, text
from zoo.registry.plugins import discover, ours_first

from ..errors import LossError

_LARGEST_SCALE = 100.0  # as in CLIP: a higher one makes training unstable
_SMALLEST_DIVISOR = 1e-3
_COLDEST = 1e-30  # a temperature whose inverse float32 still holds


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
            `labels` `(B, 1 + M)`: of a reranker's candidates (see `RerankLoss`);
            `progress`: share of the run that is done, 0 to 1, a float.
        may_read: names that it uses where the data have them.
        all_positives: whether all positives of a pair are to be targets, the further ones after its hard negatives;
            else one of them is drawn for each step.
        hard_negatives: whether it looks at them. needs_negatives: whether a query without any teaches it nothing.
        variants: how it is written to read what it does not by default: {"teacher_scores": "distillation(space='group')"}.
        grades: how many different `scores` it tells apart, such as 2 for right and wrong; None for any number.
        layers: encoder blocks whose embeddings it compares, counted from 1, or "all"; then queries are `(B, L, D)` and
            targets `(B + B·M, L, D)`, the last layer last, before they are made unit length. () is the final embedding alone.
        similarities: of the models that it trains (`ModelSpec.similarity`): "cosine", whose vectors are of unit length, and
            "dot" where its maths also holds for vectors with norms.
        teachers: the same of the model whose embeddings it reads.
        of_model: whether its temperature is the model's own: where one begins that nobody named, and what the model keeps
            when the run is over. Of the losses that compare every query with every target.
        teacher: the teacher that it names, as `load_model` opens it; "" leaves that to the recipe.
        takes: kinds of parts that it may be built with (`parts.py`), which are then its argument `parts`.
        trains: "embedders", or "rerankers" (`RerankLoss`).
    """

    trains: Literal["embedders", "rerankers"] = "embedders"

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
    teacher: str = ""
    takes: tuple[type, ...] = ()

    def take_after(self, others: Iterable[Any]) -> None:
        """Reads what these losses and parts read, and asks of data, model and teacher what any of them asks.

        Raises:
            LossError: they name several teachers, compare different layers, or train different models.
        """
        others = list(others)
        kinds = sorted({other.trains for other in others if isinstance(other, Loss)})
        if len(kinds) > 1:
            raise LossError(f"losses of one stage train one model, and these train {' and '.join(kinds)}")
        self.trains = kinds[0] if kinds else self.trains
        for name in ("reads", "may_read"):
            setattr(self, name, frozenset().union(*(getattr(other, name) for other in others)))
        for name in ("all_positives", "hard_negatives", "needs_negatives"):
            setattr(self, name, any(getattr(other, name) for other in others))
        for name in ("similarities", "teachers"):
            setattr(self, name, getattr(self, name).intersection(*(getattr(other, name) for other in others)))
        self.grades = min((other.grades for other in others if other.grades is not None), default=None)
        named = list(dict.fromkeys(other.teacher for other in others if other.teacher))
        if len(named) > 1:
            raise LossError(f"a stage has one teacher, and its losses name several: {' and '.join(named)}")
        self.teacher = "".join(named)
        layers = list(dict.fromkeys(other.layers for other in others if isinstance(other, Loss)))
        if len(layers) > 1:
            raise LossError("losses of one stage must compare the same layers; give each a stage of its own")
        self.layers = layers[0] if layers else ()

    def of(self, part: int) -> "Loss":
        """The loss of a batch; there are several in a stage with one for each kind of data (`ByData`)."""
        return self

    @property
    def tells_empty(self) -> bool:
        """Whether it leaves out the places that a query with fewer negatives than others leaves empty; a reranker's do."""
        return self.trains == "rerankers" or bool({"right", "empty"} & (self.reads | self.may_read))

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

Maker = Callable[..., Any]


class _Registry:
    makers: ClassVar[dict[str, Maker]] = {}
    alone: ClassVar[dict[str, dict[str, Any]]] = {}


@checked(name=text)
def register_loss(name: str) -> Callable[[type], type]:
    """Names a loss, or a wrapper of one, for recipes and `--loss`."""

    def register(cls: type) -> type:
        ours_first(cls.__module__, __package__)
        if name in _Registry.makers:
            raise ValueError(f"two losses are called {name!r}")
        _Registry.makers[name] = cls
        return cls

    return register


@checked(name=text)
def register_loss_part(name: str, **alone: Any) -> Callable[[type], type]:
    """Names a mask, a weight or a mixer; `alone` are the options of InfoNCE where the part is written without it."""

    def register(cls: type) -> type:
        register_loss(name)(cls)
        _Registry.alone[name] = alone
        return cls

    return register


@checked(trains=optional(one_of("embedders", "rerankers")))
def list_losses(trains: Literal["embedders", "rerankers"] | None = None) -> list[str]:
    """Names of all losses and parts; a file dropped into `training/losses` is enough, or a package with an entry point.

    Args:
        trains: those of one kind of model alone.
    """
    discover("losses", __package__)
    makers = sorted(_Registry.makers.items())
    return [name for name, maker in makers if trains in (None, getattr(maker, "trains", "embedders"))]


def find_loss(name: str) -> tuple[Maker, dict[str, Any] | None]:
    """What makes a loss or a part of this name, and the options of InfoNCE of a part that stands alone; None for a loss."""
    return _Registry.makers[name], _Registry.alone.get(name)
