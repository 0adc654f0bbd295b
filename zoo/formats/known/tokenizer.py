"""tokenizer_config.json and tokenizer.json.

Followed are the arguments of the tokenizer's own class in the installed transformers, listed from the class, and `FOLLOWED`,
which every tokenizer reads. The rest of this file says what has no effect.
"""

from zoo.formats.settings import Only, Table

FOLLOWED = (
    "add_bos_token",
    "add_eos_token",
    "added_tokens_decoder",
    "additional_special_tokens",
    "audio_token",
    "boi_token",
    "bos_token",
    "cls_token",
    "eoi_token",
    "eos_token",
    "extra_special_tokens",
    "fast_tokenizer_files",
    "image_token",
    "mask_token",
    "max_len",
    "model_input_names",
    "model_max_length",
    "pad_token",
    "sep_token",
    "split_special_tokens",
    "tokenizer_class",
    "truncation_side",
    "unk_token",
    "video_token",
    # Special tokens of Gemma 4 and Qwen2.5-Omni by their roles; their processors ask for those of media.
    "model_specific_special_tokens",
    *("boa_token", "eoa_token", "eoc_token", "eot_token", "escape_token", "etc_token", "etd_token", "etr_token"),
    *("soc_token", "sot_token", "stc_token", "std_token", "str_token", "think_token"),
    *("audio_bos_token", "audio_eos_token", "vision_bos_token", "vision_eos_token"),
)

_RECORD = "a record of how the file came to be"
_CALL = "of one call of the tokenizer; the zoo says itself where a text is cut, and fills it where its mask says so"
_CHAT = "of conversations, which a text embedder does not read"
_DECODE = "how ids become text again"
_FILE = "tokenizer.json says it itself"

INERT = {
    "__version__": _RECORD,
    "_commit_hash": _RECORD,
    "backend": _RECORD,
    "chat_control_tokens": _CHAT,
    "chat_template": _CHAT,
    "clean_up_tokenization_spaces": _DECODE,
    "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output": _DECODE,
    "device_map": _RECORD,
    "errors": _DECODE,
    "from_slow": _RECORD,
    "is_local": _RECORD,
    "local_files_only": _RECORD,
    "max_len_sentences_pair": _CALL,
    "max_len_single_sentence": _CALL,
    "max_length": _CALL,
    "model_type": _RECORD,
    "name_or_path": _RECORD,
    "pad_to_multiple_of": _CALL,
    "pad_token_type_id": _CALL,
    "padding": _CALL,
    "padding_side": "the zoo fills on the right, so that a vector is what its text alone would have",
    "processor_class": _RECORD,
    "response_schema": _CHAT,
    "response_template": _CHAT,
    "return_token_type_ids": _CALL,
    "special_tokens_map_file": _RECORD,
    "spaces_between_special_tokens": _DECODE,
    "stride": _CALL,
    "tokenizer_file": _RECORD,
    "tokenizer_type": _RECORD,
    "transformers_version": _RECORD,
    "trim_offsets": "where in the text a token stands, which nobody asks",
    "truncation": _CALL,
    "truncation_strategy": "of pairs of texts",
    "unk_token_id": _RECORD,
    "use_default_system_prompt": _CHAT,
    "use_fast": _RECORD,
    "verbose": _RECORD,
    "vocab_file": _RECORD,
    "wordpieces_prefix": _FILE,
    # Of other classes than the one that reads the file, which would take them as arguments.
    "add_prefix_space": _FILE,
    "alpha": "of sampling in training",
    "do_lower_case": _FILE,
    "enable_sampling": "of sampling in training",
    "extra_ids": _FILE,
    "full_tokenizer_file": _RECORD,
    "keep_accents": _FILE,
    "lang_code": "of translation",
    "legacy": _FILE,
    "lowercase": _FILE,
    "nbest_size": "of sampling in training",
    "remove_space": _FILE,
    "sp_model_kwargs": "read with the slow tokenizers of transformers 4, whose sampling is off in a saved model",
    "src_lang": "of translation",
    "strip_accents": _FILE,
    "tgt_lang": "of translation",
    "tokenize_chinese_chars": _FILE,
    "vocab_type": _FILE,
    "split_by_punct": _FILE,
}
HELD = {
    "do_basic_tokenize": Only((None, True), "transformers 5 always splits at white space and marks first"),
    "split_special_tokens": Only((None, False), "a special token inside a text is read as such"),
    "never_split": Only((None, []), "transformers 5 splits every word"),
}
# Authors' own classes that do what transformers' class does, once add_eos_token is heeded.
SAME_CODE = ("Qwen2Tokenizer", "Qwen2TokenizerFast")
# Classes that heeded add_bos_token and add_eos_token, also where false, before transformers 5; its own heed neither
# beside a tokenizer.json.
HEED_ENDS = ("CodeLlamaTokenizer", "CohereTokenizer", "GemmaTokenizer", "LlamaTokenizer")

# tokenizer.json.
FILE = Table(
    followed={"added_tokens", "model", "normalizer", "post_processor", "pre_tokenizer", "truncation"},
    inert={"decoder": _DECODE, "padding": _CALL, "version": _RECORD},
)
MODEL = Table(
    followed={
        "byte_fallback",
        "continuing_subword_prefix",
        "end_of_word_suffix",
        "fuse_unk",
        "ignore_merges",
        "max_input_chars_per_word",
        "merges",
        "type",
        "unk_id",
        "unk_token",
        "vocab",
    },
    held={"dropout": Only((None, 0, 0.0), "the same text would be split otherwise each time")},
)
