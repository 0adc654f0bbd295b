"""Prompts: what is put before an input, chosen by its name, by the role of the input, or given to the letter."""

import re
import warnings
from collections.abc import Mapping
from typing import Any, Literal

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
        warnings.warn(
            f"{spec.name} has no prompt called {role!r}, so nothing is put before a {role}; it has "
            f"{', '.join(map(repr, likely))}: choose one with prompt_name=, or say it once with "
            f"model.spec = dataclasses.replace(model.spec, roles={{{role!r}: {likely[0]!r}}})",
            stacklevel=4,
        )
    return {"prompt": ""}


def _listed(spec: ModelSpec) -> str:
    return f"its prompts are {', '.join(map(repr, spec.prompts))}" if spec.prompts else f"{spec.name} has none"
