"""What the authors of embedders on Qwen2-VL do with an item: their prompts and poolers, typed out from their repositories."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from tests.reference.qwen2_vl import Published, Row, last, states, write_qwen2_vl
from tests.reference.vl_utils import fetched
from zoo.inputs.item import Item

TOKEN = 28 * 28


def qwen_embed(item: Item) -> Row:
    """GmeQwen2VL.embed of gme_inference.py; Ops-MM's `embed_batch` gives the same string for a text and an image."""
    instruction = item.instruction or "You are a helpful assistant."
    input_str = ""
    if item.image is not None:
        input_str += "<|vision_start|><|image_pad|><|vision_end|>"
    if item.text is not None:
        input_str += item.text
    msg = f"<|im_start|>system\n{instruction}<|im_end|>\n<|im_start|>user\n{input_str}<|im_end|>\n<|im_start|>assistant\n<|endoftext|>"
    return Row(msg, [item.image] if item.image is not None else [])


def ops_mm(item: Item) -> Row:
    """Videos are their eight frames as images (OpsMMEmbeddingWrapper.embed_batch)."""
    if item.video is None:
        return qwen_embed(item)
    frames = [Image.fromarray(frame) for frame in cut(item.video)]
    return Row(qwen_embed(replace(item, video=None, image=1)).prompt.replace(IMAGE, IMAGE * len(frames)), frames)


IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"


def gve(item: Item) -> Row:
    """Qwen2.5-VL's template with a system turn, videos before images before text, and the end token (mteb, gve_models.py)."""
    row = qwen_embed(replace(item, video=None))
    if item.video is None:
        return row
    user = "<|im_start|>user\n"
    prompt = row.prompt.replace(user, user + "<|vision_start|><|video_pad|><|vision_end|>")
    return Row(prompt, row.images, [np.stack(cut(item.video))])


def rzen(item: Item) -> Row:
    """RzenEmbed.get_fused_embeddings and embed: the instruction stands directly before the text, after the images."""
    words = (item.instruction or "") + (item.text or "")
    return ops_mm(replace(item, instruction=None, text=words))


def vlm2vec(item: Item) -> Row:
    """process_input_text of src/model/processor.py, and " \\n" of image tasks as in src/data/eval_dataset/image_*.py."""
    prompt = item.instruction or ""
    if item.text:
        prompt = prompt + " " + item.text if prompt else item.text  # text candidates are raw strings
    if item.video is not None:
        prompt = "<|video_pad|>" + " " + prompt
    if item.image is not None:
        prompt = ("<|image_pad|>" + " " + prompt).replace(" \n", "\n")
    videos = [np.stack(cut(item.video))] if item.video is not None else []
    return Row(prompt, [item.image] if item.image is not None else [], videos)


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
    media = IMAGE if item.image is not None else ""
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
    media = IMAGE if item.image is not None else ""
    return Row(
        f"<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{media}{asked}<|im_end|>\n"
        "<|im_start|>assistant\n<emb>.<|im_end|>\n<|im_start|>assistant\n",
        [item.image] if item.image is not None else [],
    )


