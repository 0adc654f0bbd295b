"""zoo-mini-region: no more in the package than what it changes of zoo-mini, laid over it strictly; and better at regions."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import zoo
from zoo.errors import MissingWeightsError, UnrecognisedCheckpointError
from zoo.evaluation.regions import region_vectors, score_regions
from zoo.formats.changes import FACTS, TENSORS, lay_over, write_changes
from zoo.tables.pack_regions import SCENES, read_scenes

FOLDER = Path(zoo.__file__).parent / "weights" / "zoo-mini-region"
LARGEST = 5_000_000  # bytes
PROJECTION = {"towers.0.head.project.weight", "towers.0.head.project.bias"}


@pytest.fixture(scope="module")
def base():
    return zoo.load_model("zoo-mini", device="cpu")


@pytest.fixture(scope="module")
def model():
    return zoo.load_model("zoo-mini-region", device="cpu")


def test_the_package_holds_what_differs_from_zoo_mini_and_no_more(model, base):
    files = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert set(files) == {TENSORS, FACTS, "certificate.json", "certificate.safetensors"}
    assert sum(files.values()) <= LARGEST
    ours, theirs = model.state_dict(), base.state_dict()
    assert set(load_file(FOLDER / TENSORS)) == PROJECTION
    assert {name for name, tensor in ours.items() if not tensor.equal(theirs[name])} == PROJECTION


def test_it_is_another_model_than_zoo_mini_that_reads_texts_alike(model, base):
    assert model.spec == zoo.get_spec("zoo-mini-region")
    assert model.spec.params == sum(parameter.numel() for parameter in model.parameters())
    assert model.fingerprint() != base.fingerprint()
    assert set(model.calibration) == {"text>image", "image>text", "image>image"}
    assert model.calibration != base.calibration
    assert model.encode("a red motorbike").equal(base.encode("a red motorbike"))


def test_a_saved_copy_stands_alone(model, tmp_path):
    copy = zoo.load_model(model.save_pretrained(tmp_path / "copy"), device="cpu")
    state = copy.state_dict()
    assert all(tensor.equal(state[name]) for name, tensor in model.state_dict().items())
    assert copy.calibration == model.calibration
    assert copy.encode("a red motorbike").equal(model.encode("a red motorbike"))


@pytest.fixture
def tiny():
    return zoo.build_model("mini-test")


def changed(tiny, folder):
    """A folder of one changed tensor of the smallest model; its name, and the state before."""
    before = {name: tensor.clone() for name, tensor in tiny.state_dict().items()}
    name = next(name for name, tensor in before.items() if ".head." in name and tensor.is_floating_point())
    tiny.state_dict()[name].add_(0.5)
    return name, before, write_changes(tiny, before, folder, torch.float32)


def test_changes_that_were_written_are_laid_over_what_they_began_as(tiny, tmp_path):
    name, before, written = changed(tiny, tmp_path)
    assert written == [name]
    after = {name: tensor.clone() for name, tensor in tiny.state_dict().items()}
    tiny.load_state_dict(before)
    lay_over(tiny, tmp_path)
    assert all(tensor.equal(after[name]) for name, tensor in tiny.state_dict().items())


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda name, tensor: {}, "holds no tensor"),
        (lambda name, tensor: {name: tensor, "towers.0.head.other": tensor.clone()}, "1 unknown .*towers.0.head.other"),
        (lambda name, tensor: {name: tensor[..., :-1].contiguous()}, "has the shape"),
        (lambda name, tensor: {name: torch.full_like(tensor, float("nan"))}, "NaN or infinite"),
        (lambda name, tensor: {name: tensor.int()}, "is stored as I32"),
    ],
    ids=["none", "unknown", "shape", "nan", "kind"],
)
def test_tensors_that_do_not_fit_are_refused(tiny, tmp_path, spoil, said):
    name, before, _ = changed(tiny, tmp_path)
    save_file(spoil(name, before[name]), tmp_path / TENSORS)
    with pytest.raises(MissingWeightsError, match=said):
        lay_over(tiny, tmp_path)


def test_a_folder_without_its_tensors_or_calibration_is_refused(tiny, tmp_path):
    changed(tiny, tmp_path)
    (tmp_path / FACTS).write_text('{"calibration": {"audio>image": {}}}')
    with pytest.raises(UnrecognisedCheckpointError, match="audio>image"):
        lay_over(tiny, tmp_path)
    (tmp_path / FACTS).write_text("[]")
    with pytest.raises(UnrecognisedCheckpointError, match="not a JSON object"):
        lay_over(tiny, tmp_path)
    (tmp_path / TENSORS).unlink()
    with pytest.raises(MissingWeightsError, match="does not exist"):
        lay_over(tiny, tmp_path)


@pytest.mark.slow
def test_zoo_verify_computes_its_certificate_again():
    from zoo.publishing.certificate import verify

    report = verify("zoo-mini-region", dtypes=("float32",), batch_sizes=(4,))
    assert report.certified
    assert report.passed, report.reason


@pytest.mark.slow
def test_it_tells_regions_of_an_image_apart_better_than_zoo_mini(model, base, pack):
    pack("regions")
    scenes = read_scenes("val", SCENES)[:30]
    captions = sorted({caption for scene in scenes for caption in scene.captions})

    def found(model):
        similarity = model.similarity(region_vectors(model, scenes), model.encode_query(captions))
        return score_regions("masked crop", SCENES, scenes, captions, similarity)

    ours, theirs = found(model), found(base)
    assert ours.in_image.value > theirs.in_image.value
    assert ours.region_to_text[1].value > theirs.region_to_text[1].value + 0.2
