"""The events: what producers send and subscribers read. Structs only; JSON Schema is generated from them.

Times are epoch seconds (UTC) once decoded; on the wire also RFC 3339. Unknown fields are allowed and kept out.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias

import msgspec
import numpy as np

from learners.assignment import Routing
from stream import limits

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.PREDICTION_ID_CHARS_MAX)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Moment: TypeAlias = float | Annotated[datetime, msgspec.Meta(tz=True)]
Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""An integer that fits in 64 bits; a longer one is an identifier or a fault, and no float holds it."""
Feature: TypeAlias = float | Whole | str | bool | list[float] | None
Tag: TypeAlias = str | Whole | float | bool | None
Class: TypeAlias = bool | Whole | float | str
Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
Role: TypeAlias = Literal["champion", "canary", "shadow"]


class Lean(msgspec.Struct, omit_defaults=True):
    """An event whose bytes leave out what has its default, whatever way that came.

    msgspec leaves out what *is* the default; a text or a number that only equals it, as one that was read has, would be
    written. A shard that was restored would put out other bytes than one that was not.
    """

    def __post_init__(self) -> None:
        for name, default in _twins(type(self)):
            value = getattr(self, name)
            if value is not default and value == default:
                setattr(self, name, default)


@cache
def _twins(kind: type[Lean]) -> tuple[tuple[str, Any], ...]:
    """Fields whose default may have equals, with it; there is one None, one False and one of each small integer."""
    return tuple((f.name, f.default) for f in msgspec.structs.fields(kind) if type(f.default) in (str, float))


RANDOM: Final = "random"
"""By what a label is asked for where chance alone decides."""


class Request(Lean, kw_only=True):
    """Features that ask for a prediction: the input of the score stage."""

    prediction_id: Id
    model: Name
    event_time: Moment
    features: dict[str, Feature]
    tags: dict[str, Tag] = {}


class Prediction(Lean, kw_only=True, gc=False):
    """What a model said. `learner` names who said it among the model's champion and challengers; `model_updates` is
    how many examples it had learned by then (F23). `asked_by` and `asked_probability`: where its label was asked for,
    by what and how probable that was (F39).

    Python's cycle collector does not look at it: it is in no cycle, and a join may hold a million.
    """

    prediction_id: Id
    model: Name
    event_time: Moment
    features: dict[str, Feature]
    prediction: Class
    model_version: Name = "0"
    learner: Name = "champion"
    role: Role = "champion"
    score: float | None = None
    probabilities: dict[str, Probability] | None = None
    tags: dict[str, Tag] = {}
    propensity: Probability | None = None
    latency_ms: float | None = None
    recorded_time: Moment | None = None
    model_updates: int | None = None
    asked_by: Name | None = None
    asked_probability: Probability | None = None

    @property
    def is_typical(self) -> bool:
        """Whether its label tells of all predictions: not where it was asked for because the model was in doubt."""
        return self.asked_by is None or self.asked_by == RANDOM


class Label(Lean, kw_only=True):
    """What the world said. `event_time` is when the label became known. A later label of the same prediction and
    source corrects the earlier one; `retracted` takes it back."""

    prediction_id: Id
    event_time: Moment
    label: Class
    model: Name | None = None
    label_source: Name = "world"
    annotator: Name | None = None
    confidence: Probability | None = None
    values: dict[str, float] = {}
    retracted: bool = False


class Heartbeat(msgspec.Struct):
    """In predictions or labels of every partition: 'nothing before this event time will follow'. A producer that may
    fall silent sends it, so that windows close and predictions expire without waiting for the next event."""

    heartbeat: Moment


class Vote(Lean, kw_only=True):
    """What a shadow said of the same event."""

    learner: Name
    prediction: Class
    model_version: Name = "0"
    score: float | None = None
    probabilities: dict[str, float] | None = None
    model_updates: int | None = None


