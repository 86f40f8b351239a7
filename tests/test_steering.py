"""Steering: who plays which part, what is taken back, what is guarded, and that every step is told (F30, F31, F34)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from learners.contract import Label
from stream.contract import ALERTS, COMMANDS, DEAD_LETTERS, DECISIONS, SNAPSHOTS
from stream.events import ModelSnapshot, Traffic
from stream.stages.learn import Learn
from stream.stages.score import Score
from tests import conformance
from tests.conformance import Scenario
from tests.learning import (
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
from tests.test_learn_stage import KEY, alert, by_value, order
from tests.test_score_stage import request

GOOD = f"      champion: majority\n      challengers: {{linear: {LOGISTIC}}}\n      publish: 100\n"
"""A champion that any model beats."""

TRIED = GOOD + "      trial: {ramp: [0.2, 0.5], labels_min: 100, every: 50, probation_labels: 300}"


def said_by(stage: Learn, pairs: Iterable[tuple[dict[str, Any], Label]], start: int = 0) -> list[Any]:
    """Each example is answered by the learners as they stand, and goes to the arm that the routing says."""
    score = Score(configured(TRIED), 0, 1, stage, {})
    out: list[Any] = []
    for i, (x, y) in enumerate(pairs, start):
        out += lived_through(stage, score, request(i, x), y)[1]
    return out


def actions(outputs: Iterable[Any]) -> list[str]:
    return [decision.action for decision in events(outputs, DECISIONS)]


def test_a_better_challenger_goes_by_canary_to_champion_and_every_step_is_told() -> None:
    """F31, F32: shadow, a fifth of the traffic, half of it, all of it, confirmed."""
    stage = Learn(configured(TRIED), 0, 1, KEY)
    out = said_by(stage, numbers_only(stream(1500)))
    told = events(out, DECISIONS)
    assert [d.action for d in told] == ["canary", "canary", "promote", "confirm"]
    assert [d.why["share"] for d in told] == [0.2, 0.5, 1.0, 1.0]
    assert told[0].learner == "linear" and told[0].why["evidence"]["labels"] >= 100
    assert [d.decision_id for d in told] == ["m-learn-1", "m-learn-2", "m-learn-3", "m-learn-4"]
    figures = model_figures(stage)["learners"]
    assert list(figures) == ["champion", "baseline", "previous"]
    assert (figures["champion"]["origin"], figures["previous"]["origin"]) == ("linear", "champion")
    assert told[2].before["origin"] == "champion" and told[2].after["origin"] == "linear"
    assert stage.routing("m") is None, "nothing is split any more"


def test_those_who_serve_are_told_whom_to_ask_and_whom_to_serve() -> None:
    """F31."""
    stage = Learn(configured(TRIED), 0, 1, KEY)
    out = said_by(stage, numbers_only(stream(1500)))
    told = [event for event in events(out, SNAPSHOTS) if isinstance(event, Traffic)]
    assert [dict(t.routing.arms)["linear"] if t.routing else None for t in told] == [0.2, 0.5, None]
    assert told[0].learners == ["champion", "linear", "baseline"]
    assert told[-1].learners == ["champion", "baseline", "previous"]
    last = [e for e in events(out, SNAPSHOTS) if isinstance(e, ModelSnapshot) and e.learner == "champion"][-1]
    assert last.lineage["origin"] == "linear"


def test_a_canary_is_served_its_share_with_its_propensity() -> None:
    """F31: the answer that was served is the canary's, and says with what chance."""
    stage = Learn(configured(TRIED), 0, 1, None)
    pairs = numbers_only(stream(1500))
    for i, pair in enumerate(pairs):
        if stage.routing("m") is not None:
            break
        said_by(stage, [pair], i)
    routing = stage.routing("m")
    assert routing is not None and dict(routing.arms)["linear"] == 0.2
    score = Score(configured(TRIED), 0, 1, stage, {})
    served = [score.process(batch("requests", [request(i, pairs[0][0])]))[0].event for i in range(2000)]
    by_linear = [s for s in served if s.learner == "linear"]
    assert 340 <= len(by_linear) <= 460, "a fifth of 2,000, give or take four standard deviations"
    assert {(s.role, s.propensity) for s in by_linear} == {("canary", 0.2)}
    assert {(s.role, s.propensity) for s in served if s.learner != "linear"} == {("champion", 0.8)}
    assert score.figures()["canaries"] == len(by_linear)


