"""Regions on the command line: `zoo encode --box`, `zoo embed --regions`, `zoo search` over places."""

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zoo
from zoo.cli._regions import told
from zoo.inputs.outlines import outlined

pytestmark = pytest.mark.usefixtures("cache_home")
RED, BLUE = (210, 20, 20), (20, 30, 210)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A red square in a corner of one white image and a blue one in that of another; a mask of the first."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, colour, at in (("red.png", RED, (0, 0)), ("blue.png", BLUE, (64, 64))):
        image = Image.new("RGB", (128, 128), "white")
        image.paste(colour, (*at, at[0] + 64, at[1] + 64))
        image.save(folder / name)
    mask = Image.new("1", (128, 128))
    mask.paste(1, (0, 0, 64, 64))
    mask.save(tmp_path / "m.png")
    return folder


def test_encode_points_at_one_thing_or_with_each_at_several(run, photos, tmp_path):
    image = photos / "red.png"
    model = zoo.load_model("zoo-mini")
    flags = ["--box", "0,0,64,64", "--point", "50%,50%", "--mask", tmp_path / "m.png", "--polygon", "0,0,60,0,0,60"]
    boxes = [zoo.Box(0, 0, 64, 64), zoo.Point.relative(0.5, 0.5), zoo.Polygon([(0, 0), (60, 0), (0, 60)])]
    mask = zoo.Mask(np.asarray(Image.open(tmp_path / "m.png")))
    regions = [*boxes[:2], mask, boxes[2]]
    code, out, _ = run("encode", "a red square", "--image", image, *flags, "--json")
    assert code == 0
    found = json.loads(out)["vectors"]
    np.testing.assert_allclose(found[1]["vector"], model.encode_regions(image, [regions])[0], atol=1e-5)
    assert found[1]["regions"][0] == {"box": [0.0, 0.0, 64.0, 64.0]}
    assert found[1]["regions"][2] == {"mask": str(tmp_path / "m.png")}
    code, out, _ = run("encode", "--image", image, *flags, "--each", "--region", "dense", "--json")
    each = [one["vector"] for one in json.loads(out)["vectors"]]
    np.testing.assert_allclose(each, model.encode_regions(image, regions, region="dense"), atol=1e-5)
    code, out, _ = run("encode", "--image", image, *flags, "--each")
    assert "point 50%,50%" in out
    assert "polygon 0,0,60,0,0,60" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--box", "0,0,9,9"], "there are none: --image FILE"),
        (["--image", "red.png", "--image", "blue.png", "--box", "0,0,9,9"], "there are 2"),
        (["--image", "red.png", "--box", "0,0,9"], "a box is a list of 4 numbers"),
        (["--image", "red.png", "--box", "0,0,9,50%"], "mixes pixels and %"),
        (["--image", "red.png", "--box", "9,9,0,0"], "has no area"),
        (["--image", "red.png", "--box", "0%,0%,200%,9%"], "from 0 to 1"),
        (["--image", "red.png", "--polygon", "0,0,9,9,4"], "no list of numbers"),
        (["--image", "red.png", "--mask", "none.png"], "is no file"),
        (["--image", "red.png", "--box", "900,0,990,9"], "lies outside the upright image"),
        (["--image", "red.png", "--each"], "--each is of several regions"),
        (["--image", "red.png", "--region", "dense"], "--region is how regions are read"),
        (["--image", "red.png", "--box", "0,0,9,9", "--region", "cut"], "region must be one of"),
    ],
)
def test_encode_refuses_what_it_cannot_follow(run, capsys, photos, monkeypatch, arguments, words):
    monkeypatch.chdir(photos)
    try:
        code, _, err = run("encode", *arguments)
    except SystemExit as stopped:  # by argparse, which names the option
        code, err = stopped.code, capsys.readouterr().err
    assert code == 2
    assert words in " ".join(err.split())


