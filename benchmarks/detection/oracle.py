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


def tune(
    peer: Peer, nulls: Sequence[Sequence[float]], target_per_million: float, steps: int = STEPS, uncounted: int = 0
) -> Tuned:
    """Bisect for the loosest parameter with at most the target's alarms on the nulls; the strictest if none has.

    Each null is seen by a fresh detector, and alarms on its first `uncounted` values do not count. Nulls should be as
    long as the streams on which delays are measured: some detectors (EDDM, DDM) alarm often while they are young, until
    they get stuck, and so look quiet on one long stream.
    """
    strict, loose = math.log(peer.strict), math.log(peer.loose)
    allowed = target_per_million * _counted(nulls, uncounted) / 1e6
    best = Tuned(peer.strict, *_measured(peer, peer.strict, nulls, uncounted))
    for _ in range(steps):
        middle = (strict + loose) / 2
        found = Tuned(math.exp(middle), *_measured(peer, math.exp(middle), nulls, uncounted))
        if found.alarms <= allowed:
            strict, best = middle, found
        else:
            loose = middle
    return best


def _measured(peer: Peer, parameter: float, nulls: Sequence[Sequence[float]], uncounted: int) -> tuple[int, float]:
    count = sum(i >= uncounted for null in nulls for i in alarms(peer.make(parameter), null))
    return count, count * 1e6 / _counted(nulls, uncounted)


def _counted(nulls: Sequence[Sequence[float]], uncounted: int) -> int:
    return sum(max(len(null) - uncounted, 0) for null in nulls)


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
