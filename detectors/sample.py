"""Labelled rows that are kept to explain an alarm: a uniform sample of the past and the newest rows as they came.

Owns which rows are kept and how many; refuses to know what they are asked. A row goes to the ring; when newer rows push
it out, it competes for the reservoir, where the rows with the smallest keyed numbers stay (bottom-k sampling). So what
is held depends on the rows and their order, never on how they were cut into calls.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors import randomness, state
from detectors.contract import Bins, Stream

Floats = NDArray[np.float64]

RESERVOIR_ROWS: Final = 2_000
"""Of the past: the standard error of a loss of 0.2 is below one point, which is less than an alert is raised for."""

RING_ROWS: Final = 4_000
"""Of the newest: a change is named within some hundred to some thousand rows; what began earlier is seen in part."""

PROPORTION_ROWS_MIN: Final = 200
"""Fewer earlier rows than this compare worse than rows of other times of the week."""

VERSION: Final = 1


class Layout(NamedTuple):
    """What the columns of labelled rows mean. `slices` holds, for every declared slice, the names of its values."""

    features: tuple[Stream, ...]
    bins: tuple[Bins, ...]
    label: Stream
    label_bins: Bins
    slices: tuple[tuple[str, ...], ...] = ()


class Labelled(msgspec.Struct, frozen=True):
    """n labelled rows of f features and s declared slices, in order of time.

    time_s: (n,) seconds. codes: (n, f) bins, -1 missing. slices: (n, s) place of each slice's value, -1 none. label:
    (n,) bin of the label. loss: (n,). delay_s: (n,) from prediction to label.
    """

    time_s: NDArray[np.float64]
    codes: NDArray[np.int16]
    slices: NDArray[np.int16]
    label: NDArray[np.int16]
    loss: NDArray[np.float32]
    delay_s: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.time_s)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_] | slice) -> Labelled:
        return Labelled(
            self.time_s[rows], self.codes[rows], self.slices[rows], self.label[rows], self.loss[rows],
            self.delay_s[rows],
        )  # fmt: skip

    def joined(self, other: Labelled) -> Labelled:
        return Labelled(
            np.concatenate([self.time_s, other.time_s]),
            np.concatenate([self.codes, other.codes]),
            np.concatenate([self.slices, other.slices]),
            np.concatenate([self.label, other.label]),
            np.concatenate([self.loss, other.loss]),
            np.concatenate([self.delay_s, other.delay_s]),
        )


class Kept(msgspec.Struct, frozen=True):
    """Rows, and the number of each among all that ever came."""

    number: NDArray[np.int64]
    rows: Labelled

    def take(self, chosen: NDArray[np.intp] | slice) -> Kept:
        return Kept(self.number[chosen], self.rows.take(chosen))

    def joined(self, other: Kept) -> Kept:
        return Kept(np.concatenate([self.number, other.number]), self.rows.joined(other.rows))


class SampleState(msgspec.Struct):
    version: int
    key: int
    seen: int
    reservoir: Kept
    ring: Kept
    reservoir_rows: int = RESERVOIR_ROWS
    ring_rows: int = RING_ROWS


class Sample:
    """Of one model. `add` is the only mutator."""

    def __init__(
        self, features: int, slices: int, seed: int, name: str = "", reservoir_rows: int = RESERVOIR_ROWS,
        ring_rows: int = RING_ROWS,
    ) -> None:  # fmt: skip
        nothing = Kept(np.zeros(0, np.int64), empty(features, slices))
        key = randomness.key(seed, "sample", name)
        self.state = SampleState(VERSION, key, 0, nothing, nothing, reservoir_rows, ring_rows)

    def __len__(self) -> int:
        return len(self.state.reservoir.number) + len(self.state.ring.number)

    def add(self, rows: Labelled) -> None:
        """Take the next labelled rows."""
        held = self.state
        number = np.arange(held.seen, held.seen + len(rows), dtype=np.int64)
        held.seen += len(rows)
        whole = held.ring.joined(Kept(number, narrow(rows)))
        leaving = max(len(whole.number) - held.ring_rows, 0)
        held.ring = whole.take(slice(leaving, None))
        if leaving:
            self._retire(whole.take(slice(0, leaving)))

    def _retire(self, leaving: Kept) -> None:
        """Rows that are no longer new compete for the reservoir."""
        whole = self.state.reservoir.joined(leaving)
        if len(whole.number) > self.state.reservoir_rows:
            chosen = np.argsort(priorities(self.state.key, whole.number), kind="stable")
            whole = whole.take(np.sort(chosen[: self.state.reservoir_rows]))
        self.state.reservoir = whole

    def sides(self, before_s: float, since_s: float, by_label: bool = False) -> tuple[Labelled, Labelled]:
        """Rows before the first moment, at most RESERVOIR_ROWS + RING_ROWS, and rows of the ring since the second: what
        lies between may belong to either and is left out. The moments are those of predictions, or of their labels."""
        old, new = self.state.reservoir.rows, self.state.ring.rows
        before = old.joined(new)
        was, now = ((x.time_s + x.delay_s if by_label else x.time_s) for x in (before, new))
        return before.take(was < before_s), new.take(now >= since_s)

    def rows_since(self, since_s: float, by_label: bool = False) -> int:
        """How many rows the later side of `sides` has."""
        new = self.state.ring.rows
        return int((new.time_s + (new.delay_s if by_label else 0.0) >= since_s).sum())

    def snapshot(self) -> bytes:
        return state.pack(self.state)

    def restore(self, saved: bytes) -> None:
        self.state = state.unpack(SampleState, VERSION, saved)


def in_proportion(before: Labelled, cell_before: NDArray[np.int64], cell_after: NDArray[np.int64]) -> Labelled:
    """Earlier rows thinned, evenly in time, to the proportions of the later rows' cells (times of the week, say): else
    an afternoon compared with whole weeks has other inputs, whatever else happened. All of them where too few rows
    would be left."""
    cells = max(int(cell_before.max(initial=0)), int(cell_after.max(initial=0))) + 1
    held, wanted = (np.bincount(cell, minlength=cells) for cell in (cell_before, cell_after))
    rate = np.where(held > 0, wanted / np.maximum(held, 1), 0.0)
    if not rate.any():
        return before
    quota = np.floor(held * rate / rate.max()).astype(np.int64)
    if quota.sum() < PROPORTION_ROWS_MIN:
        return before
    order = np.argsort(cell_before, kind="stable")
    own, kept = cell_before[order], np.zeros(len(before), np.bool_)
    place = np.arange(len(order)) - np.searchsorted(own, own, side="left")
    kept[order] = (place * quota[own]) // held[own] != ((place + 1) * quota[own]) // held[own]
    return before.take(kept)


def empty(features: int, slices: int) -> Labelled:
    return narrow(
        Labelled(
            np.zeros(0), np.zeros((0, features), np.int16), np.zeros((0, slices), np.int16), np.zeros(0, np.int16),
            np.zeros(0, np.float32), np.zeros(0, np.float32),
        )
    )  # fmt: skip


def narrow(rows: Labelled) -> Labelled:
    """The same in the types that are kept: a row of 20 features takes 62 bytes."""
    return Labelled(
        np.asarray(rows.time_s, np.float64),
        np.asarray(rows.codes, np.int16),
        np.asarray(rows.slices, np.int16),
        np.asarray(rows.label, np.int16),
        np.asarray(rows.loss, np.float32),
        np.asarray(rows.delay_s, np.float32),
    )


def priorities(key: int, numbers: NDArray[np.int64]) -> Floats:
    """(n,) uniform numbers, one for each row's number, whoever asks and when."""
    return randomness.of_rows(key, numbers.astype(np.float64))
