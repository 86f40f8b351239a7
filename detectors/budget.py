"""The false-alarm budget: evidence is paid a wage, and an alarm costs one. Knows nothing of where evidence comes from.

Shiryaev-Roberts sums with wages: R_b <- (R_b + wage * w_b) * e_b for every bet b of a stream, alarm when sum_b R_b
reaches 1, then R := 0. Every e has mean 1 given the past if nothing has changed, so sums minus wages are martingales:
the expected number of alarms is at most the wages paid, for all streams together, however they depend on each other
(each stream is paid its share). Source: the e-detectors of Shin, Ramdas and Rinaldo (2024) with the threshold turned
into a wage, so that a month, a number of rows or a change of volume need no second threshold.

An alarm costs one however far beyond the threshold the sum is, so what evidence would pay beyond it may be paid before
(Fischer and Ramdas 2024, on the overshoot of sequential tests): with paid_b = R_b + wage * w_b known before the block,
the evidence of a group of bets is raised by the largest c with E[min(c sum_b paid_b e_b, 1)] <= sum_b paid_b. At an
alarm the sum over groups of min(R, 1) is at least 1, else it is the sum of all R: so alarms are still paid by wages,
and the bound is the same. The larger the groups, the more is gained.
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
"""Standard deviations within which a block must be able to bring a group to the threshold for it to be raised: further
away the factor is below 1.0014."""

RAISED_MAX = 1e6
"""Larger factors, of bets that can hardly win, are not worth their arithmetic."""

RAISING_STEPS, CROSSING_STEPS = 4, 3
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
    """(n,) log of the factors c >= 1 by which groups of bets may be raised. paid: (n, bets), what each of their bets
    was paid; signal: (n, bets), its evidence in this block is exp(signal z - signal**2 / 2), with one z for the whole
    group that is exactly N(0,1) if nothing has changed.

    E[min(c sum paid e, 1)] is concave in c, so Newton's steps from 1 stay below the largest c allowed; it is told from
    the z at which the group crosses the threshold, and a z beyond that tells too much. So too few steps of either kind
    cost delay, never the bound.
    """
    log_factor = np.zeros(len(paid))
    signal = np.where(paid > 0, signal, 0.0)
    total, strongest = paid.sum(1), signal.max(1, initial=0.0)
    near = np.flatnonzero((total > 0) & (total < 1) & (strongest > 0))
    near = near[-np.log(total[near]) < strongest[near] * (NEAR + strongest[near] / 2)]
    paid, signal, total = paid[near], signal[near], total[near]
    log_paid = np.log(np.maximum(paid, SMALLEST))
    own = np.where(signal > 0, signal / 2 - log_paid / np.where(signal > 0, signal, 1.0), np.inf)
    crossing = own.min(1, initial=np.inf)  # where the first bet crosses alone, the group has crossed
    factor = np.ones(len(near))
    for _ in range(RAISING_STEPS):
        for _ in range(CROSSING_STEPS):
            crossing = _nearer(log_paid, signal, crossing, np.log(factor))
        below = np.maximum((paid * ndtr(crossing[:, None] - signal)).sum(1), SMALLEST)
        factor += np.maximum(total - factor * below - ndtr(-crossing), 0.0) / below
        factor = np.minimum(factor, RAISED_MAX)
    log_factor[near] = np.log(factor)
    return log_factor


def _nearer(log_paid: Floats, signal: Floats, z: Floats, log_factor: Floats) -> Floats:
    """A step of Newton's towards the z at which a group crosses the threshold. The log of its sum is convex and grows
    with z, so every step ends beyond that."""
    logs = log_paid + signal * z[:, None] - signal**2 / 2
    most = logs.max(1)
    parts = np.exp(logs - most[:, None])
    whole = parts.sum(1)
    stepped: Floats = z - (most + np.log(whole) + log_factor) * whole / (parts * signal).sum(1)
    return stepped
