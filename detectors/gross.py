"""The gross judge: what no day to day variation explains, within hours. Knows counts per part of a day.

The count scores of `scores.py` inside cells (part of the day x workday/weekend, bag of the last 56 days), with log
evidence divided by **omega2**: how much more the scores of days and weeks vary than chance would have it. omega2 is the
largest upper 80 % bound (chi-square) of the variance of 1-, 3- and 7-day sums of reference scores, raised until no
reference day (week) among n shows odds beyond n : 1; at least 1. It is modelled, not guaranteed: a point estimate of
it made ten times the alarms on persistent streams. A tolerance is taken off all evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from detectors import since
from detectors.bets import Bets
from detectors.budget import THRESHOLD, accumulate
from detectors.calendar import PARTS, Moment, is_weekend
from detectors.scores import cumulated, hypergeometric_scores, node_scores

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MEMORY_DAYS = 56
"""Days of the bag of a cell: what is longer ago is another season."""

RECENT_PARTS = 56
"""Parts of days of which scores are kept, to say since when."""

FILL_SHARE = 4
"""The first quarter of the days only fills the bag when omega2 is learned."""

BOUND_LEVEL = 0.2
SPANS = (1, 3, 7)
GUARDED = (1, 7)
BET_SIGNAL_MAX = 8.0
LOG_MIN = -500.0


class GrossState(msgspec.Struct):
    """B bets, L recent parts: standardised scores, and the event times between which each lay."""

    weights: Floats
    omega2: Floats
    sums: Floats
    recent: NDArray[np.float32]
    recent_start_s: Floats
    recent_end_s: Floats
    evidence: float = 0.0


class Prepared(NamedTuple):
    """What judges side by side share for a day; d judges, K bins (of the largest), N nodes and B bets of all of them.

    bags: (C, d, K + 1) cumulated counts; cuts: (3, N) places of the nodes in a flat (d, K + 1); stream, node: (N,)
    whose node it is and its number there; better: (B,) whose bet; norm, tolerance, wages, omega2: (B,)."""

    vectors: tuple[Floats, ...]
    bags: Ints
    cuts: Ints
    stream: Ints
    node: Ints
    better: Ints
    norm: Floats
    tolerance: Floats
    wages: Floats
    omega2: Floats


class Verdict(NamedTuple):
    """What won: the bet, and the evidence of all."""

    bet: int
    evidence: float


def begin(counts: NDArray[np.int32], bets: Bets) -> GrossState:
    """Judge's state from (n, C, K) counts of past days; `learn` must follow."""
    squares = (bets.vectors**2).sum(0)
    prior = bets.alternatives.weights * (squares > 0)
    signal = np.sqrt(float(np.median(counts.sum(2))) * squares)
    usable = (signal <= BET_SIGNAL_MAX) | (signal <= np.where(prior > 0, signal, np.inf).min())
    weights = prior * usable
    number = len(weights)
    return GrossState(
        weights=weights / max(float(weights.sum()), 1e-300), omega2=np.ones(number), sums=np.zeros(number),
        recent=np.zeros((0, number), np.float32), recent_start_s=np.zeros(0), recent_end_s=np.zeros(0),
    )  # fmt: skip


def learn(state: GrossState, bets: Bets, counts: NDArray[np.int32], days: Ints, tolerance: float, xi: Floats) -> None:
    """omega2 from (n, C, K) counts of past days, each scored against those before it. xi: (n, C, nodes)."""
    first = len(counts) // FILL_SHARE
    weekend = is_weekend(days)
    bags = np.array([bag_of(counts[:t], weekend[:t], bool(weekend[t])) for t in range(first, len(counts))])
    scores, log_evidence = _evidence(bets, counts[first:].astype(np.int64), bags, tolerance, xi[first:])
    daily, odds = scores.sum(1) / np.sqrt(PARTS), log_evidence.sum(1)
    n = len(daily)
    omega2 = np.ones(daily.shape[1])
    for span in SPANS:
        whole = n // span
        if not whole:
            continue
        sums, ratios = (x[n - whole * span :].reshape(whole, span, -1).sum(1) for x in (daily, odds))
        omega2 = np.maximum(omega2, (sums**2).sum(0) / span / chi2.ppf(BOUND_LEVEL, whole))
        if span in GUARDED:
            omega2 = np.maximum(omega2, ratios.max(0) / np.log(max(whole, 2)))
    state.omega2 = omega2


