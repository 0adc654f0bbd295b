"""What a run says while it goes: a bar for people, metrics.jsonl for the report, accelerate's trackers for dashboards."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from zoo import arguments
from zoo.errors import ArgumentError, MissingPackageError, ZooError
from zoo.strangers.folders import Place

from .own import Step, append, read_lines, row_of
from .recipe import Recipe
from .run import Figures, Run

METRICS = "metrics.jsonl"
TRACKERS = ("tensorboard", "wandb", "trackio")


class Log:
    """Of one stage, on the main process; says nothing on the others.

    Args:
        folder: of the stage; metrics.jsonl in it goes on after `step`. run, recipe: what is trained.
        offset: steps of the stages before this one; None in a run of one stage.
        accelerator: holds the trackers. main: whether this is the main process. progress: show the bar.
    """

    def __init__(
        self,
        folder: Path,
        run: Run,
        recipe: Recipe,
        accelerator: Any,
        *,
        main: bool,
        progress: bool,
        offset: int | None = None,
    ) -> None:
        # Stages have curves of their own; dashboards want steps that only rise.
        self.offset, self.prefix = offset or 0, f"{recipe.name}/" if offset is not None else ""
        self.run, self.recipe, self.accelerator, self.main = run, recipe, accelerator, main
        self.path = folder / METRICS
        if main:
            keep_until(self.path, run.step)
        title = f"{recipe.model or run.model.spec.name} {recipe.name}"
        self.bar = tqdm(
            total=recipe.steps,
            initial=run.step,
            desc=title,
            unit=" steps",
            disable=not (progress and main),
            mininterval=1,
        )
        self.items, self.waited, self.since = 0, 0.0, time.perf_counter()
        self.waited_all, self.begun = 0.0, time.perf_counter()
        self.evaluating, self.told = 0.0, ""

    def step(self, figures: Figures, items: int, waited: float) -> None:
        """Notes a step of so many pairs, whose batch was waited for so many seconds."""
        self.items += items
        self.waited += waited
        self.waited_all += waited
        if self.run.step % self.recipe.log_steps and self.run.step != self.recipe.steps:
            self.bar.update()
            return
        seconds = max(1e-9, time.perf_counter() - self.since)
        facts = {
            "step": self.run.step,
            "loss": figures.loss,
            "temperature": figures.temperature,
            "lr": figures.lr,
            "grad_norm": figures.grad_norm,
            "items_per_s": self.items / seconds,
            "wait_share": min(1.0, self.waited / seconds),
        }
        self.items, self.waited, self.since = 0, 0.0, time.perf_counter()
        if self.main:
            of = {"of": figures.of} if figures.of else {}
            append(self.path, json.dumps(facts | of) + "\n")
            shown = {f"{self.prefix}{k}": v for k, v in facts.items() if v is not None and k != "step"}
            if of:  # losses of several kinds are no one curve
                shown[f"{self.prefix}loss/{figures.of}"] = shown.pop(f"{self.prefix}loss")
            self.accelerator.log(shown, step=self.offset + self.run.step)
        self.bar.set_postfix_str(
            f"loss {figures.loss:.3f}, {facts['items_per_s']:.0f} items/s, {facts['wait_share']:.0%} waiting for data{self.told}",
            refresh=False,
        )
        self.bar.update()

    def evaluated(self, figures: dict[str, float], told: str, seconds: float) -> None:
        """Notes figures of held-out pairs, which took so long: for the bar and for dashboards."""
        self.since += seconds  # the rate of a step is that of training
        self.evaluating += seconds
        self.told = f", {told}"
        if self.main:
            shown = {f"{self.prefix}held_out/{name}": value for name, value in figures.items()}
            self.accelerator.log(shown, step=self.offset + self.run.step)

    def say(self, text: str) -> None:
        """A line above the bar."""
        if not self.bar.disable:
            self.bar.write(text)

    def close(self) -> dict[str, float]:
        """Ends the bar; returns the shares of the run's time that went into other things than steps, 0 to 1."""
        self.bar.close()
        whole = max(1e-9, time.perf_counter() - self.begun)
        return {
            "waiting_for_data": min(1.0, self.waited_all / max(1e-9, whole - self.evaluating)),
            "evaluating": min(1.0, self.evaluating / whole),
        }


def keep_until(path: Path, step: int) -> None:
    """Drops the lines after `step` and a half-written last one: a resumed run writes them anew."""
    kept = []
    for line in read_lines(path):
        row = row_of(line, Step)
        if row is None:
            break
        if row["step"] <= step:
            kept.append(line.removesuffix(b"\n") + b"\n")
    place = Place.of(path.parent) / path.name
    if place.is_file():
        place.write(b"".join(kept))


def make_accelerator(trackers: Sequence[str], folder: Path) -> Any:
    """accelerate's view of this process: device, process group, sharding, trackers.

    Raises:
        MissingPackageError: an unknown tracker, or one that is not installed.
    """
    try:
        from accelerate import Accelerator
    except ModuleNotFoundError as error:
        raise ZooError('training needs accelerate: pip install "embedding-zoo[train]"') from error
    for name in trackers:
        if name not in TRACKERS:
            raise MissingPackageError(f"no tracker is called {name!r}; there are {', '.join(TRACKERS)}")
        if not _importable(name):
            raise MissingPackageError(f"{name} is not installed: pip install {name}, or train without it")
    return Accelerator(log_with=list(trackers) or None, project_dir=str(folder / "logs"))


def device_of(accelerator: Any, device: str | torch.device | None) -> torch.device:
    """Where this process trains: the device that was asked for, else accelerate's choice.

    Raises:
        ArgumentError: it is not here, or it is not the one that the launcher gave this process.
    """
    if device is None:
        return accelerator.device
    found = arguments.device("device", device)
    if accelerator.num_processes == 1:
        return found
    if found.index is not None or found.type != accelerator.device.type:
        raise ArgumentError(
            f"device={str(device)!r}: the launcher gives each of the {accelerator.num_processes} processes its own "
            f"({accelerator.device}); leave device out, or set use_cpu and CUDA_VISIBLE_DEVICES for the launcher"
        )
    return accelerator.device


def start_trackers(accelerator: Any, stages: Sequence[Recipe]) -> None:
    """Opens the dashboards' files or connections; the numbers of the recipe are noted there."""
    if accelerator.log_with:
        facts = {f"{stage.name}/{k}": v for stage in stages for k, v in stage.to_dict().items()}
        accelerator.init_trackers("zoo", config={k: v for k, v in facts.items() if isinstance(v, int | float | str)})


def _importable(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None
