"""What a score is worth: the rate at which rows of a score turn out as said, learned from labelled reference rows.

Owns bins of scores, the monotone map from bin to rate, and how sure that map is. Refuses to know metrics, windows and
labels that come later (`expected_binary.py`, `expected_classes.py`).

The map is isotonic regression (Zadrozny, Elkan 2002) because it follows any monotone curve, needs no tuning and keeps
the rates of the reference. Two things are added to it, as it fits its own rows too well: it is the mean of fits over
coarser bins at every offset, as an averaged shifted histogram is (Scott 1985), which took up to a twentieth off the
error of estimated areas under the curve and up to 3 % off that of accuracy, for references of 500 to 50,000 rows; and
pools lean on their neighbours by one row, so that no rate is 0 or 1 and the rate of a small pool is not believed.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SCORE_BINS: Final = 200
"""Bins of a score, at most: half by rank, so that no bin holds much, half by value, so that scores that are rare in
the reference and common after a shift have bins of their own."""

MERGED: Final = 3
"""Neighbouring bins that are one bin in each of the averaged fits; 5 flatten steep maps, as large references show."""

LEAN_ROWS: Final = 1.0
"""Rows by which a pool leans on its neighbours; up to 1 the rates stay in order."""

REFERENCE_ROWS_MIN: Final = 100
"""A reference of fewer labelled rows is refused: its intervals would be as wide as the scale."""


def score_edges(score: Floats, bins: int = SCORE_BINS) -> Floats:
    """(at most bins - 1,) edges between bins of scores in [0, 1]; a score that equals an edge lies above it."""
    half = max(bins // 2, 1)
    ranks = np.arange(1, half) * len(score) // half
    return np.unique(np.concatenate([np.sort(score)[ranks], np.arange(1, half) / half]))


def rank_edges(x: Floats, bins: int) -> Floats:
    """(at most bins - 1,) edges between bins of about as many values each."""
    return np.unique(np.sort(x)[np.arange(1, bins) * len(x) // bins])


def code(edges: Floats, x: ArrayLike) -> Ints:
    """(n,) bin of each value, from 0 to len(edges)."""
    return np.searchsorted(edges, np.asarray(x, np.float64), side="right").astype(np.int64)


def monotone_rates(rows: Floats, ones: Floats) -> Floats:
    """(B,) rate of ones by bin, never falling and strictly between 0 and 1; bins without rows lie between others.

    rows, ones: (B,) counts, of which pseudo-rows may be a part. Raises ValueError where there are no rows.

    >>> monotone_rates(np.full(20, 50.0), np.linspace(0.0, 50.0, 20)).round(2)[[0, 10, 19]]
    array([0.03, 0.53, 0.97])
    """
    if not rows.sum() > 0:
        raise ValueError("no rows to learn rates from")
    places = np.arange(len(rows))
    total = np.zeros(len(rows))
    for offset in range(MERGED):
        group = (places + offset) // MERGED
        n, m = (np.bincount(group, x).astype(np.float64) for x in (rows, ones))
        total += _pooled(n, m)[group]
    return total / MERGED


def _pooled(rows: Floats, ones: Floats) -> Floats:
    """Isotonic regression whose pools lean on their neighbours; places without rows are interpolated."""
    used = np.flatnonzero(rows > 0)
    fit = isotonic_regression(ones[used] / rows[used], weights=rows[used])
    starts = fit.blocks[:-1]
    weight = np.add.reduceat(rows[used], starts)
    rate = fit.x[starts]
    if len(rate) == 1:
        near = np.full(1, 0.5)
    else:
        near = (np.append(rate[1], rate[:-1]) + np.append(rate[1:], rate[-2])) / 2
    leaning = (weight * rate + LEAN_ROWS * near) / (weight + LEAN_ROWS)
    return np.interp(np.arange(len(rows)), used, np.repeat(leaning, np.diff(fit.blocks)))


def support(rows: Floats) -> Floats:
    """(B,) rows that each bin's rate rests on: its own, or its share of its neighbourhood's where those are more."""
    reach = MERGED - np.abs(np.arange(1 - MERGED, MERGED))
    nearby = np.convolve(rows, reach / reach.sum(), mode="full")[MERGED - 1 : MERGED - 1 + len(rows)]
    return np.maximum(rows, nearby)


def rate_variance(rate: Floats, rows: Floats) -> Floats:
    """Sampling variance of each rate; bins count as independent, which pools only make better (Cauchy-Schwarz)."""
    return rate * (1.0 - rate) / np.maximum(rows, LEAN_ROWS)


def refuse(bad: NDArray[np.bool_], what: str, values: Floats, wanted: str) -> None:
    """Raise ValueError for the first row that is `bad`, naming what it holds and where."""
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ValueError(f"{what} at row {row} is {values[row]:g}; {wanted}")


def columns(**given: ArrayLike) -> list[Floats]:
    """The columns as (n,) arrays. Raises ValueError where they are not all of one length."""
    arrays = {name: np.asarray(x, np.float64) for name, x in given.items()}
    shapes = {name: x.shape for name, x in arrays.items()}
    first = next(iter(shapes.values()))
    if len(first) != 1 or any(shape != first for shape in shapes.values()):
        raise ValueError(f"columns must be flat and of one length, not {shapes}")
    return list(arrays.values())
