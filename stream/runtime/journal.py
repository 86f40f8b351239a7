"""What stands in the journal topic: how a shard's past is written down and found again.

Owns the formats, their keys and their verification; refuses to know who carries them. Two kinds of entries, all keyed
so that compaction keeps what recovery needs and nothing grows for ever:

* **journal records**, one a checkpoint: which batches the shard took, and a digest of all it ever put out. Their keys
  go round a ring of `RING` places.
* **whole states**, seldom: the sections of the stage's state that have changed since the one before, in parts, then a
  manifest, which names all sections and where each stands. Manifests take turns in two slots and so do the versions of
  every section: the state before is still there if the newest should not verify. What neither of the two names is
  deleted.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias, TypeVar

import msgspec

from stream import codec
from stream.errors import StateError
from stream.sections import together

RING: Final = 8_192
"""Places of journal records: half an hour of a busy shard at four checkpoints a second. A whole state is due long
before the ring comes round to the records that follow the state before."""

STATE_PART_BYTES: Final = 900_000
"""Parts stay under the megabyte that Kafka takes without being told otherwise."""

MANIFESTS: Final = (b"0/manifest", b"1/manifest")
"""Where the two manifests of a shard stand, below its states."""

FORMAT: Final = 2

REMEDY: Final = (
    "nothing else is left to go on from: put this partition of the journal topic back from a copy; or begin anew, as "
    "LIMITS.md says of records that were deleted"
)

Source: TypeAlias = tuple[str, int]
"""An input and its partition."""

Entry: TypeAlias = tuple[bytes, bytes]
"""Key and value in the journal topic."""

S = TypeVar("S", bound=msgspec.Struct)


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


class Section(msgspec.Struct, array_like=True, frozen=True):
    """Where one section of a state stands: its version lies in `slot` 0 or 1, in parts of `STATE_PART_BYTES`."""

    name: str
    slot: int
    size: int
    sha256: bytes

    @property
    def places(self) -> list[str]:
        parts = -(-self.size // STATE_PART_BYTES)
        return [f"state/{self.name}/{self.slot}/{i}" for i in range(parts)]


class Manifest(msgspec.Struct, frozen=True):
    """Closes a whole state: where it stands, and how to know that it is complete, unspoiled and ours."""

    shard: str
    sequence: int
    positions: list[tuple[str, int, int]]
    digest: str
    sections: list[Section]
    generation: int
    config: str = ""
    format: int = FORMAT
    mac: str = ""

    @property
    def size(self) -> int:
        """Bytes of the whole state."""
        return sum(section.size for section in self.sections)

    @property
    def places(self) -> list[str]:
        """Of all its parts, in the order of the state."""
        return [place for section in self.sections for place in section.places]

    def signed(self, key: bytes | None) -> Manifest:
        """With the MAC of everything else in it: states of learners hold pickles, and a topic is not trusted."""
        if key is None:
            return self
        bare = msgspec.structs.replace(self, mac="")
        return msgspec.structs.replace(self, mac=hmac.new(key, codec.pack(bare), hashlib.sha256).hexdigest())


class WholeState(NamedTuple):
    """A stage's state and what verifies it."""

    manifest: Manifest
    state: bytes


class StateUpdate(NamedTuple):
    """What makes the whole state of a manifest out of the one before: parts by place, and places that are no longer
    needed."""

    manifest: Manifest
    parts: dict[str, bytes]
    dropped: list[str]


class Recovery(NamedTuple):
    """Where to begin, and what to process again from there. `places`: where parts of states of the shard stand in the
    journal, needed or not. `faults`: of newer states, which did not verify."""

    whole: WholeState
    journal: list[JournalRecord]
    places: frozenset[str] = frozenset()
    faults: tuple[str, ...] = ()


def journal_entry(record: JournalRecord) -> Entry:
    return f"{record.shard}/journal/{record.sequence % RING}".encode(), codec.pack(record)


