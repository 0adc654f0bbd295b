"""The zoo, transformers and sentence-transformers as loaders: each embeds a folder by its own public calls."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.errors import UnsafeCheckpointError, UnsupportedModalityError
from zoo.inputs.item import Item
from zoo.prompts import Role, for_role, text_of
from zoo.publishing.exports.text import POOLING
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Call(NamedTuple):
    """How a loader is called; `zoo.publishing.exports.encode_with` describes the fields."""

    prompt_name: str | None = None
    role: Role | None = None
    batch_size: int = 32
    dtype: "torch.dtype | None" = None
    trust_remote_code: bool = False
    raw: bool = False
    spec: ModelSpec | None = None

    def how(self, spec: ModelSpec) -> dict[str, Any]:
        """The prompt as arguments of `encode` and of our processor."""
        return {"prompt_name": self.prompt_name} if self.role is None else for_role(spec, self.role)


class Reader(NamedTuple):
    """What `zoo.publishing.exports` asks of a loader; the modules open_clip.py and timm.py have the same three."""

    serves: Callable[[Path], bool]
    encode: Callable[..., "Tensor"]
    snippet: Callable[..., str]


VIDEOS, AUDIO = '[{"video": "clip.mp4"}]', '[{"audio": "bark.wav"}]'  # as sentence-transformers takes them
_FILES = {VIDEOS: "clip.mp4", AUDIO: "bark.wav"}
_POOLING_LINES = {
    "mean": "vectors = (states * mask).sum(1) / mask.sum(1)",
    "cls": "vectors = states[:, 0]",
    "": "# pool the states as 1_Pooling/config.json says, or let sentence-transformers do it",
}


def spec_of(folder: Path) -> ModelSpec | None:
    """The facts in a folder's zoo.json, or in a config.json of the zoo; None where there are none."""
    config = _json(folder / "zoo.json") or _json(folder / "config.json")
    return ModelSpec.from_dict(config["spec"]) if isinstance(config.get("spec"), dict) else None


def with_prompt(items: Sequence[Item], spec: ModelSpec | None, call: Call) -> list[Item]:
    """Items with a prompt of the model's before their texts, for libraries that know no prompts."""
    words = text_of(spec, **call.how(spec)) if spec is not None else ""
    return [replace(item, text=words + item.text) if words and item.text is not None else item for item in items]


def keeps_norms(folder: Path) -> bool:
    """Whether a folder's model compares by dot product and has no Normalize: its vectors are not made unit length."""
    named = _json(folder / "config_sentence_transformers.json").get("similarity_fn_name")
    return named == "dot" and not any("Normalize" in kind for kind in _modules(folder))


def ends_early(loader: str, folder: Path) -> bool:
    """Whether a library's own call ends before the vectors are made unit length, which its users do themselves."""
    return loader == "timm" or (loader == "transformers" and not _own(folder))


def by_kind(
    items: Sequence[Item], embed: dict[str, Callable[[list[Any]], "Tensor"]], batch_size: int, norms: bool = False
) -> "Tensor":
    """Texts, images and videos apart, in batches, back in order: `(n, dim)`, float32 on the CPU, of unit length but for `norms`.

    Args:
        embed: "text" → function of strings, "image" → of PIL images, "video" → of videos, "audio" → of audio, each giving `(batch, dim)`.
        norms: the vectors keep theirs.
    """
    import torch
    from torch.nn import functional as F

    from zoo.inputs.image import load_pixels

    rows: list[Tensor | None] = [None] * len(items)
    for kind, function in embed.items():
        mine = [i for i, item in enumerate(items) if item.modalities == {kind}]
        for start in range(0, len(mine), batch_size):
            part = mine[start : start + batch_size]
            values = [getattr(items[i], kind) for i in part]
            values = [pil_image(load_pixels(image)) for image in values] if kind == "image" else values
            with torch.inference_mode():
                vectors = function(values).float().cpu()
                vectors = vectors if norms else F.normalize(vectors, dim=-1)
            for i, vector in zip(part, vectors, strict=True):
                rows[i] = vector
    if left := [items[i].modalities for i, row in enumerate(rows) if row is None]:
        raise UnsupportedModalityError(f"this loader reads {sorted(embed)}, not {sorted(left[0])} in one item")
    return torch.stack(rows)  # type: ignore[arg-type]


