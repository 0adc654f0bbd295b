"""Delete from a folder of vectors, or give wasted space back.

DIR is what `zoo embed --out DIR` made.

zoo index delete removes vectors by id (--ids) or by a filter (--where), from the folder and from its indexes. `zoo search --json` and
`zoo dedupe --csv` show ids; of a folder of files they are paths. The inputs themselves are not touched. `zoo embed` of the same source
does not bring back what was deleted, under another name either, until its content changes; `zoo embed --undelete` does. Vectors and
columns are gone from the disk when the command ends; ids, references and digests stay, so that an input is known again.

The new set of vectors is written beside the one in use and takes its place in one step, as is an index of it: a search meanwhile sees
what was before, and a command that is killed leaves all as it was. That needs room for a second set.

zoo index compact builds the indexes anew, without what `upsert` and `delete` have left behind in them.
"""

import argparse
import sys

from zoo.cli._shared import existing, print_json, waiting
from zoo.errors import ZooError

EXAMPLES = (
    "zoo index delete vectors/ --ids trip/1.jpg trip/2.jpg",
    "zoo index delete vectors/ --where \"label = 'cat' AND year < 2020\"",
    "zoo index compact vectors/",
)
ACTIONS = ("delete", "compact")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `zoo index`."""
    parser.add_argument("action", choices=ACTIONS, metavar="ACTION", help=f"{' or '.join(ACTIONS)}")
    parser.add_argument("folder", type=existing, metavar="DIR", help="what `zoo embed --out DIR` made")
    parser.add_argument("--ids", nargs="+", metavar="ID", help="delete these")
    parser.add_argument("--where", metavar="SQL", help="delete rows that match: \"label = 'cat' AND year >= 2020\"")
    parser.add_argument("--json", action="store_true", help="what was done, for machines")


def run(arguments: argparse.Namespace) -> int:
    """Deletes or compacts; status 1 if there was nothing to delete."""
    given = [name for name in ("ids", "where") if getattr(arguments, name) is not None]
    if arguments.action == "compact":
        if given:
            raise ZooError(f"--{given[0]} is of zoo index delete; leave it out")
        return _compact(arguments)
    if len(given) != 1:
        raise ZooError("say what to delete: --ids ID … or --where SQL, one of the two")
    return _delete(arguments)


def _delete(arguments: argparse.Namespace) -> int:
    from zoo.index import delete_vectors, read_manifest

    with waiting(f"deleting from {arguments.folder}"):
        done = delete_vectors(arguments.folder, arguments.ids, where=arguments.where)
    left = read_manifest(arguments.folder)["counts"]["vectors"]
    for place in done.held:
        print(f"{place} is open in another process, which holds the old files until it ends", file=sys.stderr)
    if arguments.json:
        print_json({"deleted": done.count, "missing": list(done.missing), "left": left})
        return 0 if done.count else 1
    if done.missing:
        print(f"not there: {', '.join(done.missing)}", file=sys.stderr)
    print(f"{arguments.folder}: deleted {done.count:,}, {left:,} vectors left")
    return 0 if done.count else 1


def _compact(arguments: argparse.Namespace) -> int:
    from zoo.index import compact

    with waiting(f"building the index of {arguments.folder} anew"):
        done = compact(arguments.folder)
    if arguments.json:
        print_json([vars(one) for one in done])
        return 0
    for one in done:
        print(f"{one.backend}: {one.before:,} bytes before, {one.after:,} now")
        if one.held:
            print("another process has the old one open, and holds its files until it ends", file=sys.stderr)
    if not done:
        print(f"{arguments.folder} has no index yet; a search makes it")
    return 0
