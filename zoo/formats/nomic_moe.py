"""nomic-embed-text-v2-moe: sentence-transformers' files around a NomicBERT with experts, which transformers' own class leaves out.

Its blocks are those that transformers has for jina-embeddings-v3 (an XLM-RoBERTa with rotary positions and norms after the parts);
its experts are ours. The code beside the weights is not run.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from zoo.encoders._logging import quiet
from zoo.errors import UnrecognisedCheckpointError
from zoo.formats import weight_files
from zoo.formats.backbones import check_heads
from zoo.formats.checks.probing import check_states
from zoo.formats.checks.safetensors_checks import check_size, no_parameters
from zoo.formats.filling import fill, renamed
from zoo.formats.known import nomic as known
from zoo.formats.known.config import OLD_NAMES
from zoo.formats.layout import Opening, register_layout
from zoo.formats.sentence_transformers import MODULES, SentenceTransformers
from zoo.formats.settings import NOTHING, Ignore, read
from zoo.formats.tensors import read_tensors
from zoo.formats.tokenizer import read_tokenizer
from zoo.formats.transformers import PICKLES, folder_config, longest_text
from zoo.spec import Attention

if TYPE_CHECKING:
    from zoo.encoders.text import TransformersText

BACKBONE = "jina_embeddings_v3"
NAMES = {
    r"^emb_ln\.": "embeddings.LayerNorm.",
    r"^encoder\.layers\.": "layers.",
    r"\.attn\.out_proj\.": ".self_attn.o_proj.",
    r"\.attn\.Wqkv\.": ".self_attn.Wqkv.",
    r"\.norm1\.": ".post_attention_layernorm.",
    r"\.norm2\.": ".post_mlp_layernorm.",
    r"\.mlp\.router\.layer\.": ".mlp.router.",
    r"\.mlp\.experts\.mlp\.w1$": ".mlp.into",
    r"\.mlp\.experts\.mlp\.w2$": ".mlp.back",
    r"\.mlp\.experts\.bias$": ".mlp.bias",
}


def load_experts(
    folder: Path,
    *,
    allow_pickle: bool,
    trust_remote_code: bool = False,
    max_tokens: int | None = None,
    lower: bool = False,
    assets: Path | None = None,
    ignore: Ignore = NOTHING,
    attention: Attention | None = None,
    around: Mapping[str, str] = MappingProxyType({}),
    closing: Mapping[str, str] = MappingProxyType({}),
) -> "TransformersText":
    """A backbone with experts and its tokenizer; the arguments are those of `zoo.formats.transformers.load_text`.

    Raises:
        UnreadSettingError: a setting that is not followed. UnrecognisedCheckpointError: sizes that fit no such backbone.
        MissingWeightsError: a tensor is missing, left over, or of another shape.
    """
    from zoo.encoders.experts import ExpertsText

    where = folder / "config.json"
    if around or closing:
        raise UnrecognisedCheckpointError(
            f"{where}: a backbone with experts has nothing around a text or after it; open it without like"
        )
    config = folder_config(folder, allow_pickle)
    check_heads(config, where, ignore)
    config = read(config, known.MOE, where, ignore)
    old = OLD_NAMES["nomic_bert"]
    shape = {ours: config[key] for key, ours in old.items() if key in config}
    shape |= {key: config[key] for key in ("vocab_size", "type_vocab_size", "pad_token_id") if key in config}
    turned = {"rope_type": "default", "rope_theta": shape.pop("rope_theta", 10_000.0)}
    shape = {"model_type": BACKBONE, "hidden_act": "gelu", "layer_norm_eps": 1e-5, "rope_parameters": turned, **shape}
    sizes = {
        ours: config.get(key)
        for ours, key in (("experts", "num_experts"), ("top", "moe_top_k"), ("every", "moe_every_n_layers"))
    }
    if any(type(size) is not int or size < 1 for size in sizes.values()) or sizes["top"] > sizes["experts"]:
        raise UnrecognisedCheckpointError(
            f"{where}: num_experts, moe_top_k and moe_every_n_layers are {tuple(sizes.values())}"
        )
    with quiet():
        tokenizer = read_tokenizer(assets or folder, ignore, BACKBONE)

    def build(tokenizer: Any = None) -> ExpertsText:
        return ExpertsText(
            shape, max_tokens or shape["max_position_embeddings"], **sizes, lower=lower, tokenizer=tokenizer
        )

    files = weight_files({path.name for path in folder.iterdir()}, "model", PICKLES)
    built = check_size(build, [folder / name for name in files if not name.endswith(".json")], str(where))
    if max_tokens is None:
        max_tokens = longest_text(built.backbone.config, tokenizer)
    with no_parameters():
        encoder = build(tokenizer)
    found = {name: tensor.float() for name, tensor in renamed(read_tensors(folder, allow_pickle), NAMES).items()}
    for name, tensor in found.items():
        if name.endswith((".mlp.into", ".mlp.back")):  # one expert below the other: (experts · hidden, width)
            found[name] = tensor.unflatten(0, (sizes["experts"], -1)) if len(tensor) % sizes["experts"] == 0 else tensor
    fill(encoder.backbone, found, folder)
    check_states(encoder, where)
    return encoder


@register_layout
class NomicMoe(SentenceTransformers):
    """What Nomic AI publishes as nomic-ai/nomic-embed-text-v2-moe."""

    name = "nomic-moe"
    order = 10  # before sentence-transformers, whose files lie beside
    looked_for = f'nomic-moe: {MODULES} and config.json with "model_type": "nomic_bert" and "num_experts"'
    read_text = staticmethod(load_experts)

    def recognise(self, names: set[str], read_json: Callable[[str], Any]) -> bool:
        """Whether sentence-transformers wrote these files, around a NomicBERT with experts."""
        config = read_json("config.json") if {MODULES, "config.json"} <= names else None
        return isinstance(config, dict) and config.get("model_type") == "nomic_bert" and bool(config.get("num_experts"))

    def check_config(self, config: Any, names: set[str], opening: Opening, where: str) -> None:
        """Refuses settings that are not followed."""
        read(config, known.MOE, where, opening.ignore)
