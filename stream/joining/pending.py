"""What waits in the join, and its form at rest. Owns the structs; refuses to know the rules of joining."""

from __future__ import annotations

import math

import msgspec

from learners.annotators import Taken
from stream.events import Class, Label, Prediction, Vote


class Said(msgspec.Struct, array_like=True, gc=False):
    """A shadow's vote, and the predictions' progress at it."""

    order: float
    vote: Vote


class Entry(msgspec.Struct, array_like=True, gc=False):
    """A prediction that can still be labelled, corrected or repeated. The first six fields never change.

    `value` is what was predicted as the task reads it, `at` its event time, `order` the predictions' progress at it,
    `until` the progress up to which it is kept. `label` is the newest label of `revision` (-1: none yet) and stays as
    `previous` after a retraction, when it no longer `stands`. `completed` is where the newest revision counts. About
    150 bytes beside the prediction itself.
    """

    prediction: Prediction
    value: Class
    offset: int
    at: float
    order: float
    until: float
    label: Class | None = None
    source: str = ""
    revision: int = -1
    completed: float = -math.inf
    stands: bool = False
    implicit: bool = False
    evicted: bool = False
    votes: list[Said] | None = None
    taken: Taken | None = None
    """What annotators have said of it, where several may."""


class Known(msgspec.Struct, gc=False):
    """A label that waits: for its prediction until the predictions' progress passes `until`, or to be complete.
    `order` is the labels' progress at it, `at` its event time."""

    offset: int
    timestamp_s: float
    order: float
    at: float
    until: float
    label: Label
    placed: bool = False
    """It has found its prediction, or been given up."""


class Shadow(msgspec.Struct, gc=False):
    """A shadow's vote that waits for its champion's prediction until the predictions' progress passes `until`."""

    prediction_id: str
    model: str
    offset: int
    until: float
    said: Said
    placed: bool = False


class Since(msgspec.Struct, array_like=True):
    """What has become of a prediction since it came; `place` is its offset within its segment."""

    place: int
    label: Class | None
    source: str
    revision: int
    completed: float
    stands: bool
    implicit: bool
    votes: list[Said] | None
    taken: Taken | None


class MatcherState(msgspec.Struct):
    """Everything that waits, each list in the order in which it falls due; indexes are rebuilt from it.

    `entries` are those that no section of their own holds (`stream.joining.segments`).
    `completing`: when, offset of the prediction, label. `implicit`: when, offset of the prediction. `marks`: when,
    index of the model. `expired` holds, by id, the model, until when a label of it is late, when it is forgotten, and
    the offset.
    """

    entries: list[Entry]
    completing: list[tuple[float, int, Known]]
    implicit: list[tuple[float, int]]
    waiting: list[Known]
    shadows: list[Shadow]
    marks: list[tuple[float, int]]
    expired: dict[str, tuple[str, float, float, int]]
    settled: float
    ids_not_kept: int
    panels: dict[str, bytes] = {}
    """What is known of the annotators, by model."""
