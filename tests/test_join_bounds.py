"""What happens at the bounds of the join: who goes, that it is counted, and that a restored shard does the same (F24,
F50, F52)."""

from __future__ import annotations

import pytest

from stream import codec, limits
from stream.contract import LABELS, PREDICTIONS, Batch
from stream.joining.matching import ORPHAN
from stream.stages.join import Join
from tests import joins
from tests.joins import beat, examples, join_of, known, said

END = beat(500.0)


def test_at_the_bound_of_pending_predictions_the_oldest_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PENDING_MAX", 100)
    predictions = [said(f"p{i}", 10.0 + i / 100, "b") for i in range(150)]
    join, outputs = join_of(predictions, [known("p0", 12.0), END])
    ledger = join.ledger
    assert ledger.predictions.evicted == ledger.predictions.expired == 50 and join.matcher.size == 100
    assert ledger.labels.waiting == 1 and ledger.balanced
    gone = [c.outcomes.event_time for c in joins.observations(outputs, "outcomes") if c.outcomes is not None]
    assert all(times.max() < 10.5 for times in gone)
    again = Join(joins.CONFIG, 0, 1)
    again.restore(join.snapshot())
    assert again.snapshot() == join.snapshot()


def test_what_is_evicted_expires_alike_after_a_restore(monkeypatch: pytest.MonkeyPatch) -> None:
    """F50: p0's label came early and has long been joined; when it would have been given up, nothing is left to do. A
    restored agenda lacks it, and the order at which the bound makes others expire must not tell."""
    monkeypatch.setattr(limits, "PENDING_MAX", 3)
    join = Join(joins.CONFIG, 0, 1)
    join.process(Batch(0.0, (joins.chunk(LABELS, joins.records([beat(15.0), known("p0", 1.0)])),)))
    join.process(Batch(0.0, (joins.chunk(PREDICTIONS, joins.records([said("p0", 1.0)])),)))
    restored = Join(joins.CONFIG, 0, 1)
    restored.restore(join.snapshot())
    asked = [said(f"p{i}", 28.0 + i / 10) for i in range(1, 4)]
    steps = [
        joins.chunk(LABELS, joins.records([beat(60.0)], first=2)),
        joins.chunk(PREDICTIONS, joins.records(asked, first=1)),
        joins.chunk(PREDICTIONS, joins.records([said(f"q{i}", 29.0 + i / 10) for i in range(8)], first=4)),
    ]
    for step in steps:
        outputs = [one.process(Batch(0.0, (step,))) for one in (join, restored)]
        assert [codec.encode(o.event) for o in outputs[0]] == [codec.encode(o.event) for o in outputs[1]]
    assert join.ledger.predictions.evicted and join.snapshot() == restored.snapshot()


def test_an_evicted_prediction_takes_its_waiting_label_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PENDING_MAX", 10)
    join = Join(joins.CONFIG, 0, 1)
    join.process(Batch(0.0, (joins.chunk(LABELS, joins.records([known("p0", 12.0), END])),)))
    predictions = joins.records([said(f"p{i}", 10.0 + i / 100) for i in range(20)])
    join.process(Batch(0.0, (joins.chunk(PREDICTIONS, predictions),)))
    assert join.ledger.labels.orphaned == join.ledger.labels.evicted == 1


def test_at_the_bound_of_early_labels_the_oldest_are_orphaned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "EARLY_LABELS_MAX", 100)
    shadows = [said(f"s{i}", 10.0, role="shadow", learner="forest") for i in range(60)]
    join, _ = join_of(shadows, [known(f"p{i}", 11.0 + i / 100) for i in range(150)])
    assert join.matcher.early == 100
    assert join.ledger.labels.evicted + join.ledger.shadows.unmatched == 110 and join.ledger.balanced


def test_early_labels_that_were_claimed_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.joining.matching.STALE_MIN", 8)
    join = Join(joins.CONFIG, 0, 1)
    for i in range(200):
        label, prediction = joins.records([known(f"p{i}", i / 100)], i), joins.records([said(f"p{i}", i / 100)], i)
        join.process(Batch(0.0, (joins.chunk(LABELS, label), joins.chunk(PREDICTIONS, prediction))))
    assert sum(kind == ORPHAN for _, kind, _, _, _ in join.matcher.agenda) < 20


def test_more_shadows_than_the_bound_are_left_out_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SHADOWS_MAX", 2)
    shadows = [said("p", 10.0, role="shadow", learner=f"l{i}") for i in range(4)]
    join, outputs = join_of([said("p", 10.0), *shadows, END], [known("p", 12.0), END])
    assert len(examples(outputs)[0].votes) == 2 and join.ledger.shadows.unmatched == 2
