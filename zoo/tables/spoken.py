"""Spoken digits by synthetic voices, as pairs of audio and text: what the few people of the audio pack leave out of how people sound.

eSpeak NG says every digit in the voices and accents that it has, at different speeds and heights. It is a formant synthesiser: no
recording of a person is in its voices. Its package is GPL-3.0-or-later and is needed to make these rows alone, which are its output.
"""

import ctypes
import random
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import MissingPackageError
from zoo.inputs.item import Item
from zoo.inputs.waveform import Waveform
from zoo.tables.made import MadeTable
from zoo.tables.pairs import Pair
from zoo.tables.schema import Part

if TYPE_CHECKING:
    import numpy as np

SPOKEN = "spoken"
_SEED = 0
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_ACCENTS = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-029", "en-gb-x-gbclan")
_ACCENTS_EACH = 2
# Voices that whisper, that are machines, or that need another synthesiser than eSpeak's own.
_LEFT_OUT = (
    "whisper",
    "croak",
    "robo",
    "demonic",
    "caleb",
    "klatt",
    "steph",
    "zac",
    "travis",
    "storm",
    "norbert",
    "serious",
    "sandro",
)
_RATE, _BAND = 16_000, 8_000  # Hz: of the audio pack's files, and of the recordings that its digits were made from
_LOUD = 0.5  # of full scale
_QUIET = 0.01  # of the loudest, below which a recording has not begun
_SPEED, _PITCH = 1, 3  # espeak_PARAMETER
_SYNCHRONOUS, _UTF8 = 2, 1


class SpokenTable(MadeTable):
    """`pack:spoken`: see the module. The same rows in the same order wherever eSpeak NG is the same.

    Raises:
        TableError: another split than train is asked for. MissingPackageError: eSpeak NG is not installed.
    """

    def __init__(self, split: str, name: str) -> None:
        super().__init__(SPOKEN, split, name, Part("audio", "audio"), Part("captions", "text"), spoken)

    def _pair(self, row: int) -> Pair:
        digit, _, samples = self._rows[row]
        texts = [Item(text=text) for text in (f'a person says "{digit}"', f"the spoken digit {digit}")]
        label = f"audio:spoken digit {digit}"
        return Pair(
            Item(audio=Waveform(samples, _RATE)),
            texts[0],
            extra_positives=(texts[1],),
            group=label,
            dataset=self._name,
            where=self.where(row),
        )

    def where(self, row: int) -> str:
        """See `Table`."""
        digit, voice, _ = self._rows[row]
        return f"{super().where(row)}: {digit} by {voice}"


@cache
def spoken() -> tuple[tuple[str, str, "np.ndarray"], ...]:
    """(digit, voice, samples float32 `(n,)` at 16 kHz, band-limited to 4 kHz as the audio pack's digits are), some 1,200.

    Raises:
        MissingPackageError: eSpeak NG or soxr is not installed.
    """
    if find_spec("espeakng_loader") is None:
        raise MissingPackageError(f"pack:{SPOKEN} is spoken by eSpeak NG: pip install 'embedding-zoo[spoken]'")
    voice = _Voice()
    draw, found = random.Random(_SEED), []
    for digit in _DIGITS:
        for variant in voice.variants:
            for accent in draw.sample(_ACCENTS, _ACCENTS_EACH):
                name = f"{accent}+{variant}"
                samples = voice.say(digit, name, speed=draw.randrange(110, 200), pitch=draw.randrange(25, 80))
                if samples is not None:
                    found.append((digit, name, samples))
    return tuple(found)


class _Voice:
    """eSpeak NG, of which a process has one."""

    def __init__(self) -> None:
        import espeakng_loader

        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = Path(espeakng_loader.get_data_path())
        self._pieces: list[np.ndarray] = []
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self._taker = kind(self._take)  # kept, for the library calls it
        self._rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, str(data).encode(), 0)
        if self._rate <= 0:
            raise MissingPackageError("eSpeak NG finds no voices; install espeakng-loader again")
        self._library.espeak_SetSynthCallback(self._taker)
        names = sorted(path.name for path in (data / "voices" / "!v").iterdir())
        self.variants = [name for name in names if not any(part in name.lower() for part in _LEFT_OUT)]

    def _take(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, events: object) -> int:
        import numpy as np

        if samples and count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def say(self, text: str, voice: str, *, speed: int, pitch: int) -> "np.ndarray | None":
        """A text by a voice; None where there is no such voice.

        Args:
            speed: words a minute. pitch: 0 to 99.
        """
        import numpy as np
        import soxr

        self._pieces.clear()
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # else of the clock: breath is noise
        if self._library.espeak_SetVoiceByName(voice.encode()):
            return None
        self._library.espeak_SetParameter(_SPEED, speed, 0)
        self._library.espeak_SetParameter(_PITCH, pitch, 0)
        said = text.encode()
        self._library.espeak_Synth(said, len(said) + 1, 0, 0, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        if not self._pieces:
            return None
        samples = np.concatenate(self._pieces).astype(np.float32)
        loud = np.flatnonzero(np.abs(samples) > _QUIET * np.abs(samples).max())
        narrow = soxr.resample(samples[loud[0] : loud[-1] + 1], self._rate, _BAND)
        wide = soxr.resample(narrow, _BAND, _RATE)
        return (wide / np.abs(wide).max() * _LOUD).astype(np.float32)
