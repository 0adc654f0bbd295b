"""Text backbones: one list for plain and sentence-transformers' folders; what config.json says is followed or refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import zoo
from tests.every import every
from tests.formats.settings_support import change, check_refused
from tests.reference.backbones import backbone, tokenizer, write_plain, write_sentence
from tests.reference.base import stir
from zoo.encoders.text import text_class
from zoo.errors import MissingWeightsError, UnknownModelError, UnreadSettingError, UnrecognisedCheckpointError, ZooError
from zoo.formats.backbones import read_config
from zoo.formats.known.config import DECODERS, TEXT
from zoo.formats.settings import NOTHING
from zoo.registry import MODELS

TEXTS = [
    "a red motorbike",
    "kitty",
    "two dogs playing in the snow",
    "the old harbour at dawn, fishing boats, gulls " * 8,
]
BOUND = 1e-5
QUICK = ("bert", "qwen2", "t5")  # the others under slow


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("plain")
    return {kind: write_plain(root / kind, kind) for kind in ("bert", "qwen2", "nomic_bert")}


@pytest.fixture
def copy(folders: dict[str, Path], tmp_path: Path) -> Any:
    return lambda kind: shutil.copytree(folders[kind], tmp_path / kind)


# ------------------------------------------------------------------------------------------------ one list, both ways


@pytest.mark.parametrize("kind", [k if k in QUICK else pytest.param(k, marks=pytest.mark.slow) for k in TEXT])
def test_a_type_loads_in_either_layout(kind: str, tmp_path: Path) -> None:
    plain = write_plain(tmp_path / "plain", kind)
    theirs = write_sentence(tmp_path / "sentence", plain)
    expected = theirs.encode(TEXTS, convert_to_tensor=True)
    assert torch.pdist(expected).min() > 100 * BOUND
    for folder in (plain, tmp_path / "sentence"):
        model = zoo.load_model(folder)
        assert model.spec.dim == expected.shape[1]
        assert (model.encode(TEXTS) - expected).abs().max() < BOUND
        assert (model.encode(TEXTS, batch_size=1) - expected).abs().max() < BOUND


def test_a_type_that_is_in_neither(copy: Any, tmp_path: Path) -> None:
    plain = copy("bert")
    write_sentence(tmp_path / "sentence", plain)
    for folder in (plain, tmp_path / "sentence"):
        change(folder / "config.json", model_type="convbert")
        with pytest.raises(UnrecognisedCheckpointError, match="nomic_bert"):
            zoo.load_model(folder)


# ------------------------------------------------------------------------------------------- what makes it no embedder


@pytest.mark.parametrize("head", ["BertForSequenceClassification", "BertForTokenClassification"])
def test_a_classifier_is_no_embedder(head: str, copy: Any) -> None:
    folder = copy("bert")
    model = getattr(transformers, head)(transformers.AutoConfig.from_pretrained(folder)).eval()
    model.save_pretrained(folder)
    with pytest.raises(UnreadSettingError, match="architectures") as caught:
        zoo.load_model(folder)
    assert ("zoo.load_reranker" in str(caught.value)) == (head == "BertForSequenceClassification")
    expected = model.bert(**tokenizer()(TEXTS[0], return_tensors="pt")).last_hidden_state.mean(1)[0]
    given = zoo.load_model(folder, ignore=["architectures"]).encode(TEXTS[0])
    assert (given - torch.nn.functional.normalize(expected, dim=-1)).abs().max() < BOUND


@pytest.mark.parametrize("names", [None, ["BertForMaskedLM"], ["BertModel", "BertForTokenClassification"]])
def test_heads_that_an_embedder_may_have(names: Any, copy: Any) -> None:
    folder = copy("bert")
    expected = zoo.load_model(folder).encode(TEXTS)
    change(folder / "config.json", architectures=names)
    assert torch.equal(zoo.load_model(folder).encode(TEXTS), expected)


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("bert", "is_decoder", True),
        ("bert", "add_cross_attention", True),
        ("bert", "position_embedding_type", "relative_key"),
        ("bert", "pruned_heads", {"0": [1]}),
        ("bert", "is_causal", True),
        ("bert", "no_such_setting", 1),
        ("bert", "auto_map", {"AutoModel": "modeling_jina.JinaBertModel"}),
        ("nomic_bert", "num_experts", 8),
        ("nomic_bert", "moe_every_n_layers", 2),
        ("nomic_bert", "rotary_scaling_factor", 2),
    ],
)
def test_a_setting_that_is_not_followed(kind: str, key: str, value: Any, copy: Any) -> None:
    folder = copy(kind)
    check_refused(folder, "config.json", key, value)


def test_settings_of_older_versions_load(copy: Any) -> None:
    folder = copy("bert")
    expected = zoo.load_model(folder).encode(TEXTS)
    change(
        folder / "config.json",
        _name_or_path="x", gradient_checkpointing=False, classifier_dropout=None, use_cache=True, torch_dtype="float16",
        position_embedding_type="absolute", id2label={"0": "LABEL_0"}, label2id={"LABEL_0": 0}, directionality="bidi",
        pooler_fc_size=768, pooler_num_attention_heads=12, pooler_num_fc_layers=3, pooler_size_per_head=128,
        pooler_type="first_token_transform", output_past=True, task_specific_params={"x": 1}, pruned_heads={},
        torchscript=False, return_dict=False, output_hidden_states=True, transformers_version="4.6.0.dev0",
    )  # fmt: skip
    assert torch.equal(zoo.load_model(folder).encode(TEXTS), expected)


def test_settings_that_a_backbone_cannot_compute_with(copy: Any, tmp_path: Path) -> None:
    """transformers builds it and fails at the first text."""
    plain = copy("qwen2")
    write_sentence(tmp_path / "sentence", plain)
    for folder in (plain, tmp_path / "sentence"):
        change(folder / "config.json", layer_types=["sliding_attention", "full_attention"], sliding_window=None)
        with pytest.raises(UnrecognisedCheckpointError, match="two tokens"):
            zoo.load_model(folder)


# -------------------------------------------------------------------------------------------------- parts that are null


@pytest.mark.parametrize("null", [("vision_config", "audio_config"), ("text_config",)])
def test_a_text_backbone_among_towers_that_are_null(null: tuple[str, ...], tmp_path: Path) -> None:
    folder = write_plain(tmp_path / "plain", "embedding_gemma2_text")
    write_sentence(tmp_path / "sentence", folder)
    for one in (folder, tmp_path / "sentence"):
        text = json.loads((one / "config.json").read_text())
        parts = {"text_config": text, "vision_config": {}, "audio_config": {}, **dict.fromkeys(null)}
        whole = {"model_type": "embedding_gemma2", "architectures": ["EmbeddingGemma2Model"], **parts}
        (one / "config.json").write_text(json.dumps(whole))
        # The whole's tensors have other names, an empty tower is none, and a plain folder does not say how it makes vectors.
        with pytest.raises(ZooError, match=r"do not say how it makes vectors|lacks 39 tensors|without a model_type"):
            zoo.load_model(one)


# -------------------------------------------------------------------------------------------------- tensors left over


def test_more_layers_in_the_file_than_in_the_configuration(copy: Any) -> None:
    for kind in ("bert", "qwen2"):
        folder = copy(kind)
        change(folder / "config.json", num_hidden_layers=1, layer_types=None)
        with pytest.raises(MissingWeightsError, match="more layers"):
            zoo.load_model(folder, ignore=["layer_types"] if kind == "bert" else [])


def test_tensors_that_may_be_left_over(copy: Any) -> None:
    folder = copy("bert")
    expected = zoo.load_model(folder).encode(TEXTS)
    tensors = {f"bert.{name}": value for name, value in load_file(folder / "model.safetensors").items()}
    spare = ("cls.predictions.bias", "cls.seq_relationship.weight", "lm_head.weight", "bert.embeddings.position_ids")
    save_file({**tensors, **{name: torch.ones(2) for name in spare}}, folder / "model.safetensors", {"format": "pt"})
    assert torch.equal(zoo.load_model(folder).encode(TEXTS), expected)


# -------------------------------------------------------------------------------------------------------- nomic's names


def test_nomic_s_old_names(tmp_path: Path) -> None:
    folder = write_plain(tmp_path / "nomic", "nomic_bert", rope_theta=500.0)
    expected = zoo.load_model(folder).encode(TEXTS)
    config = json.loads((folder / "config.json").read_text())
    old = {
        "model_type": "nomic_bert", "n_embd": 32, "n_head": 2, "n_inner": 48, "n_layer": 2, "n_positions": 80,
        "layer_norm_epsilon": 1e-12, "rotary_emb_base": 500, "vocab_size": config["vocab_size"], "type_vocab_size": 2,
        "activation_function": "swiglu", "attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "causal": False,
        "qkv_proj_bias": False, "mlp_fc1_bias": False, "mlp_fc2_bias": False, "prenorm": False, "use_rms_norm": False,
        "rotary_emb_fraction": 1.0, "rotary_emb_interleaved": False, "rotary_scaling_factor": None,
        "max_trained_positions": 2048, "use_flash_attn": True, "use_xentropy": True, "pad_vocab_size_multiple": 64,
        "architectures": ["NomicBertModel"], "fused_bias_fc": True, "fused_dropout_add_ln": True,
        "auto_map": {"AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel"},
        "dense_seq_output": True, "parallel_block": False, "parallel_block_tied_norm": False,
        "reorder_and_upcast_attn": False, "rotary_emb_scale_base": None, "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False, "summary_type": "cls_index", "summary_use_proj": True,
        "summary_activation": None, "summary_first_dropout": 0.0, "summary_proj_to_labels": True, "use_cache": True,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(old))
    model = zoo.load_model(folder)
    assert model.spec.dim == 32
    assert (model.encode(TEXTS) - expected).abs().max() < 1e-6


# ------------------------------------------------------------------------------------------------------------ attention


@pytest.fixture
def both_ways() -> Iterator[str]:
    """A user's registered model that states its attention."""

    @zoo.register_model(name="my-both-ways", modalities={"text"}, dim=32, license="mit", attention="bidirectional")
    def built(spec: zoo.ModelSpec) -> zoo.Embedder:
        raise AssertionError("only its facts are wanted")

    yield "my-both-ways"
    del MODELS._found["my-both-ways"]


