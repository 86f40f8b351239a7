"""Outcome rows as signed results: a label counts once, a correction takes the old label away and adds the new one.

Owns how labels and predictions compare; refuses to know windows and detectors.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xxhash

from stream.config import Model
from stream.events import CORRECTED, Column, OutcomeRows
from stream.windows import columns
from stream.windows.columns import Floats, Ints
from stream.windows.performance import Performance
from stream.windows.reporting import Outcome


class Results(NamedTuple):
    """n rows, and N >= n signed ones: the rows themselves, then once more those that were corrected.

    row: (N,) row of each. first: (N,) 1 for a prediction's first fate. learners: (N,) each. fates: places of the
    rows whose fate is new, not a correction: the detectors' rows. label, loss, delay: (n,) NaN where there is none.
    version: (n,) the champion's.
    """

    row: Ints
    event_time: Floats
    first: Ints
    delay_s: Floats
    learners: dict[str, Outcome]
    slices: dict[str, Column]
    fates: Ints
    order: Floats
    label: Floats
    words: Column
    loss: Floats
    delay: Floats
    values: dict[str, Column]
    version: Column


def results_of(model: Model, rows: OutcomeRows) -> Results:
    n = len(rows.order)
    corrected = np.flatnonzero(rows.status == CORRECTED)
    index: Ints = np.arange(n) if not len(corrected) else np.concatenate([np.arange(n), corrected])
    label = read_values(model, rows.label)
    prediction = read_values(model, rows.prediction)
    both, sign = label, np.ones(len(index))
    first = (rows.status != CORRECTED).astype(np.int64)
    delay_s, event_time, slices = rows.delay_s, rows.event_time, rows.slices
    if len(corrected):
        both = np.concatenate([label, read_values(model, rows.previous)[corrected]])
        sign[n:] = -1.0
        first = np.concatenate([first, np.zeros(len(corrected), np.int64)])
        delay_s, event_time = rows.delay_s[index], rows.event_time[index]
        slices = {name: columns.take(column, index) for name, column in rows.slices.items()}
    learners = {"champion": Outcome(both, prediction[index], numbers_of(rows.score)[index], sign)}
    for name, (said, score, _) in rows.votes.items():
        learners[name] = Outcome(both, read_values(model, said)[index], numbers_of(score)[index], sign)
    fates = np.flatnonzero(rows.status != CORRECTED)
    loss = losses(model, label, prediction)
    return Results(
        index, event_time, first, delay_s, learners, slices, fates, rows.order, label, rows.label, loss,
        rows.delay_s, rows.values, rows.version,
    )  # fmt: skip


def losses(model: Model, label: Floats, prediction: Floats) -> Floats:
    """(n,) error 0/1, or absolute error; NaN where label or prediction is missing."""
    if model.task == "regression":
        return np.asarray(np.abs(prediction - label))
    return np.where(np.isnan(label) | np.isnan(prediction), np.nan, label != prediction)


def numbers_of(column: Column) -> Floats:
    return column.values if column.words is None else np.full(len(column.values), np.nan)


def read_values(model: Model, column: Column) -> Floats:
    """Values as numbers; classes as 48 bits of their word's hash, which is all that comparing them needs."""
    if model.task != "multiclass":
        return numbers_of(column)
    text = columns.as_text(column)
    table = np.array([*(float(xxhash.xxh3_64_intdigest(word.encode()) >> 16) for word in text.words or ()), np.nan])
    return np.asarray(table[text.values])


def add_performance(performance: Performance, model: Model, rows: OutcomeRows, results: Results) -> None:
    """Count outcomes into the figures of every learner and version."""
    versions = {"champion": rows.version, **{name: vote[2] for name, vote in rows.votes.items()}}
    for name, whole in results.learners.items():
        version = columns.as_text(versions[name])
        if name != "champion":
            fresh = columns.take(version, rows.status != CORRECTED)
            performance.count_events(name, columns.counts_by_word(fresh))
        names = version.words or []
        code = version.values[results.row].astype(np.int64)
        said = code >= 0  # a shadow need not have spoken of every event
        if said.any():
            performance.add(name, names, code[said], *(x[said] for x in whole))
    performance.add_sequence(results.label[results.fates])
    if model.task == "multiclass":
        _add_marginals(performance, rows)


def _add_marginals(performance: Performance, rows: OutcomeRows) -> None:
    known = columns.as_text(rows.label).values >= 0
    corrected = rows.status == CORRECTED
    said = {"champion": rows.prediction, **{name: vote[0] for name, vote in rows.votes.items()}}
    for name, prediction in said.items():
        present = known & (columns.as_text(prediction).values >= 0)
        for where, label, sign in ((present, rows.label, 1), (present & corrected, rows.previous, -1)):
            if where.any():
                labels = columns.counts_by_word(columns.take(label, where))
                predictions = columns.counts_by_word(columns.take(prediction, where))
                performance.add_marginals(name, labels, predictions, sign)
