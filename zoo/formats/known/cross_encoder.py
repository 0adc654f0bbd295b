"""The files of sentence-transformers' CrossEncoder: its own block in config.json, and those that version 6 writes beside it."""

from zoo.formats.known.sentence_transformers import TRANSFORMER as EMBEDDER
from zoo.formats.settings import Only, Table

# Keys of config.json that say what makes a score of a logit: until version 4, and since.
OLD_ACTIVATION, BLOCK = "sbert_ce_default_activation_function", "sentence_transformers"
# Classes of activations → `RerankerSpec.activation`.
ACTIVATIONS = {"Identity": "identity", "Sigmoid": "sigmoid"}

_PROMPT = "a cross-encoder of the zoo reads the two texts alone, with nothing put before them"
_NO_PROMPTS = (None, {}, {"query": "", "document": ""})
INSIDE = Table(followed={"activation_fn"}, inert={"version": "of the library that wrote the file"})

SETTINGS = Table(  # config_sentence_transformers.json
    followed={"model_type", "activation_fn"},
    inert={
        "__version__": "versions of the libraries that wrote the files",
        "requirements": "versions that sentence-transformers asks its own environment for",
    },
    held={
        "prompts": Only(_NO_PROMPTS, _PROMPT),
        "default_prompt_name": Only((None,), _PROMPT),
        "keep_in_fp32_modules": Only((None, []), "all of the zoo's layers compute in the type of their weights"),
    },
)

LOGIT_SCORE = Table(  # config.json of the module after a generative model
    followed={"true_token_id", "false_token_id"},
    held={"module_input_name": Only((None, "causal_logits"), "the logits of the next token are compared")},
)

TRANSFORMER = Table(  # of the first and only module
    followed={"max_seq_length"},
    inert=EMBEDDER.inert,
    held={
        **EMBEDDER.held,
        "transformer_task": Only(("sequence-classification",), "a cross-encoder classifies pairs"),
        "module_output_name": Only((None, "scores"), "the logits are the score"),
        "modality_config": Only(
            (None, {"text": {"method": "forward", "method_output_name": "logits"}}), "the logits are the score"
        ),
        "do_lower_case": Only((None, False), "a cross-encoder's tokenizer says itself whether it lower-cases"),
        "tokenizer_name_or_path": Only((None,), "the tokenizer lies beside the weights"),
    },
)
