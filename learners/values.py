"""What a challenger is worth where traffic is split: each example has the outcome of one arm only.

Own the unbiased difference of outcomes between two arms and its confidence sequence. Refuse to know what an outcome is
(a conversion, a margin, a rating) and how arms are drawn (`learners.ratio` checks that).
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from learners.packing import unpacked
from learners.sequential import Differences

Floats = NDArray[np.float64]

FIRST_GUESS: Final = 0.5
"""Of the mean outcome, in its range: counts as one example."""


class _State(msgspec.Struct, array_like=True):
    taken: float
    total: float
    clipped: int
    differences: bytes


class ValueDifference:
    """Inverse-propensity difference of mean outcomes, challenger minus champion (Horvitz and Thompson 1952), always
    valid.

    Outcomes are clipped to [low, high]; the clipped mean is what is compared. An example of the challenger adds
    (outcome - guess) / propensity, one of the champion takes it away, other arms add nothing. The guess is the mean
    outcome so far: it was known before, so it changes no expectation, and takes out most of the variance. Propensities
    below `propensity_min` are refused, as the bets rest on it; declared far below the shares that occur, it delays the
    finding of large differences.
    """

    def __init__(self, low: float, high: float, propensity_min: float) -> None:
        if not (low < high and 0 < propensity_min <= 0.5):
            raise ValueError(
                f"outcomes from {low} to {high}, propensities from {propensity_min}: "
                "low < high and 0 < propensity_min <= 0.5 are wanted"
            )
        self.low = low
        self.high = high
        self.propensity_min = propensity_min
        self.clipped = 0
        """Outcomes outside of the range."""
        self._taken = 1.0
        self._total = FIRST_GUESS
        self._differences = Differences()

    @property
    def n(self) -> int:
        """Examples taken, those of other arms among them."""
        return self._differences.n

    def take(self, arms: ArrayLike, outcomes: ArrayLike, propensities: ArrayLike) -> None:
        """(n,) arms: 1 challenger, -1 champion, 0 another; their outcomes; and with which probability each arm was
        drawn, as logged at that time. Raises ValueError, and takes nothing."""
        arm, outcome, propensity = (np.atleast_1d(np.asarray(x, np.float64)) for x in (arms, outcomes, propensities))
        if not arm.shape == outcome.shape == propensity.shape or arm.ndim != 1:
            raise ValueError(f"arms, outcomes and propensities of shapes {arm.shape}, {outcome.shape}, "
                             f"{propensity.shape}; one of each for every example is wanted")  # fmt: skip
        if not np.isin(arm, (-1.0, 0.0, 1.0)).all() or not np.isfinite(outcome).all():
            raise ValueError("an arm is 1 (challenger), -1 (champion) or 0 (another), an outcome a finite number")
        compared = arm != 0
        if not ((propensity >= self.propensity_min) & (propensity <= 1.0))[compared].all():
            raise ValueError(
                f"propensity {propensity[compared].min()} or more lies outside of [{self.propensity_min}, 1]; "
                "declare the smallest share of an arm as propensity_min"
            )
        place = (outcome - self.low) / (self.high - self.low)
        kept = np.clip(place, 0.0, 1.0)
        self.clipped += int(((kept != place) & compared).sum())
        taken = np.cumsum(np.concatenate([[self._taken], compared]))
        total = np.cumsum(np.concatenate([[self._total], np.where(compared, kept, 0.0)]))
        guess = total[:-1] / taken[:-1]
        weight = self.propensity_min / np.where(compared, propensity, 1.0)
        self._differences.take((arm * (kept - guess) * weight)[:, None])
        self._taken, self._total = float(taken[-1]), float(total[-1])

    @property
    def mean(self) -> float:
        """Estimated difference, in units of the outcome."""
        return float(self._differences.means[0]) * self._unit()

    def above(self, difference: float = 0.0) -> float:
        """Log e-value against "the challenger's mean outcome is at most `difference` above the champion's"."""
        return float(self._differences.above(difference / self._unit())[0])

    def below(self, difference: float = 0.0) -> float:
        """Log e-value against "it is at least `difference` above"."""
        return float(self._differences.below(difference / self._unit())[0])

    def interval(self, alpha: float) -> tuple[float, float]:
        """Confidence sequence of the average expected difference so far (see `Differences.interval`)."""
        span = self.high - self.low
        low, high = np.clip(self._differences.interval(alpha)[:, 0] * self._unit(), -span, span)
        return float(low), float(high)

    def _unit(self) -> float:
        return (self.high - self.low) / self.propensity_min

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(_State(self._taken, self._total, self.clipped, self._differences.snapshot()))

    def restore(self, state: bytes) -> None:
        """Raises SnapshotError."""
        read: _State = unpacked(state, _State, "a comparison of values")
        self._differences.restore(read.differences)
        self._taken, self._total, self.clipped = read.taken, read.total, read.clipped
