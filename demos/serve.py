"""Starts a demo: loads the model, embeds the gallery in the terminal, then opens the page."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import load_model
from zoo.errors import ZooError
from zoo.inputs.heif import check_library
from zoo.serving.doors import LocalHosts, SameOrigin, bound_socket, is_loopback

from .registry import demo_of

if TYPE_CHECKING:
    import gradio as gr

    from zoo import Embedder

    from .gallery import Gallery

MAX_UPLOAD = "20mb"


def launch(
    model_name: str | Path | None = None,
    photos: Path | str | Sequence[Path | str] | None = None,
    *,
    vectors: Path | str | None = None,
    port: int | None = None,
    host: str = "127.0.0.1",
    share: bool = False,
    samples: bool = True,
    queries: Sequence[str] = (),
    compare: Sequence[str | Path] = (),
    heif: bool = False,
    page: str | None = None,
    browser: bool = False,
    block: bool = True,
    ignore: Sequence[str] = (),
    backend: str = "torch",
    root: Path | str | None = None,
    allow_outside: bool = False,
) -> "gr.Blocks":
    """Opens the demo of a model on a web page.

    Args:
        model_name: a registered name, or whatever `load_model` opens; by default the one that made `vectors`, else zoo-mini.
        photos: folders of images to search, and on the page of a model that hears or watches of all that it reads; the samples
            join them unless `samples` is False. Their vectors are kept in the user's cache, so that the next start embeds only
            what is new.
        vectors: a folder that `zoo embed` made of them, which are searched as they are, without the samples.
        port: where to listen; None and 0 take the first free one from 7860 on.
        host: the address to listen on; "0.0.0.0" lets other machines in, and then no folder can be indexed by path.
        share: makes a public link through Gradio's tunnel (needs a network).
        queries: what to offer to try, in place of words that stand out.
        compare: models that the page sets beside `model_name`, or beside the first of them (`zoo.demos.compare`).
        heif: decodes HEIC images of visitors where others reach the page, in a process of its own (see `zoo.inputs.apart`);
            without it they are refused there. A page of this machine alone decodes them wherever pillow-heif is installed.
        page: what is shown at first, "search", "compose" (an image and a text together) or "regions" (point at a thing); by default
            what suits the model.
        browser: opens the page in the user's browser.
        block: waits until Ctrl-C; False returns the running page (`.close()` ends it).
        ignore, backend: as in `load_model`. root, allow_outside: where the images of `vectors` are, if they were not made here; see
            `zoo.vectors.lookup.Inputs`.

    Raises:
        ZooError: a model cannot be loaded, `compare` with `vectors` or another page, no image can be found, there is no such page, the port is taken, or `heif` is asked for without pillow-heif.
    """
    if find_spec("gradio") is None:
        raise ZooError('the demo needs gradio: pip install "embedding-zoo[demo]"')
    if heif:
        check_library()
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    folders = [Path(photos)] if isinstance(photos, str | Path) else [Path(folder) for folder in photos or ()]
    folders = [folder.expanduser() for folder in folders]
    if compare:
        model_name, compare = _sides(model_name, compare, vectors, page)
        page = "compare"
    if vectors is not None:
        vectors = Path(vectors).expanduser()
    model_name = model_name or _maker(vectors)
    bound_socket(host, port or 0).close()  # an error before the model is loaded
    model = _loaded(model_name, ignore, backend)
    build = demo_of(model, page)
    local = is_loopback(host) and not share
    there = {"root": None if root is None else Path(root), "allow_outside": allow_outside}
    shown = {"samples": samples and vectors is None, "vectors": vectors, **there}
    options = {"heif": heif, **_shown(model, page or model.spec.demo, folders, queries, shown, downloads=local)}
    options |= _beside(compare, ignore, folders, samples, backend) if compare else {}
    roots = [Path.home(), Path.cwd(), *folders] if local else ()
    opened = build(model, local=local, roots=roots, **options)
    url = _started(opened, host, port, local, share=share, inbrowser=browser)
    print(
        f"\n  {model.spec.name} is ready: open {opened.share_url or url} in a browser. Ctrl-C stops it.\n", flush=True
    )
    if block:
        _end_in_order()
        opened.block_thread()
    return opened


def _loaded(name: str | Path, ignore: Sequence[str], backend: str) -> "Embedder":
    """A model; what computes it is decided before anybody waits for it."""
    print(f"Loading {name} ...", file=sys.stderr, flush=True)
    model = load_model(name, ignore=ignore, backend=backend)
    if backend == "torch":
        return model
    from zoo.backends import settle

    settle(model)
    print(f"backend {model.backend}", file=sys.stderr, flush=True)
    return model


def _maker(vectors: Path | None) -> str:
    """The model of a page whose caller names none: the one that made its vectors, else the packaged one."""
    if vectors is None:
        return "zoo-mini"
    from zoo.bulk.makers import maker_of
    from zoo.index import read_manifest

    return maker_of(vectors, read_manifest(vectors))


def _sides(
    name: str | Path | None, compare: Sequence[str | Path], vectors: Any, page: str | None
) -> tuple[str | Path, list[str | Path]]:
    """The first model of a comparison and the others; raises ZooError for what such a page does not show."""
    first, *others = [*([] if name is None else [name]), *compare]
    if not others:
        raise ZooError(f"{first} alone is not compared; name two models or more")
    if vectors is not None:
        raise ZooError(
            "--vectors were made by one model, and --compare embeds the images by each; name a folder of images"
        )
    if page not in (None, "compare"):
        raise ZooError(f"--compare has a page of its own, and shows no {page!r}")
    return first, others


def _beside(
    names: Sequence[str | Path], ignore: Sequence[str], folders: Sequence[Path], samples: bool, backend: str
) -> dict[str, Any]:
    """The other models of a comparison, and the images embedded by each."""
    others, galleries = [], []
    for name in names:
        others.append(_loaded(name, ignore, backend))
        if "image" in others[-1].spec.modalities:  # else the page says so
            galleries.append(gallery_of(others[-1], folders, samples=samples))
    return {"others": others, "galleries": galleries}


def _shown(
    model: "Embedder",
    page: str,
    folders: Sequence[Path],
    queries: Sequence[str],
    shown: dict[str, Any],
    *,
    downloads: bool,
) -> dict[str, Any]:
    """The options of a page that say what it shows at first.

    Args:
        shown: `samples`, `vectors`, and where these lie, as of `gallery_of`. downloads: whether it may fetch other models.

    Raises:
        ZooError: vectors for a model whose page has no gallery. Besides what `gallery_of` raises.
    """
    from .chooser import Models

    modalities, vectors = model.spec.modalities, shown["vectors"]
    if page == "omni" and {"audio", "video"} & modalities:
        options: dict[str, Any] = {"samples": shown["samples"], "queries": queries}
        if folders or vectors or (shown["samples"] and "image" in modalities):
            from .asked import kinds_of

            options["gallery"] = gallery_of(model, folders, kinds=kinds_of(model), **shown)
        return options
    if "image" in modalities:
        models = Models(model, downloads=downloads)
        return {"models": models, "queries": queries, "gallery": gallery_of(model, folders, **shown)}
    if vectors is not None:
        raise ZooError(f"{model.spec.name} reads no images, and --vectors is of images")
    return {}


def _started(page: "gr.Blocks", host: str, port: int | None, local: bool, **options: Any) -> str:
    """The address of the page, which answers from now on; raises ZooError where it cannot listen."""
    options |= page_options(page, local=local)
    try:
        return page.launch(server_name=host, server_port=port or None, prevent_thread_lock=True, quiet=True, **options)[
            1
        ]
    except OSError as error:
        raise ZooError(f"cannot listen at {host}:{port or 7860}: {error}; --port 0 takes any free port") from error


def _end_in_order() -> None:
    """Lets SIGTERM end the process as Ctrl-C does, so that what visitors uploaded is removed."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def page_options(page: "gr.Blocks", *, local: bool = True) -> dict[str, Any]:
    """What every demo's `launch()` gets: look, limits, and nothing served or recorded beyond the page itself.

    A `local` page answers only what is asked of this machine's own names, and nothing that another web page sends.
    """
    from starlette.middleware import Middleware

    from .caching import Cached
    from .visitors import Uploads, Visitors
    from .widgets import CSS, HEAD, fetch_nothing, theme

    fetch_nothing(page)
    visitors = getattr(page, "visitors", None) or Visitors(local=local)
    kept = Middleware(Cached, thumbnails=getattr(page, "thumbnails", None))
    doors = [Middleware(LocalHosts), Middleware(SameOrigin)] if local else []
    return {
        "app_kwargs": {
            "middleware": [*doors, Middleware(Uploads, visitors=visitors), kept],
            "routes": getattr(page, "routes_of_ours", []),
        },
        "theme": theme(),
        "css": CSS,
        "head": HEAD,
        "max_file_size": MAX_UPLOAD,
        # Unexpected errors may name files of this machine; messages meant for visitors are shown in any case.
        "show_error": local,
        "footer_links": ["api"],
        "run_history": False,
        "enable_monitoring": False,
        "ssr_mode": False,
        "allowed_paths": [],
        # Gradio's last check before it goes on gives the page three seconds to answer: too few on a busy machine.
        # That the port answers at all was found out just before, without a time limit.
        "_frontend": False,
        "state_session_capacity": 10_000 if local else 200,
    }


