"""What stands in the journal topic: how a shard's past is written down and found again.

Owns the formats, their keys and their verification; refuses to know who carries them. Two kinds of entries, all keyed
so that compaction keeps what recovery needs and nothing grows for ever:

* **journal records**, one a checkpoint: which batches the shard took, and a digest of all it ever put out. Their keys
  go round a ring of `RING` places.
* **whole states**, seldom: the stage's snapshot in parts, then a manifest. They take turns in two slots, so that the
  one before is still there if the newest should not verify.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

import msgspec

from stream import codec
from stream.errors import StateError

RING: Final = 8_192
"""Places of journal records: half an hour of a busy shard at four checkpoints a second. A whole state is due long
before the ring comes round to the records that follow the state before."""

STATE_PART_BYTES: Final = 900_000
"""Parts stay under the megabyte that Kafka takes without being told otherwise."""

FORMAT: Final = 1

Source: TypeAlias = tuple[str, int]
"""An input and its partition."""

Entry: TypeAlias = tuple[bytes, bytes]
"""Key and value in the journal topic."""


class Taken(msgspec.Struct, array_like=True, frozen=True):
    """One batch as the shard took it: its clock, and of each chunk (input, partition, start, end, at_end)."""

    clock: float
    chunks: list[tuple[str, int, int, int, bool]] = []


class JournalRecord(msgspec.Struct, frozen=True):
    """One checkpoint. `digest` chains the outputs of all batches up to here; `positions` are where the inputs stand
    after it; `state_sequence` is the checkpoint of the newest whole state; `config` identifies what decides outputs."""

    shard: str
    sequence: int
    positions: list[tuple[str, int, int]]
    batches: list[Taken]
    digest: str
    state_sequence: int
    config: str = ""
    format: int = FORMAT


class Manifest(msgspec.Struct, frozen=True):
    """Closes a whole state: where it stands, and how to know that it is complete, unspoiled and ours."""

    shard: str
    sequence: int
    positions: list[tuple[str, int, int]]
    digest: str
    parts: int
    size: int
    sha256: str
    generation: int
    config: str = ""
    format: int = FORMAT
    mac: str = ""

    def signed(self, key: bytes | None) -> Manifest:
        """With the MAC of everything else in it: states of learners hold pickles, and a topic is not trusted."""
        if key is None:
            return self
        bare = msgspec.structs.replace(self, mac="")
        return msgspec.structs.replace(self, mac=hmac.new(key, codec.pack(bare), hashlib.sha256).hexdigest())


class WholeState(NamedTuple):
    """A stage's snapshot and what verifies it."""

    manifest: Manifest
    state: bytes


class Recovery(NamedTuple):
    """Where to begin, and what to process again from there."""

    whole: WholeState
    journal: list[JournalRecord]


def journal_entry(record: JournalRecord) -> Entry:
    return f"{record.shard}/journal/{record.sequence % RING}".encode(), codec.pack(record)


def state_entries(whole: WholeState) -> list[Entry]:
    """Parts first, the manifest last."""
    slot = f"{whole.manifest.shard}/state/{whole.manifest.generation % 2}"
    view = memoryview(whole.state)
    parts = [bytes(view[i : i + STATE_PART_BYTES]) for i in range(0, len(view), STATE_PART_BYTES)]
    entries = [(f"{slot}/{i}".encode(), part) for i, part in enumerate(parts)]
    return [*entries, (f"{slot}/manifest".encode(), codec.pack(whole.manifest))]


def manifest_of(
    shard: str, sequence: int, positions: Mapping[Source, int], digest: str, state: bytes, generation: int, config: str
) -> Manifest:
    """The manifest of a state that stands at a checkpoint."""
    return Manifest(
        shard,
        sequence,
        flat(positions),
        digest,
        -(-len(state) // STATE_PART_BYTES),
        len(state),
        hashlib.sha256(state).hexdigest(),
        generation,
        config,
    )


def flat(positions: Mapping[Source, int]) -> list[tuple[str, int, int]]:
    return [(name, partition, position) for (name, partition), position in sorted(positions.items())]


def recover(shard: str, entries: Iterable[Entry], keys: Sequence[bytes] = ()) -> Recovery | None:
    """The newest whole state of a shard that verifies, and the journal since; None if it never wrote one.

    `entries` are those of its journal partition in order, of all shards; compaction may have left out what later ones
    replaced. With `keys`, a state that none of them signed is refused before it is looked at. Raises StateError if none
    verifies, or if the journal since has holes.
    """
    prefix = f"{shard}/".encode()
    newest: dict[str, bytes] = {}
    for place, value in entries:
        if place.startswith(prefix):
            newest[place[len(prefix) :].decode()] = value
    manifests: list[Manifest] = [codec.unpack(Manifest, newest[at]) for at in newest if at.endswith("/manifest")]
    if not manifests:
        if newest:
            raise StateError(f"{shard}: the journal holds records but no whole state; its topic was cut short")
        return None
    faults = []
    for manifest in sorted(manifests, key=lambda m: -m.sequence):
        try:
            return Recovery(_assemble(manifest, newest, keys), _since(manifest, newest))
        except StateError as error:
            faults.append(str(error))
    raise StateError("; ".join(faults))


def _assemble(manifest: Manifest, newest: Mapping[str, bytes], keys: Sequence[bytes]) -> WholeState:
    where = f"{manifest.shard}: whole state {manifest.sequence}"
    if manifest.format != FORMAT:
        raise StateError(f"{where} has format {manifest.format}; this version reads {FORMAT}")
    if not any(hmac.compare_digest(manifest.signed(key).mac, manifest.mac) for key in keys or (None,)):
        raise StateError(f"{where} is not signed with our key; if it has changed, keep the old one beside it")
    slot = f"state/{manifest.generation % 2}"
    parts = [newest.get(f"{slot}/{i}") for i in range(manifest.parts)]
    state = b"".join(part for part in parts if part is not None)
    if None in parts or len(state) != manifest.size:
        raise StateError(f"{where} is incomplete: {len(state)} of {manifest.size} bytes")
    if hashlib.sha256(state).hexdigest() != manifest.sha256:
        raise StateError(f"{where} is damaged: its checksum does not match")
    return WholeState(manifest, state)


def _since(manifest: Manifest, newest: Mapping[str, bytes]) -> list[JournalRecord]:
    records: list[JournalRecord] = [
        codec.unpack(JournalRecord, value) for key, value in newest.items() if key.startswith("journal/")
    ]
    later = sorted((r for r in records if r.sequence > manifest.sequence), key=lambda r: r.sequence)
    if [r.sequence for r in later] != list(range(manifest.sequence + 1, manifest.sequence + 1 + len(later))):
        raise StateError(f"{manifest.shard}: the journal since checkpoint {manifest.sequence} has holes")
    return later
