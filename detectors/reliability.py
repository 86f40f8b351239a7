"""Whether scores mean what they say: the reliability curve, the calibration error, and a residual that drift shows in.

Owns arithmetic on score histograms and on single rows. Refuses to know where scores come from, and how a meaning is
learned (`calibration.py`).

**Error.** ECE is the mean over bins of |share of ones - mean score|, weighted by rows (Naeini, Cooper, Hauskrecht
2015). It is above 0 by chance (Roelofs and others 2022, arXiv 2012.08668): 0.070 on average for a perfectly calibrated
model with evenly spread scores in a window of 200 rows. So what perfect calibration would give on average is taken off,
as Broecker (2012) and Ferro and Fricker (2012) do for squared errors: the share of ones of a bin is then about normal
with variance sum s(1-s) / n^2, and the mean of its absolute value sqrt(2/pi) of its standard deviation. What is left
(0.007 there) is never below 0, and too small where the true error is about as large as what chance gives.

**Residual.** With c the probability of label 1 that a score means and xi uniform, u = 1 - c xi where the label is 1 and
(1 - c) xi where it is 0 is uniform on (0, 1) given the score, whatever scores there are: the randomised probability
integral transform (Czado, Gneiting, Held 2009). So u moves if P(label | score) does and not if scores alone do; its
mean is 1/2 + (true rate - c) / 2.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

BINS: Final = 10
"""Of equal width, as reliability curves are usually drawn."""


class Bin(NamedTuple):
    """Rows whose scores share a bin."""

    score: float
    ones: float
    n: int


class Reliability(NamedTuple):
    """`ece` is free of what chance gives, `ece_plain` is not; `bins` are those with rows, by score."""

    ece: float
    ece_plain: float
    bins: list[Bin]


def curve(zeros: Floats, ones: Floats) -> Reliability | None:
    """From (K,) rows with label 0 and with label 1 by score, in K (a multiple of 10) bins of equal width over [0, 1].

    A score is taken to lie in the middle of its narrow bin, so mean scores are right to 1 / 2K. None without rows.

    >>> found = curve(np.array([90.0] + [0.0] * 9), np.array([10.0] + [0.0] * 9))
    >>> [round(x, 3) for x in (found.ece, found.ece_plain, *found.bins[0])]
    [0.033, 0.05, 0.05, 0.1, 100]
    """
    rows = zeros + ones
    total = float(rows.sum())
    if total <= 0:
        return None
    middle = (np.arange(len(rows)) + 0.5) / len(rows)
    n, hits, score, spread = (
        x.reshape(BINS, -1).sum(1) for x in (rows, ones, rows * middle, rows * middle * (1.0 - middle))
    )
    used = n > 0
    error = np.abs(hits - score)[used].sum() / total
    chance = math.sqrt(2.0 / math.pi) * np.sqrt(np.maximum(spread[used], 0.0)).sum() / total
    bins = [Bin(float(score[k] / n[k]), float(hits[k] / n[k]), round(float(n[k]))) for k in np.flatnonzero(used)]
    return Reliability(max(float(error - chance), 0.0), float(error), bins)


def residuals(rate: Floats, label: Floats, xi: Floats) -> Floats:
    """(n,) randomised residuals of labels 0 and 1 whose probability of 1 was `rate`; `xi` uniform, known to nobody.

    >>> residuals(np.array([0.8, 0.8]), np.array([1.0, 0.0]), np.array([0.5, 0.5])).round(3).tolist()
    [0.6, 0.1]
    """
    return np.where(label == 1.0, 1.0 - rate * xi, (1.0 - rate) * xi)
