"""Embedders on LLaVA: old checkpoints from folders and the hub give the vectors of their authors' code, written out here."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import zoo
from tests.encoders.sequence_support import changed, encoder_of
from tests.hub import LoopbackHub
from tests.hub.child import Child
from tests.reference.llava import PHI35, Published, Row, vectors, write, write_adapter
from tests.reference.qwen2_vl import QUESTION, SAME, items, make_image, make_video
from zoo.encoders.sequence import SequenceEncoder
from zoo.encoders.sequence.processor import open_processor
from zoo.errors import MissingWeightsError, UnrecognisedCheckpointError, UnsafeCheckpointError
from zoo.formats.layout import Opening, open_with
from zoo.formats.vlm import VisionLanguage
from zoo.inputs.item import Item
from zoo.models.llava_backbones import llava_processor, tiny_llava

BOUND, TELLS = 1e-5, 1e-3


# --------------------------------------------------------------------------- the authors' prompts, from their repositories


def e5_v(item: Item) -> Row:
    """retrieval.py: img_prompt, text_prompt, and text_img_prompt of CIRR, all in llama3_template."""
    template = (
        "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n \n"
    )
    if item.instruction:  # what the zoo makes of one; theirs have the task's words in the prompt
        prompt = f"{'<image>' if item.image else ''}{item.text or ''}\n{item.instruction}"
    elif item.image and item.text:
        prompt = '<image>Modify this image with "<sent>", desribe modified image in one word:'
    elif item.image:
        prompt = "<image>\nSummary above image in one word: "
    else:
        prompt = "<sent>\nSummary above sentence in one word: "
    return Row(template.format(prompt).replace("<sent>", item.text or ""), _images(item))


def instructcir(item: Item) -> Row:
    """ValidateCollator of generate_test_submission.py in Phi-3.5's chat template; without "<s>", which the processor adds."""
    if item.instruction or not item.image:
        content = f"{'<image>' if item.image else ''}{item.text or ''}\n{item.instruction or 'Summary above sentence in one word: '}"
    elif item.text:
        content = f'<image>Modify this image with "{item.text}", desribe modified image in one word:'
    else:
        content = "<image>\n Describe this image in one word:"
    return Row(f"<|user|>\n{content}<|end|>\n<|assistant|>\n", _images(item))


def unime(item: Item) -> Row:
    """The README's prompts; MMEB's rows go through VLM2Vec's Llava_NEXT_process_fn as they are."""
    if item.instruction or (item.image and item.text):
        words = " ".join(part for part in (item.instruction, item.text) if part)
        return Row(f"<image>\n{words}" if item.image else words, _images(item))
    if item.image:
        return Row("[INST] <image>\nSummary above image in one word: [/INST]", _images(item))
    return Row("[INST] <sent>\nSummary above sentence in one word: [/INST]".replace("<sent>", item.text), [])


def unime_onevision(item: Item) -> Row:
    if item.instruction or (item.image and item.text):
        return _turn(item, " ".join(part for part in (item.instruction, item.text) if part).strip())
    if item.image:
        return _turn(item, "Summary above image in one word:\n")
    return _turn(item, f"{item.text}\nSummary above sentence in one word:\n")


def unime_v2(item: Item) -> Row:
    """appply_chat_template of Embedding/src/model_utils.py; images resized to 1344 x 1344 as in utils/utils.py."""
    words = " ".join(part for part in (item.instruction, item.text) if part).strip()
    if not words:
        words = (
            "Describe this video in detail."
            if item.video is not None
            else "Find an image caption describing the given image."
        )
    row = _turn(item, words)
    return replace(row, images=[image.resize((1344, 1344)) for image in row.images])


def _turn(item: Item, words: str) -> Row:
    """LLaVA-OneVision's chat template, one user's turn and the answer's opening."""
    media = ("<image>" if item.image is not None else "") + ("<video>" if item.video is not None else "")
    videos = [item.video] if item.video is not None else []
    return Row(f"<|im_start|>user {media}\n{words}<|im_end|><|im_start|>assistant\n", _images(item), videos)


def _images(item: Item) -> list:
    return [item.image] if item.image is not None else []


@dataclass
class Family:
    """A registered model, the folder that it is opened from and what its authors' code does."""

    folder: str
    row: Callable[[Item], Row]
    videos: str = ""
    allow_pickle: bool = False


