"""References that are files (F12): what a model was trained on, as the rows that watch compares the stream with.

Owns which columns of such a file are features; refuses to know what is done with them. The `input` section says what
columns mean, where it is of the same model; a column that the file lacks (a label, an id) is not missed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from stream import limits
from stream.config import Config, Input, LabelDelay
from stream.errors import ConfigError
from stream.events import Column, Prediction, PredictionRows, Request
from stream.joining import columns
from stream.joining.rules import Rules
from stream.runtime.feed import Feed
from stream.runtime.tables import Table

ROWS_MAX: Final = 200_000
"""Rows of a reference that are read, the first of the file: more would not make its bins any finer."""


def load(config: Config) -> dict[str, PredictionRows]:
    """The rows of every reference that is a file, by model. Raises ConfigError."""
    return {
        name: _rows(config, name, Path(model.reference.file))
        for name, model in config.models.items()
        if model.reference.file is not None
    }


def _rows(config: Config, name: str, path: Path) -> PredictionRows:
    rules = Rules.of(0, name, config.models[name])
    read: list[Request | Prediction] = []
    for item in Feed(msgspec.structs.replace(config, input=_input(config, name, path)), path):
        if isinstance(item.event, (Request, Prediction)):
            read.append(item.event)
            if len(read) == ROWS_MAX:
                break
    if not read:
        raise ConfigError(str(path), [f"no rows (models.{name}.reference.file)"])
    times = np.array([event.event_time for event in read], np.float64)
    features, _, _ = columns.table([event.features for event in read], limits.FEATURES_MAX)
    tags, _, _ = columns.table([event.tags for event in read], limits.FEATURES_MAX)
    said = [rules.read(event.prediction) if isinstance(event, Prediction) else None for event in read]
    scores = [event.score if isinstance(event, Prediction) else None for event in read]
    return _in_order(
        PredictionRows(
            order=times,
            event_time=times,
            features=features,
            tags=tags,
            prediction=columns.column(said) or columns.numbers([None] * len(read)),
            score=columns.numbers(scores),
            version=columns.text(["reference"] * len(read)),
        )
    )


def _input(config: Config, name: str, path: Path) -> Input:
    """How this file's columns become rows: as `input` says, as far as the file has them."""
    table = Table(path)
    table.close()
    has = set(table.columns)
    given = config.input if config.input is not None and config.input.model == name else Input(model=name)

    def known(column: str | None) -> str | None:
        return column if column in has else None

    timed = given.event_time.column is None or given.event_time.column in has
    prediction = known(given.prediction)
    # What the stream's rows do not have as features must not become features of the reference either.
    beside = [given.label, given.label_delay.column, given.event_time.column, given.prediction, given.score]
    return msgspec.structs.replace(
        given,
        prediction_id="row",
        event_time=given.event_time if timed else Input(model=name).event_time,
        label=None,
        label_delay=LabelDelay(events=0),
        prediction=prediction,
        score=known(given.score) if prediction else None,
        tags=[tag for tag in given.tags if tag in has],
        drop=[*given.drop, *(column for column in beside if column), given.prediction_id],
    )


def _in_order(rows: PredictionRows) -> PredictionRows:
    """By event time: a training file is often shuffled."""
    by_time = np.argsort(rows.event_time, kind="stable")

    def sort(column: Column) -> Column:
        return msgspec.structs.replace(column, values=column.values[by_time])

    def sort_all(found: Mapping[str, Column]) -> dict[str, Column]:
        return {name: sort(column) for name, column in found.items()}

    return PredictionRows(
        order=rows.order[by_time],
        event_time=rows.event_time[by_time],
        features=sort_all(rows.features),
        tags=sort_all(rows.tags),
        prediction=sort(rows.prediction),
        score=sort(rows.score),
        version=sort(rows.version),
    )
