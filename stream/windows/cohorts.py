"""Rows into reporting windows: when one opens and closes, and what is said of it. Owns the boundaries; refuses to know
alerts.

By event time a window ends at a multiple of `every`, the first by which it holds `min_events`. By number it ends with
the prediction that fills it, at that prediction's order.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from detectors.contract import Rows
from stream.config import Model
from stream.events import EXPIRED, Column, OutcomeRows, PredictionRows, Window
from stream.windows import label_bias, parity, reporting, schema, words
from stream.windows.cells import QUARTER_S, Cells
from stream.windows.columns import Floats, Ints
from stream.windows.evidence import Group
from stream.windows.expected import Expected
from stream.windows.past import Counted
from stream.windows.profiles import Profile
from stream.windows.reporting import Open, Outcome, Reporting
from stream.windows.results import numbers_of, read_values
from stream.windows.schema import Schema, SliceIndex
from stream.windows.statistics import window_drift


class Cohorts:
    """The windows of one model whose reference is known. State is the Reporting that it is given."""

    def __init__(
        self, name: str, model: Model, state: Reporting, expected: Expected, found: Schema, group: Group,
        reference: Cells,
    ) -> None:  # fmt: skip
        self.name = name
        self.model = model
        self.state = state
        self.expected = expected
        self.schema = found
        self.group = group
        self.reference = reference
        self.indexes = [SliceIndex(each) for each in found.slices]
        self.peoples = parity.groups_of(model, found)
        self.compared = label_bias.columns_of(found.features)
        names = [stream.name for stream in group.state.streams]
        self.strange = names.index(words.STRANGE) if words.STRANGE in names else None

    def slice_codes(self, found: dict[str, Column], n: int) -> list[tuple[int, Ints]]:
        """For every declared slice, where its values begin among all and each row's value, -1 for none."""
        coded, start = [], 0
        for index in self.indexes:
            coded.append((start, index.codes(found, n)))
            start += len(index.places)
        return coded

    def predictions(self, rows: PredictionRows, counted: Counted, version: str | None) -> list[Window]:
        """Rows of one slab, with what the detectors see of them."""
        said: list[Window] = []
        start, n = 0, len(rows.order)
        numbers = rows.prediction.words is None and self.model.task != "multiclass"
        value = np.where(np.isnan(rows.prediction.values), 0.0, rows.prediction.values) if numbers else np.zeros(n)
        said_values, score = read_values(self.model, rows.prediction), numbers_of(rows.score)
        slices = self.slice_codes(schema.slice_columns(rows), n) if self.schema.slices else []
        events = self.model.windows.events
        while start < n:
            if not self.state.windows:
                self._open(self._aligned(float(rows.event_time[start])))
            last = self.state.windows[-1]
            end = n if events is None else max(min(n, start + events - last.n), start)
            part = slice(start, end)
            place = self.state.place(rows.event_time[part])
            self.state.add_predictions(place, value[part], [(at, code[part]) for at, code in slices])
            self._profile(place, counted, start, end)
            self._expect(place, score[part], said_values[part])
            last.version = version
            if events is not None and last.n >= events:
                # One that holds more already, because they were larger when it opened, ends before this row.
                boundary = float(rows.order[start]) if end == start else math.nextafter(rows.order[end - 1], math.inf)
                said += self._close(last, boundary)
                self._open(boundary)
            start = end
        return said

    def outcomes(
        self, event_time: Floats, fates: Ints, delay_s: Floats, learners: dict[str, Outcome],
        slices: list[tuple[int, Ints]],
    ) -> None:  # fmt: skip
        """Outcomes to the windows of their predictions; `fates` is 1 for a prediction's first outcome."""
        if not self.state.windows:
            self.state.lost += len(event_time)
            return
        place = self.state.place(event_time)
        self.state.add_outcomes(self.model, place, fates, delay_s, learners, slices)
        for w in np.unique(place[place >= 0]).tolist():
            window = self.state.windows[w]
            self.expected.labelled(window, Outcome(*(x[place == w] for x in learners["champion"])))

    def compare(self, rows: OutcomeRows) -> None:
        """Rows whose fate is known and whose features came with them, to what labels leave out of their windows."""
        sampled = np.flatnonzero(rows.sampled >= 0)
        if not len(sampled) or not self.state.windows:
            return
        size = max((len(column.values) for column in rows.sample.values()), default=0)
        codes = self.schema.features.codes(rows.sample, size).T[rows.sampled[sampled]]
        place, score = self.state.place(rows.event_time[sampled]), numbers_of(rows.score)[sampled]
        labelled = rows.status[sampled] != EXPIRED
        for w in np.unique(place[place >= 0]).tolist():
            window, mine = self.state.windows[w], place == w
            if not window.final:
                found = label_bias.sums(self.compared, codes[mine], score[mine], labelled[mine])
                window.bias = found if window.bias is None else window.bias + found

    def close(self, progress: float, last_order: float) -> list[Window]:
        """Predictions before `progress` are known, the last at `last_order`: close the window that ends between."""
        every = self.model.windows.every
        if every is None or not self.state.windows:
            return []
        boundary = math.floor(progress / every) * float(every)
        last = self.state.windows[-1]
        if boundary <= max(last_order, last.start) or last.n < max(self.model.windows.min_events, 1):
            return []
        said = self._close(last, boundary)
        self._open(boundary)
        return said

    def biased(self) -> dict[str, dict[str, float]]:
        """How labelled predictions differ from those without a label, over all windows that are final."""
        return {} if self.state.bias is None else label_bias.told(self.compared, self.state.bias, every=True)

    def parts(self, rows: PredictionRows) -> list[slice]:
        """The rows cut where a window ends among them."""
        every, order = self.model.windows.every, rows.order
        if every is None or order[-1] // every == order[0] // every:
            return [slice(0, len(order))]
        held = self.state.windows[-1].n if self.state.windows else 0
        cuts = [0]
        for start in (np.flatnonzero(np.diff(order // every)) + 1).tolist():
            if held + start - cuts[-1] >= self.model.windows.min_events:
                held = 0
                cuts.append(start)
        return [slice(a, b) for a, b in pairwise([*cuts, len(order)])]

    def matured(self, before: float) -> list[Window]:
        """Windows whose labels have come, or can come no more: those that ended by `before`."""
        said: list[Window] = []
        for window in self.state.matured(before):
            said += self._told(window)
        return said

    def _told(self, window: Open) -> list[Window]:
        """The window as events. Once all its fates are known, what was expected of it is history, and kept as told."""
        if window.expected is not None:
            window.expectation = self.expected.figures(window)
            window.expected = None if window.final else window.expected
        if window.final and window.bias is not None:
            window.label_bias = label_bias.told(self.compared, window.bias)
            total = self.state.bias
            self.state.bias, window.bias = window.bias if total is None else total + window.bias, None
        said = reporting.events_of(self.name, self.model, window, self.schema.labels)
        if window.final and window.expectation:
            self.state.realised = {
                name: said[0].metrics[name] for name in window.expectation if name in said[0].metrics
            }
        if self.peoples and window.slice_said is not None:
            said[0].fairness = parity.of_window(
                self.model, self.peoples, window.slice_n, window.slice_said, window.slice_sums
            )
        return said

    def _aligned(self, event_time: float) -> float:
        every = self.model.windows.every
        return event_time if every is None else math.floor(event_time / every) * float(every)

    def _open(self, start: float) -> None:
        self.expected.open(self.state.open(start, len(self.schema.labels)))

    def _close(self, window: Open, end: float) -> list[Window]:
        assert window.cells is not None
        reference = self.reference.mixed(window.cells.weights())
        seen = window.cells.total()
        window.drift = window_drift(self.group.state.streams, self.group.state.bins, reference, seen)
        self.state.psi = {name: found["psi"] for name, found in window.drift.items()}
        if self.strange is not None and seen.present(self.strange):
            window.strange = int(seen.bins(self.strange)[1])
        window.cells = None
        window.end, window.closed, window.changed = end, True, False
        window.final = window.fates >= window.n
        said = self._told(window)
        self.state.expected = {
            name: dict(zip(("estimate", "low", "high"), each.estimated, strict=True))
            for name, each in window.expectation.items()
        }
        return said

    def _expect(self, place: Ints, score: Floats, prediction: Floats) -> None:
        """Count predictions into what is expected of their windows."""
        for w in np.unique(place[place >= 0]).tolist():
            mine = place == w
            self.expected.seen(self.state.windows[w], score[mine], prediction[mine])

    def _profile(self, place: Ints, counted: Counted, start: int, end: int) -> None:
        windows = self.state.windows
        for w in np.flatnonzero(np.bincount(place + 1, minlength=len(windows) + 1)[1:]):
            cells = windows[w].cells
            if cells is None:
                continue  # closed: its drift has been told, and what comes late does not change it
            mine = place == w
            if end - start == len(counted.rows) and mine.all():
                cells.add(counted.cell, counted.whole)
                continue
            rows = counted.rows.part(start, end)
            rows = Rows(rows.time_s[mine], rows.codes[mine], rows.values[mine])
            cells.add(counted.cell, Profile.of(rows, self.group.width))


def segments(rows: PredictionRows, mark_s: float) -> list[slice]:
    """Rows cut at marks of event time, as slabs are, and at quarters of the day."""
    moved = np.diff(np.floor(rows.order / mark_s)) + np.diff(np.floor(rows.order / QUARTER_S))
    cuts = [0, *(np.flatnonzero(moved) + 1).tolist(), len(rows.order)]
    return [slice(a, b) for a, b in pairwise(cuts)]
