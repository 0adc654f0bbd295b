"""Settings of sentence-transformers' files that are followed: prompts that are not pooled, vectors that are cut."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers.processors import TemplateProcessing

import zoo
from tests.formats.settings_support import change
from tests.reference.backbones import write_plain
from tests.reference.base import stir
from tests.reference.sentence_models import write_static
from zoo.errors import UnreadSettingError

TEXTS = [
    "a red motorbike",
    "kitty",
    "two dogs playing in the snow",
    "the old harbour at dawn, fishing boats, gulls " * 8,
]
PROMPTS = {"query": "find what answers this: ", "document": ""}
MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
SETTINGS = "config_sentence_transformers.json"
BOUND = 1e-5


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("plain")
    return {kind: write_plain(root / kind, kind) for kind in ("bert", "qwen2")}


def written(folder: Path, plain: Path, modes: Any, *after: Any, **pooling: Any) -> SentenceTransformer:
    modules = [Transformer(str(plain)), Pooling(32, modes, **pooling), *after]
    model = SentenceTransformer(modules=modules, device="cpu", prompts=PROMPTS)
    model.save_pretrained(str(folder), create_model_card=False)
    return SentenceTransformer(str(folder), device="cpu")


def unit(vectors: Any) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.as_tensor(vectors), dim=-1)


# --------------------------------------------------------------------------- prompts that are read and not pooled


@pytest.mark.parametrize("mode", [*MODES, ["cls", "mean", "weightedmean"]], ids=str)
@pytest.mark.parametrize("kind", ["bert", "qwen2"])
def test_a_prompt_that_is_not_pooled(kind: str, mode: Any, plain: dict[str, Path], tmp_path: Path) -> None:
    theirs = written(tmp_path / "st", plain[kind], mode, include_prompt=False)
    model = zoo.load_model(tmp_path / "st")
    for prompt in (PROMPTS["query"], "another: "):
        expected = unit(theirs.encode(TEXTS, prompt=prompt))
        for size in (1, 4):
            assert (model.encode(TEXTS, prompt=prompt, batch_size=size) - expected).abs().max() < BOUND
    assert (model.encode_query(TEXTS) - unit(theirs.encode_query(TEXTS))).abs().max() < BOUND
    assert (model.encode(TEXTS) - unit(theirs.encode(TEXTS))).abs().max() < BOUND
    if mode == "mean":
        change(tmp_path / "st" / "1_Pooling" / "config.json", include_prompt=True)
        pooled = zoo.load_model(tmp_path / "st").encode_query(TEXTS)
        assert (pooled - unit(theirs.encode_query(TEXTS))).abs().max() > 100 * BOUND


def test_it_is_saved_and_exported(plain: dict[str, Path], tmp_path: Path) -> None:
    from zoo.publishing.exports import export

    theirs = written(tmp_path / "st", plain["bert"], "mean", Normalize(), include_prompt=False)
    expected = torch.tensor(theirs.encode_query(TEXTS))
    model = zoo.load_model(tmp_path / "st")
    again = zoo.load_model(model.save_pretrained(tmp_path / "saved"))
    assert (again.encode_query(TEXTS) - expected).abs().max() < BOUND
    export(model, tmp_path / "export")
    assert json.loads((tmp_path / "export" / "1_Pooling" / "config.json").read_text())["include_prompt"] is False
    for opened in (zoo.load_model(tmp_path / "export"), SentenceTransformer(str(tmp_path / "export"), device="cpu")):
        assert (torch.as_tensor(opened.encode_query(TEXTS)) - expected).abs().max() < BOUND


@pytest.mark.parametrize("ends", [True, False], ids=["the end token is left", "nothing is left"])
def test_a_prompt_that_leaves_no_room(ends: bool, plain: dict[str, Path], tmp_path: Path) -> None:
    """sentence-transformers would pool the end token, the same for every text."""
    written(tmp_path / "st", plain["bert"], "mean", include_prompt=False)
    model = zoo.load_model(tmp_path / "st")
    if not ends:
        tokenizer = model.towers[0].encoder.tokenize.tokenizer
        tokenizer.post_processor = TemplateProcessing(single="$A", special_tokens=[])
    with pytest.raises(zoo.InputError, match="prompt alone"):
        model.encode(TEXTS, prompt="a very long story " * 40)


def test_a_model_that_pools_its_prompts_keeps_its_fingerprint(plain: dict[str, Path]) -> None:
    model = zoo.load_model(plain["bert"])
    assert "pool_prompt" not in model.towers[0].encoder.config()


# ------------------------------------------------------------------------------------------------- vectors that are cut


@pytest.mark.parametrize("after", ["normalize", "nothing", "dense"])
def test_vectors_that_are_cut(after: str, plain: dict[str, Path], tmp_path: Path) -> None:
    layers = {"normalize": [Normalize()], "nothing": [], "dense": [stir(Dense(32, 24)), Normalize()]}[after]
    theirs = written(tmp_path / "st", plain["bert"], "mean", *layers)
    whole = zoo.load_model(tmp_path / "st")
    change(tmp_path / "st" / SETTINGS, truncate_dim=16)
    theirs = SentenceTransformer(str(tmp_path / "st"), device="cpu")
    expected = unit(theirs.encode(TEXTS))
    assert expected.shape == (4, 16)
    model = zoo.load_model(tmp_path / "st")
    assert (model.spec.dim, model.spec.dims) == (16, (16,))
    assert (model.encode(TEXTS) - expected).abs().max() < BOUND
    assert model.fingerprint()["dim"] == 16
    again = zoo.load_model(model.save_pretrained(tmp_path / "saved"))
    assert (again.encode(TEXTS) - expected).abs().max() < BOUND
    assert again.spec == model.spec
    change(tmp_path / "st" / SETTINGS, truncate_dim=99)  # no cut
    assert torch.equal(zoo.load_model(tmp_path / "st").encode(TEXTS), whole.encode(TEXTS))


def test_vectors_that_keep_their_norms_are_cut_too(plain: dict[str, Path], tmp_path: Path) -> None:
    written(tmp_path / "st", plain["bert"], "mean", Normalize())
    change(tmp_path / "st" / SETTINGS, truncate_dim=16, similarity_fn_name="dot")
    theirs = SentenceTransformer(str(tmp_path / "st"), device="cpu")
    assert (zoo.load_model(tmp_path / "st").encode(TEXTS) - torch.tensor(theirs.encode(TEXTS))).abs().max() < BOUND


@pytest.mark.parametrize("wrong", [0, -1, "16", 8.5, True])
def test_no_such_cut(wrong: Any, plain: dict[str, Path], tmp_path: Path) -> None:
    written(tmp_path / "st", plain["bert"], "mean", Normalize())
    change(tmp_path / "st" / SETTINGS, truncate_dim=wrong)
    with pytest.raises(zoo.ZooError, match="truncate_dim"):
        zoo.load_model(tmp_path / "st")


# ------------------------------------------------------------------------------------------- lengths of queries and texts


@pytest.mark.parametrize("key", ["query_length", "document_length"])
def test_a_length_of_one_role_alone_is_refused(key: str, plain: dict[str, Path], tmp_path: Path) -> None:
    written(tmp_path / "st", plain["bert"], "mean", Normalize())
    change(tmp_path / "st" / "sentence_bert_config.json", **{key: 8})
    with pytest.raises(UnreadSettingError, match=key):
        zoo.load_model(tmp_path / "st")
    shutil.rmtree(tmp_path / "st" / "1_Pooling")


# ---------------------------------------------------------------------------------------------------------- lower case


def test_lower_case_leaves_special_tokens_as_they_are(plain: dict[str, Path], tmp_path: Path) -> None:
    written(tmp_path / "st", plain["bert"], "mean")
    texts = ["Two DOGS [MASK] in the snow", "a CAFÉ in Zürich [SEP]"]
    for normalizer in (None, {"type": "NFC"}, {"type": "Sequence", "normalizers": [{"type": "Lowercase"}]}):
        change(tmp_path / "st" / "tokenizer.json", normalizer=normalizer)
        change(tmp_path / "st" / "sentence_bert_config.json", do_lower_case=True)
        expected = unit(SentenceTransformer(str(tmp_path / "st"), device="cpu").encode(texts))
        model = zoo.load_model(tmp_path / "st")
        again = zoo.load_model(model.save_pretrained(tmp_path / "saved"))
        for one in (model, again):
            assert (one.encode(texts) - expected).abs().max() < BOUND


# ----------------------------------------------------------------------------------------------------- static tables


def test_what_model2vec_writes_beside_a_table(tmp_path: Path) -> None:
    write_static(tmp_path / "st")
    table = next(path.parent for path in (tmp_path / "st").rglob("model.safetensors"))
    expected = zoo.load_model(tmp_path / "st").encode(TEXTS)
    made = {"model_type": "model2vec", "architectures": ["StaticModel"], "tokenizer_name": "base", "apply_pca": 256}
    made |= {"apply_zipf": None, "sif_coefficient": 1e-4, "hidden_dim": 16, "seq_length": 4, "normalize": True}
    made |= {"embedding_dtype": "float32", "vocabulary_quantization": 8}
    (table / "config.json").write_text(json.dumps(made))
    theirs = unit(SentenceTransformer(str(tmp_path / "st"), device="cpu").encode(TEXTS))
    given = zoo.load_model(tmp_path / "st").encode(TEXTS)
    assert torch.equal(given, expected)
    assert (given - theirs).abs().max() < BOUND
    change(table / "config.json", window=4)
    with pytest.raises(UnreadSettingError, match="window"):
        zoo.load_model(tmp_path / "st")
    assert torch.equal(zoo.load_model(tmp_path / "st", ignore=["window"]).encode(TEXTS), expected)
