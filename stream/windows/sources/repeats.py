"""Rows that come twice (F11): a row whose features equal, bit for bit, those of one of the rows before it.

Owns what a row's features are as one number, and which of them are remembered; refuses to know why a row was sent
again. A row is looked up by 64 bits: of 4,096 rows one in 10 ** 15 is taken for another by chance. Features that the
reference did not have do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from detectors import randomness
from detectors.constraints import number_of
from stream.events import Column, PredictionRows
from stream.windows.columns import Floats

Hashes = NDArray[np.uint64]

WINDOW_MAX: Final = 4_096
"""Rows that are remembered: what is sent again by mistake comes soon, or as a batch of a few thousand. They take
60 to 120 kB of state."""

WINDOW_PART: Final = 4
"""A window is at most this part of the reference, so that most of the reference has a full one before it. Before it is
full fewer repeats are seen, and rows say nothing."""

WINDOW_MIN: Final = 100
"""In a smaller one repeats are too rare to have a share."""

NORMAL: Final = 0.05
"""Where more of the reference's rows repeat, they are poor in information, and repeats are nothing odd."""

SEED: Final = 1
"""Of the features' keys: the same in every run."""

MISSING: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_29, _32 = np.uint64(29), np.uint64(32)


class Repeats(msgspec.Struct):
    """`last`: the row number of each hash; those that have left the window go each time it has been filled anew."""

    names: list[str]
    keys: np.ndarray
    window: int
    row: int = 0
    last: dict[int, int] = {}

    def read(self, rows: PredictionRows) -> Floats:
        """(n,) 1 where a row repeats one of the last `window`, 0 where not, NaN where that cannot be told: the window
        is not full yet, or the row has no values. About 0.4 us a row, and 8 ns a feature."""
        known, hashes = self._hashes(rows)
        out = []
        last, row, window = self.last, self.row, self.window
        for present, key in zip(known.tolist(), hashes.tolist(), strict=True):
            if present:
                out.append(float(row - last.get(key, row - window - 1) <= window) if row >= window else np.nan)
                last[key] = row
            else:
                out.append(np.nan)
            row += 1
            if row % window == 0:
                last = {key: at for key, at in last.items() if row - at <= window}
        self.last, self.row = last, row
        return np.array(out, np.float64)

    def _hashes(self, rows: PredictionRows) -> tuple[NDArray[np.bool_], Hashes]:
        """Whether rows have any value, and what each row's features are as one number."""
        bits = np.full((len(self.names), len(rows.order)), MISSING, np.uint64)
        for j, name in enumerate(self.names):
            column = rows.features.get(name)
            if column is not None:
                bits[j] = _bits(column)
        known = (bits != MISSING).any(axis=0)
        bits ^= self.keys[:, None]
        for mix, shift in ((_MIX_1, _32), (_MIX_2, _29)):
            bits *= mix
            bits ^= bits >> shift
        return known, np.asarray(bits.sum(axis=0, dtype=np.uint64))


def learn(names: Sequence[str], rows: PredictionRows) -> Repeats | None:
    """What the reference rows show, in the order in which they came; None where repeats cannot be told from chance."""
    window = min(len(rows.order) // WINDOW_PART, WINDOW_MAX)
    if window < WINDOW_MIN or not names:
        return None
    keys = randomness.keys(SEED, list(names))
    seen = Repeats(list(names), keys, window, 0, {}).read(rows)
    judged = seen[~np.isnan(seen)]
    if not len(judged) or judged.mean() > NORMAL:
        return None
    return Repeats(list(names), keys, window)


def _bits(column: Column) -> Hashes:
    """(n,) 64 bits of each value: a number's own, or a hash of its text. A number among texts is a number, so that the
    rows around it do not matter."""
    if column.words is None:
        x = np.ascontiguousarray(column.values, np.float64)
        return np.where(np.isnan(x), MISSING, x.view(np.uint64))
    table = np.array([*map(_word_bits, column.words), MISSING], np.uint64)
    return np.asarray(table[column.values])


def _word_bits(word: str) -> np.uint64:
    x = number_of(word)
    return np.uint64(xxhash.xxh3_64_intdigest(word.encode())) if x is None else np.float64(x).view(np.uint64)
