"""train(): a dual tower on picture–text pairs, in one process, read from top to bottom."""

import copy
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from zoo.embedder import Embedder, Tower
from zoo.encoders.static import StaticText
from zoo.errors import ZooError

from .augment import augment
from .checkpoint import last_checkpoint, save_checkpoint
from .data import Pair, PairBatch, PairDataset, row_order
from .losses.infonce import InfoNCE
from .recipe import Recipe
from .regress import solve_second

_STRIDE = 1_000_003  # a prime, so that the random streams of two seeds do not meet


class DivergedError(ZooError):
    """The loss is no longer a number."""


class RecipeMismatchError(ZooError):
    """A folder holds a run of another recipe."""


def train(
    model: Embedder, pairs: Sequence[Pair], recipe: Recipe, out: Path, *, resume: bool = False, progress: bool = True
) -> Embedder:
    """Trains, writes checkpoints under `out/checkpoints` and the finished model into `out`.

    A resumed run gives the same bits as one that was never stopped: what is random in a step depends on the seed and
    the step alone.

    Args:
        model: changed in place. pairs: pictures and their texts. recipe: every number.
        out: folder of this run. resume: go on from its last whole checkpoint; without one, start.
        progress: show a bar with loss, items/s and time left.

    Raises:
        DivergedError: the loss became NaN or infinite. RecipeMismatchError: `out` holds a run of another recipe.
    """
    out = Path(out)
    state = _claim(out, recipe, resume)
    if recipe.distillation is not None:
        _learn_text(model, pairs, recipe, out)
    data = PairDataset(pairs, model, recipe.store_size)
    run = Run(model, recipe)
    if state is not None:
        run.load(state)
    bar = tqdm(
        total=recipe.steps, initial=run.step, desc=recipe.model, unit=" steps", disable=not progress, mininterval=5
    )
    while run.step < recipe.steps:
        torch.manual_seed(recipe.seed * _STRIDE + run.step)
        if (size := recipe.size_at(run.step)) is not None:
            data.shrink(size + size // 8)
        rows = row_order(len(data), recipe.batch_size, run.step, recipe.seed)
        batch = data.batch(rows, colour_captions=recipe.colour_captions, tint=recipe.tint)
        loss = run.advance(batch)
        rate = (bar.format_dict["rate"] or 0.0) * len(rows)
        bar.set_postfix_str(f"loss {loss:.3f}, {rate:.0f} items/s, scale {run.loss.scale.item():.0f}", refresh=False)
        bar.update()
        if run.step % recipe.checkpoint_every == 0 or run.step == recipe.steps:
            save_checkpoint(out / "checkpoints", run.step, run.state())
    bar.close()
    return _conclude(run, data, out)


class Run:
    """Everything that changes during a run: weights, their average, optimiser and step."""

    def __init__(self, model: Embedder, recipe: Recipe) -> None:
        self.model, self.recipe, self.step = model.train(), recipe, 0
        self.image, self.text = tower_of(model, "image"), tower_of(model, "text")
        self.head = self.image.head
        if recipe.regression is not None:
            self.image.head = self.head.first  # the second projection is solved when the first has been trained
        self.image.to(memory_format=torch.channels_last)  # twice the speed of small convolutions on a CPU
        self.loss = InfoNCE(recipe.temperature)
        self.learning = [tower_of(model, modality) for modality in recipe.towers]
        for tower in model.towers:
            tower.requires_grad_(tower in self.learning)
        self.average = [copy.deepcopy(tower.state_dict()) for tower in self.learning]
        parameters = [p for module in (*self.learning, self.loss) for p in module.parameters() if p.requires_grad]
        self.parameters = parameters
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
                {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=recipe.lr,
            betas=(0.9, 0.98),
        )

    def advance(self, batch: PairBatch) -> float:
        """One step of the optimiser; returns the loss."""
        recipe = self.recipe
        pixels = batch.queries["pixels"]
        if recipe.augment:
            pixels = augment(pixels, recipe.size_at(self.step) or pixels.shape[-1], batch.tints)
        queries = self.image({"pixels": pixels})  # (B, D)
        targets = self.text(batch.targets)  # (B, D)
        loss = self.loss(queries, targets, batch.ignore)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DivergedError(
                f"the loss is {value} at step {self.step}; lower lr ({recipe.lr}) or clip ({recipe.clip}), or warm up "
                f"longer than {recipe.warmup} steps; the last checkpoint is whole"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(recipe, self.step)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, recipe.clip)
        self.optimizer.step()
        self.step += 1
        self._follow()
        return value

    @torch.no_grad()
    def _follow(self) -> None:
        """The running average of the weights goes a step after them, faster while the run is young."""
        decay = min(self.recipe.ema, self.step / (self.step + 20))
        for average, tower in zip(self.average, self.learning, strict=True):
            for name, value in tower.state_dict().items():
                if value.is_floating_point():
                    average[name].lerp_(value, 1 - decay)
                else:
                    average[name].copy_(value)

    def give_average(self) -> None:
        """Puts the averaged weights into the model."""
        for average, tower in zip(self.average, self.learning, strict=True):
            tower.load_state_dict(average)

    def state(self) -> dict[str, Any]:
        """What `load` needs to go on bit by bit."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average,
            "loss": self.loss.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Reads `state`."""
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.loss.load_state_dict(state["loss"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = state["average"]


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then a cosine to zero."""
    rise = min(1.0, (step + 1) / max(1, recipe.warmup))
    return recipe.lr * rise * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))


def tower_of(model: Embedder, modality: str) -> Tower:
    """The tower that reads this modality alone."""
    for tower in model.towers:
        if modality in tower.encoder.reads:
            return tower
    raise ValueError(f"{model.spec.name} has no tower for {modality}")


def finish(model: Embedder, pairs: Sequence[Pair], out: Path) -> int:
    """Writes the model of a run that was stopped, from its last whole checkpoint; returns the step it had reached."""
    state = last_checkpoint(Path(out) / "checkpoints")
    if state is None:
        raise RecipeMismatchError(f"{out} holds no checkpoint of a run; name the folder given to --out")
    recipe = Recipe.from_dict(json.loads((Path(out) / "recipe.json").read_text(encoding="utf-8")))
    if recipe.distillation is not None:
        _learn_text(model, pairs, recipe, Path(out))
    data = PairDataset(pairs, model, recipe.store_size)
    run = Run(model, recipe)
    run.load(state)
    _conclude(run, data, Path(out))
    return run.step


def _conclude(run: Run, data: PairDataset, out: Path) -> Embedder:
    """Averaged weights, the head's second projection where the recipe has one, and the model's folder."""
    run.give_average()
    model = run.model.eval()
    if (plan := run.recipe.regression) is not None:
        torch.manual_seed(run.recipe.seed)
        solve_second(run.head, run.image, run.text, data, plan)
        run.image.head = run.head
    model.save_pretrained(out, torch.float16)
    return model


def _claim(out: Path, recipe: Recipe, resume: bool) -> dict[str, Any] | None:
    """Notes the recipe in the folder of a new run; for a resumed one, checks it and returns the last state."""
    path = out / "recipe.json"
    if path.is_file():
        old = json.loads(path.read_text(encoding="utf-8"))
        if not resume:
            raise RecipeMismatchError(f"{out} already holds a run; pass resume=True (--resume) or another folder")
        if old != recipe.to_dict():
            changed = sorted(name for name, value in recipe.to_dict().items() if old.get(name) != value)
            raise RecipeMismatchError(f"{out} holds a run with other {', '.join(changed)}; name another folder")
        return last_checkpoint(out / "checkpoints")
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(recipe.to_dict(), indent=2) + "\n", encoding="utf-8")
    return None


def _learn_text(model: Embedder, pairs: Sequence[Pair], recipe: Recipe, out: Path) -> None:
    """Puts a distilled encoder into the text tower; the table is kept in `out/text`, so that it is learned once."""
    from .distill import distil, encoder_of

    tower, plan = tower_of(model, "text"), recipe.distillation
    if not isinstance(tower.encoder, StaticText):
        raise ValueError(f"{model.spec.name}: only a static text tower can be distilled")
    state = last_checkpoint(out / "text")
    if state is None:
        state = {"table": distil(pairs, tower.encoder.width, plan, recipe.seed)}
        save_checkpoint(out / "text", 0, state)
    tower.encoder = encoder_of(state["table"], plan)
