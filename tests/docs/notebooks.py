"""Executes the notebooks of docs/notebooks/ as their reader does, with a Hub on this machine in the place of the real one.

python -m tests.docs.notebooks [NAME ...]    # executes them, and writes their outputs into docs/notebooks/
"""

import base64
import io
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from tests.docs.blocks import PROJECT
from tests.docs.given import environment
from tests.hub import LoopbackHub

FOLDER = PROJECT / "docs" / "notebooks"
NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
PATIENCE = 1800  # seconds for a cell, on a busy machine


def execute(name: str, folder: Path, hub: LoopbackHub) -> Any:
    """The notebook with its outputs, run from the first cell to the last in an empty folder.

    Raises:
        CellExecutionError: a cell raised.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    (folder / "home").mkdir(exist_ok=True)
    reader = environment(folder, hub.environment(folder / "hf", token=hub.token))
    reader["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    client = NotebookClient(
        notebook,
        timeout=PATIENCE,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=reader)
    for cell in notebook.cells:
        if cell.cell_type == "code":  # progress bars and warnings of libraries are no results
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                _rewrite(output, {str(folder): ".", hub.url: "https://huggingface.co"})
                _shrink(output.get("data", {}))
    return notebook


def _shrink(data: dict[str, Any]) -> None:
    """Keeps an image as JPEG where that is less: photos as PNG would make a notebook of megabytes."""
    if "image/png" in data:
        png = base64.b64decode(data["image/png"])
        with Image.open(io.BytesIO(png)) as image:
            image.convert("RGB").save(jpeg := io.BytesIO(), "JPEG", quality=85)
        data.pop("image/jpeg", None)  # Pillow gives both
        if len(jpeg.getvalue()) < len(png):
            del data["image/png"]
            data["image/jpeg"] = base64.b64encode(jpeg.getvalue()).decode()


def _rewrite(output: dict[str, Any], words: dict[str, str]) -> None:
    """Takes this machine out of what a cell printed."""
    texts = [(output, "text")] + [(output.get("data", {}), kind) for kind in ("text/plain", "text/html")]
    for holder, kind in texts:
        if kind in holder:
            for here, there in words.items():
                holder[kind] = holder[kind].replace(here, there)


def printed(notebook: Any) -> str:
    """All that the cells of a notebook printed."""
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", ())]
    texts = [output.get("text", output.get("data", {}).get("text/plain", "")) for output in outputs]
    return "\n".join("".join(text) for text in texts)


def main(names: list[str]) -> None:
    """Executes notebooks and keeps their outputs."""
    import nbformat

    for name in names or NOTEBOOKS:
        with tempfile.TemporaryDirectory(prefix="notebook-") as folder, LoopbackHub() as hub:
            notebook = execute(name, Path(folder), hub)
        nbformat.write(notebook, FOLDER / f"{name}.ipynb")
        print(f"{name}: {(FOLDER / f'{name}.ipynb').stat().st_size / 1000:,.0f} kB")
        print(re.sub(r"(?m)^", "  ", printed(notebook)))


if __name__ == "__main__":
    main(sys.argv[1:])
