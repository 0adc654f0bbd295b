"""Prompt: an item's text and placeholders laid out as one text, by a Jinja template that can do nothing else."""

import re
from functools import cached_property
from typing import Any
from unicodedata import category

from zoo.encoders.rust import MAX_CHARACTERS
from zoo.errors import InvalidTextError, UnrecognisedCheckpointError
from zoo.sequences import SequenceFormat

_APART = {"image": "images", "video": "videos", "audio": "audios", "regions": "regions"}  # a medium → its placeholders
VARIABLES = frozenset({"media", "text", "content", "instruction", *_APART.values()})
# A template comes with a checkpoint: no loops, calls or attributes, so that it can neither hang nor reach anything.
_NODES = frozenset(
    [
        "Template",
        "Output",
        "TemplateData",
        "Name",
        "Const",
        "If",
        "CondExpr",
        "And",
        "Or",
        "Not",
        "Concat",
        "Compare",
        "Operand",
        "List",
        "Filter",
        "Assign",
        "Add",
    ]
)
# No join, which may repeat a text for each of its letters.
_FILTERS = frozenset({"trim", "select", "default", "capitalize", "lower", "replace"})
LONGEST, MOST_NAMES = 4000, 40
# How often the variables may stand in what comes out: four times in the registered models' templates, each of which has all of
# them at most once.
MOST_COPIES = 8


def _is_filter(node: Any) -> bool:
    """Whether a filter is among those; `replace` only by constants and by no more than it takes away."""
    if node.name != "replace":
        return node.name in _FILTERS
    texts = [getattr(argument, "value", None) for argument in node.args]
    return len(texts) == 2 and all(isinstance(text, str) for text in texts) and 0 < len(texts[0]) >= len(texts[1])


def _copies(node: Any, named: dict[str, int]) -> int:
    """How often the variables can stand in what a part of a template writes or says, at most.

    Args:
        named: of each name that has been set so far; a part that sets one changes it here.
    """
    kind = type(node).__name__
    if kind == "Name":
        return named.get(node.name, 0)
    if kind == "Assign":
        named[node.target.name] = _copies(node.node, named)
        return 0
    if kind == "If":  # one of the ways is gone
        ways, ends = [], []
        for body in (node.body, *(other.body for other in node.elif_), node.else_):
            ends.append(dict(named))
            ways.append(sum(_copies(part, ends[-1]) for part in body))
        named |= {name: max(end.get(name, 0) for end in ends) for end in ends for name in end}
        return max(ways)
    if kind in ("CondExpr", "And", "Or"):
        parts = [node.expr1, node.expr2] if kind == "CondExpr" else [node.left, node.right]
        return max((_copies(part, named) for part in parts if part is not None), default=0)
    if kind in ("Compare", "Not"):
        return 0
    return sum(_copies(part, named) for part in node.iter_child_nodes())


class Prompt:
    """A compiled template.

    Attributes:
        names: what it writes or asks for, some of `VARIABLES` and of its own.

    Raises:
        UnrecognisedCheckpointError: no Jinja, or it uses more than conditions and a few filters.
    """

    def __init__(self, template: str) -> None:
        from jinja2 import TemplateError, nodes
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        if len(template) > LONGEST:
            raise UnrecognisedCheckpointError(f"a prompt template of {len(template):,} characters; at most {LONGEST:,}")
        environment = ImmutableSandboxedEnvironment(trim_blocks=False, lstrip_blocks=False, keep_trailing_newline=True)
        try:
            tree = environment.parse(template)
        except TemplateError as error:
            raise UnrecognisedCheckpointError(f"the prompt template {template!r} is no Jinja: {error}") from error
        known = set(VARIABLES)
        loads = [node.name for node in tree.find_all(nodes.Name) if node.ctx == "load"]
        within = {n.name for node in tree.find_all(nodes.Assign) for n in node.find_all(nodes.Name) if n.ctx == "load"}
        if len(loads) > MOST_NAMES or not within <= VARIABLES:
            raise UnrecognisedCheckpointError(  # each name that is set from another could double what comes out
                f"the prompt template {template!r} uses its names {len(loads)} times (at most {MOST_NAMES}), or sets one from "
                "another that it has set"
            )
        for node in tree.find_all(nodes.Node):
            kind = type(node).__name__
            wrong = kind not in _NODES or (kind == "Filter" and not _is_filter(node))
            # A list is written with its quotes escaped, and one in another one with the escapes escaped.
            wrong = wrong or (kind == "List" and any(type(part) is not nodes.Const for part in node.items))
            if kind == "Name" and node.ctx == "store":
                known.add(node.name)
            if wrong or (kind == "Name" and node.ctx == "load" and node.name not in known):
                what = getattr(node, "name", kind)
                raise UnrecognisedCheckpointError(
                    f"the prompt template {template!r} uses {what!r}; it may use {sorted(VARIABLES)}, conditions and {sorted(_FILTERS)}"
                )
        if (copies := _copies(tree, dict.fromkeys(VARIABLES, 1))) > MOST_COPIES:
            raise UnrecognisedCheckpointError(
                f"the prompt template {template!r} writes what an item says up to {copies} times; at most {MOST_COPIES}"
            )
        self.template, self._environment, self.names = template, environment, frozenset(loads)

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return Prompt, (self.template,)  # a compiled template cannot be copied

    @property
    def end(self) -> str:
        """What every prompt ends in: the text after the last variable or condition."""
        return re.split(r"[%}]}", self.template)[-1]

    @cached_property
    def _compiled(self) -> Any:
        return self._environment.from_string(self.template)

    def render(self, content: list[tuple[str, Any]], layout: SequenceFormat, instruction: str) -> str:
        """The whole sequence as text, with the format's marks where media stand.

        Args:
            content: (modality, value) in the item's order; values of media are not looked at, but for regions without a mark,
                which are words.

        Raises:
            InvalidTextError: it is longer than a text may be.
        """
        marks = {**dict.fromkeys(_APART, ""), **layout.marks}
        ordered, before = "", ""
        for kind, value in content:
            ordered += (layout.join if kind == before == "text" else "") + marks.get(kind, value)
            before = kind
        if layout.punctuate and (instruction := instruction.strip()):
            instruction += "" if category(instruction[-1]).startswith("P") else "."
        apart = {name: "".join(marks[one] for kind, _ in content if kind == one) for one, name in _APART.items()}
        if not marks["regions"]:
            apart["regions"] = "\n".join(value for kind, value in content if kind == "regions")
        rendered = self._compiled.render(
            media="".join(marks[kind] for kind, _ in content if kind in marks),
            **apart,
            text=layout.join.join(value for kind, value in content if kind == "text"),
            content=ordered,
            instruction=instruction,
        )
        if len(rendered) > MAX_CHARACTERS + LONGEST:
            raise InvalidTextError(
                f"an item and its prompt make a text of {len(rendered):,} characters; at most {MAX_CHARACTERS:,}: split it",
                what=ordered[:40],
            )
        return rendered
