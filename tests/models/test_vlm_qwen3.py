"""Qwen3-VL-Embedding, WeMM-Embedding, jina-embeddings-v4: published files give the vectors of the authors' code, written out here."""

from __future__ import annotations

import io
import json
import shutil
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, processors
from torch import Tensor, nn

import zoo
from tests.encoders.sequence_support import changed
from tests.hub import LoopbackHub
from tests.hub.child import Child
from tests.reference.jina_v4 import TASKS, Jina, write_jina
from tests.reference.qwen2_vl import QUESTION, SAME, Published, items, last, make_image, make_video
from tests.reference.qwen3_vl import (
    SHORT,
    Row,
    Seen,
    one_by_one,
    see_fetched,
    see_frames,
    see_image,
    see_list,
    states,
    write_qwen3_vl,
    write_wemm,
)
from tests.reference.vl_utils import utils
from zoo.errors import MissingWeightsError, UnrecognisedCheckpointError, UnsupportedModalityError
from zoo.formats.layout import Opening, open_with
from zoo.formats.vlm import VisionLanguage
from zoo.inputs.item import Item

BOUND, TELLS = 1e-5, 1e-3
TOKEN = 32 * 32
QWEN3VL, WEMM, JINA = "qwen3vl-embedding-2b", "wemm-embedding-9b", "jina-embeddings-v4"
MULTI = "jina-embeddings-v4-multivector"
REPOS = {QWEN3VL: "Qwen/Qwen3-VL-Embedding-2B", WEMM: "tencent/WeMM-Embedding-9B", JINA: "jinaai/jina-embeddings-v4"}


# ------------------------------------------------------------------------- the authors' prompts, from their repositories


def clip(seconds: float = 3.0, rate: int = 10) -> bytes:
    """An animation with times, each frame another."""
    frames = [Image.fromarray(frame) for frame in make_video(7, int(seconds * rate), 64, 40)]
    file = io.BytesIO()
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:], duration=1000 // rate, lossless=True, loop=0)
    return file.getvalue()


def see_video(video: np.ndarray | bytes, fps: float, *, total: float, own: tuple[int, int] | None = None) -> Seen:
    """An array as a list of images; of an animation the frames that `smart_nframes` takes, as of a file."""
    if isinstance(video, np.ndarray):
        return see_list(video, own, total_pixels=total)
    with Image.open(io.BytesIO(video)) as animation:
        every = []
        for i in range(animation.n_frames):
            animation.seek(i)
            every.append(np.asarray(animation.convert("RGB")))
    count = int(min(max(len(every) / 10 * fps, 4), 64, len(every))) // 2 * 2
    taken = torch.linspace(0, len(every) - 1, count).round().long().tolist()
    frames, times = np.stack([every[i] for i in taken]), [i / 10 for i in taken]
    return see_frames(frames, times, 128 * TOKEN, 768 * TOKEN, total, own)


def qwen3_vl(item: Item) -> Row:
    """`format_model_input` of src/models/qwen3_vl_embedding.py, in the chat template of Qwen3-VL."""
    instruction = (item.instruction or "").strip()
    if instruction and not unicodedata.category(instruction[-1]).startswith("P"):
        instruction += "."
    images = [see_image(item.image, (4 * TOKEN, 1800 * TOKEN))] if item.image is not None else []
    videos = []
    if item.video is not None:
        videos = [see_video(item.video, 1.0, total=7680 * TOKEN)]
    content = "".join(seen.words for seen in (*videos, *images)) + (item.text or "")
    system = instruction or "Represent the user's input."
    prompt = f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{content}<|im_end|>\n<|im_start|>assistant\n"
    return Row(prompt, images, videos)


WEMM_PIXELS = (4 * TOKEN, 16384 * TOKEN), (64 * TOKEN, 16384 * TOKEN)  # of qwen-vl-utils, then of the processor's files


