"""Whole states in sections: only what has changed is written, and whatever was written when, it makes the same state
(F50)."""

from __future__ import annotations

import random
from collections.abc import Iterator

import msgspec
import pytest

from stream import codec
from stream.contract import JOURNAL, LABELS, PREDICTIONS, Batch, Chunk
from stream.errors import StateError
from stream.joining import segments
from stream.runtime import journal
from stream.runtime.journal import JournalRecord, StateUpdate
from stream.runtime.shard import Checkpoint, Shard, recovered
from stream.sections import apart, together
from stream.stages.join import REST, Join
from tests import joins
from tests.joins import beat, known, said

SIZE = 8


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT", SIZE)


def steps(chance: random.Random) -> Iterator[Chunk]:
    """Predictions of two models with horizons of 20 and 30 s in event time that goes on; labels of half of them, in
    whatever order, some twice."""
    at, offsets = 10.0, {PREDICTIONS: 0, LABELS: 0}
    for i in range(60):
        asked = [said(f"p{i}-{n}", at + n / 10, chance.choice("ab"), n % 2) for n in range(chance.randrange(9))]
        labels = [known(f"p{i - chance.randrange(20)}-{chance.randrange(9)}", at, chance.randrange(2)) for _ in asked]
        for role, events in ((PREDICTIONS, asked), (LABELS, [*labels, beat(at)])):
            yield joins.chunk(role, joins.records(events, offsets[role]))._replace(start=offsets[role])
            offsets[role] += len(events)
        at += chance.random() * 2


def test_what_was_written_at_different_times_makes_the_same_state() -> None:
    """At every step the newest sections, with immutable ones as old as they may be, restore to the stage itself."""
    join, written = Join(joins.CONFIG, 0, 1), dict[str, bytes]()
    reused = 0
    for step in steps(random.Random(1)):
        join.process(Batch(0.0, (step,)))
        sections = join.sections(written)
        reused += sum(section is None for section in sections.values())
        written = {name: written[name] if section is None else section for name, section in sections.items()}
        again = Join(joins.CONFIG, 0, 1)
        again.restore(together(written))
        assert again.snapshot() == join.snapshot()
    assert reused > 100 and join.ledger.predictions.expired > 50


def test_a_prediction_that_left_its_segment_is_not_there_after_a_restore_and_one_that_is_lost_is_missed() -> None:
    join = Join(joins.CONFIG, 0, 1)
    asked = [said(f"p{i}", 10.0 + i) for i in range(20)]
    join.process(Batch(0.0, (joins.chunk(PREDICTIONS, joins.records(asked)),)))
    whole = {name: section or b"" for name, section in join.sections().items()}
    assert [name for name in whole if name != REST] == [
        f"{kind}-{n:012d}" for n in range(2) for kind in ("said", "since")
    ]
    join.process(Batch(0.0, (joins.chunk(PREDICTIONS, joins.records([beat(34.5)], 20)),)))
    join.process(Batch(0.0, (joins.chunk(LABELS, joins.records([beat(34.5)])),)))
    later = join.sections(whole)
    assert later["said-000000000000"] is None and join.matcher.size == 15, "p0 to p4 have expired"
    again = Join(joins.CONFIG, 0, 1)
    again.restore(together({name: whole[name] if part is None else part for name, part in later.items()}))
    assert again.matcher.size == 15 and "p4" not in again.matcher.pending and "p5" in again.matcher.pending
    torn = whole | {"said-000000000000": whole["said-000000000001"]}
    with pytest.raises(StateError, match="8 predictions are pending, and 0 are there"):
        Join(joins.CONFIG, 0, 1).restore(together(torn))


