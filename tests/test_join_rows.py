"""What the join hands to watch: columns with known values, cut where the logs alone decide."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
import pytest

from stream import config, limits
from stream.contract import PREDICTIONS, Batch
from stream.errors import ConfigError
from stream.events import Column, Observations
from stream.joining import columns
from stream.joining.delays import Delays
from stream.stages.join import Join
from tests import joins
from tests.joins import beat, join_of, known, observations, said

END = beat(500.0)


def values(column: Column) -> list[object]:
    """Words for text, None for missing."""
    if column.words is None:
        return [None if math.isnan(v) else v for v in column.values.tolist()]
    return [None if code < 0 else column.words[code] for code in column.values.tolist()]


def chunks(outputs: Sequence[object], rows: str, model: str = "a") -> list[Observations]:
    return [chunk for chunk in observations(outputs, rows) if chunk.model == model]  # type: ignore[arg-type]


# -- columns --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ([1.5, None, 2], [1.5, None, 2.0]),
        ([True, False, None], [1.0, 0.0, None]),
        (["b", None, "a", "b"], ["b", None, "a", "b"]),
        (["b", 1.5, True, None], ["b", "1.5", "True", None]),
        (["1.5", None], ["1.5", None]),
        ([None, None], [None, None]),
        ([10**400, 1, None], [None, 1.0, None]),
    ],
)
def test_values_become_numbers_or_text(given: list[object], found: list[object]) -> None:
    column = columns.column(given)
    assert column is not None and values(column) == found
    assert column.values.dtype == (np.float64 if column.words is None else np.int32)


def test_a_feature_that_a_row_lacks_is_missing_there() -> None:
    made, lists, left_out = columns.table([{"a": 1, "b": "x"}, {"b": "y", "c": 2}, {}], 10)
    assert {name: values(column) for name, column in made.items()} == {
        "a": [1.0, None, None], "b": ["x", "y", None], "c": [None, 2.0, None],
    }  # fmt: skip
    assert (lists, left_out) == (0, 0)


def test_an_embedding_becomes_its_projections_and_its_norm() -> None:
    """F01: what is carried does not grow with the length."""
    made, lists, _ = columns.table([{"e": [3.0, 4.0], "b": 1}, {"e": None, "b": 2}, {"e": [4.0, -3.0], "b": 3}], 10)
    names = [f"e~{k}" for k in range(1, 9)]
    assert list(made) == [*names, "e~norm", "b"] and lists == 0
    assert values(made["e~norm"]) == [5.0, None, 5.0]
    for name in names:  # signs: |a| + |b| or |a| - |b| of the vector of length one
        first, missing, second = values(made[name])
        assert missing is None
        assert sorted([round(abs(first), 9), round(abs(second), 9)]) == [0.2, 1.4]  # type: ignore[arg-type]
    again, *_ = columns.table([{"e": [4.0, -3.0]}], 10)
    assert values(again["e~1"]) == values(made["e~1"])[2:], "every chunk and shard takes the same directions"


def test_lists_without_use_and_names_beyond_the_bound_are_left_out_and_counted() -> None:
    made, lists, left_out = columns.table([{"a": [1.0], "b": 1}, {"a": [2.0], "b": 2}], 10)
    assert list(made) == ["b"] and lists == 2, "a vector of one number is a number"
    _, lists, _ = columns.table([{"a": [1.0, 2.0]}, {"a": [2.0, 1.0]}, {"a": [2.0, 1.0, 0.0]}], 10)
    assert lists == 1, "one has another length than most"
    made, lists, left_out = columns.table([{f"n{i}": i} for i in range(5)], 3)
    assert list(made) == ["n0", "n1", "n2"] and left_out == 2
    made, lists, left_out = columns.table([{f"n{i}": i for i in range(5)}] * 2, 3)
    assert list(made) == ["n0", "n1", "n2"] and left_out == 2


def test_a_list_without_use_shows_in_the_figures() -> None:
    join, _ = join_of([said("p", 10.0, features={"v": [1.0], "x": 1}), END], [END])
    assert join.figures()["models"]["a"]["lists_left_out"] == 1


# -- rows -----------------------------------------------------------------------------------------------------------


def test_prediction_rows_hold_what_was_asked_and_said() -> None:
    predictions = [
        said("p", 1.0, value="1", model_version="7", score=0.25, tags={"origin": "JFK"}),
        said("q", 0.5, value=0, features={"x": None}, probabilities={"1": 0.75, "0": 0.25}, role="canary"),
        said("p", 1.5, value=0),
        said("q", 2.0, value=0, role="shadow"),
        END,
    ]
    _, outputs = join_of(predictions, [])
    (rows,) = [chunk.predictions for chunk in chunks(outputs, "predictions") if chunk.predictions]
    assert rows.order.tolist() == [1.0, 1.0] and rows.event_time.tolist() == [1.0, 0.5]
    assert values(rows.prediction) == [1.0, 0.0] and values(rows.score) == [0.25, 0.75]
    assert values(rows.version) == ["7", "0"] and values(rows.tags["origin"]) == ["JFK", None]
    assert values(rows.features["x"]) == [1.0, None] and values(rows.features["place"]) == ["at p", None]


def test_outcome_rows_hold_the_label_the_prediction_and_the_votes() -> None:
    predictions = [
        said("p", 1.0, value=0, score=0.4),
        said("p", 1.0, value=1, role="shadow", learner="forest", score=0.9, model_version="f2"),
        said("q", 2.0, features={}, tags={"place": "tagged"}),
        END,
    ]
    labels = [known("p", 5.0, 1), known("p", 8.0, 0), known("q", 9.0, "1"), END]
    _, outputs = join_of(predictions, labels)
    (rows,) = [chunk.outcomes for chunk in chunks(outputs, "outcomes") if chunk.outcomes]
    assert rows.order.tolist() == [5.0, 8.0, 9.0] and rows.event_time.tolist() == [1.0, 1.0, 2.0]
    assert rows.delay_s.tolist() == [4.0, 7.0, 7.0] and rows.status.tolist() == [0, 2, 0]
    assert values(rows.label) == [1.0, 0.0, 1.0] and values(rows.previous) == [None, 1.0, None]
    assert values(rows.prediction) == [0.0, 0.0, 1.0] and values(rows.score) == [0.4, 0.4, None]
    assert values(rows.slices["place"]) == ["at p", "at p", "tagged"]
    prediction, score, version = rows.votes["forest"]
    assert values(prediction) == [1.0, 1.0, None] and values(score) == [0.9, 0.9, None]
    assert values(version) == ["f2", "f2", None]


def test_classes_stay_what_they_are() -> None:
    kinds = config.parse("models: {kind: {task: multiclass}}")
    predictions = [said("p", 1.0, "kind", "cat"), said("q", 1.0, "kind", 3, probabilities={"3": 0.5, "4": 0.3})]
    _, outputs = join_of([*predictions, beat(1_000_000.0)], [known("p", 2.0, "dog"), beat(1_000_000.0)], kinds)
    (rows,) = [chunk.predictions for chunk in chunks(outputs, "predictions", "kind") if chunk.predictions]
    assert values(rows.prediction) == ["cat", "3"] and values(rows.score) == [None, 0.5]


# -- cuts -----------------------------------------------------------------------------------------------------------


def test_prediction_chunks_are_cut_by_rows_and_by_marks_of_event_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Model a is cut every 10 s of event time: a quarter of its windows."""
    monkeypatch.setattr(limits, "ROWS_PER_CHUNK", 3)
    times = [1.0, 2.0, 3.0, 4.0, 11.0, 57.0]
    _, outputs = join_of([said(f"p{t}", t) for t in times], [])
    cut = [
        (c.sequence, c.through, [] if c.predictions is None else c.predictions.event_time.tolist())
        for c in chunks(outputs, "predictions")
    ]
    assert cut == [
        (0, 0.0, []),
        (1, 3.0, [1.0, 2.0, 3.0]),
        (2, 10.0, [4.0]),
        (3, 50.0, [11.0]),  # one chunk with the newest mark for the whole gap
    ]


