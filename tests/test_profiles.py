"""Profiles add up in any order, and what is compared belongs together."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.contract import Bins, Rows, Stream
from stream.windows.cells import DAY_S, Cells, cell_of
from stream.windows.past import Past, count
from stream.windows.profiles import Profile
from stream.windows.statistics import psi_all, window_drift

BINS = 4


def rows(n: int, seed: int, start: float = 0.0, step: float = 1.0) -> Rows:
    draw = np.random.default_rng(seed)
    codes = draw.integers(-1, BINS, (n, 2)).astype(np.int32)
    values = np.where(codes < 0, np.nan, codes.astype(float))
    return Rows(start + np.arange(n) * step, codes, values)


def same(a: Profile, b: Profile) -> bool:
    exact = a.n == b.n and bool((a.counts == b.counts).all())
    return exact and np.allclose(a.total, b.total) and np.allclose(a.squares, b.squares)


def test_a_profile_counts_bins_missing_values_and_moments() -> None:
    codes = np.array([[0, 1], [2, -1], [2, 3]], np.int32)
    values = np.array([[0.5, 1.0], [2.5, np.nan], [2.0, 3.0]])
    profile = Profile.of(Rows(np.arange(3.0), codes, values), BINS)
    assert profile.counts.tolist() == [[0, 1, 0, 2, 0], [1, 0, 1, 0, 1]]
    assert profile.mean(0) == pytest.approx(5 / 3)
    assert profile.variance(1) == pytest.approx(1.0)
    assert (profile.present(1), profile.share(0, 2)) == (2, 2 / 3)


@settings(max_examples=30)
@given(cuts=st.lists(st.integers(0, 200), max_size=6), order=st.randoms(use_true_random=False))
def test_profiles_merge_in_any_order_and_grouping(cuts: list[int], order: object) -> None:
    everything = rows(200, seed=1)
    ends = [0, *sorted(cuts), 200]
    parts = [Profile.of(everything.part(a, b), BINS) for a, b in pairwise(ends)]
    order.shuffle(parts)  # type: ignore[attr-defined]
    left = parts[0]
    for part in parts[1:]:
        left = left.merge(part)
    right = parts[-1]
    for part in parts[-2::-1]:
        right = part.merge(right)
    assert same(left, right)
    assert same(left, Profile.of(everything, BINS))
    assert same(left.without(parts[0]).merge(parts[0]), left)


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), size=st.integers(1, 700))
def test_the_past_forgets_nothing_that_it_has_room_for(seed: int, size: int) -> None:
    everything = rows(3000, seed, step=7.0)
    past = Past()
    for start in range(0, 3000, size):
        for block in count(everything.part(start, min(start + size, 3000)), BINS, 0).blocks:
            past.add(block)
    assert same(past.since(-1.0).total(), Profile.of(everything, BINS))
    late = past.since(float(everything.time_s[1500])).total()
    assert abs(late.n - 1500) <= 512


def test_the_past_is_bounded() -> None:
    past = Past()
    for i in range(20_000):
        past.add(count(rows(300, 1, start=i * 4000.0), BINS, i % 28).blocks[0])
    assert len(past.newest) + len(past.older) <= 104
    assert past.last(600).n >= 600


def test_cells_are_quarters_of_the_week() -> None:
    monday = 4 * DAY_S
    assert [cell_of(monday + hour * 3600, True) for hour in (0, 5, 6, 23, 24)] == [0, 0, 1, 3, 4]
    assert cell_of(monday + 7 * DAY_S, True) == cell_of(monday, True)


def test_a_mixture_has_the_proportions_of_what_it_is_compared_with() -> None:
    """A stream that is 0 on Mondays and 3 on Tuesdays: a Tuesday is no drift."""
    cells = Cells({})
    for day in range(14):
        code = 3 if day % 2 else 0
        part = Rows(np.arange(200.0), np.full((200, 1), code, np.int32), np.full((200, 1), float(code)))
        cells.add(cell_of(day * DAY_S, True), Profile.of(part, BINS))
        cells.add(cell_of((day + 7) * DAY_S, True), Profile.of(part, BINS))
    thursday = cell_of(0.0, True)
    cells.parts[thursday].counts[:] = [[0, 0, 0, 0, 400]]
    mixed = cells.mixed({thursday: 50})
    assert mixed.share(0, 3) == 1.0
    assert mixed.n == 400
    both = cells.mixed({thursday: 50, cell_of(DAY_S, True): 150})
    assert 0 < both.share(0, 3) < 1
    assert both.n == round(1 / (0.25**2 / 400 + 0.75**2 / 800))


def test_a_cell_with_few_rows_is_stood_in_for() -> None:
    few = Profile.of(Rows(np.arange(5.0), np.zeros((5, 1), np.int32), np.zeros((5, 1))), BINS)
    many = Profile.of(Rows(np.arange(500.0), np.full((500, 1), 2, np.int32), np.full((500, 1), 2.0)), BINS)
    cells = Cells({0: few, 4: many})
    assert cells.mixed({0: 10}).share(0, 2) == pytest.approx(500 / 505)


def test_psi_of_no_change_is_about_zero() -> None:
    """F06."""
    draw = np.random.default_rng(3)
    p = np.full(32, 1 / 32)
    before = draw.multinomial(5000, p, 200)
    after = draw.multinomial(500, p, 200)
    assert psi_all(before, after).mean() < 0.01
    moved = draw.multinomial(500, np.repeat([0.5 / 32, 1.5 / 32], 16), 200)
    assert psi_all(before, moved).min() > 0.1


def test_a_window_tells_the_statistics_of_every_stream() -> None:
    """F06."""
    streams = [Stream("feature/x", "numeric"), Stream("missing/x", "rate")]
    bins = [Bins(edges=(0.5, 1.5, 2.5)), Bins(edges=(0.5,))]
    before = Profile(90, np.array([[0, 30, 30, 20, 10], [0, 90, 0, 0, 0]]), np.zeros(2), np.zeros(2))
    after = Profile(90, np.array([[0, 10, 20, 30, 30], [0, 90, 0, 0, 0]]), np.zeros(2), np.zeros(2))
    drift = window_drift(streams, bins, before, after)
    assert set(drift) == {"feature/x"}
    assert drift["feature/x"]["ks"] == pytest.approx(30 / 90)
    assert set(drift["feature/x"]) == {"psi", "js", "ks", "wasserstein"}
