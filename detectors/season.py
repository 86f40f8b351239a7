"""`season`: drift alarms that survive season, day effects and autocorrelation. The default where event time spans days.

The unit of evidence is the day (UTC, or starting `offset_s` later), cut into four parts; an alarm may come when a part
is over. Each stream is judged twice, half of its budget each: `days.py` ranks the day among past days, `gross.py` finds
within hours what no variation between days explains. Everything else is learned from the reference: 28 days, refined
at 42 and 56; nothing is set.

**What holds.** The budget is a proven bound for one series of exchangeable whole days of one class. Everything beyond
(several series, parts of days, persistence, the gross judge) is modelled and measured: on surrogates of real streams
(whole weeks permuted) 0.02 to 0.3 alarms a month at a budget of one, where `counts` alone raises 39 to 190. An annual
season is reported as a change against the last 16 weeks. After an alarm a stream is silent while it learns its new
level for 14 days, or for 28 where the last level had not held for long. Days and parts without rows are passed over:
they are neither evidence nor paid for.

Sources: ranks against the past as conformal test martingales (Vovk et al. 2022), the variance ratio of sums over days
(Lo and MacKinlay 1988), Shiryaev-Roberts e-detectors (Shin, Ramdas and Rinaldo 2024).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors import budget as budgeting
from detectors import calendar
from detectors import state as states
from detectors.binning import count
from detectors.calendar import PARTS
from detectors.contract import Alarm, Bins, Budget, Rows, Stream
from detectors.seasonal import Seasonal, SeasonalState
from detectors.together import Together

VERSION = 1
NOT_BEGUN = -1


class SeasonState(msgspec.Struct):
    """now: number of the open part, -1 before the first row; today: (d, C, K) counts of its day; whole: whether the
    day was seen from its start."""

    bins: list[Bins]
    now: int
    whole: bool
    today: NDArray[np.int32]
    streams: list[SeasonalState]
    version: int = VERSION


class Season:
    """Watches one group of streams day by day."""

    def __init__(self, streams: Sequence[Stream], budget: Budget, seed: int, offset_s: float = 0.0) -> None:
        self.streams = list(streams)
        self.budget = budget
        self.seed = seed
        self.offset_s = offset_s
        budget.wage(1.0, 1.0)  # raises if the budget has no period
        self._shares = budgeting.shares(self.streams)
        self._watches: list[Seasonal] = []
        self._together: Together | None = None
        self._state = SeasonState([], NOT_BEGUN, False, np.zeros((len(self.streams), PARTS, 1), np.int32), [])

    def fit(self, bins: list[Bins], reference: Rows) -> None:
        """Learn from the reference rows; where they span fewer than 28 days, learning goes on with what follows."""
        d = len(self.streams)
        if len(bins) != d or reference.codes.shape[1:] != (d,):
            raise ValueError(
                f"{d} streams need {d} bins and (n, {d}) codes, not {len(bins)} and {reference.codes.shape}"
            )
        self._begin(list(bins))
        self._take(reference, learn_only=True)
        for watch in self._watches:
            if len(watch.state.numbers) >= watch.state.need:
                watch.start()
        self._together = None

    def update(self, rows: Rows) -> list[Alarm]:
        """Alarms of the parts of days that these rows end."""
        return self._take(rows, learn_only=False)

    def snapshot(self) -> bytes:
        """The whole state, bins included."""
        self._state.streams = [watch.state for watch in self._watches]
        return states.pack(self._state)

    def restore(self, state: bytes) -> None:
        """Become the detector whose snapshot this is. Raises ValueError where it is not one of these streams."""
        found = states.unpack(SeasonState, VERSION, state)
        if found.bins and len(found.bins) != len(self.streams):
            raise ValueError(f"the state is of {len(found.bins)} streams, this detector watches {len(self.streams)}")
        self._begin(found.bins)
        self._state = found
        for watch, own in zip(self._watches, found.streams, strict=True):
            watch.become(own)
        self._together = None

    def status(self) -> str:
        """'learning the season: 12 of 28 days', 'watching', or both with the number of streams."""
        said = Counter(watch.status() for watch in self._watches)
        if not said:
            return "not fitted"
        if len(said) == 1:
            return next(iter(said))
        return "; ".join(
            f"{number} {'stream' if number == 1 else 'streams'} {text}" for text, number in sorted(said.items())
        )

    def _begin(self, bins: list[Bins]) -> None:
        size = max((b.size for b in bins), default=1)
        self._watches = [
            Seasonal(j, self.streams[j], own, float(self._shares[j]), self.budget, self.seed)
            for j, own in enumerate(bins)
        ]
        self._state = SeasonState(bins, NOT_BEGUN, False, np.zeros((len(self.streams), PARTS, size), np.int32), [])

    def _take(self, rows: Rows, learn_only: bool) -> list[Alarm]:
        """Cut rows into parts of days. Rows without any value are passed over; time never goes back."""
        present = np.flatnonzero((rows.codes >= 0).any(1) & np.isfinite(rows.time_s))
        if not len(present):
            return []
        codes = rows.codes[present]
        places = calendar.numbers(rows.time_s[present], self.offset_s)
        places = np.maximum.accumulate(np.maximum(places, self._state.now))
        starts = np.flatnonzero(np.diff(places, prepend=places[0] - 1))
        alarms: list[Alarm] = []
        for start, end in zip(starts, [*starts[1:], len(places)], strict=True):
            alarms += self._go_to(int(places[start]), learn_only)
            part = int(places[start]) % PARTS
            self._state.today[:, part] += count(codes[start:end], self._state.today.shape[2]).astype(np.int32)
        return alarms

    def _go_to(self, number: int, learn_only: bool) -> list[Alarm]:
        """End what lies between the open part and this one: the rest of the open day at most, then nothing happened."""
        state, alarms = self._state, list[Alarm]()
        if state.now == NOT_BEGUN:
            state.now, state.whole = number, number % PARTS == 0
            return alarms
        while state.now < number:
            now = calendar.moment(state.now, self.offset_s)
            if state.whole:
                alarms += self._end_part(now, learn_only)
            if now.is_last:
                state.today = np.zeros_like(state.today)
                state.now, state.whole = max(state.now + 1, number - number % PARTS), True
            else:
                state.now += 1
        return alarms

    def _end_part(self, now: calendar.Moment, learn_only: bool) -> list[Alarm]:
        today = self._state.today
        if self._together is None:
            self._together = Together([watch for watch in self._watches if watch.is_watching], now.day)
        alarms = []
        for watch, by_day, by_gross in self._together.part(today, now):
            alarm = watch.alarm(by_day, by_gross, today[watch.column, :, : watch.bins.size], now)
            if alarm is not None:
                alarms.append(alarm)
        if now.is_last:
            for watch, counts in zip(self._watches, today, strict=True):
                watch.end_day(counts[:, : watch.bins.size], now.day, learn_only)
        if now.is_last or alarms:
            self._together = None
        return sorted(alarms, key=lambda alarm: alarm.stream)
