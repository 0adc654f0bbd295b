"""Vision-language embedders: the zoo and the plain loop of VLM2Vec's code, same weights, mixed lengths and media."""

import gc
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

import zoo
from benchmarks.common import machine, peak_rss_mb, realistic_texts, rounds, speed_rows, table
from zoo.embedder import Embedder
from zoo.inputs.item import Item
from zoo.models.backbones import byte_processor, tiny_qwen2_vl

INSTRUCTION = "Find a document image that matches the given query, whatever the language in which it is written:"
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {},
    # Qwen2-0.5B's text layers and vocabulary, a vision tower of the same order: half a billion weights.
    "0.5B": {
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "vocab_size": 151_936,
    },
    "2B": {
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 151_936,
    },
}


def config_of(size: str) -> dict[str, Any]:
    """A Qwen2-VL of this size that reads bytes."""
    if size == "tiny":
        return tiny_qwen2_vl()
    text = SIZES[size]
    section = {"0.5B": [8, 12, 12], "2B": [16, 24, 24]}[size]
    rope = {"rope_type": "default", "rope_theta": 1_000_000.0, "mrope_section": section}
    config = tiny_qwen2_vl(**text, rope_parameters=rope)
    vision = {
        "0.5B": {"depth": 12, "embed_dim": 640, "num_heads": 10},
        "2B": {"depth": 32, "embed_dim": 1280, "num_heads": 16},
    }
    config["vision_config"] |= vision[size]
    return config


