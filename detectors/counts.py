"""`counts`: any change of any stream, from counts of blocks. For streams whose rows could come in any order.

**What holds.** If a stream is exchangeable (reference and what follows), its expected number of alarms is at most its
share of the budget, for any distribution, any bag size, any dependence between streams, finite-sample; so all streams
together stay within the budget. After an alarm the same holds anew for what follows it. **What does not:** the bound
under autocorrelation, season or day-to-day variation (alarms then come by the dozen: use `season`), and under missing
values that depend on the value. Bins learned from the whole reference instead of from its first `training_rows` rows
cost nothing measurable, but leave the letter of the proof.

Mathematics: scores of a tree of hypergeometric counts (`scores.py`), bets (`bets.py`), Shiryaev-Roberts sums with
wages (`budget.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from detectors import budget as budgeting
from detectors import state as states
from detectors.binning import training_rows
from detectors.contract import Alarm, Bins, Budget, Rows, Stream
from detectors.panel import Panel, PanelState

BLOCK_ROWS = 256
"""Rows of a block; from here on a value costs little, and changes of 0.1 sd are found as soon as with 32."""

LOSS_BLOCK_ROWS = 32
"""Rows of a block of losses: few streams, so the shorter delay is affordable."""

BLOCK_ROWS_MAX = 65_535
VERSION = 1


class CountsState(msgspec.Struct):
    bins: list[Bins]
    at_s: float
    panels: list[PanelState]
    version: int = VERSION


class Counts:
    """Watches one group of streams for any change of their distributions.

    Blocks hold a fixed number of rows and are cut in here, so cutting the calls differently changes nothing. A change
    is found about half a block later than by looking at every row.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        budget: Budget,
        seed: int,
        block_rows: int = BLOCK_ROWS,
        loss_block_rows: int = LOSS_BLOCK_ROWS,
    ) -> None:
        for name, rows in (("block_rows", block_rows), ("loss_block_rows", loss_block_rows)):
            if not 1 <= rows <= BLOCK_ROWS_MAX:
                raise ValueError(f"{name} is {rows}; it must be between 1 and {BLOCK_ROWS_MAX}")
        self.streams = list(streams)
        budget.wage(1.0, 1.0)  # raises if the budget has no period
        shares = budgeting.shares(self.streams)
        self._panels: list[Panel] = []
        for rows in sorted({block_rows, loss_block_rows}):
            columns = [
                j for j, s in enumerate(self.streams) if rows == (loss_block_rows if s.kind == "loss" else block_rows)
            ]
            if columns:
                members = [self.streams[j] for j in columns]
                self._panels.append(Panel(members, columns, shares[columns], budget, seed, rows))
        self._bins: list[Bins] = []
        self._at_s = 0.0

    def fit(self, bins: list[Bins], reference: Rows) -> None:
        """Learn what is normal; the reference rows are part of the streams and must not be given again."""
        self._check(bins, reference)
        self._bins = list(bins)
        self._at_s = float(reference.time_s[-1]) if len(reference) else 0.0
        for panel in self._panels:
            codes = reference.codes[:, panel.columns]
            panel.fit([bins[j] for j in panel.columns], codes, training_rows(len(reference)), self._at_s)

    def update(self, rows: Rows) -> list[Alarm]:
        """Alarms of the blocks that these rows complete, in the order in which they were completed."""
        dated = np.isfinite(rows.time_s)
        if not dated.all():  # a row without a time cannot be placed; such rows are passed over
            rows = Rows(rows.time_s[dated], rows.codes[dated], rows.values[dated])
        found: list[tuple[int, int, Alarm]] = []
        for place, panel in enumerate(self._panels):
            found += [(row, place, alarm) for row, alarm in panel.take(rows.time_s, rows.codes)]
        return [alarm for _, _, alarm in sorted(found, key=lambda item: (item[0], item[1], item[2].stream))]

    def snapshot(self) -> bytes:
        """The whole state, bins included."""
        return states.pack(CountsState(self._bins, self._at_s, [panel.state for panel in self._panels]))

    def restore(self, state: bytes) -> None:
        """Become the detector whose snapshot this is. Raises ValueError where it is not one of these streams."""
        found = states.unpack(CountsState, VERSION, state)
        if len(found.bins) != len(self.streams) or len(found.panels) != len(self._panels):
            raise ValueError(f"the state is of {len(found.bins)} streams, this detector watches {len(self.streams)}")
        self._bins, self._at_s = found.bins, found.at_s
        for panel, own in zip(self._panels, found.panels, strict=True):
            panel.become([found.bins[j] for j in panel.columns], own)

    def status(self) -> str:
        """'watching', or how many streams are still learning what is normal."""
        learning = sum(int((~panel.state.watching).sum()) for panel in self._panels)
        if not learning:
            return "watching"
        return f"watching {len(self.streams) - learning} of {len(self.streams)} streams, the others are learning"

    def _check(self, bins: Sequence[Bins], rows: Rows) -> None:
        d = len(self.streams)
        if len(bins) != d or rows.codes.shape[1:] != (d,) or rows.codes.dtype != np.int32:
            raise ValueError(f"{d} streams need {d} bins and (n, {d}) int32 codes, not {len(bins)}, {rows.codes.shape}")
