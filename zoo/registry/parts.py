"""Parts of towers that other packages bring: registered under a name, by which a saved model's configuration may call for them.

A configuration can name a class of the zoo's own rooms, or a part that an installed package registered itself; it never names a
module to import. The module that registers is an entry point of the group `zoo.encoders`, whatever the role of the part.
"""

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from zoo.registry.plugins import discover, package_of

ROLES = ("encoder", "pooler", "head", "output", "fusion", "region")
_NAME = re.compile(r"[a-z][a-z0-9_-]*:[A-Z][A-Za-z0-9]*")
_OURS = (
    "encoders",
    "pooling",
    "heads",
    "outputs",
    "fusion",
    "regions",
)  # the zoo's rooms, whose classes need no registration
_PARTS: dict[str, tuple[str, type]] = {}
_NAMES: dict[type, str] = {}
T = TypeVar("T", bound=type)


def register_part(role: str, name: str) -> Callable[[T], T]:
    """Makes a class of another package known, as its decorator, so that models with it can be saved and opened again.

    The class is built by the arguments that its `config()` gives, of types that JSON holds, as the zoo's own parts are.

    Args:
        role: one of `ROLES`. name: package and class, "acme-zoo:HashText"; it is written into saved
            models, so it stays when the class is moved.

    Raises:
        ValueError: no such role, or a name that is taken, badly spelled or the zoo's own.
    """
    if role not in ROLES:
        raise ValueError(f"{role!r} is no role of a part; there are {', '.join(ROLES)}")
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name.partition(":")[0] in _OURS:
        raise ValueError(
            f'{name!r} is no name of a part: write the name of your package and of the class, "acme-zoo:HashText"'
        )

    def register(cls: T) -> T:
        if not isinstance(cls, type):
            raise ValueError(f"a part is a class, not {cls!r:.60}")
        if name in _PARTS:
            raise ValueError(f"two parts are called {name!r}")
        if cls in _NAMES:
            raise ValueError(f"{cls.__qualname__} is registered already, as {_NAMES[cls]!r}")
        _PARTS[name], _NAMES[cls] = (role, cls), name
        return cls

    return register


def part_named(role: str, name: str) -> type | None:
    """The class that an installed package registered under a name, None where none did, or with another role."""
    if not _NAME.fullmatch(name):
        return None
    discover("encoders")
    known, cls = _PARTS.get(name, (None, None))
    return cls if known == role else None


def name_of(cls: type) -> str | None:
    """The name under which a class is registered."""
    return _NAMES.get(cls)


def brought(names: Iterable[str]) -> dict[str, str]:
    """Those names of parts that are of other packages → the package that brings each, "acme-zoo==0.1"; "" where none is installed."""
    discover("encoders")
    theirs = sorted(name for name in names if _NAME.fullmatch(name) and name.partition(":")[0] not in _OURS)
    return {name: (package_of(_PARTS[name][1].__module__) or "") if name in _PARTS else "" for name in theirs}
