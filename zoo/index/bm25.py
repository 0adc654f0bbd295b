"""BM25 over the texts beside the vectors of an index, by bm25s: numpy alone, and a score of every row, so that filters are exact.

Robertson and Zaragoza, 2009, with the inverse document frequency that Lucene has, which is never negative.
"""

import json
import re
import shutil
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import IndexStateError
from zoo.index.text_rows import Best, Texts, check_columns, keep, read_ids, texts_of

if TYPE_CHECKING:
    import pyarrow as pa

    from zoo.index.store import Store

K1, B = 1.5, 0.75  # of bm25s; Lucene has 1.2
# Raised whenever the same texts would give other terms or files.
VERSION = 1
NAME = "bm25-"
ABOUT = "about.json"
# Scripts that put no spaces between words, or join particles to them: Thai, Lao, Burmese, Khmer, Hangul, kana, Han.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3040-\u30ff\u3130-\u318f\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
# Marks that stand inside words, of Latin, Hebrew, Arabic and the scripts of India; \w leaves them out.
_MARKS = "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed\u0900-\u0963\u0966-\u0dff\u200c\u200d"
_RUN = re.compile(rf"[{_UNSPACED}]+|(?:[^\W{_UNSPACED}]|[{_MARKS}])+")
_IS_UNSPACED = re.compile(rf"[{_UNSPACED}]")


def terms(text: str) -> list[str]:
    """The terms of a text, as indexed and as asked for: words in lower case, and of unspaced scripts characters and pairs of them.

    >>> terms("Tōkyō 2024, 猫が")
    ['tōkyō', '2024', '猫', 'が', '猫が']
    """
    found: list[str] = []
    for run in _RUN.findall(unicodedata.normalize("NFKC", text).casefold()):
        if _IS_UNSPACED.match(run):
            # Pairs as in Lucene's CJK analyser, and single characters, so that a query of one finds something.
            found += [*run, *(run[at : at + 2] for at in range(len(run) - 1))]
        else:
            found.append(run)
    return found


class BM25:
    """The texts of one version of an index, ready to be asked.

    It is built at once, in memory, and kept beside the vectors of the generation in use; where nothing can be written there it
    lives as long as this object.

    Args:
        index: whose rows are searched. columns: attributes that hold their texts; of several, all of them count. files: texts that stand
            in no column. A list in which some of them are missing is not kept.

    Raises:
        ArgumentError: there is no such column. IndexStateError: none of the rows has a text.
    """

    def __init__(self, index: "Store", columns: Sequence[str], files: Texts | None = None) -> None:
        check_columns(index, columns, files)
        self.version = index.commit()
        told = [VERSION, self.version, list(columns), *([] if files is None else ["files"])]
        digest = blake2b(json.dumps(told).encode(), digest_size=8)
        folder = index.folder / f"{NAME}{digest.hexdigest()}"
        rows, self._scorer, texts = _opened(folder) or _built(index, columns, files, folder)
        self._best = Best(rows)
        # A term of more than half of the texts tells little, and would put nearly all of them into the list that is fused. Robertson's
        # own inverse document frequency is not positive from there on.
        self._common = max(1, texts / 2)

    def search(self, index: "Store", text: str, k: int, where: str | None = None) -> list[str]:
        """Ids of the `k` rows whose texts answer best, best first; none that shares no term with the query.

        Terms that stand in more than half of the texts are not asked for.
        """
        first = self._scorer.scores["indptr"]
        known = self._scorer.get_tokens_ids(terms(text))
        asked = [one for one in known if first[one + 1] - first[one] <= self._common]
        return self._best(index, self._scorer.get_scores_from_ids(asked), k, where) if asked else []


def _built(index: "Store", columns: Sequence[str], files: Texts | None, folder: Path) -> "tuple[pa.Array, Any, int]":
    """Ids and scorer of the rows that an index shows, and how many have a text; kept in a folder if that is possible."""
    import bm25s

    rows, texts, whole = texts_of(index, columns, files)
    vocabulary: dict[str, int] = {}
    # Numbers of terms: of their strings there would be gigabytes.
    corpus = [[vocabulary.setdefault(term, len(vocabulary)) for term in terms(text)] for text in texts]
    count = sum(map(bool, corpus))
    if not count:
        raise IndexStateError(
            f"no row of {index.folder} has a text in {', '.join(columns) or 'its files'}; a hybrid search needs texts beside the vectors"
        )
    scorer = bm25s.BM25(k1=K1, b=B, method="lucene")
    scorer.index((corpus, vocabulary), show_progress=False)

    def save(draft: Path) -> None:
        scorer.save(draft, show_progress=False)
        (draft / ABOUT).write_text(json.dumps({"texts": count}))

    if whole:
        keep(folder, rows, save, NAME)
    return rows, scorer, count


def _opened(folder: Path) -> "tuple[pa.Array, Any, int] | None":
    """What was kept there; None where that is nothing, or is damaged and goes."""
    import bm25s
    import pyarrow as pa

    if not folder.is_dir():
        return None
    with suppress(OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        rows = read_ids(folder)
        scorer = bm25s.BM25.load(folder, mmap=True, show_progress=False)
        scores = scorer.scores
        whole = (
            scores["num_docs"] == len(rows) and len(scores["data"]) == len(scores["indices"]) == scores["indptr"][-1]
        )
        if whole and max(scorer.vocab_dict.values()) <= len(scores["indptr"]) - 1:
            return rows, scorer, int(json.loads((folder / ABOUT).read_text())["texts"])
    shutil.rmtree(folder, ignore_errors=True)
    return None