def test_a_worse_challenger_is_retired_and_asked_no_longer() -> None:
    """F32."""
    worse = (
        f"      champion: {LOGISTIC}\n      challengers: {{last: last}}\n      publish: 100\n      trial: {{every: 50}}"
    )
    stage = Learn(configured(worse), 0, 1, None)
    out = fed(stage, [example(i, x, y) for i, (x, y) in enumerate(numbers_only(stream(800)))])
    assert actions(out) == ["retire"] and "last" not in stage.served("m")
    (told,) = [event for event in events(out, SNAPSHOTS) if isinstance(event, Traffic)]
    assert told.learners == ["champion", "baseline"]


def test_a_person_approves_where_the_trial_waits_for_one() -> None:
    """F31, F41."""
    text = GOOD + "      trial: {ramp: [], labels_min: 100, every: 50, approve: [promoted]}"
    stage = Learn(configured(text), 0, 1, None)
    out = fed(stage, [example(i, x, y) for i, (x, y) in enumerate(numbers_only(stream(600)))])
    assert actions(out) == ["await_approval"] and "linear" in stage.served("m")
    (letter,) = events(fed(stage, [order("approve")], COMMANDS), DEAD_LETTERS)
    assert "say which learner: arguments {learner: NAME}, one of champion, linear, baseline" in letter.reason
    (promoted,) = events(fed(stage, [order("approve", 2, arguments={"learner": "linear"})], COMMANDS), DECISIONS)
    assert promoted.action == "promote" and promoted.why["issued_by"] == "ann" and promoted.causation_id == "c2"
    assert model_figures(stage)["learners"]["champion"]["origin"] == "linear"


def test_a_person_promotes_and_rolls_back_at_once() -> None:
    """F31, F41: blue-green by two commands."""
    stage = Learn(configured(GOOD), 0, 1, None)
    fed(stage, [example(i, x, y) for i, (x, y) in enumerate(numbers_only(stream(50)))])
    before = stage.digests()["m"]
    (promoted,) = events(fed(stage, [order("promote", 1, arguments={"learner": "linear"})], COMMANDS), DECISIONS)
    assert (promoted.action, promoted.after["version"], promoted.after["origin"]) == ("promote", "2", "linear")
    assert stage.digests()["m"]["champion"] == before["linear"]
    assert stage.digests()["m"]["previous"] == before["champion"]
    (back,) = events(fed(stage, [order("rollback", 2)], COMMANDS), DECISIONS)
    assert (back.action, back.after["version"], back.after["origin"]) == ("rollback", "3", "champion")
    assert stage.digests()["m"] == before
    wrong = [order("rollback", 3), order("promote", 4, arguments={"learner": "x"})]
    letters = events(fed(stage, wrong, COMMANDS), DEAD_LETTERS)
    assert ["neither a champion before this one" in letters[0].reason, "there are: linear" in letters[1].reason] == [
        True
    ] * 2


def test_what_was_learned_since_the_data_broke_is_taken_back() -> None:
    """F34: the served model is as it was before the break."""
    text = f"      champion: {LOGISTIC}\n      publish: 100"
    stage, twin = (Learn(configured(text), 0, 1, None) for _ in range(2))
    pairs = numbers_only(stream(480))
    good = [example(i, x, y) for i, (x, y) in enumerate(pairs)]
    broken = [example(i, {**x, "a": x["a"] * 1000.0}, y) for i, (x, y) in enumerate(pairs)]
    fed(stage, [*good[:430], *broken[430:]])
    fed(twin, good[:400])
    told = events(fed(stage, [alert("data_quality", "firing", 480, since=431)], ALERTS), DECISIONS)
    assert [d.action for d in told] == ["pause", "rollback"]
    assert told[1].why["forgotten"] == 80 and told[1].causation_id == "data_quality-1"
    assert stage.digests() == twin.digests() and model_figures(stage)["forgotten"] == 80
    assert stage.served("m")["champion"].version == "2"


def test_values_that_are_only_missing_stop_nothing() -> None:
    """F34: they teach nothing wrong; a setting makes them pause learning like other broken data."""
    lost = alert("data_quality", "firing", 480, since=431, evidence={"fault": "missing"})
    for respond, told in (("", []), ("      respond: {missing: pause}", ["pause", "rollback"])):
        stage = Learn(configured(f"      champion: {LOGISTIC}\n      publish: 100\n{respond}"), 0, 1, None)
        fed(stage, [example(i, x, y) for i, (x, y) in enumerate(numbers_only(stream(480)))])
        assert actions(fed(stage, [lost], ALERTS)) == told


