"""What stored models were asked: inputs that are the same on every machine, and weights that no library's version changes."""

import hashlib
import io
import json
import shutil
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import zoo
from zoo import Embedder, Item

STORED = Path(__file__).parent
TEXT = "A red bicycle leans on the harbour wall."
OTHER = "Zwei Hunde im Schnee; 山の上の白い雲 & a café"
LONG = "Every line of this text is counted, and the end of it is cut off somewhere. " * 30
PROMPT = "Represent this for retrieval: "
TASK = "Find the same thing in blue"
COLUMNS, ROWS = 16, 3  # of families.json, which would be large with all of them


def make_image(number: int = 0, height: int = 48, width: int = 64) -> np.ndarray:
    """Smooth colours without a random number, `(height, width, 3)`."""
    y, x = np.mgrid[:height, :width]
    planes = (x * 3 + number * 40, y * 4 + x, (x - 20) ** 2 // 8 + (y - 20) ** 2 // 4 + number * 20)
    return np.stack([plane % 256 for plane in planes], -1).astype(np.uint8)


def png(number: int = 0, height: int = 48, width: int = 64) -> bytes:
    """The same as a file."""
    out = io.BytesIO()
    Image.fromarray(make_image(number, height, width)).save(out, "PNG")
    return out.getvalue()


def frames(count: int = 5) -> np.ndarray:
    """A short video, `(count, 48, 64, 3)`."""
    return np.stack([make_image(number) for number in range(count)])


def cases(spec: zoo.ModelSpec) -> dict[str, Callable[[Embedder], Any]]:
    """Every way in which a model may be asked, by name; a model need not answer all of them."""
    one: dict[str, Callable[[Embedder], Any]] = {
        "text": lambda m: m.encode(TEXT),
        "other text": lambda m: m.encode(OTHER),
        "long text": lambda m: m.encode(LONG),
        "text, prompt": lambda m: m.encode(TEXT, prompt=PROMPT),
        "text, no prompt": lambda m: m.encode(TEXT, prompt=""),
        "text, query": lambda m: m.encode_query(TEXT),
        "text, document": lambda m: m.encode_document(TEXT),
        "text, instruction": lambda m: m.encode(Item(text=TEXT, instruction=TASK)),
        "image": lambda m: m.encode(make_image()),
        "wide image": lambda m: m.encode(png(1, 40, 200)),
        "image, prompt": lambda m: m.encode(make_image(), prompt=PROMPT),
        "image, instruction": lambda m: m.encode(Item(image=make_image(), instruction=TASK)),
        "image and text": lambda m: m.encode(Item(text=TEXT, image=make_image(2))),
        "image and text, prompt": lambda m: m.encode(Item(text=TEXT, image=make_image(2)), prompt=PROMPT),
        "image and text, instruction": lambda m: m.encode(Item(text=TEXT, image=make_image(2), instruction=TASK)),
        "video": lambda m: m.encode(Item(video=frames())),
        "video and text, instruction": lambda m: m.encode(Item(text=TEXT, video=frames(3), instruction=TASK)),
        "parts": lambda m: m.encode(Item(parts=[TEXT, make_image(3), OTHER, make_image(4, 32, 32)], instruction=TASK)),
    }
    for name in spec.prompts:
        one[f"text, prompt {name}"] = lambda m, name=name: m.encode(TEXT, prompt_name=name)
    for dim in spec.dims[1:]:
        one[f"text, {dim} columns"] = lambda m, dim=dim: m.encode(TEXT, dim=dim)
    return one


# Switches of a reading that no test model sets: (the stored model, switches as its config.json of that time has them).
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "end cut off": ("vlm2vec-test", {"truncation": "reference"}),
    "video as images": ("vlm2vec-test", {"video": "<|image_pad|> ", "frames": 2}),
    "clamped": ("vlm2vec-test", {"pre_resize": [28, 784, 12544], "pre_ratio": "clamp", "smallest_side": 0}),
    "merged adapter": ("vlm2vec-test", {"adapter": "retrieval", "positions": "mrope"}),
    "mean of what is asked": (
        "vlm2vec-test",
        {
            "pooling": "mean",
            "span": "outside_instruction",
            "instruction_marks": ["<|vision_start|>", "<|vision_end|>"],
            "prompt": "<|vision_start|>{{ instruction }}<|vision_end|>{{ content }}",
        },
    ),
    "first layers apart": ("qwen3vl-test", {"deepstack": False, "square": 64}),
    "both ways": ("jina-v4-test", {"attention": "bidirectional", "mixed": True, "span": "all"}),
}


def variant(name: str, folder: Path) -> Embedder:
    """A stored model whose own files say that it reads otherwise, written into `folder` and opened."""
    base, switches = VARIANTS[name]
    shutil.copytree(STORED / "models" / base, folder / "x", copy_function=shutil.copyfile)
    config = json.loads((folder / "x" / "config.json").read_text("utf-8"))
    for reading in (config["spec"]["reading"], config["towers"][0]["encoder"]["reading"]):
        reading.update(switches)
    if "pooling" in switches:
        config["towers"][0]["pooler"]["kind"] = "pooling:Mean"
    (folder / "x" / "config.json").write_text(json.dumps(config), "utf-8")
    return zoo.load_model(folder / "x", device="cpu")


