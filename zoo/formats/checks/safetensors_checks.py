"""How large a checkpoint is, known before memory is taken: the header of its safetensors, and its model without memory."""

import json
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zoo.errors import MissingWeightsError, OversizedError, UnrecognisedCheckpointError, UnsafeCheckpointError, ZooError
from zoo.strangers.schema import parse

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

# By the names of safetensors. No float8, float4 or complex: no part of the zoo computes with them.
DTYPES = ("BOOL", "U8", "I8", "I16", "I32", "I64", "F16", "BF16", "F32", "F64")
LONGEST_HEADER = 8_000_000  # bytes; 60,000 tensors, where the largest models have 20,000
MOST_AXES = 8
MOST_MODULES = 8_000  # of one model; the deepest of open_clip and timm have 1,800
SLACK = 16_777_216  # numbers that a model may have beyond its file: buffers, a pooler that nobody saved
_NO_WEIGHTS = {
    b"version https://git-lfs": "a git-lfs pointer; fetch the file itself: git lfs pull",
    b"GGUF": "a GGUF file of llama.cpp, which the zoo does not read; take the original repository",
    b"<": "a web page; was the right address downloaded?",
}
# What safetensors says of a damaged header → the same for those who do not know its format.
_DAMAGE = {
    "invalid offset": "a tensor begins at another place than the one before ends",
    "invalid shape": "a tensor has another shape or type than its bytes",
    "incomplete metadata": "its header promises more or fewer bytes of weights than there are",
}
_BUFFER = 4_194_304  # bytes of weights that are looked at together
_FILLS = ("normal_", "uniform_", "erfinv_", "mul_", "add_", "clamp_", "fill_", "zero_")
_PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


