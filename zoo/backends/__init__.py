"""Backends: runtimes other than torch that compute an encoder's forward pass, exported once and compared with torch before use.

One file each; `load_model(name, backend=…)` takes their names. A tower whose encoder is one function of tensors (`Encoder.program`) is
given to the backend, the others stay with torch. "auto" takes what is fastest on this machine (`auto.py`).
"""

import contextlib
import io
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from zoo._version import __version__
from zoo.backends import onnx as onnx
from zoo.backends import openvino as openvino
from zoo.backends.auto import LOG, Auto
from zoo.backends.base import AUTO, TORCH, Backend, get_backend, installed, list_backends, name_of, register_backend
from zoo.backends.cache import digest_of, drop, home, program_in
from zoo.backends.golden import golden_items
from zoo.callers import warn
from zoo.encoders import int8
from zoo.encoders.base import Batch, Encoder
from zoo.encoders.program import Compiled, Program, States
from zoo.errors import ArgumentError, BackendError, MissingWeightsError

if TYPE_CHECKING:
    from zoo.embedder import Embedder
    from zoo.embedder.tower import Tower

__all__ = ["Backend", "check_backend", "get_backend", "list_backends", "register_backend", "run_by", "settle"]

TOLERANCE = 1e-5  # of a unit vector's dimensions; of a vector with its norm, in units of that
_FORMAT = "1"  # of what is exported: another one makes every program anew


def check_backend(
    name: str, device: "torch.device | str | None" = None, dtype: "torch.dtype | str | None" = None
) -> None:
    """What can be refused before a model is opened.

    Raises:
        ArgumentError: no such backend, or another device or dtype than it computes with. MissingPackageError: it is not installed.
    """
    if name in (TORCH, AUTO):
        return
    backend = get_backend(name)
    if device is not None and torch.device(device).type != "cpu":
        raise ArgumentError(f"backend={name!r} computes on the CPU, not on {device}; leave device out, or the backend")
    if dtype not in (None, torch.float32, "float32"):
        raise ArgumentError(f"backend={name!r} computes in float32, not in {dtype}; leave dtype out, or the backend")
    backend.versions()


def run_by(model: "Embedder", name: str) -> "Embedder":
    """Has a model's encoders computed by a backend from now on, those that it can be given; in place, and returned.

    Exported programs are kept below `~/.cache/embedding-zoo/backends`. Gradients, single layers, dense regions and outputs other than
    the vector are torch's in any case; so is everything once a weight is changed.

    Args:
        name: of `list_backends`; "torch" takes a backend away. "auto" lets torch compute for some seconds, and then what a trial
            finds fastest on this machine, whose choice is remembered (`settle` makes it now); it refuses nothing, and torch goes on
            computing what nothing else can.

    Raises:
        BackendError: no tower of the model can be given to it, or its vectors differ from torch's; the message says which and by how
            much. As `check_backend`, of the model's own device and dtype.
    """
    for tower in model.towers:
        tower.compiled = None
    if name == TORCH:
        return model
    if name == AUTO:
        return _by_the_fastest(model)
    (dtype,) = {one.dtype for one in model.parameters() if one.is_floating_point()} or {torch.float32}
    check_backend(name, model.device, dtype)
    model.eval()
    found = [_compiled(tower, name, model.spec.name) for tower in model.towers]
    left = [(tower, why) for tower, why in zip(model.towers, found, strict=True) if isinstance(why, str)]
    told = "; ".join(f"{'+'.join(sorted(tower.encoder.modalities))}: {why}" for tower, why in left)
    if len(left) == len(found):
        raise BackendError(f"{model.spec.name} cannot be run by {name} ({told}); leave backend out")
    if left:
        warn(f"torch goes on computing a part of {model.spec.name} ({told})")
    for tower, compiled in zip(model.towers, found, strict=True):
        tower.compiled = None if isinstance(compiled, str) else compiled
    return model


def _by_the_fastest(model: "Embedder") -> "Embedder":
    """The model with each tower by what will be found fastest."""
    found = installed()
    others = {one.dtype for one in model.parameters() if one.is_floating_point()} - {torch.float32}
    if not found:
        extras = " or ".join(
            f"'embedding-zoo[{extra}]'" for name in list_backends()[1:] if (extra := get_backend(name).extra)
        )
        LOG.warning("backend auto: torch, for nothing else is installed here (pip install %s)", extras)
    elif others or model.device.type != "cpu":
        LOG.info("backend auto: torch, for backends compute in float32 on the CPU alone")
    else:
        for tower in model.eval().towers:
            if not isinstance(_program_of(tower.encoder), str):
                versions = {one: _versions(get_backend(one)) for one in found}
                tower.compiled = Auto(tower, partial(_compiled, tower, model=model.spec.name), versions)
    return model