class Example(Lean, kw_only=True):
    """A prediction with its label. `completed` is the event time at which both were known; `revision` counts
    corrections, and `previous` is the label that this one replaces."""

    prediction: Prediction
    label: Class
    label_time: float
    completed: float
    delay_s: float
    votes: list[Vote] = []
    weight: float = 1.0
    revision: int = 0
    previous: Class | None = None
    implicit: bool = False
    label_source: str = "world"
    values: dict[str, float] = {}


class DeadLetter(Lean, kw_only=True):
    """A record that could not be used: where it stood, why, and what it was."""

    topic: str
    partition: int
    offset: int
    code: str
    reason: str
    timestamp_s: float
    key: str | None = None
    value: str | None = None


class Column(msgspec.Struct):
    """One column of rows. Numbers: float64, NaN where missing. Text: int32 codes into `words`, -1 where missing."""

    values: np.ndarray
    words: list[str] | None = None


class PredictionRows(msgspec.Struct):
    """Predictions of the champion in the order of one shard; all arrays have one entry a row.

    `order` is the shard's progress at the row (non-decreasing), `event_time` its own time.
    """

    order: np.ndarray
    event_time: np.ndarray
    features: dict[str, Column]
    tags: dict[str, Column]
    prediction: Column
    score: Column
    version: Column


LABELLED, IMPLIED, CORRECTED, EXPIRED = 0, 1, 2, 3
"""Values of `OutcomeRows.status`."""


class OutcomeRows(msgspec.Struct):
    """Predictions whose label came, was corrected, or will never come, in the order of completion.

    `status` is 0 labelled, 1 implicit, 2 corrected (`previous` holds the label it replaces), 3 expired (no label;
    `delay_s` is NaN). `order` is the progress at which both logs knew it (non-decreasing).
    `votes` holds, by learner, what shadows had said: (prediction, score, version) columns. `slices` holds the columns
    that declared slices need, from features or tags; `values` the business figures that came with the labels.
    `sample` holds the features of some of the rows: `sampled` says for each row which of the sample it is, or -1.
    """

    order: np.ndarray
    event_time: np.ndarray
    delay_s: np.ndarray
    status: np.ndarray
    label: Column
    previous: Column
    prediction: Column
    score: Column
    version: Column
    slices: dict[str, Column]
    votes: dict[str, tuple[Column, Column, Column]]
    values: dict[str, Column] = {}
    sample: dict[str, Column] = {}
    sampled: np.ndarray = msgspec.field(default_factory=lambda: np.zeros(0, np.int32))


class Observations(msgspec.Struct):
    """What one join shard saw of one model, in columns. Cut by number of rows or by event time, never by arrival, so
    the same log gives the same chunks.

    A shard sends two sequences of chunks, each numbered by its own `sequence` and with its own `through`: `rows` says
    which one a chunk belongs to, and a chunk holds rows of that kind or, where only progress is to be told, none.
    Prediction chunks are cut by the predictions' log alone, outcome chunks in the order of completion. `through` means:
    all rows of this kind with `order` before it have been sent.
    """

    columnar: ClassVar[bool] = True

    model: str
    shard: int
    shards: int
    sequence: int
    through: float
    predictions: PredictionRows | None = None
    outcomes: OutcomeRows | None = None
    rows: Literal["predictions", "outcomes"] = "predictions"


class Since(msgspec.Struct):
    """When a change is thought to have begun."""

    estimate: str
    interval: tuple[str, str] | None = None


class RankedFeature(msgspec.Struct):
    name: str
    share: float
    statistics: dict[str, float] = {}