def state_update(
    shard: str,
    sequence: int,
    positions: Mapping[Source, int],
    digest: str,
    sections: Mapping[str, bytes | None],
    config: str,
    key: bytes | None,
    before: Manifest | None,
    places: Collection[str],
) -> StateUpdate:
    """The whole state of a shard, as a change of the one `before`: a section that is None or the same as there is left
    where it stands. `places` are those that hold parts in the journal now."""
    kept = {} if before is None else {section.name: section for section in before.sections}
    table: list[Section] = []
    parts: dict[str, bytes] = {}
    for name, payload in sections.items():
        last = kept.get(name)
        if payload is None:
            table.append(kept[name])
            continue
        sha256 = hashlib.sha256(payload).digest()
        if last is not None and last.sha256 == sha256:
            table.append(last)
            continue
        section = Section(name, 0 if last is None else 1 - last.slot, len(payload), sha256)
        view = memoryview(payload)
        cuts = range(0, len(view), STATE_PART_BYTES)
        parts.update(zip(section.places, (bytes(view[i : i + STATE_PART_BYTES]) for i in cuts), strict=True))
        table.append(section)
    generation = 1 if before is None else before.generation + 1
    manifest = Manifest(shard, sequence, flat(positions), digest, table, generation, config).signed(key)
    needed = {*manifest.places, *(() if before is None else before.places)}
    return StateUpdate(manifest, parts, sorted(set(places) - needed))


def state_entries(update: StateUpdate) -> list[Entry]:
    """Parts first, the manifest last."""
    manifest = update.manifest
    entries = [(_key(manifest, place), part) for place, part in update.parts.items()]
    return [*entries, (_key(manifest, f"state/{manifest.generation % 2}/manifest"), codec.pack(manifest))]


def owner_key(shard: str) -> bytes:
    """Of the entry by which a worker finds out whether it may write for the shard; it never has content."""
    return f"{shard}/owner".encode()


def dropped_keys(update: StateUpdate) -> list[bytes]:
    """What is to be deleted with an update."""
    return [_key(update.manifest, place) for place in update.dropped]


def _key(manifest: Manifest, place: str) -> bytes:
    return f"{manifest.shard}/{place}".encode()


def flat(positions: Mapping[Source, int]) -> list[tuple[str, int, int]]:
    return [(name, partition, position) for (name, partition), position in sorted(positions.items())]


class Manifests:
    """Where the newest manifests of shards stand in the log. A recovery needs no journal record from before both."""

    def __init__(self) -> None:
        self._newest: dict[bytes, dict[bytes, int]] = {}

    def add(self, offset: int, key: bytes) -> None:
        """An entry of the log; they may come in any order."""
        shard, kind, place = _place(key)
        if kind == b"state" and place in MANIFESTS:
            of_shard = self._newest.setdefault(shard, {})
            of_shard[place] = max(offset, of_shard.get(place, 0))

    def has_both(self, shard: str) -> bool:
        return len(self._newest.get(shard.encode(), ())) == len(MANIFESTS)

    def older(self) -> dict[bytes, int]:
        """Of each shard the offset of the older of its two; of the one, where there is only one."""
        return {shard: min(offsets.values()) for shard, offsets in self._newest.items()}


class Entries:
    """What of a journal partition a recovery may need, added in the order of the log: of each key the newest, and of
    each shard no journal record from before `since` (`Manifests.older`).

    All that stands in the log of four shards that have gone round their rings, held and decoded, took 41 MB at every
    restore.
    """

    def __init__(self, since: Mapping[bytes, int]) -> None:
        self._since = since
        self._newest: dict[bytes, bytes] = {}

    def add(self, offset: int, key: bytes, value: bytes | None) -> None:
        """The next entry; without a value it deletes what has the key."""
        self._newest.pop(key, None)  # the order of the newest counts
        shard, kind, _ = _place(key)
        if value is not None and not (kind == b"journal" and offset < self._since.get(shard, 0)):
            self._newest[key] = value

    def items(self) -> list[Entry]:
        return list(self._newest.items())


