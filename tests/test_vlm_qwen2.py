"""Embedders on Qwen2-VL: old checkpoints from folders and the hub give the vectors of their authors' code, written out here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import zoo
from tests.hub import LoopbackHub
from tests.hub.child import Child
from tests.reference import llava
from tests.reference.qwen2_vl import (
    QUESTION,
    SAME,
    Published,
    Row,
    film,
    items,
    last,
    picture,
    states,
    write_adapter,
    write_qwen2_vl,
    write_tokenizer,
)
from tests.reference.qwen3_vl import write_qwen3_vl
from zoo.errors import InvalidTextError, MissingWeightsError, UnrecognisedCheckpointError, UnsafeCheckpointError
from zoo.formats.vlm import load
from zoo.items import Item

BOUND, TELLS = 1e-5, 1e-3
TOKEN = 28 * 28


# --------------------------------------------------------------- the authors' prompts and poolers, from their repositories


def qwen_embed(item: Item) -> Row:
    """GmeQwen2VL.embed of gme_inference.py; Ops-MM's `embed_batch` gives the same string for a text and a picture."""
    instruction = item.instruction or "You are a helpful assistant."
    input_str = ""
    if item.image is not None:
        input_str += "<|vision_start|><|image_pad|><|vision_end|>"
    if item.text is not None:
        input_str += item.text
    msg = f"<|im_start|>system\n{instruction}<|im_end|>\n<|im_start|>user\n{input_str}<|im_end|>\n<|im_start|>assistant\n<|endoftext|>"
    return Row(msg, [item.image] if item.image is not None else [])


def ops_mm(item: Item) -> Row:
    """Films are their eight frames as pictures (OpsMMEmbeddingWrapper.embed_batch)."""
    if item.video is None:
        return qwen_embed(item)
    frames = [Image.fromarray(frame) for frame in cut(item.video)]
    return Row(qwen_embed(replace(item, video=None, image=1)).prompt.replace(PICTURE, PICTURE * len(frames)), frames)


PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"


def gve(item: Item) -> Row:
    """Qwen2.5-VL's template with a system turn, films before pictures before text, and the end token (mteb, gve_models.py)."""
    row = qwen_embed(replace(item, video=None))
    if item.video is None:
        return row
    user = "<|im_start|>user\n"
    prompt = row.prompt.replace(user, user + "<|vision_start|><|video_pad|><|vision_end|>")
    return Row(prompt, row.images, [np.stack(cut(item.video))])


def rzen(item: Item) -> Row:
    """RzenEmbed.get_fused_embeddings and embed: the instruction stands directly before the text, behind the pictures."""
    words = (item.instruction or "") + (item.text or "")
    return ops_mm(replace(item, instruction=None, text=words))


def vlm2vec(item: Item) -> Row:
    """process_input_text of src/model/processor.py, and " \\n" of picture tasks as in src/data/eval_dataset/image_*.py."""
    prompt = item.instruction or ""
    if item.text:
        prompt = prompt + " " + item.text if prompt else item.text  # text candidates are raw strings
    if item.video is not None:
        prompt = "<|video_pad|>" + " " + prompt
    if item.image is not None:
        prompt = ("<|image_pad|>" + " " + prompt).replace(" \n", "\n")
    films = [np.stack(cut(item.video))] if item.video is not None else []
    return Row(prompt, [item.image] if item.image is not None else [], films)


def u_marvel(item: Item) -> Row:
    """Qwen2-VL's template over construct_messages of dataset/datasets_mbeir.py, with the generation prompt (mbeir_eval.py)."""
    text = item.text or ""
    if item.instruction:
        text = (
            f"<instruction_start>{item.instruction}<instruction_end> {text}"
            if text
            else (
                f"<instruction_start>{item.instruction}<instruction_end>."  # format_string strips, and adds a full stop
            )
        )
    media = PICTURE if item.image is not None else ""
    return Row(
        f"<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{media}{text}<|im_end|>\n"
        "<|im_start|>assistant\n<emb>.<|im_end|>\n<|im_start|>assistant\n",
        [item.image] if item.image is not None else [],
    )


