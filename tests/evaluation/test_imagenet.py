"""Which labels of the photos ImageNet has: every one decided by the file's own rule; and the figures that are parted by it."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import zoo
from zoo.evaluation.imagenet import FILE, KNOWN, UNKNOWN, imagenet_results, in_imagenet, synsets_of
from zoo.evaluation.metrics import interval
from zoo.evaluation.packs import Encoded
from zoo.tables.pack_files import read_pack

FACTS = json.loads(FILE.read_text("utf-8"))


@pytest.fixture(scope="module")
def lemmas() -> dict[str, list[str]]:
    """The 1,000 classes of ImageNet with their lemmas, lower case, from timm's files."""
    folder = Path(next(iter(find_spec("timm").submodule_search_locations))) / "data" / "_info"
    lines = (folder / "imagenet_synset_to_lemma.txt").read_text("utf-8").splitlines()
    names = dict(line.split("\t", 1) for line in lines)
    return {
        synset: [lemma.strip().lower() for lemma in names[synset].split(",")]
        for synset in (folder / "imagenet_synsets.txt").read_text("utf-8").split()
    }


def test_every_label_is_decided_once() -> None:
    decided = [*FACTS["same"], *FACTS["by_hand"], *FACTS["none"]]
    assert len(decided) == len(set(decided)) == len(synsets_of())
    assert all(entry["why"] for entry in FACTS["by_hand"].values())
    assert all(FACTS["same"].values())


def test_what_is_called_the_same_is_a_lemma(lemmas: dict[str, list[str]]) -> None:
    for label in synsets_of():
        wanted = [synset for synset, names in lemmas.items() if label.lower() in names]
        if label in FACTS["by_hand"]:
            continue
        assert FACTS["same"].get(label, []) == wanted, label


def test_what_was_decided_by_hand_is_among_the_classes(lemmas: dict[str, list[str]]) -> None:
    for label, entry in FACTS["by_hand"].items():
        assert set(entry["synsets"]) <= set(lemmas), label
        told = entry["why"].lower()
        # The reason names the classes: each by one of its lemmas.
        assert all(any(name in told for name in lemmas[synset]) for synset in entry["synsets"]), label


def test_every_photo_has_a_label_that_is_decided(pack) -> None:
    pack("photos")
    labels = {row["label"] for split in ("train", "val", "test") for row in read_pack("photos", split)}
    assert labels == set(synsets_of())


def test_an_undecided_label_is_named() -> None:
    with pytest.raises(ValueError, match=r"does not say whether ImageNet has \['unicorn'\]; add them by its rule"):
        in_imagenet(["Banana", "unicorn"])
    assert in_imagenet(["Banana", "dolphin", "chair", "Sweet Potato"]).tolist() == [True, False, True, False]


class Axes:
    """A model of texts: "banana" is the first axis, "dolphin" the second, "emu" the third."""

    spec = zoo.get_spec("clip-test")

    def encode(self, texts: list[str]) -> torch.Tensor:
        names = ("Banana", "dolphin", "emu")
        return torch.tensor([[float(name in text) for name in names] for text in texts])


def test_figures_by_hand() -> None:
    """Three classes, one of them in ImageNet; the second dolphin looks like an emu."""
    labels = ["Banana", "Banana", "dolphin", "dolphin", "emu"]
    rows = [{"source": "grocery", "label": label, "captions": [f"a {label}"]} for label in labels]
    vectors = torch.eye(3)[[0, 0, 1, 2, 2]]
    found = imagenet_results(Axes(), "test", "again", Encoded(rows, vectors))
    values = {(r.part, r.direction, r.metric): r for r in found}
    assert {r.part for r in found} == {f"grocery, {KNOWN}", f"grocery, {UNKNOWN}"}

    def value(part: str, way: str, metric: str = "recall@1") -> float:
        return values[f"grocery, {part}", way, metric].value

    assert value(KNOWN, "image → text") == value(KNOWN, "text → image") == 1
    assert value(UNKNOWN, "image → text") == pytest.approx(2 / 3)
    assert value(UNKNOWN, "", "accuracy") == pytest.approx(2 / 3)
    # "an emu" meets the dolphin in disguise on equal terms, and ties count as lost.
    assert value(UNKNOWN, "text → image") == 0.5
    assert value(UNKNOWN, "text → image", "recall@5") == 1
    one = values[f"grocery, {UNKNOWN}", "image → text", "recall@1"]
    assert (one.low, one.high) == interval(2, 3)[1:]
    assert one.notes == "images 3, texts 2, asked among 5 and 3"
    assert (one.dataset, one.split, one.source) == ("photos", "test", "again")