class Entry(NamedTuple):
    """What a header says of a tensor."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def is_float(self) -> bool:
        """Whether its numbers are floating-point ones."""
        return "F" in self.dtype


def read_header(path: Path) -> dict[str, Entry]:
    """Names, types and shapes of a safetensors file, once safetensors itself finds them to agree with the file's length.

    Raises:
        MissingWeightsError: no such file, no safetensors, damaged, cut off, or of a type that the zoo does not compute with.
        UnsafeCheckpointError: a pickle under the name of safetensors.
    """
    from safetensors import SafetensorError, safe_open

    header, damaged = _json_of(path), f"{path} is damaged or cut off"
    try:
        parse(header, path)  # a tensor that is there twice is none to safetensors, which takes the last
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            entries = {name: Entry(one.get_dtype(), tuple(one.get_shape())) for name, one in slices.items()}
    except UnrecognisedCheckpointError as error:
        raise MissingWeightsError(f"{damaged}: its header is no JSON: {error}") from error
    except (SafetensorError, OSError) as error:
        said = str(error).removeprefix("Error while deserializing header: ")
        said = next((f"{ours} ({said})" for theirs, ours in _DAMAGE.items() if said.startswith(theirs)), said)
        raise MissingWeightsError(f"{damaged}: {said}") from error
    for name, entry in entries.items():
        if len(entry.shape) > MOST_AXES:
            raise MissingWeightsError(f"{damaged}: the tensor {name[:80]!r} has {len(entry.shape)} axes")
        if entry.dtype not in DTYPES:
            raise MissingWeightsError(
                f"{path}: the tensor {name[:80]!r} has the type {entry.dtype!r}; the zoo reads {', '.join(DTYPES)}"
            )
    return entries


def _json_of(path: Path) -> bytes:
    """The header of a safetensors file, of a length that one can have; what is none is named for what it is."""
    if not path.is_file():
        raise MissingWeightsError(f"{path} does not exist; a model is never loaded with random weights")
    damaged = f"{path} is damaged or cut off"
    size = path.stat().st_size
    with path.open("rb") as file:
        begins = file.read(24)
        if begins[4:8] != bytes(4):  # else the length of a header, which may begin like any magic number
            if begins.startswith(_PICKLES):
                raise UnsafeCheckpointError(f"{path} is a pickle that calls itself safetensors; do not load it")
            for magic, what in _NO_WEIGHTS.items():
                if begins.lstrip().startswith(magic):
                    raise MissingWeightsError(f"{path} is no safetensors file but {what}")
        if len(begins) < 8:
            raise MissingWeightsError(f"{damaged}: it has {size} bytes")
        length = struct.unpack("<Q", begins[:8])[0]
        if length > min(LONGEST_HEADER, size - 8):
            raise MissingWeightsError(f"{damaged}: its header has {length:,} bytes, the file {size:,}")
        file.seek(8)
        return file.read(length)


def all_finite(path: Path, dtype: "torch.dtype") -> bool:
    """Whether the weights of a safetensors file are all of this type and finite; integers are passed over.

    Reads through one buffer: a library that maps the file has in memory only what it uses, and looking at its tensors would bring
    in all of them, the table of tokens too, of which texts use a few rows.

    Raises:
        As `read_header`.
    """
    import torch

    held = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
    header = _json_of(path)
    room, begin = bytearray(_BUFFER), 8 + len(header)
    with path.open("rb", buffering=0) as file:
        for name, entry in json.loads(header).items():
            if name == "__metadata__" or "F" not in entry["dtype"]:
                continue
            if held.get(entry["dtype"]) is not dtype:
                return False
            start, end = (begin + offset for offset in entry["data_offsets"])
            file.seek(start)
            while start < end:
                count = file.readinto(memoryview(room)[: min(_BUFFER, end - start)])
                if not count or count % dtype.itemsize:
                    return False
                # The sum is many times as fast as looking at each, and is finite only if all are.
                if not torch.frombuffer(room, dtype=dtype, count=count // dtype.itemsize).sum().isfinite():
                    return False
                start += count
    return True


@contextmanager
def unfilled() -> Iterator[None]:
    """Tensors without memory are not filled: torch works out each step of an initialization in Python, for nothing."""
    import torch
    from torch.overrides import TorchFunctionMode

    fills = {getattr(torch.Tensor, name) for name in _FILLS}
    fills |= {getattr(torch.nn.init, name) for name in ("normal_", "uniform_", "constant_", "kaiming_uniform_")}

    class Unfilled(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if function in fills and (tensor := args[0] if args else kwargs["tensor"]).is_meta:
                return tensor
            return function(*args, **kwargs)

    with Unfilled():
        yield


@contextmanager
def no_memory(where: str) -> Iterator[None]:
    """Modules built inside have shapes and no memory, and are not absurdly many.

    Raises:
        OversizedError: more modules than any model has.
    """
    import torch
    from torch.nn.modules.module import register_module_module_registration_hook

    modules = 0

    def count(*_: Any) -> None:
        nonlocal modules
        modules += 1
        if modules > MOST_MODULES:
            raise OversizedError(f"{where} asks for over {MOST_MODULES:,} layers and parts of layers")

    handle = register_module_module_registration_hook(count)
    try:
        with torch.device("meta"), unfilled():
            yield
    finally:
        handle.remove()


@contextmanager
def no_parameters() -> Iterator[None]:
    """Modules built inside by this thread have shapes and buffers, but no memory for parameters: those are put in later."""
    import threading

    from torch import nn
    from torch.nn.modules.module import register_module_parameter_registration_hook

    mine = threading.get_ident()

    def shape_only(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        if parameter is None or threading.get_ident() != mine:
            return None
        return nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)

    handle = register_module_parameter_registration_hook(shape_only)
    try:
        with unfilled():
            yield
    finally:
        handle.remove()


def check_size(build: Callable[[], "nn.Module"], weights: Iterable[Path], where: str) -> "nn.Module":
    """Refuses a configuration whose model is far larger than the files that are to fill it; takes no memory for it.

    Returns:
        The model, of shapes alone.

    Raises:
        OversizedError: it is. UnrecognisedCheckpointError: nothing can be built by it.
        MissingWeightsError, UnsafeCheckpointError: as `read_header`, for each safetensors file.
    """
    paths = list(weights)
    for path in paths:
        if path.suffix == ".safetensors":
            read_header(path)
    try:
        with no_memory(where):
            model = build()
    except ZooError:
        raise
    except Exception as error:  # libraries answer invalid files with any type of error
        reason = " ".join(str(error).split())[:300]
        raise UnrecognisedCheckpointError(f"{where} makes no sense: {reason}") from error
    check_numel(model, sum(path.stat().st_size for path in paths), where)
    return model


def check_numel(model: "nn.Module", room: int, where: str) -> None:
    """Refuses a model, built without memory, of more numbers than `room` bytes of weights and some slack can explain."""
    numel = sum(tensor.numel() for tensor in chain(model.parameters(), model.buffers()))
    if numel > room + SLACK:
        raise OversizedError(f"{where} describes a model of {numel:,} numbers; its weights have {room:,} bytes")


def check_shapes(tensors: Mapping[str, "Tensor"], header: Mapping[str, Entry], path: Path) -> None:
    """Holds a header to the state that it is to fill: the same names, shapes and kinds of numbers.

    Raises:
        MissingWeightsError: it differs; the message names the first tensors.
    """
    missing, unknown = sorted(set(tensors) - set(header)), sorted(set(header) - set(tensors))
    if missing or unknown:
        raise MissingWeightsError(
            f"{path} lacks {len(missing)} tensors {missing[:3]} and has {len(unknown)} unknown {unknown[:3]}"
        )
    for name, tensor in tensors.items():
        entry = header[name]
        if tuple(tensor.shape) != entry.shape:
            raise MissingWeightsError(
                f"{path} does not fit: {name} has the shape {entry.shape}, not {tuple(tensor.shape)}"
            )
        if tensor.is_floating_point() != entry.is_float:
            raise MissingWeightsError(
                f"{path} does not fit: {name} is stored as {entry.dtype}, the model's is {tensor.dtype}"
            )
