"""Where the card and the figures of a model are kept, and the card's tables, set anew from all its figures."""

from pathlib import Path
from typing import Any

from zoo.errors import InvalidCardError
from zoo.evaluation.blocks import fill
from zoo.evaluation.figures import figures
from zoo.evaluation.results import FILE, Result, read_results, write_results
from zoo.files import write
from zoo.strangers.folders import Place

_ROOT = Path(__file__).resolve().parents[2]
# Beside the checkout's zoo/, or inside the package where it is installed from a wheel.
CARDS = next((f for f in (_ROOT / "model_cards", _ROOT / "zoo" / "model_cards") if f.is_dir()), _ROOT / "model_cards")
# Models of an earlier version that had a registered name before: their figures stand beside those of its model now.
EARLIER = {"zoo-mini": ("zoo-mini-v1",)}
BY_RESULTS = "written by `python -m zoo.publishing.cards` from results/{name}.json; change it there"


def folder_of(source: Any) -> Path | None:
    """The folder that a source is, None where it is a name or a model."""
    if isinstance(source, str) and (source.startswith(("./", "../", "/", "~")) or source in (".", "..")):
        source = Path(source)
    return source.expanduser() if isinstance(source, Path) else None


def card_of(model: str, card: str = "") -> tuple[Path, Path]:
    """(card, results file) of a model: those of a folder are in it, those of a registered name in model_cards/.

    Args:
        card: another card's path, "" for the model's own.

    Raises:
        InvalidCardError: there is no such card.
    """
    folder = folder_of(model)
    path = Path(card) if card else folder / "README.md" if folder else CARDS / f"{model}.md"
    if not path.is_file():
        raise InvalidCardError(
            f"{path} does not exist; `python -m zoo.publishing.cards` writes the cards of registered models"
        )
    own = path.name == "README.md"
    return path, path.parent / FILE if own else path.parent / "results" / f"{path.stem}.json"


def beside(name: str, folder: Path) -> dict[str, list[Result]]:
    """Figures that stand beside those of a registered model on its card, by the names of the models that they are of.

    Args:
        folder: of the results files of registered models.
    """
    return {earlier: read_results(folder / f"{earlier}.json") for earlier in EARLIER.get(name, ())}


def write_card(card: Path, file: Path, results: list[Result], table: str, command: str) -> None:
    """Adds figures to a results file and sets the tables of the card from all that it holds; its facts are publishing's."""
    write_results(file, results)
    text = (Place.of(card.parent) / card.name).read_text()
    if card.name == "README.md":
        text = fill(text, "measured", figures(read_results(file)), f"written by `{command} --card` from {FILE}")
    else:
        measured = figures(read_results(file), beside(card.stem, file.parent))
        text = fill(text, "measured", measured, BY_RESULTS.format(name=card.stem))
    if table:
        text = fill(text, "queries", table, f"written by `{command} --card`")
    write(card, text)
