"""What every finder is: an image in, its regions out, the same ones whenever it is asked."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

from zoo.errors import ArgumentError, InputError
from zoo.inputs.regions import Region

FINDERS: "dict[str, type[Finder]]" = {}
T = TypeVar("T", bound="type[Finder]")


class Found(NamedTuple):
    """One region of an image.

    Attributes:
        region: None where `error` says why it is none. label: what it shows, None where that is not told. score: how sure that is, None
            where that is not told.
    """

    region: Region | None
    label: str | None = None
    error: InputError | None = None
    score: float | None = None


class Finder:
    """Base of all finders.

    Attributes:
        name: of its kind. labels, scores: whether it tells what regions show, and how sure it is.
        images: the names of the images that it knows; () where it is asked of any. Of those that are not in the source, `find` is
            asked with None in place of the image.
    """

    name: ClassVar[str] = ""
    labels: bool = False
    scores: bool = False
    images: Collection[str] = ()

    @property
    def spelled(self) -> str:
        """What `finder_of` takes to make it again."""
        return self.name

    @classmethod
    def parse(cls, setting: str, device: str | None = None) -> Self:
        """By what stands after the colon of its name, "" where there is none; a network runs on the device.

        Raises:
            ArgumentError: that is no setting of it.
        """
        if setting:
            raise ArgumentError(
                f"the regions {cls.name!r} have no setting, and {setting!r} cannot be followed; leave it out"
            )
        return cls()

    def find(self, image: Path | bytes | None, name: str) -> Sequence[Found]:
        """The regions of an image, in an order that stays: it is asked more than once in a run, so keep what took long.

        Args:
            image: a file, or its bytes. name: the path below the source, or the row of a table.

        Raises:
            InputError: the image cannot be read.
        """
        raise NotImplementedError(f"{type(self).__name__} must define find")

    def keep_in(self, folder: Path) -> None:
        """Answers that took long are kept in the folder of the job from now on."""

    def config(self) -> dict[str, Any]:
        """Its settings, JSON-able: vectors of other settings are not put beside these."""
        return {}


def register_finder(name: str) -> Callable[[T], T]:
    """Makes a finder known by a name, as its decorator.

    Raises:
        ValueError: the name is taken, or looks like a file or a setting.
    """
    if not name.replace("-", "").isalnum():
        raise ValueError(f"{name!r} is no name of a finder; take letters, digits and hyphens")

    def register(cls: T) -> T:
        if name in FINDERS:
            raise ValueError(f"two finders are called {name!r}")
        FINDERS[name], cls.name = cls, name
        return cls

    return register