@pytest.mark.parametrize("revised", ["covariate_drift", "data_quality"])
def test_an_alert_that_is_called_otherwise_by_its_end_lets_learning_go_on(revised: str) -> None:
    """F34: it was a broken feed when it stopped learning, and a drift, or missing values, when it ended."""
    stage = Learn(configured(f"      champion: {LOGISTIC}\n      publish: 100"), 0, 1, None)
    fed(stage, [example(i, x, y) for i, (x, y) in enumerate(numbers_only(stream(480)))])
    began = alert("data_quality", "firing", 480, since=431)
    ended = alert(revised, "resolved", 500, evidence={"fault": "missing"})
    ended.alert_id = began.alert_id
    assert actions(fed(stage, [began, ended], ALERTS)) == ["pause", "rollback", "resume"]


def flipped(pairs: list[tuple[dict[str, Any], Label]]) -> list[tuple[dict[str, Any], Label]]:
    return [(x, 1 - int(y)) for x, y in pairs]


def test_a_bad_update_is_rolled_back_by_itself_and_after_a_second_learning_rests() -> None:
    """F34: two hundred examples with the labels the wrong way round, injected behind the stage's back, twice; the
    decisions tell the whole story in order."""
    stage = Learn(configured(f"      champion: {LOGISTIC}\n      publish: 400"), 0, 1, None)
    pairs = numbers_only(stream(4000))
    asked = [example(i, x, y) for i, (x, y) in enumerate(pairs)]
    assert actions(fed(stage, asked[:1600])) == []
    story = []
    for begin in (1600, 2000):
        champion = stage.served("m")["champion"].learner
        for x, y in flipped(pairs[:200]):
            champion.learn(x, y, 20.0)
        story += events(fed(stage, asked[begin : begin + 400]), DECISIONS)
    assert [d.action for d in story] == ["rollback", "rollback", "pause"]
    assert {d.why["why"] for d in story[:2]} == {"worse than the last good one while it served"}
    assert any("loses" in words for words in story[0].why["evidence"].values())
    assert story[2].causation_id == story[1].decision_id and story[2].after["paused"]
    assert fed(stage, asked[2400:2500]) == [] and model_figures(stage)["paused"]
    twin = Learn(configured(f"      champion: {LOGISTIC}\n      publish: 400"), 0, 1, None)
    twin.restore(stage.snapshot())
    (resumed,) = events(fed(twin, [order("resume")], COMMANDS), DECISIONS)
    assert resumed.action == "resume" and not model_figures(twin)["paused"]
    (rested,) = events(fed(stage, asked[2500:3500]), DECISIONS)
    assert (rested.action, rested.why["why"], rested.causation_id) == ("resume", "rested", "m-learn-3")


def test_a_batch_that_spoils_the_model_is_refused_before_it_is_served() -> None:
    """F34, F26: the scheduled policy."""
    text = f"      champion: {LOGISTIC}\n      policy: scheduled\n      every: 500s"
    stage = Learn(configured(text), 0, 1, None)
    pairs = numbers_only(stream(1001))
    # The labels of the second batch are right where the guard looks, and wrong elsewhere: a poisoned batch.
    bad = [(x, y if i % 10 == 0 else 1 - int(y)) for i, (x, y) in enumerate(pairs[500:1000])]
    some = [example(i, x, y) for i, (x, y) in enumerate([*pairs[:500], *bad, pairs[1000]])]
    out = fed(stage, some[:501])
    assert actions(out) == ["update"]
    before = stage.digests()["m"]["champion"]
    (refused,) = events(fed(stage, some[501:]), DECISIONS)
    assert refused.action == "refuse" and "loss" in refused.why["evidence"]
    assert stage.digests()["m"]["champion"] == before


@pytest.mark.parametrize(("action", "decided"), [("reset", "relearn"), ("warm_start", "relearn"), ("freeze", "pause")])
def test_the_response_to_an_alert_is_a_setting(action: str, decided: str) -> None:
    """F26, F34."""
    text = f"      champion: {LOGISTIC}\n      publish: 100\n      respond: {{concept_drift: {action}}}"
    stage = Learn(configured(text), 0, 1, None)
    fed(stage, [example(i, x, y) for i, (x, y) in enumerate(numbers_only(stream(300)))])
    told, *more = events(fed(stage, [alert("concept_drift", "firing", 300, since=150)], ALERTS), DECISIONS)
    assert told.action == decided and told.causation_id == "concept_drift-1"
    assert [d.action for d in more] == ["rollback"] * (action == "freeze"), "it is frozen as it was before the change"
    updates = stage.served("m")["champion"].learner.updates
    assert updates == {"reset": 0, "warm_start": 150, "freeze": 100}[action]
    fed(stage, [alert("concept_drift", "resolved", 301)], ALERTS)
    assert model_figures(stage)["paused"] == (action == "freeze"), "a freeze ends by a person alone"


