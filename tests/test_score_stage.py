"""Score: who answers, with what, and what is refused (F28 to F30, F51, F53)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from learners.snapshots import open_sealed, seal
from stream import codec
from stream.contract import DEAD_LETTERS, PREDICTIONS, REQUESTS, SNAPSHOTS, Output
from stream.errors import StateError
from stream.events import Heartbeat, ModelSnapshot, Prediction, Request
from stream.stages.learn import Learn
from stream.stages.score import Score
from tests import conformance
from tests.conformance import Scenario
from tests.learning import KEY, LOGISTIC, batch, configured, events, example, numbers_only, stream

KEYS = {"dev": KEY}
LEARN = (
    f"      champion: {LOGISTIC}\n      challengers: {{tree: river.tree.HoeffdingTreeClassifier}}\n      publish: 50"
)


def request(i: int, x: dict[str, Any], model: str = "m") -> Request:
    return Request(prediction_id=str(i), model=model, event_time=float(i), features=x, tags={"origin": "JFK"})


def requests(n: int) -> list[Request]:
    return [request(i, x) for i, (x, _) in enumerate(numbers_only(stream(n, seed=2)))]


def taught(n: int = 100) -> tuple[Learn, list[ModelSnapshot]]:
    stage = Learn(configured(LEARN), 0, 1, KEY)
    some = [example(i, x, y) for i, (x, y) in enumerate(numbers_only(stream(n)))]
    return stage, events(stage.process(batch("examples", some)), SNAPSHOTS)


def scenario() -> Scenario:
    _, snapshots = taught()
    batches = [batch(REQUESTS, requests(20)), batch(SNAPSHOTS, [codec.encode(s) for s in snapshots[:3]])]
    batches += [
        batch(REQUESTS, requests(30), 20),
        batch(SNAPSHOTS, snapshots[3:], 3),
        batch(REQUESTS, requests(20), 50),
    ]
    return Scenario(
        make=lambda: Score(configured(LEARN), 0, 1, None, KEYS),
        feed=conformance.feed_stage,
        items=batches,
        state_bytes_max=20_000,
        recut=conformance.recut_batches,
        bad=[
            batch(REQUESTS, [b"{", None, b'{"a": 1}', request(0, {"a": 1.0}, "unknown")]),
            batch(REQUESTS, [codec.encode(request(0, {"a": "text"})), request(0, {"a": float("nan")})]),
            batch(SNAPSHOTS, [b"{", None, codec.encode(msgspec.structs.replace(snapshots[0], envelope=b"junk"))]),
        ],
    )


def test_the_stage_conforms() -> None:
    conformance.check("tests.test_score_stage:scenario")


def test_the_champion_answers_first_and_shadows_after_it() -> None:
    """F30: a shadow's answer is an ordinary prediction; features travel once."""
    learn, _ = taught()
    out = Score(configured(LEARN), 0, 1, learn, {}).process(batch(REQUESTS, requests(1)))
    assert all(o.topic == PREDICTIONS and o.key == "0" for o in out)
    champion, tree, baseline = (o.event for o in out)
    assert isinstance(champion, Prediction) and isinstance(tree, Prediction) and isinstance(baseline, Prediction)
    assert [(p.learner, p.role) for p in (champion, tree, baseline)] == [
        ("champion", "champion"), ("tree", "shadow"), ("baseline", "shadow"),
    ]  # fmt: skip
    assert champion.features == requests(1)[0].features and champion.tags == {"origin": "JFK"}
    assert tree.features == {} == baseline.features and tree.prediction_id == "0"
    assert (champion.model_version, champion.model_updates) == ("1", 100)
    assert champion.score is not None and champion.prediction == int(champion.score > 0.5)


def test_snapshots_answer_exactly_as_the_live_learners() -> None:
    """F29: by way of bytes, signatures and JSON."""
    learn, snapshots = taught()
    live = Score(configured(LEARN), 0, 1, learn, {})
    loaded = Score(configured(LEARN), 0, 1, None, KEYS)
    assert loaded.process(batch(SNAPSHOTS, [codec.encode(s) for s in snapshots])) == []
    asked = batch(REQUESTS, requests(40))
    assert loaded.process(asked) == live.process(asked)
    assert loaded.figures()["loaded"] == len(snapshots) == 6


def test_without_a_snapshot_the_untrained_learner_answers_as_version_0() -> None:
    score = Score(configured(LEARN), 0, 1, None, KEYS)
    champion = score.process(batch(REQUESTS, requests(1)))[0].event
    assert isinstance(champion, Prediction)
    assert (champion.model_version, champion.model_updates, champion.score) == ("0", 0, 0.5)


