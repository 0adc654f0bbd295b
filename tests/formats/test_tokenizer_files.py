"""tokenizer_config.json and tokenizer.json: where a text is cut, how it begins and ends, and what is refused."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import zoo
from tests.formats.settings_support import change, check_refused
from tests.reference.backbones import backbone, write_plain
from tests.reference.vocab import byte_bpe
from zoo.errors import MissingWeightsError, UnreadSettingError, UnrecognisedCheckpointError, ZooError

SPECIALS = ["<pad>", "<s>", "</s>"]
SHORT, LONG = "a cat", "the old harbour at dawn, fishing boats and a red lighthouse on the pier " * 6
TEXTS = ["kitty", "two dogs playing in the snow", LONG]
LIMIT = 24
BOUND = 1e-5


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layout of e5-mistral: tokenizer.json adds "<s>" alone, tokenizer_config.json asks for "</s>" too; last token."""
    root, folder = tmp_path_factory.mktemp("plain"), tmp_path_factory.mktemp("written") / "sentence"
    vocab, merges = byte_bpe(SPECIALS)
    core = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    names = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=LIMIT, **names)
    tokenizer.save_pretrained(root)
    backbone("mistral", vocab_size=len(vocab)).save_pretrained(root)
    model = SentenceTransformer(modules=[Transformer(str(root)), Pooling(32, "lasttoken"), Normalize()], device="cpu")
    model.save_pretrained(str(folder), create_model_card=False)
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return shutil.copytree(written, tmp_path / "checkpoint")


def ids_of(model: zoo.Embedder, text: str) -> list[int]:
    return model.towers[0].encoder.tokenize(text)


def bare(folder: Path, text: str) -> list[int]:
    """The ids of a text without beginning and end."""
    return Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text, add_special_tokens=False).ids


def post_processor(folder: Path, steps: Any) -> None:
    change(folder / "tokenizer.json", post_processor=steps)


# -------------------------------------------------------------------------------------------- beginning and end of a text


@pytest.mark.parametrize("steps", ["template", "sequence", "none"])
def test_an_end_that_transformers_5_does_not_heed(steps: str, folder: Path) -> None:
    """The authors' facts, not sentence-transformers' on transformers 5, which has the same fault."""
    begins = [1]
    if steps == "sequence":  # as Llama 3
        template = json.loads((folder / "tokenizer.json").read_text())["post_processor"]
        byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
        post_processor(folder, {"type": "Sequence", "processors": [byte_level, template]})
    elif steps == "none":  # as gte-Qwen2
        post_processor(folder, None)
        begins = []
    change(folder / "tokenizer_config.json", add_eos_token=True)
    model = zoo.load_model(folder)
    assert ids_of(model, SHORT) == [*begins, *bare(folder, SHORT), 2]
    assert ids_of(model, LONG) == [*begins, *bare(folder, LONG)[: LIMIT - 1 - len(begins)], 2]


def test_the_end_reaches_the_vector_and_the_saved_model(folder: Path, tmp_path: Path) -> None:
    change(folder / "tokenizer_config.json", add_bos_token=True, add_eos_token=True)
    model = zoo.load_model(folder)
    states = transformers.AutoModel.from_pretrained(folder)
    expected = [states(input_ids=torch.tensor([ids_of(model, text)])).last_hidden_state[0, -1] for text in TEXTS]
    expected = torch.nn.functional.normalize(torch.stack(expected), dim=-1).detach()
    assert (model.encode(TEXTS) - expected).abs().max() < BOUND
    again = zoo.load_model(model.save_pretrained(tmp_path / "saved"))
    assert (again.encode(TEXTS) - expected).abs().max() < BOUND


def test_the_reference_without_it_is_another_vector(folder: Path) -> None:
    plain = zoo.load_model(folder).encode(TEXTS)
    assert (plain - torch.tensor(SentenceTransformer(str(folder), device="cpu").encode(TEXTS))).abs().max() < BOUND
    change(folder / "tokenizer_config.json", add_eos_token=True)
    assert (zoo.load_model(folder).encode(TEXTS) - plain).abs().max() > 0.05


def test_an_end_that_is_there_is_not_added_again(folder: Path) -> None:
    part = {"SpecialToken": {"id": "</s>", "type_id": 0}}
    steps = json.loads((folder / "tokenizer.json").read_text())["post_processor"]
    steps["single"].append(part)
    steps["special_tokens"]["</s>"] = {"id": "</s>", "ids": [2], "tokens": ["</s>"]}
    post_processor(folder, steps)
    change(folder / "tokenizer_config.json", add_eos_token=True)
    assert ids_of(zoo.load_model(folder), SHORT) == [1, *bare(folder, SHORT), 2]
    change(
        folder / "tokenizer_config.json", add_eos_token=False
    )  # transformers never heeded a false one for this class
    assert ids_of(zoo.load_model(folder), SHORT) == [1, *bare(folder, SHORT), 2]


