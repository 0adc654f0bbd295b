"""Rerankers: P(yes) of a pair is what the whole language model says, written out here with transformers' own classes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import zoo
from tests.hub import LoopbackHub
from tests.hub.child import Child
from tests.reference import qwen2_vl, qwen3_vl
from tests.reference.qwen2_vl import Published, make_image, make_video, write_qwen2_vl
from tests.reference.qwen3_vl import see_image, see_list, write_qwen3_vl
from zoo.errors import (
    EmptyTextError,
    MissingWeightsError,
    UnknownModelError,
    UnreadSettingError,
    UnrecognisedCheckpointError,
)
from zoo.inputs.item import Item
from zoo.reranking import Reranker, load_reranker

BOUND = 1e-5
TOKEN = 32 * 32
QWEN3, MARVEL = "Qwen/Qwen3-VL-Reranker-2B", "org/u-marvel-reranker"
QUERY = Item(text="a red bicycle", image=make_image(3), instruction="Find the same thing.")
DOCUMENTS = [
    Item(text="a bicycle in the rain"),
    Item(image=make_image(0)),
    Item(image=make_image(1, 160, 40), text="a house, " * 12),
    Item(text="b"),
]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Published]:
    root = tmp_path_factory.mktemp("rerankers")
    tied = write_qwen3_vl(root / "qwen3")
    own = write_qwen2_vl(root / "qwen2", tied=False)
    for file in ("modules.json", "config_sentence_transformers.json"):
        (tied.folder / file).unlink(missing_ok=True)  # of the embedder in the same layout
    return {QWEN3: tied, MARVEL: own}


@pytest.fixture(scope="module")
def rerankers(written: dict[str, Published]) -> dict[str, Reranker]:
    return {name: load_reranker(published.folder) for name, published in written.items()}


# ------------------------------------------------------------------------------------------------- their code, in short


def qwen3_row(query: Item, document: Item) -> qwen3_vl.Row:
    """`format_mm_instruction` of src/models/qwen3_vl_reranker.py, in the chat template of Qwen3-VL."""
    images, videos, words = [], [], []
    for item in (query, document):
        content = ""
        if item.video is not None:
            videos.append(see_list(item.video, total_pixels=7680 * TOKEN))
            content += videos[-1].words
        if item.image is not None:
            images.append(see_image(item.image, (4 * TOKEN, 1800 * TOKEN)))
            content += images[-1].words
        words.append(content + (item.text or ""))
    instruction = query.instruction or "Given a search query, retrieve relevant candidates that answer the query."
    system = 'Judge whether the Document meets the requirements based on the Query and the Instruct provided. Note that the answer can only be "yes" or "no".'  # fmt: skip
    user = f"<Instruct>: {instruction}<Query>:{words[0]}\n<Document>:{words[1]}"
    prompt = f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"
    return qwen3_vl.Row(prompt, images, videos)


def marvel_row(query: Item, document: Item) -> qwen2_vl.Row:
    """`construct_rerank_messages_single_candidate` of dataset/datasets_mbeir_eval_rerank.py, in Qwen2-VL's chat template."""
    images = [item.image for item in (query, document) if item.image is not None]
    mark = "<|vision_start|><|image_pad|><|vision_end|>"
    words = [mark * (item.image is not None) + " ".join(filter(None, [item.instruction, item.text])) for item in (query, document)]  # fmt: skip
    task = "I will provide you with a query and a candidate. Please evaluate whether the candidate\
                        meets the requirements of the query. If it does, respond with 'Yes'; if it doesn't, responed with 'No'."
    user = f"{task}Query:{words[0]}Candidate:{words[1]}"
    prompt = f"<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"  # fmt: skip
    return qwen2_vl.Row(prompt, images)


def probabilities(published: Published, pairs: list[tuple[Item, Item]]) -> Tensor:
    """One pair at a time: logits of the whole vocabulary at the last position, softmax over the two answers."""
    found = []
    with torch.inference_mode():
        for query, document in pairs:
            if published.folder.name == "qwen3":
                hidden, _, _ = qwen3_vl.states(published, [qwen3_row(query, document)])
                logits = hidden[0, -1] @ published.model.get_input_embeddings().weight.T
                yes, no = "yes", "no"
            else:
                row = marvel_row(query, document)
                hidden, _, _ = qwen2_vl.states(published, [row], pixels=(3136, 12845056), positions="mrope")
                logits = published.model.lm_head(hidden[0, -1])
                yes, no = "Yes", "No"
            ids = [published.tokenizer.encode(word, add_special_tokens=False).ids[0] for word in (yes, no)]
            found.append(logits[ids].softmax(0)[0])
    return torch.stack(found)


