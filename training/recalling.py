"""A run's own command: kept in its folder, so that `--resume` alone goes on with it."""

import argparse
import contextlib
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from zoo.cli import train as command
from zoo.errors import ZooError

from .claims import RECIPE, run_in
from .own import DamagedRunError
from .recipe import Recipe

_PLACES = {"data", "root", "held_out", "model", "teacher"}  # options that may be paths
_NO_CHANGE = {"out", "resume", "finish", "log", "device"}


class Recalled:
    """What a command line means beside the one that a folder's run began with.

    Attributes:
        arguments: all options: those given now, else those that the run began with.
        given: the names of those given now. recipe: the run's stages as the folder has them, None of a new run.
        folder: where the run began, and where its relative paths are read from.
        commands: of the run, in order.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        words = list(getattr(arguments, "given", ()))
        self.given = _given(words)
        self.recipe: list[Recipe] | None = None
        self.folder, self.commands = Path.cwd(), [words]
        self.arguments = arguments
        goes_on = arguments.resume or arguments.finish
        if goes_on and len(arguments.data) == 1:
            place = Path(arguments.data[0]).expanduser()
            if arguments.out in (None, place) and run_in(place):
                arguments.out, arguments.data = place, []
                self.given -= {"data"}
            elif arguments.out is None:
                raise ZooError(
                    f"{place} holds no run to go on with: to begin one name the pairs, and its folder with --out"
                )
        if not goes_on or arguments.out is None or not (found := run_in(arguments.out)):
            if goes_on and arguments.out is not None and not arguments.data and "recipe" not in self.given:
                raise ZooError(f"{arguments.out} holds no run to go on with: name the pairs to begin one")
            return
        if "recipe" not in self.given:
            self.recipe = [Recipe.from_dict(stage) for stage in found["stages"]]
        self._go_on(found.get("started") or {})

    def _go_on(self, started: dict[str, Any]) -> None:
        """Takes over what is not given anew."""
        if not started:
            if "data" not in self.given:
                raise ZooError(f"{self.arguments.out}: the run was begun in Python, so its pairs must be named again")
            return
        began = _parser().parse_args(started["commands"][0])
        for name, value in vars(began).items():
            if name not in self.given and name not in ("out", "resume", "finish", "dry_run", "show", "list"):
                setattr(self.arguments, name, value)
        here, there = Path.cwd(), Path(started["folder"])
        if there != here and there.is_dir() and not _PLACES & self.given:
            self.folder, self.arguments.out = there, self.arguments.out.absolute()
        self.commands = list(started["commands"])
        if not self.unchanged:
            self.commands.append(list(self.arguments.given))

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Relative paths mean what they meant when the run began."""
        with contextlib.chdir(self.folder):
            yield

    def stages(self, changes: dict[str, Any]) -> list[Recipe]:
        """The folder's stages with the options given now."""
        if "epochs" in changes:
            changes = {"steps": None, **changes}  # worked out again from the pairs
        return [replace(stage, **changes) for stage in self.recipe or ()]

    @property
    def unchanged(self) -> bool:
        """Whether nothing is asked for but to go on."""
        return not self.given - _NO_CHANGE

    @property
    def notes(self) -> dict[str, Any]:
        """What the folder is to keep."""
        return {"commands": self.commands, "folder": str(self.folder)}

    @property
    def began(self) -> str:
        """The command that began the run."""
        return "zoo train " + shlex.join(self.commands[0])

    @property
    def told(self) -> str:
        """All commands of the run, as one types them."""
        return " && ".join("zoo train " + shlex.join(words) for words in self.commands)


class _Parser(argparse.ArgumentParser):
    """Raises what it would end the process by."""

    def error(self, message: str) -> NoReturn:
        raise DamagedRunError(f"the folder's {RECIPE} holds no command of `zoo train`: {message}")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="zoo train", add_help=False)
    command.add_arguments(parser)
    return parser


def _given(words: list[str]) -> set[str]:
    """Names of the options that a command line has."""
    parser = _parser()
    unsaid = argparse.Namespace(**dict.fromkeys(vars(parser.parse_args([]))))
    return {name for name, value in vars(parser.parse_args(words, unsaid)).items() if value not in (None, [])}
