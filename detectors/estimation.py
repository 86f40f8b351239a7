"""Figures of performance before, while and after labels come: one series, each value with its interval (F13).

Owns what all tasks share: an estimate, how it meets the labels, and the interval from slopes. Each task has a file of
its own that knows which counts it needs: `expected_binary.py`, `expected_classes.py`, `expected_errors.py`. They share
one shape:

* `learn(...)` makes a model from labelled reference rows;
* `count_seen` and `count_labelled` turn rows into (cells, `width(model)`) numbers that add up over rows, shards and
  windows; a correction is the old label with sign -1 and the new one with sign 1;
* `reconcile(model, counts)` makes `Reconciled` figures of them, `estimate` the estimated ones only. Both are pure.

**What the intervals mean.** Each covers, with 95 % probability, the figure that this very window will show once all its
labels are in: chance in the labels not yet known (labelled rows are known exactly), and how far the reference, itself a
sample, fixes what scores are worth. By the delta method: all figures are smooth functions of counts of labels, so their
variance is that of the counts through their slopes; no resampling, no randomness.

**What they cannot mean.** Where P(label given score) has changed, the estimate stays where it was: concept drift is
invisible without labels, and so is a covariate shift towards rows on which the same score means something else.
`disagreement` says so as soon as some labels are in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

Z: Final = 1.959963984540054
"""Two-sided 95 % of a normal distribution."""


class Estimate(NamedTuple):
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


class Reconciled(msgspec.Struct, frozen=True):
    """One figure of one window.

    estimated: as before any label came. realised: of the labelled rows alone, None where they do not define it.
    combined: labelled rows as they were, the others as estimated; it starts as `estimated` and ends as `realised`.
    disagreement: realised minus estimated on the labelled rows, in standard errors; beyond 3 the estimate is wrong for
    this window (concept drift, or labels that come sooner for some outcomes), and the combined figure with it.
    """

    estimated: Estimate
    realised: float | None
    combined: Estimate
    disagreement: float | None


class Point(NamedTuple):
    """A figure with its standard error."""

    value: float
    error: float


def interval(point: Point, low: float = 0.0, high: float = 1.0) -> Estimate:
    """95 % around a point, cut at the figure's own range."""
    reach = Z * point.error
    return Estimate(point.value, max(point.value - reach, low), min(point.value + reach, high))


def meet(
    before: dict[str, Point], labelled: dict[str, Point], realised: dict[str, float], now: dict[str, Point],
    highest: dict[str, float],
) -> dict[str, Reconciled]:  # fmt: skip
    """Put together what was estimated for the whole window and for its labelled rows, what those showed, and the
    combination. `highest` holds the ranges' ends that are not 1. Figures that are not defined are left out."""
    found = {}
    for name, point in now.items():
        if name not in before:
            continue
        high = highest.get(name, 1.0)
        known, expected = realised.get(name), labelled.get(name)
        apart = None
        if known is not None and expected is not None and expected.error > 0:
            apart = (known - expected.value) / expected.error
        found[name] = Reconciled(interval(before[name], high=high), known, interval(point, high=high), apart)
    return found


def points(
    values: dict[str, float], slopes: dict[str, Floats], variance_of: Callable[[Floats], float]
) -> dict[str, Point]:
    """Standard errors of figures from the variance that their slopes meet."""
    return {name: Point(value, math.sqrt(max(variance_of(slopes[name]), 0.0))) for name, value in values.items()}
