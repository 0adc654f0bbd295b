"""Opens all candidates: the zoo's by backend and type of numbers, and other libraries whose vectors are the same."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.backends import check_backend, list_backends, settle
from zoo.benching.beside import Call, candidates_of, opened, pooling_of, where
from zoo.benching.job import Candidate, Job
from zoo.benching.material import KINDS
from zoo.errors import MissingPackageError, NothingFitsError, ZooError
from zoo.loading import load_model

if TYPE_CHECKING:
    from zoo.embedder import Embedder

_NEAR = 0.99  # cosine with the zoo's vectors from which on another library is taken to have opened the same model
PLAIN = Candidate("zoo")


@dataclass
class Open:
    """A candidate that is ready.

    Attributes:
        calls: kind → what embeds a list of inputs. model: of the zoo's candidates. took: seconds to open it.
        each: kind → seconds for one input, about.
    """

    candidate: Candidate
    calls: dict[str, Call]
    model: "Embedder | None" = None
    took: float = 0.0
    each: dict[str, float] = field(default_factory=dict)


@dataclass
class Opened:
    """All that could be opened, and why the others could not.

    Attributes:
        reference: the model by torch in float32, of which operations and tokens are counted, a candidate or not.
    """

    reference: "Embedder"
    ready: list[Open]
    left_out: dict[str, str]


def open_all(job: Job) -> Opened:
    """Opens every candidate of a job.

    Raises:
        ZooError: the model cannot be opened. MissingPackageError: a backend that the job names is not installed. NothingFitsError: none of the
            zoo's candidates is left.
    """
    start = time.perf_counter()
    reference = load(job, PLAIN)
    first = Open(PLAIN, calls_of(reference), reference, time.perf_counter() - start)
    ready, left = [], {}
    for backend in wanted_backends(job, left):
        for dtype in job.dtypes:
            one = Candidate("zoo", backend, dtype)
            start = time.perf_counter()
            try:
                model = reference if one == PLAIN else load(job, one)
            except ZooError as error:
                left[str(one)] = str(error)
                continue
            took = first.took if one == PLAIN else time.perf_counter() - start
            ready.append(Open(one, calls_of(model), model, took))
    if not ready:
        raise NothingFitsError(
            f"nothing is left to measure: {'; '.join(f'{name}: {why}' for name, why in left.items())}"
        )
    return Opened(reference, ready + _beside(job, reference, left), left)


def wanted_backends(job: Job, left: dict[str, str]) -> list[str]:
    """The backends that the job names, or all; of these `left` is told which are not installed.

    Raises:
        ArgumentError: there is no such backend. MissingPackageError: one that the job names is not installed.
    """
    found = []
    for name in job.backends or list_backends():
        try:
            check_backend(name)
        except MissingPackageError as error:
            if job.backends:
                raise
            left[str(Candidate("zoo", name))] = str(error)
            continue
        found.append(name)
    return found


def load(job: Job, candidate: Candidate) -> "Embedder":
    """The model of a job by a candidate's backend and in its type of numbers."""
    return settle(
        load_model(job.model, device=job.device, ignore=job.ignore, backend=candidate.backend, dtype=candidate.dtype)
    )


def calls_of(model: "Embedder") -> dict[str, Call]:
    """Every kind of input as the model's own `encode` takes it."""

    def embed(inputs: list[Any]) -> Any:
        return model.encode(inputs, progress=False)

    return {kind: embed for kind, reads in KINDS.items() if reads in model.spec.modalities}


def _beside(job: Job, reference: "Embedder", left: dict[str, str]) -> list[Open]:
    """Other libraries; `left` is told why one is not measured."""
    ready = []
    if reference.spec.similarity == "maxsim" and job.beside:
        left["other libraries"] = "the model gives a vector for each token"
        return []
    for one in candidates_of(job.beside):
        start = time.perf_counter()
        try:
            calls = opened(one, where(job, pooling_of(reference)), str(reference.device))
        except Exception as error:  # of whichever library, of its own kinds
            left[str(one)] = in_a_line(error)
            continue
        ready.append(Open(one, calls, None, time.perf_counter() - start))
    return ready


def keep_the_same(found: Opened, kind: str, inputs: Sequence[Any]) -> None:
    """Takes the calls of other libraries away that fail, or whose vectors are not the zoo's; `left_out` is told."""
    ours = _unit(found.reference.encode(list(inputs), progress=False))
    for one in [one for one in found.ready if one.model is None and kind in one.calls]:
        try:
            near = float((_unit(one.calls[kind](list(inputs))) * ours).sum(1).min())
        except Exception as error:  # of whichever library, of its own kinds
            why = in_a_line(error)
        else:
            if near >= _NEAR:
                continue
            why = f"gives other vectors of the same files (cosine {near:.2f})"
        del one.calls[kind]
        found.left_out[f"{one.candidate}, {kind}"] = why


def _unit(vectors: Any) -> np.ndarray:
    found = np.asarray(vectors, dtype=np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def in_a_line(error: BaseException) -> str:
    """What an error of another library says, in one line."""
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) <= 200 else said[:199] + "…"


def check_names(backends: Sequence[str]) -> None:
    """Raises ArgumentError for a backend that there is not, and MissingPackageError for one that is not installed."""
    wanted_backends(Job("", backends=tuple(backends)), {})
