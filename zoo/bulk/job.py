"""A bulk job while it runs: collects results, closes shards, keeps the books."""

import contextlib
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo._version import __version__
from zoo.bulk.earlier import Left, Target
from zoo.bulk.feed import Outcome
from zoo.bulk.known import id_key
from zoo.bulk.limit import Limit
from zoo.bulk.plan import Plan
from zoo.bulk.sources import Source
from zoo.errors import DiskFullError, FolderError, TooManyBadItemsError
from zoo.shards.facts import DELETED, FORMAT, Bad
from zoo.shards.folder import QUARANTINE, Draft, Row, Shard, ShardFolder

if TYPE_CHECKING:
    import numpy as np

_NAMED = 20  # silent recordings
_SHARD_LETTERS = 2**26  # of attributes that wait for their shard
Compress = Callable[["np.ndarray"], "np.ndarray"]


@dataclass
class BulkReport:
    """What is in the folder after a run, and what the run has done: `added` to `kept` are the vectors in the folder.

    Attributes:
        inputs: inputs of the source, bad ones included. vectors: in the folder. bad: inputs without one.
        added, changed: computed by this run, of new inputs and in place of those of inputs that have changed.
        moved: of inputs that lay elsewhere, under another name or with other columns beside them; not computed again.
        unchanged: those that were there. kept: of inputs that have vanished from the source.
        removed: vectors that are not there any more, and not replaced by those of `changed`.
        deleted: inputs without a vector because `zoo index delete` has deleted it.
        outside: files of the user's own table that lie outside of its folder.
        reasons: how many bad inputs for each reason code.
        kinds: how many of the vectors in the folder for each kind of file, where they are of several.
        silent: vectors computed by this run of recordings in which there is nothing, and which say nothing therefore;
            silences: the first of them.
        ignored: files or lines that were never inputs, by kind.
    """

    folder: Path
    inputs: int = 0
    vectors: int = 0
    bad: int = 0
    added: int = 0
    changed: int = 0
    moved: int = 0
    unchanged: int = 0
    kept: int = 0
    removed: int = 0
    deleted: int = 0
    outside: int = 0
    seconds: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)
    ignored: dict[str, int] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)
    silent: int = 0
    silences: list[str] = field(default_factory=list)

    @property
    def new(self) -> int:
        """Vectors computed by this run."""
        return self.added + self.changed

    def add(self, shard: Shard) -> None:
        """Counts a finished shard."""
        self.vectors += shard.rows
        if shard.kept:
            self.kept += shard.rows
            return
        self.inputs += shard.stop - shard.start
        reasons = Counter(bad.reason for bad in shard.bad)
        self.deleted += reasons.pop(DELETED, 0)
        self.bad += reasons.total()
        self.reasons += reasons

    def settle(self, left: Left) -> None:
        """Counts what the source did not ask for; the last count of all."""
        self.kept += left.kept
        self.vectors += left.kept
        self.changed, self.removed = left.changed, left.removed
        self.added -= left.changed
        self.unchanged = self.vectors - self.kept - self.new - self.moved