def bidirectional(folder: Path) -> torch.Tensor:
    """transformers' own states with is_causal=False, text by text, averaged."""
    config = transformers.AutoConfig.from_pretrained(folder)
    config.is_causal = False
    model = transformers.AutoModel.from_pretrained(folder, config=config)
    read = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        states = [model(**read(t, return_tensors="pt", truncation=True)).last_hidden_state[0].mean(0) for t in TEXTS]
    return torch.nn.functional.normalize(torch.stack(states), dim=-1)


AUTHORS = {"AutoModel": "modeling_qwen.Qwen2Model", "AutoModelForCausalLM": "modeling_qwen.Qwen2ForCausalLM"}


def test_code_of_its_authors_own_is_refused_with_the_reason(copy: Any) -> None:
    folder = copy("qwen2")
    causal = zoo.load_model(folder).encode(TEXTS)
    change(folder / "config.json", auto_map=AUTHORS)
    with pytest.raises(UnreadSettingError, match=r"both directions.*like=") as caught:
        zoo.load_model(folder)
    assert caught.value.keys == ("auto_map",)
    assert torch.equal(zoo.load_model(folder, ignore=["auto_map"]).encode(TEXTS), causal)


def test_a_model_that_states_its_attention_opens_it(copy: Any, both_ways: str, tmp_path: Path) -> None:
    folder = copy("qwen2")
    causal = zoo.load_model(folder).encode(TEXTS)
    expected = bidirectional(folder)
    assert (causal - expected).abs().max() > 0.01
    change(folder / "config.json", auto_map=AUTHORS)
    model = zoo.load_model(folder, like=both_ways)
    assert model.spec.attention == "bidirectional"
    for size in (1, 4):
        assert (model.encode(TEXTS, batch_size=size) - expected).abs().max() < BOUND
    again = zoo.load_model(model.save_pretrained(tmp_path / "saved"))
    assert (again.encode(TEXTS) - expected).abs().max() < BOUND
    assert again.spec.attention == "bidirectional"
    assert (zoo.load_model(f"{folder} like {both_ways}").encode(TEXTS) - expected).abs().max() < BOUND


