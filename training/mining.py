"""Hard negatives: what a teacher finds near a query and is not its answer, without those that may be answers after all."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from zoo.embedder import Embedder
from zoo.errors import InputError
from zoo.inputs.hashing import item_key
from zoo.inputs.item import Item
from zoo.spec import need_one_vector
from zoo.tables.names import MINED
from zoo.tables.pairs import Pair, PairTable

from .corpus import CORPUS, Items, PairCorpus, row_of
from .errors import MiningError
from .rows import check_limit, set_aside
from .vector_cache import VectorCache, fill_cache

_BLOCK_ENTRIES = 2**22  # similarities in memory at once: 16 MB
_BINS = 4096  # of the similarities of all cross pairs, from -1 to 1
_SPREAD = 50  # best candidates whose spread sets an adaptive margin
_RERANKED = 4096  # pairs handed to a reranker at once


class Reranker(Protocol):
    """Reads a query and a candidate together; any scale, higher is better."""

    def score(self, pairs: list[tuple[Item, Item]]) -> Tensor:
        """Scores `(n,)` of (query, candidate)."""
        ...


class CrossEncoderReranker:
    """A sentence-transformers `CrossEncoder`, which reads texts, as a `Reranker`."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def score(self, pairs: list[tuple[Item, Item]]) -> Tensor:
        texts = [(query.text, candidate.text) for query, candidate in pairs]
        return self.model.predict(texts, convert_to_tensor=True, show_progress_bar=False).float().cpu()


@dataclass(frozen=True)
class Rules:
    """Which candidates become negatives. A score s is the teacher's similarity, or the reranker's where there is one.

    Attributes:
        negatives: how many a pair gets.
        ranks: places of the teacher's ranking that are looked at: (0, 100) is the best hundred. The query's own answers
            hold no place. KaLM takes (50, 100), QZhou (10, 30).
        margin: keep n if s(q, n) < s(q, p) - margin.
        relative_margin: keep n if s(q, n) < s(q, p) - relative_margin · |s(q, p)|; 0.05 is NV-Retriever's 95 % rule
            (Moreira et al., 2024).
        adaptive: (low, high) in place of `relative_margin`: low + (high - low) · spread of the query's 50 best scores
            relative to s(q, p), 0 to 1 (after LG-ANNA): where the teacher tells candidates apart, it may be stricter.
        max_score, min_score: keep n if s(q, n) is within (U-MARVEL: at most 0.7).
        threshold: "f1" drops what scores as an answer does: at or above the threshold with the best F1 between answers
            and all cross pairs of a data set (SAIL-Embedding; with a reranker between answers and candidates).
        keep_positive_rank: drop pairs whose positive the teacher ranks lower (KaLM: 50).
        sampling: the nearest of what is left, or any of it.
        too_few: what happens to a pair that gets fewer: "keep" it with those, "drop" it, or "repeat" its negatives
            (U-MARVEL).
        same_kind: only candidates of the positive's modalities: a caption is no negative of an image.
        seed: of the sampling.
    """

    negatives: int = 5
    ranks: tuple[int, int] = (0, 100)
    margin: float | None = None
    relative_margin: float | None = 0.05
    adaptive: tuple[float, float] | None = None
    max_score: float | None = None
    min_score: float | None = None
    threshold: Literal["f1"] | None = None
    keep_positive_rank: int | None = None
    sampling: Literal["top", "random"] = "top"
    too_few: Literal["keep", "drop", "repeat"] = "keep"
    same_kind: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        first, last = self.ranks
        if self.negatives < 1:
            raise MiningError(f"negatives must be at least 1, not {self.negatives}")
        if first < 0 or last - first < self.negatives:
            raise MiningError(f"ranks {first} to {last} hold no {self.negatives} negatives; widen them")
        if self.threshold not in (None, "f1"):
            raise MiningError(f"threshold must be 'f1' or None, not {self.threshold!r}; a number is max_score")
        if self.adaptive is not None and not 0 <= self.adaptive[0] <= self.adaptive[1]:
            raise MiningError(f"adaptive must be (low, high) with 0 <= low <= high, not {self.adaptive}")
        for name, words in (("sampling", ("top", "random")), ("too_few", ("keep", "drop", "repeat"))):
            if getattr(self, name) not in words:
                raise MiningError(f"{name} must be {' or '.join(words)}, not {getattr(self, name)!r}")


