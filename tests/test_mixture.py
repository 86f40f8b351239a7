"""Weights move by mistakes, and where copies flatter experts that follow the last labels, by honest ones (F28)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from learners import mixture
from learners.contract import SnapshotError
from learners.experts import LAG_MIN, Experts
from learners.mixture import HONEST, VIEWS, Mixture
from learners.state import dumps
from tests.learning import Pair, judged, stream

LATE = 200


def alternating(n: int) -> list[Pair]:
    """The label is the side of a line, and the other side after each LATE examples: labels that are so late always tell
    of the other concept than the one that is asked."""
    draw = np.random.default_rng(1)
    pairs: list[Pair] = []
    for i in range(n):
        a, b = draw.normal(size=2).tolist()
        is_noise, is_other = draw.random() < 0.1, i // LATE % 2 == 0
        pairs.append(({"a": a, "b": b}, int((a + b > 0) ^ is_noise ^ is_other)))
    return pairs


def behind(pairs: list[Pair]) -> float:
    """Of the best expert in hindsight."""
    mixed, experts = judged(Experts("binary"), pairs, LATE)
    return max(experts.values()) - mixed


def test_where_labels_tell_of_another_concept_the_honest_view_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = alternating(4_000)
    chosen = behind(pairs)
    monkeypatch.setattr(mixture, "HONEST", 0.0)
    assert chosen < 0.1 < 0.25 < behind(pairs)


@pytest.mark.parametrize("lag", [0, int(LAG_MIN) - 2])
def test_prompt_labels_leave_nothing_to_choose(lag: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The candidates are the same to the last bit, whatever comes; with the younger views alone every score is too."""
    learner = Experts("binary")
    monkeypatch.setattr(mixture, "HONEST", 0.0)
    younger = Experts("binary")
    for x, y in stream(600, change=300):
        assert learner.predict(x) == younger.predict(x)
        learner.learn(x, y, lag=lag)
        younger.learn(x, y, lag=lag)
    assert learner.mixture.honest == HONEST and younger.mixture.honest == 0.0
    assert (learner.mixture.candidates[0] == learner.mixture.candidates[1]).all()
    assert learner.mixture.weights.max() > 0.5


@pytest.mark.parametrize("at", [90, 130, 700, 1_390])
def test_a_learner_restored_at_any_time_goes_on_to_the_last_byte(at: int) -> None:
    """When there are only young copies, when none was judged by yet, and in the midst of the choice."""
    pairs = alternating(1_400)
    learner, again = Experts("binary"), Experts("binary")
    for x, y in pairs[:at]:
        learner.learn(x, y, lag=min(learner.updates, LATE))
    again.restore(learner.snapshot())
    assert again.snapshot() == learner.snapshot() and again.digest() == learner.digest()
    for x, y in pairs[at : at + 300]:
        assert again.predict(x) == learner.predict(x)
        learner.learn(x, y, lag=min(learner.updates, LATE))
        again.learn(x, y, lag=min(again.updates, LATE))
    assert len(learner.past) > 2 and again.snapshot() == learner.snapshot()
    assert at < 1_000 or learner.mixture.honest > 0.9


def test_copies_between_which_no_weight_moved_are_restored_too() -> None:
    """Labels that all say the same. Did two copies share what they remember, restored learners would differ."""
    learner, again = Experts("binary"), Experts("binary")
    for i in range(340):
        if i == 300:
            again.restore(learner.snapshot())
        for one in (learner, again)[: 1 + (i >= 300)]:
            one.learn({"a": 1.0}, 1, lag=min(i, 80))
    assert len(learner.past) > 2 and again.snapshot() == learner.snapshot()


def test_a_state_without_an_honest_view_is_read_and_a_later_format_is_refused() -> None:
    learner, again = Experts("binary"), Experts("binary")
    for x, y in stream(400):
        learner.learn(x, y, lag=min(learner.updates, 80))
    updates, lag, (inner, _), panels = learner._state()
    older = (updates, lag, (inner[:2], learner.mixture.weights), [panel[:5] for panel in panels])
    again.restore(dumps(("Experts", 1, older)))
    assert again.past == [] and (again.updates, again.mixture.honest) == (400, HONEST)
    x: dict[str, Any] = stream(1)[0][0]
    assert again.answers(x).tolist() == learner.answers(x).tolist()
    assert (again.mixture.inner[:2] == inner[:2]).all() and (again.mixture.inner[2] == inner[0]).all()
    again.learn(x, 1, lag=80)
    assert again.snapshot() != learner.snapshot()
    with pytest.raises(SnapshotError, match="state of Experts format 3 where Experts 2 belongs"):
        again.restore(dumps(("Experts", 3, older)))


