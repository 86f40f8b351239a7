"""Reporting windows: what people, pictures and reports see of each stretch of event time.

Owns windows and their life: open (predictions still come), closed (sent once), final (all fates known, sent again;
a correction after that sends it again). Refuses to know detectors. A prediction belongs to the window of its event
time, and so does its label whenever it comes.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import msgspec
import numpy as np

from stream.config import Model
from stream.events import Expectation, Window
from stream.windows import performance
from stream.windows.cells import Cells
from stream.windows.columns import Floats, Ints

WINDOWS_MAX: Final = 336
"""Windows held until their labels have come: two weeks of hours. Beyond that the oldest are final as they are."""

SLICE_EVENTS_MIN: Final = 20
"""A slice of a window is reported from so many predictions on; fewer say nothing."""

DELAY_BINS: Final = 160
DELAY_RATIO: Final = 1.1
"""Delays are counted in bins that grow by a tenth from one second up (to 48 days), so a median is right to 5 %."""


class Outcome(NamedTuple):
    """What one learner's rows amount to: (n,) arrays; sign is -1 where an old label is taken away."""

    label: Floats
    prediction: Floats
    score: Floats
    sign: Floats


class Open(msgspec.Struct):
    """One window. `sums` holds a learner's sums (see performance), `slice_sums` the champion's by slice value, as are
    `slice_n` and `slice_said`, the predictions and the sum of what they said."""

    start: float
    end: float
    slice_n: np.ndarray
    delays: np.ndarray
    cells: Cells | None
    n: int = 0
    fates: int = 0
    said: float = 0.0
    version: str | None = None
    sums: dict[str, np.ndarray] = {}
    slice_said: np.ndarray | None = None
    slice_sums: np.ndarray | None = None
    meaning: int = -1
    expected: np.ndarray | None = None
    expectation: dict[str, Expectation] = {}
    strange: int | None = None
    before: int = 0
    """Labels that are older than their prediction."""
    bias: np.ndarray | None = None
    label_bias: dict[str, dict[str, float]] = {}
    """Sums of labelled and unlabelled rows (see label_bias) until it is final, and what they said then."""
    drift: dict[str, dict[str, float]] = {}
    closed: bool = False
    final: bool = False
    changed: bool = False


class Reporting(msgspec.Struct):
    """Windows of one model, by start; the last is open. `late` counts rows that came after their window had closed,
    `lost` those whose window was already forgotten, `forgotten` windows given up before they were mature."""

    windows: list[Open] = []
    count: int = 0
    late: int = 0
    lost: int = 0
    forgotten: int = 0
    psi: dict[str, float] = {}
    """Debiased PSI of every stream in the last window that closed."""
    bias: np.ndarray | None = None
    """Sums of labelled and unlabelled rows over all windows that are final."""
    expected: dict[str, dict[str, float]] = {}
    """Of the last window that closed, by metric: `estimate`, `low` and `high` without a label of it."""
    realised: dict[str, float] = {}
    """What the last window that is final showed of the metrics that were expected of it."""

    def place(self, event_time: Floats) -> Ints:
        """Each row's window, -1 where it is forgotten."""
        starts = np.array([window.start for window in self.windows])
        return np.searchsorted(starts, event_time, side="right").astype(np.int64) - 1

    def open(self, start: float, slices: int) -> Open:
        window = Open(start, math.inf, np.zeros(slices, np.int64), np.zeros(DELAY_BINS, np.int64), Cells({}))
        self.windows.append(window)
        self.count += 1
        return window

    def add_predictions(self, place: Ints, said: Floats, slices: list[tuple[int, Ints]]) -> None:
        """Count (n,) predictions into their windows; what streams they show is counted by the caller, who has it."""
        self.lost += int((place < 0).sum())
        size = len(self.windows)
        inside = place >= 0
        at = place if inside.all() else place[inside]
        counts = np.bincount(at, minlength=size)
        totals = np.bincount(at, said if inside.all() else said[inside], size)
        for w in np.flatnonzero(counts):
            window = self.windows[w]
            window.n += int(counts[w])
            window.said += float(totals[w])
            if window.closed:
                self.late += int(counts[w])
                window.changed = True
            mine = None if len(self.windows) == 1 else place == w
            part = said if mine is None else said[mine]
            for start, code in slices:
                if start >= len(window.slice_n):
                    continue  # it opened before this slice was known
                chosen = code if mine is None else code[mine]
                values = np.bincount(chosen + 1, minlength=1)[1:]
                window.slice_n[start : start + len(values)] += values
                if window.slice_said is None:
                    window.slice_said = np.zeros(len(window.slice_n))
                window.slice_said[start : start + len(values)] += np.bincount(chosen + 1, part, 1)[1:]

    def add_outcomes(
        self, model: Model, place: Ints, fates: Ints, delay_s: Floats, learners: dict[str, Outcome],
        slices: list[tuple[int, Ints]],
    ) -> None:  # fmt: skip
        """Add (n,) outcomes to the windows of their predictions. `fates` is 1 for a prediction's first outcome."""
        inside = np.flatnonzero(place >= 0)
        self.lost += len(place) - len(inside)
        if not len(inside):
            return
        touched, cell = np.unique(place[inside], return_inverse=True)
        cells = len(touched)
        sums = {}
        for name, each in learners.items():
            part = (x[inside] for x in each)
            sums[name] = performance.sums(model.task, cell, cells, *part)
        known = fates[inside] * ~np.isnan(delay_s[inside])
        level = np.log(np.fmax(delay_s[inside], 1.0)) / math.log(DELAY_RATIO)
        bins = np.minimum(level.astype(np.int64), DELAY_BINS - 1)
        delays = np.bincount(cell * DELAY_BINS + bins, known, cells * DELAY_BINS).reshape(cells, DELAY_BINS)
        fate = np.bincount(cell, fates[inside], cells)
        before = np.bincount(cell, known * (np.nan_to_num(delay_s[inside]) < 0), cells)
        for i, w in enumerate(touched):
            window = self.windows[w]
            window.fates += int(fate[i])
            window.before += int(before[i])
            window.delays += delays[i].astype(np.int64)
            for name, total in sums.items():
                if name in window.sums:
                    window.sums[name] += total[i]
                else:
                    window.sums[name] = total[i].copy()
            window.changed = True
        self._add_slices(model, inside, touched, cell, learners["champion"], slices)

    def _add_slices(
        self, model: Model, inside: Ints, touched: Ints, cell: Ints, champion: Outcome, slices: list[tuple[int, Ints]]
    ) -> None:
        width = _slice_width(model)
        for start, code in slices:
            k = code[inside]
            mine = np.flatnonzero(k >= 0)
            if not len(mine):
                continue
            size = int(k.max()) + 1
            part = [x[inside][mine] for x in champion]
            part[2] = np.full(len(mine), np.nan)  # no scores by slice: their histograms would be most of the state
            total = performance.sums(model.task, cell[mine] * size + k[mine], len(touched) * size, *part)[:, :width]
            table = total.reshape(len(touched), size, width)
            for i, w in enumerate(touched):
                window = self.windows[w]
                if start >= len(window.slice_n):
                    continue  # it opened before this slice was known
                if window.slice_sums is None:
                    window.slice_sums = np.zeros((len(window.slice_n), width))
                window.slice_sums[start : start + size] += table[i]

    def matured(self, before: float) -> list[Open]:
        """Closed windows that have something to say: every fate is known, or no more can come; the latter, and what
        goes beyond WINDOWS_MAX, are forgotten. `before`: windows that end earlier can change no more."""
        said: list[Open] = []
        for window in self.windows:
            over = window.end <= before
            whole = window.fates >= window.n
            if window.closed and (whole or over) and (window.changed or not window.final):
                window.final, window.changed = True, False
                said.append(window)
        keep = [window for window in self.windows if not (window.closed and window.end <= before)]
        if len(keep) > WINDOWS_MAX:
            gone = keep[: len(keep) - WINDOWS_MAX]
            for window in gone:
                if not window.final:
                    window.final = True
                    self.forgotten += 1
                    said.append(window)
            keep = keep[len(gone) :]
        self.windows = keep
        return said


