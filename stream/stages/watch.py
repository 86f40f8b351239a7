"""Watch: the observations of all join shards in, windows and alerts out. Owns the merge of the shards; what is done
with the merged rows is `stream.windows.watcher`'s.

A row counts once every shard has sent all rows of both kinds before it; so windows, evidence and alerts are a function
of the shards' rows, whatever the order in which these arrived. Commands act when they are read, as people expect.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec
import numpy as np

from detectors.constraints import Constraint
from stream import codec, versions
from stream.commands import Gate, Rules, Taken
from stream.config import Config, Model
from stream.contract import ALERTS, COMMANDS, DEAD_LETTERS, OBSERVATIONS, WINDOWS, Batch, Chunk, Output, Record
from stream.errors import InputFault, StateError
from stream.events import Alert, DeadLetter, Observations, OutcomeRows, PredictionRows
from stream.joining.watermark import Watermark
from stream.windows.remembered import WatcherState
from stream.windows.timeline import MARK_S, Timeline
from stream.windows.watcher import Said, Watcher

R = TypeVar("R", PredictionRows, OutcomeRows)

VERSION: Final = 3

COMMAND_CHARS_MAX: Final = 2_000
"""What a dead letter keeps of a command that is not obeyed."""


class Merge(msgspec.Struct):
    """Of one model: progress of every (kind, shard), the rows that wait, and the next sequence numbers."""

    watermark: Watermark
    timeline: Timeline
    next: dict[str, int]
    late: int = 0
    repeated: int = 0


class ModelState(msgspec.Struct):
    merge: Merge
    watcher: WatcherState


class WatchState(msgspec.Struct):
    version: int
    models: dict[str, ModelState]
    unknown: int
    bad_commands: int
    taken: Taken = msgspec.field(default_factory=Taken)


class Watch:
    """The stage. `shards` is the number of join shards; `references` are the rows of models whose reference is a file:
    values read as the join reads them, in order of time; `constraints` those that a person has written, by model;
    `rules` what is verified of commands."""

    def __init__(
        self, config: Config, shard: int, shards: int, references: Mapping[str, PredictionRows] | None = None,
        constraints: Mapping[str, Mapping[str, Constraint]] | None = None, rules: Rules | None = None,
    ) -> None:  # fmt: skip
        self.config = config
        self.shard = shard
        self.shards = shards
        self.references = dict(references or {})
        self.constraints = dict(constraints or {})
        self.watchers: dict[str, Watcher] = {}
        self.merges: dict[str, Merge] = {}
        self.unknown = 0
        self.bad_commands = 0
        self.gate = Gate(rules)

    def process(self, batch: Batch) -> list[Output]:
        """Take observations and commands; returns windows and alerts in the order of the rows that cause them."""
        outputs: list[Output] = []
        heard: dict[str, set[str]] = {}
        at_end: bool | None = None
        for chunk in batch.chunks:
            if chunk.input == OBSERVATIONS:
                at_end = chunk.at_end
                for record in chunk.records:
                    self._observe(codec.decode(Observations, record.value), heard, outputs)
            elif chunk.input == COMMANDS:
                for record in chunk.records:
                    self._command(chunk, record, outputs)
        for model, merge in self.merges.items():
            self._tick(merge, batch.clock, heard.get(model, set()), at_end)
            self._advance(model, outputs)
        return outputs

    def _tick(self, merge: Merge, clock: float, heard: set[str], at_end: bool | None) -> None:
        """Account for silence. A shard that was not heard goes on being silent while the log is at its end."""
        if at_end is not None:
            for name, source in merge.watermark.sources.items():
                if name not in heard:
                    source.at_end = at_end
        merge.watermark.tick(clock, {name: bool(at_end) for name in merge.watermark.sources if name in heard})

    def _observe(self, seen: Observations, heard: dict[str, set[str]], outputs: list[Output]) -> None:
        model = self.config.models.get(seen.model)
        if model is None or not 0 <= seen.shard < self.shards:
            self.unknown += 1
            return
        merge = self._merge(seen.model, model)
        name = f"{seen.rows}/{seen.shard}"
        heard.setdefault(seen.model, set()).add(name)
        if seen.sequence < merge.next.get(name, 0):
            merge.repeated += 1
            return
        merge.next[name] = seen.sequence + 1
        floor = merge.watermark.sources[name].progress
        if seen.predictions is not None and seen.rows == "predictions":
            merge.timeline.add_predictions(seen.shard, _from(seen.predictions, floor, merge))
        if seen.outcomes is not None and seen.rows == "outcomes":
            merge.timeline.add_outcomes(seen.shard, _from(seen.outcomes, floor, merge))
        merge.watermark.advance(name, seen.through)
        self._advance(seen.model, outputs)

    def _merge(self, name: str, model: Model) -> Merge:
        if name not in self.merges:
            sources = [f"{kind}/{shard}" for kind in ("predictions", "outcomes") for shard in range(self.shards)]
            watermark = Watermark.of(sources, float(self.config.engine.idle))
            self.merges[name] = Merge(watermark, Timeline.of(self.shards, mark_of(model), enough_for(model)), {})
            self.watchers[name] = self._watcher(name, model)
        return self.merges[name]

    def _watcher(self, name: str, model: Model) -> Watcher:
        return Watcher(name, model, mark_of(model), self.references.get(name), self.constraints.get(name))

    def _advance(self, model: str, outputs: list[Output]) -> None:
        merge = self.merges[model]
        if not merge.timeline.pending:
            return
        for slab in merge.timeline.slabs(merge.watermark.through()):
            _send(model, self.watchers[model].slab(slab), outputs)

    def _command(self, chunk: Chunk, record: Record, outputs: list[Output]) -> None:
        try:
            command = self.gate.admit(record)
        except InputFault as fault:  # people write commands, so a bad one is their fault and not our log's
            self.bad_commands += 1
            outputs.append(Output(DEAD_LETTERS, "commands", _letter(chunk, record, fault)))
            return
        watcher = self.watchers.get(command.model)
        if watcher is not None:
            _send(command.model, watcher.command(command), outputs)

    def snapshot(self) -> bytes:
        models = {name: ModelState(merge, self.watchers[name].snapshot()) for name, merge in self.merges.items()}
        return codec.pack(WatchState(VERSION, models, self.unknown, self.bad_commands, self.gate.taken))

    def restore(self, state: bytes) -> None:
        """Models that the configuration no longer has are dropped, new ones begin with their first rows. Raises
        StateError for another version, for other shards, and for what a model cannot go on from."""
        versions.check("watch", state, VERSION)
        saved: WatchState = codec.unpack(WatchState, state)
        self.watchers, self.merges = {}, {}
        self.unknown, self.bad_commands, self.gate.taken = saved.unknown, saved.bad_commands, saved.taken
        for name, each in saved.models.items():
            model, shards = self.config.models.get(name), len(each.merge.timeline.predictions)
            if shards != self.shards:
                raise StateError(
                    f"the state of watch is of {shards} shards of the join, where there are {self.shards}: put "
                    f"topics.partitions back to {shards}, or {versions.ANEW}"
                )
            if model is None:
                continue
            each.merge.timeline.recut(mark_of(model), enough_for(model))
            self.merges[name] = each.merge
            self.watchers[name] = self._watcher(name, model)
            try:
                self.watchers[name].restore(each.watcher)
            except StateError as error:
                raise StateError(f"the state of watch, model {name!r}: {error}") from error

    def figures(self) -> dict[str, Any]:
        """By model: the watcher's figures and the merge's progress."""
        progress = {name: _finite(merge.watermark.through()) for name, merge in self.merges.items()}
        return {
            "models": {name: watcher.figures() for name, watcher in self.watchers.items()},
            "progress": progress,
            "waiting": {name: merge.timeline.pending for name, merge in self.merges.items()},
            "late_rows": sum(merge.late for merge in self.merges.values()),
            "repeated": sum(merge.repeated for merge in self.merges.values()),
            "idled": sum(merge.watermark.idled for merge in self.merges.values()),
            "unknown": self.unknown,
            "bad_commands": self.bad_commands,
        }


def mark_of(model: Model) -> float:
    """The longest mark that divides the reporting windows and is no longer than MARK_S."""
    every = model.windows.every
    return MARK_S if not every else float(every) / math.ceil(float(every) / MARK_S)


def enough_for(model: Model) -> int:
    """Rows from which on a slab ends at a mark: as many as a window needs."""
    return max(model.windows.events or model.windows.min_events, 1)


def _from(rows: R, floor: float, merge: Merge) -> R:
    """The rows, none before the source's progress: what a silent shard sends late counts at the progress it finds."""
    if not len(rows.order) or rows.order[0] >= floor:
        return rows
    merge.late += int((rows.order < floor).sum())
    return msgspec.structs.replace(rows, order=np.maximum(rows.order, floor))


def _send(model: str, said: Said, outputs: list[Output]) -> None:
    for event in said:
        outputs.append(Output(ALERTS if isinstance(event, Alert) else WINDOWS, model, event))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _letter(chunk: Chunk, record: Record, fault: InputFault) -> DeadLetter:
    value = record.value
    text = value.decode("utf-8", "replace")[:COMMAND_CHARS_MAX] if isinstance(value, bytes) else None
    return DeadLetter(
        topic=chunk.input, partition=chunk.partition, offset=record.offset, code=fault.code, reason=fault.reason,
        timestamp_s=record.timestamp_s, value=text,
    )  # fmt: skip
