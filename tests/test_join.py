"""The join on logs whose right answer is known (F21 to F24), and the demands on every stage."""

from __future__ import annotations

import math
import random

import msgspec
import numpy as np
import pytest

from stream import config
from stream.contract import DEAD_LETTERS, LABELS, PREDICTIONS, Batch, Output
from stream.errors import BugError, StateError
from stream.events import DeadLetter, Example, Vote
from stream.joining.partition import partition_of
from stream.stages.join import Join
from tests import conformance, joins
from tests.joins import beat, examples, join_of, known, said

END = beat(500.0)


def told(outputs: list[Output]) -> list[tuple[object, ...]]:
    return [(e.completed, e.label, e.revision, e.previous, e.implicit) for e in examples(outputs)]


# -- delayed labels -------------------------------------------------------------------------------------------------


def test_a_label_joins_its_prediction_and_carries_its_delay() -> None:
    """F21, F23: the example says when both were known, and what had been predicted before."""
    join, outputs = join_of([said("p", 10.0, model_updates=7, score=0.7), END], [known("p", 25.0, 1), END])
    (example,) = examples(outputs)
    assert (example.completed, example.delay_s, example.label_time, example.revision) == (25.0, 15.0, 25.0, 0)
    assert example.prediction.model_updates == 7 and example.prediction.features["x"] == 10.0
    assert join.ledger.predictions.joined == join.ledger.labels.joined == 1


def test_a_label_may_come_before_its_prediction() -> None:
    """F21: topics are not ordered among each other."""
    join = Join(joins.CONFIG, 0, 1)
    assert join.process(Batch(0.0, (joins.chunk(LABELS, joins.records([known("p", 12.0), END])),))) == []
    assert join.ledger.labels.waiting == 1
    outputs = join.process(Batch(0.0, (joins.chunk(PREDICTIONS, joins.records([said("p", 10.0), END])),)))
    assert told(outputs) == [(12.0, 1, 0, None, False)]


def test_examples_that_nobody_wants_are_not_sent_and_nothing_else_changes() -> None:
    """F24: the ledger and what watch sees stay as they are."""
    logs = ([said("p", 10.0), said("q", 11.0), END], [known("p", 25.0), known("p", 26.0, 0), END])
    quiet = config.parse("models: {a: {task: binary, windows: {every: 40s}, labels: {horizon: 20s}, examples: false}}")
    loud = config.parse("models: {a: {task: binary, windows: {every: 40s}, labels: {horizon: 20s}}}")
    (one, few), (other, all_of_it) = join_of(*logs, quiet), join_of(*logs, loud)
    assert examples(few) == [] and len(examples(all_of_it)) == 2
    plain = [
        [conformance.plain(o) for o in outputs if not isinstance(o.event, Example)] for outputs in (few, all_of_it)
    ]
    assert plain[0] == plain[1] != []
    assert one.figures()["ledger"] == other.figures()["ledger"]


def test_an_example_waits_until_both_logs_have_passed_it() -> None:
    """F21: not a moment earlier, because the other log may still hold something that comes first."""
    join = Join(joins.CONFIG, 0, 1)
    logs = (joins.chunk(PREDICTIONS, joins.records([said("p", 10.0), beat(25.0)])),)
    labels = joins.records([known("p", 25.0), beat(30.0), beat(31.0)])
    assert examples(join.process(Batch(0.0, (*logs, joins.chunk(LABELS, labels[:2]))))) == []
    assert join.ledger.predictions.pending == join.ledger.labels.waiting == 1
    later = joins.chunk(PREDICTIONS, joins.records([beat(25.5)], first=2))
    assert len(examples(join.process(Batch(0.0, (later,))))) == 1


@pytest.mark.parametrize(("at", "joined"), [(30.0, 1), (30.5, 0)])
def test_the_horizon_decides_by_the_labels_own_log(at: float, joined: int) -> None:
    """F21: model a looks back 20 s."""
    join, outputs = join_of([said("p", 10.0), END], [known("p", at), END])
    assert len(examples(outputs)) == joined
    assert (join.ledger.labels.late, join.ledger.predictions.expired) == (1 - joined, 1 - joined)


def test_a_label_out_of_order_counts_at_the_progress_it_finds() -> None:
    """F21: its own time is within the horizon, its log had gone past it."""
    join, outputs = join_of([said("p", 10.0), END], [beat(31.0), known("p", 12.0), END])
    assert examples(outputs) == [] and join.ledger.labels.late == 1


