"""A contrastive step at large batches: seconds and peak memory, ours against open_clip's loss and sentence-transformers'.

All candidates train the same small dual tower (4 blocks of ViT-tiny at 64 px, a 2-layer BERT of width 192) on the same images and
texts with the same optimiser, each in a process of its own, in turn. Memory is the largest resident size above that
after the model and the data were there.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.common import machine, realistic_texts, table

# Who computes the step, and the items in memory at once; sentence-transformers at its default.
CANDIDATES = {
    "zoo, micro-batch 64": ("zoo", 64),
    "zoo, micro-batch 16": ("zoo", 16),
    "open_clip, whole batch": ("open_clip", 0),
    "sentence-transformers, mini-batch 32": ("sentence_transformers", 32),
}
OURS = next(iter(CANDIDATES))
STEPS = {1024: 2, 4096: 1}  # of every batch size; more would not end within ten minutes on two slow cores
MOST_MEMORY = 16 * 2**30  # of a process: a candidate that needs more is stopped, not the machine


def main() -> None:
    """Runs all candidates in turn at all batch sizes, then the loss alone, then a run over files."""
    print(f"\n## Training\n\n{machine()}")
    for batch in STEPS:
        found = {name: _child(who, f"{batch},{micro}") for name, (who, micro) in CANDIDATES.items()}
        rows = []
        for name, run in found.items():
            if not run:
                rows.append([name, "needs over 16 GB", "", "", ""])
                continue
            faster, less = run["seconds"] / found[OURS]["seconds"], found[OURS]["peak_mb"] / run["peak_mb"]
            rows.append([name, round(run["seconds"], 1), round(run["peak_mb"]), f"{faster:.2f}x", f"{less:.2f}x"])
        header = ["candidate", "s a step", "peak MB", f"speed of {OURS} against it", "its memory against it"]
        table(f"one step of {batch} pairs", header, rows)
    loss_alone()
    waiting()


def _child(name: str, size: str) -> dict[str, float]:
    """Figures of one candidate in a process of its own; none where it needs more memory than it may have."""
    limit = partial(resource.setrlimit, resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))
    command = [sys.executable, "-m", "benchmarks.training", name, size]
    out = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit)
    if out.returncode and "memory" not in out.stderr:
        raise RuntimeError(f"{name} {size} failed:\n{out.stderr}")
    return json.loads(out.stdout.splitlines()[-1]) if out.returncode == 0 else {}


def loss_alone(count: int = 8192, dim: int = 512) -> None:
    """InfoNCE in row blocks against two cross-entropies over the full matrix: peak memory above the inputs."""
    rows = []
    for name in ("blocks", "plain"):
        found = _child(f"loss-{name}", f"{count},{dim}")
        rows.append([name, round(found["seconds"], 2), round(found["peak_mb"])])
    table(f"InfoNCE alone, {count} x {dim}, forward and backward", ["form", "s", "peak MB above the inputs"], rows)


def waiting(count: int = 512) -> None:
    """Share of a run's time spent waiting for data: zoo-mini fine-tuned on JPEG files of 640x480 pixels."""
    from zoo.training import open_pairs, recipes, train

    import zoo
    from benchmarks.common import photo_folder

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "photos").mkdir()
        paths = photo_folder(root / "photos", count)
        texts = realistic_texts(count)
        lines = [f'photos/{path.name},"{text}"' for path, text in zip(paths, texts, strict=True)]
        (root / "pairs.csv").write_text("image,text\n" + "\n".join(lines) + "\n")
        train(
            zoo.load_model("zoo-mini"),
            open_pairs(root / "pairs.csv"),
            recipes.finetune(epochs=3),
            root / "run",
            progress=False,
            trackers=(),
            report=False,
        )
        timing = json.loads((root / "run" / "timing.json").read_text())
        curve = [json.loads(line) for line in (root / "run" / "metrics.jsonl").open()]
    rate = statistics.median(entry["items_per_s"] for entry in curve)
    rows = [
        [
            "zoo-mini, 512 JPEG files, 3 epochs",
            round(rate),
            f"{timing['waiting_for_data']:.1%}",
            f"{timing['evaluating']:.1%}",
        ]
    ]
    table("Waiting for data", ["run", "pairs/s", "share of time waiting", "and ranking held-out pairs"], rows)


# ------------------------------------------------------------------------------------------------- one candidate


