"""A process with limits: what it may not do, how long it works, how many work at once, and what a fork leaves alone."""

import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from zoo.errors import InvalidTextError
from zoo.strangers import blocks
from zoo.strangers.confined import Confined, ConfinedError

HARM = "tests.inputs.heif_decoders:"


def test_what_was_taken_over_reaches_nothing(tmp_path):
    (tmp_path / "kept.txt").write_text("the user's")
    child = Confined(HARM + "reaches_out")
    try:
        facts, _ = child.ask("a.heic", os.fsencode(tmp_path))
    finally:
        child.close()
    if sys.platform == "linux":
        assert facts == {"allowed": []}
    assert (tmp_path / "kept.txt").read_text() == "the user's"
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def test_two_processes_work_at_once_and_no_third():
    child = Confined(HARM + "waits", processes=2)
    try:
        with ThreadPoolExecutor(6) as threads:
            pids = {facts["pid"] for facts, _ in threads.map(lambda k: child.ask(str(k)), range(6))}
        assert len(pids) == 2
        assert sorted(child.pids) == sorted(pids)
    finally:
        child.close()


def test_a_request_may_be_a_file_or_many_bytes(tmp_path):
    (tmp_path / "video").write_bytes(b"abc" * 10**6)
    child = Confined("tests.strangers.test_confined:measures")
    try:
        with (tmp_path / "video").open("rb") as file:
            assert child.ask("video", file, most=10) == ({"read": 3 * 10**6, "word": "x"}, bytearray(b"abcabcabca"))
        assert child.ask("bytes", b"abc" * 10**7, most=10)[0] == {"read": 3 * 10**7, "word": "x"}
    finally:
        child.close()


def measures(content, name, word="x"):
    """How many bytes come, and the first ten."""
    if isinstance(content, int):
        with open(f"/dev/fd/{content}", "rb") as file:
            content = file.read()
    yield {"read": len(content), "word": word}, content[:10]


SIZES = [
    0,
    7,
    blocks.LEAST - 1,
    blocks.LEAST,
    blocks.BLOCK,
    blocks.BLOCK + 1,
    blocks.BLOCKS * blocks.BLOCK + 3,
    1,
    blocks.BLOCK,
]


@pytest.mark.parametrize("shared", [True, False])
def test_pieces_of_any_size_come_whole(shared, monkeypatch):
    if not shared:  # as where the system has no such memory
        monkeypatch.setattr(blocks, "shared", lambda: None)
    child = Confined("tests.strangers.test_confined:gives")
    try:
        for _ in range(2):  # the second begins in the middle of the row of blocks
            pieces = list(child.pieces("a", most=sum(SIZES), count=len(SIZES), sizes=SIZES))
            assert [facts["number"] for facts, _ in pieces] == list(range(len(SIZES)))
            for number, (size, (_, content)) in enumerate(zip(SIZES, pieces, strict=True)):
                assert content == pattern(number, size)
        with pytest.raises(InvalidTextError):  # an error after many bytes is no part of them
            list(child.pieces("a", most=sum(SIZES), count=len(SIZES) + 1, sizes=[*SIZES, -1]))
        assert child.ask("b", most=3, sizes=[3])[1] == pattern(0, 3)
        assert (child._idle[0].shared is not None) == (shared and sys.platform == "linux")
    finally:
        child.close()


def pattern(number, size):
    """Bytes that tell their place and their piece."""
    return (bytes((number + k) % 251 for k in range(251)) * (size // 251 + 1))[:size]


def gives(content, name, sizes):
    """Pieces of these sizes."""
    for number, size in enumerate(sizes):
        if size < 0:
            raise InvalidTextError("no such size")
        yield {"number": number}, pattern(number, size)


def test_who_stops_listening_between_blocks_gets_another_process():
    child = Confined("tests.strangers.test_confined:gives")
    try:
        for _, _ in child.pieces("a", most=2**30, count=99, sizes=[blocks.BLOCK] * 50):
            break
        assert not child.pids
        assert child.ask("b", most=3, sizes=[3])[1] == pattern(0, 3)
    finally:
        child.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux seals memory")
def test_shared_memory_keeps_its_size_whoever_has_it():
    shared = blocks.shared()
    for size in (0, blocks.BLOCK, 2 * blocks.BLOCKS * blocks.BLOCK):
        with pytest.raises(PermissionError):
            os.ftruncate(shared.file, size)
    shared.given()


def test_named_errors_stay_named_and_the_process_lives():
    child = Confined("tests.strangers.test_confined:refuses")
    try:
        for _ in range(2):
            with pytest.raises(InvalidTextError, match="no such word") as caught:
                child.ask("the text", word="x")
            assert caught.value.what == "the text"
            pids = child.pids
            with pytest.raises(ConfinedError, match="failed: Panic") as failed:
                child.ask("the text", word="panic")
            assert failed.value.reason == "failed"
            assert child.pids == pids
    finally:
        child.close()


class Panic(BaseException):
    """As Rust's, which no `except Exception` sees."""


def refuses(content, name, word):
    """Errors alone."""
    if word == "panic":
        raise Panic("Panic")
    raise InvalidTextError("no such word")


def test_who_stops_listening_gets_another_process():
    child = Confined(HARM + "never_ends")
    try:
        for _, _ in child.pieces("a", most=10**6, count=10**6):
            break
        assert not child.pids
    finally:
        child.close()


def test_a_process_that_was_forked_starts_its_own_and_leaves_its_parents_alone():
    child = Confined(HARM + "waits")
    try:
        child.ask("a")
        reading, writing = os.pipe()
        if not (forked := os.fork()):
            try:
                os.write(writing, json.dumps(child.ask("b")[0]).encode())
                child.close()
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as answer:
            other = json.loads(answer.read())["pid"]
        os.waitpid(forked, 0)
        assert child.ask("c")[0]["pid"] == child.pids[0] != other
    finally:
        child.close()


def test_time_of_waiting_for_a_place_is_no_time_of_a_request():
    child = Confined(HARM + "waits", seconds=0.9)
    try:
        child.ask("warm")
        began = time.monotonic()
        threads = [threading.Thread(target=child.ask, args=(str(k),)) for k in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert time.monotonic() - began >= 1
        assert len(child.pids) == 1
    finally:
        child.close()