FAMILIES = {
    "e5-v-llava-next-8b": Family("next-llama3", e5_v),
    "instructcir-llava-phi35": Family("instructcir", instructcir, allow_pickle=True),
    "unime-llava-1.6-7b": Family("next-mistral", unime),
    "unime-llava-onevision-7b": Family("onevision", unime_onevision),
    "unime-v2-llava-onevision-8b": Family("onevision", unime_v2, videos="short"),
}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Published]:
    root = tmp_path_factory.mktemp("llava")
    rope = {"rope_theta": 500000.0}
    return {
        "next-llama3": write(root / "next-llama3", "llava_next", "llama3", {"model_type": "llama", **rope}),
        "next-mistral": write(
            root / "next-mistral", "llava_next", "llama", {"model_type": "mistral", "sliding_window": None}, seed=1
        ),
        "onevision": write(root / "onevision", "llava_onevision", "qwen", {"model_type": "qwen2"}, seed=2),
        "instructcir": write(root / "instructcir", "instructcir_llava_phi35", "phi", PHI35, seed=3),
    }


def opened(published: dict[str, Published], like: str) -> zoo.Embedder:
    family = FAMILIES[like]
    return zoo.load_model(published[family.folder].folder, like=like, allow_pickle=family.allow_pickle)


def theirs(published: dict[str, Published], like: str, some: list[Item], side: str = "left") -> Tensor:
    family = FAMILIES[like]
    return vectors(published[family.folder], [family.row(item) for item in some], side)