def test_a_rival_started_after_drift_takes_over_if_it_is_better() -> None:
    """F26, F31: a challenger from the buffer's examples since the change, in shadow until a test has promoted it."""
    step = "{optimizer: {river.optim.SGD: {lr: 0.005}}}"
    slow = f"{{pipeline: [river.preprocessing.StandardScaler, {{river.linear_model.LogisticRegression: {step}}}]}}"
    text = (
        f"      champion: {slow}\n      publish: 100\n      respond: {{concept_drift: challenge}}\n"
        "      trial: {ramp: [], labels_min: 100, every: 50}"
    )
    stage = Learn(configured(text), 0, 1, None)
    pairs = numbers_only(stream(3000, change=2000))
    asked = [example(i, x, y) for i, (x, y) in enumerate(pairs)]
    fed(stage, asked[:2200])
    (started,) = events(fed(stage, [alert("concept_drift", "firing", 2200, since=2000)], ALERTS), DECISIONS)
    assert (started.action, started.learner, started.why["examples"]) == ("challenge", "rival", 200)
    out = fed(stage, asked[2200:])
    assert "promote" in actions(out)
    assert model_figures(stage)["learners"]["champion"]["origin"] == "rival"


def test_drift_that_began_in_one_slice_is_answered_once_it_is_everywhere() -> None:
    """F26: an alert that says something else by now asks for something else; said again, it asks for nothing."""
    respond = "{concept_drift: challenge, covariate_drift: ignore}"
    text = f"      champion: experts\n      respond: {respond}\n      trial: {{}}"
    stage = Learn(configured(text), 0, 1, None)
    fed(stage, [example(i, x, y) for i, (x, y) in enumerate(numbers_only(stream(300)))])

    def says(kind: str, status: str, **more: Any) -> list[str]:
        said = msgspec.structs.replace(alert(kind, status, 300, since=200, **more), alert_id="a")
        return actions(fed(stage, [said], ALERTS))

    assert says("concept_drift", "firing", slice={"place": "north"}) == []
    assert says("concept_drift", "revised") == ["challenge"]
    assert says("concept_drift", "revised") == says("covariate_drift", "revised") == []
    assert says("concept_drift", "revised") == [], "what was done for it stays done"
    assert says("concept_drift", "resolved") == []
    assert says("concept_drift", "revised") == ["challenge"], "what is over may come again"


def scenario() -> Scenario:
    """Canaries, a promotion, a bad batch, broken data, a rival, orders, and several sources of labels."""
    text = (
        f"      champion: majority\n      challengers: {{linear: {LOGISTIC}, late: last}}\n      publish: 60\n"
        "      trial: {ramp: [0.3], labels_min: 60, every: 30, probation_labels: 100}\n"
        "      traffic: {unit: word, holdout: {share: 0.1}}\n"
        "      respond: {concept_drift: challenge}\n"
        "      influence: {memory: 100}\n"
        "      buffer: {kind: prioritised, bytes: 20000, replay: 1}\n"
    )
    config = configured(text)
    pairs = numbers_only(stream(700))
    some = [example(i, x, y, label_source="abc"[i % 3]) for i, (x, y) in enumerate(pairs)]
    batches = [batch("examples", some[i : i + 10], i) for i in range(0, 700, 10)]
    batches.insert(30, batch(ALERTS, [alert("concept_drift", "firing", 290, since=200)]))
    batches.insert(45, batch(ALERTS, [alert("data_quality", "firing", 430, since=400)]))
    batches.insert(48, batch(ALERTS, [alert("data_quality", "resolved", 460)]))
    batches.insert(60, batch(COMMANDS, [order("rollback")]))
    return Scenario(
        make=lambda: Learn(config, 0, 1, KEY),
        feed=conformance.feed_stage,
        items=batches,
        state_bytes_max=400_000,
        recut=conformance.recut_batches,
        bad=[batch(COMMANDS, [order("promote", 9), order("approve", 8, arguments={"learner": "nobody"})])],
        digest=by_value,
    )


def test_trials_guards_and_traffic_survive_a_kill_at_any_point() -> None:
    """F50: every kind of state of the stage, cut anywhere."""
    conformance.check("tests.test_steering:scenario")
