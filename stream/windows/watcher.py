"""One model under watch: slabs of rows in; windows and alerts out. Owns the order in which a slab is worked through;
refuses to know shards, topics and how rows arrived.

A slab's rows are counted into windows and figures, then shown to the detectors, then windows close. The first N
predictions are the reference; later ones are judged against it. Outcomes have a reference of their own, the outcomes
that came with the predictions' reference and at least N/5 of them: a loss is compared with the losses of that time,
whichever predictions they belong to, because outcomes are watched in the order in which they become known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from detectors.constraints import Constraint
from detectors.contract import Rows
from detectors.sample import Labelled, SampleState
from stream import codec
from stream.config import Model
from stream.events import EXPIRED, Alert, Command, OutcomeRows, PredictionRows, Window
from stream.windows import columns, disparity, leaks, schema, words
from stream.windows.alerts import Book
from stream.windows.cells import Cells
from stream.windows.cohorts import Cohorts, segments
from stream.windows.columns import Ints
from stream.windows.context import context_of
from stream.windows.evidence import Group, GroupState, budget_of, seed_of
from stream.windows.expected import Expected
from stream.windows.explaining import Explaining
from stream.windows.found import FoundSlices
from stream.windows.leaks import Finding, Leaks
from stream.windows.parity import Parity, ParityState, Verdict
from stream.windows.past import Counted
from stream.windows.performance import Performance, metrics
from stream.windows.reporting import Reporting
from stream.windows.results import Results, add_performance, results_of
from stream.windows.schema import Schema, share_of
from stream.windows.sources import outcomes
from stream.windows.sources.outcomes import LOSS, Outcomes
from stream.windows.timeline import Slab

OUTCOMES_PART: Final = 5
"""At least this part of the reference's size must be outcomes before losses are judged."""

OUTCOMES_KEPT: Final = 4
"""At most so many times the reference's size of outcomes are kept while the reference is being collected."""

NEW_FEATURES_MAX: Final = 1000

Said = list[Alert | Window]


class Reference(msgspec.Struct):
    """The predictions' reference, once it is whole; times are orders."""

    id: str
    n: int
    start: float
    end: float
    cells: Cells


class WatcherState(msgspec.Struct):
    """Everything of one model's watcher; configuration apart."""

    performance: Performance
    expected: Expected
    reporting: Reporting = msgspec.field(default_factory=Reporting)
    book: Book = msgspec.field(default_factory=Book)
    collecting: list[PredictionRows] = []
    collected: int = 0
    collecting_outcomes: list[OutcomeRows] = []
    reference: Reference | None = None
    schema: Schema | None = None
    outcomes: Outcomes | None = None
    groups: dict[str, GroupState] = {}
    rows: int = 0
    outcome_rows: int = 0
    expired: int = 0
    outcomes_kept: int = 0
    outcomes_left_out: int = 0
    new_features: dict[str, int] = {}
    version: str | None = None
    last_order: float = -math.inf
    parity: ParityState = msgspec.field(default_factory=ParityState)
    leaks: Leaks = msgspec.field(default_factory=Leaks)
    found: FoundSlices = msgspec.field(default_factory=FoundSlices)
    sample: SampleState | None = None


