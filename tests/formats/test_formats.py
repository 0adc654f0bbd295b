"""What happens to checkpoints that are incomplete, damaged, or of no known layout: a named error that says what to do.

Each is a good checkpoint, written by its own library, with one thing wrong.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import zoo
from tests.formats.settings_support import change
from tests.reference import TEXTS
from zoo.errors import (
    MissingWeightsError,
    UnknownModelError,
    UnrecognisedCheckpointError,
    UnsafeCheckpointError,
    ZooError,
)
from zoo.formats.layout import all_layouts

FAMILIES = (
    "open_clip-clip",
    "open_clip-siglip",
    "transformers-clip",
    "transformers-siglip2-naflex",
    "transformers-bert",
    "sentence-dense",
    "sentence-static",
    "sentence-clip-2021",
    "timm-vit",
)
CONFIGS = {
    "open_clip-clip": "open_clip_config.json",
    "transformers-bert": "config.json",
    "sentence-dense": "modules.json",
    "timm-vit": "config.json",
}


def weights_of(folder: Path) -> Path:
    """The largest file of weights."""
    return max(folder.rglob("*.safetensors"), key=lambda path: path.stat().st_size)


# ---------------------------------------------------------------------------------------------- nothing recognisable


@pytest.mark.parametrize("files", [{}, {"README.md": "# A model"}, {"config.json": "{}"}, {"model.safetensors": ""}])
def test_an_unknown_layout_lists_what_was_looked_for(files: dict[str, str], tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(UnrecognisedCheckpointError) as caught:
        zoo.load_model(tmp_path)
    message = str(caught.value)
    for looked_for in ("open_clip_config.json", "modules.json", "model_type", "architecture", "model.safetensors"):
        assert looked_for in message
    assert str(tmp_path) in message
    for name in files:
        assert name in message.partition("Found:")[2]


def test_an_unknown_model_type_is_not_guessed(copy: Callable[[str], Path]) -> None:
    folder = copy("transformers-bert")
    change(folder / "config.json", model_type="longformer")
    with pytest.raises(UnrecognisedCheckpointError, match="Looked for"):
        zoo.load_model(folder)


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UnrecognisedCheckpointError, match="does not exist"):
        zoo.load_model(tmp_path / "nope")


def test_a_file_in_place_of_a_folder(copy: Callable[[str], Path]) -> None:
    with pytest.raises(UnrecognisedCheckpointError, match="the folder that holds it"):
        zoo.load_model(copy("transformers-bert") / "model.safetensors")


def test_a_string_is_a_path_only_where_it_says_so(copy: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copy("transformers-bert")
    monkeypatch.chdir(folder.parent)
    expected = zoo.load_model(folder).encode("kitty")
    assert torch.equal(zoo.load_model("./checkpoint").encode("kitty"), expected)
    assert torch.equal(zoo.load_model(str(folder)).encode("kitty"), expected)
    with pytest.raises(UnknownModelError):
        zoo.load_model("checkpoint")


def test_another_kind_of_sentence_transformers_model_is_refused(copy: Callable[[str], Path]) -> None:
    folder = copy("sentence-dense")
    change(folder / "config_sentence_transformers.json", model_type="CrossEncoder")
    with pytest.raises(UnrecognisedCheckpointError, match="CrossEncoder"):
        zoo.load_model(folder)


# --------------------------------------------------------------------------------------------- weights that are wrong


@pytest.mark.parametrize("family", [*FAMILIES, "zoo"])
def test_missing_weights_are_never_random(family: str, copy: Callable[[str], Path]) -> None:
    folder = copy(family)
    weights_of(folder).unlink()
    with pytest.raises(MissingWeightsError, match=r"weights|safetensors"):
        zoo.load_model(folder)


@pytest.mark.parametrize("family", [*FAMILIES, "zoo"])
@pytest.mark.parametrize("left", [0.0, 0.3, 0.999])
def test_weights_cut_short(family: str, left: float, copy: Callable[[str], Path]) -> None:
    folder = copy(family)
    weights = weights_of(folder)
    content = weights.read_bytes()
    weights.write_bytes(content[: int(len(content) * left)])
    with pytest.raises(MissingWeightsError, match=str(folder)):
        zoo.load_model(folder)


@pytest.mark.parametrize("family", [*FAMILIES, "zoo"])
@pytest.mark.parametrize("content", [b"<html>404</html>", bytes(64), b"\xff" * 64], ids=["html", "zeros", "ones"])
def test_weights_that_are_no_safetensors(family: str, content: bytes, copy: Callable[[str], Path]) -> None:
    folder = copy(family)
    weights_of(folder).write_bytes(content)
    with pytest.raises(MissingWeightsError, match=str(folder)):
        zoo.load_model(folder)


@pytest.mark.parametrize("family", [*FAMILIES, "zoo"])
def test_every_tensor_must_be_there(family: str, copy: Callable[[str], Path]) -> None:
    folder = copy(family)
    weights = weights_of(folder)
    whole = load_file(weights)
    for gone in [key for key in whole if "logit" not in key and "head" not in key][:: max(1, len(whole) // 3)]:
        save_file({k: v for k, v in whole.items() if k != gone}, weights, metadata={"format": "pt"})
        with pytest.raises(MissingWeightsError):
            zoo.load_model(folder)


@pytest.mark.parametrize("family", [*FAMILIES, "zoo"])
def test_every_tensor_must_have_its_shape(family: str, copy: Callable[[str], Path]) -> None:
    folder = copy(family)
    weights = weights_of(folder)
    whole = load_file(weights)
    matrices = [key for key in whole if whole[key].ndim > 1 and "head" not in key and "patch_embed" not in key]
    name = max(matrices, key=lambda key: whole[key].numel())  # timm itself resamples a patch embedding
    save_file({**whole, name: whole[name][..., :-1].contiguous()}, weights, metadata={"format": "pt"})
    if family == "sentence-static":
        assert zoo.load_model(folder).spec.dim == 15  # the table itself says how wide it is
    else:
        with pytest.raises(MissingWeightsError):
            zoo.load_model(folder)


@pytest.mark.parametrize("family", ["open_clip-clip", "timm-vit", "zoo"])
def test_tensors_of_another_model_are_not_ignored(family: str, copy: Callable[[str], Path]) -> None:
    folder = copy(family)
    weights = weights_of(folder)
    save_file({**load_file(weights), "lora.weight": torch.ones(2)}, weights, metadata={"format": "pt"})
    with pytest.raises(MissingWeightsError, match=r"lora\.weight"):
        zoo.load_model(folder)


def test_a_checkpoint_smaller_than_its_configuration(copy: Callable[[str], Path]) -> None:
    folder = copy("transformers-bert")
    change(folder / "config.json", num_hidden_layers=3)
    with pytest.raises(MissingWeightsError, match=r"layer\.2"):
        zoo.load_model(folder)


def test_a_dense_layer_without_its_weights(copy: Callable[[str], Path]) -> None:
    folder = copy("sentence-dense")
    (folder / "2_Dense" / "model.safetensors").unlink()
    with pytest.raises(MissingWeightsError, match="2_Dense"):
        zoo.load_model(folder)


def test_weights_in_shards(copy: Callable[[str], Path]) -> None:
    folder = copy("transformers-bert")
    expected = zoo.load_model(folder).encode(list(TEXTS))
    model = transformers.AutoModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="40KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert torch.equal(zoo.load_model(folder).encode(list(TEXTS)), expected)
    shards[1].unlink()
    with pytest.raises(MissingWeightsError):
        zoo.load_model(folder)


@pytest.mark.parametrize("family", ["open_clip-clip", "transformers-clip", "transformers-bert", "timm-vit"])
def test_an_honest_pickle_opens_when_it_is_allowed(family: str, copy: Callable[[str], Path]) -> None:
    folder = copy(family)
    reads_text = family != "timm-vit"
    image = torch.rand(3, 200, 180)
    expected = zoo.load_model(folder).encode(list(TEXTS) if reads_text else image)
    weights = weights_of(folder)
    stem = "open_clip_pytorch_model" if family.startswith("open_clip") else "pytorch_model"
    torch.save(load_file(weights), weights.with_name(f"{stem}.bin"))
    weights.unlink()
    with pytest.raises(UnsafeCheckpointError, match="pickle"):
        zoo.load_model(folder)
    model = zoo.load_model(folder, allow_pickle=True)
    assert (model.encode(list(TEXTS) if reads_text else image) - expected).abs().max() < 1e-6


# -------------------------------------------------------------------------------- configurations that are wrong


@pytest.mark.parametrize("family", [*CONFIGS, "zoo"])
@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b"null", b"[]", b'"text"', b"7", b"[[1]]", b'{"a": NaN}'],
    ids=["empty", "open", "utf-16", "deep", "null", "list", "string", "number", "nested", "nan"],
)
def test_configurations_that_are_no_configuration(family: str, content: bytes, copy: Callable[[str], Path]) -> None:
    folder = copy(family)
    (folder / CONFIGS.get(family, "config.json")).write_bytes(content)
    with pytest.raises(UnrecognisedCheckpointError):
        zoo.load_model(folder)


@pytest.mark.parametrize(
    ("family", "path", "changes"),
    [
        ("transformers-bert", "config.json", {"hidden_size": "wide"}),
        ("transformers-bert", "config.json", {"hidden_size": -1}),
        ("transformers-bert", "config.json", {"num_attention_heads": 0}),
        ("transformers-clip", "config.json", {"vision_config": None}),
        ("transformers-clip", "config.json", {"text_config": []}),
        ("transformers-clip", "processor_config.json", {"image_processor": None}),
        ("transformers-siglip", "preprocessor_config.json", {"resample": 4}),
        ("transformers-siglip", "preprocessor_config.json", {"size": {"longest_edge": 64}}),
        ("transformers-siglip", "preprocessor_config.json", {"size": "large"}),
        ("timm-vit", "config.json", {"architecture": "no_such_net"}),
        ("timm-vit", "config.json", {"pretrained_cfg": []}),
        ("timm-vit", "config.json", {"model_args": {"no_such_argument": 1}}),
        ("open_clip-clip", "open_clip_config.json", {"model_cfg": {}}),
        ("open_clip-clip", "open_clip_config.json", {"model_cfg": {"embed_dim": 8, "vision_cfg": {}, "text_cfg": {}}}),
        ("open_clip-clip", "open_clip_config.json", {"model_cfg": {"embed_dim": 8, "vision_cfg": 1, "text_cfg": 2}}),
        ("open_clip-clip", "open_clip_config.json", {"preprocess_cfg": {"resize_mode": "sideways"}}),
        ("open_clip-clip", "open_clip_config.json", {"preprocess_cfg": {"mean": "grey"}}),
        ("open_clip-clip", "open_clip_config.json", {"preprocess_cfg": [1]}),
        ("sentence-dense", "1_Pooling/config.json", {"pooling_mode": "median"}),
        ("sentence-dense", "1_Pooling/config.json", {"pooling_mode": []}),
        ("sentence-dense", "1_Pooling/config.json", {"include_prompt": "no"}),
        ("sentence-dense", "2_Dense/config.json", {"in_features": 7}),
        ("sentence-dense", "2_Dense/config.json", {"use_residual": True}),
        ("sentence-dense", "2_Dense/config.json", {"module_input_name": "token_embeddings"}),
        ("sentence-dense", "sentence_bert_config.json", {"max_seq_length": "long"}),
        ("sentence-dense", "sentence_bert_config.json", {"module_output_name": "sentence_embedding"}),
        ("sentence-dense", "sentence_bert_config.json", {"transformer_task": "fill-mask"}),
        ("zoo", "config.json", {"format": 99}),
        ("zoo", "config.json", {"towers": []}),
        ("zoo", "config.json", {"towers": [{}]}),
        ("zoo", "config.json", {"spec": {}}),
        ("zoo", "config.json", {"spec": None}),
        ("zoo", "config.json", {"surprise": 1}),
    ],
)
def test_settings_that_make_no_sense(
    family: str, path: str, changes: dict[str, Any], copy: Callable[[str], Path]
) -> None:
    """Refused by name: a setting that is not understood may not be ignored, for it would change the vectors."""
    folder = copy(family)
    change(folder / path, **changes)
    with pytest.raises(ZooError) as caught:
        zoo.load_model(folder)
    assert str(folder) in str(caught.value) or next(iter(changes)) in str(caught.value)


@pytest.mark.parametrize("name", ["CNN", "LSTM", "BoW", "WordEmbeddings", "Router", "Asym"])
def test_modules_that_the_zoo_does_not_have(name: str, copy: Callable[[str], Path]) -> None:
    folder = copy("sentence-dense")
    rows = json.loads((folder / "modules.json").read_text())
    rows[1]["type"] = f"sentence_transformers.models.{name}"
    (folder / "modules.json").write_text(json.dumps(rows))
    with pytest.raises(UnrecognisedCheckpointError, match=name):
        zoo.load_model(folder)


@pytest.mark.parametrize("family", ["transformers-bert", "transformers-roberta", "transformers-mpnet"])
def test_a_text_longer_than_the_position_table(family: str, copy: Callable[[str], Path]) -> None:
    """Where the tokenizer names no limit, the table's does; RoBERTa's 66 positions hold 64 tokens."""
    folder = copy(family)
    expected = zoo.load_model(folder).encode(list(TEXTS))  # limited to 64 tokens by the tokenizer
    change(folder / "tokenizer_config.json", model_max_length=10**30)
    model = zoo.load_model(folder)
    assert model.spec.max_tokens == (66 if family == "transformers-bert" else 64)
    vectors = model.encode(list(TEXTS))
    assert (vectors[:-1] - expected[:-1]).abs().max() < 1e-6
    if family != "transformers-bert":
        assert (vectors - expected).abs().max() < 1e-6


@pytest.mark.parametrize("family", [*FAMILIES, "zoo"])
def test_loading_prints_nothing(
    family: str, copy: Callable[[str], Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """No tables of unused tensors, no bars for a file of a few kilobytes, no advice of other libraries."""
    folder = copy(family)
    capfd.readouterr()
    model = zoo.load_model(folder)
    zoo.load_model(model.save_pretrained(tmp_path / "saved"))
    assert tuple(capfd.readouterr()) == ("", "")


# ------------------------------------------------------------------------------------------------------ tokenizers


@pytest.mark.parametrize(
    "family",
    [
        "open_clip-siglip",
        "transformers-clip",
        "transformers-siglip",
        "transformers-bert",
        "sentence-mean",
        "sentence-static",
    ],
)
def test_a_missing_tokenizer_is_said_before_the_first_text(family: str, copy: Callable[[str], Path]) -> None:
    folder = copy(family)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(ZooError, match="tokenizer"):
        zoo.load_model(folder)


@pytest.mark.parametrize("family", ["transformers-bert", "sentence-static", "open_clip-siglip"])
@pytest.mark.parametrize("content", [b"{}", b"[]", b"not json", b""], ids=["empty-object", "list", "text", "empty"])
def test_a_damaged_tokenizer(family: str, content: bytes, copy: Callable[[str], Path]) -> None:
    folder = copy(family)
    (folder / "tokenizer.json").write_bytes(content)
    with pytest.raises(ZooError, match="tokenizer"):
        zoo.load_model(folder)


def test_a_tokenizer_larger_than_its_table(copy: Callable[[str], Path]) -> None:
    """An id beyond the last row must be found at loading, not by a crash in the middle of a job."""
    folder = copy("transformers-bert")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["motorbike"] = 100_000
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ZooError, match="tokenizer"):
        zoo.load_model(folder).encode("a red motorbike")


def test_a_tokenizer_that_changes_the_text_first_has_no_stand_in(copy: Callable[[str], Path]) -> None:
    """SigLIP's drops punctuation in Python code over sentencepiece; its tokenizer.json alone would give other ids."""
    folder = copy("transformers-siglip")
    change(folder / "tokenizer_config.json", tokenizer_class="SiglipTokenizer")
    with pytest.raises(MissingWeightsError, match=r"(?i)sentencepiece|spiece|vocab_file"):
        zoo.load_model(folder)


@pytest.mark.parametrize("kind", [["x"], {"a": 1}, 7, None, True, "no such"], ids=str)
def test_no_layout_stumbles_over_a_model_type_that_is_none(kind: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    for layout in all_layouts():
        assert layout.recognise({"config.json"}, lambda name: {"model_type": kind}) is False, layout.name
    with pytest.raises(UnrecognisedCheckpointError, match="no checkpoint layout that the zoo reads"):
        zoo.load_model(tmp_path)
