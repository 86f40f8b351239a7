"""The parts that detectors are made of: bins, keyed randomness, exact scores, bets, budget, onset."""

from __future__ import annotations

import doctest
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import optimize, special, stats
from scipy.special import gammaln

from detectors import bets, binning, budget, describe, randomness, scores, since, statistics
from detectors.contract import Bins, Budget, Kind, Stream

NUMERIC = Stream("x", "numeric")


@settings(max_examples=100)
@given(st.lists(st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, 1.0, -3.0]), max_size=200))
def test_numeric_bins_hold_what_lies_between_their_edges(values: list[float]) -> None:
    x = np.array(values, np.float64)
    bins = binning.learn_bins(NUMERIC, x)
    edges = np.array(bins.edges)
    assert len(edges) <= binning.QUANTILE_BINS and np.all(np.diff(edges) > 0)
    codes = binning.code(bins, x)
    assert codes.dtype == np.int32 and np.array_equal(codes < 0, np.isnan(x))
    padded = np.concatenate([[-np.inf], edges, [np.inf]])
    for value, k in zip(x, codes, strict=True):
        assert k < 0 or padded[k] < value <= padded[k + 1] or np.isneginf(value)


def test_quantile_bins_are_about_equally_full() -> None:
    x = np.random.default_rng(1).normal(size=20_000)
    bins = binning.learn_bins(NUMERIC, x)
    counts = binning.count(binning.code(bins, x)[:, None], bins.size)[0]
    assert bins.size == 32 and counts.min() > 600 and counts.sum() == 20_000


def test_a_constant_has_a_bin_on_either_side() -> None:
    bins = binning.learn_bins(NUMERIC, np.full(50, 3.0))
    assert binning.code(bins, np.array([2.9, 3.0, 3.1, np.nan])).tolist() == [0, 1, 2, -1]


def test_the_busiest_categories_have_bins_and_the_others_share_one() -> None:
    values = [f"c{k}" for k in range(30) for _ in range(40 - k)] + [None]
    bins = binning.learn_bins(Stream("c", "categorical"), values)
    assert bins.categories == tuple(f"c{k}" for k in range(20)) and bins.size == 21
    assert binning.code(bins, ["c0", "c19", "c20", "new", None]).tolist() == [0, 19, 20, 20, -1]


def test_rates_and_losses_have_two_bins() -> None:
    for kind in ("rate", "loss"):
        bins = binning.learn_bins(Stream("r", kind), np.zeros(3))
        assert binning.code(bins, np.array([0.0, 1.0, np.nan])).tolist() == [0, 1, -1]


def test_counts_leave_out_what_is_missing_or_beyond_the_bins() -> None:
    codes = np.array([[0, 2], [1, -1], [1, 7]], np.int32)
    assert binning.count(codes, 3).tolist() == [[1, 2, 0], [0, 0, 1]]


def test_uniforms_depend_on_names_and_counters_only() -> None:
    both = randomness.uniforms(randomness.keys(7, ["a", "b"]), 5, 9)
    alone = randomness.uniforms(randomness.keys(7, ["b"]), 5, 9)
    assert np.array_equal(both[1], alone[0])
    for other in (
        randomness.uniforms(randomness.keys(8, ["b"]), 5, 9),
        randomness.uniforms(randomness.keys(7, ["b"]), 6, 9),
    ):
        assert not np.any(other[0] == alone[0])


def test_uniforms_are_uniform_across_blocks_and_places() -> None:
    key = randomness.keys(1, ["x"])
    table = np.array([randomness.uniforms(key, block, 20)[0] for block in range(2_000)])
    assert stats.kstest(table.ravel(), "uniform").pvalue > 0.01
    assert abs(np.corrcoef(table[:-1, 0], table[1:, 0])[0, 1]) < 0.08
    assert abs(np.corrcoef(table[:, 0], table[:, 1])[0, 1]) < 0.08


def test_scores_agree_with_the_hypergeometric_distribution_of_scipy() -> None:
    draw = np.random.default_rng(3)
    a, b = draw.integers(0, 400, 3_000), draw.integers(0, 4_000, 3_000)
    m = (draw.random(3_000) * (a + b)).astype(np.int64)
    h = stats.hypergeom.rvs(a + b, a, m, random_state=draw)
    xi = draw.uniform(0.01, 0.99, 3_000)
    law = stats.hypergeom(a + b, a, m)
    expected = stats.norm.ppf(law.cdf(h - 1) + xi * law.pmf(h))
    found = scores.hypergeometric_scores(h.astype(np.int64), m, a, b, xi)
    assert np.abs(found - expected).max() < 1e-6


