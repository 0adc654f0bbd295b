"""The folder of a run: who holds it, what it may go on with, and what stays in it when the run is over."""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict

from zoo.errors import InputError
from zoo.files import write_json
from zoo.inputs.hashing import item_key
from zoo.inputs.identity import Answers
from zoo.strangers.folders import Place
from zoo.strangers.locks import Held, locked
from zoo.strangers.made import made_here, mark
from zoo.strangers.schema import Range
from zoo.tables.pairs import Pair

from .cached_embeddings import FOLDER
from .checkpoint import checkpoints_in, keep_newest, step_of
from .errors import DamagedRunError, RecipeMismatchError
from .gather import wait_for_all, world
from .judging import BEST, EVALUATIONS
from .logs import METRICS
from .own import check_own, read_facts
from .recipe import MOST_STAGES, Recipe, differences
from .recipes import read_recipe
from .scoring import SCORES
from .vector_cache import forget

RECIPE = "recipe.json"
_CHECKPOINTS = "checkpoints"
_LOCK = ".running"
# What a resumed run may change: none of it moves a weight of the steps that are done.
_MAY_CHANGE = {
    "steps",
    "epochs",
    "checkpoint_every",
    "log_every",
    "evaluate_every",
    "evaluate_minutes",
    "patience",
    "keep_checkpoints",
}


class Started(TypedDict):
    """How a run was begun: its commands, as words, and where it was."""

    commands: Annotated[list[Annotated[list[str], Range(0, 10_000)]], Range(1, 10_000)]
    folder: str


class Facts(TypedDict, total=False):
    """What recipe.json holds of a run."""

    stages: Annotated[list[dict[str, Any]], Range(1, MOST_STAGES)]
    started: Started
    finished: bool
    lengthened: list[dict[str, Any]]
    data: str
    held_out: str


def stage_folder(out: Path, stages: Sequence[Recipe], number: int) -> Path:
    """Where a stage keeps its checkpoints and curves: the run's folder itself, where it is the only one."""
    return out if len(stages) == 1 else out / f"stage-{number + 1}-{stages[number].name}"


@contextlib.contextmanager
def held(out: Path) -> Iterator[None]:
    """The folder for this run alone; freed when the process ends, however it does.

    Raises:
        RecipeMismatchError: another process trains in it.
    """
    if world()[0]:
        yield
        return
    out.mkdir(parents=True, exist_ok=True)
    lock = Place.of(out) / _LOCK
    try:
        with locked(lock):
            try:
                yield
            finally:
                lock.remove()
    except Held as error:
        raise RecipeMismatchError(f"another process trains in {out}; wait for it, or name another folder") from error


def check_free(out: Path) -> None:
    """Raises RecipeMismatchError where the folder holds a run that has done steps."""
    if begun_in(out):
        raise RecipeMismatchError(f"{out} already holds a run; pass resume=True (--resume) or another folder")


def claim(out: Path, stages: Sequence[Recipe], resume: bool, notes: dict[str, Any] | None = None) -> dict[str, Any]:
    """What is to be noted in the folder of a run; of a resumed one, checks that it goes on as it began.

    A run that did no step leaves a folder that is as good as new. A resumed one may be lengthened: what is done stays, and
    the steps to come follow the schedule of the new length.

    Args:
        notes: kept beside the recipe (the command's arguments).

    Raises:
        RecipeMismatchError: the folder holds a run already and `resume` is not set, or one that this cannot go on with.
    """
    if not resume:
        check_free(out)
    facts: dict[str, Any] = {"stages": [stage.to_dict() for stage in stages], **({"started": notes} if notes else {})}
    if not begun_in(out):
        wait_for_all()  # every process has looked before the first one changes anything
        if world()[0] == 0:
            _clear(out)
        return facts
    old = run_in(out)
    longer = [*old.get("lengthened", []), *_lengthened(out, old, stages)]
    if not _checkpoints(out):
        raise RecipeMismatchError(
            f"{out} holds a run that is finished and kept no checkpoints: open its model, load_model({str(out)!r})"
        )
    if world()[0] == 0 and not made_here(out):  # computed anew: nobody can tell whether they are these items' vectors
        for folder in (out, *out.glob("stage-*")):
            for cache in (folder / FOLDER).glob("*"):
                forget(cache)
    wait_for_all()
    return {**old, **facts, "finished": False, "lengthened": longer}


def note(out: Path, facts: dict[str, Any], answers: Answers, held_out: Sequence[Pair] | None) -> None:
    """Writes what `claim` gave, once the data are known to be those that the run began with; raises RecipeMismatchError."""
    found = check_same(out, facts, answers, held_out)
    wait_for_all()
    if world()[0] == 0:
        fresh = not begun_in(out)
        write_json(out / RECIPE, {**facts, **found})
        if fresh:  # from here on what the folder names was said here
            mark(out)
    wait_for_all()


def check_same(out: Path, facts: dict[str, Any], answers: Answers, held_out: Sequence[Pair] | None) -> dict[str, str]:
    """What tells these data from others.

    Raises:
        RecipeMismatchError: the run that `facts` are of had other training or held-out pairs.
    """
    found = {"data": _contents(answers), "held_out": _held_out(held_out)}
    for name, what in (("data", "other pairs"), ("held_out", "other held-out pairs")):
        if facts.get(name, found[name]) != found[name]:
            raise RecipeMismatchError(
                f"{out} holds a run on {what}: rows or files have changed since it began; name another folder, or give the "
                "data of that run"
            )
    return found


