"""What is broken about a stream of data quality, as an alert needs it. Owns the judgement whether values that leave
their range are faults or the tail of values that have moved; refuses to know how constraints are asked."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectors import statistics

MOVED_PSI: Final = 0.10
"""Debiased PSI of the values that keep their range from which on they have moved as a whole, as `words.PSI_WARNING`."""

KEPT_ROWS_MIN: Final = 16
"""Fewer values that keep it show nothing: all of them leave it, which no drift does within one block."""

NEAR: Final = 0.25
"""Unless so many of the values before lay in an outermost bin already: of a reference it holds one in 32."""


class Breach(NamedTuple):
    """`text`: the rest of a sentence that begins with the feature's name. `missing_max`: the share of missing values
    that is tolerated, if one is given. `values`: the feature whose limit was learned, so that what lies beyond it may
    be rare and no fault; empty where a person has set the limit."""

    fault: str
    text: str
    missing_max: float | None = None
    values: str = ""


def moved(before: NDArray[np.int64], now: NDArray[np.int64], broken: int) -> bool:
    """Whether a feature's values have moved as a whole, from (K,) counts by bin, of which `broken` leave the range: so
    these are the tail of all. Faults among good values leave the good ones as they were.

    >>> before = np.array([50, 100, 100, 100, 50])
    >>> moved(before, np.array([50, 100, 100, 100, 250]), broken=200)
    False
    >>> moved(before, np.array([2, 10, 50, 138, 200]), broken=50)
    True
    """
    kept = now.astype(np.float64)
    good = kept.sum() - broken
    if not before.sum():
        return False
    if good < KEPT_ROWS_MIN:
        return bool(max(before[0], before[-1]) > NEAR * before.sum())
    # The outermost bins hold what lies beyond; what has come to them beyond their share is that, as far as it goes.
    more = kept - good * before / before.sum()
    rest = float(broken)
    for k in (0, -1) if more[0] > more[-1] else (-1, 0):
        taken = min(rest, max(float(more[k]), 0.0))
        kept[k] -= taken
        rest -= taken
    return float(statistics.psi(before[None], np.round(kept).astype(np.int64)[None])[0]) >= MOVED_PSI
