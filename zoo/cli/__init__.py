"""The `zoo` command: one short file of this package is one sub-command.

A sub-command is a module with a docstring (its first line is the help, at most 66 letters), `EXAMPLES`,
`add_arguments(parser)` and `run(arguments) -> exit status`, and has its place in `GROUPS`. Heavy imports belong into `run`,
so that `zoo --help` is quick. Modules whose name begins with an underscore are helpers.
"""

import argparse
import os
import sys
import textwrap
import warnings
from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from zoo._version import __version__
from zoo.allocator import keep_freed
from zoo.cli._shared import telling, with_like
from zoo.errors import ZooError
from zoo.strangers.terminal import clean_output

FAILED = 2
INTERRUPTED = 130
BROKEN_PIPE = 141
# How `zoo --help` lists the commands: by purpose, and in the order in which one meets them.
GROUPS = {
    "Models": ("list", "show", "card"),
    "Embed and search": ("encode", "embed", "search", "rerank"),
    "Data": ("classify", "cluster", "dedupe", "export", "index"),
    "Train": ("train", "mine", "merge"),
    "Evaluate": ("eval", "compare", "bench", "inspect", "calibrate"),
    "Publish and serve": ("publish", "verify", "quantize", "serve", "demo"),
}


@clean_output()
def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one sub-command; returns the exit status: 0, 1 nothing found, 2 an error, 130 Ctrl-C."""
    if arguments is None:  # the process is ours, and not one that calls us
        keep_freed()
    parser = build_parser()
    chosen = parser.parse_args(arguments)
    chosen.given = [*(sys.argv[1:] if arguments is None else arguments)][1:]  # what a command may note of itself
    if not hasattr(chosen, "run"):
        parser.print_help()
        return 0
    before = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    try:
        with_like(chosen)
        with telling():
            status = chosen.run(chosen)
        sys.stdout.flush()
        return status
    except ZooError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has gone (zoo list | head). Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    finally:
        warnings.formatwarning = before


class _Command(argparse.ArgumentParser):
    """A sub-command; with `MIXED` in its module, words may stand after an option: `zoo search DIR --image FILE "in blue"`."""

    mixed = False

    def parse_known_args(self, args=None, namespace=None):
        if not self.mixed:
            return super().parse_known_args(args, namespace)
        self.mixed = False  # parse_known_intermixed_args comes back here, once for the options and once for the words
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self.mixed = True


def build_parser() -> argparse.ArgumentParser:
    """The parser with all sub-commands that this package holds."""
    modules = _commands()
    parser = argparse.ArgumentParser(
        prog="zoo",
        usage="zoo [-h] [--version] COMMAND ...",
        description=f"Load embedding models by name, embed anything, search it.\n\n{_by_purpose(modules)}",
        epilog=_examples("zoo list", 'zoo encode "a red motorbike"', "zoo embed ~/Pictures --out vectors/")
        + '\n  zoo search vectors/ "a red motorbike"\n\n`zoo COMMAND --help` shows the options of one command.',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"embedding-zoo {__version__}")
    # argparse has no groups of sub-commands: its own list is left out, and the description holds ours.
    commands = parser.add_subparsers(prog="zoo", metavar="COMMAND", help=argparse.SUPPRESS, parser_class=_Command)
    for name, module in modules.items():
        command = commands.add_parser(
            name,
            description=_wrapped(module.__doc__ or ""),
            epilog=_examples(*module.EXAMPLES),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.mixed = getattr(module, "MIXED", False)
        command.set_defaults(run=module.run)
    return parser


def _commands() -> dict[str, ModuleType]:
    names = sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_"))
    return {name: import_module(f"{__name__}.{name}") for name in names}


def _by_purpose(modules: dict[str, ModuleType]) -> str:
    """A line for each command under the headings of `GROUPS`; what has no place there is listed last, not lost."""
    placed = {name for names in GROUPS.values() for name in names}
    groups = {**GROUPS, "Others": tuple(name for name in modules if name not in placed)}
    width = max(map(len, modules))
    parts = []
    for title, names in groups.items():
        lines = [f"  {name:{width}}  {_summary(modules[name])}" for name in names]
        parts += ["\n".join([f"{title}:", *lines])] * bool(lines)
    return "\n\n".join(parts)


def _summary(module: ModuleType) -> str:
    return (module.__doc__ or "").strip().split("\n")[0].rstrip(".")


def _wrapped(text: str) -> str:
    return "\n\n".join(textwrap.fill(" ".join(part.split()), 79) for part in text.strip().split("\n\n"))


def _examples(*lines: str) -> str:
    return "examples:\n" + "\n".join(f"  {line}" for line in lines)
