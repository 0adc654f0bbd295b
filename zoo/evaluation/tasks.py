"""Tasks of `zoo eval`: our data packs and mteb's tasks and benchmarks, found by name; task files by theirs."""

import difflib
import fnmatch
import hashlib
import re
import shlex
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.errors import ArgumentError, NoResultError, TaskFileError, UnknownTaskError
from zoo.evaluation.jobs import Job
from zoo.evaluation.results import Result
from zoo.tables.pack_files import COMPOSED, REGIONS, packs_folder

if TYPE_CHECKING:
    from zoo.embedder import Embedder
    from zoo.evaluation.mteb_rerank import SecondStage

SCAR_REGIONS = "scar-regions"  # the pack of regions, asked as SCaR asks


class Known(NamedTuple):
    """One line of `zoo eval --list`."""

    name: str
    reads: str
    about: str


def known_tasks(pattern: str = "*") -> list[Known]:
    """Packs, benchmarks and tasks whose names match a shell pattern, whatever the case; without mteb only the packs."""
    from zoo.evaluation.packs import BENCHMARKS
    from zoo.evaluation.queries import PARAPHRASES

    known = [Known(b.pack, "image+text", "data pack: retrieval, zero-shot") for b in BENCHMARKS]
    known.append(Known(COMPOSED, "image+text", "data pack: an image and a change described in text → image"))
    known.append(Known(PARAPHRASES, "image+text", "free-form queries over the packs photos and emoji"))
    known.append(Known(SCAR_REGIONS, "image+regions+text", "data pack: a region → its caption among ten, as SCaR asks"))
    if (mteb := _mteb()) is not None:
        from mteb.get_tasks import TASK_LIST

        for benchmark in mteb.get_benchmarks():
            known.append(Known(benchmark.name, "", f"benchmark: {len(benchmark.tasks)} tasks"))
        for task in TASK_LIST:
            facts = task.metadata
            known.append(Known(facts.name, "+".join(sorted(facts.modalities)), f"{facts.type}, {facts.main_score}"))
    return [one for one in known if fnmatch.fnmatchcase(one.name.lower(), pattern.lower())]


def find_jobs(names: list[str], split: str | None = None, second: "SecondStage | None" = None) -> list[Job]:
    """What these names stand for, benchmarks as their tasks, each task once.

    Args:
        names: of packs, tasks and benchmarks; what ends in ".json" is a task file (`zoo.evaluation.task_files`).
        split: of the data; by default "test" for packs and what each task of mteb names.
        second: a reranker, of mteb's tasks alone, which are told with it too and are not remembered then.

    Raises:
        ArgumentError: a reranker for what is no task of mteb's.
        UnknownTaskError: a name is no pack, task or benchmark; MissingPackError: a pack's data is not there.
        TaskFileError, TableError: a task file cannot be followed, or a file that it names; or two would have one name.
    """
    from zoo.evaluation.packs import BENCHMARKS
    from zoo.evaluation.queries import PARAPHRASES
    from zoo.evaluation.task_files import SUFFIX, file_jobs

    packs = {benchmark.pack: partial(_pack_job, benchmark) for benchmark in BENCHMARKS}
    packs |= {COMPOSED: _composed_job, PARAPHRASES: _queries_job, SCAR_REGIONS: _scar_regions_job}
    jobs: dict[str, Job] = {}
    for name in names:
        if second is not None and (name in packs or name.endswith(SUFFIX)):
            raise ArgumentError(
                f"--rerank is of mteb's tasks, and {name} is none; of packs and tables say --data pack:{name} --rerank"
            )
        if name in packs:
            found = [packs[name](split)]
        else:
            found = (
                file_jobs(Path(name).expanduser(), split) if name.endswith(SUFFIX) else _mteb_jobs(name, split, second)
            )
        for job in found:
            if job.asked and job.data != jobs.setdefault(job.name, job).data:
                raise TaskFileError(f"two task files are called {job.asked}: measure them apart, or rename one")
            jobs[job.name] = job
    return list(jobs.values())


def _mteb() -> Any:
    """The library, None where it is not installed."""
    try:
        import mteb
    except ModuleNotFoundError:
        return None
    return mteb


