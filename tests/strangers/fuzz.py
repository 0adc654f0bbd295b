"""Seeded mutations of a file, each opened in a limited child: what is no named error, what takes too much, what dies.

A target is a module `tests.strangers.fuzz_*` of three functions: `prepare(folder)` writes what is good, `opens(folder)`
opens it, `change(folder, random)` changes one thing. `opens` may return or raise a ZooError (or what the module lists in
`NAMED`); anything else is a find.

    def prepare(folder): ...                      # writes folder / "manifest.json"
    def opens(folder): open_index(folder)
    def change(folder, random):
        (folder / "manifest.json").write_bytes(mutated_json(GOOD, random))

    assert not finds(sandbox, "tests.strangers.fuzz_manifest", 10_000)
"""

import copy
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

from tests import warm
from tests.strangers.child import SYSTEM, WRITABLE, Watch, limit, status
from tests.strangers.harness import GROWTH, Sandbox, snapshot

# For one mutation, by the clock. A video's own decoder has three minutes of it, on a busy machine, before it is named as late: who ended
# the child before that found a death, and a broken pipe after it, where there was an answer to come.
SECONDS = 240
MOST_FINDS = 20
CHUNK = b"\0\xff\x7f\x80\n\r{}[]\"':,0123456789-+.eE\\u/"
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 255, 65536, 2**31, 2**32, 2**53 + 1, 2**63, -(2**63) - 1, 10**40),
    *(0.5, -0.0, 1e308, -1e308, 5e-324, float("nan"), float("inf"), float("-inf")),
    *("", "0", "-1", "nan", "a", "\0", "\ud800", "\u202e", "\x1b[2J", "../../x", "/etc/passwd", "~", "x" * 100_000),
    *([], {}, [[]], [None], {"": None}, [0] * 10_000, {"a": {"b": {"c": {}}}}),
]


def mutated(data: bytes, random: Random) -> bytes:
    """Bytes with one to eight changes: bits, bytes, runs, cuts, doublings, numbers at their edges; its head most often."""
    found = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        size = len(found)
        if not size:
            break
        at = random.randrange(min(size, random.choice((64, 512, size))))
        kind = random.randrange(8)
        if kind == 0:
            found[at] ^= 1 << random.randrange(8)
        elif kind == 1:
            found[at] = random.randrange(256)
        elif kind == 2:
            found[at] = random.choice(CHUNK)
        elif kind == 3:
            del found[at : at + random.randrange(1, 64)]
        elif kind == 4:
            found[at:at] = bytes(random.choice(CHUNK) for _ in range(random.randrange(1, 32)))
        elif kind == 5:
            found[at:at] = found[at : at + random.randrange(1, 256)]
        elif kind == 6:
            width = random.choice((2, 4, 8))
            value = random.choice((0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1))
            found[at : at + width] = (value % 2 ** (8 * width)).to_bytes(width, random.choice(("little", "big")))
        else:
            del found[random.randrange(size) :]
    return bytes(found)


def mutated_json(value: Any, random: Random) -> bytes:
    """JSON with one to three of its places changed, removed, doubled or renamed; now and then its bytes too."""
    value = copy.deepcopy(value)
    for _ in range(random.choice((1, 1, 2, 3))):
        places = list(_places(value))
        if not places:
            break
        holder, key = random.choice(places)
        kind = random.randrange(6)
        if kind < 3:
            holder[key] = copy.deepcopy(random.choice(VALUES))
        elif kind == 3:
            del holder[key]
        elif kind == 4 and isinstance(holder, dict):
            holder[random.choice(("", "x", str(key) + "_", str(key).upper(), "__class__", "\x1b]0;t\x07"))] = holder[
                key
            ]
        else:
            other, place = random.choice(places)
            holder[key] = copy.deepcopy(other[place]) if _has(other, place) else None
    data = json.dumps(value).encode()
    if random.random() < 0.1:
        data = mutated(data, random)
    if random.random() < 0.01:
        data = b"[" * 100_000 + data
    return data


def finds(sandbox: Sandbox, target: str, seeds: int, first: int = 0) -> list[str]:
    """What mutations of `target` found, a line each: none, where all of them were answered by name."""
    log, folder = sandbox.root / "fuzz.log", sandbox.gift
    found: list[str] = []
    before = snapshot(sandbox.home)
    while first < seeds and len(found) < MOST_FINDS:
        log.write_bytes(b"")
        command = [sys.executable, "-m", "tests.strangers.fuzz", target, str(folder), str(first), str(seeds), str(log)]
        with warm.Popen(
            command, cwd=warm.PROJECT, env=sandbox.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            _, err = process.communicate()
        last = first
        for line in log.read_text().splitlines():
            fact = json.loads(line)
            if "seed" in fact:
                last = fact["seed"]
            else:
                found.append(f"{target} {last}: {fact.get('find') or fact.get('trespass')}")
        if process.returncode:
            found.append(
                f"{target} {last}: it died with status {process.returncode}: {err.decode(errors='replace')[-500:]}"
            )
            first = last + 1
        else:
            first = seeds
    if snapshot(sandbox.home) != before:
        found.append(f"{target}: files of the user's were changed")
    return found[:MOST_FINDS]


def main(target: str, folder: str, first: str, last: str, log: str) -> None:
    """The child: one mutation a seed, each within its seconds and its memory."""
    from zoo.errors import ZooError

    sys.dont_write_bytecode = True
    tempfile.tempdir = None
    module, place = import_module(target), Path(folder)
    named = (ZooError, *getattr(module, "NAMED", ()))
    module.prepare(place)
    module.opens(place)  # what is good opens, and brings its libraries
    told = os.open(log, os.O_WRONLY | os.O_APPEND)
    limit(seconds=3 * 3600)
    sandbox = os.path.realpath(place.parent)
    packages = str(Path(import_module("torch").__file__ or "").resolve().parents[1])
    reads = [str(warm.PROJECT), packages, sys.prefix, sys.base_prefix, *map(os.path.realpath, sys.path[1:]), *SYSTEM]
    writes = [f"{sandbox}/{name}" for name in ("gift", "cache", "out", "tmp")]
    Watch(told, [*reads, *writes], [*WRITABLE, *writes], []).start()
    resident, raw = status("VmRSS"), 0
    for seed in range(int(first), int(last)):
        os.write(told, json.dumps({"seed": seed}).encode() + b"\n")
        signal.alarm(SECONDS)
        try:
            module.change(place, Random(seed))
            module.opens(place)
        except named:
            pass
        except BaseException as error:
            frames = traceback.extract_tb(error.__traceback__)
            where = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames[-4:]))
            os.write(
                told, json.dumps({"find": f"{type(error).__name__}: {str(error)[:300]} ({where})"}).encode() + b"\n"
            )
            raw += 1
        signal.alarm(0)
        if status("VmHWM") - resident > GROWTH:
            os.write(told, json.dumps({"find": f"it took {status('VmHWM') - resident:,} bytes"}).encode() + b"\n")
            Path("/proc/self/clear_refs").write_text("5")
        if raw >= MOST_FINDS:
            break


def _places(value: Any) -> Any:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(entries):
        yield value, key
        yield from _places(inner)


def _has(holder: Any, key: Any) -> bool:
    return key in holder if isinstance(holder, dict) else isinstance(key, int) and key < len(holder)


if __name__ == "__main__":
    main(*sys.argv[1:])