@dataclass
class MiningReport:
    """What mining did.

    Attributes:
        pairs, kept: pairs that came, and that are left. documents: distinct candidates of the corpus.
        candidates: (query, candidate) couples within the ranks. removed: of these, by the filter that met them first.
        positive_mean, negative_mean: mean score of the positives, and of the chosen negatives.
        too_few: pairs that got fewer negatives than asked for. without: pairs that are left and got none.
        far_positives: dropped by `keep_positive_rank`.
        thresholds: best F1 threshold by data set.
        bad: (place, reason) of rows that are no pairs and of items that cannot be embedded; pairs whose query or positive
            is among them are dropped.
    """

    pairs: int = 0
    kept: int = 0
    documents: int = 0
    candidates: int = 0
    removed: dict[str, int] = field(default_factory=dict)
    positive_mean: float = float("nan")
    negative_mean: float = float("nan")
    too_few: int = 0
    without: int = 0
    far_positives: int = 0
    thresholds: dict[str, float] = field(default_factory=dict)
    bad: list[tuple[str, str]] = field(default_factory=list)


class MinedPairs:
    """The pairs with their mined negatives and the scores of both: a `PairTable`, read when asked for.

    Attributes:
        rows: `(n,)` row of the source of every pair. report: what mining did. Negatives are given the instruction of the
            pair's own positive, as tables have one for all targets of a row.
        scores_column: of the scores in a written file: they have done their work, so that a loss may leave them unread.
    """

    scores_column = MINED

    def __init__(
        self, pair_corpus: "PairCorpus", rows: Tensor, chosen: Tensor, scores: Tensor, report: MiningReport
    ) -> None:
        self._pair_corpus, self._chosen, self._scores, self._own = pair_corpus, chosen, scores, rows.numpy()
        self.rows, self.report = pair_corpus.pairs.rows[self._own], report
        self.datasets, self.names = pair_corpus.datasets.numpy()[self._own], pair_corpus.names

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Pair:
        found = self._chosen[row]
        pair = self._pair_corpus.pairs[int(self._own[row])]
        words = pair.positive.instruction
        documents = [self._pair_corpus.document(int(i)) for i in found[found >= 0]]
        negatives = tuple(d if d.instruction == words else replace(d, instruction=words) for d in documents)
        scores = self._scores[row][: 1 + len(negatives)].tolist()
        return replace(pair, negatives=negatives, teacher_scores=tuple(scores))

    def __iter__(self) -> Iterator[Pair]:
        return (self[row] for row in range(len(self)))


def mine(
    pairs: Sequence[Pair] | PairTable,
    teacher: Embedder,
    *,
    corpus: Sequence[Item] = (),
    reranker: Reranker | str | Any = None,
    cache: Path | None = None,
    progress: bool | None = None,
    max_bad: float | str | None = 0.01,
    **rules: Any,
) -> MinedPairs:
    """Gives every pair hard negatives: what the teacher finds near its query, false negatives filtered out.

    Candidates are the positives and negatives of all pairs, and `corpus`; equal ones count once. Never a negative: what
    is right (`positive`, `also`) for a pair of the same group or with the same query, and the query itself. Negatives
    that a pair already has are candidates like all others, and are replaced.

    The search is exact. Memory grows with the vectors and with pairs × ranks, never with pairs × candidates.

    Args:
        corpus: further candidates. reranker: a `Reranker`, what `zoo.load_reranker` opens, or a sentence-transformers
            CrossEncoder: judges what the teacher ranks; its scores decide and become the pairs' `teacher_scores`.
        cache: folder where vectors are kept, so that an interrupted or repeated run need not embed again.
        progress: bars; by default on a terminal when it takes over two seconds.
        max_bad: inputs that may be broken, empty, missing or unreadable, as `Recipe.max_bad`; they are left out.
        rules: the fields of `Rules`.

    Raises:
        MiningError: no pairs, nothing usable in them, or too small a corpus. TooManyBadItemsError: more are bad.
    """
    need_one_vector(teacher.spec, "mining")
    chosen_by = Rules(**rules)
    if teacher.spec.similarity == "dot" and chosen_by.threshold is not None and reranker is None:
        raise MiningError(
            f"threshold={chosen_by.threshold!r} counts cosines, and {teacher.spec.name} compares by dot product; take "
            "max_score, relative_margin or a reranker"
        )
    if len(pairs) == 0:
        raise MiningError("there are no pairs to mine for")
    if isinstance(reranker, str):
        from zoo.reranking import load_reranker

        reranker = load_reranker(reranker, device=teacher.device)
    pairs = set_aside(pairs, max_bad, progress=progress)
    pair_corpus = PairCorpus(pairs, corpus)
    report = MiningReport(pairs=pairs.inputs, documents=len(pair_corpus.documents), bad=list(pairs.bad.items()))
    queries = _embed(pair_corpus.queries, teacher, "query", pair_corpus, report, cache, progress)
    documents = _embed(pair_corpus.documents, teacher, "document", pair_corpus, report, cache, progress)
    check_limit(
        {row_of(place): why for place, why in report.bad if not place.startswith(CORPUS)}, max_bad, pairs.inputs
    )
    good = queries.isfinite().all(1)[pair_corpus.query_of] & documents.isfinite().all(1)[pair_corpus.positive_of]
    rows = good.nonzero()[:, 0]
    if len(rows) == 0:
        raise MiningError(f"none of the {pairs.inputs} pairs can be embedded; the first: {': '.join(report.bad[0])}")
    if len(pair_corpus.documents) <= chosen_by.ranks[0] + chosen_by.negatives:
        raise MiningError(
            f"{len(pair_corpus.documents)} distinct candidates are too few for {chosen_by.negatives} negatives a pair "
            f"from rank {chosen_by.ranks[0]} on; ask for fewer or nearer ones, or pass corpus="
        )
    found = _search(rows, queries, documents, pair_corpus, chosen_by, teacher.device, progress)
    if chosen_by.keep_positive_rank is not None:
        near = found.rank <= chosen_by.keep_positive_rank
        report.far_positives = int((~near).sum())
        found = found.at(near)
    if reranker is not None:
        found = _rerank(found, pair_corpus, reranker if hasattr(reranker, "score") else CrossEncoderReranker(reranker))
    return _choose(found, pair_corpus, chosen_by, report)


