"""The false-alarm budget: evidence is paid a wage, and an alarm costs one. Knows nothing of where evidence comes from.

Shiryaev-Roberts sums with wages: R_b <- (R_b + wage * w_b) * e_b for every bet b of a stream, alarm when sum_b R_b
reaches 1, then R := 0. Every e has mean 1 given the past if nothing has changed, so sums minus wages are martingales:
the expected number of alarms is at most the wages paid, for all streams together, however they depend on each other
(each stream is paid its share). Source: the e-detectors of Shin, Ramdas and Rinaldo (2024) with the threshold turned
into a wage, so that a month, a number of rows or a change of volume need no second threshold.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detectors.contract import Stream

Floats = NDArray[np.float64]

THRESHOLD = 1.0
LOG_MAX = 300.0
"""Evidence of one block is capped at exp(300): a cap from above keeps the bound."""


def shares(streams: Sequence[Stream]) -> Floats:
    """(d,) parts of the group's budget, sum 1, by the streams' weights. Raises ValueError unless they are positive."""
    weights = np.array([stream.weight for stream in streams], np.float64)
    if not len(weights) or not np.all(np.isfinite(weights)) or np.any(weights <= 0):
        raise ValueError("a detector needs streams, each with a positive weight")
    return weights / weights.sum()


def accumulate(sums: Floats, wages: Floats, log_evidence: Floats) -> Floats:
    """Sums after a block. sums, wages, log_evidence: (..., bets), or whatever broadcasts to it."""
    return (sums + wages) * np.exp(np.minimum(log_evidence, LOG_MAX))
