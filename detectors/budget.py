"""The false-alarm budget: evidence is paid a wage, and an alarm costs one. Knows nothing of where evidence comes from.

Shiryaev-Roberts sums with wages: R_b <- (R_b + wage * w_b) * e_b for every bet b of a stream, alarm when sum_b R_b
reaches 1, then R := 0. Every e has mean 1 given the past if nothing has changed, so sums minus wages are martingales:
the expected number of alarms is at most the wages paid, for all streams together, however they depend on each other
(each stream is paid its share). Source: the e-detectors of Shin, Ramdas and Rinaldo (2024) with the threshold turned
into a wage, so that a month, a number of rows or a change of volume need no second threshold.

An alarm costs one however far beyond the threshold the sum is, so what evidence would pay beyond it may be paid before
(Fischer and Ramdas 2024, on the overshoot of sequential tests): with paid = R_b + wage * w_b known before the block,
each bet's evidence is raised by the largest c_b with E[min(c_b paid e_b, 1)] <= paid. At an alarm the sum of
min(R_b, 1) is at least 1, else it is the sum of R_b: so alarms are still paid by wages, and the bound is the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from detectors.contract import Stream

Floats = NDArray[np.float64]

THRESHOLD = 1.0
LOG_MAX = 300.0
"""Evidence of one block is capped at exp(300): a cap from above keeps the bound."""

NEAR = 3.0
"""Standard deviations within which a block must be able to bring a bet to the threshold for it to be raised: further
away the factor is below 1.0014."""

RAISING_STEPS = 4
SMALLEST = 1e-300


def shares(streams: Sequence[Stream]) -> Floats:
    """(d,) parts of the group's budget, sum 1, by the streams' weights. Raises ValueError unless they are positive."""
    weights = np.array([stream.weight for stream in streams], np.float64)
    if not len(weights) or not np.all(np.isfinite(weights)) or np.any(weights <= 0):
        raise ValueError("a detector needs streams, each with a positive weight")
    return weights / weights.sum()


def accumulate(sums: Floats, wages: Floats, log_evidence: Floats) -> Floats:
    """Sums after a block. sums, wages, log_evidence: (..., bets), or whatever broadcasts to it."""
    return (sums + wages) * np.exp(np.minimum(log_evidence, LOG_MAX))


def raised(paid: Floats, signal: Floats) -> Floats:
    """Log of the factors c >= 1 by which bets may be raised that were paid so much and whose evidence in this block is
    exp(signal z - signal**2 / 2), z exactly N(0,1) if nothing has changed. Both arguments have the same shape.

    E[min(c paid e, 1)] is concave in c, so Newton's steps from 1 stay below the largest c allowed: too few of them cost
    delay, never the bound.
    """
    log_factor = np.zeros(paid.shape)
    possible = np.flatnonzero((paid > 0) & (paid < 1) & (signal > 0))
    paid, signal = paid.ravel()[possible], signal.ravel()[possible]
    missing = -np.log(paid)
    near = missing < signal * (NEAR + signal / 2)
    possible, paid, signal, missing = possible[near], paid[near], signal[near], missing[near]
    factor = np.ones(len(paid))
    for _ in range(RAISING_STEPS):
        away = (missing - np.log(factor)) / signal
        below = np.maximum(ndtr(away - signal / 2), SMALLEST)
        factor += np.maximum(1 - factor * below - ndtr(-away - signal / 2) / paid, 0.0) / below
    log_factor.ravel()[possible] = np.log(factor)
    return log_factor