def test_a_mistake_costs_its_rate_and_the_share_is_handed_back() -> None:
    """Two experts, one of them wrong once."""
    two = Mixture("binary", 2)
    two.learn(np.array([[0.9, 0.1], [0.9, 0.9], [0.9, 0.1]]), 1)
    for view in (0, 2):
        for rate, share, weights in zip(mixture.RATES, mixture.SHARES, two.inner[view], strict=True):
            expected = (1 - share) / (1 + np.exp(-rate)) + share / 2
            assert weights[0] == pytest.approx(expected, abs=1e-12) and weights.sum() == pytest.approx(1.0)
    assert two.inner[1] == pytest.approx(0.5)  # in the second view both are right
    assert two.candidates[0] == pytest.approx(two.inner[:2].mean(axis=(0, 1)))
    assert two.candidates[1] == pytest.approx(two.inner[2].mean(axis=0))
    assert two.weights == pytest.approx((1 - HONEST) * two.candidates[0] + HONEST * two.candidates[1])


def test_weights_do_not_vanish_and_come_back() -> None:
    two = Mixture("binary", 2)
    for _ in range(5_000):
        two.learn(np.array([[0.9, 0.1]] * VIEWS), 1)
    assert two.inner.min() > 0 and two.weights[0] > 0.99
    for _ in range(300):
        two.learn(np.array([[0.9, 0.1]] * VIEWS), 0)
    assert two.weights[1] > 0.4


@pytest.mark.parametrize(
    ("answers", "y"), [([0.9, 0.1], 1), ([[0.1, 0.9, 0.0], [0.8, 0.1, 0.1]], 1), ([1.0, 9.0], 1.0)]
)
def test_candidates_are_judged_by_what_they_would_have_said_then(answers: Any, y: float) -> None:
    """The honest one had all of its weight on the expert that is right, the younger one on the other, or the reverse;
    what their weights are now does not matter."""
    task = "multiclass" if isinstance(answers[0], list) else "binary" if y == 1 and answers[0] < 1 else "regression"
    views, right_then = np.array([answers] * VIEWS), np.array([[0.0, 1.0], [1.0, 0.0]])
    fall = np.exp(-mixture.HONEST_RATE)
    for then, ours, others in ((right_then, 1.0, fall), (right_then[::-1], fall, 1.0)):
        two = Mixture(task, 2)  # type: ignore[arg-type]
        two.learn(views, y, 1.0, then)
        expected = HONEST * ours / (HONEST * ours + (1 - HONEST) * others)
        assert two.honest == pytest.approx(expected, rel=1e-4) and abs(expected / HONEST - 1.0) > 0.05
    same = Mixture(task, 2)  # type: ignore[arg-type]
    same.learn(views, y, 1.0, np.array([[1.0, 0.0]] * 2))
    assert same.honest == HONEST


def test_the_choice_does_not_become_certain() -> None:
    """What the share hands back lets two hundred mistakes turn it round, however many there were before."""
    two = Mixture("binary", 2)
    views, then = np.array([[0.9, 0.1]] * VIEWS), np.array([[0.0, 1.0], [1.0, 0.0]])
    for _ in range(3_000):
        two.learn(views, 1, 1.0, then)
    assert two.honest > 0.999
    for _ in range(3_000):
        two.learn(views, 1, 1.0, then[::-1])
    assert 0.0 < two.honest < 0.001
    for _ in range(200):
        two.learn(views, 1, 1.0, then)
    assert two.honest > 0.9


def test_without_the_honest_answers_only_the_younger_views_are_judged() -> None:
    two = Mixture("binary", 2)
    two.learn(np.array([[0.9, 0.1], [0.9, 0.1]]), 1)
    assert two.honest == HONEST and (two.inner[-1] == 0.5).all() and (two.inner[:-1, :, 0] > 0.5).all()
