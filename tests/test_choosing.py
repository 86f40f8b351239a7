"""Few labels are asked for where they tell most, within the budget, with probabilities that hold (F39, F38)."""

from __future__ import annotations

import doctest
import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import stats

from learners import choosing, doubt
from learners.choosing import ASKED, FEATURES_MAX, RANKS_MIN, By, Choice, Chooser, Plan
from learners.contract import Said, SnapshotError
from learners.doubt import disagreement
from learners.linear import Linear
from tests import conformance
from tests.scarcity import linear_stream, offered

Scores = Callable[[int, np.random.Generator], float]


def offers(chooser: Chooser, n: int, score: Scores, seed: int = 1, step_s: float = 1.0) -> list[Choice]:
    """Events of one champion with this score, some seconds apart."""
    draw = np.random.default_rng(seed)
    found = []
    for i in range(n):
        p = score(i, draw)
        found.append(chooser.offer(f"e{i}", i * step_s, {"champion": Said(int(p > 0.5), p)}, {}))
    return [choice for choice in found if choice]


def even(i: int, draw: np.random.Generator) -> float:
    return float(draw.random())


SHAPES: dict[str, Scores] = {
    "even": even,
    "sure, with few doubts": lambda i, draw: float(draw.beta(0.2, 0.2)),
    "always the same": lambda i, draw: 0.9,
    "three leaves of a tree": lambda i, draw: float(draw.choice([0.05, 0.6, 0.97], p=[0.7, 0.02, 0.28])),
    "ever surer": lambda i, draw: 0.5 + 0.49 * i / 4_000,
    "ever less sure": lambda i, draw: 0.99 - 0.49 * i / 4_000,
    "sure, then in doubt": lambda i, draw: float(draw.uniform(0.95, 1.0) if i < 2_000 else draw.uniform(0.4, 0.6)),
}


@pytest.mark.parametrize("module", [choosing, doubt])
def test_the_examples_in_the_docstrings_hold(module: ModuleType) -> None:
    assert doctest.testmod(module).attempted > 0 and doctest.testmod(module).failed == 0


def test_a_chooser_conforms() -> None:
    """F39: a state restored in mid-stream goes on exactly, in any process."""
    conformance.check("tests.scarcity:choosing_scenario")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("share", [0.02, 0.2, 0.7])
def test_a_share_is_what_is_spent_whatever_the_scores_look_like(shape: str, share: float) -> None:
    """F39: of 4,000 events, within four standard errors and the debt; and no half of the stream has it all."""
    chooser = Chooser(Plan("binary", {"uncertainty": 0.8, "random": 0.2}, share=share), 2)
    found = offers(chooser, 4_000, SHAPES[shape])
    slack = 4 * math.sqrt(4_000 * share * (1 - share)) + choosing.CREDIT_MAX
    assert abs(len(found) - 4_000 * share) < slack, (len(found), chooser.figures())
    first = sum(choice.at < 2_000 for choice in found)
    assert 0.3 < first / len(found) < 0.7