@pytest.mark.parametrize(("at", "joined"), [(18.0, 1), (18.5, 0)])
def test_an_early_label_waits_as_long_as_configured(at: float, joined: int) -> None:
    """F21: model a waits 8 s for a prediction."""
    join, outputs = join_of([said("p", at), END], [known("p", 10.0, model="a"), END])
    assert len(examples(outputs)) == joined
    assert join.ledger.labels.orphaned == 1 - joined and join.ledger.labels.late == 0


def test_a_label_that_never_comes_lets_its_prediction_expire() -> None:
    """F21, F24."""
    join, outputs = join_of([said("p", 10.0), END], [known("other", 12.0), END])
    assert examples(outputs) == []
    assert join.ledger.predictions.expired == 1 and join.ledger.labels.orphaned == 1
    (row,) = [chunk.outcomes for chunk in joins.observations(outputs, "outcomes") if chunk.outcomes]
    assert row.status.tolist() == [3] and row.order.tolist() == [30.0] and math.isnan(row.delay_s[0])


def test_the_same_label_twice_is_a_duplicate() -> None:
    """F21, F24."""
    join, outputs = join_of([said("p", 10.0), END], [known("p", 12.0), known("p", 13.0), known("p", 14.0, True), END])
    assert len(examples(outputs)) == 1 and join.ledger.labels.duplicate == 2


def test_another_label_corrects_the_first() -> None:
    """F21: the earlier label is superseded, the example comes again with what it replaces."""
    join, outputs = join_of([said("p", 10.0), END], [known("p", 12.0, 1), known("p", 15.0, 0), END])
    assert told(outputs) == [(12.0, 1, 0, None, False), (15.0, 0, 1, 1, False)]
    labels = join.ledger.labels
    assert (labels.joined, labels.superseded, labels.corrected) == (1, 1, 1) and join.ledger.predictions.joined == 1


def test_labels_at_the_same_moment_count_in_the_order_of_their_log() -> None:
    """F21."""
    _, outputs = join_of([said("p", 10.0), END], [known("p", 12.0, 0), known("p", 12.0, 1), END])
    assert [e.label for e in examples(outputs)] == [0, 1]


def test_a_retracted_label_leaves_the_prediction_pending_and_then_expired() -> None:
    """F21, F24."""
    taken_back = [known("p", 12.0), known("p", 14.0, retracted=True)]
    join, outputs = join_of([said("p", 10.0), beat(20.0)], [*taken_back, beat(20.0)])
    assert len(examples(outputs)) == 1
    assert (join.ledger.labels.superseded, join.ledger.labels.retracted, join.ledger.labels.joined) == (1, 1, 0)
    assert join.ledger.predictions.pending == 1
    join, outputs = join_of([said("p", 10.0), END], [*taken_back, END])
    assert join.ledger.predictions.expired == 1
    join, outputs = join_of([said("p", 10.0), END], [*taken_back, known("p", 16.0, 0), END])
    assert told(outputs)[-1] == (16.0, 0, 1, 1, False) and join.ledger.predictions.joined == 1


def test_a_retraction_by_another_source_changes_nothing() -> None:
    """F21."""
    labels = [known("p", 12.0), known("p", 14.0, retracted=True, label_source="person"), END]
    join, _ = join_of([said("p", 10.0), END], labels)
    assert join.ledger.predictions.joined == 1 and join.ledger.labels.retracted == 1


# -- implicit labels ------------------------------------------------------------------------------------------------


def test_no_label_by_the_deadline_counts_as_the_implicit_one_and_a_late_one_corrects_it() -> None:
    """F22: model b counts 0 after 10 s."""
    join, outputs = join_of([said("p", 10.0, "b"), END], [known("p", 25.0, 1), END])
    assert told(outputs) == [(20.0, 0, 0, None, True), (25.0, 1, 1, 0, False)]
    assert [e.label_source for e in examples(outputs)] == ["implicit", "world"]
    assert (join.ledger.predictions.joined, join.ledger.predictions.implicit, join.ledger.labels.joined) == (1, 0, 1)
    rows = [chunk.outcomes for chunk in joins.observations(outputs, "outcomes") if chunk.outcomes]
    assert np.concatenate([row.status for row in rows]).tolist() == [1, 2]


def test_a_label_at_the_deadline_leaves_nothing_to_imply() -> None:
    """F22."""
    join, outputs = join_of([said("p", 10.0, "b"), END], [known("p", 20.0, 1), END])
    assert told(outputs) == [(20.0, 1, 0, None, False)] and join.ledger.predictions.implicit == 0


