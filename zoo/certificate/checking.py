"""Holds a model to its certificate: every library, dtype and batch size, and what exactly departs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.certificate import (
    FILE,
    HALVES,
    RESIZED,
    Certificate,
    CertificateError,
    Tolerance,
    by_prompt,
    by_zoo,
    file_hashes,
    in_lengths,
    inputs_of,
    likeness,
    make,
    same_width,
)
from zoo.certificate.golden import Golden
from zoo.errors import MissingWeightsError, UnsafeCheckpointError
from zoo.spec import ModelSpec

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
        difference: largest absolute difference of a column. cosine: smallest to the certificate's vector. Both in units
            of its norm where norms count, and None where there is nothing to compare.
        worst: the golden input that differs most. allowed: what was allowed, in words.
        passed: None where it could not be run; note says why.
    """

    loader: str
    dtype: str
    batch_size: int
    kind: str
    difference: float | None
    cosine: float | None
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
        """Whether something was compared and nothing departs."""
        return not self.reason

    @property
    def reason(self) -> str:
        """Where it departs, "" where it does not."""
        found = [*self.problems, *(_words(row) for row in self.rows if row.passed is False)]
        if not found and not any(row.passed for row in self.rows):
            notes = dict.fromkeys(f"{row.loader} in {row.dtype}: {row.note}" for row in self.rows)
            found = ["nothing could be compared", *notes]
        return "; ".join(found)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "passed": self.passed, "reason": self.reason}


def _words(row: Row) -> str:
    which = f"{row.loader} in {row.dtype}, batches of {row.batch_size}"
    if row.difference is None:
        return f"{which}: {row.note}"
    return f"{which}: {row.worst} differs by {row.difference:.1e} (cosine {row.cosine:.7f}), allowed is {row.allowed}"


def verify(
    where: str | Path,
    *,
    loaders: Sequence[str] | None = None,
    dtypes: Sequence[str] = DTYPES,
    batch_sizes: Sequence[int] = BATCHES,
    trust_remote_code: bool = False,
    ignore: Sequence[str] = (),
    say: Callable[[str], None] = lambda message: None,
) -> Report:
    """Computes the golden vectors again, and compares.

    Args:
        where: a folder, a registered name, or "hf:org/repo[@revision]".
        loaders: libraries to try; None takes all that the folder serves and that are installed.
        dtypes: "float32", "bfloat16", "float16". batch_sizes: of the forward passes.
        ignore: as in `load_model`. say: is told what is being done.

    Raises:
        CertificateError: the certificate is damaged, or of another model.
        ZooError: the model cannot be opened at all.
    """
    import torch

    from zoo.exports.code import has_only_our_code
    from zoo.registry import load_model

    folder = fetch(where)
    model = load_model(folder or where, device="cpu", ignore=ignore)
    stored = Certificate.load(folder) if folder else None
    report = Report(model.spec.name, stored is not None)
    goldens = inputs_of(model)
    if stored is None:
        say("no certificate: this machine's own float32 vectors stand in")
    else:
        report.made_with = stored.made_with
        report.problems += _facts(stored, model, folder, goldens)
    if folder and not trust_remote_code and any(folder.glob("*.py")) and not has_only_our_code(folder):
        report.problems.append(
            "it holds Python files that this zoo did not write, which transformers and sentence-transformers would run; "
            "read them, then pass --trust-remote-code"
        )
    if stored is not None and stored.dim != model.spec.dim:
        return report
    certificate = stored or make(model, [dtype for dtype in dtypes if dtype in HALVES])
    known = {row[0]: (row[3], vector) for row, vector in zip(certificate.inputs, certificate.vectors, strict=True)}
    goldens = [golden for golden in goldens if known.get(golden.name, ("",))[0] == golden.sha256]
    if not goldens:
        return report
    vectors = torch.stack([known[golden.name][1] for golden in goldens])
    plan = _plan(model, folder, loaders, dtypes, batch_sizes, trust_remote_code, certificate, report)
    for loader, dtype, batch_size, encode in plan:
        say(f"{loader}, {dtype}, batches of {batch_size}")
        report.rows += _compare(loader, dtype, batch_size, encode, goldens, vectors, certificate.tolerances, model.spec)
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
        if not spec.source and not spec.hub_id:
            raise MissingWeightsError(f"{where} has no published weights (it is a test model); verify a folder of it")
        where, revision = spec.source or f"hf:{spec.hub_id}", spec.revision
    if not where.startswith("hf:"):
        return None
    repo, _, pinned = where.removeprefix("hf:").partition("@")
    revision = pinned or revision or None
    listing = hub.repository_files(repo, revision)
    # ONNX, OpenVINO, TensorFlow and pickles are nobody's business here.
    wanted = [n for n in sorted(listing.names) if n.endswith((".json", ".safetensors", ".txt", ".model", ".py"))]
    return hub.download_files(listing, wanted) if wanted else None


