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
from detectors.contract import Budget, Rows
from detectors.sample import Labelled
from stream import codec
from stream.config import Model
from stream.events import EXPIRED, Alert, Command, OutcomeRows, PredictionRows, Window
from stream.windows import columns, disparity, leaks, redeclared, schema, words
from stream.windows.cells import Cells
from stream.windows.cohorts import Cohorts, segments
from stream.windows.collecting import Collected
from stream.windows.columns import Ints
from stream.windows.context import context_of
from stream.windows.evidence import Group, budget_of, seed_of
from stream.windows.expected import Expected
from stream.windows.explaining import Explaining
from stream.windows.found import REFERENCE_ROWS
from stream.windows.leaks import Finding
from stream.windows.parity import Parity, Verdict
from stream.windows.past import Counted
from stream.windows.performance import Performance, metrics
from stream.windows.remembered import Reference, WatcherState
from stream.windows.results import Results, add_performance, results_of
from stream.windows.schema import SLICE, Schema, group_of, share_of
from stream.windows.shown import figures_of
from stream.windows.sources import outcomes
from stream.windows.sources.outcomes import LOSS
from stream.windows.timeline import Slab

OUTCOMES_PART: Final = 5
"""At least this part of the reference's size must be outcomes before losses are judged."""

OUTCOMES_KEPT: Final = 4
"""At most so many times the reference's size of outcomes are kept while the reference is being collected."""

NEW_FEATURES_MAX: Final = 1000

