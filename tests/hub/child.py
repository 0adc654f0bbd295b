"""A process of its own that loads and publishes models through the hub that its environment names.

huggingface_hub reads its environment when it is imported, so that a test needs a process for each cache: a fork of the
warm one (`tests.warm`). One JSON command a line; each is one function below, by the name of its first word.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from tests import warm

PROJECT = Path(__file__).resolve().parents[2]
WAIT = 0.01  # seconds, at most, between the client's attempts; by itself it waits 1, 2, 4, 8, 8


class Child:
    """A child process with a cache and a hub of its own; `ask` sends a command and waits for the answer."""

    def __init__(self, environment: dict[str, str]) -> None:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_", "HUGGINGFACE_"))}
        self._process = warm.Popen(
            [sys.executable, "-m", "tests.hub.child"],
            cwd=PROJECT,
            env={**inherited, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def send(self, **command: Any) -> None:
        """Send a command without waiting for its answer, as a test that kills the process needs it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command, default=lambda path: {"path": str(path)}) + "\n")
        self._process.stdin.flush()

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send one command and wait for its answer.

        Where it raised, the answer has "error" (name of the class), "kinds" (names of its base classes too) and
        "message".
        """
        self.send(**command)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the child process ended with {self._process.wait()}"
        return json.loads(line)

    def load(self, name: str, **more: Any) -> dict[str, Any]:
        """Load a model and embed `texts` and `images`; further arguments of `load_model` go in `options`."""
        return self.ask(name=name, **more)

    def upload(self, folder: Path, repo: str, **options: Any) -> dict[str, Any]:
        """Create a repository and upload a folder with huggingface_hub's own calls; "commit" is in the answer.

        Args:
            options: repo_type, private; the rest goes to `HfApi.upload_folder`.
        """
        return self.ask(upload=folder, repo=repo, options=options)

    def call(self, function: str, *args: Any, **options: Any) -> dict[str, Any]:
        """Call "package.module:function"; what it gives (a dataclass as a mapping) is the answer's "result".

        A `Path` among the arguments arrives as one.
        """
        return self.ask(call=function, args=args, options=options)

    def limit_files(self, size: int | None) -> None:
        """Let no file grow beyond so many bytes: the kernel then fails the write, as it does on a full disk."""
        assert self.ask(limit_files=size) == {}

    def use_token(self, token: str | None) -> None:
        """Log in with another token, or out."""
        assert self.ask(token=token) == {}

    def kill(self) -> None:
        """End the process at once, as an interrupted job ends."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        assert self._process.stdout is not None
        self._process.stdout.close()


def _load(command: dict[str, Any]) -> dict[str, Any]:
    import zoo

    model = zoo.load_model(command["name"], **command.get("options", {}))
    answer: dict[str, Any] = {"spec": model.spec.to_dict()}
    if command.get("engine"):
        model.set_pixel_engine(command["engine"])
    if command.get("texts"):
        answer["texts"] = model.encode(command["texts"], prompt="").tolist()
    if command.get("images"):
        answer["images"] = model.encode([Path(path) for path in command["images"]]).tolist()
    return answer


def _upload(command: dict[str, Any]) -> dict[str, Any]:
    from huggingface_hub import HfApi

    from zoo.hub import hub_call

    api, repo, options = HfApi(), command["repo"], dict(command["options"])
    kind, private = options.pop("repo_type", "model"), options.pop("private", False)
    space = {"space_sdk": "gradio"} if kind == "space" else {}
    hub_call(repo, api.create_repo, repo, repo_type=kind, private=private, exist_ok=True, **space)
    info = hub_call(repo, api.upload_folder, repo_id=repo, repo_type=kind, folder_path=command["upload"], **options)
    return {"commit": info.oid, "url": info.commit_url, "pull_request": info.pr_url}


def _call(command: dict[str, Any]) -> dict[str, Any]:
    module, _, name = command["call"].partition(":")
    result = getattr(importlib.import_module(module), name)(*command["args"], **command["options"])
    return {"result": dataclasses.asdict(result) if dataclasses.is_dataclass(result) else result}


def _limit_files(command: dict[str, Any]) -> dict[str, Any]:
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = command["limit_files"]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard if size is None else size, hard))
    return {}


def _use_token(command: dict[str, Any]) -> dict[str, Any]:
    os.environ.pop("HF_TOKEN", None)
    if command["token"] is not None:
        os.environ["HF_TOKEN"] = command["token"]
    return {}


def _path(value: dict[str, Any]) -> Any:
    return Path(value["path"]) if set(value) == {"path"} else value


def _teach_open_clip(command: dict[str, Any]) -> dict[str, Any]:
    """A pretrained tag of an architecture small enough for a test, known to open_clip as if it were its own."""
    import open_clip

    arch, tag, folder, repo = command["teach_open_clip"]
    open_clip.add_model_config(Path(folder) / f"{arch}.json")
    open_clip.pretrained._PRETRAINED[arch] = {tag: {"hf_hub": repo, **command.get("settings", {})}}
    return {"known": [arch, tag] in [list(pair) for pair in open_clip.list_pretrained()]}


def _refuse_tags(command: dict[str, Any]) -> dict[str, Any]:
    import open_clip

    import zoo

    refused = {}
    for arch, tag in open_clip.list_pretrained()[:: command["refuse_tags"]]:
        try:
            zoo.load_model(f"open_clip:{arch}/{tag}")
            refused[f"{arch}/{tag}"] = "loaded"
        except zoo.errors.ZooError as error:
            refused[f"{arch}/{tag}"] = f"{type(error).__name__}: {error}"
    return refused


COMMANDS = {
    "name": _load,
    "upload": _upload,
    "call": _call,
    "limit_files": _limit_files,
    "token": _use_token,
    "teach_open_clip": _teach_open_clip,
    "refuse_tags": _refuse_tags,
}


def main() -> None:
    import torch

    import zoo.errors  # noqa: F401

    torch.set_num_threads(1)
    wait = time.sleep
    time.sleep = lambda seconds: wait(min(seconds, WAIT))  # the client's attempts stay as many, only faster
    out, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints may not mix with the answers
    for line in sys.stdin:
        try:
            command = json.loads(line, object_hook=_path)
            answer = COMMANDS[next(iter(command))](command)
        except Exception as error:
            kinds = [kind.__name__ for kind in type(error).__mro__]
            answer = {"error": type(error).__name__, "kinds": kinds, "message": str(error)}
        print(json.dumps(answer, default=str), file=out, flush=True)


if __name__ == "__main__":
    main()