def wemm(item: Item) -> Row:
    """One turn without a generation prompt, as its tokenizer leaves it: no line break at the end of what stands between marks."""
    images = [see_fetched(item.image, *WEMM_PIXELS)] if item.image is not None else []
    videos = []
    if item.video is not None:
        videos = [see_video(item.video, 2.0, total=115_200 * TOKEN, own=(4 * TOKEN, 24576 * TOKEN))]
    words = " ".join(part for part in (item.instruction, item.text) if part).removesuffix("\n")
    start = "<|im_start|>user" if images else "<|im_start|>user\n"
    content = "".join(seen.words for seen in (*images, *videos)) + words
    return Row(f"{start}{content}<|im_end|><embedding>", images, videos)


ROWS: dict[str, Callable[[Item], Row]] = {QWEN3VL: qwen3_vl, WEMM: wemm}


def all_items() -> list[Item]:
    """With videos of odd and even lengths, one with times, and an instruction that ends in no punctuation."""
    return [
        *items(),
        Item(text="a red bicycle", instruction=" Find the bicycle "),
        Item(text="a red bicycle", instruction="It costs 3 €"),
        Item(video=make_video(3, 4)),
        Item(video=make_video(4, 3), text="someone runs", instruction="Find the clip:"),
        Item(video=clip(), text="someone runs"),
    ]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Published]:
    root = tmp_path_factory.mktemp("written")
    return {
        QWEN3VL: write_qwen3_vl(root / "qwen3"),
        WEMM: write_wemm(root / "wemm"),
        JINA: write_jina(root / "jina"),
    }


@pytest.fixture(scope="module")
def models(written: dict[str, Published]) -> dict[str, zoo.Embedder]:
    found = {like: zoo.load_model(folder.folder, like=like) for like, folder in written.items()}
    return {**found, MULTI: zoo.load_model(written[JINA].folder, like=MULTI)}


def furthest(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return (a - b).abs().max().item()


def read_otherwise(published: Published, like: str, **changes) -> zoo.Embedder:
    """The same folder, read with other switches."""
    spec = zoo.get_spec(like)
    spec = changed(spec, **changes)
    return open_with(VisionLanguage(), published.folder, Opening("other", like=spec)).eval()


# ----------------------------------------------------------------------------------------------- Qwen3-VL and WeMM: parity


@pytest.mark.parametrize("like", ROWS)
def test_a_folder_gives_the_authors_vectors(
    like: str, written: dict[str, Published], models: dict[str, zoo.Embedder]
) -> None:
    """Though modules.json says sentence-transformers; in one padded batch, whichever side is padded, theirs or ours."""
    some, model = all_items(), models[like]
    rows = [ROWS[like](item) for item in some]
    ours = model.encode(some)
    # Filler on the left runs through the linear attention of Qwen3.5 (WeMM) before the text: its sums are rounded otherwise.
    left = 5 * BOUND if like == WEMM else BOUND
    hidden, _, mask = states(written[like], rows, "right")
    assert furthest(ours, last(hidden, mask)) < BOUND
    hidden, _, mask = states(written[like], rows, "left")
    assert furthest(ours, nn.functional.normalize(hidden[:, -1], dim=-1)) < left
    tower = model.towers[0]
    with torch.inference_mode():
        assert (
            furthest(ours, tower(tower.encoder.collate([tower.encoder.prepare_item(item) for item in some], "left")))
            < left
        )


@pytest.mark.parametrize("like", ROWS)
def test_unequal_lengths_in_a_batch_change_nothing(
    like: str, written: dict[str, Published], models: dict[str, zoo.Embedder]
) -> None:
    """Qwen3.5's layers of linear attention carry a state from token to token, and must carry none from the padding."""
    some = [Item(text="a"), Item(text="words " * 90), Item(image=make_image(0), text="b"), Item(text="x y " * 35)]
    alone = torch.stack([nn.functional.normalize(row[-1], dim=-1) for row in one_by_one(written[like], [ROWS[like](item) for item in some])])  # fmt: skip
    tower = models[like].towers[0]
    for side in ("left", "right"):
        for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 0]):
            with torch.inference_mode():
                batch = tower.encoder.collate([tower.encoder.prepare_item(some[i]) for i in order], side)
                assert furthest(tower(batch), alone[order]) < BOUND


