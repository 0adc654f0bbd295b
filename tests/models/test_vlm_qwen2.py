"""Embedders on Qwen2-VL: old checkpoints in folders give the vectors of their authors' code, prompts are theirs to the letter."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import zoo
from tests.encoders.sequence_support import changed
from tests.every import standing_for
from tests.reference import llava
from tests.reference.qwen2_authors import FAMILIES, IMAGE, TOKEN, Family, furthest, vlm2vec, write_marvel
from tests.reference.qwen2_vl import QUESTION, SAME, Published, items, make_image, make_video, write_qwen2_vl
from tests.reference.qwen3_vl import write_qwen3_vl
from zoo.encoders.sequence import SequenceEncoder, sequence
from zoo.formats.layout import Opening, open_with
from zoo.formats.vlm import VisionLanguage
from zoo.inputs.item import Item
from zoo.models.backbones import SPECIALS, TINY_PIXELS, byte_processor, byte_specials, tiny_qwen2_vl

BOUND, TELLS = 1e-5, 1e-3


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Family], Published]:
    """The checkpoint that a family is tested with."""
    root = tmp_path_factory.mktemp("published")
    qwen3 = write_qwen3_vl(root / "qwen3")
    qwen3.tokenizer.add_tokens(["<emb>", "<instruction_start>", "<instruction_end>"])
    found = {
        "qwen2_vl": write_qwen2_vl(root / "qwen2-vl"),
        "u-marvel": write_marvel(root / "u-marvel"),
        "qwen3_vl": qwen3,
        "qwen2_5_vl": write_qwen2_vl(root / "qwen2.5", kind="qwen2_5_vl", seed=5),
    }
    return lambda family: found[family.kind]


def opened(published: Published, like: str) -> zoo.Embedder:
    return zoo.load_model(published.folder, like=like)


# -------------------------------------------------------------------------------------------------------------- parity


# Each way of positions, of fetching and of frames is in one of the others.
ALIKE = {"gme-qwen2vl-2b", "rzenembed-qwen2vl-7b", "vlm2vec-qwen2vl-7b", "lamra-ret-qwen2vl-7b"}


@pytest.mark.parametrize("like", standing_for(FAMILIES, FAMILIES.keys() - ALIKE))
def test_a_folder_gives_the_authors_vectors(like: str, published: Callable[[Family], Published]) -> None:
    """Whichever side the authors pad on, and we."""
    family = FAMILIES[like]
    some = items(family.videos)
    model = opened(published(family), like)
    ours = model.encode(some)
    for side in ("left", "right"):
        assert furthest(ours, family.vectors(published(family), some, side)) < BOUND
    tower = model.towers[0]
    with torch.inference_mode():
        batch = tower.encoder.collate([tower.encoder.prepare_item(item) for item in some], "left")
        assert furthest(ours, tower(batch)) < BOUND


@pytest.mark.parametrize("like", ["u-marvel-qwen2vl-7b", "vlm2vec-v2-qwen2vl-2b", "rzenembed-qwen2vl-7b"])
def test_saved_and_opened_again_they_are_the_same(
    like: str, published: Callable[[Family], Published], tmp_path: Path
) -> None:
    """Added tokens are there once, and the folder says by itself how it is read."""
    some = items(FAMILIES[like].videos)
    model = opened(published(FAMILIES[like]), like)
    again = zoo.load_model(model.save_pretrained(tmp_path / "saved"))
    assert furthest(again.encode(some), model.encode(some)) < BOUND
    assert again.spec.format == model.spec.format
    assert again.spec.media == model.spec.media


def opened_otherwise(published: Published, like: str, **changes) -> zoo.Embedder:
    """The same folder, read with other switches."""
    spec = changed(zoo.get_spec(like), **changes)
    return open_with(VisionLanguage(), published.folder, Opening("other", like=spec)).eval()


@pytest.mark.parametrize(
    ("like", "changes"),
    [
        ("gme-qwen2vl-2b", {"positions": "mrope"}),
        ("gme-qwen2vl-2b", {"pixels": (4 * TOKEN, 1280 * TOKEN)}),
        ("ops-mm-embedding-v1-2b", {"positions": "sequential"}),
        ("vlm2vec-v2-qwen2vl-2b", {"positions": "mrope"}),
        ("vlm2vec-v2-qwen2vl-2b", {"image": "<|image_pad|>"}),
        ("vlm2vec-v2-qwen2vl-2b", {"prompt": "{{ media }}{{ instruction }}{{ text }}"}),
        ("u-marvel-qwen2vl-7b", {"positions": "mrope"}),
        ("u-marvel-qwen2vl-7b", {"span": "all"}),
        ("lamra-ret-qwen2vl-7b", {"positions": "mrope"}),
        ("unite-base-qwen2vl-2b", {"prompt": zoo.get_spec("unite-base-qwen2vl-2b").format.prompt[:-13]}),
        ("u-marvel-qwen3vl-4b", {"deepstack": True}),
        ("u-marvel-qwen3vl-4b", {"positions": "mrope"}),
        ("gve-qwen2.5vl-3b", {"positions": "sequential"}),
        ("u-marvel-qwen2vl-7b", {"attention": "causal"}),
        ("u-marvel-qwen2vl-7b", {"attention": "causal", "pooling": "last", "span": "all"}),
    ],
)
def test_a_wrong_switch_would_show(like: str, changes: dict, published: Callable[[Family], Published]) -> None:
    family = FAMILIES[like]
    item = [Item(image=make_image(2, 160, 30), text="the same in blue", instruction=SAME)]
    theirs = family.vectors(published(family), item)
    assert furthest(opened_otherwise(published(family), like, **changes).encode(item), theirs) > TELLS


def test_a_tiny_image_is_enlarged_as_the_authors_do(published: Callable[[Family], Published]) -> None:
    family = FAMILIES["vlm2vec-v2-qwen2vl-2b"]
    base, tiny = published(family), make_image(7, 20, 90)
    model = opened(base, family.like)
    assert furthest(model.encode([tiny]), family.vectors(base, [Item(image=tiny.resize((56, 56)))])) < BOUND
    assert furthest(model.encode([tiny]), family.vectors(base, [Item(image=tiny)])) > TELLS


# ------------------------------------------------------------------------------------------------- prompts, to the letter


def tiny(name: str) -> SequenceEncoder:
    """A tiny backbone that reads as a registered model does, with the tokens of bytes."""
    spec = changed(zoo.get_spec(name), pixels=TINY_PIXELS, frame_pixels=())
    return sequence(replace(spec, max_tokens=2048), tiny_qwen2_vl(), byte_processor())


def once(ids: list[int]) -> list[int]:
    """Each image and video as long as one token."""
    pads = [byte_specials()[token] for token in ("<|image_pad|>", "<|video_pad|>")]
    return [token for i, token in enumerate(ids) if token not in pads or i == 0 or ids[i - 1] != token]


def byte_ids(text: str) -> list[int]:
    """Ids of a text: special tokens from 256 on, bytes by their place in GPT-2's alphabet, printable ones first."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    alphabet = {byte: i for i, byte in enumerate(printable + [b for b in range(256) if b not in printable])}
    pattern = "(" + "|".join(map(re.escape, SPECIALS)) + ")"
    ids = []
    for part in re.split(pattern, text):
        ids += [256 + SPECIALS.index(part)] if part in SPECIALS else [alphabet[byte] for byte in part.encode()]
    return ids


