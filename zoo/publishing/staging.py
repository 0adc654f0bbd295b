"""A model → a folder that every loader reads, with its card, its figures and a certificate; tried before it is sent."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.arguments import checked, flag, model_or_path, optional, path, text
from zoo.errors import (
    HubDiskFullError,
    HubError,
    NotPublishableError,
)
from zoo.files import is_full
from zoo.formats.checks.inside import read_inside
from zoo.publishing.paths import files_inside, without_paths
from zoo.reranking.registry import reranker_meant
from zoo.spec import NAME, ModelSpec
from zoo.strangers.schema import parse

if TYPE_CHECKING:
    from zoo.embedder import Embedder

REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_DEEPEST = 64  # of facts about a run's data


@dataclass(frozen=True)
class Staged:
    """A folder that is ready to be uploaded.

    Attributes:
        loaders: what opens it ("zoo", "transformers", ...) → "", or the reason why it does not.
    """

    folder: Path
    repo: str
    spec: ModelSpec
    loaders: dict[str, str]

    @property
    def files(self) -> dict[str, int]:
        """Path inside the repository → bytes."""
        return {name: path.stat().st_size for name, path in files_inside(self.folder).items()}

    @property
    def packages(self) -> dict[str, str]:
        """Part of another package → what brings it, "acme-zoo==0.1"; "" where nobody knows."""
        from zoo.publishing.cards import brought_parts

        return brought_parts(self.folder)


@checked(source=model_or_path, repo=text, folder=path, space=optional(text), license=optional(text), check=flag)
def stage(
    source: "Embedder | str | Path",
    repo: str,
    folder: Path,
    *,
    space: str | None = None,
    license: str | None = None,
    check: bool = True,
    ignore: Sequence[str] = (),
    say: Callable[[str], None] = lambda message: None,
) -> Staged:
    """Writes everything that a repository gets, and tries it: no network is needed.

    Args:
        source: a model, or whatever `load_model` opens: a run's folder, a registered name, ...
        repo: "org/name"; the model's name becomes the second half.
        folder: new or empty. space: the repository of its demo, named in the card.
        license: where it differs from the base model's.
        check: every loader must give the certificate's vectors; False leaves that to `zoo verify`.
        ignore: as in `load_model`. say: is told what is being done.

    Raises:
        NotPublishableError: a loader gives other vectors, or the card breaks the Hub's rules.
        HubDiskFullError: there is no room for the staged files.
        ZooError: the source cannot be opened.
    """
    name = check_repo(repo)
    if reranker := reranker_meant(source):
        raise NotPublishableError(
            f"{reranker} is a reranker, and these are the files of embedders; zoo.publishing.publish sends rerankers too"
        )
    if folder.exists() and any(folder.iterdir()):
        raise NotPublishableError(f"{folder} is not empty; stage into a new folder")
    from safetensors import SafetensorError

    try:
        return _stage(source, repo, name, folder, space=space, license=license, check=check, ignore=ignore, say=say)
    except (OSError, SafetensorError) as error:
        if not is_full(error):
            raise
        raise HubDiskFullError(
            f"the disk is full ({error}); set TMPDIR to a larger one, or stage with --keep FOLDER there"
        ) from error


def _stage(source: "Embedder | str | Path", repo: str, name: str, folder: Path, **options: Any) -> Staged:
    from zoo.evaluation.results import FILE, write_results
    from zoo.loading import load_model
    from zoo.publishing import cards, certificate, exports

    say = options["say"]
    model = _renamed(source, repo, name, options["license"], say, options["ignore"])

    say("writing the files of every loader")
    exported = exports.export(model, folder)
    say("certificate: the vectors of the golden inputs")
    # The vectors of the model as it came, the preprocessing as the folder says it: what departs between them shows.
    golden, reopened = certificate.make(model), load_model(folder, device="cpu")
    replace(golden, preprocessing=reopened.fingerprint()["preprocessing"]).save(folder)
    run = Path(source).expanduser() if _is_folder(source) else None
    for file in ("recipe.json", "data.json"):
        if run is not None and (content := read_inside(run, file)) is not None:
            facts = without_paths(parse(content, run / file, NotPublishableError, deepest=_DEEPEST))
            (folder / file).write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    results = cards.measured(source)
    if results:
        write_results(folder / FILE, results)
        for path, text in cards.eval_results(results, repo).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
    card = cards.published_card(
        model.spec,
        repo=repo,
        results=results,
        notes=cards.notes_of(source),
        loaders=exported.loaders,
        space=options["space"],
        certificate=certificate.FILE,
        folder=folder,
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    if wrong := cards.check(card):
        raise NotPublishableError("the card breaks the Hub's rules: " + "; ".join(wrong))
    if options["check"]:
        say("every loader against the certificate")
        report = certificate.verify(folder, dtypes=("float32",), batch_sizes=(1, 32))
        if not report.passed:
            raise NotPublishableError(f"not every loader gives the model's vectors: {report.reason}")
    return Staged(folder, repo, model.spec, exported.loaders)


def _renamed(
    source: "Embedder | str | Path",
    repo: str,
    name: str,
    license: str | None,
    say: Callable[[str], None],
    ignore: Sequence[str] = (),
) -> "Embedder":
    """The model under its new name; the one that was handed over keeps its own."""
    from zoo.embedder import Embedder
    from zoo.loading import load_model

    if not isinstance(source, Embedder):
        say(f"loading {source}")
        source = load_model(source, device="cpu", ignore=ignore)
    old = source.spec
    base = old.base or old.hub_id or (old.name if old.name != name else None)
    spec = replace(
        old,
        name=name,
        hub_id=repo,
        revision=None,
        source="",
        packaged=False,
        recipe="",
        base=base,
        license=license or old.license,
    )
    model = Embedder(spec, list(source.towers), source.fusion, source.region_rule).eval()
    model.logit_scale, model.calibration = source.logit_scale, dict(source.calibration)
    return model


def stage_timm(source: "Embedder | str | Path", repo: str, folder: Path) -> Path:
    """Writes the vision tower for `timm.create_model("hf-hub:…")`: timm wants config.json for itself, so a repository of its own.

    Raises:
        NotExportableError: the model has no vision tower of timm.
    """
    from zoo.publishing.exports import timm

    model = _renamed(source, repo, check_repo(repo), None, lambda message: None)
    timm.write(model, folder)
    card = f"---\nlicense: {_hub_license(model.spec.license)}\nlibrary_name: timm\npipeline_tag: image-feature-extraction\n"
    card += (
        f"tags:\n- timm\n- embedding-zoo\n---\n# {repo.partition('/')[2]}\n\nThe vision tower of {model.spec.name}.\n\n"
    )
    card += f"```python\n{timm.snippet(repo, model.spec)}\n```\n"
    (folder / "README.md").write_text(card, encoding="utf-8")
    return folder


def _hub_license(license: str) -> str:
    return "other" if license.startswith("other: ") else license


def check_repo(repo: str) -> str:
    """The model's name in a repository called "org/name".

    Raises:
        HubError: the Hub would refuse the repository's name, or it makes no model name.
    """
    name = re.sub(r"[^a-z0-9.]+", "-", repo.partition("/")[2].lower()).strip("-.")
    if not REPO.fullmatch(repo) or len(repo) > 96 or "--" in repo or ".." in repo or not NAME.fullmatch(name):
        raise HubError(
            f"{repo!r} is no name for a Hub repository; write ORG/NAME with letters, digits, single hyphens, dots and "
            "underscores, 96 characters at most"
        )
    return name


def check_license(license: str) -> None:
    """Raises NotPublishableError where the Hub has no such licence."""
    from zoo.publishing.cards.schema import LICENSES

    if license not in LICENSES or license == "other":
        raise NotPublishableError(
            f"{license!r} is no licence identifier of the Hub (apache-2.0, mit, cc-by-4.0, …); for a licence of your own "
            "write `license: other`, license_name and license_link into the source's README.md"
        )


def _is_folder(source: Any) -> bool:
    return isinstance(source, Path) or (isinstance(source, str) and source.startswith((".", "/", "~")))
