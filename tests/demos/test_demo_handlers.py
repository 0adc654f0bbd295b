"""What the search page answers, called as plain methods with a model whose answers are known."""

import math
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from tests.demos.demo_support import COLOURS, colour_model, colour_photos
from zoo.errors import HubError
from zoo.spec import Calibration, ModelSpec

gr = pytest.importorskip("gradio")

from zoo.demos import chooser, vocabulary  # noqa: E402
from zoo.demos import gallery as gallery_of  # noqa: E402
from zoo.demos.chooser import Models  # noqa: E402
from zoo.demos.gallery import embed_files  # noqa: E402
from zoo.demos.handlers import EXAMPLE_TEXTS, MAX_UPLOADS, Search  # noqa: E402
from zoo.demos.labels import MAX_LABELS  # noqa: E402
from zoo.demos.visitors import EXPIRY  # noqa: E402
from zoo.demos.widgets import cosine_text  # noqa: E402

from tests.demos.demo_support import folder_images  # noqa: E402

pytestmark = pytest.mark.usefixtures("cache_home")  # where vectors of folders are kept


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return colour_photos(tmp_path_factory.mktemp("demo") / "photos")


@pytest.fixture
def make(photos, tmp_path):
    def make(model=None, **options):
        model = model or colour_model()
        gallery = embed_files(model, folder_images(photos))
        return Search(Models(model), gallery, tmp_path / "work", **{"roots": [photos.parent], **options})

    return make


@pytest.fixture
def search(make):
    return make()


def captions(found):
    return [caption for _, caption in found]