def refused(event: Any, keys: dict[str, bytes] = KEYS) -> str:
    """The reason for which a snapshot is not served; the one before it still is."""
    _, snapshots = taught()
    score = Score(configured(LEARN), 0, 1, None, keys)
    score.process(batch(SNAPSHOTS, snapshots[:1]))
    before = score.process(batch(REQUESTS, requests(3)))
    (letter,) = events(score.process(batch(SNAPSHOTS, [event])), DEAD_LETTERS)
    assert letter.code == "snapshot" and letter.topic == SNAPSHOTS and score.figures()["refused"] >= 1
    assert score.process(batch(REQUESTS, requests(3))) == before
    return str(letter.reason)


def test_snapshots_that_cannot_be_trusted_are_refused_and_the_old_one_serves_on() -> None:
    """F53."""
    _, snapshots = taught()
    one = snapshots[0]
    changed = one.envelope[:-1] + bytes([one.envelope[-1] ^ 1])
    assert "has been changed" in refused(msgspec.structs.replace(one, envelope=changed))
    assert "not a tidegate snapshot" in refused(msgspec.structs.replace(one, envelope=b"\x80\x05cos\nsystem\n."))
    assert "of m/champion, not of m/tree" in refused(msgspec.structs.replace(one, learner="tree"))
    assert "name different versions" in refused(msgspec.structs.replace(one, version="9"))
    header, payload = open_sealed(one.envelope, KEYS)
    elsewhere = seal(msgspec.structs.replace(header, path="experts", parameters={}), payload, KEY, "dev")
    assert "of experts, the configuration knows pipeline" in refused(msgspec.structs.replace(one, envelope=elsewhere))
    assert "cannot be read" in refused(b"{")


def test_snapshots_signed_with_a_retired_key_are_refused() -> None:
    _, snapshots = taught()
    score = Score(configured(LEARN), 0, 1, None, {"new": b"n" * 32})
    (letter,) = events(score.process(batch(SNAPSHOTS, snapshots[:1])), DEAD_LETTERS)
    assert "key 'dev', which is not among the keys given" in letter.reason


def test_snapshots_of_models_that_are_not_configured_are_passed_over() -> None:
    _, snapshots = taught()
    score = Score(configured(), 0, 1, None, KEYS)
    others = [msgspec.structs.replace(snapshots[0], model="other"), snapshots[1]]
    assert others[1].learner == "tree" and score.process(batch(SNAPSHOTS, others)) == []


class NotAnEvent(msgspec.Struct):
    """Of no kind that is known."""

    a: int


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"{", "malformed"),
        (None, "null"),
        (b"x" * 300_000, "huge"),
        (b'{"prediction_id": "1"}', "schema"),
        (request(0, {"a": 1.0}, "other"), "model"),
        (request(0, {"a": float("inf")}), "not_finite"),
        (request(0, {"a": "text where numbers were learned"}), "features"),
        (request(0, {"a": [1.0, 2.0], "b": "x"}), "features"),
        (NotAnEvent(1), "schema"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_requests_are_dead_letters_with_their_position(value: Any, code: str) -> None:
    """F51."""
    learn, _ = taught()
    score = Score(configured(LEARN), 0, 1, learn, {})
    out = score.process(batch(REQUESTS, [value], start=7))
    (letter,) = events(out, DEAD_LETTERS)
    assert (letter.code, letter.topic, letter.partition, letter.offset) == (code, REQUESTS, 0, 7)
    assert len(out) == 1 and score.figures()["rejected"] == 1
    assert len(score.process(batch(REQUESTS, requests(1)))) == 3


def test_heartbeats_are_passed_on_in_their_partition() -> None:
    score = Score(configured(LEARN), 0, 1, None, KEYS)
    out = score.process(batch(REQUESTS, [b'{"heartbeat": 0.0}']))
    assert out == [Output(PREDICTIONS, "", Heartbeat(0.0), 0)]


def test_state_whose_snapshots_no_longer_open_is_refused() -> None:
    _, snapshots = taught()
    score = Score(configured(LEARN), 0, 1, None, KEYS)
    score.process(batch(SNAPSHOTS, snapshots))
    with pytest.raises(StateError, match="m/champion"):
        Score(configured(LEARN), 0, 1, None, {"dev": b"z" * 32}).restore(score.snapshot())
    with pytest.raises(StateError, match=r"not the state of score, or one of an early version .* begin anew"):
        Score(configured(LEARN), 0, 1, None, KEYS).restore(codec.pack({"format": 1}))


def test_numbers_and_classes_are_predicted_as_such() -> None:
    for task, kind in (("regression", float), ("multiclass", str)):
        learn = Learn(configured(task=task), 0, 1, None)
        some = [example(i, x, y) for i, (x, y) in enumerate(stream(50, task))]
        learn.process(batch("examples", some))
        asked = request(0, stream(1)[0][0])
        predictions = Score(configured(task=task), 0, 1, learn, {}).process(batch(REQUESTS, [asked]))
        for output in predictions:
            assert isinstance(output.event, Prediction) and isinstance(output.event.prediction, kind)
            again = codec.decode_inbound(Prediction, codec.encode(output.event), 0.0)
            assert again == output.event
