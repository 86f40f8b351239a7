"""Gaps between groups beyond what is tolerated, found without false alarms however often one looks (F18, F08)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors import gaps
from detectors.contract import Budget
from detectors.gaps import GapAlarm, GapState, Tolerance
from stream import codec


def watching(
    rates: tuple[float, ...], n: int, seed: int, per: float, gap: float = 0.1, drift: float = 0.0
) -> list[GapAlarm]:
    """Alarms of n rows of groups of one size; all rates wander together by `drift`."""
    draw = np.random.default_rng(seed)
    group = draw.integers(0, len(rates), n)
    level = drift * np.sin(np.arange(n) / 700)
    hit = (draw.random(n) < np.array(rates)[group] + level).astype(float)
    return gaps.take(gaps.begin(len(rates)), tolerance(per, gap), np.arange(n) * 60.0, group, hit)


def tolerance(per: float, gap: float = 0.1) -> Tolerance:
    return Tolerance(gap, 50, Budget(1.0, events=per))


def test_a_gap_of_what_is_tolerated_raises_no_more_false_alarms_than_accepted() -> None:
    """F08: 200 runs at the very edge of the null, one false alarm accepted in each; beyond the edge there are more."""
    edge = sum(len(watching((0.45, 0.35), 6400, seed, per=6400)) for seed in range(200))
    assert 0 < edge <= 200
    beyond = sum(len(watching((0.45, 0.35), 6400, seed, per=6400, gap=0.02)) for seed in range(20))
    assert beyond > 3 * 20


def test_rates_that_wander_together_are_no_gap() -> None:
    alarms = sum(len(watching((0.45, 0.35), 6400, seed, per=6400, drift=0.3)) for seed in range(60))
    assert alarms <= 60


def test_a_gap_of_twice_what_is_tolerated_is_found() -> None:
    found = [watching((0.50, 0.30), 12_800, seed, per=100_000) for seed in range(20)]
    assert all(found), "each of 20 runs"
    first = [alarms[0] for alarms in found]
    assert {(alarm.high, alarm.low) for alarm in first} == {(0, 1)}
    assert np.median([alarm.at_s / 60 for alarm in first]) < 4000
    assert np.mean([alarm.rates for alarm in first], axis=0) == pytest.approx([0.50, 0.30], abs=0.04)


def test_the_one_group_that_differs_is_found_among_many() -> None:
    alarm = watching((0.3, 0.3, 0.3, 0.6, 0.3, 0.3), 20_000, 3, per=1e6)[0]
    assert alarm.high == 3


def test_how_rows_are_cut_and_stored_does_not_matter() -> None:
    draw = np.random.default_rng(4)
    n = 9000
    group, time_s = draw.integers(-1, 3, n), np.cumsum(draw.random(n))
    hit = (draw.random(n) < np.array([0.2, 0.25, 0.6, 0.0])[group]).astype(float)
    straight = gaps.take(gaps.begin(3), tolerance(20_000), time_s, group, hit)
    state, cut = gaps.begin(3), []
    for rows in np.array_split(np.arange(n), np.sort(draw.choice(n, 40, replace=False))):
        cut += gaps.take(state, tolerance(20_000), time_s[rows], group[rows], hit[rows])
        state = codec.unpack(GapState, codec.pack(state))
    assert straight and cut == straight


def test_evidence_of_a_block_is_a_known_number_and_has_at_most_the_mean_1() -> None:
    """By hand: 2 rows of i, 1 of j, rates .5 before, nothing tolerated: both points of the null are .5, the variances
    .125 + .25, so a bet on .02 is .0533, and the first row of i, a hit, multiplies by 1 + .0533 / 2 * .5."""
    recent = np.array([[100.0, 50.0], [100.0, 50.0]])
    bet = 0.02 / (0.25 / 2 + 0.25)
    seen = gaps.evidence(np.array([[2.0, 1.0], [1.0, 0.0]]), recent, 0.0)[0, 1, 0]
    by_hand = (1 + bet / 2 * 0.5) * (1 - bet / 2 * 0.5) * (1 + bet * 0.5)
    assert np.exp(seen) == pytest.approx(by_hand)
    assert gaps.evidence(np.array([[2.0, 1.0], [0.0, 0.0]]), recent, 0.0).tolist() == np.zeros((2, 2, 5)).tolist()


def binomial(k: int, n: int, rate: float) -> float:
    """Written out, as scipy's overflows at rates of 1e-308."""
    return math.comb(n, k) * rate**k * (1 - rate) ** (n - k)


@given(
    n_i=st.integers(1, 6), n_j=st.integers(1, 6), rate_j=st.floats(0, 1), gap=st.floats(0, 0.5),
    below=st.floats(0, 0.5), guess=st.floats(0, 1),
)  # fmt: skip
def test_no_bet_gains_under_the_null(n_i: int, n_j: int, rate_j: float, gap: float, below: float, guess: float) -> None:
    """The mean over all outcomes of a block, whatever the rates, as long as they differ by no more than tolerated; and
    however wrongly they were guessed."""
    rate_i = min(max(rate_j + gap - below, 0.0), 1.0)
    recent = np.array([[40.0, 40 * guess], [40.0, 40 * (1 - guess)]])
    mean = np.zeros(len(gaps.EXCESS))
    for k_i in range(n_i + 1):
        for k_j in range(n_j + 1):
            block = np.array([[n_i, k_i], [n_j, k_j]], np.float64)
            chance = binomial(k_i, n_i, rate_i) * binomial(k_j, n_j, rate_j)
            mean += chance * np.exp(gaps.evidence(block, recent, gap)[0, 1])
    assert (mean <= 1 + 1e-9).all()
