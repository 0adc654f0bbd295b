"""Proposers: which regions of an image are embedded, each for itself, where nobody points at them; a file a proposer.

`embed_dataset(…, regions="grid")` and `zoo embed --regions` take a name, `"grid:3"` with a setting, or a file of boxes. A proposer of
one's own is a `Proposer`; `@register_proposer("name")` gives it a name.
"""

from zoo.bulk.proposers.base import Proposed, Proposer, register_proposer
from zoo.bulk.proposers.boxes import Boxes
from zoo.bulk.proposers.choice import names, proposer_of
from zoo.bulk.proposers.grid import Grid

__all__ = ["Boxes", "Grid", "Proposed", "Proposer", "names", "proposer_of", "register_proposer"]