def pil_image(pixels: Any) -> Any:
    """An array `(height, width, 3)` as a PIL image."""
    from PIL import Image

    return Image.fromarray(pixels)


# ------------------------------------------------------------------------------------------------------- the zoo itself


def _zoo_serves(folder: Path) -> bool:
    from zoo.errors import UnrecognisedCheckpointError
    from zoo.formats import read_json
    from zoo.formats.layout import recognise

    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    try:
        return bool(recognise(names, lambda file: read_json(folder / file), str(folder)))
    except UnrecognisedCheckpointError:
        return False


def _zoo_encode(folder: Path, items: Sequence[Item], call: Call) -> "Tensor":
    from zoo.loading import load_model

    model = load_model(folder, device="cpu", dtype=call.dtype)
    encode = {"query": model.encode_query, "document": model.encode_document}.get(call.role, model.encode)
    named = {} if call.role else {"prompt_name": call.prompt_name}
    return encode(list(items), batch_size=call.batch_size, **named)


def _zoo_snippet(repo: str, spec: ModelSpec, folder: Path | None) -> str:
    example, imports = _example(spec), "from zoo import load_model"
    if example in _FILES:
        example, imports = f'Path("{_FILES[example]}")', f"from pathlib import Path\n\n{imports}"
    return f'{imports}\n\nmodel = load_model("hf:{repo}")\nvectors = model.encode({example})'


# -------------------------------------------------------------------------------------------------------- transformers


def _transformers_serves(folder: Path) -> bool:
    config = _json(folder / "config.json")
    if config.get("model_type") == "zoo":
        return "auto_map" in config
    # What comes after the pooling, a library that knows only the backbone cannot have; nor that a prompt is left out of the pool.
    after = any("Dense" in kind or "LayerNorm" in kind for kind in _modules(folder))
    return bool(config.get("model_type")) and not after and _pooled(folder).get("include_prompt", True) is not False


def _transformers_encode(folder: Path, items: Sequence[Item], call: Call) -> "Tensor":
    import torch

    if _own(folder):
        return by_kind(items, _zoo_model(folder, call), call.batch_size, norms=True)
    items = with_prompt(items, call.spec or spec_of(folder), call)
    if (folder / "preprocessor_config.json").is_file():
        embed = _dual_model(folder, call.dtype or torch.float32)
    else:
        embed = {"text": _text_model(folder, call.dtype or torch.float32)}
    return by_kind(items, embed, call.batch_size, norms=call.raw or keeps_norms(folder))


def _zoo_model(folder: Path, call: Call) -> dict[str, Any]:
    from transformers import AutoModel, AutoProcessor

    from zoo.publishing.exports.automodel import register

    register()
    options = {"trust_remote_code": call.trust_remote_code}
    model = AutoModel.from_pretrained(folder, dtype=call.dtype, **options)
    processor = AutoProcessor.from_pretrained(folder, **options)
    prompt = call.how(processor.spec)
    return {
        "text": lambda texts: model.get_text_features(**processor(text=texts, **prompt)).pooler_output,
        "image": lambda images: model.get_image_features(**processor(images=images, **prompt)).pooler_output,
        "video": lambda videos: model.get_video_features(**processor(videos=videos, **prompt)).pooler_output,
        "audio": lambda audio: model.get_audio_features(**processor(audio=audio, **prompt)).pooler_output,
    }


