"""Columns and rows: cutting, joining and reading them. Owns how words become numbers; refuses to know what they mean.

A text column carries its own words, so columns from different chunks are joined by word, never by code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.events import Column, OutcomeRows, PredictionRows

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WEEK_S: Final = 604_800.0

Span = tuple[int, int]
"""Rows [start, end) of a chunk."""


def number_word(value: float) -> str:
    """A number as a category: 1.0 reads `1`.

    >>> number_word(3.0), number_word(0.25)
    ('3', '0.25')
    """
    return repr(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def as_text(column: Column) -> Column:
    """The column as codes into words; numbers become their shortest text."""
    if column.words is not None:
        return column
    known = ~np.isnan(column.values)
    distinct, codes = np.unique(column.values[known], return_inverse=True)
    values = np.full(len(column.values), -1, np.int32)
    values[known] = codes
    return Column(values, [number_word(float(value)) for value in distinct])


def join_columns(columns: Sequence[Column | None], spans: Sequence[Span]) -> Column:
    """Spans of several columns one after the other; an absent column is missing values."""
    if all(column is None or column.words is None for column in columns):
        parts = [
            np.full(end - start, np.nan) if column is None else column.values[start:end]
            for column, (start, end) in zip(columns, spans, strict=True)
        ]
        return Column(np.concatenate(parts) if len(parts) > 1 else parts[0])
    if len(columns) == 1 and columns[0] is not None:
        (start, end), only = spans[0], columns[0]
        return Column(only.values[start:end], only.words)
    index: dict[str, int] = {}
    table: list[int] = []
    parts, offsets, lengths = [], [], []
    for column, (start, end) in zip(columns, spans, strict=True):
        lengths.append(end - start)
        offsets.append(len(table))
        if column is None or (column.words is None and bool(np.isnan(column.values[start:end]).all())):
            parts.append(np.full(end - start, -1, np.int32))
            continue
        text = as_text(column)
        table += [index.setdefault(word, len(index)) for word in text.words or ()]
        parts.append(text.values[start:end])
    codes = np.concatenate(parts)
    # Every column's codes, moved to its place in one table, whose last entry answers -1: missing stays missing.
    places = np.where(codes < 0, len(table), codes + np.repeat(offsets, lengths))
    return Column(np.array([*table, -1], np.int32)[places], list(index))


def take(column: Column, rows: Ints | NDArray[np.bool_] | slice) -> Column:
    return Column(column.values[rows], column.words)


def lookup(column: Column, index: Mapping[str, int], other: int) -> Ints:
    """Each row's number in `index` by its word; `other` for words that are not in it, -1 where missing."""
    text = as_text(column)
    table = np.array([index.get(word, other) for word in text.words or ()] + [-1], np.int64)
    return np.asarray(table[text.values])


def present(column: Column) -> int:
    """How many rows have a value."""
    known = column.values >= 0 if column.words is not None else ~np.isnan(column.values)
    return int(known.sum())


def counts_by_word(column: Column) -> dict[str, int]:
    text = as_text(column)
    known = text.values[text.values >= 0]
    counts = np.bincount(known, minlength=len(text.words or ()))
    return {word: int(n) for word, n in zip(text.words or (), counts, strict=True) if n}


def _names(dicts: Sequence[Mapping[str, object]]) -> list[str]:
    return list(dict.fromkeys(name for one in dicts for name in one))


def join_predictions(chunks: Sequence[PredictionRows], spans: Sequence[Span]) -> PredictionRows:
    """Rows of several chunks in the order of `order`; equal ones stay as given."""

    def arrays(name: str) -> Floats:
        return np.concatenate([getattr(c, name)[a:b] for c, (a, b) in zip(chunks, spans, strict=True)])

    def column(name: str) -> Column:
        return join_columns([getattr(c, name) for c in chunks], spans)

    def columns(name: str) -> dict[str, Column]:
        dicts = [getattr(c, name) for c in chunks]
        return {key: join_columns([one.get(key) for one in dicts], spans) for key in _names(dicts)}

    joined = PredictionRows(
        order=arrays("order"),
        event_time=arrays("event_time"),
        features=columns("features"),
        tags=columns("tags"),
        prediction=column("prediction"),
        score=column("score"),
        version=column("version"),
    )
    if (joined.order[1:] >= joined.order[:-1]).all():
        return joined
    return select_predictions(joined, np.argsort(joined.order, kind="stable"))


