"""A bulk job while it runs: collects results, closes shards, keeps the books."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo._version import __version__
from zoo.bulk.errors import DiskFullError
from zoo.bulk.feed import Outcome
from zoo.bulk.limit import Limit
from zoo.bulk.shards import FORMAT, QUARANTINE, Bad, Draft, Row, Shard, ShardFolder
from zoo.bulk.sources import Source
from zoo.errors import TooManyBadItemsError

if TYPE_CHECKING:
    import numpy as np

Compress = Callable[["np.ndarray"], "np.ndarray"]


@dataclass
class BulkReport:
    """What is in the folder after a run.

    Attributes:
        inputs: inputs of the source, `vectors + bad`.
        new: vectors computed by this run. reused: vectors copied from before an update.
        reasons: how many bad inputs for each reason code.
        ignored: files or lines that were never inputs, by kind.
    """

    folder: Path
    inputs: int = 0
    vectors: int = 0
    bad: int = 0
    new: int = 0
    reused: int = 0
    seconds: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)
    ignored: dict[str, int] = field(default_factory=dict)

    def add(self, shard: Shard) -> None:
        """Counts a finished shard."""
        self.inputs += shard.stop - shard.start
        self.vectors += shard.rows
        self.bad += len(shard.bad)
        self.reasons.update(bad.reason for bad in shard.bad)


@dataclass
class Job:
    """Takes outcomes in the order of the source and writes them as shards.

    Attributes:
        total: inputs of the source, bad ones included.
        facts: written into every shard: `fingerprint` and `precision`.
        about: written into the manifest besides.
        compress: a float32 vector to the stored form.
        shards: those that exist already.
    """

    folder: ShardFolder
    source: Source
    total: int
    facts: dict[str, Any]
    about: dict[str, Any]
    dim: int
    compress: Compress
    limit: Limit
    shards: Sequence[Shard]
    shard_size: int
    shard_seconds: float

    def __post_init__(self) -> None:
        self.report = BulkReport(self.folder.path, ignored=dict(self.source.ignored))
        for shard in self.shards:
            self.report.add(shard)
        self._files = len(self.shards)
        self._draft: Draft | None = None
        self._closed_at = time.monotonic()
        self._created = (self.folder.manifest() or {}).get("created", _now())
        # A kill may have come between a shard and its lines in the quarantine file.
        self.folder.write_quarantine([bad for shard in self.shards for bad in shard.bad])
        self._write_manifest(finished=False)

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
        if self._draft is not None and self._draft.stop != outcome.position:
            self.flush()  # the next inputs are in a shard already
        if self._draft is None:
            self._draft = Draft(outcome.position)
        self._add(self._draft, outcome)
        if outcome.error is not None and self.limit.exceeded(self.bad, self.total):
            self.flush()
            raise self._too_many()
        waited = time.monotonic() - self._closed_at
        if len(self._draft) >= self.shard_size or waited > self.shard_seconds:
            self.flush()

    def _add(self, draft: Draft, outcome: Outcome) -> None:
        record, error = outcome.record, outcome.error
        if error is not None:
            # The bare message, without "item 17: ", which counts from the start of this run.
            message = Exception.__str__(error)
            became: Row | Bad = Bad(outcome.position, record.id, record.reference, error.code, message)
        else:
            vector = outcome.vector if outcome.reused else self.compress(outcome.vector)
            became = Row(record.id, record.reference, record.attributes, vector)
            self.report.reused += outcome.reused
            self.report.new += not outcome.reused
        draft.take(record.stamp, became)

    def flush(self) -> None:
        """Writes what has been collected as a shard, however little it is."""
        draft, self._draft = self._draft, None
        if draft:
            shard = self.folder.write(draft, self.facts, self.source.schema, self.dim)
            self.folder.append_quarantine(shard.bad)
            self.report.add(shard)
            self._files += 1
            self._write_manifest(finished=False)
        self._closed_at = time.monotonic()

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """Whatever stops the job, even Ctrl-C, the finished inputs are written first."""
        try:
            yield
        except BaseException as error:
            if not isinstance(error, DiskFullError):
                with contextlib.suppress(DiskFullError):
                    self.flush()
            raise
        self.flush()

    def finish(self) -> None:
        """Marks the folder as finished; raises TooManyBadItemsError by the share of all inputs, or if all were bad."""
        if self.limit.exceeded(self.report.bad, self.report.inputs) or not self.report.vectors:
            raise self._too_many()
        # Gaps filled late were appended late: the final file is in the order of the inputs.
        self.folder.write_quarantine([bad for shard in self.folder.finished() for bad in shard.bad])
        self._write_manifest(finished=True)

    def _too_many(self) -> TooManyBadItemsError:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.report.reasons.most_common())
        bad = f"{self.report.bad:,} of the first {self.report.inputs:,} inputs cannot be embedded ({reasons})"
        allowed = "" if self.report.vectors == 0 and self.limit == Limit() else f"; allowed are {self.limit}"
        return TooManyBadItemsError(
            f"{bad}{allowed}. {self.folder.path / QUARANTINE} lists them. Repair them, or allow more with --max-bad; "
            f"the {self.report.vectors:,} vectors made so far are kept"
        )

    def _write_manifest(self, *, finished: bool) -> None:
        report, source = self.report, self.source
        manifest = {
            "format": FORMAT,
            "zoo": __version__,
            **self.about,
            **self.facts,
            "dim": self.dim,
            "source": {
                "path": source.place(),
                "root": str(source.root),
                "base": str(source.base),
                "kind": source.kind,
                "column": source.column,
                "media": source.media,
                "attribute": source.attribute,
            },
            "attributes": {field.name: str(field.type) for field in source.schema},
            "counts": {
                "inputs": report.inputs,
                "vectors": report.vectors,
                "bad": report.bad,
                "reasons": dict(report.reasons),
                "ignored": report.ignored,
            },
            "shards": self._files,
            "finished": finished,
            "created": self._created,
            "updated": _now(),
        }
        self.folder.write_manifest(manifest)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
