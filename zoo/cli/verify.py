"""Check a model against its certificate, with every library.

The certificate holds the vectors of golden inputs, as they were where the model was made. This command computes them again on your
machine, with each library, in float32 and half precision and in batches of several sizes, and prints the largest difference and the
smallest cosine. If something departs, it says what (another file, fact, tokenizer or resize, a library that gives something else), and the exit
status is 1. Without a certificate it says so, compares the loaders with each other, and the exit status is 1 too.

Of a reranker these are scores of golden pairs, compared by the zoo in float32 and in batches of several sizes.

In float32, texts and images of the model's own size must agree to 1e-5. Resized images must agree to the cosine that was
measured between torch's and Pillow's resizing, since other libraries use either.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli._shared import add_ignore, add_like, print_json, print_table, source

if TYPE_CHECKING:
    from zoo.publishing.certificate import Report

EXAMPLES = (
    "zoo verify zoo-mini",
    "zoo verify hf:me/my-model",
    "zoo verify runs/mine --quick",
    "zoo verify hf:me/my-model@COMMIT --loaders zoo,sentence-transformers --json",
    "zoo verify ./my-folder --write",
    "zoo verify ./my-reranker",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `zoo verify`."""
    parser.add_argument("name", help="a name of `zoo list`, hf:ORG/REPO[@REVISION], or a folder")
    parser.add_argument("--loaders", metavar="A,B", help="only these libraries (default: all that open it)")
    parser.add_argument("--dtypes", metavar="A,B", help="among float32, bfloat16, float16 (default: all)")
    parser.add_argument("--quick", action="store_true", help="float32 in batches of 32 only")
    parser.add_argument(
        "--write", action="store_true", help="make the certificate of a folder, in place of an older one"
    )
    add_like(parser, "name")
    add_ignore(parser)
    parser.add_argument("--trust-remote-code", action="store_true", help="let Python files of the folder run")
    parser.add_argument("--json", action="store_true", help="for machines")


def run(arguments: argparse.Namespace) -> int:
    """Prints the table and the verdict; 0 where nothing departs, 1 where something does, or nothing is certified."""

    from zoo.errors import ZooError
    from zoo.publishing import certificate
    from zoo.publishing.certificate import BATCHES, DTYPES
    from zoo.publishing.exports import LOADERS

    options = {
        "loaders": _listed(arguments.loaders, LOADERS, "--loaders"),
        "dtypes": ("float32",) if arguments.quick else _listed(arguments.dtypes, DTYPES, "--dtypes") or DTYPES,
        "batch_sizes": (32,) if arguments.quick else BATCHES,
        "trust_remote_code": arguments.trust_remote_code,
        "ignore": arguments.ignore,
    }
    if arguments.trust_remote_code and "@" not in arguments.name and not Path(arguments.name).expanduser().is_dir():
        raise ZooError("--trust-remote-code runs code of the repository: pin it with hf:ORG/REPO@<full commit>")
    if (reranker := _reranker_folder(arguments.name)) is not None:
        return _run_reranker(arguments, reranker)
    where = source(arguments.name)
    if arguments.write:
        return _write(where, arguments.ignore)
    say = _progress if sys.stderr.isatty() else lambda message: None
    return _told(certificate.verify(where, **options, say=say), arguments)


def _reranker_folder(name: str) -> "Path | None":
    """The folder of a reranker that is meant, all files of its repository fetched; None for any other model."""
    from zoo.cli._rerank import of_reranker
    from zoo.errors import ZooError
    from zoo.publishing.certificate import fetch
    from zoo.reranking import is_reranker
    from zoo.reranking.recognising import says_reranker

    if is_reranker(name):
        raise ZooError(
            f"{name} is its authors' repository, which has no certificate; verify a folder or repository of your own"
        )
    if of_reranker(name):
        return Path(name).expanduser()
    folder = fetch(name) if name.startswith("hf:") else None
    return folder if folder is not None and says_reranker(folder) else None


