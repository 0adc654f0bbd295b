"""A process of its own that opens hostile checkpoints, one JSON command a line, and says what happened and what it cost."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests import warm

PROJECT = Path(__file__).resolve().parents[2]
ROOM = 1 << 30  # bytes of address space beyond what the libraries took: an absurd size fails instead of being granted


class Child:
    """The process; `ask` sends a command and waits for the answer."""

    def __init__(self, environment: dict[str, str]) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_", "HUGGINGFACE_"))}
        command = [sys.executable, "-m", "tests.formats.hostile_child"]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._process = warm.Popen(command, cwd=PROJECT, env={**kept, **environment}, text=True, **pipes)

    def ask(self, **command: Any) -> dict[str, Any]:
        """`name` and options of load_model; the answer has "error" and "message" where it raised, "peak" bytes, "foreign"."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"the child process ended with {self._process.wait()}"
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()


def _status(key: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key + ":"))
    return int(line.split()[1]) * 1024


def _open(command: dict[str, Any]) -> dict[str, Any]:
    import zoo

    answer: dict[str, Any] = {}
    try:
        model = zoo.load_model(command["name"], **command.get("options", {}))
        answer["loaded"] = True
        answer["vector"] = model.encode(command["text"]).tolist() if "text" in model.spec.modalities else []
    except Exception as error:
        answer |= {"error": type(error).__name__, "message": str(error)}
        answer["bases"] = [base.__name__ for base in type(error).__mro__]
    return answer


def _measured(command: dict[str, Any]) -> dict[str, Any]:
    before = set(sys.modules)
    Path("/proc/self/clear_refs").write_text("5")  # the peak of resident memory begins anew
    resident, began = _status("VmRSS"), time.perf_counter()
    answer = _open(command)
    answer["peak"], answer["seconds"] = _status("VmHWM") - resident, time.perf_counter() - began
    libraries = (str(PROJECT / "zoo"), sys.prefix, sys.base_prefix)
    files = {name: getattr(sys.modules[name], "__file__", None) or "" for name in set(sys.modules) - before}
    answer["foreign"] = [name for name, file in files.items() if file and not file.startswith(libraries)]
    return answer


def main() -> None:
    """Commands from standard input; the first one's "warm" names good checkpoints, for which the libraries are imported."""
    import torch

    torch.set_num_threads(1)
    out, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        command = json.loads(line)
        if "warm" in command:
            answers = [_open({"name": name, "text": command["text"]}) for name in command["warm"]]
            limit = _status("VmSize") + ROOM
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            answer: dict[str, Any] = {"warm": answers}
        else:
            answer = _measured(command)
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
