"""Composed search from end to end: the pack's figures, training from a table, and the command line."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from zoo.training import recipes, train

from zoo import Item, build_model
from zoo.cli import main
from zoo.errors import MissingPackError
from zoo.evaluation.composed import FUSED, IMAGE, TEXT, composed_recall, evaluate_composed
from zoo.fusion import Combiner, WeightedSum
from zoo.tables import open_pairs
from zoo.tables.pack_files import Triplet, read_composed

SHAPES = 8
COLOURS = {"in red": (220, 30, 30), "in blue": (30, 60, 220), "in green": (30, 180, 60)}


def drawing(shape: int, colour: tuple[int, int, int]) -> Image.Image:
    """A block pattern that only the shape decides, in a colour."""
    pattern = np.random.default_rng(shape).integers(0, 2, (4, 4), dtype=np.uint8)
    pixels = np.kron(pattern, np.ones((12, 12), np.uint8))[:, :, None] * np.array(colour, np.uint8)
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Black and white reference + colour in words → the same pattern in that colour, as a CSV beside its images."""
    folder = tmp_path_factory.mktemp("composed")
    lines = ["reference_image,query_text,target_image"]
    for shape in range(SHAPES):
        drawing(shape, (255, 255, 255)).save(folder / f"{shape}.png")
        for words, colour in COLOURS.items():
            name = f"{shape}-{words.split()[1]}.png"
            drawing(shape, colour).save(folder / name)
            lines.append(f"{shape}.png,{words},{name}")
    path = folder / "pairs.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def recall(model, table) -> float:
    pairs = list(open_pairs(table))
    gallery = model.encode([pair.positive for pair in pairs])
    similarity = model.encode([pair.query for pair in pairs]) @ gallery.T
    return float((similarity.argmax(1) == torch.arange(len(pairs))).float().mean())


def test_columns_of_a_triplet_make_a_query_of_image_and_text(table):
    pairs = open_pairs(table)
    shown = str(pairs.schemas[0])
    assert "image + text" in shown
    pair = pairs[1]
    assert (pair.query.image.name, pair.query.text, pair.positive.image.name) == ("0.png", "in blue", "0-blue.png")
    assert pair.positive.text is None


def test_a_combiner_learns_what_no_sum_can_while_the_towers_stay(table, tmp_path):
    model = build_model("clip-test").eval()
    sums = []
    for weight in (0.0, 0.25, 0.5, 0.75, 1.0):
        model.fusion = WeightedSum(weight)
        sums.append(recall(model, table))
    model.fusion = Combiner(model.spec.dim, 128, dropout=0.0)  # the recipe keeps what a model has
    frozen = {name: tensor.clone() for name, tensor in model.towers.state_dict().items()}
    recipe = recipes.composed(epochs=40, batch_size=24, lr=1e-2, holdout=0.0, checkpoint_every=1000)
    train(model, open_pairs(table), recipe, tmp_path, progress=False, trackers=(), report=False)
    assert all(torch.equal(tensor, frozen[name]) for name, tensor in model.towers.state_dict().items())
    assert recall(model.eval(), table) > max(sums) + 0.2


def test_the_reference_is_left_out_and_ties_count_against_the_query():
    triplets = [Triplet("a", "x", "b", "k"), Triplet("b", "x", "c", "k")]
    similarity = torch.tensor([[0.9, 0.5, 0.1], [0.2, 0.9, 0.2]])
    assert composed_recall(similarity, triplets, ["a", "b", "c"], ks=(1, 2)) == {1: 0.5, 2: 1.0}
    assert similarity[0, 0] == 0.9  # untouched
    twice = [Triplet("a", "x", "b", "k"), Triplet("a", "x", "c", "k")]  # one question, two answers
    assert composed_recall(torch.tensor([[0.0, 0.1, 0.9]] * 2), twice, ["a", "b", "c"], ks=(1,)) == {1: 1.0}


