"""Streams: any number of inputs in, one `Encoded` each out, in order and in bounded memory; and the mode of a forward pass."""

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from zoo.callers import warn
from zoo.embedder.cutting import Cuts
from zoo.embedder.documents import DocumentTower
from zoo.embedder.passes import IN_FLIGHT, Returning, halved, to_device
from zoo.encoders.prefetch import Prefetch, batches, windows
from zoo.errors import InputError, NonFiniteEmbeddingError
from zoo.inputs.item import Item, as_item
from zoo.inputs.kinds import AUDIO_SUFFIXES, IMAGE_SUFFIXES, VIDEO_SUFFIXES
from zoo.inputs.silence import noticing
from zoo.similarity import Precision, cut, quantize, usable

if TYPE_CHECKING:
    from zoo.embedder.embedder import Embedder
    from zoo.embedder.routes import Reader
    from zoo.spec import Similarity

# What becomes of the reads of a batch: (model, tower, reads, batch_size) → vectors, or a list of what each gives.
Embed = Callable[["Embedder", "Reader", list[Any], int | None], Returning | Tensor | list[Any]]
# How one item is read, in place of `Encoder.prepare_prompted`: (encoder, item, index) → what it reads.
Prepare = Callable[[Any, Item, int], Any]
# Of what may be the path of a file where a text stands, and how many such texts of one call are looked up.
_SUFFIXES = (
    *IMAGE_SUFFIXES, *VIDEO_SUFFIXES, *AUDIO_SUFFIXES,
)  # fmt: skip
# Each look-up asks the file system; a call with a million captions must not ask a million times.
_LOOKED_UP, _LONGEST_PATH = 1000, 1024


class _Encoded(NamedTuple):
    index: int
    vector: Tensor | None
    error: InputError | None


class Encoded(_Encoded):
    """One result of `encode_stream`: a vector `(dim,)` (late interaction: `(tokens, dim)`), or the error in its place.

    A tuple of three, so that `for index, vector, error in model.encode_stream(…)` holds whatever else is said of a result.

    Attributes:
        silent: whether the input is audio in which there is nothing (`zoo.inputs.silence`): its vector says nothing.
    """

    silent: bool = False


class EvalMode:
    """Eval mode for as long as a forward pass takes, so that it belongs to the pass and not to the model.

    Between the results of a stream the model is in the mode that its user asked for last. Passes of several threads may
    overlap: the first takes every module out of training, the last puts them back.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._passes = 0
        self._training: list[nn.Module] = []  # what goes back into training after the last pass
        self._asked: Callable[[], object] | None = None

    @contextlib.contextmanager
    def during_pass(self, part: nn.Module) -> Iterator[None]:
        """No module of this part of the model is in training inside."""
        with self._lock:
            self._passes += 1
            for module in part.modules():
                if module.training:
                    self._training.append(module)
                    module.training = False
        try:
            yield
        finally:
            with self._lock:
                self._passes -= 1
                if not self._passes:
                    self._restore()

    def _restore(self) -> None:
        for module in self._training:
            module.training = True
        self._training.clear()
        if self._asked is not None:
            change, self._asked = self._asked, None
            change()

    def ask(self, change: Callable[[], object]) -> None:
        """Another mode, set by `change`: at once, or after the passes that other threads are in."""
        with self._lock:
            if self._passes:
                self._training.clear()
                self._asked = change
            else:
                change()

    def __reduce__(self) -> tuple[Any, ...]:
        return EvalMode, ()  # a lock cannot be copied, and a copied model is in no pass


def stream(
    model: "Embedder",
    inputs: Iterable[Any],
    prefix: str,
    *,
    batch_size: int | None,
    dim: int | None,
    bar: Any,
    embed: Embed | None = None,
    cuts: Cuts | None = None,
    prepare: Prepare | None = None,
) -> Iterator[Encoded]:
    """What `Embedder.encode_stream` gives; its arguments are checked.

    Where the inputs end in an error, what came before it is given first.

    Args:
        prefix: the prompt's text. dim: the cut, None for whole vectors. bar: shows what is done.
        cuts: what looks for texts that are too long. embed: what becomes of a batch, `launched` by default: vectors, or a list of what
            each read gives, errors among it. prepare: how an item is read, by default with the prompt and nothing else.
    """
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="zoo-read")
    try:
        ahead: deque[list[Future]] = deque()
        pace = Prefetch([reader.encoder for reader in model.routes])
        silent: set[int] = set()  # of what is read and not given yet
        paths = _Paths()
        for window in windows(inputs, pace):
            paths.look(window.chunks)
            ahead.append(
                [
                    pool.submit(copy_context().run, _read, model, chunk, prefix, silent, cuts, prepare)
                    for chunk in window.chunks
                ]
            )
            first = next(iter(ahead[-1]), None)
            # One window is read while the model is at the one before. Where the inputs come slowly, none is kept waiting.
            while len(ahead) > (0 if window.late else 1):
                yield from _marked(
                    _finish(model, ahead.popleft(), batch_size, dim, bar, embed or launched), silent, cuts
                )
            if first is not None:
                pace.learn(first.result())
            if window.error is not None:
                while ahead:
                    yield from _marked(
                        _finish(model, ahead.popleft(), batch_size, dim, bar, embed or launched), silent, cuts
                    )
                raise window.error
        while ahead:
            yield from _marked(_finish(model, ahead.popleft(), batch_size, dim, bar, embed or launched), silent, cuts)
    finally:
        # Never waits: an abandoned stream is closed by the garbage collector, in any thread, even one being started.
        pool.shutdown(wait=False, cancel_futures=True)
        bar.close()


def _read(
    model: "Embedder",
    chunk: list[tuple[int, Any]],
    prefix: str,
    silent: set[int],
    cuts: Cuts | None,
    prepare: Prepare | None,
) -> list[tuple[int, int, Any]]:
    """(index, tower, read) for each item, with tower -1 and the error where it cannot be read; `silent` takes those of silence."""
    out, encoders = [], [reader.encoder for reader in model.routes]
    for index, value in chunk:
        try:
            item = as_item(value)
            position = model.route_index(item)
            encoder = encoders[position]
            with noticing() as silences:
                read = encoder.prepare_prompted(item, prefix) if prepare is None else prepare(encoder, item, index)
                if cuts is not None:
                    cuts.look(encoder, item, prefix, read, index)
                out.append((index, position, read))
            if silences and all(silences) and item.modalities == {"audio"}:
                silent.add(index)
        except InputError as error:
            out.append((index, -1, error.at(index)))
    return out


def _marked(results: list[Encoded], silent: set[int], cuts: Cuts | None) -> Iterator[Encoded]:
    """The results, those of silence with a mark."""
    if cuts is not None:
        cuts.say()
    for result in results:
        if result.index in silent:
            silent.discard(result.index)
            result.silent = True
        yield result


class _Paths:
    """Says, once a call, that a text is the path of a file: a str is a text, whatever its letters."""

    def __init__(self) -> None:
        self.left = _LOOKED_UP

    def look(self, chunks: list[list[tuple[int, Any]]]) -> None:
        """Reads no file; asks of a bounded number of short texts with a medium's suffix whether there is one."""
        for chunk in chunks if self.left else ():
            for _, value in chunk:
                short = isinstance(value, str) and len(value) <= _LONGEST_PATH
                if self.left and short and value[-6:].lower().endswith(_SUFFIXES):
                    self.left -= 1
                    if os.path.isfile(value):
                        self.left = 0
                        warn(
                            f"{value!r} is embedded as a text, though a file is called so; for the file pass "
                            f"pathlib.Path({value!r})"
                        )


