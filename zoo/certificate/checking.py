"""Holds a model to its certificate: every library, dtype and batch size, and what exactly departs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.certificate import EXACT, FILE, HALVES, RESIZED_COSINE, Certificate, CertificateError, inputs_of, weight_hashes
from zoo.certificate.golden import Golden
from zoo.errors import InputError, UnsafeCheckpointError, ZooError

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.embedder import Embedder

DTYPES = ("float32", *HALVES)
BATCHES = (1, 3, 32)
PACKAGES = {"open_clip": "open_clip", "timm": "timm", "sentence-transformers": "sentence_transformers"}


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        loader, dtype, batch_size: what computed the vectors. kind: "text", "picture", ...
        difference: largest absolute difference of a column. cosine: smallest to the certificate's vector.
        worst: the golden input that differs most. allowed: what was allowed, in words.
        passed: None where it could not be run; note says why.
    """

    loader: str
    dtype: str
    batch_size: int
    kind: str
    difference: float
    cosine: float
    worst: str
    allowed: str
    passed: bool | None
    note: str = ""


@dataclass
class Report:
    """The outcome of `verify`.

    Attributes:
        certified: whether stored vectors were there; else this machine's own float32 vectors stood in for them.
        problems: what departs beside the rows: other weights, other preprocessing, other golden inputs.
    """

    name: str
    certified: bool
    made_with: dict[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether nothing departs."""
        return not self.problems and all(row.passed is not False for row in self.rows)

    @property
    def reason(self) -> str:
        """Where it departs, "" where it does not."""
        rows = [
            f"{row.loader} in {row.dtype}, batches of {row.batch_size}: {row.worst} differs by {row.difference:.1e} "
            f"(cosine {row.cosine:.6f}), allowed is {row.allowed}{'; ' + row.note if row.note else ''}"
            for row in self.rows
            if row.passed is False
        ]
        return "; ".join([*self.problems, *rows])

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "passed": self.passed, "reason": self.reason}


def verify(
    where: str | Path,
    *,
    loaders: Sequence[str] | None = None,
    dtypes: Sequence[str] = DTYPES,
    batch_sizes: Sequence[int] = BATCHES,
    trust_remote_code: bool = False,
    say: Callable[[str], None] = lambda message: None,
) -> Report:
    """Computes the golden vectors again, and compares.

    Args:
        where: a folder, a registered name, or "hf:org/repo[@revision]".
        loaders: libraries to try; None takes all that the folder serves and that are installed.
        dtypes: "float32", "bfloat16", "float16". batch_sizes: of the forward passes.
        say: is told what is being done.

    Raises:
        CertificateError: the certificate is damaged, or of another model.
        ZooError: the model cannot be opened at all.
    """
    import torch

    from zoo.registry import load_model

    folder = fetch(where)
    model = load_model(folder or where, device="cpu")
    certificate = Certificate.load(folder) if folder else None
    goldens = inputs_of(model)
    report = Report(model.spec.name, certificate is not None)
    if certificate is None:
        say("no certificate: this machine's own float32 vectors stand in")
        goldens, vectors = _alone(model, goldens)
        halves = dict.fromkeys(HALVES, 0.99)
    else:
        report.made_with = certificate.made_with
        report.problems += _facts(certificate, model, folder, goldens)
        known = {row[0]: (row[3], vector) for row, vector in zip(certificate.inputs, certificate.vectors, strict=True)}
        goldens = [golden for golden in goldens if known.get(golden.name, ("",))[0] == golden.sha256]
        if certificate.dim != model.spec.dim:
            return report
        vectors = torch.stack([known[golden.name][1] for golden in goldens])
        halves = certificate.halves
    for loader, dtype, batch_size, encode in _plan(
        model, folder, loaders, dtypes, batch_sizes, trust_remote_code, report
    ):
        say(f"{loader}, {dtype}, batches of {batch_size}")
        report.rows += _compare(loader, dtype, batch_size, encode, goldens, vectors, halves)
    return report


def fetch(where: str | Path) -> Path | None:
    """The folder on disk of whatever `load_model` opens, all files of a repository fetched; None where it has no folder."""
    from zoo import hub
    from zoo.registry import PREFIXES, get_spec

    if isinstance(where, Path) or where.startswith((".", "/", "~")):
        return Path(where).expanduser()
    revision = None
    if not where.startswith(PREFIXES):
        spec = get_spec(where)
        if spec.packaged:
            return Path(hub.__file__).parent / "weights" / spec.name
        if spec.source.startswith(("open_clip:", "timm:")):
            return (
                None  # the authors' repository is not ours: it has no certificate, and its layout is not self-contained
            )
        where, revision = spec.source or f"hf:{spec.hub_id}", spec.revision
    if not where.startswith("hf:"):
        return None
    repo, _, pinned = where.removeprefix("hf:").partition("@")
    revision = pinned or revision or None
    commit, names = hub.repository_files(repo, revision)
    # ONNX, OpenVINO, TensorFlow and pickles are nobody's business here.
    wanted = [n for n in sorted(names) if n.endswith((".json", ".safetensors", ".txt", ".model", ".py"))]
    return hub.download_files(repo, wanted, commit, revision) if wanted else None


def _facts(certificate: Certificate, model: "Embedder", folder: Path, goldens: list[Golden]) -> Iterator[str]:
    """What departs before anything is computed."""
    if certificate.dim != model.spec.dim:
        yield f"the model gives {model.spec.dim} columns, its certificate is of {certificate.dim}"
    there = weight_hashes(folder)
    for name, digest in certificate.weights.items():
        if name not in there:
            yield f"{name} is missing; the certificate was made with it"
        elif there[name] != digest:
            yield f"{name} is not the file that the certificate was made with (sha256 {there[name][:12]}, not {digest[:12]})"
    for name in sorted(set(there) - set(certificate.weights)):
        yield f"{name} was not there when the certificate was made"
    if certificate.preprocessing != model.fingerprint()["preprocessing"]:
        yield "the preprocessing (tokenizer settings, resize, mean, std) is not what the certificate was made with"
    ours = {golden.name: golden.sha256 for golden in goldens}
    for name, _, _, digest in certificate.inputs:
        if ours.get(name) != digest:
            yield f"the golden input {name!r} is not the one that the certificate knows"


def _alone(model: "Embedder", goldens: list[Golden]) -> tuple[list[Golden], "Tensor"]:
    import torch

    kept, rows = [], []
    for golden in goldens:
        try:
            rows.append(model.encode(golden.item, prompt=golden.prompt, progress=False))
            kept.append(golden)
        except InputError:
            continue
    return kept, torch.stack(rows)


Encode = Callable[[list[Golden]], "Tensor"]


def _plan(
    model: "Embedder",
    folder: Path | None,
    loaders: Sequence[str] | None,
    dtypes: Sequence[str],
    batch_sizes: Sequence[int],
    trust: bool,
    report: Report,
) -> Iterator[tuple[str, str, int, Encode]]:
    """Every combination that is to be run. Other libraries load anew for each, so they get one batch size."""
    import copy

    import torch

    from zoo import exports

    served = exports.loaders_of(folder) if folder else ["zoo"]
    for loader in loaders or served:
        if loader not in served:
            report.problems.append(f"{loader} does not open {folder or report.name}; it is served: {', '.join(served)}")
    for dtype in dtypes:
        if "zoo" in (loaders or served):
            # A copy: weights that went through bfloat16 once stay coarse.
            cast = model if dtype == "float32" else copy.deepcopy(model).to(getattr(torch, dtype))
            for batch_size in batch_sizes:
                yield "zoo", dtype, batch_size, lambda part, m=cast, size=batch_size: _by_zoo(m, part, size)
    for loader in loaders or served:
        if loader == "zoo" or loader not in served:
            continue
        for dtype in dtypes:
            options = {"dtype": getattr(torch, dtype), "batch_size": max(batch_sizes), "trust_remote_code": trust}
            yield loader, dtype, max(batch_sizes), lambda part, n=loader, o=options: _by_library(n, folder, part, o)


def _by_zoo(model: "Embedder", goldens: list[Golden], batch_size: int) -> "Tensor":
    return _by_prompt(
        goldens, lambda items, prompt: model.encode(items, prompt=prompt, batch_size=batch_size, progress=False)
    )


def _by_library(loader: str, folder: Path, goldens: list[Golden], options: dict[str, Any]) -> "Tensor":
    from zoo.exports import encode_with

    return _by_prompt(goldens, lambda items, prompt: encode_with(loader, folder, items, prompt=prompt, **options))


def _by_prompt(goldens: list[Golden], encode: Callable[..., "Tensor"]) -> "Tensor":
    import torch

    rows: dict[int, Tensor] = {}
    for prompt in dict.fromkeys(golden.prompt for golden in goldens):
        mine = [i for i, golden in enumerate(goldens) if golden.prompt == prompt]
        rows |= dict(zip(mine, encode([goldens[i].item for i in mine], prompt), strict=True))
    return torch.stack([rows[i] for i in range(len(goldens))])


def _compare(
    loader: str,
    dtype: str,
    batch_size: int,
    encode: Encode,
    goldens: list[Golden],
    vectors: "Tensor",
    halves: dict[str, float],
) -> list[Row]:
    """One row for each kind of input; a library reads what it can, and an input that it does not read is no fault."""
    if loader in ("open_clip", "timm", "transformers", "sentence-transformers"):
        kinds = {"text", "picture", "resized picture"} if loader != "timm" else {"picture", "resized picture"}
        keep = [i for i, g in enumerate(goldens) if g.kind in kinds and len(g.item.modalities) == 1]
        goldens, vectors = [goldens[i] for i in keep], vectors[keep]
    if not goldens:
        return []
    try:
        found = encode(goldens)
    except ModuleNotFoundError as error:
        return [Row(loader, dtype, batch_size, "all", 0.0, 0.0, "", "", None, f"{error.name} is not installed")]
    except UnsafeCheckpointError as error:
        return [Row(loader, dtype, batch_size, "all", 0.0, 0.0, "", "", None, str(error))]
    except (ZooError, RuntimeError, ValueError, OSError, TypeError, KeyError, AttributeError, ImportError) as error:
        note = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        # Not every library computes in half precision on every machine; in float32 each must.
        passed = None if dtype != "float32" and isinstance(error, RuntimeError) else False
        return [Row(loader, dtype, batch_size, "all", float("nan"), float("nan"), "everything", "none", passed, note)]
    rows = []
    for kind in dict.fromkeys(golden.kind for golden in goldens):
        mine = [i for i, golden in enumerate(goldens) if golden.kind == kind]
        rows.append(
            _row(loader, dtype, batch_size, kind, [goldens[i] for i in mine], found[mine], vectors[mine], halves)
        )
    return rows


def _row(
    loader: str,
    dtype: str,
    batch_size: int,
    kind: str,
    goldens: list[Golden],
    found: "Tensor",
    vectors: "Tensor",
    halves: dict[str, float],
) -> Row:
    differences = (found - vectors).abs().amax(1)
    cosines = (found * vectors).sum(1) / (found.norm(dim=1) * vectors.norm(dim=1))
    difference, cosine = float(differences.max()), float(cosines.min())
    if dtype != "float32":
        bound = min(halves[dtype], RESIZED_COSINE) if kind == "resized picture" else halves[dtype]
        passed, allowed = cosine >= bound, f"cosine {bound:.4f}"
    elif kind == "resized picture":
        passed, allowed = cosine >= RESIZED_COSINE, f"cosine {RESIZED_COSINE}"
    else:
        passed, allowed = difference <= EXACT, f"difference {EXACT:.0e}"
    worst = goldens[int(differences.argmax())].name
    return Row(loader, dtype, batch_size, kind, difference, cosine, worst, allowed, bool(passed and cosine == cosine))


__all__ = ["BATCHES", "DTYPES", "FILE", "CertificateError", "Report", "Row", "fetch", "verify"]
