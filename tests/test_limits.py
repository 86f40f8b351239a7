"""Every bound has its line in LIMITS.md, and what comes in beyond one does what that line says."""

from __future__ import annotations

import re

import msgspec
import pytest

from stream import codec, config, limits
from stream.contract import LABELS, PREDICTIONS
from stream.events import DeadLetter
from stream.ledger import Ledger
from stream.runtime.metrics import METRICS
from tests import bounds, joins

UNTOLD = {
    ("detectors/carriers.py", "SLICES_MAX"),
    ("learners/snapshots.py", "MAC_BYTES"),  # a size, no bound
    ("stream/runtime/courier.py", "BODY_BYTES_MAX"),
    ("stream/runtime/kafka/forward.py", "POLL_RECORDS"),
    ("stream/runtime/kafka/tail.py", "POLL_RECORDS"),
    ("stream/windows/alerts.py", "MUTES_MAX"),
    ("stream/windows/watcher.py", "NEW_FEATURES_MAX"),
}
"""Without a reason in the source; none may be added."""

ROWS = [row for _, rows in bounds.PARTS for row in rows]


def test_the_file_is_what_the_source_says() -> None:
    assert bounds.FILE.read_text(encoding="utf-8") == bounds.render(), "run `python -m tests.bounds`"


def test_every_bound_has_its_line() -> None:
    named = {row.name for row in ROWS if row.where == "stream/limits.py"}
    assert {one.name for one in bounds.constants() if one.where == "stream/limits.py"} == named
    assert {(one.where, one.name) for one in bounds.inner() if not one.why} == UNTOLD


def test_what_shows_a_bound_is_there() -> None:
    known = {spec.name: spec for spec in METRICS}
    states = Ledger().figures()
    for row in ROWS:
        assert row.shown and row.happens
        for name, label, value in re.findall(r"`(tidegate_\w+)(?:\{(\w+)=\"(\w+)\"\})?`", row.shown):
            assert name in known, f"{row.name}: there is no {name}"
            assert not label or label in known[name].labels
            if name.startswith("tidegate_ledger_"):
                assert value in states[name.removeprefix("tidegate_ledger_")]


def prediction(**changed: object) -> bytes:
    event = {"prediction_id": "p", "model": "a", "event_time": 10.0, "features": {"x": 1.0}, "prediction": 1}
    return msgspec.json.encode({**event, **changed})


def nested(depth: int, before: bytes = b"") -> bytes:
    return prediction()[:-1] + before + b',"junk":' + b"[" * depth + b"]" * depth + b"}"


BEYOND = {
    "EVENT_BYTES_MAX": prediction(junk="x" * limits.EVENT_BYTES_MAX),
    "DEPTH_MAX": nested(limits.DEPTH_MAX + 1, b',"much":"' + b"x" * limits.DEPTH_FREE_BYTES + b'"'),
    "FEATURES_MAX": prediction(features={f"f{i}": i for i in range(limits.FEATURES_MAX + 1)}),
    "TEXT_CHARS_MAX": prediction(features={"x": "y" * (limits.TEXT_CHARS_MAX + 1)}),
    "PREDICTION_ID_CHARS_MAX": prediction(prediction_id="p" * (limits.PREDICTION_ID_CHARS_MAX + 1)),
    "EVENT_TIME_MIN_S": prediction(event_time=limits.EVENT_TIME_MIN_S - 1),
    "EVENT_TIME_MAX_S": prediction(event_time=limits.EVENT_TIME_MAX_S),
    "FUTURE_S_MAX": prediction(event_time=1e9 + limits.FUTURE_S_MAX + 1),
}
WITHIN = {
    "EVENT_BYTES_MAX": prediction(junk="x" * (limits.EVENT_BYTES_MAX - 200)),
    "DEPTH_MAX": nested(limits.DEPTH_MAX - 1, b',"much":"' + b"x" * limits.DEPTH_FREE_BYTES + b'"'),
    "FEATURES_MAX": prediction(features={f"f{i}": i for i in range(limits.FEATURES_MAX)}),
    "TEXT_CHARS_MAX": prediction(features={"x": "y" * limits.TEXT_CHARS_MAX}),
    "PREDICTION_ID_CHARS_MAX": prediction(prediction_id="p" * limits.PREDICTION_ID_CHARS_MAX),
    "EVENT_TIME_MIN_S": prediction(event_time=limits.EVENT_TIME_MIN_S),
    "EVENT_TIME_MAX_S": prediction(event_time=10.0),
    "FUTURE_S_MAX": prediction(event_time=1e9 + limits.FUTURE_S_MAX),
}


@pytest.mark.parametrize("name", BEYOND)
def test_an_event_beyond_a_bound_is_a_dead_letter_with_the_code_that_is_told(name: str) -> None:
    (row,) = (row for row in ROWS if row.name == name and row.where == "stream/limits.py")
    join, out = joins.join_of([WITHIN[name], BEYOND[name]], [])
    (letter,) = (o.event for o in out if isinstance(o.event, DeadLetter))
    assert f'code="{letter.code}"' in row.shown and row.happens.startswith("dead letter")
    assert (letter.topic, letter.partition, letter.offset) == (PREDICTIONS, 0, 1)
    assert join.figures()["rejected"] == {letter.code: 1} and join.ledger.predictions.received == 2
    assert len(codec.encode(letter)) < 10 * limits.DEAD_LETTER_BYTES_MAX


def test_one_more_annotator_than_there_may_be_is_a_dead_letter() -> None:
    (row,) = (row for row in ROWS if row.name == "VOTES_MAX")
    several = config.parse("models: {a: {task: binary, labels: {horizon: 90s, annotators: majority}}}")
    votes = [joins.known("p", 12.0 + i, annotator=f"ann{i}") for i in range(limits.VOTES_MAX + 1)]
    join, out = joins.join_of([joins.said("p", 10.0), joins.beat(500.0)], [*votes, joins.beat(500.0)], several)
    letters = [o.event for o in out if isinstance(o.event, DeadLetter)]
    assert [(letter.topic, letter.offset) for letter in letters] == [(LABELS, limits.VOTES_MAX)]
    (code,) = join.figures()["rejected"]
    assert f'code="{code}"' in row.shown
