"""Time travel (F42): a shard rebuilt as it stood at any point of its past, and the record that made it speak.

Owns the walk from a `Base` to a point; refuses to know who reads topics: past and inputs are handed in. Nothing is
written anywhere. Every whole checkpoint on the way is proven by its chained digest; what is taken of a part of one, or
cut anew where the journal is gone, is proven by comparing what came out with what the topic holds.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, TypeAlias

from stream.contract import ALERTS, Batch, Chunk, Output, Record, Stage
from stream.errors import StateError, TidegateError
from stream.events import Alert
from stream.runtime.journal import JournalRecord, Source, Taken
from stream.runtime.past import Base, Kept, Load, Past, choose
from stream.runtime.shard import Encoded, Shard, encode
from stream.sections import sections_of

BLOCK: Final = 500
"""Records of one input that are read at a time where batches are cut anew."""

Read: TypeAlias = Callable[[str, int, int, int], list[Record]]
"""(input, partition, start, end) to the records of that range."""

Make: TypeAlias = Callable[[Mapping[Source, int]], Shard]
"""A fresh shard that begins at these positions."""

Step: TypeAlias = Callable[[float, int, float], None]
"""How far a walk has come: share of the checkpoints, records taken, clock."""


class AlertAt(NamedTuple):
    """Right after the record whose processing first put out this alert; `written_s` is when the topic got it. Where
    that is not known (0) the rebuild begins at the very beginning."""

    alert_id: str
    written_s: float = 0.0


class ReadAt(NamedTuple):
    """Right after this record."""

    input: str
    partition: int
    offset: int


class ClockAt(NamedTuple):
    """After the last batch that a worker took by this moment (epoch seconds, by its clock)."""

    clock: float


Point: TypeAlias = AlertAt | ReadAt | ClockAt

POSITION = re.compile(r"^([a-z-]+)[/-](\d+)@(\d+)$")


def point_of(text: str) -> Point:
    """A point as people write it: `observations/0@812`, `2026-11-25T08:00:00Z`, or the id of an alert.

    >>> point_of("observations/0@812")
    ReadAt(input='observations', partition=0, offset=812)
    >>> point_of("1970-01-01T00:01:00Z")
    ClockAt(clock=60.0)
    """
    position = POSITION.match(text)
    if position:
        return ReadAt(position[1], int(position[2]), int(position[3]))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return AlertAt(text)
    if moment.tzinfo is None:
        raise TidegateError(f"{text!r} is a moment without its zone; write 2026-12-01T08:00:00Z")
    return ClockAt(moment.timestamp())


class Cause(NamedTuple):
    """What made a shard speak in a checkpoint (0 where there is no journal), at this clock: the records of an input at
    offsets `first` to `last`, which are one unless they only speak together; without an input, silence."""

    sequence: int
    clock: float
    source: Source | None = None
    first: int = 0
    last: int = 0


class Reached(NamedTuple):
    """A shard as it stood at a point: rebuilt from `base`, `proven` checkpoints of it by their digests. `clock` is that
    of the last batch. For an alert: the event as it was sent, and what caused it."""

    shard: Shard
    base: Base
    proven: int
    clock: float
    alert: Encoded | None = None
    cause: Cause | None = None


class Overheard:
    """A stage whose outputs are heard although its shard suppresses them."""

    def __init__(self, stage: Stage, listen: Callable[[Output], None]) -> None:
        self.stage = stage
        self._listen = listen

    def process(self, batch: Batch) -> list[Output]:
        outputs = self.stage.process(batch)
        for output in outputs:
            self._listen(output)
        return outputs

    def snapshot(self) -> bytes:
        return self.stage.snapshot()

    def sections(self, known: Collection[str]) -> dict[str, bytes | None]:
        return sections_of(self.stage, known)

    def restore(self, state: bytes) -> None:
        self.stage.restore(state)

    def figures(self) -> dict[str, Any]:
        return self.stage.figures()


class Walk:
    """One way through a past: a fresh shard taken to where it begins, and then further."""

    def __init__(self, base: Base, make: Make, read: Read, alert_id: str = "", on_step: Step | None = None) -> None:
        self.base = base
        self.shard = make(base.positions)
        if base.whole is not None:
            self.shard.restore(base.whole)
        self.shard.machine = Overheard(self.shard.machine, self._heard)
        self.read = read
        self.proven = 0
        self.clock = 0.0
        self.alert: Encoded | None = None
        self._alert_id = alert_id
        self._on_step = on_step

    def _heard(self, output: Output) -> None:
        wanted = self._alert_id and output.topic == ALERTS and isinstance(output.event, Alert)
        if wanted and self.alert is None and output.event.alert_id == self._alert_id:  # type: ignore[attr-defined]
            (self.alert,) = encode([output])

    def checkpoint(self, record: JournalRecord) -> None:
        """Take a whole journal record and verify its digest. Raises StateError."""
        self.shard.replay(record, self.read)
        self.proven += 1
        self.clock = record.batches[-1].clock if record.batches else self.clock
        self.tell(self.proven / max(len(self.base.journal), 1))

    def take(self, clock: float, chunks: tuple[Chunk, ...]) -> None:
        """Take a batch that is not verified. Raises StateError if it does not start where the state stands."""
        gap = self.shard.accept(Batch(clock, chunks))
        if gap is not None:
            raise StateError(f"{self.shard.name}: the journal has a gap: {gap}")
        self.clock = clock

    def tell(self, share: float) -> None:
        if self._on_step is not None:
            self._on_step(share, sum(self.shard.records.values()), self.clock)

    def reached(self, cause: Cause | None = None) -> Reached:
        assert isinstance(self.shard.machine, Overheard)
        self.shard.machine = self.shard.machine.stage
        return Reached(self.shard, self.base, self.proven, self.clock, self.alert, cause)


def rebuild(
    past: Past,
    point: Point,
    load: Load,
    make: Make,
    read: Read,
    bounds: tuple[Mapping[Source, int], Mapping[Source, int]],
    on_step: Step | None = None,
) -> Reached:
    """The shard as it stood at a point. `bounds` are the first offset and the end of every input.

    Raises StateError where the past is not there any more or does not come out as it did, TidegateError where the point
    does not lie in it.
    """
    first, ends = bounds
    if isinstance(point, ReadAt):
        _demand_read(past, point, first)
    if isinstance(point, ClockAt):
        _demand_begun(past, point)
    base = choose(past, lambda kept: _before(kept, point), load, first)

    def walk() -> Walk:
        return Walk(base, make, read, point.alert_id if isinstance(point, AlertAt) else "", on_step)

    if not base.journaled:
        return _anew(walk(), point, ends)
    return _to_alert(walk, point) if isinstance(point, AlertAt) else _to_point(walk(), point)


def _before(kept: Kept, point: Point) -> bool:
    if isinstance(point, ReadAt):
        return all(at <= point.offset for n, p, at in kept.manifest.positions if (n, p) == point[:2])
    return kept.written_s < point.written_s if isinstance(point, AlertAt) else kept.written_s <= point.clock


def _demand_read(past: Past, point: ReadAt, first: Mapping[Source, int]) -> None:
    source = (point.input, point.partition)
    where = f"{point.input}-{point.partition}@{point.offset}"
    if source not in first:
        there = ", ".join(f"{name}/{partition}" for name, partition in sorted(first))
        raise TidegateError(f"{where}: {past.shard} does not read it; its inputs are {there}")
    stands = dict(((n, p), at) for n, p, at in past.positions())[source]
    if stands <= point.offset:
        raise TidegateError(f"{where} has not been processed yet: {past.shard} stands at {stands}")


def _demand_begun(past: Past, point: ClockAt) -> None:
    if past.journal and past.journal[0].record.sequence == 1:
        record, written_s = past.journal[0]
        begun = min([taken.clock for taken in record.batches], default=written_s)
        if point.clock < begun:
            when = datetime.fromtimestamp(begun, UTC).isoformat(timespec="seconds")
            raise TidegateError(f"{past.shard} had no past then; it began at {when.replace('+00:00', 'Z')}")


# ---- by the journal -------------------------------------------------------------------------------------------------


def _to_point(walk: Walk, point: ReadAt | ClockAt) -> Reached:
    for record in walk.base.journal:
        if not _lies_before(record, point):
            _part(walk, record, point)
            break
        walk.checkpoint(record)
    return walk.reached()


def _lies_before(record: JournalRecord, point: ReadAt | ClockAt) -> bool:
    """The whole checkpoint is to be taken."""
    if isinstance(point, ReadAt):
        return all(at <= point.offset for n, p, at in record.positions if (n, p) == point[:2])
    return all(taken.clock <= point.clock for taken in record.batches)


def _part(walk: Walk, record: JournalRecord, point: ReadAt | ClockAt) -> None:
    """The batches of a checkpoint up to the point."""
    for taken in record.batches:
        if isinstance(point, ClockAt):
            if taken.clock > point.clock:
                return
            walk.take(taken.clock, tuple(_chunk(walk, *chunk) for chunk in taken.chunks))
            continue
        chunks: list[Chunk] = []
        for name, partition, start, end, at_end in taken.chunks:
            last = (name, partition) == point[:2] and point.offset < end
            stop = min(end, point.offset + 1) if last else end
            chunks.append(_chunk(walk, name, partition, start, stop, at_end and stop == end))
            if last:
                break
        walk.take(taken.clock, tuple(chunks))
        if walk.shard.positions[point.input, point.partition] > point.offset:
            return


def _to_alert(begin: Callable[[], Walk], point: AlertAt) -> Reached:
    """Find the checkpoint that put the alert out, which proves it; then go to it again and take its records one by one.

    A stage cuts its rows by number and event time, never by arrival, so one by one they come out the same; if the alert
    should not, its batch is the answer.
    """
    finding = begin()
    records = finding.base.journal
    place = 0
    while finding.alert is None:
        if place == len(records):
            raise TidegateError(
                f"{finding.shard.name} puts out no alert {point.alert_id!r} after {finding.base.name}; "
                "it belongs to another shard, or to a life of the topics before this one"
            )
        finding.checkpoint(records[place])
        place += 1
    for cut in (_one_by_one, _as_taken):
        walk = begin()
        for record in records[: place - 1]:
            walk.checkpoint(record)
        cause = _taken_until_heard(walk, records[place - 1], cut)
        if walk.alert == finding.alert:
            break
    return walk.reached(cause)


Cut: TypeAlias = Callable[[Walk, Taken], Iterator[tuple[Chunk, ...]]]


def _taken_until_heard(walk: Walk, record: JournalRecord, cut: Cut) -> Cause | None:
    for taken in record.batches:
        for chunks in cut(walk, taken):
            walk.take(taken.clock, chunks)
            if walk.alert is not None:
                return _cause(record.sequence, taken.clock, chunks)
    return None


def _cause(sequence: int, clock: float, chunks: tuple[Chunk, ...]) -> Cause:
    """A chunk may go on beyond its last record, over the markers of transactions."""
    full = [chunk for chunk in chunks if chunk.records]
    if not full:
        return Cause(sequence, clock)
    records = full[-1].records
    return Cause(sequence, clock, (full[-1].input, full[-1].partition), records[0].offset, records[-1].offset)


def _one_by_one(walk: Walk, taken: Taken) -> Iterator[tuple[Chunk, ...]]:
    if not taken.chunks:
        yield ()
    for chunk in (_chunk(walk, *chunk) for chunk in taken.chunks):
        at = chunk.start
        for record in chunk.records[:-1]:
            yield (chunk._replace(start=at, end=record.offset + 1, records=[record], at_end=False),)
            at = record.offset + 1
        yield (chunk._replace(start=at, records=chunk.records[-1:]),)


def _as_taken(walk: Walk, taken: Taken) -> Iterator[tuple[Chunk, ...]]:
    yield tuple(_chunk(walk, *chunk) for chunk in taken.chunks)


def _chunk(walk: Walk, name: str, partition: int, start: int, end: int, at_end: bool) -> Chunk:
    return Chunk(name, partition, start, end, walk.read(name, partition, start, end), at_end)


# ---- where the journal is gone --------------------------------------------------------------------------------------


def _anew(walk: Walk, point: Point, ends: Mapping[Source, int]) -> Reached:
    """From a state or from the beginning of the inputs, record by record in the order in which they were written, the
    clock being when that was: what comes out is a function of the logs, but for sources that fell silent beyond
    `engine.idle`, and commands, which act when they are read."""
    begun = walk.base.positions
    total = max(sum(ends[source] - at for source, at in begun.items()), 1)
    logs = [_log(walk.read, source, begun[source], ends[source]) for source in sorted(begun)]
    for i, (source, record) in enumerate(heapq.merge(*logs, key=lambda entry: entry[1].timestamp_s)):
        if isinstance(point, ClockAt) and record.timestamp_s > point.clock:
            break
        start, end = walk.shard.positions[source], record.offset + 1
        walk.take(record.timestamp_s, (Chunk(*source, start, end, [record]),))
        if walk.alert is not None:
            return walk.reached(Cause(0, record.timestamp_s, source, record.offset, record.offset))
        if isinstance(point, ReadAt) and source == point[:2] and end > point.offset:
            break
        if i % BLOCK == 0:
            walk.tell(i / total)
    if isinstance(point, AlertAt):
        raise TidegateError(f"{walk.shard.name} puts out no alert {point.alert_id!r} from {walk.base.name} on")
    return walk.reached()


def _log(read: Read, source: Source, begin: int, end: int) -> Iterator[tuple[Source, Record]]:
    for start in range(begin, end, BLOCK):
        for record in read(*source, start, min(start + BLOCK, end)):
            yield source, record
