"""Comparing: which model is best for data of one's own. Questions of any kind of data, paired figures, costs, budgets, and a page.

Read in this order: `questions`, `reading`, `measuring`, `scoring`, `comparison`. `vectors` keeps what was embedded; `costs` and
`budget` are about what a model may cost; `packs` asks the data packs; `telling`, `page` and `drawing` say what was found.
"""

from zoo.comparing.budget import Budget
from zoo.comparing.comparison import Choice, Comparison, Entry
from zoo.comparing.measuring import compare
from zoo.comparing.reading import read_questions

__all__ = ["Budget", "Choice", "Comparison", "Entry", "compare", "read_questions"]
