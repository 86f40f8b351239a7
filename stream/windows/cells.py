"""Profiles by the quarter of the week that their rows belong to, so that an evening is compared with evenings.

Owns cells and the mixing of them; refuses to know streams. A cell is a quarter of a day of one weekday (28 in all), or
everything, where event time does not span days. A mixture has the cells' shares in the proportions of what it is
compared with, so a season that repeats every week is no difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.windows.profiles import Profile

DAY_S: Final = 86_400.0
QUARTERS: Final = 4
QUARTER_S: Final = DAY_S / QUARTERS

CELL_ROWS_MIN: Final = 100
"""A cell with fewer values of a stream is stood in for by the same quarter of all days, or else by everything."""


def cell_of(order: float, by_days: bool) -> int:
    """The cell of a moment (epoch seconds, UTC); 0 where there is only one.

    >>> cell_of(0.0, True), cell_of(0.0, False)  # a Thursday, midnight
    (12, 0)
    """
    if not by_days:
        return 0
    day = int(order // DAY_S)
    return (day + 3) % 7 * QUARTERS + int(order % DAY_S // QUARTER_S)


class Cells(msgspec.Struct):
    """Profiles of one group of streams, by cell."""

    parts: dict[int, Profile] = {}

    def add(self, cell: int, profile: Profile) -> None:
        """Count a profile in; it is copied."""
        if cell in self.parts:
            self.parts[cell].add(profile)
        else:
            self.parts[cell] = profile.merge(Profile.empty(profile.counts.shape[0], profile.counts.shape[1] - 1))

    def total(self) -> Profile:
        """All cells together; at least one must be there."""
        first, *rest = self.parts.values()
        found = first.merge(Profile.empty(first.counts.shape[0], first.counts.shape[1] - 1))
        for part in rest:
            found.add(part)
        return found

    @property
    def n(self) -> int:
        return sum(part.n for part in self.parts.values())

    def weights(self) -> dict[int, int]:
        """Rows by cell."""
        return {cell: part.n for cell, part in sorted(self.parts.items()) if part.n}

    def without(self, other: Cells) -> Cells:
        """What is left when `other`, which must be part of this, is taken away."""
        return Cells({c: part.without(other.parts[c]) if c in other.parts else part for c, part in self.parts.items()})

    def only(self, stream: int) -> Cells:
        """The same of one stream, which is then number 0."""
        one = slice(stream, stream + 1)
        return Cells(
            {
                cell: Profile(part.n, part.counts[one].copy(), part.total[one].copy(), part.squares[one].copy())
                for cell, part in self.parts.items()
            }
        )

    def replace(self, stream: int, other: Cells) -> None:
        """Make one stream what it is in `other`."""
        for cell, part in self.parts.items():
            part.clear(stream)
            if cell in other.parts:
                new = other.parts[cell]
                part.counts[stream], part.total[stream] = new.counts[stream], new.total[stream]
                part.squares[stream] = new.squares[stream]

    def mixed(self, weights: Mapping[int, int]) -> Profile:
        """The shares of the cells in the proportions of `weights`, as if counted: of so many rows as give shares with
        the same variance, 1 / sum(w^2 / n)."""
        whole = self.total()
        if len(self.parts) == 1 or not weights:
            return whole
        quarters: dict[int, Profile] = {}
        rows = float(sum(weights.values()))
        counts, total, squares = (np.zeros(x.shape) for x in (whole.counts, whole.total, whole.squares))
        spread = np.zeros(len(whole.total))
        for cell, w in weights.items():
            quarter = cell % QUARTERS
            if quarter not in quarters:
                same = Cells({c: part for c, part in self.parts.items() if c % QUARTERS == quarter})
                quarters[quarter] = same.total() if same.parts else whole
            n, shares = _shares(self.parts.get(cell), quarters[quarter], whole)
            part = w / rows
            counts += part * shares[0]
            total += part * shares[1]
            squares += part * shares[2]
            spread += part * part / n
        scale = 1.0 / spread
        return Profile(round(float(scale.max())), counts * scale[:, None], total * scale, squares * scale)


Shares = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def _shares(cell: Profile | None, quarter: Profile, whole: Profile) -> tuple[NDArray[np.float64], Shares]:
    """(d,) rows and shares of every stream from the narrowest profile that has enough values of it."""
    n = np.maximum(whole.counts.sum(1), 1).astype(np.float64)
    found = [whole.counts / n[:, None], whole.total / n, whole.squares / n]
    for part in (quarter, cell):
        if part is None:
            continue
        own = part.counts.sum(1).astype(np.float64)
        enough = part.counts[:, 1:].sum(1) >= CELL_ROWS_MIN
        rows = np.maximum(own, 1.0)
        n = np.where(enough, rows, n)
        found[0] = np.where(enough[:, None], part.counts / rows[:, None], found[0])
        found[1] = np.where(enough, part.total / rows, found[1])
        found[2] = np.where(enough, part.squares / rows, found[2])
    return n, (found[0], found[1], found[2])
