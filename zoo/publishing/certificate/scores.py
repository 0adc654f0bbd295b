"""Certificates of rerankers: scores of golden pairs, stored beside the weights, that any machine can compute again."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

from zoo.embedder.cutting import unsaid
from zoo.errors import CertificateError, InputError, ZooError
from zoo.files import write_json
from zoo.formats import read_json
from zoo.inputs.item import Item
from zoo.publishing.certificate.checking import BATCHES, Report, Row
from zoo.publishing.certificate.facts import EXACT
from zoo.publishing.certificate.files import FILE, changes, file_hashes
from zoo.publishing.certificate.golden import golden_inputs
from zoo.reranking import Reranker, load_reranker
from zoo.strangers.schema import Range, check

QUERY = "a red bicycle in the rain"
KIND = "reranker"
_MOST = 1e6  # of a score
_Text = Annotated[str, Range(0, 2_000)]
_Digest = Annotated[str, Range(1, 128)]


class _Pair(TypedDict):
    name: _Text
    sha256: _Digest
    score: Annotated[float, Range(-_MOST, _MOST)]


class _Facts(TypedDict):
    format: Literal[1]
    kind: Literal["reranker"]
    model: _Text
    made_with: dict[str, _Text]
    spec: dict[str, Any]
    files: dict[str, _Digest]
    pairs: list[_Pair]
    refused: dict[str, _Text]


class _Scored(NamedTuple):
    """Of each golden document that a reranker reads its digest and its score for `QUERY`; of others the error's code."""

    scores: dict[str, tuple[str, float]]
    refused: dict[str, str]


def write_scores(model: Reranker, folder: Path) -> Path:
    """Writes the certificate of the reranker in a folder, whose hashes it takes; the model is on the CPU afterwards, in float32.

    Raises:
        CertificateError: it reads none of the golden documents.
    """
    from zoo._version import __version__

    found = _scored(model, 1)
    if not found.scores:
        raise CertificateError(f"{model.spec.name} reads none of the golden documents: {found.refused}")
    facts = {
        "format": 1,
        "kind": KIND,
        "model": model.spec.name,
        "made_with": {"embedding-zoo": __version__},
        "spec": _facts(model),
        "files": file_hashes(folder),
        "pairs": [{"name": name, "sha256": digest, "score": score} for name, (digest, score) in found.scores.items()],
        "refused": found.refused,
    }
    write_json(folder / FILE, facts)
    return folder / FILE


def verify_scores(
    folder: Path,
    *,
    batch_sizes: Sequence[int] = BATCHES,
    ignore: Sequence[str] = (),
    say: Callable[[str], None] = lambda message: None,
) -> Report:
    """Computes the scores of a reranker's golden pairs again, in float32, and compares them with its certificate.

    Scores may differ by 1e-5, of scores beyond 1 by that share of them. Without a certificate, this machine's own, a pair at a time, stand in.

    Raises:
        CertificateError: the certificate is damaged. ZooError: the reranker cannot be opened.
    """
    model = load_reranker(folder, device="cpu", ignore=ignore)
    stored = _stored(folder)
    report = Report(model.spec.name, stored is not None)
    now = _scored(model, 1) if stored is None else None
    known = now.scores if now else {one["name"]: (one["sha256"], one["score"]) for one in stored["pairs"]}
    if stored is not None:
        report.made_with = stored["made_with"]
        report.problems += changes(stored["files"], file_hashes(folder))
        told = _facts(model)
        report.problems += [
            f"its fact {name!r} is {told.get(name)!r}, {stored['spec'].get(name)!r} where the certificate was made"
            for name in sorted(told.keys() | stored["spec"].keys())
            if told.get(name) != stored["spec"].get(name)
        ]
    for size in batch_sizes:
        say(f"zoo, float32, batches of {size}")
        report.rows += _compared(known, _scored(model, size), size, report)
    return report


def _facts(model: Reranker) -> dict[str, Any]:
    """The facts of a reranker besides where it lies, which a copy of the folder changes."""
    return {name: value for name, value in model.spec.to_dict().items() if name not in ("name", "hub_id", "revision")}


def _compared(known: dict[str, tuple[str, float]], found: _Scored, size: int, report: Report) -> list[Row]:
    """One row of the table; golden documents that are others, or are read on one side alone, are problems."""
    apart: dict[str, float] = {}
    for name, (digest, score) in known.items():
        mine = found.scores.get(name)
        if mine is None or mine[0] != digest:
            problem = f"the golden document {name!r} is not read any more, or not the one that the certificate knows"
            report.problems += [problem] if problem not in report.problems else []
        else:
            apart[name] = abs(mine[1] - score) / max(1.0, abs(score))
    if not apart:
        return []
    worst = max(apart, key=apart.__getitem__)
    passed, allowed = apart[worst] <= EXACT, f"{EXACT:.0e} of a score, of more than 1 that share"
    return [Row("zoo", "float32", size, "pair", apart[worst], None, worst, allowed, passed)]


def _scored(model: Reranker, batch_size: int) -> _Scored:
    """The scores of the golden documents by a reranker in float32 on the CPU."""
    import torch

    model = model.to("cpu", torch.float32).eval()
    scores, refused = {}, {}
    goldens = golden_inputs([model.spec.modalities], None)
    pairs = [(Item(text=QUERY), golden.item) for golden in goldens]
    with unsaid(model):
        for index, score, error in model.score_stream(pairs, batch_size=batch_size, progress=False):
            golden = goldens[index]
            if error is None and math.isfinite(score):
                scores[golden.name] = (golden.sha256, score)
            else:
                refused[golden.name] = error.code if isinstance(error, InputError) else "not-finite"
    return _Scored(scores, refused)


def _stored(folder: Path) -> dict[str, Any] | None:
    """The certificate of a folder, None where it has none; raises CertificateError where it is damaged."""
    if not (folder / FILE).is_file():
        return None
    try:
        return check(read_json(folder / FILE), _Facts, folder / FILE, CertificateError)
    except (OSError, ZooError) as error:
        raise CertificateError(
            f"{error}; the certificate is damaged, or of another kind of model: fetch {FILE} again"
        ) from error
