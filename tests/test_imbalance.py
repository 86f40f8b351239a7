"""Rare classes are learned as if they were frequent, and scores can be brought back (F35)."""

from __future__ import annotations

import doctest
import math
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from learners import imbalance
from learners.contract import Label, Said, SnapshotError
from learners.imbalance import CLASSES_MAX, RATIO_MAX, Balance, Kind, Portion
from learners.linear import Linear
from learners.metrics import Metrics
from tests import conformance
from tests.scarcity import rare_stream

KINDS: tuple[Kind, ...] = ("weight", "under", "over")


def drawn(n: int, shares: dict[Label, float], seed: int = 1) -> list[Label]:
    names = list(shares)
    return [names[int(i)] for i in np.random.default_rng(seed).choice(len(names), size=n, p=list(shares.values()))]


def learned(balance: Balance, labels: list[Label]) -> dict[Label, float]:
    """Share of each class in what is learned, copies times weight."""
    mass: dict[Label, float] = {}
    for y in labels:
        portion = balance.take(y)
        mass[y] = mass.get(y, 0.0) + portion.copies * portion.weight
    return {y: each / math.fsum(mass.values()) for y, each in mass.items()}


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(imbalance).attempted > 0 and doctest.testmod(imbalance).failed == 0


def test_a_balance_conforms() -> None:
    """F35: a state restored in mid-stream goes on exactly, in any process."""
    conformance.check("tests.scarcity:imbalance_scenario")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_learned_has_the_desired_shares(kind: Kind) -> None:
    """F35."""
    labels = drawn(20_000, {"a": 0.9, "b": 0.07, "c": 0.03})
    even = learned(Balance(kind), labels)
    assert all(abs(share - 1 / 3) < 0.04 for share in even.values()), even
    half = learned(Balance(kind, {"a": 0.5}), labels)
    assert abs(half["a"] - 0.5) < 0.04 and abs(half["b"] - 0.25) < 0.04, half


def test_each_kind_learns_as_much_as_it_says() -> None:
    """F35: all once, the rare ones all and as many others, or the frequent ones all and the rare ones as often."""
    labels = drawn(10_000, {0: 0.95, 1: 0.05})
    portions: dict[Kind, list[Portion]] = {}
    for kind in KINDS:
        balance = Balance(kind, seed=4)
        portions[kind] = [balance.take(y) for y in labels]
        assert balance.figures()["taken"] == 10_000
        assert balance.figures()["copies"] == sum(each.copies for each in portions[kind])
    assert all(each.copies == 1 and each.probability == 1.0 for each in portions["weight"])
    assert abs(np.mean([each.weight for each in portions["weight"]]) - 1.0) < 0.05
    assert 800 < sum(each.copies for each in portions["under"]) < 1_300
    assert 17_000 < sum(each.copies for each in portions["over"]) < 21_500
    for y, portion in list(zip(labels, portions["under"], strict=True))[100:]:
        assert portion.copies <= 1 and (portion.probability == 1.0 if y == 1 else 0 < portion.probability < 1)
    kept = [each.copies - each.probability for each in portions["under"]]
    assert abs(sum(kept)) < 4 * math.sqrt(sum(p.probability * (1 - p.probability) for p in portions["under"]))


def test_frequencies_follow_a_change() -> None:
    """F35: what was rare is frequent now."""
    balance = Balance("weight", discount=0.99)
    for y in drawn(3_000, {0: 0.95, 1: 0.05}) + drawn(1_000, {0: 0.05, 1: 0.95}):
        balance.take(y)
    assert balance.ratio(0) > 4 * balance.ratio(1)


def test_a_class_that_is_rarer_than_the_cap_weighs_no_more() -> None:
    balance = Balance("weight", discount=1.0)
    for y in [0] * 100_000 + [1]:
        portion = balance.take(y)
    assert portion.weight == pytest.approx(RATIO_MAX * balance.ratio(0), rel=1e-6)
    over = Balance("over", discount=1.0)
    assert [over.take(y).copies for y in [0] * 10_000 + [1]][-1] == RATIO_MAX


@given(some.lists(some.integers(0, 3), min_size=1, max_size=80), some.sampled_from(KINDS), some.floats(0.5, 1.0))
def test_portions_are_sound_whatever_comes(labels: list[int], kind: Kind, discount: float) -> None:
    balance = Balance(kind, {0: 0.4}, discount=discount)
    for y in labels:
        portion = balance.take(y)
        assert 0 <= portion.copies <= RATIO_MAX + 1 and 0.0 < portion.probability <= 1.0
        assert 0.0 < portion.weight < math.inf and math.isfinite(balance.ratio(y))
    ratios = list(balance.figures()["ratios"].values())
    assert max(ratios) <= RATIO_MAX * min(ratios) * (1 + 1e-9)


