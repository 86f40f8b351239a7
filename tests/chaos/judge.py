"""What a run with faults must have given, and where it gave something else.

Owns the judgement. Two things say what must have come out:

* **the embedded run** over the predictions and labels of the topics, cut and interleaved otherwise: examples,
  observations, windows, alerts, dead letters, and the ledger;
* **the same stage without a fault** over the batches that the journal says it took, for score and learn, which read
  several logs and act when a record comes: which snapshot score had read when it answered is a question of time, so its
  predictions are an input of the embedded run and are judged here; so are decisions, snapshots and the learners.

Everything is compared byte for byte and in order, as sequences with one writer each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import msgspec
import orjson

from stream import codec
from stream.config import Config
from stream.contract import (
    ALERTS,
    DEAD_LETTERS,
    DECISIONS,
    EXAMPLES,
    LABELS,
    OBSERVATIONS,
    PREDICTIONS,
    SNAPSHOTS,
    WINDOWS,
    Batch,
    Chunk,
    Record,
    Stage,
)
from stream.events import DeadLetter, Observations
from stream.joining.partition import partition_of
from stream.runtime.embedded import Embedded
from stream.runtime.journal import RING, Taken
from stream.runtime.shard import encode
from stream.runtime.stages import Secrets, make_stage
from tests.chaos.records import Log, Records

Sequences: TypeAlias = dict[str, list[bytes]]
"""What came out, by who said what of whom; each in its order."""

JOINED: Final = (EXAMPLES, OBSERVATIONS, WINDOWS, ALERTS, DEAD_LETTERS)
"""What the embedded run gives; of dead letters, those of the join."""

COMPARED: Final = (*JOINED, PREDICTIONS, DECISIONS, SNAPSHOTS)

ROUNDS: Final = 50
"""Pieces that every log is cut into: small enough that no bound of the join decides, large enough to be quick."""

TOLD_KEY: Final = b"t"
"""Predictions that somebody else sent have keys that begin so (`tests.chaos.workload`)."""


class _Named(msgspec.Struct):
    model: str


class _Asked(msgspec.Struct):
    prediction_id: str
    model: str


class _Joined(msgspec.Struct):
    prediction: _Asked


def name_of(role: str, partition: int, partitions: int, value: bytes) -> str:
    """The sequence that an output belongs to."""
    if role == EXAMPLES:  # the shards that send them take turns as chance will have it, each keeps its order
        asked = msgspec.json.decode(value, type=_Joined).prediction
        shard = partition_of(asked.prediction_id.encode(), partitions)
        return f"{role} of {asked.model} from join/{shard}"
    if role == OBSERVATIONS:
        seen = codec.decode(Observations, value)
        return f"{role} of {seen.model}, {seen.rows} from join/{seen.shard}"
    if role == DEAD_LETTERS:
        letter = codec.decode(DeadLetter, value)
        return f"{role} of {letter.topic}-{letter.partition}"
    if role == PREDICTIONS:
        return f"{role} from score/{partition}"
    if role == SNAPSHOTS:  # their keys name the learner too
        return f"{role} of {msgspec.json.decode(value, type=_Named).model} in {partition}"
    return f"{role} of {msgspec.json.decode(value, type=_Named).model}"


# -- what came out -----------------------------------------------------------------------------------------------------


def found(records: Records) -> Sequences:
    """What the workers have put out."""
    out: defaultdict[str, list[bytes]] = defaultdict(list)
    for role in COMPARED:
        for partition, record in records.of(role):
            told = role == PREDICTIONS and (record.key or b"").startswith(TOLD_KEY)
            if isinstance(record.value, bytes) and not told:
                out[name_of(role, partition, records.partitions, record.value)].append(record.value)
    return dict(out)


# -- what must have come out -------------------------------------------------------------------------------------------


def wanted(config: Config, secrets: Secrets, records: Records) -> tuple[Sequences, list[str]]:
    """What comes out where nothing goes wrong; and what in the journals themselves cannot be."""
    out, faults = by_embedded_run(config, records), list[str]()
    for shard in sorted(records.journals):
        stage, _, partition = shard.partition("/")
        faults += unlike_a_journal(records, shard)
        if stage in ("score", "learn"):
            for name, values in by_journal(config, secrets, records, stage, int(partition)).items():
                out.setdefault(name, []).extend(values)
    return out, faults


def by_embedded_run(config: Config, records: Records) -> Sequences:
    """Everything that follows from predictions and labels."""
    run = Embedded(config, records.partitions, keep=JOINED)
    inputs = {log: records.logs[log] for log in sorted(records.logs) if log[0] in (PREDICTIONS, LABELS)}
    for n in range(ROUNDS):
        for (role, partition), log in inputs.items():
            run.feed(role, partition, log[len(log) * n // ROUNDS : len(log) * (n + 1) // ROUNDS], 0.0)
    out: defaultdict[str, list[bytes]] = defaultdict(list)
    for role in JOINED:
        for partition, event in run.logs[role]:
            placed = _placed(event, inputs) if isinstance(event, DeadLetter) else event
            if placed is not None:
                value = codec.encode(placed)
                out[name_of(role, partition, records.partitions, value)].append(value)
    for partition, consumer in enumerate(run.joins):
        out |= ledger(partition, consumer.stage)
    return dict(out)


def _placed(letter: DeadLetter, inputs: Mapping[Log, list[Record]]) -> DeadLetter | None:
    """With the offset on the broker: the embedded run counts records, and offsets have holes. None if it is not the
    join's: learners have learned in another order here, and are judged by the journal."""
    log = inputs.get((letter.topic, letter.partition))
    return None if log is None else msgspec.structs.replace(letter, offset=log[letter.offset].offset)


