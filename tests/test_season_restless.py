"""`season`, where a stream alarms again soon after it has learned its new level: it learns for longer."""

from __future__ import annotations

import numpy as np
import pytest

from detectors import seasonal
from detectors.calendar import DAY_S
from detectors.contract import Bins, Budget, Rows, Stream
from detectors.season import Season
from tests import streams
from tests.streams import Floats

ONE_A_MONTH = Budget(1, seconds=30 * DAY_S)
A_DAY = 48
NAMES = [Stream("x", "numeric")]
BLOCK_DAYS = 28
BLOCKS = 14


def changing(levels: list[tuple[int, float]], days: int, seed: int) -> tuple[list[Bins], Rows, Floats]:
    """Seasonal days whose level changes on the given days, their bins (of the first 28) and each row's day."""
    values, time_s, day = streams.seasonal(np.random.default_rng([seed, 51]), days, A_DAY, 1)
    for start, level in levels:
        values[day >= start, 0] += level
    bins = streams.learned(NAMES, values[day < BLOCK_DAYS])
    return bins, streams.rows(bins, values, time_s), day


def learned_after(second: int) -> str:
    """Status five days after the second of two steps, the first of which came on day 40."""
    bins, whole, day = changing([(40, 3.0), (second, -3.0)], second + 8, 1)
    detector = Season(NAMES, ONE_A_MONTH, 1)
    first, end = (int(np.searchsorted(day, d)) for d in (BLOCK_DAYS, second + 6))
    assert len(streams.run(detector, bins, whole.part(0, end), first)) == 2
    return detector.status()


def test_a_stream_that_alarms_again_soon_learns_for_28_days() -> None:
    """F05: by day 41 the first step is found, from day 55 on the new level is watched."""
    assert learned_after(70).endswith("of 28 days")
    assert learned_after(41 + 14 + 4 * 14 + 3).endswith("of 14 days")


def to_and_fro(runs: int) -> int:
    """Alarms of a stream that goes up and down again at the borders of blocks of four weeks."""
    found = 0
    for run in range(runs):
        steps = [(BLOCK_DAYS * k, 2.0 * (-1) ** k) for k in range(2, BLOCKS)]
        bins, whole, day = changing(steps, BLOCK_DAYS * BLOCKS, run)
        detector = Season(NAMES, ONE_A_MONTH, run)
        found += len(streams.run(detector, bins, whole, int(np.searchsorted(day, BLOCK_DAYS))))
    return found


def test_going_to_and_fro_alarms_less_than_a_new_level_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """F05"""
    alarms = to_and_fro(2)
    monkeypatch.setattr(seasonal, "RESTLESS", 0)
    always_new = to_and_fro(2)
    assert 0 < alarms <= 0.6 * always_new, f"{alarms} of {always_new}"


def test_a_restless_stream_goes_on_from_its_snapshot() -> None:
    """F08: taken while it learns for the second time, and while it is watched after that."""
    bins, whole, day = changing([(40, 3.0), (60, -3.0), (95, 3.0)], 110, 2)
    first = int(np.searchsorted(day, BLOCK_DAYS))
    straight = Season(NAMES, ONE_A_MONTH, 1)
    found = streams.run(straight, bins, whole, first)
    assert len(found) == 3
    for cut in (65, 92):
        end = int(np.searchsorted(day, cut))
        before, after = Season(NAMES, ONE_A_MONTH, 1), Season(NAMES, ONE_A_MONTH, 1)
        alarms = streams.run(before, bins, whole.part(0, end), first)
        after.restore(before.snapshot())
        alarms += after.update(whole.part(end, len(whole)))
        assert alarms == found and after.snapshot() == straight.snapshot()
