"""The linear core equals River's models column by column (F28); the experts on top are in test_experts."""

from __future__ import annotations

import pytest
from river import linear_model, optim, preprocessing

from learners.experts import STEPS, Experts
from learners.features import WORDS_MAX, Mixed, present
from learners.linear import CLASSES_MAX, Linear
from learners.metrics import Metrics
from learners.registry import make
from tests.learning import close, numbers_only, prequential, stream, taught


def test_each_column_equals_river_at_its_step_size() -> None:
    linear = Linear("binary", STEPS)
    rivers = [
        preprocessing.StandardScaler() | linear_model.LogisticRegression(optimizer=optim.SGD(step)) for step in STEPS
    ]
    for x, y in numbers_only(stream(800, change=400)):
        answers = linear.answers(linear.prepare(x))
        for answer, river in zip(answers, rivers, strict=True):
            assert close(answer, river.predict_proba_one(x)[True])
            river.learn_one(x, y)
        linear.learn(x, y)


def test_numbers_alone_are_scaled_as_river_scales_them_to_the_last_bit() -> None:
    mixed, scaler = Mixed(), preprocessing.StandardScaler()
    for x, _ in numbers_only(stream(200)):
        mixed.learn_one(x)
        scaler.learn_one(x)
        assert mixed.transform_one(x) == scaler.transform_one(x)


def test_text_is_one_hot_once_learned_and_bounded() -> None:
    mixed = Mixed(words_max=2)
    for word in ("a", "b", "c", "a"):
        mixed.learn_one({"t": word})
    assert [mixed.transform_one({"t": word}) for word in "abc"] == [{"t=a": 1.0}, {"t=b": 1.0}, {}]
    assert mixed.left_out == 1 and WORDS_MAX > 2


def test_classes_and_rows_of_the_linear_core_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    linear = Linear("multiclass", (0.1,))
    assert [linear.meet(f"class {i}") for i in range(CLASSES_MAX + 2)].count(False) == 2
    monkeypatch.setattr("learners.linear.ROWS_MAX", 40)
    small = Linear("binary", (0.1,))
    for i in range(60):
        small.learn({f"n{i}": 1.0, "t": f"word {i}"}, 1)
    assert len(small.means) == 40 and small.left_out > 0
    assert len(small.answers(small.prepare({"n59": 1.0}))) == 1


def test_present_features_are_those_that_are_there() -> None:
    assert present({"a": None, "b": float("nan"), "c": [1.0, None, 2.0], "d": True, "e": ""}) == {
        "c[0]": 1.0,
        "c[2]": 2.0,
        "d": True,
        "e": "",
    }


def test_experts_learn_classes_and_numbers() -> None:
    classes = stream(2_000, "multiclass")
    assert (
        prequential(Experts("multiclass"), classes) > prequential(make("majority", {}, "multiclass", 1), classes) + 0.25
    )
    metrics, trivial = Metrics("regression"), Metrics("regression")
    learner, mean = Experts("regression"), make("mean", {}, "regression", 1)
    for x, y in stream(2_000, "regression"):
        metrics.take(learner.predict(x), y)
        trivial.take(mean.predict(x), y)
        learner.learn(x, y)
        mean.learn(x, y)
    assert metrics.values()["rmse"] < 0.5 * trivial.values()["rmse"]


def test_a_weight_of_two_counts_twice_for_the_tree_and_once_more_for_the_step() -> None:
    light, heavy = Linear("binary", (0.1,)), Linear("binary", (0.1,))
    for x, y in stream(50):
        light.learn(x, y)
        heavy.learn(x, y, 2.0)
    assert abs(float(heavy.intercepts[0])) > abs(float(light.intercepts[0]))


def test_extreme_numbers_do_not_break_the_answers() -> None:
    learner = taught(Experts("binary"), stream(200))
    learner.learn({"a": 1e300, "b": -1e300}, 1)
    learner.learn({"a": 1.0, "b": 2.0}, 0)
    score = learner.predict({"a": 1e300, "b": 1.0}).score
    assert score is not None and 0.0 <= score <= 1.0


def test_metrics_are_means_by_their_definition() -> None:
    assert Metrics("binary").values() == {}
    three = Metrics("multiclass")
    learner = taught(make("majority", {}, "multiclass", 1), [({}, "a"), ({}, "a"), ({}, "b"), ({}, "c")])
    three.take(learner.predict({}), "b")
    assert close(three.values()["brier"], 0.5**2 + 0.75**2 + 0.25**2) and three.values()["accuracy"] == 0.0
    numbers = Metrics("regression")
    mean = taught(make("mean", {}, "regression", 1), [({}, 1.0)])
    numbers.take(mean.predict({}), 4.0)
    numbers.take(mean.predict({}), 2.0)
    assert numbers.values() == {"mae": 2.0, "rmse": 5.0**0.5}
