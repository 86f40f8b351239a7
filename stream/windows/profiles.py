"""Profiles: counts over the reference's bins, missing values and moments of every stream, which add up across shards,
windows and time. Owns counting; refuses to know what a stream means and when a row came.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors.contract import Rows


class Profile(msgspec.Struct):
    """counts: (d, K+1) rows by stream and bin, missing in column 0. total, squares: (d,) sums of values present."""

    n: int
    counts: np.ndarray
    total: np.ndarray
    squares: np.ndarray

    @classmethod
    def empty(cls, streams: int, bins: int) -> Profile:
        return cls(0, np.zeros((streams, bins + 1), np.int64), np.zeros(streams), np.zeros(streams))

    @classmethod
    def of(cls, rows: Rows, bins: int) -> Profile:
        """Count rows whose codes are below `bins`."""
        n, d = rows.codes.shape
        places = rows.codes.T + (np.arange(d, dtype=np.int64) * (bins + 1) + 1)[:, None]
        counts = np.bincount(places.ravel(), minlength=d * (bins + 1)).reshape(d, bins + 1)
        values = rows.values.T
        total = values.sum(axis=1)
        if np.isnan(total).any():
            values = np.where(np.isnan(values), 0.0, values)
            total = values.sum(axis=1)
        return cls(n, counts, total, np.einsum("ij,ij->i", values, values))

    def merge(self, other: Profile) -> Profile:
        """Both together. Counts merge exactly in any order; moments up to rounding."""
        return Profile(
            self.n + other.n, self.counts + other.counts, self.total + other.total, self.squares + other.squares
        )

    def add(self, other: Profile) -> None:
        """`merge` in place."""
        self.n += other.n
        self.counts += other.counts
        self.total += other.total
        self.squares += other.squares

    def without(self, other: Profile) -> Profile:
        """The inverse of `merge`; what `other` holds must be part of this profile."""
        return Profile(
            self.n - other.n, self.counts - other.counts, self.total - other.total, self.squares - other.squares
        )

    def clear(self, stream: int) -> None:
        """Leave nothing of one stream."""
        self.counts[stream] = 0
        self.total[stream] = self.squares[stream] = 0.0

    def bins(self, stream: int) -> NDArray[np.int64]:
        """(K,) counts of one stream, missing values left out."""
        return np.asarray(self.counts[stream, 1:])

    def present(self, stream: int) -> int:
        return round(float(self.counts[stream, 1:].sum()))

    def mean(self, stream: int) -> float:
        present = float(self.counts[stream, 1:].sum())
        return float(self.total[stream]) / present if present else float("nan")

    def variance(self, stream: int) -> float:
        present = float(self.counts[stream, 1:].sum())
        if not present:
            return float("nan")
        return max(float(self.squares[stream]) / present - self.mean(stream) ** 2, 0.0)

    def share(self, stream: int, bin_number: int = 1) -> float:
        """Share of one bin among the values present; of a rate, bin 1 is 'yes'."""
        present = float(self.counts[stream, 1:].sum())
        return float(self.counts[stream, bin_number + 1]) / present if present else 0.0
