"""Placeholders: the marks of media in a rendered prompt, each made as long as its medium's tokens."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from zoo.encoders.sequence.media import MediaReader, Medium
from zoo.errors import InvalidTextError


def expand(rendered: str, media: Sequence[Medium], readers: Mapping[str, MediaReader]) -> str:
    """The prompt with each placeholder as long as its medium.

    Raises:
        InvalidTextError: there are more or fewer placeholders than media.
    """
    markers = {kind: reader.marker for kind, reader in readers.items() if reader.marker}
    places = {kind: [medium.place for medium in media if medium.kind == kind] for kind in markers}
    found = {kind: rendered.count(marker) for kind, marker in markers.items()}
    if found != {kind: len(some) for kind, some in places.items()}:
        raise InvalidTextError(
            f"the prompt has places for {found}, the item has { ({k: len(v) for k, v in places.items()}) }; this model does "
            "not read such an item"
        )
    if not media:
        return rendered
    kinds = {marker: kind for kind, marker in markers.items()}
    turn = {kind: iter(some) for kind, some in places.items()}
    split = re.compile("|".join(re.escape(marker) for marker in markers.values()))
    return split.sub(lambda match: next(turn[kinds[match[0]]]), rendered)


def span_of(ids: Sequence[int], media_ids: Sequence[int], config: Any) -> tuple[int, int] | None:
    """First and last position of media in a sequence, with the marks around them; None without any.

    Args:
        ids: of the sequence. media_ids: those of media. config: the backbone's, which knows the marks of vision.
    """
    places = [i for i, token in enumerate(ids) if token in set(media_ids)]
    if not places:
        return None
    starts, ends = getattr(config, "vision_start_token_id", None), getattr(config, "vision_end_token_id", None)
    first, last = places[0], places[-1]
    first -= first > 0 and starts is not None and ids[first - 1] == starts
    last += last + 1 < len(ids) and ends is not None and ids[last + 1] == ends
    return first, last
