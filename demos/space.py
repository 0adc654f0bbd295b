"""A Hub Space that shows one published model: app file, pinned requirements and the README's front matter."""

import json
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from string import Template

from zoo._version import __version__
from zoo.errors import ZooError
from zoo.spec import ModelSpec

MAX_PHOTOS, PHOTO_SIDE = 500, 1024
PYTHON = "3.11"  # what the tests run on
_FRONT = """---
title: $title
emoji: 🔎
colorFrom: indigo
colorTo: green
sdk: gradio
sdk_version: "$gradio"
python_version: "$python"
app_file: app.py
pinned: false
"""
APP = '''"""The demo of $repo: everything on this page is `zoo demo hf:$repo`."""

import os

from zoo.demos import launch

launch(
    "$model",$shown
    host=os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0"),
    port=int(os.environ.get("GRADIO_SERVER_PORT", "7860")),
)
'''
COMPARE_APP = '''"""Models side by side: everything on this page is `zoo demo --compare $names`."""

import os

from zoo.demos import launch

launch(
    compare=$listed,$shown
    host=os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0"),
    port=int(os.environ.get("GRADIO_SERVER_PORT", "7860")),
)
'''
COMPARE_README = (
    _FRONT
    + """license: apache-2.0
short_description: One query, several embedding models
models:$repos
tags:
- embedding-zoo
---

# $names

One query over several models, written by `zoo demo --compare … --space DIR`. On your own machine and over your own images:
`pip install "embedding-zoo[demo]"`, then `zoo demo --compare $names --photos ~/Pictures`.
"""
)
README = (
    _FRONT
    + """license: $license
short_description: $short
models:
- $repo
tags:
- embedding-zoo
preload_from_hub:
- $preload
---

# $name

The demo of [$repo](https://huggingface.co/$repo), made by `zoo publish --space`. On your own machine and over your own
images: `pip install "embedding-zoo[demo]"`, then `zoo demo hf:$repo --photos ~/Pictures`.
"""
)
SHORT = {
    frozenset({"text"}): "Search sentences by meaning",
    frozenset({"image"}): "Search images by an image",
    frozenset({"image", "text"}): "Search images by text, or by an image",
}
OMNI = "Search images, clips and recordings by meaning"
POINT = "Point at a thing: its name, and others like it"
_NAME = re.compile(r"^[A-Za-z0-9._-]+")
_PINNED = re.compile(r"hf:[\w.-]+/[\w.-]+@[0-9a-f]{40}")
_PHOTOS = '\n    os.path.join(os.path.dirname(os.path.abspath(__file__)), "photos"),\n    samples=False,'


def write_space(
    folder: Path,
    *,
    repo: str,
    spec: ModelSpec,
    revision: str,
    files: list[str],
    wheel: str | None = None,
    packages: Sequence[str] = (),
    photos: Path | None = None,
    queries: Sequence[str] = (),
) -> list[str]:
    """Writes app.py, requirements.txt and README.md of a Gradio Space.

    Args:
        repo: the model's repository, "org/name". revision: its full commit, which the Space keeps to.
        files: what the model's repository holds; the Space fetches what loading needs when it is built.
        wheel: an address of the zoo's wheel, where it is not to come from the package index.
        packages: what else the model needs, as pip pins it: those that bring its parts.
        photos: a folder of images that the Space shows in place of the shipped ones; copies of at most 1024 pixels, without
            what else the files say (place, camera), go with it. queries: what it offers to try.

    Returns:
        The names of the files.

    Raises:
        ZooError: gradio is not installed, so that its version cannot be pinned; or as `copy_photos`.
    """
    if find_spec("gradio") is None:
        raise ZooError('a Space pins the versions of this machine: pip install "embedding-zoo[demo]"')
    title = f"{spec.name} · Embedding Zoo"
    needed = [name for name in files if Path(name).name.endswith((".json", ".txt", ".model", ".safetensors"))]
    needed = [name for name in needed if not name.startswith(("open_clip", "certificate", "."))]
    license = "other" if spec.license.startswith("other: ") else spec.license
    facts = {
        "title": json.dumps(title, ensure_ascii=False),
        "gradio": version("gradio"),
        "python": PYTHON,
        "license": license,
        "short": _short(spec),
        "repo": repo,
        "name": spec.name,
        "preload": f"{repo} {','.join(needed)} {revision}",
    }
    shown = "".join(
        [
            _PHOTOS if photos else "",
            f"\n    queries={list(queries)!r}," if queries else "",
        ]
    )
    folder.mkdir(parents=True, exist_ok=True)
    copied = [] if photos is None else copy_photos(photos, folder / "photos")
    written = {
        "app.py": Template(APP).substitute(repo=repo, model=f"hf:{repo}@{revision}", shown=shown),
        "README.md": Template(README).substitute(facts),
        "requirements.txt": "\n".join([*requirements(wheel), *packages]) + "\n",
    }
    for name, text in written.items():
        (folder / name).write_text(text, encoding="utf-8")
    return sorted([*written, *copied])


