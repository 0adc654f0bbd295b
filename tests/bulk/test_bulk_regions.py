"""Regions as inputs of a bulk job: of a table's columns, of a grid and of files of boxes; found again by search."""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.bulk.bulk_support import Jobs, embed, inputs_of
from tests.proposals.test_owl import tiny_owl
from tests.proposals.test_sam2 import tiny_sam2
from tests.tables.test_tables_together import shard
from zoo import Box, Item, Mask, Polygon, build_model, proposals
from zoo.bulk.finders import Boxes, Finder, Found, Grid, finder_of, names, register_finder
from zoo.errors import ArgumentError, FingerprintMismatchError, TableError, TokenVectorsError
from zoo.index import open_index
from zoo.inputs.image import load_pixels
from zoo.inputs.masks import RunLengths
from zoo.shards.content import content_of, size_of
from zoo.tables import open_pairs
from zoo.vectors import open_vectors

SIDES = (48, 32)  # width, height


@pytest.fixture(scope="module")
def model():
    return build_model("mini-test").eval()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three images, one in a folder."""
    for number, name in enumerate(("a.png", "b.png", "in/c.png")):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (*SIDES[::-1], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return tmp_path / "photos"


def vectors_of(folder: Path) -> dict[str, np.ndarray]:
    vectors = open_vectors(folder, ours=True)
    return dict(zip(vectors.ids(), vectors.floats(), strict=True))


def bad_of(folder: Path) -> dict[str, str]:
    return {
        one["id"]: one["message"] for one in map(json.loads, (folder / "quarantine.jsonl").read_text().splitlines())
    }


# ------------------------------------------------------------------------------------------------ tables


def table(photos: Path, *cells) -> Path:
    path = photos / "t.jsonl"
    path.write_text("".join(json.dumps({"image": "a.png", "regions": cell, "note": "n"}) + "\n" for cell in cells))
    return path


def test_a_row_with_regions_is_embedded_as_encode_regions_does(model, photos, tmp_path):
    bits = np.zeros(SIDES[::-1], bool)
    bits[4:20, 6:30] = True
    runs = RunLengths.of(bits)
    cells = [
        {"box": [1, 2, 30, 20]},
        {"mask": {"size": list(bits.shape), "counts": runs.text}},
        None,
        {"polygon": [[0, 0], [30, 0], [0, 30]]},
    ]
    report = embed(model, table(photos, *cells), tmp_path / "out")
    assert (report.vectors, report.bad) == (4, 0)
    found = vectors_of(tmp_path / "out")
    expected = model.encode_regions(
        photos / "a.png", [Box(1, 2, 30, 20), Mask(bits), Polygon([(0, 0), (30, 0), (0, 30)])]
    )
    np.testing.assert_allclose(np.stack([found["0"], found["1"], found["3"]]), expected, atol=1e-5)
    np.testing.assert_allclose(found["2"], model.encode(photos / "a.png"), atol=1e-5)
    inputs = inputs_of(tmp_path / "out")
    index = open_index(tmp_path / "out", model=model, backend="exact")
    best = index.search(model.encode(Item(image=photos / "a.png", regions=[Mask(bits)])), 1)[0]
    assert best.id == "1"
    (region,) = inputs.regions(best.attributes)
    assert (np.asarray(region.pixels) == bits).all()


def test_one_bad_region_is_one_bad_row_and_a_changed_one_is_embedded_again(model, photos, tmp_path):
    path = table(photos, [0, 0, 9, 9], [90, 2, 99, 20], {"mask": {"size": [8, 8], "counts": [0, 64]}})
    report = embed(model, path, tmp_path / "out")
    assert (report.vectors, report.bad, dict(report.reasons)) == (1, 2, {"invalid-region": 2})
    bad = bad_of(tmp_path / "out")
    assert "lies outside the upright image" in bad["1"]
    assert "is not of the size of the upright image" in bad["2"]
    again = embed(model, path, tmp_path / "out")
    assert (again.new, again.unchanged) == (0, 1)
    table(photos, [0, 0, 9, 9], [0, 0, 9, 10], [0, 0, 9, 9])
    changed = embed(model, path, tmp_path / "out")
    assert (changed.vectors, changed.bad, changed.new) == (3, 0, 1)  # the third is what the first is
    found = vectors_of(tmp_path / "out")
    assert (found["0"] == found["2"]).all()
    assert not np.allclose(found["0"], found["1"])


def test_the_content_of_an_input_is_of_its_regions_too(photos):
    whole = Item(image=photos / "a.png")
    boxes = [Item(image=photos / "a.png", regions=[Box(0, 0, 9, side)]) for side in (9, 9.0, 10)]
    contents = [content_of(item) for item in (whole, *boxes)]
    assert contents[1] == contents[2]
    assert len(set(contents)) == 3
    assert [size_of(item) for item in boxes] == [int.from_bytes(content[:8], "little") for content in contents[1:]]


def test_a_model_that_reads_no_images_refuses(photos, tmp_path):
    words = build_model("text-test").eval()
    with pytest.raises(TableError, match="holds images"):
        embed(words, table(photos, [0, 0, 9, 9]), tmp_path / "out", column="image")
    with pytest.raises(TableError, match="holds images"):
        embed(words, photos, tmp_path / "out", regions="grid")


# ------------------------------------------------------------------------------------------------ a grid


def test_a_grid_is_ten_boxes_of_every_image(model, photos, tmp_path):
    report = embed(model, photos, tmp_path / "out", regions="grid")
    assert (report.inputs, report.vectors) == (30, 30)
    rows = open_vectors(tmp_path / "out", ours=True).rows.to_pylist()
    assert [row["id"] for row in rows[:11]] == [*(f"a.png#{i}" for i in range(10)), "b.png#0"]
    assert {row["reference"] for row in rows} == {"a.png", "b.png", "in/c.png"}
    assert rows[29]["regions"] == '[{"box": [0.5, 0.5, 1.0, 1.0], "unit": "relative"}]'
    assert [rows[29][name] for name in ("x0", "y0", "x1", "y1", "area", "folder")] == [0.5, 0.5, 1.0, 1.0, 0.25, "in"]
    found = vectors_of(tmp_path / "out")
    boxes = [one.region for one in Grid(2).find(None, "")]
    np.testing.assert_allclose(
        np.stack([found[f"in/c.png#{i}"] for i in range(10)]),
        model.encode_regions(photos / "in/c.png", boxes),
        atol=1e-5,
    )


def test_a_grid_covers_the_image_on_every_level():
    assert [len(Grid(levels).find(None, "")) for levels in (1, 2, 3, 4)] == [1, 10, 59, 284]
    for level in (1, 2):
        boxes = [one.region for one in Grid(3).find(None, "")[{1: 1, 2: 10}[level] : {1: 10, 2: 59}[level]]]
        assert {box.x1 - box.x0 for box in boxes} == {0.5**level}
        assert min(box.x0 for box in boxes) == min(box.y0 for box in boxes) == 0
        assert max(box.x1 for box in boxes) == max(box.y1 for box in boxes) == 1


def test_places_are_searched_by_text_boxes_and_columns(model, photos, tmp_path):
    embed(model, photos, tmp_path / "out", regions="grid")
    index = open_index(tmp_path / "out", model=model, backend="exact")
    query = model.encode(Item(image=photos / "b.png", regions=[Box.relative(0.25, 0.25, 0.75, 0.75)]))
    best = index.search(query, 1)[0]
    assert (best.reference, best.id) == ("b.png", "b.png#5")
    assert inputs_of(tmp_path / "out").regions(best.attributes) == (Box.relative(0.25, 0.25, 0.75, 0.75),)
    right = index.search(query, 40, where="x0 >= 0.5 AND area < 0.3")
    assert len(right) == 9
    assert all(match.attributes["x0"] == 0.5 for match in right)


def test_the_grid_and_the_rule_are_part_of_what_made_the_vectors(model, photos, tmp_path):
    embed(model, photos, tmp_path / "out", regions="grid")
    with pytest.raises(FingerprintMismatchError, match="levels"):
        embed(model, photos, tmp_path / "out", regions="grid:3")
    with pytest.raises(FingerprintMismatchError, match=r"region: .*MaskedCrop"):
        embed(model, photos, tmp_path / "out", regions="grid", region="dense")
    with pytest.raises(FingerprintMismatchError, match="finder"):
        embed(model, photos, tmp_path / "out")
    with pytest.raises(FingerprintMismatchError, match=r"zoo embed .*photos --regions grid:2 --out"):
        open_index(tmp_path / "out", model=model.with_region_rule("dense"), backend="exact")


def test_a_stopped_job_goes_on_within_an_image_and_new_images_are_added(model, photos, tmp_path):
    whole = embed(model, photos, tmp_path / "whole", regions="grid")

    def stop(done: int, total: int) -> None:
        if done >= 13:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zoo.bulk.run.REPORT_EVERY", 0.0)
        with pytest.raises(KeyboardInterrupt):
            embed(model, photos, tmp_path / "out", regions="grid", shard_size=4, progress=stop)
    rest = embed(model, photos, tmp_path / "out", regions="grid", shard_size=4)
    assert (rest.vectors, rest.new) == (whole.vectors, 17)
    assert vectors_of(tmp_path / "out").keys() == vectors_of(tmp_path / "whole").keys()
    (photos / "d.png").write_bytes((photos / "a.png").read_bytes())
    (photos / "broken.png").write_bytes(b"\x89PNG nothing")
    more = embed(model, photos, tmp_path / "out", regions="grid", shard_size=4)
    assert (more.vectors, more.new, more.moved, more.bad) == (40, 0, 10, 10)  # d.png is what a.png is


# ------------------------------------------------------------------------------------------------ files of boxes


def coco(folder: Path) -> Path:
    content = {
        "images": [
            {"id": 7, "file_name": "a.png"},
            {"id": 8, "file_name": "in/c.png"},
            {"id": 9, "file_name": "gone.png"},
        ],
        "annotations": [
            {"id": 1, "image_id": 8, "bbox": [4, 2, 20, 10], "category_id": 3, "segmentation": []},
            {"id": 2, "image_id": 7, "bbox": [0, 0, 9, 9], "category_id": 4},
            {"id": 3, "image_id": 8, "bbox": [4, 2, 0, 10], "category_id": 3},
            {"id": 4, "image_id": 8, "bbox": [400, 2, 10, 10], "category_id": 3},
            {"id": 5, "image_id": 9, "bbox": [4, 2, 10, 10], "category_id": 3},
            {"id": 6, "image_id": 99, "bbox": [4, 2, 10, 10], "category_id": 3},
            {"id": 7, "image_id": 7, "bbox": [4, 2, "ten", 10], "category_id": 3},
        ],
        "categories": [{"id": 3, "name": "wheel"}, {"id": 4, "name": "door"}],
    }
    (folder / "boxes.json").write_text(json.dumps(content))
    return folder / "boxes.json"


def test_the_boxes_of_coco_are_embedded_and_none_is_lost_without_a_word(model, photos, tmp_path):
    report = embed(model, photos, tmp_path / "out", regions=coco(tmp_path))
    assert (report.inputs, report.vectors, report.bad) == (7, 2, 5)
    assert report.ignored == {"image-without-regions": 1}
    rows = {row["id"]: row for row in open_vectors(tmp_path / "out", ours=True).rows.to_pylist()}
    assert {name: row["label"] for name, row in rows.items()} == {"a.png#0": "door", "in/c.png#0": "wheel"}
    assert [rows["in/c.png#0"][name] for name in ("x0", "y0", "x1", "y1", "area")] == [4, 2, 24, 12, 200]
    bad = bad_of(tmp_path / "out")
    assert "has no area" in bad["in/c.png#1"]
    assert "lies outside" in bad["in/c.png#2"]
    assert "gone.png, which is not in the source" in bad["gone.png#0"]
    assert "no image has the id 99" in bad["image 99#0"]
    assert "annotation 7" in bad["a.png#1"]
    expected = model.encode_regions(photos / "in/c.png", [Box(4, 2, 24, 12)])[0]
    np.testing.assert_allclose(vectors_of(tmp_path / "out")["in/c.png#0"], expected, atol=1e-5)


def test_a_file_of_lists_may_grow_and_its_new_regions_are_added(model, photos, tmp_path):
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"a.png": [[0, 0, 9, 9], {"point": [9, 9], "label": "nut"}], "b.png": []}))
    first = embed(model, photos, tmp_path / "out", regions=str(path))
    assert (first.vectors, first.bad, first.ignored) == (2, 0, {"image-without-regions": 2})
    path.write_text(
        json.dumps(
            {
                "a.png": [[0, 0, 9, 9], {"point": [9, 9], "label": "nut"}],
                "b.png": [{"box": [0, 0, 1, 0.5], "unit": "relative"}],
            }
        )
    )
    more = embed(model, photos, tmp_path / "out", regions=str(path))
    assert (more.vectors, more.new) == (3, 1)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[1, 2]", "must hold"),
        ("{", "cannot be read as JSON"),
        ('{"a.png": 3}', "the regions of a.png must be a list"),
        ('{"images": [{"id": 1}], "annotations": []}', "no file of COCO's"),
        (
            '{"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}], "annotations": []}',
            "two images have one id",
        ),
    ],
)
def test_a_file_that_holds_no_regions_is_refused(tmp_path, content, told):
    (tmp_path / "boxes.json").write_text(content)
    with pytest.raises(TableError, match=told):
        Boxes(tmp_path / "boxes.json")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("gird", "must be grid"),
        ("grid:0", "1 to 4 levels"),
        ("grid:x", "whole number"),
        ("grid:9", "1 to 4 levels"),
        ("boxes", "must be grid"),
        (3, "must be grid"),
    ],
)
def test_what_is_no_finder_is_refused(value, told):
    with pytest.raises(ArgumentError, match=told):
        finder_of(value)
    assert finder_of("grid:3").config() == {"levels": 3}
    assert finder_of(finder_of("grid").spelled).config() == {"levels": 2}
    assert "boxes" not in names()


def test_a_finder_of_ones_own(model, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.bulk.finders.base.FINDERS", {})

    @register_finder("middle")
    class Middle(Finder):
        def find(self, image, name):
            return [Found(Box(4, 4, *(side - 4 for side in Image.open(image).size)))]

    assert embed(model, photos, tmp_path / "out", regions=Middle()).vectors == 3
    with pytest.raises(ValueError, match="two finders"):
        register_finder("middle")(Middle)
    with pytest.raises(ValueError, match="no name of a finder"):
        register_finder("a.json")
    with pytest.raises(ArgumentError, match="have no setting"):
        Middle.parse("3")


def test_what_cannot_be_followed_is_refused(model, photos, tmp_path):
    with pytest.raises(ArgumentError, match="region is how regions are read"):
        embed(model, photos, tmp_path / "out", region="dense")
    with pytest.raises(TableError, match="--ignore reads it without them"):
        embed(model, table(photos, [0, 0, 9, 9]), tmp_path / "out", regions="grid", column="image")
    (tmp_path / "t.txt").write_text("words\n")
    with pytest.raises(TableError, match="a text file with one text per line"):
        embed(model, tmp_path / "t.txt", tmp_path / "out", regions="grid")
    small = build_model("colpali-test")
    with pytest.raises(TokenVectorsError):
        embed(small, photos, tmp_path / "out", regions="grid")


def test_images_in_a_table_have_regions_too(model, photos, tmp_path):
    import pyarrow.parquet as pq

    image = {"bytes": (photos / "a.png").read_bytes(), "path": None}
    pq.write_table(pa.Table.from_pylist([{"image": image, "x0": 1}, {"image": image, "x0": 2}]), tmp_path / "t.parquet")
    report = embed(model, tmp_path / "t.parquet", tmp_path / "out", regions="grid:1")
    assert report.vectors == 2
    row = open_vectors(tmp_path / "out", ours=True).rows.to_pylist()[1]
    assert (row["id"], row["reference"], row["x0"], row["x0_"]) == ("1#0", "t.parquet#1", 2, 0.0)


def test_masks_in_tar_shards_are_what_is_meant_of_the_image_beside_them(model, photos, tmp_path):
    bits = np.zeros(SIDES[::-1], np.uint8)
    bits[4:20, 6:30] = 255
    Image.fromarray(bits).save(tmp_path / "mask.png")
    image, mask = (photos / "a.png").read_bytes(), (tmp_path / "mask.png").read_bytes()
    samples = [{"png": image, "mask.png": mask}, {"png": image}, {"png": image, "mask.png": image[:50]}]
    report = embed(model, shard(tmp_path / "s.tar", *samples), tmp_path / "out", max_bad=None)
    assert (report.vectors, report.bad) == (2, 1)
    assert "mask" in next(iter(bad_of(tmp_path / "out").values()))
    found = vectors_of(tmp_path / "out")
    expected = model.encode_regions(photos / "a.png", [Mask(bits > 0)])[0]
    np.testing.assert_allclose(found["0"], expected, atol=1e-5)
    np.testing.assert_allclose(found["1"], model.encode(photos / "a.png"), atol=1e-5)
    pairs = shard(tmp_path / "p.tar", {"query.png": image, "query.mask.png": mask, "positive.txt": b"a cat"})
    (region,) = open_pairs(pairs)[0].query.regions
    assert (np.asarray(region.pixels) == (bits > 0)).all()
    named = {"json": json.dumps({"mask": "mask.png"}).encode(), "png": image}
    embed(model, shard(tmp_path / "n.tar", named, {"png": image}), tmp_path / "named", max_bad=None)
    assert "mask.png" in bad_of(tmp_path / "named")["0"]  # a file beside the shard is none of the shard


# ------------------------------------------------------------------------------------------------ networks


class Halves(proposals.Proposer):
    """The left and the right half of an image, the brighter one first; a proposer that counts how often it is asked."""

    def __init__(self, bonus: float = 0.0) -> None:
        self.bonus, self.asked = bonus, 0

    def propose(self, pixels):
        self.asked += 1
        height, width = pixels.shape[:2]
        boxes = [Box(0, 0, width / 2, height), Box(width / 2, 0, width, height)]
        means = [pixels[:, : width // 2].mean() / 255 + self.bonus, pixels[:, width // 2 :].mean() / 255]
        for place in np.argsort(means)[::-1]:
            yield proposals.Proposal(boxes[place], boxes[place], means[place])

    def config(self):
        return {"kind": "halves", "bonus": self.bonus}


def test_a_network_is_asked_once_an_image_whatever_becomes_of_the_job(model, photos, tmp_path):
    halves, out = Halves(), tmp_path / "out"
    (photos / "broken.png").write_bytes(b"\x89PNG nothing")
    report = embed(model, photos, out, regions=halves)
    assert (report.vectors, report.bad, halves.asked) == (6, 1, 3)
    rows = open_vectors(out, ours=True).rows.to_pylist()
    assert all(rows[i]["score"] >= rows[i + 1]["score"] for i in (0, 2, 4))
    assert {(row["x0"], row["x1"]) for row in rows} == {(0, 24), (24, 48)}
    with (out / "regions.jsonl").open("ab") as file:
        file.write(b'{"image": "00')  # a kill came here
    (photos / "d.png").write_bytes((photos / "b.png").read_bytes()[:-1] + b"x")
    again = Halves()
    more = embed(model, photos, out, regions=again)
    assert (more.vectors, again.asked) == (8, 1)
    assert all(json.loads(line) for line in (out / "regions.jsonl").read_text().splitlines())
    with pytest.raises(FingerprintMismatchError, match="bonus"):
        embed(model, photos, out, regions=Halves(bonus=1.0))


def test_what_was_kept_and_is_no_region_is_found_anew(model, photos, tmp_path):
    halves, out = Halves(), tmp_path / "out"
    embed(model, photos, out, regions=halves)
    lines = [json.loads(line) for line in (out / "regions.jsonl").read_text().splitlines()]
    lines[0]["regions"] = [[{"box": [9, 9, 0, 0]}, 0.5]]
    lines[1] = ["something", "else"]
    (out / "regions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    again = Halves()
    assert embed(model, photos, out, regions=again).vectors == 6
    assert again.asked == 2


def test_the_objects_of_owl_are_found_by_name(model, photos, tmp_path):
    folder = tmp_path / "owl"
    tiny_owl(folder)
    out = tmp_path / "out"
    report = embed(model, photos, out, regions=f"owl:{folder}")
    assert report.vectors > 3
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["regions"] == f"owl:{folder}"
    assert manifest["fingerprint"]["finder"]["kind"] == "owl"
    row = open_vectors(out, ours=True).rows.to_pylist()[0]
    best = next(proposals.Owl(folder).propose(load_pixels(photos / row["reference"])))
    assert (row["x0"], row["y0"], row["x1"], row["y1"]) == pytest.approx(best.box.numbers)
    assert row["score"] == pytest.approx(best.score, abs=1e-5)


def sure_sam2(folder: Path) -> None:
    """A tiny SAM 2 with random weights that thinks itself sure and steady, as one must be to be heard by default."""
    tiny_sam2(folder)
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in tensors.items():
        if "proj_out" in name and "iou_prediction_head" in name and name.endswith("bias"):
            tensors[name] = tensor + 3
        if "proj_out" in name and "output_hypernetworks" in name:
            tensors[name] = tensor * 200
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_the_outlines_of_sam_are_found_by_name(model, tmp_path):
    folder, out = tmp_path / "sam2", tmp_path / "out"
    sure_sam2(folder)
    (tmp_path / "photos").mkdir()
    pixels = np.full((24, 36, 3), 90, np.uint8)
    pixels[8:20, 10:30] = (250, 30, 20)
    Image.fromarray(pixels).save(tmp_path / "photos" / "a.png")
    report = embed(model, tmp_path / "photos", out, regions=f"sam2:{folder}")
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["regions"] == f"sam2:{folder}"
    assert manifest["fingerprint"]["finder"]["kind"] == "sam2"
    rows, vectors = open_vectors(out, ours=True).rows.to_pylist(), vectors_of(out)
    wanted = list(proposals.Sam2(folder).propose(pixels))
    assert report.vectors == len(rows) == len(wanted) > 3
    for row, best in zip(rows, wanted, strict=True):
        assert (row["x0"], row["y0"], row["x1"], row["y1"]) == pytest.approx(best.box.numbers)
        assert row["score"] == pytest.approx(best.score, abs=1e-5)
    few = range(0, len(rows), 25)
    expected = model.encode_regions(pixels, [wanted[place].region for place in few])
    np.testing.assert_allclose(np.stack([vectors[rows[place]["id"]] for place in few]), expected, atol=1e-5)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.slow
@pytest.mark.parametrize("kills", [10])
def test_a_job_killed_at_any_moment_ends_as_if_nothing_had_been(model, photos, tmp_path, kills):
    jobs = Jobs(model.save_pretrained(tmp_path / "model"))
    options = {"regions": "grid", "shard_size": 4, "batch_size": 3}
    try:
        assert jobs.run(photos, tmp_path / "whole", **options) == 0
        whole, cost, killed = vectors_of(tmp_path / "whole"), jobs.spent, 0
        for number in range(kills):
            out = tmp_path / str(number)
            code = jobs.run(photos, out, seconds=cost * (0.3 + 0.6 * (number + 0.5) / kills), **options)
            assert code in (0, -signal.SIGPROF)
            killed += code != 0
            for again in (0, 1):
                report = embed(model, photos, out, **options)
                assert (report.vectors, report.bad) == (30, 0)
                assert not again or report.new == 0
            found = vectors_of(out)
            assert found.keys() == whole.keys()
            for name, vector in whole.items():
                np.testing.assert_allclose(found[name], vector, atol=1e-5)
        assert killed
    finally:
        jobs.close()
