"""Tuning that no one has in production: a peer's parameter set on the very null that it will be judged by."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.detection.peers import Peer, alarms

STEPS = 9
"""Halvings of a parameter's range on the log scale: to within 5 % of ADWIN's delta over twelve decades."""


class Tuned(NamedTuple):
    """The loosest parameter that keeps to the target; its alarms on the null of so many values, and per million."""

    parameter: float
    alarms: int
    per_million: float


def tune(peer: Peer, null: Sequence[float], target_per_million: float, steps: int = STEPS) -> Tuned:
    """Bisect for the loosest parameter with at most the target's alarms on the null; the strictest if none has."""
    strict, loose = math.log(peer.strict), math.log(peer.loose)
    allowed = target_per_million * len(null) / 1e6
    best = Tuned(peer.strict, *_measured(peer, peer.strict, null))
    for _ in range(steps):
        middle = (strict + loose) / 2
        found = Tuned(math.exp(middle), *_measured(peer, math.exp(middle), null))
        if found.alarms <= allowed:
            strict, best = middle, found
        else:
            loose = middle
    return best


def _measured(peer: Peer, parameter: float, null: Sequence[float]) -> tuple[int, float]:
    count = len(alarms(peer.make(parameter), null))
    return count, count * 1e6 / len(null)


class Line(NamedTuple):
    """A power law from parameter to alarms per million, and what it rests on: (parameter, alarms, millions)."""

    slope: float
    offset: float
    points: list[tuple[float, int, float]]

    def parameter_of(self, per_million: float) -> float:
        return math.exp((math.log(per_million) - self.offset) / self.slope)


def line(
    peer: Peer, null: Callable[[int], Sequence[float]], parameters: Sequence[float], values: int, pieces: int
) -> Line:
    """Fit log rate to log parameter where alarms are frequent enough to count, to read off a rate that is not.

    null(piece) gives so many values, anew for each of the pieces. Weighted by the counts, as their logarithms are.
    """
    points = []
    for parameter in parameters:
        count = sum(len(alarms(peer.make(parameter), null(piece))) for piece in range(pieces))
        points.append((parameter, count, values * pieces / 1e6))
    usable = [(math.log(p), math.log(c / m), math.sqrt(c)) for p, c, m in points if c]
    x, y, w = (np.array(column) for column in zip(*usable, strict=True))
    slope, offset = np.polyfit(x, y, 1, w=w)
    return Line(float(slope), float(offset), points)
