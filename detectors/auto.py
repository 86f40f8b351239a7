"""`auto`: for each stream the detector that its rows allow. Owns the choice and nothing of how is judged.

The ladder. Where the reference spans a day of event time, `season` takes all streams. Else each stream is asked by
itself whether its reference rows could have come in any other order (`dependence.py`): if so `counts` takes it, the
cheapest and the one with a proven bound; if not, `blocks`. A stream with too few reference values to ask goes with the
majority. A stream of `counts` that will not stand still steps down to `blocks`: one that within a day twice changes
again before it has been steady for long. The budget is one number: each stream has its share by weight on whatever rung
it stands, and only that rung's alarms are raised.

**What cannot be known.** A season shows only in a reference that spans it. A shorter cycle within the reference does
not flood: `blocks` learns how far the resemblance of rows reaches before it judges. But a stream with a daily season
and a reference of an hour looks steady, is judged as such, and its hours come as changes; they are changes, against all
that was to be seen. Stepping down and learning longer each time makes them fewer, not false. Likewise dependence too
weak for a short reference to show (a lag-1 correlation under 0.1 in 1,000 rows). Give such streams a reference that
spans days.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors import bets, dependence, describe, series
from detectors import state as states
from detectors.blocks import Blocks
from detectors.calendar import DAY_S
from detectors.contract import Alarm, Bins, Budget, Rows, Stream
from detectors.counts import Counts
from detectors.panel import RELEARNING_ROWS
from detectors.season import Season

Mask = NDArray[np.bool_]

SPAN_S = DAY_S
"""Event time that a reference must span for a season to be looked for: a stream that fills its reference in less has
rows in plenty, and will tell by then whether they come in any order."""

STEP_S = DAY_S
"""Between alarms that count together: a season that was not to be seen alarms many times in so much event time."""

STEADY = 0.85
"""Part of the time between two alarms that a stream which changes in steps has been steady before the second change
began: .88 and more on streams with known steps. One that wanders, as through an unseen season, changes on, and shows
.3 to .8. One such alarm may still be the rest of a step that was no clean one; the second is not."""

ASKED_ROWS_MIN = 500
"""Fewer reference values do not show a lag-1 correlation of 0.15."""

ASKED_ROWS_MAX = 200_000
"""The newest so many are asked: enough to show one of 0.02, and bounded in memory."""

WHY = {
    "season": "as the reference spans days",
    "counts": "as their rows could come in any order",
    "blocks": "as their rows resemble the rows before them",
    "stepped": "as they changed again and again within a day",
}

VERSION = 3


class AutoState(msgspec.Struct):
    """rungs: of each stream ('stepped' is `blocks` after `counts`); last_s: when `counts` last raised its alarm;
    restless_s: when it last raised one of a change that came before the stream had been steady."""

    rungs: list[str]
    last_s: list[float]
    restless_s: list[float]
    season: bytes
    counts: bytes
    blocks: bytes
    version: int = VERSION


class _Counts(Counts):
    """`counts`, with the place of the row that completed each alarm's block, and a status of some streams."""

    def take(self, rows: Rows) -> list[tuple[int, Alarm]]:
        dated = np.flatnonzero(np.isfinite(rows.time_s))
        found = [item for panel in self._panels for item in panel.take(rows.time_s[dated], rows.codes[dated])]
        return sorted(((int(dated[row]), alarm) for row, alarm in found), key=_order)

    def standing(self, columns: Sequence[int]) -> str:
        learning = {int(j) for panel in self._panels for j in panel.columns[~panel.state.watching]} & set(columns)
        return "watching" + (f", but for {len(learning)} learning what is normal" if learning else "")


class _Blocks(Blocks):
    """`blocks`, which can take over a stream that would not stand still under `counts`."""

    def take_over(self, j: int) -> None:
        """Begin as after an alarm of its own that came too soon, so that its next one makes it learn twice as long.

        Beginning as if nothing had happened cost another alarm a stream: 28 where 22 of a season came that could not
        be seen (`counts` raises 77).
        """
        memory = self._memory
        assert memory is not None
        memory.state.learned[j] = RELEARNING_ROWS
        memory.start_over(j)


