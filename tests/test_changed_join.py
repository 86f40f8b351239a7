"""Joins that go on under another configuration (F54): horizons, models that are gone or stand elsewhere, annotators."""

from __future__ import annotations

from typing import Any

import pytest

from stream import config
from stream.contract import LABELS, PREDICTIONS, Batch, Output
from stream.joining.segments import SEGMENT
from stream.sections import together
from stream.stages.join import Join
from tests.changing import configured
from tests.joins import beat, chunk, examples, known, observations, records, said

SMALL = {"task": "binary", "windows": {"every": "40s"}}
END = beat(1e6)


def joining(**horizons: float) -> config.Config:
    return configured(**{name: {**SMALL, "labels": {"horizon": s, "early": 8}} for name, s in horizons.items()})


def rejoined(before: config.Config, after: config.Config, first: Logs, then: Logs) -> tuple[Join, list[Output]]:
    """The first logs under one configuration, the others after them under another."""
    join, other = Join(before, 0, 1), Join(after, 0, 1)
    at = [len(events) for events in first]
    join.process(Batch(0.0, tuple(chunk(role, records(e)) for role, e in zip(ROLES, first, strict=True))))
    other.restore(join.snapshot())
    rest = zip(ROLES, then, at, strict=True)
    return other, other.process(Batch(0.0, tuple(chunk(role, records(e, first=n)) for role, e, n in rest)))


Logs = tuple[list[Any], list[Any]]
ROLES = (PREDICTIONS, LABELS)


def test_a_longer_horizon_holds_for_what_is_pending_too() -> None:
    """F54, F22: the prediction that waits has its label, once, and nothing has expired."""
    logs = ([said("p", 10.0)], [beat(11.0)]), ([END], [known("p", 45.0), END])
    join, outputs = rejoined(joining(a=20), joining(a=50), *logs)
    assert [e.delay_s for e in examples(outputs)] == [35.0]
    assert (join.ledger.predictions.joined, join.ledger.predictions.expired, join.ledger.predictions.pending) == (
        1,
        0,
        0,
    )


def test_a_shorter_horizon_takes_only_labels_within_it() -> None:
    """F54, F22: and what is pending expires when it was promised to, so that order is kept."""
    logs = ([said("p", 10.0), said("q", 10.0)], [beat(11.0)]), ([END], [known("q", 25.0), known("p", 45.0), END])
    join, outputs = rejoined(joining(a=50), joining(a=20), *logs)
    assert [e.prediction.prediction_id for e in examples(outputs)] == ["q"]
    assert (join.ledger.predictions.joined, join.ledger.predictions.expired) == (1, 1)
    assert (join.ledger.labels.joined, join.ledger.labels.orphaned) == (1, 1)


def test_a_horizon_that_grows_and_shrinks_again_loses_no_label() -> None:
    """F54: the label that was in time under the longer one counts, though its prediction is restored from a segment
    that was written under the first one."""
    first, longer = Join(joining(a=20), 0, 1), Join(joining(a=200), 0, 1)
    far = [said(f"f{i}", 11.0) for i in range(SEGMENT)]
    first.process(Batch(0.0, (chunk(PREDICTIONS, records([said("p", 10.0), *far])),)))
    written = first.sections()
    longer.restore(together({name: payload or b"" for name, payload in written.items()}))
    longer.process(Batch(0.0, (chunk(LABELS, records([known("p", 45.0)])),)))
    sections = {
        name: payload if payload is not None else written[name] for name, payload in longer.sections(written).items()
    }
    again = Join(joining(a=20), 0, 1)
    again.restore(together({name: payload or b"" for name, payload in sections.items()}))
    end = (chunk(PREDICTIONS, records([END], first=SEGMENT + 1)), chunk(LABELS, records([END], first=1)))
    outputs = again.process(Batch(0.0, end))
    assert [e.prediction.prediction_id for e in examples(outputs)] == ["p"]
    assert again.ledger.predictions.expired == SEGMENT and again.ledger.balanced