BOTH = Item(text="the same in blue", image=make_image(0), instruction=SAME)
GOLDEN = [
    ("gme-qwen2vl-2b", Item(text="a"), "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n<|endoftext|>"),
    ("gme-qwen2vl-2b", Item(image=make_image(0)), f"<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{IMAGE}<|im_end|>\n<|im_start|>assistant\n<|endoftext|>"),
    ("gme-qwen2vl-2b", Item(text="a", instruction="No stop"), "<|im_start|>system\nNo stop<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n<|endoftext|>"),
    ("gme-qwen2vl-2b", Item(parts=[make_image(0), "a", make_image(1), "b"]), f"<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{IMAGE}a{IMAGE}b<|im_end|>\n<|im_start|>assistant\n<|endoftext|>"),
    ("gme-qwen2vl-2b", BOTH, f"<|im_start|>system\n{SAME}<|im_end|>\n<|im_start|>user\n{IMAGE}the same in blue<|im_end|>\n<|im_start|>assistant\n<|endoftext|>"),
    ("vlm2vec-v2-qwen2vl-2b", Item(text="a cat"), "a cat"),
    ("vlm2vec-v2-qwen2vl-2b", Item(text="a cat", instruction=QUESTION), f"{QUESTION} a cat"),
    ("vlm2vec-v2-qwen2vl-2b", Item(image=make_image(0)), "<|image_pad|> "),
    ("vlm2vec-v2-qwen2vl-2b", BOTH, f"<|image_pad|> {SAME} the same in blue"),
    ("vlm2vec-v2-qwen2vl-2b", Item(image=make_image(0), text="q\n", instruction="\nAnswer:"), "<|image_pad|>\nAnswer: q\n"),
    ("vlm2vec-v2-qwen2vl-2b", Item(video=make_video(0), instruction="Understand it. "), "<|video_pad|> Understand it. "),
    ("u-marvel-qwen2vl-7b", Item(text="a"), "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n<emb>.<|im_end|>\n<|im_start|>assistant\n"),
    ("u-marvel-qwen2vl-7b", Item(image=make_image(0), instruction="Find it."), f"<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{IMAGE}<instruction_start>Find it.<instruction_end>.<|im_end|>\n<|im_start|>assistant\n<emb>.<|im_end|>\n<|im_start|>assistant\n"),
    ("u-marvel-qwen2vl-7b", BOTH, f"<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{IMAGE}<instruction_start>{SAME}<instruction_end> the same in blue<|im_end|>\n<|im_start|>assistant\n<emb>.<|im_end|>\n<|im_start|>assistant\n"),
    ("rzenembed-qwen2vl-7b", BOTH, f"<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{IMAGE}{SAME}the same in blue<|im_end|>\n<|im_start|>assistant\n<|endoftext|>"),
    ("rzenembed-qwen2vl-7b", Item(video=make_video(0, 2)), f"<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{IMAGE}{IMAGE}<|im_end|>\n<|im_start|>assistant\n<|endoftext|>"),
    ("ops-mm-embedding-v1-2b", Item(video=make_video(0, 2), text="a"), f"<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{IMAGE}{IMAGE}a<|im_end|>\n<|im_start|>assistant\n<|endoftext|>"),
    ("lamra-ret-qwen2vl-7b", Item(text="a"), "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\na\nSummarize above sentence in one word: <|im_end|>\n<|im_start|>assistant\n"),
    ("lamra-ret-qwen2vl-7b", Item(image=make_image(0)), f"<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{IMAGE}\nSummarize above image in one word: <|im_end|>\n<|im_start|>assistant\n"),
    ("lamra-ret-qwen2vl-7b", BOTH, f"<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{IMAGE}{SAME} the same in blue\nSummarize above image and sentence in one word: <|im_end|>\n<|im_start|>assistant\n"),
    ("unite-base-qwen2vl-2b", Item(text="a"), "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\na\nSummary above sentence in one word:<|im_end|>\n<|im_start|>assistant\n<|endoftext|>"),
    ("unite-base-qwen2vl-2b", Item(video=make_video(0)), "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_start|><|video_pad|><|vision_end|>\nSummary above video in one word:<|im_end|>\n<|im_start|>assistant\n<|endoftext|>"),
    ("unite-base-qwen2vl-2b", Item(text="a", image=make_image(0)), f"<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{IMAGE}a\nSummary above sentence and image in one word:<|im_end|>\n<|im_start|>assistant\n<|endoftext|>"),
    ("b3-qwen2vl-2b", Item(text="dog", instruction=zoo.get_spec("b3-qwen2vl-2b").prompts["label"]), "Represent the class label: dog"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "item", "text"), GOLDEN)
