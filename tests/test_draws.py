"""Draws are the same hash in Python, Polars and torch, and look uniform."""

import numpy as np
import polars as pl
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from offline_gcrl.draws import stream_key, uniform_expression, uniform_tensor, unit_expression

WORD = 2**64


def splitmix64(key: int, counter: int) -> int:
    """The reference, in Python's integers."""
    state = (key + counter * 0x9E3779B97F4A7C15) % WORD
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB % WORD
    return state ^ (state >> 31)


def signed(key: int) -> torch.Tensor:
    return torch.tensor(key - WORD if key >= WORD // 2 else key)


def drawn(key: int, counters: list[int], bound: int) -> list[int]:
    frame = pl.DataFrame({"counter": pl.Series(counters, dtype=pl.UInt64)})
    return frame.select(uniform_expression(key, pl.col("counter"), pl.lit(bound)).alias("draw"))[
        "draw"
    ].to_list()


@given(
    key=st.integers(0, WORD - 1),
    counters=st.lists(st.integers(0, 2**40), min_size=1, max_size=20),
    bound=st.integers(1, 2**31 - 1),
)
def test_polars_torch_and_python_agree(key: int, counters: list[int], bound: int) -> None:
    expected = [(splitmix64(key, counter) >> 32) * bound >> 32 for counter in counters]
    assert drawn(key, counters, bound) == expected
    assert uniform_tensor(signed(key), torch.tensor(counters), bound).tolist() == expected


def test_draws_are_uniform_over_counters_and_over_keys() -> None:
    counters = list(range(100_000))
    by_counter = np.bincount(drawn(stream_key(0, 1), counters, 20), minlength=20)
    by_key = np.bincount([drawn(stream_key(0, n), [7], 20)[0] for n in range(2000)], minlength=20)
    assert chisquare(by_counter).pvalue > 1e-3
    assert chisquare(by_key).pvalue > 1e-3


def test_unit_draws_lie_in_the_half_open_interval_and_are_uniform() -> None:
    frame = pl.DataFrame({"counter": np.arange(100_000, dtype=np.uint64)})
    units = frame.select(unit_expression(stream_key(3), pl.col("counter"))).to_series().to_numpy()
    assert units.min() >= 0.0
    assert units.max() < 1.0
    assert chisquare(np.histogram(units, 20, (0, 1))[0]).pvalue > 1e-3


def test_keys_of_different_words_differ() -> None:
    words = [
        (seed, strategy, draw) for seed in range(5) for strategy in range(5) for draw in range(8)
    ]
    assert len({stream_key(*word) for word in words}) == len(words)
