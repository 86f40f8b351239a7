"""What a stage is, and what it is handed: the only things that runtimes and stages know of each other.

**Every stage is a deterministic function of its log; everything else carries bytes.** A stage never reads a clock, a
file, the network or a random source; whatever it needs of them comes inside a `Batch`. The same configuration and the
same batches give the same outputs and the same later behaviour, in any process, whatever PYTHONHASHSEED.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol

import msgspec

# Topics by role; the names on a broker come from the configuration (`topics.prefix`).
REQUESTS: Final = "requests"
PREDICTIONS: Final = "predictions"
LABELS: Final = "labels"
EXAMPLES: Final = "examples"
OBSERVATIONS: Final = "observations"
WINDOWS: Final = "windows"
ALERTS: Final = "alerts"
SNAPSHOTS: Final = "snapshots"
DECISIONS: Final = "decisions"
COMMANDS: Final = "commands"
DEAD_LETTERS: Final = "dead-letters"
JOURNAL: Final = "journal"

TOPICS: Final = (
    REQUESTS, PREDICTIONS, LABELS, EXAMPLES, OBSERVATIONS, WINDOWS,
    ALERTS, SNAPSHOTS, DECISIONS, COMMANDS, DEAD_LETTERS, JOURNAL,
)  # fmt: skip

STAGE_INPUTS: Final[Mapping[str, tuple[str, ...]]] = {
    "score": (REQUESTS, SNAPSHOTS),
    "join": (PREDICTIONS, LABELS),
    "watch": (OBSERVATIONS, COMMANDS),
    "learn": (EXAMPLES, ALERTS, COMMANDS),
}
"""Inputs of each stage. Partition p of every input belongs to shard p of the stage, except `snapshots`, which every
score shard reads whole."""


class Unread(msgspec.Struct, frozen=True):
    """In place of a value: records that were refused before anything of them was looked at, and why. Nobody sends it;
    the reader of a log puts it at the last offset of what it stands for."""

    reason: str
    size: int
    """Bytes on the wire."""

    def __len__(self) -> int:
        return self.size


class Record(NamedTuple):
    """One record of a log. `value` is the bytes on the wire, or the decoded event where both ends are one process.

    `timestamp_s` is when the record was written (epoch seconds), a fact of the log: it bounds event times from the
    future without asking a clock.
    """

    offset: int
    timestamp_s: float
    key: bytes | None
    value: bytes | msgspec.Struct | None


class Chunk(NamedTuple):
    """Consecutive records of one partition of one input. `start` is the position before the first record and `end` the
    position after the last; offsets may have holes (compaction, transaction markers), positions never do.

    `at_end` says that, when the chunk was read, the input held nothing after it.
    """

    input: str
    partition: int
    start: int
    end: int
    records: list[Record]
    at_end: bool = False


class Batch(NamedTuple):
    """What a stage processes in one step: chunks in the order in which they were read, and the clock (epoch seconds)
    at which the runtime took them. An empty batch is a tick: only the clock has moved."""

    clock: float
    chunks: tuple[Chunk, ...] = ()


class Output(NamedTuple):
    """One event for a topic. The runtime encodes it and sends it to the partition of `key`, or to `partition`."""

    topic: str
    key: str
    event: msgspec.Struct
    partition: int | None = None


class Stage(Protocol):
    """A deterministic function of its log. `process` is the only mutator."""

    def process(self, batch: Batch) -> list[Output]:
        """Take a batch, return what it causes, in order. Never raises for bad input: that is a dead letter."""

    def snapshot(self) -> bytes:
        """The whole state as bytes; a stage restored from them behaves identically from here on."""

    def restore(self, state: bytes) -> None:
        """Become the stage whose `snapshot` this is. Raises StateError if the bytes are of another kind or version."""

    def figures(self) -> dict[str, Any]:
        """What people and Prometheus may see of the state: plain JSON values, cheap, without side effects."""
