"""Judge: a generative model that is asked about a pair, scored by how likely its next word is "yes" and not "no"."""

from typing import TYPE_CHECKING, Any

from torch import Tensor

from zoo.encoders.base import Batch
from zoo.encoders.sequence import content_of
from zoo.errors import InvalidTextError
from zoo.inputs.item import Item, as_item
from zoo.pooling import LastToken
from zoo.reranking.reranker import Reranker
from zoo.reranking.spec import RerankerSpec

if TYPE_CHECKING:
    from zoo.encoders.sequence import SequenceEncoder


class Judge(Reranker):
    """Its logit is that of "yes" minus that of "no", so that the sigmoid is the probability of "yes" between the two.

    Args:
        encoder: reads the pair as one sequence. answer: `(width,)`, row of the vocabulary projection for yes minus that
            for no; it is not trained. spec: its facts, and how a pair is laid out.
    """

    encoder: "SequenceEncoder"

    def __init__(self, encoder: "SequenceEncoder", answer: Tensor, spec: RerankerSpec) -> None:
        super().__init__(encoder, spec)
        self.register_buffer("answer", answer)
        self.pool = LastToken()

    def prepare(self, query: Any, document: Any) -> Any:
        return self.encoder.prepare_item(self.pair(query, document))

    def lost_tokens(self, query: Any, document: Any) -> int:
        item = self.pair(query, document)
        cut = self.encoder.cut(item)
        return 0 if cut is None else self.encoder.text_tokens(item) - cut.tokens

    def logits(self, inputs: Batch) -> Tensor:
        device = self.answer.device
        states = self.pool(self.encoder({name: tensor.to(device) for name, tensor in inputs.items()}))
        return states.float() @ self.answer.float()

    def pair(self, query: Any, document: Any) -> Item:
        """Query and document as one item, as the judge is asked about them.

        Raises:
            InputError: one of them cannot be read, or is none of a model's inputs.
        """
        judge, query = self.spec.judge, as_item(query)
        instruction = query.instruction or ""
        asked, about = self._parts(query), self._parts(as_item(document))
        if instruction and judge.asked == "query":
            at = next((i for i, (kind, _) in enumerate(asked) if kind == "text"), len(asked))
            words = " ".join([instruction, *(value for _, value in asked[at : at + 1])])
            asked = [*asked[:at], ("text", words), *asked[at + 1 :]]
            instruction = ""
        parts = [("text", judge.query), *asked, ("text", judge.document), *about]
        return Item(parts=tuple(Item(**{kind: value}) for kind, value in parts), instruction=instruction or None)

    def _parts(self, item: Item) -> list[tuple[str, Any]]:
        content = content_of(self.check_read(item))
        if mark := self.spec.judge.format.divided_at:
            for text in (item.instruction, *(value for kind, value in content if kind == "text")):
                if text and mark in text:
                    raise InvalidTextError(
                        f"a text holds {mark!r}, at which this model divides its prompt; take it out"
                    )
        return content if item.parts else sorted(content, key=lambda part: self.spec.judge.kinds.index(part[0]))
