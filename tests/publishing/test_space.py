"""The Space of a published model: its files, and its app started from its own folder in a clean process."""

import json
import os
import re
import runpy
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
from PIL import Image

import zoo
from tests import warm
from tests.demos.demo_support import PATIENT, colour_photos
from tests.ports import free_port
from zoo.cli import main
from zoo.errors import ZooError

pytest.importorskip("gradio")
yaml = pytest.importorskip("yaml")

import zoo.demos  # noqa: E402
from gradio_client import Client  # noqa: E402
from zoo.demos.space import requirements, write_comparison, write_space  # noqa: E402

COMMIT = "0123456789" * 4


def front_matter(folder: Path) -> dict:
    return yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---\n")[1])


@pytest.mark.parametrize("name", ["zoo-mini", "text-test", "image-test"])
def test_front_matter_is_what_a_space_reads(name, tmp_path):
    files = ["config.json", "model.safetensors", "README.md", "tokenizer.json", "open_clip_model.safetensors"]
    assert write_space(tmp_path, repo="me/mine", spec=zoo.get_spec(name), revision=COMMIT, files=files) == [
        "README.md",
        "app.py",
        "requirements.txt",
    ]
    facts = front_matter(tmp_path)
    assert facts["sdk"] == "gradio"
    assert facts["sdk_version"] == version("gradio"), "as a string: YAML would read 6.30 as 6.3"
    assert facts["python_version"] == "3.11"
    assert facts["app_file"] == "app.py"
    assert facts["models"] == ["me/mine"]
    assert facts["license"] == zoo.get_spec(name).license
    assert len(facts["short_description"]) <= 60
    assert facts["preload_from_hub"] == [f"me/mine config.json,model.safetensors,tokenizer.json {COMMIT}"]
    compile((tmp_path / "app.py").read_text(), "app.py", "exec")


def test_a_licence_without_identifier_is_other(tmp_path):
    spec = replace(zoo.get_spec("text-test"), license="other: my-license")
    write_space(tmp_path, repo="me/mine", spec=spec, revision=COMMIT, files=["config.json"])
    assert front_matter(tmp_path)["license"] == "other"


def test_requirements_are_pinned_to_what_runs_here():
    lines = requirements()
    assert lines[0] == f"embedding-zoo[demo]=={zoo.__version__}"
    pins = dict(line.split("==") for line in lines[1:])
    assert pins["gradio"] == version("gradio")
    assert pins["torch"] == version("torch").partition("+")[0]
    assert not {"pytest", "mteb", "peft"} & set(pins), "only what the demo needs"
    assert requirements("https://hub/x.whl")[0] == "embedding-zoo[demo] @ https://hub/x.whl"


def test_photos_of_ones_own_go_with_it_small_and_without_what_else_they_say(tmp_path, monkeypatch):
    photos = tmp_path / "My photos"
    photos.mkdir()
    exif = Image.Exif()
    exif[0x0110] = "my camera"
    Image.new("RGB", (3000, 1500), (200, 30, 30)).save(photos / "Tante Käthe.jpg", exif=exif)
    (photos / "deeper").mkdir()
    Image.new("RGB", (30, 30), (30, 30, 200)).save(photos / "deeper" / "Tante Käthe.png")
    facts = {"repo": "me/mine", "spec": zoo.get_spec("zoo-mini"), "revision": COMMIT, "files": ["config.json"]}
    names = write_space(tmp_path / "space", **facts, photos=photos, queries=["a 'red' one", 'say "hello"'])
    shown = sorted((tmp_path / "space" / "photos").iterdir())
    assert [f"photos/{path.name}" for path in shown] == [name for name in names if name.startswith("photos/")]
    assert len(shown) == 2
    for path in shown:
        with Image.open(path) as image:
            assert max(image.size) in (1024, 30)
    assert all(b"my camera" not in path.read_bytes() for path in shown)
    called = {}
    monkeypatch.setattr(zoo.demos, "launch", lambda *names, **options: called.update(names=names, **options))
    runpy.run_path(str(tmp_path / "space" / "app.py"))
    assert called["names"] == (f"hf:me/mine@{COMMIT}", str(tmp_path / "space" / "photos"))
    assert (called["samples"], called["queries"]) == (False, ["a 'red' one", 'say "hello"'])
    (photos / "broken.png").write_bytes(b"no")
    with pytest.raises(ZooError, match=r"broken\.png"):
        write_space(tmp_path / "other", **facts, photos=photos)
    assert not (tmp_path / "other" / "app.py").exists()


def test_photos_without_a_space_are_refused_before_anything_is_staged(tmp_path, capsys):
    colour_photos(tmp_path / "photos")
    assert main(["publish", "mini-test", "--to", "me/mine", "--dry-run", "--photos", str(tmp_path / "photos")]) == 2
    assert "there is none: say --space" in capsys.readouterr().err
    assert (
        main(["publish", "mini-test", "--to", "me/mine", "--dry-run", "--space", "--photos", str(tmp_path / "no")]) == 2
    )
    assert "There is no folder" in capsys.readouterr().err


