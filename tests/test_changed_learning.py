"""Learn and score that go on under another configuration (F54)."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import msgspec
import pytest

from stream import codec, config
from stream.contract import COMMANDS, DEAD_LETTERS, DECISIONS, REQUESTS, SNAPSHOTS
from stream.errors import StateError
from stream.events import Example, ModelSnapshot, Prediction, Traffic
from stream.stages.learn import Learn
from stream.stages.score import Score
from tests.learning import KEY, batch, events, example, examples, fed, lived_through, numbers_only, stream
from tests.test_learn_stage import order
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
BUFFERS = ("reservoir", "recent", "balanced", "prioritised")
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
    "a policy that collects": (BASE, learning(policy="manual"), dict.fromkeys(ALL, 100)),
    "a policy that collects no more": (learning(policy="manual"), BASE, ALL),
    "a policy that collects what it has learned no more": (learning(policy="triggered"), BASE, ALL),
    **{f"from {a} to {b}": (learning(buffer={"kind": a}), learning(buffer={"kind": b}), ALL)
       for a, b in zip(BUFFERS, BUFFERS[1:] + BUFFERS[:1], strict=True)},
    "other ages": (learning(freshness=AGES), learning(freshness={"ages": [20, 50, 80]}), ALL),
    "other metrics of a trial": (
        TRIED, {**TRIED, "trial": {**TRIED["trial"], "metrics": ["loss", "brier"]}},
        {"champion": 200, "linear": 200, "baseline": 200},
    ),
    "another champion, where a good copy of the one before is kept": (
        BASE, learning(champion="last"), {**ALL, "champion": 100},
    ),
}  # fmt: skip
"""What the model `m` was and becomes, and how many examples its learners have learned in the end."""


@pytest.mark.parametrize("name", CHANGES)
def test_learners_that_are_still_configured_go_on_and_new_ones_begin(name: str) -> None:
    """F54: and the other model does not notice."""
    before, after, updates = CHANGES[name]
    stage, other = gone_on(configured(m=before, other=BASE), configured(m=after, other=BASE))
    found = stage.figures()["models"]["m"]
    assert {part: one["updates"] for part, one in found["learners"].items()} == updates
    assert found["seen"] == 2 * FIRST and other == unchanged()


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


def traffic_of(learn: dict[str, Any]) -> tuple[Learn, dict[str, float], list[Traffic]]:
    """The stage fifty examples after the configuration changed, the shares that are served, and what was told of them:
    the same whether or not the state was written again before the first of them."""
    state, start = split()
    found = []
    for again in (False, True):
        stage = Learn(configured(m=learn), 0, 1, KEY)
        stage.restore(state)
        if again:
            stage.restore(stage.snapshot())
        score, out = Score(configured(m=learn), 0, 1, stage, {}), []
        for i, (x, y) in enumerate(numbers_only(stream(50, seed=2)), start):
            out += lived_through(stage, score, request(i, x), y)[1]
        routing = stage.routing("m")
        told = [each for each in events(out, SNAPSHOTS) if isinstance(each, Traffic)]
        found.append((stage, {} if routing is None else dict(routing.arms), told))
    assert found[0][1:] == found[1][1:]
    return found[0]


def tried(**changed: Any) -> dict[str, Any]:
    return {**TRIED, "trial": {**TRIED["trial"], **changed}}


def test_nothing_is_told_where_nothing_has_changed() -> None:
    """F54, F31."""
    assert traffic_of(TRIED)[1:] == ({"champion": 0.8, "linear": 0.2}, [])


def test_a_trial_goes_on_beside_a_challenger_that_is_new_and_those_who_serve_are_told() -> None:
    """F54, F31: on Kafka nobody asks it before."""
    _, shares, told = traffic_of({**TRIED, "challengers": {**TRIED["challengers"], "new": "last"}})
    assert shares == {"champion": 0.8, "linear": 0.2}
    assert [(each.learners[-1], each.routing and dict(each.routing.arms)) for each in told] == [("new", shares)]


@pytest.mark.parametrize(
    "learn",
    [
        without(TRIED, "trial"), {**TRIED, "challengers": {}}, {**TRIED, "challengers": {"linear": "last"}},
        {**TRIED, "champion": "last"}, tried(ramp=[]), tried(metrics=["brier"]),
    ],
    ids=["no trial", "no challenger", "another challenger", "another champion", "no step", "another metric"],
)  # fmt: skip
def test_traffic_is_the_champion_s_again_once_the_trial_is_no_more(learn: dict[str, Any]) -> None:
    """F54, F31: and those who serve are told, once."""
    stage, shares, told = traffic_of(learn)
    assert shares == {} and [each.routing for each in told] == [None]
    for trial in stage.figures()["models"]["m"].get("trials", {}).values():
        assert trial["state"] == "shadow" and trial["evidence"]["labels"] <= 50


def test_another_ramp_holds_for_the_step_that_a_trial_is_at() -> None:
    """F54, F31."""
    stage, shares, told = traffic_of(tried(ramp=[0.1, 0.4]))
    assert shares == {"champion": 0.9, "linear": 0.1} and len(told) == 1
    assert told[0].routing is not None and dict(told[0].routing.arms) == shares
    assert stage.figures()["models"]["m"]["trials"]["linear"]["share"] == 0.1


@pytest.mark.parametrize(
    ("changed", "rewards"),
    [({}, 60), ({"challengers": {"linear": "last"}}, 0), ({"bandit": {"reward": "revenue"}}, 0)],
    ids=["nothing", "an arm", "the reward"],
)
def test_a_bandit_goes_on_where_arms_and_rewards_are_the_same(changed: dict[str, Any], rewards: int) -> None:
    """F54, F33."""
    chosen = {**without(TRIED, "trial"), "bandit": {}}
    one, two = Learn(configured(m=chosen), 0, 1, KEY), Learn(configured(m={**chosen, **changed}), 0, 1, KEY)
    score = Score(configured(m=chosen), 0, 1, one, {})
    for i, (x, y) in enumerate(numbers_only(stream(60))):
        lived_through(one, score, request(i, x), y)
    two.restore(one.snapshot())
    arms = two.figures()["models"]["m"]["traffic"]["bandit"]["arms"]
    assert sum(arm["rewards"] for arm in arms.values()) == rewards


def test_what_is_told_first_is_the_routing_that_is_configured() -> None:
    """F38, F31: on Kafka nobody keeps the holdout before."""
    stage = Learn(configured(m=learning(traffic={"holdout": {"share": 0.1}})), 0, 1, KEY)
    (told,) = [each for each in events(fed(stage, examples(20)), SNAPSHOTS) if isinstance(each, Traffic)]
    assert told.routing is not None and told.routing == stage.routing("m")


# -- learners that are replaced -------------------------------------------------------------------------------------


def restored(before: dict[str, Any], after: dict[str, Any], some: list[Example], task: str = "binary") -> Learn:
    """A stage under `after`, where that under `before` has learned some examples."""
    one, two = Learn(configured(m=before), 0, 1, KEY), Learn(configured(task, m=after), 0, 1, KEY)
    fed(one, some)
    two.restore(one.snapshot())
    return two


@pytest.mark.parametrize("part", ["champion", "tree"])
def test_what_a_learner_said_before_it_was_replaced_is_no_leak(part: str) -> None:
    """F54, F23: predictions are under way when the configuration changes."""
    changed = learning(**({"champion": "last"} if part == "champion" else {"challengers": {"tree": "majority"}}))
    before = Learn(configured(m=BASE), 0, 1, KEY)
    fed(before, examples(FIRST))
    late = [example(FIRST + i, x, y, dict(before.served("m"))) for i, (x, y) in enumerate(numbers_only(stream(10)))]
    stage = Learn(configured(m=changed), 0, 1, KEY)
    stage.restore(before.snapshot())
    assert events(fed(stage, late), DEAD_LETTERS) == []
    found = stage.figures()["models"]["m"]
    assert found["leaks"] == 0 and found["learners"][part]["updates"] == 10
    assert stage.served("m")[part].version == "2"


def test_a_model_goes_back_although_one_of_its_learners_was_replaced() -> None:
    """F54: there are copies of the one before."""
    stage = restored(BASE, learning(challengers={"tree": "majority"}), examples(FIRST + 20))
    assert stage.figures()["models"]["m"]["copies"]["copies"] > 0
    fed(stage, [order("rollback")], COMMANDS)
    learners = stage.figures()["models"]["m"]["learners"]
    assert {part: one["updates"] for part, one in learners.items()} == {"champion": 100, "tree": 0, "baseline": 100}


def ordered(before: dict[str, Any], after: dict[str, Any], *arguments: tuple[str, str]) -> dict[str, Any]:
    """Parts by the number of examples that they have learned, where people ordered something before the change."""
    one, two = Learn(configured(m=before), 0, 1, KEY), Learn(configured(m=after), 0, 1, KEY)
    fed(one, examples(FIRST))
    for i, (action, learner) in enumerate(arguments):
        assert events(fed(one, [order(action, i, arguments={"learner": learner})], COMMANDS), DEAD_LETTERS) == []
    two.restore(one.snapshot())
    fed(two, examples(10, FIRST))
    return {part: one["updates"] for part, one in two.figures()["models"]["m"]["learners"].items()}


def test_the_champion_before_comes_back_where_a_promoted_one_is_configured_no_more() -> None:
    """F54."""
    found = ordered(BASE, learning(challengers={"mine": "majority"}), ("promote", "tree"))
    assert found == {"champion": 110, "mine": 110, "baseline": 110}


def test_a_learner_that_was_retired_stays_so_until_it_is_configured_otherwise() -> None:
    """F54."""
    several = {**TRIED, "challengers": {"linear": LOGISTIC, "late": "last"}}
    assert ordered(several, several, ("retire", "late")) == {"champion": 110, "linear": 110, "baseline": 110}
    other = {**several, "challengers": {"linear": LOGISTIC, "late": "majority"}}
    assert ordered(several, other, ("retire", "late")) == {"champion": 110, "linear": 110, "baseline": 110, "late": 10}


def test_a_model_of_another_task_begins_anew() -> None:
    """F54: none of what it holds fits, but for what people ordered and what was told."""
    plain = learning(champion="majority")
    stage = restored(plain, plain, examples(FIRST), "multiclass")
    assert events(fed(stage, examples(10, FIRST)), DEAD_LETTERS) == []
    found = stage.figures()["models"]["m"]
    assert found["learners"]["champion"]["updates"] == found["buffer"]["items"] == 10
    assert stage.served("m")["champion"].version == "2"


# -- what waits and what is kept ------------------------------------------------------------------------------------


def test_what_has_been_collected_is_learned_first_where_the_policy_collects_no_more() -> None:
    """F54: as one update, which is told; also where it was written again meanwhile."""
    stage = restored(learning(policy="manual"), BASE, examples(FIRST))
    assert stage.figures()["models"]["m"]["waiting"] == FIRST
    stage.restore(stage.snapshot())
    (told,) = [each for each in events(fed(stage, examples(1, FIRST)), DECISIONS) if each.action == "update"]
    assert told.why["why"] == "policy" and told.why["examples"] == FIRST
    assert stage.figures()["models"]["m"]["waiting"] == 0


@pytest.mark.parametrize("before", BUFFERS)
@pytest.mark.parametrize("after", BUFFERS)
def test_a_buffer_of_another_kind_holds_what_the_one_before_did(before: str, after: str) -> None:
    """F54, F27."""
    stage = restored(learning(buffer={"kind": before}), learning(buffer={"kind": after}), examples(FIRST))
    assert stage.figures()["models"]["m"]["buffer"]["items"] == FIRST
    fed(stage, [order("relearn")], COMMANDS)
    assert stage.figures()["models"]["m"]["learners"]["champion"]["updates"] == FIRST


@pytest.mark.parametrize("kind", ["reservoir", "balanced", "prioritised"])
def test_a_sample_that_was_full_grows_with_its_bytes(kind: str) -> None:
    """F54, F27."""
    small, large = ({"kind": kind, "bytes": size} for size in (4_000, 400_000))
    held = {}
    for after in (small, large):
        stage = restored(learning(buffer=small), learning(buffer=after), examples(200))
        fed(stage, examples(400, 200))
        held[after["bytes"]] = stage.figures()["models"]["m"]["buffer"]["items"]
    assert held[400_000] > 1.5 * held[4_000]


def test_a_state_of_another_version_is_refused_with_what_to_do() -> None:
    """F54."""
    stage = Learn(configured(m=BASE), 0, 1, KEY)
    with pytest.raises(StateError, match=r"the state of learn has version 2, this program reads 3: run the program"):
        stage.restore(codec.pack({"version": 2, "courses": []}))
    with pytest.raises(StateError, match="early version"):
        stage.restore(codec.pack({"format": 2, "courses": {}}))


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
