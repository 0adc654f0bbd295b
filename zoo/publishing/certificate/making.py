"""What a certificate holds, and how one is made: golden inputs embedded one by one, and how far all else strays from that."""

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from zoo.errors import CertificateError, InputError, NewerCertificateError, ZooError
from zoo.files import write, write_json
from zoo.inputs.item import Item
from zoo.prompts import Role
from zoo.publishing.certificate.differences import ROLES, by_role, facts_of
from zoo.publishing.certificate.facts import EXACT, INT8, LOOSEST, check_facts, check_vectors
from zoo.publishing.certificate.files import FILE, VECTORS, file_hashes
from zoo.publishing.certificate.golden import Golden, golden_inputs
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.embedder import Embedder

FORMAT = 3
# What format 1, which is still read, does not cover.
UNCOVERED = {
    1: "its certificate is of format 1: it covers weights and tokenizer, not the other files, facts, encode_query and "
    "encode_document, nor the norms of other libraries' vectors; `zoo verify FOLDER --write` makes a new one"
}
HALVES = ("bfloat16", "float16")
RESIZED = "float32, resized image"
# Three times the distance that was measured: other processors round half precision otherwise, and resize otherwise.
ROOM = 3
# Never less than this cosine distance is allowed: float32's own noise, and the rounding of half precision in other kernels.
LEAST = {RESIZED: 1e-6, "bfloat16": 1e-4, "float16": 1e-4}


class Tolerance(NamedTuple):
    """How far vectors may be from the certificate's.

    Attributes:
        measure: "difference", the largest of a column, or "cosine", the smallest (see `likeness`). Where norms count,
            both are in units of the stored vector's norm.
        measured: what was seen where the certificate was made; None where nothing could be computed.
        allowed: None where vectors of this kind are of no use, so that nothing is compared.
        why: in words.
    """

    measure: str
    measured: float | None
    allowed: float | None
    why: str


