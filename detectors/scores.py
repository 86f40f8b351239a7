"""Counts of a block against the counts of a bag, as numbers that are exactly N(0,1) if nothing has changed.

A fixed binary tree over the bins turns a block's counts into univariate hypergeometric counts: how many of a node's
rows fell into its left half, given how many block and bag together have there. Each goes through its randomised
distribution function (Vovk's smoothing) to a uniform and on to a normal. **Under exchangeability all scores of all
blocks are independent N(0,1), exactly, for any bag, block, ties or tails**: given everything later, a block is a draw
without replacement from block and bag together. Refuses to know what is betted on the scores.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TABLE = 1 << 17
_LOG_FACTORIAL = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1.0, TABLE)))])
_STEPS = np.arange(32.0)[:, None]
TAIL = 1e-7
"""A tail sum stops where its next term is this small a part of the first (error of a score below 2e-8)."""


def log_factorial(x: Ints) -> Floats:
    """log x!; a table up to 131,071 (three times as fast as gammaln), Stirling's series above."""
    if x.max(initial=0) < TABLE:
        return _LOG_FACTORIAL.take(x)
    y = np.maximum(x, 256).astype(np.float64)
    series = (y + 0.5) * np.log(y) - y + 0.9189385332046727 + 1 / (12 * y) - 1 / (360 * y**3)
    return np.where(x < 256, _LOG_FACTORIAL.take(np.minimum(x, 256)), series)


def hypergeometric_scores(h: Ints, m: Ints, a: Ints, b: Ints, xi: Floats) -> Floats:
    """Scores of h ~ Hypergeometric(m draws from a left and b right): normal quantile of P(X < h) + xi P(X = h).

    All arguments have shape (n,); xi in (0, 1). The tail nearer to h is summed, by term ratios from P(X = h) outwards.
    """
    upper = h * (a + b) > m * a
    h = np.where(upper, m - h, h)
    a, b = np.where(upper, b, a), np.where(upper, a, b)
    logs = log_factorial(np.concatenate((a, b, m, a + b - m, h, a - h, m - h, b - m + h, a + b))).reshape(9, -1)
    log_mass = logs[:4].sum(0) - logs[4:].sum(0)
    u = np.exp(log_mass) * (_lower_tail(h, m, a, b) + np.where(upper, 1.0 - xi, xi))
    return np.where(upper, -1.0, 1.0) * ndtri(np.minimum(np.maximum(u, 1e-300), 1 - 1e-16))


def _lower_tail(h: Ints, m: Ints, a: Ints, b: Ints) -> Floats:
    """sum over x < h of P(X = x) / P(X = h), some terms at a time, for a shrinking set of the unfinished."""
    tail = np.zeros(len(h))
    open_ = np.arange(len(h))
    k, rest, left, draws = (x.astype(np.float64) for x in (h, b - m, a + 1, m + 1))
    last, terms = np.ones(len(h)), 8
    while len(open_):
        q = np.maximum(k - _STEPS[:terms], 0.0)
        ratios = (rest + q) * q / ((left - q) * (draws - q))
        ratios[0] *= last
        np.multiply.accumulate(ratios, axis=0, out=ratios)
        tail[open_] += ratios.sum(0)
        last = ratios[-1]
        go = (last > TAIL).nonzero()[0]
        open_, k, rest, left, draws, last = open_[go], k[go] - terms, rest[go], left[go], draws[go], last[go]
        terms = 32 if terms > 8 else 16
    return tail


def tree(p: Floats) -> Ints:
    """(K-1, 3) nodes (a, b, c) over K bins of mass p: bins [a, b) against [b, c), split nearest to half the mass."""
    mass = np.concatenate([[0.0], np.cumsum(p)])
    nodes: list[tuple[int, int, int]] = []
    todo = [(0, len(p))]
    for a, c in todo:  # grows while it runs
        if c - a > 1:
            b = a + 1 + int(np.argmin(np.abs(mass[a + 1 : c] - (mass[a] + mass[c]) / 2)))
            nodes.append((a, b, c))
            todo += [(a, b), (b, c)]
    return np.array(nodes, np.int64).reshape(-1, 3)


def node_scores(block: Ints, bag: Ints, nodes: Ints, xi: Floats) -> Floats:
    """Scores of all nodes for (..., K) counts of block and bag. nodes: (nodes, 3) over these bins; xi: (..., nodes)."""
    a, b, c = nodes.T
    h = cumulated(block)
    t = cumulated(block + bag)
    drawn, total = h[..., c] - h[..., a], t[..., c] - t[..., a]
    drawn_left, total_left = h[..., b] - h[..., a], t[..., b] - t[..., a]
    right = (total - total_left).ravel()
    scores = hypergeometric_scores(drawn_left.ravel(), drawn.ravel(), total_left.ravel(), right, xi.ravel())
    return scores.reshape(drawn.shape)


def cumulated(counts: Ints) -> Ints:
    """(..., K + 1) sums of the first 0 to K of (..., K) counts."""
    out = np.zeros((*counts.shape[:-1], counts.shape[-1] + 1), np.int64)
    np.cumsum(counts, -1, out=out[..., 1:])
    return out
