"""model2vec's and sentence-transformers' static tables by name: files as published, vectors as each library's own."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

import zoo
from tests.formats.settings_support import change
from tests.hub import LoopbackHub
from tests.reference.base import TEXTS
from tests.reference.text_published import by_sentence_transformers
from tests.reference.vocab import unigram, wordpiece
from zoo import registry
from zoo.errors import UnreadableTextError, UnreadSettingError, UnrecognisedCheckpointError
from zoo.models.parts import Embedder, Identity, Mean, StaticText, Tower

BOUND = 1e-5
RUN = "thequickbrownfox" * 8  # one unbroken run: WordPiece knows none of it
MODEL2VEC = ["potion-base-8m", "potion-multilingual-128m", "m2v-base-output"]
STATIC = "static-retrieval-mrl-en-v1"
DIM = 16


def write(folder: Path, name: str, *, shared: bool = False, cut: int | None = None) -> Path:
    """The files of a repository of that name, with few rows of random numbers.

    Args:
        cut: what its tokenizer.json says of the longest text.
        shared: tokens share rows and have weights, as after model2vec's quantisation of the vocabulary.
    """
    from tokenizers import models, normalizers, pre_tokenizers

    static = not name.startswith(("potion", "m2v"))
    place = folder / "0_StaticEmbedding" if static else folder
    place.mkdir(parents=True)
    if name.endswith("multilingual-128m"):
        core = Tokenizer(models.Unigram(unigram(["[UNK]", "[PAD]"]), unk_id=0))
        core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    else:
        core = Tokenizer(models.WordPiece(wordpiece(), unk_token="[UNK]"))
        core.normalizer, core.pre_tokenizer = (
            normalizers.BertNormalizer(lowercase=True),
            pre_tokenizers.BertPreTokenizer(),
        )
    if cut is not None:
        core.enable_truncation(cut)
    core.save(str(place / "tokenizer.json"))
    rows, generator = core.get_vocab_size(), torch.Generator().manual_seed(len(name))
    table = torch.randn(rows // 2 if shared else rows, DIM, generator=generator)
    tensors = {"embedding.weight" if static else "embeddings": table}
    if shared:
        tensors |= {"mapping": torch.arange(rows) % (rows // 2), "weights": torch.rand(rows, generator=generator) + 0.1}
    save_file(tensors, place / "model.safetensors")
    kind = "sentence_transformers.models.StaticEmbedding"
    modules = [{"idx": 0, "name": "0", "path": "0_StaticEmbedding" if static else ".", "type": kind}]
    if static:
        written = {"prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"}
        put(folder / "config_sentence_transformers.json", written)
    else:
        made = {"model_type": "model2vec", "architectures": ["StaticModel"], "tokenizer_name": "baai/bge-base-en-v1.5"}
        made |= {"apply_pca": DIM, "apply_zipf": True, "hidden_dim": DIM, "seq_length": 1000000, "normalize": True}
        put(folder / "config.json", made)
        # What transformers would make of these is not what the two libraries read.
        put(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": False})
        normalize = "sentence_transformers.models.Normalize"
        modules.append({"idx": 1, "name": "1", "path": "1_Normalize", "type": normalize})
    put(folder / "modules.json", modules)
    return folder


def put(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))


def of_model2vec(folder: Path, texts: Sequence[str], longest: int | None = 512) -> Tensor:
    """`StaticModel.encode` of model2vec 0.10 written out, with unit length at the end."""
    core, tensors = Tokenizer.from_file(str(folder / "tokenizer.json")), load_file(folder / "model.safetensors")
    entries = core.get_vocab()
    unknown = core.token_to_id("[UNK]")
    core.no_truncation()
    if longest is not None:
        core.enable_truncation(longest)
        texts = [text[: longest * int(statistics.median(map(len, entries)))] for text in texts]
    vectors = []
    for text in texts:
        ids = torch.tensor([i for i in core.encode(text, add_special_tokens=False).ids if i != unknown])
        rows = tensors["embeddings"][tensors["mapping"][ids] if "mapping" in tensors else ids]
        vectors.append((rows * tensors["weights"][ids][:, None] if "weights" in tensors else rows).mean(0))
    return F.normalize(torch.stack(vectors), dim=-1)


@pytest.fixture
def by_name(client_hub: LoopbackHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The registered model with few rows, from a hub that has its repository's files; and those files."""
    zoo.list_models()
    monkeypatch.setattr(registry.MODELS, "_found", dict(registry.MODELS._found))

    def load(name: str, **options: Any) -> tuple[zoo.Embedder, Path]:
        folder, spec = write(tmp_path / name, name, **options), zoo.get_spec(name)
        facts = {**spec.to_dict(), "dim": DIM, "dims": (), "params": 0, "name": f"{name}-tiny", "revision": None}

        def build(spec: zoo.ModelSpec) -> zoo.Embedder:
            encoder = StaticText(300, DIM, spec.max_tokens, drops_unknown=name != STATIC)
            return Embedder(spec, [Tower(encoder, Mean(), Identity())])

        zoo.register_model(**facts)(build)
        client_hub.add(folder, spec.hub_id)
        return zoo.load_model(f"{name}-tiny", device="cpu"), folder

    return load


