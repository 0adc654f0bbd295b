"""Write vectors for other programs: NumPy, Parquet or faiss.

DIR is what `zoo embed --out DIR` made. --out becomes a folder with the vectors and, in the same order, ids, references and
attributes. Existing files are never overwritten. Everything is read back and compared before the folder gets its name, so a
folder of that name is complete.

npy: vectors.npy, rows.parquet, ids.txt. parquet: vectors.parquet, which holds everything. faiss: index.faiss (exact, inner
product), rows.parquet, ids.txt; needs `pip install "embedding-zoo[faiss]"`. int8 and binary vectors are written as they are
stored, except that faiss gets int8 vectors as float32.
"""

import argparse
import sys

from zoo.cli._shared import existing, print_json, waiting

EXAMPLES = (
    "zoo export vectors/ --to npy --out photos-npy",
    "zoo export vectors/ --to parquet --out photos-parquet --where \"label = 'cat'\"",
    "zoo export vectors/ --to faiss --out photos-faiss",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `zoo export`."""
    parser.add_argument("folder", type=existing, metavar="DIR", help="what `zoo embed --out DIR` made")
    parser.add_argument("--to", required=True, choices=("npy", "parquet", "faiss"), help="what is written")
    parser.add_argument("--out", required=True, type=existing, metavar="PATH", help="a folder that is not there yet")
    parser.add_argument("--where", metavar="SQL", help="rows that match: \"label = 'cat' AND year >= 2020\"")
    parser.add_argument("--json", action="store_true", help="what was written, for machines")


def run(arguments: argparse.Namespace) -> int:
    """Exports; status 1 if a filter leaves nothing."""
    from zoo.shards.folder import unfinished
    from zoo.vectors import check_export, export_vectors, open_vectors

    check_export(arguments.out, arguments.to)
    with waiting(f"reading {arguments.folder}"):
        vectors = open_vectors(arguments.folder, arguments.where)
    if told := unfinished(vectors.manifest):
        print(f"{arguments.folder}: {told}", file=sys.stderr)
    if not len(vectors):
        print(f"there is nothing to export where {arguments.where}", file=sys.stderr)
        return 1
    with waiting(f"writing {arguments.out}"):
        done = export_vectors(vectors, arguments.out, arguments.to)
    if arguments.json:
        print_json({**vars(done), "folder": str(done.folder)})
        return 0
    print(f"{done.folder}: {done.count:,} vectors, read back and equal")
    for name, what in done.files.items():
        print(f"  {name}: {what}")
    for note in done.notes:
        print(f"note: {note}", file=sys.stderr)
    return 0