@torch.inference_mode(False)  # whatever mode the caller is in: cuts and rows are ordinary tensors
def _finish(
    model: "Embedder", window: list[Future], batch_size: int | None, dim: int | None, bar: Any, embed: Embed
) -> list[Encoded]:
    reads = [read for future in window for read in future.result()]
    results: dict[int, Encoded] = {i: Encoded(i, None, error) for i, tower, error in reads if tower < 0}
    bar.update(len(results))
    similarity = model.spec.similarity
    pending: deque[tuple[_Batch, Returning]] = deque()

    def settle(left: int) -> None:
        while len(pending) > left:
            batch, returning = pending.popleft()
            results.update(_results([index for index, _ in batch], returning.get(), dim, similarity))
            bar.update(len(batch))

    for position, tower in enumerate(model.routes):
        mine = [(index, read) for index, t, read in reads if t == position]
        most = partial(model._room.most, tower.encoder)
        for whole in batches(mine, tower.encoder, batch_size, model.device, most):
            for batch, vectors in _embedded(model, tower, whole, batch_size, embed):
                if isinstance(vectors, Returning):
                    pending.append((batch, vectors))
                    settle(IN_FLIGHT if vectors.waits else 0)
                    continue
                if isinstance(vectors, InputError):
                    results[batch[0][0]] = Encoded(batch[0][0], None, vectors)
                else:
                    results |= _results([index for index, _ in batch], vectors, dim, similarity)
                bar.update(len(batch))
    settle(0)
    return [results[index] for index, _, _ in reads]


_Batch = list[tuple[int, Any]]


def _embedded(
    model: "Embedder", tower: "Reader", batch: _Batch, batch_size: int | None, embed: Embed
) -> Iterator[tuple[_Batch, Returning | Tensor | list[Any] | InputError]]:
    """A batch with its vectors; where a document's page turns out to be bad, in parts, so that the error is of its item alone."""
    try:
        yield batch, embed(model, tower, [read for _, read in batch], batch_size)
    except InputError as error:
        if len(batch) == 1:
            yield batch, error.at(batch[0][0])
            return
        half = len(batch) // 2
        for part in (batch[:half], batch[half:]):
            yield from _embedded(model, tower, part, batch_size, embed)


