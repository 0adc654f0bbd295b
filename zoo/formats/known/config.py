"""config.json of transformers' text backbones.

Followed are the fields of the backbone's own configuration class in the installed transformers, listed from the class, and
what it reads beside them (`READ_BESIDE`). This file says which of them, and of the keys of older versions, have no effect.
"""

from zoo.formats.settings import Only

# Backbones that the zoo embeds texts with, in a plain folder and inside sentence-transformers' alike. In an encoder every
# token sees every other.
ENCODERS = (
    "albert",
    "bert",
    "camembert",
    "data2vec-text",
    "deberta",
    "deberta-v2",
    "distilbert",
    "electra",
    "embedding_gemma2_text",
    "ernie",
    "eurobert",
    "gte",
    "jina_embeddings_v3",
    "megatron-bert",
    "modernbert",
    "mpnet",
    "mt5",
    "nomic_bert",
    "rembert",
    "roberta",
    "roberta-prelayernorm",
    "roformer",
    "t5",
    "ultrabert",
    "umt5",
    "xlm-roberta",
    "xlm-roberta-xl",
)
# In one decoder per token sees those before it, unless the configuration says that its attention is bidirectional.
DECODERS = (
    "gemma",
    "gemma2",
    "gemma3_text",
    "gpt2",
    "gpt_neo",
    "gpt_neox",
    "gptj",
    "granite",
    "llama",
    "mistral",
    "mixtral",
    "olmo2",
    "phi3",
    "qwen2",
    "qwen3",
    "smollm3",
    "starcoder2",
)
TEXT = tuple(sorted((*ENCODERS, *DECODERS)))
ABSOLUTE = ("gpt2", "gpt_neo")  # decoders that count positions from the first token, filler or not
# Decoders whose use_bidirectional_attention transformers reads itself, with windows that is_causal would not give.
OWN_BOTH_WAYS = ("gemma3_text",)
# Decoders with a window, which those who read them in both directions leave out: NV-Embed, GritLM and LLM2Vec, each in code of its own.
WHOLE_BOTH_WAYS = ("mistral", "mixtral")

# Names of settings before a backbone got a class of transformers.
OLD_NAMES = {
    "nomic_bert": {
        "attn_pdrop": "attention_probs_dropout_prob",
        "layer_norm_epsilon": "layer_norm_eps",
        "n_embd": "hidden_size",
        "n_head": "num_attention_heads",
        "n_inner": "intermediate_size",
        "n_layer": "num_hidden_layers",
        "n_positions": "max_position_embeddings",
        "resid_pdrop": "hidden_dropout_prob",
        "rotary_emb_base": "rope_theta",
    },
}

# Types that repositories have from before transformers had the class, built by code of their authors' own: Alibaba-NLP/new-impl.
OLD_TYPES = {"new": "gte"}
# What such a repository means where it does not say it, and transformers' class would take another value: NewConfig's own.
OLD_DEFAULTS = {"new": {"max_position_embeddings": 2048, "rope_theta": 1e4, "vocab_size": 30528}}
# Old names of a number of positions that counts beside the new one: of both the larger, since these backbones turn any position.
LONGER = {"nomic_bert": ("n_positions", "max_position_embeddings")}

# Authors' classes (auto_map) whose vectors, or scores, transformers' own class of that type gives too.
SAME_CODE = {
    "eurobert": ("EuroBertModel",),
    "gte": ("GteModel", "NewForSequenceClassification", "NewModel"),
    "jina_embeddings_v3": ("XLMRobertaLoRA", "XLMRobertaModel"),
    "nomic_bert": ("NomicBertModel",),
    "tipsv2": ("TIPSv2Model",),
}