def test_a_false_one_counts_where_its_class_heeded_it(folder: Path) -> None:
    from zoo.formats.settings import NOTHING
    from zoo.formats.tokenizer import read_tokenizer

    change(folder / "tokenizer_config.json", tokenizer_class="LlamaTokenizer", add_bos_token=False, add_eos_token=True)
    ids = read_tokenizer(folder, NOTHING)("cat").input_ids
    assert (ids[0], ids[-1]) == (ids[0], 2)
    assert 1 not in ids


def test_an_end_without_a_token_is_refused(folder: Path) -> None:
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("eos_token")
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "add_eos_token": True}))
    with pytest.raises(UnreadSettingError, match="no eos_token"):
        zoo.load_model(folder)
    assert ids_of(zoo.load_model(folder, ignore=["add_eos_token"]), SHORT) == [1, *bare(folder, SHORT)]


# ------------------------------------------------------------------------------------------------- where a text is cut


@pytest.mark.parametrize("where", ["tokenizer_config.json", "tokenizer.json"])
def test_a_text_that_loses_its_beginning(where: str, folder: Path, tmp_path: Path) -> None:
    right = zoo.load_model(folder).encode(TEXTS)
    if where == "tokenizer.json":
        cut = {"direction": "Left", "max_length": 99, "strategy": "LongestFirst", "stride": 0}
        change(folder / where, truncation=cut)
    else:
        change(folder / where, truncation_side="left")
    expected = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, convert_to_tensor=True)
    model = zoo.load_model(folder)
    assert (expected - right)[2].abs().max() > 0.05
    assert (model.encode(TEXTS) - expected).abs().max() < BOUND
    assert ids_of(model, LONG) == [1, *bare(folder, LONG)[-(LIMIT - 1) :]]
    assert ids_of(model, "x " * 100_000 + LONG) == ids_of(model, LONG)
    again = zoo.load_model(model.save_pretrained(tmp_path / "saved"))
    assert (again.encode(TEXTS) - expected).abs().max() < BOUND
    change(folder / "sentence_bert_config.json", max_seq_length=500)  # longer than the positions
    assert ids_of(zoo.load_model(folder), LONG)[-20:] == bare(folder, LONG)[-20:]


# --------------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("auto_map", {"AutoTokenizer": ["tokenization_x.XTokenizer", None]}),
        ("model_input_names", ["input_ids"]),
        ("do_basic_tokenize", False),
        ("never_split", ["[X]"]),
        ("no_such_setting", 1),
    ],
)
def test_a_setting_that_is_not_followed(key: str, value: Any, folder: Path) -> None:
    check_refused(folder, "tokenizer_config.json", key, value)


