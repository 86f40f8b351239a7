"""A shard that has lived over logs in memory: what it took and put out, its journal as it lies in the topic, and what
it was after every batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from stream import codec, config
from stream.contract import COMMANDS, JOURNAL, LABELS, OBSERVATIONS, PREDICTIONS, Batch, Record, Stage
from stream.events import Heartbeat, Label, Prediction
from stream.runtime import past
from stream.runtime.journal import Source, WholeState
from stream.runtime.past import History, Kept, Past
from stream.runtime.shard import Encoded, Shard
from stream.stages.join import Join
from stream.stages.watch import Watch
from tests.toy import chunk

T = 1_700_000_000.0
ROWS = 3_000
SHIFT_AT = 1_500

CONFIG = config.parse(
    "models: {m: {task: binary, reference: {first: 400}, windows: {every: 10m, min_events: 50}, labels: {horizon: 1h}}}"
)
"""One model; the test stream has a row a second."""


class Moment(NamedTuple):
    """What a shard was after a batch."""

    clock: float
    positions: dict[Source, int]
    state: bytes


class Lived:
    """A shard of a stage over logs: batches, a checkpoint after every `every`, a whole state with every `states`."""

    def __init__(
        self, stage: str, logs: Mapping[str, list[Record]], batches: list[Batch], every: int = 3, states: int = 4
    ) -> None:
        self.stage = stage
        self.logs = dict(logs)
        self.journal: list[Record] = []
        self.outputs: list[tuple[float, Encoded]] = []
        self.moments: list[Moment] = []
        self.config = CONFIG.hash()
        self.key: bytes | None = None
        shard = self.make({(name, 0): 0 for name in logs})
        for i, batch in enumerate(batches, 1):
            assert shard.accept(batch) is None
            self.moments.append(Moment(batch.clock, dict(shard.positions), shard.machine.snapshot()))
            if i % every == 0 or i == len(batches):
                self.commit(shard, i % (every * states) == 0, batch.clock)

    def commit(self, shard: Shard, whole: bool, clock: float) -> None:
        point = shard.checkpoint(shard.state_due or whole)
        for write in point.writes(0) if point else []:
            if write.topic == JOURNAL:
                self.journal.append(Record(len(self.journal), clock, write.key, write.value))
            else:
                self.outputs.append((clock, write))

    def machine(self) -> Stage:
        return Join(CONFIG, 0, 1) if self.stage == "join" else Watch(CONFIG, 0, 1)

    def make(self, positions: Mapping[Source, int]) -> Shard:
        return Shard(self.stage, 0, self.machine(), positions, self.config, self.key)

    def read(self, name: str, partition: int, start: int, end: int) -> list[Record]:
        assert partition == 0
        return [record for record in self.logs[name] if start <= record.offset < end]

    def load(self, kept: Kept) -> WholeState:
        wanted = {*kept.places, kept.at}
        entries = [
            (r.key, r.value) for r in self.journal if r.offset in wanted and r.key and isinstance(r.value, bytes)
        ]
        return past.assemble(f"{self.stage}/0", entries, () if self.key is None else (self.key,))

    def past(self) -> Past:
        history = History(0)
        for record in self.journal:
            history.take(record)
        return history.pasts[f"{self.stage}/0"]

    def bounds(self) -> tuple[dict[Source, int], dict[Source, int]]:
        first = {(name, 0): log[0].offset if log else 0 for name, log in self.logs.items()}
        return first, {(name, 0): log[-1].offset + 1 if log else 0 for name, log in self.logs.items()}

    def without(self, kind: str, before: int) -> None:
        """Compaction took the journal records, or the whole states, up to an offset."""
        self.journal = [r for r in self.journal if r.offset >= before or f"/{kind}/".encode() not in (r.key or b"")]

    def replace(self, place: int, old: bytes, new: bytes) -> None:
        """Somebody changed a record of the journal."""
        record = self.journal[place]
        assert isinstance(record.value, bytes) and record.value.count(old) == 1, record.value
        self.journal[place] = record._replace(value=record.value.replace(old, new))

    def journal_place(self, sequence: int) -> int:
        """Where the journal record of a checkpoint stands."""
        return next(i for i, r in enumerate(self.journal) if r.key == f"{self.stage}/0/journal/{sequence}".encode())


def events() -> dict[str, list[Record]]:
    """Predictions whose feature moves at `SHIFT_AT`, and their labels a minute later; an end."""
    draw = np.random.default_rng(7)
    x = draw.normal(size=ROWS)
    x[SHIFT_AT:] += 1.5
    logs: dict[str, list[Record]] = {PREDICTIONS: [], LABELS: []}
    for i in range(ROWS):
        at, key = T + i, f"p{i}".encode()
        said = Prediction(
            prediction_id=f"p{i}", model="m", event_time=at, features={"x": float(x[i])}, prediction=i % 2
        )
        label = Label(prediction_id=f"p{i}", event_time=at + 60, label=i % 2)
        logs[PREDICTIONS].append(Record(i, at + 1, key, codec.encode(said)))
        logs[LABELS].append(Record(i, at + 61, key, codec.encode(label)))
    for log in logs.values():
        log.append(Record(ROWS, T + ROWS + 1e4, None, codec.encode(Heartbeat(T + ROWS + 1e4))))
    return logs


def joined() -> Lived:
    """The join of the stream, in batches of both inputs in turn, with ticks between."""
    logs, batches = events(), []
    for start in range(0, ROWS + 1, 150):
        end = min(start + 150, ROWS + 1)
        clock = T + start + 150
        batches.append(Batch(clock, (chunk(logs[PREDICTIONS], start, end, PREDICTIONS),)))
        batches.append(Batch(clock + 30, (chunk(logs[LABELS], start, end, LABELS),)))
        batches.append(Batch(clock + 40))
    return Lived("join", logs, batches)


def watched(join: Lived) -> Lived:
    """The watch of what the join put out, three records a batch, and a command that nobody obeys."""
    seen = [(clock, out.value) for clock, out in join.outputs if out.topic == OBSERVATIONS]
    log = [Record(i, clock, b"m", value) for i, (clock, value) in enumerate(seen)]
    commands = [Record(0, T + 900, b"m", b"not a command")]
    batches = [Batch(T, (chunk(commands, 0, 1, COMMANDS),))]
    for start in range(0, len(log), 3):
        end = min(start + 3, len(log))
        batches.append(Batch(log[end - 1].timestamp_s + 1, (chunk(log, start, end, OBSERVATIONS),)))
    return Lived("watch", {OBSERVATIONS: log, COMMANDS: commands}, batches, every=2)
