"""The README.md of a published repository: facts under its new name, how each library opens it, what was measured."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from zoo.evaluation.blocks import fill, split
from zoo.evaluation.figures import figures
from zoo.evaluation.results import Result
from zoo.formats import read_object
from zoo.formats.zoo_native import CONFIG, MODEL_TYPE
from zoo.publishing.cards.facts import LIBRARIES, fact_table, front_matter, summary, usage
from zoo.publishing.cards.reading import reading_text
from zoo.registry.parts import brought
from zoo.spec import ModelSpec

_BY = "written by `zoo publish`"


def published_card(
    spec: ModelSpec,
    *,
    repo: str,
    results: Sequence[Result],
    notes: str,
    loaders: Mapping[str, str],
    space: str | None = None,
    certificate: str | None = None,
    folder: Path | None = None,
) -> str:
    """A card for the repository `repo`.

    Args:
        results: our own and the authors' figures; they are set in tables apart.
        notes: the card that the model had, or only what a person wrote: its blocks are written anew and its front
            matter is (the model's name is not the repository's), all else is kept where it stands.
        loaders: what opens the repository ("zoo", "transformers", ...) → "", or the reason why it does not.
        space: "org/name" of its demo. certificate: file of the golden vectors.
        folder: what will be uploaded; with it the programs for other libraries say no more than its files need.

    Raises:
        InvalidCardError: the front matter of `notes` is no YAML.
    """
    kept, body = split(notes)
    parts = [f"# {spec.name}", summary(spec, weights=True)]
    if space:
        parts.append(f"Try it in the browser: [{space}](https://huggingface.co/spaces/{space}).")
    parts += [fact_table(spec), "## Use", _needs(folder), _code(usage(spec, f"hf:{repo}")), reading_text(spec)]
    parts += _libraries(spec, repo, loaders, folder)
    if certificate:
        parts.append(
            f"`zoo verify hf:{repo}` computes the golden vectors of `{certificate}` again, with every library that opens "
            "this repository, and says where one departs."
        )
    body = fill(body, "facts", "\n\n".join(part for part in parts if part), _BY)
    body = fill(body, "measured", figures(results), f"{_BY} from results.json")
    return f"{front_matter(spec, repo=repo, results=results, loaders=loaders, kept=kept)}\n{body}"


def brought_parts(folder: Path) -> dict[str, str]:
    """The parts of other packages in a folder → the installed package that brings each, "acme-zoo==0.1", or "".

    Only the zoo's own layout can name such parts; a config.json of transformers names none.
    """
    config = read_object(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    if config.get("model_type") != MODEL_TYPE:
        return {}
    parts = [part for tower in config["towers"] for part in (*tower.values(), *tower.get("outputs", {}).values())]
    parts += [config.get(role, {}) for role in ("fusion", "region")]
    return brought({part.get("kind", "") for part in parts if isinstance(part, dict)})


def _needs(folder: Path | None) -> str:
    """What is to be installed beside the zoo, since the model has parts of other packages."""
    theirs = brought_parts(folder) if folder is not None else {}
    return "\n".join(
        f"It needs {f'the package `{package}`' if package else 'the package'} that brings `{name}`, whatever opens it."
        for name, package in theirs.items()
    )


def _libraries(spec: ModelSpec, repo: str, loaders: Mapping[str, str], folder: Path | None) -> list[str]:
    """A program for each other library that opens the repository, and why the others do not."""
    parts = []
    if serving := [name for name in LIBRARIES if loaders.get(name) == ""]:
        from zoo.publishing import exports

        for name in serving:
            parts += [f"### With {name}", _code(exports.snippet(name, repo, spec, folder).strip())]
    reasons = [f"- {name}: {' '.join(why.split())}" for name, why in loaders.items() if why]
    return [*parts, *(["Not opened by:\n\n" + "\n".join(reasons)] if reasons else [])]


def _code(program: str) -> str:
    return f"```python\n{program}\n```"