def test_prompts_to_the_letter(name: str, item: Item, text: str) -> None:
    encoder = tiny(name)
    ids = once(encoder.prepare_item(zoo.inputs.item.as_item(item)).ids)
    assert encoder.tokenizer.decode(ids) == text
    assert ids == byte_ids(text)


# ---------------------------------------------------------------------------------------------- VLM2Vec on LLaVA-NeXT


def test_vlm2vec_on_llava_next(tmp_path: Path) -> None:
    """The same prompt around "<image>", after the beginning that the tokenizer puts there; images of any size."""
    text = {"model_type": "mistral", "rope_theta": 1000000.0, "sliding_window": None}
    published = llava.write(tmp_path / "llava", "llava_next", "llama", text)
    some = items()
    rows = [
        llava.Row(row.prompt.replace("<|image_pad|>", "<image>"), row.images)
        for row in (vlm2vec(item) for item in some)
    ]
    ours = zoo.load_model(published.folder, like="vlm2vec-llava-next-7b").encode(some)
    for side in ("left", "right"):
        assert furthest(ours, llava.vectors(published, rows, side)) < BOUND
    bare = [replace(row, prompt=row.prompt.replace("<image> ", "<image>")) for row in rows]
    assert furthest(ours[3:], llava.vectors(published, bare)[3:]) > TELLS
