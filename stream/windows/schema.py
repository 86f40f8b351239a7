"""What is watched of a model: which streams there are, and how rows become them.

Owns the naming of streams and the shares of the budget; refuses to know how streams are judged. Everything is learned
from the reference rows: kinds, bins, and the slices that are busy enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from detectors import binning
from detectors.contract import Bins, Kind, Rows, Stream
from stream import limits
from stream.config import Model
from stream.events import Column, PredictionRows
from stream.windows import columns
from stream.windows.columns import Floats, Ints
from stream.windows.results import Results

SHARES: Final = {"predictions": 0.50, "outcomes": 0.30, "slices": 0.20}
"""Parts of the accepted false alarms: features .40 and outputs .10 are watched together, then losses and labels, then
losses by slice. Where no slice is declared, the others have its part."""

OUTPUTS_SHARE: Final = 0.20
"""Of the predictions' part, what scores and predictions have."""

MISSING_WEIGHT: Final = 0.25
"""A missing share changes grossly or not at all, so it needs less of the budget than the values."""

LOSS_WEIGHT: Final = 3.0
"""Of a loss, against the label."""


class Slices(msgspec.Struct):
    """One declared slice: its columns, and its values of the reference, the busiest first."""

    names: list[str]
    values: list[list[str]]

    def label(self, i: int) -> dict[str, str]:
        return dict(zip(self.names, self.values[i], strict=True))


class SliceIndex:
    """A declared slice laid out for looking rows up: crossed slices have many combinations, of which few are watched,
    so the combinations are searched and not tabulated."""

    def __init__(self, slices: Slices) -> None:
        self.names = slices.names
        columns_of = range(len(slices.names))
        self.words = [dict.fromkeys(value[k] for value in slices.values) for k in columns_of]
        self.numbers = [{word: i for i, word in enumerate(words)} for words in self.words]
        places = np.zeros(len(slices.values), np.int64)
        for k, numbers in enumerate(self.numbers):
            places = places * len(numbers) + np.array([numbers[value[k]] for value in slices.values], np.int64)
        self.rank = np.argsort(places)
        self.places = places[self.rank]

    def codes(self, found: dict[str, Column], rows: int) -> Ints:
        """(rows,) number of each row's value, -1 where it is missing or not among the busiest."""
        code = np.zeros(rows, np.int64)
        known = np.ones(rows, np.bool_)
        if not len(self.places) or any(name not in found for name in self.names):
            return np.full(rows, -1, np.int64)
        for name, numbers in zip(self.names, self.numbers, strict=True):
            part = columns.lookup(found[name], numbers, -1)
            known &= part >= 0
            code = code * len(numbers) + np.maximum(part, 0)
        place = np.minimum(np.searchsorted(self.places, code), len(self.places) - 1)
        return np.where(known & (self.places[place] == code), self.rank[place], -1)


class Schema(msgspec.Struct):
    """Streams of the predictions (features, missing shares, score, prediction) and how they are read from rows."""

    features: list[str]
    streams: list[Stream]
    bins: list[Bins]
    classes: list[str]
    slices: list[Slices]
    labels: list[dict[str, str]]
    """Each slice value in words, over all declared slices, in the order of their streams."""


def learn(model: Model, rows: PredictionRows) -> Schema:
    """What the reference rows show."""
    features = sorted(rows.features)
    kinds: list[Kind] = ["numeric" if rows.features[name].words is None else "categorical" for name in features]
    streams = [Stream(f"feature/{name}", kind) for name, kind in zip(features, kinds, strict=True)]
    streams += [Stream(f"missing/{name}", "rate", MISSING_WEIGHT) for name in features]
    weight = max(len(features), 1) * (1 + MISSING_WEIGHT) * OUTPUTS_SHARE / (1 - OUTPUTS_SHARE)
    scored = rows.score.words is None and not np.isnan(rows.score.values).all()
    if scored:
        streams.append(Stream("score", "numeric", weight / 2))
    if columns.present(rows.prediction) or not scored:  # a training file need not hold predictions
        streams.append(Stream("prediction", prediction_kind(model), weight / 2 if scored else weight))
    bins = [_learn_bins(stream, _source(stream, rows)) for stream in streams]
    counted = columns.counts_by_word(rows.prediction) if model.task == "multiclass" else {}
    slices = [_learn_slices([s] if isinstance(s, str) else s, rows) for s in model.slices]
    labels = [each.label(i) for each in slices for i in range(len(each.values))]
    return Schema(features, streams, bins, sorted(counted), slices, labels)


def prediction_kind(model: Model) -> Kind:
    kinds: dict[str, Kind] = {"binary": "rate", "multiclass": "categorical", "regression": "numeric"}
    return kinds[model.task]


def _source(stream: Stream, rows: PredictionRows) -> Column:
    group, _, name = stream.name.partition("/")
    if group == "feature" or group == "missing":
        return rows.features[name]
    if group == "score":
        return rows.score
    return rows.prediction


def _learn_bins(stream: Stream, column: Column) -> Bins:
    if stream.kind in ("rate", "loss"):
        return binning.learn_bins(stream, np.zeros(0))
    return learn_bins(stream, column)


