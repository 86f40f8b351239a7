"""Rows for the tests of detectors: simulated streams, changes in them, and other ways to cut them into calls."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detectors import binning
from detectors.contract import Alarm, Bins, Detector, Rows, Stream

Floats = NDArray[np.float64]
DAY_S = 86_400.0
MONDAY_S = 1_704_067_200.0
"""1 January 2024, a Monday."""


def rows(bins: Sequence[Bins], values: Floats, time_s: Floats) -> Rows:
    """(n, d) values as coded rows."""
    codes = np.column_stack([binning.code(own, values[:, j]) for j, own in enumerate(bins)])
    return Rows(time_s, codes.astype(np.int32), values)


def learned(streams: Sequence[Stream], values: Floats) -> list[Bins]:
    return [binning.learn_bins(stream, values[:, j]) for j, stream in enumerate(streams)]


def each_second(n: int, start: int = 0) -> Floats:
    return MONDAY_S + start + np.arange(float(n))


def seasonal(
    draw: np.random.Generator, days: int, a_day: int, streams: int, day_sd: float = 0.15
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """(n, d) values with a daily season of one sd, a quieter weekend and days that differ by `day_sd`; times; days."""
    time_s = MONDAY_S + np.sort(draw.uniform(0, days * DAY_S, days * a_day))
    day = ((time_s - MONDAY_S) // DAY_S).astype(np.int64)
    season = np.sin(2 * np.pi * (time_s % DAY_S) / DAY_S) + 0.5 * (day % 7 >= 5)
    effects = day_sd * draw.normal(size=(days, streams))
    return draw.normal(size=(len(time_s), streams)) + season[:, None] + effects[day], time_s, day


def feed(detector: Detector, item: Rows) -> list[Alarm]:
    return detector.update(item)


def cut(whole: Rows, size: int) -> list[Rows]:
    return [whole.part(start, min(start + size, len(whole))) for start in range(0, len(whole), size)]


def recut(items: Sequence[Rows], size: int) -> list[Rows]:
    parts = zip(*items, strict=True)
    time_s, codes, values = (np.concatenate(part) for part in parts)
    return cut(Rows(time_s, codes, values), size)


def bad_rows(streams: int) -> list[Rows]:
    """Nothing at all, rows without any value, and a row without a time."""
    missing = np.full((3, streams), -1, np.int32)
    lost = Rows(each_second(3), missing, np.full((3, streams), np.nan))
    timeless = Rows(np.array([np.nan]), np.zeros((1, streams), np.int32), np.zeros((1, streams)))
    return [lost.part(0, 0), lost, timeless]


def run(detector: Detector, bins: Sequence[Bins], whole: Rows, first: int, call: int = 1_000) -> list[Alarm]:
    """Fit on the first rows, feed the others in calls; all alarms."""
    detector.fit(list(bins), whole.part(0, first))
    return [alarm for piece in cut(whole.part(first, len(whole)), call) for alarm in detector.update(piece)]
