"""backend="auto": torch at first; once it has computed for long enough, what a short trial found fastest on this machine."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from zoo.backends.base import TORCH
from zoo.backends.cache import digest_of
from zoo.backends.choices import Choice, remember, remembered
from zoo.backends.golden import trial_batches
from zoo.encoders.program import Batch, Compiled, Runtime
from zoo.errors import BackendError, MissingWeightsError
from zoo.inputs.item import Tokens

if TYPE_CHECKING:
    from zoo.embedder.tower import Tower

LOG = logging.getLogger("zoo.backends")
# Seconds that torch computes before a choice is looked up, which costs the opening of a program, and before one is made, which costs
# exports: no job takes much more than twice the time of the better way, and a short one none of it.
LOOK, TRY = 2.0, 15.0
_GAIN = 1.1  # of torch's speed; a trial cannot tell less
_ROUNDS, _SECONDS = 5, 5.0  # at most, of each candidate
_LARGEST = 2**31  # bytes of weights, which a backend has in memory and on the disk once more


class Auto(Runtime):
    """A tower's encoder by what is fastest here, found out when torch has computed for some seconds; called by several threads.

    Args:
        tower: whose encoder it is. make: a backend's name → the encoder in it, or why it cannot be.
        versions: of each backend that is tried, of all that has a part in it.
    """

    def __init__(
        self, tower: "Tower", make: Callable[[str], Compiled | str], versions: Mapping[str, Mapping[str, str]]
    ) -> None:
        self._tower, self._make, self._versions = tower, make, versions
        self._names = sorted(versions)
        self._what = "+".join(sorted(tower.encoder.modalities))
        self._lock = threading.Lock()
        self._seconds, self._due = 0.0, LOOK
        self._choice: Choice | None = None
        self._chosen: Compiled | None = None

    @property
    def told(self) -> str:
        if self._choice is None:
            return f"torch, until a trial of {' and '.join(self._names)} pays"
        return f"{TORCH if self._chosen is None else self._chosen.told} ({self._choice.told})"

    def __call__(self, encoder: nn.Module, batch: Batch) -> Tokens | None:
        if self._choice is not None:
            return None if self._chosen is None else self._chosen(encoder, batch)
        if torch.is_grad_enabled() or encoder.training:
            return None
        start = time.perf_counter()
        tokens = encoder(batch)
        self._seconds += time.perf_counter() - start
        if self._seconds >= self._due and self._lock.acquire(blocking=False):  # else another thread is at it
            try:
                self._decide(at_once=self._seconds >= TRY)
            finally:
                self._lock.release()
        return tokens

    def settle(self) -> None:
        """Decides now."""
        with self._lock:
            self._decide(at_once=True)

    @torch.inference_mode(False)  # whatever the pass is in: a program is made of ordinary tensors
    @torch.no_grad()
    def _decide(self, at_once: bool) -> None:
        """Takes the remembered choice; where there is none it is made, or with `at_once` left for later."""
        if self._choice is not None:
            return
        encoder = self._tower.encoder
        digest = digest_of(encoder)
        choice, made = remembered(digest, self._versions), None
        if choice is None and not at_once:
            self._due = TRY
            return
        if choice is None:
            choice, made = self._trial()
            remember(digest, self._versions, choice)
        elif choice.fastest != TORCH:
            made = self._attempt(choice.fastest)
        self._chosen = made
        self._choice = choice  # last: other threads look at it first
        LOG.info("backend auto, %s: %s", self._what, self.told)

    def _trial(self) -> tuple[Choice, Compiled | None]:
        """The fastest, by rounds in turn, so that a busy moment of the machine hurts all alike."""
        LOG.info("backend auto, %s: a trial of %s, once on this machine", self._what, " and ".join(self._names))
        encoder = self._tower.encoder
        if sum(one.nbytes for one in encoder.parameters()) > _LARGEST:
            return Choice(), None
        try:
            work = [encoder.collate([encoder.prepare_item(item) for item in batch]) for batch in trial_batches(encoder)]
        except MissingWeightsError:  # a model that was built reads no texts
            work = []
        if not work:
            return Choice(), None
        made = {name: found for name in self._names if (found := self._attempt(name)) is not None}
        least = _least({TORCH: lambda _, batch: encoder(batch), **made}, encoder, work)
        speeds = {name: least[TORCH] / least[name] for name in made}
        fastest = max(speeds, key=speeds.__getitem__, default=TORCH)
        if speeds.get(fastest, 0.0) < _GAIN:
            fastest = TORCH
        return Choice(fastest, speeds), made.get(fastest)

    def _attempt(self, name: str) -> Compiled | None:
        """The encoder in a backend; None, and a line that says why, where it cannot be."""
        try:
            found = self._make(name)
        except BackendError as error:
            found = str(error)
        if isinstance(found, str):
            LOG.warning("backend auto, %s: %s is left out (%s)", self._what, name, found)
            return None
        return found


def _least(
    runs: Mapping[str, Callable[[nn.Module, Batch], object]], encoder: nn.Module, work: Sequence[Batch]
) -> dict[str, float]:
    """Seconds of the fastest round of each, the first not counted, which warms up."""
    least = dict.fromkeys(runs, float("inf"))
    began = time.perf_counter()
    with torch.inference_mode():
        for number in range(_ROUNDS + 1):
            for name, run in runs.items():
                start = time.perf_counter()
                for batch in work:
                    run(encoder, batch)
                if number:
                    least[name] = min(least[name], time.perf_counter() - start)
            if number and time.perf_counter() - began > _SECONDS * len(runs):
                break
    return least
