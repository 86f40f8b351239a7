"""Numbers of blocks among the numbers of past blocks, and what is betted on their ranks. Knows no streams or rows.

The randomised rank of a new number among n past ones is uniform and independent of all earlier ranks if the blocks are
exchangeable, for any distribution and with ties (Vovk's smoothing), so its normal score is exactly N(0,1). A rank
multiplies evidence by about n at most: with few past blocks large changes are found no sooner than small ones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Floats = NDArray[np.float64]
Values = NDArray[np.float32]
Ints = NDArray[np.int64]

PAST_MAX = 768
"""Past blocks kept; beyond that a random half stays, which leaves ranks exact (see `scores.py` on bags)."""

PAST_AMPLE = 300
"""So many past blocks lose hardly any power; fewer cap the evidence of a block."""

SIZES = np.array([0.12, 0.25, 0.5, 1.0, 2.0, 4.0])
BETS = np.concatenate([SIZES, -SIZES])
"""Shifts of a block's score, in its standard deviations; weight goes with size ** -1/2."""


def bet_weights(series: Floats, only_up: bool) -> Floats:
    """(S, B) weights of bets on series of these weights, sum 1."""
    by_bet = np.abs(BETS) ** -0.5 * ((BETS > 0) | (not only_up))
    weights = series[:, None] * by_bet
    total: Floats = weights / max(float(weights.sum()), 1e-300)
    return total


def compare(past: Values, x: Values, some: Ints) -> tuple[Ints, Ints]:
    """How many numbers of past (P, T), NaN where there is none, are less than those of x (T,), and how many equal them:
    of `some` series. Where these are most, comparing all is quicker than taking them out."""
    if 2 * len(some) < len(x):
        return compare(past[:, some], x[some], np.arange(len(some)))
    less, equal = (np.add.reduce(found.view(np.uint8), 0, dtype=np.uint16) for found in (past < x, past == x))
    return less[some].astype(np.int64), equal[some].astype(np.int64)


def scores(less: Ints, equal: Ints, known: Ints, xi: Floats) -> Floats:
    """(T,) normal scores of numbers among so many known ones; xi: (T,) uniforms.

    A number that equals all past ones says nothing, and scores 0.
    """
    z = ndtri(np.clip((less + xi * (equal + 1)) / (known + 1), 1e-12, 1 - 1e-12))
    return np.where(equal == known, 0.0, z)


def log_evidence(z: Floats) -> Floats:
    """(T, B) logarithms of what bets gain by scores (T,); the gain has mean 1 if z is N(0,1), less if narrower."""
    gained: Floats = z[:, None] * BETS - BETS**2 / 2
    return gained


def thin(past: Floats, draw: np.random.Generator) -> Floats:
    """(S, P / 2) numbers of randomly chosen blocks of (S, n), in their order."""
    kept: Floats = past[:, np.sort(draw.permutation(past.shape[1])[: PAST_MAX // 2])]
    return kept
