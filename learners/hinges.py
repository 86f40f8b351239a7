"""Random hinges over prepared features: what a linear model cannot draw, at the price of one.

Owns the hidden layer and the weights above it. Refuses to know scaling, classes and losses (`learners.linear`).
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from learners.linear import Array, Linear, Prepared, wider

UNITS: Final = 64
"""Hinges; measured on thirteen streams, 64 are worth up to six points beside linear models, for 15 us."""

ROWS: Final = 1_024
"""Features with directions of their own; later ones share them."""

REACH: Final = 5.0
"""Standard deviations beyond which a number counts no further: a hinge has no upper end."""

STEP_MAX: Final = 1.0
"""Regression, for linear models too: normalised least mean squares gets to a label in one step of 1, steps too far with
a larger one, and from 2 on is further off after each example (Nagumo and Noda 1967), until its answer is no number."""

_DRAW: Final = np.random.default_rng(20_100)
_DIRECTIONS: Final[Array] = (_DRAW.random((ROWS, UNITS)) * 2.0 - 1.0) * math.sqrt(3.0)
_THRESHOLDS: Final[Array] = _DRAW.random(UNITS) * 4.0 - 2.0
"""The same in every process: they are no state."""


class Hinges:
    """Random-feature networks (Rahimi and Recht 2008; Huang, Zhu and Siew 2006) for `k` step sizes: only the weights
    above the hinges learn, by normalised gradient descent."""

    def __init__(self, steps: tuple[float, ...]) -> None:
        self.steps = np.array(steps)
        self.weights: Array = np.zeros((UNITS + 1, len(steps)))

    def hidden(self, x: Prepared) -> Array:
        """(UNITS + 1, 1) activations, the last one constant."""
        out = np.ones((UNITS + 1, 1))
        if x.rows:
            places = x.rows if max(x.rows) < ROWS else [row % ROWS for row in x.rows]
            reached = np.minimum(np.maximum(x.column, -REACH), REACH)
            drawn = np.add.reduce(_DIRECTIONS[places] * reached, axis=0) * (2.0 / math.sqrt(len(x.rows)))
            out[:UNITS, 0] = np.maximum(drawn + _THRESHOLDS, 0.0)
        return out

    def raw(self, hidden: Array) -> Array:
        """What each step size says, before the link of the task."""
        return np.add.reduce(self.weights * hidden, axis=0)

    def learn(self, hidden: Array, slope: Array) -> None:
        """Step against the `slope` of the loss by each of `raw`."""
        length = 1.0 + float((hidden * hidden).sum())
        steps = np.repeat(self.steps, len(slope) // len(self.steps)) / length
        self.weights -= hidden * (slope * steps)

    def meet(self, linear: Linear) -> None:
        """Make room for a class that the linear models have just met."""
        k, classes = len(self.steps), len(linear.classes)
        while self.weights.shape[1] < k * classes:
            self.weights = wider(self.weights, k, self.weights.shape[1] // k)

    def frozen(self) -> Hinges:
        twin = Hinges.__new__(Hinges)
        twin.steps, twin.weights = self.steps, self.weights.copy()
        return twin