def test_a_tokenizer_json_that_splits_by_chance(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["dropout"] = 0.5
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(UnreadSettingError, match=r"model\.dropout"):
        zoo.load_model(folder)


def test_settings_of_published_files_load(folder: Path) -> None:
    expected = zoo.load_model(folder).encode(TEXTS)
    change(
        folder / "tokenizer_config.json",
        name_or_path="x", max_length=128, stride=0, truncation_side="right", truncation_strategy="longest_first",
        pad_to_multiple_of=None, pad_token_type_id=0, padding_side="left", clean_up_tokenization_spaces=True,
        do_lower_case=True, strip_accents=None, tokenize_chinese_chars=True, sp_model_kwargs={}, legacy=True,
        special_tokens_map_file="x", tokenizer_file=None, use_default_system_prompt=False, added_tokens_decoder={},
        additional_special_tokens=[], chat_template="{{ x }}", do_basic_tokenize=True, never_split=None,
        auto_map={"AutoTokenizer": ["tokenization_qwen.Qwen2Tokenizer", "tokenization_qwen.Qwen2TokenizerFast"]},
        errors="replace", split_special_tokens=False, add_prefix_space=False, processor_class="X", use_fast=True,
    )  # fmt: skip
    assert torch.equal(zoo.load_model(folder).encode(TEXTS), expected)


def test_token_types_that_the_zoo_does_not_give(tmp_path: Path) -> None:
    from tests.reference.backbones import tokenizer, write_plain

    folder = write_plain(tmp_path / "bert", "bert")
    tokenizer().save_pretrained(folder)
    names = ["input_ids", "token_type_ids", "attention_mask"]
    change(folder / "tokenizer_config.json", model_input_names=names, tokenizer_class="PreTrainedTokenizerFast")
    zoo.load_model(folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    single = [
        {"SpecialToken": {"id": "[CLS]", "type_id": 1}},
        {"Sequence": {"id": "A", "type_id": 1}},
        {"SpecialToken": {"id": "[SEP]", "type_id": 1}},
    ]
    special = {t: {"id": t, "ids": [content["model"]["vocab"][t]], "tokens": [t]} for t in ("[CLS]", "[SEP]")}
    steps = {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": special}
    post_processor(folder, steps)
    with pytest.raises(UnreadSettingError, match="type 0"):
        zoo.load_model(folder)


def test_an_unknown_token_that_is_no_token(tmp_path: Path) -> None:
    folder = write_plain(tmp_path / "plain", "bert")
    change(folder / "tokenizer_config.json", unk_token="left")
    with pytest.raises(UnrecognisedCheckpointError, match="tokenizer"):
        zoo.load_model(folder)


def test_special_tokens_that_are_split_are_refused(folder: Path) -> None:
    change(folder / "tokenizer_config.json", split_special_tokens=True)
    with pytest.raises(UnreadSettingError, match="split_special_tokens"):
        zoo.load_model(folder)


# ---------------------------------------------------------------------------- classes that build a tokenizer by themselves

_REPLACE = {"type": "Replace", "pattern": {"String": "a"}, "content": "b"}
_ENDS = {"type": "BertProcessing", "sep": ["a", 6], "cls": ["b", 7]}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("normalizer", _REPLACE),
        ("pre_tokenizer", {"type": "WhitespaceSplit"}),
        ("post_processor", _ENDS),
        ("post_processor", None),
        ("model.max_input_chars_per_word", 2),
    ],
)
def test_what_a_class_leaves_of_a_tokenizer_json_is_said(key: str, value: Any, tmp_path: Path) -> None:
    """BertTokenizer of transformers 5 takes little more of the file than its words; the advice gives the file's own."""
    folder, text = write_plain(tmp_path / "plain", "bert"), "a cat, a dog"
    content = json.loads((folder / "tokenizer.json").read_text())
    parent, _, last = key.rpartition(".")
    (content[parent] if parent else content)[last] = value
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.warns(UserWarning, match=f"BertTokenizer does, which has its own {key}"):
        ids = ids_of(zoo.load_model(folder), text)
    assert ids == transformers.AutoTokenizer.from_pretrained(folder)(text).input_ids
    own = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids
    assert ids != own
    change(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert ids_of(zoo.load_model(folder), text) == own


@pytest.mark.parametrize("key", ["lowercase", "post_processor"])
def test_what_splits_the_same_is_not_said(key: str, tmp_path: Path) -> None:
    """An argument of the class, which counted in transformers 4 too, and the same ends in other words."""
    folder = write_plain(tmp_path / "plain", "bert")
    content = json.loads((folder / "tokenizer.json").read_text())
    vocab = content["model"]["vocab"]
    if key == "lowercase":
        content["normalizer"]["lowercase"] = False
    else:
        content[key] = {**_ENDS, "sep": ["[SEP]", vocab["[SEP]"]], "cls": ["[CLS]", vocab["[CLS]"]]}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        zoo.load_model(folder)


@pytest.mark.parametrize("name", ["BertTokenizer", "PreTrainedTokenizerFast"])
def test_a_template_of_tokens_that_are_not_there(name: str, tmp_path: Path) -> None:
    """`tokenizers` panics over it, which is no Exception; a class with a template of its own does not look at it."""
    folder = write_plain(tmp_path / "plain", "bert")
    content = json.loads((folder / "tokenizer.json").read_text())
    content["post_processor"]["special_tokens"].pop("[CLS]")
    (folder / "tokenizer.json").write_text(json.dumps(content))
    change(folder / "tokenizer_config.json", tokenizer_class=name)
    told = (
        pytest.warns(UserWarning, match="post_processor")
        if name == "BertTokenizer"
        else pytest.raises(MissingWeightsError, match="tokenizer")
    )
    with told:
        zoo.load_model(folder)


@pytest.mark.parametrize("ends", ["none", "beyond"])
def test_ends_that_no_text_can_be_read_with(ends: str, tmp_path: Path) -> None:
    """At load, not at the first text: a template without the text itself, and an end that has no row in the table."""
    folder = write_plain(tmp_path / "plain", "bert")
    change(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    steps = json.loads((folder / "tokenizer.json").read_text())["post_processor"]
    post_processor(folder, {**steps, "single": []} if ends == "none" else {**_ENDS, "cls": ["b", 149]})
    with pytest.raises(ZooError, match="leaves no token" if ends == "none" else "id 149"):
        zoo.load_model(folder)
