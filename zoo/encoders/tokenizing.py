"""Texts → token ids: checks every text, wraps the tokenizers of the ecosystem behind one call."""

import unicodedata
from collections.abc import Callable, Sequence, Set
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.encoders._logging import quiet
from zoo.encoders.base import Cut
from zoo.encoders.places import check_tokenizer_files
from zoo.encoders.rust import MAX_CHARACTERS, Core, naming, opening
from zoo.encoders.shortening import encoder_of, shorten
from zoo.encoders.unknown import Vocabulary
from zoo.errors import (
    ArgumentError,
    EmptyTextError,
    InvalidTextError,
    MissingWeightsError,
    NotOfferedError,
    UnsupportedInputError,
)
from zoo.strangers import trial

_VOCABULARIES = (
    ("tokenizer.json",),
    ("vocab.txt",),
    ("vocab.json", "merges.txt"),
    ("spiece.model",),
    ("sentencepiece.bpe.model",),
    ("tokenizer.model",),
)


def check_text(text: Any) -> str:
    """The text itself, or the reason why it cannot be embedded.

    Raises:
        UnsupportedInputError: no str. EmptyTextError: nothing visible. InvalidTextError: no Unicode, or over 10 MB.
    """
    if not isinstance(text, str):
        raise UnsupportedInputError(f"a text must be str, not {type(text).__name__}", what=repr(text)[:60])
    if not any(map(_is_visible, text.strip())):
        raise EmptyTextError(f"the text {text[:20]!r} has no visible character; leave it out", what=repr(text)[:60])
    if len(text) > MAX_CHARACTERS:
        raise InvalidTextError(
            f"a text of {len(text):,} characters; at most {MAX_CHARACTERS:,}: split it", what=repr(text[:40])
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidTextError(
            f"the text {text[:20]!r} is not Unicode (lone surrogate at {error.start}); read its file with the right "
            "encoding, or text.encode('utf-8', 'replace').decode()",
            what=repr(text)[:60],
        ) from error
    return text


def _is_visible(character: str) -> bool:
    """Whether a character can be seen: no white space, control or zero width. What this Python does not know yet may be."""
    return (character.isprintable() and not character.isspace()) or unicodedata.category(character) in (
        "Cn",
        "Co",
        "Cs",
    )


class _Checked:
    """What both kinds do with a text before it is tokenised."""

    def __init__(self, tokenizer: Any, max_tokens: int | None, lower: bool) -> None:
        self.tokenizer, self.max_tokens, self.lower = tokenizer, max_tokens, lower
        self.vocabulary = Vocabulary(tokenizer)

    def _start(self, text: str) -> str:
        text = check_text(text)
        return self._shorten(self._lowered(text))

    def _lowered(self, text: str) -> str:
        return text.lower() if self.lower else text

    def _shorten(self, text: str) -> str:
        """Of a long text what decides the tokens that are kept."""
        raise NotImplementedError(f"{type(self).__name__} must define _shorten")

    def prompt_length(self, prompt: str, special_tokens: bool = True) -> int:
        """Tokens of a prompt at the beginning of a text, counted as sentence-transformers does: its own end left out.

        Args:
            special_tokens: False counts the prompt's own alone, without what the tokenizer puts around a text.
        """
        if not special_tokens:
            return len(self.own_ids(self._lowered(prompt)))
        ids, special = self._ids(self._lowered(prompt)), self._special()
        return len(ids) - (bool(ids) and ids[-1] in special)

    def count(self, text: str) -> int:
        """How many tokens a text has, special ones included, with nothing cut off."""
        return len(self.own_ids(self._lowered(check_text(text)))) + self._around

    @property
    def _around(self) -> int:
        """How many tokens are put around a text."""
        raise NotImplementedError(f"{type(self).__name__} must define _around")

    def id_of(self, token: str) -> int | None:
        """The id of an entry of the vocabulary, None where it has none such."""
        raise NotImplementedError(f"{type(self).__name__} must define id_of")

    def placed(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """The ids of a text, cut as they are read, and where each stands in it: `(start, stop)` in characters, empty for special tokens.

        Raises:
            NotOfferedError: the tokenizer does not tell.
        """
        raise NotOfferedError("a tokenizer without a tokenizer.json does not tell where in a text its tokens stand")

    def only_ends(self, ids: Sequence[int]) -> bool:
        """Whether ids after a prompt's are none of a text, but at most the two that may end one."""
        return len(ids) <= 2 and self._special().issuperset(ids)

    def cut(self, text: str) -> Cut | None:
        """Where a text is truncated; None where all of it is read."""
        if self.max_tokens is None or not self._overflows(self._start(text)):
            return None
        return Cut(self.max_tokens, self.side)

    def _overflows(self, text: str) -> bool:
        """Whether a text has more tokens than are read."""
        raise NotImplementedError(f"{type(self).__name__} must define _overflows")

    def _ids(self, text: str) -> list[int]:
        """The ids of any text."""
        raise NotImplementedError(f"{type(self).__name__} must define _ids")

    def own_ids(self, text: str) -> list[int]:
        """The ids of any text, without special tokens around it, and whole."""
        raise NotImplementedError(f"{type(self).__name__} must define own_ids")

    @cached_property
    def ends(self) -> tuple[list[int], list[int]]:
        """The special tokens that the tokenizer itself puts before a text and after it."""
        own, whole = self.own_ids("a"), self("a")
        begin = next(at for at in range(len(whole)) if whole[at : at + len(own)] == own)
        return whole[:begin], whole[begin + len(own) :]

    def _special(self) -> Set[int]:
        """The ids of all special tokens."""
        raise NotImplementedError(f"{type(self).__name__} must define _special")

    def unknown_share(self, text: str) -> float:
        """Share of the text's tokens that are unknown (see `zoo.encoders.unknown`)."""
        return self.vocabulary.share(self._start(text))


class FastTokenizer(_Checked):
    """A `tokenizers` tokenizer with truncation: text → list of ids, special tokens included.

    Args:
        tokenizer: a `tokenizers.Tokenizer`.
        max_tokens: longest sequence; the rest of the text is cut off.
        lower: lower-case first (sentence-transformers' `do_lower_case`).
        special_tokens: whether [CLS] and the like are added.
        side: where a long text loses its rest, "right" or "left"; by default where the tokenizer says so.
    """

    def __init__(
        self,
        tokenizer: Any,
        max_tokens: int | None,
        lower: bool = False,
        special_tokens: bool = True,
        side: str | None = None,
    ) -> None:
        if lower:
            _lower_first(tokenizer)
        super().__init__(tokenizer, max_tokens, lower)
        self.core, self.special_tokens = Core(tokenizer), special_tokens
        self.side = side or (tokenizer.truncation or {}).get("direction", "right")
        tokenizer.no_padding()
        tokenizer.no_truncation()
        if max_tokens is not None:
            self.limit(max_tokens)

    def __call__(self, text: str) -> list[int]:
        return self._ids(self._start(text))

    @property
    def _around(self) -> int:
        return self.tokenizer.num_special_tokens_to_add(False) if self.special_tokens else 0

    def id_of(self, token: str) -> int | None:
        return self.tokenizer.token_to_id(token)

    def _lowered(self, text: str) -> str:
        return text  # the tokenizer does it, and leaves special tokens in a text as they are

    def _ids(self, text: str) -> list[int]:
        return list(self.core.encode(text, self.special_tokens).ids)

    def placed(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        # Not shortened first: of a text that loses its beginning all places would be others.
        read = self.core.encode(check_text(text), self.special_tokens)
        return list(read.ids), list(read.offsets)

    def own_ids(self, text: str) -> list[int]:
        read = self.core.encode(text, False)
        return [*read.ids, *(number for rest in read.overflowing for number in rest.ids)]

    def _overflows(self, text: str) -> bool:
        return bool(self.core.encode(text, self.special_tokens).overflowing)

    def _special(self) -> Set[int]:
        return {number for number, token in self.tokenizer.get_added_tokens_decoder().items() if token.special}

    def token(self, number: int) -> str:
        """The token of an id, as the vocabulary writes it."""
        return self.tokenizer.id_to_token(number)

    def written(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens too."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=False)

    def limit(self, max_tokens: int) -> None:
        """Cuts longer texts here from now on.

        Raises:
            ArgumentError: not one token of a text would be left; `tokenizers` cuts nothing then.
        """
        own = self.tokenizer.num_special_tokens_to_add(False) if self.special_tokens else 0
        if max_tokens <= own:
            raise ArgumentError(
                f"a text cannot be cut after {max_tokens} tokens: {own} are the tokenizer's own, and none would be the text's"
            )
        self.max_tokens = max_tokens
        # No model reads more, and `tokenizers` takes numbers of 64 bits.
        self.tokenizer.enable_truncation(min(max_tokens, 2**31), direction=self.side)

    def _shorten(self, text: str) -> str:
        if (cut := self.tokenizer.truncation) is None:
            return text
        encode, weighs = encoder_of(self.core)
        return shorten(text, cut["max_length"], encode, side=cut.get("direction", "right"), weighs=weighs)

    def save(self, folder: Path) -> None:
        """Writes tokenizer.json."""
        self.tokenizer.save(str(folder / "tokenizer.json"))


def _lower_first(tokenizer: Any) -> None:
    """Makes a tokenizer lower-case what is no special token, as sentence-transformers does."""
    from tokenizers import normalizers

    own = tokenizer.normalizer
    parts = list(own) if isinstance(own, normalizers.Sequence) else [] if own is None else [own]
    if not any(isinstance(part, normalizers.Lowercase) for part in parts):
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *parts])


class SlowTokenizer(_Checked):
    """A transformers tokenizer without a Rust core, or one whose Python code changes the text first."""

    def __init__(self, tokenizer: Any, max_tokens: int | None, lower: bool = False) -> None:
        super().__init__(tokenizer, max_tokens, lower)
        self.side = getattr(tokenizer, "truncation_side", "right")

    @property
    def _around(self) -> int:
        return self.tokenizer.num_special_tokens_to_add(False)

    def id_of(self, token: str) -> int | None:
        return self.tokenizer.get_vocab().get(token)

    def __call__(self, text: str) -> list[int]:
        return self._ids(self._start(text))

    def _overflows(self, text: str) -> bool:
        with naming(text):
            return len(self.tokenizer(text, truncation=False, verbose=False).input_ids) > self.max_tokens

    def _special(self) -> Set[int]:
        return set(self.tokenizer.all_special_ids)

    def _ids(self, text: str) -> list[int]:
        cut = self.max_tokens is not None
        with naming(text):
            return list(self.tokenizer(text, truncation=cut, max_length=self.max_tokens).input_ids)

    def token(self, number: int) -> str:
        """The token of an id, as the vocabulary writes it."""
        return self.tokenizer.convert_ids_to_tokens(number)

    def written(self, ids: Sequence[int]) -> str:
        """The text of ids, special tokens too."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=False)

    def limit(self, max_tokens: int) -> None:
        """Cuts longer texts here from now on."""
        self.max_tokens = max_tokens

    def _shorten(self, text: str) -> str:
        return text if self.max_tokens is None else shorten(text, self.max_tokens, self.own_ids, side=self.side)

    def own_ids(self, text: str) -> list[int]:
        with naming(text):
            return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def save(self, folder: Path) -> None:
        """Writes the tokenizer's own files."""
        self.tokenizer.save_pretrained(folder)


def load_tokenizer(
    source: Any, max_tokens: int | None, lower: bool = False, special_tokens: bool = True
) -> "FastTokenizer | SlowTokenizer":
    """A tokenizer from a folder (tokenizer.json, or any files transformers knows), or around a transformers one.

    Raises:
        MissingWeightsError: the folder holds no tokenizer.
    """
    from tokenizers import Tokenizer

    if isinstance(source, Tokenizer):
        return FastTokenizer(source, max_tokens, lower, special_tokens)
    if isinstance(source, Path):
        source = open_tokenizer(source)
        if isinstance(source, Tokenizer):
            return FastTokenizer(source, max_tokens, lower, special_tokens)
    core = getattr(source, "backend_tokenizer", None)
    if isinstance(core, Tokenizer):
        core = Tokenizer.from_str(core.to_str())
        return FastTokenizer(core, max_tokens, lower, special_tokens, getattr(source, "truncation_side", None))
    return SlowTokenizer(source, max_tokens, lower)


def open_tokenizer(folder: Path, plain: bool = True, *, alone: bool = False) -> Any:
    """A folder's tokenizer as transformers reads it.

    Args:
        alone: take tokenizer.json alone, whatever stands beside it, as a `tokenizers.Tokenizer`: so do the libraries of static tables.
        plain: where there is no tokenizer_config.json, take tokenizer.json alone, as a `tokenizers.Tokenizer`.

    Raises:
        MissingWeightsError: the folder holds no vocabulary, or a damaged one. UnsafeCheckpointError: its settings name files
            or models of other places. UnrecognisedCheckpointError: it asks for what no tokenizer needs.
    """
    from tokenizers import Tokenizer

    # transformers makes an empty tokenizer where it finds no vocabulary, and every text would become "unknown".
    vocabularies = _VOCABULARIES[:1] if alone else _VOCABULARIES
    if not any(all((folder / name).is_file() for name in files) for files in vocabularies):
        wanted = ", ".join(" with ".join(files) for files in vocabularies)
        raise MissingWeightsError(f"{folder} has no tokenizer (one of: {wanted}); copy its files beside the weights")
    check_tokenizer_files(folder)
    trial.check_tokenizer(folder)
    with opening(f"the tokenizer in {folder}"):
        plain = plain and not (folder / "tokenizer_config.json").is_file() and (folder / "tokenizer.json").is_file()
        if plain or alone:
            return held(Tokenizer.from_file(str(folder / "tokenizer.json")), folder)
        from transformers import AutoTokenizer  # which takes a second to import

        with quiet():  # it looks at config.json too, and warns of types that transformers has under another name
            return held(AutoTokenizer.from_pretrained(folder, trust_remote_code=False), folder)


def held(tokenizer: Any, folder: Path) -> Any:
    """The tokenizer itself, once its Rust core makes no text absurdly long, says the same each time, and has read a text.

    Args:
        folder: where it is from; without a tokenizer.json there, what transformers has built of its other files is tried too.

    Raises:
        UnrecognisedCheckpointError: it asks for what no tokenizer needs.
    """
    from tokenizers import Tokenizer

    core = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if isinstance(core, Tokenizer):
        Core(core).check_steps(folder)  # transformers' class may have built other steps than the file has
        if getattr(
            core.model, "dropout", None
        ):  # refused where files are read setting by setting, unless it is ignored
            core.model.dropout = None
        if not (folder / "tokenizer.json").is_file():
            trial.check_built(core, folder)
        core.encode("a")
    return tokenizer


def check_limit(max_tokens: int, most: int | None) -> int:
    """The number itself, if a text can be cut there.

    Raises:
        ValueError: it is no positive whole number, or the model has no positions for so many.
    """
    if isinstance(max_tokens, bool) or not isinstance(max_tokens, int) or not 0 < max_tokens <= (most or max_tokens):
        known = f"1 to {most:,}" if most else "1 or more"
        raise ValueError(f"a text cannot be cut after {max_tokens!r} tokens; this model reads {known}")
    return max_tokens


def check_ids(ids: list[int], rows: int, where: str) -> list[int]:
    """The ids, all of them rows of the token table.

    Raises:
        MissingWeightsError: the tokenizer belongs to another model.
    """
    if ids and max(ids) >= rows:
        raise MissingWeightsError(f"the tokenizer of {where} gives id {max(ids)}, but its table has {rows} rows")
    return ids


class MissingTokenizer:
    """Stands where `build_model` had no tokenizer to load: shapes work, texts say what is missing."""

    def __init__(self, model: str) -> None:
        self.model = model

    def __call__(self, text: str) -> list[int]:
        raise MissingWeightsError(
            f"{self.model} was built without its tokenizer (build_model gives the shape only); use load_model to embed"
        )

    def unknown_share(self, text: str) -> float:
        """Raises MissingWeightsError, as a call does."""
        return float(len(self(text)))

    def cut(self, text: str) -> None:
        """Raises MissingWeightsError, as a call does."""
        self(text)

    def limit(self, max_tokens: int) -> None:
        """Nothing to cut."""

    def save(self, folder: Path) -> None:
        """Nothing to write."""


def pad(sequences: Sequence[Sequence[int]], value: int = 0, side: str = "right") -> tuple[Tensor, Tensor]:
    """Ids `(batch, longest)` and mask `(batch, longest)`, True where real."""
    longest = max(len(s) for s in sequences)
    ids = torch.full((len(sequences), longest), value, dtype=torch.long)
    mask = torch.zeros((len(sequences), longest), dtype=torch.bool)
    for row, sequence in enumerate(sequences):
        where = slice(0, len(sequence)) if side == "right" else slice(longest - len(sequence), longest)
        ids[row, where] = torch.tensor(sequence, dtype=torch.long)
        mask[row, where] = True
    return ids, mask


Tokenize = Callable[[str], list[int]]
