"""The text of a card: front matter, blocks that programs write between markers, and the rest, which people write."""

import math
import re
from typing import Any

from zoo.errors import InvalidCardError

_LONGEST = 2**20  # letters of front matter; with the results of all of MTEB it has some 200,000
_MOST_NODES = 200_000
GENERATED = ("facts", "measured", "inspected", "training")
_FRONT = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*\r?(?:\n|\Z)", re.DOTALL | re.MULTILINE)


def block(name: str, text: str, by: str) -> str:
    """`text` between the markers of `name`; `by` says to the reader of the source who writes it."""
    return f"<!-- {name}:start: {by} -->\n{text.strip()}\n<!-- {name}:end -->"


def find(card: str, name: str) -> str | None:
    """What stands between the markers of `name`, without them; None without such a block."""
    found = _found(card, name)
    return found.group(1).strip("\n") if found else None


def fill(card: str, name: str, text: str, by: str) -> str:
    """Puts a block in place of the one that is there, else after the last generated block, else at the top.

    An empty text takes the block away.
    """
    there = _found(card, name)
    if not text.strip():
        return re.sub(r"\n{3,}", "\n\n", card[: there.start()] + card[there.end() :]) if there else card
    new = block(name, text, by)
    if there:
        return card[: there.start()] + new + card[there.end() :]
    front = _FRONT.match(card)
    places = [front.end() if front else 0, *(m.end() for other in GENERATED for m in _pattern(other).finditer(card))]
    # A block inside the notes is one that a person moved there; a new one does not follow it into them.
    notes = re.search(r"<!-- notes:start", card)
    place = max(p for p in places if notes is None or p <= notes.start() or p == places[0])
    return f"{card[:place].rstrip()}\n\n{new}\n\n{card[place:].lstrip()}".lstrip().rstrip() + "\n"


def split(card: str) -> tuple[dict[str, Any], str]:
    """Front matter as plain values, and the text below it.

    Raises:
        InvalidCardError: the front matter is no YAML mapping, or names a key twice.
    """
    front = _FRONT.match(card)
    if front is None:
        return {}, card
    return read_yaml(front.group(1)), card[front.end() :]


def read_yaml(text: str) -> dict[str, Any]:
    """A YAML mapping; names a key that comes twice, which YAML readers pass over in silence.

    Raises:
        InvalidCardError: it is none.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    def mapping(loader: Any, node: Any) -> dict[str, Any]:
        seen = set()
        for key in (loader.construct_object(key, deep=True) for key, _ in node.value):
            if key in seen:
                raise InvalidCardError(f"the front matter names {key!r} twice; keep one")
            seen.add(key)
        return loader.construct_mapping(node, deep=True)

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    if len(text) > _LONGEST:
        raise InvalidCardError(f"the front matter has {len(text):,} letters; at most {_LONGEST:,} are read")
    try:
        loader = Loader(text)
        node = loader.get_single_node()
        if node is not None and _spelled_out(node, {}) > _MOST_NODES:
            raise InvalidCardError(
                f"the front matter repeats itself by aliases to over {_MOST_NODES:,} values; write it out"
            )
        facts = None if node is None else loader.construct_document(node)
    except InvalidCardError:
        raise
    except (yaml.YAMLError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidCardError(f"the front matter is no YAML: {' '.join(str(error).split())}") from error
    if facts is None:
        return {}
    if not isinstance(facts, dict):
        raise InvalidCardError(f"the front matter must hold KEY: VALUE lines, not a {type(facts).__name__}")
    return facts


def _spelled_out(node: Any, known: dict[int, float]) -> float:
    """How many values a node of YAML is once its aliases are written out; infinite where it holds itself."""
    if id(node) not in known:
        known[id(node)] = math.inf
        value = node.value if isinstance(node.value, list) else []
        inner = (one for entry in value for one in (entry if isinstance(entry, tuple) else (entry,)))
        known[id(node)] = 1 + sum(_spelled_out(one, known) for one in inner)
    return known[id(node)]


def _found(card: str, name: str) -> re.Match[str] | None:
    """The first block of a name. Nothing is looked for after its last end: each start without one would read all that follows."""
    end = f"<!-- {name}:end -->"
    last = card.rfind(end)
    return _pattern(name).search(card, 0, last + len(end)) if last >= 0 else None


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(rf"<!-- {name}:start[^\n]*-->\n(.*?)<!-- {name}:end -->", re.DOTALL)
