"""Importance of features for a model: right where it is known, with honest errors, and its drift (F55)."""

from __future__ import annotations

import doctest
from collections import deque
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from detectors import importance
from detectors.importance import Importances, Recent, drift, of_score, permutation
from learners.estimators import Estimator

Rows = list[dict[str, Any]]


def task(draw: np.random.Generator, n: int) -> tuple[Rows, list[int]]:
    """A label that is the sign of a in nine of ten cases; b is a noisy copy of a, c is nothing."""
    a = draw.normal(size=n)
    b = a + draw.normal(size=n)
    label = (a > 0) ^ (draw.random(n) < 0.1)
    rows = [{"a": float(x), "b": float(y), "c": float(z)} for x, y, z in zip(a, b, draw.normal(size=n), strict=True)]
    return rows, label.astype(int).tolist()


def says_a(rows: Rows) -> list[int]:
    return [int(x["a"] > 0) for x in rows]


def test_shuffling_costs_what_it_must() -> None:
    """F55: half of the shuffled rows get the other sign, so 0.4 of the labels are lost; b and c are not read at all."""
    rows, labels = task(np.random.default_rng(1), 512)
    found = permutation(rows, labels, says_a, "error", 1)
    a, b, c = found.values
    assert abs(a - 0.4) < 3 * found.errors[0] and found.errors[0] < 0.04
    assert (b, c) == (0.0, 0.0) and found.errors[1:] == (0.0, 0.0) and found.rows == 512


def test_standard_errors_are_those_of_repetition() -> None:
    """F55: over 150 samples, estimates vary as much as each of them says of itself."""
    draw = np.random.default_rng(2)
    found = [permutation(*task(draw, 200), says_a, "error", seed) for seed in range(150)]
    told = np.mean([each.errors[0] for each in found])
    assert np.std([each.values[0] for each in found]) == pytest.approx(told, rel=0.2)
    assert np.mean([each.values[0] for each in found]) == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize("loss", ["log", "error"])
def test_a_learner_of_ours_can_be_asked(loss: importance.Loss) -> None:
    """F55: a River model, as the learn stage holds it; asking leaves it as it was."""
    rows, labels = task(np.random.default_rng(3), 2_000)
    model = Estimator("river.linear_model.LogisticRegression", {}, "binary")
    for x, y in zip(rows, labels, strict=True):
        model.learn(x, y)
    before = model.digest()

    def answers(asked: Rows) -> list[Any]:
        said = [model.predict(x) for x in asked]
        return [one.score if loss == "log" else one.prediction for one in said]

    found = permutation(rows, labels, answers, loss, 1)
    assert found.rows == importance.ROWS_MAX and model.digest() == before
    assert list(found.shares()) == ["a", "b", "c"] and found.shares()["a"] > 0.7
    assert abs(found.values[2]) < 0.05


def test_regression_is_measured_in_absolute_errors() -> None:
    draw = np.random.default_rng(4)
    rows = [{"a": float(x)} for x in draw.normal(size=500)]
    found = permutation(rows, [3 * x["a"] for x in rows], lambda asked: [3 * x["a"] for x in asked], "absolute", 1)
    assert abs(found.values[0] - 3 * 2 / np.sqrt(np.pi)) < 3 * found.errors[0]  # mean distance of two normal values


def test_the_seed_decides_and_missing_features_move_along() -> None:
    rows, labels = task(np.random.default_rng(5), 100)
    for x in rows[:30]:
        del x["a"]
    asked: list[Rows] = []

    def predict(batch: Rows) -> list[int]:
        asked.append(batch)
        return [int(x.get("a", 0.0) > 0) for x in batch]

    one, same, other = (permutation(rows, labels, predict, "error", seed, ["a"]) for seed in (1, 1, 2))
    assert one == same and one.values != other.values
    assert sum("a" not in x for x in asked[1]) == 30 and asked[1] == asked[3] != rows
    assert [{k: v for k, v in x.items() if k != "a"} for x in asked[1]] == [{"b": x["b"], "c": x["c"]} for x in rows]


