"""Arguments of public calls, checked before any work: an error names the argument, what came, and what to write instead."""

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

from zoo.errors import ArgumentError

if TYPE_CHECKING:
    import torch

Check = Callable[[str, Any], Any]
Function = TypeVar("Function", bound=Callable[..., Any])


def checked(**checks: Check) -> Callable[[Function], Function]:
    """Decorates a function whose arguments of these names go through a check, which gives the value to use.

    Raises:
        ArgumentError: by the decorated function, before anything of it runs.
    """

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        assert not set(checks) - set(signature.parameters), function.__qualname__

        @wraps(function)
        def call(*args: Any, **options: Any) -> Any:
            bound = signature.bind(*args, **options)
            for name, value in bound.arguments.items():
                if name in checks:
                    bound.arguments[name] = checks[name](name, value)
            return function(*bound.args, **bound.kwargs)

        return call  # type: ignore[return-value]

    return decorate


def wrong(name: str, value: Any, wanted: str, remedy: str) -> ArgumentError:
    """The error for an argument."""
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return ArgumentError(f"{name} must be {wanted}, not {shown} ({type(value).__name__}); {remedy}")


def optional(check: Check) -> Check:
    """The check of an argument that may also be None."""
    return lambda name, value: None if value is None else check(name, value)


def whole(least: int | None = 1) -> Check:
    """A whole number, of Python or numpy, from `least`."""

    def check(name: str, value: Any) -> int:
        wanted = "a whole number" + (f" from {least}" if least is not None else "")
        number = None if isinstance(value, bool) or getattr(value, "ndim", 0) else getattr(value, "__index__", None)
        if number is None:
            near = value.strip() if isinstance(value, str) else value
            try:
                near = int(float(near))
            except (TypeError, ValueError, OverflowError):
                near = max(least or 1, 8)
            raise wrong(name, value, wanted, f"write {name}={near}")
        if least is not None and number() < least:
            raise ArgumentError(f"{name} must be at least {least}, not {value!r}; write {name}={least} or more")
        return number()

    return check


def number(name: str, value: Any) -> float:
    """A number."""
    if isinstance(value, bool | str) or not hasattr(value, "__float__") or getattr(value, "ndim", 0):
        raise wrong(name, value, "a number", f"write it without quotes, such as {name}=0.5")
    return value


def flag(name: str, value: Any) -> bool:
    """True or False."""
    if type(value).__name__ not in ("bool", "bool_"):
        raise wrong(name, value, "True or False", f"write {name}=True or {name}=False")
    return bool(value)


def text(name: str, value: Any) -> str:
    """A str."""
    if not isinstance(value, str):
        raise wrong(name, value, "a str", f'write {name}="..."')
    return value


def texts(name: str, value: Any) -> Sequence[str]:
    """A list of str; one str would be a list of its letters."""
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__") or hasattr(value, "ndim"):
        raise wrong(
            name, value, "a list of str", f"write {name}=[{value!r:.40}]" if isinstance(value, str) else "pass []"
        )
    value = list(value)
    if odd := [entry for entry in value if not isinstance(entry, str)]:
        raise wrong(name, odd[0], "a list of str", f"every entry of {name} is one")
    return value


def text_or_texts(name: str, value: Any) -> str | Sequence[str]:
    """A str, or a list of them."""
    return value if isinstance(value, str) else texts(name, value)


def wholes(name: str, value: Any) -> Sequence[int]:
    """A list of whole numbers from 1."""
    if isinstance(value, str | bytes | Mapping) or not hasattr(value, "__iter__"):
        raise wrong(name, value, "a list of whole numbers", f"write {name}=[512, 256]")
    return [whole()(f"every entry of {name}", entry) for entry in value]


def mapping(name: str, value: Any) -> Mapping[Any, Any]:
    """A dictionary."""
    if not isinstance(value, Mapping):
        raise wrong(name, value, "a dictionary", f"write {name}={{...}}")
    return value


def named_texts(name: str, value: Any) -> Mapping[str, str]:
    """A dictionary of str to str."""
    for key, entry in mapping(name, value).items():
        text(f"every name in {name}", key), text(f"{name}[{key!r}]", entry)
    return value


def ids(name: str, value: Any) -> Any:
    """A list of names of rows; one str would be a list of its letters."""
    if isinstance(value, str | bytes | os.PathLike | Mapping) or not hasattr(value, "__iter__"):
        raise wrong(name, value, "a list", f"write {name}=[...]")
    return value


