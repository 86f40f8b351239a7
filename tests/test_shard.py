"""Shards: a batch that does not start where the state stands is refused; a new owner continues as if nothing was."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream import codec
from stream.contract import COMMANDS, EXAMPLES, Batch, Chunk
from stream.errors import StateError
from stream.runtime import journal, shard
from stream.runtime.shard import Gap
from tests.toy import World, chunk, records

LOGS = {EXAMPLES: records(list(range(1, 41))), COMMANDS: records([100, 200, 300])}


def plan() -> list[Batch]:
    """Batches of both inputs with ticks between; silence long enough to speak."""
    batches, at, clock = [], 0, 1000.0
    for size in (1, 4, 7, 2, 9, 3, 8, 6):
        batches.append(Batch(clock, (chunk(LOGS[EXAMPLES], at, at + size),)))
        at, clock = at + size, clock + 0.5
        batches += [Batch(clock + i) for i in range(4 if size % 2 else 1)]
        clock += 4
    batches.insert(5, Batch(1005.0, (chunk(LOGS[COMMANDS], 0, 2, COMMANDS),)))
    batches.append(Batch(clock, (chunk(LOGS[COMMANDS], 2, 3, COMMANDS),)))
    return [*batches, *(Batch(clock + i) for i in range(1, 9))]


def straight() -> World:
    """No crash: a checkpoint after every third batch, a whole state with every fourth of them."""
    return run_with_crash(-1)


def run_with_crash(crash_at: int, commit_first: bool = False, every: int = 3) -> World:
    world = World(LOGS)
    owner = world.fresh()
    batches = plan()
    done = 0
    i = 0
    crashed = False
    while i < len(batches):
        if i == crash_at and not crashed:
            crashed = True
            if commit_first:
                world.commit(owner.checkpoint(owner.state_due))
                done = i
            owner = world.owner()
            i = done  # batches since the last checkpoint are read again, cut as before
            continue
        assert owner.accept(batches[i]) is None
        i += 1
        if i % every == 0:
            point = owner.checkpoint(owner.state_due or i % (4 * every) == 0)
            if point is not None:
                world.commit(point)
                done = i
    world.commit(owner.checkpoint(whole=True))
    return world


def test_a_new_owner_after_a_crash_at_any_point_puts_out_the_same() -> None:
    """F50."""
    whole = straight()
    assert len(whole.outputs) > 10
    for crash_at in range(1, len(plan())):
        assert run_with_crash(crash_at).outputs == whole.outputs, crash_at
        assert run_with_crash(crash_at, commit_first=True).outputs == whole.outputs, crash_at


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 9), st.booleans(), st.booleans()), min_size=1, max_size=12))
def test_whatever_the_cuts_checkpoints_and_crashes_nothing_is_lost_or_doubled(
    steps: list[tuple[int, bool, bool]],
) -> None:
    """F50."""
    world = World(LOGS)
    owner = world.fresh()
    for size, commit, crash in steps:
        position = owner.positions[EXAMPLES, 0]
        owner.accept(Batch(1000.0 + position, (chunk(LOGS[EXAMPLES], position, min(position + size, 40)),)))
        if commit:
            world.commit(owner.checkpoint(owner.state_due))
        if crash:
            owner = world.owner()
    rest = chunk(LOGS[EXAMPLES], owner.positions[EXAMPLES, 0], 40)
    owner.accept(Batch(2000.0, (rest,)))
    world.commit(owner.checkpoint(owner.state_due))
    assert owner.machine.figures()["totals"] == {EXAMPLES: sum(range(1, 41))}
    assert [codec.canonical(msgspec.json.decode(v)["decision_id"]) for _, _, v in world.outputs] == [
        b'"toy-%d"' % n for n in range(3, 41, 3)
    ]


def test_a_batch_that_does_not_start_at_the_position_is_refused_and_changes_nothing() -> None:
    owner = World(LOGS).fresh()
    owner.accept(Batch(1.0, (chunk(LOGS[EXAMPLES], 0, 5),)))
    before = owner.machine.snapshot()
    late = Batch(2.0, (chunk(LOGS[COMMANDS], 0, 1, COMMANDS), chunk(LOGS[EXAMPLES], 6, 8)))
    assert owner.accept(late) == Gap(EXAMPLES, 0, 5, 6)
    assert owner.accept(Batch(2.0, (chunk(LOGS[EXAMPLES], 0, 5),))) == Gap(EXAMPLES, 0, 5, 0)
    assert owner.machine.snapshot() == before
    assert owner.positions == {(EXAMPLES, 0): 5, (COMMANDS, 0): 0}


def test_what_one_of_two_readers_has_seen_is_trimmed() -> None:
    owner = World(LOGS).fresh()
    owner.accept(Batch(1.0, (chunk(LOGS[EXAMPLES], 0, 5),)))
    assert owner.trimmed(chunk(LOGS[EXAMPLES], 0, 5)) is None
    rest = owner.trimmed(chunk(LOGS[EXAMPLES], 3, 9))
    assert rest is not None and (rest.start, rest.end, len(rest.records)) == (5, 9, 4)
    assert owner.accept(Batch(2.0, (rest,))) is None


def test_positions_cover_holes_in_the_offsets() -> None:
    owner = World(LOGS).fresh()
    assert owner.accept(Batch(1.0, (Chunk(EXAMPLES, 0, 0, 9, [LOGS[EXAMPLES][4]]),))) is None
    assert owner.accept(Batch(1.0, (Chunk(EXAMPLES, 0, 9, 12, []),))) is None
    assert owner.positions[EXAMPLES, 0] == 12


def test_a_silent_shard_holds_its_ticks_and_commits_rarely() -> None:
    owner = World(LOGS).fresh()
    assert owner.checkpoint(owner.state_due) is not None  # the first whole state
    taken = [owner.accept(Batch(float(i) / 100)) or owner.checkpoint(owner.state_due) for i in range(200)]
    assert sum(point is not None for point in taken) == 200 // shard.TICKS_HELD_MAX


def test_a_stage_that_is_not_deterministic_is_caught_by_the_digest() -> None:
    """F42, F50."""
    world = World(LOGS)
    owner = world.fresh()
    world.commit(owner.checkpoint(whole=True))
    owner.accept(Batch(1.0, (chunk(LOGS[EXAMPLES], 0, 9),)))
    world.commit(owner.checkpoint())
    world.logs = {**LOGS, EXAMPLES: records([5] * 40)}
    with pytest.raises(StateError, match="did not come out as they did before"):
        world.owner()


def test_a_changed_configuration_is_named_when_the_replay_differs() -> None:
    world = World(LOGS)
    owner = world.fresh()
    world.commit(owner.checkpoint(whole=True))
    owner.accept(Batch(1.0, (chunk(LOGS[EXAMPLES], 0, 9),)))
    world.commit(owner.checkpoint())
    world.journal[-1] = (world.journal[-1][0], world.journal[-1][1].replace(b"c1", b"c0"))
    world.logs = {**LOGS, EXAMPLES: records([5] * 40)}
    with pytest.raises(StateError, match="the configuration has changed"):
        world.owner()


def spoiled(world: World, key: bytes, value: bytes | None) -> World:
    at = max(i for i, entry in enumerate(world.journal) if entry[0].startswith(key))
    world.journal[at : at + 1] = [] if value is None else [(world.journal[at][0], value)]
    return world


def test_a_damaged_state_falls_back_to_the_one_before() -> None:
    """F50."""
    whole = straight()
    newest = journal.recover("toy/0", whole.journal)
    assert newest is not None
    slot = f"toy/0/{newest.whole.manifest.places[0]}".encode()
    world = spoiled(straight(), slot, b"\x00" * newest.whole.manifest.size)
    older = journal.recover("toy/0", world.journal)
    assert older is not None and older.whole.manifest.sequence < newest.whole.manifest.sequence
    assert world.owner().machine.snapshot() == newest.whole.state


def test_a_state_without_all_its_parts_and_a_journal_with_holes_are_refused() -> None:
    world = World(LOGS)
    owner = world.fresh()
    world.commit(owner.checkpoint(whole=True))
    for i in range(3):
        owner.accept(Batch(1.0, (chunk(LOGS[EXAMPLES], i * 3, i * 3 + 3),)))
        world.commit(owner.checkpoint())
    with pytest.raises(StateError, match="holes"):
        journal.recover("toy/0", [e for e in world.journal if e[0] != b"toy/0/journal/3"])
    with pytest.raises(StateError, match="incomplete"):
        journal.recover("toy/0", [e for e in world.journal if e[0] != b"toy/0/state/all/0/0"])
    with pytest.raises(StateError, match="no whole state"):
        journal.recover("toy/0", [e for e in world.journal if b"state" not in e[0]])
    assert journal.recover("toy/1", world.journal) is None


def update_of(state: bytes, key: bytes | None = None) -> journal.StateUpdate:
    return journal.state_update("toy/0", 7, {(EXAMPLES, 0): 3}, "", {"all": state}, "", key, None, ())


def test_a_large_state_travels_in_parts() -> None:
    state = bytes(range(256)) * 10_000
    entries = journal.state_entries(update_of(state))
    assert len(entries) == 4 and max(len(value) for _, value in entries) <= journal.STATE_PART_BYTES
    found = journal.recover("toy/0", entries)
    assert found is not None and found.whole.state == state


def test_compaction_that_keeps_the_newest_of_each_key_changes_nothing() -> None:
    world = straight()
    kept = dict(world.journal)
    assert len(kept) < len(world.journal)
    assert journal.recover("toy/0", kept.items()) == journal.recover("toy/0", world.journal)


def test_a_state_that_is_not_signed_with_our_key_is_refused() -> None:
    """F53."""
    ours, theirs = b"k" * 32, b"x" * 32
    state = b"state"
    signed = update_of(state, ours)
    found = journal.recover("toy/0", journal.state_entries(signed), (theirs, ours))
    assert found is not None and found.whole.state == state
    moved = msgspec.structs.replace(signed.manifest, positions=[(EXAMPLES, 0, 9)])
    for forged in (update_of(state), update_of(state, theirs), signed._replace(manifest=moved)):
        with pytest.raises(StateError, match="not signed with our key"):
            journal.recover("toy/0", journal.state_entries(forged), (ours,))