def u_marvel_qwen3(item: Item) -> Row:
    """Qwen3-VL's template has no system turn of its own."""
    row = u_marvel(item)
    return replace(row, prompt=row.prompt.removeprefix("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"))


def lamra(item: Item) -> Row:
    """construct_messages of dataset/datasets_mbeir.py; the state before "<emb>", which the authors' prompt goes on with."""
    text = f"{item.instruction} {item.text or ''}".strip(" ") if item.instruction else item.text
    if text and item.image is not None:
        asked = f"{text}\nSummarize above image and sentence in one word: "
    elif text:
        asked = f"{text}\nSummarize above sentence in one word: "
    else:
        asked = "\nSummarize above image in one word: "
    media = PICTURE if item.image is not None else ""
    return Row(
        f"<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{media}{asked}<|im_end|>\n"
        "<|im_start|>assistant\n<emb>.<|im_end|>\n<|im_start|>assistant\n",
        [item.image] if item.image is not None else [],
    )


def unite(item: Item) -> Row:
    """PROMPT_TEMPLATE["UNITE"] of unite/prompt_template.py and the messages of inference/inference_demo.py."""
    text = f"{item.instruction} {item.text or ''}".strip(" ") if item.instruction else item.text
    media = "<|vision_start|><|video_pad|><|vision_end|>" if item.video is not None else ""
    media = PICTURE if item.image is not None else media
    seen = "image" if item.image is not None else "video"
    asked = f"sentence and {seen}" if text and media else seen if media else "sentence"
    return Row(
        f"<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{media}{text or ''}\n"
        f"Summary above {asked} in one word:<|im_end|>\n<|im_start|>assistant\n<|endoftext|>",
        [item.image] if item.image is not None else [],
        [np.stack(cut(item.video, 32))] if item.video is not None else [],
    )


def before_the_answer(published: Published, hidden: Tensor, ids: Tensor) -> Tensor:
    """get_embed_feature of LamRA's demo.py."""
    places = (ids == published.id("<emb>")).int().argmax(1) - 1
    return nn.functional.normalize(hidden[torch.arange(len(ids)), places], dim=-1)


def cut(frames: np.ndarray, most: int = 8) -> list[np.ndarray]:
    """Eight frames, evenly spread (sample_frames of src/utils/vision_utils/vision_utils.py)."""
    if len(frames) <= most:
        return list(frames)
    return [frames[i] for i in np.linspace(0, len(frames) - 1, most, dtype=int)]