def run_in(out: Path) -> dict[str, Any]:
    """What a folder's recipe.json holds; {} where there is none.

    Raises:
        DamagedRunError: it holds something else. UnsafeFolderError: it is no file, or something of the run is a link.
    """
    check_own(out)
    return read_facts(out / RECIPE, Facts)


def begun_in(out: Path) -> bool:
    """Whether the folder holds a run that has done steps: a checkpoint, or a finished model."""
    return bool(run_in(out).get("finished")) or bool(_checkpoints(out))


def is_finished(out: Path, stages: Sequence[Recipe] | None = None) -> bool:
    """Whether the folder holds a run that is over; where stages are given, one of just these."""
    facts = run_in(out)
    whole = bool(facts.get("finished")) and any(out.glob("*.safetensors"))  # somebody may have deleted the model
    if not whole or stages is None:
        return whole
    there = [read_recipe(stage) for stage in facts.get("stages", ())]
    return len(there) == len(stages) and not any(map(differences, there, stages))


def tidy(out: Path, stages: Sequence[Recipe]) -> None:
    """Marks the run as finished, and drops the checkpoints that its recipe does not keep."""
    if world()[0]:
        return
    write_json(out / RECIPE, {**run_in(out), "finished": True})
    kept = stages[-1].keep_checkpoints  # of all: a stage without its end could not be gone on from
    for number in range(len(stages)):
        folder = stage_folder(out, stages, number)
        if kept == "none":
            for name in (_CHECKPOINTS, BEST):
                keep_newest(folder / name, 0)
        elif kept == "last":
            keep_newest(folder / _CHECKPOINTS, 1)
            best, last = (_steps(folder / name) for name in (BEST, _CHECKPOINTS))
            if best == last:  # the same weights twice
                keep_newest(folder / BEST, 0)


def _lengthened(out: Path, old: dict[str, Any], stages: Sequence[Recipe]) -> list[dict[str, Any]]:
    """Which stages are longer than they were; raises where anything else was changed, or where it cannot be done."""
    before = [read_recipe(stage) for stage in old.get("stages", [])]
    if len(before) != len(stages):
        raise RecipeMismatchError(
            f"{out} holds a run with other stages ({len(before)}, not {len(stages)}); name another folder"
        )
    found = []
    for number, (was, now) in enumerate(zip(before, stages, strict=True)):
        if changed := [name for name in differences(was, now) if name not in _MAY_CHANGE]:
            raise RecipeMismatchError(
                f"{out} holds a run with other {', '.join(changed)}; name another folder. A run that goes on may only change "
                f"{', '.join(sorted(_MAY_CHANGE))}"
            )
        if was.steps is None:
            raise DamagedRunError(f"{out / RECIPE} does not say how many steps {was.name} has; name another folder")
        folder = stage_folder(out, stages, number)
        done = max(_steps(folder / _CHECKPOINTS), default=0)
        if now.steps == was.steps:
            continue
        if now.steps < was.steps:
            raise RecipeMismatchError(
                f"{out}: {was.name} was to have {was.steps:,} steps and cannot be shortened to {now.steps:,}; a run can be "
                "lengthened, or written as it is (--finish)"
            )
        if old.get("finished") and not done:
            raise RecipeMismatchError(
                f"{out}: the run is finished and its checkpoints were dropped (keep_checkpoints none), so it cannot be "
                "lengthened; begin a new one from its model"
            )
        if any(_steps(stage_folder(out, stages, later) / _CHECKPOINTS) for later in range(number + 1, len(stages))):
            raise RecipeMismatchError(
                f"{out}: {was.name} is over and a later stage has begun from its end; only the last stage can be lengthened"
            )
        found.append({"stage": was.name, "from": was.steps, "to": now.steps, "at": done})
    return found


def _clear(out: Path) -> None:
    """What a run without a step left behind: figures of another model, lists of what could not be read."""
    out.mkdir(parents=True, exist_ok=True)
    ours = bool(run_in(out))
    for folder in (out, *out.glob("stage-*")):
        paths = [folder / METRICS, folder / EVALUATIONS, folder / SCORES, *folder.glob("skipped*.jsonl")]
        if not ours and (others := [path for path in paths if path.exists()]):
            raise RecipeMismatchError(
                f"{others[0]} is there, and no {RECIPE} of a run that wrote it; name another folder, or remove the file"
            )
        for path in paths if ours else ():
            (Place.of(out) / path.relative_to(out).as_posix()).remove()
        for name in (_CHECKPOINTS, BEST):
            keep_newest(folder / name, 0)


def _checkpoints(out: Path) -> list[Path]:
    return [path for folder in (out, *out.glob("stage-*")) for path in checkpoints_in(folder / _CHECKPOINTS)]


def _steps(folder: Path) -> list[int]:
    return list(map(step_of, checkpoints_in(folder)))


def _contents(answers: Answers) -> str:
    """Tells other pairs from these: how many there are, what is in them and where."""
    digest = hashlib.sha256(str(len(answers)).encode())
    for array in (answers.sizes, answers.counts, answers.numbers):
        digest.update(array.tobytes())
    for key in answers.contents.keys[: int(answers.numbers.max(initial=-1)) + 1]:
        digest.update(key)
    return digest.hexdigest()[:16]


def _held_out(pairs: Sequence[Pair] | None) -> str:
    digest = hashlib.sha256(str(len(pairs or ())).encode())
    for pair in pairs or ():
        digest.update(repr(pair.score).encode())
        for item in (pair.query, pair.positive):
            with contextlib.suppress(InputError):
                digest.update(item_key(item))
    return digest.hexdigest()[:16]
