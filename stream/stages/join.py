"""The join: predictions and labels of one partition become examples, observations and dead letters.

The outputs and their order are a function of the two logs alone (ARCHITECTURE.md, "Order without coordination"): what
joins is decided in `stream.joining.matching`, what becomes of it in `stream.joining.settling`. This file only takes the
records in the order of their log, keeps both logs' progress, and turns fates into outputs.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, Final, cast

import msgspec

from stream import codec, versions
from stream.config import Config
from stream.contract import EXAMPLES, LABELS, OBSERVATIONS, PREDICTIONS, Batch, Chunk, Output, Record
from stream.errors import BugError, InputFault, StateError
from stream.events import CORRECTED, EXPIRED, Class, Example, Heartbeat, Label, Observations, Prediction, Vote
from stream.joining import adopting, letters, resting
from stream.joining.intake import Intake
from stream.joining.matching import Matcher
from stream.joining.pending import Entry, Known, MatcherState
from stream.joining.rows import OutcomeRow, Rows, RowsState, untold
from stream.joining.rules import Rules
from stream.joining.settling import IMPLICIT_SOURCE, MARKED, RULES_SOURCE, Fate, settle
from stream.joining.watermark import Watermark
from stream.ledger import Ledger
from stream.sections import apart, together

VERSION: Final = 2
REST: Final = "rest"


class ModelCounts(msgspec.Struct):
    """What became of one model's predictions so far, for people; the ledger is what balances."""

    predictions: int = 0
    outcomes: list[int] = msgspec.field(default_factory=lambda: [0, 0, 0, 0])
    """By `events.OutcomeRows.status`."""


class JoinState(msgspec.Struct, tag="join"):
    version: int
    shard: int
    shards: int
    watermark: Watermark
    ledger: Ledger
    matcher: MatcherState
    rows: dict[str, RowsState]
    counts: dict[str, ModelCounts]
    withdrawn: int = 0


