"""jina-embeddings-v3: an XLM-RoBERTa with rotary positions, and five adapters for tasks among its tensors; its code is not run.

transformers has the backbone as `jina_embeddings_v3`. The names of tensors are those that torch's parametrizations give the authors'
layers (modeling_lora.py of jinaai/xlm-roberta-flash-implementation); the files for sentence-transformers that lie beside, and call
that code, are not read.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.encoders._logging import quiet
from zoo.errors import MissingWeightsError, UnrecognisedCheckpointError
from zoo.formats import TOKENIZER_FILES, read_object, weight_files
from zoo.formats.backbones import read_config
from zoo.formats.checks.probing import check_states
from zoo.formats.checks.safetensors_checks import check_size, no_parameters
from zoo.formats.filling import fill, renamed
from zoo.formats.known import jina as known
from zoo.formats.known import sentence_transformers as sentence
from zoo.formats.layout import Layout, Opening, register_layout
from zoo.formats.sentence_transformers import prompts_of
from zoo.formats.settings import Ignore, read
from zoo.formats.tensors import read_tensors
from zoo.formats.tokenizer import read_tokenizer
from zoo.formats.transformers import PICKLES, folder_config, longest_text, text_spec

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.embedder import Embedder
    from zoo.encoders.text import TransformersText

KIND = "jina_embeddings_v3"
_OURS = {*known.V3.followed, *known.V3.inert, *known.V3.held}
# Parts of the authors' names → of ours, as transformers' own conversion of this type has them.
NAMES = {
    r"^roberta\.": "",
    r"^emb_ln\.": "embeddings.LayerNorm.",
    r"^encoder\.layers\.": "layers.",
    r"\.mixer\.out_proj\.": ".self_attn.o_proj.",
    r"\.mixer\.Wqkv\.": ".self_attn.Wqkv.",
    r"\.norm1\.": ".post_attention_layernorm.",
    r"\.norm2\.": ".post_mlp_layernorm.",
    r"\.parametrizations\.weight\.original$": ".weight",
    r"\.parametrizations\.weight\.0\.": ".",
}
_UNREAD = ("pooler.",)  # the layer after the first token


class Adapters(NamedTuple):
    """The adapters of a checkpoint: what stands before the texts of each task, in their order, and the size of all."""

    prompts: dict[str, str]
    rank: int
    scale: float


_TYPES = frozenset({"xlm-roberta"})  # what its config.json calls a backbone that is none of XLM-RoBERTa's


@register_layout
class JinaV3(Layout):
    """What Jina AI publishes as jinaai/jina-embeddings-v3."""

    name = "jina-embeddings-v3"
    order = 10  # before sentence-transformers, whose files lie beside
    looked_for = 'jina-embeddings-v3: config.json with "lora_adaptations", and model.safetensors'

    def recognise(self, names: set[str], read_json: Callable[[str], Any]) -> bool:
        """Whether config.json is one of an XLM-RoBERTa with adapters of this kind."""
        config = read_json("config.json") if "config.json" in names else None
        return isinstance(config, dict) and "lora_adaptations" in config and config.get("model_type") in _TYPES

    def files(self, names: set[str]) -> list[str]:
        """Configuration, weights, tokenizer and prompts; no code."""
        wanted = {"config.json", sentence.SETTINGS_FILE, *TOKENIZER_FILES}
        return sorted((names & wanted) | set(weight_files(names, "model", PICKLES)))

    def check_config(self, config: Any, names: set[str], opening: Opening, where: str) -> None:
        """Refuses settings that are not followed."""
        _split(config, where, opening.ignore)

    def load(self, folder: Path, opening: Opening) -> "Embedder":
        """One tower: the mean of the states of a backbone, the adapter of one task merged, or those of all tasks with a prompt beside it."""
        from zoo.embedder import Embedder, Tower
        from zoo.heads import Identity
        from zoo.pooling import Mean

        where = folder / "config.json"
        # Its code is not run: whether the caller trusts it does not matter.
        own, settings = _split(
            folder_config(folder, opening.allow_pickle, trust_remote_code=True), where, opening.ignore
        )
        adapters = _adapters(own, where)
        task = opening.like.adapter if opening.like is not None else ""
        if task and task not in adapters.prompts:
            raise UnrecognisedCheckpointError(
                f"{where} has adapters for {', '.join(adapters.prompts)}, and none for {task}"
            )
        backbone = read_config(settings, where, opening.ignore)
        with quiet():
            tokenizer = read_tokenizer(folder, opening.ignore, KIND)
        shape = {key: value for key, value in backbone.to_diff_dict().items() if key != "dtype"} | {"model_type": KIND}
        encoder = _built(folder, shape, longest_text(backbone, tokenizer), adapters, task, tokenizer)
        _fill(encoder, read_tensors(folder, opening.allow_pickle), adapters, task, folder, opening)
        check_states(encoder, where)
        file = folder / sentence.SETTINGS_FILE
        said = read(read_object(file), sentence.SETTINGS, file, opening.ignore) if file.is_file() else {}
        spec = text_spec(opening.name, encoder, encoder.width, **({} if task else prompts_of(said, file)))
        model = Embedder(spec, [Tower(encoder, Mean(), Identity())])
        model.spec = replace(spec, params=sum(p.numel() for p in model.parameters()))
        return model


def _split(config: Any, where: object, ignore: Ignore) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of the adapters, and those of the backbone as transformers' own type has them.

    Raises:
        UnreadSettingError: a setting of the adapters that is not followed.
    """
    own = read({key: value for key, value in config.items() if key in _OURS}, known.V3, where, ignore)
    settings = {key: value for key, value in config.items() if key not in _OURS} | {"model_type": KIND}
    if "rotary_emb_base" in own:
        settings["rope_theta"] = own["rotary_emb_base"]
    return own, settings


