"""Physical limits that figures are set beside, measured here and now."""

import time

import numpy as np


def memory_bandwidth(rounds: int = 5) -> float:
    """Bytes a second that one core copies from memory to memory: read and written, the best of rounds."""
    source = np.ones(2**25)  # 256 MiB, beyond any cache.
    target = np.zeros_like(source)
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        np.copyto(target, source)
        best = min(best, time.perf_counter() - began)
    return 2 * source.nbytes / best


def matmul_peak(size: int = 1024, rounds: int = 10) -> float:
    """float32 operations a second of torch's matrix product on one thread, the best of rounds."""
    import torch

    torch.set_num_threads(1)
    left, right = torch.rand(size, size), torch.rand(size, size)
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best
