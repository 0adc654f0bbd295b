"""Prompts: what is put before an input, chosen by its name, by the role of the input, or given to the letter."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from zoo.callers import warn
from zoo.errors import PromptError
from zoo.spec import ModelSpec

Role = Literal["query", "document"]
# By these names too a prompt is one of the role, where a model has none that is called like it.
ALIASES: Mapping[Role, tuple[str, ...]] = {"query": (), "document": ("passage", "corpus")}
# Such as query, s2p_query, search-document, retrieval.query, STS. ASCII, since a prompt in Chinese has no spaces either.
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*([.-][A-Za-z0-9_]+)*")
_HINTS: Mapping[Role, re.Pattern[str]] = {
    "query": re.compile(r"(?<![a-z])quer(y|ies)(?![a-z])", re.IGNORECASE),
    "document": re.compile(r"(?<![a-z])(doc|document|passage|corpus)s?(?![a-z])", re.IGNORECASE),
}


def text_of(spec: ModelSpec, prompt: str | None = None, prompt_name: str | None = None) -> str:
    """The text that is put before an input.

    Args:
        prompt: that text itself. prompt_name: a name among `spec.prompts`. With neither, the model's default prompt.

    Raises:
        PromptError: both are given, no prompt has this name, or `prompt` is a name: without white space, and a role, a
            name of the model's, or written like one ("query", "s2p_query", "retrieval.query"; not "query:").
    """
    for argument, value in (("prompt", prompt), ("prompt_name", prompt_name)):
        if value is not None and not isinstance(value, str):
            raise PromptError(f"{argument} must be str, not {type(value).__name__} ({value!r:.60})")
    if prompt is not None and prompt_name is not None:
        raise PromptError(
            f"prompt={prompt!r:.60} and prompt_name={prompt_name!r:.60}: give one of them, the text or the name of a prompt"
        )
    if prompt_name is not None:
        if prompt_name not in spec.prompts:
            raise PromptError(f"{spec.name} has no prompt called {prompt_name!r:.60}; {_listed(spec)}")
        return spec.prompts[prompt_name]
    if prompt is None:
        return spec.prompts[spec.default_prompt_name] if spec.default_prompt_name is not None else ""
    if is_name(spec, prompt):
        raise PromptError(
            f"prompt={prompt!r} is text and would be put before each input as it stands ({prompt + 'a cat'!r}); a prompt of "
            f"the model goes by prompt_name=, and {_listed(spec)}. If these very letters are meant, end them with a space "
            "or a colon"
        )
    return prompt


def is_name(spec: ModelSpec, prompt: str) -> bool:
    """Whether what was given as the text of a prompt is the name of one."""
    if not prompt or any(character.isspace() for character in prompt):
        return False
    if prompt in spec.prompts:
        return spec.prompts[prompt] != prompt
    return prompt not in spec.prompts.values() and _IDENTIFIER.fullmatch(prompt) is not None


def name_for(spec: ModelSpec, role: Role) -> str | None:
    """The name of the model's prompt for this role, even of an empty one; None where it has none.

    The prompt that is called like the role; else the one that `spec.roles` names; else one of the usual aliases.
    """
    if role in spec.prompts:
        return role
    if role in spec.roles:
        return spec.roles[role]
    return next((alias for alias in ALIASES[role] if alias in spec.prompts), None)


def for_role(spec: ModelSpec, role: Role) -> dict[str, Any]:
    """The arguments of `encode` for this role; a prompt of the model's that may be meant for it is named in a warning."""
    name = name_for(spec, role)
    if name is not None:
        return {"prompt_name": name}
    if likely := [known for known, text in spec.prompts.items() if text and _HINTS[role].search(known)]:
        warn(
            f"{spec.name} has no prompt called {role!r}, so nothing is put before a {role}; it has "
            f"{', '.join(map(repr, likely))}: choose one with prompt_name=, or say it once with "
            f"model.spec = dataclasses.replace(model.spec, roles={{{role!r}: {likely[0]!r}}})"
        )
    return {"prompt": ""}


