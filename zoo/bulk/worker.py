"""The process of one device (see `zoo.bulk.devices`): opens the model, and embeds the blocks that come in until none does.

Its standard input is a socket to the process that began it.
"""

import json
import os
import pickle
import queue
import signal
import threading
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from zoo.embedder import Embedder


def main() -> None:
    """Answers until the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other side is interrupted, and ends this one
    connection = Connection(os.dup(0))
    blocks: queue.Queue[Any] = queue.Queue()
    # A thread takes what comes in while another block is computed: neither side ever waits for the other to read.
    threading.Thread(target=_take, args=(connection, blocks), daemon=True).start()
    model = None
    setup = blocks.get()
    while True:
        inputs, options = blocks.get()
        try:
            model = _opened(**setup) if model is None else model
            facts, vectors = _embedded(model, inputs, options)
        except Exception as error:  # it is raised on the other side
            facts, vectors = {"error": type(error).__name__, "message": str(error)}, b""
        connection.send_bytes(json.dumps(facts).encode())
        connection.send_bytes(vectors)


def _take(connection: Connection, blocks: "queue.Queue[Any]") -> None:
    while True:
        try:
            blocks.put(connection.recv())
        except (EOFError, OSError):
            os._exit(0)  # nobody waits for an answer any more


def _opened(model: Any, options: dict[str, Any], fingerprint: dict[str, Any], threads: int, device: str) -> "Embedder":
    import torch

    from zoo.errors import WorkerError
    from zoo.loading import load_model

    torch.set_num_threads(threads)
    opened = load_model(model, device=device, **options)
    if opened.fingerprint() != fingerprint:
        raise WorkerError(f"{model} is another model than a moment ago; run the command again")
    return opened


def _embedded(model: "Embedder", inputs: list[bytes], options: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """What `zoo.bulk.devices._results` reads of a block."""
    errors, silent, vectors = {}, [], []
    for place, result in enumerate(model.encode_stream(map(pickle.loads, inputs), progress=False, **options)):
        if result.error is not None:
            # The bare message: places are those of this block.
            errors[place] = (type(result.error).__name__, Exception.__str__(result.error))
        else:
            vectors.append(result.vector.numpy().astype(np.float32))  # type: ignore[union-attr]
        silent += [place] if result.silent else []
    rows = np.stack(vectors) if vectors else np.empty((0, 0), np.float32)
    return {"count": len(inputs), "dim": rows.shape[1], "errors": errors, "silent": silent}, rows.tobytes()


if __name__ == "__main__":
    main()
