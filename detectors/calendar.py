"""Days and their parts in event time. Knows seconds and numbers of days; nothing of what happens in them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

DAY_S = 86_400.0
PARTS = 4
"""Parts of a day: an alarm can come after six hours; more parts would thin the cells."""

WEEK = 7


class Moment(NamedTuple):
    """Part `part` of day `day` (days since 1970); its day starts at `day_s` event time."""

    day: int
    part: int
    day_s: float

    @property
    def start_s(self) -> float:
        return self.day_s + self.part * DAY_S / PARTS

    @property
    def end_s(self) -> float:
        return self.start_s + DAY_S / PARTS

    @property
    def number(self) -> int:
        """Parts since 1970."""
        return self.day * PARTS + self.part

    @property
    def is_last(self) -> bool:
        return self.part == PARTS - 1


def moment(number: int, offset_s: float) -> Moment:
    """The part with this number, of days that start `offset_s` after midnight UTC."""
    day, part = divmod(number, PARTS)
    return Moment(day, part, day * DAY_S + offset_s)


def numbers(time_s: NDArray[np.float64], offset_s: float) -> Ints:
    """(n,) number of the part that each event time lies in."""
    return np.floor((time_s - offset_s) / (DAY_S / PARTS)).astype(np.int64)


def weekday(days: Ints) -> Ints:
    """0 Monday to 6 Sunday; 1 January 1970 was a Thursday."""
    return (days + 3) % WEEK


def is_weekend(days: Ints) -> NDArray[np.bool_]:
    weekend: NDArray[np.bool_] = weekday(days) >= 5
    return weekend


def classes(days: Ints) -> tuple[Ints, Ints, Ints]:
    """(n,) class of each day under three systems: none, workday/weekend, weekday."""
    return np.zeros_like(days), is_weekend(days).astype(np.int64), weekday(days)
