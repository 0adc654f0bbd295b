"""embed_dataset: a folder or table of any size → vectors on disk, resumable, each input exactly once."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.arguments import (
    checked,
    flag,
    flag_or_function,
    function,
    model_or_path,
    number,
    one_of,
    optional,
    path,
    text,
    text_or_texts,
    texts,
    whole,
)
from zoo.arguments import device as device_here
from zoo.bulk.devices import Devices, devices_of
from zoo.bulk.feed import Feed
from zoo.bulk.finders import finder_of
from zoo.bulk.folder import Images
from zoo.bulk.job import BulkReport, Job
from zoo.bulk.limit import Limit
from zoo.bulk.models import loadable, opened_model
from zoo.bulk.opening import prepare
from zoo.bulk.parts import WHOLE, parted
from zoo.bulk.plan import plan
from zoo.bulk.regions import RegionSource
from zoo.bulk.sources import Opened, Source, check_exists, left_alone
from zoo.errors import ArgumentError, TableError, UnsupportedModalityError
from zoo.inputs.spacing import PERS
from zoo.prompts import arguments_of
from zoo.shards.folder import ShardFolder
from zoo.spec import need_one_vector
from zoo.strangers.made import mark
from zoo.tables.ignoring import settings_to_ignore
from zoo.tables.options import Options, check_format

if TYPE_CHECKING:
    from zoo.bulk.finders import Finder
    from zoo.embedder import Embedder
    from zoo.embedder.streaming import Encoded
    from zoo.proposals import Proposer
    from zoo.regions import RegionRule

Progress = Callable[[int, int], None]
SHARD_SIZE = 4096
SHARD_SECONDS = 60.0
# A function as `progress` is called at most this often, in seconds.
REPORT_EVERY = 0.1


def _rule(name: str, value: Any) -> "RegionRule":
    from zoo.regions import rule_of

    return rule_of(value)


def _pers(name: str, value: Any) -> Any:
    several = not isinstance(value, str) and isinstance(value, Sequence)
    checked_one = one_of(*PERS, WHOLE)
    return [checked_one(name, one) for one in value] if several else checked_one(name, value)


@checked(
    model=model_or_path,
    source=path,
    out=path,
    column=optional(text_or_texts),
    kind=optional(text_or_texts),
    dim=optional(whole(None)),
    precision=text,
    batch_size=optional(whole()),
    shard_size=whole(None),
    shard_seconds=number,
    update=flag,
    force=flag,
    undelete=flag,
    device=optional(device_here),
    devices=optional(devices_of),
    backend=text,
    pixels=optional(one_of("exact", "scaled")),
    ignore=texts,
    split=optional(text),
    root=optional(path),
    as_text=texts,
    encoding=optional(text),
    separator=optional(text),
    allow_outside=flag,
    region=optional(_rule),
    per=optional(_pers),
    seconds=optional(number),
    hop=optional(number),
    fps=optional(number),
    against=optional(text),
    task=optional(text),
    truncation=text,
    progress=flag_or_function,
    say=optional(function),
)
def embed_dataset(
    model: "Embedder | str | Path",
    source: Path | str,
    out: Path | str,
    *,
    prompt: str | None = None,
    prompt_name: str | None = None,
    column: str | Sequence[str] | None = None,
    kind: str | Sequence[str] | None = None,
    dim: int | None = None,
    precision: str = "float32",
    batch_size: int | None = None,
    shard_size: int = SHARD_SIZE,
    shard_seconds: float = SHARD_SECONDS,
    max_bad: int | str | None = None,
    update: bool = False,
    force: bool = False,
    undelete: bool = False,
    device: str | None = None,
    devices: Sequence[str] | str | None = None,
    backend: str = "torch",
    pixels: str | None = None,
    ignore: Sequence[str] = (),
    split: str | None = None,
    root: Path | str | None = None,
    as_text: Sequence[str] = (),
    encoding: str | None = None,
    separator: str | None = None,
    allow_outside: bool = False,
    regions: "Finder | Proposer | str | Path | None" = None,
    region: "RegionRule | str | None" = None,
    per: str | Sequence[str] | None = None,
    seconds: float | None = None,
    hop: float | None = None,
    fps: float | None = None,
    against: str | None = None,
    task: str | None = None,
    truncation: str = "cut",
    progress: bool | Progress = True,
    say: Callable[[str], None] | None = None,
) -> BulkReport:
    """Embeds every input of a folder or table into Parquet shards; run again, it goes on where it stopped.

    The folder holds `shards/*.parquet` (columns id, reference, vector, and the source's other columns),
    `manifest.json` and `quarantine.jsonl` (each bad input once, with a reason code). A process killed at any moment
    loses at most the inputs since its last shard and repeats none that is in a shard.

    Run again, it embeds inputs that are new or have changed. Those that were moved, renamed or touched, or whose other
    columns have changed, are recognised by what they hold. Vectors of vanished inputs stay until `update`, or until their
    id is that of another input (the number of a row, say). Where more is to be done than to add shards, the next set is
    written beside the one that is searched and replaces it in one step, when it is whole.

    Args:
        model: an embedder, or the name or folder of one.
        source: a folder of images, videos, audio, documents and texts, a .txt file (a text per line), or what `open_pairs` reads: .csv, .tsv, .jsonl, .parquet
            or .tar files, packed ones, globs, folders and partitioned folders of them, `hf:org/name`, `pack:photos`.
        out: the folder to write; running into the same folder again continues, also after rows were appended.
        prompt, prompt_name: as in `encode`; with neither, texts get the model's document prompt, as in `encode_document`.
        column: the column to embed, `kind` what it holds ("text", "image", "video", "audio"); both are found by name if
            possible, by the names that `open_pairs` knows. Several are one item: ["image", "text"], "image+text";
            "image=photo" says what one holds. Of a folder `kind` is which files are embedded, one or a list; by default all that
            the model reads, and beside each vector stands its own in the column `kind`.
        dim: cut of a Matryoshka model. precision: "float32", "int8" or "binary", as in `encode`.
        shard_size: inputs in a shard; shard_seconds: a shard is also closed after this time.
        max_bad: stop after more than this many bad inputs (10), or this share of them ("2%"). None: never.
        update: vectors of inputs that have vanished from the source go; without it they stay.
        force: look into inputs whose place, size and time are those of before, too, and embed again what holds something else.
        undelete: embed again what `delete_vectors` has deleted; without it that stays deleted, also under another name.
        device: where a model given by name runs; by default a GPU if there is one. devices: several in its place, a process each:
            ["cuda:0", "cuda:1"], or "all" for every GPU; this process reads the source and writes, as ever, and what a process had that
            dies is computed again. Here the model is loaded on the CPU, for its facts alone. backend: what computes its vectors, as in
            `load_model`; no part of what is stored, since the vectors are the same. pixels: how a model given by name decodes large
            JPEG photos, as in `load_model`; searching follows it. ignore: columns that are read as if they
            were not there; other names as in `load_model`.
        split: rows of this split alone; all rows by default. root, as_text, encoding, separator, allow_outside: as
            in `open_pairs`; also where `source` is a folder of images, among which links may lead out.
        regions: of a source of images, embed regions in their place, each for itself: "grid" (10 boxes an image), "grid:3" (59), a
            .json file of boxes, or a `zoo.bulk.finders.Finder`. Beside the vectors are then `regions`, `x0`, `y0`, `x1`, `y1`, `area`.
        region: how regions are read, by a finder or by a column of the table, as of `load_model`; by default the model's own rule.
        against: what texts are compared with, as in `encode`. task: in place of a prompt, as in `encode_document`.
        truncation: as in `encode`; a text that is refused is a bad input.
        per: "page" of each document (the default), "document" for one vector of it; "second" or "frame" of each video, "second" of all
            audio, in place of a vector of the whole; several for a folder of several kinds, ["frame", "second"]. Beside the vectors is
            then `page`, or `start` and `end`. seconds, hop, fps: as in `encode_track`.
        say: called before the work, in a line each, what was decided: the column, the encoding, files that are not read.
        progress: a bar on the terminal, or a function called with (inputs done, inputs in all).

    Raises:
        PromptError: before anything is read. TableError, SourceChangedError, FingerprintMismatchError, TooManyBadItemsError, DiskFullError: named
            reasons to stop; what was embedded until then is kept.
        KeyboardInterrupt: after saving what was finished.
    """
    if shard_size < 1:
        raise ArgumentError(f"shard_size must be at least 1, not {shard_size}")
    if devices is not None:
        _check_devices(devices, device, model, backend)
        device = devices[0] if len(devices) == 1 else "cpu"
        if say is not None:
            say(f"on {', '.join(devices)}" + (", a process each" if len(devices) > 1 else ", in one process"))
    started, limit = time.monotonic(), Limit.parse(max_bad)
    folder = ShardFolder(out)
    there = folder.vectors()
    check_exists(source, there, folder.path)
    told = {"as_text": tuple(as_text), "encoding": encoding, "separator": separator, "allow_outside": allow_outside}
    options = Options(root=None if root is None else Path(root), split=split, ignore=tuple(ignore), **told)
    opened = prepare(source, options, Path(out))
    asked_for = [column] if isinstance(column, str) else list(column or ())
    check_format(options, opened)
    said = _said(kind, opened)
    opened.check(asked_for, said)
    finder = None if regions is None else finder_of(regions, device)
    with settings_to_ignore(ignore, opened) as settings:
        embedder = opened_model(model, device, backend, pixels, settings, opened.columns)
    if backend != "torch" and say is not None:
        say(f"backend {embedder.backend}")
    embedder = embedder if region is None else embedder.with_region_rule(region)
    embedder = embedder if against is None else embedder.with_against(against)
    need_one_vector(embedder.spec, "a folder of vectors")
    embedder.encode_stream((), truncation=truncation, progress=False)  # refused before anything is read
    if task is not None:
        told = arguments_of(embedder.spec, "document", prompt, prompt_name, task)
        prompt, prompt_name = told["prompt"], None
    embedder.prompt_text(prompt, prompt_name)  # an error before anything is read or written
    dim = _dim(embedder, dim)
    compress = _compressor(embedder, precision, dim)
    said = (
        opened.one_kind(said, embedder.spec.modalities)
        if embedder.spec.targets and isinstance(opened, Images)
        else said
    )
    reads = _reads(embedder, per, of_files=isinstance(opened, Images) and said is None)
    data = opened.choose(asked_for, said or ("image" if finder else None), reads)
    data, by = _divided(data, finder, {"per": per, "seconds": seconds, "hop": hop, "fps": fps})
    _check_together(embedder, data)
    _check_followed(data, region, against)
    for note in data.notes if say is not None else ():
        say(note)
    asked = _asked(embedder, data, prompt, prompt_name)
    if finder:
        folder.create()
        finder.keep_in(folder.path)
    total = data.count()
    if not total:
        raise TableError(f"there is nothing to embed in {data.path}{_ignored(data)}{left_alone(there, folder.path)}")
    folder.create()
    if folder.is_empty():
        mark(folder.path)
    # From here on one process: the plan is made of the shards that are there.
    with folder.locked():
        fingerprint = embedder.fingerprint(dim=dim, regions="regions" in data.kind, **asked) | by
        facts = {"fingerprint": fingerprint, "precision": precision}
        begun = plan(folder, data, facts, split=split, update=update, force=force, undelete=undelete)
        job = Job(
            folder,
            data,
            total,
            facts,
            about=_about(data, loadable(model), split, finder, said) | _parts_of(by) | asked,
            dim=dim,
            compress=compress,
            limit=limit,
            plan=begun,
            update=update,
            shard_size=shard_size,
            shard_seconds=shard_seconds,
        )
        feed = Feed(data, begun.shards, begun.earlier)
        how = {"batch_size": batch_size, "dim": dim, "truncation": truncation, **asked}
        if devices is not None and len(devices) > 1:
            load = {
                "ignore": tuple(settings),
                "backend": backend,
                "pixels": pixels,
                "region": region,
                "against": against,
            }
            workers = Devices(devices, model, load, embedder.fingerprint())
            embedder.to("meta")  # its facts are all that is needed here
            stream = workers.stream(feed.values(), **how)
        else:
            stream = embedder.encode_stream(feed.values(), progress=False, **how)
        _take_all(job, feed, stream, progress)
        job.report.outside = data.led_out
        for note in data.told() if say is not None else ():
            say(note)
        if not job.report.kept:  # what its rows name is what this source names
            mark(folder.path)
    job.report.seconds = time.monotonic() - started
    return job.report


def _check_devices(devices: Sequence[str], device: str | None, model: "Embedder | str | Path", backend: str) -> None:
    """Raises ArgumentError for what does not go with several devices."""
    if device is not None:
        raise ArgumentError("device is one, devices are several; give one of the two")
    if not isinstance(model, str | Path):
        raise ArgumentError(
            "devices are of a model given by name, which every process loads; an open model has its own"
        )
    if backend not in ("torch", "auto") and any(name != "cpu" for name in devices):
        raise ArgumentError(
            f"backend={backend!r} computes on the CPU, not on {', '.join(devices)}; leave one of them out"
        )


def _check_followed(data: Source, region: "RegionRule | str | None", against: str | None) -> None:
    """Raises ArgumentError for what would be dropped in silence, of a source that has nothing that it is of."""
    if region is not None and "regions" not in data.kind:
        raise ArgumentError(f"region is how regions are read, and {data.path} has none; leave it out, or say regions")
    if against is not None and not _has_texts(data):
        raise ArgumentError(
            f"against is what texts are compared with, and {data.path} has none in its inputs; leave it out"
        )


def _about(
    data: Source, model: str, split: str | None, finder: "Finder | None", said: str | Sequence[str] | None
) -> dict[str, Any]:
    """What the manifest tells of a job besides what its vectors depend on."""
    about: dict[str, Any] = {"model": model, "split": split}
    if finder:
        about["regions"] = finder.spelled
    if said and data.kinds is not None:
        about["kinds"] = [said] if isinstance(said, str) else list(said)
    return about


def _parts_of(by: dict[str, Any]) -> dict[str, Any]:
    """What the manifest tells of the parts that inputs are embedded by."""
    return {name: value for name, value in by.get("parts", {}).items() if name != "max_side"}


def _said(kind: str | Sequence[str] | None, opened: Opened) -> str | Sequence[str] | None:
    """The kinds that were said, of a table one.

    Raises:
        TableError: several of a table.
    """
    if kind is None or isinstance(kind, str) or isinstance(opened, Images):
        return kind or None
    if len(set(kind)) > 1:
        raise TableError(
            f"kind is {' and '.join(kind)}, and a column holds one; several are of a folder's files. For one item of several "
            "columns say --column image=A+text=B"
        )
    return next(iter(kind), None)


def _reads(embedder: "Embedder", per: str | Sequence[str] | None, *, of_files: bool) -> frozenset[str]:
    """What of a source the model reads: pages of documents are images, and so are frames.

    Texts among other files are read by default where the model reads several media: beside photos alone a readme is not meant.
    """
    read = embedder.spec.modalities
    media = read & {"image", "video", "audio"}
    if of_files and len(media) == 1:
        read -= {"text"}
    frames = per is not None and "frame" in ([per] if isinstance(per, str) else per)
    return read | {"document"} | ({"video"} if frames else set()) if "image" in read else read


def _divided(data: Source, finder: "Finder | None", parts: dict[str, Any]) -> tuple[Source, dict[str, Any]]:
    """The source by regions, pages or moments, where it is to be, and what the fingerprint says of that."""
    if finder is None:
        return parted(data, **parts)
    if given := [name for name, value in parts.items() if value is not None]:
        raise ArgumentError(f"regions are of whole images; leave {' and '.join(given)} out")
    return RegionSource(data, finder), {"finder": {"kind": finder.name, **finder.config()}}


def _take_all(job: Job, feed: Feed, stream: "Iterator[Encoded]", progress: bool | Progress) -> None:
    """Every result of the stream into the job's shards, in order; what was finished is kept whatever stops it."""
    job.check()
    with _advancing(progress, job) as advance, job.saving(), contextlib.closing(stream):
        for encoded in stream:
            job.take(feed.resolve(encoded))
            advance()
    if feed.problem is not None:
        raise feed.problem
    job.finish()


def _check_together(embedder: "Embedder", data: Source) -> None:
    """Raises UnsupportedModalityError where a model does not read the columns of an item together."""
    if "+" in data.kind:
        from zoo.inputs.item import Item

        try:
            embedder.route(Item(**dict.fromkeys(data.kind.replace("media", "image").split("+"), "?")))
        except UnsupportedModalityError as error:
            columns = f"columns {data.column} of " if data.column else ""
            raise UnsupportedModalityError(f"{columns}{data.path}: {Exception.__str__(error)}") from None


def _has_texts(data: Source) -> bool:
    """Whether texts are embedded, in items or as files."""
    held = data.described().get("kinds") or {}
    return "text" in data.kind.split("+") or "text" in held.get("of", ())  # type: ignore[union-attr,operator]


def _asked(embedder: "Embedder", data: Source, prompt: str | None, prompt_name: str | None) -> dict[str, Any]:
    """The prompt as `encode_stream` takes it: texts get the document prompt where none is asked for."""
    asked: dict[str, Any] = {"prompt": prompt, "prompt_name": prompt_name}
    if prompt is None and prompt_name is None and _has_texts(data):
        asked |= embedder.for_role("document")
    return asked


def _dim(embedder: "Embedder", dim: int | None) -> int:
    """The dimension of the stored vectors."""
    if dim is not None and not 0 < dim <= embedder.spec.dim:
        raise ArgumentError(f"dim must be between 1 and {embedder.spec.dim} for {embedder.spec.name}, not {dim}")
    return dim or embedder.spec.dim


def _compressor(embedder: "Embedder", precision: str, dim: int) -> Callable[[Any], Any]:
    import torch

    from zoo.similarity import check_precision, quantize

    if precision not in ("float32", "int8", "binary"):
        raise ArgumentError(f"precision must be float32, int8 or binary, not {precision!r}")
    if precision == "binary" and dim % 8:
        raise ArgumentError(f"binary vectors need a dim divisible by 8, not {dim}; choose another dim or precision")
    check_precision(embedder.spec, precision)
    return lambda vector: quantize(torch.from_numpy(vector), precision).numpy()


def _ignored(data: Source) -> str:
    listed = ", ".join(f"{count:,} {kind}" for kind, count in data.ignored.items())
    return f" ({listed} ignored)" if listed else ""


@contextlib.contextmanager
def _advancing(progress: bool | Progress, job: Job) -> Iterator[Callable[[], None]]:
    """A function to call after each input: it moves the bar, or calls the caller's function now and then."""
    if callable(progress):
        last = [0.0]

        def report() -> None:
            if time.monotonic() - last[0] >= REPORT_EVERY or job.done >= job.total:
                last[0] = time.monotonic()
                progress(job.done, job.total)

        yield report
        return
    from tqdm.auto import tqdm

    with tqdm(total=job.total, initial=job.done, unit=" items", disable=not progress, dynamic_ncols=True) as bar:

        def move() -> None:
            bar.update(1)
            if job.bad and bar.n % 64 == 0:
                bar.set_postfix_str(f"{job.bad:,} bad", refresh=False)

        yield move
