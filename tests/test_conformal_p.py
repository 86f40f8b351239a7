"""Conformal p-values of single rows: uniform for ordinary rows, small for strange ones (F57)."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from detectors import binning, codependence, conformal
from detectors.contract import Bins, Stream
from tests import streams
from tests.streams import Floats

CATEGORIES = ("a", "b", "c")
FEATURES = [*(Stream(f"x{j}", "numeric") for j in range(5)), Stream("plan", "categorical")]


class Learned(NamedTuple):
    bins: list[Bins]
    found: conformal.Strangeness

    def p(self, x: Floats, first: int = 0) -> Floats:
        return conformal.p_values(self.found, coded(self.bins, x), x, first)


def ordinary(draw: np.random.Generator, n: int) -> Floats:
    """Five numbers, of which the first two hang together and the last has heavy tails, and a category as its number;
    one in twenty values of x2 is missing."""
    x = draw.normal(size=(n, 6))
    x[:, 1] = 0.9 * x[:, 0] + np.sqrt(1 - 0.81) * x[:, 1]
    x[:, 2] = np.where(draw.random(n) < 0.05, np.nan, x[:, 2])
    x[:, 4] = draw.standard_t(2, n)
    x[:, 5] = draw.choice(3, n, p=[0.6, 0.3, 0.1])
    return x


def coded(bins: list[Bins], x: Floats) -> codependence.Codes:
    numbers = [binning.code(own, x[:, j]) for j, own in enumerate(bins[:5])]
    return np.column_stack([*numbers, np.minimum(x[:, 5], 3)]).astype(np.int32)  # 3: a category never seen


def learn(x: Floats, seed: int = 1) -> Learned:
    """Everything that shapes the measure comes from the first half, as it must."""
    half = x[: len(x) // 2]
    bins = [*(binning.learn_bins(FEATURES[j], half[:, j]) for j in range(5)), Bins(categories=CATEGORIES)]
    codes = coded(bins, x)
    hang = codependence.learn(FEATURES, bins, codes[: len(half)], seed)
    return Learned(bins, conformal.learn(FEATURES, bins, codes, x, hang, seed))


def test_p_values_of_exchangeable_rows_are_uniform_exactly() -> None:
    """F57: also with a hundred calibration rows only, when each reference is asked about a few rows."""
    draw = np.random.default_rng(1)
    pooled = []
    for seed in range(250):
        x = ordinary(draw, 204)
        pooled.append(learn(x[:200], seed).p(x[200:]))
    assert stats.kstest(np.concatenate(pooled), "uniform").pvalue > 0.01


def test_rows_that_shaped_the_measure_may_not_calibrate_it() -> None:
    """F57: the check above is itself checked: calibrated by its own half, the measure finds new rows too strange."""
    draw = np.random.default_rng(1)
    pooled = []
    for seed in range(250):
        x = ordinary(draw, 204)
        made = learn(x[:200], seed)
        own = np.sort(conformal.scores(made.found, coded(made.bins, x[:100]), x[:100]))
        spoilt = Learned(made.bins, msgspec.structs.replace(made.found, scores=own))
        pooled.append(spoilt.p(x[200:]))
    assert stats.kstest(np.concatenate(pooled), "uniform").pvalue < 0.01


@pytest.fixture(scope="module")
def learned() -> Learned:
    return learn(ordinary(np.random.default_rng(2), 5_000))


def test_few_ordinary_rows_are_flagged(learned: Learned) -> None:
    """F57: about one in a hundred below 0.01, and the rest uniform as far as 2,500 calibration rows can tell."""
    p = learned.p(ordinary(np.random.default_rng(3), 2_000))
    assert 0.003 < (p < conformal.STRANGE_P).mean() < 0.02
    assert stats.kstest(p, "uniform").statistic < 0.05 and p.min() > 0 and p.max() < 1


def spoil(x: Floats, how: str) -> Floats:
    x = x.copy()
    if how == "x1000":
        x[:, 3] *= 1000
    elif how == "far out in a heavy tail":
        x[:, 4] = 500.0
    elif how == "category never seen":
        x[:, 5] = 3
    elif how == "missing that never is":
        x[:, 0] = np.nan
    elif how == "against the correlation":
        x[:, 0], x[:, 1] = 1.5, -1.5
    elif how == "everything a bit off":
        x[:, :5] *= 2.5
    return x


@pytest.mark.parametrize(
    ("how", "least", "named"),
    [
        ("x1000", 0.95, 3),
        ("far out in a heavy tail", 0.95, 4),
        ("category never seen", 0.95, 5),
        ("missing that never is", 0.95, 0),
        ("against the correlation", 0.95, conformal.COMBINATION),
        ("everything a bit off", 0.3, None),
    ],
)
def test_strange_rows_have_small_p_values(learned: Learned, how: str, least: float, named: int | None) -> None:
    """F57: each kind of strangeness, none of which a marginal or a distance would see alone; and what it is."""
    x = spoil(ordinary(np.random.default_rng(4), 500), how)
    assert (learned.p(x) < conformal.STRANGE_P).mean() >= least
    if named is not None:
        said = conformal.strangest(learned.found, coded(learned.bins, x), x)
        assert (said == named).mean() > 0.9


def test_nothing_but_ties_is_uniform_too() -> None:
    """F57: a reference in which nothing varies; ties are broken by the number of the row."""
    x = np.tile([1.0, 2.0, 3.0, 4.0, 5.0, 0.0], (300, 1))
    made = learn(x)
    p = made.p(np.repeat(x[:1], 2_000, 0))
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert made.p(np.array([[1.0, 2.0, 3.0, 4.5, 5.0, 0.0]]))[0] < 0.01


@settings(max_examples=25)
@given(st.lists(st.integers(0, 120), max_size=5), st.integers(0, 10**12))
def test_cutting_rows_into_calls_changes_nothing(learned: Learned, sizes: list[int], first: int) -> None:
    x = ordinary(np.random.default_rng(5), 150)
    cuts = [0, *np.minimum(np.cumsum(sizes), 150).astype(int).tolist(), 150]
    parts = [learned.p(x[a:b], first + a) for a, b in itertools.pairwise(cuts)]
    assert np.array_equal(np.concatenate(parts), learned.p(x, first))


def test_a_row_without_any_value_is_strange_and_no_fault(learned: Learned) -> None:
    x = np.full((1, 6), np.nan)
    codes = np.full((1, 6), -1, np.int32)
    assert conformal.p_values(learned.found, codes, x, 0)[0] < 0.01


def test_memory_is_bounded_and_state_goes_round() -> None:
    made = learn(ordinary(np.random.default_rng(6), 12_000))
    assert len(made.found.scores) == conformal.CALIBRATION_MAX
    state = conformal.pack(made.found)
    assert len(state) < 50_000
    x = ordinary(np.random.default_rng(7), 50)
    assert np.array_equal(Learned(made.bins, conformal.unpack(state)).p(x), made.p(x))
    with pytest.raises(ValueError, match="not the state"):
        conformal.unpack(b"")


def test_too_small_a_reference_is_said() -> None:
    with pytest.raises(ValueError, match="99 rows to shape and 99 to calibrate"):
        learn(ordinary(np.random.default_rng(8), 198))


def test_one_feature_suffices() -> None:
    draw = np.random.default_rng(9)
    x = draw.normal(size=(1_000, 1))
    feature = [Stream("x", "numeric")]
    bins = streams.learned(feature, x[:500])
    codes = streams.rows(bins, x, streams.each_second(1_000)).codes
    found = conformal.learn(feature, bins, codes, x, codependence.learn(feature, bins, codes[:500], 1), 1)
    far = np.array([[9.0]])
    assert conformal.p_values(found, streams.rows(bins, far, np.zeros(1)).codes, far, 0)[0] < 0.01