def test_the_texts_that_a_run_was_judged_by_are_offered(tmp_path):
    from zoo.training.report.examples import EXAMPLES

    from zoo.cli.publish import _held_out_texts

    (tmp_path / EXAMPLES).parent.mkdir()
    asked = [
        {"text": "a blue cup", "image": ""},
        {"text": "", "image": "report/images/0123456789abcdef.jpg"},
        {"text": "x" * 90, "image": ""},
    ]
    cases = [
        {"asked": one, "right": one, "before": None, "after": None, "place_before": 1, "place_after": 1}
        for one in asked
    ]
    (tmp_path / EXAMPLES).write_text(json.dumps({"forward": {"best": cases * 2}}))
    assert _held_out_texts(str(tmp_path)) == ["a blue cup"]
    assert _held_out_texts("zoo-mini") == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mini-test", "text-test"])
def test_the_app_starts_from_its_own_folder_and_answers(name, hub, tmp_path):
    model = zoo.build_model(name)
    model.save_pretrained(tmp_path / "model")
    commit = hub.add(tmp_path / "model", "me/mine")
    files = [path.name for path in (tmp_path / "model").iterdir()]
    write_space(tmp_path / "space", repo="me/mine", spec=model.spec, revision=commit, files=files)
    port = free_port()
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "GRADIO_", "PYTHON"))}
    app = warm.Popen(
        [sys.executable, "app.py"],
        cwd=tmp_path / "space",
        env={
            **inherited,
            **hub.environment(tmp_path / "home"),
            "GRADIO_SERVER_NAME": "0.0.0.0",
            "GRADIO_SERVER_PORT": str(port),
            "GRADIO_ANALYTICS_ENABLED": "False",
            "OMP_WAIT_POLICY": "PASSIVE",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        lines = []
        for line in app.stdout:
            lines.append(line)
            if "is ready" in line:
                break
        assert lines, "the app said nothing"
        assert re.search(r"is ready: open http://\S+", lines[-1]), "".join(lines)
        client = Client(f"http://127.0.0.1:{port}/", verbose=False, httpx_kwargs=PATIENT)
        if name == "mini-test":
            found, _ = client.predict("a red motorbike", 5, api_name="/search_by_text")
            assert len(found) == 5
            endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
            assert "/index_folder" not in endpoints, "a public page offers no folder of its machine"
        else:
            scores = client.predict("rain", "heavy rain\nnew shoes", 2, api_name="/search_passages")
            assert "2 passages" in scores["title"]
    finally:
        app.kill()
        app.wait()
        app.stdout.close()
    assert commit in {line.split("/resolve/")[1].split("/")[0] for line in hub.requests if "/resolve/" in line}


class TestComparison:
    """The Space of `zoo demo --compare … --space DIR`."""

    def test_its_files_open_the_page_and_say_which_models(self, tmp_path):
        pinned = f"hf:me/mine@{COMMIT}"
        assert write_comparison(tmp_path / "s", ["zoo-mini", "siglip2-vit-b16-256", pinned]) == [
            "README.md",
            "app.py",
            "requirements.txt",
        ]
        facts = front_matter(tmp_path / "s")
        assert facts["models"] == [zoo.get_spec("siglip2-vit-b16-256").hub_id, "me/mine"]
        assert (facts["sdk_version"], facts["app_file"]) == (version("gradio"), "app.py")
        assert len(facts["short_description"]) <= 60
        app = (tmp_path / "s" / "app.py").read_text()
        compile(app, "app.py", "exec")
        assert f"compare={['zoo-mini', 'siglip2-vit-b16-256', pinned]!r}" in app
        write_comparison(tmp_path / "packaged", ["zoo-mini", "zoo-omni"])
        assert front_matter(tmp_path / "packaged")["models"] == []

    def test_images_go_with_it(self, tmp_path):
        photos = colour_photos(tmp_path / "photos")
        names = write_comparison(tmp_path / "s", ["zoo-mini", "zoo-omni"], photos=photos)
        assert sum(name.startswith("photos/") for name in names) == len(list(photos.iterdir()))
        app = (tmp_path / "s" / "app.py").read_text()
        assert "photos=os.path.join(" in app
        compile(app, "app.py", "exec")

    def test_what_a_space_cannot_open_is_refused_by_name(self, tmp_path):
        for name in ("./mine", "/abs/mine", "hf:me/mine", "hf:me/mine@main", "no-such-model"):
            with pytest.raises(ZooError, match=f"not {name}"):
                write_comparison(tmp_path / "s", ["zoo-mini", name])
        assert not (tmp_path / "s").exists()
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "mine.txt").write_text("mine")
        with pytest.raises(ZooError, match="is not empty"):
            write_comparison(tmp_path / "full", ["zoo-mini", "zoo-omni"])
