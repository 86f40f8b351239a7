"""A small stage that is easy to reason about, and an in-memory world to run shards in."""

from __future__ import annotations

from typing import Any

import msgspec

from stream import codec
from stream.contract import DECISIONS, EXAMPLES, JOURNAL, Batch, Chunk, Output, Record
from stream.events import Decision
from stream.runtime import journal
from stream.runtime.journal import Entry
from stream.runtime.shard import Checkpoint, Shard, Write, recovered


class ToyState(msgspec.Struct):
    """Running total of every input, and silence by the batches' clocks."""

    totals: dict[str, int] = {}
    seen: int = 0
    clock: float = 0.0
    silent_s: float = 0.0


class ToyStage:
    """Adds numbers; every third record, and every five seconds of silence, it says where it stands."""

    def __init__(self, name: str = "toy") -> None:
        self.name = name
        self.state = ToyState()

    def process(self, batch: Batch) -> list[Output]:
        out: list[Output] = []
        state = self.state
        for chunk in batch.chunks:
            for record in chunk.records:
                assert isinstance(record.value, bytes)
                state.totals[chunk.input] = state.totals.get(chunk.input, 0) + int(record.value)
                state.seen += 1
                if state.seen % 3 == 0:
                    out.append(self._say("third"))
        state.silent_s = 0.0 if batch.chunks else state.silent_s + max(0.0, batch.clock - state.clock)
        state.clock = batch.clock
        if state.silent_s >= 5.0:
            state.silent_s = 0.0
            out.append(self._say("silence"))
        return out

    def _say(self, why: str) -> Output:
        what = codec.canonical(self.state.totals).decode()
        decision = Decision(decision_id=f"{self.name}-{self.state.seen}", model=what, action=why, at="")
        return Output(DECISIONS, str(self.state.seen % 5), decision)

    def snapshot(self) -> bytes:
        return codec.pack(self.state)

    def restore(self, state: bytes) -> None:
        self.state = codec.unpack(ToyState, state)

    def figures(self) -> dict[str, Any]:
        return {"seen": self.state.seen, "totals": dict(self.state.totals)}


def records(numbers: list[int], first: int = 0) -> list[Record]:
    return [Record(first + i, 1.7e9 + i, b"k", str(n).encode()) for i, n in enumerate(numbers)]


def chunk(log: list[Record], start: int, end: int, name: str = EXAMPLES) -> Chunk:
    return Chunk(name, 0, start, end, [r for r in log if start <= r.offset < end], end >= len(log))


def journaled(entries: list[Entry], write: Write) -> list[Entry]:
    """A journal after one more write: what is deleted is gone."""
    if write.value is None:
        return [entry for entry in entries if entry[0] != write.key]
    return [*entries, (write.key, write.value)]


class World:
    """Logs in memory: what was put in, and what committed checkpoints left behind."""

    def __init__(self, logs: dict[str, list[Record]]) -> None:
        self.logs = logs
        self.journal: list[Entry] = []
        self.outputs: list[tuple[str, bytes, bytes]] = []

    def fresh(self) -> Shard:
        return Shard("toy", 0, ToyStage(), {(name, 0): 0 for name in self.logs}, "c1")

    def read(self, name: str, partition: int, start: int, end: int) -> list[Record]:
        return [r for r in self.logs[name] if start <= r.offset < end]

    def commit(self, checkpoint: Checkpoint | None) -> None:
        for write in checkpoint.writes(0) if checkpoint else []:
            if write.topic == JOURNAL:
                self.journal = journaled(self.journal, write)
            elif write.value is not None:
                self.outputs.append((write.topic, write.key, write.value))

    def owner(self) -> Shard:
        """A new owner of the shard, restored from what is committed."""
        shard = self.fresh()
        past = journal.recover(shard.name, self.journal)
        if past is not None:
            recovered(shard, past, self.read)
        return shard