@pytest.mark.parametrize(
    ("like", "changes"),
    [
        (QWEN3VL, {"positions": "sequential"}),
        (QWEN3VL, {"deepstack": False}),
        (QWEN3VL, {"pooling": "mean"}),
        (QWEN3VL, {"pixels": (256 * TOKEN, 1800 * TOKEN)}),
        (QWEN3VL, {"punctuate": False}),
        (QWEN3VL, {"prompt": zoo.get_spec(QWEN3VL).format.prompt.rstrip("\n")}),
        (QWEN3VL, {"frame_pixels": (64 * TOKEN, 768 * TOKEN)}),
        (WEMM, {"positions": "sequential"}),
        (WEMM, {"prompt": zoo.get_spec(WEMM).format.prompt.removesuffix("<embedding>")}),
        (WEMM, {"prompt": zoo.get_spec(WEMM).format.prompt.replace("user\n", "user \n")}),
        (WEMM, {"pixels": (4 * TOKEN, 1800 * TOKEN)}),
    ],
)
def test_a_wrong_switch_would_show(like: str, changes: dict, written: dict[str, Published]) -> None:
    item = Item(image=make_image(2, 160, 30), text="the same in blue", instruction="Find it in blue")
    if "frame_pixels" in changes:
        item = Item(video=make_video(3, 4))
    row = ROWS[like](item)
    hidden, _, mask = states(written[like], [row])
    assert furthest(read_otherwise(written[like], like, **changes).encode([item]), last(hidden, mask)) > TELLS