def test_too_few_rows_say_nothing_and_wrong_answers_are_refused() -> None:
    rows, labels = task(np.random.default_rng(6), 19)
    found = permutation(rows, labels, says_a, "error", 1)
    assert np.isnan(found.values).all() and found.shares() == {"a": 0.0, "b": 0.0, "c": 0.0}
    rows, labels = task(np.random.default_rng(6), 30)
    with pytest.raises(ValueError, match="29 answers to 30 rows"):
        permutation(rows, labels, lambda asked: says_a(asked)[1:], "error", 1)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 99), max_size=40), st.integers(1, 12), st.integers(0, 40))
def test_recent_rows_are_the_last_ones_in_order(labels: list[int], bound: int, at: int) -> None:
    recent, expected = Recent(bound), deque[int](maxlen=bound)
    for i, label in enumerate(labels):
        if i == at:
            saved, recent = recent.snapshot(), Recent(bound)
            recent.restore(saved)
        recent.add({"x": label}, label)
        expected.append(label)
    assert recent.rows() == ([{"x": label} for label in expected], list(expected))


def test_a_score_is_explained_by_what_it_follows() -> None:
    """F55, without the model: a feature that decides the score, one that is half of it, one that is nothing."""
    draw = np.random.default_rng(7)
    codes = draw.integers(-1, 16, (3_000, 3)).astype(np.int32)
    decided = of_score(["a"], codes[:, :1], codes[:, 0].astype(np.float64) ** 3)
    assert decided.values[0] == pytest.approx(1.0) and decided.shares() == {"a": 1.0}
    found = of_score(["a", "b", "c"], codes, codes[:, :2].sum(1).astype(np.float64))
    assert found.values[:2] == pytest.approx((0.5, 0.5), abs=0.05)
    assert abs(found.values[2]) < 4 * found.errors[2] < 0.02


def test_chance_is_taken_off_and_errors_are_honest() -> None:
    """F55: 16 bins explain 15 / 300 of anything; without dependence the estimate is zero all the same."""
    draw = np.random.default_rng(8)
    null, half = [], []
    for _ in range(200):
        codes = draw.integers(0, 16, (300, 1)).astype(np.int32)
        null.append(of_score(["a"], codes, draw.normal(size=300)))
        half.append(of_score(["a"], codes, codes[:, 0] / 4.6 + draw.normal(size=300)))
    for found, rough in ((null, 0.2), (half, 0.2)):
        values = np.array([each.values[0] for each in found])
        assert np.mean([each.errors[0] for each in found]) == pytest.approx(values.std(), rel=rough)
    assert abs(np.mean([each.values[0] for each in null])) < 0.005


def test_a_score_that_never_varies_is_explained_by_nothing() -> None:
    codes = np.zeros((100, 1), np.int32)
    assert np.isnan(of_score(["a"], codes, np.full(100, 0.5)).values[0])
    assert of_score(["a"], codes, np.full(100, np.nan)).rows == 0


def test_importance_that_has_not_changed_rarely_seems_to() -> None:
    """F55: between samples of the same law, changes in standard errors are normal, and p is small as seldom as told."""
    draw = np.random.default_rng(9)
    found = []
    for seed in range(200):
        pair = [permutation(*task(draw, 200), says_a, "error", 2 * seed + k) for k in (0, 1)]
        found.append(drift(*pair))
    assert stats.kstest([each.z["a"] for each in found], "norm").pvalue > 0.01
    assert np.mean([each.p < 0.05 for each in found]) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)


def test_a_model_that_reads_another_feature_is_noticed() -> None:
    """F55: the same rows, but the model now goes by b."""
    draw = np.random.default_rng(10)
    before = permutation(*task(draw, 512), says_a, "error", 1)
    now = permutation(*task(draw, 512), lambda asked: [int(x["b"] > 0) for x in asked], "error", 1)
    found = drift(before, now)
    assert found.p < 1e-6 and found.most in ("a", "b") and found.moved == pytest.approx(1.0)
    assert found.z["a"] < -5 < 5 < found.z["b"] and found.z["c"] == 0.0


def test_drift_is_told_of_features_that_both_know() -> None:
    found = drift(
        Importances(("a", "b"), (0.2, np.nan), (0.1, np.nan), 50), Importances(("b", "c"), (0.1, 0.1), (0.1, 0.1), 50)
    )
    assert found.z == {} and found.p == 1.0 and found.most is None and found.moved == pytest.approx(1.0)


def test_examples_in_docstrings_are_true() -> None:
    assert doctest.testmod(importance).attempted > 0 and doctest.testmod(importance).failed == 0
