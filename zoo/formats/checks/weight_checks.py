"""What a vision-language checkpoint must hold: every tensor once, of floating-point numbers, with none left over.

A tensor that nothing reads is a layer that the vectors lack: a configuration with fewer layers than the weights, an adapter that
nobody merged. Other libraries warn, and go on.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import MissingWeightsError, UnrecognisedCheckpointError
from zoo.formats.checks.safetensors_checks import read_header

if TYPE_CHECKING:
    from torch import nn

# Of the training head, and tables that are computed anew; GPT's causal masks among them, which transformers once stored.
_SPARE = re.compile(
    r"(^|\.)(lm_head\.|position_ids$|token_type_ids$|inv_freq$|original_inv_freq$|attn\.(attention\.)?(masked_)?bias$)"
)
_ADAPTER = re.compile(r"\.lora_|\.base_layer\.|\.modules_to_save\.")


def refuse_quantised(config: Mapping[str, Any], where: str) -> None:
    """Raises UnrecognisedCheckpointError for weights of integers or eight bits, which the zoo does not compute with."""
    for key in ("quantization_config", "compression_config"):
        if settings := config.get(key):
            method = settings.get("quant_method") if isinstance(settings, Mapping) else settings
            raise UnrecognisedCheckpointError(
                f"{where} has quantised weights ({key}: {str(method)[:40]}), which the zoo does not read; take the original, in "
                "float32, bfloat16 or float16"
            )


def check_names(files: Iterable[Path], renamed: Mapping[str, str]) -> None:
    """No tensor is there under two names, old and new, and none of the weights is of whole numbers.

    Args:
        files: safetensors of one checkpoint. renamed: expressions of old names → new ones.

    Raises:
        MissingWeightsError: one is. Also as `read_header`.
    """
    seen: dict[str, str] = {}
    for path in files:
        for name, entry in read_header(path).items():
            new = name
            for pattern, replacement in renamed.items():
                new = re.sub(pattern, replacement, new)
            new = new.removeprefix("model.")
            if (other := seen.setdefault(new, name)) != name:
                raise MissingWeightsError(
                    f"{path} has one tensor under two names, {other[:80]} and {name[:80]}; remove the one that is not meant"
                )
            if not entry.is_float and not _SPARE.search(name):
                raise MissingWeightsError(
                    f"{path}: {name[:80]} is stored as {entry.dtype}, as quantised weights are; take the original, in float32, "
                    "bfloat16 or float16"
                )


def check_left_over(model: "nn.Module", unexpected: Iterable[str], where: Path) -> None:
    """Raises MissingWeightsError where a checkpoint has tensors of the model's own parts, or of an adapter, that nothing read.

    Heads for other tasks beside the backbone may be there.
    """
    parts = tuple(f"{name}." for name, _ in model.named_children())
    prefixes = ("model.", f"{getattr(model, 'base_model_prefix', '') or 'model'}.")

    def bare(name: str) -> str:
        return next((name.removeprefix(prefix) for prefix in prefixes if name.startswith(prefix)), name)

    left = sorted(
        name
        for name in unexpected
        if not _SPARE.search(name) and (bare(name).startswith(parts) or name.startswith(parts) or _ADAPTER.search(name))
    )
    if left:
        raise MissingWeightsError(
            f"{where} has {len(left)} tensors that a {type(model).__name__} of its config.json does not have, such as "
            f"{left[0][:80]}: more layers than the configuration says, or an adapter that was not merged"
        )


def check_finite(model: "nn.Module", where: Path) -> None:
    """Raises MissingWeightsError where a weight is NaN or infinite: else an error only for the items that meet it."""
    for name, weight in model.named_parameters():
        # The sum is many times as fast as looking at each, and is finite only if all are.
        if weight.is_floating_point() and not weight.sum().isfinite() and not weight.isfinite().all():
            raise MissingWeightsError(f"{where}: {name} has NaN or infinite weights; take another copy")