def test_sections_come_apart_as_they_were_put_together_and_nothing_else_does() -> None:
    sections = {"rest": b"abc", "said-1": b"", "since-1": b"xyz"}
    assert {name: bytes(part) for name, part in apart(together(sections)).items()} == sections
    assert together({"all": b"whole"}) == b"whole"
    for nonsense in (b"", b"\x00", b"\x00\x00\x00\x02{}", together(sections) + b"x", together(sections)[:-1]):
        with pytest.raises(StateError, match="not a state in sections"):
            apart(nonsense)


# ---- in a shard -----------------------------------------------------------------------------------------------------


def shard() -> Shard:
    return Shard("join", 0, Join(joins.CONFIG, 0, 1), {(PREDICTIONS, 0): 0, (LABELS, 0): 0})


def commit(places: dict[bytes, bytes], point: Checkpoint | None) -> StateUpdate:
    assert point is not None and point.whole is not None
    for write in point.writes(0):
        if write.topic == JOURNAL and write.value is None:
            del places[write.key]
        elif write.topic == JOURNAL:
            places[write.key] = write.value or b""
    return point.whole


def test_only_what_has_changed_is_written_and_what_nobody_needs_is_deleted() -> None:
    """F50: and the state before the newest is there all the time."""
    owner, places = shard(), dict[bytes, bytes]()
    log = [said(f"p{i}", 10.0 + i / 100) for i in range(1000)]
    sizes = []
    for start in range(0, 1000, 100):
        part = joins.chunk(PREDICTIONS, joins.records(log[start : start + 100], start))
        assert owner.accept(Batch(0.0, (part._replace(start=start),))) is None
        update = commit(places, owner.checkpoint(whole=True))
        sizes.append(sum(map(len, update.parts.values())) / update.manifest.size)
        for gone in (None, f"join/0/state/{update.manifest.generation % 2}/manifest".encode()):
            if gone is not None and start == 0:
                continue  # before the second state there is none to fall back to
            found = journal.recover("join/0", [entry for entry in places.items() if entry[0] != gone])
            assert found is not None
            back = shard()
            recovered(back, found, lambda n, p, s, e: joins.records(log[s:e], s))
            assert back.machine.snapshot() == owner.machine.snapshot()
    assert sizes[0] == 1.0 and sizes[-1] < 0.3, "of 1,000 pending predictions the newest 100"
    for end in (60.0, 61.0, 62.0):
        beats = tuple(
            joins.chunk(role, joins.records([beat(end)], owner.positions[role, 0])) for role in (PREDICTIONS, LABELS)
        )
        assert owner.accept(Batch(0.0, beats)) is None
        commit(places, owner.checkpoint(whole=True))
    assert owner.machine.figures()["kept"] == 0
    assert not [key for key in places if b"said-" in key or b"since-" in key], "all of it has expired, and is deleted"


def two_states() -> dict[bytes, bytes]:
    """The journal of a shard whose two whole states share the oldest segments."""
    owner, places = shard(), dict[bytes, bytes]()
    log = [said(f"p{i}", 10.0 + i / 100) for i in range(100)]
    for start in (0, 50):
        part = joins.chunk(PREDICTIONS, joins.records(log[start : start + 50], start))
        assert owner.accept(Batch(0.0, (part._replace(start=start),))) is None
        commit(places, owner.checkpoint(whole=True))
    return places


SHARED = "said-000000000000"


@pytest.mark.parametrize(
    ("value", "found"),
    [(b"spoiled", "is incomplete: of {what} 7 of {size} bytes are there"),
     (None, "is incomplete: of {what} 0 of {size} bytes are there"),
     (b"flipped", "is damaged: the checksum of {what} does not match")],
)  # fmt: skip
def test_damage_to_a_section_that_both_states_share_is_refused_with_what_where_and_what_to_do(
    value: bytes | None, found: str
) -> None:
    """F50: there is no state to fall back to, and none may be made up."""
    places = two_states()
    at = f"join/0/state/{SHARED}/0/0"
    good = places.pop(at.encode())
    if value is not None:
        places[at.encode()] = good[:-1] + bytes([good[-1] ^ 1]) if value == b"flipped" else value
    with pytest.raises(StateError) as refused:
        journal.recover("join/0", places.items())
    why = found.format(what=f"section '{SHARED}' (entries {at} and on)", size=len(good))
    assert str(refused.value) == (
        f"join/0: whole state 2 {why}; join/0: whole state 1 {why}; nothing else is left to go on from: put this "
        "partition of the journal topic back from a copy; or begin anew, as LIMITS.md says of records that were deleted"
    )


