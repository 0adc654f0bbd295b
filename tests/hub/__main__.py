"""Serve a folder by hand: `python -m tests.hub FOLDER` (a repository, or a folder of org/name repositories)."""

import argparse
from pathlib import Path

from tests.hub import LoopbackHub


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.hub", description=__doc__)
    parser.add_argument("folder", type=Path, help="a checkpoint folder, or a folder that holds org/name folders")
    parser.add_argument("--repo", help="the repository id of FOLDER itself (without it, FOLDER/org/name are served)")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one (default)")
    args = parser.parse_args()
    hub = LoopbackHub(args.port)
    if args.repo:
        folders = {args.repo: args.folder}
    else:
        folders = {f"{path.parent.name}/{path.name}": path for path in sorted(args.folder.glob("*/*")) if path.is_dir()}
    if not folders:
        parser.error(f"{args.folder} holds no org/name folders; to serve it as one repository give --repo org/name")
    for repo_id, folder in folders.items():
        print(f"{repo_id}@{hub.add(folder, repo_id)}  <-  {folder}")
    print(f"HF_ENDPOINT={hub.url}  HF_HUB_DISABLE_XET=1   (Ctrl-C stops)", flush=True)
    try:
        hub.serve()
    except KeyboardInterrupt:
        print("stopped")


if __name__ == "__main__":
    main()
