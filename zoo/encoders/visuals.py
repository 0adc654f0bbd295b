"""Visuals: pictures and films for a vision-language backbone, through its own processor, each distinct one once."""

import hashlib
import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from zoo.encoders.base import Batch
from zoo.encoders.llava import complete
from zoo.encoders.resizing import WIDEST, by_pillow, by_torchvision, fetched_size
from zoo.errors import InvalidPixelsError, InvalidTextError
from zoo.reading import Reading

Kind = Literal["image", "video"]


class Visual(NamedTuple):
    """One picture or film, ready for the vision layers.

    Attributes:
        inputs: what the processor gave. words: its place in the prompt, as long as its tokens. key: of its content.
    """

    kind: Kind
    key: bytes
    inputs: dict[str, Tensor]
    words: str
    tokens: int


class Frame(NamedTuple):
    """One picture `(height, width, 3)` of a film, for models that read films as pictures."""

    pixels: Any


class Visuals:
    """Reads pictures and films, one at a time.

    Args:
        processor: of transformers; it knows how many tokens a picture takes.
        reading: pixel budgets and frames. config: the backbone's.
    """

    def __init__(self, processor: Any, reading: Reading, config: Any) -> None:
        self.processor, self.reading, self.config = processor, reading, config
        complete(processor, config)
        self.tokens = {
            kind: getattr(processor, f"{kind}_token")
            for kind in ("image", "video")
            if getattr(reading, kind) and getattr(processor, f"{kind}_token", None)
        }
        ids = {kind: getattr(config, f"{kind}_token_id", None) for kind in self.tokens}
        convert = processor.tokenizer.convert_tokens_to_ids
        self.ids = {kind: convert(token) if ids[kind] is None else ids[kind] for kind, token in self.tokens.items()}
        self._split = re.compile("|".join(re.escape(token) for token in self.tokens.values()) or r"(?!)")
        for part, budget in (
            (processor.image_processor, reading.pixels),
            (
                getattr(processor, "video_processor", None),
                reading.pixels if reading.frames_twice else reading.frame_pixels or reading.pixels,
            ),
        ):
            if part is not None and budget:
                part.size = type(part.size)(shortest_edge=budget[0], longest_edge=budget[1])
            if getattr(part, "cap_pixels_per_frame", True) is None:
                part.cap_pixels_per_frame = True  # as the authors' qwen-vl-utils; transformers' next default

    @property
    def marks(self) -> list[str]:
        """Tokens that stand for pictures and films."""
        return list(self.tokens.values())

    @property
    def token_ids(self) -> list[int]:
        """Their ids."""
        return list(self.ids.values())

    def unfold(self, content: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
        """The content with each film as its frames, where `video` is what `image` is; else as it was.

        Raises:
            InputError: a film that cannot be read.
        """
        if self.reading.video != self.reading.image or all(kind != "video" for kind, _ in content):
            return content
        from zoo.inputs.video import load_film

        unfolded = []
        for kind, value in content:
            if kind == "video":
                film = load_film(value, frames=self.reading.frames, fps=self.reading.fps)
                unfolded += [("image", Frame(frame)) for frame in film.frames]
            else:
                unfolded.append((kind, value))
        return unfolded

    def read(self, kind: Kind, value: Any) -> Visual:
        """A picture or film, decoded and resized.

        Raises:
            InputError: it cannot be read. InvalidPixelsError: its shape is none that the model takes.
        """
        return self._image(value) if kind == "image" else self._video(value)

    def probe(self, pixels: Tensor) -> dict[str, Tensor]:
        """What the processor makes of a picture `(3, height, width)`."""
        return self._image(pixels, first=False).inputs

    def _image(self, value: Any, first: bool = True) -> Visual:
        """An image, resized by `pre_resize` only where `first`, as a processor must read it by itself as well."""
        from zoo.inputs.image import describe, load_pixels

        options = dict(getattr(self.processor, "images_kwargs", {}))  # what the processor itself would ask for
        if isinstance(value, Frame):
            value = value.pixels
            if budget := self.reading.frame_pixels:
                options["size"] = {"shortest_edge": budget[0], "longest_edge": budget[1]}
        pixels = torch.from_numpy(load_pixels(value)).permute(2, 0, 1)
        least, square = self.reading.smallest_side, self.reading.square
        if least and min(pixels.shape[1:]) < least:
            pixels = by_pillow(pixels, 2 * least, 2 * least)
        if square:
            pixels = by_pillow(pixels, square, square)
        shape = pixels.shape
        try:
            if first and self.reading.pre_resize:
                pixels, again = self._fetched(pixels, options.get("size"))
                options |= {} if again else {"do_resize": False}
            inputs = dict(self.processor.image_processor(images=[pixels], **{**options, "return_tensors": "pt"}))
        except ValueError as error:
            raise InvalidPixelsError(
                f"{describe(value)} of {shape[2]}x{shape[1]} pixels is no picture for this model: {error}; crop it",
                what=describe(value),
            ) from error
        words = self.processor.replace_image_token(inputs, 0)
        inputs = {name: t for name, t in inputs.items() if isinstance(t, Tensor)}
        return self._visual("image", inputs, words)

    def _fetched(self, pixels: Tensor, size: dict[str, int] | None) -> tuple[Tensor, bool]:
        """An image `(3, height, width)` after its first resize, and whether the processor is to resize it (again).

        Args:
            size: the processor's budget for this image, where it is not its usual one.
        """
        from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

        part = self.processor.image_processor
        own = (
            (size["shortest_edge"], size["longest_edge"]) if size else (part.size.shortest_edge, part.size.longest_edge)
        )
        factor, *budget = self.reading.pre_resize
        height, width = fetched_size(*pixels.shape[1:], factor, *budget, self.reading.pre_ratio)
        once = (factor, *budget) == (part.patch_size * part.merge_size, *own)
        once = once and max(pixels.shape[1:]) <= WIDEST * min(pixels.shape[1:])  # else theirs raises
        if once and smart_resize(*pixels.shape[1:], factor, *own) == (height, width):
            return (
                pixels,
                True,
            )  # a second resize to the same size does nothing, and the processor's alone is the faster
        # What comes out wider goes on as it is: so Qwen3-VL-Embedding, whose processor does not resize.
        return by_pillow(pixels, height, width), max(height, width) <= WIDEST * min(height, width)

    def _video(self, value: Any) -> Visual:
        from transformers.video_utils import VideoMetadata

        from zoo.inputs.video import load_film

        film = load_film(value, frames=self.reading.frames, fps=self.reading.fps)
        frames = torch.from_numpy(film.frames).permute(0, 3, 1, 2)
        # Frames without times are shown two a second, as qwen-vl-utils has it for lists of frames.
        rate, total = film.fps or 2.0, film.total if film.fps else len(frames)
        indices = film.indices.tolist() if film.fps else list(range(len(frames)))
        size = f"{frames.shape[3]}x{frames.shape[2]}"
        listed, fitted = not film.fps and self.reading.pre_frames, self._fits
        try:
            if listed:
                frames = self._listed(frames)
                indices, total = list(range(len(frames))), len(frames)
                fitted = fitted and listed[0] != self._factor
            if fitted:
                frames = self._fitted(frames)
            inputs = self.processor.video_processor(
                videos=[frames],
                video_metadata=[VideoMetadata(total_num_frames=total, fps=rate, frames_indices=indices)],
                do_sample_frames=False,
                return_metadata=True,
                return_tensors="pt",
                **({"do_resize": False} if fitted and not self.reading.frames_twice else {}),
            )
        except ValueError as error:
            raise InvalidPixelsError(f"a film of {size} pixels is none for this model: {error}; crop it") from error
        words = self.processor.replace_video_token(dict(inputs), 0)
        tensors = {name: t for name, t in inputs.items() if isinstance(t, Tensor)}
        if self.config.model_type == "qwen2_5_vl":
            step = getattr(self.processor.video_processor, "temporal_patch_size", 2)
            tensors["second_per_grid_ts"] = torch.tensor([step * total / rate / len(indices)])
        return self._visual("video", tensors, words)

    @property
    def _fits(self) -> bool:
        """Whether frames are resized before the processor, which may do so again."""
        return bool(self.reading.frame_pixels and (self.reading.total_pixels or self.reading.frames_twice))

    @property
    def _factor(self) -> int:
        """Pixels of a side of one token of a video."""
        part = self.processor.video_processor
        return part.patch_size * part.merge_size

    def _listed(self, frames: Tensor) -> Tensor:
        """Frames `(n, 3, height, width)` that came without times as qwen-vl-utils makes lists of images ready: each one
        resized by itself, and the last one of an odd number shown once more, at a time of its own."""
        size = fetched_size(*frames.shape[2:], *self.reading.pre_frames)
        frames = torch.stack([by_pillow(frame, *size) for frame in frames])
        return torch.cat([frames, frames[-1:]]) if len(frames) % 2 else frames

    def _fitted(self, frames: Tensor) -> Tensor:
        """Frames `(n, 3, height, width)` resized as qwen-vl-utils (fetch_video) does: each one within `frame_pixels`, also
        enlarged, and all of them within `total_pixels`, counted once for two frames that make one patch."""
        least, most = self.reading.frame_pixels
        step = self.processor.video_processor.temporal_patch_size
        if total := self.reading.total_pixels:
            most = max(min(most, total * step / (len(frames) + -len(frames) % step)), int(least * 1.05))
        frames = by_torchvision(frames, *fetched_size(*frames.shape[2:], self._factor, least, most))
        return (
            frames.float() if self.reading.frames_twice else frames
        )  # theirs are floats: not rounded again by the second

    def _visual(self, kind: Kind, inputs: dict[str, Tensor], words: str) -> Visual:
        digest = hashlib.blake2b(digest_size=16)
        for name, tensor in sorted(inputs.items()):
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(tensor.contiguous().numpy().data)
        return Visual(kind, digest.digest(), inputs, words, words.count(self.tokens[kind]))

    def expand(self, rendered: str, visuals: Sequence[Visual]) -> str:
        """The prompt with each placeholder as long as its picture or film.

        Raises:
            InvalidTextError: there are more or fewer placeholders than pictures and films.
        """
        words = {kind: [visual.words for visual in visuals if visual.kind == kind] for kind in self.tokens}
        kinds = {token: kind for kind, token in self.tokens.items()}
        found = {kind: rendered.count(token) for kind, token in self.tokens.items()}
        if found != {kind: len(some) for kind, some in words.items()}:
            raise InvalidTextError(
                f"the prompt has places for {found}, the item has { ({k: len(v) for k, v in words.items()}) }; this model does "
                "not read such an item"
            )
        turn = {kind: iter(some) for kind, some in words.items()}
        return self._split.sub(lambda match: next(turn[kinds[match[0]]]), rendered)

    def span(self, ids: list[int]) -> tuple[int, int] | None:
        """First and last position of the pictures, with the marks around them; None without one."""
        places = [i for i, token in enumerate(ids) if token in set(self.token_ids)]
        if not places:
            return None
        starts = getattr(self.config, "vision_start_token_id", None)
        ends = getattr(self.config, "vision_end_token_id", None)
        first, last = places[0], places[-1]
        first -= first > 0 and starts is not None and ids[first - 1] == starts
        last += last + 1 < len(ids) and ends is not None and ids[last + 1] == ends
        return first, last

    def collate(self, visuals: Sequence[Visual]) -> Batch:
        """Inputs of several pictures or films side by side; fewer crops or frames than others have are filled with zeros."""
        batch = {}
        for name in visuals[0].inputs:
            tensors = [visual.inputs[name] for visual in visuals]
            if tensors[0].ndim >= 4 and len({tuple(t.shape[1:]) for t in tensors}) > 1:  # also their masks
                most = max(t.shape[1] for t in tensors)
                tensors = [torch.cat([t, t.new_zeros(1, most - t.shape[1], *t.shape[2:])], 1) for t in tensors]
            batch[name] = torch.cat(tensors)
        return batch

    def rope_index(self, backbone: Any, batch: Batch) -> Tensor:
        """Positions `(3, batch, tokens)` with rows and columns of pictures (M-RoPE), as the backbone itself counts."""
        ids, mask = batch["ids"], batch["mask"]
        types = torch.zeros_like(ids)
        for number, kind in enumerate(("image", "video"), start=1):
            if kind in self.ids:
                types[ids == self.ids[kind]] = number
        extras = {}
        for kind in ("image", "video"):
            if (order := batch.get(f"{kind}_order")) is not None:
                grid = next(name for name in batch if name.startswith(f"{kind}.") and name.endswith("grid_thw"))
                extras[f"{kind}_grid_thw"] = batch[grid][order]
        if "video.second_per_grid_ts" in batch:
            extras["second_per_grid_ts"] = batch["video.second_per_grid_ts"][batch["video_order"]]
        positions, _ = backbone.get_rope_index(ids, types, attention_mask=mask.long(), **extras)
        return positions

    def settings(self) -> dict[str, Any]:
        """JSON-able: how pictures and films are made ready, and by which version (resampling has changed before)."""
        import torchvision

        def plain(part: Any) -> dict[str, Any]:
            facts = part.to_dict() if part is not None else {}
            return {k: v for k, v in facts.items() if isinstance(v, int | float | str | list | dict | bool)}

        video = getattr(self.processor, "video_processor", None)
        versions = ".".join(torchvision.__version__.split(".")[:2])
        return {
            "image": plain(self.processor.image_processor),
            "video": plain(video) if self.reading.video else {},
            "torchvision": versions,
        }
