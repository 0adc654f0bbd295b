"""Writes the folder: the first form that fits a model, and what open_clip reads beside it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import NotExportableError
from zoo.files import writing_folder
from zoo.publishing.exports.loaders import LOADERS, loaders_of
from zoo.reranking.registry import reranker_meant

if TYPE_CHECKING:
    from zoo.embedder import Embedder

_TIMM = "timm wants config.json for itself: the vision tower goes into a repository of its own"
_STATES = "transformers gives token states, and has no place for the head after the pooling"
_TOKENS = "this model has one vector per token (late interaction); the loaders that the zoo writes give one an item"


@dataclass(frozen=True)
class Exported:
    """What `export` wrote.

    Attributes:
        loaders: each of `LOADERS` → "" where the folder serves it, else the reason why not.
        files: paths inside the folder.
    """

    folder: Path
    loaders: dict[str, str]
    files: tuple[str, ...] = ()


def export(model: "Embedder", folder: str | Path) -> Exported:
    """Writes one folder for all the libraries that can have the model, whole or not at all; safetensors only, never a pickle.

    The first of three forms that fits: sentence-transformers' and transformers' own files for a text backbone; those of
    transformers' CLIP, SigLIP and SigLIP 2; else the zoo's own folder with Python code that calls the installed zoo.

    timm wants config.json for itself: `zoo.publishing.exports.timm.write` fills another folder.

    Args:
        folder: new or empty.

    Raises:
        NotExportableError: the folder holds something, or the model was built without its tokenizer.
    """
    from zoo.publishing.exports import code, dual, open_clip, text

    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise NotExportableError(f"{folder} is not empty; export into a new folder")
    if reranker := reranker_meant(model):
        raise NotExportableError(
            f"{reranker} is a reranker, and these are loaders of embedders; what save_pretrained writes of a cross-encoder is "
            "opened by sentence-transformers and transformers as it is"
        )
    if reason := code.unfit(model):
        raise NotExportableError(reason)
    # No other library has our int8 layers: they are opened by the installed zoo.
    forms = (text, dual, code) if model.quantized is None else (code,)
    form = next(form for form in forms if not form.unfit(model))
    reasons = {"timm": _TIMM}
    if model.spec.similarity == "maxsim":
        reasons |= dict.fromkeys(("transformers", "sentence-transformers"), _TOKENS)
    with writing_folder(folder) as draft:
        form.write(model, draft)
        try:
            open_clip.write(model, draft)
        except NotExportableError as error:
            reasons["open_clip"] = str(error)
    served = loaders_of(folder)
    reasons.setdefault("transformers", _STATES)
    loaders = {loader: "" if loader in served else reasons[loader] for loader in LOADERS}
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return Exported(folder, loaders, tuple(files))