class Alert(Lean, kw_only=True):
    """One state of one alert; later events with the same `alert_id` replace earlier ones."""

    alert_id: str
    fingerprint: str
    status: Literal["firing", "revised", "suppressed", "acknowledged", "resolved"]
    kind: Literal[
        "data_quality", "covariate_drift", "prediction_drift", "label_drift", "concept_drift", "label_delay",
        "business_drift", "fairness", "operations",
    ]  # fmt: skip
    severity: Literal["information", "warning", "critical"]
    model: str
    summary: str
    at: str
    model_version: str | None = None
    slice: dict[str, str] = {}
    stream: str = ""
    related: list[str] = []
    """Other streams that changed with it, of the same cause."""
    detector: str = ""
    features: list[RankedFeature] = []
    statistics: dict[str, float] = {}
    evidence: dict[str, Any] = {}
    threshold: float = 1.0
    reference_id: str | None = None
    window: dict[str, Any] = {}
    since: Since | None = None
    impact: dict[str, Any] | None = None
    diagnosis: dict[str, float] = {}
    actions: list[dict[str, Any]] = []
    causation_id: str | None = None
    schema_version: int = 1


class Expectation(Lean):
    """A metric before its labels: `estimated` as if none had come, `combined` with those that have, each [value, low,
    high] with 95 % between; `disagreement`: labels against estimate in standard errors, beyond 3 it is wrong."""

    estimated: list[float]
    combined: list[float]
    disagreement: float | None = None


class Calibration(Lean):
    """Whether scores mean what they say: expected calibration error without what chance gives, and with it; `bins` are
    [mean score, share that came true, rows]."""

    ece: float
    ece_plain: float
    bins: list[tuple[float, float, int]]


class Window(Lean, kw_only=True):
    """A reporting window of one model, learner version and slice. Sent when it closes and again when its labels have
    matured; the later one replaces the earlier. `maturity` is the share of its predictions whose fate is known."""

    model: str
    start: float
    end: float
    n: int
    learner: str = "champion"
    model_version: str | None = None
    slice: dict[str, str] = {}
    n_labelled: int = 0
    maturity: float = 0.0
    final: bool = False
    metrics: dict[str, float] = {}
    expected: dict[str, Expectation] = {}
    drift: dict[str, dict[str, float]] = {}
    prediction_mean: float | None = None
    delay_median_s: float | None = None
    calibration: Calibration | None = None
    fairness: dict[str, dict[str, dict[str, Any]]] = {}
    """Of the champion, by declared group and measure: `gap` (or `ratio`), its 95 % interval `low` and `high`, the
    groups `worst` and `best` at its ends, and those `left_out` for too few rows."""
    strange: int | None = None
    """Predictions of it that are strange against the reference: a hundredth of ordinary ones is."""
    labels_before: int = 0
    """Labels of it that are older than their prediction."""
    label_bias: dict[str, dict[str, float]] = {}
    """Once it is final, by feature (or category, or score): how far labelled predictions lie from those whose label
    never came, where that is sure: `difference` in standard deviations, its interval `low` and `high`."""


class Command(Lean, kw_only=True):
    """A person's order. `signature`: by the key that `key_id` names (`stream.commands`)."""

    command_id: Id
    action: Name
    model: Name
    arguments: dict[str, Any] = {}
    issued_by: str = ""
    issued_at: Moment = 0.0
    expires_at: Moment | None = None
    key_id: Name | None = None
    signature: str | None = None


class Decision(Lean, kw_only=True):
    """What the engine changed, and why."""

    decision_id: str
    model: str
    action: str
    at: str
    learner: str = "champion"
    why: dict[str, Any] = {}
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    causation_id: str | None = None


class Traffic(Lean, kw_only=True):
    """Who answers from now on, in the topic of snapshots: `learners` are asked, and `routing` says which of them serves
    whom; without it the champion serves everybody."""

    model: str
    at: str
    version: str
    learners: list[str]
    routing: Routing | None = None


class ModelSnapshot(Lean, kw_only=True):
    """A learner at one moment, in its signed envelope (learners.snapshots), with its lineage."""

    model: str
    learner: str
    version: str
    updates: int
    at: str
    envelope: bytes
    lineage: dict[str, Any] = {}