# What the classes read besides their fields.
_WINDOWS = ("global_attn_every_n_layers", "global_rope_theta", "local_rope_theta")
_T5 = ("dense_act_fn", "is_gated_act")
ROPE = ("rope_theta", "rope_scaling", "partial_rotary_factor")  # where the class has rope_parameters
READ_BESIDE = {
    "": ("per_layer_config",),
    "dac": ("hop_length", "upsampling_ratios"),  # both follow from downsampling_ratios
    "deberta": ("pooler_hidden_size",),
    "deberta-v2": (
        "pooler_hidden_size",
        "norm_rel_ebd",
        "position_buckets",
        "share_att_key",
        "conv_kernel_size",
        "conv_act",
    ),
    "embedding_gemma2_text": ("sliding_window_pattern", "global_head_dim", "num_global_key_value_heads"),
    "gemma3_text": ("sliding_window_pattern", "rope_local_base_freq"),
    "gpt_neo": ("attention_layers",),
    "gpt_neox": ("rotary_emb_base", "rotary_pct"),
    "modernbert": _WINDOWS,
    "mt5": _T5,
    # By which its own code counts where images and videos begin; its configuration class has no field for it.
    "qwen2_5_omni_thinker": ("vision_start_token_id", "vision_end_token_id", "vision_token_id"),
    "t5": _T5,
    "timm_wrapper": ("global_pool", "label_names", "num_classes"),  # of PE-AV, whose loader reads them
    "ultrabert": ("attention_windows",),
    "umt5": _T5,
}

_TRAINING = "of training; nothing is dropped, masked or initialised when a text is embedded"
_HEAD = "of a head for another task, which an embedder has not"
_GENERATION = "of writing text, which an embedder does not"
_RECORD = "a record of how the file came to be"
_SPEED = "how the same numbers are computed, not which"
_POOLER = "of the layer after the first token, which the zoo does not take"
_TOKENS = "the tokenizer's own files say which tokens stand at the ends of a text"

