"""What every encoder is: `prepare_item` reads one item on the CPU, `collate` reads into a batch, `forward` it to tokens."""

from collections.abc import Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from zoo.encoders.dense import LastStage
from zoo.encoders.program import Batch, Program
from zoo.errors import NoSuchBlockError, NotOfferedError, UnreadableTextError, UnsupportedModalityError
from zoo.inputs.item import Item, Tokens
from zoo.modalities import Modality
from zoo.spec import ModelSpec


class Cut(NamedTuple):
    """Where a text is truncated: how many tokens are read of it, and the side on which the rest is lost."""

    tokens: int
    side: Literal["left", "right"] = "right"


class Encoder(nn.Module):
    """Base of all encoders.

    Attributes:
        modalities: what one item may carry for this encoder.
        width: length of a token state.
        batch_budget: tokens (for images: images) of one forward pass that run best, where the user names none.
        assets_in_root: whether a saved folder has its files where other libraries look for a tokenizer.
        interleaved: whether it reads an item's `parts`. mixed: whether a text and a medium may stand in one item.
        rate: Hz of the audio that it reads; 0 where it reads none.
        depth: how many blocks `forward_layers` can tell apart; 0 where it gives only the last.
        targets: what its texts may be compared with, where each has another vector of a text (`ModelSpec.targets`). against: which
            of these `prepare_item` reads for; `Embedder.with_against` sets it.
    """

    modalities: frozenset[Modality] = frozenset()
    width: int
    batch_budget: int = 32
    interleaved: bool = False
    mixed: bool = True
    assets_in_root: bool = True
    rate: int = 0
    depth: int = 0
    targets: tuple[str, ...] = ()
    against: str = ""

    def takes(self, modalities: Set[Modality], ordered: bool = False) -> bool:
        """Whether it reads an item of these modalities, whose `parts` are in an order where it is `ordered`."""
        return modalities <= self.modalities and (not ordered or self.interleaved)

    def parts(self, item: Item) -> tuple[Item, ...]:
        """What of an item is read apart, an item each; () where one read holds it all, as in every encoder of one tower."""
        return ()

    def joined(self, reads: Sequence[tuple[Any, Tensor | None]]) -> Any:
        """A read of the whole from those of its `parts`: of each what was read, or a vector `(dim,)` that is known."""
        raise NotImplementedError(f"{type(self).__name__} reads no item in parts")

    def prompted(self, item: Item, prompt: str) -> Item:
        """The item with the prompt put where this encoder wants it: before its text. Its own instruction comes first.

        Raises:
            UnsupportedModalityError: an instruction, and no text that it could stand before. (A prompt is of all items of a
                call, and is of its texts alone.)
        """
        if item.instruction and item.text is None:
            what = "+".join(sorted(item.modalities))
            raise UnsupportedModalityError(
                f"{what} has the instruction {item.instruction[:60]!r}, and no text that it could stand before: this model reads "
                f"{'+'.join(sorted(self.modalities))} and follows an instruction in texts alone; leave it out (of a table: ignore the "
                "column), or take a vision-language model",
                what=what,
            )
        prompt = before_text(item, prompt)
        if not prompt or item.text is None or not item.text.strip():
            return item
        return replace(item, text=prompt + item.text, instruction=None)

    def prepare_prompted(self, item: Item, prompt: str) -> Any:
        """`prepare_item` of the item with a prompt.

        Raises:
            UnreadableTextError: every token of its text is unknown, as of all other such texts. Besides what `prepare_item` raises.
        """
        prompted = self.prompted(item, prompt)
        read = self.prepare_item(prompted)
        if item.text and item.text.strip() and self.doubtful(read, prompted, item) and self.unknown_share(item) == 1:
            raise UnreadableTextError(
                f"the model can read nothing of the text {item.text[:30]!r}: its vocabulary knows no part of it (another "
                "script, or an unbroken run of letters), and all such texts would have one vector. Take a model that "
                "reads the language (zoo show NAME says which it reads), or set spaces",
                what=item.text[:60],
            )
        return read

    def unknown_share(self, item: Item) -> float:
        """Share of the tokens of the item's text that are unknown, 0 to 1; without prompt and special tokens."""
        return 0.0

    def doubtful(self, read: Any, prompted: Item, item: Item) -> bool:
        """Whether `unknown_share` may be 1, by a look at what was read; costs next to nothing."""
        return False

    def cut(self, item: Item) -> Cut | None:
        """Where a prompted item's text is truncated; None where all of it is read, or nothing is known of it.

        Raises:
            InputError: the text cannot be read.
        """
        return None

    def text_tokens(self, item: Item) -> int | None:
        """Tokens of a prompted item's text, special ones included, before any is cut off; None where nothing is known of it."""
        return None

    def places(self, item: Item, prompt: str, read: Any) -> list[tuple[int, int]]:
        """Where in an item's text each token of what `prepare_prompted` read of it stands: `(start, stop)` in characters, itself without
        the white space at its ends; empty ranges for a prompt's tokens and those that the tokenizer puts around a text.

        Raises:
            NotOfferedError: nothing is known of it.
        """
        raise NotOfferedError(f"{type(self).__name__} does not tell where in a text its tokens stand")

    def prepare_item(self, item: Item) -> Any:
        """One item made ready for `collate`; runs in threads; raises `InputError` where the item cannot be read."""
        raise NotImplementedError(f"{type(self).__name__} must define prepare_item")

    def collate(self, reads: Sequence[Any]) -> Batch:
        """Reads as one batch of tensors, padded where they differ in length."""
        raise NotImplementedError(f"{type(self).__name__} must define collate")

    def prepare(self, items: Sequence[Item]) -> Batch:
        """`collate` over `prepare_item`: what data loaders call."""
        return self.collate([self.prepare_item(item) for item in items])

    def length(self, read: Any) -> int:
        """Cost of one read in units of `batch_budget`."""
        return 1

    def tokens(self, read: Any) -> int:
        """Tokens of what was read with a text, as they are counted for whoever pays by them."""
        return self.length(read)

    def size(self, read: Any) -> int:
        """Bytes of one read, where they are many; 0 leaves it at the half megabyte of an image."""
        return 0

    def limit(self, max_tokens: int) -> None:
        """Reads no more tokens of a text from now on.

        Raises:
            NotOfferedError: it reads no text, or its length is part of the encoder. ValueError: longer than it can read.
        """
        raise NotOfferedError(f"the length of what {type(self).__name__} reads is part of the model; shorten the texts")

    def forward(self, batch: Batch) -> Tokens:
        """A batch from `collate`, on the encoder's device, to `Tokens` `(batch, tokens, width)`."""
        raise NotImplementedError(f"{type(self).__name__} must define forward")

    def forward_layers(self, batch: Batch, layers: Sequence[int]) -> list[Tokens]:
        """`Tokens` after each of these blocks, counted from 1; block `depth` gives what `forward` gives.

        Raises:
            NoSuchBlockError: there is no such block, or the encoder gives only its last.
        """
        raise NoSuchBlockError(f"{type(self).__name__} gives only its last layer; take a loss that compares no layers")

    def last_stage(self) -> LastStage | str:
        """How it is divided for regions that are pooled densely; a string says why it is not."""
        return f"{type(self).__name__} gives no states of a whole image apart"

    def foldable(self) -> nn.Module | None:
        """The part whose batch norms can be folded into the convolutions before them (`zoo.encoders.folding`); None without one."""
        return None

    def program(self) -> Program | str:
        """Its forward pass as one function of tensors, for other runtimes; a string says why it is none."""
        return f"the forward pass of {type(self).__name__} is no single function of tensors"

    def config(self) -> dict[str, Any]:
        """JSON-able constructor arguments; with the saved assets they rebuild the encoder."""
        raise NotImplementedError(f"{type(self).__name__} must define config")

    def save_assets(self, folder: Path) -> None:
        """Writes the files that `config` does not hold, such as a tokenizer. Most encoders have none."""

    def preprocessing(self) -> dict[str, Any]:
        """JSON-able description of everything that happens before `forward`."""
        return self.config()

    def hashed(self, pooler: nn.Module | None, spec: ModelSpec) -> dict[str, Any]:
        """`preprocessing` as fingerprints hash it: in words that never change, or vectors made before would be lost.

        Args:
            pooler: of the encoder's tower, None where several are fused. spec: of the model.
        """
        return self.preprocessing()

    def check_pooler(self, pooler: nn.Module) -> None:
        """Raises ValueError where this pooler makes no sense after the encoder."""


def before_text(item: Item, prompt: str) -> str:
    """What is put before an item's text: its own instruction, a space after it, else the prompt of the call."""
    if not item.instruction:
        return prompt
    return item.instruction if item.instruction[-1].isspace() else f"{item.instruction} "


def one_token(vectors: Tensor) -> Tokens:
    """A whole tower of another library enters as an encoder whose only token is its vector: `(B, W)` → `(B, 1, W)`."""
    mask = torch.ones(len(vectors), 1, dtype=torch.bool, device=vectors.device)
    return Tokens(vectors[:, None], mask)
