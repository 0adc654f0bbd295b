"""Which type of numbers runs fastest on a device, found out by a short product of matrices at start (never by flags)."""

import statistics
import time
from functools import cache

import torch

_SIDE, _ROUNDS, _GAIN = 768, 5, 1.2


@cache
def fastest_dtype(device: str) -> torch.dtype:
    """float32, or bfloat16 where its matrix product is at least 1.2 times as fast: half of float32's rate on CPUs without
    AMX, many times it on GPUs. Takes some milliseconds, once for each device.

    Args:
        device: "cpu", "cuda", "cuda:1", ...
    """
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        try:
            a = torch.randn(_SIDE, _SIDE, device=device).to(dtype)
            a @ a  # warm-up
            seconds[dtype] = statistics.median(_time(a, device) for _ in range(_ROUNDS))
        except RuntimeError:  # the device has no such product
            continue
    half, full = seconds.get(torch.bfloat16), seconds.get(torch.float32)
    return torch.bfloat16 if half is not None and (full is None or half * _GAIN < full) else torch.float32


@cache
def has_int8_kernels() -> bool:
    """Whether torch multiplies matrices of 8-bit integers by instructions that this processor has for them (VNNI).

    Without these its sums may also overflow 16 bits, and would be others.
    """
    known = hasattr(torch.ops.onednn, "qlinear_pointwise") and hasattr(torch.ops.onednn, "qlinear_prepack")
    return bool(known and torch.backends.mkldnn.is_available() and torch.cpu.get_capabilities().get("avx512_vnni"))


def _time(a: torch.Tensor, device: str) -> float:
    start = time.perf_counter()
    b = a @ a
    if device.startswith("cuda"):
        # A GPU's calls return before the work is done: without waiting one would time the launch.
        torch.cuda.synchronize(device)
    del b
    return time.perf_counter() - start
