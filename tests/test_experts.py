"""The default learner keeps up with the best of its experts, whatever the delay of labels (F28)."""

from __future__ import annotations

import math
import random
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from river import tree

from learners import hinges, neighbours, trees
from learners.contract import Label
from learners.experts import LAG_MIN, Experts
from learners.hinges import Hinges
from learners.linear import Linear, Prepared
from learners.metrics import Task
from learners.neighbours import Neighbours
from learners.trees import Trees
from tests.learning import judged, numbers_only, stream, taught


@pytest.mark.parametrize("delay", [0, 300])
def test_the_mixture_keeps_up_with_its_best_expert(delay: int) -> None:
    """On a stream that turns round; with late labels it does so only because experts are judged by what they said."""
    mixed, experts = judged(Experts("binary"), stream(2_000, change=1_200), delay)
    assert mixed > max(experts.values()) - 0.02


def test_late_labels_move_the_weights_by_what_was_said_then() -> None:
    """Labels that repeat in runs: following the last label looks best at once, and is useless 300 examples later."""
    draw = np.random.default_rng(1)
    labels = np.repeat(np.arange(60) % 2, draw.integers(10, 50, 60)).tolist()
    now, then = Experts("binary"), Experts("binary")
    for y in labels:
        now.learn({"word": "same"}, y)
        then.learn({"word": "same"}, y, lag=min(then.updates, 300))
    fast = [now.names.index(name) for name in ("linear 1", "hinges 3")]
    assert now.mixture.weights[fast].sum() > 0.9 > 0.6 > then.mixture.weights[fast].sum()


def test_copies_are_a_tenth_of_the_lag_apart_and_a_quarter_once_they_are_half_of_it_old() -> None:
    learner = Experts("binary")
    for x, y in stream(1_200):
        learner.learn(x, y, lag=min(learner.updates, 300))
        if learner.updates > 900:
            ages = [learner.updates - one.at for one in learner.past]
            assert 260 <= ages[0] <= 340 and 8 <= len(ages) <= 9
            for older, younger in pairwise(ages):
                assert older - younger <= (75 if older > 180 else 30)


def test_lags_that_vary_keep_copies_of_the_usual_lag() -> None:
    """Labels late by 0 or 400, by turns: the copies are for the mean, and few."""
    learner = Experts("binary")
    for i, (x, y) in enumerate(stream(1_500)):
        learner.learn(x, y, lag=min(learner.updates, 400 * (i % 2)))
        assert len(learner.past) <= 9
    assert 150 < learner.lag < 250 and learner.updates - learner.past[0].at >= 75


def test_prompt_labels_need_no_copies() -> None:
    learner = Experts("binary")
    for x, y in stream(100):
        learner.learn(x, y, lag=min(learner.updates, int(LAG_MIN) - 2))
    assert learner.past == []


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_restored_learner_goes_on_to_the_last_bit_while_labels_are_late(task: Task) -> None:
    """F29: frozen copies of every kind of expert are state."""
    pairs = stream(500, task)
    learner, again = Experts(task), Experts(task)
    for x, y in pairs[:300]:
        learner.learn(x, y, lag=min(learner.updates, 80))
    again.restore(learner.snapshot())
    assert learner.past and again.digest() == learner.digest()
    assert again.mixture.weights.tolist() == learner.mixture.weights.tolist()
    for x, y in pairs[300:]:
        assert again.predict(x) == learner.predict(x)
        learner.learn(x, y, lag=80)
        again.learn(x, y, lag=80)
    assert again.digest() == learner.digest() and again.snapshot() == learner.snapshot()


def test_having_been_asked_changes_nothing() -> None:
    """The last answers are kept for a prompt label; a learner that nobody asked learns the same."""
    asked, silent = Experts("binary"), Experts("binary")
    for x, y in stream(300):
        asked.predict(x)
        asked.predict({**x, "a": 0.5})
        asked.predict(x)
        asked.learn(x, y)
        silent.learn(x, y)
    assert asked.digest() == silent.digest()


def test_a_changed_example_is_asked_anew() -> None:
    learner = taught(Experts("binary"), stream(200))
    x: dict[str, Any] = dict(stream(1)[0][0])
    before = learner.predict(x).score
    x["a"] += 3.0
    assert learner.predict(x).score != before


def test_a_class_that_comes_late_is_learned() -> None:
    learner = Experts("multiclass")
    for i in range(600):
        y = "new" if i > 300 and i % 2 else "old"
        learner.learn({"a": float(y == "new"), "b": i % 7 / 7.0}, y, lag=min(i, 50))
    assert learner.predict({"a": 1.0, "b": 0.2}).prediction == "new"
    assert learner.predict({"a": 0.0, "b": 0.2}).prediction == "old"


@pytest.mark.parametrize("steps", [{"steps": []}, {"steps": [0.0]}, {"hinge_steps": [-1.0]}])
def test_steps_that_cannot_be_are_refused(steps: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="lists of positive numbers"):
        Experts("binary", **steps)


def test_trees_answer_as_river_does_and_their_copies_as_they_did() -> None:
    """Text, missing values and splits of every kind; the forgetting tree is the elder of a pair."""
    ours, river = Trees(), trees._tree()
    plain = tree.HoeffdingTreeClassifier(
        grace_period=50, delta=1e-3, leaf_prediction="mc", max_depth=trees.TREE_DEPTH_MAX
    )
    pairs = stream(3_000)
    for x, y in pairs:
        ours.learn(x, y, 1.0)
        river.learn_one(x, y)
        plain.learn_one(x, y)
    copy = ours.frozen()
    assert ours.whole.n_branches >= 2 and plain.n_branches == ours.whole.n_branches
    asked = [x for x, _ in pairs[:200]]
    asked += [{k: v for k, v in x.items() if k != name} for x in asked[:20] for name in x]
    asked += [{**x, "word": "never seen"} for x in asked[:20]]
    for x in asked:
        assert copy.shares(x) == ours.shares(x)
        counts = ours.shares(x)[0]
        total = sum(counts.values())
        assert river.predict_proba_one(x) == pytest.approx({y: counts.get(y, 0.0) / total for y in (0, 1)})
    before = [copy.shares(x) for x in asked]
    for x, y in pairs:
        ours.learn(x, 1 - int(y), 1.0)
    assert [copy.shares(x) for x in asked] == before


