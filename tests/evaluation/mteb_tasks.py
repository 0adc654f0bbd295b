"""Tasks of mteb over data of this machine: retrieval of anything, and the photos pack; and tiny encoders of sound and film."""

import io
import wave
from typing import Any

import numpy as np
import torch
from mteb.abstasks import AbsTaskRetrieval
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.abstasks.task_metadata import TaskMetadata
from torch import Tensor, nn

from zoo.embedder import Embedder, Tower
from zoo.encoders.base import Batch, Encoder, one_token
from zoo.inputs.item import Item, Tokens
from zoo.pooling import Cls
from zoo.spec import ModelSpec
from zoo.tables.pack_files import read_pack

MODALITY = {"t": "text", "i": "image", "a": "audio", "v": "video"}


def facts(name: str, category: str = "t2t", **changes: Any) -> TaskMetadata:
    """Metadata of a retrieval task; only what mteb asks for."""
    letters = category.replace("2", "")
    return TaskMetadata(
        **{
            "name": name,
            "description": "A task of the zoo's tests.",
            "reference": None,
            "dataset": {"path": f"local/{name}", "revision": "1"},
            "type": "Any2AnyRetrieval",
            "category": category,
            "modalities": sorted({MODALITY[letter] for letter in letters}),
            "eval_splits": ["test"],
            "eval_langs": ["eng-Latn"],
            "main_score": "ndcg_at_10",
            "date": None,
            "domains": None,
            "task_subtypes": None,
            "license": None,
            "annotations_creators": None,
            "dialect": None,
            "sample_creation": None,
            "bibtex_citation": "",
            **changes,
        }
    )


def retrieval(name: str, category: str, queries: Any, corpus: Any, relevant: dict[str, set[str]]) -> AbsTaskRetrieval:
    """A task over two `datasets.Dataset` with an `id` column.

    Args:
        relevant: of each query's id the ids of what it looks for.
    """

    class Local(AbsTaskRetrieval):
        metadata = facts(name, category)

        def load_data(self, num_proc: int | None = None, **kwargs: Any) -> None:
            qrels = {query: dict.fromkeys(found, 1) for query, found in relevant.items()}
            split = RetrievalSplitData(corpus=corpus, queries=queries, relevant_docs=qrels, top_ranked=None)
            self.dataset, self.data_loaded = {"default": {"test": split}}, True

    return Local()


def photos(category: str, split: str = "val") -> AbsTaskRetrieval:
    """The photos pack as a task of mteb, "t2i" or "i2t": distinct texts and pictures as `evaluate_pack` has them."""
    import datasets

    rows = read_pack("photos", split)
    texts = sorted({row["captions"][0] for row in rows})
    ids = {text: f"t{number}" for number, text in enumerate(texts)}
    words = datasets.Dataset.from_dict({"id": list(ids.values()), "text": texts})
    images = datasets.Dataset.from_dict(
        {"id": [row["id"] for row in rows], "image": [{"bytes": row["image"], "path": None} for row in rows]}
    ).cast_column("image", datasets.Image())
    pairs = [(ids[row["captions"][0]], row["id"]) for row in rows]
    relevant: dict[str, set[str]] = {}
    for text, image in pairs:
        query, found = (text, image) if category == "t2i" else (image, text)
        relevant.setdefault(query, set()).add(found)
    queries, corpus = (words, images) if category == "t2i" else (images, words)
    return retrieval(f"ZooPhotos{category.upper()}", category, queries, corpus, relevant)


class Spectrum(Encoder):
    """Sound as the energy of 64 bands up to 8 kHz: a waveform at 16 kHz, or a WAV file's bytes."""

    reads = frozenset({"audio"})
    width = 64
    sampling_rate = 16_000

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def read(self, item: Item) -> Tensor:
        sound = item.audio
        if isinstance(sound, bytes):
            with wave.open(io.BytesIO(sound)) as file:
                assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (self.sampling_rate, 1, 2)
                sound = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
        power = torch.fft.rfft(torch.from_numpy(sound.copy()), 2048).abs()[1:1025]
        return power.view(self.width, -1).mean(1)

    def collate(self, reads: Any) -> Batch:
        return {"bands": torch.stack(list(reads))}

    def forward(self, batch: Batch) -> Tokens:
        return one_token(batch["bands"] * self.scale)

    def config(self) -> dict[str, Any]:
        return {}


class Colours(Encoder):
    """Film as the mean colour of 8 places of 4 of its frames: frames `(frames, height, width, 3)`, or an MP4 file's bytes."""

    reads = frozenset({"video"})
    width = 4 * 8 * 3

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def read(self, item: Item) -> Tensor:
        film = item.video
        if isinstance(film, bytes):
            import decord

            film = decord.VideoReader(io.BytesIO(film))[:].asnumpy()
        assert film.ndim == 4
        assert film.shape[3] == 3
        assert film.dtype == np.uint8
        chosen = torch.from_numpy(film[np.linspace(0, len(film) - 1, 4).round().astype(int)]).float()
        return nn.functional.adaptive_avg_pool2d(chosen.permute(0, 3, 1, 2), (2, 4)).flatten() / 255

    def collate(self, reads: Any) -> Batch:
        return {"colours": torch.stack(list(reads))}

    def forward(self, batch: Batch) -> Tokens:
        return one_token(batch["colours"] * self.scale)

    def config(self) -> dict[str, Any]:
        return {}


def model_of(encoder: Encoder) -> Embedder:
    """One tower whose embedding is what the encoder gives."""
    spec = ModelSpec(name="tiny-test", modalities=encoder.reads, dim=encoder.width, license="mit")
    return Embedder(spec, [Tower(encoder, Cls(), nn.Identity())]).eval()
