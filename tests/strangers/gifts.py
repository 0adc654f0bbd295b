"""A folder of vectors that a stranger made, with both indexes in it, and what he may plant there."""

import io
import os
import shutil
import socket
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.strangers.harness import Sandbox

MODEL = "zoo-mini"
TEXTS = ["a cat on a mat", "a dog in the fog", "a red motorbike", "", "two boats", "snow on a roof"]
SHARD = "shards/000000000000-000000000006.parquet"
EXACT, LANCE = "index/exact/000001", "index/lancedb/000001/vectors.lance"


def make_vectors(folder: Path) -> Path:
    """Vectors of some texts, one of which cannot be embedded, and both indexes."""
    from zoo.bulk import embed_dataset
    from zoo.index import open_index

    folder.mkdir(parents=True)
    source = folder / "texts.csv"
    source.write_text("text\n" + "".join(f'"{text}"\n' for text in TEXTS))
    embed_dataset(MODEL, source, folder / "vectors", progress=False)
    for backend in ("exact", "lancedb"):
        with warnings.catch_warnings(action="ignore"):
            open_index(folder / "vectors", backend=backend).close()
    return folder / "vectors"


class Plant(NamedTuple):
    """What a stranger changes in his folder before he gives it away.

    Attributes:
        does: the change, of the folder, for a sandbox. says: what is refused by name; "" where it must do no harm.
    """

    name: str
    does: Callable[[Path, Sandbox], object]
    says: str = ""


def put(path: Path, make: Callable[[Path], object]) -> None:
    """Puts something in the place of whatever is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    make(path)


def link(entry: str, target: str) -> Callable[[Path, Sandbox], object]:
    """A symbolic link to something of the user's."""
    return lambda vectors, box: put(vectors / entry, lambda path: path.symlink_to(box.home / target))


def hard(entry: str, target: str) -> Callable[[Path, Sandbox], object]:
    """Another name of a file of the user's."""
    return lambda vectors, box: put(vectors / entry, lambda path: os.link(box.home / target, path))


def fifo(entry: str) -> Callable[[Path, Sandbox], object]:
    """A pipe that nobody writes into."""
    return lambda vectors, _: put(vectors / entry, os.mkfifo)


