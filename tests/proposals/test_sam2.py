"""SAM 2's automatic masks: against the steps of transformers' own pipeline, which holds all masks at once."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from tests.reference.base import stir
from zoo.errors import ArgumentError, MissingWeightsError, UnrecognisedCheckpointError
from zoo.inputs.regions import Box, mask_of
from zoo.proposals import Sam2

HIERA = {
    "model_type": "sam2_hiera_det_model",
    "hidden_size": 8,
    "image_size": [128, 128],
    "blocks_per_stage": [1, 1, 2, 1],
    "embed_dim_per_stage": [8, 16, 32, 64],
    "num_attention_heads_per_stage": [1, 1, 2, 4],
    "window_size_per_stage": [8, 4, 4, 4],
    "global_attention_blocks": [3],
    "window_positional_embedding_background_size": [4, 4],
}
TINY = {
    "vision_config": {
        "backbone_config": HIERA,
        "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
        "fpn_hidden_size": 32,
    },
    "prompt_encoder_config": {"hidden_size": 32, "image_size": 128, "mask_input_channels": 4},
    "mask_decoder_config": {"hidden_size": 32, "mlp_dim": 64, "num_attention_heads": 2, "iou_head_hidden_dim": 16},
}
CHOICE = {"score": 0.4, "steady": 0.1, "overlap": 0.8}  # of a network with random weights


def image(height: int = 40, width: int = 60) -> np.ndarray:
    pixels = np.full((height, width, 3), 90, np.uint8)
    pixels[8:25, 10:30] = (250, 30, 20)
    pixels[20:38, 34:52] = (20, 60, 240)
    return pixels


def tiny_sam2(folder: Path) -> None:
    """A SAM 2 as transformers saves one."""
    torch.manual_seed(5)  # for its table of positions, which is no parameter
    stir(transformers.Sam2Model(transformers.Sam2Config(**TINY)), seed=5).save_pretrained(folder)
    transformers.Sam2ImageProcessor(size={"height": 128, "width": 128}).save_pretrained(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sam2")
    tiny_sam2(folder)
    return folder


def in_the_library(folder: Path, pixels: np.ndarray, side: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Scores and masks by the steps of transformers' pipeline, all masks at once, but for the places of the grid.

    Its own are scaled as SAM 1's images were, by the longest side, and cover a part of an image that is no square (5.23).
    """
    model = transformers.Sam2Model.from_pretrained(folder).eval()
    images = transformers.Sam2ImageProcessor.from_pretrained(folder)
    height, width = pixels.shape[:2]
    points = [[[(x + 0.5) / side * width, (y + 0.5) / side * height]] for y in range(side) for x in range(side)]
    processor = transformers.Sam2Processor(images)
    read = processor(images=[pixels], input_points=[points], input_labels=[[[1]] * len(points)], return_tensors="pt")
    with torch.inference_mode():
        out = model(**{key: value for key, value in read.items() if key != "original_sizes"})
        masks = images.post_process_masks(out.pred_masks, [[height, width]], binarize=False)[0]
        frame = torch.tensor([0.0, 0.0, width, height])
        kept = images.filter_masks(masks, out.iou_scores[0], (height, width), frame, CHOICE["score"], CHOICE["steady"])
        masks, scores, *_ = images.post_process_for_mask_generation(*kept, CHOICE["overlap"])
    return scores.numpy(), [np.asarray(mask) for mask in masks]


@pytest.mark.parametrize("size", [(40, 60), (90, 33)])
def test_masks_are_those_of_transformers_steps(folder: Path, size: tuple[int, int]) -> None:
    pixels = image(*size)
    ours = list(Sam2(folder, side=6, most=1000, device="cpu", **CHOICE).propose(pixels))
    scores, masks = in_the_library(folder, pixels, 6)
    assert 3 < len(ours) == len(masks)
    np.testing.assert_allclose(
        [one.score for one in ours], scores, atol=1e-4
    )  # places are rounded on another way there
    for one, mask in zip(ours, masks, strict=True):
        assert (one.region.pixels == mask).all()


def test_a_proposal_is_a_mask_and_the_box_around_it(folder: Path) -> None:
    pixels = image()
    sam = Sam2(folder, side=6, most=3, device="cpu", **CHOICE)
    found = list(sam.propose(pixels))
    assert 0 < len(found) <= 3
    for one in found:
        mask = mask_of([one.region], pixels)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert one.box == Box(columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    assert sam.config() == {"kind": "sam2", "weights": sam.opened.digest, "side": 6, "most": 3, **CHOICE}
    assert list(Sam2(folder, side=6, score=1.0, device="cpu").propose(pixels)) == []


def test_a_video_checkpoint_opens_as_well(folder: Path, tmp_path: Path) -> None:
    """SAM 2.1's repositories call themselves "sam2_video", and hold a memory that images do not need."""
    import json

    from safetensors.torch import load_file, save_file

    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "sam2_video", "num_maskmem": 7}
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights = load_file(folder / "model.safetensors") | {"memory_temporal_positional_encoding": torch.ones(7, 1, 1, 4)}
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    one, other = (Sam2(place, side=4, device="cpu", **CHOICE) for place in (folder, tmp_path))
    for a, b in zip(one.propose(image()), other.propose(image()), strict=True):
        assert (a.box, a.score) == (b.box, b.score)


def test_what_is_no_sam_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    for wrong in ({"side": 0}, {"side": 2.5}, {"most": -1}, {"steady": 2}):
        with pytest.raises(ArgumentError, match=next(iter(wrong))):
            Sam2(folder, **wrong)
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    transformers.Sam2ImageProcessor(size={"height": 64, "width": 64}).save_pretrained(tmp_path)
    with pytest.raises(UnrecognisedCheckpointError, match="128 x 128"):
        Sam2(tmp_path, device="cpu")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(MissingWeightsError, match="never loaded with random weights"):
        Sam2(tmp_path, device="cpu")
