"""Are the arms counted as often as their shares say? A split that is not what was declared makes every comparison void.

Own the sequential test of counts against shares. Refuse to know what is assigned, and why a count is wrong: lost labels
of one arm, a router with an old share, an arm that crashes on some inputs.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from learners.sequential import Differences

Floats = NDArray[np.float64]

ARMS_MAX: Final = 100
"""Bounds the state, and the evidence: it is shared among the arms."""

SUM_TOLERANCE: Final = 1e-6
"""By how much shares may miss a sum of 1."""


class SampleRatio:
    """Always-valid test that example after example arm j is taken with the share declared for it at that time.

    For each arm, being taken minus the declared share is a difference of mean zero; bets on too many and on too few, of
    all arms, are averaged into one e-value. Shares may differ from example to example (a ramp, a bandit's
    propensities), which the multinomial test of Lindon and Malek (2022) does not allow; where they are constant both
    need about as many examples (`tests/test_sequential.py`). Feed it the examples that are compared, so labelled
    ones: then lost labels are found as well.
    """

    def __init__(self, arms: int) -> None:
        if not 2 <= arms <= ARMS_MAX:
            raise ValueError(f"{arms} arms; a ratio needs 2 to {ARMS_MAX}")
        self.arms = arms
        self._differences = Differences(arms)

    @property
    def n(self) -> int:
        """Examples taken."""
        return self._differences.n

    def take(self, arms: ArrayLike, shares: ArrayLike) -> None:
        """(n,) places of the arms that were taken, and (n, arms) shares that were declared for each example, or (arms,)
        for all of them. Raises ValueError."""
        taken = np.atleast_1d(np.asarray(arms))
        declared = np.asarray(shares, np.float64)
        if taken.dtype.kind not in "iu" or not ((taken >= 0) & (taken < self.arms)).all():
            raise ValueError(f"arms {taken.tolist()[:5]}; each must be a whole number from 0 to {self.arms - 1}")
        if declared.shape[-1:] != (self.arms,) or not (declared >= 0).all() or not _sum_to_one(declared):
            raise ValueError(
                f"shares of shape {declared.shape}; {self.arms} for each example are wanted, none negative, sum 1"
            )
        self._differences.take(np.eye(self.arms)[taken] - declared)

    def log_e(self) -> float:
        """Log e-value against "as declared". At any time, alarm where >= log(1 / alpha): false with probability at most
        alpha once and for all."""
        sides = np.concatenate([self._differences.above(), self._differences.below()])
        return float(np.logaddexp.reduce(sides) - math.log(len(sides)))

    def excess(self) -> Floats:
        """(arms,) by how much the part of each arm is above its mean declared share."""
        return self._differences.means

    def snapshot(self) -> bytes:
        return self._differences.snapshot()

    def restore(self, state: bytes) -> None:
        """Raises SnapshotError."""
        self._differences.restore(state)


def _sum_to_one(shares: Floats) -> bool:
    return bool((np.abs(shares.sum(axis=-1) - 1.0) <= SUM_TOLERANCE).all())
