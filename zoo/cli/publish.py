"""Put a model on the Hub, where several libraries load it.

The libraries are the zoo, transformers, sentence-transformers and open_clip.

It writes one repository: weights (safetensors only), the files of every loader that can read them, a card with the measured
figures, and a certificate that anyone can check with `zoo verify`. Before anything is sent, every loader opens the
staged folder and must give the same vectors. With --space the repository gets a live demo beside it.

An interrupted upload continues when the same command is run again: what the Hub already has is not sent twice.
"""

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from zoo._version import __version__
from zoo.cli._shared import add_ignore, add_like, check_folder, existing, print_json, source
from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.publishing.staging import Staged

EXAMPLES = (
    "zoo publish runs/mine --to me/my-model --dry-run",
    "zoo publish runs/mine --to me/my-model --space",
    "zoo publish runs/mine --to me/my-model --space --photos examples/",
    "zoo publish runs/mine --to me/my-model --update --message 'Two more epochs'",
    "zoo verify hf:me/my-model",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `zoo publish`."""
    parser.add_argument("source", help="a run's folder, or whatever the zoo loads by name")
    parser.add_argument("--to", required=True, metavar="ORG/NAME", help="the repository; NAME becomes the model's name")
    parser.add_argument(
        "--space",
        nargs="?",
        const="",
        metavar="ORG/NAME",
        help="publish a Gradio Space with the demo too (default name: the repository's with -demo)",
    )
    parser.add_argument(
        "--photos",
        type=existing,
        metavar="DIR",
        help="images that the Space shows (small copies, without place or camera), with the texts that a run was judged by",
    )
    parser.add_argument("--timm", metavar="ORG/NAME", help="publish the vision tower for timm in its own repository")
    parser.add_argument("--wheel", type=existing, metavar="FILE", help="a wheel of the zoo that the Space installs")
    parser.add_argument("--license", metavar="ID", help="where it differs from the base model's, e.g. cc-by-4.0")
    add_like(parser, "source")
    add_ignore(parser)
    parser.add_argument("--private", action="store_true", help="visible to you and your organisation only")
    parser.add_argument(
        "--update",
        action="store_true",
        help="put a new commit on a repository that holds something; the card is written from the source's README.md, so "
        "edit it there and not on the Hub",
    )
    parser.add_argument("--message", default=None, help="of the commit")
    parser.add_argument("--no-verify", action="store_true", help="send it without trying every loader first")
    parser.add_argument("--dry-run", action="store_true", help="write and try everything, send nothing")
    parser.add_argument("--keep", type=existing, metavar="DIR", help="keep the staged files in this new folder")
    parser.add_argument("--json", action="store_true", help="the outcome for machines")


def run(arguments: argparse.Namespace) -> int:
    """Stages, tries, uploads; prints where it is."""
    from zoo.publishing.staging import stage, stage_timm
    from zoo.publishing.uploading import MESSAGE, upload
    from zoo.reranking.registry import reranker_meant

    if reranker_meant(arguments.source):
        return _run_reranker(arguments)
    model = source(arguments.source)
    repo, space = _repositories(arguments)
    _check(arguments, space)
    outcome: dict[str, object] = {}
    revision = "0" * 40  # until the model is sent
    with _stage_room(arguments.keep) as room:
        staged = stage(
            model,
            repo,
            room / "model",
            space=space,
            license=arguments.license,
            check=not arguments.no_verify,
            ignore=arguments.ignore,
            say=lambda message: print(f"· {message}", file=sys.stderr, flush=True),
        )
        files = staged.files  # noted before the folder goes
        if not arguments.json:
            _show(staged)
        if space:  # what is wrong with it is reported before anything is sent
            _stage_space(room / "space", staged, space, revision, arguments)
        options = {
            "private": arguments.private,
            "update": arguments.update,
            "message": arguments.message or MESSAGE,
        }
        if arguments.dry_run:
            print("nothing was sent (--dry-run)", file=sys.stderr)
        else:
            print(f"· sending to {repo}", file=sys.stderr, flush=True)
            done = upload(staged.folder, repo, **options)
            revision = done.commit
            outcome["model"] = {"url": done.url, "commit": done.commit, "changed": done.changed}
        if arguments.timm:
            stage_timm(model, arguments.timm, room / "timm")
            if not arguments.dry_run:
                done = upload(room / "timm", arguments.timm, **options)
                outcome["timm"] = {"url": done.url, "commit": done.commit, "changed": done.changed}
        if space:
            wheel = _stage_space(room / "space", staged, space, revision, arguments)
            if wheel is None:
                print(
                    f"· the Space installs embedding-zoo {__version__} from the package index; if it is not there, publish "
                    "with --wheel FILE",
                    file=sys.stderr,
                )
            for package in sorted(filter(None, set(staged.packages.values()))):
                print(f"· the Space installs {package} from the package index too", file=sys.stderr)
            if not arguments.dry_run:
                # A Space is ours whole: a second publication always moves it to the new commit of the model.
                done = upload(room / "space", space, kind="space", **{**options, "update": True})
                outcome["space"] = {"url": done.url, "commit": done.commit, "changed": done.changed, "wheel": wheel}
    if arguments.keep and not arguments.json:
        print(f"kept: {', '.join(str(path) for path in sorted(arguments.keep.iterdir()))}", file=sys.stderr)
    if arguments.json:
        print_json({"repo": repo, "loaders": staged.loaders, "files": files, **outcome})
    elif outcome:
        for what, facts in outcome.items():
            print(f"{what:<6} {facts['url']}  {'' if facts['changed'] else '(nothing new) '}{facts['commit'][:12]}")
        print(f"anyone checks it with:  zoo verify hf:{repo}")
    return 0


def _run_reranker(arguments: argparse.Namespace) -> int:
    """The same for a reranker, which has no demo and no other libraries' loaders beside its own files."""
    from zoo.publishing.rerankers import stage_reranker
    from zoo.publishing.uploading import MESSAGE, upload

    refused = {"--no-verify": arguments.no_verify}
    refused |= {f"--{name}": getattr(arguments, name) is not None for name in ("space", "photos", "timm", "wheel")}
    if given := next((name for name, there in refused.items() if there), ""):
        raise ZooError(f"{given} is of embedders, and {arguments.source} is a reranker; leave it out")
    repo, _ = _repositories(arguments)
    _check(arguments, None)
    with _stage_room(arguments.keep) as room:
        spec = stage_reranker(
            arguments.source,
            repo,
            room / "model",
            license=arguments.license,
            ignore=arguments.ignore,
            say=lambda message: print(f"· {message}", file=sys.stderr, flush=True),
        )
        facts: dict[str, object] = {
            "repo": repo,
            "name": spec.name,
            "files": sorted(p.name for p in (room / "model").iterdir()),
        }
        if arguments.dry_run:
            print("nothing was sent (--dry-run)", file=sys.stderr)
        else:
            print(f"· sending to {repo}", file=sys.stderr, flush=True)
            options = {"private": arguments.private, "update": arguments.update}
            done = upload(room / "model", repo, message=arguments.message or MESSAGE, **options)
            facts |= {"url": done.url, "commit": done.commit, "changed": done.changed}
    if arguments.json:
        print_json(facts)
    elif not arguments.dry_run:
        print(f"model  {facts['url']}  {'' if facts['changed'] else '(nothing new) '}{str(facts['commit'])[:12]}")
        print(f'anyone opens it with:  zoo rerank hf:{repo} "a question" FILE')
    return 0


def _repositories(arguments: argparse.Namespace) -> tuple[str, str | None]:
    """The repositories of the model and of the Space, if there is to be one; raises ZooError where they cannot be written."""
    from zoo.publishing.staging import check_repo
    from zoo.publishing.uploading import check_free, who

    repo, space = arguments.to.removeprefix("hf:"), arguments.space
    if space == "":
        space = f"{repo}-demo"
    for name in filter(None, (repo, space, arguments.timm)):
        check_repo(name)
        if not arguments.dry_run:
            who(name)
    if not arguments.dry_run:
        check_free(repo, update=arguments.update)
        if space is None and arguments.update and check_free(f"{repo}-demo", update=True, kind="space"):
            space = f"{repo}-demo"
            print(f"· the Space {space} is there: it moves to the new commit too", file=sys.stderr)
    return repo, space


def _check(arguments: argparse.Namespace, space: str | None) -> None:
    """Raises ZooError for an option that cannot be followed, before anything is loaded."""
    from zoo.publishing.staging import check_license

    if arguments.license:
        check_license(arguments.license)
    if arguments.photos is not None:
        from zoo.demos.gallery import walk_images
        from zoo.demos.space import MAX_PHOTOS

        if space is None:
            raise ZooError("--photos are shown by the Space, and there is none: say --space, or leave it out")
        walk_images(arguments.photos, limit=MAX_PHOTOS)
    if arguments.keep:
        check_folder(arguments.keep)
    if arguments.keep and arguments.keep.exists() and any(arguments.keep.iterdir()):
        raise ZooError(f"--keep {arguments.keep} is not empty; name a new folder")
    if arguments.wheel and not arguments.wheel.is_file():
        raise ZooError(f"--wheel {arguments.wheel}: no such file; `pip wheel --no-deps .` in a checkout makes one")


@contextlib.contextmanager
def _stage_room(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="zoo-publish-") as folder:
        yield Path(folder)


def _stage_space(
    folder: Path, staged: "Staged", space: str, revision: str, arguments: argparse.Namespace
) -> str | None:
    import shutil

    from huggingface_hub import constants

    from zoo.demos.space import write_space

    address, wheel = None, arguments.wheel
    if wheel is not None:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(wheel, folder / wheel.name)
        address = f"{constants.ENDPOINT}/spaces/{space}/resolve/main/{wheel.name}"
    facts = {
        "repo": staged.repo,
        "spec": staged.spec,
        "revision": revision,
        "files": list(staged.files),
        "wheel": address,
        "packages": sorted(filter(None, set(staged.packages.values()))),
    }
    write_space(
        folder, **facts, photos=arguments.photos, queries=_held_out_texts(arguments.source) if arguments.photos else []
    )
    return address


def _held_out_texts(source: str, most: int = 6) -> list[str]:
    """Texts that a run of ours asked of its held-out images, for a Space to offer; [] of anything else."""
    from zoo.training.report.examples import kept_examples

    ways = kept_examples(Path(source).expanduser()).values()
    asked = [case.asked for kinds in ways for cases in kinds.values() for case in cases]
    texts = [shown.text for shown in asked if shown is not None and shown.text and not shown.image]
    return [text for text in dict.fromkeys(texts) if len(text) <= 80][:most]


def _show(staged: "Staged") -> None:
    print(f"opened by {', '.join(name for name, reason in staged.loaders.items() if not reason)}")
    for name, reason in staged.loaders.items():
        if reason:
            print(f"not by {name}: {reason}")
    total = sum(staged.files.values())
    print(f"{len(staged.files)} files, {total / 1e6:,.1f} MB: {', '.join(staged.files)}")