def test_so_inside_sentence_transformers(copy: Any, both_ways: str, tmp_path: Path) -> None:
    plain = copy("qwen2")
    expected = bidirectional(plain)
    write_sentence(tmp_path / "sentence", plain)
    change(tmp_path / "sentence" / "config.json", auto_map=AUTHORS)
    with pytest.raises(UnreadSettingError, match="auto_map"):
        zoo.load_model(tmp_path / "sentence")
    model = zoo.load_model(tmp_path / "sentence", like=both_ways)
    assert (model.encode(TEXTS) - expected).abs().max() < BOUND


@pytest.mark.parametrize("causal", [True, False])
def test_is_causal_of_the_configuration_counts(causal: bool, copy: Any) -> None:
    folder = copy("qwen2")
    expected = zoo.load_model(folder).encode(TEXTS) if causal else bidirectional(folder)
    change(folder / "config.json", is_causal=causal, auto_map=AUTHORS)
    assert (zoo.load_model(folder).encode(TEXTS) - expected).abs().max() < BOUND


@pytest.mark.parametrize("kind", [k if k == "gemma" else pytest.param(k, marks=pytest.mark.slow) for k in DECODERS])
def test_every_decoder_reads_both_ways_or_is_refused(kind: str, tmp_path: Path, both_ways: str) -> None:
    folder = write_plain(tmp_path / kind, kind)
    if kind == "gpt_neo":
        with pytest.raises(UnreadSettingError, match="is_causal"):
            zoo.load_model(folder, like=both_ways)
        return
    expected = bidirectional(folder)
    assert (zoo.load_model(folder, like=both_ways).encode(TEXTS) - expected).abs().max() < BOUND
    if kind.startswith("gemma"):  # their own word for it
        change(folder / "config.json", use_bidirectional_attention=True)
        assert (zoo.load_model(folder).encode(TEXTS) - expected).abs().max() < BOUND


