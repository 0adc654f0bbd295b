"""`python -m zoo.demos zoo-mini`: opens the demo of a model."""

import argparse
import sys
from collections.abc import Sequence

from zoo.allocator import keep_freed
from zoo.cli._shared import source
from zoo.errors import ZooError
from zoo.strangers.terminal import clean_output

from .serve import launch


@clean_output()
def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the command line and runs the page until Ctrl-C; returns the exit status."""
    if arguments is None:
        keep_freed()
    parser = argparse.ArgumentParser(
        prog="python -m zoo.demos",
        description="Open a web page that searches images by what they show.",
        epilog="Example: python -m zoo.demos zoo-mini --photos ~/Pictures",
    )
    parser.add_argument(
        "model", nargs="?", help="a name of `zoo list`, or a folder (default: what made --vectors, else zoo-mini)"
    )
    parser.add_argument(
        "--photos", action="append", default=[], metavar="DIR", help="search the images of this folder too"
    )
    parser.add_argument("--vectors", metavar="DIR", help="search what `zoo embed` made of images")
    parser.add_argument("--root", metavar="DIR", help="where the images of --vectors are")
    parser.add_argument("--allow-outside", action="store_true", help="they may lie anywhere on this machine")
    parser.add_argument(
        "--page", metavar="NAME", help="what is shown at first: search, compose or regions (point at a thing)"
    )
    parser.add_argument("--no-samples", action="store_true", help="leave out the images that come with the packages")
    parser.add_argument("--port", type=int, help="where to listen (default, and 0: the first free one from 7860 on)")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in (default: 127.0.0.1)")
    parser.add_argument("--share", action="store_true", help="make a public link (needs a network)")
    parser.add_argument(
        "--heif", action="store_true", help="decode visitors' HEIC images on a page that others reach too"
    )
    parser.add_argument("--browser", action="store_true", help="open the page in your browser")
    chosen = parser.parse_args(arguments)
    try:
        launch(
            source(chosen.model) if chosen.model else None,
            chosen.photos,
            vectors=chosen.vectors,
            port=chosen.port,
            host=chosen.host,
            share=chosen.share,
            samples=not chosen.no_samples,
            heif=chosen.heif,
            page=chosen.page,
            browser=chosen.browser,
            root=chosen.root,
            allow_outside=chosen.allow_outside,
        )
    except ZooError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
