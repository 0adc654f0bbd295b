"""A process of its own that loads models through the hub that its environment names: one JSON command a line.

huggingface_hub reads its environment when it is imported, so that a test needs a fresh process for each hub.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]


class Child:
    """A child process with a cache and a hub of its own; `ask` sends a command and waits for the answer."""

    def __init__(self, environment: dict[str, str]) -> None:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_", "HUGGINGFACE_"))}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hub.child"],
            cwd=PROJECT,
            env={**inherited, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send one command (see `_answer`); the answer has "error" and "message" where it raised."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the child process ended with {self._process.wait()}"
        return json.loads(line)

    def load(self, name: str, **more: Any) -> dict[str, Any]:
        """Load a model and embed `texts` and `images`; further arguments of `load_model` go in `options`."""
        return self.ask(name=name, **more)

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


def _answer(command: dict[str, Any]) -> dict[str, Any]:
    import zoo

    if "teach_open_clip" in command:
        import open_clip

        # A pretrained tag of an architecture small enough for a test, known to open_clip as if it were its own.
        arch, tag, folder, repo = command["teach_open_clip"]
        open_clip.add_model_config(Path(folder) / f"{arch}.json")
        open_clip.pretrained._PRETRAINED[arch] = {tag: {"hf_hub": repo, **command.get("settings", {})}}
        return {"known": [arch, tag] in [list(pair) for pair in open_clip.list_pretrained()]}
    if "refuse_tags" in command:
        import open_clip

        refused = {}
        for arch, tag in open_clip.list_pretrained():
            try:
                zoo.load_model(f"open_clip:{arch}/{tag}")
                refused[f"{arch}/{tag}"] = "loaded"
            except zoo.errors.ZooError as error:
                refused[f"{arch}/{tag}"] = f"{type(error).__name__}: {error}"
        return refused
    model = zoo.load_model(command["name"], **command.get("options", {}))
    answer: dict[str, Any] = {"spec": model.spec.to_dict()}
    if command.get("engine"):
        model.set_pixel_engine(command["engine"])
    if command.get("texts"):
        answer["texts"] = model.encode(command["texts"], prompt="").tolist()
    if command.get("images"):
        answer["images"] = model.encode([Path(path) for path in command["images"]]).tolist()
    return answer


def main() -> None:
    import torch

    import zoo.errors  # noqa: F401

    torch.set_num_threads(1)
    out, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints may not mix with the answers
    for line in sys.stdin:
        try:
            answer = _answer(json.loads(line))
        except Exception as error:
            answer = {"error": type(error).__name__, "message": str(error)}
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
