"""Pages of PDFs a second: the zoo, whose pages are drawn in processes with limits, and pypdfium2's plain loop."""

import io
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.common import machine, rounds, table

PAGES = 48
SIDE = 1536


def _pdf(streams: list[str]) -> bytes:
    """A4 pages of these drawing operators, with Helvetica as F1."""
    first, size = 4, len(streams)
    kids = " ".join(f"{first + 2 * k} 0 R" for k in range(size))
    bodies = ["<< /Type /Catalog /Pages 2 0 R >>", f"<< /Type /Pages /Kids [{kids}] /Count {size} >>"]
    bodies += ["<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    for k, stream in enumerate(streams):
        box = f"/MediaBox [0 0 595 842] /Contents {first + 2 * k + 1} 0 R /Resources << /Font << /F1 3 0 R >> >>"
        bodies += [
            f"<< /Type /Page /Parent 2 0 R {box} >>",
            f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream",
        ]
    out, starts = b"%PDF-1.7\n", []
    for number, body in enumerate(bodies, 1):
        starts.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode()
    rows = "".join(f"{start:010d} 00000 n \n" for start in starts)
    end = f"trailer << /Size {len(bodies) + 1} /Root 1 0 R >>\nstartxref\n{len(out)}\n%%EOF\n"
    return out + f"xref\n0 {len(bodies) + 1}\n0000000000 65535 f \n{rows}{end}".encode()


def _text() -> bytes:
    lines = [
        f"BT /F1 9 Tf 60 {790 - 13 * n} Td (Line {n} of a paper, with words as long as words are in papers) Tj ET"
        for n in range(56)
    ]
    return _pdf(["\n".join(lines)] * PAGES)


def _figures() -> bytes:
    dice = np.random.default_rng(0)
    return _pdf(
        [
            "\n".join(
                f"{r:.2f} {g:.2f} {b:.2f} rg {x:.0f} {y:.0f} m {x + 9:.0f} {y + 40:.0f} {x + 50:.0f} {y:.0f} {x + 30:.0f} {y + 9:.0f} c f"
                for r, g, b, x, y in dice.random((4000, 5)) * (1, 1, 1, 560, 800)
            )
        ]
        * PAGES
    )


def _scans() -> bytes:
    from PIL import Image

    dice = np.random.default_rng(0)
    images = [
        Image.fromarray(dice.integers(0, 255, (44, 31, 3), dtype=np.uint8)).resize(
            (1240, 1754), Image.Resampling.BICUBIC
        )
        for _ in range(PAGES)
    ]
    out = io.BytesIO()
    images[0].save(out, "PDF", save_all=True, append_images=images[1:], quality=85)
    return out.getvalue()


def _zoo(path: Path) -> np.ndarray:
    from zoo.inputs.document import load_pages

    for page in load_pages(path, max_side=SIDE, text=False):
        pixels = page.pixels
    return pixels


def _plain(path: Path) -> np.ndarray:
    import pypdfium2

    with pypdfium2.PdfDocument(path) as document:
        for page in document:
            width, height = page.get_size()
            pixels = page.render(scale=SIDE / max(width, height), rev_byteorder=True).to_numpy()
            page.close()
        return pixels.copy()


def main(repeat: int = 5) -> None:
    """Prints a table of each kind of page: pages a second by the clock, and how many times as many the zoo draws."""
    kinds: dict[str, Callable[[], bytes]] = {"text": _text, "figures of 4,000 curves": _figures, "scans, JPEG": _scans}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for title, make in kinds.items():
            path = Path(folder) / "document.pdf"
            path.write_bytes(make())
            ours, theirs = _zoo(path), _plain(path)
            if (
                np.abs(ours.astype(int) - theirs[: len(ours), : ours.shape[1]]).mean() > 8
            ):  # a pixel of height may differ
                raise AssertionError(f"{title}: the pages are others")
            times = rounds({"zoo": lambda path=path: _zoo(path), "plain": lambda path=path: _plain(path)}, repeat)
            ratio = statistics.median(p / z for p, z in zip(times["plain"], times["zoo"], strict=True))
            speeds = [f"{PAGES / statistics.median(times[name]):.0f}" for name in ("zoo", "plain")]
            rows.append([title, *speeds, f"{ratio:.2f}x"])
    about = f"pages a second, {SIDE} pixels high ({machine()}; {PAGES} pages of A4)"
    table(about, ["", "zoo, two processes at once", "pypdfium2, plain loop", "zoo is"], rows)