# ------------------------------------------------------------------------------------------------ what is near


def _embed(
    places: list[tuple[int, int]],
    teacher: Embedder,
    role: Literal["query", "document"],
    pair_corpus: PairCorpus,
    report: MiningReport,
    cache: Path | None,
    progress: bool | None,
) -> Tensor:
    """Vectors `(n, dim)`, NaN where an item cannot be embedded."""
    items, asked = Items(places, pair_corpus), teacher.for_role(role)
    vectors = torch.full((len(items), teacher.spec.dim), torch.nan)
    errors: dict[int, InputError] = {}
    if cache is not None:
        store = VectorCache.for_towers(cache, teacher)
        errors = fill_cache(teacher, items, store, progress=progress, **asked)
        prefix = teacher.prompt_text(**asked)
        vectors, missing = store.get([item_key(item, prefix) for item in items])
        vectors[torch.from_numpy(missing)] = torch.nan
    else:
        for number, vector, error in teacher.encode_stream(items, progress=progress, **asked):
            if vector is not None:
                vectors[number] = vector
            else:
                errors[number] = error
    for number, error in sorted(errors.items()):
        error.index = None  # the number among the distinct items tells nobody anything
        report.bad.append((pair_corpus.where(places[number]), str(error)))
    return vectors


@dataclass
class _Found:
    """The window of the ranking of every pair, best first.

    Attributes:
        rows: `(n,)` pairs. positive: `(n,)` scores of their positives. rank: `(n,)` place of the positive, from 1;
            0 where nobody asks.
        spread: `(n,)` of the best scores relative to the positive's, 0 to 1.
        documents, scores: `(n, window)`; -inf where there is no candidate.
        cross: `(data sets, bins)` how many cross pairs have which similarity; None where scores are a reranker's.
    """

    rows: Tensor
    positive: Tensor
    rank: Tensor
    spread: Tensor
    documents: Tensor
    scores: Tensor
    cross: Tensor | None

    @classmethod
    def empty(cls, rows: Tensor, window: int, datasets: int) -> "_Found":
        """Room for the results of these rows."""
        n = len(rows)
        documents, scores = torch.empty(n, window, dtype=torch.long), torch.empty(n, window)
        cross = torch.zeros(datasets, _BINS, dtype=torch.float64)
        return cls(rows, torch.empty(n), torch.zeros(n, dtype=torch.long), torch.empty(n), documents, scores, cross)

    def at(self, part: Tensor) -> "_Found":
        arrays = (self.rows, self.positive, self.rank, self.spread, self.documents, self.scores)
        return _Found(*(array[part] for array in arrays), self.cross)


