"""Regions that a network proposes (`zoo.proposals`), found once an image: they are kept beside the vectors of the job."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from zoo.bulk.finders.base import Finder, Found, register_finder
from zoo.errors import InputError
from zoo.inputs.hashing import item_key
from zoo.inputs.image import load_pixels
from zoo.inputs.item import Item
from zoo.inputs.region_json import region_from_dict, region_to_dict
from zoo.shards.folder import FOUND

if TYPE_CHECKING:
    from zoo.proposals import Proposer


class Network(Finder):
    """A proposer's regions, best first, with their scores.

    A line of `regions.jsonl` in the job's folder is what was found in an image, by its place, size and time and by the proposer's
    settings, so that neither the passes of a run nor a run that goes on ask the network again. In memory is where the lines begin.

    Args:
        proposer: of `zoo.proposals`, or like one.
    """

    scores = True

    def __init__(self, proposer: "Proposer", spelled: str = "") -> None:
        self.proposer, self._spelled = proposer, spelled
        self._settings = json.dumps(proposer.config(), sort_keys=True)
        self._file: Path | None = None
        self._places: dict[bytes, int] = {}
        self._latest: tuple[bytes, list[Any]] = (b"", [])

    @property
    def spelled(self) -> str:
        """See `Finder`; "" for a proposer that was made in Python."""
        return self._spelled

    def config(self) -> dict[str, Any]:
        """See `Finder`."""
        return self.proposer.config()

    def keep_in(self, folder: Path) -> None:
        """See `Finder`; what is there already is used."""
        self._file = folder / FOUND
        self._places = {}
        if not self._file.is_file():
            return
        with self._file.open("rb") as file:
            place = 0
            for line in file:
                if line.endswith(b"\n") and (entry := _entry(line)):
                    self._places[bytes.fromhex(entry["image"])] = place
                place += len(line)
        if place and not line.endswith(b"\n"):  # of a run that was killed
            os.truncate(self._file, place - len(line))

    def find(self, image: Path | bytes | None, name: str) -> Sequence[Found]:
        """See `Finder`."""
        if image is None:
            return ()
        key = item_key(Item(image=image), self._settings)
        if key != self._latest[0]:
            known = self._kept(key)
            self._latest = (key, self._asked(image, key) if known is None else known)
        return [Found(region_from_dict(told), score=score) for told, score in self._latest[1]]

    def _kept(self, key: bytes) -> list[Any] | None:
        """What was found before; None where that cannot be told."""
        if self._file is None or key not in self._places:
            return None
        with self._file.open("rb") as file:
            file.seek(self._places[key])
            entry = _entry(file.readline())
        try:
            for told, _ in entry["regions"] if entry else ():
                region_from_dict(told)
        except (InputError, TypeError, ValueError):
            return None
        return entry["regions"] if entry else None

    def _asked(self, image: Path | bytes, key: bytes) -> list[Any]:
        proposals = self.proposer.propose(load_pixels(image))
        found = [[region_to_dict(one.region), round(float(one.score), 6)] for one in proposals]
        if self._file is not None:
            line = json.dumps({"image": key.hex(), "regions": found}).encode() + b"\n"
            with self._file.open("ab") as file:
                self._places[key] = file.seek(0, os.SEEK_END)
                file.write(line)
        return found


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
        bytes.fromhex(entry["image"])
        return entry if isinstance(entry["regions"], list) else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


class _Named(Network):
    """A proposer of `zoo.proposals`, opened by its name: of the Hub, or of the folder or repository after the colon."""

    proposers: str

    @classmethod
    def parse(cls, setting: str, device: str | None = None) -> Self:
        """See `Finder`."""
        from zoo import proposals

        source = Path(setting).expanduser() if setting and Path(setting).expanduser().is_dir() else setting
        options = {"source": source} if setting else {}
        spelled = f"{cls.name}:{source.resolve() if isinstance(source, Path) else source}" if setting else cls.name
        return cls(getattr(proposals, cls.proposers)(**options, device=device), spelled)


@register_finder("owl")
class OwlObjects(_Named):
    """Boxes of objects by OWLv2."""

    proposers = "Owl"


@register_finder("sam2")
class Sam2Outlines(_Named):
    """Masks of whatever has an outline by SAM 2.1."""

    proposers = "Sam2"