def _adapters(own: Mapping[str, Any], where: Path) -> Adapters:
    names, said = own.get("lora_adaptations"), own.get("task_instructions")
    rank, alpha = own.get("lora_rank", 4), own.get("lora_alpha", 1)
    whole = isinstance(names, list) and names and all(isinstance(name, str) for name in names)
    if not whole or not isinstance(said, dict) or set(said) != set(names):
        raise UnrecognisedCheckpointError(
            f"{where}: lora_adaptations is {str(names)[:80]} and task_instructions {str(said)[:80]}; both must name the same tasks"
        )
    if not all(isinstance(text, str) for text in said.values()) or type(rank) is not int or not 1 <= rank <= 8192:
        raise UnrecognisedCheckpointError(f"{where}: an instruction is no text, or lora_rank {rank!r} is no rank")
    if type(alpha) not in (int, float):
        raise UnrecognisedCheckpointError(f"{where}: lora_alpha is {alpha!r}, no number")
    return Adapters({name: said[name] for name in names}, rank, alpha / rank)


def _built(
    folder: Path, shape: dict[str, Any], longest: int, adapters: Adapters, task: str, tokenizer: Any
) -> "TransformersText":
    """The encoder without weights, once its size is one that the folder's weights explain."""
    from zoo.encoders.adapted import AdaptedText
    from zoo.encoders.text import TransformersText

    prompts = [prompt for prompt in adapters.prompts.values() if prompt]

    def build(tokenizer: Any = None) -> TransformersText:
        if task:
            return TransformersText(shape, longest, tokenizer=tokenizer)
        return AdaptedText(shape, longest, prompts, adapters.rank, adapters.scale, tokenizer=tokenizer)

    files = weight_files({path.name for path in folder.iterdir()}, "model", PICKLES)
    check_size(build, [folder / name for name in files if not name.endswith(".json")], str(folder / "config.json"))
    with no_parameters():
        return build(tokenizer)


def _fill(
    encoder: "TransformersText",
    tensors: "Mapping[str, Tensor]",
    adapters: Adapters,
    task: str,
    folder: Path,
    opening: Opening,
) -> None:
    """Puts every tensor of the checkpoint into its place, the adapter of one task into the weights that it is for.

    Raises:
        MissingWeightsError: one is missing, left over, or of another shape.
    """
    import torch

    found = {
        name: tensor.to(opening.dtype or torch.float32) for name, tensor in renamed(tensors, NAMES, _UNREAD).items()
    }
    rows = list(adapters.prompts)
    kept = [rows.index(task)] if task else [i for i, prompt in enumerate(adapters.prompts.values()) if prompt]
    for name in [name for name in found if name.endswith(".lora_A")]:
        layer = name.removesuffix(".lora_A")
        low, high = found.pop(name), found.pop(f"{layer}.lora_B", None)
        if high is None or {low.ndim, high.ndim} != {3} or {len(low), len(high)} != {len(rows)}:
            raise MissingWeightsError(
                f"{folder}: {layer} has no lora_B, or not an adapter for each of {len(rows)} tasks"
            )
        if not task:
            found |= {name: low[kept], f"{layer}.lora_B": high[kept]}
        elif (weight := found.get(f"{layer}.weight")) is not None:
            # Of a layer B is (out, rank) and A (rank, in); of a table A is (rows, rank) and B (rank, width).
            a, b = low[kept[0]].float(), high[kept[0]].float()
            sides = (b, a) if a.shape[0] == adapters.rank == b.shape[-1] else (a, b)
            if sides[0].shape[-1] != sides[1].shape[0] or (len(sides[0]), sides[1].shape[1]) != tuple(weight.shape):
                raise MissingWeightsError(f"{folder}: the adapters of {layer} do not fit its weight")
            found[f"{layer}.weight"] = torch.addmm(weight.float(), *sides, alpha=adapters.scale).to(weight.dtype)
    fill(encoder.backbone, found, folder)
