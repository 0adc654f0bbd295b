"""open_index: from a folder of `zoo embed` to something that can be searched, built when it is first needed."""

import importlib.util
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo.arguments import checked, flag, optional, path, text, whole
from zoo.arguments import model as a_model
from zoo.errors import IndexStateError, PromptError, ReadOnlyIndexError, ZooError
from zoo.index.base import VectorIndex
from zoo.index.building import up_to_date
from zoo.index.exact import ExactIndex
from zoo.index.homes import homes_of, prepare, tidy
from zoo.index.lance import LanceIndex
from zoo.shards.checking import check_grown
from zoo.shards.fingerprints import check_fingerprint, renamed
from zoo.shards.folder import ShardFolder
from zoo.spec import need_one_vector

if TYPE_CHECKING:
    import pyarrow as pa

    from zoo.embedder import Embedder

Backend = Literal["lancedb", "exact"]
# Below this many rows an exact scan answers in milliseconds, and building a graph would take longer than all searches.
THRESHOLD = 100_000


@checked(folder=path, model=optional(a_model), backend=optional(text), threshold=whole(0), adopt=flag)
def open_index(
    folder: Path | str,
    *,
    model: "Embedder | None" = None,
    backend: Backend | None = None,
    threshold: int = THRESHOLD,
    adopt: bool = False,
) -> VectorIndex:
    """Opens the vectors of `zoo embed` for searching; builds or extends the index if there are new shards.

    What is open stays as it is while others build: see `VectorIndex`. After an update of the folder the index is built
    anew beside the one in use; rows that `upsert` has added stay, rows of `zoo embed` that `delete` has removed come back.

    The index lies in the folder where that was made here: by this user's `zoo embed`, on this machine. Into any other folder
    nothing is written, an index that came with it is not used, and one is built in the user's cache.

    Args:
        folder: what `embed_dataset` wrote.
        model: the model that will encode the queries; it must be the one that made the vectors.
        backend: "lancedb", or "exact", which needs no engine. By default lancedb if it is installed and the vectors
            are float32; int8 and binary vectors are searched as they are stored, by the exact one.
        threshold: rows from which lancedb builds an approximate index.
        adopt: the folder is your own, whoever made it: from now on it counts as made here, with the index in it.

    Raises:
        UnsafeFolderError: something in the folder is a link, a FIFO or a device.
        IndexStateError: no vectors there, or an index that cannot be written. FingerprintMismatchError: made by another
            model. DiskFullError: no space for the index.
    """
    if backend not in ("lancedb", "exact", None):
        raise ZooError(f'unknown backend {backend!r}; expected "lancedb" or "exact"')
    folder = Path(folder)
    manifest = read_manifest(folder)
    if model is not None:
        check_model(model, folder)
    backend = backend or _default_backend(manifest["precision"])
    if backend == "lancedb" and not has_lancedb():
        raise ZooError('the lancedb backend is not installed: pip install "embedding-zoo[index]", or backend="exact"')
    kind = LanceIndex if backend == "lancedb" else ExactIndex
    refused: ReadOnlyIndexError | None = None
    for home in homes_of(folder, backend, adopt=adopt):
        try:
            prepare(home, folder)
            index = up_to_date(home, kind, folder, threshold)
        except ReadOnlyIndexError as error:
            refused = refused or error
            continue
        refused, index.lives = None, home.lives  # an error holds on to what its frames held
        tidy(home, (ExactIndex, LanceIndex))
        return index
    raise refused or ReadOnlyIndexError(f"the index of {folder} cannot be written anywhere")


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
    stored, ours = manifest["fingerprint"], _fingerprint(model, manifest)
    # Nobody is sent to look for a model that has no weights any more.
    advice = "Embed again" if renamed(stored, ours) else "Search with the model that made them, or embed again"
    check_fingerprint(stored, ours, folder, f"{advice}: {_embed_again(folder, manifest)}")


def has_texts(source: Mapping[str, Any]) -> bool:
    """Whether texts are among what was embedded, in items or as files."""
    return "text" in source["kind"].split("+") or "text" in (source.get("kinds") or {}).get("of", ())


def _embed_again(folder: Path | str, manifest: dict[str, Any]) -> str:
    """The command that embeds the same inputs into a folder beside this one; its model is that of `zoo embed`, or --model."""
    source = manifest["source"]
    options = {"--column": source.get("column"), "--split": manifest.get("split")}
    options |= {"--prompt": manifest["prompt"], "--prompt-name": manifest.get("prompt_name")}
    options |= {"--regions": manifest.get("regions")}
    if has_texts(source):
        options["--against"] = manifest["fingerprint"].get("against")
    options |= {f"--{name}": manifest.get(name) for name in ("per", "seconds", "hop", "fps")}
    options["--kind"] = manifest.get("kinds")
    each = (
        (name, one)
        for name, value in options.items()
        if value
        for one in (value if isinstance(value, list) else [value])
    )
    words = [word for name, value in each for word in (name, str(value))]
    return shlex.join(["zoo", "embed", str(source["path"]), *words, "--out", f"{folder}-new"])


def _fingerprint(model: "Embedder", manifest: dict[str, Any]) -> dict[str, Any]:
    """Of this model with the prompt and the dim of the vectors."""
    prompt, dim = manifest["prompt"], manifest["dim"]
    made = manifest["fingerprint"]
    regions = "region" in made
    asked = {"prompt": prompt, "prompt_name": manifest.get("prompt_name"), "regions": regions}
    # Which regions there are is no matter of the model; what texts are compared with is one of theirs alone.
    free = ("finder", "parts") if has_texts(manifest["source"]) else ("finder", "parts", "against")
    kept = {name: made[name] for name in free if name in made}
    if "prompt_name" not in manifest and prompt in model.spec.prompts:  # older folders: name or text in one place
        asked = {"prompt_name": prompt, "regions": regions}
    try:
        return {**model.fingerprint(dim=dim, **asked), **kept}
    except PromptError:  # of another model
        return {**model.fingerprint(prompt="", dim=dim, regions=regions), "prompt": None}


def iter_tables(folder: Path | str, columns: Sequence[str] | None = None) -> "Iterator[pa.Table]":
    """The finished shards of a folder one after the other, in the order of the inputs.

    Raises:
        DamagedShardError: one is damaged, or they take far more memory than bytes on disk. IndexStateError: an update came.
    """
    shards = ShardFolder(folder).finished()
    size, taken = sum(shard.status[0] for shard in shards), 0
    for shard in shards:
        try:
            table = shard.table(columns or None)
        except FileNotFoundError as error:
            raise IndexStateError(f"`zoo embed` has updated {folder} while it was read; begin again") from error
        check_grown(taken := taken + table.nbytes, size, folder)
        yield table


def _default_backend(precision: str) -> Backend:
    return "lancedb" if precision == "float32" and has_lancedb() else "exact"


def has_lancedb() -> bool:
    """Whether the engine of the LanceDB store is installed."""
    return importlib.util.find_spec("lancedb") is not None