def test_log_factorials_beyond_the_table_follow_stirling() -> None:
    x = np.array([0, 5, 300, scores.TABLE - 1, scores.TABLE, 5_000_000])
    assert scores.log_factorial(x) == pytest.approx(gammaln(x + 1.0), rel=1e-12)
    assert scores.log_factorial(x[:4]) == pytest.approx(gammaln(x[:4] + 1.0), rel=1e-12)


@pytest.mark.parametrize("bag_rows", [20, 2_000])
def test_all_scores_of_all_blocks_are_independent_standard_normals(bag_rows: int) -> None:
    """F08: the lemma that everything rests on, for a bag of 20 rows too."""
    draw = np.random.default_rng(bag_rows)
    p = np.array([0.4, 0.3, 0.2, 0.1])
    nodes, key = scores.tree(p), randomness.keys(9, ["x"])
    found = []
    for run in range(300):
        bag = draw.multinomial(bag_rows, p)
        for t in range(4):
            block = draw.multinomial(32, p)
            found.append(scores.node_scores(block, bag, nodes, randomness.uniforms(key, 4 * run + t, 3)[0]))
            bag = bag + block
    z = np.array(found)
    assert stats.kstest(z.ravel(), "norm").pvalue > 0.01
    across = np.corrcoef(z.T) - np.eye(3)
    later = np.corrcoef(z.reshape(300, 12).T) - np.eye(12)
    assert np.abs(across).max() < 0.1 and np.abs(later).max() < 0.25


@pytest.mark.parametrize("kind", ["numeric", "categorical", "rate", "loss"])
def test_every_bet_is_fair_and_weights_sum_to_one(kind: Kind) -> None:
    """F08: exp(sqrt(r) v.z - r |v|^2 / 2) has mean 1 for normal z."""
    p = bets.smooth(np.array([90, 10] if kind in ("rate", "loss") else [50, 30, 0, 20, 5, 5, 5]))
    made = bets.make(p, kind, [f"n{k}" for k in range(len(p))])
    assert made.alternatives.weights.sum() == pytest.approx(1)
    z = np.random.default_rng(2).normal(size=(200_000, len(made.nodes)))
    moderate = (made.vectors**2).sum(0) * 32 < 1
    log_evidence = np.sqrt(32) * z @ made.vectors[:, moderate] - 16 * (made.vectors[:, moderate] ** 2).sum(0)
    assert moderate.any() and np.exp(log_evidence).mean(0) == pytest.approx(1, abs=0.03)
    if kind == "loss":
        assert {words for words in made.alternatives.words} == {"loss up"}


def test_a_stream_of_one_bin_is_not_betted_on() -> None:
    made = bets.make(np.ones(1), "numeric", ["0"])
    assert made.alternatives.weights.sum() == 0 and made.nodes.shape == (0, 3)


def test_shares_follow_weights_and_refuse_nonsense() -> None:
    """F08"""
    assert budget.shares([Stream("a", "numeric"), Stream("b", "loss", 3.0)]).tolist() == [0.25, 0.75]
    for wrong in ([], [Stream("a", "numeric", 0.0)], [Stream("a", "numeric", float("nan"))]):
        with pytest.raises(ValueError, match="positive weight"):
            budget.shares(wrong)


@pytest.mark.parametrize(
    ("paid", "signal"),
    [
        ([1e-7], [5.0]),
        ([1e-7], [8.0]),
        ([1e-3], [2.0]),
        ([0.4], [1.0]),
        ([1e-12], [7.5]),
        ([0.9], [0.5]),
        ([0.2, 0.2, 0.2, 0.2], [0.3, 0.4, 0.6, 0.9]),
        ([1e-6, 0.3, 0.0, 1e-3], [2.0, 0.3, 7.0, 1.0]),
        ([1e-9, 1e-8], [0.01, 6.0]),
    ],
)
def test_a_raised_group_pays_for_alarms_what_it_was_paid_and_no_more(paid: list[float], signal: list[float]) -> None:
    """F08: E[min(c sum paid e, 1)] is what was paid, by quadrature of the normal score."""
    factor = float(budget.raised(np.array([paid]), np.array([signal]))[0])
    z = np.linspace(-12, 45, 600_001)
    logs = [factor + s * z - s**2 / 2 for s in signal]
    value = np.minimum(sum(p * np.exp(np.minimum(x, 700.0)) for p, x in zip(paid, logs, strict=True)), 1.0)
    expected = float(np.trapezoid(value * stats.norm.pdf(z), z))
    assert factor > 0 and 0.97 * sum(paid) < expected <= sum(paid) * (1 + 1e-6)