def _dual_model(folder: Path, dtype: "torch.dtype") -> dict[str, Any]:
    from transformers import AutoModel, AutoProcessor

    from zoo.encoders.transformers_dual import DUALS
    from zoo.formats.transformers import quiet

    with quiet():
        model = AutoModel.from_pretrained(folder, dtype=dtype, trust_remote_code=False).eval()
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False)
    fill = {"padding": "max_length" if DUALS[model.config.model_type].fills else True}
    limit = processor.tokenizer.model_max_length
    # SigLIP 2's processor counts patches by a number of its own, unless it is told.
    most = getattr(processor.image_processor, "max_num_patches", None)
    patches = {"max_num_patches": most} if most else {}

    def texts(values: list[str]) -> "Tensor":
        batch = processor(text=values, truncation=True, max_length=limit, return_tensors="pt", **fill)
        return model.get_text_features(**batch).pooler_output

    def images(values: list[Any]) -> "Tensor":
        batch = processor(images=values, return_tensors="pt", **patches)
        batch["pixel_values"] = batch["pixel_values"].to(dtype)
        return model.get_image_features(**batch).pooler_output

    return {"text": texts, "image": images}


def _text_model(folder: Path, dtype: "torch.dtype") -> Callable[[list[str]], "Tensor"]:
    """The backbone by transformers, its states pooled as the cards of such models tell their readers to."""
    import torch
    import transformers
    from transformers import AutoTokenizer

    from zoo.formats.transformers import quiet
    from zoo.inputs.item import Tokens
    from zoo.pooling import Concat

    with quiet():
        opens = getattr(transformers, _text_class(folder))
        model = opens.from_pretrained(folder, dtype=dtype, trust_remote_code=False).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    names = {mode: cls.__name__ for cls, mode in POOLING.items()}
    pooler = Concat([names[mode] for mode in _pooling(folder)])

    def texts(values: list[str]) -> "Tensor":
        batch = tokenizer(values, padding=True, truncation=True, return_tensors="pt")
        states = model(**batch).last_hidden_state
        return pooler(Tokens(states, batch["attention_mask"].to(torch.bool)))

    return texts


def _text_class(folder: Path) -> str:
    """The class of transformers that opens a text backbone: of T5 and its relatives AutoModel would want the decoder too."""
    names = _json(folder / "config.json").get("architectures") or []
    encoder = next((name for name in names if re.fullmatch(r"\w+EncoderModel", str(name))), None)
    return encoder or "AutoModel"


def _transformers_snippet(repo: str, spec: ModelSpec, folder: Path | None) -> str:
    if folder is not None and "text" in spec.modalities and (folder / "1_Pooling" / "config.json").is_file():
        opens = _text_class(folder)
        lines = ["import torch", f"from transformers import {', '.join(sorted((opens, 'AutoTokenizer')))}", ""]
        lines += [f'tokenizer, model = (cls.from_pretrained("{repo}") for cls in (AutoTokenizer, {opens}))']
        lines += [f'batch = tokenizer({_example(spec)}, padding=True, truncation=True, return_tensors="pt")']
        lines += ["states, mask = model(**batch).last_hidden_state, batch.attention_mask[:, :, None]"]
        pooling = _POOLING_LINES.get("+".join(_pooling(folder)), _POOLING_LINES[""])
        if not pooling.startswith("#") and not keeps_norms(folder):
            pooling = pooling.replace("vectors = ", "vectors = torch.nn.functional.normalize(") + ", dim=-1)"
        return "\n".join([*lines, pooling])
    from zoo.encoders.transformers_dual import DUALS

    kind, value = ("text", f"text={_example(spec)}") if "text" in spec.modalities else ("image", "images=[image]")
    kind, value = {
        VIDEOS: ("video", 'videos=[Path("clip.mp4")]'),
        AUDIO: ("audio", 'audio=[Path("bark.wav")]'),
    }.get(_example(spec), (kind, value))
    known = DUALS.get(_model_type(folder) or "") if folder is not None else None
    fill = ', padding="max_length"' if known is not None and known.fills else ", padding=True"
    lines = ["from transformers import AutoModel, AutoProcessor", ""]
    lines = ["from pathlib import Path", "", *lines] if kind in ("video", "audio") else lines
    lines += [f'model = AutoModel.from_pretrained("{repo}"{_trust(folder)})']
    lines += [f'processor = AutoProcessor.from_pretrained("{repo}"{_trust(folder)})']
    lines += [f'batch = processor({value}{fill if kind == "text" else ""}, return_tensors="pt")']
    return "\n".join([*lines, f"vectors = model.get_{kind}_features(**batch).pooler_output"])