def _run_reranker(arguments: argparse.Namespace, folder: "Path") -> int:
    """The same of a reranker, whose scores are compared."""
    from zoo.errors import ZooError
    from zoo.publishing.certificate.scores import BATCHES, verify_scores, write_scores
    from zoo.reranking import load_reranker

    for option in ("loaders", "dtypes", "trust_remote_code"):
        if getattr(arguments, option):
            raise ZooError(
                f"--{option.replace('_', '-')} is of embedders; scores of a reranker are compared by the zoo in float32: leave it out"
            )
    if arguments.write:
        if arguments.name.startswith("hf:"):
            raise ZooError(
                f"--write makes the certificate of a folder; {arguments.name} is none. `zoo publish` makes one by itself"
            )
        print(f"written {write_scores(load_reranker(folder, device='cpu', ignore=arguments.ignore), folder)}")
        return 0
    say = _progress if sys.stderr.isatty() else lambda message: None
    sizes = (32,) if arguments.quick else BATCHES
    return _told(verify_scores(folder, batch_sizes=sizes, ignore=arguments.ignore, say=say), arguments)


def _told(report: "Report", arguments: argparse.Namespace) -> int:
    """Prints a report; 0 where it passes."""
    if arguments.json:
        print_json(report.to_dict())
        return 0 if report.passed else 1
    if report.certified:
        made = ", ".join(f"{name} {version}" for name, version in report.made_with.items())
        print(f"{report.name}: {len(report.rows)} comparisons with the certificate made by {made}")
    else:
        print(
            f"{report.name} has no certificate. What this machine computes in float32, one input at a time, stands in for "
            "it:\nthat shows whether libraries, precisions and batches agree here, not whether these are the right weights."
        )
    print_table(
        ["library", "dtype", "batch", "inputs", "max diff", "cosine", "verdict"],
        [
            [
                row.loader,
                row.dtype,
                str(row.batch_size),
                row.kind.replace(" image", ""),
                "-" if row.difference is None else f"{row.difference:.1e}",
                "-" if row.cosine is None else f"{row.cosine:.6f}",
                {True: "ok", False: "DEPARTS", None: "not run"}[row.passed],
            ]
            for row in report.rows
        ],
        numbers=("batch", "max diff", "cosine"),
    )
    allowed = {f"{row.dtype} {row.kind}": row.allowed for row in report.rows if row.allowed}
    for limit in dict.fromkeys(allowed.values()):
        print(f"allowed for {', '.join(name for name, value in allowed.items() if value == limit)}: {limit}")
    if any(row.kind == "resized image" for row in report.rows):
        print("resized: images that are scaled; libraries resize by torch or by Pillow, whose pixels differ a little")
    for row in report.rows:
        if row.passed is None:
            print(f"not run: {row.loader} in {row.dtype}: {row.note}")
    for note in report.notes:
        print(f"note: {note}")
    if report.passed:
        print("PASS")
        return 0
    print(f"{'DEPARTS' if report.certified else 'NO CERTIFICATE'}: {report.reason}")
    return 1


def _write(where: object, ignore: list[str]) -> int:
    from zoo.errors import ZooError
    from zoo.loading import load_model
    from zoo.publishing import certificate

    if not isinstance(where, Path):
        raise ZooError(f"--write makes the certificate of a folder; {where} is none. `zoo publish` makes one by itself")
    for path in certificate.make(load_model(where, device="cpu", ignore=ignore)).save(where):
        print(f"written {path}")
    return 0


def _listed(text: str | None, known: tuple[str, ...], option: str) -> tuple[str, ...] | None:
    from zoo.errors import ZooError

    if text is None:
        return None
    values = tuple(value.strip() for value in text.split(",") if value.strip())
    if not values or set(values) - set(known):
        raise ZooError(f"{option} {text!r}: write one or more of {', '.join(known)}, separated by commas")
    return values


def _progress(message: str) -> None:
    print(f"· {message}", file=sys.stderr, flush=True)
