"""Files of before 0.2 from strangers: a reading is held to its types, and no fact of it is dropped in silence."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zoo
from tests.stored.inputs import STORED
from zoo.errors import UnrecognisedCheckpointError
from zoo.formats.earlier import NOW, current
from zoo.sequences import ImageLimits, SequenceFormat, VideoLimits

OLD = STORED / "models" / "vlm2vec-test"
Change = Callable[[dict[str, Any], dict[str, Any]], Any]


def _changed(tmp_path: Path, change: Change) -> Path:
    """A copy of the stored model after a change of its facts and of its encoder."""
    folder = tmp_path / "model"
    shutil.copytree(OLD, folder, copy_function=shutil.copyfile)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    change(config["spec"], config["towers"][0]["encoder"])
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return folder


def _both(**facts: Any) -> Change:
    return lambda spec, encoder: [part["reading"].update(facts) for part in (spec, encoder)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_both(added_tokens="abc"), "added_tokens"),  # no list of letters
        (_both(pixels={"1": 2, "3": 4}), "pixels"),
        (_both(frames=8.0), "frames"),
        (_both(special_tokens=0), "special_tokens"),
        (_both(image=["<image>"]), "marks"),
        (_both(video=0), "marks"),
        (_both(pooling={"last": 1}), "pooling"),
        (_both(adapter=7), "adapter"),
        (_both(fps=True), "fps"),
        (_both(positions="rope"), "positions"),
        (lambda spec, encoder: spec.update(format={"prompt": "{{ text }}"}), "format beside the reading"),
        (lambda spec, encoder: spec.update(media={"image": {"square": 32}}), "media beside the reading"),
        (lambda spec, encoder: encoder.update(format={"prompt": "{{ text }}"}), "format beside the reading"),
        (lambda spec, encoder: encoder["reading"].update(pooling="mean"), "pooling is 'mean' in the encoder"),
        (lambda spec, encoder: encoder["reading"].update(adapter="retrieval"), "adapter is 'retrieval' in the encoder"),
        (lambda spec, encoder: encoder["reading"].update(frames=3), "not the one of its encoder"),
        (_both(pooling="mean"), "its tower pools by 'last'"),
        (lambda spec, encoder: encoder.update(kind=NOW), "reading"),
        (lambda spec, encoder: spec.update(reading=[]), "reading"),
        (lambda spec, encoder: spec.update(reading=None), "format"),
    ],
)
def test_a_reading_of_a_stranger_is_followed_or_refused(change: Change, said: str, tmp_path: Path) -> None:
    with pytest.raises(UnrecognisedCheckpointError, match=said):
        zoo.load_model(_changed(tmp_path, change), device="cpu")


def test_half_old_and_half_new_files_that_agree_open(tmp_path: Path) -> None:
    def renew(spec: dict[str, Any], encoder: dict[str, Any]) -> None:
        facts = zoo.ModelSpec.from_dict(dict(spec)).to_dict()
        spec.clear()
        spec.update(facts)

    model = zoo.load_model(_changed(tmp_path, renew), device="cpu")
    assert model.spec == zoo.load_model(OLD, device="cpu").spec


@pytest.mark.parametrize(
    "facts", [{"reading": {"prompt": "{{ text }}", "pooling": "mean"}}, {"format": {"prompt": "{{ text }}"}}]
)
def test_a_sequence_that_no_tower_reads_is_refused_beside_other_layouts(facts: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(STORED / "published" / "text-test" / "model", folder, copy_function=shutil.copyfile)
    zoo.load_model(folder, device="cpu")
    told = json.loads((folder / "zoo.json").read_text("utf-8"))
    (folder / "zoo.json").write_text(json.dumps({**told, "spec": {**told["spec"], **facts}}), "utf-8")
    with pytest.raises(UnrecognisedCheckpointError, match="the format of a sequence, which none of its encoders reads"):
        zoo.load_model(folder, device="cpu")


def test_what_is_no_model_comes_back_as_it_is() -> None:
    for value in (None, 5, [], {}, {"towers": 3}, {"towers": [None, {"encoder": 5}]}, {"spec": {"reading": None}}):
        assert current(value, "here") in (value, {"spec": {}})


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SequenceFormat(5), "prompt of a format of sequences must be a text, not 5"),
        (lambda: SequenceFormat("", marks={"image": 5}), "marks of a format of sequences must be texts by their names"),
        (lambda: SequenceFormat("", instruction_marks="<>"), "instruction_marks of a format of sequences must be a list"),
        (lambda: SequenceFormat("", span="media"), "span of a format of sequences must be one of all, outside_instruct"),
        (lambda: SequenceFormat.from_dict({"marks": {}}), "a format of sequences lacks prompt"),
        (lambda: ImageLimits(square="64"), "square of the limits of images must be a whole number, not '64'"),
        (lambda: ImageLimits(pixels=(1.0, 2.0)), "pixels of the limits of images must be a list"),
        (lambda: VideoLimits(twice="yes"), "twice of the limits of videos must be True or False"),
    ],
)  # fmt: skip
def test_a_fact_of_another_type_is_named(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()