def prepare(
    states: Sequence[GrossState], bets: Sequence[Bets], bags: Ints, wages: Sequence[float], tolerances: Sequence[float]
) -> Prepared:
    """Lay judges side by side for a day: (C, d, K) bags of its cells, wages of a part."""
    width = bags.shape[2] + 1
    stream, better = (np.repeat(np.arange(len(bets)), [x.vectors.shape[axis] for x in bets]) for axis in (0, 1))
    return Prepared(
        vectors=tuple(x.vectors for x in bets), bags=cumulated(bags),
        cuts=np.concatenate([x.nodes for x in bets]).T + stream * width,
        stream=stream, node=np.concatenate([np.arange(len(x.nodes)) for x in bets]), better=better,
        norm=np.concatenate([np.sqrt((x.vectors**2).sum(0)) for x in bets]),
        tolerance=np.array(tolerances)[better],
        wages=np.array(wages)[better] * np.concatenate([state.weights for state in states]),
        omega2=np.concatenate([state.omega2 for state in states]),
    )  # fmt: skip


def part(states: Sequence[GrossState], side: Prepared, blocks: Ints, now: Moment, xi: Floats) -> list[Verdict | None]:
    """Judge (d, K) counts of a part of a day against the bags of their cells. xi: (d, nodes of the largest) uniforms.

    Returns for each judge what crossed the line, if anything. A part without rows, or without a bag, is no evidence and
    earns nothing.
    """
    drawn, bag = cumulated(blocks), side.bags[now.part]
    m, n = drawn[:, -1], bag[:, -1]
    h, t = (x.ravel()[side.cuts] for x in (drawn, drawn + bag))
    left, right = t[1] - t[0], t[2] - t[1]
    z = hypergeometric_scores(h[1] - h[0], h[2] - h[0], left, right, xi[side.stream, side.node])
    ends = np.cumsum([len(v) for v in side.vectors])
    pushed = np.concatenate([z[end - len(v) : end] @ v for v, end in zip(side.vectors, ends, strict=True)])
    r = (m * n / np.maximum(m + n, 1))[side.better]
    log_evidence = np.sqrt(r) * pushed - r * side.norm**2 / 2 - side.tolerance * r * side.norm
    scores = (pushed / np.maximum(side.norm, 1e-150)).astype(np.float32)
    sums = np.concatenate([state.sums for state in states])
    sums = accumulate(sums, side.wages, np.maximum(log_evidence / side.omega2, LOG_MIN))
    verdicts: list[Verdict | None] = []
    end = 0
    for state, seen in zip(states, ((m > 0) & (n > 0)).tolist(), strict=True):
        start, end = end, end + len(state.sums)
        verdicts.append(_take(state, sums[start:end], scores[start:end], now) if seen else None)
    return verdicts


def _take(state: GrossState, sums: Floats, scores: NDArray[np.float32], now: Moment) -> Verdict | None:
    """Remember a part's sums and scores."""
    kept = slice(-RECENT_PARTS + 1, None)
    state.recent = np.concatenate([state.recent[kept], scores[None]])
    state.recent_start_s = np.concatenate([state.recent_start_s[kept], (now.start_s,)])
    state.recent_end_s = np.concatenate([state.recent_end_s[kept], (now.end_s,)])
    state.sums = sums
    state.evidence = float(sums.sum())
    return Verdict(int(np.argmax(sums)), state.evidence) if state.evidence >= THRESHOLD else None


def onset(state: GrossState, bet: int) -> Floats:
    """(3,) event times since when, at the earliest and at the latest this bet has been right."""
    scores = state.recent[:, bet].astype(np.float64) / np.sqrt(state.omega2[bet])
    found = since.onset(scores, np.ones(len(scores)))
    starts_s, ends_s = state.recent_start_s, state.recent_end_s
    return np.array([starts_s[found.at], starts_s[found.low], ends_s[found.high]])


def bag_of(counts: NDArray[np.int32], weekend: NDArray[np.bool_], own: bool) -> Ints:
    """Sum over the last 56 of (n, ...) days, of those that are of the same kind."""
    total: Ints = counts[-MEMORY_DAYS:][weekend[-MEMORY_DAYS:] == own].sum(0, dtype=np.int64)
    return total


def _evidence(bets: Bets, block: Ints, bag: Ints, tolerance: float, xi: Floats) -> tuple[Floats, Floats]:
    """(..., B) standardised scores and log evidence of (..., K) counts."""
    norm = np.sqrt((bets.vectors**2).sum(0))
    m, n = block.sum(-1), bag.sum(-1)
    r = (m * n / np.maximum(m + n, 1))[..., None]
    pushed = node_scores(block, bag, bets.nodes, xi) @ bets.vectors
    log_evidence = np.sqrt(r) * pushed - r * norm**2 / 2 - tolerance * r * norm
    return pushed / np.maximum(norm, 1e-150), log_evidence
