"""Rows that are to say what is normal, until there are enough of them. Owns the waiting; refuses to know who learns."""

from __future__ import annotations

import msgspec
import numpy as np

from detectors.contract import Rows


class Collected(msgspec.Struct):
    """(n,) orders, (n, d) codes and values."""

    order: np.ndarray = msgspec.field(default_factory=lambda: np.zeros(0))
    codes: np.ndarray = msgspec.field(default_factory=lambda: np.zeros((0, 0), np.int32))
    values: np.ndarray = msgspec.field(default_factory=lambda: np.zeros((0, 0)))

    def add(self, rows: Rows, wanted: int) -> Rows | None:
        """Take the next rows; all of them once they are enough, and then nothing is held any more."""
        whole = rows
        if len(self.order):
            whole = Rows(
                np.concatenate([self.order, rows.time_s]), np.vstack([self.codes, rows.codes]),
                np.vstack([self.values, rows.values]),
            )  # fmt: skip
        if len(whole) < wanted:
            self.order, self.codes, self.values = whole
            return None
        self.order, self.codes, self.values = np.zeros(0), np.zeros((0, 0), np.int32), np.zeros((0, 0))
        return whole