def _pack_job(benchmark: Any, asked: str | None) -> Job:
    from zoo._version import __version__
    from zoo.errors import MissingPackError

    split = asked or "test"
    file = packs_folder() / benchmark.pack / f"{split}.parquet"
    if not file.is_file():
        raise MissingPackError(f"{file} does not exist; set ZOO_DATA to the folder that holds {benchmark.pack}/…")

    def run(model: "Embedder", cache: Path, again: bool) -> list[Result]:
        from zoo.evaluation.packs import description_results, evaluate_descriptions, evaluate_pack, pack_results

        scores = evaluate_pack(model, benchmark, split)
        results = [result for score in scores for result in pack_results(score, split, "")]
        if benchmark.pack == "photos":
            results += description_results(evaluate_descriptions(model, split), split, "")
        return results

    with file.open("rb") as data:
        content = hashlib.file_digest(data, "sha256").hexdigest()[:12]
    return Job(benchmark.pack, f"{benchmark.pack}-{split}-{content}-{__version__}", str(file), asked, run)


def _composed_job(asked: str | None) -> Job:
    from zoo._version import __version__
    from zoo.errors import MissingPackError

    split, file = asked or "test", packs_folder() / COMPOSED / "triplets.jsonl"
    if not file.is_file():
        raise MissingPackError(f"{file} does not exist; set ZOO_DATA to the folder that holds {COMPOSED}/…")

    def run(model: "Embedder", cache: Path, again: bool) -> list[Result]:
        from zoo.evaluation.composed import composed_results

        return composed_results(model, split, "")

    content = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    return Job(COMPOSED, f"{COMPOSED}-{split}-{content}-{__version__}", str(file), asked, run)


def _queries_job(asked: str | None) -> Job:
    from zoo._version import __version__
    from zoo.errors import MissingPackError
    from zoo.evaluation.queries import PARAPHRASES, QUERIES, read_queries

    split, folder = asked or "test", packs_folder()
    files = [folder / pack / f"{split}.parquet" for pack in sorted({query.pack for query in read_queries(QUERIES)})]
    if missing := [file for file in files if not file.is_file()]:
        raise MissingPackError(f"{missing[0]} does not exist; set ZOO_DATA to the folder that holds it")

    def run(model: "Embedder", cache: Path, again: bool) -> list[Result]:
        from zoo.evaluation.queries import evaluate_queries, query_results, query_scores

        return query_results(query_scores(evaluate_queries(model, QUERIES, split)), PARAPHRASES, split, "")

    content = hashlib.sha256()
    for file in (QUERIES, *files):
        with file.open("rb") as data:
            content.update(hashlib.file_digest(data, "sha256").digest())
    key = f"{PARAPHRASES}-{split}-{content.hexdigest()[:12]}-{__version__}"
    return Job(PARAPHRASES, key, ", ".join(map(str, files)), asked, run)


def _scar_regions_job(asked: str | None) -> Job:
    from zoo._version import __version__
    from zoo.errors import MissingPackError

    split = asked or "test"
    file = packs_folder() / REGIONS / f"{split}.parquet"
    if not file.is_file():
        raise MissingPackError(f"{file} does not exist; set ZOO_DATA to the folder that holds {REGIONS}/…")

    def run(model: "Embedder", cache: Path, again: bool) -> list[Result]:
        from zoo.evaluation.packs import RETRIEVAL
        from zoo.evaluation.scar import evaluate_scar, scar_results
        from zoo.evaluation.scar_like import pack_scenes, scar_like

        samples = scar_like(pack_scenes(split), relation="place")
        return scar_results(evaluate_scar(model, samples), dataset=SCAR_REGIONS, task=RETRIEVAL, split=split)

    with file.open("rb") as data:
        content = hashlib.file_digest(data, "sha256").hexdigest()[:12]
    return Job(SCAR_REGIONS, f"{SCAR_REGIONS}-{split}-{content}-{__version__}", str(file), asked, run)


def _mteb_jobs(name: str, split: str | None, second: "SecondStage | None") -> list[Job]:
    mteb = _mteb()
    if mteb is None:
        raise UnknownTaskError(f'{name!r} is no data pack; for mteb\'s tasks: pip install "embedding-zoo[eval]"')
    from mteb.benchmarks.get_benchmark import _build_aliases_registry, _build_registry
    from mteb.get_tasks import _TASKS_REGISTRY

    if name in _TASKS_REGISTRY:
        return [_mteb_job(mteb.get_task(name), split, second)]
    if name in _build_registry() or name in _build_aliases_registry():
        return [_mteb_job(task, split, second) for task in mteb.get_benchmark(name).tasks]
    all_names = {known.name.lower(): known.name for known in known_tasks()}
    begins = [known for low, known in all_names.items() if low.startswith(name.lower())]
    near = [all_names[low] for low in difflib.get_close_matches(name.lower(), all_names, n=4, cutoff=0.5)]
    listed = ", ".join(list(dict.fromkeys([*near, *begins]))[:4])
    raise UnknownTaskError(
        f"no pack, task or benchmark is called {name!r}"
        + (f"; nearest: {listed}" if listed else "")
        + f". `zoo eval --list '*{name[:4]}*'` lists by pattern"
    )