# -------------------------------------------------------------------------------------------------------------- scores


@pytest.mark.parametrize("name", [QWEN3, MARVEL])
def test_a_score_is_the_probability_of_yes(name: str, written: dict, rerankers: dict[str, Reranker]) -> None:
    """Whatever else is in the batch, with and without an instruction, texts and images on either side."""
    queries = [QUERY, Item(text="a red bicycle"), Item(image=make_image(3))]
    for query in queries:
        theirs = probabilities(written[name], [(query, document) for document in DOCUMENTS])
        assert (rerankers[name].score(query, DOCUMENTS) - theirs).abs().max() < BOUND
        assert (rerankers[name].score(query, DOCUMENTS, batch_size=1) - theirs).abs().max() < BOUND
    assert theirs.std() > 1e-3


def test_pairs_as_mining_hands_them_on(written: dict, rerankers: dict[str, Reranker]) -> None:
    pairs = [(QUERY, DOCUMENTS[0]), (Item(text="c"), DOCUMENTS[1]), (QUERY, DOCUMENTS[3])]
    scores = rerankers[QWEN3].score(pairs)
    assert (scores - probabilities(written[QWEN3], pairs)).abs().max() < BOUND
    assert scores.shape == (3,)
    assert not scores.is_inference()
    assert rerankers[QWEN3].score("a", []).shape == (0,)


def test_videos_stand_before_images(written: dict, rerankers: dict[str, Reranker]) -> None:
    query, document = Item(text="someone runs"), Item(video=make_video(3, 4), image=make_image(0), text="c")
    theirs = probabilities(written[QWEN3], [(query, document)])
    assert (rerankers[QWEN3].score(query, [document]) - theirs).abs().max() < BOUND


def test_the_bad_pair_is_named(rerankers: dict[str, Reranker]) -> None:
    with pytest.raises(EmptyTextError) as caught:
        rerankers[QWEN3].score("a", ["b", " "])
    assert caught.value.index == 1


# ------------------------------------------------------------------------------------------------------------- loading


@pytest.fixture(scope="module")
def hub(hub: LoopbackHub, written: dict) -> LoopbackHub:
    for repo, published in written.items():
        hub.add(published.folder, repo)
    return hub


def score_texts(name: str, **options: Any) -> list[float]:
    """For the child process that talks to the loopback hub."""
    return load_reranker(name, **options).score("a red bicycle", ["a", "b c"]).tolist()


@pytest.mark.parametrize("name", [QWEN3, MARVEL])
def test_by_name(name: str, child: Child, rerankers: dict[str, Reranker]) -> None:
    answer = child.call("tests.reranking.test_reranker:score_texts", f"hf:{name}")
    assert "error" not in answer, answer
    ours = rerankers[name].score("a red bicycle", ["a", "b c"])
    assert (torch.tensor(answer["result"]) - ours).abs().max() < BOUND


def test_a_setting_that_is_not_followed_is_refused_or_ignored(written: dict, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    shutil.copytree(written[QWEN3].folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rerank_head": "sum"}))
    with pytest.raises(UnreadSettingError, match="rerank_head"):
        load_reranker(folder)
    ignoring = load_reranker(folder, device="cpu", ignore=["rerank_head"])
    assert ignoring.score("a", ["b"]).equal(load_reranker(written[QWEN3].folder, device="cpu").score("a", ["b"]))
    with pytest.warns(UserWarning, match="ignore="):
        load_reranker(written[QWEN3].folder, ignore=["rerank_head"])


def test_what_is_no_reranker_is_said(written: dict, tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match="known are"):
        load_reranker(written[QWEN3].folder, like="other")
    with pytest.raises(UnrecognisedCheckpointError, match="qwen2_vl"):
        load_reranker(written[MARVEL].folder, like="qwen3vl-reranker")
    embedder = tmp_path / "embedder"
    shutil.copytree(written[MARVEL].folder, embedder)
    tensors = {n: t for n, t in load_file(embedder / "model.safetensors").items() if n != "lm_head.weight"}
    save_file(tensors, embedder / "model.safetensors", {"format": "pt"})
    with pytest.raises(MissingWeightsError, match="no projection to the vocabulary"):
        load_reranker(embedder)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    with pytest.raises(UnrecognisedCheckpointError, match=r"has no config\.json"):
        load_reranker(adapter)
    (adapter / "adapter_config.json").write_text("{}")
    with pytest.raises(UnrecognisedCheckpointError, match=r"an adapter without its base, .*: merge it"):
        load_reranker(adapter)
    with pytest.raises(UnrecognisedCheckpointError, match="no reranker"):
        load_reranker(zoo.build_model("clip-test").save_pretrained(tmp_path / "clip"))