def test_the_pack_has_no_image_of_another_split(pack):
    pack("composed")
    sizes = {}
    for split in ("train", "val", "test"):
        images, triplets = read_composed(split)
        assert {name for t in triplets for name in (t.reference, t.target)} <= images.keys()
        sizes[split] = len(triplets)
    assert sum(sizes.values()) == 2096 - 2
    with pytest.raises(MissingPackError, match="no split 'dev'"):
        read_composed("dev")
    pairs = open_pairs("pack:composed", split="val")
    assert len(pairs) == sizes["val"]
    assert pairs[0].query.modalities == {"image", "text"}


def test_figures_are_those_of_the_parts_at_both_ends_of_the_weight(pack):
    pack("composed")
    model = build_model("mini-test").eval()
    found = {}
    for weight in (0.0, 1.0):
        model.fusion = WeightedSum(weight)
        found[weight] = {(s.way, s.kind): s for s in evaluate_composed(model, "val")}
    assert found[0.0][FUSED, ""].recall == found[0.0][TEXT, ""].recall
    assert found[1.0][FUSED, ""].recall == found[1.0][IMAGE, ""].recall
    kinds = [score for (way, kind), score in found[1.0].items() if kind]
    assert sum(score.queries for score in kinds) == found[1.0][FUSED, ""].queries


def test_eval_reports_the_pack_and_another_rule_is_measured_anew(pack, tmp_path, capsys):
    pack("composed")
    rows = {}
    for weight in (0.5, 1.0):
        model = build_model("mini-test")
        model.fusion = WeightedSum(weight)
        model.save_pretrained(tmp_path / "model")
        command = ["eval", str(tmp_path / "model"), "--tasks", "composed", "--split", "val", "--json"]
        assert main([*command, "--cache", str(tmp_path / "cache")]) == 0
        rows[weight] = json.loads(capsys.readouterr().out)
    ways = {row["direction"] for row in rows[0.5]}
    assert ways == {FUSED, IMAGE, TEXT}
    value = {w: [r["value"] for r in found if r["direction"] == FUSED] for w, found in rows.items()}
    assert value[0.5] != value[1.0]


def test_the_command_line_searches_with_an_image_and_words(table, tmp_path, capsys):
    model = build_model("clip-test").eval()
    model.save_pretrained(tmp_path / "model")
    out = tmp_path / "index"
    folder = table.parent
    assert main(["embed", str(folder), "--out", str(out), "--model", str(tmp_path / "model"), "--quiet"]) == 0
    capsys.readouterr()
    names = sorted(path.name for path in folder.glob("*.png"))
    vectors = model.encode([folder / name for name in names])
    for options, weight in (((), 0.5), (("--image-weight", "0.1"), 0.1)):
        query = ["search", str(out), "in blue", "--image", str(folder / "3.png"), "--k", "3", "--json", *options]
        assert main(query) == 0
        found = json.loads(capsys.readouterr().out)
        model.fusion = WeightedSum(weight)
        scores = model.encode(Item(image=folder / "3.png", text="in blue")) @ vectors.T
        best = [names[i] for i in scores.sort(descending=True, stable=True).indices[:3]]
        assert [one["score"] for one in found] == pytest.approx(
            scores.sort(descending=True).values[:3].tolist(), abs=1e-4
        )
        assert found[0]["id"] == best[0]
    page = tmp_path / "found.html"
    assert main(["search", str(out), "in <blue>", "--image", str(folder / "3.png"), "--html", str(page)]) == 0
    assert "3.png + in &lt;blue&gt;" in page.read_text()
    with pytest.raises(SystemExit):
        main(["search", str(out), "a", "--image", "b.png", "--image-weight", "2"])


def test_show_says_how_both_are_read(capsys):
    assert main(["show", "clip-test"]) == 0
    assert "fused" in capsys.readouterr().out
    assert main(["show", "gme-test"]) == 0
    assert "one sequence" in capsys.readouterr().out
    assert main(["show", "text-test"]) == 0
    assert "image with text" not in capsys.readouterr().out
