"""What a candidate must pass before it is published: each check on figures worked out by hand (F34)."""

from __future__ import annotations

import math

import numpy as np
import pytest

from learners import guard
from learners.contract import Label, Said
from learners.guard import ENOUGH, Answered, Candidate
from learners.plans import GuardPlan
from tests.guarding import said

NAN = float("nan")


def answers(n: int, seed: int, lost: float = 0.0, shift: float = 0.0) -> list[Answered]:
    """The good copy knows the probability; the candidate's logit is off by noise `lost` and by `shift`."""
    draw = np.random.default_rng([seed, 42])
    logit = draw.normal(0, 2, n)
    y = draw.random(n) < 1 / (1 + np.exp(-logit))
    good = 1 / (1 + np.exp(-(logit + draw.normal(0, 0.1, n))))
    own = 1 / (1 + np.exp(-(logit + draw.normal(0, 0.1 + lost, n) + shift)))
    rows = zip(y.astype(int).tolist(), own.tolist(), good.tolist(), strict=True)
    return [Answered(label, said(a), said(b), "ab"[i % 2], (f"shop {i % 3}",)) for i, (label, a, b) in enumerate(rows)]


def candidate(given: list[Answered], size_bytes: int = 1_000) -> Candidate:
    return Candidate("binary", given, size_bytes)


def failed(plan: GuardPlan, one: Candidate) -> list[str]:
    return [finding.check for finding in guard.examine(plan, one).broken]


def test_healthy_candidates_are_hardly_ever_halted() -> None:
    """F34: 600 candidates that differ from the last good copy by chance; at most one in a hundred may be halted."""
    halted = sum(bool(failed(GuardPlan(), candidate(answers(200, seed)))) for seed in range(600))
    assert halted <= 1


def test_candidates_just_at_the_margin_are_halted_no_more_often_than_alpha() -> None:
    """F34: the mean loss is exactly the margin; of 4,000 candidates alpha is 200, give or take 40."""
    draw = np.random.default_rng(44)
    halted = 0
    for _ in range(4_000):
        differences = (0.01 + 0.1 * draw.normal(size=60)).tolist()
        halted += not guard._paired("loss", "all", differences, 0.01, 0.05).holds
    assert 150 <= halted <= 250


def test_bad_candidates_are_halted_for_their_loss() -> None:
    """F34: an eighth of Brier worse, 100 answers."""
    found = [failed(GuardPlan(), candidate(answers(100, seed, shift=-4.0))) for seed in range(40)]
    assert sum("loss" in one for one in found) >= 38


def test_an_answer_that_is_no_number_halts_whatever_else_is_true() -> None:
    """F34: in a score, in a number, in one of several probabilities."""
    fine = answers(100, 1)
    for bad in (Said(1, NAN), Said(math.inf), Said("a", 0.5, {"a": 0.5, "b": NAN})):
        verdict = guard.examine(GuardPlan(), candidate([*fine, fine[0]._replace(candidate=bad)]))
        assert [one.check for one in verdict.broken] == ["finite"] and not verdict.holds
        assert verdict.broken[0].words == "1 of 101 answers are no numbers"


def test_size_latency_and_update_rate_have_plain_bounds() -> None:
    """F34."""
    plan = GuardPlan(size_bytes_max=5_000, latency_ms_max=2.0, updates_per_second_max=10.0)
    small = Candidate("binary", answers(100, 2), 5_000, updates=600, seconds=60.0, latency_ms=2.0)
    assert failed(plan, small) == []
    assert failed(plan, small._replace(size_bytes=5_001)) == ["size"]
    assert failed(plan, small._replace(latency_ms=2.1)) == ["latency"]
    assert failed(plan, small._replace(latency_ms=NAN)) == ["latency"]
    assert failed(plan, small._replace(updates=601)) == ["update_rate"]
    assert failed(plan, small._replace(seconds=0.0)) == ["update_rate"]
    assert failed(plan, small._replace(seconds=0.0, updates=0)) == []


def test_too_few_answers_are_no_evidence() -> None:
    """F34: the figures then have no value, and hold."""
    found = guard.examine(GuardPlan(), candidate(answers(ENOUGH - 1, 3, shift=-6.0))).findings
    assert {one.check for one in found if one.value is None} == {"loss", "calibration", "gap", "slice"}
    assert all(one.holds for one in found)


