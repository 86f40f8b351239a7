"""Reading the past of a running system: its journal, whole states and inputs, from any offset.

Reads what is committed, belongs to no group, writes nothing and moves no offset: workers do not notice. What the past
means is `stream.runtime.past` and `stream.runtime.travel`; unlike `restore`, nobody is fenced, so the end of what is
read is where it stood at the call.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from time import monotonic
from types import TracebackType
from typing import Any, Final

from kafka import TopicPartition
from kafka.errors import OffsetOutOfRangeError

from stream import codec
from stream.config import Config
from stream.contract import ALERTS, JOURNAL, SNAPSHOTS, STAGE_INPUTS, WINDOWS, Record
from stream.errors import TidegateError
from stream.events import Alert, Window
from stream.joining.partition import partition_of
from stream.runtime import proof, travel
from stream.runtime.journal import Source, WholeState
from stream.runtime.kafka.clients import RECORD_BYTES_MAX, Clients
from stream.runtime.kafka.tail import Tailed, tail
from stream.runtime.past import History, Kept, Load, Past, assemble
from stream.runtime.proof import Verdict
from stream.runtime.shard import Shard
from stream.runtime.stages import Secrets, make_stage
from stream.runtime.travel import Make, Point, Reached, Step

POLL_MS: Final = 250
POLL_RECORDS: Final = 2_000
STALLED_S: Final = 60.0
"""Without a record for so long there is something wrong: the end asked for has been seen to exist."""

BLOCK: Final = 2_000
"""Offsets that `log` asks for at a time."""


WINDOWS_SHOWN: Final = 5
WINDOW_OFFSETS: Final = 20_000
"""How far back windows before an alert are looked for: slices and versions share the topic."""


class Inputs:
    """Partitions of topics, by role, read from any position. Use as a context manager. What one read fetches beyond
    its end is kept for the next; asking elsewhere seeks there."""

    def __init__(self, config: Config, clients: Clients, sources: Iterable[Source]) -> None:
        self._tps = {(name, p): TopicPartition(config.topics.name(name), p) for name, p in sources}
        self._consumer = clients.tail(
            max_poll_records=POLL_RECORDS,
            fetch_max_wait_ms=POLL_MS,
            fetch_max_bytes=RECORD_BYTES_MAX,
            auto_offset_reset="none",  # to go on elsewhere in silence would be another past
        )
        known = {tp.topic: self._consumer.partitions_for_topic(tp.topic) or () for tp in self._tps.values()}
        missing = [f"{tp.topic}-{tp.partition}" for tp in self._tps.values() if tp.partition not in known[tp.topic]]
        if missing:
            self._consumer.close()
            raise TidegateError(f"not on the broker: {', '.join(missing)}; `tidegate topics check` says what is wrong")
        self._consumer.assign(list(self._tps.values()))
        self._consumer.pause(*self._tps.values())
        for tp, first in self._consumer.beginning_offsets(list(self._tps.values())).items():
            self._consumer.seek(tp, first)
        self._waiting: dict[Source, list[Record]] = {source: [] for source in self._tps}
        self._asked: dict[Source, int] = {}
        self._at: dict[Source, int] = {}

    def __enter__(self) -> Inputs:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._consumer.close()

    def bounds(self) -> tuple[dict[Source, int], dict[Source, int]]:
        """The first offset and the end (last stable offset) of every partition."""
        return self._by_source(self._consumer.beginning_offsets), self._by_source(self._consumer.end_offsets)

    def at(self, timestamp_s: float) -> dict[Source, int]:
        """Of every partition the offset of the first record that was written at this moment or later, or its end."""
        ends = self._by_source(self._consumer.end_offsets)
        wanted = {tp: int(timestamp_s * 1000) for tp in self._tps.values()}
        found: dict[Any, Any] = self._consumer.offsets_for_times(wanted)
        return {source: ends[source] if found.get(tp) is None else found[tp].offset for source, tp in self._tps.items()}

    def read(self, name: str, partition: int, start: int, end: int) -> list[Record]:
        """The records at offsets from `start` to before `end`; those between that are no records are passed over."""
        source = (name, partition)
        if self._asked.get(source) != start:
            self._consumer.seek(self._tps[source], start)
            self._waiting[source], self._at[source] = [], start
        self._asked[source] = end
        if self._at[source] < end:
            self._fetch(source, end)
        waiting = self._waiting[source]
        count = next((i for i, record in enumerate(waiting) if record.offset >= end), len(waiting))
        taken, self._waiting[source] = waiting[:count], waiting[count:]
        return taken

    def log(self, source: Source, start: int, end: int) -> Iterator[Record]:
        """The records of one partition, a block at a time."""
        for at in range(start, end, BLOCK):
            yield from self.read(*source, at, min(at + BLOCK, end))

    def _fetch(self, source: Source, end: int) -> None:
        tp, since = self._tps[source], monotonic()
        self._consumer.resume(tp)
        while self._at[source] < end:
            for records in self._poll(tp, end).values():
                self._waiting[source] += [Record(r.offset, r.timestamp / 1000, r.key, r.value) for r in records]
            position = self._consumer.position(tp)
            if position > self._at[source]:
                self._at[source], since = position, monotonic()
            elif monotonic() - since > STALLED_S:
                raise TidegateError(
                    f"{tp.topic}-{tp.partition}: nothing comes from offset {position}, though it went on to {end}; "
                    "has the topic been made anew?"
                )
        self._consumer.pause(tp)

    def _poll(self, tp: TopicPartition, end: int) -> dict[Any, Any]:
        try:
            return dict(self._consumer.poll(timeout_ms=POLL_MS))
        except OffsetOutOfRangeError as error:
            raise TidegateError(
                f"{tp.topic}-{tp.partition}: what is wanted before offset {end} has been deleted meanwhile"
            ) from error

    def _by_source(self, ask: Any) -> dict[Source, int]:
        found: Mapping[Any, int] = ask(list(self._tps.values()))
        return {source: found[tp] for source, tp in self._tps.items()}


class Rewind:
    """The past of the shards of one partition of a running system, by stage. Use as a context manager. The journal is
    read once, when it is first asked for."""

    def __init__(
        self, config: Config, clients: Clients, secrets: Secrets, partition: int, stages: Iterable[str]
    ) -> None:
        self._config = config
        self._secrets = secrets
        self._partition = partition
        self._sources = {stage: _sources(config, stage, partition) for stage in stages}
        every = dict.fromkeys(source for found in self._sources.values() for source in found)
        self._inputs = Inputs(config, clients, [*every, (JOURNAL, partition)])
        self._history: History | None = None

    def __enter__(self) -> Rewind:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._inputs.close()

    def past(self, stage: str, on_step: Step | None = None) -> Past | None:
        """What the journal held of a shard when it was first asked; None if no worker has written of it. Raises
        StateError where the journal cannot be read."""
        if self._history is None:
            self._history = history(self._inputs, self._partition, on_step)
        return self._history.pasts.get(f"{stage}/{self._partition}")

    def rebuild(self, stage: str, past: Past, point: Point, on_step: Step | None = None) -> Reached:
        """See `travel.rebuild`."""
        first, ends = self._inputs.bounds()
        sources = self._sources[stage]
        bounds = {source: first[source] for source in sources}, {source: ends[source] for source in sources}
        return travel.rebuild(past, point, self._loader(stage), self._maker(stage), self._inputs.read, bounds, on_step)

    def verify(self, stage: str, past: Past, everything: bool = False, on_step: Step | None = None) -> Verdict:
        """See `proof.verify`."""
        first, _ = self._inputs.bounds()
        return proof.verify(
            past, self._loader(stage), self._maker(stage), self._inputs.read, first, everything, on_step
        )

    def record(self, source: Source, offset: int) -> Record | None:
        """One record of an input."""
        return next(iter(self._inputs.read(*source, offset, offset + 1)), None)

    def _loader(self, stage: str) -> Load:
        shard = f"{stage}/{self._partition}"
        return lambda kept: whole_state(self._inputs, shard, self._partition, kept, self._secrets.trusted)

    def _maker(self, stage: str) -> Make:
        config, partitions, key = self._config, self._config.topics.partitions, self._secrets.key

        def make(positions: Mapping[Source, int]) -> Shard:
            machine = make_stage(stage, config, self._partition, partitions, self._secrets)
            return Shard(stage, self._partition, machine, positions, config.hash(), key)

        return make


def _sources(config: Config, stage: str, partition: int) -> list[Source]:
    """The inputs of one shard; every score shard reads the snapshots whole."""
    every = range(config.topics.partitions)
    return [(role, p) for role in STAGE_INPUTS[stage] for p in (every if role == SNAPSHOTS else (partition,))]


def history(inputs: Inputs, partition: int, on_step: Step | None = None) -> History:
    """What one partition of the journal, which must be among the inputs, still holds."""
    made = History(partition)
    source = (JOURNAL, partition)
    first, end = (found[source] for found in inputs.bounds())
    for i, record in enumerate(inputs.log(source, first, end)):
        made.take(record)
        if on_step is not None and i % BLOCK == 0:
            on_step((record.offset - first) / (end - first), i, record.timestamp_s)
    return made


def whole_state(inputs: Inputs, shard: str, partition: int, kept: Kept, keys: Sequence[bytes]) -> WholeState:
    """A whole state out of the journal. Raises StateError where it is not complete, unspoiled and ours."""
    wanted = {*kept.places, kept.at}
    records = inputs.log((JOURNAL, partition), min(wanted), kept.at + 1)
    entries = [(r.key, r.value) for r in records if r.offset in wanted]
    return assemble(shard, [(k, v) for k, v in entries if k is not None and isinstance(v, bytes)], keys)


def sent_alert(config: Config, clients: Clients, alert_id: str) -> tuple[Tailed, Alert]:
    """The first event of an alert as it stands in the topic. Raises TidegateError, with the nearest ids, if there is
    none."""
    ids: dict[str, None] = {}
    for tailed in tail(config, clients, ALERTS):
        if not isinstance(tailed.record.value, bytes):
            continue
        alert = codec.decode(Alert, tailed.record.value)
        if alert.alert_id == alert_id:
            return tailed, alert
        ids[alert.alert_id] = None
    close = difflib.get_close_matches(alert_id, ids, 1) or list(ids)[-1:]
    hint = f"; is it {close[0]}?" if close else ""
    raise TidegateError(
        f"no alert {alert_id!r} in {config.topics.name(ALERTS)}{hint} (`tidegate alerts tail --json` has the ids)"
    )


def windows_before(config: Config, clients: Clients, alert: Alert, written_s: float) -> list[Window]:
    """The last reporting windows of the alert's model and slice that had been sent before it, as they were told then;
    earliest first."""
    source = (WINDOWS, partition_of(alert.model.encode(), config.topics.partitions))
    found: dict[tuple[float, float, str], Window] = {}
    with Inputs(config, clients, [source]) as inputs:
        first, _ = inputs.bounds()
        end = inputs.at(written_s)[source]
        for record in inputs.log(source, max(first[source], end - WINDOW_OFFSETS), end):
            window = codec.decode(Window, record.value)
            if (window.model, window.learner, window.slice) == (alert.model, "champion", alert.slice):
                found[window.start, window.end, window.model_version or ""] = window
    return [found[place] for place in sorted(found)][-WINDOWS_SHOWN:]
