"""Rows to observations: what the join hands to watch about one model. Refuses to know why a row is one.

Prediction rows and outcome rows are two sequences of chunks of their own. Prediction rows come in the order of the
predictions' log, and their chunks are cut by that log alone; outcome rows come in the order of completion, and theirs
are cut in that order. So both are functions of the logs, whichever of the two was read faster.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream import limits
from stream.events import (
    EXPIRED,
    LABELLED,
    Class,
    Column,
    Observations,
    OutcomeRows,
    Prediction,
    PredictionRows,
    Tag,
    Vote,
)
from stream.joining import columns
from stream.joining.delays import Delays
from stream.joining.pending import Entry
from stream.joining.rules import Rules
from stream.learning import CHAMPION


class PredictionRow(msgspec.Struct, array_like=True, gc=False):
    """A prediction that waits for its chunk, at rest; `order` is the predictions' progress at it, `value` what it said
    as the task reads it. While it runs, its entry among the pending ones stands for it."""

    order: float
    prediction: Prediction
    value: Class


class OutcomeRow(msgspec.Struct, array_like=True, gc=False):
    """An outcome that waits for its chunk; `label`, `previous` and `value` (what was predicted) are as the task reads
    them."""

    order: float
    delay_s: float | None
    status: int
    label: Class | None
    previous: Class | None
    prediction: Prediction
    value: Class
    votes: list[Vote]
    values: dict[str, float] = {}


def untold(row: OutcomeRow) -> OutcomeRow:
    """The row as if no label had come: for a label that was asked for because the model was in doubt. Among such it is
    wrong more often, whatever the world does, and watch would take that for its performance."""
    return OutcomeRow(row.order, None, EXPIRED, None, None, row.prediction, row.value, row.votes)


class RowsState(msgspec.Struct):
    """Rows not sent yet, and how far each of the two sequences has been sent. `next_mark` is the event time at which
    the next chunk of predictions is cut at the latest; `marked` the last event time at which outcomes were cut."""

    predictions: list[PredictionRow] = []
    outcomes: list[OutcomeRow] = []
    prediction_chunks: int = 0
    outcome_chunks: int = 0
    next_mark: float = -math.inf
    marked: float = -math.inf
    delays: Delays = msgspec.field(default_factory=Delays)
    lists_left_out: int = 0
    names_left_out: int = 0


class Rows:
    """The two sequences of one model; every method returns the chunk that is due, or None."""

    def __init__(self, rules: Rules, shard: int, shards: int) -> None:
        self.rules = rules
        self.shard = shard
        self.shards = shards
        self.state = RowsState()
        self.waiting: list[Entry | PredictionRow] = []
        """Predictions not sent yet; the state holds them only while it is at rest."""

    def at_rest(self) -> RowsState:
        rows = [PredictionRow(row.order, row.prediction, row.value) for row in self.waiting]
        return msgspec.structs.replace(self.state, predictions=rows)

    def restore(self, state: RowsState) -> None:
        self.waiting = list(state.predictions)
        self.state = msgspec.structs.replace(state, predictions=[])

    def predicted(self, entry: Entry) -> Observations | None:
        self.waiting.append(entry)
        return self._predictions(entry.order) if len(self.waiting) >= limits.ROWS_PER_CHUNK else None

    def passed(self, progress: float) -> Observations | None:
        """The predictions' log has come to `progress`: rows before the newest mark go out. After a gap this is one
        chunk with the newest mark, not one for every mark."""
        if progress < self.state.next_mark:
            return None
        mark = math.floor(progress / self.rules.flush_s) * self.rules.flush_s
        self.state.next_mark = mark + self.rules.flush_s
        return self._predictions(mark)

    def resolved(self, row: OutcomeRow) -> Observations | None:
        rows = self.state.outcomes
        rows.append(row)
        return self._outcomes(row.order) if len(rows) >= limits.ROWS_PER_CHUNK else None

    def settled(self, mark: float) -> Observations | None:
        """Every outcome before `mark` is known."""
        if mark <= self.state.marked:
            return None
        self.state.marked = mark
        return self._outcomes(mark)

    def _predictions(self, through: float) -> Observations:
        state = self.state
        made = prediction_rows(self.rules, self.waiting, state) if self.waiting else None
        self.waiting = []
        state.prediction_chunks += 1
        return Observations(
            self.rules.name, self.shard, self.shards, state.prediction_chunks - 1, through, made, None, "predictions"
        )

    def _outcomes(self, through: float) -> Observations:
        state = self.state
        made = outcome_rows(self.rules, state.outcomes) if state.outcomes else None
        if made is not None:
            state.delays.add(made.delay_s[made.status == LABELLED])
        state.outcomes = []
        state.outcome_chunks += 1
        return Observations(
            self.rules.name, self.shard, self.shards, state.outcome_chunks - 1, through, None, made, "outcomes"
        )


def prediction_rows(rules: Rules, rows: Sequence[Entry | PredictionRow], state: RowsState) -> PredictionRows:
    """Columns of the waiting predictions. Lists have no column, and are counted."""
    said = [row.prediction for row in rows]
    features, lists, names = columns.table([p.features for p in said], limits.FEATURES_MAX)
    tags, _, more = columns.table([p.tags for p in said], limits.FEATURES_MAX)
    state.lists_left_out += lists
    state.names_left_out += names + more
    return PredictionRows(
        order=floats([row.order for row in rows]),
        event_time=floats([cast(float, p.event_time) for p in said]),
        features=features,
        tags=tags,
        prediction=values([row.value for row in rows]),
        score=columns.numbers([score_of(rules, p) for p in said]),
        version=columns.text([p.model_version for p in said]),
    )


def outcome_rows(rules: Rules, rows: Sequence[OutcomeRow]) -> OutcomeRows:
    learners = dict.fromkeys(voice for row in rows for voice in voices(row))
    said = [row.prediction for row in rows]
    worth, *_ = columns.table([row.values for row in rows], limits.BUSINESS_VALUES_MAX)
    sample, *_ = columns.table([p.features for p in said[: limits.SAMPLED_PER_CHUNK]], limits.FEATURES_MAX)
    sampled = np.arange(len(rows), dtype=np.int32)
    sampled[limits.SAMPLED_PER_CHUNK :] = -1
    return OutcomeRows(
        order=floats([row.order for row in rows]),
        event_time=floats([cast(float, p.event_time) for p in said]),
        delay_s=columns.numbers([row.delay_s for row in rows]).values,
        status=np.array([row.status for row in rows], np.int32),
        label=values([row.label for row in rows]),
        previous=values([row.previous for row in rows]),
        prediction=values([row.value for row in rows]),
        score=columns.numbers([score_of(rules, p) for p in said]),
        version=columns.text([p.model_version for p in said]),
        slices={name: values([slice_of(name, p) for p in said]) for name in rules.slices},
        votes={learner: vote_columns(rules, rows, learner) for learner in learners},
        values=worth,
        sample=sample,
        sampled=sampled,
    )


def vote_columns(rules: Rules, rows: Sequence[OutcomeRow], learner: str) -> tuple[Column, Column, Column]:
    votes = [vote_of(row, learner) for row in rows]
    said = [None if vote is None else rules.read(vote.prediction) for vote in votes]
    scores = [None if vote is None else score_of(rules, vote) for vote in votes]
    versions = [None if vote is None else vote.model_version for vote in votes]
    return values(said), columns.numbers(scores), columns.text(versions)


def voices(row: OutcomeRow) -> Iterator[str]:
    """Who else is to be seen than the one that was served, which stands for the champion. A canary that was served is
    also seen under its own name; what the champion said then was said to nobody."""
    if row.prediction.role == "canary":
        yield row.prediction.learner
    for vote in row.votes:
        if vote.learner != CHAMPION:
            yield vote.learner


def vote_of(row: OutcomeRow, learner: str) -> Vote | Prediction | None:
    if row.prediction.learner == learner:
        return row.prediction
    return next((vote for vote in row.votes if vote.learner == learner), None)


def slice_of(name: str, prediction: Prediction) -> Tag:
    """What a declared slice needs of one prediction: a feature, or else a tag."""
    found = prediction.features.get(name, prediction.tags.get(name))
    return None if isinstance(found, list) else found


def score_of(rules: Rules, said: Prediction | Vote) -> float | None:
    """The score, or the probability that stands for it: of the positive class, or of the likeliest."""
    if said.score is not None or not said.probabilities:
        return said.score
    if rules.task == "binary":
        return said.probabilities.get(rules.positive_text)
    return max(said.probabilities.values())


def values(found: Sequence[Tag]) -> Column:
    made = columns.column(found)
    assert made is not None, "lists are kept out of rows"
    return made


def floats(found: Sequence[float]) -> NDArray[np.float64]:
    return np.array(found, np.float64)
