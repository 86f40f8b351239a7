"""Traffic: bandits, exploration and the holdout, from the configuration to the propensity of an answer (F33, F38); and
what else a learning model may be told to do (F35, F37)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from learners.assignment import Routing
from stream import codec
from stream.contract import DEAD_LETTERS, DECISIONS, PREDICTIONS, SNAPSHOTS
from stream.events import Traffic
from stream.stages.learn import Learn
from stream.stages.score import Score
from tests.learning import (
    KEY,
    LOGISTIC,
    batch,
    configured,
    events,
    example,
    fed,
    lived_through,
    model_figures,
    numbers_only,
    stream,
)
from tests.test_score_stage import request

ARMS = f"      champion: majority\n      challengers: {{linear: {LOGISTIC}}}\n      publish: 100\n"
BANDIT = ARMS + "      bandit: {settings: {floor: 0.05, every: 50}}"


def lived(text: str, n: int, seed: int = 1, **tags: str) -> tuple[Learn, list[Any]]:
    """A stage that has served and learned n events, each with its label at once, and what was served."""
    config = configured(text)
    stage = Learn(config, 0, 1, None)
    score = Score(config, 0, 1, stage, {})
    served = []
    for i, (x, y) in enumerate(numbers_only(stream(n, seed=seed))):
        asked = request(i, x)
        asked.tags = tags | {"user": str(i % 50)}
        served.append(lived_through(stage, score, asked, y)[0])
    return stage, served


def test_thompson_sampling_gives_the_traffic_to_the_better_arm_and_keeps_a_floor() -> None:
    """F33."""
    stage, served = lived(BANDIT, 1500)
    shares = [sum(p.learner == "linear" for p in served[i : i + 500]) / 500 for i in (0, 1000)]
    assert shares[0] < shares[1] > 0.85
    last = {p.learner: p.propensity for p in served[-200:]}
    assert abs(sum(last.values()) - 1.0) < 1e-9 and min(last.values()) >= 0.05 - 1e-9
    figures = model_figures(stage)["traffic"]
    assert figures["rewards"] == 1500 and figures["strange"] == 0
    assert figures["bandit"]["arms"]["linear"]["mean"] > figures["bandit"]["arms"]["champion"]["mean"] + 0.2


def test_what_each_arm_would_earn_alone_is_estimated_with_intervals() -> None:
    """F38: against the truth, which is known here as every learner answers everything."""
    stage, _ = lived(BANDIT, 1500)
    values, learners = model_figures(stage)["traffic"]["values"], model_figures(stage)["learners"]
    for arm in ("champion", "linear"):
        truth = learners[arm]["metrics"]["accuracy"]
        estimate, low, high = values[arm]["dr"]
        assert low <= truth <= high and abs(estimate - truth) < 0.02, (arm, values[arm], truth)
        assert high - low <= values[arm]["ips"][2] - values[arm]["ips"][1], "a doubly robust estimate is the surer one"


def test_a_holdout_is_always_served_by_the_same_learner() -> None:
    """F38: by user, whatever is tried on the others."""
    text = ARMS + "      traffic: {unit: user, holdout: {share: 0.2}}"
    _, served = lived(text, 400)
    by_user: dict[str, set[str]] = {}
    for one in served:
        by_user.setdefault(one.tags["user"], set()).add(one.learner)
    assert all(len(learners) == 1 for learners in by_user.values())
    held = [user for user, learners in by_user.items() if learners == {"baseline"}]
    assert 4 <= len(held) <= 17, "a fifth of 50 users, give or take three standard deviations"
    assert {p.propensity for p in served} == {0.2, 0.8}


def test_exploration_serves_every_challenger_a_share_with_its_propensity() -> None:
    """F38."""
    _, served = lived(ARMS + "      traffic: {explore: 0.2}", 1000)
    explored = [p for p in served if p.learner == "linear"]
    assert 62 <= len(explored) <= 138, "a tenth of 1,000, give or take four standard deviations"
    assert {p.propensity for p in explored} == {0.1}
    assert {round(p.propensity, 9) for p in served if p.learner == "champion"} == {0.9}


def test_rewards_may_be_business_figures_of_the_labels() -> None:
    """F33, F16."""
    text = ARMS + "      bandit: {reward: revenue, settings: {rewards: real, every: 50}}"
    stage = Learn(configured(text), 0, 1, None)
    for i, (x, y) in enumerate(numbers_only(stream(600))):
        made = example(i, x, y, dict(stage.served("m")), values={"revenue": 10.0 if i % 2 else 2.0})
        made.prediction.learner = "linear" if i % 2 else "champion"
        made.prediction.propensity = 0.5
        made.votes = [vote for vote in made.votes if vote.learner != made.prediction.learner]
        fed(stage, [made])
    figures = model_figures(stage)["traffic"]
    assert figures["bandit"]["arms"]["linear"]["mean"] == 10.0
    assert figures["shares"]["linear"] > 0.95


def test_on_the_wire_those_who_serve_follow_what_learning_says() -> None:
    """F31: by way of JSON, as on Kafka, with snapshots verified; a part that is gone is asked no longer."""
    config = configured(ARMS + "      trial: {ramp: [0.5], labels_min: 50, every: 25, probation_labels: 200}")
    learn, score = Learn(config, 0, 1, KEY), Score(config, 0, 1, None, {"dev": KEY})
    seen, offset = [], 0
    for i, (x, y) in enumerate(numbers_only(stream(900))):
        answers = events(score.process(batch("requests", [request(i, x)], i)), PREDICTIONS)
        made = example(i, x, y, dict(learn.served("m")))
        made.prediction, made.votes = answers[0], []
        out = [codec.encode(event) for event in events(fed(learn, [made]), SNAPSHOTS)]
        assert events(score.process(batch(SNAPSHOTS, out, offset)), DEAD_LETTERS) == []
        offset += len(out)
        seen.append((answers[0].learner, answers[0].propensity, sorted(a.learner for a in answers)))
    assert seen[0] == ("champion", None, ["baseline", "champion", "linear"])
    assert {one[:2] for one in seen} >= {("linear", 0.5), ("champion", 0.5)}
    assert seen[-1] == ("champion", None, ["baseline", "champion", "previous"])
    assert model_figures(learn)["learners"]["champion"]["origin"] == "linear" and score.figures()["canary_faults"] == 0


def test_an_arm_that_cannot_answer_leaves_the_champion_to_serve_and_is_counted() -> None:
    """F31: without a propensity, for it is no longer known."""
    score = Score(configured(ARMS), 0, 1, None, {"dev": KEY})
    routing = Routing(number=1, seed=1, arms=(("champion", 0.0), ("nobody", 1.0)))
    told = Traffic(model="m", at="1970-01-01T00:00:00+00:00", version="1", learners=["champion"], routing=routing)
    score.process(batch(SNAPSHOTS, [codec.encode(told)]))
    (answer,) = events(score.process(batch("requests", [request(0, {"a": 1.0})])), PREDICTIONS)
    assert (answer.learner, answer.role, answer.propensity) == ("champion", "champion", None)
    assert score.figures()["canary_faults"] == 1


def test_a_rare_class_is_learned_as_much_as_a_frequent_one_but_for_the_baseline() -> None:
    """F35."""
    rare = [(x, y) for i, (x, y) in enumerate(numbers_only(stream(4000))) if y == 0 or i % 20 == 0]
    found = {}
    for text in ("", "      balance: {kind: over}\n"):
        stage = Learn(configured(f"      champion: {LOGISTIC}\n{text}"), 0, 1, None)
        fed(stage, [example(i, x, y) for i, (x, y) in enumerate(rare)])
        found[text] = model_figures(stage)["learners"]
    plain, balanced = found.values()
    assert balanced["champion"]["metrics"]["g_mean"] > plain["champion"]["metrics"]["g_mean"] + 0.02
    assert balanced["champion"]["updates"] > 1.5 * plain["champion"]["updates"]
    assert balanced["baseline"]["updates"] == plain["baseline"]["updates"] == len(rare)


def test_the_age_of_models_is_told_and_an_interval_recommended() -> None:
    """F37: a concept that turns steadily makes old copies worse, the older the worse."""
    text = f"      champion: {LOGISTIC}\n      freshness: {{ages: [50s, 100s, 200s], every: 1, price: 0.5}}"
    stage, out = Learn(configured(text), 0, 1, None), []
    draw = np.random.default_rng(3)
    for i in range(3000):
        a, b = draw.normal(size=2).tolist()
        angle = i / 150.0
        y = int(a * math.cos(angle) + b * math.sin(angle) > 0)
        out += fed(stage, [example(i, {"a": a, "b": b}, y)])
    figures = model_figures(stage)["freshness"]
    means = [point["mean"] for point in figures["curve"]]
    assert len(means) == 3 and means[0] > 0 and means == sorted(means)
    told = [decision for decision in events(out, DECISIONS) if decision.action == "recommend_interval"]
    assert told and 0 < told[-1].why["interval_s"] < 400