def furthest(a: Any, b: Any) -> float:
    return float((torch.as_tensor(np.asarray(a)) - torch.as_tensor(np.asarray(b))).abs().max())


LONG = [*TEXTS, "猫 two dogs 猫 ok", f"{RUN} and a cat", "harbour at dawn " * 400 + "kitty " * 99]
LONG += ["a b c d e f g " * 400 + "kitty " * 99, "motorbike watching searching " * 200 + "kitty " * 99]


KINDS = [*((name, False) for name in MODEL2VEC), (MODEL2VEC[0], True)]


@pytest.mark.parametrize(
    ("name", "shared"), [KINDS[0], KINDS[1], pytest.param(*KINDS[2], marks=pytest.mark.slow), KINDS[3]]
)
def test_model2vec_by_name(name: str, shared: bool, by_name: Callable[..., Any]) -> None:
    """Unknown tokens, long texts of short and of long words, one and many; the length in tokenizer.json is not what counts."""
    model, folder = by_name(name, shared=shared, cut=32)
    expected = of_model2vec(folder, LONG)
    assert torch.pdist(expected).min() > 100 * BOUND
    assert furthest(model.encode(LONG), expected) < BOUND
    assert furthest(model.encode(LONG, batch_size=1), expected) < BOUND
    assert furthest(model.encode(LONG[-4]), expected[-4]) < BOUND
    for text in LONG:
        item = zoo.Item(text=text)
        whole = of_model2vec(folder, [text], None)
        assert (model.towers[0].encoder.cut(item) is None) == (furthest(whole, of_model2vec(folder, [text])) < 1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODEL2VEC)
def test_the_library_itself(name: str, tmp_path: Path) -> None:
    model2vec = pytest.importorskip("model2vec", reason="pip install model2vec==0.10.0, which the zoo does not need")
    folder = write(tmp_path / name, name)
    theirs = model2vec.StaticModel.from_pretrained(folder).encode(LONG)
    assert furthest(of_model2vec(folder, LONG), theirs) < BOUND
    assert furthest(zoo.load_model(folder).encode(LONG), theirs) < BOUND


@pytest.mark.parametrize("cut", [pytest.param(None, marks=pytest.mark.slow), 32])
def test_sentence_transformers_by_name(cut: int | None, by_name: Callable[..., Any]) -> None:
    """Its own tables keep unknown tokens, and cut a text where tokenizer.json says so alone."""
    model, folder = by_name(STATIC, cut=cut)
    expected = by_sentence_transformers(folder)(LONG)
    assert furthest(model.encode(LONG), expected) < BOUND
    assert furthest(model.encode(LONG, batch_size=1), expected) < BOUND


def test_a_text_of_unknown_tokens_alone_is_refused(tmp_path: Path) -> None:
    model = zoo.load_model(write(tmp_path / "m", MODEL2VEC[0]))
    for text in (RUN, "猫"):
        with pytest.raises(UnreadableTextError):
            model.encode(["a cat", text])


def test_settings_of_config_json(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", MODEL2VEC[0])
    (folder / "modules.json").unlink()  # as older ones
    assert furthest(zoo.load_model(folder).encode(LONG), of_model2vec(folder, LONG)) < BOUND
    for longest in (20, None):
        change(folder / "config.json", max_length=longest)
        if longest is None:
            settings = json.loads((folder / "config.json").read_text())
            put(folder / "config.json", {**settings, "max_length": None})
        model = zoo.load_model(folder)
        assert model.spec.max_tokens == longest
        assert furthest(model.encode(LONG), of_model2vec(folder, LONG, longest)) < BOUND
    change(folder / "config.json", max_length=-1)
    with pytest.raises(UnrecognisedCheckpointError, match="max_length"):
        zoo.load_model(folder)
    change(folder / "config.json", max_length=20, head_config={"classes": 2})
    with pytest.raises(UnreadSettingError, match="head_config"):
        zoo.load_model(folder)


def test_it_comes_back_from_a_folder(tmp_path: Path) -> None:
    model = zoo.load_model(write(tmp_path / "m", MODEL2VEC[0]))
    model.save_pretrained(tmp_path / "saved")
    assert furthest(zoo.load_model(tmp_path / "saved").encode(LONG), model.encode(LONG)) < 1e-6
