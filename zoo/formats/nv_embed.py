"""NV-Embed v1 and v2: a Mistral that reads both ways and latent attention over its states, without the code beside the weights.

The files for sentence-transformers that lie there (modules.json and its folders) say of the same model how that library calls the
authors' code; they are not read. Texts are read up to the backbone's positions, as the authors' usage has it.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.encoders._logging import quiet
from zoo.errors import MissingWeightsError, UnrecognisedCheckpointError
from zoo.formats import read_object, weight_files
from zoo.formats.backbones import read_config
from zoo.formats.checks.probing import check_states
from zoo.formats.checks.safetensors_checks import check_size, read_header
from zoo.formats.known import nv_embed as known
from zoo.formats.known import sentence_transformers as sentence
from zoo.formats.layout import Opening, register_layout
from zoo.formats.sentence_transformers import prompts_of
from zoo.formats.settings import read
from zoo.formats.tensors import read_beginning
from zoo.formats.tokenizer import read_tokenizer
from zoo.formats.transformers import PICKLES, OfTypes, folder_config, from_pretrained, longest_text, text_spec

if TYPE_CHECKING:
    from zoo.embedder import Embedder
    from zoo.pooling.latent_attention import LatentAttention

MODEL_TYPE, BACKBONES = "nvembed", ("bidir_mistral", "mistral")
BACKBONE, POOLER = "embedding_model.", "latent_attention_model."
_SHAPE = {"latents": ("num_latents_value", 512), "heads": ("num_cross_heads", 8), "head_dim": ("cross_dim_head", 4096)}
# Beginnings of the authors' names of the pooler's tensors → ours.
NAMES = {
    "latents": "latents",
    "cross_attend_blocks.0.norm.": "norm.",
    "cross_attend_blocks.0.norm_context.": "norm_latents.",
    "cross_attend_blocks.0.fn.to_q.": "query.",
    "cross_attend_blocks.0.fn.to_kv.": "key_value.",
    "cross_attend_blocks.0.fn.to_out.": "out.",
    "cross_attend_blocks.1.norm.": "norm_layer.",
    "cross_attend_blocks.1.fn.net.0.": "gated.",
    "cross_attend_blocks.1.fn.net.2.": "back.",
}


@register_layout
class NvEmbed(OfTypes):
    """What NVIDIA publishes as nvidia/NV-Embed-v1 and -v2."""

    name = "nv-embed"
    order = 10  # before sentence-transformers, whose files lie beside
    looked_for = f'nv-embed: config.json with "model_type": "{MODEL_TYPE}", and model.safetensors'
    types = (MODEL_TYPE,)
    beside = (sentence.SETTINGS_FILE,)

    def check_config(self, config: Any, names: set[str], opening: Opening, where: str) -> None:
        """Refuses settings that are not followed."""
        read(config, known.MODEL, where, opening.ignore)

    def load(self, folder: Path, opening: Opening) -> "Embedder":
        """One tower: the backbone, latent attention, no head."""
        from transformers import MistralModel

        from zoo.embedder import Embedder, Tower
        from zoo.encoders.nv_embed import NvEmbedText
        from zoo.heads import Identity

        where = folder / "config.json"
        # Its code is not run: whether the caller trusts it does not matter.
        config = folder_config(folder, opening.allow_pickle, trust_remote_code=True)
        config = read(config, known.MODEL, where, opening.ignore)
        settings = _part(config, "text_config", where)
        stated = settings.get("model_type", BACKBONES[0])
        if stated not in BACKBONES:
            raise UnrecognisedCheckpointError(
                f"{where}: the text_config is of the type {stated!r}; NV-Embed is one of {', '.join(BACKBONES)}"
            )
        # The authors' mask lets a token see the whole text, window or not.
        settings = {**settings, "model_type": "mistral", "sliding_window": None}
        shape = read_config(settings, where, opening.ignore, "bidirectional")
        with quiet():  # transformers would say that it knows no such type
            tokenizer = read_tokenizer(folder, opening.ignore, "mistral")
        pooler = _pooler(folder, _part(config, "latent_attention_config", where), shape.hidden_size, opening)
        options = {"config": shape, "dtype": opening.dtype, "key_mapping": {rf"^{BACKBONE[:-1]}\.": ""}}
        backbone = from_pretrained(MistralModel, folder, opening.allow_pickle, **options)
        _check_left_over(folder, {*backbone.state_dict()})
        encoder = NvEmbedText(
            backbone.config.to_diff_dict() | {"model_type": "mistral"},
            longest_text(backbone.config, tokenizer),
            end=tokenizer.eos_token,
            backbone=backbone,
            tokenizer=tokenizer,
            pool_prompt=not config.get("is_mask_instruction", True),
        )
        check_states(encoder, where)
        file = folder / sentence.SETTINGS_FILE
        said = read(read_object(file), sentence.SETTINGS, file, opening.ignore) if file.is_file() else {}
        spec = text_spec(opening.name, encoder, encoder.width, **prompts_of(said, file))
        model = Embedder(spec, [Tower(encoder, pooler, Identity())])
        model.spec = replace(spec, params=sum(p.numel() for p in model.parameters()))
        return model


def _part(config: Mapping[str, Any], key: str, where: Path) -> dict[str, Any]:
    part = config.get(key)
    if not isinstance(part, dict):
        raise UnrecognisedCheckpointError(f"{where} has no {key}, which says what NV-Embed's part is like")
    return part


def _pooler(folder: Path, settings: dict[str, Any], width: int, opening: Opening) -> "LatentAttention":
    """The latent attention of a folder, every tensor from its files.

    Raises:
        MissingWeightsError: they lack one, or have it in another shape.
    """
    import torch

    from zoo.pooling.latent_attention import LatentAttention

    where = folder / "config.json"
    settings = read(settings, known.LATENT, where, opening.ignore, "latent_attention_config.")
    shape = {ours: settings.get(theirs, usual) for ours, (theirs, usual) in _SHAPE.items()}
    for name, size in {**shape, **{name: settings.get(name, width) for name in ("latent_dim", "hidden_dim")}}.items():
        if type(size) is not int or size < 1 or (name.endswith("_dim") and name != "head_dim" and size != width):
            raise UnrecognisedCheckpointError(
                f"{where}: latent_attention_config gives {name} = {size!r}, which does not fit states of {width} columns"
            )
    build: Callable[[], LatentAttention] = lambda: LatentAttention(width, **shape)  # noqa: E731
    names = weight_files({path.name for path in folder.iterdir()}, "model", PICKLES)
    check_size(build, [folder / name for name in names if not name.endswith(".json")], str(where))
    with torch.device("meta"):
        pooler = build()
    tensors = {}
    for name, tensor in read_beginning(folder, POOLER, opening.allow_pickle).items():
        begins = next((begins for begins in NAMES if name.startswith(begins)), "")
        tensors[NAMES.get(begins, "?") + name.removeprefix(begins)] = tensor.to(opening.dtype or torch.float32)
    wanted = {name: tuple(tensor.shape) for name, tensor in pooler.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if wrong := sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name)):
        first = wrong[0]
        raise MissingWeightsError(
            f"{folder}: {len(wrong)} tensors of the latent attention are not as config.json says; {first[:80]} should have the shape "
            f"{wanted.get(first)} and has {found.get(first)}: fetch the files again"
        )
    pooler.load_state_dict(tensors, assign=True)
    return pooler.requires_grad_(True)


def _check_left_over(folder: Path, names: set[str]) -> None:
    """Raises MissingWeightsError for tensors that neither part has, such as those of more layers than config.json says."""
    for path in sorted(folder.glob("model*.safetensors")):
        spare = [
            name
            for name in read_header(path)
            if name.removeprefix(BACKBONE) not in names and not name.startswith(POOLER) and "inv_freq" not in name
        ]
        if spare:
            raise MissingWeightsError(
                f"{path} has {len(spare)} tensors that the model of its config.json does not have, such as {spare[0][:80]}"
            )
