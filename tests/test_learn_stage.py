"""Learn: when learners learn, when they stop, and what is published of them (F23, F26 to F29)."""

from __future__ import annotations

from typing import Any

import pytest

import tidegate
from learners.contract import Said
from learners.registry import make
from stream import codec
from stream.config import Config, parse
from stream.contract import ALERTS, COMMANDS, DEAD_LETTERS, DECISIONS, EXAMPLES, SNAPSHOTS
from stream.errors import StateError
from stream.events import Alert, Command, Since
from stream.stages.learn import Learn
from tests import conformance
from tests.conformance import Scenario
from tests.learning import (
    KEY,
    LIGHT,
    LOGISTIC,
    batch,
    configured,
    events,
    example,
    examples,
    fed,
    model_figures,
    numbers_only,
    stream,
)


def alert(kind: Any, status: Any, at: int, since: int | None = None, model: str = "m", **more: Any) -> Alert:
    return Alert(
        alert_id=f"{kind}-1",
        fingerprint="f",
        status=status,
        kind=kind,
        model=model,
        summary="s",
        at=moment(at),
        since=None if since is None else Since(moment(since)),
        **{"severity": "warning", **more},
    )


def moment(second: int) -> str:
    return f"1970-01-01T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}+00:00"


def order(action: str, number: int = 1, **more: Any) -> Command:
    return Command(command_id=f"c{number}", action=action, model="m", issued_by="ann", **more)


TWO_MODELS = f"""
models:
  m:
    task: binary
    learn:
      champion: {LOGISTIC}
      challengers:
        experts: experts
        forest: {{river.forest.ARFClassifier: {{n_models: 2, seed: 1, grace_period: 30}}}}
      publish: 40
      buffer: {{bytes: 4000, replay: 1}}
  t:
    task: binary
    learn: {{policy: triggered, champion: {LOGISTIC}, publish: 30}}
"""


def scenario() -> Scenario:
    """Everything at once: replay, snapshots, pauses, orders, a model that starts over, bad examples."""
    config = parse(TWO_MODELS)
    some, others = examples(80), examples(80)
    some[50] = example(50, {"a": "text where a number was"}, 1)
    for other in others:
        other.prediction.model = "t"
    batches = []
    for i in range(0, 80, 8):
        batches += [batch(EXAMPLES, some[i : i + 8], 2 * i), batch(EXAMPLES, others[i : i + 8], 2 * i + 8)]
    batches.insert(6, batch(ALERTS, [alert("data_quality", "firing", 24)]))
    batches.insert(9, batch(ALERTS, [alert("data_quality", "resolved", 32)]))
    batches.insert(13, batch(COMMANDS, [order("relearn")]))
    batches.insert(18, batch(ALERTS, [alert("concept_drift", "firing", 60, since=30, model="t")]))
    return Scenario(
        make=lambda: Learn(config, 0, 1, KEY),
        feed=conformance.feed_stage,
        items=batches,
        state_bytes_max=400_000,
        recut=conformance.recut_batches,
        bad=[batch(COMMANDS, [b"{", b'{"command_id": 1}']), batch(EXAMPLES, [example(0, {"a": 1e200}, 1)])],
        digest=by_value,
    )


def by_value(stage: Learn) -> str:
    return str(stage.digests()) + codec.canonical(stage.figures()).decode()


def test_the_stage_conforms() -> None:
    conformance.check("tests.test_learn_stage:scenario")


def test_every_example_is_scored_before_it_is_learned() -> None:
    """F23: the prequential metrics are those of a plain loop."""
    stage = Learn(configured(LIGHT), 0, 1, None)
    fed(stage, examples(300))
    steps = ["river.preprocessing.StandardScaler", "river.linear_model.LogisticRegression"]
    plain, right = make("pipeline", {"steps": steps}, "binary", 1), 0
    for x, y in numbers_only(stream(300)):
        right += plain.predict(x).prediction == y
        plain.learn(x, y)
    champion = model_figures(stage)["learners"]["champion"]
    assert champion["metrics"]["accuracy"] == right / 300 and champion["updates"] == 300
    assert stage.digests()["m"]["champion"] == plain.digest()
    assert list(model_figures(stage)["learners"]) == ["champion", "baseline"]


