"""What a certificate.json may say, held to before anything of it is believed; its vectors by their header."""

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

from zoo.errors import CertificateError, NewerCertificateError
from zoo.formats.checks.safetensors_checks import read_header
from zoo.publishing.certificate.files import VECTORS
from zoo.strangers.schema import Range, check

LOOSEST = 0.9  # a cosine below this is no longer the same model in another precision
# Sums in another order (batch size, threads, machine) move a column of a unit vector by 1e-8 to 6e-7 in the zoo's test
# models and zoo-mini; what is left is for deep models. It is also what the exports are held to.
EXACT = 1e-5
INT8 = 0.03  # of int8 models, see `zoo.encoders.int8.TOLERANCE`; of others a certificate that allows it is none (see checking)
MOST_BYTES = 256 << 20  # of stored vectors; those of zoo-mini have 40 kB
_Cosine = Annotated[float, Range(LOOSEST, 1)]
_Text = Annotated[str, Range(0, 2_000)]
_Digest = Annotated[str, Range(1, 128)]  # it is compared, and nothing else


class _Exact(TypedDict):
    measured: float | None
    allowed: Annotated[float, Range(1e-12, INT8)]
    why: _Text


class _Near(TypedDict):
    measured: float | None
    allowed: _Cosine | None
    why: _Text


# Of what is compared with the certificate's vectors. Functional, for the comma in a name.
_Tolerances = TypedDict(
    "_Tolerances", {"float32": _Exact, "float32, resized image": _Near, "bfloat16": _Near, "float16": _Near}
)


class _Input(TypedDict):
    name: _Text
    prompt: _Text | None
    kind: _Text
    sha256: _Digest


class _Measured(_Input):
    norm: Annotated[float, Range(1e-30, 1e30)] | None


class _Common(TypedDict):
    format: Literal[1, 2, 3]
    model: _Text
    dim: Annotated[int, Range(1, 1_000_000)]
    made_with: dict[str, _Text]
    preprocessing: _Text
    files: dict[str, _Digest]
    tolerances: _Tolerances
    refused: dict[str, _Text]


class _First(_Common):
    """Format 1."""

    inputs: list[_Input]


class _Second(_Common):
    """Format 2, which named its inputs otherwise, and 3."""

    spec: dict[str, Any] | None
    known: dict[str, dict[str, _Text]]
    inputs: list[_Measured]


class _Format(TypedDict):
    format: int


FORMATS = {1: _First, 2: _Second, 3: _Second}
# What formats 1 and 2 call the kinds of golden inputs, whose names begin with them.
_RENAMED = (("picture", "image"), ("sound", "audio"), ("film", "video"))


def check_facts(facts: Any, where: Path) -> dict[str, Any]:
    """The facts of a certificate of a format that is read, in the words of the latest; raises CertificateError naming the key."""
    check(facts, _Format, where, CertificateError)
    if facts["format"] not in FORMATS:
        raise NewerCertificateError(
            f"{where} has format {facts['format']}; this zoo reads {max(FORMATS)}: install a newer one"
        )
    facts = _renamed(facts) if facts["format"] < 3 else facts
    return check(facts, FORMATS[facts["format"]], where, CertificateError)


def _renamed(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts of formats 1 and 2 with the names of format 3; what has no such names is left to the check."""

    def renamed(value: Any) -> Any:
        for old, new in _RENAMED if isinstance(value, str) else ():
            value = re.sub(rf"^(resized |float32, resized )?{old}\b", rf"\g<1>{new}", value)
        return value

    facts = dict(facts)
    for key in ("tolerances", "refused"):
        if isinstance(held := facts.get(key), dict):
            facts[key] = {renamed(name): value for name, value in held.items()}
    if isinstance(rows := facts.get("inputs"), list):
        facts["inputs"] = [
            {k: renamed(v) if k in ("name", "kind") else v for k, v in row.items()} if isinstance(row, dict) else row
            for row in rows
        ]
    return facts


def check_vectors(folder: Path, rows: int, dim: int) -> None:
    """Holds the header of a certificate's vectors to its facts, before they are read.

    Args:
        rows: golden inputs that have a vector. dim: columns; late interaction has them of several tokens in a row.

    Raises:
        CertificateError: another shape or type, or other tensors beside them.
    """
    where, entries = folder / VECTORS, read_header(folder / VECTORS)
    if set(entries) != {"vectors"} or entries["vectors"].dtype != "F32":
        raise CertificateError(f"{where} holds other tensors than vectors of float32")
    shape = entries["vectors"].shape
    fits = len(shape) == 2 and shape[0] == rows and shape[1] and not shape[1] % dim
    if not fits or math.prod(shape) * 4 > MOST_BYTES:
        raise CertificateError(f"{where} has the shape {shape}, not {(rows, dim)}")