def settle(model: "Embedder") -> "Embedder":
    """Has backend="auto" decide now, as a server does before its first request; in place, and returned. Others stay as they are."""
    for tower in model.towers:
        if isinstance(tower.compiled, Auto):
            tower.compiled.settle()
    return model


def _versions(backend: Backend) -> dict[str, str]:
    """Of all that makes a program."""
    return {"zoo": __version__, "torch": torch.__version__, "format": _FORMAT, **backend.versions()}


def _compiled(tower: "Tower", name: str, model: str) -> Compiled | str:
    """A tower's encoder in a backend, held to torch's vectors; a string says why it stays with torch.

    Raises:
        BackendError: the export fails, or its vectors differ.
    """
    encoder, backend = tower.encoder, get_backend(name)
    program = _program_of(encoder)
    if isinstance(program, str):
        return program
    try:
        reads = [encoder.prepare_item(item) for item in golden_items(encoder)]
    except MissingWeightsError as error:
        raise BackendError(f"{model} has nothing to be compared on in {name}: {error}") from error
    place = home() / name / digest_of(encoder)
    versions = _versions(backend)
    make = partial(_export, backend, encoder, program, encoder.collate(reads[:2]))
    for last in (False, True):
        try:
            with program_in(place, versions, make) as folder:
                run = backend.open(folder, torch.get_num_threads())
            compiled = Compiled(name, encoder, program, run, 0.0)
            compiled.difference = max(_difference(tower, compiled, batch) for batch in _batches(encoder, reads))
            break
        except BackendError:
            raise
        except Exception as error:  # of a runtime's own kinds
            drop(place)  # a file of it may be damaged: made once more
            if last:
                raise BackendError(f"{model} cannot be run by {name}: {_line(error)}; leave backend out") from error
    allowed = int8.TOLERANCE if any(True for _ in int8.int8_layers(encoder)) else TOLERANCE
    if not compiled.difference <= allowed:  # NaN is not
        drop(place)
        raise BackendError(
            f"{model} is refused in {name}: its vectors differ from torch's by up to {compiled.difference:.1e}, and at most "
            f"{allowed:.0e} is allowed; leave backend out"
        )
    return compiled


def _program_of(encoder: Encoder) -> Program | str:
    """The encoder's program, unless a class below the one that states it computes something else."""
    kinds = type(encoder).__mro__
    stated, computes = (next(kind for kind in kinds if what in vars(kind)) for what in ("program", "forward"))
    if not issubclass(stated, computes):
        return f"the forward pass of {type(encoder).__name__} is no single function of tensors"
    return encoder.program()


def _batches(encoder: Encoder, reads: list) -> list[Batch]:
    """All together, and the first and second alone: one and many, with and without padding, of two lengths."""
    return [encoder.collate(reads), encoder.collate(reads[:1]), encoder.collate(reads[1:2])]


@torch.inference_mode()
def _difference(tower: "Tower", compiled: Compiled, batch: Batch) -> float:
    """The largest difference of a vector's dimension from torch's; in units of the norm where vectors keep theirs."""
    wanted, tokens = tower(batch), compiled(tower.encoder, batch)
    found = tower.embedded(tokens)
    norms = wanted.norm(dim=-1, keepdim=True).clamp(min=1e-12) if tower.similarity == "dot" else 1.0
    return float(((found - wanted) / norms).abs().max()) if found.shape == wanted.shape else float("inf")


def _export(backend: Backend, encoder: Encoder, program: Program, example: Batch, folder: Path) -> None:
    tensors = [example[name] for name in program.inputs]
    try:
        with _tracing():
            backend.export(States(encoder, tuple(program.inputs)).eval(), tensors, program.inputs, folder)
    except Exception as error:
        raise BackendError(
            f"{type(encoder).__name__} cannot be exported to {name_of(backend)}: {_line(error)}; leave backend out"
        ) from error


@contextlib.contextmanager
def _tracing() -> Iterator[None]:
    """What tracers need: no fused attention of torch's own, which no exporter knows, and none of their talk."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    talk = io.StringIO()
    try:
        with (
            torch.no_grad(),
            warnings.catch_warnings(),
            contextlib.redirect_stdout(talk),
            contextlib.redirect_stderr(talk),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _line(error: BaseException) -> str:
    """An error of another library in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
