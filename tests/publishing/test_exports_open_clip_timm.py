"""What the zoo writes for open_clip and timm gives the same vectors there, from a folder and from a loopback Hub.

Both libraries resize with Pillow, so the zoo is held to them with its Pillow engine (see test_parity.py).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import zoo
from tests import warm
from tests.every import standing_for
from tests.hub import LoopbackHub
from tests.reference import TEXTS, Photo, write, write_photos
from zoo.errors import InputError, NotExportableError, UnrecognisedCheckpointError, UnsafeCheckpointError
from zoo.inputs.item import Item
from zoo.publishing.exports import export, open_clip, timm

BOUND = 1e-5
PROJECT = Path(__file__).resolve().parents[2]
OPEN_CLIP = ("clip-test", "siglip-test", "mobileclip-test")
OPEN_CLIP += tuple(f"open_clip-{kind}" for kind in ("clip", "custom-text", "siglip", "mobileclip", "coca"))
TIMM = ("image-test", "siglip-test", "open_clip-siglip")
TIMM += tuple(f"timm-{kind}" for kind in ("vit", "vit-map", "convnext", "resnet", "border", "wide", "dinov2-like"))
Load = Callable[[str], zoo.Embedder]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Photo]:
    return write_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Load:
    """A test model of the zoo, or a checkpoint that the reference library wrote, by name."""
    root = tmp_path_factory.mktemp("references")

    @cache
    def load(name: str) -> zoo.Embedder:
        torch.manual_seed(0)
        model = (
            zoo.build_model(name)
            if name in zoo.list_models(tests=True)
            else zoo.load_model(write(name, root / name).folder)
        )
        return _stirred(model.eval().set_pixel_engine("pillow"))

    return load


def _stirred(model: zoo.Embedder) -> zoo.Embedder:
    # Fresh normalisation statistics are 0 and 1, whose loss nobody would notice.
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.add_(0.1 * torch.rand_like(buffer))
    return model


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    assert torch.pdist(a).min() > 10 * BOUND, "inputs that have one vector prove nothing"
    return (a - b).abs().max().item()


def make_images(photos: list[Photo]) -> list[Item]:
    return [Item(image=photo.path) for photo in photos]


def texts() -> list[Item]:
    return [Item(text=text) for text in TEXTS]


# ---------------------------------------------------------------------------------------------------------- open_clip


@pytest.mark.parametrize(
    "name", standing_for(OPEN_CLIP, {"clip-test", "siglip-test", "open_clip-custom-text", "open_clip-coca"})
)
def test_open_clip_gives_our_vectors(name: str, load: Load, photos: list[Photo], tmp_path: Path) -> None:
    model = load(name)
    written = open_clip.write(model, tmp_path)
    assert open_clip.serves(tmp_path)
    assert set(written) == {path.name for path in tmp_path.iterdir()}
    mixed = [item for pair in zip(texts(), make_images(photos), strict=False) for item in pair]
    expected = torch.stack([model.encode(item) for item in mixed])
    assert difference(open_clip.encode(tmp_path, mixed, batch_size=3), expected) < BOUND
    again = zoo.load_model(tmp_path).set_pixel_engine("pillow")
    assert difference(again.encode(mixed), expected) < BOUND


def test_open_clip_lies_beside_our_own_layout(load: Load, photos: list[Photo], tmp_path: Path) -> None:
    """One root for both, whichever tokenizer it has: each library finds its own weights."""
    for name in ("clip-test", "open_clip-siglip"):
        model = load(name)
        folder = tmp_path / name
        model.save_pretrained(folder)
        open_clip.write(model, folder)
        assert zoo.load_model(folder).spec == model.spec
        expected = torch.cat([model.encode(list(TEXTS)), model.encode(make_images(photos))])
        assert difference(open_clip.encode(folder, [*texts(), *make_images(photos)]), expected) < BOUND


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_open_clip_in_half_precision(dtype: torch.dtype, load: Load, photos: list[Photo], tmp_path: Path) -> None:
    open_clip.write(load("clip-test"), tmp_path)
    half = open_clip.encode(tmp_path, [*texts(), *make_images(photos)], dtype=dtype)
    full = open_clip.encode(tmp_path, [*texts(), *make_images(photos)])
    assert half.dtype == torch.float32
    assert 0 < (half - full).abs().max() < 0.05


def test_the_tokenizer_comes_from_the_same_repository(load: Load, tmp_path: Path) -> None:
    model = load("open_clip-siglip")
    published = zoo.Embedder(replace(model.spec, hub_id="me/mine"), list(model.towers))
    assert "tokenizer.json" in open_clip.write(published, tmp_path)
    config = json.loads((tmp_path / "open_clip_config.json").read_text())
    assert config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] == "me/mine"


@pytest.mark.parametrize("name", ["image-test", "text-test", "modernbert-test", "mini-test"])
def test_other_towers_are_no_open_clip(name: str, load: Load, tmp_path: Path) -> None:
    with pytest.raises(NotExportableError, match="open_clip has no towers like these"):
        open_clip.write(load(name), tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"size": (64, 64)}, "tower of"),
        ({"resize_size": (40, 40)}, "crop from"),
        ({"crop_rounding": "floor"}, "offset"),
        ({"fill": (1, 2, 3)}, "colour"),
    ],
)
def test_preprocessing_that_open_clip_has_not(change: dict, reason: str, tmp_path: Path) -> None:
    model = zoo.build_model("clip-test")
    encoder = model.towers[0].encoder
    encoder.transform = replace(encoder.transform, **change)
    with pytest.raises(NotExportableError, match=reason):
        open_clip.write(model, tmp_path)


def test_a_head_after_the_towers_is_no_open_clip(tmp_path: Path) -> None:
    from zoo.heads import Linear

    model = zoo.build_model("clip-test")
    model.towers[0].head = Linear(16, 16)
    with pytest.raises(NotExportableError, match="Linear follow"):
        open_clip.write(model, tmp_path)


def test_open_clip_reads_no_audio(load: Load, tmp_path: Path) -> None:
    open_clip.write(load("clip-test"), tmp_path)
    with pytest.raises(InputError, match="audio"):
        open_clip.encode(tmp_path, [Item(audio=b"RIFF")])


def test_a_configuration_that_runs_code_is_refused(load: Load, tmp_path: Path) -> None:
    open_clip.write(load("open_clip-siglip"), tmp_path)
    config = json.loads((tmp_path / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"trust_remote_code": True}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(UnsafeCheckpointError, match="trust_remote_code"):
        open_clip.encode(tmp_path, texts())


def test_a_configuration_without_a_model_is_named(load: Load, tmp_path: Path) -> None:
    open_clip.write(load("clip-test"), tmp_path)
    (tmp_path / "open_clip_config.json").write_text("[]")
    with pytest.raises(UnrecognisedCheckpointError, match="model_cfg"):
        open_clip.encode(tmp_path, texts())


def test_the_program_of_a_model_with_prompts_has_them() -> None:
    spec = replace(zoo.get_spec("clip-test"), prompts={"query": 'a "photo" of '})
    program = open_clip.snippet("me/clip", spec)
    compile(program, "snippet", "exec")
    assert r"a \"photo\" of a red bicycle" in program


# --------------------------------------------------------------------------------------------------------------- timm


@pytest.mark.parametrize(
    "name", standing_for(TIMM, {"siglip-test", "timm-vit-map", "timm-convnext", "timm-border", "timm-wide"})
)
def test_timm_gives_our_vectors(name: str, load: Load, photos: list[Photo], tmp_path: Path) -> None:
    model = load(name)
    assert timm.write(model, tmp_path) == sorted(path.name for path in tmp_path.iterdir())
    assert timm.serves(tmp_path)
    expected = model.encode(make_images(photos))
    assert difference(timm.encode(tmp_path, make_images(photos), batch_size=3), expected) < BOUND
    again = zoo.load_model(tmp_path).set_pixel_engine("pillow")
    assert difference(again.encode(make_images(photos)), expected) < BOUND


def test_our_preprocessing_replaces_that_of_the_architecture(load: Load, photos: list[Photo], tmp_path: Path) -> None:
    import timm as library

    model = zoo.build_model("image-test").set_pixel_engine("pillow").eval()
    encoder = model.towers[0].encoder
    changes = {"resize": "squash", "resize_size": (171, 171), "interpolation": "bilinear", "mean": (0.1, 0.2, 0.3)}
    encoder.transform = replace(encoder.transform, **changes)
    encoder.normalize = type(encoder.normalize)(encoder.transform)
    timm.write(model, tmp_path)
    settings = library.data.resolve_model_data_config(library.create_model(f"local-dir:{tmp_path}"))
    assert (settings["crop_mode"], settings["interpolation"]) == ("squash", "bilinear")
    assert list(settings["mean"]) == [0.1, 0.2, 0.3]
    assert difference(timm.encode(tmp_path, make_images(photos)), model.encode(make_images(photos))) < BOUND
    assert "squash" not in str(encoder.backbone.pretrained_cfg), "the model in memory stays as it was"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("text-test", "no tower for images"),
        ("mini-test", "Blend follow"),
        ("clip-test", "no vision tower like this"),
        ("mobileclip-test", "a projection follows"),
        ("transformers-clip", "no vision tower like this|Linear follow"),
    ],
)
def test_other_towers_are_no_timm(name: str, reason: str, load: Load, tmp_path: Path) -> None:
    with pytest.raises(NotExportableError, match=reason):
        timm.write(load(name), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_timm_needs_a_folder_of_its_own(load: Load, tmp_path: Path) -> None:
    load("image-test").save_pretrained(tmp_path)
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(NotExportableError, match="folder of its own"):
        timm.write(load("image-test"), tmp_path)
    assert (tmp_path / "config.json").read_bytes() == before
    assert not timm.serves(tmp_path)


def test_timm_reads_images_only(load: Load, tmp_path: Path) -> None:
    timm.write(load("image-test"), tmp_path)
    with pytest.raises(InputError, match="images"):
        timm.encode(tmp_path, texts()[:1])


# ------------------------------------------------------------------------------------------------------- from the Hub

CHILD = """
import json, sys
from pathlib import Path
vectors = []
for program in json.loads(sys.argv[1]):
    names = {}
    exec(program, names)
    vectors.append({n: names[n].tolist() for n in ("image", "texts", "vector") if n in names})
