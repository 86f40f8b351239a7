"""From a column of rows to a stream's values and codes. Owns that step for every kind of stream; refuses to know which
streams there are."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import msgspec
import numpy as np

from detectors import binning
from detectors.constraints import number_of
from detectors.contract import Bins, Kind, Stream
from stream.events import Column, PredictionRows
from stream.windows import columns
from stream.windows.columns import Floats, Ints

Codes = np.ndarray
"""(d, n) int32, filled in by `Source.read`."""


class Shown(NamedTuple):
    """What the features' streams have of some rows: (f, n) codes and values."""

    codes: Codes
    values: Floats


class Source(Protocol):
    """Some streams of a model's predictions, learned from the reference rows; an msgspec struct, as it is state."""

    @property
    def streams(self) -> list[Stream]: ...

    @property
    def bins(self) -> list[Bins]: ...

    def read(self, rows: PredictionRows, shown: Shown, values: Floats, codes: Codes) -> None:
        """Fill in (d, n) values and codes of these streams. `shown` is what the features' streams have of the rows."""


def learn_bins(stream: Stream, column: Column) -> Bins:
    """Bins of a stream from a column of reference values."""
    if stream.kind in ("rate", "loss"):
        return binning.learn_bins(stream, np.zeros(0))
    if stream.kind != "categorical":
        return binning.learn_bins(stream, column.values)
    text = columns.as_text(column)
    words = text.words or []
    return binning.learn_bins(stream, [words[k] if k >= 0 else None for k in text.values])


def read(column: Column | None, kind: Kind, bins: Bins, n: int) -> tuple[Floats, Floats | Ints]:
    """(n,) values and codes of one stream. Text where numbers belong counts as missing; numbers that shared a chunk
    with text have become words on the way and are numbers again, so it does not matter how rows were cut."""
    if column is None:
        return np.full(n, np.nan), np.full(n, -1)
    if kind != "categorical":
        column = as_numbers(column)
    if kind == "categorical":
        index = {word: k for k, word in enumerate(bins.categories)}
        codes = columns.lookup(column, index, len(bins.categories))
        return np.where(codes >= 0, codes, np.nan), codes
    if kind in ("rate", "loss"):
        known = ~np.isnan(column.values)
        return column.values, np.where(known, column.values > 0.5, -1)
    return column.values, np.asarray(binning.code(bins, column.values), np.int64)


def as_numbers(column: Column) -> Column:
    """The column as numbers; words that are none are missing."""
    if column.words is None:
        return column
    table = np.array([*(number_of(word) for word in column.words), None], np.float64)
    return Column(np.asarray(table[column.values]))


def weighted(streams: list[Stream], share: float) -> list[Stream]:
    """The streams with weights that add up to `share`, in the same proportions."""
    total = sum(stream.weight for stream in streams)
    return [msgspec.structs.replace(stream, weight=share * stream.weight / total) for stream in streams]