@dataclass(frozen=True)
class Certificate:
    """What was computed where the model was published.

    Attributes:
        model: name. dim: columns.
        inputs: (name, prompt, kind, sha256) of each golden input, in the order of the rows.
        vectors: `(inputs, dim)`, float32, each input embedded by itself; with late interaction its tokens' one after
            the other, and zeros.
        refused: golden inputs that the model refuses → the error's code.
        tolerances: "float32", "float32, resized image", "bfloat16", "float16" → what is allowed.
        preprocessing: hash of everything that happens before the towers.
        files: what steers any library → sha256. made_with: versions of the libraries.
        spec: the facts of the model, None in format 1.
        norms: of each row before the model made it a unit vector, which is as some libraries give it; None where it is
            of several towers or tokens, and for all in format 1.
        known: library → role → how that library's call for the role differs from ours by its own rules.
    """

    model: str
    dim: int
    inputs: tuple[tuple[str, str | None, str, str], ...]
    vectors: "Tensor"
    refused: dict[str, str]
    tolerances: dict[str, Tolerance]
    preprocessing: str
    files: dict[str, str] = field(default_factory=dict)
    made_with: dict[str, str] = field(default_factory=dict)
    spec: dict[str, Any] | None = None
    norms: tuple[float | None, ...] | None = None
    known: dict[str, dict[str, str]] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def uncovered(self) -> str:
        """What a certificate of an older format says nothing of, "" for the present one."""
        return UNCOVERED.get(self.format, "")

    def save(self, folder: str | Path) -> list[Path]:
        """Writes certificate.json and certificate.safetensors beside the files of a folder, whose hashes it takes."""
        from safetensors.torch import save

        folder = Path(folder)
        facts = {
            "format": FORMAT,
            "model": self.model,
            "dim": self.dim,
            "made_with": self.made_with,
            "preprocessing": self.preprocessing,
            "spec": self.spec,
            "files": file_hashes(folder),
            "known": {}
            if self.spec is None
            else by_role(folder, ModelSpec.from_dict({"name": self.model, **self.spec})),
            "tolerances": {name: tolerance._asdict() for name, tolerance in self.tolerances.items()},
            "inputs": [
                {**dict(zip(("name", "prompt", "kind", "sha256"), row, strict=True)), "norm": norm}
                for row, norm in zip(self.inputs, self.norms or [None] * len(self.inputs), strict=True)
            ],
            "refused": self.refused,
        }
        write(folder / VECTORS, save({"vectors": self.vectors.contiguous()}, metadata={"format": "pt"}))
        write_json(folder / FILE, facts)
        return [folder / FILE, folder / VECTORS]

    @classmethod
    def load(cls, folder: str | Path) -> Self | None:
        """The certificate of a folder, None where it has none.

        Raises:
            CertificateError: it is damaged, allows what no certificate may, or a newer zoo wrote it.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from zoo.formats import read_json

        folder = Path(folder)
        if not (folder / FILE).is_file():
            return None
        try:
            facts = read_json(folder / FILE)
            facts = check_facts(facts, folder / FILE)
            check_vectors(folder, len(facts["inputs"]), facts["dim"])
            vectors = load_file(folder / VECTORS)["vectors"]
        except NewerCertificateError:
            raise
        except (OSError, SafetensorError, ZooError) as error:
            raise CertificateError(f"{error}; the certificate is damaged: fetch {FILE} and {VECTORS} again") from error
        return cls(
            facts["model"],
            facts["dim"],
            tuple((row["name"], row["prompt"], row["kind"], row["sha256"]) for row in facts["inputs"]),
            vectors,
            facts["refused"],
            {name: _tolerance(name, facts["tolerances"][name]) for name in ("float32", *LEAST)},
            facts["preprocessing"],
            facts["files"],
            facts["made_with"],
            **(_newer(facts) if facts["format"] > 1 else {"format": facts["format"]}),
        )


def make(model: "Embedder", halves: Sequence[str] = HALVES) -> Certificate:
    """Embeds the golden inputs one by one in float32, and measures how far everything else strays from that.

    The model is on the CPU afterwards, in float32.

    Args:
        halves: half precisions to measure; the others count as of no use.
    """
    import torch

    from zoo import _version

    model = model.to("cpu", torch.float32).eval()
    halves = () if model.quantized is not None else halves
    kept, rows, norms, refused = [], [], [], {}
    for golden in inputs_of(model):
        try:
            with _before_unit(model) as found:
                rows.append(_encoded(model, golden.item, golden.prompt, golden.role, progress=False))
            kept.append(golden)
            norms.append(float(found[0].float().norm()) if len(found) == 1 and found[0].ndim == 2 else None)
        except InputError as error:
            refused[golden.name] = error.code
    if not rows:
        raise CertificateError(f"{model.spec.name} embeds none of the golden inputs: {refused}")
    vectors = as_rows(rows)
    return Certificate(
        model.spec.name,
        model.spec.dim,
        tuple((golden.name, golden.prompt, golden.kind, golden.sha256) for golden in kept),
        vectors,
        refused,
        _tolerances(model, kept, vectors, halves),
        model.fingerprint()["preprocessing"],
        made_with={"embedding-zoo": _version.__version__, "torch": torch.__version__.partition("+")[0]},
        spec=facts_of(model.spec),
        norms=tuple(norms),
    )


@contextmanager
def _before_unit(model: "Embedder") -> "Iterator[list[Tensor]]":
    """What the heads give while this lasts, before it is made unit length."""
    found: list[Tensor] = []
    handles = [tower.head.register_forward_hook(lambda head, given, out: found.append(out)) for tower in model.towers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _newer(facts: dict[str, Any]) -> dict[str, Any]:
    """What formats 2 and 3 have beside format 1."""
    norms = tuple(row["norm"] for row in facts["inputs"])
    return {"spec": facts["spec"] or None, "norms": norms, "known": facts["known"]}


def _tolerances(
    model: "Embedder", kept: list[Golden], vectors: "Tensor", halves: Sequence[str]
) -> dict[str, Tolerance]:
    """What this model's vectors do in batches, after another library's resize, and in half precision."""
    import torch

    found, stored = in_lengths(by_zoo(model, kept, 32), vectors, model.spec)
    batched = float((found - stored).abs().max())
    found = {
        "float32": Tolerance(
            "difference",
            batched,
            EXACT if model.quantized is None else INT8,
            "sums in another order: batch size, threads, machine",
        ),
        RESIZED: _resized(model, kept, vectors),
    }
    for dtype in HALVES:
        tolerance = Tolerance("cosine", None, None, "not measured")
        if dtype in halves:
            try:
                half = by_zoo(copy.deepcopy(model).to(getattr(torch, dtype)), kept, 32)
                tolerance = _strayed(dtype, smallest_cosine(half, vectors), f"{dtype} has fewer digits")
            except InputError as error:
                tolerance = Tolerance("cosine", None, None, f"this model overflows in {dtype}: {error.code}")
            except RuntimeError as error:
                reason = str(error).splitlines()[0]
                tolerance = Tolerance("cosine", None, None, f"it could not be computed in {dtype}: {reason}")
        found[dtype] = tolerance
    return found


def _resized(model: "Embedder", kept: list[Golden], vectors: "Tensor") -> Tolerance:
    """How far the two ways of resizing are from the model's own; other libraries use one of them."""
    mine = [i for i, golden in enumerate(kept) if golden.kind == "resized image"]
    encoders = [tower.encoder for tower in model.towers if hasattr(tower.encoder, "transform")]
    before = [encoder.transform for encoder in encoders]
    worst = 1.0
    try:
        for engine in ("pillow", "torch") if mine else ():
            found = by_zoo(model.set_pixel_engine(engine), [kept[i] for i in mine], 32)
            worst = min(worst, smallest_cosine(found, vectors[mine]))
    finally:
        for encoder, transform in zip(encoders, before, strict=True):
            encoder.transform = transform
    return _strayed(RESIZED, worst, "torch and Pillow resize with weights of different precision")