def by_journal(config: Config, secrets: Secrets, records: Records, stage: str, partition: int) -> Sequences:
    """What a stage that meets no fault puts out over the batches that the shard took, and where its learners end."""
    machine = make_stage(stage, config, partition, records.partitions, secrets)
    logs = _Cutter(records)
    out: defaultdict[str, list[bytes]] = defaultdict(list)
    for committed in records.journals[f"{stage}/{partition}"]:
        for taken in committed.record.batches:
            for o in encode(machine.process(logs.batch(taken))):
                at = partition_of(o.key, records.partitions) if o.partition is None else o.partition
                out[name_of(o.topic, at, records.partitions, o.value)].append(o.value)
    return dict(out) | (learners(partition, machine) if stage == "learn" else {})


def unlike_a_journal(records: Records, shard: str) -> Iterator[str]:
    """Checkpoints are numbered without a gap, each goes on where the one before ended, from the first record of every
    input to the last."""
    committed = [each.record for each in records.journals[shard]]
    if [record.sequence for record in committed] != list(range(1, len(committed) + 1)):
        first, last = committed[0].sequence, committed[-1].sequence
        yield f"{shard}: checkpoints {first} to {last}, {len(committed)} of them (of each shard, {RING} are kept)"
    at: defaultdict[Log, int] = defaultdict(int)
    for record in committed:
        for taken in record.batches:
            for name, partition, start, end, _ in taken.chunks:
                if at[name, partition] != start:
                    yield f"{shard}: {name}-{partition} goes on at {start} after {at[name, partition]}"
                at[name, partition] = end
        for name, partition, position in record.positions:
            if at[name, partition] != position:
                yield f"{shard}: checkpoint {record.sequence} says {name}-{partition}@{position}, its batches do not"
    for (name, partition), position in sorted(at.items()):
        log = records.logs[name, partition]
        if log and log[-1].offset >= position:
            yield f"{shard}: {name}-{partition} is read up to {position}, its last record is {log[-1].offset}"


class _Cutter:
    """Cuts logs into the batches that were taken; they are asked for in order."""

    def __init__(self, records: Records) -> None:
        self._logs = records.logs
        self._next: defaultdict[Log, int] = defaultdict(int)

    def batch(self, taken: Taken) -> Batch:
        chunks = (Chunk(n, p, start, end, self._cut((n, p), end), at_end) for n, p, start, end, at_end in taken.chunks)
        return Batch(taken.clock, tuple(chunks))

    def _cut(self, source: Log, end: int) -> list[Record]:
        log, start = self._logs[source], self._next[source]
        stop = start
        while stop < len(log) and log[stop].offset < end:
            stop += 1
        self._next[source] = stop
        return log[start:stop]


def ledger(partition: int, stage: Stage) -> Sequences:
    """What became of every prediction and label of a join."""
    return {f"ledger of join/{partition}": [_by_value(stage.figures()["ledger"])]}


def learners(partition: int, stage: Any) -> Sequences:
    """The learners of a shard by value."""
    return {f"learners of learn/{partition}": [_by_value(stage.digests())]}


def _by_value(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


# -- the difference ----------------------------------------------------------------------------------------------------


def differences(wanted: Sequences, found: Sequences) -> list[str]:
    """Where the two are not the same; empty if they are."""
    return [
        _difference(name, wanted.get(name, []), found.get(name, []))
        for name in sorted(wanted.keys() | found.keys())
        if wanted.get(name, []) != found.get(name, [])
    ]


def _difference(name: str, wanted: list[bytes], found: list[bytes]) -> str:
    at = next((i for i, (a, b) in enumerate(zip(wanted, found, strict=False)) if a != b), min(len(wanted), len(found)))
    lost, more = _count(wanted, found), _count(found, wanted)
    what = f"{name}: {len(found)}, undisturbed {len(wanted)}; {lost} are missing, {more} should not be there"
    return f"{what}; the first difference is number {at}: {_shown(found, at)}, undisturbed {_shown(wanted, at)}"


def _count(these: Iterable[bytes], others: Iterable[bytes]) -> int:
    """How many of these the others do not have, each as often as it stands there."""
    left: defaultdict[bytes, int] = defaultdict(int)
    for value in others:
        left[value] += 1
    missing = 0
    for value in these:
        missing += left[value] == 0
        left[value] -= left[value] > 0
    return missing


def _shown(values: list[bytes], at: int) -> str:
    return repr(values[at][:200]) if at < len(values) else "nothing"
