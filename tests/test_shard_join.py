"""The real join in a shard: a new owner after a crash at any point continues as if nothing had been."""

from __future__ import annotations

import random

from stream import codec, config
from stream.contract import JOURNAL, LABELS, PREDICTIONS, Batch, Chunk, Record
from stream.events import Heartbeat, Label, Prediction
from stream.runtime import journal
from stream.runtime.journal import Entry
from stream.runtime.shard import Shard, recovered
from stream.stages.join import Join
from tests.toy import journaled

CONFIG = config.parse("models: {m: {task: binary, labels: {horizon: 300s, early: 60s}}}")
T = 1_700_000_000.0
ROWS = 400


def logs() -> dict[str, list[Record]]:
    """Predictions with labels that come early, late, twice, wrong or never; records nobody can read; an end."""
    random_numbers = random.Random(5)
    events: list[tuple[float, str, bytes | None, bytes]] = []
    for i in range(ROWS):
        at, key = T + i, f"p{i}".encode()
        said = Prediction(prediction_id=f"p{i}", model="m", event_time=at, features={"x": i % 9}, prediction=i % 2)
        events.append((at, PREDICTIONS, key, codec.encode(said)))
        for _ in range(random_numbers.choice((0, 1, 1, 1, 2))):
            known = at + random_numbers.uniform(-40, 400)
            label = Label(prediction_id=f"p{i}", event_time=known, label=random_numbers.randint(0, 1))
            events.append((known, LABELS, key, codec.encode(label)))
        if i % 50 == 7:
            events.append((at, LABELS, key, b"{"))
    for role in (PREDICTIONS, LABELS):
        events.append((T + ROWS + 1e4, role, None, codec.encode(Heartbeat(T + ROWS + 1e4))))
    out: dict[str, list[Record]] = {PREDICTIONS: [], LABELS: []}
    for at, role, hashed, value in sorted(events, key=lambda event: event[0]):
        out[role].append(Record(len(out[role]), at + 1.0, hashed, value))
    return out


LOGS = logs()


def read(name: str, partition: int, start: int, end: int) -> list[Record]:
    return LOGS[name][start:end]


def fresh() -> Shard:
    return Shard("join", 0, Join(CONFIG, 0, 1), {(PREDICTIONS, 0): 0, (LABELS, 0): 0})


def run(crashes: set[int]) -> tuple[list[bytes], object]:
    """Chunks of both logs in turn; at each number in `crashes` the owner is lost, sometimes with work not committed."""
    owner, step = fresh(), 0
    entries: list[Entry] = []
    outputs: list[bytes] = []
    while any(owner.positions[name, 0] < len(log) for name, log in LOGS.items()):
        step += 1
        if step in crashes:
            owner = fresh()
            past = journal.recover("join/0", entries)
            if past is not None:
                recovered(owner, past, read)
        for name, size in ((PREDICTIONS, 23), (LABELS, 31)):
            start = owner.positions[name, 0]
            end = min(start + size, len(LOGS[name]))
            chunk = Chunk(name, 0, start, end, read(name, 0, start, end), end == len(LOGS[name]))
            assert owner.accept(Batch(T + start, (chunk,))) is None
        if step % 2:
            point = owner.checkpoint(owner.state_due or step % 7 == 0)
            assert point is not None
            for write in point.writes(0):
                if write.topic == JOURNAL:
                    entries = journaled(entries, write)
                else:
                    outputs.append(write.value)
    last = owner.checkpoint(whole=True)
    outputs += [write.value for write in last.writes(0) if write.topic != JOURNAL] if last else []
    return outputs, owner.machine.figures()["ledger"]


def test_a_join_whose_owner_is_lost_at_any_point_puts_out_the_same() -> None:
    """F24, F50."""
    straight = run(set())
    assert len(straight[0]) > ROWS / 2
    for crash in range(1, 19):
        assert run({crash}) == straight, crash
    assert run(set(range(2, 40, 3))) == straight
