"""Between the file and the processor: the resize that authors' code makes first, held to qwen-vl-utils; order, ends, fingerprints."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize as processors_own

import zoo
from tests.encoders.sequence_support import changed, read_otherwise, switches
from tests.reference.qwen2_authors import FAMILIES, IMAGE, TOKEN, furthest, write_marvel
from tests.reference.qwen2_vl import Published, make_image, make_video, write_qwen2_vl
from tests.reference.qwen3_vl import write_qwen3_vl
from tests.reference.vl_utils import fetched, listed, utils
from zoo.encoders.sequence import SequenceEncoder, sequence
from zoo.encoders.sequence.resizing import fetched_size
from zoo.encoders.sequence.template import Prompt
from zoo.errors import InvalidPixelsError, TooManyTokensError
from zoo.inputs.item import Item
from zoo.models.backbones import byte_processor, tiny_qwen2_vl, tiny_qwen3_vl
from zoo.sequences import ImageLimits, SequenceFormat, VideoLimits, from_reading, to_reading

BOUND, TELLS = 1e-5, 1e-3
RAISES = None
SIZES = [
    1,
    2,
    5,
    13,
    14,
    15,
    27,
    28,
    33,
    41,
    42,
    47,
    56,
    63,
    64,
    90,
    100,
    150,
    199,
    250,
    333,
    401,
    640,
    1000,
    2000,
    4100,
    8200,
]
READINGS = json.loads((Path(__file__).parents[1] / "data" / "readings.json").read_text("utf-8"))
PIXELS = {name: switches(zoo.get_spec(name)) for name in READINGS if not name.endswith("-test")}


# --------------------------------------------------------------------------------------------- grids, without any model


def first_size(name: str, height: int, width: int) -> tuple[int, int] | None:
    """What the authors' first resize makes of a size; None where they refuse it.

    Those of LamRA, U-MARVEL, GME and the like are qwen-vl-utils' of their time, with a line about ratios more or less.
    """
    reading, widest = PIXELS[name], utils.MAX_RATIO
    if reading.pre_ratio != "clamp" and max(height, width) / min(height, width) > widest:
        return RAISES
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "MAX_RATIO", float("inf"))
        high, wide = utils.smart_resize(height, width, *reading.pre_resize)
    if reading.pre_ratio != "refuse" and max(high, wide) / min(high, wide) > widest:
        high, wide = (wide * widest, wide) if high > wide else (high, high * widest)
    return high, wide


@pytest.mark.parametrize("name", [name for name, reading in PIXELS.items() if reading.pre_resize])
def test_first_sizes_are_the_authors(name: str) -> None:
    """Below the least, above the most, thin, at every ratio up to 200 and beyond."""
    reading = PIXELS[name]
    factor, *budget = reading.pre_resize
    for height in SIZES:
        for width in SIZES:
            try:
                ours = fetched_size(height, width, factor, *budget, reading.pre_ratio)
            except ValueError:
                ours = RAISES
            assert ours == first_size(name, height, width), (height, width)


def test_a_first_resize_decides_the_grid() -> None:
    """What the issue was: of images with sides of 64 to 400 two of three get another grid with GME's two resizes."""
    sides = range(64, 401, 12)
    other = [
        processors_own(*utils.smart_resize(h, w, 28, 4 * TOKEN, 16384 * TOKEN), 28, 256 * TOKEN, 1280 * TOKEN)
        != processors_own(h, w, 28, 256 * TOKEN, 1280 * TOKEN)
        for h in sides
        for w in sides
    ]
    assert 0.5 < np.mean(other) < 0.75


# ------------------------------------------------------------------------------ pixels, by the processors of the families


