"""The files of sentence-transformers: modules.json, the modules' own configurations, config_sentence_transformers.json."""

from zoo.formats.settings import Only, Table

MODULES_FILE, SETTINGS_FILE = "modules.json", "config_sentence_transformers.json"
FIRST = ("Transformer", "StaticEmbedding", "CLIPModel")  # modules that one may begin with
# The first module's file has had these names; sentence-transformers takes the first that is there.
TRANSFORMER_FILES = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)

MODULES = Table(
    followed={"type", "path"},
    inert={
        "idx": "the rows are in order already",
        "name": "what sentence-transformers calls the module in its own lists",
        "kwargs": "names of arguments of sentence-transformers' encode that the module takes; each has a default",
    },
)

_USUAL = (None, "sentence_embedding")
_ARGUMENTS = "it is handed to transformers as the model opens, and could change anything there"

TRANSFORMER = Table(
    followed={"max_seq_length", "do_lower_case", "tokenizer_name_or_path"},
    inert={
        "unpad_inputs": "whether texts of a batch are packed or filled gives the same vectors, but for rounding",
    },
    held={
        "transformer_task": Only((None, "feature-extraction"), "the zoo pools the states of a backbone without a head"),
        "module_output_name": Only((None, "token_embeddings"), "the zoo pools the last layer's token states"),
        "modality_config": Only(
            (None, {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}),
            "the zoo pools the last layer's token states of texts",
        ),
        "processing_kwargs": Only((None, {}), "it changes how texts become tokens"),
        "query_length": Only((None,), "queries would be cut at another length than documents"),
        "document_length": Only((None,), "documents would be cut at another length than queries"),
        "query_expansion": Only((None,), "queries would be filled with mask tokens, as ColBERT does"),
        "model_args": Only((None, {}), _ARGUMENTS),
        "model_kwargs": Only((None, {}), _ARGUMENTS),
        "tokenizer_args": Only((None, {}), _ARGUMENTS),
        "processor_kwargs": Only((None, {}), _ARGUMENTS),
        "config_args": Only((None, {}), _ARGUMENTS),
        "config_kwargs": Only((None, {}), _ARGUMENTS),
    },
)

# Of a backbone of text and media (`zoo.formats.sentence_sequences`).
SEQUENCE_TRANSFORMER = Table(
    followed={"max_seq_length", "modality_config"},
    inert=TRANSFORMER.inert,
    held={
        **{key: only for key, only in TRANSFORMER.held.items() if key != "modality_config"},
        "processing_kwargs": Only((None, {}), "it changes how texts and media become tokens"),
        "do_lower_case": Only((None, False), "the backbone's own tokenizer says itself whether it lower-cases"),
        "tokenizer_name_or_path": Only((None,), "the tokenizer lies beside the weights"),
    },
)

_MADE = "how the table was made; it holds the result"
MODEL2VEC = Table(  # config.json beside a static table, as model2vec writes it; sentence-transformers does not read it
    followed={"model_type", "max_length"},
    inert={
        "_name_or_path": _MADE,
        "apply_pca": _MADE,
        "apply_zipf": _MADE,
        "architectures": "modules.json names the class",
        "base_model_name": _MADE,
        "embedding_dtype": "the table's own",
        "hidden_dim": "the table's own width counts",
        "language": _MADE,
        "normalize": "the zoo's vectors are of unit length, compared by cosine",
        "pooling": _MADE,
        "seq_length": "model2vec cuts texts after max_length, and sentence-transformers none",
        "sif_coefficient": _MADE,
        "tokenizer_name": "the tokenizer lies beside the table",
        "transformers_version": _MADE,
        "vocabulary_quantization": "the table's own rows count",
    },
)

_FEATURES = {"method_output_name": "pooler_output"}
DUAL_TRANSFORMER = Table(
    followed={"processing_kwargs"},
    inert={**TRANSFORMER.inert, "max_seq_length": "a dual encoder's texts have the length of its position table"},
    held={
        **{
            key: only
            for key, only in TRANSFORMER.held.items()
            if key.endswith(("args", "_length", "_expansion", "_task")) and key != "processing_kwargs"
        },
        "do_lower_case": Only((None, False), "the tokenizers of dual encoders say themselves whether they lower-case"),
        "tokenizer_name_or_path": Only((None,), "a dual encoder's tokenizer lies beside its weights"),
        "module_output_name": Only(_USUAL, "a dual encoder's own projection gives the vector"),
        "modality_config": Only(
            (
                None,
                {
                    "text": {"method": "get_text_features", **_FEATURES},
                    "image": {"method": "get_image_features", **_FEATURES},
                },
            ),
            "the zoo takes a dual encoder's projected text and image features",
        ),
    },
)

POOLING = Table(
    followed={
        "include_prompt",
        "pooling_mode",
        "pooling_mode_cls_token",
        "pooling_mode_max_tokens",
        "pooling_mode_mean_tokens",
        "pooling_mode_mean_sqrt_len_tokens",
        "pooling_mode_weightedmean_tokens",
        "pooling_mode_lasttoken",
    },
    inert={
        "embedding_dimension": "the length of the states themselves counts",
        "word_embedding_dimension": "the length of the states themselves counts",
    },
)

_BEFORE = "the zoo's heads take the pooled vector and give the next one"
DENSE = Table(
    followed={"in_features", "out_features", "bias", "activation_function"},
    held={
        "module_input_name": Only(_USUAL, _BEFORE),
        "module_output_name": Only(_USUAL, _BEFORE),
        "use_residual": Only((None, False), "the layer's input would be added to its output"),
    },
)
LAYER_NORM = Table(followed={"dimension"})
NORMALIZE = Table(held={key: DENSE.held[key] for key in ("module_input_name", "module_output_name")})
DROPOUT = Table(inert={"dropout": "nothing is dropped outside training"})

SETTINGS = Table(
    followed={"prompts", "default_prompt_name", "model_type", "truncate_dim"},
    inert={
        "__version__": "versions of the libraries that wrote the files",
        "requirements": "versions that sentence-transformers asks its own environment for",
    },
    held={
        "similarity_fn_name": Only((None, "cosine", "dot"), "the zoo compares by cosine or dot"),
    },
)