@every("kind", DECODERS)
def test_the_first_token_sees_the_last_where_it_is_told_so(kind: str) -> None:
    """Read causally its state depends on nothing after it; in both directions a change of the last token moves it, also beside filler."""
    shape = {**backbone(kind).config.to_diff_dict(), "model_type": kind}
    ids, mask = torch.tensor([[5, 6, 7], [5, 6, 8], [5, 6, 7]]), torch.tensor([[1, 1, 1], [1, 1, 1], [1, 1, 0]])
    for attention in ("causal", "bidirectional"):
        if attention == "bidirectional" and kind == "gpt_neo":
            with pytest.raises(UnreadSettingError, match="is_causal"):
                read_config(shape, Path("config.json"), NOTHING, attention)
            return
        config = read_config(shape, Path("config.json"), NOTHING, attention)
        model = stir(text_class(kind).from_config(config))
        with torch.inference_mode():
            first = model(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0]
        moved = (first - first[0]).abs().amax(1)
        assert (moved[1:] > 1e-3).tolist() == [attention == "bidirectional"] * 2, (attention, moved)


def test_windows_of_a_decoder_that_reads_both_ways(tmp_path: Path) -> None:
    """As EmbeddingGemma: transformers works its own windows out of the key."""
    layers = ["sliding_attention", "full_attention"]
    both = {"use_bidirectional_attention": True, "sliding_window": 8, "layer_types": layers}
    folder = write_plain(tmp_path / "gemma", "gemma3_text", **both)
    model, read = transformers.AutoModel.from_pretrained(folder), transformers.AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        tokens = [read(text, return_tensors="pt", truncation=True) for text in TEXTS]
        expected = torch.stack([model(**one).last_hidden_state[0].mean(0) for one in tokens])
    expected = torch.nn.functional.normalize(expected, dim=-1)
    assert (bidirectional(folder) - expected).abs().max() > 100 * BOUND
    model = zoo.load_model(folder)
    again = zoo.load_model(model.save_pretrained(tmp_path / "saved"))
    for one in (model, again):
        for size in (1, 4):
            assert (one.encode(TEXTS, batch_size=size) - expected).abs().max() < BOUND


def test_only_models_that_state_their_attention_can_be_likened_to(copy: Any) -> None:
    with pytest.raises(UnknownModelError, match="attention"):
        zoo.load_model(copy("qwen2"), like="text-test")


def test_the_reference_tells_backbones_apart() -> None:
    """Otherwise agreement would prove nothing."""
    ids = tokenizer()(TEXTS[0], return_tensors="pt")
    with torch.inference_mode():
        assert backbone("qwen2")(**ids).last_hidden_state.std() > 0.3