def test_everything_that_waits_for_a_removed_model_is_let_go() -> None:
    """F54, F24: predictions, labels that have found one and labels that wait, shadows, implied labels, expired ids."""
    implied = {"horizon": 20, "early": 8, "implicit": {"after": 10, "label": 0}, "annotators": "majority"}
    before = configured(a={**SMALL, "labels": implied}, b={**SMALL, "labels": {"horizon": 20, "early": 8}})
    first = (
        [said("old", 0.0), said("p", 30.0), said("q", 31.0), said("b1", 31.0, "b"), said("s", 31.0, role="shadow")],
        [beat(28.0), known("p", 29.0), known("none", 29.5, model="a"), known("b1", 30.0), known("any", 30.0)],
    )
    then = ([said("any", 32.0, "b"), END], [END])
    only = configured(b={**SMALL, "labels": {"horizon": 20, "early": 8}})
    for after, withdrawn in ((before, 0), (only, 2)):
        join, outputs = rejoined(before, after, first, then)
        assert join.ledger.balanced and join.figures()["withdrawn"] == withdrawn
        assert [e.prediction.prediction_id for e in examples(outputs) if e.prediction.model == "b"] == ["b1", "any"]
    other, whole = Join(only, 0, 1), Join(before, 0, 1)
    whole.process(Batch(0.0, tuple(chunk(role, records(e)) for role, e in zip(ROLES, first, strict=True))))
    other.restore(whole.snapshot())
    assert b'"none"' not in other.snapshot() and len(other.snapshot()) < len(whole.snapshot())
    figures = other.figures()
    assert (figures["pending"], figures["waiting"], figures["early"]) == (1, 2, 1)


def test_marks_keep_their_models_when_the_models_change_their_places() -> None:
    """F54: what is cut at a mark is cut in the model that asked for it."""
    slow, fast = {**SMALL, "windows": {"every": "400s"}}, SMALL
    before, turned = configured(slow=slow, fast=fast), configured(fast=fast, slow=slow)
    grown, alone = configured(new=fast, slow=slow, fast=fast), configured(fast=fast)
    predictions = [said(f"p{i}", float(i), "fast") for i in range(1, 30)]
    labels = [known(f"p{i}", i + 1.0) for i in range(1, 30)]
    cuts = []
    for after in (before, turned, grown, alone):
        join, outputs = rejoined(before, after, (predictions, labels[:12]), ([beat(31.0)], labels[12:]))
        seen = [(each.model, each.through) for each in observations(outputs, "outcomes")]
        cuts.append([each for each in seen if each[0] != "new"])
        assert join.ledger.predictions.joined == 28
    assert cuts[0] == [("fast", 20.0), ("fast", 30.0)] and cuts == cuts[:1] * 4


@pytest.mark.parametrize("rule", ["weighted", "dawid_skene", None])
def test_annotators_under_another_rule_are_judged_anew_by_what_is_pending(rule: str | None) -> None:
    """F54, F25: their votes are kept; estimates of another rule do not compare."""
    labels = {"horizon": 100, "early": 8}
    before = configured(a={**SMALL, "labels": {**labels, "annotators": "majority"}})
    after = configured(a={**SMALL, "labels": labels if rule is None else {**labels, "annotators": rule}})
    votes = [known(f"p{i}", 3.0, i % 2, annotator=who) for i in range(4) for who in ("ann", "bob")]
    first = ([said(f"p{i}", float(i)) for i in range(4)] + [beat(50.0)], [*votes, beat(50.0)])
    then = ([END], [*(known("p0", 60.0, 1, annotator=f"other {i}") for i in range(6)), END])
    join, outputs = rejoined(before, after, first, then)
    assert join.ledger.balanced and join.ledger.predictions.joined == 4
    assert [e.label for e in examples(outputs)][-1] == 1
    if rule is not None:
        figures = join.figures()["models"]["a"]["annotators"]
        assert figures["rule"] == rule and figures["items"] == 4 and figures["annotators"]["ann"]["votes"] > 0