# ----------------------------------------------------------------------------------------------- sentence-transformers


def _sentence_serves(folder: Path) -> bool:
    return (folder / "modules.json").is_file()


def _sentence_encode(folder: Path, items: Sequence[Item], call: Call) -> "Tensor":
    import torch
    from sentence_transformers import SentenceTransformer

    from zoo.formats.transformers import quiet
    from zoo.publishing.exports.code import has_only_our_code

    own = any(not kind.startswith("sentence_transformers.") for kind in _modules(folder))
    if own and not (call.trust_remote_code or has_only_our_code(folder)):
        raise UnsafeCheckpointError(
            f"sentence-transformers would run Python files of {folder} that this zoo did not write; read them, then pass "
            "trust_remote_code=True"
        )
    with quiet():
        model = SentenceTransformer(
            str(folder), device="cpu", trust_remote_code=own, model_kwargs={"dtype": call.dtype or torch.float32}
        )

    encode = {"query": model.encode_query, "document": model.encode_document}.get(call.role, model.encode)

    def embed(values: list[Any]) -> "Tensor":
        return encode(values, batch_size=call.batch_size, prompt_name=call.prompt_name, convert_to_tensor=True)

    kinds = {"text": embed, "image": embed, "video": lambda videos: embed([{"video": video} for video in videos])}
    kinds["audio"] = lambda audio: embed([{"audio": one} for one in audio])
    return by_kind(items, kinds, len(items) or 1, norms=True)


def _sentence_snippet(repo: str, spec: ModelSpec, folder: Path | None) -> str:
    lines = ["from sentence_transformers import SentenceTransformer", ""]
    lines += [f'model = SentenceTransformer("{repo}"{_trust(folder)})']
    return "\n".join([*lines, f"vectors = model.encode({_example(spec)})"])


READERS = {
    "zoo": Reader(_zoo_serves, _zoo_encode, _zoo_snippet),
    "transformers": Reader(_transformers_serves, _transformers_encode, _transformers_snippet),
    "sentence-transformers": Reader(_sentence_serves, _sentence_encode, _sentence_snippet),
}


def _example(spec: ModelSpec) -> str:
    if "text" in spec.modalities:
        return '["a red bicycle"]'
    if "image" in spec.modalities:
        return "[image]"
    return VIDEOS if "video" in spec.modalities else AUDIO


def _json(path: Path) -> dict[str, Any]:
    from zoo.formats import read_json

    value = read_json(path) if path.is_file() else {}
    return value if isinstance(value, dict) else {}


def _own(folder: Path) -> bool:
    """Whether the folder's classes are its own Python files."""
    return _model_type(folder) == "zoo"


def _trust(folder: Path | None) -> str:
    return ", trust_remote_code=True" if folder is None or _own(folder) else ""


def _modules(folder: Path) -> list[str]:
    """The classes in modules.json, none where there is no such file."""
    from zoo.formats import read_json

    rows = read_json(folder / "modules.json") if (folder / "modules.json").is_file() else []
    return [str(row.get("type")) for row in rows if isinstance(row, dict)]


def _pooled(folder: Path) -> dict[str, Any]:
    return _json(folder / "1_Pooling" / "config.json")


def _pooling(folder: Path) -> list[str]:
    modes = _pooled(folder).get("pooling_mode", "mean")
    return [modes] if isinstance(modes, str) else list(modes)


def _model_type(folder: Path) -> str | None:
    return _json(folder / "config.json").get("model_type")