def test_outcome_chunks_tell_how_far_both_logs_have_come() -> None:
    join = Join(joins.CONFIG, 0, 1)
    first = joins.chunk(PREDICTIONS, joins.records([said("p", 1.0), beat(95.0)]))
    outputs = join.process(Batch(0.0, (first, joins.chunk("labels", joins.records([known("p", 4.0), beat(40.0)])))))
    told = [(c.sequence, c.through, c.outcomes is not None) for c in chunks(outputs, "outcomes")]
    assert told == [(0, 0.0, False), (1, 40.0, True)]
    outputs = join.process(Batch(0.0, (joins.chunk("labels", joins.records([beat(95.0)], first=2)),)))
    assert [(c.sequence, c.through) for c in chunks(outputs, "outcomes")] == [(2, 90.0)]


def test_no_row_follows_a_chunk_that_said_it_was_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ROWS_PER_CHUNK", 4)
    for seed in range(100):
        draw = random.Random(seed)
        join = Join(joins.CONFIG, 0, 1)
        outputs = [o for batch in joins.interleaved(draw, *joins.small_logs(draw)) for o in join.process(batch)]
        for model in joins.CONFIG.models:
            for rows in ("predictions", "outcomes"):
                through, last = -math.inf, -math.inf
                for n, chunk in enumerate(chunks(outputs, rows, model)):
                    held = chunk.predictions if rows == "predictions" else chunk.outcomes
                    orders = [] if held is None else held.order.tolist()
                    assert chunk.sequence == n and orders == sorted(orders)
                    assert all(order >= max(through, last) for order in orders)
                    assert chunk.through >= through
                    through, last = chunk.through, max([last, *orders])


# -- small parts ----------------------------------------------------------------------------------------------------


def test_the_median_delay_is_within_a_bin_of_the_true_one() -> None:
    draw = np.random.default_rng(3)
    seconds, delays = draw.lognormal(5, 2, 4_001), Delays()
    for part in np.array_split(seconds, 9):
        delays.add(part)
    median = delays.median()
    assert median is not None and abs(math.log2(median / np.median(seconds))) <= 1 / 8
    assert len(delays.counts) < 300 and Delays().median() is None


def test_an_implicit_label_that_its_task_cannot_have_is_a_fault_of_the_configuration() -> None:
    text = "models: {m: {task: regression, labels: {implicit: {after: 1d, label: none}}}}"
    with pytest.raises(ConfigError, match=r"models\.m\.labels\.implicit\.label: 'none' is text"):
        Join(config.parse(text), 0, 1)


def test_an_implicit_label_configured_away_is_not_waited_for_any_more() -> None:
    """F22."""
    join, _ = join_of([said("p", 10.0, "b")], [])
    text = "models: {a: {task: binary}, b: {task: regression}}"
    plain = Join(config.parse(text), 0, 1)
    plain.restore(join.snapshot())
    both = (joins.chunk(PREDICTIONS, joins.records([END], 1)), joins.chunk("labels", joins.records([END])))
    assert joins.examples(plain.process(Batch(0.0, both))) == []
