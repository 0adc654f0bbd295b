"""What `zoo search` finds in an index, of one kind or of several side by side, and what it says of the scores."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from zoo.cli._hybrid import Words, check_words, open_hybrid
from zoo.prompts import arguments_of

if TYPE_CHECKING:
    from zoo.embedder import Embedder
    from zoo.index import Compared, SearchHit
    from zoo.index.store import Store
    from zoo.scales import Scales


class Finder:
    """Searches one index with one model.

    Args:
        manifest: of the folder. plain: whether results of several kinds are ranked by their similarities as they are. quiet: whether
            nothing is said of a search, whose results say it themselves. words: where the words of a query are looked for too;
            None: the vectors alone. sparse: whether the model's sparse vectors are a third list. task:
            `task` and `examples` of `encode_query`.
    """

    def __init__(
        self,
        model: "Embedder",
        index: "Store",
        manifest: Mapping[str, Any],
        *,
        plain: bool,
        quiet: bool,
        words: Words | None = None,
        sparse: bool = False,
        task: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.task = task
        if task:  # refused before a query is typed
            arguments_of(model.spec, "query", None, None, task.get("task"), task.get("examples"))
        self.model, self.index, self.plain, self.quiet = model, index, plain, quiet
        self.hybrid = open_hybrid(index, words, model if sparse else None)
        self.manifest, self._told = manifest, set[str]()
        source = manifest["source"]
        column = (source.get("kinds") or {}).get("column")
        self.column = column if column in index.facts.columns.names else None
        parts = source.get("parts")
        pers = parts.get("per") if isinstance(parts, Mapping) else ()
        pers = pers if isinstance(pers, list) else [pers]
        self._read_as = {"video": "image"} if "frame" in pers else {}
        if "page" in pers or "document" not in model.spec.modalities:
            self._read_as["document"] = model.spec.pages

    def search(self, asked: Any, k: int, where: str | None) -> "list[Compared]":
        """The k best, with what their scores mean; what nobody could see from them is said on stderr."""
        from zoo.inputs.item import as_item

        words = check_words(asked) if self.hybrid is not None else ""
        query = self.model.encode_query(asked, dim=self.manifest["dim"], progress=False, **self.task)
        scales = self._scales("+".join(sorted(as_item(asked).modalities)))
        if self.hybrid is None:
            return self._nearest(query, k, where, scales)
        from zoo.index.hybrid import DEPTH

        depth = max(k, DEPTH)
        dense = self._nearest(query, depth, where, scales)
        fused = self.hybrid.fuse(words, query, dense, where=where, depth=depth)[:k]
        return [match if match.kind else self._compared(match, scales) for match in fused]

    def search_many(self, asked: Sequence[Any], k: int, where: str | None) -> "list[list[Compared]]":
        """The same of many queries, which are encoded and searched together where one list of results is all that there is of each."""
        from zoo.inputs.item import as_item

        if self.hybrid is not None or (self.column is not None and not self.plain):
            return [self.search(one, k, where) for one in asked]
        queries = self.model.encode_query(list(asked), dim=self.manifest["dim"], progress=False, **self.task)
        found = self.index.search(queries, k, where=where)
        scales = [self._scales("+".join(sorted(as_item(one).modalities))) for one in asked]
        return [self._with_meaning(matches, of) for matches, of in zip(found, scales, strict=True)]

    def _nearest(self, query: Any, k: int, where: str | None, scales: "Scales") -> "list[Compared]":
        from zoo.index import search_kinds

        if self.column is None or self.plain:
            return self._with_meaning(self.index.search(query, k, where=where), scales)
        found, best = search_kinds(self.index, query, k, scales=scales, column=self.column, where=where)
        self._say_once(scales.unmeasured(best))
        self._say_what_fits(scales, best)
        return found

    def _with_meaning(self, matches: "Sequence[SearchHit]", scales: "Scales") -> "list[Compared]":
        """Results in the order of their scores, each with what its score says."""
        from zoo.index import compared

        found = [compared(match, self._kind(match.attributes), scales) for match in matches]
        best: dict[str, float] = {}
        for match in found:
            best.setdefault(match.kind, match.score)
        self._say_what_fits(scales, best)
        return found

    def _compared(self, match: "Compared", scales: "Scales") -> "Compared":
        """A result that the words alone have found."""
        kind = self._kind(match.attributes)
        return replace(match, kind=kind, z=scales.z(match.score, kind), fits=scales.fits(match.score, kind))

    def _kind(self, attributes: Mapping[str, Any]) -> str:
        if self.column is not None:
            return str(attributes.get(self.column) or "")
        return self.manifest["source"]["kind"]

    def _scales(self, asked: str) -> "Scales":
        from zoo.scales import Scales

        made = self.manifest
        own = made.get("prompt") in (None, "") and made.get("prompt_name") in (None, self.model.role("document"))
        told = {"dim": made["dim"], "precision": made["precision"], "read_as": self._read_as}
        if not own:
            return Scales(asked, model=self.model.spec.name, why="the vectors were made with a prompt of their own")
        return Scales.of(self.model, asked, **told)

    def _say_what_fits(self, scales: "Scales", best: Mapping[str, float]) -> None:
        if self.quiet:
            return
        for kind, score in scales.nothing_fits(list(best.values()), list(best)).items():
            among = f" among {kind}" if len(best) > 1 else ""
            told = (
                f"the best{among} has {score:.3f}, and 95 % of right answers have over {scales.known[kind].nothing:.3f}"
            )
            print(f"nothing clearly fits: {told}", file=sys.stderr)

    def _say_once(self, message: str) -> None:
        if message and message not in self._told:
            self._told.add(message)
            print(message, file=sys.stderr)


def as_json(match: "SearchHit") -> dict[str, Any]:
    """A result for machines; ranks and what they make together only where lists were fused."""
    facts = dict(vars(match))
    if not facts.get("ranks"):
        facts.pop("ranks", None)
        facts.pop("fused", None)
    return facts
