"""Buffers hold a fair sample, the newest, classes in equal parts or what was hard, within their bytes, repeatably
(F27)."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy import stats

from learners.balanced import CLASSES_MAX, Balanced
from learners.buffers import ITEM_OVERHEAD, Recent, Reservoir, chance
from learners.contract import Label, Said, SnapshotError
from learners.policies import RELEARN_MIN, Collecting, Item, Online, decode, encode
from learners.prioritised import ALPHA, HEAP_OVERHEAD, LOSS_RATIO_MAX, Prioritised
from learners.replay import BUFFERS, loss, make
from tests import conformance
from tests.buffering import filled, number, numbered

OVERHEADS = {"prioritised": HEAP_OVERHEAD}


@pytest.mark.parametrize("name", BUFFERS)
def test_a_buffer_conforms(name: str) -> None:
    """F27."""
    conformance.check(f"tests.buffering:{name}")


def test_a_buffer_that_remembers_how_often_it_was_asked_does_not_conform() -> None:
    with pytest.raises(conformance.ConformanceError, match="changes no output"):
        conformance.check("tests.buffering:unkeyed")


@pytest.mark.parametrize("name", BUFFERS)
@settings(max_examples=40)
@given(
    some.lists(some.tuples(some.binary(max_size=120), some.integers(0, 5), some.floats(0, 1e9)), max_size=200),
    some.integers(60, 2_000),
)
def test_no_buffer_exceeds_its_bytes(name: str, shows: list[tuple[bytes, int, float]], bytes_max: int) -> None:
    """F27."""
    buffer = BUFFERS[name](bytes_max, 1)
    overhead = OVERHEADS.get(name, ITEM_OVERHEAD)
    for item, y, its_loss in shows:
        buffer.add(item, y, its_loss)
        held = sum(len(kept) + overhead for kept in buffer.items)
        assert held <= bytes_max and held == buffer.figures()["bytes"]
        assert len(buffer) == len(buffer.items) == buffer.figures()["items"]
    assert not Counter(buffer.items) - Counter(item for item, _, _ in shows)
    assert set(buffer.draw(5, 3)) <= set(buffer.items)


@pytest.mark.parametrize("name", BUFFERS)
def test_an_item_larger_than_the_buffer_is_refused_and_costs_no_other(name: str) -> None:
    buffer = BUFFERS[name](300, 1)
    buffer.add(b"small", "a", 1.0)
    buffer.add(b"x" * 300, "a", 1.0)
    assert list(buffer.items) == [b"small"] and buffer.figures()["refused"] == 1


@pytest.mark.parametrize("name", BUFFERS)
def test_draws_repeat_for_the_same_counter_and_an_empty_buffer_gives_none(name: str) -> None:
    buffer = BUFFERS[name](100_000, 3)
    assert buffer.draw(3, 1) == []
    filled(buffer, numbered(200))
    assert buffer.draw(5, 1) == buffer.draw(5, 1) != buffer.draw(5, 2)


@pytest.mark.parametrize("name", BUFFERS)
def test_a_copy_restored_in_mid_stream_goes_on_as_the_buffer_does(name: str) -> None:
    """F27."""
    buffer, twin = (BUFFERS[name](5_000, 9) for _ in range(2))
    filled(buffer, numbered(300))
    twin.restore(buffer.snapshot())
    for item in numbered(900)[300:]:
        assert filled(buffer, [item]).draw(2, number(item)) == filled(twin, [item]).draw(2, number(item))
    assert buffer.snapshot() == twin.snapshot() and buffer.figures() == twin.figures()


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


def test_every_item_is_kept_equally_often_where_a_full_sample_may_grow() -> None:
    """F54: not the newest alone, by chi-square over 400 seeds."""
    places, n = 10, 50
    counts, sizes = [0] * n, []
    for seed in range(400):
        small, large = Reservoir(places * (8 + ITEM_OVERHEAD), seed), Reservoir(10_000, seed)
        for item in numbered(n)[:20]:
            small.add(item)
        large.restore(small.snapshot())
        for item in numbered(n)[20:]:
            large.add(item)
        sizes.append(len(large))
        for item in large.items:
            counts[number(item)] += 1
    assert stats.chisquare(counts).pvalue > 0.001
    assert sum(sizes) / 400 == pytest.approx(25, abs=1), "half of everything, as before"


def test_a_sample_that_lost_all_its_room_comes_back() -> None:
    """F54: a restored buffer may hold hardly more than an item."""
    back: list[bool] = []
    for seed in range(30):
        buffer, tiny = Reservoir(5_000, seed), Reservoir(60, seed)
        tiny.restore(filled(buffer, numbered(3, 20)).snapshot())
        for item in numbered(40):
            tiny.add(item)
            if not len(tiny):
                wide = Reservoir(5_000, seed)
                wide.restore(tiny.snapshot())
                back.append(len(filled(wide, numbered(500))) > 0)
    assert sum(back) > 0.5 * len(back) > 10, "sooner or later: the first of them is one of all that were seen"


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


def test_the_newest_are_kept_and_the_oldest_counted() -> None:
    buffer = Recent(3 * (8 + ITEM_OVERHEAD))
    for item in numbered(5):
        buffer.add(item)
    assert list(buffer.items) == numbered(5)[2:] and buffer.dropped == 2


def shares(draws: list[bytes], classes: list[list[int]]) -> list[int]:
    """How many of the draws fall into each class of numbers."""
    counts = Counter(map(number, draws))
    return [sum(counts[i] for i in own) for own in classes]


def test_classes_share_the_bytes_and_the_draws_equally() -> None:
    """F27: 1 of 100 is of the rare class, which still gets a third of the room and of the draws."""
    buffer = Balanced(300 * (8 + ITEM_OVERHEAD), 5)
    classes: list[list[int]] = [[], [], []]
    for i, item in enumerate(numbered(20_000)):
        place = 2 if i % 100 == 0 else i % 2
        classes[place].append(i)
        buffer.add(item, f"class {place}")
    assert sorted(buffer.figures()["classes"].values()) == [100, 100, 100]
    draws = [item for counter in range(3_000) for item in buffer.draw(1, counter)]
    assert stats.chisquare(shares(draws, classes)).pvalue > 0.001


def test_a_class_is_sampled_uniformly_however_its_room_grew_and_shrank() -> None:
    """Chrysakis and Moens 2020: within each class, inclusion counts over 400 seeds against the uniform."""
    ends = (60, 75, 120)
    counts = np.zeros(120)
    for seed in range(400):
        buffer = Balanced(20 * (8 + ITEM_OVERHEAD), seed)
        for i, item in enumerate(numbered(120)):
            buffer.add(item, "a" if i < ends[0] else "b" if i < ends[1] else "ab"[i % 2])
        assert sorted(buffer.figures()["classes"].values()) == [10, 10]
        counts[[number(item) for item in buffer.items]] += 1
    late = np.arange(120) >= ends[1]
    of_a = (np.arange(120) < ends[0]) | (late & (np.arange(120) % 2 == 0))
    assert stats.chisquare(counts[of_a]).pvalue > 0.001 and stats.chisquare(counts[~of_a]).pvalue > 0.001


def test_a_rare_class_keeps_everything_while_a_common_one_makes_room() -> None:
    buffer = Balanced(50 * (8 + ITEM_OVERHEAD), 2)
    for item in numbered(1_000):
        buffer.add(item, "rare" if number(item) % 50 == 0 else "common")
    assert buffer.figures()["classes"] == {"rare": 20, "common": 30}


def test_labels_beyond_the_bound_share_a_class_and_a_class_crowded_out_comes_back() -> None:
    buffer = Balanced(10 * (8 + ITEM_OVERHEAD), 2)
    for item in numbered(2_000):
        buffer.add(item, number(item) % (CLASSES_MAX + 20))
    figures = buffer.figures()
    assert len(figures["classes"]) == CLASSES_MAX and figures["beyond"] > 100 and figures["seen"] == 2_000
    assert len(buffer) == 10 and max(map(number, buffer.items)) > 500


@pytest.mark.parametrize("label", [None, float("nan")])
def test_what_has_no_class_cannot_be_balanced(label: Label | None) -> None:
    with pytest.raises(ValueError, match="names no class; give each item its label"):
        Balanced(1_000, 1).add(b"x", label)


def losses(n: int) -> list[float]:
    """Two thirds easy, one hard, within the bounds from the second on."""
    return [0.1 if i % 3 else 0.25 for i in range(n)]


@pytest.mark.parametrize("places", [30, 300])
def test_draws_are_in_proportion_to_the_priorities_of_everything_seen(places: int) -> None:
    """F27: loss ** 0.6, by chi-square over 600 seeds, whether a tenth of it is kept or all."""
    seen = losses(300)
    drawn = np.zeros(2)
    for seed in range(600):
        buffer = Prioritised(places * (8 + HEAP_OVERHEAD), seed)
        for item, its_loss in zip(numbered(300), seen, strict=True):
            buffer.add(item, None, its_loss)
        assert len(buffer) == places
        for item in buffer.draw(2, 1):
            drawn[int(number(item) % 3 == 0)] += 1
    wanted = np.array([200 * 0.1**ALPHA, 100 * 0.25**ALPHA])
    assert stats.chisquare(drawn, wanted / wanted.sum() * drawn.sum()).pvalue > 0.001


def test_what_was_hard_is_kept_more_often_by_its_priority() -> None:
    """Efraimidis and Spirakis 2006: where few of many are kept, nearly in proportion to the weights."""
    kept = np.zeros(2)
    for seed in range(200):
        buffer = Prioritised(20 * (8 + HEAP_OVERHEAD), seed)
        for item, its_loss in zip(numbered(600), losses(600), strict=True):
            buffer.add(item, None, its_loss)
        for item in buffer.items:
            kept[int(number(item) % 3 == 0)] += 1
    wanted = np.array([2 * 0.1**ALPHA, 0.25**ALPHA])
    assert kept[1] / kept.sum() == pytest.approx(wanted[1] / wanted.sum(), abs=0.03)


def test_wrong_labels_do_not_own_the_buffer() -> None:
    """F27: 1 % of the labels are wrong and cost 1,000 times as much; the bound leaves them 2.3 times their share."""
    buffer = Prioritised(500 * (8 + HEAP_OVERHEAD), 4)
    wrong = [i for i in range(20_000) if i % 100 == 99]
    for item in numbered(20_000):
        buffer.add(item, None, 10.0 if number(item) % 100 == 99 else 0.01)
    draws = [item for counter in range(4_000) for item in buffer.draw(1, counter)]
    (share,) = shares(draws, [wrong])
    unbounded = 0.01 * 1_000**ALPHA / (0.99 + 0.01 * 1_000**ALPHA)
    assert 0.012 < share / 4_000 < 0.01 * LOSS_RATIO_MAX**ALPHA * 1.4 < unbounded / 10
    assert buffer.figures()["capped"] == len(wrong)


def test_what_was_learned_without_any_loss_is_still_drawn() -> None:
    """A mistake after a hundred perfect answers: bounded both ways, it comes 16 ** 0.6 times as often as each."""
    buffer = Prioritised(100_000, 4)
    for item in numbered(100):
        buffer.add(item, None, 0.0 if number(item) < 99 else 1.0)
    (mistakes,) = shares([item for counter in range(3_000) for item in buffer.draw(1, counter)], [[99]])
    weight = LOSS_RATIO_MAX ** (2 * ALPHA)
    assert stats.binomtest(mistakes, 3_000, weight / (99 + weight)).pvalue > 0.001


def test_an_unknown_loss_counts_as_the_mean_and_no_loss_at_all_as_alike() -> None:
    known, unknown, perfect = (Prioritised(10_000, 1) for _ in range(3))
    for item in numbered(100):
        known.add(item, None, 0.5)
        unknown.add(item, None, (0.5, None, math.inf)[number(item) % 3])
        perfect.add(item, None, 0.0)
    assert known.snapshot() == unknown.snapshot() and known.figures()["mean_loss"] == 0.5
    assert sorted(perfect.items) == sorted(known.items) and perfect.draw(9, 1) != []


@pytest.mark.parametrize("bad", [-0.1, math.nan])
def test_a_loss_that_is_none_is_refused_and_changes_nothing(bad: float) -> None:
    buffer = Prioritised(1_000, 1)
    before = buffer.snapshot()
    with pytest.raises(ValueError, match="must be a number, 0 or more"):
        buffer.add(b"x", None, bad)
    assert buffer.snapshot() == before


def test_a_buffer_is_made_by_name_where_it_fits_the_task() -> None:
    assert isinstance(make("prioritised", 1_000, 1, "regression"), Prioritised)
    with pytest.raises(ValueError, match="did you mean reservoir"):
        make("resevoir", 1_000, 1, "binary")
    with pytest.raises(ValueError, match="a regression has none; write reservoir"):
        make("balanced", 1_000, 1, "regression")


def test_a_loss_is_taken_of_what_was_said() -> None:
    shares_said = Said("a", 0.6, {"a": 0.6, "b": 0.4})
    assert loss("multiclass", shares_said, "b") == pytest.approx(0.36) and loss("multiclass", shares_said, "c") == 1.0
    assert loss("binary", Said(1, 0.75), 1) == 0.0625 and loss("binary", Said(1), 0) == 1.0
    assert loss("regression", Said(3.0), 5) == 2.0
    assert loss("regression", Said(math.nan), 5) == loss("binary", Said(1, math.nan), 1) == math.inf


@pytest.mark.parametrize("part", [*(make(100, 1) for make in BUFFERS.values()), Collecting(100), Online()])
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


def test_what_one_policy_has_collected_another_goes_on_with() -> None:
    """F54: online learns it first, and leaves nothing to one that collects."""
    policy, online, manual = Collecting(100_000, first=50), Online(), Collecting(100_000)
    shown(policy, items(70))
    online.restore(policy.snapshot())
    assert online.waiting() == policy.waiting() == 20 and online.snapshot() == policy.snapshot()
    update = online.due(70.0)
    assert update is not None and [item.at for item in update.items] == [float(i) for i in range(50, 70)]
    assert online.due(71.0) is None and online.waiting() == 0
    manual.restore(online.snapshot())
    assert manual.ask("command", None) is None and shown(manual, items(3)) == [] and manual.waiting() == 3


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