def learn_bins(stream: Stream, column: Column) -> Bins:
    """Bins of a stream from a column of reference values."""
    if stream.kind != "categorical":
        return binning.learn_bins(stream, column.values)
    text = columns.as_text(column)
    words = text.words or []
    return binning.learn_bins(stream, [words[k] if k >= 0 else None for k in text.values])


def _learn_slices(names: list[str], rows: PredictionRows) -> Slices:
    found = slice_columns(rows)
    present = [columns.as_text(found[name]) for name in names if name in found]
    if len(present) < len(names):
        return Slices(names, [])
    known = np.all([column.values >= 0 for column in present], axis=0)
    table = np.stack([column.values[known] for column in present], axis=1)
    distinct, counts = np.unique(table, axis=0, return_counts=True)
    words = [column.words or [] for column in present]
    values = [[words[k][code] for k, code in enumerate(row)] for row in distinct]
    busiest = sorted(range(len(values)), key=lambda i: (-int(counts[i]), values[i]))[: limits.SLICES_MAX]
    return Slices(names, [values[i] for i in busiest])


def slice_columns(rows: PredictionRows) -> dict[str, Column]:
    """Where slices come from: features first, then tags."""
    return {**rows.tags, **rows.features}


def read_predictions(schema: Schema, rows: PredictionRows) -> Rows:
    """(n, d) codes and values of the streams of the predictions."""
    n, d, f = len(rows.order), len(schema.streams), len(schema.features)
    codes = np.empty((d, n), np.int32)
    values = np.empty((d, n))
    for j, stream in enumerate(schema.streams):
        if j < f:
            values[j], codes[j] = read(rows.features.get(schema.features[j]), stream.kind, schema.bins[j], n)
        elif j < 2 * f:
            missing = codes[j - f] < 0
            values[j], codes[j] = missing, missing
        elif stream.name == "score":
            values[j], codes[j] = read(rows.score, stream.kind, schema.bins[j], n)
        else:
            values[j], codes[j] = read(rows.prediction, stream.kind, schema.bins[j], n)
    return Rows(rows.order, codes.T, values.T)


def read(column: Column | None, kind: Kind, bins: Bins, n: int) -> tuple[Floats, Floats | Ints]:
    """(n,) values and codes of one stream. Text where numbers belong counts as missing."""
    if column is None or (kind != "categorical" and column.words is not None):
        return np.full(n, np.nan), np.full(n, -1)
    if kind == "categorical":
        index = {word: k for k, word in enumerate(bins.categories)}
        codes = columns.lookup(column, index, len(bins.categories))
        return np.where(codes >= 0, codes, np.nan), codes
    if kind in ("rate", "loss"):
        known = ~np.isnan(column.values)
        return column.values, np.where(known, column.values > 0.5, -1)
    return column.values, np.asarray(binning.code(bins, column.values), np.int64)


class Outcomes(msgspec.Struct):
    """Streams of the outcomes (label, loss) and of the losses by slice; bins are learned from the first outcomes."""

    streams: list[Stream]
    bins: list[Bins]
    slice_streams: list[Stream]
    slice_bins: list[Bins]


def learn_outcomes(model: Model, schema: Schema, results: Results) -> Outcomes:
    """What the first outcomes show."""
    kind: Kind = "numeric" if model.task == "regression" else "loss"
    streams = [Stream("label", prediction_kind(model)), Stream("loss", kind, LOSS_WEIGHT)]
    label, loss = _label_and_loss(model.task, results)
    bins = [_learn_bins(streams[0], label), _learn_bins(streams[1], loss)]
    names = [",".join(f"{name}={value}" for name, value in each.items()) for each in schema.labels]
    by_slice = [Stream(f"loss[{name}]", kind) for name in names]
    return Outcomes(streams, bins, by_slice, [bins[1]] * len(by_slice))


def _label_and_loss(task: str, results: Results) -> tuple[Column, Column]:
    label = results.words if task == "multiclass" else Column(results.label)
    return columns.take(label, results.fresh), Column(results.loss[results.fresh])


def read_outcomes(found: Outcomes, task: str, results: Results) -> Rows:
    """(n, 2) codes and values of label and loss, of the n rows whose label is new."""
    n = len(results.fresh)
    codes = np.empty((2, n), np.int32)
    values = np.empty((2, n))
    for j, column in enumerate(_label_and_loss(task, results)):
        values[j], codes[j] = read(column, found.streams[j].kind, found.bins[j], n)
    return Rows(results.order[results.fresh], codes.T, values.T)


def read_slices(total: int, coded: Sequence[tuple[int, Ints]], outcomes: Rows, results: Results) -> Rows:
    """(n, `total`) losses, each under the slices that its row belongs to; `coded` holds, for every declared slice,
    where its values begin and each row's value."""
    n = len(outcomes)
    codes = np.full((total, n), -1, np.int32)
    values = np.full((total, n), np.nan)
    for start, code in coded:
        k = code[results.fresh]
        mine = np.flatnonzero(k >= 0)
        codes[start + k[mine], mine] = outcomes.codes[mine, 1]
        values[start + k[mine], mine] = outcomes.values[mine, 1]
    return Rows(outcomes.time_s, codes.T, values.T)