def mean_outside_instruction(published: Published, hidden: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """_global_mean_pool over labels that are no padding and no instruction (models/qwen2_vl_finetune.py)."""
    vectors = []
    for state, row, real in zip(hidden, ids.tolist(), mask.tolist(), strict=True):
        keep, inside = [], False
        for i, (token, kept) in enumerate(zip(row, real, strict=True)):
            inside = inside or token == published.id("<instruction_start>")
            if kept and not inside:
                keep.append(i)
            inside = inside and token != published.id("<instruction_end>")
        vectors.append(state[keep].sum(0) / max(len(keep), 1e-7))
    return nn.functional.normalize(torch.stack(vectors), dim=-1)


@dataclass
class Family:
    """A registered model and what its authors' code does.

    Attributes:
        frame_pixels: budget of a frame, where it differs. bidirectional: and the mean outside the instruction.
        kind: of the checkpoint.
    """

    like: str
    row: Callable[[Item], Row]
    pixels: tuple[int, int]
    positions: str = "cumulative"
    films: str = ""
    frame_pixels: tuple[int, int] | None = None
    bidirectional: bool = False
    kind: str = "qwen2_vl"

    def vectors(self, published: Published, some: list[Item], side: str = "left") -> Tensor:
        """What the authors' code gives; where frames are pictures, rows with films are a batch of their own."""
        if self.row is rzen and self.frame_pixels and any(item.video is not None for item in some):
            stills = [item for item in some if item.video is None]
            films = [item for item in some if item.video is not None]
            moving = replace(self, pixels=self.frame_pixels, frame_pixels=None)
            parts = [self.vectors(published, stills, side)] if stills else []
            return torch.cat([*parts, moving.vectors(published, films, side)])
        hidden, ids, mask = states(
            published,
            [self.row(item) for item in some],
            pixels=self.pixels,
            positions=self.positions,
            side=side,
            bidirectional=self.bidirectional,
            frame_pixels=self.frame_pixels or (),
            patch=16 if self.kind == "qwen3_vl" else 14,
        )
        if self.bidirectional:
            return mean_outside_instruction(published, hidden, ids, mask)
        return before_the_answer(published, hidden, ids) if self.row is lamra else last(hidden, mask)


FAMILIES = {
    family.like: family
    for family in (
        Family("gme-qwen2vl-2b", qwen_embed, (256 * TOKEN, 1280 * TOKEN), "arange"),
        Family("ops-mm-embedding-v1-2b", ops_mm, (256 * TOKEN, 1280 * TOKEN), "mrope", films="short"),
        Family(
            "rzenembed-qwen2vl-7b",
            rzen,
            (256 * TOKEN, 1280 * TOKEN),
            "arange",
            films="short",
            frame_pixels=(160 * TOKEN, 180 * TOKEN),
        ),
        Family("vlm2vec-v2-qwen2vl-2b", vlm2vec, (4 * TOKEN, 1280 * TOKEN), films="all"),
        Family("vlm2vec-qwen2vl-7b", vlm2vec, (4 * TOKEN, 1280 * TOKEN)),
        Family(
            "u-marvel-qwen2vl-7b", u_marvel, (4 * TOKEN, 300 * TOKEN), "arange", bidirectional=True, kind="u-marvel"
        ),
        Family(
            "u-marvel-qwen3vl-4b",
            u_marvel_qwen3,
            (4 * TOKEN, 300 * TOKEN),
            "arange",
            bidirectional=True,
            kind="qwen3_vl",
        ),
        Family("lamra-ret-qwen2vl-7b", lamra, (4 * TOKEN, 300 * TOKEN), "arange", kind="u-marvel"),
        Family(
            "unite-base-qwen2vl-2b",
            unite,
            (256 * TOKEN, 1280 * TOKEN),
            "arange",
            films="short",
            frame_pixels=(128 * TOKEN, 360 * 420),
        ),
        Family(
            "gve-qwen2.5vl-3b",
            gve,
            (4 * TOKEN, 16384 * TOKEN),
            "mrope",
            films="all",
            frame_pixels=(128 * TOKEN, 200 * TOKEN),
            kind="qwen2_5_vl",
        ),
    )
}
BASE, FULL, MARVEL = "Qwen/Qwen2-VL-2B-Instruct", "Alibaba-NLP/gme-Qwen2-VL-2B-Instruct", "org/u-marvel"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return write_qwen2_vl(tmp_path_factory.mktemp("base") / "qwen2-vl")


@pytest.fixture(scope="module")
def marvel(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """Merged weights with the learned temperature among them; the tokenizer is the base's, without the added tokens."""
    from safetensors.torch import load_file, save_file

    published = write_qwen2_vl(tmp_path_factory.mktemp("marvel") / "u-marvel", tied=False, seed=3)
    path = published.folder / "model.safetensors"
    save_file({**load_file(path), "sim.temp": torch.tensor(0.031)}, path, {"format": "pt"})
    config = json.loads((published.folder / "config.json").read_text())
    config["architectures"] = ["Qwen2VLRetForConditionalGeneration"]
    (published.folder / "config.json").write_text(json.dumps(config))
    published.tokenizer.add_tokens(["<emb>", "<instruction_start>", "<instruction_end>"])
    return published


@pytest.fixture(scope="module")
def published(
    base: Published, marvel: Published, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Family], Published]:
    root = tmp_path_factory.mktemp("published")
    qwen3 = write_qwen3_vl(root / "qwen3")
    qwen3.tokenizer.add_tokens(["<emb>", "<instruction_start>", "<instruction_end>"])
    found = {"qwen2_vl": base, "u-marvel": marvel, "qwen3_vl": qwen3}
    found["qwen2_5_vl"] = write_qwen2_vl(root / "qwen2.5", kind="qwen2_5_vl", seed=5)
    return lambda family: found[family.kind]


def opened(published: Published, like: str) -> zoo.Embedder:
    return zoo.load_model(published.folder, like=like)


def furthest(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return (a - b).abs().max().item()


# -------------------------------------------------------------------------------------------------------------- parity


@pytest.mark.parametrize("like", FAMILIES)
def test_a_folder_gives_the_authors_vectors(like: str, published: Callable[[Family], Published]) -> None:
    """Whichever side the authors pad on, and we."""
    family = FAMILIES[like]
    some = items(family.films)
    model = opened(published(family), like)
    ours = model.encode(some)
    for side in ("left", "right"):
        assert furthest(ours, family.vectors(published(family), some, side)) < BOUND
    tower = model.towers[0]
    with torch.inference_mode():
        batch = tower.encoder.collate([tower.encoder.read(item) for item in some], "left")
        assert furthest(ours, tower(batch)) < BOUND


def opened_otherwise(published: Published, like: str, **changes) -> zoo.Embedder:
    """The same folder, read with other switches."""
    spec = zoo.get_spec(like)
    spec = replace(spec, reading=replace(spec.reading, **changes))
    return load(published.folder, name="other", trust_remote_code=False, allow_pickle=False, like=spec).eval()


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
        ("unite-base-qwen2vl-2b", {"prompt": zoo.get_spec("unite-base-qwen2vl-2b").reading.prompt[:-13]}),
        ("u-marvel-qwen3vl-4b", {"deepstack": True}),
        ("u-marvel-qwen3vl-4b", {"positions": "mrope"}),
        ("gve-qwen2.5vl-3b", {"positions": "sequential"}),
        ("u-marvel-qwen2vl-7b", {"attention": "causal"}),
        ("u-marvel-qwen2vl-7b", {"attention": "causal", "pooling": "last", "span": "all"}),
    ],
)
def test_a_wrong_switch_would_show(like: str, changes: dict, published: Callable[[Family], Published]) -> None:
    family = FAMILIES[like]
    item = [Item(image=picture(2, 160, 30), text="the same in blue", instruction=SAME)]
    theirs = family.vectors(published(family), item)
    assert furthest(opened_otherwise(published(family), like, **changes).encode(item), theirs) > TELLS


