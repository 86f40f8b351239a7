"""Features as streams: numbers, categories, lengths of free text, and the share of each that is missing (F01).

Owns what kind a feature is; refuses to know how streams are judged. A list of numbers (an embedding) has become plain
numbers in the join (`stream.joining.columns`), and comes here as such.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np

from detectors import binning
from detectors.contract import Bins, Kind, Stream
from stream.events import Column, PredictionRows
from stream.windows import columns
from stream.windows.columns import Floats
from stream.windows.sources.reading import Codes, Shown, as_numbers, learn_bins, read, weighted

SHARE: Final = 0.52
"""Of the predictions' part of the budget."""

MISSING_WEIGHT: Final = 0.25
"""A missing share changes grossly or not at all, so it needs less of the budget than the values."""

NUMBERS_SHARE: Final = 0.9
"""A feature of which so many values are numbers is one of numbers."""

TEXT_DISTINCT: Final = 0.5
TEXT_CHARS: Final = 16
"""Words of which more than half are different, and that are so long on average, are free text: its categories say
nothing, its length does."""


class Features(msgspec.Struct, tag="features"):
    """f features: `streams` are their values, then their missing shares; `texts` those watched by their length."""

    names: list[str]
    texts: list[str]
    streams: list[Stream]
    bins: list[Bins]

    def read(self, rows: PredictionRows, shown: Shown, values: Floats, codes: Codes) -> None:
        """As `Source.read`; `shown` is the upper halves of `codes` and `values`."""
        self._fill(rows.features, len(rows.order), values, codes)
        values[len(self.names) :] = codes[len(self.names) :] = shown.codes < 0

    @property
    def named(self) -> tuple[Stream, ...]:
        """The streams of the values, under the features' own names."""
        return tuple(msgspec.structs.replace(self.streams[j], name=name) for j, name in enumerate(self.names))

    def codes(self, found: Mapping[str, Column], n: int) -> Codes:
        """(f, n) codes of the values in these columns."""
        codes, values = np.empty((len(self.names), n), np.int32), np.empty((len(self.names), n))
        self._fill(found, n, values, codes)
        return codes

    def _fill(self, found: Mapping[str, Column], n: int, values: Floats, codes: Codes) -> None:
        for j, name in enumerate(self.names):
            column = found.get(name)
            if column is not None and name in self.texts:
                column = lengths(column)
            values[j], codes[j] = read(column, self.streams[j].kind, self.bins[j], n)


def learn(rows: PredictionRows) -> Features:
    """What the reference rows show."""
    names = sorted(rows.features)
    found = {name: settled(column) for name, column in rows.features.items()}
    texts = [name for name in names if is_free_text(found[name])]
    streams, bins = [], []
    for name in names:
        column = found[name]
        kind: Kind = "numeric" if column.words is None or name in texts else "categorical"
        stream = Stream(f"length/{name}" if name in texts else f"feature/{name}", kind)
        streams.append(stream)
        bins.append(learn_bins(stream, lengths(column) if name in texts else column))
    missing = [Stream(f"missing/{name}", "rate", MISSING_WEIGHT) for name in names]
    bins += [binning.learn_bins(stream, np.zeros(0)) for stream in missing]
    return Features(names, texts, weighted(streams + missing, SHARE) if names else [], bins)


def settled(column: Column) -> Column:
    """Numbers, where nearly all values are, fractions among them: a few texts there are faults, and no reason to take
    the feature for words. Whole numbers among texts may be codes of categories, and stay words."""
    if column.words is None:
        return column
    numbers = as_numbers(column)
    known = numbers.values[~np.isnan(numbers.values)]
    measured = len(known) >= NUMBERS_SHARE * columns.present(column) and bool((known % 1 != 0).any())
    return numbers if measured else column


def is_free_text(column: Column) -> bool:
    """Whether most values are long and none like the other.

    >>> is_free_text(Column(np.array([0, 1]), ["the engine made a noise", "it would not start at all"]))
    True
    >>> is_free_text(Column(np.array([0, 1]), ["red", "blue"]))
    False
    """
    known = columns.present(column)
    if column.words is None or not known:
        return False
    seen = np.unique(column.values[column.values >= 0])
    chars = sum(len(column.words[k]) for k in seen)
    return len(seen) > TEXT_DISTINCT * known and chars >= TEXT_CHARS * len(seen)


def lengths(column: Column) -> Column:
    """Characters of each text; a number in its place has the length of its shortest form."""
    text = columns.as_text(column)
    table = np.array([*(float(len(word)) for word in text.words or ()), np.nan])
    return Column(np.asarray(table[text.values]))
