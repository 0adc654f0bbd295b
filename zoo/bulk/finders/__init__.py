"""Finders: which regions of an image are embedded, each for itself, where nobody points at them; a file a finder.

`embed_dataset(…, regions="grid")` and `zoo embed --regions` take a name, `"grid:3"` with a setting, or a file of boxes. A finder of
one's own is a `Finder`; `@register_finder("name")` gives it a name.
"""

from zoo.bulk.finders.base import Finder, Found, register_finder
from zoo.bulk.finders.boxes import Boxes
from zoo.bulk.finders.choice import finder_of, names
from zoo.bulk.finders.grid import Grid
from zoo.bulk.finders.network import Network

__all__ = ["Boxes", "Finder", "Found", "Grid", "Network", "finder_of", "names", "register_finder"]
