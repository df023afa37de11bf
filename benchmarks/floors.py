"""Physical limits of the machine, which other measurements are compared with."""

import time

import numpy as np


def memory_bandwidth(rounds: int = 5) -> float:
    """Bytes per second, read and written, of a copy from memory to memory on one core, the best of several rounds."""
    source = np.ones(2**25)  # 256 MiB, larger than any cache.
    target = np.zeros_like(source)
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        np.copyto(target, source)
        best = min(best, time.perf_counter() - began)
    return 2 * source.nbytes / best


def matmul_peak(size: int = 1024, rounds: int = 10) -> float:
    """float32 operations per second of torch's matrix product on one thread, the best of several rounds."""
    import torch

    torch.set_num_threads(1)
    left, right = torch.rand(size, size), torch.rand(size, size)
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best
