"""MMEB's task instructions: the prompts of VLM2Vec's evaluation, by its own code's rules written out here."""

from __future__ import annotations

import itertools
import subprocess
import sys

import pytest

import zoo
from tests.reference.qwen2_vl import make_image, make_video
from zoo.evaluation.instructions import TASKS, mmeb_query, mmeb_target, sentence, video_question
from zoo.inputs.item import Item

TOKEN = "<|image_pad|>"
INSTRUCTIONS = (
    "<|image_1|>\nRepresent the given image for classification",
    "<|image_1|> Represent the given image for classification \n",
    "Represent the given news image with the following caption: ",
    "<|image_1|> \n Answer the question.\n",
    "",
)
TEXTS = ("", "a caption", "with a break \nin it", "ends in a space ", "\nbegins with a break")


@pytest.fixture(scope="module")
def encoder():
    return zoo.build_model("vlm2vec-test").towers[0].encoder


def shown(encoder, item: Item) -> str:
    text = encoder.tokenizer.decode(encoder.prepare_item(item).ids)
    for pad in (TOKEN, "<|video_pad|>"):
        while pad * 2 in text:
            text = text.replace(pad * 2, pad)
    return text


def process_input_text(instruction: str, text: str | None = None, *, image: bool = False) -> str:
    """src/model/processor.py of TIGER-AI-Lab/VLM2Vec, for Qwen2-VL."""
    prompt = instruction
    if text:
        prompt = prompt + " " + text
    return TOKEN + " " + prompt if image else prompt


@pytest.mark.parametrize(("instruction", "text"), list(itertools.product(INSTRUCTIONS, TEXTS)))
def test_queries_of_image_tasks(encoder, instruction: str, text: str) -> None:
    """`data_prepare` of image_cls, image_i2t, image_qa and image_i2i_vg in src/data/eval_dataset."""
    for kind in ("classification", "i2t", "qa", "i2i", "grounding"):
        qry_inst = instruction.replace("<|image_1|>", "")
        if kind not in ("classification", "i2t"):
            qry_inst = "\n" + qry_inst.strip()
        theirs = process_input_text(qry_inst, text, image=True).replace(" \n", "\n") + "\n"
        assert shown(encoder, Item(image=make_image(0), text=mmeb_query(instruction, text, kind))) == theirs


@pytest.mark.parametrize("visdial", [False, True])
def test_queries_for_images(visdial: bool) -> None:
    """`data_prepare` of image_t2i_eval.py; such queries hold no image."""
    theirs = "Find me an everyday image that matches the given caption:" + " " + "a dog" + "\n"
    theirs = theirs + "\n" if visdial else theirs
    ours = mmeb_query("Find me an everyday image that matches the given caption:", "a dog", "t2i", visdial=visdial)
    assert ours == theirs


@pytest.mark.parametrize(("instruction", "caption"), list(itertools.product(INSTRUCTIONS, TEXTS)))
def test_targets_of_image_tasks(encoder, instruction: str, caption: str) -> None:
    """The target side of image_t2i_eval.py and image_i2i_vg_dataset.py; only the latter has no break without a caption."""
    for kind in ("t2i", "i2i"):
        tgt_inst = instruction.replace("<|image_1|>", "")
        if caption.strip():
            theirs = process_input_text(tgt_inst + " " + caption, "", image=True).replace(" \n", "\n") + "\n"
        else:
            theirs = process_input_text(tgt_inst, "", image=True).replace(" \n", "\n")
            theirs = theirs + "\n" if kind == "t2i" else theirs
        assert shown(encoder, Item(image=make_image(0), text=mmeb_target(instruction, caption, kind))) == theirs


def test_presets_as_the_prompt(encoder) -> None:
    def prompted(item: Item, instruction: str) -> str:
        return shown(encoder, encoder.prompted(item, instruction))

    task = TASKS["msr-vtt"]
    assert prompted(Item(text="a dog runs"), task.query) == (
        "Find a video that contains the following visual content: a dog runs"
    )
    assert (
        prompted(Item(video=make_video(0)), task.target)
        == "<|video_pad|> Understand the content of the provided video."
    )
    page = prompted(Item(image=make_image(0)), TASKS["vidore"].target)
    assert page == "<|image_pad|> Understand the content of the provided document image."
    assert prompted(Item(video=make_video(0)), TASKS["breakfast"].query).endswith("in the video. ")
    asked = prompted(
        Item(video=make_video(0), text=video_question("Who runs?", ["a dog", "a cat"])), TASKS["mvbench"].query
    )
    assert asked.startswith("<|video_pad|> Given a video and a question, select")
    assert asked.endswith("your chosen answer. Question:  Who runs?\nOptions:\n(A) a dog\n(B) a cat")


def test_presets_are_encoded_as_instructions() -> None:
    model = zoo.build_model("vlm2vec-test")
    task = TASKS["circo"]
    query = Item(image=make_image(0), text="Make it blue.")
    both = model.encode(
        [query, Item(image=make_image(0), text="Make it blue.", instruction=task.query)], prompt=task.query
    )
    assert (both[0] - both[1]).abs().max() < 1e-5
    assert (model.encode(query) - both[0]).abs().max() > 1e-3


def test_presets_are_complete() -> None:
    for name, task in TASKS.items():
        assert task.query, name
        assert task.about, name
        assert task.query == task.query.lstrip(), name
    assert len({TASKS[name] for name in ("vidore", "visrag", "vidoseek", "mmlongbench")}) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a dog", "A dog."),
        ('  "what is it?"\r\n', "What is it?"),
        (
            "<instruction_start>Find it.<instruction_end> in blue",
            "<instruction_start>Find it.<instruction_end> in blue.",
        ),
        ("", ""),
    ],
)
def test_sentences_of_mbeir(text: str, said: str) -> None:
    assert sentence(text) == said


def test_only_the_standard_library_is_imported() -> None:
    code = "import sys, zoo.evaluation.instructions; print(sorted({'torch', 'numpy', 'transformers', 'PIL'} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