def arguments_of(
    spec: ModelSpec, role: Role, prompt: str | None, prompt_name: str | None, task: str | None, examples: Any = None
) -> dict[str, Any]:
    """The arguments of `encode` for this role: the prompt that was given, the task's, or else the model's own for the role.

    Raises:
        PromptError: as `of_task`; or a task beside a prompt, or examples without a task.
    """
    if task is not None or examples is not None:
        if prompt is not None or prompt_name is not None:
            raise PromptError("task and prompt are both given; a task becomes a prompt by itself: give one of them")
        return {"prompt": of_task(spec, role, task, examples)}
    return (
        for_role(spec, role)
        if prompt is None and prompt_name is None
        else {"prompt": prompt, "prompt_name": prompt_name}
    )


def of_task(spec: ModelSpec, role: Role, task: str | None, examples: Iterable[tuple[str, str]] | None = None) -> str:
    """The text that a task becomes before an input of this role.

    A model whose spec has an `instruction` takes a task described in words, before queries, and before documents where it has a prompt
    of its own for them. Others take the name of a
    task, for which they have a prompt: "qa-query", "Retrieval.passage", or "Clustering" for both roles.

    Args:
        examples: pairs of a query and what answers it, shown before the task (in-context learning), in this order; of a model whose
            spec has an `example`.

    Raises:
        PromptError: there is no task, the model has no such one or takes none, or an example is no pair of two texts.
    """
    if not isinstance(task, str) or not task.strip():
        raise PromptError(
            f"task must be a text that says what is looked for, not {task!r:.60}"
            + ("; examples are of a task" if examples is not None else "")
        )
    if examples is not None and (isinstance(examples, str | bytes) or not hasattr(examples, "__iter__")):
        raise PromptError(f"examples are pairs of a query and what answers it, not {examples!r:.60}")
    if not spec.instruction:
        if examples is not None:
            raise PromptError(f"{spec.name} takes no examples of a task; leave them out")
        return spec.prompts[_task_prompt(spec, role, task)]
    if role == "document" and not spec.prompts.get(name_for(spec, role) or ""):
        raise PromptError(f"documents of {spec.name} stand without a task, which its queries get alone; leave it out")
    if examples is not None and not spec.example:
        raise PromptError(f"{spec.name} takes a task and no examples of it; leave them out")
    shown = [_filled(spec.example, task=task, query=q, response=r) for q, r in map(_pair, examples or ())]
    return "".join((*shown, _filled(spec.instruction, task=task)))


def _pair(example: Any) -> tuple[str, str]:
    whole = isinstance(example, tuple | list) and len(example) == 2
    if not whole or not all(isinstance(text, str) and text.strip() for text in example):
        raise PromptError(
            f"an example is a pair of a query and what answers it, two texts; {example!r:.80} has no answer, or is no such pair"
        )
    return example[0], example[1]


def _filled(template: str, **values: str) -> str:
    """A template with its blanks filled; braces in what fills them stay as they are."""
    return re.sub(r"\{(\w+)\}", lambda blank: values.get(blank[1], blank[0]), template)


def _task_prompt(spec: ModelSpec, role: Role, task: str) -> str:
    """The name of a model's prompt for a task by name."""
    roles = (role, *ALIASES[role])
    names = [f"{task}{mark}{name}" for name in roles for mark in "-._"] + [task] * (task not in ("query", "document"))
    if (found := next((name for name in names if name in spec.prompts), None)) is None:
        raise PromptError(f"{spec.name} has no prompt for a {role} of the task {task!r:.60}; {_listed(spec)}")
    return found


def _listed(spec: ModelSpec) -> str:
    return f"its prompts are {', '.join(map(repr, spec.prompts))}" if spec.prompts else f"{spec.name} has none"