def _results(
    indices: list[int], vectors: Tensor | list[Any], dim: int | None, similarity: "Similarity"
) -> dict[int, Encoded]:
    """Results of one forward pass, by index: cut, and held to be usable; what `embed` gave as a list it has looked at itself."""
    if isinstance(vectors, list):
        return {
            index: Encoded(index, None, given.at(index))
            if isinstance(given, InputError)
            else Encoded(index, given, None)
            for index, given in zip(indices, vectors, strict=True)
        }
    if dim is not None:
        vectors = cut(vectors, dim, similarity)
    good = usable(vectors, similarity)
    rows: Any = vectors
    if vectors.ndim == 3:  # late interaction: padding is zero, and left out
        # (B, T): `Tower` has set padding to exactly 0, and a real token is of unit length.
        real = vectors.abs().amax(-1) > 0
        good = ((good | ~real).all(-1)) & real.any(-1)
        rows = [row[kept] for row, kept in zip(vectors, real, strict=True)]
    return {
        index: Encoded(index, vector, None) if ok else Encoded(index, None, not_finite(index))
        for index, vector, ok in zip(indices, rows, good.tolist(), strict=True)
    }


@torch.inference_mode(False)
def forward(model: "Embedder", tower: "Reader", reads: list[Any], batch_size: int | None = None) -> Tensor:
    """Vectors of one batch in eval mode, ordinary tensors on the CPU; out of memory halves the batch and tries again.

    Documents are embedded page by page, `batch_size` pages at a time.

    Raises:
        InputError: a page of a document cannot be drawn. OutOfMemoryError: one item is too large.
    """
    vectors = launched(model, tower, reads, batch_size)
    return vectors.get() if isinstance(vectors, Returning) else vectors


@torch.inference_mode(False)
def launched(model: "Embedder", tower: "Reader", reads: list[Any], batch_size: int | None = None) -> Returning | Tensor:
    """`forward`, whose vectors may still be on their way."""
    if isinstance(tower, DocumentTower):
        return tower.over_pages(reads, lambda pages: forward(model, tower.tower, pages), batch_size)

    def run(some: list[Any]) -> Returning:
        with model.eval_mode.during_pass(tower), torch.inference_mode():
            return Returning(tower(to_device(tower.encoder.collate(some), model.device)))

    returning = halved(run, reads, model.device, lambda some: model._room.ran_out(tower.encoder, some))
    if len(returning) == 1:
        return returning[0]
    parts = [part.get() for part in returning]
    if parts[0].ndim == 3:
        # (items, tokens, dim) of late interaction: each half has as many tokens as its longest item, and zeros
        most = max(part.shape[1] for part in parts)
        parts = [torch.nn.functional.pad(part, (0, 0, 0, most - part.shape[1])) for part in parts]
    return torch.cat(parts)


def not_finite(index: int | None = None) -> NonFiniteEmbeddingError:
    """The error of an input of which the model gives nothing usable."""
    return NonFiniteEmbeddingError(
        "the model gave no usable vector (NaN, infinity or zero); load it with dtype=torch.float32", index=index
    )


def progress_bar(inputs: Any, progress: bool | None, name: str) -> Any:
    """A bar with items/s and time left; with None only on a terminal, and when it takes over two seconds."""
    from tqdm import tqdm

    total = len(inputs) if hasattr(inputs, "__len__") else None
    disable = None if progress is None else not progress  # None: tqdm shows itself on terminals only
    return tqdm(total=total, desc=name, unit=" items", disable=disable, delay=0 if progress else 2, smoothing=0.1)


def kept(results: Iterator[Encoded], on_error: str) -> Iterator[Tensor]:
    """The vectors of a stream; its first error is raised, or with "skip" all are left out and listed in one warning."""
    skipped: list[InputError] = []
    silent: list[int] = []
    for result in results:
        silent += [result.index] if result.silent else []
        if result.vector is not None:
            yield result.vector
        elif on_error == "raise":
            raise result.error  # type: ignore[misc]
        else:
            skipped.append(result.error)  # type: ignore[arg-type]
    if silent:
        listed = ", ".join(map(str, silent[:5])) + (f" and {len(silent) - 5} more" if len(silent) > 5 else "")
        warn(f"silence, of which a vector says nothing: item {listed}")
    if skipped:
        listed = "; ".join(str(error) for error in skipped[:5])
        more = f"; and {len(skipped) - 5} more" if len(skipped) > 5 else ""
        warn(f"{len(skipped)} bad items were skipped: {listed}{more}")


@torch.inference_mode(False)  # ordinary tensors, whatever mode the caller is in
def packed(vectors: Tensor | list[Tensor], precision: Precision, dim: int = 0) -> Tensor:
    """Vectors as one tensor of a precision, `(0, dim)` of none."""
    if isinstance(vectors, list):
        vectors = torch.stack(vectors) if vectors else torch.zeros(0, dim)
    return quantize(vectors, precision)
