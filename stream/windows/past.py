"""The recent past of a group of streams, finer the newer. Owns what is remembered and how much of it; refuses to know
why somebody asks."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from detectors.contract import Rows
from stream.windows.cells import Cells
from stream.windows.profiles import Profile

BLOCK_ROWS: Final = 256
ENTRY_S: Final = 3600.0
"""The newest entries of the past hold so many rows, or an hour."""

NEWEST: Final = 32
OLDER: Final = 72
"""Entries of the past: the newest as they are, then up to 24 to one, which is a quarter of a day where an entry is an
hour: 18 days. What is older is forgotten."""

MERGED: Final = 24


class Entry(msgspec.Struct):
    """Rows whose order lies in [start, end], all of one cell."""

    start: float
    end: float
    cell: int
    profile: Profile
    merged: int = 1


class Counted(NamedTuple):
    """Rows of a group, counted in blocks and as a whole."""

    rows: Rows
    cell: int
    blocks: list[Entry]
    whole: Profile


def count(rows: Rows, bins: int, cell: int) -> Counted:
    """Count rows (at least one, all of one cell) in blocks of BLOCK_ROWS."""
    n = len(rows)
    blocks = []
    for start in range(0, n, BLOCK_ROWS):
        end = min(start + BLOCK_ROWS, n)
        first, last = float(rows.time_s[start]), float(rows.time_s[end - 1])
        blocks.append(Entry(first, last, cell, Profile.of(rows.part(start, end), bins)))
    whole = Profile.empty(rows.codes.shape[1], bins)
    for block in blocks:
        whole.add(block.profile)
    return Counted(rows, cell, blocks, whole)


class Past(msgspec.Struct):
    """What the streams looked like lately, finer the newer; bounded, whatever the traffic."""

    newest: list[Entry] = []
    older: list[Entry] = []

    def add(self, entry: Entry) -> None:
        """Take an entry over; it must not be used elsewhere."""
        last = self.newest[-1] if self.newest else None
        near = last is not None and last.cell == entry.cell and entry.end - last.start <= ENTRY_S
        if last is not None and near and last.profile.n + entry.profile.n <= BLOCK_ROWS:
            last.end = entry.end
            last.profile.add(entry.profile)
            return
        self.newest.append(entry)
        if len(self.newest) > NEWEST:
            self._retire(self.newest.pop(0))

    def _retire(self, entry: Entry) -> None:
        """An entry that is no longer new joins the one before it, as long as that has room and is of the same cell."""
        last = self.older[-1] if self.older else None
        if last is not None and last.cell == entry.cell and last.merged < MERGED:
            last.end = entry.end
            last.profile.add(entry.profile)
            last.merged += 1
            return
        self.older.append(entry)
        if len(self.older) > OLDER:
            self.older.pop(0)

    def last(self, rows: int) -> Profile:
        """The newest entries that together hold so many rows, or all."""
        entries = [*self.older, *self.newest]
        found = entries[-1].profile
        for entry in entries[-2::-1]:
            if found.n >= rows:
                break
            found = found.merge(entry.profile)
        return found

    def since(self, moment: float) -> Cells:
        """Everything whose middle lies at or after the moment; the newest entry in any case."""
        found = Cells({})
        for entry in reversed(self._parted(moment)[1]):
            found.add(entry.cell, entry.profile)
        return found

    def forget(self, stream: int, moment: float) -> None:
        """Of one stream keep only what `since` finds."""
        for entry in self._parted(moment)[0]:
            entry.profile.clear(stream)

    def _parted(self, moment: float) -> tuple[list[Entry], list[Entry]]:
        """The entries before the moment, and those since."""
        entries = [*self.older, *self.newest]
        first = len(entries) - 1
        while first > 0 and (entries[first - 1].start + entries[first - 1].end) / 2 >= moment:
            first -= 1
        return entries[:first], entries[first:]
