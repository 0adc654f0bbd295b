"""The Space of a published model: its files, and its app started from its own folder in a clean process."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest

import zoo
from tests import warm
from tests.demo_support import PATIENT
from tests.ports import free_port

pytest.importorskip("gradio")
yaml = pytest.importorskip("yaml")

from gradio_client import Client  # noqa: E402
from zoo.demos.space import requirements, write_space  # noqa: E402

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