class Watcher:
    """One model. `slab` and `command` are the only mutators."""

    def __init__(
        self, name: str, model: Model, mark_s: float, reference: PredictionRows | None = None,
        constraints: Mapping[str, Constraint] | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.model = model
        self.mark_s = mark_s
        self.given = reference
        self.constraints = constraints
        self.groups: dict[str, Group] = {}
        self.cohorts: Cohorts | None = None
        self.parity: Parity | None = None
        self.explaining: Explaining | None = None
        self.state = WatcherState(Performance(model.task), Expected(model.task, model.reference.first))

    def slab(self, slab: Slab) -> Said:
        """Take the next rows of the canonical order, return what they cause."""
        said: Said = []
        if self.explaining is not None:
            self.explaining.begin()
        if self.given is not None and self.state.reference is None:
            self._begin(columns.moved_before(self.given, slab.first))
        horizon = float(self.model.labels.horizon)
        if self.cohorts is not None:
            said += self.cohorts.close(slab.first, self.state.last_order)
            said += self.cohorts.matured(slab.first - horizon)
        if slab.predictions is not None:
            self._predictions(slab.predictions, said)
        if slab.outcomes is not None:
            self._outcomes(slab.outcomes, said)
        if self.cohorts is not None:
            said += self.cohorts.close(slab.end, self.state.last_order)
            said += self.cohorts.matured(slab.first - horizon)
        for name, group in self.groups.items():
            unit = group.close_unit(slab.end)
            if unit is not None:
                said += self.state.book.judge(name, group, unit, slab.end)
        return said

    def command(self, command: Command) -> Said:
        answer = self.state.book.command(command)
        return [] if answer is None else [answer]

    def _predictions(self, rows: PredictionRows, said: Said) -> None:
        state = self.state
        state.rows += len(rows.order)
        state.performance.count_events("champion", columns.counts_by_word(rows.version))
        if rows.version.words and rows.version.values[-1] >= 0:
            state.version = rows.version.words[int(rows.version.values[-1])]
        if state.schema is None:
            missing = self.model.reference.first - state.collected
            state.collected += min(len(rows.order), missing)
            state.collecting.append(columns.select_predictions(rows, slice(0, missing)))
            if len(rows.order) < missing:
                return
            self._complete(said)
            if len(rows.order) == missing:
                return
            rows = columns.select_predictions(rows, slice(missing, None))
        assert state.schema is not None and self.cohorts is not None
        self._count_new_features(state.schema, rows)
        streams = schema.read_predictions(state.schema, rows)
        for part in self.cohorts.parts(rows):
            said += self.cohorts.close(float(rows.order[part.start]), state.last_order)
            whole = part.stop - part.start == len(rows.order)
            counted = self.groups["predictions"].count(streams.part(part.start, part.stop))
            own = rows if whole else columns.select_predictions(rows, part)
            said += self.cohorts.predictions(own, counted, state.version)
            state.last_order = float(rows.order[part.stop - 1])
            self._show("predictions", counted, said)
            if self.parity is not None:
                self._treat(self.parity.predictions(own), said)

    def _count_new_features(self, found: Schema, rows: PredictionRows) -> None:
        counted = self.state.new_features
        for name, column in rows.features.items():
            if name not in found.features.names:
                key = name if name in counted or len(counted) < NEW_FEATURES_MAX else "others"
                counted[key] = counted.get(key, 0) + columns.present(column)

    def _complete(self, said: Said) -> None:
        """The last row of the reference has come: what waited for it goes into its windows."""
        parts = self.state.collecting
        whole = columns.join_predictions(parts, [(0, len(part.order)) for part in parts])
        self.state.collecting = []
        streams = self._begin(whole)
        assert self.cohorts is not None
        for part in segments(whole, self.mark_s):
            said += self.cohorts.close(float(whole.order[part.start]), self.state.last_order)
            counted = self.groups["predictions"].count(streams.part(part.start, part.stop))
            own = columns.select_predictions(whole, part)
            said += self.cohorts.predictions(own, counted, self.state.version)
            self.state.last_order = float(whole.order[part.stop - 1])
            if self.parity is not None:
                self._treat(self.parity.predictions(own), said)
        for i, waiting in enumerate(self.state.collecting_outcomes):
            results = results_of(self.model, waiting)
            self._into_windows(waiting, results, said)
            self.state.collecting_outcomes[i] = columns.select_outcomes(waiting, results.fates)

    def _begin(self, whole: PredictionRows) -> Rows:
        """Learn what is normal; returns the reference as streams."""
        state = self.state
        state.schema = schema.learn(self.model, whole, self.constraints)
        streams = schema.read_predictions(state.schema, whole)
        group = self._fit("predictions", state.schema.streams, state.schema.bins, streams)
        start, end = float(whole.order[0]), float(whole.order[-1])
        cells = Cells({cell: part.merge(group.empty()) for cell, part in group.state.total.parts.items()})
        what = codec.canonical([start, end, state.schema.features.names])
        digest = codec.digest(cells.total().counts.tobytes(), what)
        name = f"r-{words.moment(end)[:10]}-{digest[:6]}"
        state.reference = Reference(name, len(whole.order), start, end, cells)
        self._attach()
        return streams

    def _attach(self) -> None:
        state = self.state
        if state.schema is not None and state.reference is not None:
            group, cells = self.groups["predictions"], state.reference.cells
            self.cohorts = Cohorts(
                self.name, self.model, state.reporting, state.expected, state.schema, group, cells
            )  # fmt: skip
            if self.model.fairness is not None:
                self.parity = Parity(self.model, state.parity, state.schema)

    def _fit(self, name: str, streams: list[Any], bins: list[Any], rows: Rows) -> Group:
        budget, seed = budget_of(self.model.false_alarms, share_of(self.model, name)), seed_of(self.name, name)
        self.groups[name] = Group.fit(streams, bins, rows, self.model.detectors, budget, seed)
        return self.groups[name]

    def _outcomes(self, rows: OutcomeRows, said: Said) -> None:
        state = self.state
        state.outcome_rows += len(rows.order)
        state.expired += int((rows.status == EXPIRED).sum())
        results = results_of(self.model, rows)
        add_performance(state.performance, self.model, rows, results)
        self._tell(state.leaks.labels(rows), said)
        first = self.model.reference.first // OUTCOMES_PART
        state.expected.taught(results.learners["champion"], results.fates, first, state.reporting.windows)
        if self.cohorts is None:
            if state.outcomes_kept < OUTCOMES_KEPT * self.model.reference.first:
                state.collecting_outcomes.append(rows)
                state.outcomes_kept += len(rows.order)
            else:
                state.outcomes_left_out += len(rows.order)
            return
        coded = self._into_windows(rows, results, said)
        if state.outcomes is None:
            self._collect_outcomes(columns.select_outcomes(rows, results.fates))
        elif len(results.fates):
            streams = state.outcomes.read(results)
            assert self.explaining is not None
            added = self.explaining.add(rows, results, streams, coded)
            self._show("outcomes", self.groups["outcomes"].count(streams), said)
            if self.model.find_slices and added is not None:
                self._watch_found(streams, *added, said)
            if "slices" in self.groups:
                losses = state.outcomes.read_slices(coded, streams, results)
                self._show("slices", self.groups["slices"].count(losses), said)
            self._look_for_leaks(float(rows.order[-1]), said)
            said += state.book.reconsider(self.explaining, self.groups["predictions"], float(rows.order[-1]))

    def _into_windows(self, rows: OutcomeRows, results: Results, said: Said) -> list[tuple[int, Ints]]:
        """Count outcomes into the windows of their predictions; returns their slices."""
        assert self.cohorts is not None
        coded = self.cohorts.slice_codes(results.slices, len(results.row))
        self.cohorts.outcomes(results.event_time, results.first, results.delay_s, results.learners, coded)
        self.cohorts.compare(rows)
        if self.parity is not None:
            self._treat(self.parity.outcomes(results), said)
        return coded

    def _collect_outcomes(self, new: OutcomeRows) -> None:
        """New outcomes for the losses' reference, which is whole once enough have come."""
        state = self.state
        state.collecting_outcomes.append(new)
        parts = state.collecting_outcomes
        if sum(len(part.order) for part in parts) < self.model.reference.first / OUTCOMES_PART:
            return
        state.collecting_outcomes = []
        assert state.schema is not None and self.cohorts is not None
        whole = columns.join_outcomes(parts, [(0, len(part.order)) for part in parts])
        results = results_of(self.model, whole)
        found = state.outcomes = outcomes.learn(self.model, state.schema.labels, results)
        streams = found.read(results)
        group = self._fit("outcomes", found.streams, found.bins, streams)
        coded = self.cohorts.slice_codes(results.slices, len(results.row))
        self.explaining = Explaining(state.schema, found, group.state.by_days)
        self.explaining.add(whole, results, streams, coded)
        if found.slice_streams:
            losses = found.read_slices(coded, streams, results)
            self._fit("slices", found.slice_streams, found.slice_bins, losses)

    def _show(self, name: str, counted: Counted, said: Said) -> None:
        """Give rows to a group's detectors; what they find becomes alerts."""
        state, group = self.state, self.groups[name]
        assert state.schema is not None and state.reference is not None
        state.book.count(name, len(counted.rows))
        for found in group.update(counted):
            context = context_of(
                self.name, state.version, state.reference.id, str(self.model.false_alarms), self.groups,
                [each.place for each in state.found.slices] if name == "found" else state.schema.labels, name, found,
            )  # fmt: skip
            context.breaches = state.schema.quality.breaches()
            context.strange = state.schema.strange.since(found.alarm.since_s)
            alert = state.book.raise_alert(name, group, found, context, self.explaining)
            if alert is not None:
                said.append(alert)

    def _treat(self, verdicts: list[Verdict], said: Said) -> None:
        """What the tests of declared groups found becomes alerts, and ends them."""
        state = self.state
        assert state.reference is not None and self.model.fairness is not None
        said += disparity.told(
            state.book, verdicts, self.model.fairness.gap, self.name, state.version, state.reference.id,
            str(self.model.false_alarms),
        )  # fmt: skip

    def _watch_found(self, streams: Rows, chosen: Ints, added: Labelled, said: Said) -> None:
        """Labelled rows with features: `chosen` of the outcomes. They are searched for slices, or are in some."""
        state, explaining = self.state, self.explaining
        assert state.schema is not None and state.outcomes is not None and explaining is not None
        f, found, loss = len(state.schema.features.names), state.found, slice(LOSS, LOSS + 1)
        if not found.slices:
            found.search(explaining.layout, f, explaining.sample.state)
            return
        losses = Rows(streams.time_s[chosen], streams.codes[chosen, loss], streams.values[chosen, loss])
        rows = found.read(explaining.layout, f, losses.time_s, added, losses)
        if "found" in self.groups:
            self._show("found", self.groups["found"].count(rows), said)
        elif (whole := found.collect(rows)) is not None:
            bins = [state.outcomes.bins[LOSS]] * len(found.slices)
            self._fit("found", found.streams(state.outcomes.streams[LOSS]), bins, whole)

    def _look_for_leaks(self, at_s: float, said: Said) -> None:
        """Whether a feature knows the label, by the labelled rows that are kept."""
        state, explaining = self.state, self.explaining
        assert state.schema is not None and explaining is not None
        if not state.leaks.due(explaining.sample.state):
            return
        auc = metrics(self.model.task, state.performance.learner("champion").overall.total).get("roc_auc")
        f, sample = len(state.schema.features.names), explaining.sample.state
        self._tell(state.leaks.features(explaining.layout, f, sample, auc, at_s), said)

    def _tell(self, found: list[Finding], said: Said) -> None:
        """What looks like leakage becomes alerts, and ends them."""
        reference_id = None if self.state.reference is None else self.state.reference.id
        said += leaks.told(self.state.book, found, self.name, self.state.version, reference_id)

    def snapshot(self) -> WatcherState:
        """The state as one struct, detectors included."""
        groups = {name: group.snapshot() for name, group in self.groups.items()}
        sample = None if self.explaining is None else self.explaining.sample.state
        return msgspec.structs.replace(self.state, groups=groups, sample=sample)

    def restore(self, state: WatcherState) -> None:
        self.state = state
        if state.schema is not None and self.constraints is not None:
            state.schema.quality.edit(self.constraints)
        self.groups = {
            name: Group.restore(
                saved, self.model.detectors, budget_of(self.model.false_alarms, share_of(self.model, name)),
                seed_of(self.name, name),
            )
            for name, saved in state.groups.items()
        }  # fmt: skip
        self._attach()
        if state.schema is not None and state.outcomes is not None:
            by_days = self.groups["outcomes"].state.by_days
            self.explaining = Explaining(state.schema, state.outcomes, by_days, state.sample)

    def figures(self) -> dict[str, Any]:
        """Plain values for people."""
        state, found = self.state, self.state.reference
        return {
            "status": {name: group.status() for name, group in self.groups.items()},
            "reference": {"collecting": state.collected, "of": self.model.reference.first}
            if found is None
            else {"id": found.id, "n": found.n, "from": words.moment(found.start), "to": words.moment(found.end)},
            "rows": state.rows,
            "outcomes": state.outcome_rows,
            "expired": state.expired,
            "outcomes_left_out": state.outcomes_left_out,
            "late": state.reporting.late,
            "lost": state.reporting.lost,
            "windows": state.reporting.count,
            "windows_forgotten": state.reporting.forgotten,
            "new_features": dict(state.new_features),
            "strange": {} if state.schema is None else state.schema.strange.figures(),
            "leakage": state.leaks.figures(),
            "found_slices": state.found.figures(),
            "label_bias": {} if self.cohorts is None else self.cohorts.biased(),
            "constraints": {} if state.schema is None else state.schema.quality.figures(),
            "performance": state.performance.figures(),
            "alerts": state.book.figures(),
            "importance": {} if self.explaining is None else self.explaining.importance(),
            "expected": {name: dict(each) for name, each in state.reporting.expected.items()},
            "realised": dict(state.reporting.realised),
            "calibration": state.performance.meaning("champion"),
            "fairness": {} if self.parity is None else self.parity.figures(),
            "streams": {} if self.cohorts is None else {k: {"psi": v} for k, v in state.reporting.psi.items()},
        }
