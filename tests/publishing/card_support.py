"""What the tests of cards share: every spec, figures to show, and the parts of a card."""

import zoo
from tests.every import every
from zoo.evaluation.results import Result
from zoo.publishing import cards

SPECS = [zoo.get_spec(name) for name in zoo.list_models(tests=True)]
TEMPLATE = (cards.CARDS / "_template.md").read_text(encoding="utf-8")
RETRIEVAL = "image-text-retrieval"
OURS = Result("photos", RETRIEVAL, "recall@1", 0.4321, direction="image → text", source="zoo eval x", date="2026-11-25")
THEIRS = Result(
    "COCO", RETRIEVAL, "recall@1", 0.563, split="", direction="image → text", ours=False, source="their page"
)
each_spec = every("spec", SPECS, ids=lambda spec: spec.name)


def card_of(spec) -> str:
    """The registered card of a spec."""
    return (cards.CARDS / f"{spec.name}.md").read_text(encoding="utf-8")


def notes_block(card: str) -> str:
    """What people wrote into a card."""
    start, end = card.index("<!-- notes:start"), card.index("<!-- notes:end -->")
    return card[start:end]
