"""What the site does beyond MkDocs: files outside docs/ that pages link to, notebooks as pages, and one tree for the API pages.

Pages are written for GitHub, where a link may go anywhere in the repository. In the site a file of docs/ has its place without
"docs/", README.md is index.md where there is no other, and every other linked file has the path that it has in the repository.
"""

import base64
import json
import posixpath
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

PROJECT = Path(__file__).resolve().parents[2]
# `](target "title")` of Markdown, and src or href of the HTML in it.
_LINK = re.compile(r"""(?P<before>\]\(|(?:src|href|srcset)=")(?P<target>[^)\s"#?]+)(?P<after>[^)"]*[)"])""")
_FENCE = re.compile(r"^(```|~~~).*?^\1\s*$", re.DOTALL | re.MULTILINE)


def on_startup(command: str, dirty: bool) -> None:
    """Copies the Python files into build/api as they are installed: training/ and demos/ under zoo/."""
    api = PROJECT / "build" / "api"
    shutil.rmtree(api, ignore_errors=True)
    for source, target in (("zoo", "zoo"), ("training", "zoo/training"), ("demos", "zoo/demos")):
        for path in (PROJECT / source).rglob("*.py"):
            place = api / target / path.relative_to(PROJECT / source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)


def on_files(files: Files, config: Any) -> Files:
    """Adds README.md as the first page, notebooks as pages, and what pages link to outside of docs/."""
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        for name, content in notebook_page(file.src_uri, Path(file.abs_src_path).read_text("utf-8")):
            files.append(File.generated(config, name, content=content))
    if files.get_file_from_path("index.md") is None:
        files.append(File.generated(config, "index.md", content=(PROJECT / "README.md").read_text("utf-8")))
    unread = [file for file in files if file.is_documentation_page()]
    while unread:
        file = unread.pop()
        for target in links(file.content_string, repository_path(file.src_uri)):
            path, place = PROJECT / target, site_path(target)
            if files.get_file_from_path(place) is None and path.exists() and not target.startswith("docs/"):
                content = _listing(path) if path.is_dir() else path.read_bytes()
                new = File.generated(config, place, content=content, inclusion=InclusionLevel.NOT_IN_NAV)
                files.append(new)
                unread += [new] * new.is_documentation_page()
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turns the links of a page from the repository's paths to the site's."""
    here = page.file.src_uri
    source = repository_path(here)

    def moved(target: str) -> str:
        place = site_path(posixpath.normpath(posixpath.join(posixpath.dirname(source), target)))
        return posixpath.relpath(place, posixpath.dirname(here) or ".")

    return with_links(markdown, moved)


def repository_path(place: str) -> str:
    """The path in the repository of a page of the site."""
    if (PROJECT / "docs" / place).is_file() or place.startswith("notebooks/"):
        return f"docs/{place}"
    return "README.md" if place in ("index.md", "readme.md") else place


def site_path(path: str) -> str:
    """The path in the site of a file or folder of the repository."""
    if path == "README.md":  # MkDocs would take a page of that name for one more index
        return "readme.md" if (PROJECT / "docs" / "index.md").is_file() else "index.md"
    if (PROJECT / path).is_dir():
        path += "/index.md"
    path = re.sub(r"^docs/(notebooks/.*)\.ipynb$", r"docs/\1.md", path)
    return path.removeprefix("docs/")


def with_links(markdown: str, change: Callable[[str], str]) -> str:
    """A page with every link to a file changed; fenced blocks and addresses stay."""

    def changed(match: re.Match[str]) -> str:
        target = match["target"]
        if ":" in target or target.startswith("/"):
            return match[0]
        return match["before"] + change(target) + match["after"]

    parts, at = [], 0
    for fence in _FENCE.finditer(markdown):
        parts += [_LINK.sub(changed, markdown[at : fence.start()]), fence[0]]
        at = fence.end()
    return "".join([*parts, _LINK.sub(changed, markdown[at:])])


def links(markdown: str, source: str) -> list[str]:
    """The files of the repository that a page links to, as paths in it."""
    found: list[str] = []

    def note(target: str) -> str:
        found.append(posixpath.normpath(posixpath.join(posixpath.dirname(source), target)))
        return target

    with_links(markdown, note)
    return found


def notebook_page(place: str, text: str) -> Iterator[tuple[str, str | bytes]]:
    """(path in the site, content) of the page of a notebook, and of the images that it shows."""
    base = place.removesuffix(".ipynb")
    name = posixpath.basename(base)
    parts, images = [], 0
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data or "image/jpeg" in data:
                kind = "png" if "image/png" in data else "jpeg"
                images += 1
                yield f"{base}-{images}.{kind}", base64.b64decode("".join(data[f"image/{kind}"]))
                parts.append(f"![What this cell shows]({name}-{images}.{kind})")
            elif "text/html" in data:
                parts.append("".join(data["text/html"]))
            elif said := "".join(output.get("text", data.get("text/plain", ""))).strip("\n"):
                parts.append(f"```text\n{said}\n```")
    parts.append(f"*This page is a notebook: [{name}.ipynb]({name}.ipynb).*")
    yield f"{base}.md", "\n\n".join(parts)


def _listing(folder: Path) -> str:
    names = sorted(path.name for path in folder.glob("*.md"))
    return "\n".join(
        [f"# {folder.name.replace('_', ' ').capitalize()}", "", *(f"- [{n[:-3]}]({n})" for n in names), ""]
    )