def unite(item: Item) -> Row:
    """PROMPT_TEMPLATE["UNITE"] of unite/prompt_template.py and the messages of inference/inference_demo.py."""
    text = f"{item.instruction} {item.text or ''}".strip(" ") if item.instruction else item.text
    media = "<|vision_start|><|video_pad|><|vision_end|>" if item.video is not None else ""
    media = IMAGE if item.image is not None else media
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
        fetch, fetch_frames: factor and budget of the resize before the processor, of images and of each frame of a list.
        kind: of the checkpoint.
    """

    like: str
    row: Callable[[Item], Row]
    pixels: tuple[int, int]
    positions: str = "cumulative"
    videos: str = ""
    frame_pixels: tuple[int, int] | None = None
    bidirectional: bool = False
    fetch: tuple[int, int, int] | None = None
    fetch_frames: tuple[int, int, int] | None = None
    kind: str = "qwen2_vl"

    def fetched(self, row: Row) -> Row:
        """The row with its images, and frames of videos, resized for the first time; frames are made an even number."""
        if self.fetch:
            row = replace(row, images=[fetched(image, *self.fetch) for image in row.images])
        if self.fetch_frames:
            videos = [
                [np.asarray(fetched(Image.fromarray(f), *self.fetch_frames)) for f in video] for video in row.videos
            ]
            row = replace(row, videos=[np.stack(video + video[-1:] * (len(video) % 2)) for video in videos])
        return row

    def vectors(self, published: Published, some: list[Item], side: str = "left") -> Tensor:
        """What the authors' code gives; where frames are images, rows with videos are a batch of their own."""
        if self.row is rzen and self.frame_pixels and any(item.video is not None for item in some):
            stills = [item for item in some if item.video is None]
            videos = [item for item in some if item.video is not None]
            moving = replace(self, pixels=self.frame_pixels, frame_pixels=None)
            parts = [self.vectors(published, stills, side)] if stills else []
            return torch.cat([*parts, moving.vectors(published, videos, side)])
        hidden, ids, mask = states(
            published,
            [self.fetched(self.row(item)) for item in some],
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


USUAL = (28, 4 * TOKEN, 16384 * TOKEN)  # of `fetch_image`
FAMILIES = {
    family.like: family
    for family in (
        Family("gme-qwen2vl-2b", qwen_embed, (256 * TOKEN, 1280 * TOKEN), "arange", fetch=USUAL),
        Family("ops-mm-embedding-v1-2b", ops_mm, (256 * TOKEN, 1280 * TOKEN), "mrope", videos="short"),
        Family(
            "rzenembed-qwen2vl-7b",
            rzen,
            (256 * TOKEN, 1280 * TOKEN),
            "arange",
            videos="short",
            frame_pixels=(160 * TOKEN, 180 * TOKEN),
            fetch=USUAL,
        ),
        Family("vlm2vec-v2-qwen2vl-2b", vlm2vec, (4 * TOKEN, 1280 * TOKEN), videos="all"),
        Family("vlm2vec-qwen2vl-7b", vlm2vec, (4 * TOKEN, 1280 * TOKEN)),
        Family(
            "u-marvel-qwen2vl-7b", u_marvel, (4 * TOKEN, 300 * TOKEN), "arange", bidirectional=True, kind="u-marvel"
        ),
        Family(
            "u-marvel-qwen3vl-4b",
            u_marvel_qwen3,
            (64 * 32 * 32, 16384 * 32 * 32),  # of the processor's files
            "arange",
            bidirectional=True,
            fetch=(28, 4 * TOKEN, 300 * TOKEN),  # collators/qwen3_vision_process.py
            kind="qwen3_vl",
        ),
        Family("lamra-ret-qwen2vl-7b", lamra, (4 * TOKEN, 300 * TOKEN), "arange", kind="u-marvel"),
        Family(
            "unite-base-qwen2vl-2b",
            unite,
            (256 * TOKEN, 1280 * TOKEN),
            "arange",
            videos="short",
            fetch=USUAL,
            fetch_frames=(28, 4 * TOKEN, 360 * 420),  # unite/model/qwen_vl_utils, as version 0.0.8
        ),
        Family(
            "gve-qwen2.5vl-3b",
            gve,
            (4 * TOKEN, 16384 * TOKEN),
            "mrope",
            videos="all",
            frame_pixels=(128 * TOKEN, 200 * TOKEN),
            kind="qwen2_5_vl",
        ),
    )
}


def write_marvel(folder: Path) -> Published:
    """U-MARVEL: merged weights with the learned temperature among them; its tokenizer is the base's, without added tokens."""
    import json

    from safetensors.torch import load_file, save_file

    published = write_qwen2_vl(folder, tied=False, seed=3)
    path = published.folder / "model.safetensors"
    save_file({**load_file(path), "sim.temp": torch.tensor(0.031)}, path, {"format": "pt"})
    config = json.loads((published.folder / "config.json").read_text())
    config["architectures"] = ["Qwen2VLRetForConditionalGeneration"]
    (published.folder / "config.json").write_text(json.dumps(config))
    published.tokenizer.add_tokens(["<emb>", "<instruction_start>", "<instruction_end>"])
    return published


def furthest(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return (a - b).abs().max().item()