def _strayed(name: str, measured: float, why: str) -> Tolerance:
    distance = max(ROOM * (1 - measured), LEAST[name])
    if not 1 - distance >= LOOSEST:
        return Tolerance("cosine", measured, None, f"{why}; {ROOM} times the distance is another model")
    return Tolerance("cosine", measured, 1 - distance, f"{why}; {ROOM} times the distance, {LEAST[name]} at least")


def _tolerance(name: str, facts: dict[str, Any]) -> Tolerance:
    return Tolerance("difference" if name == "float32" else "cosine", facts["measured"], facts["allowed"], facts["why"])


def smallest_cosine(a: "Tensor", b: "Tensor") -> float:
    """Of the rows of `(n, dim)` with those of `(n, dim)`."""
    return float(likeness(*same_width(a, b)).min())


def likeness(found: "Tensor", stored: "Tensor") -> "Tensor":
    """1 - |found - stored|² / (2 |stored|²) of each row `(n,)`, in float64: the cosine, and less where norms differ."""
    found, stored = found.double(), stored.double()
    return 1 - (found - stored).square().sum(1) / (2 * stored.square().sum(1))


def in_lengths(found: "Tensor", stored: "Tensor", spec: ModelSpec) -> "tuple[Tensor, Tensor]":
    """Both divided by the norms of `stored`, row by row, where these are not 1: bounds are those of unit vectors."""
    if spec.similarity != "dot":
        return found, stored
    lengths = stored.norm(dim=1, keepdim=True)
    return found / lengths, stored / lengths


def as_rows(vectors: Sequence["Tensor"]) -> "Tensor":
    """Vectors `(dim,)` as `(n, dim)`; of token vectors `(tokens, dim)` one row per input, all one after the other, then zeros."""
    import torch

    return torch.nn.utils.rnn.pad_sequence([vector.flatten() for vector in vectors], batch_first=True)


def same_width(a: "Tensor", b: "Tensor") -> "tuple[Tensor, Tensor]":
    """The shorter rows of the two filled up with zeros."""
    import torch

    width = max(a.shape[1], b.shape[1])
    return tuple(torch.nn.functional.pad(rows, (0, width - rows.shape[1])) for rows in (a, b))


def by_zoo(model: "Embedder", goldens: list[Golden], batch_size: int) -> "Tensor":
    """Vectors `(n, dim)` of golden inputs by the zoo."""
    from zoo.embedder.cutting import unsaid  # which loads torch

    options = {"batch_size": batch_size, "progress": False}
    with unsaid(model):
        return by_call(goldens, lambda items, prompt, role: _encoded(model, items, prompt, role, **options))


def _encoded(model: "Embedder", items: Any, prompt: str | None, role: Role | None, **options: Any) -> "Tensor":
    """By the call for a role, or by `encode` with the prompt of a name."""
    if role is None:
        return model.encode(items, prompt_name=prompt, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no prompt is meant for the role is no news here
        return {"query": model.encode_query, "document": model.encode_document}[role](items, **options)


def by_call(goldens: list[Golden], encode: Callable[[list[Item], str | None, Role | None], "Tensor"]) -> "Tensor":
    """Vectors `(n, dim)` by a function of items and the prompt or role that they share; as `as_rows` has those of tokens."""
    rows: dict[int, Tensor] = {}
    for call in dict.fromkeys((golden.prompt, golden.role) for golden in goldens):
        mine = [i for i, golden in enumerate(goldens) if (golden.prompt, golden.role) == call]
        rows |= dict(zip(mine, encode([goldens[i].item for i in mine], *call), strict=True))
    return as_rows([rows[i] for i in range(len(goldens))])


def inputs_of(model: "Embedder") -> list[Golden]:
    """The golden inputs that a model's towers read, images of its own size among them."""
    towers = [tower.encoder.modalities for tower in model.towers]
    shapes = [
        tower.encoder.transform.resize_size or tower.encoder.transform.size
        for tower in model.towers
        if hasattr(tower.encoder, "transform")
    ]
    side = shapes[0][0] if shapes and shapes[0][0] == shapes[0][1] else None
    return golden_inputs(towers, side, sorted(model.spec.prompts), ROLES)
