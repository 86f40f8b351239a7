"""How many labels a trial will need: asked before it begins.

Own the arithmetic of expected durations. Refuse to know trials; what is computed is the test of `learners.sequential`,
seen as a Brownian motion that runs up to the test's boundary.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr, ndtri

from learners.sequential import COSTS, boundary

Floats = NDArray[np.float64]

LABELS_MAX: Final = 10**9
"""A trial that takes longer has no end."""

SLOPE_STEP: Final = 1e-3
"""Relative step over which the slope of the boundary is taken: it bends over factors of ten, not thousandths."""

STEPS: Final = 60
"""Halvings of the logarithm of the answer: exact to one label."""


def expected_labels(effect: float, variance: float, alpha: float = 0.05, power: float = 0.5) -> int:
    """Labels by which the sequential test has found, with probability `power`, that the challenger is better; half of
    the trials end before the default.

    `effect`: mean difference of losses beyond the margin, say 0.02 for two points of accuracy. `variance`: mean square
    of the differences; for 0/1 losses the share of examples on which exactly one of the two is right. Looks between
    windows of w labels add about w / 2. Raises ValueError; for effects that would take more than `LABELS_MAX` labels
    too.

    The boundary is concave in the number of labels, so its tangent lies above it and the chance to have crossed the
    tangent (the inverse Gaussian law) is a lower bound. Of seven effects at two levels, simulated medians and ninth
    deciles were between 0.88 and 1.03 of the answer, the lowest where fewer than a thousand labels suffice.

    >>> expected_labels(0.02, 0.2), expected_labels(0.02, 0.2, power=0.9), fixed_labels(0.02, 0.2, power=0.9)
    (3434, 7851, 4274)
    """
    _check(effect, variance, alpha, power)
    low, high = 0.0, math.log(LABELS_MAX)
    if chance_found(LABELS_MAX, effect, variance, alpha) < power:
        raise ValueError(f"effect {effect} with variance {variance} takes more than {LABELS_MAX} labels")
    for _ in range(STEPS):
        middle = (low + high) / 2
        if chance_found(math.exp(middle), effect, variance, alpha) < power:
            low = middle
        else:
            high = middle
    return math.ceil(math.exp(high))


def chance_found(labels: float, effect: float, variance: float, alpha: float) -> float:
    """Probability (a lower bound, but for the normal approximation) that the test has found the effect by then."""
    ends = _boundary(labels * np.array([1.0, 1.0 + SLOPE_STEP]), variance, alpha)
    slope = (ends[1] - ends[0]) / (labels * SLOPE_STEP)
    level = ends[0] - slope * labels
    drift = effect - slope
    spread = max(variance - effect * effect, 1e-12)
    root = math.sqrt(spread * labels)
    direct = ndtr((drift * labels - level) / root)
    turned = math.exp(min(2.0 * drift * level / spread + log_ndtr((-drift * labels - level) / root), 0.0))
    return min(float(direct) + turned, 1.0)


def fixed_labels(effect: float, variance: float, alpha: float = 0.05, power: float = 0.9) -> int:
    """Labels of the one-sided z-test that is looked at once, after exactly so many: what looking early is paid with."""
    _check(effect, variance, alpha, power)
    quantiles = float(ndtri(1.0 - alpha) + ndtri(power))
    return math.ceil(max(variance - effect * effect, 0.0) * (quantiles / effect) ** 2)


def _boundary(labels: Floats, variance: float, alpha: float) -> Floats:
    """(n,) the sum of differences at which the test tells, where each label adds `variance` to every even power sum, as
    0/1 losses do; smaller differences cost less."""
    even = variance * labels
    costs = even[:, None] * (COSTS[0] + COSTS[2] + COSTS[4])
    return boundary(costs, math.log(1.0 / alpha))


def _check(effect: float, variance: float, alpha: float, power: float) -> None:
    if not (effect > 0 and effect * effect <= variance <= 1):
        raise ValueError(
            f"effect {effect}, variance {variance}: the effect must be positive, and its square no larger than the "
            "variance (the mean square of the differences), which is at most 1"
        )
    if not (0 < alpha < 1 and 0 < power < 1):
        raise ValueError(f"alpha {alpha} and power {power} must lie between 0 and 1")
