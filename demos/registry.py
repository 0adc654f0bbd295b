"""Which demo shows a model: the zoo's own, a file of this folder each, and those that other packages bring."""

import pkgutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from zoo.arguments import checked, text
from zoo.errors import ZooError
from zoo.registry.plugins import discover

if TYPE_CHECKING:
    import gradio as gr

    from zoo import Embedder

Builder = TypeVar("Builder", bound=Callable[..., Any])
_BUILDERS: dict[str, Callable[..., Any]] = {}
PAGES = ("search", "compose", "regions", "omni", "text", "compare")  # the zoo's own
_FILES = frozenset(module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))


@checked(name=text)
def register_demo(name: str) -> Callable[[Builder], Builder]:
    """Names the decorated `build(model, **page)`, which gives the page of a model whose spec says `demo=name`.

    `page` holds what only some pages need (`gallery`, `local`, …: see `zoo.demos.search.build`); take `**page`, and what you use.

    Raises:
        ValueError: the name is taken.
    """

    def register(builder: Builder) -> Builder:
        ours = builder.__module__ == f"{__package__}.{name}"
        if name in _BUILDERS or (name in _FILES and not ours):
            raise ValueError(f"two demos are called {name!r}")
        _BUILDERS[name] = builder
        return builder

    return register


def demo_of(model: "Embedder", page: str | None = None) -> "Callable[..., gr.Blocks]":
    """What builds the page of this kind of model.

    Args:
        page: a demo by name, such as "regions", in place of the spec's.

    Raises:
        ZooError: there is no such demo: it is none of the zoo's, and no installed package brings it.
    """
    name = page or model.spec.demo
    if name == "search" and page is None and "regions" in model.spec.modalities:
        name = "regions"  # what such a model can do that others cannot
    discover("demos")
    if name not in _BUILDERS and name in _FILES:
        import_module(f".{name}", __package__)
    if name not in _BUILDERS and page:
        raise ZooError(f"there is no page {page!r}; there are {', '.join(PAGES)}, and those of installed packages")
    if name not in _BUILDERS:
        raise ZooError(
            f"{model.spec.name} is shown by the demo {name!r}, which this zoo does not have; install the package that brings it"
        )
    return _BUILDERS[name]
