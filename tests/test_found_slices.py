"""Slices found in the reference, and what a mean hides of them (F10)."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from detectors import binning, found_slices, randomness
from detectors.contract import Bins, Budget, Rows, Stream
from detectors.counts import Counts
from detectors.found_slices import belongs, change, find
from tests import streams
from tests.streams import Floats

COLUMNS = [*(Stream(f"c{j}", "categorical") for j in range(6)), *(Stream(f"x{j}", "numeric") for j in range(4))]
BINS = [Bins(categories=tuple("abcde"))] * 6 + [Bins(edges=tuple(np.arange(1.0, 32.0)))] * 4


def rows(draw: np.random.Generator, n: int) -> found_slices.Codes:
    """Six categorical columns (one in 20 of c5 missing) and four numeric ones of 32 bins, independent."""
    letters = draw.choice(5, (n, 6), p=[0.35, 0.25, 0.2, 0.15, 0.05])
    letters[:, 5] = np.where(draw.random(n) < 0.05, -1, letters[:, 5])
    return np.column_stack([letters, draw.integers(0, 32, (n, 4))]).astype(np.int32)


def wrong(draw: np.random.Generator, chance: Floats) -> Floats:
    return (draw.random(len(chance)) < chance).astype(np.float64)


def test_bad_slices_are_found_and_nothing_else() -> None:
    """F10: a category, a crossing with a range of numbers, and missing values; the sides of the crossing are bad by it
    only, and are left out."""
    draw = np.random.default_rng(1)
    codes = rows(draw, 8_000)
    chance = np.full(8_000, 0.1)
    chance[codes[:, 0] == 1] = 0.25
    chance[(codes[:, 1] == 0) & (codes[:, 6] < 8)] = 0.45
    chance[codes[:, 5] == -1] = 0.5
    found = find(COLUMNS, BINS, codes, wrong(draw, chance))
    assert {each.words for each in found} == {"c0 = b", "c1 = a and x0 <= 8", "c5 is missing"}
    for each in found:
        assert 0 < each.low < each.excess < each.loss and each.share == each.rows / 8_000
    assert [each.carried for each in found] == sorted((each.carried for each in found), reverse=True)


def test_a_crossing_without_any_bad_side_is_found() -> None:
    """F10: two columns that are wrong where they disagree; either alone tells nothing."""
    draw = np.random.default_rng(2)
    codes = rows(draw, 4_000)
    codes[:, :2] = draw.integers(0, 2, (4_000, 2))
    found = find(COLUMNS, BINS, codes, wrong(draw, np.where(codes[:, 0] != codes[:, 1], 0.3, 0.1)))
    assert {each.words for each in found} == {"c0 = a and c1 = b", "c0 = b and c1 = a"}


@pytest.mark.parametrize("kind", ["error", "absolute"])
def test_where_nothing_is_bad_nothing_is_proposed(kind: str) -> None:
    """F10: 40 references, each searched through some 700 slices; at most one in twenty may propose anything."""
    draw = np.random.default_rng(3)
    proposed = 0
    for _ in range(40):
        loss = wrong(draw, np.full(2_000, 0.05)) if kind == "error" else np.abs(draw.standard_t(4, 2_000))
        proposed += bool(find(COLUMNS, BINS, rows(draw, 2_000), loss))
    assert proposed <= 5


def test_the_order_of_rows_does_not_matter() -> None:
    """F10: the same rows give the same slices, to the last bit."""
    draw = np.random.default_rng(4)
    codes = rows(draw, 3_000)
    loss = np.abs(draw.normal(size=3_000)) * np.where(codes[:, 2] == 0, 2.0, 1.0)
    loss[::7] = np.nan
    order = randomness.generator(1, "rows").permutation(3_000)
    found = find(COLUMNS, BINS, codes, loss)
    assert len(found) == 1 and found[0].words == "c2 = a" and found == find(COLUMNS, BINS, codes[order], loss[order])


def test_what_is_found_can_be_looked_up_in_later_rows() -> None:
    """F10: the rows of a slice, wherever its columns stand; a column that is gone is missing."""
    draw = np.random.default_rng(5)
    codes = rows(draw, 4_000)
    mine = (codes[:, 3] == 2) & (codes[:, 7] >= 24)
    found = find(COLUMNS, BINS, codes, wrong(draw, np.where(mine, 0.9, 0.1)))
    assert [each.words for each in found] == ["c3 = c and 24 < x1"]
    names = [stream.name for stream in COLUMNS]
    assert np.array_equal(belongs(found, names, codes)[:, 0], mine) and found[0].rows == mine.sum()
    assert np.array_equal(belongs(found, names[::-1], codes[:, ::-1])[:, 0], mine)
    assert not belongs(found, names[:3], codes[:, :3]).any()


def lettered(
    draw: np.random.Generator, n: int, columns: int, levels: int
) -> tuple[list[Stream], list[Bins], found_slices.Codes]:
    """Categorical columns of so many levels."""
    streams_of = [Stream(f"c{j}", "categorical") for j in range(columns)]
    bins = [Bins(categories=tuple("abcdefghij"[:levels]))] * columns
    return streams_of, bins, draw.integers(0, levels, (n, columns)).astype(np.int32)


def test_slices_are_bounded_in_number() -> None:
    """F10: 24 disjoint crossings of two columns are bad, and no level of either more than another."""
    draw = np.random.default_rng(6)
    columns, bins, codes = lettered(draw, 8_000, 12, 8)
    bad = (codes[:, 1] - codes[:, 0]) % 8 < 3
    found = find(columns, bins, codes, wrong(draw, np.where(bad, 0.9, 0.05)))
    assert len(found) == found_slices.SLICES_MAX
    for each in found:
        (first,), (second,) = (condition.codes for condition in each.conditions)
        assert (second - first) % 8 < 3


def test_the_search_is_bounded() -> None:
    """F10: of 400 levels the beam takes those that carry most; a reference may be too small, or tell nothing."""
    draw = np.random.default_rng(6)
    columns, bins, codes = lettered(draw, 4_000, 40, 10)
    loss = wrong(draw, np.where(codes[:, 30] == 7, 0.4, 0.1))
    assert [each.words for each in find(columns, bins, codes, loss)] == ["c30 = h"]
    assert find(columns, bins, codes[:99], loss[:99]) == []
    assert find(columns, bins, codes, np.full(4_000, np.nan)) == []
    assert find(columns, bins, codes, np.ones(4_000)) == []


def test_simpson_s_paradox_is_seen_in_the_slices_found_and_explained() -> None:
    """F10: losses rise by half in either channel while the whole falls, as rows move to the better channel. The slice
    was found in the reference; the whole says nothing, or that all is well."""
    draw = np.random.default_rng(7)
    columns, bins = COLUMNS[:2], BINS[:2]

    def sample(n: int, share: float, losses: tuple[float, float]) -> tuple[found_slices.Codes, Floats]:
        channel = (draw.random(n) < share).astype(np.int32)
        codes = np.column_stack([channel, draw.integers(0, 5, n)]).astype(np.int32)
        return codes, wrong(draw, np.array(losses)[channel])

    before, after = sample(6_000, 0.5, (0.1, 0.3)), sample(6_000, 0.1, (0.15, 0.45))
    found = find(columns, bins, before[0], before[1])
    assert [each.words for each in found] == ["c0 = b"]
    names = [stream.name for stream in columns]
    watched = [Stream("loss", "loss"), Stream("loss[c0 = b]", "loss"), Stream("loss[others]", "loss")]
    losses = []
    for codes, loss in (before, after):
        mine = belongs(found, names, codes)[:, 0]
        losses.append(np.column_stack([loss, np.where(mine, loss, np.nan), np.where(mine, np.nan, loss)]))
    values = np.concatenate(losses)
    rate = [binning.learn_bins(stream, np.zeros(0)) for stream in watched]
    whole: Rows = streams.rows(rate, values, streams.each_second(12_000))
    alarms = streams.run(Counts(watched, Budget(1.0, events=1e6), 1), rate, whole, 6_000)
    assert {alarm.name for alarm in alarms} == {"loss[c0 = b]", "loss[others]"}
    assert all(alarm.what == "loss up" for alarm in alarms)
    n, mean = (~np.isnan(values[:6_000, 1:])).sum(0), np.nanmean(values[:6_000, 1:], 0)
    m, now = (~np.isnan(values[6_000:, 1:])).sum(0), np.nanmean(values[6_000:, 1:], 0)
    parts = change(n, mean, m, now)
    assert parts.paradox and parts.within > 0.05 and parts.whole < 0
    assert parts.whole == pytest.approx(values[6_000:, 0].mean() - values[:6_000, 0].mean())
    assert parts.within + parts.mix == pytest.approx(parts.whole)


def test_slices_that_come_or_go_count_as_mix() -> None:
    parts = change(
        np.array([10, 0, 0]), np.array([0.1, np.nan, np.nan]), np.array([10, 10, 0]), np.array([0.1, 0.5, np.nan])
    )
    assert parts.within == 0.0 and parts.mix == parts.whole == pytest.approx(0.2) and not parts.paradox


def test_examples_in_docstrings_are_true() -> None:
    assert doctest.testmod(found_slices).attempted > 0 and doctest.testmod(found_slices).failed == 0