def test_an_implicit_label_stands_when_nothing_follows() -> None:
    """F22, F24."""
    join, outputs = join_of([said("p", 10.0, "b"), END], [END])
    assert told(outputs) == [(20.0, 0, 0, None, True)]
    assert (join.ledger.predictions.joined, join.ledger.predictions.implicit) == (1, 1)


# -- predictions ----------------------------------------------------------------------------------------------------


def test_a_prediction_sent_twice_is_counted_once_and_an_id_may_be_used_again_after_its_horizon() -> None:
    """F24."""
    twice = [said("p", 10.0, value=1), said("p", 11.0, value=0), said("p", 31.0, value=0), END]
    join, outputs = join_of(twice, [known("p", 12.0, 1), known("p", 33.0, 0), END])
    assert join.ledger.predictions.duplicate == 1
    assert [(e.prediction.event_time, e.label) for e in examples(outputs)] == [(10.0, 1), (31.0, 0)]


def test_ids_belong_to_their_model_where_the_label_names_it() -> None:
    predictions = [said("p", 10.0, "a"), said("p", 11.0, "b"), END]
    _, outputs = join_of(predictions, [known("p", 12.0, 1, model="b"), known("p", 13.0, 0), END])
    assert [(e.prediction.model, e.label) for e in examples(outputs)] == [("b", 1), ("a", 0)]


def test_shadows_join_their_champion_before_or_after_it() -> None:
    early, late = said("p", 9.0, value=0, role="shadow", learner="forest"), 40.0
    predictions = [
        early,
        said("p", 10.0),
        said("p", 11.0, value=1, role="shadow", learner="linear", score=0.6),
        said("p", 11.0, value=0, role="shadow", learner="linear"),
        said("p", 14.0, value=0, role="shadow", learner="slow"),
        said("q", late, role="shadow", learner="forest"),
        END,
    ]
    join, outputs = join_of(predictions, [known("p", 13.0), END])
    (example,) = examples(outputs)
    linear = Vote(learner="linear", prediction=1, score=0.6)
    assert example.votes == [Vote(learner="forest", prediction=0), linear]
    shadows = msgspec.to_builtins(join.ledger.shadows)
    assert shadows == {"received": 5, "attached": 3, "waiting": 0, "unmatched": 1, "duplicate": 1, "late": 1}


def test_confidence_becomes_weight_and_business_values_travel_along() -> None:
    _, outputs = join_of([said("p", 10.0), END], [known("p", 12.0, confidence=0.25, values={"cost": 8.5}), END])
    (example,) = examples(outputs)
    assert example.weight == 0.25 and example.values == {"cost": 8.5}


# -- what is refused ------------------------------------------------------------------------------------------------


def letters(outputs: list[Output]) -> list[DeadLetter]:
    return [output.event for output in outputs if isinstance(output.event, DeadLetter)]


def test_a_record_of_another_partition_is_refused_with_the_culprit() -> None:
    shard = 1 - partition_of(b"p", 2)
    join = Join(joins.CONFIG, shard, 2)
    outputs = join.process(Batch(0.0, (joins.chunk(LABELS, joins.records([known("p", 1.0)])),)))
    (letter,) = letters(outputs)
    assert outputs[0].topic == DEAD_LETTERS and outputs[0].key == f"labels-{shard}"
    assert letter.code == "wrong_partition"
    assert letter.reason == (
        f"label for prediction 'p' lies in partition {shard}, its key belongs in {1 - shard}: the producer of "
        "'tidegate.labels' does not hash keys with murmur2 (librdkafka: set partitioner=murmur2_random)"
    )


def test_an_unknown_model_is_named_with_the_nearest_known_one() -> None:
    configuration = config.parse("models: {fraud: {task: binary}}")
    _, outputs = join_of([said("p", 1.0, "fruad")], [known("p", 1.0, model="zebra")], configuration)
    assert [letter.reason for letter in letters(outputs)] == [
        "prediction for unknown model 'fruad'; did you mean 'fraud'?",
        "label for unknown model 'zebra'; add it under models",
    ]


def test_text_is_no_label_of_a_regression_even_where_the_model_is_known_late() -> None:
    labels = [known("p", 12.0, "many", model="b"), known("p", 13.0, "many"), END]
    join, outputs = join_of([said("p", 10.0, "b"), said("q", 10.0, "b", "many"), END], labels)
    assert [(letter.topic, letter.offset, letter.code) for letter in letters(outputs)] == [
        ("predictions", 1, "prediction"), ("labels", 0, "label"), ("labels", 1, "label"),
    ]  # fmt: skip
    assert join.ledger.rejected == {"prediction": 1, "label": 2} and join.ledger.balanced