INERT = {
    # How the file came to be.
    "_commit_hash": _RECORD,
    "_name_or_path": _RECORD,
    "_num_labels": _HEAD,
    "adapters": _RECORD,
    "finetuning_task": _RECORD,
    "initializer_cutoff_factor": _TRAINING,
    "initializer_factor": _TRAINING,
    "initializer_range": _TRAINING,
    "language": _RECORD,
    "name": _RECORD,
    "name_or_path": _RECORD,
    "model_name": _RECORD,
    "transformers_version": _RECORD,
    "unsloth_version": _RECORD,
    "unsloth_fixed": _RECORD,
    "tokenizer_class": "the tokenizer's own files name its class; it only helps to find one where they do not",
    "directionality": "a note of BERT's first release; nothing has read it",
    # Training.
    "attention_dropout": _TRAINING,
    "attention_probs_dropout_prob": _TRAINING,
    "classifier_dropout": _TRAINING,
    "classifier_dropout_prob": _TRAINING,
    "dropout": _TRAINING,
    "dropout_rate": _TRAINING,
    "embed_dropout": _TRAINING,
    "embd_pdrop": _TRAINING,
    "attn_pdrop": _TRAINING,
    "resid_pdrop": _TRAINING,
    "embedding_dropout": _TRAINING,
    "gradient_checkpointing": _TRAINING,
    "hidden_dropout": _TRAINING,
    "hidden_dropout_prob": _TRAINING,
    "layerdrop": _TRAINING,
    "mlp_dropout": _TRAINING,
    "pooler_dropout": _TRAINING,
    "pretraining_tp": "how the layers were split over machines in training",
    "qa_dropout": _TRAINING,
    "resid_dropout": _TRAINING,
    "residual_dropout": _TRAINING,
    "seq_classif_dropout": _TRAINING,
    "summary_first_dropout": _TRAINING,
    "summary_last_dropout": _TRAINING,
    "z_loss_coefficient": _TRAINING,
    "train_batch_size": _TRAINING,
    "router_aux_loss_coef": _TRAINING,
    # Heads.
    "classifier_activation": _HEAD,
    "classifier_bias": _HEAD,
    "classifier_pooling": _HEAD,
    "cls_token_id": _TOKENS,
    "decoder_bias": _HEAD,
    "final_logit_softcapping": "of the scores of words, which an embedder does not compute",
    "generator_hidden_size": _HEAD,
    "id2label": _HEAD,
    "label2id": _HEAD,
    "logits_scaling": "of the scores of words, which an embedder does not compute",
    "num_labels": _HEAD,
    "problem_type": _HEAD,
    "score_bias": _HEAD,
    "sparse_pred_ignore_index": _HEAD,
    "sparse_prediction": _HEAD,
    "summary_activation": _HEAD,
    "summary_proj_to_labels": _HEAD,
    "summary_type": _HEAD,
    "summary_use_proj": _HEAD,
    "logit_score": _HEAD,
    "scale_decoder_outputs": "of the decoder, which is not built",
    "tie_encoder_decoder": "of the decoder, which is not built",
    "tie_word_embeddings": "of the head that scores words, which an embedder has not",
    "use_mean_pooling": "read by its authors' training code alone",
    "num_decoder_layers": "of the decoder, which is not built",
    "decoder_start_token_id": "of the decoder, which is not built",
    # The layer after the first token.
    "pooler_act": _POOLER,
    "pooler_fc_size": _POOLER,
    "pooler_hidden_act": _POOLER,
    "pooler_hidden_size": _POOLER,
    "pooler_num_attention_heads": _POOLER,
    "pooler_num_fc_layers": _POOLER,
    "pooler_size_per_head": _POOLER,
    "pooler_type": _POOLER,
    # Tokens.
    "bos_token_id": _TOKENS,
    "eos_token_id": _TOKENS,
    "eos_token_ids": _TOKENS,
    "image_token_id": _TOKENS,
    "mask_token_id": _TOKENS,
    "sep_token_id": _TOKENS,
    "unk_token_id": _TOKENS,
    # Speed and memory.
    "_attn_implementation": _SPEED,
    "_attn_implementation_autoset": _SPEED,
    "_attn_implementation_internal": _SPEED,
    "_experts_implementation": _SPEED,
    "attn_implementation": _SPEED,
    "chunk_size_feed_forward": _SPEED,
    "compile_mode": _SPEED,
    "deterministic_flash_attn": _SPEED,
    "dtype": "load_model's own dtype counts; by default the weights are computed with in float32",
    "experts_implementation": _SPEED,
    "fused_bias_fc": _SPEED,
    "fused_dropout_add_ln": _SPEED,
    "fused_mlp": _SPEED,
    "fused_rms_norm": _SPEED,
    "has_no_defaults_at_init": _RECORD,
    "memory_efficient_attention": _SPEED,
    "onnx_export": _SPEED,
    "output_attentions": "what is given back beside the states",
    "output_hidden_states": "what is given back beside the states",
    "output_past": "what is given back beside the states",
    "pad_vocab_size_multiple": "the table has vocab_size rows as it is",
    "reference_compile": _SPEED,
    "repad_logits_with_grad": _SPEED,
    "return_dict": "what is given back beside the states",
    "torch_dtype": "load_model's own dtype counts; by default the weights are computed with in float32",
    "torchscript": _SPEED,
    "transformers.js_config": "of a library for browsers",
    "unpad_inputs": _SPEED,
    "use_bfloat16": _SPEED,
    "use_cache": _SPEED,
    "use_flash_attn": _SPEED,
    "use_memory_efficient_attention": _SPEED,
    "use_mambapy": _SPEED,
    "use_xentropy": _TRAINING,
    # Writing text.
    "assistant_confidence_threshold": _GENERATION,
    "assistant_lookbehind": _GENERATION,
    "bad_words_ids": _GENERATION,
    "begin_suppress_tokens": _GENERATION,
    "diversity_penalty": _GENERATION,
    "do_sample": _GENERATION,
    "early_stopping": _GENERATION,
    "encoder_no_repeat_ngram_size": _GENERATION,
    "encoder_repetition_penalty": _GENERATION,
    "epsilon_cutoff": _GENERATION,
    "eta_cutoff": _GENERATION,
    "exponential_decay_length_penalty": _GENERATION,
    "forced_bos_token_id": _GENERATION,
    "forced_eos_token_id": _GENERATION,
    "length_penalty": _GENERATION,
    "max_length": _GENERATION,
    "min_length": _GENERATION,
    "n_ctx": "a second name of the longest text, which max_position_embeddings says",
    "no_repeat_ngram_size": _GENERATION,
    "num_assistant_tokens": _GENERATION,
    "num_assistant_tokens_schedule": _GENERATION,
    "num_beam_groups": _GENERATION,
    "num_beams": _GENERATION,
    "num_return_sequences": _GENERATION,
    "output_scores": _GENERATION,
    "prefix": _GENERATION,
    "remove_invalid_values": _GENERATION,
    "repetition_penalty": _GENERATION,
    "return_dict_in_generate": _GENERATION,
    "suppress_tokens": _GENERATION,
    "target_lookbehind": _GENERATION,
    "task_specific_params": _GENERATION,
    "temperature": _GENERATION,
    "top_k": _GENERATION,
    "top_p": _GENERATION,
    "typical_p": _GENERATION,
    # Of a nomic_bert before it had a class of transformers.
    "dense_seq_output": _HEAD,
    "max_trained_positions": "only where rotary_scaling_factor stretches the positions",
    "rotary_emb_scale_base": "only where the positions are scaled, which its model never did",
    "expert_choice_router": "of experts, which a model without num_experts has not",
    "ffn_div": "of experts, which a model without num_experts has not",
    "moe_impl": "of experts, which a model without num_experts has not",
    "moe_normalize_expert_weights": "of experts, which a model without num_experts has not",
    "moe_resid_pdrop": _TRAINING,
    "moe_top_k": "of experts, which a model without num_experts has not",
    "num_shared_experts": "of experts, which a model without num_experts has not",
    # Of a jina_embeddings_v3 before it had a class of transformers.
    "emb_pooler": "the layout's own pooling counts",
    "matryoshka_dimensions": "the lengths that its vectors may be cut to",
    "truncate_dim": "read by its authors' own encode alone, where a caller gives none",
}

