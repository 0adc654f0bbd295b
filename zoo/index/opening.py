"""open_index: from a folder of `zoo embed` to something that can be searched, built when it is first needed."""

import contextlib
import hashlib
import importlib.util
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo.arguments import checked, optional, path, text, whole
from zoo.arguments import model as a_model
from zoo.bulk.fingerprints import check_fingerprint
from zoo.bulk.shards import Shard, ShardFolder
from zoo.errors import PromptError, ZooError
from zoo.index.base import ADVICE, IndexStateError, VectorIndex
from zoo.index.exact import ExactIndex
from zoo.index.lance import LanceIndex
from zoo.spec import need_one_vector

if TYPE_CHECKING:
    import pyarrow as pa

    from zoo.embedder import Embedder

Backend = Literal["lancedb", "exact"]
INDEX = "index"
# Below this many rows an exact scan answers in milliseconds, and building a graph would take longer than all searches.
THRESHOLD = 100_000
# Rows given to the store in one commit.
ROWS_PER_COMMIT = 65536


@checked(folder=path, model=optional(a_model), backend=optional(text), threshold=whole(0))
def open_index(
    folder: Path | str,
    *,
    model: "Embedder | None" = None,
    backend: Backend | None = None,
    threshold: int = THRESHOLD,
) -> VectorIndex:
    """Opens the vectors of `zoo embed` for searching; builds or extends the index if there are new shards.

    Args:
        folder: what `embed_dataset` wrote.
        model: the model that will encode the queries; it must be the one that made the vectors.
        backend: "lancedb", or "exact", which needs no engine. By default lancedb if it is installed and the vectors
            are float32; int8 and binary vectors are searched as they are stored, by the exact one.
        threshold: rows from which lancedb builds an approximate index.

    Raises:
        IndexStateError: no vectors there. FingerprintMismatchError: made by another model.
    """
    if backend not in ("lancedb", "exact", None):
        raise ZooError(f'unknown backend {backend!r}; expected "lancedb" or "exact"')
    folder = Path(folder)
    manifest = read_manifest(folder)
    if model is not None:
        check_model(model, folder)
    backend = backend or _default_backend(manifest["precision"])
    if backend == "lancedb" and not _has_lancedb():
        raise ZooError('the lancedb backend is not installed: pip install "embedding-zoo[index]", or backend="exact"')
    target = folder / INDEX / backend
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise IndexStateError(f"the index cannot be written into {target}: {error.strerror or error}") from error
    with _locked(target):
        shards = ShardFolder(folder).finished()
        if not sum(shard.rows for shard in shards):
            raise IndexStateError(f"{folder} holds no vectors yet; run `zoo embed` again to finish it")
        for shard in shards:
            if shard.fingerprint != shards[0].fingerprint or shard.precision != shards[0].precision:
                raise IndexStateError(
                    f"{shard.path} was made by another model than {shards[0].path.name}; move it away"
                )
        index = _current(target, backend, shards)
        _follow(index, shards)
        index.tune(threshold)
    return index


def read_manifest(folder: Path | str) -> dict[str, Any]:
    """The manifest of a folder of `zoo embed`: its model, prompt, source, counts; raises IndexStateError."""
    manifest = ShardFolder(folder).manifest() if Path(folder).is_dir() else None
    if manifest is None:
        raise IndexStateError(
            f"{folder} holds no vectors (no manifest.json); make them with: zoo embed PHOTOS/ --out {folder}"
        )
    return manifest


def check_model(model: "Embedder", folder: Path | str) -> None:
    """Raises FingerprintMismatchError unless this model made the vectors in `folder`, TokenVectorsError if none could."""
    need_one_vector(model.spec, "an index")
    manifest = read_manifest(folder)
    ours = _fingerprint(model, manifest)
    check_fingerprint(manifest["fingerprint"], ours, folder, ADVICE)


def _fingerprint(model: "Embedder", manifest: dict[str, Any]) -> dict[str, Any]:
    """Of this model with the prompt and the dim of the vectors."""
    prompt, dim = manifest["prompt"], manifest["dim"]
    asked = {"prompt": prompt, "prompt_name": manifest.get("prompt_name")}
    if "prompt_name" not in manifest and prompt in model.spec.prompts:  # older folders: name or text in one place
        asked = {"prompt_name": prompt}
    try:
        return model.fingerprint(dim=dim, **asked)
    except PromptError:  # of another model
        return {**model.fingerprint(prompt="", dim=dim), "prompt": None}


def iter_tables(folder: Path | str, columns: Sequence[str] | None = None) -> "Iterator[pa.Table]":
    """The finished shards of a folder one after the other, in the order of the inputs."""
    import pyarrow.parquet as pq

    for shard in ShardFolder(folder).finished():
        yield pq.read_table(shard.path, columns=list(columns) if columns else None)


def _default_backend(precision: str) -> Backend:
    return "lancedb" if precision == "float32" and _has_lancedb() else "exact"


def _has_lancedb() -> bool:
    return importlib.util.find_spec("lancedb") is not None


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process builds; others wait for it."""
    from filelock import FileLock

    with FileLock(folder.parent / f".lock-{folder.name}"):
        yield


def _current(target: Path, backend: Backend, shards: Sequence[Shard]) -> Any:
    """The index as it is, or a new one where it cannot be used: it holds nothing that the shards do not."""
    columns = _columns(shards[0])
    kind = LanceIndex if backend == "lancedb" else ExactIndex
    try:
        index = kind.open(target)
        known = index.facts.fingerprint == shards[0].fingerprint and index.facts.columns == columns
        if known and index.origins() <= {_origin(shard) for shard in shards}:
            return index
    except IndexStateError:
        pass
    shutil.rmtree(target)
    extra = {} if backend == "lancedb" else {"precision": shards[0].precision}
    fingerprint = shards[0].fingerprint
    return kind.create(target, fingerprint=fingerprint, dim=fingerprint["dim"], columns=columns, **extra)


def _follow(index: Any, shards: Sequence[Shard]) -> None:
    """Adds the shards that are not in the index, several in one commit."""
    import pyarrow.parquet as pq

    present = index.origins()
    batch: list[tuple[pa.Table, str]] = []
    rows = 0
    for shard in shards:
        if not shard.rows or _origin(shard) in present:
            continue
        batch.append((pq.read_table(shard.path), _origin(shard)))
        rows += shard.rows
        if rows >= ROWS_PER_COMMIT:
            index.add_shards(batch)
            batch, rows = [], 0
    if batch:
        index.add_shards(batch)


def _columns(shard: Shard) -> "pa.Schema":
    import pyarrow as pa

    return pa.schema([field for field in shard.schema if field.name not in ("id", "reference", "vector")])


def _origin(shard: Shard) -> str:
    """A shard by its range and its content: after an update the same range may hold other inputs."""
    return f"{shard.path.stem}-{hashlib.blake2b(shard.stamps, digest_size=8).hexdigest()}"
