"""Did it get better? What the figures before and after a run let one say, as a sentence and as a table."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from zoo.errors import ScoresMismatchError
from zoo.evaluation.graded import GradedScores, compare_graded
from zoo.evaluation.metrics import Difference, Interval
from zoo.evaluation.pairs import WAYS, PairScores, compare
from zoo.evaluation.reranked import MEASURES, RerankedScores, compare_reranking
from zoo.strangers import terminal

RETRIEVAL = "nDCG@10, mean of both ways"
GRADED = "Spearman of similarity and grade"
RERANKED = "MRR@10 of the right document"
FEWEST = 30  # queries: with fewer the intervals span half the scale
HOW = "hold some out: --holdout 0.1, --held-out FILE or a column split"
_MORE = f"hold out more: --holdout {FEWEST}, --held-out FILE or a column split"
_NAMES = dict(zip(MEASURES, ("MRR@10", "right one first"), strict=True))
_SHOWN = ("recall@1", "recall@5", "recall@10")

Kind = Literal["better", "worse", "no clear change", "too few", "not measured"]


class Scores(NamedTuple):
    """Everything that is measured on held-out pairs at one time; None for what they do not tell.

    Attributes:
        retrieval: of pairs that are right. graded: of pairs with grades. reranked: of right pairs among other documents, where a
            reranker is trained.
    """

    retrieval: PairScores | None = None
    graded: GradedScores | None = None
    reranked: RerankedScores | None = None


class Verdict(NamedTuple):
    """What may be said of a run.

    Attributes:
        kind: "better" or "worse" where the 95 % interval of the difference has one sign. measure: the figure that decides.
        before, after: its value, None where nothing was measured. difference: after less before. text: a sentence.
    """

    kind: Kind
    measure: str
    text: str
    before: float | None = None
    after: float | None = None
    difference: Difference | None = None


class Line(NamedTuple):
    """A row of the table: which way ("" where the measure says it), which measure, before and after, and the paired difference."""

    way: str
    measure: str
    before: Interval
    after: Interval
    difference: Difference


def deciding(scores: Scores, graded: bool) -> tuple[str, float] | None:
    """The one figure by which runs and their checkpoints are judged, and its name; None where nothing was measured.

    Args:
        graded: the run is judged by grades (`by_grade`), and where the held-out pairs have some these decide.
    """
    if graded and scores.graded is not None:
        return GRADED, scores.graded.spearman().value
    if scores.reranked is not None:
        return RERANKED, float(scores.reranked.values(MEASURES[0]).mean())
    if scores.retrieval is not None:
        return RETRIEVAL, sum(float(getattr(scores.retrieval, way).ndcg.mean()) for way in WAYS) / len(WAYS)
    return (GRADED, scores.graded.spearman().value) if scores.graded is not None else None


def judge(before: Scores, after: Scores, graded: bool) -> Verdict:
    """What may be said of a run from its figures before and after."""
    first, last = deciding(before, graded), deciding(after, graded)
    if first is None or last is None:
        return Verdict("not measured", RETRIEVAL, f"Nothing was measured: no pairs were held out; {HOW}.")
    if first[0] != last[0]:
        return Verdict("not measured", last[0], "Nothing can be said: before and after are not over the same pairs.")
    (measure, old), (_, new) = first, last
    try:
        change = _change(before, after, measure)
    except ScoresMismatchError as error:
        return Verdict(
            "not measured", measure, f"Nothing can be said: before and after differ in their pairs ({error})."
        )
    found = {"measure": measure, "before": old, "after": new, "difference": change}
    if (count := count_of(after, measure)) < FEWEST:
        few = f"{count} held-out queries are" if count > 1 else "one held-out query is"
        why = f"Nothing can be said: {few} too few ({FEWEST} at least); {_MORE}."
        return Verdict("too few", text=why, **found)
    points = f"{100 * change.value:+.1f} points, 95 % interval {100 * change.low:+.1f} to {100 * change.high:+.1f}"
    moved = f"{measure}{',' if ',' in measure else ''} {{}} from {100 * old:.1f} to {100 * new:.1f} ({points})"
    if change.low > 0:
        return Verdict("better", text=f"Better: {moved.format('rose')}.", **found)
    if change.high < 0:
        ways = "keep the model it began with, or lower lr"
        return Verdict("worse", text=f"Worse: {moved.format('fell')}; {ways}.", **found)
    return Verdict("no clear change", text=f"No clear change: {moved.format('went')}.", **found)


def lines(before: Scores, after: Scores) -> list[Line]:
    """The rows of the table: recall both ways, the mean that decides, the measures of reranking, the correlation of graded pairs.

    Intervals are of 95 %, by bootstrap over the queries, and of the differences by paired bootstrap. That of the mean of
    both ways is the mean of theirs, as wide as if they rose and fell together.
    """
    found: list[Line] = []
    if before.retrieval is not None and after.retrieval is not None:
        changes = compare(before.retrieval, after.retrieval)
        ends = [
            {way: getattr(scores, way).intervals() for way in WAYS} for scores in (before.retrieval, after.retrieval)
        ]
        for way in WAYS:
            name = way_name(way, after.retrieval)
            found += [
                Line(name, m, ends[0][way][m], ends[1][way][m], changes[way][m]) for m in _SHOWN if m in changes[way]
            ]
        both = [Interval(*_mean([by[way]["ndcg@10"] for way in WAYS])) for by in ends]
        found.append(Line("", "nDCG@10, both ways", *both, _change(before, after, RETRIEVAL)))
    return found + reranked_lines(before, after) + graded_lines(before, after)


def reranked_lines(before: Scores, after: Scores) -> list[Line]:
    """The rows of right documents among others, where there are some."""
    if before.reranked is None or after.reranked is None:
        return []
    ends = [scores.reranked.intervals() for scores in (before, after)]
    changes = compare_reranking(before.reranked, after.reranked)
    return [Line("", _NAMES[m], ends[0][m], ends[1][m], changes[m]) for m in MEASURES]


def graded_lines(before: Scores, after: Scores) -> list[Line]:
    """The row of graded pairs, where there are some."""
    if before.graded is None or after.graded is None:
        return []
    change = _change(before, after, GRADED)
    return [Line("", "Spearman, by grade", before.graded.spearman(), after.graded.spearman(), change)]


def show(found: Sequence[Line], verdict: Verdict, kept: str, *, counts: str = "") -> None:
    """Prints the table and what may be said; in red where a run made it worse."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    console = terminal.console()
    if found:
        table = Table(
            title=f"held out: {counts}", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False
        )
        for head in ("", "before", "after", "difference"):
            table.add_column(head, justify="right" if head else "left", no_wrap=True)
        way = ""
        for line in found:
            if line.way not in (way, ""):
                table.add_row(Text(line.way))
            colour = "green" if line.difference.low > 0 else "red" if line.difference.high < 0 else ""
            cells = [Text(f"  {line.measure}" if line.way else line.measure), *(Text(_shown(one)) for one in line[2:4])]
            table.add_row(*cells, Text(_shown(line.difference), style=colour))
            way = line.way
        console.print(table)
        console.print("percent; in brackets 95 % intervals (bootstrap by query, the differences paired)", style="dim")
    if kept:
        console.print(Text(kept), soft_wrap=True)
    styles = {"better": "green", "worse": "bold red", "too few": "yellow", "not measured": "yellow"}
    console.print(Text(verdict.text, style=styles.get(verdict.kind, "")), soft_wrap=True)