def _facts(certificate: Certificate, model: "Embedder", folder: Path, goldens: list[Golden]) -> Iterator[str]:
    """What departs before anything is computed."""
    if certificate.dim != model.spec.dim:
        yield f"the model gives {model.spec.dim} columns, its certificate is of {certificate.dim}"
    there = file_hashes(folder)
    for name, digest in certificate.files.items():
        if name not in there:
            yield f"{name} is missing; the certificate was made with it"
        elif there[name] != digest:
            yield f"{name} is not the file that the certificate was made with (sha256 {there[name][:12]}, not {digest[:12]})"
    for name in sorted(set(there) - set(certificate.files)):
        yield f"{name} was not there when the certificate was made"
    if certificate.preprocessing != model.fingerprint()["preprocessing"]:
        yield "the preprocessing (tokenizer settings, resize, mean, std) is not what the certificate was made with"
    ours = {golden.name: golden.sha256 for golden in goldens}
    for name, _, _, digest in certificate.inputs:
        if ours.get(name) != digest:
            yield f"the golden input {name!r} is not the one that the certificate knows"
    listed = {row[0] for row in certificate.inputs} | set(certificate.refused)
    if lacking := [golden.name for golden in goldens if golden.name not in listed]:
        yield (
            f"the certificate lacks {len(lacking)} golden inputs that this zoo knows ({', '.join(lacking[:3])}); other "
            "prompts, or cut short; `zoo verify FOLDER --write` makes a new one"
        )


Encode = Callable[[list[Golden]], "Tensor"]


def _plan(
    model: "Embedder",
    folder: Path | None,
    loaders: Sequence[str] | None,
    dtypes: Sequence[str],
    batch_sizes: Sequence[int],
    trust: bool,
    certificate: Certificate,
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
        if (of := certificate.tolerances[dtype]).allowed is None:
            report.rows.append(_nothing("zoo", dtype, max(batch_sizes), None, of.why))
        elif "zoo" in (loaders or served):
            # A copy: weights that went through bfloat16 once stay coarse.
            cast = model if dtype == "float32" else copy.deepcopy(model).to(getattr(torch, dtype))
            for batch_size in batch_sizes:
                yield "zoo", dtype, batch_size, lambda part, m=cast, size=batch_size: by_zoo(m, part, size)
    for loader in loaders or served:
        if loader == "zoo" or loader not in served:
            continue
        for dtype in dtypes:
            if certificate.tolerances[dtype].allowed is None:
                continue
            options = {"dtype": getattr(torch, dtype), "batch_size": max(batch_sizes), "trust_remote_code": trust}
            yield loader, dtype, max(batch_sizes), lambda part, n=loader, o=options: _by_library(n, folder, part, o)


def _by_library(loader: str, folder: Path, goldens: list[Golden], options: dict[str, Any]) -> "Tensor":
    from zoo.exports import encode_with

    return by_prompt(goldens, lambda items, prompt: encode_with(loader, folder, items, prompt_name=prompt, **options))


def _nothing(loader: str, dtype: str, batch_size: int, passed: bool | None, note: str) -> Row:
    return Row(loader, dtype, batch_size, "all", None, None, "", "", passed, note)


def _compare(
    loader: str,
    dtype: str,
    batch_size: int,
    encode: Encode,
    goldens: list[Golden],
    vectors: "Tensor",
    tolerances: dict[str, Tolerance],
    spec: ModelSpec,
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
        return [_nothing(loader, dtype, batch_size, None, f"{error.name} is not installed")]
    except UnsafeCheckpointError as error:
        return [_nothing(loader, dtype, batch_size, None, str(error))]
    except Exception as error:  # libraries raise anything at all on a damaged file
        note = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        # Not every library computes in half precision on every machine; in float32 each must.
        passed = None if dtype != "float32" and isinstance(error, RuntimeError) else False
        return [_nothing(loader, dtype, batch_size, passed, note)]
    if spec.similarity == "maxsim":  # as many columns as the longest input has tokens
        found, vectors = same_width(found, vectors)
    if found.shape != vectors.shape:
        note = f"it gives vectors of {found.shape[-1]} columns, not {vectors.shape[-1]}"
        return [_nothing(loader, dtype, batch_size, False, note)]
    found, vectors = in_lengths(found, vectors, spec)
    rows = []
    for kind in dict.fromkeys(golden.kind for golden in goldens):
        mine = [i for i, golden in enumerate(goldens) if golden.kind == kind]
        rows.append(
            _row(loader, dtype, batch_size, kind, [goldens[i] for i in mine], found[mine], vectors[mine], tolerances)
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
    tolerances: dict[str, Tolerance],
) -> Row:
    finite = found.isfinite().all(1) & vectors.isfinite().all(1)
    if not finite.all():
        name = goldens[int(finite.int().argmin())].name
        return _nothing(loader, dtype, batch_size, False, f"{name}: NaN or infinity, here or in the certificate")
    differences = (found - vectors).abs().amax(1)
    cosines = likeness(found, vectors)
    difference, cosine = float(differences.max()), float(cosines.min())
    bounds = [tolerances[dtype]] if kind != "resized picture" or dtype != "float32" else []
    bounds += [tolerances[RESIZED]] if kind == "resized picture" else []
    if any(bound.allowed is None for bound in bounds):
        why = next(bound.why for bound in bounds if bound.allowed is None)
        return replace(_nothing(loader, dtype, batch_size, None, why), kind=kind)
    if bounds[0].measure == "difference":
        passed, allowed = difference <= bounds[0].allowed, f"difference {bounds[0].allowed:.0e}"
        worst = goldens[int(differences.argmax())].name
    else:
        least = min(bound.allowed for bound in bounds)
        passed, allowed = cosine >= least, f"cosine {least:.7f}"
        worst = goldens[int(cosines.argmin())].name
    return Row(loader, dtype, batch_size, kind, difference, cosine, worst, allowed, passed)


__all__ = ["BATCHES", "DTYPES", "FILE", "CertificateError", "Report", "Row", "fetch", "verify"]