def encoder_of(name: str, **changes) -> SequenceEncoder:
    """The reader of images and videos as a registered model has it, around a processor of that kind with usual budgets."""
    plain = {"prompt": "{{ content }}", "instruction_marks": (), "span": "all", "added_tokens": (), **changes}
    spec = replace(changed(zoo.get_spec(name), **plain), max_tokens=32768)
    kind, config = ("qwen3_vl", tiny_qwen3_vl()) if "qwen3" in name or "wemm" in name else ("qwen2_vl", tiny_qwen2_vl())
    processor, unit = byte_processor(kind), {"qwen3_vl": 32, "qwen2_vl": 28}[kind] ** 2
    least = 64 if kind == "qwen3_vl" else 4
    for part in (processor.image_processor, processor.video_processor):
        part.size = type(part.size)(shortest_edge=least * unit, longest_edge=16384 * unit)
    return sequence(spec, config, processor)


def image(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def encoders() -> dict[str, SequenceEncoder]:
    names = (
        "gme-qwen2vl-2b",
        "rzenembed-qwen2vl-7b",
        "unite-base-qwen2vl-2b",
        "u-marvel-qwen3vl-4b",
        "lamra-ret-qwen2vl-7b",
    )
    return {name: encoder_of(name) for name in (*names, "qwen3vl-embedding-2b", "wemm-embedding-2b")}


@pytest.mark.parametrize(
    ("height", "width"), [(20, 30), (64, 64), (90, 100), (333, 217), (13, 400), (600, 3), (30, 900), (640, 480)]
)
def test_pixels_are_those_of_fetch_image_and_the_processor(
    encoders: dict[str, SequenceEncoder], height: int, width: int
) -> None:
    """Of every family with a first resize: the same grid, and where it is resized twice the same pixels."""
    for name, encoder in encoders.items():
        factor, *budget = encoder.media["image"].pre_resize
        first = fetched(image(height, width), factor, *budget)
        theirs = encoder.processor.image_processor(images=[first], return_tensors="pt")
        ours = encoder.readers["image"].read(image(height, width))
        assert torch.equal(ours.inputs["image_grid_thw"], theirs["image_grid_thw"]), name
        difference = (ours.inputs["pixel_values"] - theirs["pixel_values"]).abs()
        if (factor, *budget) != (encoder.processor.image_processor.patch_size * 2, *encoder.media["image"].pixels):
            assert difference.max() < BOUND, name
        else:  # one resize by torchvision, where theirs is Pillow's: some pixels are a step or two of 255 apart
            assert difference.max() < 0.05, name
            assert difference.mean() < 1e-3, name


@pytest.mark.parametrize(
    ("name", "height", "width", "first"),
    [
        ("gme-qwen2vl-2b", 28, 8400, (28, 5600)),
        ("gme-qwen2vl-2b", 2, 1000, (28, 1008)),
        ("ops-mm-embedding-v1-2b", 2, 1000, (28, 5600)),
        ("lamra-ret-qwen2vl-7b", 41, 8200, (28, 5600)),  # rounded to 28 x 8,204, which is over 200 : 1
        ("qwen3vl-embedding-2b", 47, 9400, (32, 9408)),  # without a second look
    ],
)
def test_extreme_ratios(name: str, height: int, width: int, first: tuple[int, int]) -> None:
    encoder, patch = encoder_of(name), 16 if "qwen3" in name else 14
    assert first_size(name, height, width) == first
    second = processors_own(*first, 28, *encoder.media["image"].pixels) if patch == 14 else first
    grid = encoder.readers["image"].read(image(height, width)).inputs["image_grid_thw"][0, 1:].tolist()
    assert grid == [side // patch for side in second]


@pytest.mark.parametrize("name", ["lamra-ret-qwen2vl-7b", "qwen3vl-embedding-2b", "unite-base-qwen2vl-2b"])
def test_who_refuses_a_ratio_still_does(name: str) -> None:
    with pytest.raises(InvalidPixelsError, match="aspect ratio must be smaller than 200"):
        encoder_of(name).readers["image"].read(image(2, 900))


# --------------------------------------------------------------------------------------------------- frames, listed


@pytest.mark.parametrize(("frames", "height", "width"), [(7, 44, 70), (8, 44, 70), (1, 300, 50), (3, 480, 640)])
def test_lists_of_frames_are_read_as_qwen_vl_utils_reads_them(
    encoders: dict[str, SequenceEncoder], frames: int, height: int, width: int, tmp_path: Path
) -> None:
    """Qwen3-VL-Embedding: multiples of 64 first; the last of an odd number again, at its own time. In any form of frames."""
    pixels = make_video(1, frames, width, height)
    encoder = encoders["qwen3vl-embedding-2b"]
    video, metadata = listed(pixels, total_pixels=7680 * 32 * 32)
    part = encoder.processor.video_processor
    theirs = part(
        videos=[video], video_metadata=[metadata], do_sample_frames=False, do_resize=False, return_tensors="pt"
    )
    paths = []
    for i, frame in enumerate(pixels):
        Image.fromarray(frame).save(path := tmp_path / f"{i}.png")
        paths.append(path)
    for form in (pixels, paths, [Image.fromarray(frame) for frame in pixels], torch.from_numpy(pixels)):
        ours = encoder.readers["video"].read(form)
        assert torch.equal(ours.inputs["video_grid_thw"], theirs["video_grid_thw"])
        assert furthest(ours.inputs["pixel_values_videos"], theirs["pixel_values_videos"]) < BOUND
    if (height, width) == (44, 70):
        assert ours.tokens == 560, "540 without the first resize"
    assert f"<{(frames - 1 + frames % 2 * 1.0 - 0.5) / 2:.1f} seconds>" in ours.place


def test_a_file_is_resized_once(encoders: dict[str, SequenceEncoder], tmp_path: Path) -> None:
    """Its frames as decord gives them to qwen-vl-utils, and as here: even in number, no multiples of 64."""
    from tests.inputs.test_videos import avi

    pytest.importorskip("decord")
    (tmp_path / "video.avi").write_bytes(avi(make_video(2, 57, 70, 44), fps=10))
    ele = {"video": str(tmp_path / "video.avi"), "fps": 1.0, "max_frames": 64, "total_pixels": 7680 * 32 * 32}
    video, metadata = utils.fetch_video(ele, image_patch_size=16, return_video_metadata=True)
    encoder = encoders["qwen3vl-embedding-2b"]
    theirs = encoder.processor.video_processor(
        videos=[video], video_metadata=[metadata], do_sample_frames=False, do_resize=False, return_tensors="pt"
    )
    ours = encoder.readers["video"].read(tmp_path / "video.avi")
    assert torch.equal(ours.inputs["video_grid_thw"], theirs["video_grid_thw"])
    assert furthest(ours.inputs["pixel_values_videos"], theirs["pixel_values_videos"]) < BOUND


# --------------------------------------------------------------------------------------------------- vectors, end to end


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Published]:
    root = tmp_path_factory.mktemp("published")
    qwen3 = write_qwen3_vl(root / "qwen3")
    qwen3.tokenizer.add_tokens(["<emb>", "<instruction_start>", "<instruction_end>"])
    return {"qwen2_vl": write_qwen2_vl(root / "qwen2"), "qwen3_vl": qwen3, "u-marvel": write_marvel(root / "marvel")}


@pytest.mark.parametrize(
    "like", ["u-marvel-qwen3vl-4b", "gme-qwen2vl-2b", "rzenembed-qwen2vl-7b", "unite-base-qwen2vl-2b"]
)
def test_vectors_of_sizes_that_are_rounded_twice(like: str, published: dict[str, Published]) -> None:
    family = FAMILIES[like]
    some = [Item(image=image(*size), text="a") for size in [(20, 30), (100, 90), (217, 333), (13, 300), (500, 620)]]
    ours = zoo.load_model(published[family.kind].folder, like=like).encode(some)
    assert furthest(ours, family.vectors(published[family.kind], some)) < BOUND
    once = replace(family, fetch=None).vectors(published[family.kind], some)
    assert furthest(ours, once) > TELLS


# ------------------------------------------------------------------------------------------------ order, texts, instruction

USER = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
END = "<|im_end|>\n<|im_start|>assistant\n"
MIXED = f"before{IMAGE}after{IMAGE}"
ORDERS = {
    "gme-qwen2vl-2b": f"{USER}{MIXED}{END}<|endoftext|>",
    "ops-mm-embedding-v1-2b": f"{USER}{MIXED}{END}<|endoftext|>",
    "rzenembed-qwen2vl-7b": f"{USER}{MIXED}{END}<|endoftext|>",
    "gve-qwen2.5vl-3b": f"{USER}{MIXED}{END}<|endoftext|>",
    "u-marvel-qwen2vl-7b": f"{USER}{MIXED}{END}<emb>.{END}",
    "u-marvel-qwen3vl-4b": f"<|im_start|>user\n{MIXED}{END}<emb>.{END}",
    "lamra-ret-qwen2vl-7b": f"{USER}{MIXED}\nSummarize above image and sentence in one word: {END}",
    "unite-base-qwen2vl-2b": f"{USER}{MIXED}\nSummary above sentence and image in one word:{END}<|endoftext|>",
    "qwen3vl-embedding-2b": f"<|im_start|>system\nRepresent the user's input.<|im_end|>\n<|im_start|>user\n{MIXED}{END}",
    "wemm-embedding-2b": f"<|im_start|>user\n{MIXED}<|im_end|><embedding>",
    "vlm2vec-v2-qwen2vl-2b": "before<|image_pad|> after<|image_pad|> ",
    "b3-qwen2vl-2b": "before<|image_pad|> after<|image_pad|> ",
    "vlm2vec-llava-next-7b": "before<image> after<image> ",
    "unime-llava-1.6-7b": "before<image>after<image>",
    # LLaVA-OneVision's template puts media first, and each text on a line of its own.
    "unime-v2-llava-onevision-8b": "<|im_start|>user <image><image>\nbefore\nafter<|im_end|><|im_start|>assistant\n",
    "unime-llava-onevision-7b": "<|im_start|>user <image><image>\nbefore\nafter<|im_end|><|im_start|>assistant\n",
}


def rendered(name: str, parts: list[tuple[str, object]], instruction: str = "") -> str:
    layout = zoo.get_spec(name).format
    return Prompt(layout.prompt).render(parts, layout, instruction)


@pytest.mark.parametrize("name", [name for name, reading in PIXELS.items() if reading.mixed])
def test_parts_of_the_readme_keep_their_order(name: str) -> None:
    """`Item(parts=["before", a, "after", b])` in every model that reads both in one item."""
    prompt = rendered(name, [("text", "before"), ("image", None), ("text", "after"), ("image", None)])
    if name in ORDERS:
        assert prompt == ORDERS[name]
    mark = zoo.get_spec(name).format.marks["image"].strip()
    if "onevision" not in name:
        places = [prompt.index("before"), prompt.index(mark), prompt.index("after"), prompt.rindex(mark)]
        assert places == sorted(places)
    told = rendered(name, [("text", "before"), ("image", None), ("text", "after")], "Find it.")
    assert "Find it." in told
    assert "onevision" in name or told.index("before") < told.index(mark) < told.index("after")


@pytest.mark.parametrize("name", [name for name, reading in PIXELS.items() if reading.mixed])
def test_texts_are_joined_as_the_family_joins_them(name: str) -> None:
    """Entries of a chat turn follow one another; VLM2Vec's code puts a space; LLaVA-OneVision's template a line break."""
    spec = zoo.get_spec(name)
    join = "\n" if "onevision" in name else " " if spec.format.backbone in ("llava", "llava_next") or "vlm2vec" in name or "b3" in name else ""  # fmt: skip
    both = [("text", "one"), ("text", "two")]
    assert f"one{join}two" in rendered(name, both)
    after = rendered(name, [("image", None), *both])
    assert f"one{join}two" in after
    assert after == rendered(name, [("image", None), ("text", f"one{join}two")]), "as one text of both"


@pytest.mark.parametrize(
    "name", ["gme-test", "vlm2vec-test", "qwen3vl-test", "wemm-test", "u-marvel-test", "unite-test"]
)
def test_an_item_of_parts_is_the_item_of_its_fields(name: str) -> None:
    """Media before text needs no parts; text before media is another sequence."""
    torch.manual_seed(0)
    model = zoo.build_model(name)
    plain, parts, turned = model.encode(
        [Item(image=make_image(0), text="a"), Item(parts=[make_image(0), "a"]), Item(parts=["a", make_image(0)])]
    )
    assert torch.equal(plain, parts)
    assert furthest(plain, turned) > 1e-6


@pytest.mark.parametrize("name", ["gme-qwen2vl-2b", "qwen3vl-embedding-2b"])
def test_queries_without_an_instruction_have_the_authors_default(name: str) -> None:
    """gme_inference.py's system text, Qwen3VLEmbedder's default_instruction; not the words of their READMEs' examples."""
    words = {"gme-qwen2vl-2b": "You are a helpful assistant.", "qwen3vl-embedding-2b": "Represent the user's input."}
    assert "query" not in zoo.get_spec(name).prompts
    test = {"gme-qwen2vl-2b": "gme-test", "qwen3vl-embedding-2b": "qwen3vl-test"}[name]
    torch.manual_seed(0)
    model = zoo.build_model(test)
    assert torch.equal(model.encode_query(["a red bicycle"]), model.encode(["a red bicycle"]))
    ids = model.towers[0].encoder.prepare_item(Item(text="a")).ids
    assert f"system\n{words[name]}<|im_end|>" in model.towers[0].encoder.tokenizer.decode(ids)
    assert furthest(model.encode_query(["a red bicycle"]), model.encode(["a red bicycle"], prompt="Find it.")) > 1e-4


# ------------------------------------------------------------------------------------------------------ over-long sequences


@pytest.mark.parametrize("like", ["gme-qwen2vl-2b", "u-marvel-qwen2vl-7b"])
def test_ours_keeps_the_end_and_the_reference_cuts_it(like: str, published: dict[str, Published]) -> None:
    """As `truncation=True, max_length=…` of the authors' processors: the sequence ends where the tokens do."""
    family = FAMILIES[like]
    folder = published[family.kind].folder
    ours, theirs = zoo.load_model(folder, like=like), zoo.load_model(folder, like=like, truncation="reference")
    short, long = Item(text="a red bicycle"), Item(image=make_image(0), text="words and more of them, " * 900)
    assert torch.equal(ours.encode([short]), theirs.encode([short]))
    most = zoo.get_spec(like).max_tokens
    whole, cut = (model.towers[0].encoder.prepare_item(long).ids for model in (ours, theirs))
    row = family.fetched(family.row(long))
    uncut = read_otherwise(ours.towers[0].encoder, 10**6, truncation="text")
    full = uncut.prepare_item(long).ids
    assert row.prompt.endswith(uncut.tokenizer.decode(full[-3:]))
    assert len(whole) == len(cut) == most
    assert whole[-3:] == full[-3:]
    assert cut == full[:most]
    assert furthest(ours.encode([long]), theirs.encode([long])) > TELLS
    assert theirs.spec.format.truncation == theirs.towers[0].encoder.format.truncation == "reference"


def test_a_cut_is_part_of_the_fingerprint_and_saved(tmp_path: Path, published: dict[str, Published]) -> None:
    folder, like = published["qwen2_vl"].folder, "gme-qwen2vl-2b"
    ours, theirs = zoo.load_model(folder, like=like), zoo.load_model(folder, like=like, truncation="reference")
    assert ours.fingerprint()["preprocessing"] != theirs.fingerprint()["preprocessing"]
    assert zoo.load_model(folder, like=like, truncation="text").fingerprint() == ours.fingerprint()
    again = zoo.load_model(theirs.save_pretrained(tmp_path / "saved"))
    assert again.spec.format == theirs.spec.format
    with pytest.raises(ValueError, match="truncation must be one of"):
        zoo.load_model(folder, like=like, truncation="right")
    with pytest.raises(ValueError, match="vision-language models"):
        zoo.load_model("zoo-mini", truncation="reference")
    with pytest.raises(ValueError, match="truncation must be one of"):  # before anything is fetched
        zoo.load_model("gme-qwen2vl-2b", truncation="right")


def test_the_reference_cuts_no_image(published: dict[str, Published]) -> None:
    model = zoo.load_model(published["qwen2_vl"].folder, like="gme-qwen2vl-2b", truncation="reference")
    with pytest.raises(TooManyTokensError, match="within or before an image"):
        model.encode([Item(parts=["words and more of them, " * 900, make_image(0)])])


# -------------------------------------------------------------------------------------------------------------- key frames


def test_key_frames_are_read_alone(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="videos need PyAV (extra 'video')")
    from tests.inputs.video_files import KINDS
    from zoo.inputs.video import load_video

    data = KINDS["avi mpeg4 b-frames"]().data  # of forty frames the 1st, 13th, 25th and 37th
    evenly, keyed = (encoder_of("vlm2vec-v2-qwen2vl-2b", frames=4, sampling=how) for how in ("uniform", "keyframes"))
    found = [encoder.readers["video"].read(data).inputs["pixel_values_videos"] for encoder in (evenly, keyed)]
    again = [
        encoder.readers["video"].read(load_video(data, frames=4, sampling=how).frames).inputs["pixel_values_videos"]
        for encoder, how in ((evenly, "uniform"), (evenly, "keyframes"))
    ]
    assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))
    assert not torch.equal(*found)
    with pytest.raises(ValueError, match="key frames have no rate, so that fps is 0 with them, not 1"):
        VideoLimits(fps=1.0, sampling="keyframes")
    with pytest.raises(ValueError, match="sampling of the limits of videos must be one of uniform, steps, keyframes"):
        VideoLimits(sampling="every")


