"""Real streams without a drift: their days in another order. Owns permutations; refuses to know detectors.

Days stay whole, so every season within a day and all dependence inside it stay; which days follow which is chance.
Three grains: days among those of the same weekday, whole weeks, blocks of four weeks. The coarser, the more of what
binds days together is kept; blocks of four weeks put a real change of level at every border, so they are a stress test
and no null: on elec2 three streams freeze or come alive at a border some 1.5 times a month between them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.detection.datasets import DAY_S
from detectors.contract import Rows

Ints = NDArray[np.int64]

GRAINS = ("days within weekday", "whole weeks", "blocks of four weeks")
WEEK = 7


def permuted(days: int, grain: str, draw: np.random.Generator) -> Ints:
    """(days,) which day's rows stand in each place. What is left over after the last whole week or block stays."""
    order = np.arange(days)
    if grain == "days within weekday":
        for weekday in range(WEEK):
            own = np.arange(weekday, days, WEEK)
            order[own] = draw.permutation(own)
        return order
    size = WEEK if grain == "whole weeks" else 4 * WEEK
    whole = days // size * size
    order[:whole] = draw.permutation(whole // size).repeat(size) * size + np.tile(np.arange(size), whole // size)
    return order


def arrange(rows: Rows, order: Ints) -> Rows:
    """Rows with their days in this order; a row keeps its time of day."""
    day = np.floor(rows.time_s / DAY_S).astype(np.int64)
    first = int(day[0])
    borders = np.searchsorted(day, first + np.arange(len(order) + 1))
    parts = [np.arange(borders[source], borders[source + 1]) for source in order]
    taken = np.concatenate(parts)
    moved = np.repeat(np.arange(len(order)) - order, [len(part) for part in parts])
    return Rows(rows.time_s[taken] + moved * DAY_S, rows.codes[taken], rows.values[taken])


def days_of(rows: Rows) -> int:
    """Days from the first row's to the last row's."""
    return int(rows.time_s[-1] // DAY_S - rows.time_s[0] // DAY_S) + 1
