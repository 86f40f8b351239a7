"""What a model says as streams: its score, how sure it is, its prediction (F03). Refuses to know labels."""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from detectors import binning
from detectors.contract import Bins, Kind, Stream
from stream.config import Model, Task
from stream.events import Column, PredictionRows
from stream.windows import columns
from stream.windows.columns import Floats
from stream.windows.sources.reading import Codes, Shown, learn_bins, read, weighted

SHARE: Final = 0.20
"""Of the predictions' part of the budget."""

UNSURE_QUANTILE: Final = 0.1
"""A score that is less sure than this part of the reference's is called unsure."""

UNSURE_WEIGHT: Final = 0.5
"""The score's own stream sees most of what the share of unsure ones sees."""


class Outputs(msgspec.Struct, tag="outputs"):
    """`unsure_below`: confidence under which a score counts as unsure; -1 where the scores do not differ."""

    task: Task
    streams: list[Stream]
    bins: list[Bins]
    unsure_below: float = -1.0

    def read(self, rows: PredictionRows, shown: Shown, values: Floats, codes: Codes) -> None:
        """As `Source.read`."""
        for j, stream in enumerate(self.streams):
            values[j], codes[j] = read(self._column(stream, rows), stream.kind, self.bins[j], len(rows.order))

    def _column(self, stream: Stream, rows: PredictionRows) -> Column:
        if stream.name == "prediction":
            return rows.prediction
        if stream.name == "score" or rows.score.words is not None:
            return rows.score
        sure = confidence(self.task, rows.score.values)
        return Column(np.where(np.isnan(sure), np.nan, sure < self.unsure_below))


def learn(model: Model, rows: PredictionRows) -> Outputs:
    """What the reference rows show. A training file need not hold predictions; a model need not give scores."""
    scored = rows.score.words is None and not np.isnan(rows.score.values).all()
    found = Outputs(model.task, [], [])
    if scored:
        found.streams.append(Stream("score", "numeric"))
        sure = confidence(model.task, rows.score.values)
        sure = sure[~np.isnan(sure)]
        below = float(np.quantile(sure, UNSURE_QUANTILE)) if model.task != "regression" else -1.0
        if (sure < below).any():
            found.unsure_below = below
            found.streams.append(Stream("unsure", "rate", UNSURE_WEIGHT))
    if columns.present(rows.prediction) or not scored:
        found.streams.append(Stream("prediction", prediction_kind(model)))
    found.streams = weighted(found.streams, SHARE)
    for stream in found.streams:
        unsure = stream.name == "unsure"
        found.bins.append(
            binning.learn_bins(stream, np.zeros(0)) if unsure else learn_bins(stream, found._column(stream, rows))
        )
    return found


def prediction_kind(model: Model) -> Kind:
    kinds: dict[str, Kind] = {"binary": "rate", "multiclass": "categorical", "regression": "numeric"}
    return kinds[model.task]


def confidence(task: Task, score: Floats) -> Floats:
    """(n,) probability that the prediction is right, as the score has it."""
    return np.maximum(score, 1.0 - score) if task == "binary" else score
