"""Buffers hold a fair sample or the newest, within their bytes, repeatably (F27)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy import stats

from learners.buffers import ITEM_OVERHEAD, Recent, Reservoir, chance
from learners.contract import SnapshotError
from learners.policies import RELEARN_MIN, Collecting, Item, Online, decode, encode
from tests import conformance
from tests.buffering import numbered


@pytest.mark.parametrize("name", ["reservoir", "recent"])
def test_a_buffer_conforms(name: str) -> None:
    conformance.check(f"tests.buffering:{name}")


@settings(max_examples=60, deadline=None)
@given(some.lists(some.binary(max_size=120), max_size=200), some.integers(60, 2_000))
def test_no_buffer_exceeds_its_bytes(items: list[bytes], bytes_max: int) -> None:
    for buffer in (Reservoir(bytes_max, 1), Recent(bytes_max)):
        for item in items:
            buffer.add(item)
            held = sum(len(kept) + ITEM_OVERHEAD for kept in buffer.items)
            assert held <= bytes_max and held == buffer.figures()["bytes"]
            assert all(kept in items for kept in buffer.items)


def test_every_item_is_kept_equally_often() -> None:
    """Vitter's algorithm R: inclusion counts over 400 seeds against the uniform, by chi-square."""
    places, n = 10, 50
    counts = [0] * n
    for seed in range(400):
        buffer = Reservoir(places * (8 + ITEM_OVERHEAD), seed)
        for item in numbered(n):
            buffer.add(item)
        assert len(buffer) == places
        for item in buffer.items:
            counts[int.from_bytes(item, "big")] += 1
    assert stats.chisquare(counts).pvalue > 0.001


def test_draws_are_uniform_and_repeat_for_the_same_counter() -> None:
    buffer = Reservoir(10_000, 3)
    for item in numbered(20):
        buffer.add(item)
    assert buffer.draw(5, 1) == buffer.draw(5, 1) != buffer.draw(5, 2)
    counts = [0] * 20
    for counter in range(2_000):
        for item in buffer.draw(1, counter):
            counts[int.from_bytes(item, "big")] += 1
    assert stats.chisquare(counts).pvalue > 0.001
    assert Reservoir(100, 1).draw(3, 1) == []


def test_chance_is_keyed_by_seed_purpose_and_counter() -> None:
    assert (
        len({chance(seed, purpose, counter, 1 << 60) for seed in (1, 2) for purpose in "ab" for counter in (1, 2)}) == 8
    )
    assert all(0 <= chance(1, "x", i, 3) < 3 for i in range(100))


def test_an_item_larger_than_the_buffer_is_refused_and_counted() -> None:
    buffer = Reservoir(100, 1)
    buffer.add(b"x" * 200)
    assert len(buffer) == 0 and buffer.figures()["refused"] == 1


def test_the_newest_are_kept_and_the_oldest_counted() -> None:
    buffer = Recent(3 * (8 + ITEM_OVERHEAD))
    for item in numbered(5):
        buffer.add(item)
    assert list(buffer.items) == numbered(5)[2:] and buffer.dropped == 2


@pytest.mark.parametrize("part", [Reservoir(100, 1), Recent(100), Collecting(100), Online()])
def test_state_of_another_kind_is_refused(part: Any) -> None:
    with pytest.raises(SnapshotError):
        part.restore(b"\xc1 nonsense")


def items(n: int, start: int = 0) -> list[Item]:
    return [Item({"a": float(i)}, i % 2, 1.0, float(i)) for i in range(start, start + n)]


def shown(policy: Any, some_items: list[Item]) -> list[Any]:
    """Updates that fall due while these are shown."""
    updates = []
    for item in some_items:
        updates.append(policy.due(item.at))
        policy.example(item)
    return [update for update in updates if update]


def test_items_survive_as_bytes() -> None:
    item = Item({"a": 1.5, "b": "x", "c": None, "d": [1.0], "e": True, "f": 3}, "label", 0.5, 12.0, 7)
    assert decode(encode(item)) == item


def test_online_learns_each_at_once() -> None:
    """F26."""
    policy = Online()
    (item,) = items(1)
    assert policy.example(item) == [item] and policy.due(9.0) is None and policy.ask("command", None) is None


def test_scheduled_learns_what_has_been_collected_each_time_it_falls_due() -> None:
    """F26."""
    policy = Collecting(100_000, every=10.0)
    updates = shown(policy, items(25))
    assert [(u.why, len(u.items), u.items[0].at, u.reset) for u in updates] == [
        ("schedule", 10, 0.0, False),
        ("schedule", 10, 10.0, False),
    ]
    assert policy.waiting() == 5
    assert policy.due(1_000.0) is not None and policy.due(1_001.0) is None


def test_manual_learns_when_ordered_and_forgets_what_it_learned() -> None:
    """F26."""
    policy = Collecting(100_000)
    assert shown(policy, items(25)) == [] and policy.ask("alert", 3.0) is None
    update = policy.ask("command", None)
    assert update is not None and len(update.items) == 25 and policy.waiting() == 0
    assert policy.ask("command", None) is None and len(policy.recent) == 0


def test_triggered_starts_over_from_the_change_and_goes_on_collecting() -> None:
    """F26."""
    policy = Collecting(1_000_000, first=50)
    first = shown(policy, items(400))
    assert [(u.why, len(u.items)) for u in first] == [("first", 50)]
    since = policy.ask("alert", 250.0)
    assert since is not None and since.reset and [since.items[0].at, len(since.items)] == [250.0, 150]
    short = policy.ask("alert", 400.0 - RELEARN_MIN + 1)
    assert short is not None and len(short.items) == 400
    assert policy.waiting() == 0 and shown(policy, items(60, 400)) == []


def test_a_collecting_policy_continues_where_it_was_saved() -> None:
    policy, twin = Collecting(4_000, every=10.0), Collecting(4_000, every=10.0)
    shown(policy, items(17))
    twin.restore(policy.snapshot())
    assert shown(policy, items(40, 17)) == shown(twin, items(40, 17))
    assert policy.snapshot() == twin.snapshot()


def test_what_a_full_collection_has_dropped_does_not_wait() -> None:
    policy = Collecting(500)
    shown(policy, items(100))
    update = policy.ask("command", None)
    assert update is not None and 0 < len(update.items) < 20 and update.items[-1].at == 99.0
