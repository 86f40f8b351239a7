"""Slices that are found and not declared (F10): searched for among labelled rows, watched on those that come later.

Owns when the search is made and what waits for what; the search is `detectors.found_slices`'. Only outcomes that come
with their features can be placed in a found slice, so their losses are watched on that sample. What was chosen on some
rows is judged on others: the search, then a reference of rows after it, then the detectors.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors import found_slices
from detectors.contract import Rows, Stream
from detectors.found_slices import Slice
from detectors.sample import Labelled, Layout, SampleState
from stream.windows.collecting import Collected

FIRST_ROWS: Final = 1_000
"""Labelled rows with features that are searched at first, and again whenever twice as many have come, until something
is found: with fewer, only a slice of a tenth of them with twice the loss is sure."""

REFERENCE_ROWS: Final = 1_000
"""Rows after the search that say what the losses of the found slices are."""


class Proposed(msgspec.Struct):
    """A found slice: `conditions` as (column, codes, words), then what `found_slices.Slice` says of it."""

    conditions: list[tuple[str, list[int], str]]
    rows: int
    share: float
    loss: float
    excess: float

    @property
    def words(self) -> str:
        return " and ".join(words for _, _, words in self.conditions)

    @property
    def place(self) -> dict[str, str]:
        """As a declared slice is called: what follows each column's name, or the condition where it stands before."""
        return {column: words.removeprefix(f"{column} = ") for column, _, words in self.conditions}


class FoundSlices(msgspec.Struct):
    """Of one model. `slices` are empty until something is found; later rows wait for their reference to be whole."""

    looks: int = 0
    slices: list[Proposed] = []
    waiting: Collected = msgspec.field(default_factory=Collected)

    def search(self, layout: Layout, f: int, sample: SampleState) -> None:
        """Enough labelled rows may have come: look among the kept ones, by their first `f` features."""
        if self.slices or sample.seen < FIRST_ROWS << self.looks:
            return
        while sample.seen >= FIRST_ROWS << self.looks:
            self.looks += 1
        rows = sample.reservoir.rows.joined(sample.ring.rows)
        codes, loss = rows.codes[:, :f].astype(np.int32), rows.loss.astype(np.float64)
        for each in found_slices.find(layout.features[:f], layout.bins[:f], codes, loss):
            conditions = [(c.column, list(c.codes), c.words) for c in each.conditions]
            self.slices.append(Proposed(conditions, each.rows, each.share, each.loss, each.excess))

    def read(self, layout: Layout, f: int, order: NDArray[np.float64], rows: Labelled, losses: Rows) -> Rows:
        """(n, slices) losses of labelled rows, each under the slices that its row is in; `losses` holds the codes and
        values of the loss in one column."""
        names = [stream.name for stream in layout.features[:f]]
        inside = found_slices.belongs([_slice(each) for each in self.slices], names, rows.codes[:, :f].astype(np.int32))
        codes = np.where(inside, losses.codes, np.int32(-1))
        return Rows(order, codes, np.where(inside, losses.values, np.nan))

    def collect(self, rows: Rows) -> Rows | None:
        """The reference, once it is whole."""
        return self.waiting.add(rows, REFERENCE_ROWS)

    def streams(self, kind: Stream) -> list[Stream]:
        """Their losses, as streams of the kind of the loss."""
        return [Stream(f"loss[{each.words}]", kind.kind) for each in self.slices]

    def figures(self) -> list[dict[str, Any]]:
        """For people: what was found, and by how much the loss is higher there."""
        return [
            {"slice": each.words, "share": round(each.share, 4), "loss": each.loss, "excess": each.excess}
            for each in self.slices
        ]


def _slice(each: Proposed) -> Slice:
    conditions = tuple(found_slices.Condition(column, tuple(codes), words) for column, codes, words in each.conditions)
    return Slice(conditions, each.rows, each.share, each.loss, each.excess, 0.0, 0.0)
