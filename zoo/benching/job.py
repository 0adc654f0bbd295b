"""What is to be measured, as one process tells it another."""

from dataclasses import asdict, dataclass, field
from typing import Any

BESIDE = ("open_clip", "transformers", "sentence-transformers", "fastembed")
ROUNDS = 5


@dataclass(frozen=True)
class Candidate:
    """What embeds: a model of the zoo by a backend and in a type of numbers, or another library with the same weights.

    Attributes:
        by: "zoo", or one of `BESIDE`. backend, dtype: as `load_model` takes them; of another library its own backend.
    """

    by: str
    backend: str = "torch"
    dtype: str = "float32"

    def __str__(self) -> str:
        return f"{self.by} {self.backend}" + (f" {self.dtype}" if self.dtype != "float32" else "")


@dataclass(frozen=True)
class Job:
    """What is to be measured.

    Attributes:
        model: what `load_model` opens; of a folder its whole path. device, ignore: as `load_model` takes them.
        backends: () for all that are installed. dtypes: in which each is tried. beside: other libraries.
        images: files. texts: of the user's own. Where neither is there, some are made of all that the model reads.
        count, rounds: None for what takes some tens of seconds. threads: None for as many as there are cores.
    """

    model: str
    device: str | None = None
    ignore: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ("float32",)
    beside: tuple[str, ...] = BESIDE
    images: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    count: int | None = None
    rounds: int | None = None
    threads: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; `from_dict` reads it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "Job":
        """What `to_dict` gave."""
        return cls(**{name: tuple(one) if isinstance(one, list) else one for name, one in value.items()})


@dataclass(frozen=True)
class Alone:
    """One candidate that embeds in a process of its own, so that its memory is known.

    Attributes:
        counts: kind → how many inputs. pooling: how another library's tokens become a vector (see `zoo.benching.beside`).
        max_tokens: that the model reads of a text, if known.
    """

    job: Job
    candidate: Candidate
    counts: dict[str, int] = field(default_factory=dict)
    pooling: str = ""
    max_tokens: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; `from_dict` reads it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "Alone":
        """What `to_dict` gave."""
        return cls(**{**value, "job": Job.from_dict(value["job"]), "candidate": Candidate(**value["candidate"])})