class Auto:
    """Chooses at `fit`; the rest is the chosen detectors'. `counts` and `blocks` know all streams, and get rows in
    which the values of those that the other one judges are missing."""

    def __init__(self, streams: Sequence[Stream], budget: Budget, seed: int) -> None:
        self.streams = list(streams)
        self._season = Season(streams, budget, seed)
        self._counts = _Counts(streams, budget, seed)
        self._blocks = _Blocks(streams, budget, seed)
        self._rungs: list[str] = []
        self._last_s = [-np.inf] * len(self.streams)
        self._restless_s = [-np.inf] * len(self.streams)

    def fit(self, bins: list[Bins], reference: Rows) -> None:
        """Choose by the reference's span of event time and by how its rows resemble each other, and learn."""
        d = len(self.streams)
        if len(bins) != d or reference.codes.shape[1:] != (d,):
            raise ValueError(f"{d} streams need {d} bins and (n, {d}) codes, not {len(bins)}, {reference.codes.shape}")
        span_s = float(reference.time_s[-1] - reference.time_s[0]) if len(reference) else 0.0
        self._last_s, self._restless_s = [-np.inf] * d, [-np.inf] * d
        if span_s >= SPAN_S:
            self._rungs = ["season"] * d
            self._season.fit(bins, reference)
        else:
            self._rungs = choose(self.streams, bins, reference.codes)
            self._counts.fit(bins, _without(reference, self._are("blocks")))
            self._blocks.fit(bins, _without(reference, self._are("counts")))

    def update(self, rows: Rows) -> list[Alarm]:
        """Alarms of all rungs in the order of the rows that caused them; none before `fit`."""
        if not self._rungs:
            return []
        if self._rungs[0] == "season":
            return self._season.update(rows)
        hidden = np.tile(self._are("counts"), (len(rows), 1))  # from `blocks`
        raised: list[tuple[int, Alarm]] = []
        for row, alarm in self._counts.take(_without(rows, self._are("blocks"))):
            j = alarm.stream
            if self._rungs[j] != "counts":
                continue  # it is `blocks` that judges this stream by now
            raised.append((row, alarm))
            if self._steps_down(alarm):
                self._rungs[j] = "stepped"
                self._blocks.take_over(j)
                hidden[row + 1 :, j] = False
        raised += self._blocks.take(_without(rows, hidden))
        return [alarm for _, alarm in sorted(raised, key=_order)]

    def _steps_down(self, alarm: Alarm) -> bool:
        """Whether this alarm of `counts` is the second within a day that came before the stream had been steady."""
        j, at_s = alarm.stream, alarm.at_s
        since_last_s = at_s - self._last_s[j]
        restless = since_last_s < STEP_S and alarm.since_s - self._last_s[j] < STEADY * since_last_s
        again = restless and at_s - self._restless_s[j] < STEP_S
        self._last_s[j] = at_s
        self._restless_s[j] = at_s if restless else self._restless_s[j]
        return again

    def snapshot(self) -> bytes:
        """Which rung each stream stands on, and the whole state of the detectors."""
        by_days = self._rungs[:1] == ["season"]
        by_rows = bool(self._rungs) and not by_days
        return states.pack(
            AutoState(
                rungs=self._rungs,
                last_s=self._last_s,
                restless_s=self._restless_s,
                season=self._season.snapshot() if by_days else b"",
                counts=self._counts.snapshot() if by_rows else b"",
                blocks=self._blocks.snapshot() if by_rows else b"",
            )
        )

    def restore(self, state: bytes) -> None:
        """Become the detector whose snapshot this is. Raises ValueError where it is none of ours."""
        found = states.unpack(AutoState, VERSION, state)
        if found.rungs and len(found.rungs) != len(self.streams):
            raise ValueError(f"the state is of {len(found.rungs)} streams, this detector watches {len(self.streams)}")
        if unknown := sorted(set(found.rungs) - set(WHY)):
            raise ValueError(f"the state is of {unknown[0]!r}, auto chooses between season, counts, blocks")
        self._rungs, self._last_s, self._restless_s = found.rungs, found.last_s, found.restless_s
        if found.season:
            self._season.restore(found.season)
        elif found.rungs:
            self._counts.restore(found.counts)
            self._blocks.restore(found.blocks)

    def status(self) -> str:
        """Which rung how many streams stand on, why, and how they stand there."""
        said = []
        for rung, why in WHY.items():
            columns = [int(j) for j in np.flatnonzero(self._are(rung))]
            if columns:
                name = "blocks" if rung == "stepped" else rung
                said.append(
                    f"{name} for {len(columns)} of {len(self.streams)} streams, {why}: {self._of(rung, columns)}"
                )
        return ". ".join(said) or "not fitted"

    def _of(self, rung: str, columns: Sequence[int]) -> str:
        if rung == "season":
            return self._season.status()
        return self._counts.standing(columns) if rung == "counts" else self._blocks.status(columns)

    def _are(self, rung: str) -> Mask:
        """(d,) which streams stand there."""
        return np.array([own == rung for own in self._rungs], np.bool_)


def choose(streams: Sequence[Stream], bins: Sequence[Bins], codes: NDArray[np.int32]) -> list[str]:
    """The rung of each stream, from (n, d) reference codes that span less than days."""
    asked = [_rung_of(stream, own, codes[:, j]) for j, (stream, own) in enumerate(zip(streams, bins, strict=True))]
    majority = "blocks" if asked.count("blocks") > asked.count("counts") else "counts"
    return [rung or majority for rung in asked]


def _rung_of(stream: Stream, bins: Bins, codes: NDArray[np.int32]) -> str:
    """'counts' if these could have come in any order, 'blocks' if not, nothing if they are too few to tell."""
    codes = codes[(codes >= 0) & (codes < bins.size)][-ASKED_ROWS_MAX:]
    if len(codes) < ASKED_ROWS_MIN or bins.size < 2:
        return ""
    p = bets.smooth(np.bincount(codes, minlength=bins.size))
    made = series.of(p, stream.kind, describe.bin_names(bins, stream.kind))
    return "blocks" if dependence.reach(made.phi[codes].T, dependence.LAG_ONE_ROWS).doublings else "counts"


def _without(rows: Rows, hidden: Mask) -> Rows:
    """Rows without the values of streams that are hidden, (d,) or (n, d)."""
    if not hidden.any():
        return rows
    return Rows(rows.time_s, np.where(hidden, np.int32(-1), rows.codes), rows.values)


def _order(found: tuple[int, Alarm]) -> tuple[int, int]:
    return found[0], found[1].stream
