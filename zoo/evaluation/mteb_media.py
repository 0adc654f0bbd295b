"""Audio and video of mteb's tasks: its cells as items have them, and a reader for `datasets` where torchcodec cannot load."""

import io
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoo.errors import EmptyItemError, InvalidMediaError
from zoo.inputs.audio import load_audio
from zoo.inputs.sampling import frame_indices
from zoo.inputs.waveform import Waveform, as_waveform

FRAMES = 16  # of a video that comes decoded, for an encoder that does not say how many it reads


def value_of(modality: str, value: Any, encoder: Any) -> Any:
    """A cell of mteb's as `Item` has it.

    Args:
        modality: "text", "image", "audio" or "video". encoder: the one that reads it.

    Raises:
        EmptyItemError, InvalidMediaError: there is nothing, or nothing of this kind.
    """
    if isinstance(value, Mapping) and ("bytes" in value or "path" in value):  # an undecoded file of datasets
        if value.get("bytes") is not None:
            return bytes(value["bytes"])
        if value.get("path") is None:
            raise EmptyItemError(f"this {modality} has neither bytes nor a path", what=modality)
        return Path(value["path"])
    if modality == "audio":
        return waveform_of(value)
    return frames_of(value, encoder) if modality == "video" else value


def waveform_of(audio: Any) -> Waveform:
    """{"array", "sampling_rate"} or a decoder of torchcodec as a `Waveform`; whoever reads it brings it to his rate.

    Raises:
        InvalidMediaError: it is neither.
    """
    try:
        if isinstance(audio, Mapping) and isinstance(audio.get("array"), list | tuple):
            audio = {**audio, "array": np.asarray(audio["array"], dtype=np.float32)}
        found = as_waveform(audio)
    except (TypeError, ValueError) as error:
        raise InvalidMediaError(f"an array of audio that holds no numbers: {error}", what="audio") from error
    if found is None:
        raise InvalidMediaError(f"{type(audio).__name__} is no {{array, sampling_rate}}", what="audio")
    return found


def frames_of(video: Any, encoder: Any = None) -> np.ndarray:
    """A video as frames `(frames, height, width, 3)` uint8, whatever layout it came in.

    torchcodec and mteb's collators give tensors `(frames, 3, height, width)`, decord and PyAV arrays
    `(frames, height, width, 3)`; taking one for the other gives noise without an error. Of torchcodec's decoder the frames are taken
    that the encoder would take of the file.

    Raises:
        InvalidMediaError: it is no video.
    """
    if hasattr(video, "get_frames_at"):
        limits = getattr(encoder, "media", {}).get("video")
        most, fps = getattr(encoder, "frames", getattr(limits, "frames", FRAMES)), getattr(limits, "fps", 0.0)
        facts = video.metadata
        chosen = frame_indices(facts.num_frames, most, fps, facts.average_fps or 0.0)
        video = video.get_frames_at(chosen.tolist()).data
    if isinstance(video, list | tuple):
        video = np.stack([np.asarray(frame) for frame in video])
    is_tensor = isinstance(video, torch.Tensor)
    pixels = video.cpu().numpy() if is_tensor else np.asarray(video)
    first, last = (pixels.ndim == 4 and pixels.shape[axis] == 3 for axis in (1, 3))
    if pixels.dtype != np.uint8 or not (first or last) or not pixels.size:
        raise InvalidMediaError(
            f"a video of shape {pixels.shape} and type {pixels.dtype}; expected uint8 (frames, 3, height, width) or "
            "(frames, height, width, 3)",
            what="video",
        )
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)) if first and (is_tensor or not last) else pixels


# ----------------------------------------------------------------------------------- where torchcodec cannot load


class AudioFile(dict[str, Any]):
    """A file of audio as `datasets` stores it, {"bytes", "path"}; "array" and "sampling_rate" are decoded when they are asked for.

    Args:
        rate: Hz that the task wants; None keeps the file's own.
    """

    def __init__(self, file: Mapping[str, Any], rate: int | None = None) -> None:
        super().__init__(bytes=file.get("bytes"), path=file.get("path"))
        self.rate = rate

    def __missing__(self, key: str) -> Any:
        if key not in ("array", "sampling_rate"):
            raise KeyError(key)
        source = self["bytes"] if self["bytes"] is not None else Path(self["path"])
        rate = self.rate or load_audio(source, rate=8_000, seconds=0.1).source_rate
        return rate if key == "sampling_rate" else load_audio(source, rate=rate).samples


@cache
def torchcodec_loads() -> bool:
    """Whether torchcodec is there with the shared libraries of FFmpeg that it needs."""
    try:
        from torchcodec import decoders
    except (ImportError, OSError, RuntimeError):  # it raises any of these where a library is missing
        return False
    return hasattr(decoders, "AudioDecoder")


def stand_in() -> None:
    """Where torchcodec cannot load, lets `datasets` hand out audio and video as their files, for the rest of the process.

    Without it not one of mteb's tasks of audio or video begins: they look at their first row, which `datasets` decodes by torchcodec
    alone. The zoo reads files itself; who else asks for an array of audio gets it by `load_audio`.
    """
    import datasets

    if torchcodec_loads():
        return
    datasets.Audio.decode_example = _audio_file
    datasets.Audio.encode_example = _stored
    datasets.Video.decode_example = _video_file


def _audio_file(feature: Any, value: Any, token_per_repo_id: Any = None) -> Any:
    """Stands for `datasets.Audio.decode_example`."""
    if isinstance(value, AudioFile) or not isinstance(value, Mapping):
        return value
    return AudioFile(_fetched(value, token_per_repo_id), feature.sampling_rate)


def _video_file(feature: Any, value: Any, token_per_repo_id: Any = None) -> Any:
    """Stands for `datasets.Video.decode_example`."""
    value = {"path": value, "bytes": None} if isinstance(value, str) else value
    return dict(_fetched(value, token_per_repo_id)) if isinstance(value, Mapping) else value


def _fetched(file: Mapping[str, Any], tokens: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """A file that is in memory or on this machine; one of a streamed repository is fetched into memory."""
    from datasets.download.download_config import DownloadConfig
    from datasets.utils.file_utils import is_local_path, xopen

    path = file.get("path")
    if file.get("bytes") is not None or path is None or is_local_path(path):
        return file
    token = next((token for repo, token in (tokens or {}).items() if f"/{repo}/" in path or f"/{repo}@" in path), None)
    with xopen(path, "rb", download_config=DownloadConfig(token=token)) as remote:
        return {"bytes": remote.read(), "path": None}


def _stored(feature: Any, value: Any) -> dict[str, Any]:
    """Stands for `datasets.Audio.encode_example`: files as they are, arrays as WAV of 32-bit floats."""
    from scipy.io import wavfile

    if isinstance(value, str | Path):
        return {"bytes": None, "path": str(Path(value).absolute() if isinstance(value, Path) else value)}
    if isinstance(value, bytes | bytearray):
        return {"bytes": bytes(value), "path": None}
    if isinstance(value, Mapping) and (value.get("bytes") is not None or value.get("path") is not None):
        return {"bytes": value.get("bytes"), "path": value.get("path")}
    waveform = waveform_of(value)
    samples = np.asarray(waveform.samples)
    samples = samples.T if samples.ndim == 2 and samples.shape[0] < samples.shape[1] else samples
    wavfile.write(
        buffer := io.BytesIO(), waveform.rate, samples.astype(np.float32) if samples.dtype.kind == "f" else samples
    )
    return {"bytes": buffer.getvalue(), "path": None}
