"""What a task becomes for a model (see `zoo.prompts`); where another registered model is the one for it, the error says so."""

from typing import Any

from zoo.errors import PromptError
from zoo.prompts import Role, arguments_of
from zoo.registry import get_spec, list_models
from zoo.spec import ModelSpec


def asked(
    spec: ModelSpec, role: Role, prompt: str | None, prompt_name: str | None, task: str | None, examples: Any = None
) -> dict[str, Any]:
    """The arguments of `encode`, as `zoo.prompts.arguments_of`.

    Raises:
        PromptError: as there; it names the model that is the same checkpoint with its adapter for the task, as jina-embeddings-v3 has
            them.
    """
    try:
        return arguments_of(spec, role, prompt, prompt_name, task, examples)
    except PromptError as error:
        siblings = map(get_spec, list_models()) if spec.hub_id and task else ()
        own = next((one.name for one in siblings if one.hub_id == spec.hub_id and one.adapter == task), None)
        if own is None:
            raise
        raise PromptError(f"{error}; the model {own} is for that task") from None