def furthest(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return (a - b).abs().max().item()


# -------------------------------------------------------------------------------------------------------------- parity


@pytest.mark.parametrize("like", FAMILIES)
def test_a_folder_gives_the_authors_vectors(like: str, published: dict[str, Published]) -> None:
    """Whichever side the authors pad on, and we; images of different numbers of crops and videos in one batch."""
    some = items(FAMILIES[like].videos)
    model = opened(published, like)
    ours = model.encode(some)
    for side in ("left", "right"):
        assert furthest(ours, theirs(published, like, some, side)) < BOUND
    tower = model.towers[0]
    with torch.inference_mode():
        for side in ("left", "right"):
            batch = tower.encoder.collate([tower.encoder.prepare_item(item) for item in some], side)
            assert furthest(ours, tower(batch)) < BOUND


@pytest.mark.parametrize(
    ("like", "changes"),
    [
        ("e5-v-llava-next-8b", {"special_tokens": False}),
        ("e5-v-llava-next-8b", {"prompt": lambda prompt: prompt.removesuffix(" \n") + "\n"}),
        ("e5-v-llava-next-8b", {"pooling": "mean"}),
        ("e5-v-llava-next-8b", {"prompt": lambda prompt: prompt.replace("desribe", "describe")}),
        ("instructcir-llava-phi35", {"special_tokens": False}),
        ("instructcir-llava-phi35", {"prompt": lambda prompt: prompt.replace("desribe", "describe")}),
        ("unime-llava-1.6-7b", {"image": "<image> "}),
        ("unime-llava-onevision-7b", {"prompt": lambda prompt: prompt.replace("user ", "user\n")}),
        ("unime-v2-llava-onevision-8b", {"square": 0}),
    ],
)
def test_a_wrong_switch_would_show(like: str, changes: dict, published: dict[str, Published]) -> None:
    spec, family = zoo.get_spec(like), FAMILIES[like]
    changes = {k: v(spec.format.prompt) if callable(v) else v for k, v in changes.items()}
    otherwise = changed(spec, **changes)
    folder = published[family.folder].folder
    model = open_with(
        VisionLanguage(), folder, Opening("other", allow_pickle=family.allow_pickle, like=otherwise)
    ).eval()
    some = [Item(image=make_image(2, 160, 30), text="the same in blue")]
    assert furthest(model.encode(some), theirs(published, like, some)) > TELLS


def test_videos_of_any_length_beside_images(published: dict[str, Published]) -> None:
    """Every frame is looked at by itself, so that frames filled with zeros leave no trace."""
    like = "unime-v2-llava-onevision-8b"
    some = [Item(video=make_video(1, frames)) for frames in (1, 5, 8)] + [
        Item(image=make_image(0)),
        Item(video=make_video(1, 5), text="x"),
    ]
    ours = opened(published, like).encode(some)
    assert furthest(ours, theirs(published, like, some)) < BOUND


def test_phi35_is_turned_by_its_short_factors(published: dict[str, Published], tmp_path: Path) -> None:
    """Without them, or with Phi-3's fused layers, InstructCIR's vectors would be others."""
    folder = tmp_path / "plain"
    shutil.copytree(published["instructcir"].folder, folder)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["rope_scaling"] = None
    (folder / "config.json").write_text(json.dumps(config))
    some = [Item(text="a red bicycle by the sea")]
    model = zoo.load_model(folder, like="instructcir-llava-phi35", allow_pickle=True)
    assert furthest(model.encode(some), theirs(published, "instructcir-llava-phi35", some)) > TELLS


@pytest.mark.parametrize("like", FAMILIES)
def test_a_saved_copy_gives_the_same_vectors(like: str, published: dict[str, Published], tmp_path: Path) -> None:
    some = items(FAMILIES[like].videos)[:6:2]
    model = opened(published, like)
    again = zoo.load_model(model.save_pretrained(tmp_path / "saved"))
    assert torch.equal(again.encode(some), model.encode(some))


@pytest.mark.parametrize(
    "targets",
    [
        r"model\.language_model\..*\.(q|k|v|o|gate|up|down)_proj",
        r".*(language_model|vision_tower)\..*\.(q_proj|v_proj|fc1)|.*multi_modal_projector\.linear_\d",
    ],
    ids=["words", "all"],
)
def test_an_old_adapter_is_merged(targets: str, published: dict[str, Published], tmp_path: Path) -> None:
    adapted = write_adapter(published["next-llama3"], tmp_path / "adapter", targets=targets)
    some = items()[:5]
    rows = [e5_v(item) for item in some]
    ours = zoo.load_model(adapted.folder, like="e5-v-llava-next-8b").encode(some)
    assert furthest(ours, vectors(adapted, rows)) < BOUND
    assert furthest(ours, vectors(published["next-llama3"], rows)) > TELLS


# ---------------------------------------------------------------------------------------------------- processors of old


@pytest.mark.parametrize(
    "settings",
    [
        None,
        {"processor_class": "LlavaNextProcessor"},
        {"processor_class": "LlavaNextProcessor", "patch_size": 14, "vision_feature_select_strategy": "default"},
        {"processor_class": "LlavaNextProcessor", "patch_size": 7, "vision_feature_select_strategy": "full"},
    ],
    ids=["none", "without-counts", "before-class-tokens", "wrong"],
)
def test_the_backbone_says_how_long_an_image_is(settings, published: dict[str, Published], tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(published["next-llama3"].folder, folder)
    if settings is not None:
        (folder / "processor_config.json").write_text(json.dumps(settings))
    some = [Item(image=make_image(0)), Item(image=make_image(1, 40, 200))]
    ours = zoo.load_model(folder, like="e5-v-llava-next-8b").encode(some)
    assert furthest(ours, theirs(published, "e5-v-llava-next-8b", some)) < BOUND


@pytest.mark.parametrize("name", ["next-llama3", "next-mistral", "onevision", "instructcir"])
def test_texts_are_split_as_the_tokenizer_file_says(name: str, published: dict[str, Published]) -> None:
    """transformers 5 builds Llama's splitting anew, by which a space after a mark (VLM2Vec's "<image> ") is lost."""
    tokenizer = open_processor(published[name].folder).tokenizer
    for text in ("<image> a cat", "  two  spaces ", "a<image>\n b", "<image><image> [INST] é\n\n"):
        assert tokenizer(text).input_ids == published[name].tokenizer.encode(text).ids


def tiny(kind: str, seed: int = 0) -> SequenceEncoder:
    torch.manual_seed(seed)
    videos = "<video>" if kind == "llava_onevision" else ""
    reading = {"prompt": "{{ media }}\n{{ text }}:", "backbone": kind, "image": "<image>", "video": videos}
    return encoder_of(tiny_llava(kind), reading, 2048, processor=llava_processor(kind)).eval()


KINDS = ("llava", "llava_next", "llava_onevision")


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_of_any_shape_is_as_long_as_its_features(kind: str) -> None:
    encoder = tiny(kind)
    generator = np.random.default_rng(0)
    shapes = [(1, 1), (1, 300), (300, 1), (2, 500), (28, 28), (57, 113), *generator.integers(2, 400, (25, 2)).tolist()]
    reader = encoder.readers["image"]
    visuals = [reader.read(make_image(i, *shape)) for i, shape in enumerate(shapes)]
    with torch.inference_mode():
        order = list(range(len(visuals)))
        features = reader.features(encoder.backbone, reader.collate(visuals), order, [v.tokens for v in visuals])
    assert [len(feature) for feature in features.pooler_output] == [visual.tokens for visual in visuals]
    assert all(bool(feature.isfinite().all()) for feature in features.pooler_output)


# ------------------------------------------------------------------------------------------------------- computed once


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_looked_at_once_in_a_batch(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = tiny(kind)
    some = [Item(text=text, image=make_image(0)) for text in ("red", "blue", "green")] + [
        Item(image=make_image(1, 40, 200))
    ]
    # A tower sees the whole and four crops of 90 x 60, the whole and three of 40 x 200.
    crops = {"llava": 2, "llava_next": 5 + 4, "llava_onevision": 5 + 4}[kind]
    seen: list[int] = []
    tower = type(encoder.backbone.vision_tower)
    plain = tower.forward
    monkeypatch.setattr(
        tower, "forward", lambda self, pixels, **rest: seen.append(len(pixels)) or plain(self, pixels, **rest)
    )
    with torch.inference_mode():
        encoder(encoder.prepare(some))
    assert seen == [crops]


@pytest.mark.parametrize("kind", KINDS)
def test_neither_padding_nor_neighbours_change_a_vector(kind: str) -> None:
    encoder = tiny(kind)
    both = zoo.inputs.item.as_item(Item(parts=[make_image(0), "and", make_image(3, 120, 40)]))
    some = [*items()[:6], both, Item(image=make_image(4, 300, 20))]
    if kind == "llava_onevision":
        some += [Item(video=make_video(1, frames), text="a video") for frames in (1, 3, 8)]

    def last(items: list[Item], side: str) -> Tensor:
        with torch.inference_mode():
            return zoo.pooling.LastToken()(
                encoder(encoder.collate([encoder.prepare_item(item) for item in items], side))
            )

    alone = torch.cat([last([item], "right") for item in some])
    for side in ("left", "right"):
        assert torch.allclose(last(some, side), alone, atol=1e-5)
        assert torch.allclose(last(some[::-1], side), alone.flip(0), atol=1e-5)


# ------------------------------------------------------------------------------------------------- prompts, to the letter


GOLDEN = [
    ("e5-v-test", Item(text="a cat"), "<|start_header_id|>user<|end_header_id|>\n\na cat\nSummary above sentence in one word: <|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n \n"),
    ("e5-v-test", Item(image=make_image(0)), "<|start_header_id|>user<|end_header_id|>\n\n<image>\nSummary above image in one word: <|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n \n"),
    ("e5-v-test", Item(image=make_image(0), instruction=" Describe this image in one word:"), "<|start_header_id|>user<|end_header_id|>\n\n<image>\n Describe this image in one word:<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n \n"),
    ("e5-v-test", Item(image=make_image(0), text=" change the style of this dress to red", instruction=" Desribe this modified dress in one word based on its style:"), "<|start_header_id|>user<|end_header_id|>\n\n<image> change the style of this dress to red\n Desribe this modified dress in one word based on its style:<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n \n"),
    ("instructcir-test", Item(image=make_image(0)), "<|user|>\n<image>\n Describe this image in one word:<|end|>\n<|assistant|>\n"),
    ("instructcir-test", Item(image=make_image(0), text="make it blue"), '<|user|>\n<image>Modify this image with "make it blue", desribe modified image in one word:<|end|>\n<|assistant|>\n'),
    ("unime-test", Item(text=" a cat \n"), "<|im_start|>user \na cat<|im_end|><|im_start|>assistant\n"),
    ("unime-test", Item(image=make_image(0), text="blue", instruction=SAME), f"<|im_start|>user <image>\n{SAME} blue<|im_end|><|im_start|>assistant\n"),
    ("unime-test", Item(video=make_video(0), instruction=QUESTION), f"<|im_start|>user <video>\n{QUESTION}<|im_end|><|im_start|>assistant\n"),
    ("unime-test", Item(video=make_video(0)), "<|im_start|>user <video>\nDescribe this video in detail.<|im_end|><|im_start|>assistant\n"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "item", "text"), GOLDEN)
def test_prompts_to_the_letter(name: str, item: Item, text: str) -> None:
    encoder = zoo.build_model(name).towers[0].encoder
    read = encoder.tokenizer.decode(encoder.prepare_item(item).ids)
    assert re.sub(r"(<image>|<video>)\1+", r"\1", read) == text


# ------------------------------------------------------------------------------------------------ from the hub, by name

REPOSITORIES = {name: f"org/{family.folder}" for name, family in FAMILIES.items()}
OURS = "llava-of-tests"


@pytest.fixture(scope="module")
def hub(hub: LoopbackHub, published: dict[str, Published]) -> LoopbackHub:
    for one in published.values():
        hub.add(one.folder, f"org/{one.folder.name}")
    hub.add(published["onevision"].folder, "org/registered")
    config = {
        "model_type": "qwen2",
        "mm_vision_tower": "google/siglip-so400m-patch14-384",
        "architectures": ["LlavaQwen"],
    }
    hub.add({"config.json": json.dumps(config).encode(), "model.safetensors": b"never fetched"}, "org/LLaVE-2B")
    return hub


def embed(child: Child, name: str, videos: str, **options) -> dict:
    return child.call("tests.reference.qwen2_vl:embed", name, videos=videos, **options)


@pytest.mark.slow  # a registered name below goes the same way in the usual run
@pytest.mark.parametrize("like", FAMILIES)
def test_a_repository_gives_the_authors_vectors(like: str, child: Child, published: dict[str, Published]) -> None:
    family = FAMILIES[like]
    pickle = {"allow_pickle": True} if family.allow_pickle else {}
    answer = embed(child, f"hf:{REPOSITORIES[like]} like {like}", family.videos, **pickle)
    assert "error" not in answer, answer
    ours = torch.tensor(answer["result"]["vectors"])
    assert furthest(ours, theirs(published, like, items(family.videos))) < BOUND


def test_a_registered_name_knows_how_it_is_read(child: Child, published: dict[str, Published]) -> None:
    spec = zoo.get_spec("unime-v2-llava-onevision-8b").to_dict()
    facts = {key: spec[key] for key in ("dim", "license", "max_tokens", "format", "media")}
    answer = embed(child, OURS, "short", spec={"name": OURS, "hub_id": "org/registered", **facts, "dim": 32})
    assert "error" not in answer, answer
    expected = theirs(published, "unime-v2-llava-onevision-8b", items("short"))
    assert furthest(torch.tensor(answer["result"]["vectors"]), expected) < BOUND
    assert answer["result"]["spec"]["hub_id"] == "org/registered"


# ------------------------------------------------------------------------------------------------------------- refusals


def test_pickled_shards_are_refused_before_they_are_fetched(
    child: Child, hub: LoopbackHub, published: dict[str, Published]
) -> None:
    hub.add(published["instructcir"].folder, "org/pickled")
    hub.requests.clear()
    answer = embed(child, "hf:org/pickled like instructcir-llava-phi35", "")
    assert answer["error"] == "UnsafeCheckpointError"
    assert "pytorch_model-00001-of-00002.bin" in answer["message"]
    assert "allow_pickle=True" in answer["message"]
    assert not any(name.endswith("-00002.bin") for name in hub.fetched())


def test_pickled_shards_of_a_folder_are_refused(published: dict[str, Published], tmp_path: Path) -> None:
    folder = published["instructcir"].folder
    with pytest.raises(UnsafeCheckpointError, match="allow_pickle=True"):
        zoo.load_model(folder, like="instructcir-llava-phi35")
    copy = tmp_path / "elsewhere"
    shutil.copytree(folder, copy)
    index = json.loads((copy / "pytorch_model.bin.index.json").read_text())
    index["weight_map"] = dict.fromkeys(index["weight_map"], "../stolen.bin")
    (copy / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(UnsafeCheckpointError, match="outside the folder"):
        zoo.load_model(copy, like="instructcir-llava-phi35", allow_pickle=True)


def test_a_missing_shard_is_said(published: dict[str, Published], tmp_path: Path) -> None:
    copy = tmp_path / "half"
    shutil.copytree(published["instructcir"].folder, copy)
    (copy / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(MissingWeightsError, match="half"):
        zoo.load_model(copy, like="instructcir-llava-phi35", allow_pickle=True)


def test_llave_is_no_text_model(child: Child, hub: LoopbackHub, tmp_path: Path) -> None:
    """Its configuration calls itself Qwen2; read as that, it would lose its vision layers without a word."""
    hub.requests.clear()
    answer = child.load("hf:org/LLaVE-2B")
    assert answer["error"] == "UnrecognisedCheckpointError"
    assert "LLaVE" in answer["message"]
    assert "model.safetensors" not in hub.fetched()
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava_qwen"}))
    with pytest.raises(UnrecognisedCheckpointError, match="LlavaQwenForCausalLM"):
        zoo.load_model(tmp_path, like="unime-llava-onevision-7b")


def test_cross_attention_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mllama"}))
    with pytest.raises(UnrecognisedCheckpointError, match=r"mmE5.*cross-attention"):
        zoo.load_model(tmp_path)


def test_another_family_is_refused(published: dict[str, Published]) -> None:
    with pytest.raises(UnrecognisedCheckpointError, match="llava_next"):
        zoo.load_model(published["onevision"].folder, like="e5-v-llava-next-8b")
    with pytest.raises(UnrecognisedCheckpointError, match="like="):
        zoo.load_model(published["next-llama3"].folder)
