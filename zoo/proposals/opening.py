"""How a proposer's network is opened: transformers' own class, of a folder or of the Hub, with every tensor from the file."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import hub
from zoo.encoders.config_checks import check_transformers
from zoo.errors import HubError, UnrecognisedCheckpointError
from zoo.formats import PROCESSOR_FILES, TOKENIZER_FILES, check_weights, read_object, weight_files
from zoo.formats.checks.folder import check_folder
from zoo.formats.checks.weight_checks import refuse_quantised
from zoo.formats.fetching import snapshot
from zoo.formats.processors import own_images
from zoo.formats.transformers import check_index, from_pretrained
from zoo.loading import best_device, is_folder

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Opened:
    """A network, its image processor, the folder that both are from, and the digest of its weights."""

    network: "nn.Module"
    images: Any
    folder: Path
    digest: str


def open_network(
    source: str | Path,
    revision: str | None,
    device: "torch.device | str | None",
    names: tuple[str, str, str],
    kinds: Sequence[str],
) -> Opened:
    """A network on its device, ready to run.

    Args:
        source: a Hub repository "org/name", or a folder as `zoo.load_model` takes one. revision: of a repository.
        names: transformers' classes of the network, its configuration and its image processor. kinds: model types.

    Raises:
        HubError: no such repository, or it is neither in reach nor cached; PartlyCachedError where only a part of it may be.
        UnrecognisedCheckpointError: another model, or settings that are not followed. MissingWeightsError: no weights, or not all.
        UnsafeCheckpointError: the weights are a pickle, or a file lies outside the folder.
    """
    import transformers

    network, settings, images = (getattr(transformers, name) for name in names)
    folder = _folder(source, revision)
    check_folder(folder)
    written, where = read_object(folder / "config.json"), str(folder / "config.json")
    if written.get("model_type") not in kinds:
        raise UnrecognisedCheckpointError(
            f"{where} is a {str(written.get('model_type'))[:40]!r}, and here {' or '.join(kinds)} is wanted"
        )
    check_transformers(written, where)
    refuse_quantised(written, str(folder))
    files = weight_files({path.name for path in folder.iterdir()}, "model", ())
    check_weights(files, str(folder), "model.safetensors", False)
    check_index(folder / "model.safetensors.index.json")
    try:
        parts = {key: value for key, value in written.items() if key != "model_type"}
        config = settings(**parts)
    except Exception as error:  # whatever type transformers' own checks raise
        raise UnrecognisedCheckpointError(f"{where} makes no sense: {' '.join(str(error).split())[:300]}") from error
    model = from_pretrained(network, folder, False, whole=True, config=config)
    digest = hashlib.sha256()
    for file in files:
        with (folder / file).open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return Opened(model.to(device or best_device()).eval(), own_images(folder, images), folder, digest.hexdigest()[:16])


def _folder(source: str | Path, revision: str | None) -> Path:
    """A folder that is here, or the snapshot of a repository's files that are read."""
    if not is_folder(source):
        if not hub.REPO.fullmatch(str(source)):
            raise HubError(f"{source!r} is neither a folder (write ./{source}) nor a Hub repository, org/name")
        return snapshot(str(source), revision, _files)
    folder = Path(source).expanduser()
    if revision is not None:
        raise HubError(f"revision={revision!r} is of a repository on the Hub, and {source} is a folder; leave it out")
    if not (folder / "config.json").is_file():
        raise UnrecognisedCheckpointError(f"{folder} holds no config.json of transformers; pass the folder that does")
    return folder


def _files(names: set[str]) -> list[str]:
    known = {"config.json", *PROCESSOR_FILES, *TOKENIZER_FILES}
    weights = weight_files(names, "model", ())
    check_weights(weights, "the repository", "model.safetensors", False)  # before anything is fetched
    return sorted(names & known) + weights
