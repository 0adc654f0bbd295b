"""Names: facts and builders by name, what every registry of things with weights is made of; knows no files."""

import difflib
import fnmatch
from collections.abc import Callable, Iterator
from typing import Any, Generic, Protocol, TypeVar

from zoo.registry.plugins import discover, ours_first
from zoo.spec import NAME

TEST = "-test"  # names of what has random weights, which tests are made with, end so
_KINDS: "dict[str, Names[Any]]" = {}


class Spec(Protocol):
    """The facts that lists are chosen by."""

    name: str
    modalities: frozenset[Any]
    params: int
    license: str
    languages: tuple[str, ...]
    hub_id: str


S = TypeVar("S", bound=Spec)
Builder = Callable[[S], Any]


class Names(Generic[S]):
    """Specs and their builders, from every file of a folder and from installed packages.

    Args:
        spec: class of the facts. kind: group of entry points, which the folder is called too ("models"). what: in words.
    """

    def __init__(self, spec: type[S], kind: str, what: str) -> None:
        self.spec, self.kind, self.what = spec, kind, what
        self._found: dict[str, tuple[S, Builder[S]]] = {}
        _KINDS.setdefault(kind, self)

    def register(self, **facts: Any) -> Callable[[Builder[S]], Builder[S]]:
        """Registers the decorated builder; as in timm, the function's name is the name: `clip_test` → "clip-test".

        Raises:
            ArgumentError: a fact is unknown, missing or of another type.
            ValueError: the name is taken or badly spelled, or a fact is wrong.
        """

        def register(builder: Builder[S]) -> Builder[S]:
            said = {"name": builder.__name__.replace("_", "-"), "family": builder.__module__.rpartition(".")[2]}
            spec = self.spec(**{**said, **facts})
            if not NAME.fullmatch(spec.name):
                raise ValueError(f"{spec.name!r} is no {self.what} name: lower case letters, digits, hyphens and dots")
            ours_first(builder.__module__, f"zoo.{self.kind}")
            if spec.name in self._found:
                before = self._found[spec.name][1].__module__
                raise ValueError(f"{spec.name} is registered twice, by {before} and by {builder.__module__}")
            self._found[spec.name] = spec, builder
            return builder

        return register

    def __contains__(self, name: object) -> bool:
        # Dropping a file into the folder is enough; so is the entry point of a package that is installed.
        discover(self.kind, f"zoo.{self.kind}")
        return name in self._found

    def __iter__(self) -> Iterator[S]:
        discover(self.kind, f"zoo.{self.kind}")
        return (self._found[name][0] for name in sorted(self._found))

    def __getitem__(self, name: str) -> S:
        return self._found[name][0]

    def builder(self, name: str) -> Builder[S]:
        """What is registered under a name."""
        return self._found[name][1]

    def listed(
        self,
        pattern: str = "*",
        *,
        modality: str | None = None,
        max_params: int | None = None,
        license: str | None = None,
        language: str | None = None,
        tests: bool = False,
    ) -> list[str]:
        """Names, sorted, that match all conditions (see `zoo.list_models`)."""
        return [
            spec.name
            for spec in self
            if fnmatch.fnmatchcase(spec.name, pattern)
            and (tests or pattern.endswith(TEST) or not spec.name.endswith(TEST))
            and (modality is None or modality in spec.modalities)
            and (max_params is None or spec.params <= max_params)
            and (language is None or {language.lower(), "multilingual"} & set(spec.languages))
            and (license is None or fnmatch.fnmatchcase(spec.license.lower(), license.lower()))
        ]

    def nearest(self, name: str) -> list[str]:
        """The four names that are most like one that is not registered; [] where none is."""
        wanted = name.lower()
        offered = self.listed(tests=wanted.endswith(TEST))
        begins = [known for known in offered if wanted and known.startswith(wanted)]
        near = list(dict.fromkeys([*begins[:4], *difflib.get_close_matches(wanted, offered, n=4, cutoff=0.4)]))[:4]
        return near or [known for known in offered if wanted.split("-")[0] in known][:4]

    def published_as(self, repo: str) -> S | None:
        """The facts of the first that is published as this repository of the Hub; None without one."""
        return next((spec for spec in self if spec.hub_id == repo), None)


def is_of_kind(name: str, kind: str) -> bool:
    """Whether a name is registered among another kind of things, so that who asks in the wrong place is told so."""
    discover(kind, f"zoo.{kind}")
    return kind in _KINDS and name in _KINDS[kind]
