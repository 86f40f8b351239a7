"""What the journal topic still holds of a shard's past: its checkpoints and whole states, also those that a restart no
longer needs.

Owns the catalogue of one journal partition and the choice of where to begin (`Base`); refuses to know who reads topics
and what is done with the past (`stream.runtime.travel`). Recovery looks at the newest of each key alone
(`journal.recover`); what compaction has not reached yet goes further back, and that is what is catalogued here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from stream import codec
from stream.contract import JOURNAL, Record
from stream.errors import StateError
from stream.runtime import journal
from stream.runtime.journal import Entry, JournalRecord, Manifest, Source, WholeState


class Written(NamedTuple):
    """A checkpoint, and when its journal record was written (epoch seconds)."""

    record: JournalRecord
    written_s: float


class Kept(NamedTuple):
    """A whole state that the journal names: its manifest at offset `at`, and the offsets of its parts in order. Whether
    they still hold what belongs to it is known when it is loaded: compaction may have taken a part."""

    manifest: Manifest
    written_s: float
    at: int
    places: tuple[int, ...]


@dataclass
class Past:
    """The checkpoints and whole states of one shard, oldest first. Memory grows with what compaction leaves."""

    shard: str
    journal: list[Written] = field(default_factory=list)
    states: list[Kept] = field(default_factory=list)

    def since(self, sequence: int) -> list[JournalRecord] | None:
        """The journal records after a checkpoint up to the newest; None if one of them is missing."""
        later = [written.record for written in self.journal if written.record.sequence > sequence]
        whole = [record.sequence for record in later] == list(range(sequence + 1, sequence + 1 + len(later)))
        return later if whole else None

    def config_of(self) -> str:
        """The configuration of the newest checkpoint."""
        return self.journal[-1].record.config if self.journal else self.states[-1].manifest.config

    def positions(self) -> list[tuple[str, int, int]]:
        """Where the newest checkpoint stands."""
        return self.journal[-1].record.positions if self.journal else self.states[-1].manifest.positions


class History:
    """The pasts of all shards of one journal partition, taken record by record; state parts are not kept."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.pasts: dict[str, Past] = {}
        self._parts: defaultdict[str, dict[str, int]] = defaultdict(dict)

    def take(self, record: Record) -> None:
        """Take the next record. Raises StateError where it cannot be read: our own log must be readable."""
        if record.key is None or not isinstance(record.value, bytes):
            return  # what is deleted here is looked for where it stood; nothing that is still named is deleted
        stage, number, kind, *rest = record.key.decode().split("/")
        shard = f"{stage}/{number}"
        past = self.pasts.setdefault(shard, Past(shard))
        if kind == "state" and rest[1] != "manifest":
            self._parts[shard]["/".join([kind, *rest])] = record.offset
            return
        try:
            if kind == "state":
                manifest: Manifest = codec.unpack(Manifest, record.value)
                places = self._parts[shard]
                found = tuple(places[place] for place in manifest.places if place in places)
                past.states.append(Kept(manifest, record.timestamp_s, record.offset, found))
            else:
                _follow(past, Written(codec.unpack(JournalRecord, record.value), record.timestamp_s))
        except StateError as error:
            raise StateError(f"{JOURNAL}-{self.partition}@{record.offset}: of {shard}: {error}") from error


def _follow(past: Past, written: Written) -> None:
    """Append a checkpoint. Where the numbers go back a new life of the shard began, and the one before is no past of
    it; a state of the same checkpoint was written just before its journal record."""
    sequence = written.record.sequence
    if past.journal and sequence <= past.journal[-1].record.sequence:
        past.journal.clear()
        past.states = [kept for kept in past.states[-1:] if kept.manifest.sequence == sequence]
    past.journal.append(written)


class Base(NamedTuple):
    """Where a rebuild begins: a whole state, or (`whole` is None) a shard without a past at `positions`; and the
    journal records that follow. `journaled` is False where these are gone and the batches must be cut anew."""

    sequence: int
    whole: WholeState | None
    positions: dict[Source, int]
    journal: list[JournalRecord]
    journaled: bool = True

    @property
    def name(self) -> str:
        if self.whole is not None:
            return f"whole state {self.sequence}"
        return "the beginning of its journal" if self.journaled else "the beginning of its inputs"


Load = Callable[[Kept], WholeState]
"""Reads a whole state and verifies it. Raises StateError."""


def assemble(shard: str, entries: Iterable[Entry], keys: Sequence[bytes]) -> WholeState:
    """A whole state from its parts and its manifest. Raises StateError where it is not complete, unspoiled and ours."""
    found = journal.recover(shard, entries, keys)
    if found is None:
        raise StateError(f"{shard}: its whole state has been compacted away")
    return found.whole


def from_state(past: Past, kept: Kept, load: Load) -> Base:
    """Begin at a whole state. Raises StateError if it cannot be had, or if the journal since has holes."""
    sequence = kept.manifest.sequence
    since = past.since(sequence)
    if since is None:
        raise StateError(f"{past.shard}: the journal since checkpoint {sequence} has holes")
    return Base(sequence, load(kept), _positions(kept), since)


def from_state_alone(kept: Kept, load: Load) -> Base:
    """Begin at a whole state, and do without the journal since. Raises StateError if it cannot be had."""
    return Base(kept.manifest.sequence, load(kept), _positions(kept), [], journaled=False)


def _positions(kept: Kept) -> dict[Source, int]:
    return {(name, partition): at for name, partition, at in kept.manifest.positions}


def from_nothing(past: Past) -> Base | None:
    """Begin before the first checkpoint, where the journal still holds it and all that follow."""
    records = past.since(0)
    if not records:
        return None
    positions = {(n, p): at for n, p, at in records[0].positions}
    for taken in reversed(records[0].batches):
        positions |= {(n, p): start for n, p, start, _, _ in reversed(taken.chunks)}
    return Base(0, None, positions, records)


def choose(
    past: Past,
    usable: Callable[[Kept], bool],
    load: Load,
    first: Mapping[Source, int],
) -> Base:
    """The latest beginning that lies before the point asked for (`usable`) and from which everything is still there;
    one with its journal before one without.

    `first` holds the first offset that each input still has. Raises StateError, which says of every beginning why it
    will not do.
    """
    faults: list[str] = []
    latest = sorted(filter(usable, past.states), key=lambda kept: -kept.manifest.sequence)
    begins: list[Callable[[], Base | None]] = [
        *(partial(from_state, past, kept, load) for kept in latest),
        partial(from_nothing, past),
        *(partial(from_state_alone, kept, load) for kept in latest),
        lambda: Base(0, None, dict.fromkeys(first, 0), [], journaled=False),
    ]
    for begin in begins:
        try:
            base = begin()
        except StateError as error:
            faults.append(str(error))
            continue
        missing = "" if base is None else gone(base.positions, first)
        if base is not None and not missing:
            return base
        if base is not None:
            faults.append(f"from {base.name}: {missing}")
    raise StateError(f"{past.shard} cannot be rebuilt there: {'; '.join(dict.fromkeys(faults))}")


def gone(positions: Mapping[Source, int], first: Mapping[Source, int]) -> str:
    """What of the inputs has been deleted though it is needed; empty if nothing is."""
    missing = [
        f"{name}-{partition} is needed from offset {at}, it is there from {first[name, partition]} on"
        for (name, partition), at in sorted(positions.items())
        if first.get((name, partition), 0) > at
    ]
    return ", ".join(missing)
