"""Random numbers that depend on names and counters alone, never on who asked first. Knows nothing of detectors.

Randomised scores need one uniform number per node, block and stream. It is a hash of (seed, stream name, block, node):
the same whatever else is watched and however the rows were cut into calls. The seed is hashed with a label of our own,
so that it can never be the stream of numbers that a simulation drew its *data* from: with shared numbers the scores
depend on the data, and the measured false alarms doubled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_11, _27, _30, _31 = (np.uint64(bits) for bits in (11, 27, 30, 31))

COUNTS_KEPT = 256
"""Numbers of nodes of which the steps of the generator are kept; there are about as many as numbers of bins."""


def key(seed: int, *names: str | int) -> int:
    """64 bits that identify (seed, names)."""
    hasher = hashlib.blake2b(digest_size=8, person=b"tidegate")
    for part in (seed, *names):
        text = str(part).encode()
        hasher.update(len(text).to_bytes(8, "little") + text)
    return int.from_bytes(hasher.digest(), "little")


def keys(seed: int, names: Sequence[str]) -> NDArray[np.uint64]:
    """(d,) keys of streams."""
    return np.array([key(seed, name) for name in names], np.uint64)


def uniforms(stream_keys: NDArray[np.uint64], counter: int, count: int) -> NDArray[np.float64]:
    """(d, count) numbers in (0, 1), never 0 or 1, for the block `counter` of each stream.

    SplitMix64 (Steele, Lea, Flood 2014) started at a hash of (key, counter).
    """
    start = _mix(stream_keys ^ _mix(np.full(1, counter, np.uint64) + _GOLDEN))
    bits = _mix(start[:, None] + _steps(count))
    return ((bits >> _11).astype(np.float64) + 0.5) * 2.0**-53


def of_rows(row_key: int, *columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) numbers in (0, 1), never 0 or 1, of rows that are known by what their (n,) columns hold, bit by bit: rows
    that are alike share one, so the columns must tell rows apart."""
    mixed = np.full(len(columns[0]), row_key, np.uint64)
    for column in columns:
        bits = np.ascontiguousarray(column, np.float64).view(np.uint64)
        mixed = _mix(mixed ^ _mix(bits + _GOLDEN))
    return ((mixed >> _11).astype(np.float64) + 0.5) * 2.0**-53


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A generator of its own for rare draws."""
    return np.random.Generator(np.random.Philox(key=key(seed, *names)))


@lru_cache(COUNTS_KEPT)
def _steps(count: int) -> NDArray[np.uint64]:
    return np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    x = (x ^ (x >> _30)) * _MIX_1
    x = (x ^ (x >> _27)) * _MIX_2
    mixed: NDArray[np.uint64] = x ^ (x >> _31)
    return mixed