def test_what_the_tokenizer_adds_at_the_end_is_pooled(written: dict[str, Published], tmp_path: Path) -> None:
    """As Qwen3-Embedding's does with <|endoftext|>; the authors' code calls the processor with its defaults."""
    folder = tmp_path / "ending"
    shutil.copytree(written[QWEN3VL].folder, folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    end = tokenizer.token_to_id("<|endoftext|>")
    tokenizer.post_processor = processors.TemplateProcessing(
        "$A <|endoftext|>", special_tokens=[("<|endoftext|>", end)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    row = qwen3_vl(Item(text="a red bicycle"))
    hidden, _, mask = states(written[QWEN3VL], [replace(row, prompt=f"{row.prompt}<|endoftext|>")])
    assert furthest(zoo.load_model(folder, like=QWEN3VL).encode(["a red bicycle"]), last(hidden, mask)) < BOUND


def test_videos_come_before_images(models: dict[str, zoo.Embedder], written: dict[str, Published]) -> None:
    """Qwen3-VL-Embedding puts videos first, whatever their order; both kinds have features of inner layers."""
    item = Item(parts=[make_image(0), Item(video=make_video(3, 4)), "both"])
    hidden, _, mask = states(
        written[QWEN3VL], [qwen3_vl(Item(image=make_image(0), video=make_video(3, 4), text="both"))]
    )
    assert furthest(models[QWEN3VL].encode([item]), last(hidden, mask)) < BOUND


SMALL = {"frame_pixels": (4 * TOKEN, 12 * TOKEN), "total_pixels": 160 * TOKEN}


@pytest.fixture(scope="module")
def small(written: dict[str, Published]) -> zoo.Embedder:
    """Qwen3-VL-Embedding with budgets of frames small enough for a test."""
    return read_otherwise(written[QWEN3VL], QWEN3VL, **SMALL)


@pytest.mark.parametrize(
    ("frames", "width", "height"),
    [(64, 320, 240), (64, 40, 30), (2, 900, 500), (1, 64, 64), (7, 33, 300), (27, 128, 96)],
)
def test_frames_keep_to_both_budgets(
    small: zoo.Embedder, frames: int, width: int, height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The budget of one frame, of the whole video, enlarging, odd numbers: as many tokens and the same pixels as theirs."""
    monkeypatch.setattr(utils, "VIDEO_MIN_TOKEN_NUM", SMALL["frame_pixels"][0] // TOKEN)
    monkeypatch.setattr(utils, "VIDEO_MAX_TOKEN_NUM", SMALL["frame_pixels"][1] // TOKEN)
    pixels = make_video(1, frames, width, height)
    theirs = see_list(pixels, total_pixels=SMALL["total_pixels"])
    ours = small.towers[0].encoder.readers["video"].read(pixels)
    assert ours.place == theirs.words
    assert torch.equal(ours.inputs["video_grid_thw"], theirs.grid)
    assert furthest(ours.inputs["pixel_values_videos"], theirs.patches) < BOUND


def test_long_videos_are_cut_to_64_frames(small: zoo.Embedder) -> None:
    seen = small.towers[0].encoder.readers["video"].read(make_video(1, 200, 32, 32))
    assert seen.inputs["video_grid_thw"][0, 0] == 32


# ------------------------------------------------------------------------------------------------- WeMM's own tokenizer


def test_the_rule_for_line_breaks_is_kept(
    written: dict[str, Published], models: dict[str, zoo.Embedder], tmp_path: Path
) -> None:
    """transformers builds a bare NFC in place of the checkpoint's normaliser; also after saving."""
    from transformers import AutoTokenizer

    text = "<|im_start|>user\n<|vision_start|><|vision_end|>a\n<|im_end|>"
    rule = written[WEMM].tokenizer.encode(text).ids
    assert AutoTokenizer.from_pretrained(written[WEMM].folder)(text).input_ids != rule
    assert models[WEMM].towers[0].encoder.tokenizer(text).input_ids == rule
    again = zoo.load_model(models[WEMM].save_pretrained(tmp_path / "saved"))
    assert again.towers[0].encoder.tokenizer(text).input_ids == rule
    assert torch.equal(again.encode(items()), models[WEMM].encode(items()))


def test_interleaved_items_keep_their_order(models: dict[str, zoo.Embedder], written: dict[str, Published]) -> None:
    seen = [see_fetched(make_image(i), *WEMM_PIXELS) for i in (0, 1)]
    prompt = f"<|im_start|>user\nfirst{seen[0].words}then{seen[1].words}<|im_end|><embedding>"
    hidden, _, mask = states(written[WEMM], [Row(prompt, seen)])
    assert furthest(models[WEMM].encode([Item(parts=["first", make_image(0), "then", make_image(1)])]), last(hidden, mask)) < BOUND  # fmt: skip


# ---------------------------------------------------------------------------------------------------- jina-embeddings-v4

DESCRIBE = "<|im_start|>user\n{}Describe the image.<|im_end|>\n"
WORDS = ["a red bicycle", "Two DOGS playing in the snow, " * 6, "def f(x):\n    return x"]
IMAGES = [make_image(0), make_image(1, 40, 200)]


def jina_rows(prefix: str) -> list[Row]:
    seen = [see_image(image, (3136, 602112), patch=14) for image in IMAGES]
    return [*(Row(f"{prefix}{text}") for text in WORDS), *(Row(DESCRIBE.format(one.words), [one]) for one in seen)]


def jina_vectors(published: Jina, prefix: str) -> Tensor:
    """The mean of all tokens of a text, and of an image's tokens with the marks around them (get_single_vector_embeddings)."""
    vectors = []
    for row in jina_rows(prefix):
        (hidden,), (ids,), _ = states(published, [row])
        if row.images:
            first, end = (int((ids == published.id(f"<|vision_{mark}|>")).nonzero()) for mark in ("start", "end"))
            hidden = hidden[first : end + 1]
        vectors.append(hidden.mean(0))
    return nn.functional.normalize(torch.stack(vectors), dim=-1)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("role", ["query", "document"])
def test_each_task_of_jina(task: str, role: str, written: dict[str, Published]) -> None:
    """Texts and images in one batch; both sides of text-matching are queries."""
    like = JINA if task == "retrieval" else f"{JINA}-{task}"
    model = zoo.load_model(written[JINA].folder, like=like)
    ours = model.encode([*WORDS, *IMAGES], prompt=model.spec.prompts[role])
    prefix = "Passage: " if role == "document" and task != "text-matching" else "Query: "
    assert furthest(ours, jina_vectors(written[JINA].of(task), prefix)) < BOUND
    if role == "query":
        assert furthest(ours, model.encode([*WORDS, *IMAGES])) < BOUND
        for other in set(TASKS) - {task}:
            assert furthest(ours, jina_vectors(written[JINA].of(other), prefix)) > TELLS


def test_a_vector_for_every_token(written: dict[str, Published], models: dict[str, zoo.Embedder]) -> None:
    published = written[JINA].of("retrieval")
    with torch.inference_mode():
        theirs = [nn.functional.normalize(published.projector(hidden), dim=-1) for hidden in one_by_one(published, jina_rows("Passage: "))]  # fmt: skip
        bare = nn.functional.normalize(
            written[JINA].projector(one_by_one(published, jina_rows("Passage: "))[0]), dim=-1
        )
    ours = models[MULTI].encode([*WORDS, *IMAGES], prompt="Passage: ")
    assert max(furthest(a, b) for a, b in zip(ours, theirs, strict=True)) < BOUND
    assert furthest(ours[0], bare) > TELLS  # the projection has its own part of the adapter
    assert models[MULTI].spec.dim == 128
    assert models[MULTI].spec.params == sum(p.numel() for p in models[MULTI].parameters())


@pytest.mark.parametrize(
    "changes",
    [
        {"positions": "sequential"},
        {"span": "all"},
        {"attention": "bidirectional"},
        {"adapter": ""},
        {"adapter": "code"},
    ],
)
def test_a_wrong_switch_of_jina_would_show(changes: dict, written: dict[str, Published]) -> None:
    ours = read_otherwise(written[JINA], JINA, **changes).encode(IMAGES)
    assert furthest(ours, jina_vectors(written[JINA].of("retrieval"), "Query: ")[-2:]) > TELLS


def test_texts_and_images_are_read_apart(models: dict[str, zoo.Embedder]) -> None:
    with pytest.raises(UnsupportedModalityError, match="not both in one item"):
        models[JINA].encode([Item(text="a", image=make_image(0))])


def test_saved_and_loaded_again(models: dict[str, zoo.Embedder], tmp_path: Path) -> None:
    """Merged: the folder of adapters is needed no more."""
    for name in (JINA, MULTI):
        again = zoo.load_model(models[name].save_pretrained(tmp_path / name))
        for a, b in zip(again.encode(IMAGES), models[name].encode(IMAGES), strict=True):
            assert torch.equal(a, b)


def spoiled(published: Published, folder: Path, what: Callable[[Path], None]) -> Path:
    shutil.copytree(published.folder, folder)
    what(folder)
    return folder


def _rename(folder: Path, old: str, new: str) -> None:
    from safetensors.torch import load_file, save_file

    for path in (folder / "model.safetensors", folder / "adapters" / "adapter_model.safetensors"):
        save_file({name.replace(old, new): tensor for name, tensor in load_file(path).items()}, path, {"format": "pt"})


@pytest.mark.parametrize(
    ("like", "what", "said"),
    [
        (JINA, lambda folder: shutil.rmtree(folder / "adapters"), "has no adapter_config.json"),
        (JINA, lambda folder: (folder / "adapters/adapter_model.safetensors").unlink(), "no weights"),
        (JINA, lambda folder: _rename(folder, "retrieval", "other"), "has no adapter 'retrieval'"),
        (JINA, lambda folder: _rename(folder, "model.layers.1.mlp.up_proj.lora_A", "lost"), "up_proj"),
        (MULTI, lambda folder: _rename(folder, "multi_vector_projector", "single_vector_projector"), "should have the layer"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said(like: str, what: Callable, said: str, written: dict, tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match=said):
        zoo.load_model(spoiled(written[JINA], tmp_path / "spoiled", what), like=like)


# ------------------------------------------------------------------------------------------------ from the hub, by name


@pytest.fixture(scope="module")
def hub(hub: LoopbackHub, written: dict[str, Published]) -> LoopbackHub:
    for like, repo in REPOS.items():
        hub.add(written[like].folder, repo)
    return hub


@pytest.mark.parametrize("like", REPOS)
def test_by_a_registered_name(like: str, child: Child, hub: LoopbackHub, models: dict[str, zoo.Embedder]) -> None:
    """The name alone, and its repository; nothing of the repository's code is fetched."""
    expected = models[like].encode(SHORT)
    for name in (f"{like}-tiny", f"hf:{REPOS[like]}"):
        answer = child.call("tests.reference.qwen3_vl:embed", name, like=like, repo=REPOS[like])
        assert "error" not in answer, answer
        assert furthest(torch.tensor(answer["result"]["vectors"]), expected) < BOUND
        assert answer["result"]["spec"]["hub_id"] == REPOS[like]
        assert answer["result"]["spec"]["revision"] == hub.repos[REPOS[like]].at("main").oid
    fetched = set(hub.fetched())
    assert not [name for name in fetched if name.endswith(".py")]
    assert "adapters/adapter_model.safetensors" in fetched or like != JINA


def test_a_repository_without_a_kind_is_refused(written: dict[str, Published]) -> None:
    """Also where modules.json is there: it does not say how images are read."""
    with pytest.raises(UnrecognisedCheckpointError, match="like="):
        zoo.load_model(written[QWEN3VL].folder)


# ------------------------------------------------------------------------------------------------- prompts, to the letter


def rendered(name: str, item: Item) -> str:
    encoder = zoo.build_model(name).towers[0].encoder
    text = encoder.tokenizer.decode(encoder.prepare_item(encoder.prompted(zoo.inputs.item.as_item(item), "")).ids)
    for pad in ("<|image_pad|>", "<|video_pad|>"):
        while pad * 2 in text:
            text = text.replace(pad * 2, pad)
    return text


IMAGE, FRAME = ("<|vision_start|><|{}_pad|><|vision_end|>".format(kind) for kind in ("image", "video"))  # noqa: UP032
GOLDEN = [
    ("qwen3vl-test", Item(text="a"), "<|im_start|>system\nRepresent the user's input.<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"),
    ("qwen3vl-test", Item(text="a", image=make_image(0), instruction="Find it"), f"<|im_start|>system\nFind it.<|im_end|>\n<|im_start|>user\n{IMAGE}a<|im_end|>\n<|im_start|>assistant\n"),
    ("qwen3vl-test", Item(video=make_video(0, 4)), f"<|im_start|>system\nRepresent the user's input.<|im_end|>\n<|im_start|>user\n<0.2 seconds>{FRAME}<1.2 seconds>{FRAME}<|im_end|>\n<|im_start|>assistant\n"),
    ("wemm-test", Item(text="a", instruction=QUESTION), f"<|im_start|>user\n{QUESTION} a<|im_end|><embedding>"),
    ("wemm-test", Item(image=make_image(0), instruction=SAME), f"<|im_start|>user\n{IMAGE}{SAME}<|im_end|><embedding>"),
    ("wemm-test", Item(parts=["a", make_image(0), "b"], instruction=SAME), f"<|im_start|>user\n{SAME} a{IMAGE}b<|im_end|><embedding>"),
    ("jina-v4-test", Item(text="a"), "Query: a"),
    ("jina-v4-test", Item(text="a", instruction="Passage: "), "Passage: a"),
    ("jina-v4-test", Item(image=make_image(0)), f"<|im_start|>user\n{IMAGE}Describe the image.<|im_end|>\n"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "item", "text"), GOLDEN)
def test_prompts_to_the_letter(name: str, item: Item, text: str) -> None:
    assert rendered(name, item) == text


def test_published_cuts_are_cut(models: dict[str, zoo.Embedder], written: dict[str, Published]) -> None:
    """The first numbers, of unit length again; a smaller checkpoint keeps the cuts that it is long enough for."""
    whole = models[WEMM].encode(["a red bicycle"])
    assert models[WEMM].spec.dims == ()
    with pytest.warns(UserWarning, match="trained for no cut"):
        cut = models[WEMM].encode(["a red bicycle"], dim=16)
    assert furthest(cut, nn.functional.normalize(whole[:, :16], dim=-1)) < BOUND
    for name in ("qwen3vl-embedding-8b", "wemm-embedding-4b", JINA):
        spec = zoo.get_spec(name)
        assert spec.dims[0] == spec.dim
        assert json.loads(spec.to_json())["dims"] == list(spec.dims)
