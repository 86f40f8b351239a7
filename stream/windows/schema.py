"""What is watched of a model: which streams there are, and how rows become them.

Owns the order of the streams and the groups' shares of the budget; what each stream is says its file in `sources`.
Everything is learned from the reference rows: kinds, bins, and the slices that are busy enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

import msgspec
import numpy as np

from detectors.constraints import Constraint
from detectors.contract import Bins, Rows, Stream
from stream import limits
from stream.config import Model
from stream.events import Column, PredictionRows
from stream.windows import columns
from stream.windows.columns import Ints
from stream.windows.sources import features, outputs, quality, strange, together
from stream.windows.sources.features import Features
from stream.windows.sources.outputs import Outputs
from stream.windows.sources.quality import Quality
from stream.windows.sources.reading import Shown, Source
from stream.windows.sources.strange import Strange
from stream.windows.sources.together import Together

SHARES: Final = {"predictions": 0.50, "outcomes": 0.25, "slices": 0.20, "fairness": 0.05}
"""Parts of the accepted false alarms: what predictions show is watched together, then losses and labels, then losses by
slice, then gaps between groups. Where no groups are declared, the outcomes have their part; where no slice is declared,
all others have its part."""

FOUND_SHARE: Final = 0.10
"""Beside them, where slices are looked for: the losses of those that were found. All others then have less."""

TOGETHER_SEED: Final = 1
"""Of the pairs that are drawn at random where there are too many: the same in every run."""

STRANGE_SEED: Final = 1
"""Of the numbers that break ties between rows which are equally strange: the same in every run."""

SLICE: Final = "slices/"
"""What the name of a group begins with that watches the losses of one declared slice; its columns follow."""

Part: TypeAlias = Together | Outputs | Quality | Strange


def share_of(model: Model, group: str) -> float:
    """A group's part of the accepted false alarms; nothing is kept back for what is not declared. Declared slices have
    equal parts of theirs."""
    if group.startswith(SLICE):
        return share_of(model, "slices") / len(model.sliced)
    parts = dict(SHARES)
    if model.fairness is None:
        parts["outcomes"] += parts.pop("fairness")
    if not model.sliced:
        del parts["slices"]
    if model.find_slices:
        parts["found"] = FOUND_SHARE
    return parts[group] / sum(parts.values())


class Slices(msgspec.Struct):
    """One declared slice: its columns, and its values of the reference, the busiest first."""

    names: list[str]
    values: list[list[str]]

    def label(self, i: int) -> dict[str, str]:
        return dict(zip(self.names, self.values[i], strict=True))

    @property
    def labels(self) -> list[dict[str, str]]:
        return [self.label(i) for i in range(len(self.values))]


def group_of(slices: Slices) -> str:
    """The name of the group that watches a declared slice's losses."""
    return SLICE + ",".join(slices.names)


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
    """Streams of the predictions, source by source, and how they are read from rows; the features come first."""

    features: Features
    parts: list[Part]
    classes: list[str]
    slices: list[Slices]
    labels: list[dict[str, str]]
    """Each slice value in words, over all declared slices, in the order of their streams."""

    @property
    def streams(self) -> list[Stream]:
        return [stream for source in (self.features, *self.parts) for stream in source.streams]

    @property
    def quality(self) -> Quality:
        return next(part for part in self.parts if isinstance(part, Quality))

    @property
    def strange(self) -> Strange:
        return next(part for part in self.parts if isinstance(part, Strange))

    @property
    def bins(self) -> list[Bins]:
        return [bins for source in (self.features, *self.parts) for bins in source.bins]


def learn(model: Model, rows: PredictionRows, declared: Mapping[str, Constraint] | None = None) -> Schema:
    """What the reference rows show. `declared`: constraints by feature, where a person has written them."""
    found = Schema(features.learn(rows), [], [], [], [])
    f, read = len(found.features.names), read_predictions(found, rows)
    shown = Shown(read.codes.T[:f], read.values.T[:f])
    hanging = together.learn(found.features, shown.codes, TOGETHER_SEED)
    found.parts = [
        hanging,
        outputs.learn(model, rows),
        # A training file is often shuffled, so how its rows repeat says nothing of the stream's.
        quality.learn(found.features, rows, declared, ordered=model.reference.file is None),
        strange.learn(found.features, shown, hanging.learned, STRANGE_SEED),
    ]
    found.classes = sorted(columns.counts_by_word(rows.prediction)) if model.task == "multiclass" else []
    found.slices = [learn_slices(names, rows) for names in model.sliced]
    found.labels = [label for each in found.slices for label in each.labels]
    return found


def read_predictions(schema: Schema, rows: PredictionRows) -> Rows:
    """(n, d) codes and values of the streams of the predictions."""
    sources: list[Source] = [schema.features, *schema.parts]
    d, n, f = sum(len(source.streams) for source in sources), len(rows.order), len(schema.features.names)
    codes = np.empty((d, n), np.int32)
    values = np.empty((d, n))
    start = 0
    for source in sources:
        end = start + len(source.streams)
        source.read(rows, Shown(codes[:f], values[:f]), values[start:end], codes[start:end])
        start = end
    return Rows(rows.order, codes.T, values.T)


def learn_slices(names: list[str], rows: PredictionRows) -> Slices:
    """A declared slice with its busiest values among the rows."""
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
