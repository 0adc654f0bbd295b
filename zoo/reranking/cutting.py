"""Pairs of texts that are longer than a reranker reads: said once with what is lost of them, or refused."""

from typing import TYPE_CHECKING, Any

from zoo.callers import warn
from zoo.embedder.cutting import TOLD, Truncation
from zoo.errors import TextTooLongError

if TYPE_CHECKING:
    from zoo.reranking.reranker import Reranker


class PairCuts:
    """What is looked for in the pairs of one call.

    Args:
        model: says it once, whatever its calls. truncation: "cut", or "error" for a TextTooLongError.
    """

    def __init__(self, model: "Reranker", truncation: Truncation) -> None:
        self.model, self.refuses, self._found = model, truncation == "error", ""

    def look(self, index: int, pair: tuple[Any, Any], read: Any) -> None:
        """Looks at one pair that was read; threads.

        Raises:
            TextTooLongError: it is cut, and that was to be an error.
        """
        encoder, name = self.model.encoder, self.model.spec.name
        if not self.refuses and (self._found or TOLD in self.model.__dict__):
            return
        # Counting what was cut means tokenizing all of it: only where as much was read as can be.
        if encoder.length(read) < encoder.max_tokens or not (lost := self.model.lost_tokens(*pair)):
            return
        what = f"has {encoder.max_tokens + lost:,} tokens, and {name} reads {encoder.max_tokens:,}: {lost:,} are lost"
        if self.refuses:
            raise TextTooLongError(
                f"query and document together {what}; split the document, or let it be cut with truncation='cut'"
            )
        self._found = f"pair {index} {what}. Split long documents, or have them refused with truncation='error'. This is said once of a model"

    def say(self) -> None:
        """The warning that is due, in the caller's own thread."""
        if self._found and TOLD not in self.model.__dict__:
            self.model.__dict__[TOLD] = True
            warn(self._found)