def test_what_was_said_when_asked_is_what_is_judged() -> None:
    stage = Learn(configured(LIGHT), 0, 1, None)
    for i, (x, y) in enumerate(numbers_only(stream(40))):
        late = example(i, x, y, dict(stage.served("m")))
        late.prediction.prediction = 1 - int(y)
        fed(stage, [late])
    figures = model_figures(stage)["learners"]
    assert figures["champion"]["metrics"]["accuracy"] == 0.0 < figures["baseline"]["metrics"]["accuracy"]


def test_an_example_that_its_predictor_had_learned_is_a_leak() -> None:
    """F23: whoever claims more updates than there have been may have seen the label."""
    stage = Learn(configured(LIGHT), 0, 1, None)
    pairs = numbers_only(stream(3))
    served = dict(stage.served("m"))
    good = example(0, *pairs[0], served)
    assert fed(stage, [good]) == []
    cheat, vote_cheats, newer = (example(1, *pairs[1], served) for _ in range(3))
    cheat.prediction.model_updates = 2
    vote_cheats.votes[0].model_updates = 2
    newer.prediction.model_version = "2"
    before = stage.digests()
    letters = events(fed(stage, [cheat, vote_cheats, newer]), DEAD_LETTERS)
    assert [letter.code for letter in letters] == ["leak"] * 3
    assert "champion predicted at version 1 with 2 updates, but stands at version 1 with 1" in letters[0].reason
    assert stage.digests() == before and model_figures(stage)["leaks"] == 3
    assert model_figures(stage)["learners"]["baseline"]["leaks"] == 1
    assert fed(stage, [example(1, *pairs[1], served)]) == []


def test_learning_from_the_example_before_it_is_predicted_is_found() -> None:
    """F23: the violation itself, planted: the live learner is taught behind the stage's back, then asked."""
    stage = Learn(configured(LIGHT), 0, 1, None)
    x, y = numbers_only(stream(1))[0]
    asked_too_late = example(0, x, y, dict(stage.served("m")))
    twin = Learn(configured(LIGHT), 0, 1, None)
    twin.served("m")["champion"].learner.learn(x, y)
    asked_too_late.prediction = example(0, x, y, dict(twin.served("m"))).prediction
    assert [letter.code for letter in events(fed(stage, [asked_too_late]), DEAD_LETTERS)] == ["leak"]


def test_broken_data_pauses_learning_until_it_is_resolved() -> None:
    stage = Learn(configured(LIGHT), 0, 1, None)
    fed(stage, examples(10))
    (pause,) = events(fed(stage, [alert("data_quality", "firing", 10)], ALERTS), DECISIONS)
    assert (pause.action, pause.causation_id, pause.after["paused"]) == ("pause", "data_quality-1", True)
    assert fed(stage, [alert("data_quality", "revised", 11)], ALERTS) == []
    before = stage.digests()
    fed(stage, examples(5, 10))
    assert stage.digests() == before and model_figures(stage)["skipped"] == 5 and model_figures(stage)["paused"]
    (resume,) = events(fed(stage, [alert("data_quality", "resolved", 15)], ALERTS), DECISIONS)
    assert resume.action == "resume" and resume.why["skipped"] == 5
    fed(stage, examples(5, 15))
    assert model_figures(stage)["learned"] == 15


def test_a_trifle_does_not_pause() -> None:
    """F09: sure, and too small to matter."""
    stage = Learn(configured(LIGHT), 0, 1, None)
    assert fed(stage, [alert("data_quality", "firing", 10, severity="information")], ALERTS) == []
    assert not model_figures(stage)["paused"]