def count_of(scores: Scores, measure: str) -> int:
    """How many queries a figure is the mean of, one way at least; pairs of a correlation."""
    if measure == GRADED:
        return len(scores.graded) if scores.graded is not None else 0
    if measure == RERANKED:
        return len(scores.reranked) if scores.reranked is not None else 0
    return min(len(getattr(scores.retrieval, way)) for way in WAYS) if scores.retrieval is not None else 0


def counted(scores: Scores) -> str:
    """How much was held out, in a few words."""
    pairs = scores.retrieval.pairs if scores.retrieval is not None else 0
    ranked = [f"{pairs:,} pair{'s' if pairs > 1 else ''}"] if pairs else []
    if scores.reranked is not None:
        each = round(float(scores.reranked.candidates.mean()), 1)
        ranked.append(f"{len(scores.reranked):,} queries with {each:g} candidates each")
    return ", ".join([*ranked, *([f"{len(scores.graded):,} graded pairs"] if scores.graded is not None else [])])


def way_name(way: str, scores: PairScores | None) -> str:
    """ "image → text"; query and target where both are of one modality."""
    sides = scores.sides if scores is not None else ("", "")
    left, right = sides if sides[0] != sides[1] else ("query", "target")
    return f"{left} → {right}" if way == "forward" else f"{right} → {left}"


def _change(before: Scores, after: Scores, measure: str) -> Difference:
    if measure == GRADED:
        return compare_graded(before.graded, after.graded)  # type: ignore[arg-type]
    if measure == RERANKED:
        return compare_reranking(before.reranked, after.reranked)[MEASURES[0]]  # type: ignore[arg-type]
    changes = compare(before.retrieval, after.retrieval)  # type: ignore[arg-type]
    both = [changes[way]["ndcg@10"] for way in WAYS]
    return Difference(*_mean(both)[:3], share=max(one.share for one in both))


def _mean(rows: Sequence[Sequence[float]]) -> list[float]:
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def _shown(value: Interval | Difference) -> str:
    """Short enough for five columns of a terminal."""
    if isinstance(value, Difference):
        return f"{100 * value.value:+.1f} ({100 * value.low:+.0f} to {100 * value.high:+.0f})"
    dash = "–" if value.low >= 0 else " to "
    return f"{100 * value.value:.1f} ({100 * value.low:.0f}{dash}{100 * value.high:.0f})"