def sparse(entry: str, size: int = 3 << 30) -> Callable[[Path, Sandbox], object]:
    """A file that is vast, and takes no room."""

    def make(path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(size)

    return lambda vectors, _: put(vectors / entry, make)


def a_socket(entry: str) -> Callable[[Path, Sandbox], object]:
    """A socket."""

    def make(path: Path) -> None:
        here = os.getcwd()
        os.chdir(path.parent)  # its name may not be long
        socket.socket(socket.AF_UNIX).bind(path.name)
        os.chdir(here)

    return lambda vectors, _: put(vectors / entry, make)


def several(*changes: Callable[[Path, Sandbox], object]) -> Callable[[Path, Sandbox], object]:
    """One after the other."""
    return lambda vectors, box: [change(vectors, box) for change in changes]


def temporaries(vectors: Path, box: Sandbox) -> None:
    """Links under the names that earlier versions wrote to, for the next processes."""
    for number in range(os.getpid(), os.getpid() + 200):
        for name in ("manifest.json", "quarantine.jsonl"):
            (vectors / f".tmp-{number}-{name}.part").symlink_to(box.home / ".bashrc")


def deep(vectors: Path, _: Sandbox) -> None:
    """Folders in folders, deeper than any stack."""
    here = os.open(vectors / "index", os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def given(original: Path, box: Sandbox, plant: Callable[[Path, Sandbox], object] | None = None) -> Path:
    """The folder as the user has it, out of a tar."""
    with tarfile.open(fileobj=io.BytesIO(_packed(original))) as tar:
        tar.extractall(box.gift, filter="fully_trusted")
    if plant is not None:
        plant(box.gift / "vectors", box)
    return box.gift / "vectors"


def _packed(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(folder, "vectors")
    return buffer.getvalue()


of_search = [
    Plant("vectors.bin is a link", link(f"{EXACT}/vectors.bin", ".bashrc"), r"vectors\.bin is a link to .*bashrc"),
    Plant("the index is a link", link("index", "photos"), r"/index is a link to .*photos"),
    Plant("the manifest is a FIFO", fifo("manifest.json"), r"manifest\.json is a FIFO"),
    Plant("a shard is a link", link(SHARD, "secret.txt"), r"parquet is a link to .*secret"),
    Plant("the manifest is sparse", sparse("manifest.json"), r"manifest\.json has 3,221,225,472 bytes"),
    Plant("the shards are a link", link("shards", "photos"), r"shards is a link"),
    Plant("the manifest is a link", link("manifest.json", "secret.txt"), r"manifest\.json is a link"),
    Plant("the manifest is a link to nothing", link("manifest.json", "new"), r"manifest\.json is a link"),
    Plant(
        "the manifest is a link to the system's",
        lambda v, _: put(v / "manifest.json", lambda p: p.symlink_to("/dev/zero")),
        "is a link to /dev/zero",
    ),
    Plant("the manifest is a socket", a_socket("manifest.json"), r"manifest\.json is a socket"),
    Plant("the manifest is a folder", lambda v, _: put(v / "manifest.json", Path.mkdir), "manifest"),
    Plant("a shard is a FIFO", fifo(SHARD), "parquet is a FIFO"),
    Plant("a shard more is a FIFO", fifo("shards/000000000006-000000000009.parquet"), "parquet is a FIFO"),
    Plant("a shard is a socket", a_socket(SHARD), "parquet is a socket"),
    Plant("a shard is sparse", sparse(SHARD), "parquet"),
    Plant("a shard is a folder", lambda v, _: put(v / SHARD, Path.mkdir), "parquet"),
    Plant(
        "a shard is a link beside it",
        lambda v, _: several(lambda v, _: (v / SHARD).rename(v / "x"), lambda v, _: (v / SHARD).symlink_to("../x"))(
            v, _
        ),
        "parquet is a link to ../x",
    ),
    Plant("a folder of an index is a link", link("index/exact", "photos"), "exact is a link"),
    Plant("a generation is a link", link(EXACT, "photos"), "000001 is a link"),
    Plant("segments are a link", link(f"{EXACT}/segments", "photos"), "segments is a link"),
    Plant("the number is a link", link("index/exact/current", "secret.txt"), "current is a link"),
    Plant("the number is a FIFO", fifo("index/exact/current"), "current is a FIFO"),
    Plant("the number is sparse", sparse("index/exact/current")),
    Plant("the facts are a FIFO", fifo(f"{EXACT}/index.json"), r"index\.json is a FIFO"),
    Plant("the facts are sparse", sparse(f"{EXACT}/index.json")),
    Plant("a lock is a link", link("index/.lock-exact", ".bashrc"), "lock-exact is a link"),
    Plant("a lock of a generation is a link", link(f"{EXACT}/.lock", ".bashrc"), "lock is a link"),
    Plant("a lease is a link", link(f"{EXACT}/.lease", ".bashrc"), "lease is a link"),
    Plant("a generation before is a link", link("index/exact/000000", "photos"), "000000 is a link"),
    Plant("the next generation is a link", link("index/exact/000002", "photos"), "000002 is a link"),
    Plant(
        "an old index is a link",
        several(link("index/exact/segments", "photos"), link("index/exact/vectors.bin", ".bashrc")),
        "is a link",
    ),
    Plant("versions of Lance are a link", link(f"{LANCE}/_versions", "photos"), "_versions is a link"),
    Plant("data of Lance are a link", link(f"{LANCE}/data", "photos"), "data is a link"),
    Plant("the table of Lance is a link", link(LANCE, "photos"), r"vectors\.lance is a link"),
    Plant("a note of Lance is a link", link(f"{LANCE}/_synced", ".bashrc"), "_synced is a link"),
    Plant("vectors.bin is another name", hard(f"{EXACT}/vectors.bin", ".bashrc")),
    Plant(
        "all of it is another name",
        several(hard(f"{EXACT}/.lock", ".bashrc"), hard("index/.lock-exact", ".bashrc"), hard(".lock", ".bashrc")),
    ),
    Plant("the lock of the folder is a link", link(".lock", ".bashrc")),
    Plant("the mark is a link", link(".zoo-made", "secret.txt")),
    Plant("the mark is a FIFO", fifo(".zoo-made")),
    Plant("the index is a file", lambda v, _: put(v / "index", lambda p: p.write_bytes(b"x"))),
    Plant("the index is a FIFO", fifo("index"), "index is a FIFO"),
    Plant("folders without end", deep, "folders deep"),
    Plant("temporaries are links", temporaries),
    Plant("nothing is wrong", lambda v, _: None),
]
of_writing = [
    Plant("the lock is a link", link(".lock", ".bashrc"), r"\.lock is a link"),
    Plant("the shards are a link", link("shards", "photos"), "shards is a link"),
    Plant("the lock is a FIFO", fifo(".lock"), r"\.lock is a FIFO"),
    Plant("the lock is another name", hard(".lock", ".bashrc")),
    Plant("the quarantine is a link", link("quarantine.jsonl", ".bashrc")),
    Plant("the quarantine is another name", hard("quarantine.jsonl", ".bashrc")),
    Plant("the manifest is a link to nothing", link("manifest.json", "new"), r"manifest\.json is a link"),
    Plant(
        "the shards of before are a link",
        several(
            link("replaced", "photos"),
            lambda v, b: os.link(v / SHARD, b.home / "photos" / "000000000000-000000000006.parquet"),
        ),
        "replaced is a link",
    ),
    Plant("temporaries are links", temporaries),
    Plant("the mark is a link", link(".zoo-made", ".bashrc")),
    Plant("the mark is another name", hard(".zoo-made", ".bashrc")),
    Plant("the index is a link", link("index", "photos")),
    Plant(
        "a new shard is a link",
        lambda v, b: [(v / f"shards/{6:012d}-{n:012d}.parquet").symlink_to(b.home / ".bashrc") for n in (7, 8)],
        "parquet is a link",
    ),
    Plant("nothing is wrong", lambda v, _: None),
]
of_reading = [
    Plant("the quarantine is a link", link("quarantine.jsonl", "secret.txt"), r"quarantine\.jsonl is a link"),
    Plant("the quarantine is a FIFO", fifo("quarantine.jsonl"), r"quarantine\.jsonl is a FIFO"),
    Plant("the quarantine is sparse", sparse("quarantine.jsonl"), r"quarantine\.jsonl has 3,221,225,472 bytes"),
    Plant("the quarantine is invalid", lambda v, _: (v / "quarantine.jsonl").write_text("[" * 100_000), "is damaged"),
    Plant("the manifest is a FIFO", fifo("manifest.json"), r"manifest\.json is a FIFO"),
    Plant("the manifest is a link", link("manifest.json", "secret.txt"), r"manifest\.json is a link"),
    Plant("the shards are a link", link("shards", "photos"), "shards is a link"),
    Plant("a shard is a FIFO", fifo(SHARD), "parquet is a FIFO"),
    Plant("nothing is wrong", lambda v, _: None),
]
# Of an index that is opened by itself, `index/exact/000001` or the like.
of_indexes = [
    Plant("vectors.bin is a link", link(f"{EXACT}/vectors.bin", ".bashrc"), r"vectors\.bin is a link"),
    Plant("vectors.bin is another name", hard(f"{EXACT}/vectors.bin", ".bashrc")),
    Plant("segments are a link", link(f"{EXACT}/segments", "photos"), "segments is a link"),
    Plant("a segment is a FIFO", fifo(f"{EXACT}/segments/00000000.arrow"), "arrow is a FIFO"),
    Plant("the lock is a link", link(f"{EXACT}/.lock", ".bashrc"), r"\.lock is a link"),
    Plant("the lock is another name", hard(f"{EXACT}/.lock", ".bashrc")),
    Plant("the lease is a link", link(f"{EXACT}/.lease", ".bashrc"), r"\.lease is a link"),
    Plant("the facts are a FIFO", fifo(f"{EXACT}/index.json"), r"index\.json is a FIFO"),
    Plant("the facts are sparse", sparse(f"{EXACT}/index.json"), r"index\.json has 3,221,225,472 bytes"),
    Plant("the table of Lance is a link", link(LANCE, "photos"), r"vectors\.lance is a link"),
    Plant("data of Lance are a link", link(f"{LANCE}/data", "photos"), "data is a link"),
    Plant("versions of Lance are a link", link(f"{LANCE}/_versions", "photos"), "_versions is a link"),
    Plant("a note of Lance is a link", link(f"{LANCE}/_synced", ".bashrc"), "_synced is a link"),
    Plant("a note of Lance is a FIFO", fifo(f"{LANCE}/_synced"), "_synced is a FIFO"),
]
