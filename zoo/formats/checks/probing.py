"""What a tower gives, found out on shapes alone: no memory, no weights, before the first item of a long job."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.errors import InputError, UnrecognisedCheckpointError, ZooError
from zoo.inputs.item import Item

if TYPE_CHECKING:
    from torch import nn

    from zoo.encoders.text import TransformersText


def check_vector(tower: "nn.Module", shape: Sequence[int], where: str, *, ids: bool = False) -> None:
    """Holds a tower, built without memory, to one vector per item.

    Args:
        shape: of its input, a batch of one. ids: whether that is token ids, else pixels.

    Raises:
        UnrecognisedCheckpointError: it does not read such an input, or gives more than one vector.
    """
    import torch

    what = "a text of {1} tokens" if ids else "an image of {2}x{3} pixels in {1} channels"
    said = what.format(*shape)
    try:
        with torch.inference_mode():
            inputs = torch.zeros(*shape, dtype=torch.long if ids else torch.float32, device="meta")
            found = tower.eval()(inputs)
    except Exception as error:  # libraries answer invalid files with any type of error
        if "meta" in str(error) or isinstance(error, NotImplementedError):
            return  # a step that looks at the numbers themselves
        reason = " ".join(str(error).split())[:200]
        raise UnrecognisedCheckpointError(f"{where}: this model does not read {said}: {reason}") from error
    found = found[0] if isinstance(found, tuple) else found
    if found.ndim != 2:
        raise UnrecognisedCheckpointError(
            f"{where}: this model makes {tuple(found.shape[1:])} numbers of {said}, not one vector: its pooling is switched off"
        )


def check_states(encoder: "TransformersText", where: object) -> None:
    """Reads texts of two tokens and one: a configuration that a backbone accepts need not be one that it can compute with.

    With real weights, since the attention masks of transformers look at the numbers themselves.

    Raises:
        UnrecognisedCheckpointError: it or its tokenizer fails, or it gives states of another length than it says.
        MissingWeightsError: the tokenizer has words or ends that the table of words has not.
    """
    import torch

    try:
        ids = encoder.prepare_item(
            Item(text="a ꙮ 山")
        )  # a tokenizer may lack the token that it has for what it does not know
    except Exception as error:
        if isinstance(error, ZooError) and not isinstance(error, InputError):
            raise
        raise UnrecognisedCheckpointError(f"{where}: the tokenizer beside it fails: {error}") from error
    if not ids:
        raise UnrecognisedCheckpointError(f"{where}: the tokenizer beside it leaves no token of a text")
    try:
        with torch.inference_mode():
            states = encoder.eval()(encoder.collate([[0, 0], [0]])).states
    except Exception as error:  # libraries answer invalid files with any type of error
        reason = " ".join(str(error).split())[:200]
        raise UnrecognisedCheckpointError(
            f"{where}: a backbone with these settings does not read a text of two tokens: {type(error).__name__}: {reason}"
        ) from error
    if tuple(states.shape) != (2, 2, encoder.width):
        raise UnrecognisedCheckpointError(
            f"{where}: states of {tuple(states.shape)[2:]} numbers, not of {encoder.width}"
        )