def colour_at_centre(path):
    with Image.open(path) as image:
        return image.convert("RGB").getpixel((image.width // 2, image.height // 2))


# Words to images


@pytest.mark.parametrize("colour", COLOURS)
def test_words_find_the_right_image_first(search, colour):
    found, scores = search.by_text(f"something {colour}", 3)
    assert captions(found)[0] == f"{colour}.png"
    assert len(found) == len(scores["rows"]) == 3
    assert max(abs(a - b) for a, b in zip(colour_at_centre(found[0][0]), COLOURS[colour], strict=True)) < 12


def test_scores_are_cosines_and_bars_run_from_average_to_best(search):
    _, scores = search.by_text("red", len(COLOURS))
    rows = scores["rows"]
    assert rows[0]["bar"] == 1
    assert [row["cosine"] for row in rows] == sorted((row["cosine"] for row in rows), reverse=True)
    assert math.isclose(rows[0]["cosine"], 1, abs_tol=0.01)
    assert rows[0]["text"] == f"{rows[0]['cosine']:.2f}"
    average = sum(row["cosine"] for row in rows) / len(rows)
    for row in rows:
        expected = max(0, (row["cosine"] - average) / (rows[0]["cosine"] - average))
        assert math.isclose(row["bar"], expected, abs_tol=1e-4)
    assert "cosine" in scores["note"]
    assert f"{len(COLOURS)} images" in scores["title"]


def test_a_score_is_never_minus_zero():
    assert [cosine_text(score) for score in (-0.001, 0.004, -0.126, 1.0)] == ["0.00", "0.00", "-0.13", "1.00"]


def test_only_thumbnails_are_returned(search, photos):
    found, _ = search.by_text("green", 99)
    assert len(found) == len(COLOURS)
    for path, _ in found:
        assert Path(path).parent == search.thumbnails.folder
        assert photos not in Path(path).parents


@pytest.mark.parametrize("query", ["", "   ", "\n\t", None])
def test_empty_query_names_the_remedy(search, query):
    with pytest.raises(gr.Error, match="Type a few words"):
        search.by_text(query)


def test_model_without_text_says_so(make):
    search = make(colour_model("eyes-only", frozenset({"image"})))
    with pytest.raises(gr.Error, match=r"eyes-only reads image.*another model"):
        search.by_text("red")


def test_an_image_deleted_meanwhile_is_named(make, tmp_path):
    own = colour_photos(tmp_path / "own")
    model = colour_model()
    search = Search(Models(model), embed_files(model, folder_images(own)), tmp_path / "work2")
    (own / "red.png").unlink()
    with pytest.raises(gr.Error, match=r"red\.png is no longer there"):
        search.by_text("red")


# Images to images


def test_an_image_finds_its_like(search, tmp_path):
    query = tmp_path / "query.jpg"
    Image.new("RGB", (300, 200), (225, 35, 25)).save(query)
    found, scores = search.by_image(str(query), 2)
    assert captions(found)[0] == "red.png"
    assert scores["rows"][0]["cosine"] > 0.99


BAD = {
    "nothing.jpg": (b"", "not an image"),
    "page.jpg": (b"<!doctype html><p>not found", "not an image"),
    "notes.png": (b"hello", "not an image"),
    "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
    "cut.jpg": (b"\xff\xd8\xff\xe0" + b"\0" * 40, "damaged"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_upload_gets_a_friendly_message_without_paths(search, tmp_path, name):
    data, words = BAD[name]
    (tmp_path / name).write_bytes(data)
    for ask in (lambda: search.by_image(str(tmp_path / name)), lambda: search.classify(str(tmp_path / name), "a, b")):
        with pytest.raises(gr.Error, match=words) as caught:
            ask()
        assert str(tmp_path) not in caught.value.message
        assert not caught.value.print_exception


def test_a_huge_image_is_refused_before_it_is_decoded(search, tmp_path):
    Image.new("1", (9000, 9000)).save(tmp_path / "huge.png")
    with pytest.raises(gr.Error, match="64 megapixels"):
        search.by_image(str(tmp_path / "huge.png"))


def test_no_image_names_the_remedy(search):
    with pytest.raises(gr.Error, match="Add an image"):
        search.by_image(None)
    with pytest.raises(gr.Error, match="Add an image"):
        search.classify(None, "a, b")


# Images to words


def test_labels_are_ranked_and_shares_are_a_softmax_of_cosines(search, photos):
    scores = search.classify(str(photos / "blue.png"), "red, blue\n green; blue,, ", temperature=0.1)
    rows = scores["rows"]
    assert scores["title"].endswith("blue")
    assert rows[0]["label"] == "blue"
    assert {row["label"] for row in rows} == {"red", "blue", "green"}
    weights = [math.exp(row["cosine"] / 0.1) for row in rows]
    for row, weight in zip(rows, weights, strict=True):
        assert math.isclose(row["bar"], weight / sum(weights), rel_tol=1e-4)
    assert "temperature 0.1" in scores["note"]


def test_smaller_temperature_decides_more(search, photos):
    shares = [search.classify(str(photos / "grey.png"), "grey, red", t)["rows"][0]["bar"] for t in (0.5, 0.2, 0.05)]
    assert shares == sorted(shares)
    assert shares[0] < shares[-1]


@pytest.mark.parametrize("labels", ["", None, "cat", "cat, cat ,", ",,,"])
def test_fewer_than_two_labels_are_refused(search, photos, labels):
    with pytest.raises(gr.Error, match="at least two labels"):
        search.classify(str(photos / "red.png"), labels)


def test_too_many_labels_are_refused(search, photos):
    with pytest.raises(gr.Error, match=f"at most {MAX_LABELS}"):
        search.classify(str(photos / "red.png"), ",".join(f"label {i}" for i in range(MAX_LABELS + 1)))


# Indexing


@pytest.fixture
def more(photos):
    """Images inside the allowed root that are not in the gallery yet."""
    folder = photos.parent / "more"
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (30, 30), (0, 255, 255)).save(folder / "cyan.png")
    return folder


def test_a_folder_joins_the_gallery_or_replaces_it(search, more):
    own, report = search.index_folder(str(more), True)
    assert own is None
    assert f"{len(COLOURS) + 1} images are searchable" in report
    assert captions(search.browse())[0] == "cyan.png"
    _, report = search.index_folder(str(more), False)
    assert captions(search.browse()) == ["cyan.png"]
    assert "1 image ·" in search.status()


def test_indexing_again_adds_nothing_twice(search, photos):
    search.index_folder(str(photos), True)
    _, report = search.index_folder(str(photos), True)
    assert f"{len(COLOURS)} images are searchable" in report
    assert f"{len(COLOURS)} were there already" in report
    assert "embedded" not in report


def test_indexing_reports_bad_files_by_name_and_goes_on(search, more):
    (more / "bro`ken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    try:
        _, report = search.index_folder(str(more), False)
    finally:
        (more / "bro`ken.png").unlink()
    assert "1 file could not be read" in report
    assert "`bro ken.png`: That image is damaged" in report


@pytest.mark.parametrize("path", ["/etc", "/", "{root}/..", "{root}/../..", "~root/..", "{root}/escape"])
def test_only_allowed_folders_are_read(search, photos, path):
    escape = photos.parent / "escape"
    if not escape.is_symlink():
        escape.symlink_to("/usr")
    with pytest.raises(gr.Error, match="outside the folders"):
        search.index_folder(path.format(root=photos.parent))


def test_messages_cannot_carry_markup(search):
    with pytest.raises(gr.Error) as caught:
        search.index_folder("/<img src=x onerror=alert(1)>")
    assert "&lt;img" in caught.value.message
    assert "<" not in caught.value.message


def test_folder_mistakes_name_the_remedy(search, photos):
    with pytest.raises(gr.Error, match="Type the path"):
        search.index_folder("  ")
    with pytest.raises(gr.Error, match="no folder"):
        search.index_folder(str(photos.parent / "gone"))
    with pytest.raises(gr.Error, match="Choose some images"):
        search.index_files([])


def test_a_shared_page_reads_no_folder_of_the_server(make, photos):
    with pytest.raises(gr.Error, match="shared page"):
        make(local=False).index_folder(str(photos))


def test_uploads_are_copied_small_and_originals_may_vanish(search, tmp_path):
    upload = tmp_path / "IMG_1.png"
    Image.new("RGB", (3000, 1500), (0, 255, 255)).save(upload)
    bad = tmp_path / "bad.png"
    bad.write_text("no")
    _, report = search.index_files([str(upload), str(bad)], False)
    upload.unlink()
    assert "`bad.png`" in report
    assert captions(search.browse()) == ["IMG_1.png"]
    with Image.open(search.current.files[0].path) as kept:
        assert max(kept.size) == 1024


def test_uploads_that_are_all_bad_change_nothing(search, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_text("no")
    before = search.current
    with pytest.raises(gr.Error, match=r"None of them.*bad\.png"):
        search.index_files([str(bad)], False)
    assert search.current is before
    assert not list(search.visitors.folder(None).iterdir())


def test_on_a_shared_page_uploads_stay_with_their_visitor(make, tmp_path):
    search = make(local=False)
    upload = tmp_path / "mine.png"
    Image.new("RGB", (30, 30), (0, 255, 255)).save(upload)
    own, _ = search.index_files([str(upload)], True)
    assert captions(search.browse(own))[0] == "mine.png"
    assert "mine.png" not in captions(search.browse())
    kept = own.files[0].path
    assert kept.exists()
    assert search.visitors.owner(kept) == kept.parent
    search.visitors.sweep(time.monotonic() + EXPIRY + 1)
    assert not kept.parent.exists()
    assert captions(search.by_text("red", 1)[0]) == ["red.png"]
    with pytest.raises(gr.Error, match=f"at most {MAX_UPLOADS}"):
        search.index_files([str(upload)] * (MAX_UPLOADS + 1))


def test_progress_is_reported(search, more):
    calls = []
    search.index_folder(str(more), True, None, lambda *step, **words: calls.append((step[0], words["desc"])))
    assert calls[-1][0] == (1, 1), "only what was not there is embedded"
    assert "Embedding" in calls[-1][1]


# The map


def test_map_is_drawn_into_the_private_folder_and_a_click_finds_the_image(search):
    path, note, drawn = search.draw_map("PCA")
    assert Path(path).parent == search.thumbnails.folder
    assert note.startswith("PCA")
    _, layout = drawn
    with Image.open(path) as image:
        for (x, y), row in zip(layout.centres, layout.rows, strict=True):
            shown, caption, near = search.pick(drawn, SimpleNamespace(index=[x + 3, y - 3]))
            assert caption == search.current.files[row].caption
            wanted = COLOURS[Path(caption).stem]
            assert max(abs(a - b) for a, b in zip(image.getpixel((int(x), int(y)))[:3], wanted, strict=True)) < 12
            assert len(near) == 4
            assert caption not in captions(near)
            assert Path(shown).parent == search.thumbnails.folder


def test_a_click_still_answers_after_the_gallery_changed(search, more):
    _, _, drawn = search.draw_map()
    search.index_folder(str(more), False)
    x, y = drawn[1].centres[0]
    assert search.pick(drawn, SimpleNamespace(index=[x, y]))[1].endswith(".png")


def test_unknown_projection_is_friendly(search):
    with pytest.raises(gr.Error, match="PCA"):
        search.draw_map("mercator")


def test_a_large_gallery_draws_a_sample_and_says_so(search, photos, monkeypatch):
    from zoo.demos import map as gallery_map

    monkeypatch.setattr(gallery_map, "MAX_ON_MAP", 4)
    _, note, (_, layout) = search.draw_map()
    assert f"4 of the {len(COLOURS)} images" in note
    assert len(set(layout.rows.tolist())) == 4


# Models


def test_a_small_model_is_called_one(make):
    model = colour_model()
    assert make(model).status() == f"{len(COLOURS)} images · {model.spec.dim} dimensions"
    model.spec = replace(model.spec, params=12_000_000)
    assert make(model).status().endswith("expect mistakes")


def fake_registry(monkeypatch, specs, load):
    table = {spec.name: spec for spec in specs}
    monkeypatch.setattr(chooser, "list_models", lambda **_: sorted(table))
    monkeypatch.setattr(chooser, "get_spec", table.__getitem__)
    monkeypatch.setattr(chooser, "load_model", load)


def spec(name, **facts):
    return ModelSpec(
        name=name, **{"modalities": frozenset({"image", "text"}), "dim": 10, "license": "mit", "params": 10**8, **facts}
    )


def test_only_models_at_hand_are_offered_and_downloads_are_marked(monkeypatch, tmp_path):
    from huggingface_hub import constants

    (tmp_path / "models--org--cached" / "snapshots" / "abc").mkdir(parents=True)
    (tmp_path / "models--org--empty" / "snapshots").mkdir(parents=True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    specs = [
        spec("packaged", packaged=True),
        spec("cached", hub_id="org/cached"),
        spec("empty", hub_id="org/empty"),
        spec("thing-test"),
    ]
    fake_registry(monkeypatch, specs, None)
    names = [name for _, name in Models(colour_model()).choices()]
    assert names == ["colours", "cached", "packaged"]
    choices = Models(colour_model(), downloads=True).choices()
    assert choices[-1] == ("empty · download of 400 MB · mit", "empty")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "empty" not in [name for _, name in Models(colour_model(), downloads=True).choices()]


def test_changing_the_model_embeds_the_gallery_anew(make, monkeypatch):
    other = colour_model("other")
    fake_registry(monkeypatch, [spec("other", packaged=True)], lambda name: other)
    search = make()
    steps = []
    own, status, name, _ = search.choose_model("other", False, None, lambda *step, **words: steps.append(words["desc"]))
    assert (own, name) == (None, "other")
    assert search.current.model == "other"
    assert captions(search.by_text("blue", 1)[0]) == ["blue.png"]
    assert steps[0] == "Loading other"
    assert steps[-1] == "Embedding images"
    assert search.choose_model("other") == (None, status, "other", "")


def test_on_a_shared_page_the_model_changes_for_one_visitor(make, monkeypatch):
    fake_registry(monkeypatch, [spec("other", packaged=True)], lambda name: colour_model("other"))
    search = make(local=False)
    own, _, _, _ = search.choose_model("other")
    assert own.model == "other"
    assert search.current.model == "colours"


def test_a_model_that_does_not_load_leaves_the_page_as_it_was(make, monkeypatch):
    def load(name):
        raise HubError("the Hub cannot be reached; connect, or choose a model that is here")

    fake_registry(monkeypatch, [spec("far", packaged=True)], load)
    warned = []
    monkeypatch.setattr(gr, "Warning", lambda message, **_: warned.append(message))
    search = make()
    before = search.current
    assert search.choose_model("far") == (None, search.status(), "colours", "")
    assert search.current is before
    assert "far could not be loaded" in warned[0]
    assert "Hub cannot be reached" in warned[0]


@pytest.mark.parametrize("name", ["/etc", "open_clip:ViT-B-32/openai", "hf:org/repo", "", "no-such-name"])
def test_a_model_that_is_not_offered_is_never_loaded(make, monkeypatch, name):
    fake_registry(monkeypatch, [], lambda name: pytest.fail("loaded"))
    monkeypatch.setattr(gr, "Warning", lambda message, **_: None)
    assert make().choose_model(name)[2] == "colours"


def test_few_models_stay_loaded_and_the_first_always(monkeypatch):
    loads = []
    specs = [spec(f"m{i}", packaged=True) for i in range(5)]
    fake_registry(monkeypatch, specs, lambda name: loads.append(name) or colour_model(name))
    models = Models(colour_model())
    for i in range(5):
        assert models.get(f"m{i}").spec.name == f"m{i}"
    models.get("m4")
    assert loads == ["m0", "m1", "m2", "m3", "m4"]
    models.get("m0")
    assert loads[-1] == "m0"
    assert models.get("colours").spec.name == "colours"
    assert len(loads) == 6


def test_two_visitors_asking_for_one_model_load_it_once(monkeypatch):
    loads, gate = [], threading.Event()

    def load(name):
        loads.append(name)
        gate.wait(5)
        return colour_model(name)

    fake_registry(monkeypatch, [spec("slow", packaged=True)], load)
    models = Models(colour_model())
    threads = [threading.Thread(target=models.get, args=("slow",)) for _ in range(3)]
    for thread in threads:
        thread.start()
    # A loaded model answers while another one is being loaded.
    assert models.get("colours").spec.name == "colours"
    gate.set()
    for thread in threads:
        thread.join(5)
    assert loads == ["slow"]


def test_a_large_download_is_asked_first_and_few_good_models_come_first(make, monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    good = chooser.RECOMMENDED[1]
    loaded = []
    specs = [
        spec("a-large", hub_id="org/large", params=126_000_000),
        spec(good, hub_id="org/good", languages=("en", "zh")),
    ]

    def load(name):
        loaded.append(name)
        return colour_model(name)

    fake_registry(monkeypatch, specs, load)
    search = make()
    search.models = Models(colour_model(), downloads=True)
    assert [name for _, name in search.models.choices()] == ["colours", good, "a-large"]
    assert search.models.choices()[1][0] == f"{good} · download of 400 MB · mit · English, Chinese"
    _, _, name, asked = search.choose_model("a-large")
    assert (name, loaded) == ("colours", [])
    assert asked == "a-large has to be fetched first: about 504 MB, licence mit."
    assert search.choose_model("a-large", True)[2:] == ("a-large", "")
    assert loaded == ["a-large"]
    assert search.choose_model(good)[2:] == (good, ""), "up to 500 MB nothing is asked"


# What fits, what to try, and the way back to the file


def test_where_nothing_fits_the_page_says_so_and_no_bar_is_full(search):
    _, before = search.by_text("a red thing", 3)
    model = search.models.get("colours")
    model.calibration = {"text>image": Calibration(0.1, 0.1, 0.9)}
    _, fits = search.by_text("a red thing", 3)
    _, scores = search.by_text("red green blue yellow", 3)
    model.calibration = {}
    assert fits["rows"][0]["bar"] == before["rows"][0]["bar"] == 1
    assert scores["title"].startswith("Nothing clearly fits")
    assert 0 < scores["rows"][0]["bar"] < 1
    assert "0.90" in scores["note"]


def test_queries_to_try_are_words_that_stand_out_each_for_another_image(make, photos, monkeypatch):
    monkeypatch.setattr(
        vocabulary, "vocabulary", lambda: ["red", "a red thing", "blue", "nothing of these", "green yellow"]
    )
    search = make()
    tries = search.queries()
    assert set(tries) in ({"red", "blue"}, {"a red thing", "blue"})
    model = search.models.get("colours")
    model.calibration = {"text>image": Calibration(0.1, 0.1, 2.0)}
    assert search.queries() == [], "nothing passes"
    model.calibration = {}
    assert make(colour_model("eyes", frozenset({"image"}))).queries() == []


def test_of_the_words_those_that_stand_out_most_are_tried_each_for_another_image():
    found = [(0.9, "no", 0), (1.1, "third", 1), (3.0, "first", 2), (2.0, "the same", 2), (1.5, "second", 3)]
    assert vocabulary._distinct(found) == ["first", "second", "third"]
    assert len(vocabulary._distinct([(2.0, str(row), row) for row in range(9)])) == vocabulary.MOST


def test_shipped_images_have_queries_of_their_own(tmp_path):
    model = colour_model()
    gallery = embed_files(model, gallery_of.sample_images())
    search = Search(Models(model), gallery, tmp_path, local=False)
    assert search.queries() == list(EXAMPLE_TEXTS)
    model.calibration = {"text>image": Calibration(0.1, 0.1, 2.0)}
    assert search.queries() == [], "none of which the page would say that nothing fits"


@pytest.mark.parametrize(("params", "count"), [(0, 520), (4 * 10**8, 174), (3 * 10**9, 0)])
def test_large_models_are_asked_for_fewer_words_or_none(params, count, monkeypatch):
    model = colour_model()
    model.spec = replace(model.spec, params=params)
    monkeypatch.setattr(vocabulary, "vocabulary", lambda: [f"word {number}" for number in range(520)])
    assert len(vocabulary.encoded_words(model)[0]) == count


def test_words_of_another_language_are_not_tried(make):
    model = colour_model()
    model.spec = replace(model.spec, languages=("zh",))
    assert make(model).queries() == []


def test_results_lead_to_their_files_on_a_local_page_alone(make, photos):
    _, scores = make().by_text("red", 1)
    assert scores["rows"][0]["original"] == str(photos / "red.png")
    assert scores["rows"][0]["link"].startswith("/original/")
    _, scores = make(local=False).by_text("red", 1)
    assert not {"original", "link"} & set(scores["rows"][0])