def test_a_mask_that_is_a_jpeg_is_refused(run, photos, tmp_path):
    Image.open(tmp_path / "m.png").convert("L").save(tmp_path / "m.jpg")
    code, _, err = run("encode", "--image", photos / "red.png", "--mask", tmp_path / "m.jpg")
    assert code == 2
    assert "is a JPEG file, which blurs the edges" in err


def test_places_are_embedded_found_and_outlined(run, photos, tmp_path):
    out = tmp_path / "places"
    code, said, err = run("embed", photos, "--out", out, "--regions", "grid", "--region", "dense", "--quiet")
    assert (code, err) == (0, "")
    assert "20 vectors" in said
    code, said, _ = run("search", out, "--image", photos / "red.png", "--box", "0,0,64,64", "-k", 3)
    lines = said.splitlines()
    assert lines[0].split() == ["score", "region", "image+regions"]
    assert "box 0%,0%,50%,50%" in lines[2]
    assert "red.png" in lines[2]
    page = tmp_path / "found.html"
    code, said, _ = run(
        "search", out, "--image", photos / "blue.png", "--box", "64,64,128,128", "-k", 1, "--json", "--html", page
    )
    (best,) = json.loads(said)
    assert best["reference"] == "blue.png"
    assert best["regions"] == [{"box": [0.5, 0.5, 1.0, 1.0], "unit": "relative"}]
    shown = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
        for data in re.findall(r'base64,([^"]+)"', page.read_text())
    ]
    assert len(shown) == 2  # what was looked for, and what was found
    for pixels in shown:  # an outline runs along the upper edge of the blue square, and not along that of the image
        strip = pixels[62:66, 70:120].astype(int)
        assert (strip[..., 0] > 150).any(0).mean() > 0.9
        assert (pixels[:4] > 200).all()
    code, said, _ = run("search", out, "a red square", "--where", "x0 = 0 AND area < 0.3", "-k", 30)
    assert code == 0
    assert len(said.splitlines()) == 2 + 6


def test_search_and_embed_refuse_what_they_cannot_follow(run, photos, tmp_path):
    out = tmp_path / "places"
    code, _, err = run("embed", photos, "--out", out, "--regions", "gird")
    assert (code, "must be grid" in err) == (2, True)
    assert run("embed", photos, "--out", out, "--regions", "grid:1", "--quiet")[0] == 0
    for arguments, words in (
        (["a", "--box", "0,0,9,9"], "--image FILE"),
        (["a", "--rerank", "vlm-reranker-test"], "rerankers read whole images"),
        (["--image", photos / "red.png", "--box", "900,0,990,9"], "lies outside"),
    ):
        code, _, err = run("search", out, *arguments)
        assert (code, words in err) == (2, True), err


def test_regions_are_told_in_words():
    corners = [(0, 0), (9, 0), (9, 9), (4, 12), (0, 9)]
    regions = [
        zoo.Box(0, 1.5, 20, 30),
        zoo.Point.relative(0.25, 0.5),
        zoo.Polygon(corners),
        zoo.Mask(np.ones((2, 2), bool)),
    ]
    assert told(regions) == "box 0,1.5,20,30 + point 25%,50% + polygon of 5 corners + mask"


@pytest.mark.parametrize("kind", ["box", "point", "polygon", "mask"])
def test_an_outline_goes_round_the_region_and_leaves_the_rest(kind):
    pixels = np.full((200, 300, 3), 90, np.uint8)
    bits = np.zeros((200, 300), bool)
    bits[60:140, 100:220] = True
    region = {
        "box": zoo.Box(100, 60, 220, 140),
        "point": zoo.Point(160, 100),
        "polygon": zoo.Polygon([(100, 60), (220, 60), (220, 140), (100, 140)]),
        "mask": zoo.Mask(bits),
    }[kind]
    shown = outlined(pixels, [region], 300)
    assert shown.shape == pixels.shape
    changed = (shown != pixels).any(-1)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    expected = (92, 108, 152, 168) if kind == "point" else (60, 140, 100, 220)
    found = (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1)
    assert all(abs(a - b) <= 5 for a, b in zip(found, expected, strict=True)), found
    assert not changed[100, 160]
    assert (pixels == 90).all()
