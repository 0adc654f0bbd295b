"""A package of somebody else (tests/plugin_package): its encoder, medium, layout, loss, sampler, demo and models work like the zoo's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import zoo
from tests.hub import LoopbackHub
from zoo.errors import UnrecognisedCheckpointError

HERE = Path(__file__).parent
THINGS = ["cat", "dog", "bird", "fish", "tree", "house", "river", "stone"]
TRAIN = """
import json
import zoo
from zoo.cli import main

assert main(["list", "acme*"]) == 0
assert main(["show", "acme:zeros"]) == 0
zoo.build_model("acme-trigrams").save_pretrained("start")
how = ["--loss", "acme_margin(margin=0.3) + 0.5 * infonce + acme_near(-0.5)", "--sampler", "acme_in_order", "--steps", "3", "--batch-size", "4", "--holdout", "0", "--log", "none"]
assert main(["train", "pairs.csv", "--model", "./start", "--out", "mine", *how]) == 0
assert main(["publish", "./mine", "--to", "me/acme-trigrams", "--keep", "kept", "--space"]) == 0
ear, recordings = zoo.build_model("acme-ear-test"), [zoo.Item(audio=[0.0, 0.5, 1.0]), zoo.Item(audio=[1.0] * 9, text="a")]
ear.save_pretrained("ear")
print(json.dumps(ear.encode(recordings).tolist()))
model = zoo.load_model("./mine")
print(json.dumps(model.encode(["a cat", "the river"]).tolist()))
"""
OPEN = """
import json
import torch
import zoo
from safetensors.torch import save_file
from zoo.cli import main

model = zoo.load_model("acme-trigrams")
print(json.dumps(model.encode(["a cat", "the river"]).tolist()))
recordings = [zoo.Item(audio=[0.0, 0.5, 1.0]), zoo.Item(audio=[1.0] * 9, text="a")]
print(json.dumps(zoo.load_model("./ear").encode(recordings).tolist()))
assert main(["show", "acme-trigrams"]) == 0
from pathlib import Path
folder = Path("plain")
folder.mkdir()
(folder / "acme.json").write_text('{"rows": 4}')
save_file({"table": torch.eye(4)}, folder / "table.safetensors")
assert zoo.load_model(folder).spec.dim == 4
from zoo.demos.registry import demo_of
print("page of", [fn.api_name for fn in demo_of(model)(model).fns.values()][0])
"""


def run(code: str, here: Path, environment: dict[str, str]) -> list[str]:
    """The lines of a program that must end well."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=here, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout.splitlines()


@pytest.mark.slow
def test_a_package_adds_its_parts_trains_publishes_and_opens_them(loopback_hub: LoopbackHub, tmp_path: Path) -> None:
    loopback_hub.clear()
    site = tmp_path / "site"
    shutil.copytree(
        HERE / "plugin_package" / "acme_zoo", site / "acme_zoo", ignore=shutil.ignore_patterns("__pycache__")
    )
    facts = site / "acme_zoo-0.1.dist-info"
    facts.mkdir()
    shutil.copy(HERE / "plugin_package" / "entry_points.txt", facts)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-zoo\nVersion: 0.1\n", encoding="utf-8")
    pairs = "".join(f"a {thing} here,the {thing} of today\n" for thing in THINGS)
    (tmp_path / "pairs.csv").write_text(f"query,positive\n{pairs}", encoding="utf-8")
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "TRANSFORMERS_"))}

    def environment(home: str, *places: Path) -> dict[str, str]:
        path = os.pathsep.join(map(str, [*places, HERE.parent]))
        return {**inherited, **loopback_hub.environment(tmp_path / home, token=loopback_hub.token), "PYTHONPATH": path}

    said = run(TRAIN, tmp_path, environment("first", site))
    assert any(line.startswith("acme-trigrams") for line in said)
    trained = json.loads(said[-1])
    card = (tmp_path / "kept" / "model" / "README.md").read_text("utf-8")
    assert "`acme-zoo==0.1` that brings `acme-zoo:Trigrams`" in card, "a reader learns what else he needs"
    assert "zoo/models/" not in card, "its files are not the zoo's"
    assert "demos/" not in card
    assert (tmp_path / "kept" / "space" / "requirements.txt").read_text().splitlines()[-1] == "acme-zoo==0.1"
    opened = run(OPEN, tmp_path, environment("second", site))
    assert torch.allclose(torch.tensor(json.loads(opened[0])), torch.tensor(trained), atol=1e-6)
    heard, again = torch.tensor(json.loads(said[-2])), torch.tensor(json.loads(opened[1]))
    assert heard.shape == (2, 32)
    assert not torch.allclose(heard[0], heard[1], atol=1e-3), "what is heard is read"
    assert torch.allclose(heard, again, atol=1e-6)
    assert any(line.split()[:2] == ["from", "me/acme-trigrams"] for line in opened)
    assert opened[-1] == "page of compare"
    # This process has no such package: the same folder names a part that nobody has, and no module is looked for.
    with pytest.raises(UnrecognisedCheckpointError, match="acme-zoo:Trigrams"):
        zoo.load_model(tmp_path / "mine")
    assert not [name for name in sys.modules if name.startswith("acme")]
