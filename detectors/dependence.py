"""How much the rows of a stream resemble the rows before them. Knows series of numbers in order; nothing of streams.

One question, asked at every scale: do neighbouring blocks of 1, 2, 4, ... rows resemble each other more than chance
would have it? The lag-1 correlation of block sums answers it from neighbouring rows up to a drift over a tenth of what
is known, and each of several series of a stream may give the answer. Sources: block sums for dependent rows (Carlstein
1986), the variance ratio (Lo and MacKinlay 1988).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

Floats = NDArray[np.float64]

LAG_ONE_ROWS = 0.02
"""Lag-1 correlation that counts of exchangeable rows bear: it makes sums vary 4 % more than chance."""

LAG_ONE_BLOCKS = 0.05
"""Lag-1 correlation of neighbouring blocks that ranks of blocks bear."""

LEVEL = 1e-4
"""Chance, over all series of a stream, that a scale without dependence is taken for one with it. At 0.002 two to four
of a hundred independent streams were judged by blocks, for as much time as all others took; what is missed at this
level, a lag-1 of 0.05 in 5,000 rows, makes no flood, and a stream that alarms again steps down by itself."""

BLOCKS_TO_TELL = 24
"""Fewer blocks say nothing about a scale."""

SPAN = 8
"""Blocks whose sums show what is left of persistence: changes are found within some such spans."""


class Reach(NamedTuple):
    """Blocks of 2 ** `doublings` units no longer resemble their neighbours; there are `blocks` of them. `wanders`: even
    the longest that could be looked at do, so the true reach may be longer."""

    doublings: int
    blocks: int
    wanders: bool


def reach(x: Floats, allowed: float) -> Reach:
    """How far resemblance reaches in (S, n) sums of successive units: beyond the last scale that shows any.

    A correlation shows if it is both above `allowed` and beyond chance.

    >>> walk = np.cumsum(np.random.default_rng(1).normal(size=(1, 400)), 1)
    >>> reach(walk, LAG_ONE_ROWS)
    Reach(doublings=5, blocks=12, wanders=True)
    >>> reach(np.diff(walk), LAG_ONE_ROWS)
    Reach(doublings=0, blocks=399, wanders=False)
    """
    quantile = float(ndtri(1 - LEVEL / max(len(x), 1)))
    scale = doublings = 0
    last_shows = False
    blocks = x
    while blocks.shape[1] >= BLOCKS_TO_TELL:
        least = max(allowed, quantile / np.sqrt(blocks.shape[1]))
        last_shows = bool((lag_one(blocks) > least).any())
        scale += 1
        doublings = scale if last_shows else doublings
        blocks = doubled(blocks)
    return Reach(doublings, x.shape[1] >> doublings, last_shows)


def lag_one(x: Floats) -> Floats:
    """(S,) lag-1 correlation of (S, n) numbers, free of the bias of a short series; 0 for constants."""
    return _correlations(x, 1)[0]


def doubled(x: Floats) -> Floats:
    """(S, n // 2) sums of pairs of (S, n) successive numbers."""
    even = x.shape[1] // 2 * 2
    sums: Floats = x[:, 0:even:2] + x[:, 1:even:2]
    return sums


def persistence(x: Floats) -> Floats:
    """(S,) by how much sums of 8 of (S, n) successive blocks vary more than those of independent ones, at least 1.

    Of rank scores; the estimate plus its standard error, as one too low multiplies alarms and one too high costs delay.
    """
    n = x.shape[1]
    if n <= SPAN:
        return np.ones(len(x))
    scores = ndtri((rankdata(x, axis=1) - 0.5) / n)
    shares = 1 - np.arange(1, SPAN) / SPAN
    ratio = 1 + 2 * shares @ _correlations(scores, SPAN - 1)
    error = np.sqrt(4 * (shares**2).sum() / n)
    varies = scores.max(1) > scores.min(1)
    return np.where(varies, np.maximum(ratio + error, 1.0), 1.0)


def _correlations(x: Floats, lags: int) -> Floats:
    """(lags, S) correlations at lags 1 and more."""
    n = x.shape[1]
    centred = x - x.mean(1, keepdims=True)
    power = (centred**2).sum(1)
    varies = power > 1e-9 * n
    products = np.array([(centred[:, lag:] * centred[:, :-lag]).sum(1) for lag in range(1, lags + 1)])
    return np.where(varies, products / np.where(varies, power, 1.0) + 1 / n, 0.0)