def lists(name: str, value: Any) -> Mapping[str, Any]:
    """A dictionary of str to lists."""
    for key, entry in mapping(name, value).items():
        ids(f"{name}[{text(f'every name in {name}', key)!r}]", entry)
    return value


def path(name: str, value: Any) -> Any:
    """A folder or file: str or pathlib.Path."""
    if not isinstance(value, str | os.PathLike):
        raise wrong(name, value, "a str or pathlib.Path", "pass the place of a folder or file, or a name")
    return value


def one_of(*values: Any) -> Check:
    """One of these."""

    def check(name: str, value: Any) -> Any:
        if type(value) not in {type(one) for one in values} or value not in values:
            raise wrong(name, value, f"one of {', '.join(map(repr, values))}", f"write {name}={values[0]!r}")
        return value

    return check


def many(name: str, value: Any) -> Any:
    """A list of inputs or of vectors; not one input, nor what can be read only once."""
    single = isinstance(value, str | bytes | os.PathLike | dict | set)
    if single or not hasattr(value, "__len__") or not hasattr(value, "__getitem__"):
        raise wrong(name, value, "a list", f"write {name}=[...], or {name}=list(...)")
    return value


def iterable(name: str, value: Any) -> Any:
    """Inputs of any number; one input alone is none, and its letters or bytes would be."""
    single = isinstance(value, str | bytes | os.PathLike | dict) or hasattr(value, "getbands")
    if single or not hasattr(value, "__iter__"):
        raise wrong(name, value, "an iterable of inputs", f"write {name}=[...], or call `encode` with the one input")
    return value


def flag_or_function(name: str, value: Any) -> Any:
    """True, False or something to call."""
    return value if callable(value) else flag(name, value)


def function(name: str, value: Any) -> Any:
    """Something to call."""
    if not callable(value):
        raise wrong(name, value, "a function", f"write {name}=print")
    return value


def vectors(name: str, value: Any) -> Any:
    """Vectors: a tensor, an array, or lists of numbers or of these."""
    import torch

    try:
        if isinstance(value, list | tuple):
            for row in value:
                torch.as_tensor(row)
        elif not hasattr(value, "ndim") or not hasattr(value, "dtype") or not torch.as_tensor(value).numel() >= 0:
            raise TypeError
    except (TypeError, ValueError, RuntimeError):
        wanted = "vectors (a tensor, an array, or lists of numbers)"
        raise wrong(name, value, wanted, "pass what `encode` gives, or encode it first") from None
    return value


def model(name: str, value: Any) -> Any:
    """A loaded model."""
    if not hasattr(value, "spec") or not hasattr(value, "encode_stream"):
        raise wrong(name, value, "a model", f"load it first: {name}=zoo.load_model(...)")
    return value


def model_or_path(name: str, value: Any) -> Any:
    """A loaded model, or what `load_model` opens."""
    return value if hasattr(value, "spec") else path(name, value)


def dtype(name: str, value: Any) -> "torch.dtype":
    """A floating-point type of torch, or its name."""
    import torch

    found = getattr(torch, value.removeprefix("torch."), None) if isinstance(value, str) else value
    if not isinstance(found, torch.dtype) or not found.is_floating_point or found.itemsize < 2:
        wanted = "a floating-point type of torch, or its name"
        raise wrong(name, value, wanted, f'write {name}="float32", "bfloat16" or "float16"')
    return found


def dtype_or_auto(name: str, value: Any) -> "torch.dtype | str":
    """As `dtype`, or "auto" or "int8"."""
    return value if isinstance(value, str) and value in ("auto", "int8") else dtype(name, value)


def device(name: str, value: Any) -> "torch.device":
    """A device that is here and holds tensors, by torch's name or itself."""
    import torch

    remedy = f'devices are called "cpu", "cuda", "cuda:1" or "mps"; leave {name} out for the best that is here'
    if isinstance(value, bool) or not isinstance(value, str | torch.device):
        raise wrong(name, value, "the name of a device", remedy)
    try:
        found = torch.device(value)
    except RuntimeError:
        raise wrong(name, value, "the name of a device", remedy) from None
    if found.type == "cuda" and not torch.cuda.is_available():
        raise wrong(
            name,
            str(value),
            "a device that is here",
            f"PyTorch sees no GPU (torch.cuda.is_available() is False): leave {name} out for the CPU, or install a PyTorch "
            "with CUDA and its driver",
        )
    try:
        torch.zeros(1, device=found).cpu()
    except Exception as error:  # whatever a backend raises that is not here
        reason = " ".join(str(error).split())[:120]
        raise wrong(name, str(value), "a device that is here", f"{remedy} (PyTorch: {reason})") from error
    return found
