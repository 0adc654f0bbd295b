"""Runs a page as its reader would: python blocks in one namespace, command lines one by one, in the folder that it stands in.

    python -m tests.docs.driver docs/search.md

`zoo` is called in this process; what a shell has to read goes to bash. `zoo serve` and `zoo demo` are started at a free port,
asked once, and stopped. It ends at the first block or line that fails, named with its page and line.
"""

import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from tests.docs.blocks import Block, Command, blocks
from tests.docs.given import BEFORE, NAMES, STAND_INS, reason_not_to_run
from tests.ports import free_port

PATIENCE = 240  # seconds for a server to answer, on a busy machine
ASKED_FOR = "8000"  # the port that the pages name


class Reader:
    """Somebody who types what a page says."""

    def __init__(self, page: str) -> None:
        self.page = page
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        self.server: subprocess.Popen[bytes] | None = None
        self.port = 0

    def read(self) -> None:
        """Runs everything that the page says, after what its reader has run before."""
        for line in BEFORE.get(self.page, ()):
            self.command(Command(self.page, 0, line))
        exec(NAMES.get(self.page, ""), self.namespace)
        try:
            for block in blocks(self.page):
                if block.language == "python":
                    self.block(block)
                elif block.language == "bash":
                    for command in block.commands():
                        self.command(command)
        finally:
            self.stop()

    def block(self, block: Block) -> None:
        """Runs a python block, or writes the file that it is."""
        if reason_not_to_run(block):
            return
        print(f"== {block.page}:{block.line}", flush=True)
        if block.file:
            path = Path(block.file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.code, "utf-8")
            return
        code = self.here(block.code)
        code = re.sub(
            r'(load_model|load_reranker)\("([\w.-]+)"',
            lambda m: f'{m[1]}("{stand_in(m[2])}"',
            code,
        )
        exec(compile("\n" * (block.line - 1) + code, block.page, "exec"), self.namespace)

    def command(self, command: Command) -> None:
        """Runs a command line; its exit status has to be 0."""
        if reason_not_to_run(command):
            return
        print(f"== {command.page}:{command.line}: {command.text}", flush=True)
        words = [stand_in(word) for word in Command(command.page, command.line, self.here(command.text)).words]
        if words[:2] in (["zoo", "serve"], ["zoo", "demo"]) and "--space" not in words:
            self.serve(words)
        elif command.needs_shell or words[0] not in ("zoo", "python"):
            line = " ".join(stand_in(word) for word in self.here(command.text).split(" "))
            path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
            script = f"set -o pipefail; {line}"
            subprocess.run(
                ["bash", "-c", script], check=True, stdin=subprocess.DEVNULL, env={**os.environ, "PATH": path}
            )
        elif words[0] == "python":
            subprocess.run([sys.executable, *words[1:]], check=True, stdin=subprocess.DEVNULL)
        else:
            from zoo.cli import main

            status = main([os.path.expanduser(word) for word in words[1:]])
            assert status == 0, f"exit status {status}"

    def here(self, text: str) -> str:
        """A text in which the port of the pages is the one that the server was given."""
        return text.replace(f":{ASKED_FOR}", f":{self.port}") if self.port else text

    def serve(self, words: list[str]) -> None:
        """Starts a server or a page and asks it once; a server stays for the lines that follow."""
        self.stop()
        port, kind = free_port(), words[1]
        if "--port" in words:
            at = words.index("--port")
            words = words[:at] + words[at + 2 :]
        words = [os.path.expanduser(word) for word in words]
        self.server = subprocess.Popen([sys.executable, "-m", *words, "--port", str(port)], stdin=subprocess.DEVNULL)
        self.answer(f"http://127.0.0.1:{port}/" + ("health" if kind == "serve" else ""))
        if kind == "serve":
            self.port = port
        else:
            self.stop()

    def answer(self, address: str) -> None:
        """Waits until the server answers."""
        assert self.server is not None
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            assert self.server.poll() is None, f"the server ended with {self.server.returncode}"
            try:
                with urllib.request.urlopen(address, timeout=60) as answer:
                    assert answer.status == 200
                return
            except OSError:
                time.sleep(0.2)  # it is starting: torch and the model are being loaded
        raise AssertionError(f"nothing answers at {address}")

    def stop(self) -> None:
        """Ends the server, if there is one."""
        if self.server is not None:
            self.server.terminate()
            self.server.wait(timeout=60)
            self.server, self.port = None, 0


def stand_in(word: str) -> str:
    """The folder of the small model that stands for a large one; any other word as it is."""
    return f"./stand-ins/{word}" if word in STAND_INS else word


def main(page: str) -> None:
    """Reads one page in the folder that this process stands in."""
    sys.stdin = open(os.devnull)  # noqa: SIM115
    for name in STAND_INS:
        if re.search(rf"(?<![\w/.-]){re.escape(name)}(?![\w.-])", "".join(block.code for block in blocks(page))):
            make_stand_in(name)
    Reader(page).read()
    print("read", flush=True)


def make_stand_in(name: str) -> None:
    """Saves a tiny model of the family, with random weights, where `stand_in` says."""
    import zoo

    build = zoo.build_reranker if name in zoo.list_rerankers() else zoo.build_model
    build(STAND_INS[name]).save_pretrained(Path("stand-ins") / name)


if __name__ == "__main__":
    main(sys.argv[1])
