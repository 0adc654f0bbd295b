"""PE-AV (arxiv:2512.19687): audio, video, both together and text in one space; a text has another vector for each that it is compared with.

Built of the parts of transformers' model, some of whose own methods fail (5.23): text is pooled before its last norm, as its
authors' code does; each audio goes through its codec alone, and each video is laid over its own audio, so that no other item of a batch
changes a vector.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.encoders.base import Batch, Cut, Encoder, one_token
from zoo.encoders.config_checks import check_transformers
from zoo.encoders.image_transform import Normalize, PixelTransform, as_transform
from zoo.encoders.tokenizing import MissingTokenizer, Tokenize, check_ids, load_tokenizer, pad
from zoo.errors import AudioTooLongError, UnrecognisedCheckpointError
from zoo.inputs.item import Item, Tokens

BOTH, VIDEO, AUDIO = TARGETS = ("audio+video", "video", "audio")
KINDS = tuple(
    map(frozenset, (("text",), ("audio",), ("video",), ("audio", "video"), ("audio", "text"), ("video", "text")))
)
FRAMES = 300  # most of a video of which all are read: ten seconds of thirty a second
_POSITIONS = 8  # of audio that cost as much as a frame


class Perceived(NamedTuple):
    """What was read of one item; None for what it has not.

    Attributes:
        against: the target that its text is read for. ids: of the text. samples: float32 `(n,)`, whole positions of the codec.
        frames: uint8 `(frames, 3, H, W)`.
    """

    against: str
    ids: list[int] | None
    samples: Tensor | None
    frames: Tensor | None


class Given(nn.Module):
    """In place of an encoder's own embedder: the states are there already."""

    def forward(self, states: Tensor, padding_mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Both as they are."""
        return states, padding_mask


class GivenBoth(nn.Module):
    """The same of the encoder of both; its own embedder would read audio and video again."""

    def forward(self, states: Tensor, videos: None, padding_mask: Tensor | None, padding_mask_videos: None) -> Any:
        """States and mask as they are, and nothing for the outputs of the two encoders."""
        return states, padding_mask, None, None


class PeAv(Encoder):
    """One encoder of six kinds of items: text, audio, video, audio with video, and audio or video with text.

    Args:
        config: of transformers' PeAudioVideoModel. transform: of each frame. frames: most frames of a video, evenly spread.
        exact: whether shorter videos show frames again, up to `frames` (the checkpoints of 16 frames). max_tokens: longest text.
        against: what texts are compared with, one of `TARGETS`. assets, tokenizer: where the tokenizer comes from.

    Raises:
        UnrecognisedCheckpointError: `against` is no target.
    """

    modalities = frozenset({"text", "audio", "video"})
    targets = TARGETS
    batch_budget = 64  # frames, or what costs as much

    def __init__(
        self,
        config: dict[str, Any],
        transform: PixelTransform | dict[str, Any],
        frames: int = FRAMES,
        exact: bool = False,
        max_tokens: int = 512,
        against: str = BOTH,
        assets: Path | None = None,
        tokenizer: Any = None,
    ) -> None:
        super().__init__()
        check_transformers(config)
        if against not in TARGETS:
            raise UnrecognisedCheckpointError(f"texts of PE-AV are compared with one of {TARGETS}, not {against!r:.40}")
        self.settings, self.transform, self.normalize = (
            dict(config),
            as_transform(transform),
            Normalize(as_transform(transform)),
        )
        self.frames, self.exact, self.max_tokens, self.against = frames, exact, max_tokens, against
        self._build(config)
        self.tokenize: Tokenize = MissingTokenizer("this PE-AV")
        if assets is not None or tokenizer is not None:
            self.tokenize = load_tokenizer(tokenizer or assets, max_tokens)

    def _build(self, config: dict[str, Any]) -> None:
        """The parts of transformers' PeAudioVideoModel, each once; there they lie in several places, tied."""
        from transformers import AutoModel, PeAudioVideoConfig, PeAudioVideoEncoder
        from transformers.models.pe_audio_video.modeling_pe_audio_video import PeAudioVideoContrastiveHead

        whole = PeAudioVideoConfig(**config)
        text, both = whole.text_config, whole.audio_video_config
        audio, video = both.audio_config, both.video_config
        self.rate, self.hop = audio.dac_config.sampling_rate, audio.dac_config.hop_length
        self.longest = audio.max_position_embeddings - 1  # the class token has one
        self.width, self.vocabulary_size = text.hidden_size, text.vocab_size
        self.text, self.both = AutoModel.from_config(text), PeAudioVideoEncoder(both)
        # The authors pool the first state before ModernBERT's final norm. transformers gives it after,
        # which is another vector.
        self.text.final_norm = nn.Identity()
        joint = self.both.embedder
        self.audio, self.video = joint.audio_encoder, joint.video_encoder
        self.codec, self.vision = self.audio.embedder, self.video.embedder
        self.audio.embedder, self.video.embedder, self.both.embedder = Given(), Given(), GivenBoth()
        names = ("video_proj", "video_norm", "concat_modality_proj", "data_proj")
        self.joint = nn.ModuleDict({name: getattr(joint, name) for name in names})
        widths = {
            **dict.fromkeys(("text_audio_video", "text_video", "text_audio"), text.hidden_size),
            "audio": audio.hidden_size,
            "video": video.hidden_size,
            "audio_video": both.hidden_size,
            "audio_text": audio.hidden_size + text.hidden_size,
            "video_text": video.hidden_size + text.hidden_size,
        }
        heads = {name: PeAudioVideoContrastiveHead(width, self.width) for name, width in widths.items()}
        self.heads = nn.ModuleDict(heads)

    def takes(self, modalities: Any, ordered: bool = False) -> bool:
        """Whether there is a head for these together."""
        return not ordered and frozenset(modalities) in KINDS

    # --------------------------------------------------------------------------------------------- reading

    def prepare_item(self, item: Item) -> Perceived:
        """Text, audio and video of one item, those that it has.

        Raises:
            AudioTooLongError: more audio than there are positions for. Besides what audio and videos raise.
        """
        ids = None if item.text is None else check_ids(self.tokenize(item.text), self.vocabulary_size, "PE-AV")
        samples = None if item.audio is None else self._samples(item.audio)
        frames = None if item.video is None else self._frames(item.video)
        return Perceived(self.against, ids, samples, frames)

    def _samples(self, source: Any) -> Tensor:
        import numpy as np

        from zoo.inputs.audio import load_audio
        from zoo.inputs.kinds import describe
        from zoo.inputs.silence import notice

        most = self.longest * self.hop
        samples = load_audio(source, rate=self.rate, seconds=most / self.rate + 1).samples
        if len(samples) > most:
            raise AudioTooLongError(
                f"the audio {describe(source)} has more than the {most / self.rate:.0f} s that this model has positions for; embed it in "
                "parts, load_audio(…, start=…, seconds=…) or model.encode_track",
                what=describe(source),
            )
        notice(samples)
        if rest := -len(samples) % self.hop:
            # The codec reads whole hops; mirrored audio goes on as it was, where zeros would be a sudden silence.
            samples = np.pad(samples, (0, rest), "reflect" if len(samples) > 1 else "edge")
        return torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))

    def _frames(self, source: Any) -> Tensor:
        from zoo.inputs.video import load_video

        frames = load_video(source, frames=self.frames).frames
        ready = torch.stack([self.transform.apply(torch.from_numpy(frame).permute(2, 0, 1)) for frame in frames])
        if self.exact and len(ready) < self.frames:  # as its authors' sampling gives of so few
            ready = ready[[place * (len(ready) - 1) // (self.frames - 1) for place in range(self.frames)]]
        return ready

    def length(self, read: Perceived) -> int:
        frames = 0 if read.frames is None else len(read.frames)
        positions = 0 if read.samples is None else len(read.samples) // self.hop
        return max(1, frames + positions // _POSITIONS)

    def tokens(self, read: Perceived) -> int:
        return len(read.ids or ())

    def size(self, read: Perceived) -> int:
        return sum(tensor.nbytes for tensor in (read.samples, read.frames) if tensor is not None)

    def cut(self, item: Item) -> Cut | None:
        return None if item.text is None else self.tokenize.cut(item.text)

    def unknown_share(self, item: Item) -> float:
        return 0.0 if item.text is None else self.tokenize.unknown_share(item.text)

    def doubtful(self, read: Perceived, prompted: Item, item: Item) -> bool:
        return self.tokenize.vocabulary.doubtful(read.ids, item.text, prompted.text.removesuffix(item.text))

    def collate(self, reads: Sequence[Perceived]) -> Batch:
        """Which item has text, audio and video `(batch, 3)` and its target `(batch,)`; texts, samples and frames of those that have
        them, the latter two one after the other, with their lengths."""
        batch: Batch = {
            "has": torch.tensor([[part is not None for part in read[1:]] for read in reads]),
            "target": torch.tensor([TARGETS.index(read.against) for read in reads]),
        }
        if texts := [read.ids for read in reads if read.ids is not None]:
            batch["ids"], batch["mask"] = pad(texts)
        if samples := [read.samples for read in reads if read.samples is not None]:
            batch["samples"] = torch.cat(samples)
            batch["positions"] = torch.tensor([len(one) // self.hop for one in samples])
        if frames := [read.frames for read in reads if read.frames is not None]:
            batch["frames"], batch["counts"] = torch.cat(frames), torch.tensor([len(one) for one in frames])
        return batch

    # --------------------------------------------------------------------------------------------- forward

    def forward(self, batch: Batch) -> Tokens:
        has = batch["has"]
        text = self._texts(batch) if "ids" in batch else None
        audio = self._audios(batch) if "samples" in batch else None
        video = self._videos(batch) if "frames" in batch else None
        places = has.cumsum(0) - 1  # of an item among those that have text, audio, video
        found = []
        for kind in KINDS:
            wanted = torch.tensor([name in kind for name in ("text", "audio", "video")], device=has.device)
            rows = (has == wanted).all(1).nonzero()[:, 0]
            if len(rows):
                own = [part[rows] for part in places.unbind(1)]
                found.append((rows, self._vectors(kind, own, batch["target"][rows], text, audio, video)))
        rows, vectors = (torch.cat(parts) for parts in zip(*found, strict=True))
        return one_token(torch.empty_like(vectors).index_copy(0, rows, vectors))

    def _vectors(
        self, kind: frozenset[str], own: list[Tensor], target: Tensor, text: Any, audio: Any, video: Any
    ) -> Tensor:
        """Of items of one kind `(items, width)`; `own`: their places among texts, audios and videos."""
        texts, audios, videos = own
        if kind == {"text"}:
            names = ("text_audio_video", "text_video", "text_audio")
            vectors = torch.stack([self.heads[name](text[texts]) for name in names])  # (targets, items, width)
            return vectors[target, torch.arange(len(target), device=target.device)]
        if kind == {"audio", "video"}:
            return self.heads["audio_video"](self._together(audio, audios, video, videos))
        if kind == {"audio"}:
            return self.heads["audio"](audio.pooled[audios])
        if kind == {"video"}:
            return self.heads["video"](video.pooled[videos])
        if kind == {"audio", "text"}:
            # The medium first, then the text: the head's weights were trained on that order.
            return self.heads["audio_text"](torch.cat([audio.pooled[audios], text[texts]], -1))
        return self.heads["video_text"](torch.cat([video.pooled[videos], text[texts]], -1))

    def _texts(self, batch: Batch) -> Tensor:
        """States of the first token `(texts, width)`."""
        return self.text(input_ids=batch["ids"], attention_mask=batch["mask"].long()).last_hidden_state[:, 0]

    def _audios(self, batch: Batch) -> "Encoded":
        """Each through the codec alone, or with others as long: filler would reach into its last positions."""
        counts = batch["positions"].tolist()
        clips = batch["samples"].to(self.codec.data_proj.weight.dtype).split([count * self.hop for count in counts])
        states: list[Tensor] = [torch.empty(0)] * len(clips)
        for count in set(counts):
            alike = [place for place, other in enumerate(counts) if other == count]
            embedded, _ = self.codec(torch.stack([clips[place] for place in alike])[:, None])
            for place, one in zip(alike, embedded, strict=True):
                states[place] = one
        return self._encoded(self.audio, states, "input_values", "padding_mask")

    def _videos(self, batch: Batch) -> "Encoded":
        frames = self.normalize(batch["frames"])
        embedded, _ = self.vision(frames[None])  # one by one, whatever their video
        states = list(embedded[0].split(batch["counts"].tolist()))
        return self._encoded(self.video, states, "pixel_values_videos", "padding_mask_videos")

    def _encoded(self, encoder: nn.Module, states: list[Tensor], given: str, mask: str) -> "Encoded":
        """Sequences of states through the layers of an encoder, filled up and masked where they differ in length."""
        counts = [len(one) for one in states]
        filled, real = _filled(states)
        out = encoder(**{given: filled, mask: real})
        return Encoded(out.last_hidden_state, out.pooler_output, counts)

    def _together(self, audio: "Encoded", audios: Tensor, video: "Encoded", videos: Tensor) -> Tensor:
        """Audio and video of each item, the nearest frame beside every position of the audio, pooled `(items, width of both)`."""
        rows = []
        for one, other in zip(audios.tolist(), videos.tolist(), strict=True):
            heard, seen = audio.states[one, : audio.counts[one]], video.states[other, : video.counts[other]]
            seen = self.joint["video_proj"](seen.T[None])
            if seen.shape[-1] != len(heard):
                seen = F.interpolate(seen, size=len(heard), mode="nearest")
            both = torch.cat([heard, self.joint["video_norm"](seen[0].T)], -1)
            rows.append(self.joint["data_proj"](self.joint["concat_modality_proj"](both)))
        filled, real = _filled(rows)
        return self.both(input_values=filled, padding_mask=real).pooler_output

    # ---------------------------------------------------------------------------------------------- saving

    def config(self) -> dict[str, Any]:
        return {
            "config": self.settings,
            "transform": self.transform.to_dict(),
            "frames": self.frames,
            "exact": self.exact,
            "max_tokens": self.max_tokens,
            "against": self.against,
        }

    def preprocessing(self) -> dict[str, Any]:
        """Of frames, audio and texts; not what texts are compared with, which fingerprints say by themselves."""
        frames = {"frames": self.frames, "exact": self.exact, **self.transform.to_dict()}
        return {**frames, "rate": self.rate, "max_tokens": self.max_tokens}

    def save_assets(self, folder: Path) -> None:
        self.tokenize.save(folder)


class Encoded(NamedTuple):
    """What one encoder gives: states `(items, most, width)`, pooled ones `(items, width)`, and how many states are real."""

    states: Tensor
    pooled: Tensor
    counts: list[int]


def _filled(states: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Sequences as one tensor `(items, most, width)` and where they are real, None where they are of one length."""
    counts = torch.tensor([len(one) for one in states], device=states[0].device)
    filled = nn.utils.rnn.pad_sequence(list(states), batch_first=True)
    real = torch.arange(filled.shape[1], device=counts.device) < counts[:, None]
    return filled, None if real.all() else real