def test_long_streams_keep_their_counts_finite() -> None:
    balance = Balance("weight", discount=0.5)
    for i in range(5_000):
        balance.take(i % 2)
    balance.take(2)
    assert all(math.isfinite(ratio) for ratio in balance.figures()["ratios"].values())


def test_classes_beyond_the_bound_are_learned_once() -> None:
    balance = Balance("over")
    for i in range(CLASSES_MAX):
        balance.take(f"k{i}")
    assert balance.take("more") == Portion(1, 1.0, 1.0)
    assert balance.figures()["beyond"] == 1 and len(balance.figures()["shares"]) == CLASSES_MAX


@pytest.mark.parametrize(
    ("kind", "desired", "discount", "message"),
    [
        ("both", None, 0.9, "kind is 'both'; one of weight, under, over"),
        ("over", {0: 0.7, 1: 0.7}, 0.9, "sum to at most 1"),
        ("over", {0: 1.0}, 0.9, "between 0 and 1"),
        ("over", None, 0.0, "discount is 0.0"),
    ],
)
def test_what_cannot_be_is_refused(kind: Any, desired: Any, discount: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Balance(kind, desired, discount=discount)
    with pytest.raises(SnapshotError):
        Balance("weight").restore(b"\xc1")


def test_the_correction_is_that_of_elkan_and_of_saerens() -> None:
    """F35: scores of a model trained on even classes, brought back to 1 in 50, by Bayes' rule done twice."""
    balance = Balance("under", discount=1.0)
    for y in [0] * 4_899 + [1] * 99:
        balance.take(y)
    likelihood = 3.0
    even, rare = likelihood / (likelihood + 1), likelihood * 0.02 / (likelihood * 0.02 + 0.98)
    assert balance.corrected(even) == pytest.approx(rare, rel=1e-3)
    assert balance.corrected_shares({"0": 1 - even, "1": even})["1"] == pytest.approx(balance.corrected(even))
    assert balance.corrected(0.0) == 0.0 and balance.corrected(1.0) == 1.0
    fresh = Balance("under")
    assert fresh.corrected(0.3) == pytest.approx(0.3) and fresh.corrected_shares({"a": 0.3}) == {"a": 1.0}


@cache
def prequential(kind: Kind | None, seed: int) -> tuple[dict[str, float], dict[str, float]]:
    """Metrics of scores as they are said, and as they are corrected."""
    model, balance = Linear("binary", (0.03,)), Balance(kind or "weight", seed=seed)
    said, corrected = Metrics("binary"), Metrics("binary")
    for x, y in rare_stream(2_500, seed):
        score = float(model.answers(model.prepare(x))[0])
        said.take(Said(int(score > 0.5), score), y)
        corrected.take(Said(int(score > 0.5), balance.corrected(score)), y)
        portion = balance.take(y) if kind else Portion(1, 1.0, 1.0)
        for _ in range(portion.copies):
            model.learn(x, y, portion.weight)
    return said.values(), corrected.values()


def gain(kind: Kind, metric: str) -> tuple[float, float]:
    """Mean over seeds of the difference to learning examples as they come, and its standard error."""
    differences = [
        prequential(kind, seed)[0][metric] - prequential(None, seed)[0].get(metric, 0.0) for seed in range(8)
    ]
    return float(np.mean(differences)), float(np.std(differences, ddof=1) / math.sqrt(len(differences)))


@pytest.mark.parametrize("kind", KINDS)
def test_one_in_fifty_is_found_at_the_price_of_accuracy(kind: Kind) -> None:
    """F35: G-mean, MCC and the area under precision and recall rise by more than four standard errors."""
    for metric, least in (("g_mean", 0.4), ("mcc", 0.1), ("pr_auc", 0.1)):
        mean, error = gain(kind, metric)
        assert mean > least and mean > 4 * error, (metric, mean, error)
    assert gain(kind, "accuracy")[0] < 0


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_too_high_and_the_correction_makes_them_better_than_ever(kind: Kind) -> None:
    """F35: log loss as said is worse than without balancing, and corrected better."""
    said, corrected, plain = (
        np.mean([each[i]["log_loss"] for each in (prequential(k, seed) for seed in range(8))])
        for k, i in ((kind, 0), (kind, 1), (None, 0))
    )
    assert said > 1.5 * plain and corrected < 0.8 * plain, (said, corrected, plain)