def gallery_of(
    model: "Embedder",
    folders: Sequence[Path] = (),
    *,
    samples: bool = True,
    vectors: Path | None = None,
    kinds: Sequence[str] = (),
    root: Path | None = None,
    allow_outside: bool = False,
) -> "Gallery":
    """The images of folders, of a folder of vectors, and the shipped samples, each once; with a bar on the terminal.

    Args:
        kinds: of files that are shown; by default images alone.

    Raises:
        ZooError: a folder holds no images, or there is nothing to show at all.
    """
    from .gallery import embed_files, joined, sample_images
    from .stored import folder_gallery, sample_gallery, vectors_gallery

    shipped = sample_images() if samples and (not kinds or "image" in kinds) else []
    if not (folders or shipped or vectors):
        raise ZooError("there are no images to search: name a folder with --photos, or install scikit-image")
    there = {"root": root, "allow_outside": allow_outside}
    parts = [] if vectors is None else [vectors_gallery(model, vectors, kinds=kinds, **there)]
    more: dict[str, Any] = {}
    if kinds:
        from .asked import input_of

        more = {"kinds": kinds, "read": lambda path: input_of(model, path)}
    for folder in folders:
        with _bar(f"Embedding {folder}") as progress:
            parts.append(folder_gallery(model, folder, progress=progress, **more))
    if shipped:
        with _bar("Embedding the samples") as progress:
            embed = sample_gallery if kinds else embed_files
            parts.append(embed(model, shipped, progress=progress))
    left_out = [one for part in parts for one in part.refused]
    for one in left_out[:10]:
        print(f"  left out: {one.name}: {one.reason}", file=sys.stderr)
    if len(left_out) > 10:
        print(f"  and {len(left_out) - 10} more", file=sys.stderr)
    return joined(parts)


@contextmanager
def _bar(what: str) -> "Iterator[Callable[[int, int], None]]":
    from tqdm import tqdm

    with tqdm(desc=what, unit=" images") as bar:

        def move(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield move
