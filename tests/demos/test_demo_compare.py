"""Models side by side in the demo: what each finds, where ranks differ, how far spaces agree, and the board."""

import pytest
import torch

from tests.demos.demo_support import ColourWords, colour_model, colour_photos, folder_images, running
from zoo.errors import ZooError

gr = pytest.importorskip("gradio")

from zoo.demos import board, compare, serve  # noqa: E402
from zoo.demos.chooser import Models  # noqa: E402
from zoo.demos.gallery import embed_files  # noqa: E402
from zoo.demos.handlers import Search  # noqa: E402
from zoo.demos.screenshot import CHROMIUM_FLAGS, find_chromium  # noqa: E402


class Contrary(ColourWords):
    """Takes red for blue and blue for red."""

    def prepare_item(self, item):
        vector = super().prepare_item(item)
        return vector[torch.tensor([2, 1, 0, *range(3, len(vector))])]


def contrary_model():
    model = colour_model("contrary")
    model.towers[1].encoder = Contrary()
    return model


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return colour_photos(tmp_path_factory.mktemp("compare") / "photos")


@pytest.fixture(scope="module")
def comparing(photos, tmp_path_factory):
    models = colour_model(), contrary_model(), colour_model("eye", frozenset({"image"}))
    files = folder_images(photos)
    galleries = compare._in_common([embed_files(model, files) for model in models])
    search = Search(Models(models[0]), galleries[0], tmp_path_factory.mktemp("work"))
    return compare.Comparing(search, [compare.Side(m.spec.name, m, g) for m, g in zip(models, galleries, strict=True)])


def test_each_model_answers_and_the_ranks_that_differ_are_listed(comparing):
    differing, ours, contrary, eye = comparing.by_text("red", 3)
    assert ours[0][1].startswith("1. red.png")
    assert contrary[0][1].startswith("1. blue.png")
    assert "elsewhere #" in ours[0][1] or "elsewhere #" in contrary[0][1]
    assert eye == []
    assert "eye reads no text" in differing
    rows = [row.split("<td")[1:] for row in differing.split("<tr>")[2:]]
    found = {row[0].split(">")[1].split("<")[0]: [cell.split(">")[1].split("<")[0] for cell in row[1:]] for row in rows}
    assert found["red.png"][0] == found["blue.png"][1] == "1"
    assert found["red.png"][1] != "1"


def test_an_image_is_looked_for_by_all(comparing, photos):
    differing, *found = comparing.by_image(str(photos / "green.png"), 2)
    assert [one[0][1].split(" · ")[0] for one in found] == ["1. green.png"] * 3
    assert "2 of the first 2 are the same for all" in differing
    assert "All of them rank these images alike" in differing


def test_what_cannot_be_asked_is_said(comparing):
    with pytest.raises(gr.Error, match="Type a few words"):
        comparing.by_text("  ")
    with pytest.raises(gr.Error, match="Add an image first"):
        comparing.by_image(None)
    for wrong in (0, "many", float("nan")):
        with pytest.raises(gr.Error, match="Images to show"):
            comparing.by_text("red", wrong)
    blind = compare.Comparing(comparing.search, comparing.sides[2:] * 2)
    with pytest.raises(gr.Error, match="None of these models reads text"):
        blind.by_text("red")


def test_equal_spaces_agree_and_maps_are_drawn_for_each(comparing):
    said = comparing.agreement()
    assert said.count("<td class='n'>1.00</td>") == 6, "three pairs, CKA and neighbours: their images are read alike"
    maps = comparing.maps("PCA")
    assert len(maps) == 3
    with pytest.raises(gr.Error, match="unknown projection"):
        comparing.maps("a globe")


def test_images_that_one_model_cannot_embed_are_left_out_for_all(photos):
    model = colour_model()
    files = folder_images(photos)
    whole, few = embed_files(model, files), embed_files(model, files[2:5][::-1])
    one, other = compare._in_common([whole, few])
    assert one.files == other.files == tuple(files[2:5])
    torch.testing.assert_close(one.vectors, other.vectors)


def test_models_that_the_page_cannot_compare_are_refused_by_name(photos):
    text = colour_model("words", frozenset({"text"}))
    with pytest.raises(ZooError, match="words reads no images"):
        compare.build(colour_model(), folder_images(photos), others=[text])
    with pytest.raises(ZooError, match="2 to 4 models, not 1"):
        compare.build(colour_model(), folder_images(photos))
    with pytest.raises(ZooError, match="zoo-mini alone is not compared"):
        serve.launch(None, compare=["zoo-mini"])
    with pytest.raises(ZooError, match="shows no 'regions'"):
        serve.launch("zoo-mini", compare=["zoo-omni"], page="regions")
    assert compare._names([colour_model(), colour_model(), text]) == ["colours (1)", "colours (2)", "words"]


class TestBoard:
    def test_it_shows_what_the_cards_hold_and_keeps_ours_apart(self):
        task = "photos · image → text · recall@1"
        rows = {row[0]: row for row in board.rows(task)}
        assert rows["zoo-mini"][1].startswith("68.7 (67.2 to 70.2)")
        assert all(
            not (row[1] and row[2]) for rows in map(board.rows, board.tasks()) for row in rows if row[1] == row[2]
        )
        ours = [bool(row[1]) for row in board.rows(task)]
        assert ours == sorted(ours, reverse=True), "what was measured here comes first"

    def test_filters_narrow_it(self):
        task = "COCO · text → image · recall@1"
        every = board.rows(task)
        assert len(every) > 15
        assert {row[0] for row in board.rows(task, "SIGLIP")} == {row[0] for row in every if "siglip" in row[0]}
        assert board.rows(task, reads="audio") == []
        assert 0 < len(board.rows(task, most_millions=100)) < len(every)
        assert not any("-nc" in row[4] for row in board.rows(task, commercial=True))
        assert any("-nc" in row[4] for row in every)
        assert "No model on this board fits" in board.table(task, "no such model")
        with pytest.raises(gr.Error, match="listed tasks"):
            board.rows("no such task")


@pytest.mark.skipif(find_chromium() is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [1280, 390])
def test_a_visitor_compares(photos, width):
    sync_api = pytest.importorskip("playwright.sync_api")
    page_ = compare.build(colour_model(), folder_images(photos), others=[contrary_model()], local=True)
    with running(page_) as url, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=CHROMIUM_FLAGS)
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.set_default_timeout(120_000)
        page.goto(url)
        page.locator("#query textarea, #query input").first.fill("red")
        page.locator("#query button").first.click()
        sync_api.expect(page.locator("#found-0 .caption-label").first).to_contain_text("1. red.png", timeout=120_000)
        sync_api.expect(page.locator("#found-1 .caption-label").first).to_contain_text("1. blue.png")
        sync_api.expect(page.locator("#differing")).to_contain_text("red.png")
        page.get_by_role("tab", name="Agreement").click()
        sync_api.expect(page.locator("#agreement")).to_contain_text("colours and contrary")
        page.get_by_role("tab", name="Board").click()
        sync_api.expect(page.locator("#board")).to_contain_text("measured here")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        browser.close()