def test_the_calibration_error_is_debiased() -> None:
    """F34: of shifted answers it is the shift; of equal and calibrated ones it is nothing, however they are cut."""
    draw = np.random.default_rng(45)
    squares = []
    for _ in range(200):
        p = draw.uniform(0.2, 0.8, 300)
        y = (draw.random(300) < p - 0.15).astype(float)
        found, _ = guard._calibration(list(zip(p.tolist(), y.tolist(), strict=True)), 0.1)
        squares.append(found)
    assert np.mean(squares) == pytest.approx(0.15, abs=0.01)
    even = [(0.5, float(i % 2)) for i in range(300)]
    assert guard._calibration(even, 0.1)[0] == 0.0


def test_calibration_at_its_bound_is_halted_no_more_often_than_alpha() -> None:
    """F34: the true error is the bound, in every bin and to one side; the good copy is calibrated."""
    draw = np.random.default_rng(46)
    halted = 0
    for _ in range(1_000):
        p = draw.uniform(0.2, 0.8, 100)
        y = (draw.random(100) < p - 0.1).astype(float)
        halted += guard._calibration(list(zip(p.tolist(), y.tolist(), strict=True)), 0.1)[1] <= 0.02
    assert halted <= 40


def test_overconfident_answers_are_halted_for_their_calibration() -> None:
    """F34: unless the last good copy is as bad: then halting would keep what is no better."""
    draw = np.random.default_rng(47)
    given = [Answered(int(draw.random() < 0.6), said(0.95), said(0.6)) for _ in range(300)]
    assert "calibration" in failed(GuardPlan(), candidate(given))
    both = [one._replace(good=one.candidate) for one in given]
    assert failed(GuardPlan(), candidate(both)) == []
    assert "calibration" not in failed(GuardPlan(ece_max=None), candidate(given))


def test_a_gap_between_groups_is_halted_unless_the_good_copy_has_it_too() -> None:
    """F34: 80 % of one group against 20 % of the other, by hand."""

    def given(good_gap: bool) -> list[Answered]:
        rows = []
        for i in range(400):
            positive = (i // 2 % 5 != 0) == (i % 2 == 0)
            own, even = said(0.51 if positive else 0.49), said(0.51 if i // 2 % 2 else 0.49)
            rows.append(Answered(i // 4 % 2, own, own if good_gap else even, "ab"[i % 2]))
        return rows

    found = guard.gap(given(False), 0.2, 0.001)
    assert not found.holds and found.value == pytest.approx(0.6)
    assert "0.800 of a, 0.200 of b" in found.words
    assert guard.gap(given(True), 0.2, 0.001).holds
    assert guard.gap([one._replace(group=None) for one in given(False)], 0.2, 0.001).value is None


def test_the_worst_slice_is_named() -> None:
    """F34: bad in one shop of three, and too little of that in all to be seen there."""
    given = [
        one._replace(candidate=said(1 - (one.good.score or 0.0))) if one.slices == ("shop 1",) and i % 4 else one
        for i, one in enumerate(answers(300, 5))
    ]
    found = guard.worst_slice(candidate(given), 0.05, 0.001)
    assert not found.holds and found.words.startswith("shop 1: loses +0.")
    assert guard.worst_slice(candidate(answers(300, 5)), 0.05, 0.001).holds


@pytest.mark.parametrize(
    ("answer", "y", "task", "expected"),
    [
        (Said(1, 0.8), 0, "binary", 0.64),
        (Said(1), 0, "binary", 1.0),
        (Said("a", 0.5, {"a": 0.5, "b": 0.5}), "b", "multiclass", 0.25),
        (Said("a", 1.0, {"a": 1.0}), "b", "multiclass", 1.0),
        (Said(3.0), 5.0, "regression", 0.5),
        (Said(3.0), 50.0, "regression", 1.0),
        (Said(NAN), 5.0, "regression", math.inf),
    ],
)
def test_losses_are_between_0_and_1(answer: Said, y: Label, task: guard.Task, expected: float) -> None:
    """F34: worked out by hand; the label of the regression has variance 2."""
    assert guard.loss(answer, y, task, 2.0) == pytest.approx(expected)


def test_bounds_that_make_no_sense_are_refused_together() -> None:
    with pytest.raises(ValueError, match=r"alpha 0.0 must be between 0 and 1; margin 1.5 must be"):
        GuardPlan(alpha=0.0, margin=1.5)