Path("out.json").write_text(json.dumps(vectors))
"""


def run_snippets(programs: list[str], environment: dict[str, str], folder: Path) -> list[dict[str, torch.Tensor]]:
    """The cards' programs in a clean process that knows one hub alone, beside a photo.jpg; their unit vectors."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_"))}
    command = [sys.executable, "-c", CHILD, json.dumps(programs)]
    done = warm.run(
        command, cwd=folder, env={**kept, **environment, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [
        {name: torch.nn.functional.normalize(torch.tensor(rows), dim=-1) for name, rows in vectors.items()}
        for vectors in json.loads((folder / "out.json").read_text())
    ]


def test_the_cards_programs_load_from_the_hub(
    load: Load, photos: list[Photo], hub: LoopbackHub, tmp_path: Path
) -> None:
    """open_clip's in a repository that serves the other libraries too; with either kind of tokenizer."""
    clip, siglip, tower = load("clip-test"), load("open_clip-siglip"), load("timm-dinov2-like")
    programs = []
    for name, model in (("me/clip", clip), ("me/siglip", siglip)):
        published = zoo.Embedder(replace(model.spec, hub_id=name), list(model.towers)).eval()
        exported = export(published, tmp_path / name)
        assert exported.loaders["open_clip"] == ""
        hub.add(exported.folder, name)
        programs.append(open_clip.snippet(name, published.spec))
    timm.write(tower, tmp_path / "tower")
    hub.add(tmp_path / "tower", "me/tower")
    programs.append(timm.snippet("me/tower", tower.spec))
    (tmp_path / "photo.jpg").write_bytes(photos[0].path.read_bytes())
    found = run_snippets(programs, hub.environment(tmp_path / "home"), tmp_path)
    for vectors, model in zip(found, (clip, siglip), strict=False):
        assert (vectors["image"][0] - model.encode(photos[0].path)).abs().max() < BOUND
        assert (vectors["texts"] - model.encode(["a red bicycle", "two dogs in the snow"])).abs().max() < BOUND
    assert (found[2]["vector"][0] - tower.encode(photos[0].path)).abs().max() < BOUND


def test_damaged_weights_give_other_vectors(load: Load, photos: list[Photo], tmp_path: Path) -> None:
    """The comparison itself can fail: one changed tensor is seen."""
    model = load("image-test")
    timm.write(model, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["norm.weight"] = weights["norm.weight"] * torch.linspace(0.5, 1.5, len(weights["norm.weight"]))
    save_file(weights, tmp_path / "model.safetensors")
    assert difference(timm.encode(tmp_path, make_images(photos)), model.encode(make_images(photos))) > 100 * BOUND
