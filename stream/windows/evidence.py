"""A group of streams under its detectors, with what must be remembered to describe an alarm.

Owns detectors and the counts before and after any moment; refuses to know what an alert is. Evidence is the detectors'
business; the counts here only describe and size what they find.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors import registry
from detectors.contract import Alarm, Bins, Budget, Detector, Rows, Stream
from stream import codec, versions
from stream.errors import StateError
from stream.units import DetectorSpec, FalseAlarms
from stream.windows.cells import DAY_S, Cells, cell_of
from stream.windows.collecting import Collected
from stream.windows.past import Counted, Past, count
from stream.windows.profiles import Profile
from stream.windows.statistics import psi_all

CALIBRATED: Final = ("auto", "counts", "blocks", "season")
"""Detectors that watch every stream of a group within its budget; others watch the loss, beside it."""

DAYS_S: Final = DAY_S
"""A reference that spans so much event time is judged by days (as `auto` does), a shorter one by blocks of rows."""

UNIT_S: Final = DAY_S
UNIT_ROWS_MIN: Final = 64
"""The unit in which an alert's end is judged: a day, and at least so many rows."""

SURE_ROWS: Final = 64
"""Fewer rows do not show a level."""

UNIT_ROWS: Final = 1024
"""The unit where event time spans less than days."""


class Found(NamedTuple):
    """An alarm, who raised it, and the counts on both sides of the change: `before` in the proportions of `current`'s
    times of the week, `widest` all that may lie after it, `cells` all before the change, by cell."""

    detector: str
    alarm: Alarm
    before: Profile
    current: Profile
    newest: Profile
    widest: Profile
    cells: Cells


class Judge(NamedTuple):
    """A detector at work: its name, the text that tells it from others, and the places of the streams that it sees."""

    name: str
    spec: str
    detector: Detector
    places: list[int]


class GroupState(msgspec.Struct):
    """Everything of a group but its live detectors. `detectors` are the states of those that know what is normal, in
    the order of their `specs`; the others learn from the rows that wait."""

    streams: list[Stream]
    bins: list[Bins]
    by_days: bool
    total: Cells
    past: Past
    unit: Cells
    unit_start: float
    specs: list[str] = []
    detectors: list[bytes] = []
    waiting: Collected = msgspec.field(default_factory=Collected)


