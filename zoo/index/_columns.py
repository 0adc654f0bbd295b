"""The columns of an index as filters name them."""

import difflib
from typing import TYPE_CHECKING

from zoo.index._conditions import Column, RefusedError

if TYPE_CHECKING:
    import pyarrow as pa


class Columns:
    """The columns of an index by name, whatever the case of its letters where no other differs in nothing else."""

    def __init__(self, schema: "pa.Schema") -> None:
        # The zoo's own are hidden; "vector" is what is searched.
        self._fields = {one.name: one.type for one in schema if not one.name.startswith("_") and one.name != "vector"}
        self._lower = [name.lower() for name in self._fields]

    def __contains__(self, name: object) -> bool:
        return str(name).lower() in self._lower

    def missing(self, name: str, hint: str = "") -> str:
        """That there is no such column, which is the nearest, and which there are."""
        near = difflib.get_close_matches(name, self._fields, n=1, cutoff=0.5)
        hint += f"did you mean {near[0]!r}? " if near else ""
        return f"there is no column {name!r}{f'; {hint}' if hint else '. '}Columns: {', '.join(self._fields)}"

    def find(self, name: str, *, value: bool = False) -> Column:
        """A column; raises RefusedError with the nearest name, and where a value could stand with how texts are written."""
        import pyarrow as pa

        found = [name] if name in self._fields else [one for one in self._fields if one.lower() == name.lower()]
        if len(found) > 1:
            raise RefusedError(
                f"{name!r} may be {' or '.join(map(repr, found))}; write it with the case of its letters"
            )
        if not found:
            hint = f"a text is written in single quotes: '{name}'; " if value else ""
            raise RefusedError(self.missing(name, hint))
        if "`" in found[0]:
            raise RefusedError(
                f"the column {found[0]!r} has a backtick in its name, which Lance cannot ask for; rename it"
            )
        kind = self._fields[found[0]]
        return Column(found[0], kind.value_type if pa.types.is_dictionary(kind) else kind)
