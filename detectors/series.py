"""What is followed of one stream from day to day: a few numbers per day. Knows counts; nothing of ranks or evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectors import bets
from detectors.contract import Kind

Floats = NDArray[np.float64]

PHI_UNITS = 256.0
"""A sum of 4,096 scores in such units still fits the 24 bits of a 32-bit number."""

CATEGORIES_FOLLOWED = 20
CATEGORY_SHARE_MIN = 0.002
TOLERANCE = 0.05
"""A change that counts as nothing: in standard deviations, or on the arcsine scale of shares (three points at 10 %)."""

RATE_TOLERANCE = 1.1
"""Rates and losses: at most this factor, as the absolute tolerance would blind rare errors."""


class Series(NamedTuple):
    """S series over K bins. phi: (K, S), of which means are taken; share: (S,) whether that is a share; words: (S,)."""

    phi: Floats
    weights: Floats
    share: NDArray[np.bool_]
    words: tuple[str, ...]
    bins: tuple[int, ...]


def of(p: Floats, kind: Kind, names: Sequence[str]) -> Series:
    """Series of a stream whose bins have mass p. Numeric: mean normal score (level), mean square (spread), quarters."""
    size = len(p)
    if kind in ("loss", "rate"):
        last = (np.arange(size) == size - 1).astype(np.float64)
        return Series(last[:, None], np.ones(1), np.ones(1, np.bool_), (kind,), (size - 1,))
    if kind == "categorical":
        busy = [int(k) for k in np.argsort(-p, kind="stable")[:CATEGORIES_FOLLOWED] if p[k] > CATEGORY_SHARE_MIN]
        words = tuple(f"share of {names[k]}" for k in busy)
        return Series(
            np.eye(size)[:, busy], np.full(len(busy), 1 / len(busy)), np.ones(len(busy), bool), words, (*busy,)
        )
    x, quarter = bets.normal_scores(p), bets.quarters(p)
    phi = np.column_stack([x, x * x, *(quarter == k for k in range(4))]).astype(np.float64)
    weights = np.array([bets.LOCATION_WEIGHT, bets.SCALE_WEIGHT, *[bets.QUARTER_WEIGHT / 4] * 4])
    share = np.array([False, False, True, True, True, True])
    return Series(phi, weights, share, ("level", "spread", *bets.QUARTERS), (-1,) * 6)


def statistics(counts: NDArray[np.int64] | NDArray[np.int32], series: Series) -> Floats:
    """(..., S) of (..., K) counts: mean score, or share on the arcsine scale; NaN where nothing was seen."""
    rows = counts.sum(-1, keepdims=True).astype(np.float64)
    return means(counts @ series.phi, rows, series.share)


def means(total: Floats, rows: Floats, is_share: NDArray[np.bool_]) -> Floats:
    """(..., S) values of series from their sums over so many rows."""
    share = 2 * np.arcsin(np.sqrt(np.clip((total + 0.25) / (rows + 0.5), 0.0, 1.0)))
    values = np.where(is_share, share, total / np.maximum(rows, 1.0))
    return np.where(rows > 0, values, np.nan)


def tolerance(p: Floats, kind: Kind) -> float:
    """How far a series may move without it being news."""
    if kind not in ("loss", "rate"):
        return TOLERANCE
    rate = float(p[-1])
    raised = min(1.0, RATE_TOLERANCE * rate)
    return min(TOLERANCE, float(2 * np.arcsin(np.sqrt(raised)) - 2 * np.arcsin(np.sqrt(rate))))


def every(p: Floats, kind: Kind, names: Sequence[str]) -> Series:
    """As `of`, but with a series for each category, weight 0 for the rare: the same series whatever p is.

    phi is rounded to a power of two, so that sums of it are exact and equal blocks stay equal to the last digit.
    """
    few = of(p, kind, names)
    phi = np.round(few.phi * PHI_UNITS) / PHI_UNITS
    if kind != "categorical":
        return few._replace(phi=phi)
    size = len(p)
    weights = np.zeros(size)
    weights[list(few.bins)] = few.weights
    words = tuple(f"share of {name}" for name in names)
    return Series(np.eye(size), weights, np.ones(size, np.bool_), words, tuple(range(size)))


def number(kind: Kind, size: int) -> int:
    """How many series `every` makes of a stream with so many bins."""
    return {"numeric": 2 + len(bets.QUARTERS), "categorical": size}.get(kind, 1)