@torch.no_grad()
def _search(
    rows: Tensor,
    queries: Tensor,
    documents: Tensor,
    pair_corpus: PairCorpus,
    rules: Rules,
    device: torch.device,
    progress: bool | None,
) -> _Found:
    """The candidates of every pair within the ranks, exactly, some queries against all documents at a time."""
    from tqdm import tqdm

    bad = ~documents.isfinite().all(1)
    kinds = pair_corpus.document_kinds if rules.same_kind else torch.zeros_like(pair_corpus.document_kinds)
    kinds = kinds.masked_fill(bad, -1).to(device)
    mixed = bool((kinds != kinds[0]).any())
    columns = documents.masked_fill(bad[:, None], 0.0).to(device)
    first, last = (min(rank, len(columns)) for rank in rules.ranks)
    # The spread is of the 50 best, even where the ranks that are mined begin further down.
    depth = min(len(columns), max(last, _SPREAD if rules.adaptive else 0))
    found = _Found.empty(rows, last - first, len(pair_corpus.names) if rules.threshold else 0)
    step = min(len(rows), max(1, _BLOCK_ENTRIES // len(columns)))
    buffer = torch.empty(step, len(columns), device=device)  # one for all blocks: fresh ones would scatter the heap
    disable = None if progress is None else not progress
    with tqdm(total=len(rows), desc="search", unit=" queries", disable=disable, delay=0 if progress else 2) as bar:
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            positives = pair_corpus.positive_of[rows[part]].to(device)
            mine = queries[pair_corpus.query_of[rows[part]]].to(device)
            scores = torch.mm(mine, columns.T, out=buffer[: len(mine)])
            positive = scores.gather(1, positives[:, None])
            if mixed:
                scores.masked_fill_(kinds[None] != kinds[positives][:, None], -torch.inf)
            lines, own = pair_corpus.own(rows[part])
            # After `positive` was taken: what is right for a query is no candidate, and holds no rank.
            scores[lines.to(device), own.to(device)] = -torch.inf
            if rules.keep_positive_rank is not None:
                found.rank[part] = 1 + (scores >= positive).count_nonzero(dim=1).cpu()  # ties count against it
            if rules.threshold is not None:
                _count(scores, pair_corpus.datasets[rows[part]], found.cross)
            best = scores.topk(depth, dim=1)
            found.positive[part] = positive[:, 0].cpu()
            found.spread[part] = _spread(best.values[:, :_SPREAD], positive).cpu()
            found.documents[part] = best.indices[:, first:last].cpu()
            found.scores[part] = best.values[:, first:last].cpu()
            bar.update(len(mine))
    return found


def _count(scores: Tensor, datasets: Tensor, cross: Tensor) -> None:
    """Adds the similarities of some queries to the histograms of their data sets; histc leaves out -inf."""
    for number in datasets.unique().tolist():
        some = scores if len(cross) == 1 else scores[(datasets == number).to(scores.device)]
        cross[number] += some.histc(_BINS, -1, 1).cpu().double()


def _spread(scores: Tensor, positive: Tensor) -> Tensor:
    """Standard deviation `(n,)` of the best scores relative to the positive's, 0 to 1."""
    there = scores > -torch.inf
    count = there.sum(1).clamp(min=1)
    mean = scores.where(there, 0.0).sum(1) / count
    variance = (scores - mean[:, None]).square().where(there, 0.0).sum(1) / count
    return (variance.sqrt() / positive[:, 0].abs().clamp(min=1e-6)).clamp(0, 1)


def _rerank(found: _Found, pair_corpus: PairCorpus, reranker: Reranker) -> _Found:
    """The same candidates with the reranker's scores, best first."""
    positive, scores = torch.empty_like(found.positive), found.scores.clone()
    step = max(1, _RERANKED // (1 + scores.shape[1]))
    for start in range(0, len(scores), step):
        lines = range(start, min(start + step, len(scores)))
        asked, places = [], []
        for line in lines:
            row = int(found.rows[line])
            query = pair_corpus.pairs[row].query
            asked.append((query, pair_corpus.document(int(pair_corpus.positive_of[row]))))
            places.append((line, -1))
            for column in (scores[line] > -torch.inf).nonzero()[:, 0].tolist():
                asked.append((query, pair_corpus.document(int(found.documents[line, column]))))
                places.append((line, column))
        for (line, column), score in zip(places, reranker.score(asked).tolist(), strict=True):
            if column < 0:
                positive[line] = score
            else:
                scores[line, column] = score
    scores, order = scores.sort(dim=1, descending=True)
    return replace(found, positive=positive, scores=scores, documents=found.documents.gather(1, order), cross=None)


# ------------------------------------------------------------------------------------------------ what is kept


def f1_threshold(positives: Tensor, others: Tensor, counts: Tensor | None = None) -> float:
    """The threshold whose rule "a score at or above it is a positive" has the best F1 (SAIL-Embedding, section 3).

    Args:
        positives: `(n,)` scores. others: `(m,)` scores of cross pairs. counts: `(m,)` how often each of them occurs.
    """
    values = torch.cat([positives, others]).double()
    right = torch.cat([torch.ones(len(positives)), torch.zeros(len(others))]).double()
    wrong = torch.cat([torch.zeros(len(positives)), torch.ones(len(others)) if counts is None else counts]).double()
    values, order = values.sort(descending=True)
    # True and false positives if the cut lies after each score: one pass over all thresholds.
    hits, misses = right[order].cumsum(0), wrong[order].cumsum(0)
    f1 = 2 * hits / (hits + misses + len(positives))  # 2 TP / (2 TP + FP + FN)
    # A threshold takes all equal scores or none, so only the last of them is a place to cut.
    last_of_equals = torch.cat([values[1:] != values[:-1], values.new_ones(1).bool()])
    return float(values[f1.where(last_of_equals, -1.0).argmax()])


def _thresholds(found: _Found, pair_corpus: PairCorpus, report: MiningReport) -> Tensor:
    """`(n, 1)`: the best F1 threshold of each pair's data set."""
    numbers, names = pair_corpus.datasets[found.rows], pair_corpus.names
    limits = torch.empty(len(numbers), 1)
    edges = torch.linspace(-1, 1, _BINS + 1)[:-1]
    for number in numbers.unique().tolist():
        mine = numbers == number
        if found.cross is None:
            scores = found.scores[mine]
            limit = f1_threshold(found.positive[mine], scores[scores > -torch.inf])
        else:
            limit = f1_threshold(found.positive[mine], edges, found.cross[number])
        report.thresholds[names[number]] = limits[mine] = limit
    return limits


def _choose(found: _Found, pair_corpus: PairCorpus, rules: Rules, report: MiningReport) -> MinedPairs:
    """Applies the filters one after the other, and picks of what is left."""
    scores, positive = found.scores.clone(), found.positive[:, None]
    filters: dict[str, Tensor] = {}
    if rules.margin is not None:
        # Each is what goes: at or above the positive less the margin, it is as likely an answer that nobody marked.
        filters["margin"] = scores >= positive - rules.margin
    if rules.adaptive is not None:
        low, high = rules.adaptive
        share = low + (high - low) * found.spread[:, None]
        filters["adaptive margin"] = scores >= positive - share * positive.abs()
    elif rules.relative_margin is not None:
        # |s(q, p)|, since a similarity may be negative and a margin of it must not turn round.
        # NV-Retriever's 95 % is 0.05.
        filters["relative margin"] = scores >= positive - rules.relative_margin * positive.abs()
    if rules.max_score is not None:
        filters["max score"] = scores > rules.max_score
    if rules.min_score is not None:
        filters["min score"] = scores < rules.min_score
    if rules.threshold is not None:
        filters["f1 threshold"] = scores >= _thresholds(found, pair_corpus, report)
    report.candidates = int((scores > -torch.inf).sum())
    for name, gone in filters.items():
        report.removed[name] = int((gone & (scores > -torch.inf)).sum())
        scores.masked_fill_(gone, -torch.inf)
    count = min(rules.negatives, scores.shape[1])
    rng = torch.rand(scores.shape, generator=torch.Generator().manual_seed(rules.seed))
    # Random numbers as scores: the best of them are a sample without replacement, and what is filtered
    # out (-inf) never comes.
    order = scores if rules.sampling == "top" else rng.masked_fill(scores == -torch.inf, -torch.inf)
    picked = order.topk(count, dim=1).indices
    best, order = scores.gather(1, picked).sort(dim=1, descending=True)
    chosen = found.documents.gather(1, picked.gather(1, order)).masked_fill(best == -torch.inf, -1)
    short = (chosen >= 0).sum(1) < rules.negatives
    report.too_few = int(short.sum())
    rows, scores = found.rows, torch.cat([positive, best], 1)
    report.positive_mean, report.negative_mean = float(positive.mean()), float(best[best > -torch.inf].mean())
    if rules.too_few == "repeat":
        chosen, scores = _repeat(chosen, scores, rules.negatives)
        short = (chosen >= 0).sum(1) < rules.negatives  # of none at all, nothing can be repeated
    if rules.too_few != "keep":
        rows, chosen, scores = rows[~short], chosen[~short], scores[~short]
    report.kept, report.without = len(rows), int((chosen < 0).all(1).sum())
    return MinedPairs(pair_corpus, rows, chosen, scores, report)


def _repeat(chosen: Tensor, scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The negatives of each row over again until there are `count`."""
    there = (chosen >= 0).sum(1, keepdim=True).clamp(min=1)
    place = torch.arange(count)[None] % there
    return chosen.gather(1, place), torch.cat([scores[:, :1], scores[:, 1:].gather(1, place)], 1)
