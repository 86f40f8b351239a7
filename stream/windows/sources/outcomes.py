"""What comes back from the world as streams: labels, losses, how late they are, whether they come at all, what they
are worth, and whether scores still mean what they did (F02, F04, F14, F16, F17). Losses also by slice (F10).

Rows are predictions whose fate has become known, the first time: labelled, implied or expired. Owns which streams there
are; refuses to know how they are judged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from detectors.contract import Bins, Kind, Rows, Stream
from stream.config import Model, Task
from stream.events import Column
from stream.windows import columns
from stream.windows.columns import Floats, Ints
from stream.windows.results import Results
from stream.windows.sources import meaning
from stream.windows.sources.meaning import Meaning
from stream.windows.sources.outputs import prediction_kind
from stream.windows.sources.reading import learn_bins, read

LOSS_WEIGHT: Final = 3.0
"""Against the label: a model that errs is what people want to know first."""

OPERATIONS_WEIGHT: Final = 0.25
"""Of the delay, and of the share without a label: they move grossly or not at all."""

MEANING_WEIGHT: Final = 0.5
"""Of what scores mean: much of what moves it moves the loss as well."""

LOSS, UNLABELLED = 1, 3
"""The places of the loss, and of the share without a label, among the streams."""

QUIET_PART: Final = 0.01
"""Of the horizon: no longer after the last prediction is it judged whether labels come."""


class Outcomes(msgspec.Struct):
    """Streams of the outcomes; bins are learned from the first outcomes.

    That no label comes is known a horizon after the prediction, that one does much sooner. So the share of predictions
    without a label is judged from `unlabelled_since` on, a horizon after the first one, and while predictions come:
    before, and after they have stopped, outcomes are of one kind only.
    """

    task: Task
    streams: list[Stream]
    bins: list[Bins]
    meaning: Meaning | None = None
    unlabelled_since: float = -math.inf
    quiet_s: float = math.inf

    def read(self, results: Results, last_prediction: float) -> Rows:
        """(n, d) codes and values of the rows whose fate is new."""
        n, at = len(results.fates), results.order[results.fates]
        codes = np.empty((len(self.streams), n), np.int32)
        values: Floats = np.empty((len(self.streams), n))
        for j, stream in enumerate(self.streams):
            column = column_of(self.task, stream.name, results, self.meaning)
            values[j], codes[j] = read(column, stream.kind, self.bins[j], n)
        untold = (at < self.unlabelled_since) | (at > last_prediction + self.quiet_s)
        codes[UNLABELLED, untold], values[UNLABELLED, untold] = -1, np.nan
        return Rows(at, codes.T, values.T)

    def slice_streams(self, values: Sequence[dict[str, str]]) -> list[Stream]:
        """The losses of a declared slice, by its values in words; their bins are those of the loss."""
        names = [",".join(f"{name}={value}" for name, value in each.items()) for each in values]
        return [Stream(f"loss[{name}]", self.streams[LOSS].kind) for name in names]

    def read_slice(self, code: Ints, size: int, outcomes: Rows, results: Results) -> Rows:
        """(n, size) losses of a declared slice, each under the value of its row; `code` is that of every row."""
        n, k = len(outcomes), code[results.fates]
        codes = np.full((size, n), -1, np.int32)
        values = np.full((size, n), np.nan)
        mine = np.flatnonzero(k >= 0)
        codes[k[mine], mine] = outcomes.codes[mine, LOSS]
        values[k[mine], mine] = outcomes.values[mine, LOSS]
        return Rows(outcomes.time_s, codes.T, values.T)


def learn(model: Model, results: Results, first_prediction: float) -> Outcomes:
    """What the first outcomes show."""
    kind: Kind = "numeric" if model.task == "regression" else "loss"
    streams = [
        Stream("label", prediction_kind(model)),
        Stream("loss", kind, LOSS_WEIGHT),
        Stream("delay", "numeric", OPERATIONS_WEIGHT),
        Stream("unlabelled", "rate", OPERATIONS_WEIGHT),
    ]
    worth = sorted(name for name, column in results.values.items() if column.words is None)
    streams += [Stream(f"value/{name}", "numeric", 1.0 / len(worth)) for name in worth]
    scores = meaning.learn(results) if model.task == "binary" else None
    streams += [Stream(meaning.STREAM, "numeric", MEANING_WEIGHT)] if scores else []
    bins = [learn_bins(stream, column_of(model.task, stream.name, results, scores) or NOTHING) for stream in streams]
    horizon = float(model.labels.horizon)
    return Outcomes(model.task, streams, bins, scores, first_prediction + horizon, QUIET_PART * horizon)


NOTHING: Final = Column(np.zeros(0))


def column_of(task: Task, stream: str, results: Results, scores: Meaning | None) -> Column | None:
    """The stream's column, of the rows whose fate is new."""
    fates = results.fates
    if stream == "label":
        return columns.take(results.words if task == "multiclass" else Column(results.label), fates)
    if stream == "loss":
        return Column(results.loss[fates])
    if stream == "delay":
        return Column(results.delay[fates])
    if stream == "unlabelled":
        return Column(np.isnan(results.delay[fates]).astype(np.float64))
    if stream == meaning.STREAM and scores is not None:
        return Column(meaning.column(scores, results))
    found = results.values.get(stream.removeprefix("value/"))
    return None if found is None else columns.take(found, fates)
