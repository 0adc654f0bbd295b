"""A checkpoint's own temperature: read from the files of transformers and open_clip, kept by a save, written back by exports."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from zoo import build_model, load_model
from zoo.errors import MissingWeightsError, UnrecognisedCheckpointError
from zoo.formats.scale import scale_of
from zoo.publishing.exports import export, register
from zoo.publishing.staging import _renamed
from zoo.spec import LogitScale

# Reference checkpoint → whether it adds a bias.
OWN = {
    "transformers-clip": False,
    "transformers-siglip": True,
    "transformers-siglip2-naflex": True,
    "open_clip-clip": False,
    "open_clip-siglip": True,
    "open_clip-coca": False,
    "sentence-clip": False,
}


def weights_file(folder: Path) -> Path:
    """The one file with the temperature."""
    (found,) = (path for path in folder.rglob("*.safetensors") if "logit_scale" in load_file(path))
    return found


def with_scale(folder: Path, bias: bool, scale: float = 3.25) -> None:
    """Writes a temperature of its own into a checkpoint."""
    path = weights_file(folder)
    tensors = load_file(path)
    assert ("logit_bias" in tensors) == bias
    tensors["logit_scale"].fill_(scale)
    if bias:
        tensors["logit_bias"].fill_(-7.75)
    save_file(tensors, path, {"format": "pt"})


ALWAYS = ("transformers-clip", "transformers-siglip", "open_clip-siglip")


@pytest.mark.parametrize("name", [n if n in ALWAYS else pytest.param(n, marks=pytest.mark.slow) for n in OWN])
def test_it_is_read_kept_and_written_back(name, copy, tmp_path):
    folder = copy(name)
    with_scale(folder, OWN[name])
    own = LogitScale(3.25, -7.75 if OWN[name] else None)
    model = load_model(folder)
    assert model.logit_scale == own
    again = load_model(model.save_pretrained(tmp_path / "saved"))
    assert again.logit_scale == own
    # As a run would have changed it: the exports hold the new one, which each library reads back.
    model.logit_scale = LogitScale(float(torch.tensor(4.1)), None if own.bias is None else -9.5)
    loaders = export(model, tmp_path / "export").loaders
    assert load_model(tmp_path / "export").logit_scale == model.logit_scale
    if not loaders["transformers"]:
        read_back(transformers_model(tmp_path / "export"), model.logit_scale)
    if not loaders["open_clip"]:
        read_back(open_clip_model(tmp_path / "export"), model.logit_scale)
    assert not (loaders["transformers"] and loaders["open_clip"])


def read_back(theirs, own: LogitScale) -> None:
    if not hasattr(theirs, "logit_scale"):  # AutoModel on the zoo's own classes
        theirs = theirs.embedder
        assert theirs.logit_scale == own
        return
    bias = getattr(theirs, "logit_bias", None)
    assert (theirs.logit_scale.item(), None if bias is None else bias.item()) == (own.log, own.bias)


def transformers_model(folder: Path):
    from transformers import AutoModel

    register()
    return AutoModel.from_pretrained(folder)


def open_clip_model(folder: Path):
    import open_clip

    return open_clip.create_model(f"local-dir:{folder}")


def test_a_model_without_one_says_nothing_of_it(tmp_path):
    model = build_model("text-test")
    model.save_pretrained(tmp_path)
    assert "logit_scale" not in json.loads((tmp_path / "config.json").read_text())
    assert load_model(tmp_path).logit_scale is None


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e4])
def test_a_damaged_one_is_refused(value, copy):
    folder = copy("transformers-clip")
    with_scale(folder, False, value)
    with pytest.raises(MissingWeightsError, match=r"logit_scale.*damaged"):
        load_model(folder)


def test_several_numbers_are_none():
    with pytest.raises(MissingWeightsError, match=r"^here: its logit_scale or logit_bias is damaged: .*another copy"):
        scale_of(torch.zeros(2), None, "here")


def test_of_a_pickle_that_was_allowed_it_is_read_too(copy):
    folder = copy("transformers-siglip")
    with_scale(folder, True)
    path = weights_file(folder)
    torch.save(load_file(path), path.with_name("pytorch_model.bin"))
    path.unlink()
    assert load_model(folder, allow_pickle=True).logit_scale == LogitScale(3.25, -7.75)


@pytest.mark.parametrize(
    "value", [{"log": "4"}, {"log": None}, {"log": True}, {}, {"log": 1.0, "base": 2.0}, [4.6], {"log": 1e9}]
)
def test_what_is_invalid_in_our_own_file_is_refused(value, tmp_path):
    model = build_model("text-test")
    model.logit_scale = LogitScale(4.5)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"logit_scale": value}))
    with pytest.raises(UnrecognisedCheckpointError, match="logit_scale"):
        load_model(tmp_path)


def test_the_temperature_is_the_inverse_of_the_factor():
    assert LogitScale(math.log(100)).temperature == pytest.approx(0.01)


def test_a_model_under_another_name_keeps_it():
    model = build_model("clip-test")
    model.logit_scale = LogitScale(3.5, -9.0)
    assert _renamed(model, "me/mine", "mine", None, print).logit_scale == model.logit_scale