# ----------------------------------------------------------------------------------------------------------- fingerprints


def digest(name: str) -> str:
    spec = zoo.get_spec(name)
    names = {"pooling": spec.pooling, "projection": spec.projection, "adapter": spec.adapter}
    flat = to_reading(spec.format, spec.media, **names)
    return hashlib.sha256(json.dumps(flat, sort_keys=True).encode()).hexdigest()[:16]


def test_new_switches_change_no_other_models_fingerprint() -> None:
    """Readings as they were before there were these switches; those that changed are named in the changelog."""
    different = {name for name in PIXELS if digest(name) != READINGS[name]}
    text = (Path(__file__).parents[2] / "CHANGELOG.md").read_text("utf-8")
    (bullet,) = [b for b in text.split("\n- ") if b.startswith("Vectors change:") and "qwen-vl-utils" in b]
    assert {name for name in PIXELS if f"`{name}`" in bullet} == different
    assert {"jina-embeddings-v4", "colpali-v1.3", "colqwen2-v1.0-hf", "colmodernvbert"} <= set(PIXELS) - different


def test_a_switch_at_its_default_is_not_written() -> None:
    later = {"join": "", "pre_resize": [28, 1, 2], "pre_ratio": "both", "pre_frames": [28, 1, 2], "frames_twice": True, "truncation": "reference", "sampling": "keyframes"}  # fmt: skip
    layout, media, names = from_reading({"prompt": "{{ text }}"})
    assert not set(later) & set(to_reading(layout, media, **names))
    assert layout.to_dict() == {"prompt": "{{ text }}"}
    assert media == {}
    full, limits, names = from_reading({"prompt": "{{ text }}", **later})
    assert set(later) <= set(to_reading(full, limits, **names))
    for facts in (full, *limits.values()):
        assert type(facts).from_dict(json.loads(json.dumps(facts.to_dict()))) == facts
    assert ImageLimits().to_dict() == VideoLimits().to_dict() == {}
    assert SequenceFormat("", marks={"image": "<image>", "video": ""}).to_dict() == {
        "prompt": "",
        "marks": {"image": "<image>"},
    }


@pytest.mark.parametrize(
    "facts", [{"pre_resize": (28, 4)}, {"pre_resize": (0, 4, 5)}, {"pre_frames": (28, 5, 4)}, {"pre_frames": (28, 1, 10**9)}, {"pre_ratio": "x"}, {"truncation": "x"}]
)  # fmt: skip
def test_a_first_resize_has_bounds(facts: dict) -> None:
    with pytest.raises(ValueError, match="must be"):
        from_reading({"prompt": "{{ text }}", **facts})
