"""Counter-based random draws: a draw is a hash of what it is for, not the next number of a stream.

The hash is splitmix64 (Steele, Lea, Flood 2014), in arithmetic modulo 2^64 that comes out the same in
Polars expressions and torch tensors, on any device, in any order, in chunks of any size.
"""

from typing import TYPE_CHECKING

import polars as pl

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


def uniform_expression(key: int, counter: pl.Expr, bound: pl.Expr) -> pl.Expr:
    """Uniform integers in [0, bound), one for each value of a UInt64 ``counter``; bound < 2^32."""
    return _high_bits(_mix_expression(key, counter)) * bound.cast(pl.UInt64) // _u64(2**32)


def unit_expression(key: int, counter: pl.Expr) -> pl.Expr:
    """Uniform floats in [0, 1) with 53 bits, one for each value of a UInt64 ``counter``."""
    bits = _mix_expression(key, counter) // _u64(2**11)
    return bits.cast(pl.Float64) * 2.0**-53


def uniform_tensor(key: "Tensor", counter: "Tensor", bound: "int | Tensor") -> "Tensor":
    """Uniform integers in [0, bound) for int64 tensors of keys, counters and bounds, broadcast together."""
    state = key + counter * _signed(_GOLDEN)
    for shift, multiplier in zip(_SHIFTS, (*_MULTIPLIERS, 1), strict=True):
        state = (state ^ _shifted(state, shift)) * _signed(multiplier)
    draws: Tensor = _shifted(state, 32) * bound >> 32
    return draws


def _mix(state: int) -> int:
    for shift, multiplier in zip(_SHIFTS, (*_MULTIPLIERS, 1), strict=True):
        state = (state ^ state >> shift) * multiplier % _WORD
    return state


def _mix_expression(key: int, counter: pl.Expr) -> pl.Expr:
    state = _u64(key) + counter * _u64(_GOLDEN)
    for shift, multiplier in zip(_SHIFTS, (*_MULTIPLIERS, 1), strict=True):
        state = (state ^ state // _u64(2**shift)) * _u64(multiplier)
    return state


def _high_bits(state: pl.Expr) -> pl.Expr:
    return state // _u64(2**32)


def _u64(value: int) -> pl.Expr:
    return pl.lit(value, dtype=pl.UInt64)


def _signed(value: int) -> int:
    """The signed 64-bit integer with the same bits: torch has no arithmetic on uint64."""
    return value - _WORD if value >= _WORD // 2 else value


def _shifted(state: "Tensor", shift: int) -> "Tensor":
    """Logical shift to the right (torch's own copies the sign bit)."""
    shifted: Tensor = state >> shift & (2 ** (64 - shift) - 1)
    return shifted
