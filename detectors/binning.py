"""How a quantity becomes a small integer, and counts of them. Knows nothing of time, evidence or alarms.

Bins must come from rows that are not evidence later on: either rows of their own (`training_rows`), or the reference
as a whole, which is what quantile bins forgive (a bin between two order statistics has the same law whether they came
from the bag or from elsewhere, up to 1/n).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detectors.contract import Bins, Stream

QUANTILE_BINS = 32
"""Bins of a numeric stream; 24 suffice for all information that the bets use, 64 gain nothing."""

CATEGORIES = 20
"""Categories with a bin of their own, the busiest; rarer ones carry no evidence."""

TRAINING_SHARE = 0.2
TRAINING_ROWS_MAX = 2_000
"""The part of a reference that shapes bins and bets; the rest is the bag that later rows are compared with."""

MISSING = -1


def training_rows(reference_rows: int) -> int:
    """How many of the first reference rows shape the bets and are not evidence."""
    return min(int(reference_rows * TRAINING_SHARE), TRAINING_ROWS_MAX)


def learn_bins(stream: Stream, values: NDArray[np.float64] | Sequence[str | None]) -> Bins:
    """Bins of one stream from reference values; missing ones (NaN, infinities, None) are passed over.

    Numeric: up to 32 quantile bins with distinct edges. Edges are values that occurred, so equal values share a bin;
    where the smallest or largest value is an atom, what lies beyond it gets a bin of its own (a constant has three).
    Categorical: the 20 busiest (ties by name), everything else is one more. Rate and loss: above one half or not.

    >>> learn_bins(Stream("x", "numeric"), np.array([7.0, 7.0])).edges
    (6.999999999999999, 7.0)
    >>> learn_bins(Stream("c", "categorical"), ["b", "a", "b", None]).categories
    ('b', 'a')
    """
    if stream.kind in ("rate", "loss"):
        return Bins(edges=(0.5,))
    if stream.kind == "categorical":
        counted = Counter(value for value in values if value is not None)
        busiest = sorted(counted, key=lambda name: (-counted[name], str(name)))[:CATEGORIES]
        return Bins(categories=tuple(str(name) for name in busiest))
    x = np.asarray(values, np.float64)
    return Bins(edges=_quantile_edges(np.sort(x[np.isfinite(x)])))


def _quantile_edges(x: NDArray[np.float64]) -> tuple[float, ...]:
    n = len(x)
    if n == 0:
        return ()
    ranks = np.ceil(np.arange(1, QUANTILE_BINS) / QUANTILE_BINS * n).astype(int) - 1
    edges = np.unique(x[ranks])
    if edges[0] == x[0] and (n == 1 or x[1] == x[0]):
        below = math.nextafter(float(x[0]), -math.inf)
        edges = np.insert(edges, 0, below) if math.isfinite(below) else edges
    return tuple(float(edge) for edge in edges)


def code(bins: Bins, values: NDArray[np.float64] | Sequence[str | None]) -> NDArray[np.int32]:
    """(n,) bin of each value, -1 where it is missing. A category that has no bin of its own is 'other'."""
    if bins.categories or (not bins.edges and not isinstance(values, np.ndarray)):
        numbers = {name: k for k, name in enumerate(bins.categories)}
        other = len(bins.categories)
        return np.fromiter(
            (MISSING if value is None else numbers.get(value, other) for value in values), np.int32, len(values)
        )
    x = np.asarray(values, np.float64)
    codes = np.searchsorted(np.asarray(bins.edges), x, side="left").astype(np.int32)
    codes[np.isnan(x)] = MISSING
    return codes


def count(codes: NDArray[np.int32], size: int) -> NDArray[np.int64]:
    """(d, size) counts of (n, d) codes; missing ones, and codes beyond `size`, do not count."""
    return count_blocks(codes, size, np.zeros(len(codes), np.int64), 1)[0]


def count_blocks(codes: NDArray[np.int32], size: int, block: NDArray[np.int64], blocks: int) -> NDArray[np.int64]:
    """(blocks, d, size) counts of (n, d) codes, each row in its (n,) block."""
    d = codes.shape[1]
    places = codes + (block[:, None] * d + np.arange(d)) * size
    known = (codes >= 0) & (codes < size)
    return np.bincount(places[known], minlength=blocks * d * size).reshape(blocks, d, size)