def test_a_group_is_raised_by_more_than_its_bets_are_each_by_itself() -> None:
    """F08: four bets that are about to cross together, and none of them alone."""
    paid, signal = np.full((1, 4), 0.2), np.array([[0.3, 0.4, 0.5, 0.6]])
    assert budget.raised(paid, signal)[0] > 2 * budget.raised(paid.T, signal.T).max()


@given(
    st.lists(
        st.lists(st.tuples(st.floats(0, 0.7), st.just(0.0) | st.floats(1e-3, 200)), min_size=3, max_size=3),
        min_size=1,
        max_size=8,
    )
)
def test_no_group_is_raised_beyond_what_it_was_paid(groups: list[list[tuple[float, float]]]) -> None:
    """F08: whatever the Newton steps had time for; what was not paid, or cannot matter in one block, stays."""
    paid, signal = np.moveaxis(np.array(groups), 2, 0)
    factor = budget.raised(paid, signal)
    assert factor.shape == (len(groups),) and np.all(factor >= 0) and np.all(np.isfinite(factor))
    for group, s, raised in zip(paid, signal, factor, strict=True):
        if not 0 < group.sum() < 1 or not s[group > 0].any():
            assert raised == 0
        elif raised > 0:
            assert _spent(group, s, float(raised)) <= group.sum() * (1 + 1e-9)


def _spent(paid: NDArray[np.float64], signal: NDArray[np.float64], log_factor: float) -> float:
    """E[min(c sum paid e, 1)], the crossing found by halving."""
    paid, signal = paid[paid > 0], signal[paid > 0]
    logs = np.log(paid) + log_factor - signal**2 / 2
    z = optimize.brentq(lambda z: np.logaddexp.reduce(logs + signal * z), -1e3, 1e6)
    return float(np.exp(np.log(paid) + log_factor + special.log_ndtr(z - signal)).sum() + special.ndtr(-z))


def test_wages_are_what_the_budget_pays_for_rows_or_for_time() -> None:
    """F08"""
    assert Budget(2, events=1_000).wage(50, 7) == pytest.approx(0.1)
    assert Budget(2, seconds=100).wage(50, 7) == pytest.approx(0.14)
    with pytest.raises(ValueError, match="per seconds or per events"):
        Budget(2).wage(1, 1)


def test_the_onset_interval_holds_the_change_six_times_in_seven() -> None:
    """F05"""
    draw = np.random.default_rng(5)
    held, distance = 0, []
    for _ in range(300):
        x = draw.normal(size=60)
        x[40:] += 1.0
        found = since.onset(x, np.ones(60))
        held += found.low <= 40 <= found.high
        distance.append(abs(found.at - 40))
    assert held > 255 and np.median(distance) <= 2


def test_the_onset_takes_the_level_before_from_what_came_before() -> None:
    """F05: a reference of the same high level means that nothing has begun."""
    x = np.full(20, 2.0)
    x[15:] = 4.0
    assert since.onset(x * 10, np.full(20, 10.0), 2.0 * 1_000, 1_000.0).at == 15


def test_effects_are_in_standard_deviations_or_in_shares() -> None:
    """F09"""
    draw = np.random.default_rng(8)
    x = draw.normal(size=20_000)
    bins = binning.learn_bins(NUMERIC, x)
    before, after = (binning.count(binning.code(bins, y)[:, None], bins.size)[0] for y in (x, x[:5_000] + 0.5))
    sizes = describe.effect("numeric", bins, before, after, -1)
    assert sizes["effect"] == pytest.approx(0.5, abs=0.06)
    assert sizes["current"] - sizes["reference"] == pytest.approx(0.5, abs=0.06)
    shares = describe.effect(
        "categorical", Bins(categories=("a", "b")), np.array([50, 50, 0]), np.array([80, 20, 0]), 0
    )
    assert shares == {"effect": pytest.approx(0.3), "reference": 0.5, "current": 0.8, "rows": 100.0}


@pytest.mark.parametrize("module", [binning, since, statistics])
def test_examples_in_docstrings_are_true(module: ModuleType) -> None:
    assert doctest.testmod(module).attempted > 0 and doctest.testmod(module).failed == 0
