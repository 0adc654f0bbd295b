"""What a GPU is used for: a 2B model in bfloat16 beside the peak of a matrix product, images from files, several GPUs. Without one: says so."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.common import photo_folder, realistic_texts, table

LEAST = 0.5  # share of the measured peak that the forward passes of the 2B model are to reach


def main(count: int = 256) -> None:
    """Prints the tables, each with its target."""
    if not torch.cuda.is_available():
        print("no GPU here (torch.cuda.is_available() is False): nothing was measured")
        return
    from benchmarks.vlm import build, matrix_peak

    device = torch.device("cuda", torch.cuda.current_device())
    texts = realistic_texts(count)
    rows = shares(build("2B", torch.bfloat16, str(device)), texts, matrix_peak(str(device), torch.bfloat16))
    title = f"2B in bfloat16 (sdpa), {count} texts of 3 to 220 words ({torch.cuda.get_device_name(device)})"
    table(title, ["", "TFLOP/s", "share of the peak", "target"], rows)
    print(f"peak memory {torch.cuda.max_memory_allocated(device) / 2**30:.1f} GiB")
    with tempfile.TemporaryDirectory() as folder:
        _images(Path(folder), 4 * count)


def shares(model: object, inputs: list, peak: float, repeat: int = 5) -> list[list[object]]:
    """Rows of a table: the forward passes alone, each waited for, and `encode`, which reads and copies meanwhile.

    Args:
        peak: operations a second of a plain matrix product there.
    """
    from zoo.benching.work import passes_of, run_passes, work_of

    passes = passes_of(model, inputs)
    flop = work_of(model, passes).flop
    rows = []
    for name, run, target in (
        ("forward passes, each waited for", lambda: run_passes(model, passes), f"≥ {LEAST:.2f}"),
        ("encode", lambda: model.encode(inputs, progress=False), f"≥ {LEAST:.2f}"),
    ):
        seconds = _median(run, repeat)
        rows.append([name, flop / seconds / 1e12, flop / seconds / peak, target])
    return rows


def _images(folder: Path, count: int) -> None:
    """ViT-B/32 from JPEG files, in one process and in one for each GPU; decoding may be all that limits it."""
    import zoo
    from benchmarks.models import open_clip_folder

    (folder / "photos").mkdir()
    photo_folder(folder / "photos", count)
    weights = open_clip_folder(folder / "open_clip")
    model = zoo.load_model(weights)
    paths = sorted((folder / "photos").iterdir())
    read = [model.towers[0].encoder.transform.read(path) for path in paths[:256]]
    arrays = [pixels.permute(1, 2, 0).numpy() for pixels in read]
    rows = []
    for name, inputs in (("JPEG files of 640x480", paths), ("224x224 pixels in memory", arrays)):
        seconds = _median(lambda inputs=inputs: model.encode(inputs, progress=False), 3)
        rows.append([name, round(len(inputs) / seconds)])
    if torch.cuda.device_count() > 1:
        started = time.perf_counter()
        zoo.embed_dataset(weights, folder / "photos", folder / "out", devices="all", progress=False)
        rows.append(
            [
                f"zoo embed --devices all, {torch.cuda.device_count()} GPUs, loading too",
                round(count / (time.perf_counter() - started)),
            ]
        )
    table("ViT-B/32, float32", ["", "images/s"], rows)


def _median(run: Callable[[], object], repeat: int) -> float:
    run()
    times = []
    for _ in range(repeat):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


if __name__ == "__main__":
    main()
