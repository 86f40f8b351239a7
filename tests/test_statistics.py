"""F06: every statistic agrees with scipy on random counts, for one stream and for many at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial import distance

from detectors import statistics
from detectors.contract import Bins

Counts = NDArray[np.int64]
Pair = tuple[Counts, Counts]


@st.composite
def pairs(draw: st.DrawFn) -> Pair:
    """Counts of a reference and of a current sample over the same 1 to 12 bins, each with at least two rows."""
    size = draw(st.integers(1, 12))
    sides = [np.array(draw(st.lists(st.integers(0, 500), min_size=size, max_size=size))) for _ in range(2)]
    for side in sides:
        side[draw(st.integers(0, size - 1))] += 2
    return sides[0], sides[1]


def shares(counts: Counts) -> NDArray[np.float64]:
    return counts / counts.sum()


def smoothed(pair: Pair) -> list[NDArray[np.float64]]:
    used = (pair[0] + pair[1]) > 0
    return [(side[used] + 0.5) / (side.sum() + 0.5 * used.sum()) for side in pair]


def expanded(counts: Counts) -> NDArray[np.float64]:
    """A sample that has these counts at 0, 1, 2, ..."""
    return np.repeat(np.arange(len(counts)), counts).astype(float)


@settings(max_examples=60)
@given(pairs())
def test_the_information_statistics_agree_with_scipy(pair: Pair) -> None:
    """F06"""
    p, q = smoothed(pair)
    n, m = pair[0].sum(), pair[1].sum()
    assert statistics.kullback_leibler(*pair) == pytest.approx(stats.entropy(q, p), abs=1e-12)
    biased = stats.entropy(q, p) + stats.entropy(p, q)
    assert statistics.psi(*pair) == pytest.approx(biased - (len(p) - 1) * (1 / n + 1 / m), abs=1e-12)
    expected = distance.jensenshannon(shares(pair[0]), shares(pair[1]), base=2)
    assert statistics.jensen_shannon(*pair) == pytest.approx(expected, abs=1e-7)


@settings(max_examples=60)
@given(pairs())
def test_the_distances_agree_with_scipy(pair: Pair) -> None:
    """F06"""
    p, q = shares(pair[0]), shares(pair[1])
    places = np.cumsum(np.arange(1.0, len(p) + 1))
    assert statistics.wasserstein(*pair, places) == pytest.approx(stats.wasserstein_distance(places, places, p, q))
    assert statistics.total_variation(*pair) == pytest.approx(distance.cityblock(p, q) / 2)


@settings(max_examples=60)
@given(pairs())
def test_the_tests_agree_with_scipy(pair: Pair) -> None:
    """F06"""
    exact = stats.ks_2samp(expanded(pair[0]), expanded(pair[1]), method="asymp")
    assert statistics.kolmogorov_smirnov(*pair) == pytest.approx(exact.statistic, abs=1e-12)
    n, m = pair[0].sum(), pair[1].sum()
    limit = stats.kstwobign.sf(exact.statistic * np.sqrt(n * m / (n + m)))
    assert statistics.kolmogorov_smirnov_p(*pair) == pytest.approx(limit, abs=1e-9)
    used = (pair[0] + pair[1]) > 0
    table = np.array(pair)[:, used]
    if used.sum() > 1:
        statistic, p, _, _ = stats.chi2_contingency(table, correction=False)
        assert statistics.chi_square(*pair) == pytest.approx(statistic)
        assert statistics.chi_square_p(*pair) == pytest.approx(p, abs=1e-12)
    else:
        assert statistics.chi_square_p(*pair) == 1


@settings(max_examples=30)
@given(st.lists(pairs(), min_size=2, max_size=5))
def test_many_streams_at_once_are_each_as_if_alone(some: list[Pair]) -> None:
    """F06: streams of different widths, padded with zeros."""
    width = max(len(pair[0]) for pair in some)
    reference, current = (np.array([np.pad(pair[k], (0, width - len(pair[k]))) for pair in some]) for k in (0, 1))
    for function in VECTORISED:
        alone = [float(function(*pair)) for pair in some]
        assert function(reference, current) == pytest.approx(np.array(alone), nan_ok=True)


VECTORISED: tuple[Callable[..., NDArray[np.float64]], ...] = (
    statistics.psi,
    statistics.kullback_leibler,
    statistics.jensen_shannon,
    statistics.total_variation,
    statistics.kolmogorov_smirnov,
    statistics.kolmogorov_smirnov_p,
    statistics.chi_square,
    statistics.chi_square_p,
)


@pytest.mark.parametrize("function", VECTORISED)
def test_an_empty_side_gives_no_number(function: Callable[..., NDArray[np.float64]]) -> None:
    """F06"""
    assert np.isnan(function([3, 4], [0, 0]))
    assert np.isnan(function([0, 0], [3, 4]))


def test_the_debiased_index_is_zero_on_average_where_nothing_has_changed() -> None:
    """F06: the raw index of 20 bins and 500 rows is 0.08 by chance alone, most of the way to 'investigate'."""
    draw = np.random.default_rng(4)
    p = np.full(20, 0.05)
    found = statistics.psi(draw.multinomial(500, p, size=2_000), draw.multinomial(500, p, size=2_000))
    assert abs(found.mean()) < 4 * found.std() / np.sqrt(2_000) + 0.002
    assert found.std() < 0.05


def test_one_stream_gets_the_statistics_that_make_sense_for_it() -> None:
    """F06: order matters for numbers only."""
    numeric = statistics.all_of(Bins(edges=(0.0, 1.0, 2.0)), [10, 20, 30, 40], [40, 30, 20, 10])
    named = statistics.all_of(Bins(categories=("a", "b")), [10, 20, 30], [30, 20, 10])
    assert set(numeric) == set(statistics.NAMES)
    assert set(statistics.NAMES) - set(named) == {"ks", "wasserstein"}
    assert statistics.all_of(Bins(edges=(0.0,)), [1, 2], [0, 0]) == {}


def test_wasserstein_of_one_bin_moved_is_the_way_it_was_moved() -> None:
    """F06"""
    places = statistics.representatives(Bins(edges=(0.0, 2.0, 4.0)))
    assert statistics.wasserstein([0, 10, 0, 0], [0, 0, 10, 0], places) == pytest.approx(2.0)