def build(size: str, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Embedder:
    """The zoo's model with random weights."""
    from zoo.embedder import Tower
    from zoo.encoders.sequence import sequence
    from zoo.heads import Identity
    from zoo.pooling import LastToken

    torch.manual_seed(0)
    spec = replace(zoo.get_spec("gme-test"), max_tokens=1024)
    with torch.device(device):
        encoder = sequence(spec, config_of(size), byte_processor())
    return Embedder(spec, [Tower(encoder, LastToken(), Identity())]).to(device, dtype).eval()


def items_of(count: int) -> list[Item]:
    """Texts, images and both, of mixed lengths and sizes, in no order; one image in eight comes twice, as questions do."""
    rng = np.random.default_rng(0)
    texts = [text[:600] for text in realistic_texts(count)]
    found = []
    for i, text in enumerate(texts):
        width, height = (int(side) for side in rng.integers(60, 200, 2))
        image = np.random.default_rng(i // 2).integers(0, 256, (height, width, 3), dtype=np.uint8)
        if i % 4 == 0 and found and found[-1].image is not None:
            image = found[-1].image
        found.append([Item(text=text), Item(text=text[:80], image=image), Item(image=image)][i % 3])
    return [found[i] for i in rng.permutation(count)]


class AuthorsLoop:
    """What VLM2Vec's code does: the language model with its vocabulary, batches in the given order, all padded."""

    def __init__(self, model: Embedder) -> None:
        from transformers import Qwen2VLForConditionalGeneration

        encoder = model.towers[0].encoder
        self.encoder, self.device = encoder, model.device
        with torch.device("meta"):
            self.lm = Qwen2VLForConditionalGeneration(encoder.backbone.config)
        self.lm.model = encoder.backbone
        head = torch.nn.Linear(encoder.width, encoder.backbone.config.get_text_config().vocab_size, bias=False)
        self.lm.lm_head = head.to(model.device, next(model.parameters()).dtype)
        self.lm.eval()

    @torch.inference_mode()
    def __call__(self, items: list[Item], batch_size: int = 16) -> torch.Tensor:
        rows = []
        for start in range(0, len(items), batch_size):
            part = items[start : start + batch_size]
            processor = self.encoder.processor
            texts, images = [], []
            for item in part:
                content = [("image", item.image)] if item.image is not None else []
                content += [("text", item.text)] if item.text is not None else []
                texts.append(self.encoder.prompt.render(content, self.encoder.format, item.instruction or ""))
                images += [self._fetched(item.image)] if item.image is not None else []
            batch = processor(text=texts, images=images or None, padding=True, padding_side="left", return_tensors="pt")
            batch = batch.to(self.device)
            positions = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
            batch["position_ids"] = positions.expand(3, *positions.shape)
            if "pixel_values" in batch:
                batch["pixel_values"] = batch["pixel_values"].to(next(self.lm.parameters()).dtype)
            states = self.lm(**batch, output_hidden_states=True).hidden_states[-1]
            rows.append(F.normalize(states[:, -1].float(), dim=-1).cpu())
        return torch.cat(rows)

    def _fetched(self, pixels: np.ndarray) -> Image.Image:
        """As qwen-vl-utils resizes it before the processor does, which decides how many tokens it takes."""
        from qwen_vl_utils import fetch_image

        _, least, most = self.encoder.readers["image"].limits.pre_resize
        return fetch_image({"image": Image.fromarray(pixels), "min_pixels": least, "max_pixels": most})


def compare(size: str, count: int, repeat: int, device: str = "cpu", dtype: torch.dtype = torch.float32) -> None:
    """Tokens a second against the loop, and the gain of the shared prefix."""
    from zoo.encoders.sequence import SequenceEncoder

    model = build(size, dtype, device)
    encoder, items, loop = model.towers[0].encoder, items_of(count), AuthorsLoop(model)
    tokens = [encoder.length(encoder.prepare_item(item)) for item in items]
    by_length = [items[i] for i in np.argsort(tokens, kind="stable")]
    candidates = {
        "the authors' loop": lambda: loop(items),
        "the authors' loop, rows sorted by length": lambda: loop(by_length),
        "zoo": lambda: model.encode(items),
    }
    times = rounds(candidates, repeat)
    difference = (loop(items) - model.encode(items)).abs().max()
    title = f"{size} ({sum(p.numel() for p in model.parameters()) / 1e6:,.0f}M weights), {count} items mixed, {dtype}"
    title += f", {np.mean(tokens):.0f} tokens on average, {max(tokens)} at most ({device_of(device)})"
    table(title, ["", "tokens/s", "speed"], speed_rows(times, sum(tokens), "the authors' loop"))
    print(f"\nlargest difference of the vectors: {difference:.1e}")
    if device != "cpu":
        peak = matrix_peak(device, dtype)
        work = 2 * sum(p.numel() for p in encoder.backbone.language_model.layers.parameters()) * sum(tokens)
        print(
            f"text layers alone: {work / min(times['zoo']) / peak:.2f} of the {peak / 1e12:.0f} TFLOP/s of a plain product"
        )
    short = [Item(text=text[:40], instruction=INSTRUCTION) for text in realistic_texts(2 * count)]
    length = sum(encoder.length(encoder.prepare_item(item)) for item in short)

    def without() -> None:
        shared = SequenceEncoder._shared_prefix
        SequenceEncoder._shared_prefix = lambda *_: 0
        try:
            model.encode(short)
        finally:
            SequenceEncoder._shared_prefix = shared

    times = rounds({"every row computes it": without, "computed once a batch": lambda: model.encode(short)}, repeat)
    title = f"{size}: {len(short)} short queries with one instruction of {len(INSTRUCTION)} tokens"
    table(title, ["the shared prefix", "tokens/s", "speed"], speed_rows(times, length, "every row computes it"))


def images_of_2b(count: int = 4, repeat: int = 3) -> None:
    """A model of two billion weights on a CPU: images of at most 300 tokens each, beside the loop."""
    model = build("2B")
    encoder = model.towers[0].encoder
    rng = np.random.default_rng(0)
    items = [Item(image=rng.integers(0, 256, (448, 448, 3), dtype=np.uint8)) for _ in range(count)]
    tokens = [encoder.length(encoder.prepare_item(item)) for item in items]
    loop = AuthorsLoop(model)
    times = rounds({"the authors' loop": lambda: loop(items), "zoo": lambda: model.encode(items)}, repeat)
    title = f"2B, {count} images of {max(tokens)} tokens, float32 ({machine()})"
    table(title, ["", "images/s", "speed"], speed_rows(times, count, "the authors' loop"))


def device_of(device: str) -> str:
    """The machine's name."""
    return machine() if device == "cpu" else torch.cuda.get_device_name()


def matrix_peak(device: str, dtype: torch.dtype) -> float:
    """Operations a second of a plain matrix product, the best of some."""
    a = torch.randn(8192, 8192, device=device, dtype=dtype)
    best = 0.0
    for _ in range(10):
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        a @ a
        stop.record()
        torch.cuda.synchronize()
        best = max(best, 2 * 8192**3 / (start.elapsed_time(stop) / 1000))
    return best


def memory(size: str, count: int) -> None:
    """Peak resident memory of fresh processes, less that of one that only builds the model."""
    start = f"from benchmarks.vlm import *\nmodel = build({size!r})\nitems = items_of({count})\n"
    runs = {
        "the model alone": start,
        "the authors' loop": f"{start}AuthorsLoop(model)(items)",
        "zoo": f"{start}model.encode(items)",
    }
    peaks = {name: peak_rss_mb(code) for name, code in runs.items()}
    least = peaks["the model alone"]
    rows = [[name, round(peak), round(peak - least)] for name, peak in peaks.items()]
    table(f"{size}: peak memory, {count} items", ["", "MB", "above the model"], rows)


def main(count: int = 64, repeat: int = 3) -> None:
    """Prints the tables; with a GPU also those of a 2B model in bfloat16 there."""
    compare("tiny", 4 * count, repeat)
    gc.collect()
    compare("0.5B", count, repeat)
    memory("0.5B", count)
    gc.collect()
    images_of_2b()
    if torch.cuda.is_available():
        compare("2B", 8 * count, repeat, "cuda", torch.bfloat16)


if __name__ == "__main__":
    main()
