"""Open a web page that shows what a model can do."""

import argparse

from zoo.cli._shared import DEFAULT_MODEL, add_backend, add_ignore, add_like, add_outside, existing, port, source
from zoo.errors import ZooError

EXAMPLES = (
    "zoo demo",
    "zoo demo --vectors vectors/",
    "zoo demo zoo-mini --photos ~/Pictures",
    "zoo demo zoo-mini --page regions",
    "zoo demo --compare zoo-mini zoo-mini-region             # one query, side by side",
    "zoo demo clip-vit-b32-openai --port 7861",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `zoo demo`."""
    parser.add_argument(
        "name", nargs="?", help=f"a name of `zoo list` (default: the one that made --vectors, else {DEFAULT_MODEL})"
    )
    parser.add_argument(
        "--photos", action="append", default=[], type=existing, metavar="DIR", help="search these images too; repeat"
    )
    parser.add_argument("--vectors", type=existing, metavar="DIR", help="search what `zoo embed` made of images")
    parser.add_argument("--root", type=existing, metavar="DIR", help="where the images of --vectors are")
    parser.add_argument(
        "--compare", nargs="+", default=[], metavar="NAME", help="set these models side by side over the same images"
    )
    parser.add_argument(
        "--space",
        type=existing,
        metavar="DIR",
        help="with --compare: write the files of a Hub Space with this page, and open none",
    )
    add_outside(parser)
    add_like(parser, "name")
    add_ignore(parser)
    add_backend(parser)
    parser.add_argument(
        "--page", metavar="NAME", help="what is shown at first: search, compose or regions (point at a thing)"
    )
    parser.add_argument("--no-samples", action="store_true", help="leave out the images that come with the packages")
    parser.add_argument("--port", type=port, help="where to listen (default, and 0: the first free one from 7860 on)")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in (default: 127.0.0.1)")
    parser.add_argument("--share", action="store_true", help="make a public link (needs a network)")
    parser.add_argument(
        "--heif", action="store_true", help="decode visitors' HEIC images on a page that others reach too"
    )
    parser.add_argument("--browser", action="store_true", help="open the page in your browser")


def run(arguments: argparse.Namespace) -> int:
    """Serves the page until Ctrl-C."""
    name = source(arguments.name) if arguments.name else None
    for folder in arguments.photos:
        if not folder.is_dir():
            raise ZooError(f"--photos {folder}: {'it is no folder' if folder.exists() else 'it does not exist'}")
    if arguments.vectors is None and (arguments.root or arguments.allow_outside):
        raise ZooError("--root and --allow-outside are of the images of --vectors")
    try:
        from zoo.demos import launch
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("zoo"):
            raise
        raise ZooError(f'the demo needs {error.name}: pip install "embedding-zoo[demo]"') from error
    if arguments.space is not None:
        if arguments.model_backend != "torch":
            raise ZooError("--backend is of a page on this machine, and --space writes one for the Hub; leave it out")
        return _space(arguments)
    launch(
        name,
        arguments.photos,
        vectors=arguments.vectors,
        port=arguments.port,
        host=arguments.host,
        share=arguments.share,
        samples=not arguments.no_samples,
        compare=[source(one) for one in arguments.compare],
        heif=arguments.heif,
        page=arguments.page,
        browser=arguments.browser,
        ignore=arguments.ignore,
        backend=arguments.model_backend,
        root=arguments.root,
        allow_outside=arguments.allow_outside,
    )
    return 0


def _space(arguments: argparse.Namespace) -> int:
    """Writes the Space of a comparison, and says how it is sent."""
    from zoo.demos.space import write_comparison

    models = [*([arguments.name] if arguments.name else []), *arguments.compare]
    if len(models) < 2:
        raise ZooError("--space is of --compare with two models or more; for one model there is `zoo publish --space`")
    if len(arguments.photos) > 1:
        raise ZooError("a Space has one folder of images: give --photos once")
    names = write_comparison(arguments.space, models, photos=next(iter(arguments.photos), None))
    print(f"{arguments.space}: {', '.join(name for name in names if '/' not in name)}")
    print(f"send it: hf upload me/compare {arguments.space} --repo-type space")
    return 0
