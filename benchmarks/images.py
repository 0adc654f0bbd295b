"""A folder of JPEG files → ViT-B/32 vectors, end to end: the zoo, open_clip, transformers, sentence-transformers."""

import os
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import centred_cosine, machine, peak_rss_mb, photo_folder, rounds, speed_rows, table
from benchmarks.models import hf_clip_folder, open_clip_folder

BATCH = 32


def candidates(root: Path, photos: Path) -> dict[str, tuple[str, str]]:
    """Name → (set-up code, code that sets `vectors`), all runnable in this process and in a fresh one."""
    common = f"from pathlib import Path; from PIL import Image; import torch; paths = sorted(Path({str(photos)!r}).iterdir())"
    loop = """
def batches():
    for start in range(0, len(paths), 32):
        yield [Image.open(p).convert("RGB") for p in paths[start:start + 32]]
"""
    return {
        "open_clip loop": (
            f"{common}\n{loop}\nimport open_clip\n"
            f"model, _, preprocess = open_clip.create_model_and_transforms('local-dir:{root / 'open_clip'}'); model.eval()",
            "with torch.inference_mode(): vectors = torch.cat([model.encode_image(torch.stack([preprocess(i) for i in b]), "
            "normalize=True) for b in batches()])",
        ),
        "zoo, open_clip weights": (
            f"{common}\nimport zoo; model = zoo.load_model({str(root / 'open_clip')!r})",
            "vectors = model.encode(paths)",
        ),
        "zoo, pixels scaled": (
            f"{common}\nimport zoo; model = zoo.load_model({str(root / 'open_clip')!r}, pixels='scaled')",
            "vectors = model.encode(paths)",
        ),
        "transformers CLIPModel": (
            f"{common}\n{loop}\nfrom transformers import CLIPModel, AutoProcessor\n"
            f"model = CLIPModel.from_pretrained({str(root / 'hf')!r}).eval(); processor = AutoProcessor.from_pretrained({str(root / 'hf')!r})",
            "with torch.inference_mode(): vectors = torch.cat([model.get_image_features(**processor(images=b, return_tensors='pt')).pooler_output "
            "for b in batches()]); vectors = vectors / vectors.norm(dim=-1, keepdim=True)",
        ),
        "sentence-transformers": (
            f"{common}\nfrom sentence_transformers import SentenceTransformer\n"
            f"model = SentenceTransformer({str(root / 'hf')!r}, device='cpu')",
            "vectors = model.encode([Image.open(p) for p in paths], batch_size=32, normalize_embeddings=True, convert_to_tensor=True)",
        ),
        "zoo, transformers weights": (
            f"{common}\nimport zoo; model = zoo.load_model({str(root / 'hf')!r})",
            "vectors = model.encode(paths)",
        ),
    }


def main(count: int = 96, repeat: int = 3) -> None:
    """Prints the tables of small files, and of a few of 12 megapixels: images/s, peak memory, and how near the vectors are."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _measure(count, repeat, 640, 480)
    _measure(count // 6, repeat, 4000, 3000)


def _measure(count: int, repeat: int, width: int, height: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, photos = Path(folder), Path(folder) / "photos"
        photos.mkdir()
        photo_folder(photos, count, width, height)
        open_clip_folder(root / "open_clip")
        hf_clip_folder(root / "hf")
        scopes, runs = {}, {}
        for name, (setup, code) in candidates(root, photos).items():
            scope: dict = {}
            exec(setup, scope)  # our own text, above
            scopes[name] = scope
            runs[name] = partial(exec, compile(code, name, "exec"), scope)
        times = rounds(runs, repeat)
        rows = speed_rows(times, count, "open_clip loop")
        for row in rows:
            setup, code = candidates(root, photos)[row[0]]
            row.append(f"{peak_rss_mb(setup + chr(10) + code):.0f}")
        table(
            f"{count} JPEG {width}x{height} → ViT-B/32, float32 ({machine()})",
            ["", "images/s", "speed", "peak RSS, MB"],
            rows,
        )
        pairs = [("zoo, pixels scaled", "zoo, open_clip weights")]
        pairs += [("zoo, open_clip weights", "open_clip loop"), ("zoo, transformers weights", "transformers CLIPModel")]
        near = []
        for ours, theirs in pairs:
            a, b = (np.asarray(torch.as_tensor(scopes[n]["vectors"]).cpu()) for n in (ours, theirs))
            near.append([ours, theirs, f"{centred_cosine(b, a):.6f}", f"{abs(a - b).max():.1e}"])
        table("The same vectors?", ["", "against", "least centred cosine", "largest difference"], near)


if __name__ == "__main__":
    main()
