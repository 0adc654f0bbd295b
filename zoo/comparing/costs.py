"""What models cost here: milliseconds for one query, items a second, memory. Each has a process of its own; they are measured in turn.

python -m zoo.comparing.costs    reads a model and inputs from stdin, then measures once for every line that it is sent
"""

import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from zoo.allocator import keep_freed
from zoo.errors import ZooError
from zoo.machine import peak_mb

if TYPE_CHECKING:
    from zoo.comparing.contenders import Contender
    from zoo.embedder import Embedder
    from zoo.inputs.item import Item

ROUNDS = 5
SINGLE, TOGETHER = 12, 128  # queries that are asked one by one, and candidates that are embedded at once
_SECONDS = 20.0  # that one round may take, about: of slow models fewer items


@dataclass(frozen=True)
class Cost:
    """What a model costs on this machine.

    Attributes:
        ms: for one query, the median of the quickest round; `rounds` has that of all. rate: candidates a second. mb: largest memory
            of the process that embedded them, in MB; None where the system does not tell it, or the model was open here. asked, ranked: what the
            two were. threads: of torch.
    """

    ms: float
    rate: float
    mb: float | None
    asked: str
    ranked: str
    threads: int
    rounds: tuple[float, ...] = ()

    def faster(self, other: "Cost") -> bool:
        """Whether it answered faster in every round: of machines that are busy the medians alone say little."""
        return bool(self.rounds and other.rounds) and max(self.rounds) < min(other.rounds)


def measured(
    contenders: "Sequence[Contender]",
    sides: "tuple[Sequence[Item], Sequence[Item]]",
    kinds: tuple[str, str],
    device: str | None,
) -> dict[str, Cost | str]:
    """The cost of every model by name, or why it could not be measured.

    In every round all models run once, one after the other, so that a busy moment hurts all alike. The quickest round counts: whatever
    else the machine does only makes a model slower.

    Args:
        sides: queries and candidates, of which some are embedded. kinds: what they are.
    """
    single, together = _spread(sides[0], SINGLE), _spread(sides[1], TOGETHER)
    runs: dict[str, _Run] = {}
    found: dict[str, Cost | str] = {}
    try:
        for one in contenders:
            try:
                runs[one.shown] = (
                    _Here(one, single, together) if one.model is not None else _Apart(one, single, together, device)
                )
            except ZooError as error:
                found[one.shown] = str(error)
        rounds: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
        for _ in range(ROUNDS):
            for name in [name for name in runs if name not in found]:
                try:
                    rounds[name].append(runs[name].measure())
                except ZooError as error:
                    found[name] = str(error)
    finally:
        for run in runs.values():
            run.close()
    for name in (name for name in runs if name not in found):
        ms, rate = min(row["ms"] for row in rounds[name]), max(row["rate"] for row in rounds[name])
        mb = rounds[name][-1].get("mb")
        each = tuple(row["ms"] for row in rounds[name])
        found[name] = Cost(ms, rate, mb, *kinds, threads=int(rounds[name][-1]["threads"]), rounds=each)
    return found


def _spread(items: "Sequence[Item]", most: int) -> "list[Item]":
    """So many of them, evenly chosen."""
    return [items[place * len(items) // most] for place in range(most)] if len(items) > most else list(items)


class _Run:
    """A model that is ready to be measured."""

    def measure(self) -> dict[str, float]:
        """One round."""
        raise NotImplementedError

    def close(self) -> None:
        """Ends it."""


class _Here(_Run):
    """An open model, in this process; its memory cannot be told from that of everything else."""

    def __init__(self, contender: "Contender", single: "list[Item]", together: "list[Item]") -> None:
        self._round = Round(contender.opened(), single, together)

    def measure(self) -> dict[str, float]:
        """See `_Run`."""
        return self._round.measure()


class _Apart(_Run):
    """A model in a process of its own."""

    def __init__(
        self, contender: "Contender", single: "list[Item]", together: "list[Item]", device: str | None
    ) -> None:
        self._name = contender.shown
        command = [sys.executable, "-m", "zoo.comparing.costs"]
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`; a pipe would be full of warnings one day
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said)
        source = contender.source
        if isinstance(source, str) and Path(source).is_dir():
            source = Path(source)  # as the command has it
        # A pickle between two processes of ours, by a pipe that nobody else has.
        try:
            self._send(pickle.dumps((source, contender.settings, device, single, together)))
            self._answer()
        except BaseException:
            self.close()
            raise

    def measure(self) -> dict[str, float]:
        """See `_Run`."""
        self._send(b"round\n")
        return self._answer()

    def _send(self, content: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(content)
            self._process.stdin.flush()
        except OSError:
            raise self._failed() from None

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in iter(self._process.stdout.readline, b""):
            if line.startswith(b"{"):
                return json.loads(line)
        raise self._failed()

    def _failed(self) -> ZooError:
        self._process.wait()
        self._said.seek(0)
        said = self._said.read().decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        return ZooError(f"the cost of {self._name} was not measured: {said[-1]}")

    def close(self) -> None:
        """Ends the process."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()
        self._said.close()


class Round:
    """One model and what it embeds."""

    def __init__(self, model: "Embedder", single: "list[Item]", together: "list[Item]") -> None:
        self.model, self.single, self.together = model, single, together
        self._embed(single[:2], "query")
        start = time.perf_counter()
        self._embed(together[:8], "document")
        each = (time.perf_counter() - start) / max(1, len(together[:8]))
        self.together = together[: max(8, min(len(together), int(_SECONDS / max(each, 1e-6))))]

    def _embed(self, items: "list[Item]", role: Any) -> None:
        for _ in self.model.encode_stream(items, progress=False, **self.model.for_role(role)):
            pass

    def measure(self) -> dict[str, float]:
        """Milliseconds for one query, candidates a second, and where the system tells it the memory that was needed so far."""
        import torch

        times = []
        for item in self.single:
            start = time.perf_counter()
            self._embed([item], "query")
            times.append(time.perf_counter() - start)
            if sum(times) > _SECONDS / 4:
                break
        start = time.perf_counter()
        self._embed(self.together, "document")
        rate = len(self.together) / (time.perf_counter() - start)
        return {"ms": 1000 * statistics.median(times), "rate": rate, "threads": torch.get_num_threads()}


def main(incoming: IO[bytes], outgoing: IO[str]) -> None:
    """What the process of a model does; answers are lines of JSON."""
    keep_freed()
    source, settings, device, single, together = pickle.load(incoming)
    from zoo.comparing.contenders import Contender

    one = Round(Contender(str(source), source, settings).opened(device), single, together)
    print(json.dumps({}), file=outgoing, flush=True)
    for _ in iter(incoming.readline, b""):
        print(json.dumps(one.measure() | {"mb": peak_mb()}), file=outgoing, flush=True)


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints is no answer
    try:
        main(sys.stdin.buffer, answers)
    except ZooError as error:
        sys.exit(f"{type(error).__name__}: {error}")
