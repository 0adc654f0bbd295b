"""Files of several kinds as one source: images, videos, audio, documents and texts side by side, each known by what it holds."""

import codecs
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from zoo.bulk.sources import Record, Source
from zoo.bulk.tables import attribute_names
from zoo.errors import InputError, NotMediaError, UnsupportedModalityError
from zoo.inputs.kinds import head_of, kind_of, kind_of_head
from zoo.tables.images import kind_by_name
from zoo.tables.lines import whole_text

KIND = "kind"
PLURALS = {"image": "images", "video": "videos", "audio": "audio", "document": "documents", "text": "text files"}
"""Of kinds of files, in the order in which people are told of them."""
_NAMED = 3  # of files whose names say something else than what they hold


class KindSource:
    """The files of a folder, of which each is of one of several kinds; beside each vector stands which, in the column `kind`.

    A file is of the kind that it holds, whatever its name says. It is asked when the file is embedded, so that a walk over files
    that are unchanged opens none.

    Args:
        whole: the files. kinds: those that are embedded; any other is an error of its file.
    """

    def __init__(self, whole: Source, kinds: Collection[str]) -> None:
        import pyarrow as pa

        self.whole, self.held = whole, [kind for kind in PLURALS if kind in kinds]
        names = attribute_names([*whole.schema.names, KIND])
        self.kinds = names[-1]
        self.schema: pa.Schema = pa.schema(list(zip(names, [*whole.schema.types, pa.string()], strict=True)))
        # A page is an image: where nothing else is beside them, all is.
        self.kind = "image" if set(kinds) <= {"image", "document"} else "media"
        self._lying: Counter[str] = Counter()
        self._examples: list[str] = []

    def __getattr__(self, name: str) -> Any:
        """What is not of kinds, as the whole source has it."""
        return getattr(self.whole, name)

    def records(self) -> Iterator[Record]:
        """The files, with the kinds that their names say."""
        for record in self.whole.records():
            yield replace(record, attributes=(*record.attributes, kind_by_name(record.reference)))

    def looked(self, record: Record) -> Record:
        """The file with the kind that it holds; a text is read."""
        if record.error is not None or not isinstance(record.value, Path):
            return record
        try:
            kind = self.sort(record)
            value = whole_text(record.value) if kind == "text" else record.value
        except NotMediaError:  # as embedding it says, and why
            return record
        except InputError as error:
            return replace(record, value=None, error=error)
        return replace(self.marked(record, kind), value=value)

    def sort(self, record: Record) -> str:
        """The kind of a file, by what it holds.

        Raises:
            UnsupportedModalityError: of another kind than those that are embedded. NotMediaError: of none.
        """
        named = kind_by_name(record.reference)
        kind = "text" if named == "text" and _is_text(record.value) else kind_of(record.value)
        lies = named is not None and named != kind
        if kind not in self.held:
            told = f"is called {_a(named)} and holds {_a(kind)}" if lies else f"holds {_a(kind)}"
            raise UnsupportedModalityError(
                f"{record.reference} {told}, and here {_listed(self.held)} are embedded; see --kind",
                what=record.reference,
            )
        if lies:
            self._lying[record.reference] += 1
            if len(self._examples) < _NAMED and self._lying[record.reference] == 1:
                self._examples.append(f"{record.reference} holds {_a(kind)}")
        return kind

    def marked(self, record: Record, kind: str) -> Record:
        """The record with its kind."""
        at = len(self.whole.schema)
        return replace(record, attributes=(*record.attributes[:at], kind, *record.attributes[at + 1 :]))

    def told(self) -> list[str]:
        """See `Source`: names that lie."""
        if not self._lying:
            return self.whole.told()
        more = f" and {len(self._lying) - _NAMED:,} more" if len(self._lying) > _NAMED else ""
        return [
            *self.whole.told(),
            f"embedded as what they hold, not as what they are called: {', '.join(self._examples)}{more}",
        ]

    def described(self) -> dict[str, Any]:
        """See `Source`."""
        return {**self.whole.described(), "kind": self.kind, "kinds": {"column": self.kinds, "of": self.held}}


def holds_another(record: Record, kind: str) -> Record:
    """A file of a source of one kind; with an error where it holds another medium than that, whatever it is called."""
    if record.error is not None or not isinstance(record.value, Path):
        return record
    try:
        found = kind_of(record.value)
    except InputError:  # as embedding it says, and why
        return record
    if found == kind:
        return record
    named = kind_by_name(record.reference)
    told = f"is called {_a(named)} and holds" if named is not None and named != found else "holds"
    error = UnsupportedModalityError(
        f"{record.reference} {told} {_a(found)}, and here {PLURALS[kind]} alone are embedded (--kind {kind}); rename it, or add "
        f"--kind {found}",
        what=record.reference,
    )
    return replace(record, value=None, error=error)


def _is_text(path: Path) -> bool:
    """Whether a file that is called a text begins as one: the first letters of some media are letters, too ("BM", "RIFF")."""
    head = head_of(path)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # MP3 may begin so as well
        return True
    try:
        letters = codecs.getincrementaldecoder("utf-8")().decode(head)  # the last one may be cut
    except UnicodeDecodeError:
        return kind_of_head(head) is None
    return not head.startswith(b"%PDF-") and all(letter >= " " or letter in "\t\n\r\f\x1b" for letter in letters)


def _a(kind: str | None) -> str:
    """A kind with its article."""
    return {"image": "an image", "video": "a video", "document": "a document", "text": "a text"}.get(
        kind or "", "audio"
    )


def _listed(kinds: Collection[str]) -> str:
    return " and ".join(PLURALS[kind] for kind in kinds)