def test_damage_to_what_the_newest_state_has_for_itself_falls_back_to_the_one_before() -> None:
    """F50: be it a section or the manifest; where neither manifest can be read, that is said."""
    whole = two_states()
    rest, manifests = b"join/0/state/rest/1/0", [b"join/0/state/0/manifest", b"join/0/state/1/manifest"]
    for own in (rest, manifests[0]):
        found = journal.recover("join/0", (whole | {own: b"spoiled"}).items())
        assert found is not None and found.whole.manifest.sequence == 1 and len(found.journal) == 1
        (fault,) = found.faults
        assert own.decode() in fault or "section 'rest'" in fault, "it is told what was passed over"
        back = shard()
        log = joins.records([said(f"p{i}", 10.0 + i / 100) for i in range(100)])
        assert recovered(back, found, lambda n, p, s, e, log=log: log[s:e]) == 50
        assert back.machine.figures()["kept"] == 100
    with pytest.raises(StateError, match=r"^join/0: the entry join/0/state/[01]/manifest is damaged: .*; nothing else"):
        journal.recover("join/0", (whole | dict.fromkeys(manifests, b"spoiled")).items())


def test_a_journal_record_that_cannot_be_read_is_refused_even_where_it_may_be_an_old_one() -> None:
    """Were it passed over, a damaged newest one would be a checkpoint that never was, and its outputs come twice."""
    for place in (b"join/0/journal/1", b"join/0/journal/2"):
        with pytest.raises(
            StateError, match=f"^join/0: the entry {place.decode()} is damaged: .*; nothing else is left"
        ):
            journal.recover("join/0", (two_states() | {place: b"spoiled"}).items())


def test_a_journal_record_of_another_version_is_refused_where_it_is_needed() -> None:
    """F54: what a newer version meant by it is not known here."""
    places = two_states()
    sound = journal.recover("join/0", places.items())
    assert sound is not None and sound.faults == ()
    places.pop(b"join/0/state/0/manifest")  # so that the second record is needed
    record = codec.unpack(JournalRecord, places[b"join/0/journal/2"])
    places[b"join/0/journal/2"] = codec.pack(msgspec.structs.replace(record, format=3))
    with pytest.raises(StateError, match=r"^join/0: journal record 2 has format 3; this version reads 2; nothing else"):
        journal.recover("join/0", places.items())


def test_a_new_owner_goes_on_deleting_where_the_one_before_ended() -> None:
    owner, places = shard(), dict[bytes, bytes]()
    log = [said(f"p{i}", 10.0 + i / 100) for i in range(100)]
    assert owner.accept(Batch(0.0, (joins.chunk(PREDICTIONS, joins.records(log)),))) is None
    commit(places, owner.checkpoint(whole=True))
    for end in (60.0, 61.0, 62.0):
        found = journal.recover("join/0", places.items())
        assert found is not None
        owner = shard()
        recovered(owner, found, lambda n, p, s, e: [])
        beats = tuple(
            joins.chunk(role, joins.records([beat(end)], owner.positions[role, 0])) for role in (PREDICTIONS, LABELS)
        )
        assert owner.accept(Batch(0.0, beats)) is None
        commit(places, owner.checkpoint(whole=True))
    assert sorted(key for key in places if b"/state/" in key) == [
        b"join/0/state/0/manifest", b"join/0/state/1/manifest", b"join/0/state/rest/0/0", b"join/0/state/rest/1/0",
    ]  # fmt: skip
