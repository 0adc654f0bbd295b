"""Texts that are longer than a model reads: said once with what is lost of them, or refused."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from zoo.callers import warn
from zoo.encoders.base import Encoder
from zoo.errors import NotOfferedError, TextTooLongError

if TYPE_CHECKING:
    from zoo.embedder.embedder import Embedder
    from zoo.inputs.item import Item

Truncation = Literal["cut", "error"]
TRUNCATIONS: tuple[Truncation, ...] = ("cut", "error")
TOLD = "_told_of_cuts"  # of a model that has said it
_BYTES = 4  # at most of a character; no token is of less than one byte


class Cuts:
    """What is looked for in the texts of one call.

    Args:
        model: says it once, whatever its calls. truncation: "cut", or "error" for a TextTooLongError.

    Raises:
        NotOfferedError: "error" of a model that does not say what it cuts.
    """

    def __init__(self, model: "Embedder", truncation: Truncation) -> None:
        self.model, self.refuses, self._found = model, truncation == "error", ""
        readers = [reader.encoder for reader in model.routes if "text" in reader.encoder.modalities]
        if self.refuses and (silent := [one for one in readers if type(one).cut is Encoder.cut]):
            raise NotOfferedError(
                f"truncation='error': {type(silent[0]).__name__} of {model.spec.name} does not say whether it cuts a text; leave it out"
            )

    def look(self, encoder: Any, item: "Item", prefix: str, read: Any, index: int) -> None:
        """Looks at one item that was read.

        Raises:
            TextTooLongError: its text is cut, and that was to be an error.
        """
        if item.text is None or (not self.refuses and (self._told() or not _may_be_cut(encoder, item, prefix, read))):
            return
        prompted = encoder.prompted(item, prefix)
        if (cut := encoder.cut(prompted)) is None:
            return
        whole = encoder.text_tokens(prompted)
        much = "more tokens than it reads" if whole is None else f"{whole:,} tokens, its prompt included"
        rest = "the rest is" if whole is None else f"{whole - cut.tokens:,} are"
        if self.refuses:
            raise TextTooLongError(
                f"the text has {much}, and {self.model.spec.name} reads {cut.tokens:,}: {rest} lost; split it, or let it be cut "
                "with truncation='cut'",
                what=item.text[:60],
            )
        end = "beginning" if cut.side == "left" else "end"
        self._found = self._found or (
            f"item {index} has {much}, and {self.model.spec.name} reads {cut.tokens:,}: {rest} lost at its {end}. Split long texts, "
            "or have them refused with truncation='error'. This is said once of a model"
        )

    def say(self) -> None:
        """The warning that is due, in the caller's own thread."""
        if self._found and not self._told():
            self.model.__dict__[TOLD] = True
            warn(self._found)

    def _told(self) -> bool:
        return TOLD in self.model.__dict__


@contextmanager
def unsaid(*models: "Embedder") -> Iterator[None]:
    """Nothing is said of cuts meanwhile, for the texts are the zoo's own."""
    silent = [model for model in models if TOLD not in model.__dict__]
    for model in silent:
        model.__dict__[TOLD] = True
    try:
        yield
    finally:
        for model in silent:
            del model.__dict__[TOLD]


def _may_be_cut(encoder: Any, item: "Item", prefix: str, read: Any) -> bool:
    """Whether it is worth asking the encoder; costs next to nothing."""
    longest = getattr(encoder, "max_tokens", None)
    if not isinstance(longest, int) or _BYTES * (len(item.text or "") + len(prefix)) < longest - _BYTES:
        return False
    return encoder.tokens(read) >= longest or getattr(encoder, "drops_unknown", False)
