"""Parts from outside: files of the zoo's own folders, and the entry points of installed packages, imported when first asked for.

A package names its modules under `[project.entry-points."zoo.models"]`, and likewise for encoders, layouts, losses, samplers,
demos and rerankers (`GROUPS`); as a module is imported, its decorators register what it holds.
"""

import importlib
import os
import pkgutil
import sys
import threading
from typing import TYPE_CHECKING

from zoo.callers import warn

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUPS = ("models", "encoders", "layouts", "losses", "samplers", "demos", "rerankers")
_GOING = threading.local()  # groups that a thread is about to import
_DONE: set[str] = set()
_FAILED: set[tuple[str, str]] = (
    set()
)  # group and module of plug-ins that could not be imported, and are not tried again
_PLUGINS = threading.RLock()
_PATIENCE = 10.0  # seconds; a plug-in whose import waits for another thread must not wait for good


def discover(group: str, package: str | None = None) -> None:
    """Imports what may register itself in a group; every call but the first does nothing.

    A plug-in that cannot be imported is reported in a warning and left out: it hides no other, and stops nothing.

    Args:
        group: one of `GROUPS`. package: the zoo's own folder of that group, whose every file is imported before the plug-ins.

    Raises:
        ValueError: there is no such group.
    """
    if group not in GROUPS:
        raise ValueError(f"there are no plug-ins of the group {group!r}; there are {', '.join(GROUPS)}")
    going = _GOING.__dict__.setdefault("groups", set())
    if group in _DONE or group in going:  # what is being imported may ask itself: it finds what is there so far
        return
    going.add(group)
    try:
        # Without a lock: two threads import each module once all the same.
        if package is not None:
            _import_folder(package)
        # A plug-in that fails would be run by each thread in turn, and what the first had registered hide why.
        alone = _PLUGINS.acquire(timeout=_PATIENCE)
        try:
            for plugin in _installed(f"zoo.{group}"):
                if (plugin.group, plugin.value) not in _FAILED:
                    _import(plugin)
        finally:
            if alone:
                _PLUGINS.release()
    finally:
        going.discard(group)
    _DONE.add(group)


def package_of(module: str) -> str | None:
    """The installed package that a module of a plug-in comes with, as pip pins it ("acme-zoo==0.1"); None of any other module."""
    top = module.partition(".")[0]
    for group in GROUPS:
        for plugin in _installed(f"zoo.{group}"):
            if plugin.dist is not None and plugin.value.partition(".")[0].partition(":")[0] == top:
                return f"{plugin.dist.name}=={plugin.dist.version}"
    return None


def ours_first(registers: str, package: str) -> None:
    """Imports the zoo's own folder of a group before a module of another package registers there.

    A name that both want is then the zoo's, whichever is imported first; else the zoo's own file would fail, and all with it.

    Args:
        registers: name of the module that registers. package: the zoo's folder.
    """
    if registers.partition(".")[0] != "zoo":
        _import_folder(package)


def _import_folder(package: str) -> None:
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        if module.name != "__main__":
            importlib.import_module(f"{package}.{module.name}")


def _installed(group: str) -> "list[EntryPoint]":
    """The entry points of a group in the order of their names: a name that two of them want goes to the same one every time."""
    if not any(map(_names_plugins, sys.path)):
        return []
    from importlib.metadata import entry_points

    return sorted(entry_points(group=group), key=lambda point: (point.name, point.value))


def _names_plugins(place: str) -> bool:
    """Whether packages installed in a folder of `sys.path` may bring plug-ins of the zoo.

    Most people have none, and importlib.metadata takes 40 ms to say so: nearly as long as `import zoo; zoo.list_models()`.
    """
    try:
        names = [name for name in os.listdir(place or ".") if name.endswith((".dist-info", ".egg-info"))]
    except OSError:
        return os.path.isfile(place)  # a zip: who knows
    for name in names:
        try:
            with open(os.path.join(place, name, "entry_points.txt"), "rb") as file:
                if b"[zoo." in file.read():
                    return True
        except OSError:  # most packages have none
            continue
    return False


def _import(plugin: "EntryPoint") -> None:
    """One plug-in; a warning names it, the package that brings it and its error where it cannot be imported."""
    try:
        plugin.load()
    except (Exception, SystemExit) as error:
        _FAILED.add((plugin.group, plugin.value))
        package = f"{plugin.dist.name} {plugin.dist.version}" if plugin.dist is not None else "an unknown package"
        warn(
            f"the plug-in {plugin.name!r} of {package} ({plugin.group}: {plugin.value}) cannot be imported and is left out: "
            f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        )
