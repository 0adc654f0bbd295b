"""Every setting of a tokenizer.json, set to other values: ours splits as sentence-transformers does, or refuses.

The files are read whole, by transformers' class for tokenizers of no class of their own; and once by BertTokenizer, which as others
builds parts anew and leaves out what the file says of them: the zoo does the same, and says so (tests/formats/test_tokenizer_files.py).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from tests.formats.settings_support import change
from tests.formats.test_every_file_setting import wrong
from tests.reference.backbones import backbone
from tests.reference.vocab import BERT_SPECIALS, ROBERTA_SPECIALS, byte_bpe, unigram, wordpiece
from zoo.formats.known.tokenizer import FILE


def _wordpiece() -> Tokenizer:
    vocab = wordpiece()
    made = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocab[token]) for token in ("[CLS]", "[SEP]")],
    )
    made.decoder = decoders.WordPiece()
    made.add_special_tokens(BERT_SPECIALS)
    return made


def _byte_bpe() -> Tokenizer:
    vocab, merges = byte_bpe()
    made = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>"))
    made.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace("cat", "dog")])
    split = pre_tokenizers.Split(" ", "merged_with_next")
    made.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    ends = [(token, vocab[token]) for token in ("</s>", "<s>")]
    made.post_processor = processors.RobertaProcessing(*ends, add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(token, lstrip=token == "<mask>") for token in ROBERTA_SPECIALS])
    made.add_tokens([AddedToken("Motorbike", normalized=True)])
    return made


def _unigram() -> Tokenizer:
    made = Tokenizer(models.Unigram(unigram(), unk_id=ROBERTA_SPECIALS.index("<unk>")))
    made.normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Lowercase()])
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    template = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    made.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    made.decoder = decoders.Metaspace()
    made.add_special_tokens(ROBERTA_SPECIALS)
    return made


TOKENIZERS = {"wordpiece": _wordpiece, "byte_bpe": _byte_bpe, "unigram": _unigram, "built by its class": _wordpiece}
_OF_BERT = tuple((f"{name.strip('[]').lower()}_token", name) for name in BERT_SPECIALS)
_OF_OTHERS = tuple((f"{name}_token", f"<{name}>") for name in ("pad", "unk", "mask"))
NAMES = {
    **dict.fromkeys(("wordpiece", "built by its class"), _OF_BERT),
    **dict.fromkeys(("byte_bpe", "unigram"), _OF_OTHERS),
}
_CUT = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
_FILLED = {
    "strategy": {"Fixed": 32},
    "direction": "Right",
    "pad_to_multiple_of": None,
    "pad_id": 1,
    "pad_type_id": 0,
    "pad_token": "a",
}
_TOKEN = {"id": 6, "content": "red", "single_word": False, "lstrip": True, "rstrip": True, "normalized": False}
_REPLACE = {"type": "Replace", "pattern": {"String": "red"}, "content": "a"}
# Values that nobody would guess; a place of two steps is one of the model's.
GUESSES: dict[tuple[str | int, ...], tuple[Any, ...]] = {
    ("truncation",): (_CUT, {**_CUT, "direction": "Left"}, {**_CUT, "stride": 3}),
    ("padding",): (_FILLED, {**_FILLED, "strategy": "BatchLongest", "direction": "Left"}),
    ("normalizer",): (
        {"type": "Lowercase"},
        _REPLACE,
        {"type": "Prepend", "prepend": "a"},
        {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}, _REPLACE]},
        {"type": "Strip", "strip_left": True, "strip_right": True},
    ),
    ("pre_tokenizer",): (
        {"type": "Whitespace"},
        {"type": "WhitespaceSplit"},
        {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False},
        {"type": "Digits", "individual_digits": True},
        {"type": "Split", "pattern": {"Regex": "o"}, "behavior": "Removed", "invert": False},
    ),
    ("post_processor",): (
        {"type": "BertProcessing", "sep": ["a", 6], "cls": ["b", 7]},
        {"type": "RobertaProcessing", "sep": ["a", 6], "cls": ["b", 7], "trim_offsets": True, "add_prefix_space": True},
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 1}}], "pair": [], "special_tokens": {}},
    ),
    ("added_tokens",): ([{**_TOKEN, "special": True}], [{**_TOKEN, "special": False, "normalized": True}]),
    ("model", "dropout"): (0.0, 0.9),
    ("model", "byte_fallback"): (True,),
    ("model", "fuse_unk"): (True,),
    ("model", "ignore_merges"): (True,),
    ("model", "unk_token"): ("a", None),
    ("model", "unk_id"): (7, None),
    ("model", "continuing_subword_prefix"): ("", "#"),
    ("model", "end_of_word_suffix"): ("s",),
    ("model", "max_input_chars_per_word"): (1, 4),
    ("model", "no_such_setting"): (1,),
}  # fmt: skip


def write_sentence(folder: Path, kind: str) -> Path:
    """A folder of sentence-transformers whose tokenizer.json counts whole."""
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=TOKENIZERS[kind](),
        model_max_length=64,
        model_input_names=["input_ids", "attention_mask"],
        **dict(NAMES[kind]),
    )
    plain = folder / "plain"
    backbone("bert", vocab_size=len(made)).save_pretrained(plain)
    made.save_pretrained(plain)
    model = SentenceTransformer(modules=[Transformer(str(plain)), Pooling(32, "mean")], device="cpu")
    model.save_pretrained(str(folder / "sentence"), create_model_card=False)
    shutil.rmtree(plain)
    if kind == "built by its class":
        change(folder / "sentence" / "tokenizer_config.json", tokenizer_class="BertTokenizer")
    return folder / "sentence"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*splits texts otherwise:UserWarning")
@pytest.mark.parametrize("kind", sorted(TOKENIZERS))
def test_every_setting_is_followed_or_refused(kind: str, tmp_path: Path) -> None:
    folder = write_sentence(tmp_path, kind)
    found = wrong(folder / "tokenizer.json", folder, FILE, GUESSES)
    assert not found, "\n".join(found)