Said = list[Alert | Window]


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
        self.undeclared: list[list[str]] = []
        """Declared slices whose values are not known yet."""
        self.restored = False
        self.state = WatcherState(Performance(model.task), Expected(model.task, model.reference.first))

    def slab(self, slab: Slab) -> Said:
        """Take the next rows of the canonical order, return what they cause."""
        said: Said = self._withdraw(slab.first) if self.restored else []
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
            missing = max(self.model.reference.first - state.collected, 0)
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
        if self.undeclared:
            self._learn_slices(rows)

    def _learn_slices(self, rows: PredictionRows) -> None:
        """Slices that were declared after the reference was whole learn their values from as many rows as it takes."""
        state, parts = self.state, self.state.collecting_slices
        assert state.schema is not None
        missing = self.model.reference.first - sum(len(part.order) for part in parts)
        parts.append(columns.select_predictions(rows, slice(0, max(missing, 0))))
        if len(rows.order) < missing:
            return
        whole = columns.join_predictions(parts, [(0, len(part.order)) for part in parts])
        state.collecting_slices = []
        state.sample = None if self.explaining is None else self.explaining.sample.state
        new = [schema.learn_slices(names, whole) for names in self.undeclared]
        redeclared.put(state, self.model, [*state.schema.slices, *new])
        self._attach()

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
        """What follows from the schema, the references and the configuration."""
        state = self.state
        if state.schema is None or state.reference is None:
            return
        group, cells = self.groups["predictions"], state.reference.cells
        self.cohorts = Cohorts(
            self.name, self.model, state.reporting, state.expected, state.schema, group, cells
        )  # fmt: skip
        self.undeclared = redeclared.undeclared(self.model, state.schema)
        if self.model.fairness is not None:
            self.parity = Parity(self.model, state.parity, state.schema)
        if state.outcomes is not None:
            by_days = self.groups["outcomes"].state.by_days
            self.explaining = Explaining(state.schema, state.outcomes, by_days, state.sample)

    def _fit(self, name: str, streams: list[Any], bins: list[Any], rows: Rows) -> Group:
        self.groups[name] = Group.fit(streams, bins, rows, self.model.detectors, *self._means(name))
        return self.groups[name]

    def _means(self, name: str) -> tuple[Budget, int]:
        """What a group's detectors may spend, and their seed; streams of slices draw by their own names."""
        own = "slices" if name.startswith(SLICE) else name
        return budget_of(self.model.false_alarms, share_of(self.model, name)), seed_of(self.name, own)

    def _wanted(self, name: str) -> int:
        """Rows of a reference."""
        if name == "found":
            return REFERENCE_ROWS
        first = self.model.reference.first
        return first if name == "predictions" else math.ceil(first / OUTCOMES_PART)

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
            streams = state.outcomes.read(results, state.last_order)
            assert self.explaining is not None
            added = self.explaining.add(rows, results, streams, coded)
            self._show("outcomes", self.groups["outcomes"].count(streams), said)
            if self.model.find_slices and added is not None:
                self._watch_found(streams, *added, said)
            self._show_slices(streams, results, coded, said)
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
        if sum(len(part.order) for part in parts) < self._wanted("outcomes"):
            return
        state.collecting_outcomes = []
        assert state.schema is not None and self.cohorts is not None
        whole = columns.join_outcomes(parts, [(0, len(part.order)) for part in parts])
        results = results_of(self.model, whole)
        assert state.reference is not None
        found = state.outcomes = outcomes.learn(self.model, results, state.reference.start)
        streams = found.read(results, state.last_order)
        self._fit("outcomes", found.streams, found.bins, streams)
        coded = self.cohorts.slice_codes(results.slices, len(results.row))
        self._attach()
        assert self.explaining is not None
        self.explaining.add(whole, results, streams, coded)
        self._show_slices(streams, results, coded, [])

    def _show_slices(self, streams: Rows, results: Results, coded: list[tuple[int, Ints]], said: Said) -> None:
        """Losses by declared slice; the first of each are its reference."""
        state = self.state
        assert state.schema is not None and state.outcomes is not None
        for each, (_, code) in zip(state.schema.slices, coded, strict=True):
            if not each.values:
                continue
            name = group_of(each)
            losses = state.outcomes.read_slice(code, len(each.values), streams, results)
            if name in self.groups:
                self._show(name, self.groups[name].count(losses), said)
            elif (whole := state.sliced.setdefault(name, Collected()).add(losses, self._wanted(name))) is not None:
                del state.sliced[name]
                bins = [state.outcomes.bins[LOSS]] * len(each.values)
                self._fit(name, state.outcomes.slice_streams(each.labels), bins, whole)

    def _show(self, name: str, counted: Counted, said: Said) -> None:
        """Give rows to a group's detectors; what they find becomes alerts."""
        state, group = self.state, self.groups[name]
        assert state.schema is not None and state.reference is not None
        state.book.count(name, len(counted.rows))
        for found in group.update(counted):
            context = context_of(
                self.name, state.version, state.reference.id, str(self.model.false_alarms), self.groups,
                {group_of(each): each.labels for each in state.schema.slices}
                | {"found": [each.place for each in state.found.slices]},
                name, found,
            )  # fmt: skip
            context.breaches = state.schema.quality.breaches()
            context.strange = state.schema.strange.since(found.alarm.since_s)
            said += state.book.raise_alert(name, group, found, context, self.explaining)

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
        """Go on from a state, as far as the configuration still declares what it is of (`redeclared`). Raises
        StateError for a state that cannot be gone on from."""
        redeclared.adopt(state, self.model)
        self.state = state
        if state.schema is not None and self.constraints is not None:
            state.schema.quality.edit(self.constraints)
        self.groups = {
            name: Group.restore(saved, self.model.detectors, *self._means(name), self._wanted(name))
            for name, saved in state.groups.items()
        }
        self._attach()
        self.restored = True

    def _withdraw(self, at: float) -> Said:
        """Alerts of what the configuration does not watch any more end with the first slab after it has changed."""
        self.restored = False

        def watched(group: str, stream: str) -> bool:
            return redeclared.is_watched(self.groups, self.parity, group, stream)

        return [*self.state.book.withdraw(watched, redeclared.WITHDRAWN, at)]

    def figures(self) -> dict[str, Any]:
        """Plain values for people."""
        return figures_of(
            self.state, self.groups, self.cohorts, self.parity, self.explaining, self.model.reference.first
        )
