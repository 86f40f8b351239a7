"""What is broken about a stream of data quality, as an alert needs it. Owns the judgement whether values that leave
their range are faults or the tail of values that have moved; refuses to know how constraints are asked."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectors import statistics

MOVED_PSI: Final = 0.10
"""Debiased PSI of the values that keep their range from which on they have moved as a whole, as `words.PSI_WARNING`."""

LEFT: Final = 0.9
"""Where so many values have left the range, how far they have is what tells: the few others show nothing."""

NEAR_WIDTHS: Final = 1.0
"""What lies beyond the range by no more than its width has moved: a storm does so within hours. Another unit, or a
number that stands for nothing (-999), lies farther off."""

NEAR_SHARE: Final = 0.25
"""So has what goes on from an outermost bin that held so many before; of a reference it holds one in 32."""


class Breach(NamedTuple):
    """`text`: the rest of a sentence that begins with the feature's name. `missing_max`: the share of missing values
    that is tolerated, if one is given. `values`: the feature whose limit was learned, so that what lies beyond it may
    be rare and no fault, and `bounds` what it is; empty where a person has set it."""

    fault: str
    text: str
    missing_max: float | None = None
    values: str = ""
    bounds: tuple[float, float] = (-math.inf, math.inf)


def moved(
    before: NDArray[np.int64], now: NDArray[np.int64], broken: int, mean: float, bounds: tuple[float, float]
) -> bool:
    """Whether a feature's values have moved as a whole, from (K,) counts by bin, of which `broken` leave the range: so
    these are the tail of all. Faults among good values leave the good ones as they were.

    >>> before = np.array([50, 100, 100, 100, 50])
    >>> moved(before, np.array([50, 100, 100, 100, 250]), broken=200, mean=70.0, bounds=(0.0, 50.0))
    False
    >>> moved(before, np.array([2, 10, 50, 138, 200]), broken=50, mean=40.0, bounds=(0.0, 50.0))
    True
    >>> [moved(before, np.array([0, 0, 0, 0, 9]), 9, mean, (0.0, 50.0)) for mean in (60.0, 20_000.0)]
    [True, False]
    """
    kept = now.astype(np.float64)
    good = kept.sum() - broken
    if not before.sum():
        return False
    if broken >= LEFT * kept.sum():
        low, high = bounds
        room = NEAR_WIDTHS * (high - low)
        return low - room <= mean <= high + room or bool(max(before[0], before[-1]) > NEAR_SHARE * before.sum())
    # The outermost bins hold what lies beyond; what has come to them beyond their share is that, as far as it goes.
    more = kept - good * before / before.sum()
    rest = float(broken)
    for k in (0, -1) if more[0] > more[-1] else (-1, 0):
        taken = min(rest, max(float(more[k]), 0.0))
        kept[k] -= taken
        rest -= taken
    return float(statistics.psi(before[None], np.round(kept).astype(np.int64)[None])[0]) >= MOVED_PSI
