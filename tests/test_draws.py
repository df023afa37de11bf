"""Draws are the same hash in Python, NumPy and torch, and look uniform."""

import math

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from offline_gcrl.hindsight.draws import (
    exponential_draws,
    geometric_draws,
    random_words,
    stream_key,
    uniform_expression,
    uniform_tensor,
)
from offline_gcrl.support.errors import DataError
from offline_gcrl.training.batches.draw import UNIT_BITS, inner_units
from offline_gcrl.training.batches.in_tasks import InTasks

WORD = 2**64


def splitmix64(key: int, counter: int) -> int:
    """The reference implementation with Python's integers."""
    state = (key + counter * 0x9E3779B97F4A7C15) % WORD
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB % WORD
    return state ^ (state >> 31)


def signed(key: int) -> torch.Tensor:
    return torch.tensor(key - WORD if key >= WORD // 2 else key)


def test_normal_numbers_are_finite_for_the_smallest_and_the_largest_integer() -> None:
    units = inner_units(torch.tensor([0, UNIT_BITS - 2, UNIT_BITS - 1]))
    assert units.min() > 0.0
    assert units.max() < 1.0
    assert torch.erfinv(2.0 * units - 1.0).isfinite().all()


def test_tasks_without_transitions_cannot_be_all_that_is_drawn() -> None:
    sizes = torch.tensor([5, 0])
    tasks = InTasks(torch.arange(5), torch.tensor([0, 5]), sizes)
    keys = {"task": signed(stream_key(0)), "transition": signed(stream_key(1))}
    counter = torch.arange(8)
    assert tasks.pick(keys, counter, torch.tensor([0.5, 0.5])).max() < 5
    with pytest.raises(DataError, match=r"no transition to train on .* change train.sequence"):
        tasks.pick(keys, counter, torch.tensor([0.0, 1.0]))


def drawn(key: int, counters: list[int], bound: int) -> list[int]:
    words = pl.DataFrame({"word": random_words(key, np.array(counters, dtype=np.uint64))})
    return words.select(uniform_expression(pl.col("word"), pl.lit(bound))).to_series().to_list()


@given(
    key=st.integers(0, WORD - 1),
    counters=st.lists(st.integers(0, 2**40), min_size=1, max_size=20),
    bound=st.integers(1, 2**32 - 1),
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


@given(key=st.integers(0, WORD - 1), counter=st.integers(0, 2**40))
def test_exponential_draws_are_those_of_the_upper_53_bits(key: int, counter: int) -> None:
    (draw,) = exponential_draws(random_words(key, np.array([counter], dtype=np.uint64)))
    unit = (splitmix64(key, counter) >> 11) * 2.0**-53
    assert draw == pytest.approx(-math.log(1 - unit), rel=1e-12)


def test_exponential_draws_are_finite_and_exponential() -> None:
    extremes = exponential_draws(np.array([0, WORD - 1], dtype=np.uint64))
    assert extremes.tolist() == pytest.approx([0.0, 53 * math.log(2)])
    draws = exponential_draws(random_words(stream_key(3), np.arange(100_000, dtype=np.uint64)))
    assert kstest(draws, "expon").pvalue > 1e-3


@pytest.mark.parametrize("discount", [0.01, 0.5, 0.9, 0.99, 0.99999, 1 - 1e-12])
def test_geometric_draws_from_the_lookup_table_equal_the_formula(discount: float) -> None:
    ends = np.arange(2**16, dtype=np.uint64) << np.uint64(48)
    around = np.concatenate([ends, ends - np.uint64(1), ends + np.uint64(2**11)])
    words = np.append(around, random_words(stream_key(1), np.arange(300_000, dtype=np.uint64)))
    exact = np.floor(exponential_draws(words) / -math.log(discount)) + 1
    np.testing.assert_array_equal(geometric_draws(words, discount), np.minimum(exact, 2**31))


def test_keys_of_different_words_differ() -> None:
    words = [
        (seed, strategy, draw) for seed in range(5) for strategy in range(5) for draw in range(8)
    ]
    assert len({stream_key(*word) for word in words}) == len(words)
