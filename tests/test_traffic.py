"""Traffic: bandits, exploration and the holdout, from the configuration to the propensity of an answer (F33, F38)."""

from __future__ import annotations

from typing import Any

from stream.contract import PREDICTIONS
from stream.stages.learn import Learn
from stream.stages.score import Score
from tests.learning import LOGISTIC, batch, configured, events, example, fed, model_figures, numbers_only, stream
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
        answers = events(score.process(batch("requests", [asked], i)), PREDICTIONS)
        made = example(i, x, y, dict(stage.served("m")))
        made.votes = [vote for vote in made.votes if vote.learner != answers[0].learner]
        made.prediction = answers[0]
        fed(stage, [made])
        served.append(answers[0])
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