@pytest.mark.parametrize("shape", ["even", "ever less sure", "always the same"])
def test_a_number_a_period_is_never_exceeded_and_spread_over_it(shape: str) -> None:
    """F39: 40 labels a day of 1,000 events, 4 days."""
    chooser = Chooser(Plan("binary", {"uncertainty": 0.8, "random": 0.2}, per_period=40), 3)
    found = offers(chooser, 4_000, SHAPES[shape], step_s=86.4)
    days = np.bincount([int(choice.at // 86_400) for choice in found], minlength=4)
    assert days.max() <= 40 and days[1:].min() >= 25, days
    hours = np.bincount([int(choice.at % 86_400 // 21_600) for choice in found], minlength=4)
    assert hours.min() > 0.1 * len(found), hours


def test_more_events_in_a_day_make_no_more_labels() -> None:
    chooser = Chooser(Plan("binary", {"random": 1}, per_period=50), 3)
    offers(chooser, 500, even, step_s=172.8)
    found = [chooser.offer(f"f{i}", 86_400.0 + 8.64 * i, {}, {}) for i in range(10_000)]
    assert sum(choice is not None for choice in found) == 50 and chooser.figures()["stopped"] > 0


def test_the_uncertain_are_chosen_and_the_others_by_chance_alone() -> None:
    """F39."""
    chooser = Chooser(Plan("binary", {"uncertainty": 0.8, "random": 0.2}, share=0.1), 4)
    rng = np.random.default_rng(1)
    scores = {f"e{i}": float(rng.random()) for i in range(4_000)}
    found = offers(chooser, 4_000, even)
    doubts = {by: [abs(scores[c.key] - 0.5) for c in found if c.by == by] for by in ("uncertainty", "random")}
    assert max(doubts["uncertainty"][20:]) < 0.15 and np.mean(doubts["uncertainty"]) < 0.05
    assert stats.kstest(np.array(doubts["random"]) * 2, "uniform").pvalue > 0.01
    assert 0.65 < len(doubts["uncertainty"]) / len(found) < 0.92
    assert all(c.score == (None if c.by == "random" else pytest.approx(-2 * abs(scores[c.key] - 0.5))) for c in found)


@pytest.mark.parametrize(
    "mixture", [{"random": 1}, {"uncertainty": 0.7, "random": 0.3}, {"diversity": 0.6, "random": 0.4}]
)
def test_probabilities_are_those_with_which_events_are_chosen(mixture: dict[By, float]) -> None:
    """F38: weighted by 1 / propensity the chosen stand for all events, also where what is measured is what decides."""
    off = []
    for seed in range(120):
        draw = np.random.default_rng(seed)
        chooser = Chooser(Plan("binary", mixture, share=0.2), seed)
        values, weighed = [], 0.0
        for i in range(300):
            p = float(draw.random())
            values.append(abs(p - 0.5))
            choice = chooser.offer(f"{seed}-{i}", float(i), {"champion": Said(1, p)}, {"p": p})
            weighed += values[-1] / choice.propensity if choice else 0.0
        off.append(weighed / 300 - np.mean(values))
    error = np.std(off, ddof=1) / math.sqrt(len(off))
    assert abs(np.mean(off)) < 3 * error < 0.03


def test_without_the_probabilities_the_estimate_would_be_wrong() -> None:
    """The fault that propensities are there for: doubt among the chosen is not doubt among all."""
    chooser = Chooser(Plan("binary", {"uncertainty": 0.7, "random": 0.3}, share=0.2), 1)
    rng = np.random.default_rng(1)
    scores = {f"e{i}": abs(float(rng.random()) - 0.5) for i in range(3_000)}
    found = offers(chooser, 3_000, even)
    plain = np.mean([scores[c.key] for c in found])
    weights = np.array([1 / c.propensity for c in found])
    weighed = float(weights @ [scores[c.key] for c in found]) / weights.sum()
    truth = np.mean(list(scores.values()))
    assert abs(plain - truth) > 0.1 and abs(weighed - truth) < 0.03


def test_choice_hangs_on_the_key_and_the_seed() -> None:
    plan = Plan("binary", {"random": 1}, share=0.3)
    a, b, c = (offers(Chooser(plan, seed), 500, even) for seed in (1, 1, 2))
    assert a == b and {x.key for x in a} != {x.key for x in c}
    backwards = [Chooser(plan, 1).offer(f"e{i}", 0.0, {}, {}) for i in range(499, -1, -1)]
    assert {x.key for x in backwards if x} == {x.key for x in a}


def test_learners_that_differ_are_told_by_their_divergence() -> None:
    """F39: query by committee."""
    binary = [disagreement("binary", [Said(1, 0.9), Said(int(p > 0.5), p)]) or 0.0 for p in (0.9, 0.6, 0.4, 0.1)]
    assert binary == sorted(binary) and binary[0] == 0.0 < binary[1]
    assert disagreement("binary", [Said(1, None), Said(1, 0.2)]) == 0.0
    votes = [Said("a", 0.4), Said("a", 0.4), Said("b", 0.9)]
    assert disagreement("multiclass", votes) == pytest.approx(-math.log(2 / 3) * 2 / 3 - math.log(1 / 3) / 3)
    shares = [Said("a", 0.8, {"a": 0.8, "b": 0.2}), Said("b", 0.8, {"a": 0.2, "b": 0.8})]
    assert disagreement("multiclass", shares) == pytest.approx(math.log(2) + 0.8 * math.log(0.8) + 0.2 * math.log(0.2))
    assert disagreement("regression", [Said(1.0), Said(3.0)]) == 1.0
    assert disagreement("binary", [Said(1, 0.9)]) is None


def test_the_committee_asks_where_learners_differ() -> None:
    chooser = Chooser(Plan("regression", {"committee": 1}, share=0.1), 1)
    for i in range(2_000):
        gap = 5.0 if i % 20 == 0 else 0.1 * (i % 7)
        chosen = chooser.offer(f"e{i}", float(i), {"a": Said(1.0), "b": Said(1.0 + gap)}, {})
        if i % 20 == 0 and i > 200:
            assert chosen is not None and chosen.by == "committee"
    assert chooser.figures()["unscored"] == 0


def test_diversity_asks_for_what_has_not_been_asked_yet() -> None:
    """F39: of twenty rare groups, far away by a word or by a number, more are met with 100 labels than by chance."""
    met = {}
    for name, mixture in {"diversity": {"diversity": 0.9, "random": 0.1}, "random": {"random": 1.0}}.items():
        draw = np.random.default_rng(1)
        chooser = Chooser(Plan("binary", mixture, share=0.05), 1)  # type: ignore[arg-type]
        groups = set()
        for i in range(2_000):
            group = int(draw.integers(20)) if draw.random() < 0.1 else 99
            x = {
                "a": float(draw.normal()) + (group if group < 10 else 0.0),
                "word": f"w{group}" if group >= 10 else "-",
            }
            if chooser.offer(f"e{i}", float(i), {}, x):
                groups.add(group)
        met[name] = len(groups)
        assert 70 < chooser.figures()["chosen"] < 130
    assert met["diversity"] >= met["random"] + 5, met


def test_answers_that_do_not_say_leave_it_to_chance() -> None:
    chooser = Chooser(Plan("binary", {"uncertainty": 1}, share=0.2), 1)
    said: list[dict[str, Said]] = [{}, {"champion": Said(1, None)}, {"champion": Said(1, math.nan)}]
    found = [chooser.offer(f"e{i}", float(i), said[i % 3], {}) for i in range(1_500)]
    assert 220 < sum(choice is not None for choice in found) < 380 and chooser.figures()["unscored"] == 1_500
    assert all(choice.propensity == pytest.approx(0.2) for choice in found if choice)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_answers_of_any_kind_raise_nothing_and_spoil_no_rank(task: Any) -> None:
    """F51: a model of any kind gave them."""
    odd = [math.nan, math.inf, -1.0, 2.0, 1e200, -1e308, 1e308, 0.5]
    by: dict[By, float] = {"committee": 1} if task == "regression" else {"committee": 1, "uncertainty": 1}
    chooser = Chooser(Plan(task, by, share=0.5), 1)
    for i in range(600):
        a, b = odd[i % 8], odd[i // 8 % 8]
        answers = [Said(a, b, {"x": a, "y": b}), Said(b, 0.3, {"x": b, "z": a}), Said(0.5, 0.5, {"x": 0.5, "y": 0.5})]
        chooser.offer(f"e{i}", float(i), dict(zip(("champion", "b", "c"), answers, strict=True)), {})
    assert chooser.figures()["unscored"] > 0
    for ranks in chooser._state.ranks.values():
        assert ranks.ring and all(map(math.isfinite, ranks.ring))


def test_margin_and_entropy_differ_where_classes_are_several() -> None:
    """F39: two classes level, or three that share what is left."""
    torn, vague = {"a": 0.49, "b": 0.49, "c": 0.02}, {"a": 0.5, "b": 0.25, "c": 0.25}
    order = {}
    for measure in ("margin", "entropy"):
        chooser = Chooser(Plan("multiclass", {"uncertainty": 1}, share=0.1, measure=measure), 1)  # type: ignore[arg-type]
        scores = [chooser._score("uncertainty", {"champion": Said("a", p["a"], p)}, None) or 0.0 for p in (torn, vague)]
        order[measure] = scores[0] > scores[1]
    assert order == {"margin": True, "entropy": False}


def test_the_state_stays_bounded() -> None:
    chooser = Chooser(Plan("binary", {"uncertainty": 0.4, "diversity": 0.4, "random": 0.2}, share=0.5), 1)
    for i in range(600):
        x = {f"f{i % 150 * 10 + k}": 1e99 * (i % 3) for k in range(10)}
        chooser.offer(f"e{i}", float(i), {"champion": Said(1, 0.5)}, x)
    assert len(chooser._state.scaling) == FEATURES_MAX and len(chooser._state.asked) == ASKED
    assert len(chooser.snapshot()) < 60_000
    assert RANKS_MIN < len(chooser._state.ranks["uncertainty"].ring) <= choosing.RANKS


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"mixture": {"random": 1}}, "either share or per_period"),
        ({"mixture": {"random": 1}, "share": 0.1, "per_period": 3}, "either share or per_period"),
        ({"mixture": {"chance": 1}, "share": 0.1}, "mixture.chance: unknown; one of uncertainty, committee"),
        ({"mixture": {"random": -1}, "share": 0.1}, "mixture.random: -1"),
        ({"mixture": {}, "share": 0.1}, "nothing has a share"),
        ({"mixture": {"random": 1}, "share": 1.5}, "share: 1.5; above 0, at most 1"),
        ({"mixture": {"random": 1}, "per_period": 0, "period_s": 0.0}, "per_period: 0; at least 1; period_s: 0.0"),
        ({"mixture": {"random": 1}, "share": 0.1, "measure": "gini"}, "measure: 'gini'; margin or entropy"),
        ({"mixture": {"uncertainty": 1}, "share": 0.1, "task": "regression"}, "not for regression; use committee"),
    ],
)
def test_a_plan_that_cannot_be_says_every_fault(plan: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plan(**{"task": "binary", **plan})


def test_states_of_others_are_refused_and_parts_that_are_new_start_anew() -> None:
    chooser = Chooser(Plan("binary", {"uncertainty": 1}, share=0.1), 1)
    with pytest.raises(SnapshotError, match="not the state"):
        chooser.restore(b"\xc1")
    for item in offered(100):
        chooser.offer(*item)
    more = Chooser(Plan("binary", {"uncertainty": 0.5, "committee": 0.5}, share=0.1), 1)
    more.restore(chooser.snapshot())
    assert [len(ranks.ring) for ranks in more._state.ranks.values()] == [100, 0]
    assert more.figures()["offered"] == 100


def learned_with(plan: Plan, seed: int, change: bool) -> float:
    """Prequential accuracy of a logistic regression that learns only what was chosen."""
    chooser, model, right = Chooser(plan, seed), Linear("binary", (0.01,)), 0
    stream = linear_stream(3_000, seed, change)
    for i, (x, y) in enumerate(stream):
        p = float(model.answers(model.prepare(x))[0])
        right += int(p > 0.5) == y
        if chooser.offer(f"e{i}", float(i), {"champion": Said(int(p > 0.5), p)}, x):
            model.learn(x, y)
    return right / len(stream)


@pytest.mark.parametrize("change", [False, True])
def test_with_one_label_in_twenty_doubt_tells_more_than_chance(change: bool) -> None:
    """F39: accuracy over 20 seeds of 3,000 events, without and with an abrupt change; paired, by three standard errors.

    The model takes small steps. One of step 0.3, or a mixture that holds one, gains nothing: near the boundary, where
    doubt asks, labels are noisiest.
    """
    doubt = Plan("binary", {"uncertainty": 0.8, "random": 0.2}, share=0.05)
    by_chance = Plan("binary", {"random": 1}, share=0.05)
    gain = [learned_with(doubt, seed, change) - learned_with(by_chance, seed, change) for seed in range(20)]
    mean, error = float(np.mean(gain)), float(np.std(gain, ddof=1) / math.sqrt(len(gain)))
    assert mean > 0.01 and mean > 3 * error, (mean, error)