def _place(key: bytes) -> tuple[bytes, bytes, bytes]:
    """Of an entry: its shard, `journal` or `state`, and where below that it stands."""
    stage, partition, kind, place = [*key.split(b"/", 3), b"", b"", b""][:4]
    return stage + b"/" + partition, kind, place


def recover(shard: str, entries: Iterable[Entry], keys: Sequence[bytes] = ()) -> Recovery | None:
    """The newest whole state of a shard that verifies, and the journal since; None if it never wrote one.

    `entries` are those of its journal partition in order, of all shards; compaction may have left out what later ones
    replaced. With `keys`, a state that none of them signed is refused before it is looked at. Raises StateError if none
    verifies, as where a section is damaged that both share, or if the journal since has holes.
    """
    prefix = f"{shard}/".encode()
    newest: dict[str, bytes] = {}
    for place, value in entries:
        if place.startswith(prefix):
            newest[place[len(prefix) :].decode()] = value
    if not newest:
        return None
    manifests: list[Manifest] = []
    faults: list[str] = []
    for at in filter(lambda place: place.endswith("/manifest"), newest):
        try:
            manifests.append(_read(Manifest, shard, at, newest))
        except StateError as error:
            faults.append(str(error))
    places = frozenset(at for at in newest if at.startswith("state/") and not at.endswith("/manifest"))
    for manifest in sorted(manifests, key=lambda m: -m.sequence):
        try:
            return Recovery(_assemble(manifest, newest, keys), _since(manifest, newest), places, tuple(faults))
        except StateError as error:
            faults.append(str(error))
    if not faults:
        faults.append(f"{shard}: the journal holds records but no whole state; its topic was cut short")
    raise StateError("; ".join([*faults, REMEDY]))


def _read(kind: type[S], shard: str, at: str, newest: Mapping[str, bytes]) -> S:
    try:
        return codec.unpack(kind, newest[at])
    except StateError as error:
        raise StateError(f"{shard}: the entry {shard}/{at} is damaged: {error}") from error


def _assemble(manifest: Manifest, newest: Mapping[str, bytes], keys: Sequence[bytes]) -> WholeState:
    where = f"{manifest.shard}: whole state {manifest.sequence}"
    _check_format(where, manifest.format)
    if not any(hmac.compare_digest(manifest.signed(key).mac, manifest.mac) for key in keys or (None,)):
        raise StateError(f"{where} is not signed with our key; if it has changed, keep the old one beside it")
    sections: dict[str, bytes] = {}
    for section in manifest.sections:
        parts = [newest.get(place, b"") for place in section.places]
        payload = parts[0] if len(parts) == 1 else b"".join(parts)
        what = f"section {section.name!r} (entries {manifest.shard}/state/{section.name}/{section.slot}/0 and on)"
        if len(payload) != section.size:
            raise StateError(f"{where} is incomplete: of {what} {len(payload)} of {section.size} bytes are there")
        if hashlib.sha256(payload).digest() != section.sha256:
            raise StateError(f"{where} is damaged: the checksum of {what} does not match")
        sections[section.name] = payload
    return WholeState(manifest, together(sections))


def _since(manifest: Manifest, newest: Mapping[str, bytes]) -> list[JournalRecord]:
    records: list[JournalRecord] = [
        _read(JournalRecord, manifest.shard, key, newest) for key in newest if key.startswith("journal/")
    ]
    later = sorted((r for r in records if r.sequence > manifest.sequence), key=lambda r: r.sequence)
    if [r.sequence for r in later] != list(range(manifest.sequence + 1, manifest.sequence + 1 + len(later))):
        raise StateError(f"{manifest.shard}: the journal since checkpoint {manifest.sequence} has holes")
    for record in later:
        _check_format(f"{manifest.shard}: journal record {record.sequence}", record.format)
    return later


def _check_format(where: str, found: int) -> None:
    if found != FORMAT:
        raise StateError(f"{where} has format {found}; this version reads {FORMAT}")