def select_predictions(rows: PredictionRows, index: Ints | NDArray[np.bool_] | slice) -> PredictionRows:
    return PredictionRows(
        order=rows.order[index],
        event_time=rows.event_time[index],
        features={name: take(column, index) for name, column in rows.features.items()},
        tags={name: take(column, index) for name, column in rows.tags.items()},
        prediction=take(rows.prediction, index),
        score=take(rows.score, index),
        version=take(rows.version, index),
    )


def join_outcomes(chunks: Sequence[OutcomeRows], spans: Sequence[Span]) -> OutcomeRows:
    """Rows of several chunks in the order of `order`; equal ones stay as given."""

    def arrays(name: str) -> Floats:
        return np.concatenate([getattr(c, name)[a:b] for c, (a, b) in zip(chunks, spans, strict=True)])

    def column(name: str) -> Column:
        return join_columns([getattr(c, name) for c in chunks], spans)

    votes = [c.votes for c in chunks]

    def by_name(name: str) -> dict[str, Column]:
        dicts = [getattr(c, name) for c in chunks]
        return {key: join_columns([one.get(key) for one in dicts], spans) for key in _names(dicts)}

    def vote(learner: str, i: int) -> Column:
        return join_columns([one[learner][i] if learner in one else None for one in votes], spans)

    joined = OutcomeRows(
        order=arrays("order"),
        event_time=arrays("event_time"),
        delay_s=arrays("delay_s"),
        status=arrays("status"),
        label=column("label"),
        previous=column("previous"),
        prediction=column("prediction"),
        score=column("score"),
        version=column("version"),
        slices=by_name("slices"),
        votes={name: (vote(name, 0), vote(name, 1), vote(name, 2)) for name in _names(votes)},
        values=by_name("values"),
        **_join_samples(chunks, spans),  # type: ignore[arg-type]
    )
    if (joined.order[1:] >= joined.order[:-1]).all():
        return joined
    return select_outcomes(joined, np.argsort(joined.order, kind="stable"))


def _join_samples(chunks: Sequence[OutcomeRows], spans: Sequence[Span]) -> dict[str, object]:
    """The samples of several chunks, whole, and each row's place in them."""
    sizes = [max((len(column.values) for column in c.sample.values()), default=0) for c in chunks]
    places, start = [], 0
    for c, (a, b), size in zip(chunks, spans, sizes, strict=True):
        own = c.sampled[a:b] if len(c.sampled) else np.full(b - a, -1, np.int32)
        places.append(np.where(own >= 0, own + start, -1).astype(np.int32))
        start += size
    dicts = [c.sample for c in chunks]
    whole = [(0, size) for size in sizes]
    sample = {key: join_columns([one.get(key) for one in dicts], whole) for key in _names(dicts)}
    return {"sample": sample, "sampled": np.concatenate(places)}


def select_outcomes(rows: OutcomeRows, index: Ints | NDArray[np.bool_] | slice) -> OutcomeRows:
    return OutcomeRows(
        order=rows.order[index],
        event_time=rows.event_time[index],
        delay_s=rows.delay_s[index],
        status=rows.status[index],
        label=take(rows.label, index),
        previous=take(rows.previous, index),
        prediction=take(rows.prediction, index),
        score=take(rows.score, index),
        version=take(rows.version, index),
        slices={name: take(column, index) for name, column in rows.slices.items()},
        votes={k: (take(a, index), take(b, index), take(c, index)) for k, (a, b, c) in rows.votes.items()},
        values={name: take(column, index) for name, column in rows.values.items()},
        sample=rows.sample,
        sampled=rows.sampled[index] if len(rows.sampled) else rows.sampled,
    )


def moved_before(rows: PredictionRows, first: float) -> PredictionRows:
    """A given reference must lie before the stream: one that does not is moved back by whole weeks."""
    beyond = float(rows.order[-1]) - first
    if beyond <= 0:
        return rows
    weeks = math.ceil(beyond / WEEK_S) * WEEK_S
    return msgspec.structs.replace(rows, order=rows.order - weeks, event_time=rows.event_time - weeks)
