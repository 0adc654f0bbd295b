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
from zoo.strangers.made import made_here

from .claims import RECIPE, run_in
from .errors import DamagedRunError
from .outside import check_teachers, is_elsewhere, refuse_named
from .recipe import Recipe
from .recipes import read_recipe

_PLACES = {"data", "root", "held_out", "model", "teacher"}  # options that may be paths
_NO_CHANGE = {"out", "resume", "finish", "log", "device", "allow_outside"}


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
        allowed = arguments.allow_outside or made_here(arguments.out)
        if "recipe" not in self.given:
            self.recipe = [read_recipe(stage) for stage in found.get("stages", ())]
            if not allowed and "teacher" not in self.given:
                check_teachers(arguments.out, self.recipe)
        self._go_on(found.get("started") or {}, allowed)

    def _go_on(self, started: dict[str, Any], allowed: bool) -> None:
        """Takes over what is not given anew; of a folder that was not made here nothing that would be opened elsewhere."""
        if not started:
            if "data" not in self.given:
                raise ZooError(f"{self.arguments.out}: the run was begun in Python, so its pairs must be named again")
            return
        began = _parser().parse_args(started["commands"][0])
        if not allowed:
            refuse_named(self.arguments.out, self._named(began))
        for name, value in vars(began).items():
            own = ("out", "resume", "finish", "dry_run", "show", "list", *(() if allowed else ("allow_outside",)))
            if name not in self.given and name not in own:
                setattr(self.arguments, name, value)
        here, there = Path.cwd(), Path(started["folder"])
        if allowed and there != here and there.is_dir() and not _PLACES & self.given:
            self.folder, self.arguments.out = there, self.arguments.out.absolute()
        self.commands = list(started["commands"])
        if not self.unchanged:
            self.commands.append(list(self.arguments.given))

    def _named(self, began: argparse.Namespace) -> list[str]:
        """What the folder's own command would have opened or sent somewhere, as it says it."""
        data = [source for source in began.data if not source.rpartition("=")[2].startswith("pack:")]
        words = {"data": [("", source) for source in data]}
        words |= {
            name: [(f"--{name.replace('_', '-')} ", value)]
            for name in _PLACES - {"data"}
            if (value := vars(began)[name])
        }
        words["log"] = [("--log ", tracker) for tracker in began.log or () if tracker not in ("tensorboard", "none")]
        return [
            f"{option}{value}"
            for name, entries in words.items()
            for option, value in entries
            if name not in self.given and (name not in ("model", "teacher") or is_elsewhere(value))
        ]

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
