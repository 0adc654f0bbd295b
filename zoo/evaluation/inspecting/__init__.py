"""What a model is like: the shape of its space, and what typos, other languages, compression, turns and crops cost it.

`inspect_model` gives an `Inspection`: figures, JSON, a page, and a block of the model's card. The formulas are functions of `measures`
and of `zoo.evaluation.metrics`; docs/inspecting.md says how to read them.
"""

from typing import TYPE_CHECKING, Any

from zoo.evaluation.inspecting.inspection import Inspection, read_inspection

if TYPE_CHECKING:
    from zoo.evaluation.inspecting.run import inspect_model

__all__ = ["Inspection", "inspect_model", "read_inspection"]


def __getattr__(name: str) -> Any:
    if name == "inspect_model":  # a card reads an inspection without torch
        from zoo.evaluation.inspecting.run import inspect_model

        return inspect_model
    raise AttributeError(f"module 'zoo.evaluation.inspecting' has no attribute {name!r}")