@dataclass
class Job:
    """Takes outcomes in the order of the source and writes them as shards.

    Attributes:
        total: inputs of the source, bad ones included.
        facts: written into every shard: `fingerprint` and `precision`.
        about: written into the manifest besides.
        compress: a float32 vector to the stored form.
        plan: what exists already, and which set is written. update: whether vectors of vanished inputs go.
    """

    folder: ShardFolder
    source: Source
    total: int
    facts: dict[str, Any]
    about: dict[str, Any]
    dim: int
    compress: Compress
    limit: Limit
    plan: Plan
    update: bool
    shard_size: int
    shard_seconds: float

    def __post_init__(self) -> None:
        self.report = BulkReport(self.folder.path, ignored=dict(self.source.ignored))
        for shard in self.plan.shards:
            self.report.add(shard)
        self._files = len(self.plan.shards)
        self._draft: Draft | None = None
        self._made = array("Q")  # keys of the ids whose vectors were computed
        self._closed_at, self._letters = time.monotonic(), 0
        self._before = self.folder.manifest()
        # A kill may have come between a shard and its lines in the quarantine file.
        self.folder.write_quarantine([bad for shard in self.plan.shards for bad in shard.bad])
        self._write_progress()

    def check(self) -> None:
        """Raises TooManyBadItemsError if earlier runs have met too many bad inputs already."""
        if self.limit.exceeded(self.report.bad, self.total):
            raise self._too_many()

    @property
    def done(self) -> int:
        """Inputs that are in a shard or waiting to be written."""
        return self.report.inputs + (len(self._draft) if self._draft else 0)

    @property
    def bad(self) -> int:
        """Bad inputs so far."""
        return self.report.bad + (self._draft.bad_count if self._draft else 0)

    def take(self, outcome: Outcome) -> None:
        """Adds one input; closes the shard when it is full or old enough.

        Raises:
            TooManyBadItemsError: after saving, if this input was one too many.
        """
        # A shard is one stretch of the source, so that two numbers say which inputs are in it.
        if self._draft is not None and self._draft.stop != outcome.position:
            self.flush()  # the next inputs are in a shard already
        if self._draft is None:
            self._draft = Draft(outcome.position)
        self._add(self._draft, outcome)
        if outcome.error is not None and self.limit.exceeded(self.bad, self.total):
            self.flush()
            raise self._too_many()
        waited = time.monotonic() - self._closed_at
        self._letters += sum(len(value) for value in outcome.record.attributes if isinstance(value, str))
        if len(self._draft) >= self.shard_size or waited > self.shard_seconds or self._letters > _SHARD_LETTERS:
            self.flush()

    def _add(self, draft: Draft, outcome: Outcome) -> None:
        record, error = outcome.record, outcome.error
        if error is not None:
            # The bare message, without "item 17: ", which counts from the start of this run.
            message = Exception.__str__(error)
            became: Row | Bad = Bad(outcome.position, record.id, record.reference, error.code, message)
        else:
            computed = outcome.moved is None
            if outcome.silent:
                self.report.silent += 1
                self.report.silences += [record.id] if len(self.report.silences) < _NAMED else []
            vector = self.compress(outcome.vector) if computed else outcome.vector
            became = Row(record.id, record.reference, record.attributes, vector)
            self.report.added += computed
            self.report.moved += bool(outcome.moved)
            if computed and self.plan.building:
                self._made.append(id_key(record.id))
        draft.take(record.stamp, became, outcome.content)

    def flush(self) -> None:
        """Writes what has been collected as a shard, however little it is."""
        draft, self._draft = self._draft, None
        if draft:
            shard = self.folder.write(draft, self.facts, self.source.schema, self.dim, self.plan.generation)
            self.folder.append_quarantine(shard.bad)
            self.report.add(shard)
            self._files += 1
            self._write_progress()
        self._closed_at, self._letters = time.monotonic(), 0

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """Whatever stops the job, even Ctrl-C, the finished inputs are written first."""
        try:
            yield
        except BaseException as error:
            if not isinstance(error, DiskFullError | FolderError):
                with contextlib.suppress(DiskFullError, FolderError):
                    self.flush()
            raise
        self.flush()

    def finish(self) -> None:
        """Marks the set as finished, and puts it in the place of the one before.

        Raises:
            TooManyBadItemsError: by the share of all inputs, or because all were bad; nothing is replaced then.
        """
        if self.limit.exceeded(self.report.bad, self.report.inputs) or not self.report.vectors:
            raise self._too_many()
        number, left = self.plan.generation, Left()
        if self.plan.building and self.plan.earlier is not None:
            target = Target(number, self.source.schema, self.facts)
            placed = [shard for shard in self.folder.of(number) if not shard.kept]
            left = self.plan.earlier.keep(self.folder, placed, target, self._made, self.update)
        self.report.settle(left)
        shards = self.folder.of(number)
        if self.source.kinds is not None:
            for shard in shards:
                self.report.kinds.update(shard.table([self.source.kinds]).column(0).to_pylist())
        self._files = len(shards)
        self._write_manifest(finished=True)  # from here on this is the set that is searched
        # Gaps filled late were appended late: the final file is in the order of the inputs.
        self.folder.write_quarantine([bad for shard in shards for bad in shard.bad])
        self.folder.tidy(number)

    def _too_many(self) -> TooManyBadItemsError:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.report.reasons.most_common())
        bad = f"{self.report.bad:,} of the first {self.report.inputs:,} inputs cannot be embedded ({reasons})"
        allowed = "" if self.report.vectors == 0 and self.limit == Limit() else f"; allowed are {self.limit}"
        return TooManyBadItemsError(
            f"{bad}{allowed}. {self.folder.path / QUARANTINE} lists them. Repair them, or allow more with --max-bad; "
            f"the {self.report.vectors:,} vectors made so far are kept"
        )

    def _write_progress(self) -> None:
        """How far the run is; while the next set is written, the manifest stays that of the set that is searched."""
        if not self.plan.building:
            self._write_manifest(finished=False)
        elif self._before is not None:
            done = {"generation": self.plan.generation, "inputs": self.report.inputs, "total": self.total}
            self.folder.write_manifest({**self._before, "building": done})

    def _write_manifest(self, *, finished: bool) -> None:
        report = self.report
        manifest = {
            "format": FORMAT,
            "zoo": __version__,
            **self.about,
            **self.facts,
            "dim": self.dim,
            "source": self.source.described(),
            "attributes": {field.name: str(field.type) for field in self.source.schema},
            "counts": {
                "inputs": report.inputs,
                "total": self.total,
                "vectors": report.vectors,
                "kept": report.kept,
                "bad": report.bad,
                **({"deleted": report.deleted} if report.deleted else {}),
                "reasons": dict(report.reasons),
                "ignored": report.ignored,
                **({"kinds": dict(report.kinds)} if report.kinds else {}),
            },
            "shards": self._files,
            "generation": self.plan.generation,
            "finished": finished,
            "created": (self._before or {}).get("created", _now()),
            "updated": _now(),
        }
        self.folder.write_manifest(manifest)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