def write_comparison(
    folder: Path, models: Sequence[str], *, wheel: str | None = None, photos: Path | None = None
) -> list[str]:
    """Writes app.py, requirements.txt and README.md of a Gradio Space that sets models side by side (see `zoo.demos.compare`).

    Args:
        folder: a new or empty one. models: registered names, which hold their revision, or hf:ORG/REPO@COMMIT. wheel, photos: as in `write_space`.

    Returns:
        The names of the files.

    Raises:
        ZooError: a model that a Space could not open, such as a folder of this machine, or one whose revision may move; the folder
            holds something; or as `write_space`.
    """
    from zoo.registry import get_spec, is_registered

    if find_spec("gradio") is None:
        raise ZooError('a Space pins the versions of this machine: pip install "embedding-zoo[demo]"')
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ZooError(f"{folder} is not empty; name a new folder")
    for name in models:
        if not (is_registered(name) or _PINNED.fullmatch(name)):
            raise ZooError(f"a Space opens registered names and hf:ORG/REPO@COMMIT, with the full commit, not {name}")
    repos = [get_spec(name).hub_id if is_registered(name) else name[3:].partition("@")[0] for name in models]
    names = " ".join(models)
    facts = {
        "title": json.dumps(f"{' or '.join(models)}? · Embedding Zoo", ensure_ascii=False),
        "gradio": version("gradio"),
        "python": PYTHON,
        "names": names,
        "repos": "".join(f"\n- {repo}" for repo in dict.fromkeys(repos) if repo) or " []",
    }
    folder.mkdir(parents=True, exist_ok=True)
    copied = [] if photos is None else copy_photos(photos, folder / "photos")
    shown = _PHOTOS.replace("\n    os", "\n    photos=os") if photos else ""
    written = {
        "app.py": Template(COMPARE_APP).substitute(names=names, listed=repr(list(models)), shown=shown),
        "README.md": Template(COMPARE_README).substitute(facts),
        "requirements.txt": "\n".join(requirements(wheel)) + "\n",
    }
    for name, text in written.items():
        (folder / name).write_text(text, encoding="utf-8")
    return sorted([*written, *copied])


def _short(spec: ModelSpec) -> str:
    if "regions" in spec.modalities:
        return POINT
    return OMNI if {"audio", "video"} & spec.modalities else SHORT.get(spec.modalities, "Search by meaning")


def copy_photos(photos: Path, target: Path) -> list[str]:
    """Small copies of a folder's images for a Space; returns their names, "photos/…".

    Raises:
        ZooError: as `walk_images`, more than 500 images, or one that cannot be read, by its name: before it is sent.
    """
    from zoo.errors import InputError

    from .gallery import digest, save_small, walk_images

    found, left_out = walk_images(photos, limit=MAX_PHOTOS)
    if left_out:
        raise ZooError(f"{photos}: {left_out[0].name}: {left_out[0].reason} Take it away, or repair it.")
    target.mkdir(parents=True, exist_ok=True)
    names = []
    for image in found:
        name = f"{re.sub(r'[^A-Za-z0-9._-]+', '-', image.path.stem)[:60]}-{digest(image.path)[:8]}.jpg"
        try:
            if not (target / name).exists():  # the name tells the content
                save_small(image.path, target / name, PHOTO_SIDE)
        except InputError as error:
            raise ZooError(f"{photos}: {image.caption}: {error}. Take it away, or repair it.") from error
        names.append(f"{target.name}/{name}")
    return names


def requirements(wheel: str | None = None) -> list[str]:
    """The zoo at this version, and all that it asks for directly, as installed here: what the tests ran with."""
    zoo = f"embedding-zoo[demo] @ {wheel}" if wheel else f"embedding-zoo[demo]=={__version__}"
    lines = []
    for line in requires("embedding-zoo") or []:
        wanted, _, condition = line.partition(";")
        if condition and 'extra == "demo"' not in condition:
            continue
        name = _NAME.match(wanted.strip())[0]
        try:
            lines.append(f"{name}=={version(name).partition('+')[0]}")
        except PackageNotFoundError:
            continue  # an optional part that this machine does without
    return [zoo, *sorted(set(lines))]
