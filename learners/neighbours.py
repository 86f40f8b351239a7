"""The nearest of the last labelled examples: an expert that forgets by itself.

Owns the window. Refuses to know how features are scaled (`learners.linear`).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from learners.linear import Array, Prepared

WINDOW: Final = 1_000
"""Examples that are looked at; comparing with all of them takes about 25 us."""

NEAREST: Final = 10

FEATURES_MAX: Final = 64
"""Numbers and words that are compared; the first ones that came."""


class Neighbours:
    """Nearest neighbours in a sliding window (as in Losing, Hammer and Wersing 2016), for one stream of examples."""

    def __init__(self) -> None:
        self.values: NDArray[np.float32] = np.zeros((0, WINDOW), np.float32)
        """(features, WINDOW), scaled as they were when they were learned."""
        self.labels: Array = np.zeros(WINDOW)
        self.count = 0

    def near(self, x: Prepared) -> Array:
        """Labels (numbers, or places of classes) of the nearest examples; all that tie for the last place are in."""
        filled = min(self.count, WINDOW)
        if filled <= NEAREST:
            return self.labels[:filled]
        apart = self.values[:, :filled] - self._placed(x)[:, None]
        apart *= apart
        distances = np.add.reduce(apart, axis=0)
        reach = np.partition(distances, NEAREST - 1)[NEAREST - 1]
        return self.labels[:filled][distances <= reach]

    def learn(self, x: Prepared, label: float) -> None:
        known = min(max(x.rows, default=-1) + 1, FEATURES_MAX)
        if known > len(self.values):
            more = np.zeros((known - len(self.values), WINDOW), np.float32)
            self.values = np.concatenate([self.values, more])
        place = self.count % WINDOW
        self.values[:, place] = self._placed(x)
        self.labels[place] = label
        self.count += 1

    def _placed(self, x: Prepared) -> NDArray[np.float32]:
        """(features,) values; what is missing counts as the mean."""
        out = np.zeros(max(len(self.values), max(x.rows, default=-1) + 1), np.float32)
        out[x.rows] = x.column[:, 0]
        return out[: len(self.values)]

    def frozen(self) -> Neighbours:
        twin = Neighbours.__new__(Neighbours)
        twin.values, twin.labels, twin.count = self.values.copy(), self.labels.copy(), self.count
        return twin
