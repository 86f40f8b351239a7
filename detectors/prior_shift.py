"""Shares of the classes before labels come, where P(score given class) has stayed (F02).

Owns black-box shift estimation (BBSE; Lipton, Wang, Smola 2018, arXiv 1802.03916): a window's predicted classes are the
reference's confusion matrix times the shares of the true ones, so the shares are found by solving for them. Refuses to
say whether it was a prior shift: where inputs have moved for another reason, predictions count differently and the
answer is off by as much.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from detectors import statistics
from detectors.calibration import REFERENCE_ROWS_MIN, Floats
from detectors.estimation import Estimate, Point, interval

VERSION: Final = 1

SINGULAR_MIN: Final = 0.1
"""Smallest singular value of a matrix that may be relied on: noise grows by its inverse, at most tenfold."""

NOISE_MARGIN: Final = 3.0
"""The smallest singular value must also be that many standard errors of the matrix away from zero."""


class Confusion(msgspec.Struct, frozen=True):
    """(prediction, label) counts of the reference, and which classes occur in it as labels."""

    counts: NDArray[np.float64]
    known: NDArray[np.bool_]
    version: int = VERSION


class Shares(msgspec.Struct, frozen=True):
    """Estimated shares of the classes in a window, in the order of their codes, and the reference's.

    ill_conditioned: the model tells some classes apart so badly that the shares mean little. p_value: of the shares
    being the reference's, by the predicted classes alone; small says that something moved, not that it was the prior.
    """

    shares: list[Estimate]
    reference: list[float]
    smallest_singular: float
    ill_conditioned: bool
    p_value: float


def learn(confusion: ArrayLike) -> Confusion:
    """From (prediction, label) reference counts, as `expected_binary` and `expected_classes` hold them.

    Raises ValueError where they are not a square of counts, are fewer than 100 rows, or show fewer than two labels.
    """
    counts = np.asarray(confusion, np.float64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ValueError(f"a confusion matrix is a square of (prediction, label) counts, not of shape {counts.shape}")
    bad = ~(np.isfinite(counts) & (counts >= 0))
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise ValueError(f"the count at prediction {row}, label {column} is {counts[row, column]:g}; it must be >= 0")
    if counts.sum() < REFERENCE_ROWS_MIN:
        raise ValueError(f"{counts.sum():g} reference rows; at least {REFERENCE_ROWS_MIN} are needed")
    known = counts.sum(0) > 0
    if known.sum() < 2:
        raise ValueError("the reference shows fewer than two labels; there are no shares to estimate")
    return Confusion(counts, known)


def estimate(model: Confusion, predicted: ArrayLike) -> Shares:
    """Shares of the true classes in a window, from its (K,) counts of predicted classes.

    Intervals cover the share that the window's labels will show, by the delta method: chance in what is predicted for
    each label, in the window and in the reference. A class that the reference never showed as a label gets share 0.
    Raises ValueError for an empty window or another number of classes.
    """
    said = np.asarray(predicted, np.float64)
    if said.shape != (len(model.counts),) or not (said >= 0).all() or not said.sum() > 0:
        raise ValueError(f"predicted classes need {len(model.counts)} counts with a sum above 0, not {said.tolist()}")
    n, rows = float(said.sum()), model.counts.sum(0)[model.known]
    given = model.counts[:, model.known] / rows
    smallest = float(np.linalg.svd(given, compute_uv=False)[-1])
    inverse = np.linalg.pinv(given)
    raw = inverse @ (said / n)
    scatter = np.stack([np.diag(a) - np.outer(a, a) for a in given.T])
    share = _on_simplex(raw)
    covariance = inverse @ np.tensordot(share / n + share**2 / rows, scatter, 1) @ inverse.T
    errors = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    noise = float(np.sqrt((np.trace(scatter, axis1=1, axis2=2) / rows).max()))
    found = [Estimate(0.0, 0.0, 1.0)] * len(said)
    for place, value, error in zip(np.flatnonzero(model.known), share, errors, strict=True):
        found[place] = interval(Point(float(value), float(error)))
    return Shares(
        shares=found,
        reference=[float(x) for x in model.counts.sum(0) / model.counts.sum()],
        smallest_singular=smallest,
        ill_conditioned=smallest < max(SINGULAR_MIN, NOISE_MARGIN * noise) or not bool(model.known.all()),
        p_value=_same(model.counts.sum(1), said),
    )


def _on_simplex(x: Floats) -> Floats:
    """The nearest shares: at least 0, adding to 1 (Duchi and others 2008, section 3)."""
    falling = np.sort(x)[::-1]
    beyond = (np.cumsum(falling) - 1.0) / np.arange(1, len(x) + 1)
    last = int(np.flatnonzero(falling > beyond)[-1])
    return np.asarray(np.maximum(x - beyond[last], 0.0))


def _same(reference: Floats, said: Floats) -> float:
    """p-value of both rows of counts having one distribution (chi-square)."""
    return float(statistics.chi_square_p(reference, said))
