"""Tasks of mteb over data of this machine: retrieval of anything, and of the packs; and tiny encoders of audio and video."""

from typing import Any

import numpy as np
import torch
from mteb.abstasks import AbsTaskRetrieval
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.abstasks.task_metadata import TaskMetadata
from torch import Tensor, nn

from zoo.embedder import Embedder, Tower
from zoo.encoders.base import Batch, Encoder, one_token
from zoo.heads import Linear
from zoo.inputs.audio import load_audio
from zoo.inputs.item import Item, Tokens
from zoo.inputs.video import load_video
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
    """The photos pack as a task of mteb, "t2i" or "i2t": distinct texts and images as `evaluate_pack` has them."""
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


def captions(pack: str, source: str, rows: int, split: str = "val") -> tuple[AbsTaskRetrieval, list[str], list[bytes]]:
    """Captions of a pack as queries and its files as corpus, as MAEB's t2a and MVEB's t2v tasks have them; and the pairs.

    Args:
        pack: "audio" or "video". source: of its rows. rows: how many, the first ones.
    """
    import datasets

    feature = {"audio": datasets.Audio, "video": datasets.Video}[pack]
    chosen = [row for row in read_pack(pack, split) if row["source"] == source][:rows]
    texts, files = [row["captions"][0] for row in chosen], [row[pack] for row in chosen]
    ids = {text: f"t{number}" for number, text in enumerate(sorted(set(texts)))}
    queries = datasets.Dataset.from_dict({"id": list(ids.values()), "text": list(ids)})
    stored = {"id": [row["id"] for row in chosen], pack: [{"bytes": file, "path": None} for file in files]}
    corpus = datasets.Dataset.from_dict(stored).cast_column(pack, feature())
    relevant: dict[str, set[str]] = {}
    for text, row in zip(texts, chosen, strict=True):
        relevant.setdefault(ids[text], set()).add(row["id"])
    return retrieval(f"Zoo{pack.title()}", f"t2{pack[0]}", queries, corpus, relevant), texts, files


class Spectrum(Encoder):
    """Audio as the energy of 64 bands up to 8 kHz."""

    modalities = frozenset({"audio"})
    width = 64

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def prepare_item(self, item: Item) -> Tensor:
        samples = load_audio(item.audio, rate=16_000).samples
        power = torch.fft.rfft(torch.from_numpy(samples.copy()), 2048).abs()[1:1025]
        return power.view(self.width, -1).mean(1)

    def collate(self, reads: Any) -> Batch:
        return {"bands": torch.stack(list(reads))}

    def forward(self, batch: Batch) -> Tokens:
        return one_token(batch["bands"] * self.scale)

    def config(self) -> dict[str, Any]:
        return {}


class Colours(Encoder):
    """A video as the mean colour of 8 places of 4 of its frames."""

    modalities = frozenset({"video"})
    width = 4 * 8 * 3
    frames = 16

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def prepare_item(self, item: Item) -> Tensor:
        video = load_video(item.video, frames=self.frames).frames
        chosen = torch.from_numpy(video[np.linspace(0, len(video) - 1, 4).round().astype(int)]).float()
        return nn.functional.adaptive_avg_pool2d(chosen.permute(0, 3, 1, 2), (2, 4)).flatten() / 255

    def collate(self, reads: Any) -> Batch:
        return {"colours": torch.stack(list(reads))}

    def forward(self, batch: Batch) -> Tokens:
        return one_token(batch["colours"] * self.scale)

    def config(self) -> dict[str, Any]:
        return {}


def model_of(encoder: Encoder) -> Embedder:
    """One tower whose embedding is what the encoder gives."""
    spec = ModelSpec(name="tiny-test", modalities=encoder.modalities, dim=encoder.width, license="mit")
    return Embedder(spec, [Tower(encoder, Cls(), nn.Identity())]).eval()


def hearing() -> Embedder:
    """A model of audio and text: `Spectrum`, and text-test's tower with a head to its width."""
    import zoo

    torch.manual_seed(0)
    text = zoo.build_model("text-test").towers[0]
    towers = [Tower(Spectrum(), Cls(), nn.Identity()), Tower(text.encoder, text.pooler, Linear(text.encoder.width, 64))]
    spec = ModelSpec(name="hearing-test", modalities=frozenset({"audio", "text"}), dim=64, license="mit", max_tokens=16)
    return Embedder(spec, towers).eval()
