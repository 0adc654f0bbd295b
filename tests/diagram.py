"""The diagram of docs/architecture.md: how an item becomes a vector, and the rooms of `zoo/` by floors.

Boxes have a light ground of their own and dark letters; what stands outside of them is grey: it reads on white and on black.
"""

from collections.abc import Mapping

WIDTH, MARGIN, LETTER = 1000, 20, 7.4  # LETTER: the mean width of a letter at 14 px
GREY, INK = "#7d8590", "#1d2b3a"
BLUE, GREEN, SAND = ("#ddeaf8", "#4a78a8"), ("#dcf0e4", "#3f8f63"), ("#f7ecd5", "#b08430")
# From which floor on a band begins, and what its rooms are.
BANDS = (
    (9, "front doors"),
    (7, "what works with models"),
    (5, "models, opened and saved"),
    (3, "a model and its parts"),
    (1, "what goes in, and facts"),
    (0, "the ground"),
)


def svg(at: Mapping[str, int]) -> str:
    """The drawing of a house whose rooms lie on these floors."""
    flow, below = _flow(), 250
    bands, bottom = _bands(at, below)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom}" role="img" font-family="sans-serif" font-size="14">',
            "<title>An item goes through a tower (encoder, pooler, head) and becomes a unit vector; below, the rooms of zoo</title>",
            f'<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="{GREY}"/></marker></defs>',
            *flow,
            *bands,
            "</svg>",
            "",
        ]
    )


def _box(x: float, y: float, wide: float, high: float, text: str, colours: tuple[str, str], below: str = "") -> str:
    fill, line = colours
    drawn = (
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{wide:.0f}" height="{high:.0f}" rx="6" fill="{fill}" stroke="{line}"/>'
    )
    middle, up = x + wide / 2, 7 if below else 0
    drawn += f'<text x="{middle:.0f}" y="{y + high / 2 + 5 - up:.0f}" text-anchor="middle" fill="{INK}">{text}</text>'
    if below:
        drawn += f'<text x="{middle:.0f}" y="{y + high / 2 + 14:.0f}" text-anchor="middle" fill="{INK}" font-size="11">{below}</text>'
    return drawn


def _arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    bend = (x1 + x2) / 2
    path = f"M{x1:.0f},{y1:.0f} C{bend:.0f},{y1:.0f} {bend:.0f},{y2:.0f} {x2:.0f},{y2:.0f}"
    return f'<path d="{path}" fill="none" stroke="{GREY}" stroke-width="1.5" marker-end="url(#tip)"/>'


def _said(x: float, y: float, text: str, anchor: str = "start", size: int = 13) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" fill="{GREY}" font-size="{size}">{text}</text>'


def _flow() -> list[str]:
    """Two items, a tower for each, and the space that they share."""
    parts = [
        _said(MARGIN, 22, "items"),
        _said(190, 22, "towers: the first that reads all of an item takes it"),
        _said(980, 22, "one space", "end"),
    ]
    for y, item, takes in ((36, "image", "pixels"), (132, "text", "tokens")):
        middle = y + 40
        parts.append(
            f'<rect x="190" y="{y}" width="530" height="80" rx="10" fill="none" stroke="{GREY}" stroke-dasharray="5 4"/>'
        )
        parts.append(_box(MARGIN, y + 18, 110, 44, item, SAND, "zoo.Item"))
        parts.append(_box(206, y + 14, 160, 52, "encoder", BLUE, f"{takes} → states (B, T, W)"))
        parts.append(_box(402, y + 14, 130, 52, "pooler", BLUE, "T states → one: (B, W)"))
        parts.append(_box(568, y + 14, 136, 52, "head", BLUE, "shared space: (B, D)"))
        parts += [
            _arrow(MARGIN + 110, middle, 204, middle),
            _arrow(366, middle, 400, middle),
            _arrow(532, middle, 566, middle),
        ]
        parts.append(_arrow(704, middle, 798, 124))
    parts.append(_box(800, 98, 180, 52, "unit vectors", GREEN, "similarity · rank · search"))
    parts.append(
        _said(MARGIN, 232, "also video, audio, regions, documents, and mixes of them: one tower may read several")
    )
    return parts


def _bands(at: Mapping[str, int], top: int) -> tuple[list[str], int]:
    """The rooms, a band for some floors each, the ground below; and where the drawing ends."""
    parts, y = [_said(MARGIN, top + 18, "the rooms of zoo/: each imports from lower floors only")], top + 30
    parts += [_box(MARGIN + 190, y, 110, 28, "zoo.training", GREEN), _box(MARGIN + 310, y, 110, 28, "zoo.demos", GREEN)]
    parts.append(_said(MARGIN, y + 19, "built on all of it"))
    y += 40
    above = 10**9
    for least, title in BANDS:
        rooms = sorted((-floor, room) for room, floor in at.items() if least <= floor < above)
        above, x, rows, boxes = least, MARGIN + 190.0, 1, []
        for _, room in rooms:
            wide = LETTER * len(room) + 18
            if x + wide > WIDTH - MARGIN:
                x, rows = MARGIN + 190.0, rows + 1
            boxes.append(_box(x, y + 8 + (rows - 1) * 36, wide, 28, room, BLUE))
            x += wide + 8
        high = rows * 36 + 8
        parts.append(f'<path d="M{MARGIN},{y} H{WIDTH - MARGIN}" stroke="{GREY}" stroke-opacity="0.5"/>')
        parts += [_said(MARGIN, y + 27, title), *boxes]
        y += high
    return parts, y + 10