def test_the_recent_tree_forgets_within_two_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "SPAN", 400)
    ours = Trees()
    for i, (x, y) in enumerate(numbers_only(stream(2_400, change=1_200))):
        ours.learn(x, y, 1.0)
        weight = ours.elder._root.total_weight
        assert weight <= 2 * 400 + 1 and (i < 800 or weight >= 350)
    assert ours.whole._root.total_weight > 2_000


def test_hinges_learn_what_no_line_can() -> None:
    """The quadrants of a plane by turns."""
    draw = np.random.default_rng(3)
    linear, hidden = Linear("binary", (0.1,)), Hinges((0.3,))
    lines = curves = 0
    for i in range(3_000):
        a, b = draw.normal(size=2).tolist()
        x, y = {"a": a, "b": b}, int(a * b > 0)
        prepared = linear.prepare(x)
        if i >= 1_000:
            lines += (linear.answers(prepared)[0] > 0.5) == y
            curves += (linear.said(hidden.raw(hidden.hidden(prepared)))[0] > 0.5) == y
        above = hidden.hidden(linear.learn(x, y))
        hidden.learn(above, linear.slope(hidden.raw(above), y, 1.0))
    assert lines < 1_200 and curves > 1_700


@pytest.mark.parametrize("steps", [{}, {"steps": [2.5], "hinge_steps": [2.5]}])
@pytest.mark.parametrize("broken", ["nothing", "features", "labels"])
def test_a_regression_answers_with_numbers_however_long_it_learns(broken: str, steps: dict[str, Any]) -> None:
    """A step beyond 2 doubles the error with each example: after a thousand, no weight would be a number any more."""
    learner = Experts("regression", tree=False, neighbours=False, **steps)
    for i in range(1_400):
        odd = i % 100 == 50
        x = {"a": 1e90 if odd and broken == "features" else 1.0}
        y = 1e80 if odd and broken == "labels" else float(i % 5)
        learner.learn(x, y)
        assert np.isfinite(learner.answers(x)).all()
    answer = learner.predict({"a": 1.0}).prediction
    assert broken == "labels" or answer == pytest.approx(2.0, abs=2.5)


@pytest.mark.parametrize("broken", [1e5, 1e80, -1e300])
def test_one_broken_label_of_a_regression_does_not_spoil_what_follows(broken: float) -> None:
    """A label a hundred deviations out counts as one that far out; a label of 1e8 once made every later answer wrong by
    thousands."""

    def mistakes(label: float | None) -> float:
        draw, learner, found = random.Random(3), Experts("regression"), []
        for i in range(2_500):
            x = draw.gauss(0.0, 1.0)
            y = 3.0 * x + 10.0 + draw.gauss(0.0, 0.3)
            found.append(abs(float(learner.predict({"x": x}).prediction) - y))
            learner.learn({"x": x}, y if label is None or i != 500 else label)
        return math.fsum(found[1_600:]) / 900

    assert mistakes(broken) < 1.1 * mistakes(None)


def test_labels_that_never_differed_may_begin_to() -> None:
    learner = Experts("regression")
    for i in range(600):
        learner.learn({"x": 1.0}, 0.0 if i < 300 else 5.0)
    assert float(learner.predict({"x": 1.0}).prediction) > 4.0


def test_features_beyond_those_with_directions_share_them() -> None:
    one = Hinges((0.3,))
    column = np.ones((1, 1))
    near = one.hidden(Prepared([3], column, column))
    far = one.hidden(Prepared([3 + hinges.ROWS], column, column))
    assert (near == far).all() and len(near) == hinges.UNITS + 1


def prepared(*values: float) -> Prepared:
    column = np.array(values)[:, None]
    return Prepared(list(range(len(values))), column, column)


def test_neighbours_are_the_nearest_with_all_that_tie() -> None:
    near = Neighbours()
    for i in range(30):
        near.learn(prepared(float(i), 0.0), float(i))
    assert sorted(near.near(prepared(20.2, 0.0))) == [16, 17, 18, 19, 20, 21, 22, 23, 24, 25]
    assert len(near.near(prepared(20.0, 0.0))) == neighbours.NEAREST + 1  # 15 and 25 tie


def test_neighbours_forget_beyond_their_window(monkeypatch: pytest.MonkeyPatch) -> None:
    near = Neighbours()
    for i in range(neighbours.WINDOW + 40):
        near.learn(prepared(0.0), float(i))
    found = near.near(prepared(0.0))
    assert len(found) == neighbours.WINDOW and found.min() == 40.0


def test_features_beyond_the_bound_are_not_compared() -> None:
    near = Neighbours()
    for i in range(20):
        near.learn(prepared(*[float(i)] * (neighbours.FEATURES_MAX + 5)), float(i))
    assert len(near.values) == neighbours.FEATURES_MAX
    assert set(near.near(prepared(0.0))) <= set(range(20))


def test_numbers_are_told_by_experts_that_know_no_labels_yet() -> None:
    assert Experts("regression").predict({"a": 1.0}).prediction == 0.0
    label: Label = 7.0
    assert taught(Experts("regression"), [({"a": 1.0}, label)]).predict({"a": 1.0}).prediction == pytest.approx(7.0)