def test_snapshots_are_published_when_a_person_asks() -> None:
    """F29, F41"""
    stage = Learn(configured(LIGHT), 0, 1, b"0123456789abcdef")
    fed(stage, examples(3))
    asked = events(fed(stage, [order("publish")], COMMANDS), SNAPSHOTS)
    assert [(s.learner, s.updates) for s in asked] == [("champion", 3), ("baseline", 3)]
    assert fed(stage, [order("publish")], COMMANDS) == [], "an order is carried out once"


def test_drift_does_not_pause_and_may_be_told_not_to() -> None:
    stage = Learn(configured(LIGHT + "\n      respond: {data_quality: ignore}"), 0, 1, None)
    fed(stage, [alert("data_quality", "firing", 1), alert("concept_drift", "firing", 1)], ALERTS)
    assert not model_figures(stage)["paused"] and model_figures(stage)["decisions"] == 0


def test_a_person_pauses_resumes_and_repeats_nothing() -> None:
    """F41."""
    stage = Learn(configured(LIGHT), 0, 1, None)
    decisions = events(
        fed(stage, [order("pause"), order("pause"), order("resume", 2), order("mute", 3)], COMMANDS), DECISIONS
    )
    assert [decision.action for decision in decisions] == ["pause", "resume"]
    assert decisions[0].why["issued_by"] == "ann" and decisions[0].causation_id == "c1"
    late = order("pause", 4, expires_at=-1.0)
    assert [e.code for e in events(fed(stage, [late, b"not json"], COMMANDS), DEAD_LETTERS)] == ["expired", "command"]


def test_scheduled_updates_make_versions() -> None:
    """F26."""
    stage = Learn(configured(LIGHT + "\n      policy: scheduled\n      every: 50s"), 0, 1, KEY)
    out = fed(stage, examples(120))
    decisions = events(out, DECISIONS)
    assert [(d.action, d.before["version"], d.after["version"], d.why["examples"]) for d in decisions] == [
        ("update", "0", "1", 50),
        ("update", "1", "2", 50),
    ]
    assert [s.version for s in events(out, SNAPSHOTS) if s.learner == "champion"] == ["1", "2"]
    assert model_figures(stage)["waiting"] == 20 and stage.served("m")["champion"].version == "2"


def test_manual_updates_wait_for_the_order() -> None:
    """F26."""
    stage = Learn(configured(LIGHT + "\n      policy: manual"), 0, 1, None)
    assert fed(stage, examples(120)) == [] and stage.served("m")["champion"].learner.updates == 0
    (update,) = events(fed(stage, [order("update")], COMMANDS), DECISIONS)
    assert update.action == "update" and update.after == {
        "version": "1",
        "origin": "champion",
        "updates": 120,
        "paused": False,
    }
    assert fed(stage, [order("update", 2)], COMMANDS) == []


def test_an_alert_of_drift_starts_the_triggered_model_over_from_the_change() -> None:
    """F26."""
    stage = Learn(configured(LIGHT + "\n      policy: triggered"), 0, 1, None)
    first = events(fed(stage, examples(400)), DECISIONS)
    assert [(d.action, d.why["why"], d.why["examples"]) for d in first] == [("update", "first", 100)]
    (again,) = events(fed(stage, [alert("concept_drift", "firing", 400, since=150)], ALERTS), DECISIONS)
    assert again.action == "relearn" and again.causation_id == "concept_drift-1"
    assert again.after["updates"] == again.why["examples"] == 250
    assert stage.served("m")["champion"].learner.updates == 250
    assert (
        fed(
            stage,
            [alert("concept_drift", "resolved", 401), alert("covariate_drift", "firing", 1, slice={"a": "b"})],
            ALERTS,
        )
        == []
    )


def test_relearn_starts_over_from_the_buffer_in_order() -> None:
    """F26, F27: a retrain that knows nothing of before."""
    stage, fresh = (Learn(configured(LIGHT), 0, 1, None) for _ in range(2))
    fed(stage, examples(60))
    (decision,) = events(fed(stage, [order("relearn")], COMMANDS), DECISIONS)
    fed(fresh, examples(60))
    assert decision.action == "relearn" and stage.digests() == fresh.digests()
    assert stage.served("m")["champion"].version == "2"