def _slice_width(model: Model) -> int:
    """Sums kept by slice: those without scores."""
    return performance.PLAIN_WIDTHS[model.task]


def delay_median_s(delays: Ints) -> float | None:
    """Median of the counted delays, in the middle of its bin (geometrically)."""
    n = int(delays.sum())
    if n <= 0:
        return None
    k = int(np.searchsorted(np.cumsum(delays), n / 2))
    return float(DELAY_RATIO ** (k + 0.5)) if k else 0.0


def events_of(model_name: str, model: Model, window: Open, labels: list[dict[str, str]]) -> list[Window]:
    """The window as events: the champion's with drift, every other learner's, then every slice's."""
    maturity = min(window.fates / window.n, 1.0) if window.n else 1.0
    common = dict(model=model_name, start=window.start, end=window.end, maturity=maturity, final=window.final)
    said: list[Window] = []
    for name in ["champion", *sorted(set(window.sums) - {"champion"})]:
        total = window.sums.get(name)
        champion = name == "champion"
        mean = window.said / window.n if champion and window.n and model.task != "multiclass" else None
        said.append(
            Window(
                **common,  # type: ignore[arg-type]
                n=window.n,
                learner=name,
                model_version=window.version if champion else None,
                n_labelled=int(total[0]) if total is not None else 0,
                metrics=performance.metrics(model.task, total) if total is not None else {},
                expected=window.expectation if champion else {},
                drift=window.drift if champion else {},
                prediction_mean=mean,
                delay_median_s=delay_median_s(window.delays) if champion else None,
                strange=window.strange if champion else None,
                labels_before=window.before if champion else 0,
                label_bias=window.label_bias if champion else {},
                calibration=performance.calibration(model.task, total) if champion and total is not None else None,
            )
        )
    for i in np.flatnonzero(window.slice_n >= SLICE_EVENTS_MIN):
        found = np.zeros(performance.WIDTHS[model.task])
        if window.slice_sums is not None:
            found[: window.slice_sums.shape[1]] = window.slice_sums[i]
        said.append(
            Window(
                **common,  # type: ignore[arg-type]
                n=int(window.slice_n[i]),
                slice=labels[i],
                n_labelled=int(found[0]),
                metrics=performance.metrics(model.task, found),
            )
        )
    return said
