"""Counter-based random draws: a draw is a hash of a key and a counter, and not the next number of a stream.

The hash is splitmix64 (Steele, Lea, Flood 2014). Its arithmetic modulo 2^64 gives the same bits in NumPy arrays and
torch tensors, on any device. Draws can be computed in any order and in chunks of any size.
"""

import math
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

_WORD = 2**64
_GOLDEN = 0x9E3779B97F4A7C15
_MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_SHIFTS = (30, 27, 31)


def stream_key(*words: int) -> int:
    """One 64-bit key from a few non-negative integers, such as (seed, strategy, draw)."""
    state = 0
    for word in words:
        state = _mix((state + word + 1) * _GOLDEN % _WORD)
    return state


def random_words(key: int, counter: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One word of 64 random bits for each value of a counter."""
    # In-place operations keep the words in the processor's cache, where a round takes a nanosecond.
    state = counter * np.uint64(_GOLDEN)
    state += np.uint64(key)
    shifted = np.empty_like(state)
    for shift, multiplier in zip(_SHIFTS, (*_MULTIPLIERS, 1), strict=True):
        np.right_shift(state, np.uint64(shift), out=shifted)
        state ^= shifted
        if multiplier != 1:
            state *= np.uint64(multiplier)
    return state


def exponential_draws(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Draws from the exponential distribution with mean 1: -log(1 - u), with u uniform in [0, 1) at 53 bits."""
    draws = (words >> np.uint64(11)).astype(np.float64)
    draws *= -(2.0**-53)
    draws += 1.0
    np.log(draws, out=draws)
    return np.negative(draws, out=draws)


def geometric_draws(words: NDArray[np.uint64], discount: float) -> NDArray[np.uint32]:
    """Draws from Geom(1 - discount) on 1, 2, ..., at most 2^31: ``1 + floor(exponential / -log(discount))``.

    The upper 16 bits of a word determine most draws, which come from a lookup table. Logarithms are computed only for
    the others: 1% of the draws at a discount of 0.99, 8% at 0.999, nearly half at 0.9999.
    """
    draws = _lookup_table(discount).take((words >> np.uint64(48)).view(np.int64))
    undetermined = np.flatnonzero(draws == 0)
    draws[undetermined] = _exact_geometric(words[undetermined], discount)
    return draws


@cache
def _lookup_table(discount: float) -> NDArray[np.uint32]:
    """The draw for each value of the upper 16 bits, (2^16,); 0 if the draw also depends on the lower bits."""
    lowest = np.arange(2**16, dtype=np.uint64) << np.uint64(48)
    # Draws increase with their words. If both ends of a range give the same draw, so do all words between.
    ends = [_exact_geometric(lowest + np.uint64(rest), discount) for rest in (0, 2**48 - 1)]
    return np.where(ends[0] == ends[1], ends[0], np.uint32(0))


def _exact_geometric(words: NDArray[np.uint64], discount: float) -> NDArray[np.uint32]:
    # P(offset > n) = discount^n is the chance that an exponential draw is above n * -log(discount).
    beyond = exponential_draws(words) / -math.log(discount)
    return np.minimum(beyond, 2.0**31 - 1).astype(np.uint32) + np.uint32(1)


def uniform_expression(word: pl.Expr, bound: pl.Expr) -> pl.Expr:
    """Uniform integers in [0, bound) from a column of random words, for bounds below 2^32."""
    return word // _u64(2**32) * bound.cast(pl.UInt64) // _u64(2**32)


def uniform_tensor(key: "Tensor", counter: "Tensor", bound: "int | Tensor") -> "Tensor":
    """Uniform integers in [0, bound) from int64 tensors of keys, counters and bounds, which are broadcast.

    A bound that is a number is below 2^32, and those of a tensor are at most 2^31.
    """
    state = key + counter * _signed(_GOLDEN)
    for shift, multiplier in zip(_SHIFTS, (*_MULTIPLIERS, 1), strict=True):
        state = (state ^ _shifted(state, shift)) * _signed(multiplier)
    product = _shifted(state, 32) * bound
    if isinstance(bound, int) and bound > 2**31:  # The product may have the sign bit.
        return _shifted(product, 32)
    draws: Tensor = product >> 32
    return draws


def _mix(state: int) -> int:
    for shift, multiplier in zip(_SHIFTS, (*_MULTIPLIERS, 1), strict=True):
        state = (state ^ state >> shift) * multiplier % _WORD
    return state


def _u64(value: int) -> pl.Expr:
    return pl.lit(value, dtype=pl.UInt64)


def _signed(value: int) -> int:
    """The signed 64-bit integer with the same bits, because torch has no arithmetic on uint64."""
    return value - _WORD if value >= _WORD // 2 else value


def _shifted(state: "Tensor", shift: int) -> "Tensor":
    """Logical shift to the right; torch's own shift copies the sign bit."""
    shifted: Tensor = state >> shift & (2 ** (64 - shift) - 1)
    return shifted
