"""Recipe: every number of a training run in one frozen dataclass; a run of several stages is a tuple of them."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo.bulk.limit import Limit
from zoo.errors import ZooError
from zoo.regions import NAMES as REGION_RULES
from zoo.strangers import schema

from .adapters import Lora
from .errors import RecipeError
from .spec_strings import is_number

if TYPE_CHECKING:
    from zoo.embedder import Embedder
    from zoo.inputs.identity import Answers
    from zoo.tables.pairs import Pair, PairTable

    from .dataloader import Feed
    from .samplers import BatchSampler

MOST_STAGES = 100
_POINTS = 20  # of a curve, at least
# Beyond these a number is a slip, or meant to fill the memory of whoever goes on with the run.
_MOST = {
    "steps": 10**12,
    "batch_size": 2**24,
    "micro_batch": 2**24,
    "negatives": 10_000,
    "random_negatives": 10_000,
    "combiner": 2**16,
    "views": 10_000,
    "seed": 2**40,
    "warmup": 10**12,
    "epochs": 10**9,
}


@dataclass(frozen=True)
class Recipe:
    """One stage of `zoo.training.train`.

    Attributes:
        model: name of the model that is trained, for the record.
        name: what the stage is called in folders and reports.
        loss: as `zoo.training.losses.build_loss` reads it: "infonce(temperature=0.05)", "infonce + focal(2) + matryoshka(64)".
        losses: losses of some data sets in place of `loss`, by shell pattern: (("sts*", "cosent"),). A batch then has rows
            of one loss alone, so that the sampler must keep them apart (homogeneous).
        steps: optimiser steps; None means `epochs` passes over the pairs.
        batch_size: pairs of one step, over all processes: the in-batch negatives.
        micro_batch: items of one forward pass; a batch of more is cached (GradCache: one more forward pass, memory that
            does not grow with the batch). None keeps every activation; when memory runs out it is set by itself.
        lr: highest learning rate. schedule: what follows the warm-up. warmup: steps, or a share of the run below 1.
        betas, eps: of AdamW: how much of the running means of the gradient and of its square is kept, and what is added to the
            root of the latter. The second beta is CLIP's; torch's own is 0.999.
        weight_decay: of matrices and kernels; vectors (biases, norms) are not decayed. clip: largest gradient norm.
        rates: factors on lr by pattern: (("text", 0.1), ("image.head", 10.0)); see `zoo.training.optim`.
        layer_decay: factor on lr from one block of a backbone to the one below it.
        freeze: patterns of what does not learn: ("text",), ("image.encoder",), ("*.bias",). A module of which nothing learns
            works as in evaluation: its running statistics stand still, and it draws no dropout.
        still_norms: batch normalisation keeps its running statistics: right for small batches and for fine-tuning. Where
            its weights are frozen, and beside adapters, it keeps them anyway.
        lora: train low-rank adapters in place of the backbones' weights.
        combiner: width of a `zoo.fusion.Combiner` that learns to fuse image and text of models that read them apart;
            0 leaves the model's own rule.
        region: how regions of images are read, by the name of a rule of `zoo.regions`, which the trained model keeps; "" for the
            model's own.
        ema: decay of the running average of the weights, which is what the run saves; 0 saves the last weights.
        precision: of the forward pass; bf16 and fp16 are for GPUs, on most CPUs they are slower.
        sampler: which pairs share a batch, as `zoo.training.samplers.build_sampler` reads it.
        negatives: hard negatives of every pair; None takes as many as most pairs have that have some. Of more the first
            are taken, of fewer those that there are.
        random_negatives: of a reranker: documents of other rows beside each query and its hard negatives, drawn anew in every step;
            None takes 4 where the data have no hard negatives, grades or teacher's scores, and none where they have.
        without_negatives: whether pairs without a hard negative, where others have some, learn from those of the others
            ("keep"), or are left out ("drop").
        datasets: shell patterns of the data sets that this stage learns from; empty means all.
        augment: as `zoo.training.augmentation` reads it; "" leaves the items as they are.
        views: versions of every item that `augment` makes, the first of them the item unchanged; steps draw among them, and what
            does not learn is computed once for each. 0 makes a new version in every step.
        query_prompt, document_prompt: text put before queries and targets; "" for the model's own by role.
        query_prompt_name, document_prompt_name: a prompt of the model's by its name, in place of its text.
        teacher: name of a frozen model whose vectors the loss compares with (guided, distillation, adaptive_margin), or of a
            reranker whose scores another reranker learns (score_distillation); "itself" is the model as it is when the stage
            begins. A loss may name it too: "infonce + guided(zoo-mini)".
        cache: keep the vectors of towers that do not learn on disk, and what a head reads that learns alone, so that they are
            computed once.
        holdout: pairs kept back for the report's figures, where no column of splits says which: a share below 1, or a
            number; 0 for none.
        keep_leaks: leave held-out pairs that also stand in the training data among the held-out ones.
        evaluate_every: steps between the rankings of held-out pairs (at most 1,000 of them) during the run, 0 for none. None
            takes as many, up to 20, as are about 3.5 % of the run's work by the number of items, over fewer pairs (no fewer
            than 30) where less than three would fit.
        evaluate_minutes: rank them whenever so many minutes have passed, in place of the default or beside evaluate_every;
            which steps that are depends on the clock.
        patience: stop after so many evaluations without a higher figure; None and 0 never do.
        keep: what the stage ends with: "best" is the checkpoint with the highest figure, of equal ones the later, and "last"
            the last; the two are one where nothing is ranked during the run.
        keep_checkpoints: of a finished run: the "last" alone, from which it can be lengthened, "all", or "none".
        max_bad: inputs that something is wrong with (broken lines, empty cells, missing or unreadable files) that are set
            aside and listed in skipped.jsonl before the run stops: a number, or a share of all inputs, 0.01 or "1%". The
            limit itself is allowed, and so is one input by any share.
        checkpoint_every: steps. log_every: steps at most, fewer where the curves would have less than 20 points.
        save_as: type of the finished model's stored weights: float32, float16 or bfloat16.
        seed: of everything random. The same recipe on the same machine gives the same bits.
    """

    model: str = ""
    name: str = "train"
    loss: str = "infonce"
    losses: tuple[tuple[str, str], ...] = ()
    steps: int | None = None
    epochs: float = 1.0
    batch_size: int = 64
    micro_batch: int | None = None
    lr: float = 1e-4
    schedule: Literal["cosine", "linear", "constant", "wsd"] = "cosine"
    warmup: float = 0.1
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    weight_decay: float = 0.05
    clip: float = 1.0
    rates: tuple[tuple[str, float], ...] = ()
    layer_decay: float = 1.0
    freeze: tuple[str, ...] = ()
    still_norms: bool = False
    lora: Lora | None = None
    combiner: int = 0
    region: str = ""
    ema: float = 0.0
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    sampler: str = "shuffled"
    negatives: int | None = None
    random_negatives: int | None = None
    without_negatives: Literal["keep", "drop"] = "keep"
    datasets: tuple[str, ...] = ()
    augment: str = ""
    views: int = 0
    query_prompt: str = ""
    document_prompt: str = ""
    query_prompt_name: str = ""
    document_prompt_name: str = ""
    teacher: str = ""
    cache: bool = True
    holdout: float = 0.0
    keep_leaks: bool = False
    evaluate_every: int | None = None
    evaluate_minutes: float | None = None
    patience: int | None = None
    keep: Literal["best", "last"] = "best"
    keep_checkpoints: Literal["none", "last", "all"] = "last"
    max_bad: float | str = 0.01
    checkpoint_every: int = 200
    log_every: int = 10
    save_as: Literal["float32", "float16", "bfloat16"] = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.name or len(self.name) > 100 or not self.name.isprintable() or set(self.name) & set('/\\:*?"<>|'):
            raise RecipeError(f"a stage is called like its folder; {self.name!r:.60} is no name of one")
        if unknown := {self.schedule} - {"cosine", "linear", "constant", "wsd"}:
            raise RecipeError(
                f"{self.name}: unknown schedule {unknown.pop()!r}; there are cosine, linear, constant, wsd"
            )
        if self.precision not in ("float32", "bf16", "fp16"):
            raise RecipeError(f"{self.name}: precision must be float32, bf16 or fp16, not {self.precision!r}")
        if self.save_as not in ("float32", "float16", "bfloat16"):
            raise RecipeError(f"{self.name}: save_as must be float32, float16 or bfloat16, not {self.save_as!r}")
        if self.region and self.region not in REGION_RULES:
            raise RecipeError(f"{self.name}: region must be one of {', '.join(REGION_RULES)}, not {self.region!r}")
        for field, known in (("keep", ("best", "last")), ("keep_checkpoints", ("none", "last", "all"))):
            if getattr(self, field) not in known:
                raise RecipeError(f"{self.name}: {field} must be {' or '.join(known)}, not {getattr(self, field)!r}")
        for field in ("steps", "batch_size", "micro_batch", "checkpoint_every", "log_every"):
            value = getattr(self, field)
            if value is not None and (type(value) is not int or value < 1):
                raise RecipeError(f"{self.name}: {field} must be a whole number from 1, not {value!r}")
        for field in ("lr", "epochs", "clip", "layer_decay", "eps", "warmup", "weight_decay", "holdout", "ema"):
            if not is_number(getattr(self, field)):
                raise RecipeError(f"{self.name}: {field} must be a finite number, not {getattr(self, field)!r}")
        for field in ("lr", "epochs", "clip", "layer_decay", "eps"):
            if not getattr(self, field) > 0:
                raise RecipeError(f"{self.name}: {field} must be above 0, not {getattr(self, field)!r}")
        try:
            Limit.parse(self.max_bad)
        except ZooError as error:
            raise RecipeError(f"{self.name}: {error}") from None
        if self.without_negatives not in ("keep", "drop"):
            raise RecipeError(f"{self.name}: without_negatives must be keep or drop, not {self.without_negatives!r}")
        for field in ("warmup", "weight_decay", "holdout"):
            if not getattr(self, field) >= 0:
                raise RecipeError(f"{self.name}: {field} must not be negative, not {getattr(self, field)!r}")
        if self.evaluate_minutes is not None and not self.evaluate_minutes > 0:
            raise RecipeError(f"{self.name}: evaluate_minutes must be above 0, not {self.evaluate_minutes!r}")
        for field in ("seed", "negatives", "random_negatives", "combiner", "evaluate_every", "patience", "views"):
            value = getattr(self, field)
            if value is not None and (type(value) is not int or value < 0):
                raise RecipeError(f"{self.name}: {field} must be a whole number from 0, not {value!r}")
        for role in ("query", "document"):
            text, name = getattr(self, f"{role}_prompt"), getattr(self, f"{role}_prompt_name")
            if text and name:
                raise RecipeError(
                    f"{self.name}: {role}_prompt {text!r:.60} and {role}_prompt_name {name!r:.60}: give one"
                )
        for field, most in _MOST.items():
            if (value := getattr(self, field)) is not None and value > most:
                raise RecipeError(f"{self.name}: {field} must be {most:,} at most, not {value!r:.60}")
        if self.views and not self.augment:
            raise RecipeError(
                f"{self.name}: {self.views} views are versions that augment makes; say how: augment='crop'"
            )
        self._check_losses()
        for field in ("freeze", "datasets"):
            if isinstance(value := getattr(self, field), str):
                raise RecipeError(f"{self.name}: {field} is a tuple of patterns, such as ({value!r},), not {value!r}")
        if any(isinstance(entry, str) or len(entry) != 2 for entry in self.rates):
            raise RecipeError(f'{self.name}: rates are written (("text", 0.1), ...), not {self.rates!r}')
        for pattern, factor in self.rates:
            if not (is_number(factor) and factor > 0):
                raise RecipeError(
                    f"{self.name}: rates must be above 0, not {factor!r} for {pattern!r}; to stop it from learning, freeze it"
                )
        object.__setattr__(self, "betas", _betas(self.name, self.betas))
        if not 0 <= self.ema < 1:
            raise RecipeError(f"{self.name}: ema must be from 0 to below 1, not {self.ema!r}")
        if self.batch_size < 2:
            raise RecipeError(f"{self.name}: batch_size 1 leaves no in-batch negatives; take at least 2")

    def _check_losses(self) -> None:
        pairs = [tuple(entry) for entry in self.losses if not isinstance(entry, str)]
        if len(pairs) < len(self.losses) or any([*map(type, pair)] != [str, str] or not all(pair) for pair in pairs):
            raise RecipeError(
                f"{self.name}: losses are written ((pattern of data sets, loss), ...), not {self.losses!r}"
            )
        object.__setattr__(self, "losses", tuple(pairs))

    @property
    def checkpoints_kept(self) -> int | None:
        """How many checkpoints there are while the run goes; None for all."""
        return None if self.keep_checkpoints == "all" else 2  # the one before, should the newest be damaged

    @property
    def log_steps(self) -> int:
        """Steps between the points of the curves: at least 20 of them, each step of a shorter run."""
        return min(self.log_every, max(1, (self.steps or 1) // _POINTS))

    @property
    def warmup_steps(self) -> int:
        """Steps until the highest rate is reached."""
        return round(self.warmup * (self.steps or 0)) if self.warmup < 1 else round(self.warmup)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and dictionaries, ready for JSON."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> "Recipe":
        """Reads `to_dict`, of a recipe of this kind or of one with more fields; raises RecipeError naming unknown fields, and
        values of other types.
        """
        kind, facts = _kind_of(cls, facts)
        facts = dict(schema.check(facts, kind, "the recipe", RecipeError))
        for name in ("freeze", "datasets"):
            facts[name] = tuple(facts.get(name, ()))
        facts["losses"] = tuple((pattern, loss) for pattern, loss in facts.get("losses", ()))
        facts["rates"] = tuple((pattern, factor) for pattern, factor in facts.get("rates", ()))
        return kind(**kind._read(facts))

    @classmethod
    def _read(cls, facts: dict[str, Any]) -> dict[str, Any]:
        """The fields that are dataclasses, of plain dictionaries."""
        return {**facts, "lora": part_of(Lora, facts["lora"])} if facts.get("lora") else facts

    # ------------------------------------------------------------------------- what a kind of recipe does besides the steps

    def prepare(self, model: "Embedder", pairs: "Sequence[Pair] | PairTable", folder: Path) -> None:
        """What comes before the first step of a stage; nothing in the usual kind. `folder` is the stage's."""

    @contextmanager
    def around(self, model: "Embedder") -> "Iterator[Callable[[Any], None] | None]":
        """While the steps run; yields what is to be done with the feed after the last, None for nothing."""
        yield None

    def feed(
        self, model: "Embedder", pairs: "Sequence[Pair] | PairTable", sampler: "BatchSampler", answers: "Answers"
    ) -> "Feed | None":
        """Batches of its own (see `training/dataloader.py: Feed`), None for those of any pairs."""
        return None


