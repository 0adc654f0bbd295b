"""PDF files written by hand, so that what a page shows is known without a library that could be wrong in the same way."""

from collections.abc import Sequence
from dataclasses import dataclass

RED, GREEN, BLUE = "1 0 0", "0 1 0", "0 0 1"


@dataclass
class Sheet:
    """A page: its upper left quarter in a colour on white, and a line of text in the lower half.

    Attributes:
        more: entries of its dictionary, such as "/Rotate 90". content: in place of the usual drawing.
    """

    text: str = ""
    colour: str = RED
    size: tuple[float, float] = (200, 100)
    more: str = ""
    content: str | None = None
    lost: bool = False

    def stream(self) -> str:
        if self.content is not None:
            return self.content
        width, height = self.size
        letters = f" BT /F1 12 Tf 0 g 10 {height / 4} Td ({self.text}) Tj ET" if self.text else ""
        return f"{self.colour} rg 0 {height / 2} {width / 2} {height / 2} re f{letters}"


def pdf(
    sheets: Sequence[Sheet], *, catalog: str = "", trailer: str = "", objects: Sequence[str] = (), resources: str = ""
) -> bytes:
    """A PDF of these pages. `objects` follow the font, which is object 3: the first of them is object 4."""
    first = 4 + len(objects)
    kids = " ".join(f"{first + 2 * k} 0 R" for k in range(len(sheets)))
    bodies = [
        f"<< /Type /Catalog /Pages 2 0 R {catalog} >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(sheets)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        *objects,
    ]
    for k, sheet in enumerate(sheets):
        box = " ".join(f"{side:.12g}" for side in (0, 0, *sheet.size))
        page = (
            f"<< /Type /Page /Parent 2 0 R /MediaBox [{box}] /Contents {first + 2 * k + 1} 0 R "
            f"/Resources << /Font << /F1 3 0 R >> {resources} >> {sheet.more} >>"
        )
        stream = sheet.stream()
        bodies += ["null" if sheet.lost else page, f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream"]
    out, starts = bytearray(b"%PDF-1.7\n"), []
    for number, body in enumerate(bodies, 1):
        starts.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1")
    table = len(out)
    rows = "".join(f"{start:010d} 00000 n \n" for start in starts)
    out += f"xref\n0 {len(bodies) + 1}\n0000000000 65535 f \n{rows}".encode()
    out += f"trailer\n<< /Size {len(bodies) + 1} /Root 1 0 R {trailer} >>\nstartxref\n{table}\n%%EOF\n".encode()
    return bytes(out)


def encrypted(sheets: Sequence[Sheet] = (Sheet(),)) -> bytes:
    """One that opens with a password which nobody knows: its check fails for every one."""
    mark = "<" + "ab" * 32 + ">"
    entry = f"/Encrypt << /Filter /Standard /V 1 /R 2 /Length 40 /O {mark} /U {mark} /P -4 >> /ID [<0123> <0123>]"
    return pdf(sheets, trailer=entry)


def bomb(depth: int = 12, width: int = 10) -> bytes:
    """A page of forms that each draw the next ten times: some kilobytes that would be drawn for years."""
    objects = []
    for level in range(depth):
        stream = "/X Do " * width if level < depth - 1 else "0 0 1 1 re f"
        inner = f"/Resources << /XObject << /X {5 + level} 0 R >> >>" if level < depth - 1 else ""
        objects.append(
            f"<< /Type /XObject /Subtype /Form /BBox [0 0 200 100] {inner} /Length {len(stream)} >>\nstream\n{stream}\nendstream"
        )
    return pdf([Sheet(content="/X Do")], objects=objects, resources="/XObject << /X 4 0 R >>")