class Join:
    """One shard of the join: partition `shard` of `predictions` and of `labels`."""

    def __init__(self, config: Config, shard: int, shards: int) -> None:
        self.config = config
        self.shard = shard
        self.shards = shards
        self.rules = {name: Rules.of(i, name, model) for i, (name, model) in enumerate(config.models.items())}
        self.names = list(self.rules)
        self.choosy = any(rule.task != "binary" for rule in self.rules.values())
        """Some model cannot take every label."""
        self.slack_s = float(config.engine.slack)
        self.withdrawn = 0
        """Predictions that were let go because their model is configured no more."""
        topics = {role: config.topics.name(role) for role in (PREDICTIONS, LABELS)}
        self.intake = Intake(self.rules, shard, shards, topics)
        self._begin(
            Watermark.of([PREDICTIONS, LABELS], float(config.engine.idle)),
            Ledger(),
            {name: ModelCounts() for name in self.rules},
        )

    def _begin(self, watermark: Watermark, ledger: Ledger, counts: dict[str, ModelCounts]) -> None:
        self.watermark = watermark
        self.predictions = watermark.sources[PREDICTIONS]
        self.labels = watermark.sources[LABELS]
        self.ledger = ledger
        self.counts = counts
        self.matcher = Matcher(self.rules, ledger)
        self.rows = {name: Rows(rule, self.shard, self.shards) for name, rule in self.rules.items()}
        self.next_mark = {name: self._mark_after(source.progress) for name, source in watermark.sources.items()}

    def process(self, batch: Batch) -> list[Output]:
        out: list[Output] = []
        read: dict[str, bool] = {}
        for chunk in batch.chunks:
            if chunk.input == PREDICTIONS:
                self._take_predictions(chunk, out)
            elif chunk.input == LABELS:
                self._take_labels(chunk, out)
            else:
                raise BugError(f"the join does not read {chunk.input!r}")
            if chunk.records:
                read[chunk.input] = chunk.at_end
            elif chunk.at_end and chunk.input in read:
                read[chunk.input] = True
            elif chunk.at_end:
                self.watermark.found_end(chunk.input)
        before = {name: source.progress for name, source in self.watermark.sources.items()}
        self.watermark.tick(batch.clock, read)
        for name, source in self.watermark.sources.items():
            self._cross(name, before[name], source.progress, out)
        self._settle(self.watermark.through(), out)
        self.ledger.check()
        return out

    # -- records ----------------------------------------------------------------------------------------------------

    def _take_predictions(self, chunk: Chunk, out: list[Output]) -> None:
        source, agenda, labels = self.predictions, self.matcher.agenda, self.labels.progress
        for record, event in zip(chunk.records, self.intake.take(Prediction, chunk), strict=True):
            before = source.progress
            if isinstance(event, Prediction):
                at = cast(float, event.event_time)
                order = at if at > before else before
                if not self._take_prediction(chunk, record, event, at, order, out):
                    continue
            elif isinstance(event, Heartbeat):
                self.ledger.heartbeats += 1
                order = max(cast(float, event.heartbeat), before)
                self._cross(PREDICTIONS, before, order, out)
            else:
                self._reject(chunk, record, cast(InputFault, event), out)
                continue
            source.progress = order
            if agenda and agenda[0][0] < order and agenda[0][0] < labels:
                self._settle(order if order < labels else labels, out)

    def _take_prediction(
        self, chunk: Chunk, record: Record, event: Prediction, at: float, order: float, out: list[Output]
    ) -> bool:
        """False if the record changes nothing: it is rejected or a duplicate."""
        rules = self.rules[event.model]
        try:
            value = rules.read(event.prediction)
        except ValueError as error:
            self._reject(chunk, record, InputFault("prediction", f"prediction: {error}"), out)
            return False
        if event.role == "shadow":
            self.ledger.shadows.received += 1
            self._cross(PREDICTIONS, self.predictions.progress, order, out)
            self.matcher.shadow(record.offset, order, event, rules)
            return True
        self.ledger.predictions.received += 1
        entry = self.matcher.prediction(record.offset, at, order, event, value, rules)
        if entry is None:
            return False
        self.counts[event.model].predictions += 1
        if order >= self.next_mark[PREDICTIONS]:
            self._cross(PREDICTIONS, self.predictions.progress, order, out)
        if self.matcher.evicted:
            self._tell_evicted(out)
        self._send(event.model, self.rows[event.model].predicted(entry), out)
        return True

    def _take_labels(self, chunk: Chunk, out: list[Output]) -> None:
        source, agenda, predictions = self.labels, self.matcher.agenda, self.predictions.progress
        for record, event in zip(chunk.records, self.intake.take(Label, chunk), strict=True):
            before = source.progress
            if isinstance(event, Label):
                fault = self._impossible(event) if self.choosy else None
                if fault is not None:
                    self._reject(chunk, record, fault, out)
                    continue
                at = cast(float, event.event_time)
                order = at if at > before else before
                self.ledger.labels.received += 1
                self.matcher.label(record.offset, record.timestamp_s, at, order, event)
            elif isinstance(event, Heartbeat):
                self.ledger.heartbeats += 1
                order = max(cast(float, event.heartbeat), before)
            else:
                self._reject(chunk, record, cast(InputFault, event), out)
                continue
            if order >= self.next_mark[LABELS]:
                self._cross(LABELS, before, order, out)
            source.progress = order
            if agenda and agenda[0][0] < order and agenda[0][0] < predictions:
                self._settle(order if order < predictions else predictions, out)

    def _impossible(self, label: Label) -> InputFault | None:
        """A label that its model cannot have, where the model is known already."""
        name = label.model or (self.names[0] if len(self.names) == 1 else None)
        if name is None or label.retracted or self.rules[name].task == "binary":
            return None
        try:
            self.rules[name].read(label.label)
        except ValueError as error:
            return InputFault("label", f"label: {error}")
        return None

    def _reject(self, chunk: Chunk, record: Record, fault: InputFault, out: list[Output]) -> None:
        counts = self.ledger.predictions if chunk.input == PREDICTIONS else self.ledger.labels
        counts.received += 1
        counts.rejected += 1
        self.ledger.reject(fault.code)
        out.append(letters.dead_letter(chunk.input, self.shard, record, fault))

    # -- progress ---------------------------------------------------------------------------------------------------

    def _mark_after(self, progress: float) -> float:
        """The next event time at which some model's observations are cut."""
        if progress == -math.inf:
            return progress
        return min((math.floor(progress / rule.flush_s) + 1) * rule.flush_s for rule in self.rules.values())

    def _cross(self, log: str, before: float, progress: float, out: list[Output]) -> None:
        """A log has come to `progress`. Its own marks cut the prediction rows at once, and the outcome rows once both
        logs have passed them; marks in a gap, which neither log has visited, cut nothing."""
        if progress < self.next_mark[log] or progress == -math.inf:
            return
        self.next_mark[log] = self._mark_after(progress)
        for rule in self.rules.values():
            mark = math.floor(progress / rule.flush_s) * rule.flush_s
            if mark > before:
                self.matcher.mark(mark, rule.index)
        if log == PREDICTIONS:
            for name, rows in self.rows.items():
                self._send(name, rows.passed(progress), out)

    def _send(self, model: str, chunk: Observations | None, out: list[Output]) -> None:
        if chunk is not None:
            out.append(Output(OBSERVATIONS, model, chunk))

    # -- fates ------------------------------------------------------------------------------------------------------

    def _settle(self, through: float, out: list[Output]) -> None:
        for fate in settle(self.matcher, through):
            if fate.kind <= EXPIRED:
                self._tell(fate, cast(Entry, fate.entry), out)
            elif fate.kind == MARKED:
                name = self.names[fate.model]
                self._send(name, self.rows[name].settled(fate.order), out)
            else:
                known = cast(Known, fate.known)
                record = Record(known.offset, known.timestamp_s, None, known.label)
                out.append(
                    letters.dead_letter(LABELS, self.shard, record, InputFault("label", f"label: {fate.reason}"))
                )

    def _tell_evicted(self, out: list[Output]) -> None:
        for entry in self.matcher.evicted:
            self._tell(Fate(EXPIRED, self.matcher.settled, entry), entry, out)
        self.matcher.evicted.clear()

    def _tell(self, fate: Fate, entry: Entry, out: list[Output]) -> None:
        """An outcome: a row for watch, and an example unless it is that no label came."""
        prediction, order, previous = entry.prediction, fate.order, fate.previous
        model = prediction.model
        rows = self.rows[model]
        self.counts[model].outcomes[fate.kind] += 1
        votes = [said.vote for said in entry.votes if said.order <= order] if entry.votes else []
        delay_s: float | None = None
        if fate.kind != EXPIRED:
            delay_s = fate.known.at - entry.at if fate.known else cast(float, rows.rules.implicit_after_s)
            if rows.rules.examples:
                out.append(Output(EXAMPLES, model, example(fate, entry, rows.rules, votes, delay_s)))
        if previous is not None:
            previous = rows.rules.read(previous)
        worth = fate.known.label.values if fate.known else {}
        row = OutcomeRow(order, delay_s, fate.kind, fate.value, previous, prediction, entry.value, votes, worth)
        if not prediction.is_typical:
            if fate.kind == CORRECTED:
                return
            row = untold(row)
        due = rows.resolved(row)
        if due is not None:
            out.append(Output(OBSERVATIONS, model, due))

    # -- the contract's rest ----------------------------------------------------------------------------------------

    @property
    def held(self) -> frozenset[str]:
        """Inputs to pause: ahead of the other in event time by more than the slack, while the other has more."""
        for ahead, behind in ((PREDICTIONS, LABELS), (LABELS, PREDICTIONS)):
            first, second = self.watermark.sources[ahead], self.watermark.sources[behind]
            if first.progress > second.progress + self.slack_s and not second.at_end:
                return frozenset((ahead,))
        return frozenset()

    def snapshot(self) -> bytes:
        return together({name: payload or b"" for name, payload in self.sections().items()})

    def sections(self, known: Collection[str] = ()) -> dict[str, bytes | None]:
        """The pending predictions of closed segments, and the `rest`."""
        rows = {name: rows.at_rest() for name, rows in self.rows.items()}
        matcher, closed = resting.at_rest(self.matcher, known)
        state = JoinState(
            VERSION,
            self.shard,
            self.shards,
            self.watermark,
            self.ledger,
            matcher,
            rows,
            self.counts,
            self.withdrawn,
        )
        return {REST: codec.pack(state), **closed}

    def restore(self, state: bytes) -> None:
        """Models that the configuration no longer has are let go (see `stream.joining.adopting`), new ones begin."""
        sections = apart(state)
        if REST not in sections:
            raise StateError("not the state of a join")
        versions.check("join", sections[REST], VERSION)
        found: JoinState = codec.unpack(JoinState, sections[REST])
        if (found.shard, found.shards) != (self.shard, self.shards):
            raise StateError(
                f"the state of join is of shard {found.shard} of {found.shards}, where {self.shard} of {self.shards} "
                f"runs: put topics.partitions back to {found.shards}, or {versions.ANEW}"
            )
        counts = {name: found.counts.get(name, ModelCounts()) for name in self.rules}
        matcher, withdrawn = adopting.adopt(found.matcher, sections, list(found.rows), self.rules, found.ledger)
        self._begin(found.watermark, found.ledger, counts)
        self.withdrawn = found.withdrawn + withdrawn
        for name, rows in found.rows.items():
            if name in self.rules:
                self.rows[name].restore(rows)
        resting.restore(self.matcher, matcher)
        adopting.judge_anew(self.matcher, matcher.panels)

    def figures(self) -> dict[str, Any]:
        sources = self.watermark.sources
        progress = {name: source.progress for name, source in sources.items()} | {"through": self.watermark.through()}
        return {
            "ledger": self.ledger.figures(),
            "models": {name: self._model_figures(name) for name in self.names},
            "pending": self.ledger.predictions.pending,
            "waiting": self.ledger.labels.waiting,
            "withdrawn": self.withdrawn,
            "kept": self.matcher.size,
            "early": self.matcher.early,
            "expired_ids_not_kept": self.matcher.ids_not_kept,
            "progress": {name: at if at > -math.inf else None for name, at in progress.items()},
            "idled": self.watermark.idled,
            "rejected": dict(self.ledger.rejected),
        }

    def _model_figures(self, name: str) -> dict[str, Any]:
        counts, rows = self.counts[name], self.rows[name].state
        labelled, implicit, corrected, expired = counts.outcomes
        return {
            "predictions": counts.predictions,
            "pending": counts.predictions - labelled - implicit - expired,
            "joined": labelled + implicit,
            "implicit": implicit,
            "corrected": corrected,
            "expired": expired,
            "delay_median_s": rows.delays.median(),
            "lists_left_out": rows.lists_left_out,
            "names_left_out": rows.names_left_out,
            **({"annotators": self.matcher.panels[name].figures()} if name in self.matcher.panels else {}),
        }


def example(fate: Fate, entry: Entry, rules: Rules, votes: list[Vote], delay_s: float) -> Example:
    """The prediction with the label of this fate."""
    known = fate.known
    if known is None:
        label, source, label_time = cast(Class, rules.implicit_label), IMPLICIT_SOURCE, entry.at + delay_s
    else:
        label, source, label_time = known.label.label, known.label.label_source, known.at
    if fate.label is not None:
        label, source = fate.label, RULES_SOURCE if known is None else source
    made = Example(
        prediction=entry.prediction,
        label=label,
        label_time=label_time,
        completed=fate.order,
        delay_s=delay_s,
        votes=votes,
        revision=fate.revision,
        previous=fate.previous,
        implicit=known is None,
        label_source=source,
    )
    weight = fate.weight if fate.label is not None or known is None else known.label.confidence
    if weight is not None:
        made.weight = weight
    if known is not None and known.label.values:
        made.values = known.label.values
    return made