class Group:
    """Streams of one row kind under their detectors. Made by `fit` or `restore`."""

    def __init__(self, state: GroupState, judges: list[Judge], learning: Collection[str] = (), wanted: int = 0) -> None:
        self.state = state
        self.judges = judges
        self.learning = frozenset(learning)
        """Detectors that were configured later: they learn what is normal from `wanted` rows to come."""
        self.wanted = wanted
        self.width = max(bins.size for bins in state.bins)

    @classmethod
    def fit(
        cls, streams: list[Stream], bins: list[Bins], rows: Rows, specs: Sequence[DetectorSpec],
        budget: Budget, seed: int,
    ) -> Group:  # fmt: skip
        """Learn what is normal from reference rows, which are counted and not given to the detectors again."""
        width = max(each.size for each in bins)
        end = float(rows.time_s[-1])
        by_days = end - float(rows.time_s[0]) >= DAYS_S
        total = Cells({})
        cells = np.array([cell_of(float(t), by_days) for t in rows.time_s])
        for cell in np.unique(cells):
            mine = cells == cell
            total.add(int(cell), Profile.of(Rows(rows.time_s[mine], rows.codes[mine], rows.values[mine]), width))
        group = cls(
            GroupState(streams, bins, by_days, total, Past(), Cells({}), end), _make(streams, specs, budget, seed)
        )
        group._fit(group.judges, rows)
        return group

    @classmethod
    def restore(
        cls, state: GroupState, specs: Sequence[DetectorSpec], budget: Budget, seed: int, wanted: int
    ) -> Group:  # fmt: skip
        """The group with the detectors that are configured now: those that the state knows go on, the others learn
        from the next `wanted` rows. Raises StateError where a detector does not read its state."""
        judges = _make(state.streams, specs, budget, seed)
        saved = dict(zip(state.specs, state.detectors, strict=True))
        for judge in judges:
            if judge.spec in saved:
                try:
                    judge.detector.restore(saved[judge.spec])
                except ValueError as error:
                    raise StateError(f"detector {judge.name}: {error}; {versions.REMEDY}") from error
        learning = [judge.spec for judge in judges if judge.spec not in saved]
        if not learning:
            state.waiting = Collected()
        return cls(state, judges, learning, wanted)

    def snapshot(self) -> GroupState:
        ready = [judge for judge in self.judges if judge.spec not in self.learning]
        return msgspec.structs.replace(
            self.state, specs=[judge.spec for judge in ready], detectors=[judge.detector.snapshot() for judge in ready]
        )

    def _fit(self, judges: Sequence[Judge], rows: Rows) -> None:
        for judge in judges:
            bins = [self.state.bins[j] for j in judge.places]
            judge.detector.fit(bins, _columns(rows, judge.places, len(self.state.streams)))

    def _learn(self, rows: Rows) -> None:
        """The next rows for the detectors that do not know yet what is normal."""
        whole = self.state.waiting.add(rows, self.wanted)
        if whole is not None:
            self._fit([judge for judge in self.judges if judge.spec in self.learning], whole)
            self.learning = frozenset()

    def count(self, rows: Rows) -> Counted:
        """Count rows of one slab, which never spans two cells."""
        return count(rows, self.width, cell_of(float(rows.time_s[0]), self.state.by_days))

    def update(self, counted: Counted) -> list[Found]:
        """Take the next rows; what the detectors found, in the order of detectors."""
        state, rows = self.state, counted.rows
        state.total.add(counted.cell, counted.whole)
        state.unit.add(counted.cell, counted.whole)
        for block in counted.blocks:
            state.past.add(block)
        found: list[Found] = []
        for judge in self.judges:
            if judge.spec in self.learning:
                continue
            for alarm in judge.detector.update(_columns(rows, judge.places, len(state.streams))):
                alarm.stream = judge.places[alarm.stream]
                found.append(self._around(judge.name, alarm))
        if self.learning:
            self._learn(rows)
        return found

    def _around(self, detector: str, alarm: Alarm) -> Found:
        """Counts that lie surely before and surely after the change; where too little is sure, after the estimate."""
        past, j = self.state.past, alarm.stream
        after = past.since(alarm.since_high_s)
        if after.total().present(j) < SURE_ROWS:
            after = past.since(alarm.since_s)
        widest = past.since(min(alarm.since_low_s, alarm.since_s))
        before = self.state.total.without(widest)
        if before.total().present(j) < SURE_ROWS:
            before = self.state.total.without(after)
        mixed = before.mixed(after.weights())
        return Found(detector, alarm, mixed, after.total(), past.last(SURE_ROWS), widest.total(), before)

    def around(self, since: float) -> tuple[Profile, Profile] | None:
        """Counts before and after a moment, the former in the proportions of the latter's times of the week."""
        if not self.state.past.newest:
            return None
        after = self.state.past.since(since)
        return self.state.total.without(after).mixed(after.weights()), after.total()

    def close_unit(self, at: float) -> Cells | None:
        """The unit's counts if it is over, which starts the next."""
        state = self.state
        whole = state.unit.n >= UNIT_ROWS_MIN and at - state.unit_start >= UNIT_S
        if not (whole if state.by_days else state.unit.n >= UNIT_ROWS):
            return None
        unit, state.unit, state.unit_start = state.unit, Cells({}), at
        return unit

    def rebase(self, stream: int, since: float) -> None:
        """What came since the moment is the new normal of this stream. What came before it goes from the past, too:
        an alarm may date its change back to before that moment, and what lies since then is taken from the total."""
        self.state.total.replace(stream, self.state.past.since(since))
        self.state.past.forget(stream, since)

    def empty(self) -> Profile:
        return Profile.empty(len(self.state.streams), self.width)

    def psi(self, before: Profile, current: Profile) -> dict[str, float]:
        """Debiased PSI of every stream between two profiles of this group."""
        values = psi_all(before.counts[:, 1:], current.counts[:, 1:])
        return {stream.name: float(value) for stream, value in zip(self.state.streams, values, strict=True)}

    def psi_noise(self, before: Profile, current: Profile) -> NDArray[np.float64]:
        """(d,) what the debiased PSI of each stream hardly exceeds by chance: two standard deviations of a chi-square
        with K-1 degrees, on its scale."""
        degrees = np.array([max(bins.size - 1, 1) for bins in self.state.bins], np.float64)
        scale = 1 / max(before.n, 1) + 1 / max(current.n, 1)
        return np.asarray(2 * np.sqrt(2 * degrees) * scale)

    def status(self) -> dict[str, str]:
        learning = f"learning what is normal: {len(self.state.waiting.order)} of {self.wanted} rows"
        return {
            judge.name: learning if judge.spec in self.learning else judge.detector.status() for judge in self.judges
        }


def _make(streams: list[Stream], specs: Sequence[DetectorSpec], budget: Budget, seed: int) -> list[Judge]:
    loss = [j for j, stream in enumerate(streams) if stream.name == "loss"]
    made: list[Judge] = []
    for spec in specs:
        places = list(range(len(streams))) if spec.path in CALIBRATED else loss
        if places:
            watched = [streams[j] for j in places]
            detector = registry.make(spec.path, spec.parameters, watched, budget, seed)
            made.append(Judge(spec.path, codec.canonical([spec.path, spec.parameters]).decode(), detector, places))
    return made


def _columns(rows: Rows, places: list[int], streams: int) -> Rows:
    if len(places) == streams:
        return rows
    return Rows(rows.time_s, rows.codes[:, places], rows.values[:, places])


def budget_of(accepted: FalseAlarms, share: float) -> Budget:
    """A group's part of the false alarms that a person accepts."""
    return Budget(accepted.number * share, accepted.seconds, accepted.events)


def seed_of(model: str, group: str) -> int:
    """Detectors of different models and groups draw from different generators."""
    return int(codec.digest(model.encode(), group.encode())[:12], 16)
