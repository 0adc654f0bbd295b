"""The text of a card: front matter, blocks that programs write between markers, and the rest, which people write."""

import re
from typing import Any

from zoo.errors import ZooError

GENERATED = ("facts", "measured", "training")
_FRONT = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)^---[ \t]*\r?(?:\n|\Z)", re.DOTALL | re.MULTILINE)


class InvalidCardError(ZooError, ValueError):
    """A card whose front matter is no YAML, or whose markers do not pair."""


def block(name: str, text: str, by: str) -> str:
    """`text` between the markers of `name`; `by` says to the reader of the source who writes it."""
    return f"<!-- {name}:start: {by} -->\n{text.strip()}\n<!-- {name}:end -->"


def find(card: str, name: str) -> str | None:
    """What stands between the markers of `name`, without them; None without such a block."""
    found = _pattern(name).search(card)
    return found.group(1).strip("\n") if found else None


def fill(card: str, name: str, text: str, by: str) -> str:
    """Puts a block in place of the one that is there, else after the last generated block, else at the top.

    An empty text takes the block away.
    """
    pattern = _pattern(name)
    if not text.strip():
        return re.sub(r"\n{3,}", "\n\n", pattern.sub("", card, count=1)) if pattern.search(card) else card
    new = block(name, text, by)
    if pattern.search(card):
        return pattern.sub(lambda _: new, card, count=1)
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
        keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
        if repeated := [key for key in keys if keys.count(key) > 1]:
            raise InvalidCardError(f"the front matter names {repeated[0]!r} twice; keep one")
        return loader.construct_mapping(node, deep=True)

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    try:
        facts = yaml.load(text, Loader)
    except (yaml.YAMLError, TypeError, RecursionError) as error:
        raise InvalidCardError(f"the front matter is no YAML: {' '.join(str(error).split())}") from error
    if facts is None:
        return {}
    if not isinstance(facts, dict):
        raise InvalidCardError(f"the front matter must hold KEY: VALUE lines, not a {type(facts).__name__}")
    return facts


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(rf"<!-- {name}:start[^\n]*-->\n(.*?)<!-- {name}:end -->", re.DOTALL)