# Fields that the recipe.json of an earlier run has under another name.
_RENAMED = {"pictures": "images"}


def _kind_of(cls: type[Recipe], facts: Any) -> tuple[type[Recipe], Any]:
    """The kind of recipe whose fields are set, and the facts without those that others have and this does not use."""
    if not isinstance(facts, dict):
        return cls, facts
    facts = {_RENAMED.get(name, name): value for name, value in facts.items()}
    own = {f.name for f in fields(cls)}
    for kind in cls.__subclasses__():
        more = {f.name: f.default for f in fields(kind) if f.name not in own}
        if any(name in facts and facts[name] != default for name, default in more.items()):
            return _kind_of(kind, facts)
        facts = {name: value for name, value in facts.items() if name not in more}
    if unknown := set(facts) - own:
        raise RecipeError(f"unknown fields of a recipe: {sorted(unknown)}")
    return cls, facts


def differences(one: Recipe, other: Recipe) -> list[str]:
    """Fields in which two recipes differ, sorted; a field that only one of the kinds has is None in the other."""
    left, right = one.to_dict(), other.to_dict()
    return sorted(name for name in left.keys() | right.keys() if left.get(name) != right.get(name))


def part_of(kind: type, facts: dict[str, Any]) -> Any:
    """A part of a recipe; what it says of a value that it cannot have is said of the recipe."""
    try:
        return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()})
    except ZooError:
        raise
    except ValueError as error:
        raise RecipeError(f"the recipe's {kind.__name__.lower()}: {error}") from error


