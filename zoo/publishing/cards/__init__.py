"""Model cards: one for every registered name, every run and every published repository, from the same blocks.

A card is the Hub's front matter and blocks between markers that programs write (`facts`, `measured`, `training`); all
the rest is written by people and kept, wherever a card goes.
"""

from zoo.evaluation.blocks import fill, find
from zoo.evaluation.cards import CARDS
from zoo.evaluation.figures import figures
from zoo.publishing.cards.facts import fact_rows, front_matter, read_facts, summary, usage
from zoo.publishing.cards.metadata import eval_results
from zoo.publishing.cards.pages import card_text, main, measured, models_table, notes_of, outdated, render
from zoo.publishing.cards.published import brought_parts, published_card
from zoo.publishing.cards.reading import reading_rows, sequences
from zoo.publishing.cards.schema import check

__all__ = [
    "CARDS",
    "brought_parts",
    "card_text",
    "check",
    "eval_results",
    "fact_rows",
    "figures",
    "fill",
    "find",
    "front_matter",
    "main",
    "measured",
    "models_table",
    "notes_of",
    "outdated",
    "published_card",
    "read_facts",
    "reading_rows",
    "render",
    "sequences",
    "summary",
    "usage",
]
