"""Several people label the same prediction: what stands, what it is worth, and that the ledger balances (F25)."""

from __future__ import annotations

import random
from typing import Any

import pytest

from stream import config, limits
from stream.contract import DEAD_LETTERS, LABELS, PREDICTIONS, Batch
from stream.errors import ConfigError
from stream.stages.join import Join
from tests.joins import beat, chunk, examples, known, records, said

TEXT = "models: {a: {task: binary, labels: {horizon: 1000s, annotators: RULE}}}"


def joined(events: list[Any], rule: str = "majority", predictions: int = 1) -> tuple[Join, list[Any]]:
    """A join that has read the predictions p0, p1 ... and these labels, and everything they cause."""
    join = Join(config.parse(TEXT.replace("RULE", rule)), 0, 1)
    asked = [said(f"p{i}", 1.0 + i, value=0) for i in range(predictions)]
    out = join.process(Batch(0.0, (chunk(PREDICTIONS, records([*asked, beat(5000.0)])),)))
    out += join.process(Batch(0.0, (chunk(LABELS, records([*events, beat(900.0)])),)))
    join.ledger.check()
    return join, out


def vote(who: str, value: Any, at: float, id: str = "p0", **more: Any) -> Any:
    return known(id, at, value, annotator=who, **more)


def test_the_majority_stands_and_its_share_is_the_weight() -> None:
    """One, then two against one; the third changes nothing, and is no second example."""
    join, out = joined([vote("ann", 1, 10.0), vote("bob", 0, 11.0), vote("cy", 0, 12.0), vote("dan", 0, 13.0)])
    made = examples(out)
    assert [(e.label, e.revision) for e in made] == [(1.0, 0), (0.0, 1)]
    assert made[0].weight == 1.0 and made[1].weight == pytest.approx(2 / 3)
    labels = join.ledger.labels
    assert (labels.received, labels.joined, labels.superseded, labels.duplicate) == (4, 1, 1, 2)


def test_an_annotator_who_thinks_again_has_one_vote() -> None:
    _, out = joined([vote("ann", 1, 10.0), vote("ann", 0, 11.0)])
    assert [(e.label, e.revision, e.weight) for e in examples(out)] == [(1.0, 0, 1.0), (0.0, 1, 1.0)]


def test_a_vote_that_is_taken_back_lets_the_others_stand() -> None:
    retracted = vote("bob", 0, 13.0, retracted=True)
    join, out = joined([vote("ann", 1, 10.0), vote("bob", 0, 11.0), vote("cy", 0, 12.0), retracted])
    assert [e.label for e in examples(out)] == [1.0, 0.0, 1.0], "two are left, one each, and ann spoke first"
    join, out = joined([vote("ann", 1, 10.0), vote("ann", 1, 11.0, retracted=True)])
    assert join.ledger.predictions.joined == 0 and join.ledger.labels.retracted == 1


def test_those_who_are_often_right_outvote_those_who_are_not() -> None:
    """Two annotators answer by chance, two are right nine times of ten; where the good two agree against the others
    they should win. Dawid-Skene against the majority, on the same votes."""
    draw = random.Random(5)
    right: dict[str, float] = {}
    for rule in ("majority", "dawid_skene"):
        draw.seed(5)
        truth, votes = {}, []
        for i in range(400):
            y = truth[f"p{i}"] = draw.randrange(2)
            for who, skill in (("x", 0.5), ("y", 0.5), ("z", 0.5), ("ann", 0.9), ("bob", 0.9)):
                votes.append(vote(who, y if draw.random() < skill else 1 - y, 500.0 + i / 10, f"p{i}"))
        _, out = joined(votes, rule, 400)
        last = {e.prediction.prediction_id: e.label for e in examples(out)}
        right[rule] = sum(last[id] == y for id, y in truth.items()) / len(truth)
    assert right["dawid_skene"] > right["majority"] + 0.05 and right["dawid_skene"] > 0.85


def test_a_stage_restored_between_votes_goes_on_as_if_nothing_had_happened() -> None:
    """F50."""
    draw = random.Random(1)
    votes = [vote(f"w{draw.randrange(5)}", draw.randrange(2), 500.0 + i, f"p{draw.randrange(20)}") for i in range(200)]
    whole, _ = joined(votes, "dawid_skene", 20)
    first, _ = joined(votes[:90], "dawid_skene", 20)
    second = Join(config.parse(TEXT.replace("RULE", "dawid_skene")), 0, 1)
    second.restore(first.snapshot())
    assert second.snapshot() == first.snapshot()
    rest = records([*votes[90:], beat(900.0)], first=91)
    for join in (first, second):
        join.process(Batch(0.0, (chunk(LABELS, rest),)))
    assert second.snapshot() == first.snapshot()
    assert second.figures()["models"]["a"]["annotators"] == first.figures()["models"]["a"]["annotators"]
    assert (
        whole.figures()["models"]["a"]["annotators"]["items"] == first.figures()["models"]["a"]["annotators"]["items"]
    )


def test_votes_of_one_prediction_come_to_an_end() -> None:
    many = [vote(f"w{i}", 1, 10.0 + i) for i in range(limits.VOTES_MAX + 1)]
    join, out = joined(many)
    (letter,) = [o.event for o in out if o.topic == DEAD_LETTERS]
    assert "has 32 annotators already" in letter.reason and join.ledger.labels.rejected == 1


def test_a_rule_that_the_task_cannot_have_is_a_fault_of_the_configuration() -> None:
    with pytest.raises(ConfigError, match=r"models.a.labels.annotators: dawid_skene needs classes"):
        config.parse("models: {a: {task: regression, labels: {annotators: dawid_skene}}}")