def test_replay_learns_old_examples_again() -> None:
    """F27."""
    stage = Learn(configured(LIGHT + "\n      buffer: {replay: 2}"), 0, 1, None)
    fed(stage, examples(10))
    assert stage.served("m")["champion"].learner.updates == 0 + 2 * 9 + 10


def test_snapshots_are_published_signed_with_their_lineage() -> None:
    """F29."""
    stage = Learn(configured(LIGHT), 0, 1, KEY)
    out = fed(stage, examples(250))
    keys = [o.key for o in out if o.topic == SNAPSHOTS]
    assert keys == ["m/champion", "m/baseline"] * 2
    last = [s for s in events(out, SNAPSHOTS) if s.learner == "champion"][-1]
    assert (last.version, last.updates, last.at) == ("1", 200, moment(199))
    assert last.lineage["parent"] == "1@100" and last.lineage["to"] == moment(199)
    assert set(last.lineage) == {"parent", "origin", "from", "to", "config", "metrics"}
    twin = Learn(configured(LIGHT), 0, 1, None)
    fed(twin, examples(200))
    assert tidegate.load_snapshot(last.envelope, KEY).digest() == twin.digests()["m"]["champion"]


def test_without_a_key_nothing_is_published() -> None:
    assert events(fed(Learn(configured(LIGHT), 0, 1, None), examples(250)), SNAPSHOTS) == []


def test_labels_are_taken_by_task() -> None:
    binary = Learn(configured(LIGHT), 0, 1, None)
    fed(binary, [example(0, {"a": 1.0}, True), example(1, {"a": 1.0}, "no")])
    assert binary.served("m")["baseline"].learner.predict({}) == Said(0, 0.5)
    numbers = Learn(configured("      champion: experts", "regression"), 0, 1, None)
    (letter,) = events(fed(numbers, [example(0, {"a": 1.0}, "many"), example(1, {"a": 1.0}, 3)]), DEAD_LETTERS)
    assert letter.code == "label" and "needs a number" in letter.reason


def test_corrections_are_learned_and_counted() -> None:
    stage = Learn(configured(LIGHT), 0, 1, None)
    fed(stage, [example(0, {"a": 1.0}, 1), example(0, {"a": 1.0}, 0, revision=1, previous=1)])
    assert model_figures(stage)["corrections"] == 1 and model_figures(stage)["learned"] == 2


def test_a_changed_configuration_keeps_what_it_still_names() -> None:
    """F54."""
    both = Learn(configured(LIGHT + "\n      challengers: {tree: river.tree.HoeffdingTreeClassifier}"), 0, 1, None)
    fed(both, examples(50))
    other = Learn(configured(LIGHT + "\n      challengers: {tree: experts, late: last}"), 0, 1, None)
    other.restore(both.snapshot())
    learners = model_figures(other)["learners"]
    assert {name: one["updates"] for name, one in learners.items()} == {
        "champion": 50, "baseline": 50, "tree": 0, "late": 0,
    }  # fmt: skip


def test_state_that_does_not_fit_is_a_state_error() -> None:
    stage = Learn(configured(LIGHT), 0, 1, None)
    for junk in (b"", b"\xc1", codec.pack({"format": 1}), broken_state(configured(LIGHT))):
        with pytest.raises(StateError):
            stage.restore(junk)


def broken_state(config: Config) -> bytes:
    stage = Learn(config, 0, 1, None)
    return stage.snapshot().replace(b"VectorDict", b"VectorDucT")


def test_models_that_do_not_learn_are_passed_over() -> None:
    stage = Learn(configured("      policy: 'off'"), 0, 1, None)
    assert fed(stage, examples(3)) == [] and stage.figures()["models"] == {}
