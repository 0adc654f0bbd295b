"""What the tests stand on: a warm process is what a fresh one is, and a walk over names lists every offender."""

import os
import subprocess
import sys

import pytest

from tests import every, warm
from tests.ports import free_port

PROGRAMS = {
    "arguments": "import sys; print(sys.argv, __name__, sys.stdin.read())",
    "status": "import sys; sys.exit(3)",
    "words": "import sys; sys.exit('words')",
    "exception": "1 / 0",
    "interrupted": "raise KeyboardInterrupt",
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "threads and exit": "import atexit, threading, time; atexit.register(print, 'last')\n"
    "threading.Thread(target=lambda: (time.sleep(0.01), print('thread'))).start()",
    "environment": "import os; from huggingface_hub import constants as c, hf_api\n"
    "print(os.getcwd(), c.HF_HUB_CACHE, c.ENDPOINT, c.HF_HUB_OFFLINE, hf_api.api.endpoint, os.environ.get('GONE'))",
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_a_warm_process_is_what_a_fresh_one_is(program, tmp_path, monkeypatch):
    monkeypatch.setenv("GONE", "in the tests' process alone")
    environment = {k: v for k, v in os.environ.items() if k not in ("GONE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")}
    environment |= {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": "http://127.0.0.1:9"}
    command = [sys.executable, "-c", program, "a", "b c"]
    options = {"capture_output": True, "text": True, "input": "given", "cwd": tmp_path, "env": environment}
    fresh, forked = (run(command, **options) for run in (subprocess.run, warm.run))
    assert (forked.returncode, forked.stdout) == (fresh.returncode, fresh.stdout)
    assert forked.stderr.splitlines()[-1:] == fresh.stderr.splitlines()[-1:]


def test_its_signals_arrive_and_its_end_is_seen():
    process = warm.Popen([sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"], stdout=-1)
    assert process.stdout.readline() == b"up\n"
    assert process.poll() is None
    process.terminate()
    assert process.wait(60) == -15
    process.stdout.close()


def test_warm_processes_draw_apart():
    command = [
        sys.executable,
        "-c",
        "import random, numpy, torch; print(random.random(), numpy.random.rand(), torch.rand(1))",
    ]
    assert len({warm.run(command, capture_output=True).stdout for _ in range(2)}) == 2


def test_a_walk_goes_on_and_lists_every_offender():
    @every.every("number", [1, 2, 3, 4])
    def walk(number, limit):
        if number == 4:
            pytest.skip("not here")
        assert number == limit

    with pytest.raises(pytest.fail.Exception) as caught:
        walk(limit=2)
    assert [line.split(":")[0] for line in str(caught.value).splitlines() if "AssertionError" in line] == ["1", "3"]
    assert str(caught.value).startswith("2 of 4")
    assert walk.pytestmark[0].args == (4,)


def test_a_hub_is_cleared_and_a_port_is_free(loopback_hub):
    loopback_hub.add({"a": b"b"}, "org/name")
    loopback_hub.fail("never")
    loopback_hub.clear()
    assert (loopback_hub.repos, loopback_hub.faults, loopback_hub.requests) == ({}, [], [])
    assert free_port() != free_port()
