"""Task files of `zoo eval`: JSON that names a benchmark and where its files are on this machine.

{"task": "scar", "data": "SCaR-eval", "images": "SCaR-eval/images"}                 # the published files of a folder
{"task": "scar", "data": {"mine": "mine.parquet"}, "images": "photos"}              # files of the same form, by name

Relative paths begin in the folder of the task file.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from zoo.errors import NoResultError, TaskFileError
from zoo.evaluation.jobs import Job, remembered
from zoo.evaluation.results import Result
from zoo.strangers.schema import Range, check, parse

if TYPE_CHECKING:
    from zoo.embedder import Embedder

SUFFIX = ".json"
PUBLISHED = "Sony/SCaR-Eval"
TASK = "SCaR"
_LONGEST = 2**20  # bytes
_Path = Annotated[str, Range(1, 4096)]


@dataclass(frozen=True)
class TaskFile:
    """What a task file says.

    Attributes:
        task: "scar", the only kind yet.
        data: folder of the published files, or files of the same form by the name of their part.
        images: folder that the image paths of these files begin in.
    """

    task: Literal["scar"]
    data: _Path | dict[str, _Path]
    images: _Path


def file_jobs(file: Path, split: str | None) -> list[Job]:
    """A job for every file that a task file names; of the five published ones also their mean, as the paper has it.

    Raises:
        TaskFileError: it cannot be followed, or `split` is not what its data is. TableError: a file is none of SCaR.
    """
    from zoo.evaluation.scar_files import PARTS, find_parts

    told, folder = _read(file), file.parent
    published = isinstance(told.data, str)
    dataset, own = (PUBLISHED, "val") if published else (file.stem, "all")
    if split not in (None, own):
        raise TaskFileError(f"{file} is measured on {own!r}, not on {split!r}; leave --split out")
    images = _below(folder, told.images)
    if not images.is_dir():
        raise TaskFileError(
            f'{file}: images {str(images)!r} is no folder; "images" says where the paths of images begin'
        )
    if isinstance(told.data, str):
        parts = find_parts(_below(folder, told.data))
    else:
        parts = {part: _below(folder, name) for part, name in told.data.items()}
    if not parts:
        raise TaskFileError(f'{file}: data names no file; "data" is a folder, or files by the name of their part')
    facts = {"dataset": dataset, "task": TASK if published else file.stem, "split": own}
    jobs = [_job(file, part, path, images, facts) for part, path in parts.items()]
    return [*jobs, _mean(file, jobs, facts)] if published and len(parts) == len(PARTS) else jobs


def _read(file: Path) -> TaskFile:
    try:
        if file.stat().st_size > _LONGEST:
            raise TaskFileError(f"{file} has over {_LONGEST:,} bytes; a task file has a few lines")
        content = file.read_bytes()
    except OSError as error:
        raise TaskFileError(f"cannot read the task file {file}: {error.strerror}") from error
    return TaskFile(**check(parse(content, file, TaskFileError), TaskFile, file, TaskFileError))


def _below(folder: Path, name: str) -> Path:
    return folder / Path(name).expanduser()


def _job(file: Path, part: str, path: Path, images: Path, facts: dict[str, Any]) -> Job:
    from zoo._version import __version__
    from zoo.evaluation.scar_files import content_key, open_file

    open_file(path)  # whether it is one, before a model is loaded

    def run(model: "Embedder", cache: Path, again: bool) -> list[Result]:
        from zoo.evaluation.scar import evaluate_scar, scar_results
        from zoo.evaluation.scar_files import read_samples

        samples, bad = read_samples(path, images)
        return scar_results(evaluate_scar(model, samples, bad), part=part, **facts)

    key = f"scar-{facts['dataset']}-{part}-{content_key(path, images)}-{__version__}"
    return Job(f"{file.name}: {part}", key, str(path), None, run, asked=file.name)


def _mean(file: Path, jobs: list[Job], facts: dict[str, Any]) -> Job:
    """The mean of the parts, whatever their sizes: the paper's "overall"."""
    from hashlib import sha256

    def run(model: "Embedder", cache: Path, again: bool) -> list[Result]:
        found = {job.name: remembered(job, model, cache) for job in jobs}
        if missing := [name for name, results in found.items() if not results]:
            raise NoResultError(f"the mean of all parts needs each of them; without a figure: {', '.join(missing)}")
        firsts = [results[0] for results in found.values()]
        notes = f"mean of {len(firsts)} parts; " + ", ".join(f"{one.part}: {one.notes}" for one in firsts)
        value = sum(one.value for one in firsts) / len(firsts)
        return [replace(firsts[0], part="", value=value, low=None, high=None, notes=notes)]

    key = "scar-mean-" + sha256("\n".join(job.key for job in jobs).encode()).hexdigest()[:12]
    return Job(f"{file.name}: mean", key, jobs[0].data, None, run, asked=file.name)