def _betas(stage: str, value: Any) -> tuple[float, float]:
    """AdamW's two; raises RecipeError for anything else than two numbers from 0 to below 1."""
    good = isinstance(value, Sequence) and len(value) == 2 and all(isinstance(beta, int | float) for beta in value)
    if not good or not all(0 <= beta < 1 for beta in value):
        raise RecipeError(f"{stage}: betas must be two numbers from 0 to below 1, such as (0.9, 0.999), not {value!r}")
    return float(value[0]), float(value[1])


def stages_of(recipe: Recipe | Sequence[Recipe]) -> tuple[Recipe, ...]:
    """The stages of a run in order, with the teachers that their losses name; the stages' names must differ, as each has a
    folder of its own.

    Raises:
        RecipeError: no stage, two of one name, or a loss that names another teacher than the recipe. LossError: no such loss.
    """
    stages = (recipe,) if isinstance(recipe, Recipe) else tuple(recipe)
    names = [stage.name for stage in stages]
    if not stages or len(set(names)) < len(names):
        raise RecipeError(f"a run needs stages of different names, not {names}")
    return tuple(_with_teacher(stage) for stage in stages)


def _with_teacher(stage: Recipe) -> Recipe:
    from .losses.by_data import loss_of  # which loads torch

    named = loss_of(stage).teacher
    if named and stage.teacher not in ("", named):
        raise RecipeError(
            f"{stage.name}: the recipe's teacher is {stage.teacher}, and the loss {stage.loss} names {named}; name one"
        )
    return replace(stage, teacher=named) if named else stage
