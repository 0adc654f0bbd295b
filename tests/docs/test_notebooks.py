"""The notebooks of docs/notebooks/ run from the first cell to the last, and what is kept of their outputs is fit to be shown."""

import json
import re
from pathlib import Path

import pytest

from tests.docs.notebooks import FOLDER, NOTEBOOKS, execute, printed
from tests.hub import LoopbackHub

MOST = 500_000  # bytes of a notebook with its images
# What a run has to have printed, so that a notebook cannot pass by printing nothing.
SAID = {
    "fine-tune": r"\d+% → (?:8\d|9\d|100)%",
    "from-zero-to-a-space": r"zoo verify hf:me/tiny-shapes",
    "search-your-photos": r"\d\.\d\d  \w+",
}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_what_is_kept_of_the_outputs(name: str):
    path = FOLDER / f"{name}.ipynb"
    notebook = json.loads(path.read_text("utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1)), "executed once, in order"
    assert not [out for cell in cells for out in cell["outputs"] if out["output_type"] == "error"]
    assert any({"image/png", "image/jpeg"} & set(out.get("data", {})) for cell in cells for out in cell["outputs"]), (
        "nothing to look at"
    )
    assert path.stat().st_size < MOST
    assert not re.findall(r"/(?:tmp|home|root|work|Users)/\S*|127\.0\.0\.1\S*|site-packages\S*", printed(notebook))
    assert re.search(SAID[name], printed(notebook))


def test_every_notebook_is_checked():
    assert sorted(SAID) == NOTEBOOKS


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_runs(name: str, tmp_path: Path, hub: LoopbackHub):
    pytest.importorskip("ipykernel", reason='notebooks need pip install -e ".[docs]"')
    pytest.importorskip("nbclient", reason='notebooks need pip install -e ".[docs]"')
    notebook = execute(name, tmp_path, hub)
    assert re.search(SAID[name], printed(notebook))