_BOTH_WAYS = "the zoo reads an encoder's texts in both directions at once"
_SECOND = "its layers would look at a second text"
HELD = {
    "add_cross_attention": Only((None, False), _SECOND),
    "cross_attention_hidden_size": Only((None,), _SECOND),
    "is_encoder_decoder": Only((None, False), "it would be read by two backbones"),
    "position_embedding_type": Only(
        (None, "absolute"), "transformers 5 has no relative positions for this backbone any more"
    ),
    "pruned_heads": Only((None, {}), "transformers 5 does not take heads out of a layer any more"),
}
ENCODERS_HELD = {
    "is_causal": Only((None, False), _BOTH_WAYS),
    "is_decoder": Only((None, False), _BOTH_WAYS),
}
DECODERS_INERT = {"is_decoder": "these backbones are decoders, whatever it says; is_causal says what a token sees"}
_PARTS = "transformers' class has its parts one after the other"
_NO_BIAS = "transformers' class has no such bias"
_EXPERTS = "transformers has no class for its experts; the zoo reads them where modules.json of sentence-transformers lies beside"
WHOLE_HEADS = Only((None, 1, 1.0), "transformers' class turns whole heads")
PARTIAL = ("gpt_neox", "phi3")  # classes that turn a part of a head
HELD_OF = {
    "distilbert": {
        "sinusoidal_pos_embds": Only((None, False, True), "the positions of the weights are taken, not computed anew"),
    },
    "gemma": {"hidden_activation": Only((None, "gelu_pytorch_tanh"), "transformers 5 takes hidden_act")},
    "gemma3_text": {"attn_logit_softcapping": Only((None,), "transformers computes this attention without a cap")},
    "gpt_neo": {"is_causal": Only((None, True), "transformers' class has no other attention")},
    "gpt_neox": {
        "partial_rotary_factor": Only((None,), "transformers' class reads rotary_pct in its place"),
        "rope_theta": Only((None,), "transformers' class reads rotary_emb_base in its place"),
    },
    "gptj": {
        "rotary": Only((None, True), "transformers' class turns positions"),
        "scale_attn_weights": Only((None, True), "transformers' class scales attention by the width of a head"),
    },
    "gte": {
        "layer_norm_type": Only((None, "layer_norm"), "transformers' class has the usual layer norm"),
        "logn_attention_clip1": Only((None, False), "transformers' class does not scale attention by the length"),
        "logn_attention_scale": Only((None, False), "transformers' class does not scale attention by the length"),
        "pack_qkv": Only((None, True), "transformers' class reads weights that lie in one matrix"),
        "position_embedding_type": Only((None, "rope"), "transformers' class turns positions"),
    },
    "jina_embeddings_v3": {"position_embedding_type": Only((None, "rotary"), "transformers' class turns positions")},
    "modernbert": {
        "position_embedding_type": Only((None, "absolute", "sans_pos"), "transformers' class turns positions")
    },
    "nomic_bert": {
        "activation_function": Only((None, "swiglu"), "transformers' class has the gated SiLU"),
        "causal": Only((None, False), _BOTH_WAYS),
        "mlp_fc1_bias": Only((None, False), _NO_BIAS),
        "mlp_fc2_bias": Only((None, False), _NO_BIAS),
        "moe_every_n_layers": Only((None, 0), _EXPERTS),
        "num_experts": Only((None, 0), _EXPERTS),
        "parallel_block": Only((None, False), _PARTS),
        "parallel_block_tied_norm": Only((None, False), _PARTS),
        "position_embedding_type": Only((None, "rotary"), "transformers' class turns positions"),
        "prenorm": Only((None, False), "transformers' class has its norms after the parts"),
        "qkv_proj_bias": Only((None, False), _NO_BIAS),
        "reorder_and_upcast_attn": Only((None, False), "transformers' class does not reorder attention"),
        "rotary_emb_fraction": Only((None, 1, 1.0), "transformers' class turns whole heads"),
        "rotary_emb_interleaved": Only((None, False), "transformers' class turns halves, not neighbours"),
        "rotary_scaling_factor": Only((None,), "transformers' class does not stretch the positions"),
        "scale_attn_by_inverse_layer_idx": Only((None, False), "transformers' class does not scale by the layer"),
        "scale_attn_weights": Only((None, True), "transformers' class scales attention by the width of a head"),
        "use_rms_norm": Only((None, False), "transformers' class has the usual layer norm"),
    },
    "qwen2": {"use_mrope": Only((None, False), "positions of images would be counted on three axes")},
}
_NO_DECODER = "of the decoder, which is not built"
_TWO_THETAS = "this backbone has one for each kind of layers, global_rope_theta and local_rope_theta"
_TWO_NAMES = "hidden_activation counts in this backbone"
INERT_OF = {
    "deberta": {"legacy": _HEAD},
    "deberta-v2": {"legacy": _HEAD},
    "embedding_gemma2_text": {"rope_theta": "rope_parameters has one for each kind of layers"},
    "eurobert": dict.fromkeys(("bos_token", "eos_token", "mask_token", "pad_token"), _TOKENS) | {"clf_pooling": _HEAD},
    "gemma2": {
        "cache_implementation": _SPEED,
        "hidden_act": _TWO_NAMES,
        "sliding_window_size": "sliding_window counts in this backbone",
    },
    "gemma3_text": {
        "_sliding_window_pattern": "layer_types says the same layer by layer",
        "cache_implementation": _SPEED,
        "hidden_act": _TWO_NAMES,
    },
    "modernbert": {"rope_theta": _TWO_THETAS},
    "mt5": {"is_decoder": _NO_DECODER, "is_encoder_decoder": _NO_DECODER, "n_positions": "positions are relative"},
    "rembert": {"output_embedding_size": _HEAD},
    "t5": {"is_decoder": _NO_DECODER, "is_encoder_decoder": _NO_DECODER, "n_positions": "positions are relative"},
    "ultrabert": {"prediction_head_size": _HEAD},
    "umt5": {"is_decoder": _NO_DECODER, "is_encoder_decoder": _NO_DECODER, "n_positions": "positions are relative"},
}
# Heads that make a checkpoint something else than an embedder, and what to do with it.
_LABELS = "it gives classes, not vectors; open it with transformers' pipeline"
HEADS = {
    "ForSequenceClassification": "it is a reranker or a classifier, which gives scores and no vectors; zoo.load_reranker opens a "
    "reranker",
    "ForTokenClassification": _LABELS,
    "ForQuestionAnswering": _LABELS,
    "ForMultipleChoice": _LABELS,
    "ForNextSentencePrediction": _LABELS,
    "ForImageClassification": _LABELS,
}
