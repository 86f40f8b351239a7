"""A shard: one partition of one stage, with the position in every input at which its state stands.

Owns positions, the outbox, the journal and the chained digest; refuses to know how bytes travel, and does no I/O. The
protocol, which every runtime follows:

1. `accept` takes a batch only if each of its chunks starts where the state stands. Otherwise it says which does not
   (`Gap`) and nothing has happened: the runtime seeks there and reads again. Nothing is dropped, no acks exist.
2. `checkpoint` hands over what happened since the last one: the outputs, and one journal record with the boundaries of
   the batches, their clocks and a digest of the outputs. The runtime writes all of it at once or not at all.
3. Seldom the checkpoint carries the whole state too, or rather what has changed since the last one; it then stands
   exactly at that checkpoint.
4. A new owner restores the newest whole state and replays the journaled batches since, with their outputs suppressed.
   Stages are deterministic, so the digest must come out the same; if it does not, processing must not go on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple, TypeAlias

import xxhash

from stream import codec
from stream.contract import JOURNAL, Batch, Chunk, Output, Record, Stage
from stream.errors import StateError
from stream.runtime import journal
from stream.runtime.journal import JournalRecord, Manifest, Recovery, Source, StateUpdate, Taken, WholeState
from stream.sections import sections_of

TICKS_HELD_MAX: Final = 60
"""Batches without records or outputs that wait for one with content before they are journaled. A crash loses them,
and with them nothing that anybody has seen; a silent shard commits once a minute."""

BATCHES_PER_STATE_MAX: Final = 50_000
"""Batches journaled since the last whole state after which a new one is due: it bounds the replay."""


class Gap(NamedTuple):
    """A chunk that does not start where the state stands."""

    input: str
    partition: int
    position: int
    start: int


class Encoded(NamedTuple):
    """An output as it travels. `topic` is a role; without `partition` the key decides."""

    topic: str
    key: bytes
    value: bytes
    partition: int | None = None


class Deleted(NamedTuple):
    """A place in the journal whose content is no longer needed."""

    topic: str
    key: bytes
    partition: int
    value: None = None


Write: TypeAlias = Encoded | Deleted


class Checkpoint(NamedTuple):
    """What a runtime writes in one transaction."""

    outputs: list[Encoded]
    record: JournalRecord
    whole: StateUpdate | None = None

    def writes(self, partition: int) -> list[Write]:
        """Everything: outputs, the parts and manifest of a whole state, the journal record last."""
        entries = [] if self.whole is None else journal.state_entries(self.whole)
        entries.append(journal.journal_entry(self.record))
        dropped = [] if self.whole is None else journal.dropped_keys(self.whole)
        return [
            *self.outputs,
            *(Deleted(JOURNAL, key, partition) for key in dropped),
            *(Encoded(JOURNAL, key, value, partition) for key, value in entries),
        ]


class Shard:
    """One partition of one stage.

    `positions` is where a shard without a past begins in each input. `config` identifies the configuration that decides
    outputs; it stands in the journal, so that a changed one can be named as the cause when a replay differs. `key`
    signs whole states.
    """

    def __init__(
        self,
        stage: str,
        partition: int,
        machine: Stage,
        positions: Mapping[Source, int],
        config: str = "",
        key: bytes | None = None,
    ) -> None:
        self.stage = stage
        self.partition = partition
        self.machine = machine
        self.positions = dict(positions)
        self.config = config
        self._key = key
        self.sequence = 0
        self.state_sequence = 0
        self.at_end: dict[Source, bool] = {}
        self.written_s: dict[str, float] = {}
        self.records: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.outbox_bytes = 0
        self._manifest: Manifest | None = None
        self._places: frozenset[str] = frozenset()
        self._outbox: list[Encoded] = []
        self._batches: list[Taken] = []
        self._batches_since_state = 0
        self._moved = False
        self._stale = True
        self._digest = codec.digest()
        self._hasher = xxhash.xxh3_128()

    @property
    def name(self) -> str:
        return f"{self.stage}/{self.partition}"

    @property
    def stale(self) -> bool:
        """Something has come in or gone out since the last whole state."""
        return self._stale

    @property
    def state_due(self) -> bool:
        """A whole state must come with the next checkpoint: there is none yet, or the journal since is long."""
        far = self.sequence - self.state_sequence >= journal.RING // 2
        return self.state_sequence == 0 or far or self._batches_since_state >= BATCHES_PER_STATE_MAX

    def gap(self, batch: Batch) -> Gap | None:
        """The first chunk that does not start where the state stands, if any."""
        ahead: dict[Source, int] = {}
        for chunk in batch.chunks:
            source = (chunk.input, chunk.partition)
            position = ahead.get(source, self.positions[source])
            if chunk.start != position:
                return Gap(chunk.input, chunk.partition, position, chunk.start)
            ahead[source] = chunk.end
        return None

    def accept(self, batch: Batch) -> Gap | None:
        """Process a batch if it starts where the state stands; otherwise say where it does not, and do nothing."""
        gap = self.gap(batch)
        if gap is None:
            self._take(batch, keep=True)
        return gap

    def trimmed(self, chunk: Chunk) -> Chunk | None:
        """What of a chunk the shard has not seen; None if it has seen all of it.

        Two shards may read one input (commands) and stand at different positions; the reader serves the one behind.
        A chunk that starts beyond the position is handed back as it is: `accept` will call it a gap.
        """
        position = self.positions[chunk.input, chunk.partition]
        if chunk.start >= position:
            return chunk
        if chunk.end <= position:
            return None
        unseen = [record for record in chunk.records if record.offset >= position]
        return chunk._replace(start=position, records=unseen)

    def hurry(self) -> None:
        """Let the next checkpoint be worth a transaction, whatever is in it."""
        self._moved = True

    def claim(self) -> list[Write]:
        """An entry of the journal without content: whoever can write it may write for the shard."""
        return [Deleted(JOURNAL, journal.owner_key(self.name), self.partition)]

    def checkpoint(self, whole: bool = False) -> Checkpoint | None:
        """What happened since the last checkpoint, handed over once; None if that is nothing worth a transaction.

        `whole` asks for the whole state in it. What the caller cannot write is lost to this object: it must then be
        given up and restored.
        """
        nothing = not self._moved and not self._outbox and len(self._batches) < TICKS_HELD_MAX
        if nothing and not (whole and (self._batches or self.sequence > self.state_sequence or not self.sequence)):
            return None
        self.sequence += 1
        self._digest = self._chain()
        state = self._whole_state() if whole else None
        record = JournalRecord(
            self.name,
            self.sequence,
            journal.flat(self.positions),
            self._batches,
            self._digest,
            self.state_sequence,
            self.config,
        )
        outputs, self._outbox, self._batches, self._moved, self.outbox_bytes = self._outbox, [], [], False, 0
        return Checkpoint(outputs, record, state)

    def restore(self, whole: WholeState, places: frozenset[str] = frozenset()) -> None:
        """Become the shard that wrote this state; `places` of the journal hold parts of states. Raises StateError if it
        is another's."""
        manifest = whole.manifest
        if manifest.shard != self.name:
            raise StateError(f"{self.name} was handed the state of {manifest.shard}")
        self.machine.restore(whole.state)
        # An input that is new since the state was written keeps the position it was given at the start.
        self.positions.update({(name, partition): position for name, partition, position in manifest.positions})
        self.sequence = self.state_sequence = manifest.sequence
        self._manifest, self._places = manifest, places
        self._batches_since_state = 0
        self._stale = False
        self._digest = manifest.digest
        self._hasher = xxhash.xxh3_128(bytes.fromhex(self._digest))

    def replay(self, record: JournalRecord, read: Callable[[str, int, int, int], list[Record]]) -> None:
        """Process the batches of the next journal record again, outputs suppressed, and verify what came out.

        `read(input, partition, start, end)` gives the records of a chunk. Raises StateError if the outcome differs.
        """
        if record.sequence != self.sequence + 1:
            raise StateError(f"{self.name}: journal record {record.sequence} cannot follow {self.sequence}")
        for taken in record.batches:
            batch = Batch(
                taken.clock, tuple(Chunk(n, p, s, e, read(n, p, s, e), at) for n, p, s, e, at in taken.chunks)
            )
            gap = self.gap(batch)
            if gap is not None:
                raise StateError(f"{self.name}: journal record {record.sequence} has a gap: {gap}")
            self._take(batch, keep=False)
        self._batches, self._moved = [], False
        self._digest = self._chain()
        if self._digest != record.digest or journal.flat(self.positions) != record.positions:
            raise StateError(self._differs(record))
        self.sequence = record.sequence

    def _take(self, batch: Batch, keep: bool) -> None:
        outputs = self.machine.process(batch)
        for chunk in batch.chunks:
            source = (chunk.input, chunk.partition)
            self._moved = self._moved or chunk.end > self.positions[source]
            self.positions[source] = chunk.end
            self.at_end[source] = chunk.at_end
            self.records[chunk.input] += len(chunk.records)
            if chunk.records:
                self.written_s[chunk.input] = chunk.records[-1].timestamp_s
        self._batches.append(
            Taken(batch.clock, [(c.input, c.partition, c.start, c.end, c.at_end) for c in batch.chunks])
        )
        self._batches_since_state += 1
        self._stale = self._stale or self._moved or bool(outputs)
        for encoded in encode(outputs):
            self._hasher.update(b"%s\0%d\0%d\0" % (encoded.topic.encode(), len(encoded.key), len(encoded.value)))
            self._hasher.update(encoded.key + encoded.value)
            if keep:
                self._outbox.append(encoded)
                self.outbox_bytes += len(encoded.value)
                self.sent[encoded.topic] += 1

    def _chain(self) -> str:
        """The digest of everything put out so far; the next one builds on it."""
        digest = self._hasher.hexdigest()
        self._hasher = xxhash.xxh3_128(bytes.fromhex(digest))
        return digest

    def _whole_state(self) -> StateUpdate:
        before = self._manifest
        known = () if before is None else {section.name for section in before.sections}
        update = journal.state_update(
            self.name,
            self.sequence,
            self.positions,
            self._digest,
            sections_of(self.machine, known),
            self.config,
            self._key,
            before,
            self._places,
        )
        self._places = (self._places | update.parts.keys()).difference(update.dropped)
        self._manifest = update.manifest
        self._batches_since_state = 0
        self._stale = False
        self.state_sequence = self.sequence
        return update

    def _differs(self, record: JournalRecord) -> str:
        why = f"{self.name}: the batches of journal record {record.sequence} did not come out as they did before"
        if record.config != self.config:
            why += "; the configuration has changed since: stop the workers in order, then change it"
        return why


def encode(outputs: Iterable[Output]) -> list[Encoded]:
    """Outputs as bytes."""
    return [Encoded(o.topic, o.key.encode(), codec.encode(o.event), o.partition) for o in outputs]


def recovered(shard: Shard, recovery: Recovery, read: Callable[[str, int, int, int], list[Record]]) -> int:
    """Bring a fresh shard to where its predecessor's last checkpoint stands; the number of records replayed.

    Raises StateError if the past does not come out as it did."""
    before = sum(shard.records.values())
    shard.restore(recovery.whole, recovery.places)
    for record in recovery.journal:
        shard.replay(record, read)
    return sum(shard.records.values()) - before