def test_a_tiny_picture_is_enlarged_as_the_authors_do(base: Published) -> None:
    model = opened(base, "vlm2vec-v2-qwen2vl-2b")
    tiny = picture(7, 20, 90)
    family = FAMILIES["vlm2vec-v2-qwen2vl-2b"]
    assert furthest(model.encode([tiny]), family.vectors(base, [Item(image=tiny.resize((56, 56)))])) < BOUND
    assert furthest(model.encode([tiny]), family.vectors(base, [Item(image=tiny)])) > TELLS


# ------------------------------------------------------------------------------------------------- prompts, to the letter


def rendered(name: str, item: Item) -> str:
    """The sequence of a `*-test` model as text, each picture and film as long as one token."""
    encoder = zoo.build_model(name).towers[0].encoder
    text = encoder.tokenizer.decode(encoder.read(encoder.prompted(zoo.items.as_item(item), "")).ids)
    for pad in ("<|image_pad|>", "<|video_pad|>"):
        while pad * 2 in text:
            text = text.replace(pad * 2, pad)
    return text


BOTH = Item(text="the same in blue", image=picture(0), instruction=SAME)
GOLDEN = [
    ("gme-test", Item(text="a"), "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n<|endoftext|>"),
    ("gme-test", Item(image=picture(0)), f"<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{PICTURE}<|im_end|>\n<|im_start|>assistant\n<|endoftext|>"),
    ("gme-test", Item(text="a", instruction="No stop"), "<|im_start|>system\nNo stop<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n<|endoftext|>"),
    ("gme-test", Item(parts=[picture(0), "a", picture(1), "b"]), f"<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{PICTURE}{PICTURE}a b<|im_end|>\n<|im_start|>assistant\n<|endoftext|>"),
    ("gme-test", BOTH, f"<|im_start|>system\n{SAME}<|im_end|>\n<|im_start|>user\n{PICTURE}the same in blue<|im_end|>\n<|im_start|>assistant\n<|endoftext|>"),
    ("vlm2vec-test", Item(text="a cat"), "a cat"),
    ("vlm2vec-test", Item(text="a cat", instruction=QUESTION), f"{QUESTION} a cat"),
    ("vlm2vec-test", Item(image=picture(0)), "<|image_pad|> "),
    ("vlm2vec-test", BOTH, f"<|image_pad|> {SAME} the same in blue"),
    ("vlm2vec-test", Item(image=picture(0), text="q\n", instruction="\nAnswer:"), "<|image_pad|>\nAnswer: q\n"),
    ("vlm2vec-test", Item(video=film(0), instruction="Understand it. "), "<|video_pad|> Understand it. "),
    ("u-marvel-test", Item(text="a"), "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n<emb>.<|im_end|>\n<|im_start|>assistant\n"),
    ("u-marvel-test", Item(image=picture(0), instruction="Find it."), f"<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{PICTURE}<instruction_start>Find it.<instruction_end>.<|im_end|>\n<|im_start|>assistant\n<emb>.<|im_end|>\n<|im_start|>assistant\n"),
    ("u-marvel-test", BOTH, f"<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{PICTURE}<instruction_start>{SAME}<instruction_end> the same in blue<|im_end|>\n<|im_start|>assistant\n<emb>.<|im_end|>\n<|im_start|>assistant\n"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "item", "text"), GOLDEN)
