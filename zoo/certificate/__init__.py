"""Certificates: a model's vectors of golden inputs, stored beside its weights, that any machine can compute again.

`make(model).save(folder)` writes one; `verify(where)` holds every library that opens the folder to it.
"""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from zoo.certificate.golden import Golden, golden_inputs
from zoo.errors import InputError, ZooError

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.embedder import Embedder

FILE, VECTORS = "certificate.json", "certificate.safetensors"
FORMAT = 1
# float32: sums in another order, on another machine or in another batch, differ by a few 1e-7 in a unit vector's columns;
# a hundredfold is left for deep models. A picture that has to be resized goes through another library's resampling, which
# may differ by one step of 255 in a pixel.
EXACT = 1e-5
RESIZED_COSINE = 0.999
HALVES = ("bfloat16", "float16")


class CertificateError(ZooError):
    """A certificate is damaged, of another format, or of another model; the message names the file."""


@dataclass(frozen=True)
class Certificate:
    """What was computed where the model was published.

    Attributes:
        model: name. dim: columns.
        inputs: (name, prompt, kind, sha256) of each golden input, in the order of the rows.
        vectors: `(inputs, dim)`, float32, each input embedded by itself.
        refused: golden inputs that the model refuses → the error's code.
        halves: smallest cosine of each half-precision dtype to float32 that a model in order may have: what was measured
            where the certificate was made, with three times the distance allowed.
        preprocessing: hash of everything that happens before the towers.
        weights: file → sha256. made_with: versions of the libraries.
    """

    model: str
    dim: int
    inputs: tuple[tuple[str, str | None, str, str], ...]
    vectors: "Tensor"
    refused: dict[str, str]
    halves: dict[str, float]
    preprocessing: str
    weights: dict[str, str] = field(default_factory=dict)
    made_with: dict[str, str] = field(default_factory=dict)

    def save(self, folder: str | Path) -> list[Path]:
        """Writes certificate.json and certificate.safetensors beside the weights of a folder, whose hashes it takes."""
        from safetensors.torch import save

        folder = Path(folder)
        facts = {
            "format": FORMAT,
            "model": self.model,
            "dim": self.dim,
            "made_with": self.made_with,
            "preprocessing": self.preprocessing,
            "weights": weight_hashes(folder),
            "tolerances": {
                "float32": {"max_difference": EXACT, "why": "sums in another order, on another machine or batch size"},
                "float32, resized by another library": {
                    "min_cosine": RESIZED_COSINE,
                    "why": "resampling filters differ by a step of 255",
                },
                **{
                    dtype: {"min_cosine": cosine, "why": "measured where this was made; three times that distance"}
                    for dtype, cosine in self.halves.items()
                },
            },
            "inputs": [dict(zip(("name", "prompt", "kind", "sha256"), row, strict=True)) for row in self.inputs],
            "refused": self.refused,
        }
        _write_whole(folder / VECTORS, save({"vectors": self.vectors.contiguous()}, metadata={"format": "pt"}))
        _write_whole(folder / FILE, (json.dumps(facts, indent=2, ensure_ascii=False) + "\n").encode())
        return [folder / FILE, folder / VECTORS]

    @classmethod
    def load(cls, folder: str | Path) -> Self | None:
        """The certificate of a folder, None where it has none.

        Raises:
            CertificateError: it is damaged, or a newer zoo wrote it.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = Path(folder)
        if not (folder / FILE).is_file():
            return None
        try:
            facts = json.loads((folder / FILE).read_text(encoding="utf-8"))
            if facts["format"] != FORMAT:
                raise CertificateError(f"{folder / FILE} has format {facts['format']!r}; this zoo reads {FORMAT}")
            rows = tuple((row["name"], row["prompt"], row["kind"], row["sha256"]) for row in facts["inputs"])
            vectors = load_file(folder / VECTORS)["vectors"]
            if tuple(vectors.shape) != (len(rows), facts["dim"]):
                raise ValueError(f"{VECTORS} has the shape {tuple(vectors.shape)}, not {(len(rows), facts['dim'])}")
            halves = {name: float(facts["tolerances"][name]["min_cosine"]) for name in HALVES}
            return cls(
                facts["model"],
                facts["dim"],
                rows,
                vectors.float(),
                dict(facts["refused"]),
                halves,
                facts["preprocessing"],
                dict(facts["weights"]),
                dict(facts["made_with"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError, OSError, SafetensorError) as error:
            raise CertificateError(f"{folder / FILE} or {VECTORS} is damaged: {error!r}; fetch them again") from error


def make(model: "Embedder") -> Certificate:
    """Embeds the golden inputs one by one in float32, and measures how far half precision strays from that.

    The model is on the CPU afterwards, in float32.
    """
    import torch

    from zoo import _version

    model = model.to("cpu", torch.float32).eval()
    kept, rows, refused = [], [], {}
    for golden in inputs_of(model):
        try:
            rows.append(model.encode(golden.item, prompt=golden.prompt, progress=False))
            kept.append(golden)
        except InputError as error:
            refused[golden.name] = error.code
    vectors = torch.stack(rows)
    halves = {dtype: _half(model, dtype, kept, vectors) for dtype in HALVES}
    return Certificate(
        model.spec.name,
        model.spec.dim,
        tuple((golden.name, golden.prompt, golden.kind, golden.sha256) for golden in kept),
        vectors,
        refused,
        halves,
        model.fingerprint()["preprocessing"],
        made_with={"embedding-zoo": _version.__version__, "torch": torch.__version__.partition("+")[0]},
    )


def _half(model: "Embedder", dtype: str, kept: list[Golden], vectors: "Tensor") -> float:
    """The cosine to float32 that is allowed in half precision; 0 where this machine cannot compute in it."""
    import copy

    import torch

    half = copy.deepcopy(model).to(getattr(torch, dtype))
    try:
        rows = [half.encode(golden.item, prompt=golden.prompt, progress=False) for golden in kept]
    except (RuntimeError, InputError):
        return 0.0
    worst = float((torch.stack(rows) * vectors).sum(1).min())
    return round(max(0.0, min(1 - 3 * (1 - worst), 0.9999)), 6)


def inputs_of(model: "Embedder") -> list[Golden]:
    """The golden inputs that a model's towers read, pictures of its own size among them."""
    towers = [tower.encoder.reads for tower in model.towers]
    shapes = [
        tower.encoder.transform.resize_size or tower.encoder.transform.size
        for tower in model.towers
        if hasattr(tower.encoder, "transform")
    ]
    side = shapes[0][0] if shapes and shapes[0][0] == shapes[0][1] else None
    return golden_inputs(towers, side, sorted(model.spec.prompts))


def weight_hashes(folder: Path) -> dict[str, str]:
    """sha256 of every safetensors file of a folder, the certificate's own left out."""
    found = {}
    for path in sorted(folder.rglob("*.safetensors")):
        if path.name != VECTORS:
            with path.open("rb") as file:
                found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _write_whole(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)


def verify(where: str | Path, **options: Any) -> Any:
    """Holds a model to its certificate; see `zoo.certificate.checking.verify`."""
    from zoo.certificate.checking import verify as check

    return check(where, **options)


__all__ = ["FILE", "Certificate", "CertificateError", "Golden", "inputs_of", "make", "verify", "weight_hashes"]
