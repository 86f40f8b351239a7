"""Of a journal as much is held as a recovery may need, and it finds the same as with all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from stream.contract import EXAMPLES, Batch
from stream.errors import StateError
from stream.runtime import journal
from stream.runtime.journal import Entries, Entry, Manifests, Recovery
from tests.toy import World, chunk, records

LOG = records(list(range(1, 121)))
STATE_EVERY = 8


def world() -> World:
    """Forty checkpoints, and a whole state with every eighth."""
    made = World({EXAMPLES: LOG})
    owner = made.fresh()
    for n in range(40):
        assert owner.accept(Batch(1000.0 + n, (chunk(LOG, 3 * n, 3 * n + 3),))) is None
        made.commit(owner.checkpoint(whole=n % STATE_EVERY == 0))
    return made


def kept(entries: Iterable[tuple[bytes, bytes | None]]) -> list[Entry]:
    log = list(entries)
    manifests = Manifests()
    for offset, (key, _) in reversed(list(enumerate(log))):
        manifests.add(offset, key)
    held = Entries(manifests.older())
    for offset, (key, value) in enumerate(log):
        held.add(offset, key, value)
    return held.items()


def found(entries: Iterable[Entry]) -> Recovery | str:
    """What is recovered, or why nothing is."""
    try:
        past = journal.recover("toy/0", entries)
    except StateError as error:
        return str(error)
    assert past is not None
    return past


def test_wherever_the_log_ends_a_recovery_finds_the_same() -> None:
    log = world().journal
    for end in range(1, len(log) + 1):
        assert found(kept(log[:end])) == found(log[:end]), end


@pytest.mark.parametrize("spoiled", (b"/manifest", b"/journal/", b"/state/all/"))
def test_wherever_something_is_spoiled_a_recovery_finds_the_same(spoiled: bytes) -> None:
    """F50: the state before is still there, with all that has happened since. A spoiled record that is not needed, and
    so not held, is as good as a whole one."""
    log = world().journal
    ends = [i + 1 for i, (key, _) in enumerate(log) if spoiled in key]
    assert len(ends) > 4
    for end in ends:
        damaged = [*log[: end - 1], (log[end - 1][0], b"spoiled"), *log[end:]]
        for until in (end, min(end + 3, len(log)), len(log)):
            assert found(kept(damaged[:until])) in (found(damaged[:until]), found(log[:until])), (end, until)


def compacted(entries: list[Entry]) -> list[Entry]:
    """As a broker leaves it."""
    return [(key, value) for i, (key, value) in enumerate(entries) if key not in dict(entries[i + 1 :])]


@pytest.mark.parametrize("by_broker", (list, compacted))
def test_what_is_held_does_not_grow_with_the_log(by_broker: Callable[[list[Entry]], list[Entry]]) -> None:
    """Nor where the broker has left out what later entries replaced: then no manifest stands before the last two."""
    log = world().journal
    most = max(sum(b"/journal/" in key for key, _ in kept(by_broker(log[:end]))) for end in range(len(log)))
    assert sum(b"/journal/" in key for key, _ in log) == 40
    assert 2 * STATE_EVERY <= most <= 2 * STATE_EVERY + 1


def test_two_manifests_of_one_slot_in_turn_do_not_cost_what_follows_the_other() -> None:
    """A shard that has gone back to the state before writes the next one where the damaged one stands."""
    held = kept((
        (b"toy/0/state/1/manifest", b"first"),
        (b"toy/0/journal/1", b"1"),
        (b"toy/0/state/0/manifest", b"damaged"),
        (b"toy/0/journal/2", b"2"),
        (b"toy/0/state/0/manifest", b"damaged, too"),
        (b"toy/0/journal/3", b"3"),
    ))  # fmt: skip
    assert {key for key, _ in held if b"/journal/" in key} == {b"toy/0/journal/%d" % n for n in (1, 2, 3)}


def test_shards_are_told_apart_and_what_is_deleted_or_written_anew_is_gone() -> None:
    held = kept((
        (b"toy/0/journal/1", b"of the last round"),
        (b"toy/0/journal/2", b"old"),
        (b"toy/0/journal/3", b"deleted"),
        (b"toy/0/journal/3", None),
        (b"toy/1/journal/1", b"another's"),
        (b"toy/0/state/0/manifest", b"a"),
        (b"toy/0/journal/1", b"new"),
        (b"toy/0/state/1/manifest", b"b"),
        (b"toy/0/state/journal/0/0", b"part of a section of that name"),
        (b"toy/0/state/gone/0/0", b"part"),
        (b"toy/0/state/gone/0/0", None),
    ))  # fmt: skip
    assert held == [
        (b"toy/1/journal/1", b"another's"),
        (b"toy/0/state/0/manifest", b"a"),
        (b"toy/0/journal/1", b"new"),
        (b"toy/0/state/1/manifest", b"b"),
        (b"toy/0/state/journal/0/0", b"part of a section of that name"),
    ]