def test_prompts_to_the_letter(name: str, item: Item, text: str) -> None:
    assert rendered(name, item) == text


def test_token_ids_of_a_prompt() -> None:
    """Bytes are their place in the sorted byte alphabet, special tokens follow from 256 on."""
    encoder = zoo.build_model("vlm2vec-test").towers[0].encoder
    ids = encoder.read(Item(image=picture(0, 28, 28), text="ab\n", instruction="\nA:")).ids
    assert ids == [261, 198, 32, 25, 220, 64, 65, 198]


# ------------------------------------------------------------------------------------------------ from the hub, by name


@pytest.fixture(scope="module")
def adapters(base: Published, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Published]:
    """DoRA as VLM2Vec-V2.0 is published; LoRA in a pickle as v1; that beside a merged copy with other weights, as v1's 7B."""
    root = tmp_path_factory.mktemp("adapters")
    found = {
        "dora": write_adapter(base, root / "dora", base_name=BASE),
        "pickled": write_adapter(base, root / "pickled", base_name=BASE, dora=False, pickled=True, seed=2),
        "both": write_adapter(base, root / "both", base_name=BASE, dora=False, seed=4),
    }
    wrong = write_qwen2_vl(root / "wrong", seed=9)
    for name in ("model.safetensors", "preprocessor_config.json"):
        (found["both"].folder / name).write_bytes((wrong.folder / name).read_bytes())
    return found


