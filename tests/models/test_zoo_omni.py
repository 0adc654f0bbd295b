"""zoo-omni: no more in the package than what it has beside zoo-mini, whose images and texts keep their vectors; and it hears and watches."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from zoo.training import Pair, train
from zoo.training.recipes import get_recipe, read_recipe
from zoo.training.recipes.omni import COPIES

import zoo
from zoo import Item
from zoo.errors import MissingWeightsError
from zoo.formats.changes import FACTS, TENSORS, begin_as, extended, write_changes
from zoo.inputs.waveform import Waveform

FOLDER = Path(zoo.__file__).parent / "weights" / "zoo-omni"
LARGEST = 6_000_000  # bytes


@pytest.fixture(scope="module")
def base():
    return zoo.load_model("zoo-mini", device="cpu")


@pytest.fixture(scope="module")
def model():
    return zoo.load_model("zoo-omni", device="cpu")


def test_the_package_holds_the_audio_tower_and_what_motions_are_called_and_no_more(model, base):
    files = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert set(files) == {TENSORS, FACTS, "certificate.json", "certificate.safetensors"}
    assert sum(files.values()) <= LARGEST
    held = set(load_file(FOLDER / TENSORS))
    assert [name for name in held if name.startswith("towers.3.")] == ["towers.3.head.beside.weight"]
    assert all(name.startswith("towers.2.") for name in held if not name.startswith("towers.3."))
    ours, theirs = model.state_dict(), base.state_dict()
    assert all(ours[name].equal(tensor) for name, tensor in theirs.items())
    assert ours["towers.3.head.names"].equal(theirs["towers.0.head.names"])
    assert model.spec == zoo.get_spec("zoo-omni")
    assert model.spec.params == sum(parameter.numel() for parameter in model.parameters())


def test_images_and_texts_have_zoo_minis_vectors(model, base):
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    for value in ("a red motorbike", image):
        assert model.encode(value).equal(base.encode(value))
    kinds = ("audio", "document", "image", "text", "video")
    assert set(model.calibration) >= {f"{a}>{b}" for a in kinds for b in kinds}


def test_a_pan_to_the_left_is_called_so_and_not_to_the_right(model):
    rng = np.random.default_rng(3)
    wide = np.kron(rng.integers(0, 256, (12, 60, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    right = np.stack([wide[:, 40 + 12 * k : 232 + 12 * k] for k in range(8)])  # the view moves to the right
    texts = model.encode(["a wall; the camera pans to the right", "a wall; the camera pans to the left"])
    found = model.similarity(model.encode([Item(video=right), Item(video=right[::-1].copy())]), texts)
    assert found[0, 0] > found[0, 1]
    assert found[1, 1] > found[1, 0]


def test_a_saved_copy_stands_alone(model, tmp_path):
    copy = zoo.load_model(model.save_pretrained(tmp_path / "copy"), device="cpu")
    state = copy.state_dict()
    assert all(tensor.equal(state[name]) for name, tensor in model.state_dict().items())
    assert (copy.calibration, copy.spec.pages) == (model.calibration, "text")
    audio = Item(audio=Waveform(np.sin(np.arange(16_000) / 9).astype(np.float32), 16_000))
    assert copy.encode(audio).equal(model.encode(audio))


def test_a_folder_that_lacks_a_tensor_or_copies_what_is_not_there_is_refused(tmp_path):
    small, base = zoo.build_model("mini-omni-test"), zoo.build_model("mini-test")
    copies = {"towers.3.encoder.image.": "towers.0.encoder."}
    with torch.no_grad():
        begin_as(small, base.state_dict(), copies)
    names = write_changes(small, base.state_dict(), tmp_path, torch.float32, copies)
    assert not any(name.startswith(("towers.0.", "towers.1.", "towers.3.encoder")) for name in names)
    again = extended(base, zoo.build_model("mini-omni-test"), tmp_path)
    assert again.state_dict()["towers.3.encoder.image.backbone.conv_stem.weight"].equal(
        base.state_dict()["towers.0.encoder.backbone.conv_stem.weight"]
    )
    held = load_file(tmp_path / TENSORS)
    del held[names[0]]
    save_file(held, tmp_path / TENSORS)
    with pytest.raises(MissingWeightsError, match=f"holds no {names[0]}"):
        extended(base, zoo.build_model("mini-omni-test"), tmp_path)
    with pytest.raises(MissingWeightsError, match=r"is to be a copy of towers\.7\."):
        begin_as(small, base.state_dict(), {"towers.2.encoder.": "towers.7."})


def test_both_stages_leave_what_is_the_bases_and_its_recipe_is_read_again(tmp_path):
    folder = zoo.build_model("mini-test").save_pretrained(tmp_path / "base")
    base = zoo.load_model(folder).state_dict()
    copies = tuple((ours, theirs) for ours, theirs in COPIES.items() if ".head." not in ours)
    facts = {"steps": 2, "batch_size": 4, "holdout": 0.0, "keep_checkpoints": "none"}
    hearing, watching = get_recipe("zoo-omni")(model="mini-omni-test", **facts)
    hearing = replace(hearing, base=str(folder), copies=copies, sampler="shuffled", datasets=("audio*",))
    assert read_recipe(hearing.to_dict()) == hearing
    tones = [Waveform(np.sin(np.arange(8000) * k / 20).astype(np.float32), 16_000) for k in range(1, 9)]
    clips = np.random.default_rng(0).integers(0, 256, (8, 4, 32, 32, 3), dtype=np.uint8)
    pairs = [Pair(Item(audio=tone), Item(text=f"tone {k}"), dataset="audio-tones") for k, tone in enumerate(tones)]
    pairs += [Pair(Item(video=clip), Item(text=f"clip {k}"), dataset="video") for k, clip in enumerate(clips)]
    model = zoo.build_model("mini-omni-test")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train(model, pairs, (hearing, watching), tmp_path / "run", report=False, trackers=(), device="cpu")
    after = zoo.load_model(tmp_path / "run").state_dict()
    assert all(after[name].equal(tensor) for name, tensor in base.items())
    assert after["towers.3.encoder.image.backbone.conv_stem.weight"].equal(
        base["towers.0.encoder.backbone.conv_stem.weight"]
    )
    learned = {name for name in before if not after[name].equal(before[name]) and name not in base}
    assert "towers.2.head.layers.0.weight" in learned
    assert "towers.3.head.beside.weight" in learned
    assert not any(name.startswith("towers.3.head.project") for name in learned)


@pytest.mark.slow
def test_zoo_verify_computes_its_certificate_again():
    from zoo.publishing.certificate import verify

    report = verify("zoo-omni", dtypes=("float32",), batch_sizes=(4,))
    assert report.certified
    assert report.passed, report.reason


def test_it_hears_what_it_learned(model, pack):
    """On val, of which nothing was learned; a floor that the figures of the card lie far above."""
    from zoo.tables.pack_files import read_pack

    pack("audio")
    rows = read_pack("audio", "val")[::6]
    captions = sorted({row["captions"][0] for row in read_pack("audio", "val")})
    found = model.similarity(
        model.encode([Item(audio=io.BytesIO(row["audio"])) for row in rows]), model.encode(captions)
    )
    right = [captions[best] == row["captions"][0] for best, row in zip(found.argmax(1).tolist(), rows, strict=True)]
    assert sum(right) > 0.7 * len(rows)
