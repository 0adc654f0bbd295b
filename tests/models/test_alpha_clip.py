"""Alpha-CLIP: the authors' files, held to their tower written out in torch's own layers.

`alpha_clip/model.py` of github.com/SunzeY/AlphaCLIP was run beside the zoo on such a folder: 3e-7 apart.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

import zoo
from tests.reference.base import stir
from zoo.errors import MissingWeightsError, UnrecognisedCheckpointError, UnsafeCheckpointError
from zoo.formats.open_clip import whole_model

SIZE, PATCH, WIDTH, HEADS = 32, 8, 32, 2
MODEL = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": SIZE, "layers": 2, "width": WIDTH, "head_width": WIDTH // HEADS, "patch_size": PATCH},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
MEAN, STD = (
    torch.tensor(v).view(3, 1, 1) for v in ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
)


def write(folder: Path, name: str = "clip_b16_grit1m_fultune_8xe.pth") -> dict[str, Tensor]:
    """A CLIP as open_clip writes it, and another vision tower by the authors' names."""
    (folder / "clip").mkdir()
    clip = stir(whole_model(MODEL))
    save_file(clip.state_dict(), folder / "clip" / "open_clip_model.safetensors", metadata={"format": "pt"})
    (folder / "clip" / "open_clip_config.json").write_text(json.dumps({"model_cfg": MODEL, "preprocess_cfg": {}}))
    tensors = stir(whole_model(MODEL).visual, seed=1).state_dict()
    tensors["conv1_alpha.weight"] = torch.randn(WIDTH, 1, PATCH, PATCH, generator=torch.Generator().manual_seed(2)) / 8
    theirs = {name.replace(".attn.in_proj_", ".attn.in_proj."): tensor for name, tensor in tensors.items()}
    torch.save(theirs, folder / name)
    return tensors


