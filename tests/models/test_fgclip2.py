"""FG-CLIP 2: folders as its authors publish them, held to transformers' SigLIP 2 and torchvision's RoIAlign.

`modeling_fgclip2.py` of github.com/360CVGroup/FG-CLIP was run beside the zoo on such folders: texts for all three targets, images
and boxes agree to 3e-7.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import normalize
from torchvision.ops import roi_align
from transformers.models.siglip2.modeling_siglip2 import Siglip2MultiheadAttentionPoolingHead

import zoo
from tests.reference.base import TEXTS, stir
from tests.reference.transformers_models import SMALL, _gemma_like
from zoo.encoders.fgclip2 import BUDGETS, aligned, budget_of
from zoo.errors import (
    ArgumentError,
    InvalidRegionError,
    MissingWeightsError,
    UnreadSettingError,
    UnrecognisedCheckpointError,
)

KEEP, LONG = 8, 48
PROCESSOR = {
    "do_convert_rgb": None,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "Siglip2ImageProcessorFast",
    "image_std": [0.5, 0.5, 0.5],
    "max_num_patches": 256,
    "patch_size": 16,
    "processor_class": "Siglip2Processor",
    "resample": 2,
    "rescale_factor": 1 / 255,
}
CODE = {"AutoConfig": "configuration_fgclip2.Fgclip2Config", "AutoModelForCausalLM": "modeling_fgclip2.Fgclip2Model"}


class Reference(nn.Module):
    """SigLIP 2 of transformers and the three heads, put together as the paper and the authors' README say."""

    def __init__(self, config: transformers.Siglip2Config) -> None:
        super().__init__()
        self.whole = transformers.Siglip2Model(config)
        self.dense_feature_head = Siglip2MultiheadAttentionPoolingHead(config.vision_config)
        width = config.text_config.hidden_size
        self.longtext_head, self.boxtext_head = nn.Linear(width, width), nn.Linear(width, width)
        self.ori, self.res = nn.Embedding(LONG, width), nn.Embedding(LONG, width)

    def tensors(self) -> dict[str, Tensor]:
        """By the names of the authors' files."""
        names = {"whole.": "", "ori.": "text_model.embeddings.position_embedding_ori."}
        names["res."] = "text_model.embeddings.position_embedding_res."
        found = {}
        for name, tensor in self.state_dict().items():
            prefix = next((p for p in names if name.startswith(p)), "")
            found[names.get(prefix, "") + name.removeprefix(prefix)] = tensor.contiguous()
        return found

    def texts(self, target: str, batch: dict[str, Tensor]) -> Tensor:
        model = self.whole.text_model
        if target == "image":
            return model(**batch).pooler_output
        if target == "regions":
            return self.boxtext_head(model(**batch).last_hidden_state[:, -1])
        # Long: the position table is put together beforehand, for transformers' own forward pass.
        short, longer = model.embeddings.position_embedding, nn.Embedding(LONG, self.ori.embedding_dim)
        longer.weight = nn.Parameter(torch.cat([self.ori.weight[:KEEP], self.res.weight[KEEP:]]))
        places, model.embeddings.position_ids = model.embeddings.position_ids, torch.arange(LONG)[None]
        try:
            model.embeddings.position_embedding = longer
            return self.longtext_head(model(**batch).last_hidden_state[:, -1])
        finally:
            model.embeddings.position_embedding, model.embeddings.position_ids = short, places

    def regions(self, pixels: np.ndarray, batch: dict[str, Tensor], boxes: list[list[float]]) -> Tensor:
        states = self.whole.vision_model(**batch).last_hidden_state
        rows, columns = batch["spatial_shapes"][0].tolist()
        real = states[:, : rows * columns]  # of one image, so that there is no filler to mask
        hidden = self.dense_feature_head.attention(real, real, real)[0]
        hidden = hidden + self.dense_feature_head.mlp(self.dense_feature_head.layernorm(hidden))
        grid = hidden[0].T.reshape(1, -1, rows, columns)
        height, width = pixels.shape[:2]
        sides = (width, columns), (height, rows)
        scaled = torch.tensor([[x / sides[i % 2][0] * sides[i % 2][1] for i, x in enumerate(box)] for box in boxes])
        places = torch.cat([torch.zeros(len(boxes), 1), scaled], 1)
        return roi_align(grid, places, (1, 1), 1.0, -1, True)[..., 0, 0]


