"""A tower's tokenizer → files from which transformers' AutoTokenizer gives the same ids."""

import json
from pathlib import Path
from typing import Any

from zoo.encoders.tokenizing import FastTokenizer, MissingTokenizer, SlowTokenizer
from zoo.publishing.exports.sentence import write_json


def filler(tokenize: Any, pad_id: int | None) -> str | None:
    """The token that fills shorter texts: the model's own, else any special one; None where there is none to take."""
    if isinstance(tokenize, SlowTokenizer):
        return tokenize.tokenizer.pad_token
    core = tokenize.tokenizer
    if pad_id is not None:
        return core.id_to_token(pad_id)
    # Any other token would be cut out of running text once it is declared special.
    special = [token.content for _, token in sorted(core.get_added_tokens_decoder().items()) if token.special]
    return special[0] if special else None


def as_transformers(tokenize: Any, pad_id: int | None = None) -> Any:
    """A tokenizer as transformers' class; None where it has no such form."""
    if isinstance(tokenize, SlowTokenizer):
        return tokenize.tokenizer
    if not isinstance(tokenize, FastTokenizer):
        return None
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer.from_str(tokenize.tokenizer.to_str())
    limit = {"model_max_length": tokenize.max_tokens} if tokenize.max_tokens else {}
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token=filler(tokenize, pad_id), **limit)


def unfit(tokenize: Any, pad_id: int | None) -> str:
    """Why AutoTokenizer cannot have this tokenizer, "" where it can."""
    if isinstance(tokenize, MissingTokenizer):
        return "its tokenizer is missing"
    if not isinstance(tokenize, FastTokenizer | SlowTokenizer):
        return f"its {type(tokenize).__name__} is no tokenizer of transformers"
    if isinstance(tokenize, FastTokenizer) and not tokenize.special_tokens:
        return "its tokenizer leaves out special tokens"
    return "" if filler(tokenize, pad_id) is not None else "its tokenizer has no token to fill shorter texts with"


def write_tokenizer(folder: Path, tokenize: Any, *, pad_id: int | None, side: str = "right", mask: bool = True) -> None:
    """tokenizer.json and tokenizer_config.json, or a slow tokenizer's own files.

    Args:
        pad_id: token that fills shorter texts, from the backbone's configuration. side: where it is put.
        mask: whether the model is told which tokens are filler; SigLIP is not.
    """
    tokenize.save(folder)
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    settings |= {
        "model_max_length": tokenize.max_tokens,
        "padding_side": side,
        "truncation_side": tokenize.side,
        "model_input_names": ["input_ids", "attention_mask"] if mask else ["input_ids"],
        "clean_up_tokenization_spaces": False,
        "pad_token": filler(tokenize, pad_id),
    }
    settings = {key: value for key, value in settings.items() if value is not None}
    if isinstance(tokenize, FastTokenizer):
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
        core = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        core["truncation"] = core["padding"] = None  # transformers takes both from the settings
        (folder / "tokenizer.json").write_text(json.dumps(core, ensure_ascii=False), encoding="utf-8")
    write_json(path, settings)