@pytest.fixture(scope="module")
def hub(base: Published, marvel: Published, adapters: dict[str, Published]) -> Iterator[LoopbackHub]:
    phi = {"config.json": json.dumps({"model_type": "phi3_v", "auto_map": {"AutoConfig": "x.Phi3VConfig"}}).encode()}
    with LoopbackHub() as hub:
        hub.add(base.folder, BASE)
        hub.add(base.folder, FULL)
        hub.add(marvel.folder, MARVEL)
        for name, adapter in adapters.items():
            hub.add(adapter.folder, f"org/{name}")
        hub.add({**phi, "model.safetensors": b"never read"}, "TIGER-Lab/VLM2Vec-Full")
        hub.add(phi, "microsoft/Phi-3.5-vision-instruct")
        lora = {"peft_type": "LORA", "base_model_name_or_path": "microsoft/Phi-3.5-vision-instruct"}
        phi_lora = {"adapter_config.json": json.dumps(lora).encode(), "adapter_model.safetensors": b"never read"}
        hub.add(phi_lora, "TIGER-Lab/VLM2Vec-LoRA")
        yield hub


@pytest.fixture(scope="module")
def child(hub: LoopbackHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    with Child(hub.environment(tmp_path_factory.mktemp("home"))) as child:
        yield child


def by_name(child: Child, name: str, **more) -> Tensor:
    answer = child.call("tests.reference.qwen2_vl:embed", name, **more)
    assert "error" not in answer, answer
    return torch.tensor(answer["result"]["vectors"])


@pytest.mark.parametrize(
    ("repo", "like"), [(FULL, "gme-qwen2vl-2b"), (MARVEL, "u-marvel-qwen2vl-7b"), (FULL, "ops-mm-embedding-v1-2b")]
)
def test_a_repository_by_name(repo: str, like: str, child: Child, published: Callable[[Family], Published]) -> None:
    family = FAMILIES[like]
    vectors = by_name(child, f"hf:{repo}", like=like)
    assert furthest(vectors, family.vectors(published(family), items())) < BOUND


def test_a_registered_name(child: Child, base: Published, hub: LoopbackHub) -> None:
    """A model of the zoo knows how its repository is read; here one with GME's reading and a tiny checkpoint."""
    reading = zoo.get_spec("gme-qwen2vl-2b").reading.to_dict()
    spec = {"name": "gme-tiny", "dim": 32, "license": "mit", "hub_id": FULL, "max_tokens": 1800, "reading": reading}
    answer = child.call("tests.reference.qwen2_vl:embed", "gme-tiny", spec=spec)["result"]
    assert furthest(torch.tensor(answer["vectors"]), FAMILIES["gme-qwen2vl-2b"].vectors(base, items())) < BOUND
    assert answer["spec"]["name"] == "gme-tiny"
    assert answer["spec"]["revision"] == hub.repos[FULL].at("main").oid


@pytest.mark.parametrize("name", ["dora", "both"])
def test_an_adapter_by_name(name: str, child: Child, adapters: dict[str, Published], base: Published) -> None:
    """On the base that it names, merged; a merged copy beside it is neither fetched nor read."""
    family = FAMILIES["vlm2vec-v2-qwen2vl-2b"]
    vectors = by_name(child, f"hf:org/{name}", like=family.like, films="all")
    assert furthest(vectors, family.vectors(adapters[name], items("all"))) < BOUND
    assert furthest(vectors, family.vectors(base, items("all"))) > TELLS


def test_a_merged_copy_beside_an_adapter_is_not_fetched(child: Child, hub: LoopbackHub, adapters: dict) -> None:
    hub.add(adapters["both"].folder, "org/both-again")
    hub.requests.clear()
    by_name(child, "hf:org/both-again", like="vlm2vec-qwen2vl-7b")
    assert "adapter_model.safetensors" in hub.fetched()
    assert "model.safetensors" not in hub.fetched()  # the base's is in the cache


def test_a_pickled_adapter_asks_for_permission(child: Child, adapters: dict[str, Published]) -> None:
    answer = child.call("tests.reference.qwen2_vl:embed", "hf:org/pickled", like="vlm2vec-qwen2vl-2b")
    assert answer["error"] == UnsafeCheckpointError.__name__
    assert "adapter_model.bin" in answer["message"]
    assert "allow_pickle=True" in answer["message"]
    vectors = by_name(child, "hf:org/pickled", like="vlm2vec-qwen2vl-2b", allow_pickle=True)
    assert furthest(vectors, FAMILIES["vlm2vec-qwen2vl-7b"].vectors(adapters["pickled"], items())) < BOUND


def test_an_adapter_in_a_folder(base: Published, tmp_path: Path) -> None:
    """Its base may be a folder of this machine."""
    family = FAMILIES["vlm2vec-v2-qwen2vl-2b"]
    local = write_adapter(base, tmp_path / "local", base_name=str(base.folder))
    assert furthest(opened(local, family.like).encode(items()), family.vectors(local, items())) < BOUND


@pytest.mark.parametrize(
    ("repo", "like"),
    [
        ("TIGER-Lab/VLM2Vec-Full", None),
        ("TIGER-Lab/VLM2Vec-Full", "vlm2vec-qwen2vl-2b"),
        ("TIGER-Lab/VLM2Vec-LoRA", "vlm2vec-qwen2vl-2b"),
    ],
)
def test_phi_is_named_before_anything_large_is_fetched(
    repo: str, like: str | None, child: Child, hub: LoopbackHub
) -> None:
    hub.requests.clear()
    answer = child.call("tests.reference.qwen2_vl:embed", f"hf:{repo}", like=like)
    assert answer["error"] == UnrecognisedCheckpointError.__name__
    assert "Phi-3.5-vision" in answer["message"]
    assert "vlm2vec-qwen2vl-2b" in answer["message"]
    assert "model.safetensors" not in hub.fetched()


def test_another_backbone_is_refused(child: Child) -> None:
    answer = child.call("tests.reference.qwen2_vl:embed", f"hf:{FULL}", like="u-marvel-qwen3vl-4b")
    assert answer["error"] == UnrecognisedCheckpointError.__name__
    assert "qwen3_vl" in answer["message"]


def test_nobody_said_how_it_is_read(child: Child) -> None:
    answer = child.call("tests.reference.qwen2_vl:embed", "hf:org/dora")
    assert answer["error"] == UnrecognisedCheckpointError.__name__
    assert "like=" in answer["message"]


# -------------------------------------------------------------------------------------------------------- added tokens


def test_tokens_that_are_there_already_are_not_added_again(marvel: Published, tmp_path: Path) -> None:
    """A checkpoint saved with the three tokens in its tokenizer is the same model."""
    folder = tmp_path / "with-tokens"
    shutil.copytree(marvel.folder, folder)
    write_tokenizer(folder, ["<emb>", "<instruction_start>", "<instruction_end>"])
    family = FAMILIES["u-marvel-qwen2vl-7b"]
    assert furthest(zoo.load_model(folder, like=family.like).encode(items()), family.vectors(marvel, items())) < BOUND


def test_a_table_without_rows_for_the_added_tokens_is_named(tmp_path: Path) -> None:
    tokens = write_tokenizer(tmp_path).get_vocab_size()
    small = write_qwen2_vl(tmp_path / "small", rows=tokens)
    with pytest.raises(MissingWeightsError, match="rows"):
        zoo.load_model(small.folder, like="u-marvel-qwen2vl-7b").encode("a")


@pytest.mark.parametrize("mark", ["<instruction_end>", "<|image_pad|>"])
def test_marks_in_a_text_are_refused(mark: str) -> None:
    with pytest.raises(InvalidTextError, match="take it out"):
        zoo.build_model("u-marvel-test").encode(f"a {mark} b")


# ---------------------------------------------------------------------------------------------- VLM2Vec on LLaVA-NeXT


def test_vlm2vec_on_llava_next(tmp_path: Path) -> None:
    """The same prompt around "<image>", behind the beginning that the tokenizer puts there; pictures of any size."""
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
