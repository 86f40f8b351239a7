"""How long labels take, in a histogram of bounded size. Refuses to know what a label is."""

from __future__ import annotations

from collections import Counter

import msgspec
import numpy as np
from numpy.typing import NDArray

BINS_PER_OCTAVE = 8
"""A quantile is off by at most 4.4 %."""

DELAY_S_MIN = 0.001
"""Shorter delays, and labels known before their prediction, count as this one."""


class Delays(msgspec.Struct):
    """Counts by the logarithm of the delay: at most 60 octaves from a millisecond to the length of an epoch.

    >>> delays = Delays()
    >>> delays.add(np.array([1.0, 60.0, 3600.0]))
    >>> round(delays.median(), -1)
    60.0
    """

    counts: dict[int, int] = {}
    n: int = 0

    def add(self, delays_s: NDArray[np.float64]) -> None:
        bins = np.floor(np.log2(np.maximum(delays_s, DELAY_S_MIN)) * BINS_PER_OCTAVE).astype(np.int64)
        for bin, count in Counter(bins.tolist()).items():
            self.counts[bin] = self.counts.get(bin, 0) + count
        self.n += len(bins)

    def median(self) -> float | None:
        """Seconds; None while there is no delay."""
        seen = 0
        for bin in sorted(self.counts):
            seen += self.counts[bin]
            if 2 * seen >= self.n:
                return float(2.0 ** ((bin + 0.5) / BINS_PER_OCTAVE))
        return None