# -- progress and figures -------------------------------------------------------------------------------------------


def test_the_faster_input_is_held_until_the_slower_one_ends() -> None:
    join = Join(joins.CONFIG, 0, 1)
    assert join.held == frozenset()
    join.process(Batch(0.0, (joins.chunk(PREDICTIONS, joins.records([beat(9_000.0)])),)))
    assert join.held == {PREDICTIONS}
    join.process(Batch(0.0, (joins.chunk(LABELS, joins.records([beat(5_300.0)])),)))
    assert join.held == {PREDICTIONS}
    join.process(Batch(0.0, (joins.chunk(LABELS, [], at_end=True),)))
    assert join.held == frozenset()


def test_silent_labels_are_followed_after_the_idle_time_and_counted() -> None:
    join = Join(joins.CONFIG, 0, 1)
    end = joins.chunk(LABELS, [], at_end=True)
    join.process(Batch(0.0, (end, joins.chunk(PREDICTIONS, joins.records([said("p", 10.0), beat(100.0)])))))
    outputs = []
    for clock in range(1, 70):
        beats = joins.chunk(PREDICTIONS, joins.records([beat(100.0)], first=1 + clock))
        outputs += join.process(Batch(float(clock), (end, beats)))
    assert join.ledger.predictions.expired == 1 and join.figures()["idled"] == 1
    assert joins.observations(outputs, "outcomes")[-1].through == 100.0


def test_figures_say_how_many_and_how_long() -> None:
    predictions = [said(f"p{i}", float(i)) for i in range(10)]
    join, _ = join_of([*predictions, beat(40.0)], [*(known(f"p{i}", i + 4.0) for i in range(9)), beat(40.0)])
    figures = join.figures()
    assert figures["models"]["a"]["joined"] == 9 and figures["models"]["a"]["expired"] == 1
    assert figures["models"]["a"]["delay_median_s"] == pytest.approx(4.0, rel=0.05)
    assert figures["progress"] == {"predictions": 40.0, "labels": 40.0, "through": 40.0}
    assert msgspec.json.decode(msgspec.json.encode(figures)) == figures


def test_a_ledger_that_does_not_balance_stops_the_stage() -> None:
    """F24."""
    join = Join(joins.CONFIG, 0, 1)
    join.ledger.labels.received += 1
    with pytest.raises(BugError, match="labels: 1 came in, 0 are accounted for"):
        join.process(Batch(0.0))


def test_state_of_another_shard_or_kind_is_refused() -> None:
    state = Join(joins.CONFIG, 0, 2).snapshot()
    with pytest.raises(StateError, match="shard 0 of 2"):
        Join(joins.CONFIG, 1, 2).restore(state)
    with pytest.raises(StateError):
        Join(joins.CONFIG, 0, 2).restore(b"\x93")


def test_a_model_may_be_added_to_a_running_deployment() -> None:
    small = config.parse("models: {a: {task: binary}}")
    join, _ = join_of([said("p", 10.0)], [], small)
    grown = Join(joins.CONFIG, 0, 1)
    grown.restore(join.snapshot())
    more = [said("q", 11.0, "b"), END]
    outputs = grown.process(
        Batch(0.0, (joins.chunk(PREDICTIONS, joins.records(more, 1)), joins.chunk(LABELS, joins.records([END]))))
    )
    assert [e.prediction.model for e in examples(outputs)] == ["b"] and grown.ledger.predictions.pending == 1


# -- the demands on every stage -------------------------------------------------------------------------------------


def scenario() -> conformance.Scenario:
    draw = random.Random(5)
    predictions, labels = joins.small_logs(draw, size=300)
    bad = joins.records([b"\xff", None, said("bad", 0.0, "unknown")])
    return conformance.Scenario(
        make=lambda: Join(joins.CONFIG, 0, 1),
        feed=conformance.feed_stage,
        items=joins.interleaved(draw, predictions, labels, chunk_max=40),
        state_bytes_max=200_000,
        recut=conformance.recut_batches,
        bad=[Batch(0.0, (joins.chunk(role, bad),)) for role in (PREDICTIONS, LABELS)],
    )


def test_the_join_meets_the_demands_on_every_stage() -> None:
    """F21, F24."""
    conformance.check("tests.test_join:scenario")


def test_examples_are_the_structs_that_travel() -> None:
    _, outputs = join_of([said("p", 10.0), END], [known("p", 12.0), END])
    (example,) = examples(outputs)
    assert msgspec.json.decode(msgspec.json.encode(example), type=Example) == example
