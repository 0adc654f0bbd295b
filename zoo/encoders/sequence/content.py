"""What an item holds, in the order in which a sequence reads it."""

from typing import Any

from zoo.encoders.sequence.media import READERS
from zoo.errors import EmptyItemError
from zoo.inputs.item import Item, as_item
from zoo.modalities import MODALITIES


def media_read() -> list[str]:
    """The modalities that have a reader, in the order in which an item's are read."""
    return [kind for kind in MODALITIES if kind in READERS]


def content_of(item: Item, media_first: bool = True) -> list[tuple[str, Any]]:
    """(kind, value) of an item's media and texts in the order in which they are read.

    Args:
        media_first: whether media stand before the text of the same item, else after it; `parts` keep their order.

    Raises:
        EmptyItemError: it holds nothing that a sequence reads.
    """
    if item.parts:
        return [(kind, value) for part in item.parts for kind, value in content_of(as_item(part), media_first)]
    order = (*media_read(), "text") if media_first else ("text", *media_read())
    held: dict[str, Any] = {kind: getattr(item, kind) for kind in order}
    if "regions" in held:
        held["regions"] = item if len(item.regions) else None  # regions are read with the image that they are of
    found = [(kind, value) for kind, value in held.items() if value is not None]
    if not found:
        raise EmptyItemError("an item needs a text, image, video or audio; this one has none", what="Item()")
    return found
