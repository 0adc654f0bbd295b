"""A hub of your own on this machine, to try the README by hand: starts empty and takes uploads.

EXAMPLES
  python -m tests.hub                         an empty hub; paste the lines that it prints into another terminal
  python -m tests.hub checkpoints/            serves checkpoints/org/name as the repository org/name
  python -m tests.hub runs/mine --repo me/mine
  python -m tests.hub --fail 'GET .*resolve' --fail 'PUT ' --cut 'model.safetensors'    a hub that misbehaves once each

Nothing is kept when it stops.
"""

import argparse
import tempfile
from pathlib import Path

from tests.hub import LoopbackHub


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m tests.hub", description=__doc__, formatter_class=form)
    parser.add_argument("folder", type=Path, nargs="?", help="a checkpoint, or a folder that holds org/name folders")
    parser.add_argument("--repo", help="the repository id of FOLDER itself (without it, FOLDER/org/name are served)")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one (default)")
    parser.add_argument("--home", type=Path, help="where clients keep their cache (default: a new temporary folder)")
    parser.add_argument(
        "--fail", action="append", default=[], metavar="REGEX", help="answer 503 once to such a request"
    )
    parser.add_argument("--cut", action="append", default=[], metavar="REGEX", help="break off such an answer once")
    args = parser.parse_args()
    hub = LoopbackHub(args.port)
    for match in args.fail:
        hub.fail(match, status=503)
    for match in args.cut:
        hub.cut(f"^GET .*{match}", after=1000)
    folders: dict[str, Path] = {}
    if args.folder and args.repo:
        folders = {args.repo: args.folder}
    elif args.folder:
        folders = {f"{path.parent.name}/{path.name}": path for path in sorted(args.folder.glob("*/*")) if path.is_dir()}
        if not folders:
            parser.error(f"{args.folder} holds no org/name folders; to serve it as one repository give --repo org/name")
    for repo_id, folder in folders.items():
        print(f"# {repo_id}@{hub.add(folder, repo_id)}  <-  {folder}")
    home = args.home or Path(tempfile.mkdtemp(prefix="loopback-hub-"))
    for name, value in hub.environment(home, token=hub.token).items():
        print(f"export {name}={value}")
    print('# You are "me", who may write to me/… and org/…; Ctrl-C stops the hub.', flush=True)
    try:
        hub.serve()
    except KeyboardInterrupt:
        print(f"stopped after {len(hub.requests)} requests; it held {', '.join(sorted(hub.repos)) or 'nothing'}")


if __name__ == "__main__":
    main()
