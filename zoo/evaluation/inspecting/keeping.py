"""Where an inspection is kept: `inspected/NAME.json` beside the cards of registered names, `inspection.json` in any other folder."""

from pathlib import Path

from zoo.evaluation.blocks import fill
from zoo.evaluation.inspecting.card import BLOCK, markdown
from zoo.evaluation.inspecting.inspection import FILE, Inspection, read_inspection
from zoo.files import write, write_json
from zoo.strangers.folders import Place

FOLDER = "inspected"
BY_INSPECTION = (
    "written by `python -m zoo.publishing.cards` from inspected/{name}.json, which `zoo inspect {name} --card` measures"
)


def kept_at(card: Path) -> Path:
    """The file of a card's inspection."""
    return card.parent / FILE if card.name == "README.md" else card.parent / FOLDER / f"{card.stem}.json"


def keep(card: Path, found: Inspection) -> Path:
    """Writes the file of the inspection, in place of an earlier one, and the block of the card; gives the file.

    Raises:
        OSError: one of them cannot be written.
    """
    file = kept_at(card)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, found.to_dict())
    text = (Place.of(card.parent) / card.name).read_text()
    write(card, with_block(text, card))
    return file


def with_block(text: str, card: Path) -> str:
    """The text of a card with its block set anew from the kept inspection; without one it has none.

    Raises:
        ResultsError: the file holds no inspection.
    """
    found = read_inspection(kept_at(card))
    by = (
        f"written by `zoo inspect --card` from {FILE}"
        if card.name == "README.md"
        else BY_INSPECTION.format(name=card.stem)
    )
    return fill(text, BLOCK, markdown(found) if found else "", by)