def write(folder: Path, *, mask: bool = False) -> Reference:
    vocabulary = _gemma_like(folder)
    if not mask:
        path = folder / "tokenizer_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "model_input_names": ["input_ids"]}))
    text = {**SMALL, "vocab_size": vocabulary, "max_position_embeddings": 32, "projection_size": 32}
    text |= {"bos_token_id": None, "eos_token_id": None}
    vision = {**SMALL, "patch_size": 16, "num_patches": 64}
    reference = stir(Reference(transformers.Siglip2Config(text_config=text, vision_config=vision))).eval()
    save_file(reference.tensors(), folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "model_type": "fgclip2",
        "architectures": ["Fgclip2Model"],
        "auto_map": CODE,
        "text_config": {**text, "model_type": "fgclip2_text_model", "keep_len": KEEP, "longtext_len": LONG},
        "vision_config": {**vision, "model_type": "fgclip2_vision_model"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return reference


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Reference]:
    folder = tmp_path_factory.mktemp("fgclip2")
    return folder, write(folder)


@pytest.fixture(scope="module")
def model(written: tuple[Path, Reference]) -> zoo.Embedder:
    return zoo.load_model(written[0])


def image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def close(a: Tensor, b: Tensor, atol: float = 1e-6) -> None:
    torch.testing.assert_close(a, b, atol=atol, rtol=0)


def tokens(folder: Path, texts: list[str], longest: int) -> dict[str, Tensor]:
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)  # AutoTokenizer would ask about the code
    names = json.loads((folder / "tokenizer_config.json").read_text()).get("model_input_names", ["attention_mask"])
    batch = tokenizer(
        [text.lower() for text in texts],
        padding="max_length",
        truncation=True,
        max_length=longest,
        return_tensors="pt",
        return_attention_mask="attention_mask" in names,
    )
    return {name: batch[name] for name in ("input_ids", "attention_mask") if name in batch}


