"""Pointing at a thing on the demo's page: marks to regions, outlines, names and places; then with a real mouse and finger."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from tests.demos.browser_support import browser, expect, holds, needs_chromium, window_of
from tests.demos.demo_support import COLOURS, PATIENT, colour_model, colour_photos, folder_images, running
from zoo import Point, build_model

gr = pytest.importorskip("gradio")

from gradio_client import Client, handle_file  # noqa: E402
from zoo.demos import pointing, regions  # noqa: E402
from zoo.demos.chooser import Models  # noqa: E402
from zoo.demos.gallery import embed_files  # noqa: E402
from zoo.demos.handlers import Search  # noqa: E402
from zoo.demos.pointing import Pointing, Stroke, grid, marks_of, outline, regions_from  # noqa: E402

__all__ = ["browser"]
GREEN, RED, BLUE = (COLOURS[name] for name in ("green", "red", "blue"))


def scene_of(*colours: tuple[int, int, int], size: tuple[int, int] = (240, 160)) -> Image.Image:
    """Green, with a square of each colour: side 60, at (30, 50), (150, 50)."""
    image = Image.new("RGB", size, GREEN)
    for place, colour in zip(((30, 50), (150, 50)), colours, strict=False):
        image.paste(colour, (*place, place[0] + 60, place[1] + 60))
    return image


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """An image a colour; a scene with a red and a blue square, and one with a blue square in its upper left quarter."""
    folder = colour_photos(tmp_path_factory.mktemp("regions") / "photos")
    scene_of(RED, BLUE).save(folder / "a-scene.png")
    corner = Image.new("RGB", (240, 160), GREEN)
    corner.paste(BLUE, (0, 0, 120, 80))
    corner.save(folder / "blue-corner.png")
    return folder


@pytest.fixture
def page_of(photos, tmp_path):
    model = colour_model()
    found = Pointing(Search(Models(model), embed_files(model, folder_images(photos)), tmp_path))
    return found


def marks(kind, *at, **more):
    return {"marks": [{"kind": kind, "at": list(at), **more}], "turn": 3}


def answered(page, photos, given, labels="", name="a-scene.png", **options):
    """The last of each of what is told in turn: outline, names, places."""
    told: list = [None, None, None]
    for parts in page.by_region(str(photos / name), given, labels, **options):
        for place, part in enumerate(parts):
            if not (isinstance(part, dict) and part.get("__type__") == "update"):
                told[place] = part
    return told


SQUARES = {"red": (0.25, 0.5), "blue": (0.75, 0.5)}


@pytest.mark.parametrize("colour", SQUARES)
@pytest.mark.parametrize("kind", ["point", "box", "stroke"])
def test_what_is_pointed_at_is_named_and_found(page_of, photos, colour, kind):
    x, y = SQUARES[colour]
    at = {"point": (x, y), "box": (x - 0.12, y - 0.18, x + 0.12, y + 0.18), "stroke": (x, y - 0.04, x, y + 0.04)}[kind]
    drawn, names, places = answered(page_of, photos, marks(kind, *at, radius=0.11), "red, blue, green", top_k=2)
    assert names["rows"][0]["label"] == colour
    assert drawn._constructor_args[0]["outline"][0] == 3, "the browser tells by it which marks are answered"
    assert colour in places[0][1]


def test_the_place_in_a_gallery_image_is_drawn_on_it(page_of, photos):
    *_, places = answered(page_of, photos, marks("point", *SQUARES["blue"]), top_k=3)
    at = [caption.partition(" · ")[2] for _, caption in places].index("blue-corner.png")
    with Image.open(places[at][0]) as found:
        pixels = np.asarray(found.convert("RGB")).astype(int)
    teal = np.abs(pixels - pointing._LINE).sum(2) < 40
    rows, columns = np.nonzero(teal)
    assert (rows.max() + 1) / len(pixels) == pytest.approx(0.5, abs=0.02), "the best box is the upper left quarter"
    assert (columns.max() + 1) / pixels.shape[1] == pytest.approx(0.5, abs=0.02)


def test_regions_of_the_gallery_are_embedded_once(page_of, photos, monkeypatch):
    answered(page_of, photos, marks("point", *SQUARES["blue"]))
    model, calls = page_of.search.models.get("colours"), []
    encode = model.encode_regions
    monkeypatch.setattr(model, "encode_regions", lambda *a, **o: calls.append(a) or encode(*a, **o))
    answered(page_of, photos, marks("point", *SQUARES["red"]))
    assert len(calls) == 1, "only what is pointed at is new"


def test_without_a_mark_or_an_image_nothing_is_asked(page_of, photos):
    _, names, places = answered(page_of, photos, {"marks": []})
    assert names["title"] == "Nothing pointed at yet"
    assert places is None
    (told,) = page_of.by_region(None, marks("point", 0.5, 0.5))
    assert told[1]["title"] == "No image yet"


def test_a_model_without_text_finds_places_only(photos, tmp_path):
    model = colour_model(modalities=frozenset({"image"}))
    page = Pointing(Search(Models(model), embed_files(model, folder_images(photos)), tmp_path))
    _, names, places = answered(page, photos, marks("point", *SQUARES["red"]), top_k=1)
    assert names == pointing.NO_TEXT
    assert places[0][1].endswith("red.png")


@pytest.mark.slow
def test_a_model_that_reads_regions_gets_them_as_they_were_marked(photos, tmp_path, monkeypatch):
    model, asked = build_model("virtue-test"), []
    page = Pointing(Search(Models(model), embed_files(model, folder_images(photos)[:2]), tmp_path))
    encode = model.encode_regions
    monkeypatch.setattr(
        model, "encode_regions", lambda image, some, **o: asked.append(some) or encode(image, some, **o)
    )
    _, names, places = answered(page, photos, marks("point", *SQUARES["red"]), "red, blue")
    assert asked[0] == [[Point.relative(*SQUARES["red"])]]
    assert len(names["rows"]) == 2
    assert len(places) == 1, "the other one of two"


def test_an_upload_is_turned_upright_and_composited_on_white(page_of, tmp_path):
    folder = page_of.search.visitors.folder()
    scene, exif = scene_of(RED), Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees clockwise
    scene.save(folder / "turned.png", exif=exif)
    upright = page_of.opened(str(folder / "turned.png"))["src"].partition("file=")[2]
    with Image.open(upright) as copy:
        assert copy.size == (160, 240)
    # The square's middle, (60, 80) of 240 by 160, is at (80, 60) of 160 by 240 then.
    _, names, _ = answered(page_of, folder, marks("point", 79 / 160, 60 / 240), "red, green", "turned.png", top_k=1)
    assert names["rows"][0]["label"] == "red"
    clear = Image.new("RGBA", (80, 60), (0, 0, 0, 0))
    clear.save(folder / "clear.png")
    _, names, _ = answered(page_of, folder, marks("box", 0.2, 0.2, 0.8, 0.8), "white, black", "clear.png", top_k=1)
    assert names["rows"][0]["label"] == "white"


def test_what_cannot_be_read_is_told(page_of, photos, tmp_path):
    folder = page_of.search.visitors.folder()
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for asked in (
        lambda: page_of.opened(str(folder / "broken.png")),
        lambda: answered(page_of, folder, marks("point", 0.5, 0.5), name="broken.png"),
    ):
        with pytest.raises(gr.Error, match="damaged or cut off"):
            asked()
    with pytest.raises(gr.Error, match="gallery has changed"):
        page_of.picked(99)


NAN = json.loads("NaN")
WRONG = [
    ("marks", "list of at most"),
    ({"marks": 5}, "list of at most"),
    ({"marks": [{"kind": "point", "at": [0.5, 0.5]}] * 101}, "list of at most"),
    *(
        ({"marks": [mark]}, "A mark is a point")
        for mark in (
            5,
            {},
            {"kind": ["point"], "at": [0.5, 0.5]},
            {"kind": "circle", "at": [0.5, 0.5]},
            {"kind": "point", "at": [0.5]},
            {"kind": "point", "at": [0.5, 1.5]},
            {"kind": "point", "at": [0.5, NAN]},
            {"kind": "point", "at": [0.5, True]},
            {"kind": "point", "at": "ab"},
            {"kind": "stroke", "at": [0.5] * 20_002},
            {"kind": "stroke", "at": [0.5] * 3},
        )
    ),
    ({"marks": [{"kind": "stroke", "at": [0.5, 0.5], "radius": 3}]}, "radius of a stroke"),
    ({"marks": [{"kind": "stroke", "at": [0.5, 0.5], "radius": 0}]}, "radius of a stroke"),
    ({"marks": [{"kind": "box", "at": [0.5, 0.2, 0.5, 0.9]}]}, "too small to mean"),
    ({"marks": [{"kind": "box", "at": [0.9, 0.2, 0.5, 0.9]}]}, "too small to mean"),
]


@pytest.mark.parametrize(("given", "message"), WRONG)
def test_marks_that_a_page_would_not_send_are_answered_in_words(given, message):
    with pytest.raises(gr.Error, match=message):
        marks_of(given)


def test_strokes_cover_what_they_are_drawn_over():
    mask = regions_from([Stroke((0.25, 0.5, 0.75, 0.5), 0.1)], 100, 200)[0].pixels
    rows, columns = np.nonzero(mask)
    assert (columns.min(), columns.max()) == (pytest.approx(30, abs=1), pytest.approx(170, abs=1))
    assert (rows.min(), rows.max()) == (pytest.approx(30, abs=1), pytest.approx(70, abs=1))
    dot = regions_from([Stroke((0.999, 0.999), 1e-6)], 100, 200)[0].pixels
    assert dot[99, 199]


@pytest.mark.parametrize("size", [(160, 240), (1600, 2400)])
def test_an_outline_goes_round_its_mask(size):
    height, width = size
    mask = np.zeros(size, bool)
    mask[height // 4 : height // 2, width // 4 : 3 * width // 4] = True
    (line,) = outline(mask)
    xs, ys = np.array(line[::2]), np.array(line[1::2])
    assert [xs.min(), xs.max(), ys.min(), ys.max()] == pytest.approx([0.25, 0.75, 0.25, 0.5], abs=0.01)
    single = np.zeros(size, bool)
    single[5, 7] = True
    assert outline(single), "one pixel has an outline too"
    assert outline(np.ones(size, bool))


def test_the_grid_covers_the_image():
    boxes = np.array([box.numbers for box in grid()])
    assert boxes.min() == 0
    assert boxes.max() == 1
    assert len({tuple(box) for box in boxes.tolist()}) == len(boxes) == 10


def test_the_pages_endpoint_answers_programs(photos, tmp_path):
    page = regions.build(colour_model(), folder_images(photos), workspace=tmp_path / "work")
    with running(page) as url:
        client = Client(url, verbose=False, httpx_kwargs=PATIENT)
        image = handle_file(str(photos / "a-scene.png"))
        _, names, places = client.predict(
            image, marks("point", *SQUARES["red"]), "red, blue", 2, api_name="/search_by_region"
        )
        assert names["rows"][0]["label"] == "red"
        assert len(places) == 2


# ------------------------------------------------------------------------------------------------------- in the browser


@pytest.fixture(scope="module")
def url(photos, tmp_path_factory):
    page = regions.build(colour_model(), folder_images(photos), workspace=tmp_path_factory.mktemp("work"))
    with running(page) as address:
        yield address


@pytest.fixture(params=[1280, 390])
def tab(browser, url, request):
    context = window_of(browser, request.param)
    opened = context.new_page()
    opened.goto(url)
    opened.locator("#region-canvas img[src]").wait_for()
    yield opened
    context.close()


def stage_of(tab):
    stage = tab.locator("#region-canvas .stage")
    stage.scroll_into_view_if_needed()
    return stage, stage.bounding_box()


def at(box, x, y):
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def drag(tab, *places):
    _, box = stage_of(tab)
    tab.mouse.move(*at(box, *places[0]))
    tab.mouse.down()
    for place in places[1:]:
        tab.mouse.move(*at(box, *place), steps=4)
    tab.mouse.up()


def outlined(tab):
    """Left, top, right, bottom of the outline that is drawn, once there is one that the server made."""
    tab.wait_for_function("document.querySelector('#region-canvas path.line').getAttribute('d').split(' ').length > 6")
    box = tab.evaluate(
        "(({x, y, width, height}) => [x, y, x + width, y + height])(document.querySelector('#region-canvas path.line').getBBox())"
    )
    return [round(number, 3) for number in box]


@needs_chromium
@pytest.mark.slow
@pytest.mark.usefixtures("cache_home")
def test_a_visitor_clicks_drags_and_paints(tab):
    names, first = tab.locator("#region-names li .name").first, tab.locator("#region-results .thumbnail-lg").first
    holds(tab, "regions-start", tab.locator("#region-canvas .hint"))
    tab.locator("#region-labels textarea, #region-labels input").fill("red, blue, green")
    _, box = stage_of(tab)
    tab.mouse.click(*at(box, *SQUARES["red"]))
    assert outlined(tab) == pytest.approx([0.125, 0.3125, 0.375, 0.6875], abs=0.03)
    expect(names).to_have_text("red")
    expect(first).to_contain_text("red.png")
    holds(tab, "regions-click", names)

    tab.get_by_role("button", name="Box").click()
    drag(tab, (0.9, 0.7), (0.6, 0.3))
    expect(names).to_have_text("blue")
    expect(first).to_contain_text("blue.png")
    drag(tab, (0.3, 0.3), (0.301, 0.301))
    expect(tab.locator("#region-canvas .hint")).to_contain_text("too small")
    holds(tab, "regions-box", tab.locator("#region-canvas .hint"))

    tab.get_by_role("button", name="Paint").click()
    drag(tab, (0.2, 0.5), (0.3, 0.5), (0.3, 0.6))
    expect(names).to_have_text("red")
    tab.get_by_role("button", name="Clear").click()
    expect(tab.locator("#region-names .head")).to_have_text("Nothing pointed at yet")
    assert tab.locator("#region-canvas path.line").first.get_attribute("d") == ""
    stage_of(tab)[0].focus()
    for key in ["Shift+ArrowLeft"] * 2 + ["ArrowLeft"] * 2 + ["Enter"]:
        tab.keyboard.press(key)
    expect(names).to_have_text("red")


@needs_chromium
@pytest.mark.slow
@pytest.mark.usefixtures("cache_home")
def test_a_visitor_points_with_a_finger_at_his_own_image(browser, url, photos, tmp_path):
    scene, exif = scene_of(RED, BLUE), Image.Exif()
    exif[0x0112] = 6
    scene.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    context.set_default_timeout(60_000)
    tab = context.new_page()
    tab.goto(url)
    tab.locator("#region-canvas img[src]").wait_for()
    before = tab.locator("#region-canvas img").get_attribute("src")
    tab.locator("#region-image").get_by_label("Remove Image").click()
    expect(tab.locator("#region-canvas .hint")).to_contain_text("Choose an image")
    tab.locator("#region-image input[type=file]").set_input_files(tmp_path / "turned.jpg")
    expect(tab.locator("#region-canvas img")).to_have_attribute("src", re.compile(f"^(?!{re.escape(before)}$).+"))
    _, box = stage_of(tab)
    tab.wait_for_function(
        "document.querySelector('#region-canvas img').naturalHeight > document.querySelector('#region-canvas img').naturalWidth"
    )
    tab.locator("#region-labels textarea, #region-labels input").fill("red, blue, green")
    _, box = stage_of(tab)
    tab.touchscreen.tap(*at(box, 0.5, 0.75))  # (180, 80) of 240 by 160, turned clockwise
    expect(tab.locator("#region-names li .name").first).to_have_text("blue")
    context.close()