def tower(tensors: dict[str, Tensor], colours: Tensor, alpha: Tensor) -> Tensor:
    """The authors' forward pass of images `(batch, 3, H, W)` and alpha `(batch, 1, H, W)`, both normalised."""
    states = F.conv2d(colours, tensors["conv1.weight"], stride=PATCH)
    states = states + F.conv2d(alpha, tensors["conv1_alpha.weight"], stride=PATCH)
    states = states.flatten(2).transpose(1, 2)
    states = (
        torch.cat([tensors["class_embedding"].expand(len(states), 1, -1), states], 1) + tensors["positional_embedding"]
    )

    def norm(name: str, values: Tensor) -> Tensor:
        return F.layer_norm(values, (WIDTH,), tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    states = norm("ln_pre", states)
    for block in ("transformer.resblocks.0", "transformer.resblocks.1"):
        attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        names = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
        attention.load_state_dict({name: tensors[f"{block}.attn.{name}"] for name in names})
        read = norm(f"{block}.ln_1", states)
        states = states + attention(read, read, read)[0]
        inner = F.linear(
            norm(f"{block}.ln_2", states), tensors[f"{block}.mlp.c_fc.weight"], tensors[f"{block}.mlp.c_fc.bias"]
        )
        inner = inner * torch.sigmoid(1.702 * inner)
        states = states + F.linear(inner, tensors[f"{block}.mlp.c_proj.weight"], tensors[f"{block}.mlp.c_proj.bias"])
    return F.normalize(norm("ln_post", states[:, 0]) @ tensors["proj"], dim=-1)


def image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def close(a: Tensor, b: Tensor, atol: float = 1e-6) -> None:
    torch.testing.assert_close(a, b, atol=atol, rtol=0)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    folder = tmp_path_factory.mktemp("alpha")
    return folder, write(folder)


@pytest.fixture(scope="module")
def model(written: tuple[Path, dict[str, Tensor]]) -> zoo.Embedder:
    return zoo.load_model(written[0], allow_pickle=True)


def test_it_is_the_authors_tower(written: tuple[Path, dict[str, Tensor]], model: zoo.Embedder) -> None:
    """Images of the tower's own size, so that nothing is resized; masks of the README's form."""
    pixels = image(SIZE, SIZE)
    mask = np.zeros((SIZE, SIZE), bool)
    mask[3:20, 8:30] = True
    colours = (torch.from_numpy(pixels).permute(2, 0, 1) / 255 - MEAN) / STD
    shown = torch.stack([torch.from_numpy(mask).float(), torch.ones(SIZE, SIZE)])[:, None]
    with torch.inference_mode():
        theirs = tower(written[1], colours.expand(2, -1, -1, -1), (shown - 0.5) / 0.26)
    close(model.encode_regions(pixels, [zoo.Mask(mask), zoo.Box(0, 0, SIZE, SIZE)]), theirs)
    close(model.encode(pixels), theirs[1])
    assert (theirs[0] @ theirs[1]).item() < 0.99
    assert model.spec.modalities == {"image", "regions", "text"}


def test_without_a_weight_on_what_is_meant_it_is_clip(tmp_path: Path) -> None:
    write(tmp_path)
    clip = zoo.load_model(tmp_path / "clip")
    tensors = dict(clip.towers[0].encoder.tower.state_dict())
    tensors["conv1_alpha.weight"] = torch.zeros(WIDTH, 1, PATCH, PATCH)
    torch.save(
        {f"module.{name}": tensor for name, tensor in tensors.items()}, tmp_path / "clip_b16_grit1m_fultune_8xe.pth"
    )
    model = zoo.load_model(tmp_path, allow_pickle=True)
    pixels = [image(50, 70), image(40, 40, 1)]
    close(model.encode(pixels), clip.encode(pixels))
    close(model.encode("a red motorbike"), clip.encode("a red motorbike"), atol=0)
    close(model.encode_regions(pixels[1], [zoo.Box(0, 0, 9, 9)])[0], clip.encode(pixels[1]))  # square: the same crop
    assert model.logit_scale == clip.logit_scale


def test_a_mask_goes_where_its_image_goes(model: zoo.Embedder) -> None:
    """A tall image is made square by black at its sides; what is meant stays on what it means."""
    pixels = np.zeros((64, 32, 3), np.uint8)
    pixels[48:, :16] = 255
    read = model.towers[0].encoder.prepare_item(zoo.Item(image=pixels, regions=[zoo.Box(0, 48, 16, 64)]))
    assert (read.pixels[:, 25:, 9:15] > 200).all()
    assert torch.equal(read.alpha > 0.5, read.pixels[:1] > 127)
    assert read.alpha.sum().item() == pytest.approx(64, rel=0.05)


def test_a_batch_changes_nothing_and_it_is_saved(model: zoo.Embedder, tmp_path: Path) -> None:
    regions = [zoo.Box(0, 0, 20, 30), zoo.Point(40, 20), zoo.Polygon([(5, 5), (60, 8), (30, 40)])]
    pixels = image(50, 70)
    items: list[Any] = [pixels, *(zoo.Item(image=pixels, regions=[region]) for region in regions)]
    together = model.encode(items)
    close(together, torch.stack([model.encode(item) for item in items]))
    close(together[1:], model.encode_regions(pixels, regions))
    assert torch.equal(together, model.encode(items))
    again = zoo.load_model(model.save_pretrained(tmp_path / "saved"))
    close(again.encode(items), together)


def test_what_is_no_alpha_clip_is_refused_by_name(written: tuple[Path, dict[str, Tensor]], tmp_path: Path) -> None:
    with pytest.raises(UnsafeCheckpointError, match="allow_pickle"):
        zoo.load_model(written[0])
    tensors = dict(written[1])
    name = "clip_l14_grit20m_fultune_2xe.pth"
    cases = {
        "no_alpha": (
            {k: v for k, v in tensors.items() if k != "conv1_alpha.weight"},
            MissingWeightsError,
            "conv1_alpha",
        ),
        "adapter": (
            {**tensors, "transformer.resblocks.0.attn.in_proj.lora_A": torch.ones(2)},
            UnrecognisedCheckpointError,
            "adapter",
        ),
        "spare": ({**tensors, "extra.weight": torch.ones(2)}, MissingWeightsError, "extra.weight"),
        "shape": ({**tensors, "proj": torch.ones(WIDTH, 8)}, MissingWeightsError, "proj"),
        "nan": ({**tensors, "proj": tensors["proj"] * float("nan")}, MissingWeightsError, "NaN"),
    }
    for case, (held, error, said) in cases.items():
        folder = tmp_path / case
        folder.mkdir()
        _copy(written[0] / "clip", folder / "clip")
        torch.save(held, folder / name)
        with pytest.raises(error, match=said):
            zoo.load_model(folder, allow_pickle=True)
    other = tmp_path / "no_clip"
    other.mkdir()
    torch.save(tensors, other / name)
    with pytest.raises(UnrecognisedCheckpointError, match=r"open_clip_config.json"):
        zoo.load_model(other, allow_pickle=True)
    torch.save(tensors, tmp_path / "shape" / "clip_b16_second.pth")
    with pytest.raises(UnrecognisedCheckpointError, match="several"):
        zoo.load_model(tmp_path / "shape", allow_pickle=True)
    config = tmp_path / "spare" / "clip" / "open_clip_config.json"
    config.write_text(json.dumps({"model_cfg": {**MODEL, "quick_gelu": False}, "preprocess_cfg": {}}))
    with pytest.raises(UnrecognisedCheckpointError, match="QuickGELU"):
        zoo.load_model(tmp_path / "spare", allow_pickle=True)


def _copy(source: Path, target: Path) -> None:
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
