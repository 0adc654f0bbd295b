"""VIRTUE checkpoints as they are published, and the authors' forward pass written out plainly.

SAM's part is `Sam2Model.forward` with a hook on the transformer of its mask decoder; the zoo calls the parts of it instead.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import Normalize, Resize
from transformers import Qwen2VLImageProcessor, Sam2Config, Sam2Model

from tests.reference.base import stir
from tests.reference.qwen2_vl import Published, write_qwen2_vl
from zoo.models.virtue import tiny_sam2

PIXELS = (4 * 28 * 28, 1280 * 28 * 28)
SIDE, WIDTH, TOKENS = 128, 32, 4
SAM_REPO = "facebook/sam2.1-hiera-base-plus"
SETTINGS = {
    "enabled": True,
    "config_path": "./sam2.1/sam2.1_hiera_b+.yaml",
    "checkpoint": "./sam2_checkpoints/sam2.1_hiera_base_plus.pt",
    "points_per_side": 3,
    "feature_levels": 2,
}


@dataclass
class Whole:
    """A published VIRTUE: the language model's folder, SAM's folder, and the networks they were written from."""

    vlm: Published
    sam_folder: Path
    sam: nn.Module
    reduce: nn.Module
    project: nn.Module


@dataclass
class Row:
    """One item just before the authors' processor: its prompt, its image, and what is handed to SAM in its square of pixels."""

    prompt: str
    image: np.ndarray | None = None
    points: Sequence[tuple[float, float]] = ()
    boxes: Sequence[tuple[float, float, float, float]] = ()


def write_virtue(root: Path, *, width: int = WIDTH) -> Whole:
    """Both repositories: config.json with `virtue_sam`, weights and connector as pickles; SAM as transformers writes it.

    Args:
        width: the connector's, another one than the language model's for a checkpoint that does not fit.
    """
    vlm = write_qwen2_vl(root / "virtue")
    torch.save(load_file(vlm.folder / "model.safetensors"), vlm.folder / "pytorch_model.bin")
    (vlm.folder / "model.safetensors").unlink()
    change(vlm.folder, SETTINGS)
    torch.manual_seed(7)
    side = tiny_sam2()["vision_config"]["fpn_hidden_size"]
    reduce = nn.Conv2d(side, side, 4, 4)
    project = nn.Sequential(nn.Linear(side, side), nn.GELU(), nn.Linear(side, width))
    held = {"sam2_reducer": reduce.state_dict(), "sam2vlm_layer": project.state_dict()}
    torch.save(held, vlm.folder / "sam2_reducer_and_vlm_layer.pth")
    sam = stir(Sam2Model(Sam2Config(**tiny_sam2())), 8).eval()
    matrix = sam.prompt_encoder.shared_embedding.positional_embedding
    sam.shared_image_embedding.positional_embedding.copy_(matrix)
    folder = root / "sam"
    folder.mkdir()
    tensors = {name: tensor.clone() for name, tensor in sam.state_dict().items()}
    del tensors["prompt_encoder.shared_embedding.positional_embedding"]  # the same matrix again
    tensors["memory_encoder.projection.weight"] = torch.zeros(3)  # of videos
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    config = json.dumps({**sam.config.to_dict(), "model_type": "sam2_video"})
    (folder / "config.json").write_text(config)
    return Whole(vlm, folder, sam, reduce, project)


def change(folder: Path, settings: Any) -> None:
    """Writes `virtue_sam` anew."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "virtue_sam": settings}))


def vectors(whole: Whole, rows: Sequence[Row]) -> Tensor:
    """Unit vectors `(rows, width)`, each row by itself."""
    return torch.cat([_vector(whole, row) for row in rows])


@torch.inference_mode()
def _vector(whole: Whole, row: Row) -> Tensor:
    model, encode = whole.vlm.model.model, whole.vlm.tokenizer.encode
    prompt, image_id = row.prompt, whole.vlm.id("<|image_pad|>")
    if row.image is None:
        ids = torch.tensor([encode(prompt, add_special_tokens=False).ids])
        places = torch.arange(ids.shape[1]).expand(3, 1, -1)
        states = model.language_model(input_ids=ids, position_ids=places).last_hidden_state
        return F.normalize(states[:, -1], dim=-1)
    size = {"shortest_edge": PIXELS[0], "longest_edge": PIXELS[1]}
    processor = Qwen2VLImageProcessor(size=size)
    made = processor(images=[row.image], return_tensors="pt")
    grid = made["image_grid_thw"]
    prompt = prompt.replace("<|image_pad|>", "<|image_pad|>" * (int(grid.prod()) // 4))
    ids = torch.tensor([encode(prompt, add_special_tokens=False).ids])
    embeds = model.get_input_embeddings()(ids)
    embeds[ids == image_id] = model.visual(made["pixel_values"], grid_thw=grid).pooler_output
    height, width = (int(part) * 14 for part in grid[0, 1:])
    # As the processor has it before it cuts patches: resized, scaled and normalised.
    pixels = torch.from_numpy(np.array(row.image)).permute(2, 0, 1)
    assert pixels.shape[1:] == (height, width), "take images of a size that the processor keeps"
    pixels = Normalize(processor.image_mean, processor.image_std)(pixels.float() / 255)
    segments = whole.project(whole.reduce(_image_side(whole.sam, pixels, row)).flatten(2).transpose(1, 2))
    places = torch.cat([torch.zeros(TOKENS, dtype=torch.long), torch.arange(ids.shape[1])]).expand(3, 1, -1)
    states = model.language_model(inputs_embeds=torch.cat([segments, embeds], 1), position_ids=places)
    return F.normalize(states.last_hidden_state[:, -1], dim=-1)


def _image_side(sam: nn.Module, pixels: Tensor, row: Row) -> Tensor:
    """The image's side of the mask decoder `(1, width, height, width)`, caught as a whole SAM runs (sam2/utils/transforms.py)."""
    square = Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])(Resize((SIDE, SIDE))(pixels))
    prompts: dict[str, Tensor] = {}
    if row.boxes:
        prompts["input_boxes"] = torch.tensor([row.boxes])
    points = row.points
    if not points and not row.boxes:
        thirds = [SIDE * part for part in (1 / 6, 3 / 6, 5 / 6)]
        points = [(x, y) for y in thirds for x in thirds]
    if points:
        prompts["input_points"] = torch.tensor([[points]])
        prompts["input_labels"] = torch.ones(1, 1, len(points), dtype=torch.int)
    caught: list[Tensor] = []
    hook = sam.mask_decoder.transformer.register_forward_hook(lambda _, __, out: caught.append(out[1]))
    try:
        sam(pixel_values=square[None], **prompts)
    finally:
        hook.remove()
    places = SIDE // 16
    return caught[0][:, 0].transpose(1, 2).reshape(1, -1, places, places)


def photo(height: int, width: int, seed: int) -> np.ndarray:
    """Noise with a coarse structure, uint8 `(height, width, 3)`."""
    coarse = np.random.default_rng(seed).integers(0, 255, (7, 7, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