def _mteb_job(task: Any, split: str | None, second: "SecondStage | None" = None) -> Job:
    import mteb

    facts = task.metadata
    data = facts.dataset.get("path", "") if not task.is_aggregate else ""
    revision = str(facts.dataset.get("revision", ""))[:12]

    def run(model: "Embedder", cache: Path, again: bool) -> list[Result]:
        from zoo.evaluation.mteb import wrap

        if split is not None:
            if split not in task.eval_splits:
                raise NoResultError(f"{facts.name} is measured on {', '.join(task.eval_splits)}, not on {split!r}")
            task.filter_eval_splits([split])
        if not any(set(facts.get_modalities(role)) & model.spec.modalities for role in mteb.types.PromptType):
            reads = "+".join(sorted(facts.modalities))
            raise NoResultError(
                f"{facts.name} is about {reads}; {model.spec.name} reads {'+'.join(sorted(model.spec.modalities))}"
            )
        wrapped = wrap(model)
        if second is not None:
            return _two_stages(wrapped, task, second)
        strategy = "always" if again else "only-missing"
        found = mteb.evaluate(
            wrapped, task, cache=mteb.ResultCache(cache), overwrite_strategy=strategy, show_progress_bar=False
        )
        if found.exceptions:
            raise NoResultError(f"{facts.name}: {found.exceptions[0].exception}")
        return [result for one in found.task_results for result in _mteb_results(one, task, wrapped)]

    key = f"{facts.name}-{split or 'all'}-{revision}-mteb{mteb.__version__}"
    if second is None:
        return Job(facts.name, key, data, split, run)
    more = f" --rerank {shlex.quote(second.shown)} --rerank-top {second.top}"
    return Job(facts.name, key, data, split, run, more=more, remembers=False)


def _two_stages(wrapped: Any, task: Any, second: "SecondStage") -> list[Result]:
    """The figures of the model alone, and of its first results in the order of a reranker as the part "reranked"."""
    from zoo.evaluation.mteb_rerank import reranked_task

    first, after, cross = reranked_task(wrapped, task, second)
    alone = [result for one in first.task_results for result in _mteb_results(one, task, wrapped)]
    told = f"; the first {second.top:,} in the order of {second.shown}"
    if lost := sum(cross.skipped.values()):
        told += f"; {lost:,} of {cross.seen:,} pairs without a score"
    ranked = [result for one in after.task_results for result in _mteb_results(one, task, wrapped)]
    named = [f"{result.part}, reranked" if result.part else "reranked" for result in ranked]
    return alone + [
        replace(result, part=part, notes=result.notes + told) for result, part in zip(ranked, named, strict=True)
    ]


def _mteb_results(found: Any, task: Any, wrapped: Any) -> list[Result]:
    """The main score of each split, for all subsets (as the leaderboard has it) and for each where there are several."""
    facts = task.metadata
    notes = f"mteb {found.mteb_version}, dataset revision {found.dataset_revision}"
    if lost := sum(wrapped.skipped.values()):
        notes += f"; {lost:,} of {wrapped.seen:,} entries without an embedding"
    elif not wrapped.seen:
        notes += "; from mteb's cache, which does not say how many entries had no embedding"
    if wrapped.mteb_model_meta.is_zero_shot_on([task]) is False:
        notes += "; not zero-shot, for the model was trained on data of this task"
    same = {
        "dataset": facts.name if task.is_aggregate else facts.dataset["path"],
        "task": facts.name,
        "metric": re.sub(r"_at_(\d+)$", r"@\1", facts.main_score),
        "notes": notes,
    }
    results = []
    for split, subsets in found.scores.items():
        values = {one["hf_subset"]: float(one["main_score"]) for one in subsets}
        results.append(Result(value=sum(values.values()) / len(values), split=split, **same))
        if len(values) > 1:
            results += [Result(value=value, split=split, part=subset, **same) for subset, value in values.items()]
    return results