VARIANT_CASES: dict[str, Callable[[Embedder], Any]] = {
    "text": lambda m: m.encode(Item(text=TEXT, instruction=TASK)),
    "long text": lambda m: m.encode(LONG),
    "image": lambda m: m.encode(make_image()),
    "small image": lambda m: m.encode(make_image(1, 9, 20)),
    "thin image": lambda m: m.encode(make_image(1, 8, 2000)),
    "image and text": lambda m: m.encode(Item(text=TEXT, image=make_image(2), instruction=TASK)),
    "video": lambda m: m.encode(Item(video=frames())),
}


def padded(model: Embedder) -> Any:
    """Three texts of one batch, so that two of them are padded: the first one's vector."""
    return model.encode([TEXT, OTHER, LONG], batch_size=3)[0]


def shortened(vector: Tensor) -> list[Any]:
    """A vector, or one a token, as families.json keeps it: a few columns and rows, seven digits, and all rows' mean."""
    if vector.ndim == 2:
        return [shortened(row) for row in (*vector[:ROWS], vector.mean(0), torch.tensor([float(len(vector))]))]
    return [float(f"{value:.7g}") for value in vector[:COLUMNS].tolist()]


def some(vectors: Tensor) -> Tensor:
    """One vector as it is; of one a token `(T, dim)` the first eight, their mean and how many there are `(10, dim)`."""
    if vectors.ndim == 1:
        return vectors
    return torch.cat([vectors[:8], vectors.mean(0, keepdim=True), torch.full_like(vectors[:1], len(vectors))])


def seeded(name: str) -> Embedder:
    """A registered shape with the random weights of seed 0."""
    torch.manual_seed(0)
    return zoo.build_model(name)


def filled(model: Embedder) -> Embedder:
    """The model with weights drawn by their names.

    torch's generator may change by version, and its normal numbers differ in the last bit by processor; numpy's old one is
    frozen and the sums here are exact, so that these have one fingerprint everywhere.
    """
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and tensor.ndim > 0 and not name.endswith("inv_freq"):
            draws = np.random.RandomState(zlib.crc32(name.encode())).randint(-128, 128, tuple(tensor.shape))
            tensor.copy_(torch.from_numpy(draws / 1024.0 + (1.0 if "norm" in name else 0.0)))
    return model


def fingerprints(model: Embedder) -> dict[str, Any]:
    """What tells the model's vectors from others, as an index keeps it: plain, with a prompt, and cut."""
    found = {"plain": model.fingerprint(), "prompt": model.fingerprint(PROMPT)}
    return found | {f"{dim} columns": model.fingerprint(dim=dim) for dim in model.spec.dims[1:]}


def shapes(model: Embedder) -> dict[str, str]:
    """Names and shapes of all tensors, sorted."""
    return {name: "x".join(map(str, tensor.shape)) for name, tensor in sorted(model.state_dict().items())}


def read(name: str) -> Any:
    """A stored JSON file."""
    return json.loads((STORED / name).read_text("utf-8"))


def write(name: str, value: Mapping[str, Any]) -> None:
    """A JSON file with a line for each entry of the outermost object."""
    rows = (f"{json.dumps(key)}: {json.dumps(inner, ensure_ascii=False)}" for key, inner in value.items())
    (STORED / name).write_text("{\n" + ",\n".join(rows) + "\n}\n", "utf-8")


def shape_facts(name: str) -> dict[str, str]:
    """Of a registered shape, without weights: digests of what happens before `forward` and of its tensors' names."""
    with torch.device("meta"):
        model = zoo.build_model(name)
    return {
        "preprocessing": digest([tower.encoder.hashed(tower.pooler, model.spec) for tower in model.towers]),
        "tensors": digest(shapes(model)),
    }


def digest(value: Any) -> str:
    """As a fingerprint makes one."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def kept(name: str, media: bool) -> list[Any]:
    """Items whose vectors a cache of this model holds; no files, whose keys are of one machine."""
    texts: list[Any] = [TEXT, OTHER, Item(text="the third text"), " with space  around\n"]
    if not media:
        return texts
    pictures = [
        make_image(),
        png(1),
        Image.fromarray(make_image(2)),
        torch.from_numpy(make_image(3)),
        Item(text=TEXT, image=png(4)),
    ]
    if name == "mini-test":
        return [*texts, *pictures]
    told = [
        Item(text=TEXT, instruction=TASK),
        Item(image=make_image(5), instruction=TASK),
        Item(text=TEXT, instruction=""),
    ]
    several = [Item(parts=[TEXT, make_image(6), OTHER, Item(video=frames(2))], instruction=TASK), Item(video=frames())]
    return [*texts, *pictures, *told, *several, Item(text=TEXT, video=list(frames(3)))]


def pairs() -> list[Any]:
    """What the run with an adapter learned from: texts and images of no file."""
    from zoo.training import Pair

    return [
        Pair(Item(text=f"picture number {n}"), Item(image=make_image(n, 28, 28)), where=f"pairs, line {n + 1}")
        for n in range(8)
    ]


def lora_recipe() -> Any:
    """Of that run."""
    from zoo.training import Recipe
    from zoo.training.adapters import Lora

    return Recipe(
        name="adapted",
        steps=8,
        batch_size=4,
        lr=3e-3,
        warmup=2,
        checkpoint_every=4,
        log_every=1,
        holdout=0,
        keep_checkpoints="last",
        lora=Lora(rank=2, alpha=4, targets=("language_model",)),
    )