def dual_tower():
    """The small dual tower, always the same; without dropout, so that all candidates compute the same loss."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    from zoo.embedder import Embedder, Tower
    from zoo.encoders.image import TimmImage
    from zoo.encoders.image_transform import PixelTransform
    from zoo.encoders.text import TransformersText
    from zoo.heads import Linear
    from zoo.pooling import Cls, Mean
    from zoo.spec import ModelSpec

    torch.manual_seed(0)
    words = sorted({word for text in realistic_texts(256) for word in text.split()})
    vocabulary = {word: row for row, word in enumerate(["[PAD]", "[UNK]", *words])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    shape = {"hidden_size": 192, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 768}
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = {"model_type": "bert", "vocab_size": 2000, **shape, **still}
    text = TransformersText(config, 128, tokenizer=tokenizer)
    image = TimmImage("vit_tiny_patch16_224", PixelTransform(64, resize="squash"), args={"img_size": 64, "depth": 4})
    spec = ModelSpec("bench-dual", frozenset({"image", "text"}), 256, "apache-2.0")
    towers = [Tower(image, Cls(), Linear(image.width, 256)), Tower(text, Mean(), Linear(text.width, 256))]
    return Embedder(spec, towers).train()


def inputs(model, count: int):
    """Images as uint8 and texts as token ids, as the encoders read them."""
    import torch

    from zoo.inputs.item import Item

    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, 64, 64), generator=generator, dtype=torch.uint8)
    return list(pixels), [model.towers[1].encoder.prepare_item(Item(text=text)) for text in realistic_texts(count)]


def measure(step, steps: int) -> dict[str, float]:
    """Seconds of a step (median) and the peak of the resident memory above what was there before the first."""
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    seconds = []
    for _ in range(steps):
        begun = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - begun)
    return {"seconds": statistics.median(seconds), "peak_mb": _status("VmHWM") - before}


def _status(name: str) -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


def zoo(batch: int, micro: int) -> dict[str, float]:
    """The trainer's own step."""
    from zoo.training.dataloader import TrainBatch
    from zoo.training.grad_cache import Read
    from zoo.training.losses import build_loss
    from zoo.training.recipe import Recipe
    from zoo.training.run import Run

    model = dual_tower()
    pixels, ids = inputs(model, batch)
    data = TrainBatch([Read(0, p) for p in pixels], [Read(1, i) for i in ids], {}, list(range(batch)), 0)
    run = Run(model, Recipe(steps=10, batch_size=batch, micro_batch=micro), build_loss("infonce"))
    return measure(lambda: run.advance(data), STEPS[batch])


def open_clip(batch: int, micro: int) -> dict[str, float]:
    """The whole batch at once through open_clip's ClipLoss, as its training loop does."""
    import torch
    from open_clip.loss import ClipLoss

    model = dual_tower()
    pixels, ids = inputs(model, batch)
    images, texts = {"pixels": torch.stack(pixels)}, model.towers[1].encoder.collate(ids)
    scale = torch.nn.Parameter(torch.tensor(2.66))
    loss, optimizer = ClipLoss(), torch.optim.AdamW([*model.parameters(), scale], lr=1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        loss(model.towers[0](images), model.towers[1](texts), scale.exp()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return measure(step, STEPS[batch])


def sentence_transformers(batch: int, micro: int) -> dict[str, float]:
    """sentence-transformers' gradient cache over the same towers and mini-batches."""
    import torch
    from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss

    model = dual_tower()
    pixels, ids = inputs(model, batch)

    class Both(torch.nn.Module):
        """The towers as one model of sentence-transformers: features in, features with the vector out."""

        def __init__(self) -> None:
            super().__init__()
            self.towers = model.towers

        def forward(self, features: dict) -> dict:
            return {**features, "sentence_embedding": self.towers[0 if "pixels" in features else 1](features)}

        def __getitem__(self, place: int) -> torch.nn.Module:
            return self.towers[place]

    both = Both()
    loss = CachedMultipleNegativesRankingLoss(both, scale=14.3, mini_batch_size=micro)
    features = [{"pixels": torch.stack(pixels)}, model.towers[1].encoder.collate(ids)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        loss([dict(f) for f in features], torch.empty(0)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return measure(step, STEPS[batch])


def loss_form(name: str, count: int, dim: int) -> dict[str, float]:
    """The loss alone, blocks or plain."""
    import torch
    from torch.nn import functional as F
    from zoo.training.losses import build_loss

    torch.manual_seed(0)
    queries, targets = (F.normalize(torch.randn(count, dim), dim=1).requires_grad_() for _ in range(2))
    blocks, scale = build_loss("infonce"), torch.tensor(14.3, requires_grad=True)

    def plain(queries, targets):
        logits, gold = scale * queries @ targets.T, torch.arange(len(queries))
        return (F.cross_entropy(logits, gold) + F.cross_entropy(logits.T, gold)) / 2

    loss = blocks if name == "blocks" else plain
    loss(queries[:64].detach().requires_grad_(), targets[:64].detach().requires_grad_()).backward()  # loads the kernels
    return measure(lambda: loss(queries, targets).backward(), steps=1)


if __name__ == "__main__":
    name, sizes = sys.argv[1], [int(size) for size in sys.argv[2].split(",")]
    runs = {"zoo": zoo, "open_clip": open_clip, "sentence_transformers": sentence_transformers}
    whole = partial(loss_form, name.removeprefix("loss-")) if name.startswith("loss-") else runs[name]
    print(json.dumps(whole(*sizes)))