def patches(pixels: np.ndarray) -> dict[str, Tensor]:
    """As the README's `determine_max_value` says."""
    own = (pixels.shape[1] // 16) * (pixels.shape[0] // 16)
    most = 1024 if own > 784 else 784 if own > 576 else 576 if own > 256 else 256 if own > 128 else 128
    return dict(
        transformers.Siglip2ImageProcessor()(images=Image.fromarray(pixels), max_num_patches=most, return_tensors="pt")
    )


@pytest.mark.parametrize("target", ["image", "image-long", "regions"])
@pytest.mark.parametrize("mask", [False, True])
def test_texts_have_a_vector_for_each_target(tmp_path: Path, target: str, mask: bool) -> None:
    reference = write(tmp_path, mask=mask)
    model = zoo.load_model(tmp_path)
    texts = list(TEXTS)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the longest is truncated
        theirs = normalize(
            reference.texts(target, tokens(tmp_path, texts, LONG if target == "image-long" else 32)), dim=-1
        )
        ours = model.encode(texts, against=target)
    close(ours, theirs)
    close(model.encode("Kitty", against=target), ours[1])  # lower-cased, and alone
    others = [model.encode("kitty", against=other) for other in model.spec.targets if other != target]
    assert all((ours[1] @ other).item() < 0.99 for other in others)


@pytest.mark.parametrize("size", [(60, 90), (300, 200), (400, 500), (500, 700)])
def test_images_and_boxes(written: tuple[Path, Reference], model: zoo.Embedder, size: tuple[int, int]) -> None:
    pixels, (height, width) = image(*size), size
    boxes = [[0, 0, width, height], [3.5, 2, 40, 50.2], [10, 10, 11, 11], [width - 9, height - 30, width, height]]
    with torch.inference_mode():
        batch = patches(pixels)
        whole = normalize(written[1].whole.vision_model(**batch).pooler_output, dim=-1)
        regions = normalize(written[1].regions(pixels, batch, boxes), dim=-1)
    close(model.encode(pixels), whole[0])
    close(model.encode_regions(pixels, [zoo.Box(*box) for box in boxes]), regions)


def test_the_budget_is_the_authors(model: zoo.Embedder) -> None:
    for own, most in ((1, 128), (128, 128), (129, 256), (256, 256), (257, 576), (577, 784), (784, 784), (785, 1024)):
        assert budget_of(16, 16 * own, 16) == most
    assert budget_of(16_000, 16_000, 16) == BUDGETS[-1] == 1024
    read = model.towers[0].encoder.prepare_item(zoo.Item(image=image(16, 16)))
    assert len(read.values) <= 128


def test_aligned_adds_up_and_has_its_middle_where_the_box_has() -> None:
    for low, high, cells in ((0.0, 9.0, 9), (2.3, 2.6, 7), (0.0, 0.2, 5), (4.9, 5.0, 5), (1.25, 6.5, 8)):
        weights = aligned(low, high, cells)
        assert weights.sum().item() == pytest.approx(1, abs=1e-6)
        assert (weights >= 0).all()
        if low >= 0.5 and high <= cells - 0.5:
            middle = (weights * (torch.arange(cells) + 0.5)).sum().item()
            assert middle == pytest.approx((low + high) / 2, abs=1e-5)


def test_masks_points_and_several_boxes_are_means_of_what_they_cover(model: zoo.Embedder) -> None:
    pixels = image(96, 128)
    pixels[20:50, 30:90] = (250, 10, 10)
    everything = np.ones((96, 128), bool)
    encoder = model.towers[0].encoder
    read = encoder.prepare_item(zoo.Item(image=pixels, regions=[zoo.Mask(everything)]))
    close(read.weights, torch.full_like(read.weights, 1 / len(read.weights)))
    half = everything.copy()
    half[:, 64:] = False
    rows, columns = read.grid
    inside = encoder.prepare_item(zoo.Item(image=pixels, regions=[zoo.Mask(half)])).weights.reshape(rows, columns)
    assert (inside[:, columns // 2 + 1 :] == 0).all()
    assert inside.sum().item() == pytest.approx(1, abs=1e-6)
    both = model.encode_regions(pixels, [[zoo.Box(0, 0, 64, 96), zoo.Box(64, 0, 128, 96)], [zoo.Mask(everything)]])
    close(*both)
    red = zoo.Mask((pixels == (250, 10, 10)).all(-1))
    point, thing = (
        encoder.prepare_item(zoo.Item(image=pixels, regions=[one])).weights for one in (zoo.Point(60, 35), red)
    )
    assert torch.minimum(point, thing).sum() > 0.9
    with pytest.raises(InvalidRegionError, match="outside"):
        model.encode_regions(pixels, [zoo.Box(200, 0, 220, 30)])


def test_a_batch_changes_nothing_and_an_image_goes_through_once(model: zoo.Embedder) -> None:
    items: list[Any] = [
        image(60, 90, 1),
        zoo.Item(image=image(300, 200, 2), regions=[zoo.Box(5, 5, 90, 120)]),
        image(200, 300, 3),
        zoo.Item(image=image(60, 90, 1), regions=[zoo.Box(1, 1, 30, 30)]),
    ]
    together = model.encode(items, batch_size=4)
    close(together, torch.stack([model.encode(item) for item in items]))
    assert torch.equal(together, model.encode(items, batch_size=4))
    seen = []
    handle = model.towers[0].encoder.tower.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(len(kwargs["spatial_shapes"])), with_kwargs=True
    )
    try:
        model.encode_regions(image(60, 90), [zoo.Box(x, 0, x + 20, 40) for x in range(30)])
    finally:
        handle.remove()
    assert sum(seen) == len(seen) <= 2  # the first window is read while the model runs


def test_texts_of_several_targets_in_one_batch(model: zoo.Embedder) -> None:
    encoders = {target: model.with_against(target).towers[1].encoder for target in model.spec.targets}
    reads = [
        encoders[target].prepare_item(zoo.Item(text="a red cup"))
        for target in ("regions", "image", "image-long", "image")
    ]
    with torch.inference_mode():
        found = normalize(encoders["image"](encoders["image"].collate(reads)).states[:, 0], dim=-1)
    for row, target in zip(found, ("regions", "image", "image-long", "image"), strict=True):
        close(row, model.encode("a red cup", against=target))


def test_the_target_is_kept_shared_and_part_of_the_fingerprint(model: zoo.Embedder, tmp_path: Path) -> None:
    other = model.with_against("regions")
    assert (model.against, other.against) == ("image", "regions")
    assert other.towers[1].encoder.tower is model.towers[1].encoder.tower
    close(other.encode("a red cup"), model.encode("a red cup", against="regions"))
    assert torch.equal(other.encode(image(60, 90)), model.encode(image(60, 90)))
    mine, theirs = model.fingerprint(), other.fingerprint()
    assert {name for name in mine if mine[name] != theirs[name]} == {"against"}
    again = zoo.load_model(other.save_pretrained(tmp_path / "saved"))
    assert (again.against, again.spec.targets) == ("regions", model.spec.targets)
    close(again.encode("a red cup"), other.encode("a red cup"))
    assert zoo.load_model(tmp_path / "saved", against="image").against == "image"
    other.against = "image-long"
    long_text = " ".join(["cup"] * 12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert other.towers[1].encoder.cut(zoo.Item(text=long_text)) is None
    assert model.towers[1].encoder.cut(zoo.Item(text=long_text)).tokens == 32


def test_other_targets_and_other_models_are_refused_by_name(model: zoo.Embedder) -> None:
    with pytest.raises(ArgumentError, match=r"'video'.*'image', 'image-long', 'regions'"):
        model.encode("a cup", against="video")
    with pytest.raises(ArgumentError, match="clip-test has one vector"):
        zoo.build_model("clip-test").encode("a cup", against="image")
    with pytest.raises(ArgumentError, match="write one of"):
        model.against = "box"
    with pytest.raises(ArgumentError, match="reads regions by itself"):
        model.with_region_rule("dense")


def changed(folder: Path, other: Path, **config: Any) -> Path:
    for path in folder.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    (other / "config.json").write_text(json.dumps({**json.loads((folder / "config.json").read_text()), **config}))
    return other


@pytest.mark.parametrize(
    ("part", "key", "value", "error", "said"),
    [
        ("text_config", "pool", "mean", UnreadSettingError, "text_config.pool"),
        ("vision_config", "num_hidden_layers", 3, MissingWeightsError, "image tower"),
        ("vision_config", "num_hidden_layers", 1, MissingWeightsError, "more layers"),
        ("text_config", "longtext_len", 50, MissingWeightsError, "shape"),
        ("text_config", "keep_len", 90, UnrecognisedCheckpointError, "keep_len"),
        ("text_config", "keep_len", "many", UnrecognisedCheckpointError, "keep_len"),
        ("vision_config", "num_channels", 4, UnrecognisedCheckpointError, "RGB"),
    ],
)
def test_settings_are_followed_or_refused(
    written: tuple[Path, Reference], tmp_path: Path, part: str, key: str, value: Any, error: type, said: str
) -> None:
    settings = json.loads((written[0] / "config.json").read_text())[part]
    with pytest.raises(error, match=said):
        zoo.load_model(changed(written[0], tmp_path, **{part: {**settings, key: value}}))


def test_another_budget_of_patches_is_followed(written: tuple[Path, Reference], tmp_path: Path) -> None:
    changed(written[0], tmp_path)
    for settings, patches_here in (
        ({"max_num_patches": 40}, 40),
        ({"dynamic_max_patches": False}, 256),
        ({"image_processor_type": "Fgclip2ImageProcessor", "max_num_patches": 40}, None),
    ):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps({**PROCESSOR, **settings}))
        assert zoo.load_model(tmp_path).towers[0].encoder.patches == patches_here
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**PROCESSOR, "patch_size": 14}))
    with pytest.raises(UnreadSettingError, match="patch_size"):
        zoo.load_model(tmp_path)


def test_the_loss_reaches_heads_and_towers() -> None:
    model = zoo.build_model("fgclip2-test").with_against("regions")
    image_encoder, text_encoder = (tower.encoder for tower in model.towers)
    item = zoo.Item(image=image(40, 60), regions=[zoo.Box(2, 2, 30, 30)])
    similarity = (
        model.towers[0](image_encoder.prepare([item]))
        @ model.towers[1](text_encoder.prepare([zoo.Item(text="a cup")])).T
    )
    similarity.sum().backward()
    for part in (image_encoder.dense.mlp.fc1, image_encoder.tower.embeddings.patch_embedding, text_encoder.region_head):
        assert part.weight.grad.abs().sum() > 0
