"""config.json of nomic-embed-text-v2-moe, as its authors' NomicBertConfig has it, beside what any backbone's may hold without effect."""

from zoo.formats.known.config import INERT, OLD_NAMES
from zoo.formats.settings import Only, Table

_PARTS = "its blocks have their parts one after the other, norms after each"
_TURNED = "halves of whole heads are turned, by positions that nothing stretches"
_SHARE = "every token goes to its best experts, and their weights stay as they are"
_BIAS = "its layers have a bias each"
_SIZES = {"vocab_size", "type_vocab_size", "pad_token_id", "num_experts", "moe_top_k", "moe_every_n_layers"}
_FOLLOWED = {*_SIZES, *OLD_NAMES["nomic_bert"], "model_type", "architectures", "auto_map"}
HELD = {
    "activation_function": Only(("gelu",), "its experts have the GELU between their layers"),
    "add_pooling_layer": Only((None, False), "the layer after the first token is not read"),
    "causal": Only((None, False), "it reads in both directions"),
    "expert_choice_router": Only((None, False), _SHARE),
    "ffn_div": Only((None, 1), "an expert is as wide as the network whose place it takes"),
    "mlp_fc1_bias": Only((True,), _BIAS),
    "mlp_fc2_bias": Only((True,), _BIAS),
    "moe_normalize_expert_weights": Only((None, False), _SHARE),
    "num_shared_experts": Only((None, 0), _SHARE),
    "parallel_block": Only((None, False), _PARTS),
    "parallel_block_tied_norm": Only((None, False), _PARTS),
    "prenorm": Only((None, False), _PARTS),
    "qkv_proj_bias": Only((True,), _BIAS),
    "reorder_and_upcast_attn": Only((None, False), "attention is computed in the type of the weights"),
    "rotary_emb_fraction": Only((1, 1.0), _TURNED),
    "rotary_emb_interleaved": Only((None, False), _TURNED),
    "rotary_emb_scale_base": Only((None,), _TURNED),
    "rotary_scaling_factor": Only((None,), _TURNED),
    "scale_attn_by_inverse_layer_idx": Only((None, False), "attention is scaled by the width of a head alone"),
    "scale_attn_weights": Only((None, True), "attention is scaled by the width of a head"),
    "use_rms_norm": Only((None, False), "its norms are layer norms"),
}
MOE = Table(_FOLLOWED, {key: why for key, why in INERT.items() if key not in {*_FOLLOWED, *HELD}}, HELD)
