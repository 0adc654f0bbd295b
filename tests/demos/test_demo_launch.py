"""Starting a demo: from Python, from the command line, and for every kind of model."""

import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.demos.demo_support import COLOURS, PATIENT, colour_photos, running
from tests.every import every
from zoo import build_model, list_models
from zoo.errors import ZooError

gr = pytest.importorskip("gradio")
httpx = pytest.importorskip("httpx")

import zoo.demos  # noqa: E402
from gradio_client import Client  # noqa: E402
from gradio_client.exceptions import AppError  # noqa: E402
from zoo.demos import __main__ as command  # noqa: E402
from zoo.demos import screenshot, search, serve, text  # noqa: E402
from zoo.demos.registry import PAGES, demo_of, register_demo  # noqa: E402

pytestmark = pytest.mark.usefixtures("cache_home")  # where vectors of folders are kept


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A tiny random model in a folder."""
    folder = tmp_path_factory.mktemp("model")
    build_model("mini-test").save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("name", list_models("*-test"))
def test_every_family_has_a_demo_that_builds(name):
    model = build_model(name)
    page = demo_of(model)(model)
    assert isinstance(page, gr.Blocks)
    names = {fn.api_name for fn in page.fns.values() if fn.api_visibility == "public"}
    if demo_of(model).__module__ == "zoo.demos.omni":  # one box for texts and files
        assert {"search", "add_files"} <= names
    else:
        assert ("search_by_image" in names) == ("image" in model.spec.modalities)
    if model.spec.modalities == {"text"}:
        assert "search_passages" in names


@pytest.mark.parametrize("name", ["screenshot", "no_such"])
def test_a_model_names_no_file_of_the_folder_that_is_no_demo(name):
    model = build_model("mini-test")
    model.spec = replace(model.spec, demo=name)
    with pytest.raises(ZooError, match=f"shown by the demo '{name}'"):
        demo_of(model)


def test_a_page_is_chosen_by_name_and_one_that_is_not_there_is_told():
    model = build_model("mini-test")
    assert demo_of(model).__module__ == "zoo.demos.search"
    assert {demo_of(model, name).__module__ for name in PAGES} == {f"zoo.demos.{name}" for name in PAGES}
    with pytest.raises(ZooError, match="no page 'screenshot'; there are search, compose, regions, omni, text"):
        demo_of(model, "screenshot")
    page = demo_of(model, "regions")(model)
    assert next(block.selected for block in page.blocks.values() if isinstance(block, gr.Tabs)) == "region"
    words = build_model("text-test")
    with pytest.raises(ZooError, match="reads no images, so there is nothing to point at"):
        demo_of(words, "regions")(words)


def test_a_model_that_reads_regions_opens_at_pointing_and_its_space_says_so():
    model = build_model("mini-test")
    model.spec = replace(model.spec, modalities=model.spec.modalities | {"regions"})
    assert demo_of(model).__module__ == "zoo.demos.regions"
    assert demo_of(model, "search").__module__ == "zoo.demos.search", "unless another page is asked for"


def test_the_zoos_own_demos_keep_their_names():
    with pytest.raises(ValueError, match="two demos are called 'search'"):
        register_demo("search")(lambda model, **page: None)


def test_launch_serves_the_folders_and_the_samples(saved, tmp_path, capsys):
    photos = colour_photos(tmp_path / "photos")
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    page = zoo.demos.launch(saved, str(photos), block=False)
    try:
        found, _ = Client(page.local_url, verbose=False, httpx_kwargs=PATIENT).predict(
            "red", 48, api_name="/search_by_text"
        )
        captions = {hit["caption"] for hit in found}
        assert {f"{colour}.png" for colour in COLOURS} <= captions
        assert "an astronaut in an orange suit" in captions
    finally:
        page.close(verbose=False)
    shown = capsys.readouterr()
    assert page.local_url in shown.out
    assert "left out: broken.png" in shown.err


def test_launch_without_samples_and_with_other_machines_let_in(saved, tmp_path):
    photos = colour_photos(tmp_path / "photos")
    page = zoo.demos.launch(saved, [photos], samples=False, host="0.0.0.0", block=False)
    try:
        client = Client(f"http://127.0.0.1:{page.server_port}/", verbose=False, httpx_kwargs=PATIENT)
        assert "/index_folder" not in client.view_api(return_format="dict", print_info=False)["named_endpoints"]
        found, _ = client.predict("red", 48, api_name="/search_by_text")
        assert len(found) == len(COLOURS)
    finally:
        page.close(verbose=False)


def test_a_taken_port_is_named(saved):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ZooError, match=f"cannot listen at 127.0.0.1:{port}"):
            zoo.demos.launch(saved, port=port, block=False)


@every("where", [("no.such.host.invalid", None), ("127.0.0.1", 99999), ("127.0.0.1", -1), ("192.0.2.1", 7860)])
def test_where_nobody_can_listen_is_told_before_the_model_is_loaded(where, capsys):
    host, port = where
    with pytest.raises(ZooError, match=f"cannot listen at {host}"):
        zoo.demos.launch("zoo-mini", host=host, port=port, block=False)
    assert "Loading" not in capsys.readouterr().err


def test_a_missing_folder_is_named(saved, tmp_path):
    with pytest.raises(ZooError, match="no folder"):
        zoo.demos.launch(saved, tmp_path / "gone", block=False)


def test_nothing_to_show_is_an_error():
    with pytest.raises(ZooError, match="--photos"):
        serve.gallery_of(None, samples=False)


def test_without_gradio_the_remedy_is_named(monkeypatch, saved):
    monkeypatch.setattr(serve, "find_spec", lambda name: None)
    with pytest.raises(ZooError, match=r"embedding-zoo\[demo\]"):
        zoo.demos.launch(saved, block=False)


def test_command_line_ends_with_a_message(capsys):
    assert command.main(["no-such-model"]) == 1
    assert "no model is called" in capsys.readouterr().err


def test_command_line_passes_its_options_on(monkeypatch):
    calls = []
    monkeypatch.setattr(command, "launch", lambda *names, **options: calls.append((names, options)))
    assert command.main(["clip-test", "--photos", "a", "--photos", "b", "--port", "8000", "--no-samples"]) == 0
    (names, options) = calls[0]
    assert names == ("clip-test", ["a", "b"])
    assert (options["port"], options["samples"], options["share"], options["page"]) == (8000, False, False, None)


def test_importing_the_demos_loads_no_gradio_and_writes_no_file():
    code = "import sys, zoo.demos; sys.exit('gradio' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    # Gradio writes a .pyi file beside every subclass of a component.
    assert search.__file__ is not None
    assert not list(Path(search.__file__).parent.glob("*.pyi"))


def test_a_screenshot_without_chromium_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(screenshot, "find_chromium", lambda: None)
    with pytest.raises(ZooError, match="chromium"):
        screenshot.take(tmp_path / "x.png")


@pytest.mark.skipif(screenshot.find_chromium() is None, reason="no Chromium here: install Debian's `chromium`")
@pytest.mark.slow
def test_the_screenshot_script_saves_the_window(saved, tmp_path):
    target = screenshot.take(tmp_path / "docs" / "demo.png", saved, "a cat", (800, 600))
    with Image.open(target) as image:
        assert image.size == (800, 600)
        assert len(image.convert("RGB").getcolors(800 * 600)) > 1000, "the window is empty"


# The page of text models


@pytest.fixture(scope="module")
def words():
    return build_model("text-test")


def test_the_same_words_come_first(words):
    scores = text.search_passages(words, "the museum is closed", "a cat\nthe museum is closed\n\n a dog ", 2)
    assert scores["rows"][0]["label"] == "the museum is closed"
    assert len(scores["rows"]) == 2
    assert scores["rows"][0]["bar"] == pytest.approx(1)
    assert "3 passages" in scores["title"]


def test_text_mistakes_name_the_remedy(words):
    with pytest.raises(gr.Error, match="Type a few words"):
        text.search_passages(words, " ", "a\nb", 3)
    with pytest.raises(gr.Error, match="one on each line"):
        text.search_passages(words, "a", "\n \n", 3)
    with pytest.raises(gr.Error, match="at most 500"):
        text.search_passages(words, "a", "\n".join(map(str, range(501))), 3)


def test_text_page_answers_over_http(words):
    with running(text.build(words)) as url:
        client = Client(url, verbose=False, httpx_kwargs=PATIENT)
        assert list(client.view_api(return_format="dict", print_info=False)["named_endpoints"]) == ["/search_passages"]
        scores = client.predict("museum", "a cat\nmuseum", 1, api_name="/search_passages")
        assert scores["rows"][0]["label"] == "museum"
        with pytest.raises(AppError, match="Type a few words"):
            client.predict("", "a cat\nmuseum", 1, api_name="/search_passages")
