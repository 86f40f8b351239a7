"""Learn and score that go on under another configuration (F54)."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import msgspec
import pytest

from stream import config
from stream.contract import REQUESTS, SNAPSHOTS
from stream.events import Example, ModelSnapshot, Prediction, Traffic
from stream.stages.learn import Learn
from stream.stages.score import Score
from tests.learning import KEY, batch, events, examples, fed, lived_through, numbers_only, stream
from tests.test_score_stage import request

LOGISTIC = {"pipeline": ["river.preprocessing.StandardScaler", "river.linear_model.LogisticRegression"]}
BASE: dict[str, Any] = {"champion": LOGISTIC, "challengers": {"tree": "last", "mine": "majority"}, "publish": 50}
TRIED: dict[str, Any] = {
    "champion": "majority", "challengers": {"linear": LOGISTIC}, "publish": 100,
    "trial": {"ramp": [0.2, 0.5], "labels_min": 100, "every": 50},
}  # fmt: skip
FIRST = 100
"""Examples of each model before the configuration changes, and after."""


def configured(task: str = "binary", **models: dict[str, Any] | None) -> config.Config:
    made = {name: {"task": task} | ({} if learn is None else {"learn": learn}) for name, learn in models.items()}
    return config.parse(json.dumps({"models": made}))


def learning(**changed: Any) -> dict[str, Any]:
    return {**BASE, **changed}


@cache
def both() -> list[Example]:
    """Of two models in turn."""
    return [
        msgspec.structs.replace(each, prediction=msgspec.structs.replace(each.prediction, model=name))
        for each in examples(2 * FIRST)
        for name in ("m", "other")
    ]


def gone_on(before: config.Config, after: config.Config) -> tuple[Learn, Any]:
    """What learned under the one configuration and then under the other; what the other model is by then. Its snapshots
    name the configuration, so that they differ."""
    one, two = Learn(before, 0, 1, KEY), Learn(after, 0, 1, KEY)
    fed(one, both()[: 2 * FIRST])
    two.restore(one.snapshot())
    out = fed(two, both()[2 * FIRST :])
    told = [(each.topic, type(each.event).__name__) for each in out if each.key.startswith("other")]
    return two, [two.digests()["other"], two.figures()["models"]["other"], told]


@cache
def unchanged() -> Any:
    return gone_on(*(configured(m=BASE, other=BASE) for _ in "ab"))[1]


def without(version: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in version.items() if name not in names}


AGES = {"ages": [10, 50]}
ALL = {"champion": 200, "tree": 200, "mine": 200, "baseline": 200}
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, int]]] = {
    "a challenger added": (BASE, learning(challengers={**BASE["challengers"], "new": "last"}), {**ALL, "new": 100}),
    "a challenger removed": (BASE, learning(challengers={"tree": "last"}), without(ALL, "mine")),
    "another challenger": (BASE, learning(challengers={"tree": "majority", "mine": "majority"}), {**ALL, "tree": 100}),
    "a smaller buffer": (learning(buffer={"bytes": 20_000}), learning(buffer={"bytes": 2_000}), ALL),
    "a larger recent buffer": (
        learning(buffer={"kind": "recent", "bytes": 2_000}), learning(buffer={"kind": "recent", "bytes": 20_000}), ALL,
    ),
    "importance": (BASE, learning(importance=True), ALL),
    "no importance": (learning(importance=True), BASE, ALL),
    "balance": (BASE, learning(balance={"kind": "weight"}), ALL),
    "influence": (BASE, learning(influence={}), ALL),
    "no influence": (learning(influence={}), BASE, ALL),
    "freshness": (BASE, learning(freshness=AGES), ALL),
    "no freshness": (learning(freshness=AGES), BASE, ALL),
    "no guard": (BASE, learning(guard=None), ALL),
    "a guard": (learning(guard=None), BASE, ALL),
    "a bandit": (BASE, learning(bandit={"kind": "thompson"}), ALL),
    "another bandit": (learning(bandit={"kind": "thompson"}), learning(bandit={"kind": "ucb"}), ALL),
    "exploration": (BASE, learning(traffic={"explore": 0.2}), ALL),
    "another seed": (BASE, learning(seed=7), ALL),
    "another policy that collects": (
        learning(policy="manual"), learning(policy="scheduled"), dict.fromkeys(ALL, 0),
    ),
}  # fmt: skip
"""What the model `m` was and becomes, and how many examples its learners have learned in the end."""


@pytest.mark.parametrize("name", CHANGES)
def test_learners_that_are_still_configured_go_on_and_new_ones_begin(name: str) -> None:
    """F54: and the other model does not notice."""
    before, after, updates = CHANGES[name]
    stage, other = gone_on(configured(m=before, other=BASE), configured(m=after, other=BASE))
    learners = stage.figures()["models"]["m"]["learners"]
    assert {part: one["updates"] for part, one in learners.items()} == updates
    assert other == unchanged()


BUFFERS = ("reservoir", "recent", "balanced", "prioritised")
UNREAD: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a policy that collects": (BASE, learning(policy="manual")),
    "a policy that does not": (learning(policy="triggered"), BASE),
    **{f"from {a} to {b}": (learning(buffer={"kind": a}), learning(buffer={"kind": b}))
       for a, b in zip(BUFFERS, BUFFERS[1:] + BUFFERS[:1], strict=True)},
    "other ages": (learning(freshness=AGES), learning(freshness={"ages": [20, 50, 80]})),
    "other metrics of a trial": (TRIED, {**TRIED, "trial": {**TRIED["trial"], "metrics": ["loss", "brier"]}}),
    "another champion, where a good copy of the one before is kept": (BASE, learning(champion="last")),
}  # fmt: skip


@pytest.mark.parametrize("name", UNREAD)
@pytest.mark.xfail(strict=True, reason="the part's state is refused, and with it the whole stage")
def test_a_part_that_is_configured_otherwise_begins_anew_and_the_learners_go_on(name: str) -> None:
    """F54."""
    before, after = UNREAD[name]
    stage, other = gone_on(configured(m=before, other=BASE), configured(m=after, other=BASE))
    assert stage.figures()["models"]["m"]["seen"] == 2 * FIRST and other == unchanged()


def test_models_that_learn_no_more_leave_no_trace_and_new_ones_begin() -> None:
    """F54."""
    two, one = configured(m=BASE, other=BASE), configured(other=BASE)
    for after in (one, configured(m=None, other=BASE), configured(m=learning(policy="off"), other=BASE)):
        stage, other = gone_on(two, after)
        assert other == unchanged() and list(stage.figures()["models"]) == ["other"]
        assert len(stage.snapshot()) < 0.6 * len(gone_on(two, two)[0].snapshot())
    stage, other = gone_on(one, two)
    assert stage.figures()["models"]["m"]["learners"]["champion"]["updates"] == FIRST and other == unchanged()


@cache
def split() -> tuple[bytes, int]:
    """A stage whose challenger is served a fifth of the traffic, and after how many examples."""
    stage = Learn(configured(m=TRIED), 0, 1, KEY)
    score = Score(configured(m=TRIED), 0, 1, stage, {})
    for i, (x, y) in enumerate(numbers_only(stream(500))):
        lived_through(stage, score, request(i, x), y)
        if stage.routing("m") is not None:
            return stage.snapshot(), i + 1
    raise AssertionError("nothing was split")


def traffic_of(learn: dict[str, Any]) -> tuple[dict[str, float], list[Traffic]]:
    """The shares that are served fifty examples after the configuration changed, and what was told of them."""
    state, start = split()
    stage = Learn(configured(m=learn), 0, 1, KEY)
    stage.restore(state)
    score, out = Score(configured(m=learn), 0, 1, stage, {}), []
    for i, (x, y) in enumerate(numbers_only(stream(50, seed=2)), start):
        out += lived_through(stage, score, request(i, x), y)[1]
    routing = stage.routing("m")
    return {} if routing is None else dict(routing.arms), [e for e in events(out, SNAPSHOTS) if isinstance(e, Traffic)]


def test_a_trial_goes_on_beside_a_challenger_that_is_new() -> None:
    """F54, F31."""
    assert traffic_of({**TRIED, "challengers": {**TRIED["challengers"], "new": "last"}})[0] == {
        "champion": 0.8, "linear": 0.2,
    }  # fmt: skip


@pytest.mark.parametrize(
    "learn", [without(TRIED, "trial"), {**TRIED, "challengers": {}}], ids=["no trial", "no challenger"]
)
@pytest.mark.xfail(strict=True, reason="the routing of the state outlives what it was made for")
def test_traffic_is_the_champion_s_again_once_nobody_is_tried(learn: dict[str, Any]) -> None:
    """F54, F31: and those who serve are told."""
    shares, told = traffic_of(learn)
    assert shares == {} and [each.routing for each in told[-1:]] == [None]


@pytest.mark.xfail(strict=True, reason="traffic is told of only when shares change")
def test_those_who_serve_are_told_of_a_challenger_that_is_new() -> None:
    """F54, F31: on Kafka nobody asks it before."""
    told = traffic_of({**TRIED, "challengers": {**TRIED["challengers"], "new": "last"}})[1]
    assert any("new" in each.learners for each in told)


# -- score ----------------------------------------------------------------------------------------------------------


@cache
def held() -> bytes:
    """A stage that has read the snapshots of both models."""
    stage = Learn(configured(m=BASE, other=BASE), 0, 1, KEY)
    published = [e for e in events(fed(stage, both()[: 2 * FIRST]), SNAPSHOTS) if isinstance(e, ModelSnapshot)]
    score = Score(configured(m=BASE, other=BASE), 0, 1, None, {"dev": KEY})
    score.process(batch(SNAPSHOTS, published))
    return score.snapshot()


def answers(after: config.Config, name: str = "m") -> dict[str, int]:
    """By learner, how many examples those who answer have learned."""
    score = Score(after, 0, 1, None, {"dev": KEY})
    score.restore(held())
    asked = msgspec.structs.replace(request(1, examples(1)[0].prediction.features), model=name)
    said = events(score.process(batch(REQUESTS, [asked])), "predictions")
    return {each.learner: each.model_updates or 0 for each in said if isinstance(each, Prediction)}


def test_score_goes_on_with_what_is_still_configured() -> None:
    """F54."""
    assert answers(configured(m=BASE, other=BASE)) == dict.fromkeys(ALL, FIRST)
    assert answers(configured(m=learning(challengers={"tree": "last"}), other=BASE)) == dict.fromkeys(
        without(ALL, "mine"), FIRST
    )
    more = learning(challengers={**BASE["challengers"], "new": "last"})
    assert answers(configured(m=more, other=BASE)) == {**dict.fromkeys(ALL, FIRST), "new": 0}
    assert answers(configured(other=BASE), "other") == dict.fromkeys(ALL, FIRST)


@pytest.mark.parametrize("part", ["champion", "challengers"])
def test_a_learner_that_is_configured_otherwise_answers_untrained_until_it_is_published(part: str) -> None:
    """F54."""
    changed = learning(**{part: "majority" if part == "champion" else {"tree": "river.tree.HoeffdingTreeClassifier"}})
    found = answers(configured(m=changed, other=BASE))
    assert found["champion" if part == "champion" else "tree"] == 0 and found["baseline"] == FIRST


def test_snapshots_of_what_is_configured_no_more_leave_no_trace() -> None:
    """F54."""
    score = Score(configured(other=BASE), 0, 1, None, {"dev": KEY})
    score.restore(held())
    assert len(score.snapshot()) < 0.6 * len(held())
