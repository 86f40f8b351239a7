"""Distances between a reference and what is current, from bin counts (F06), and intervals of rates. Pure arithmetic;
raises no alarms.

Every distance takes counts of shape (..., K), reference first, and returns one number for each leading place; several
streams of the same width are done at once, and bins beyond a stream's own are zero on both sides. Where a side is
empty the answer is NaN: nothing is known of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtrc, kolmogorov, ndtri, rel_entr

from detectors.contract import Bins

Floats = NDArray[np.float64]

PSEUDO_COUNT: Final = 0.5
"""Added to every bin where a logarithm of a share is taken: an empty bin is a small share, not an infinite distance."""

LEVEL: Final = 0.05
"""Intervals of rates miss the truth in at most this part of all cases."""

NAMES: Final = ("psi", "kl", "js", "ks", "total_variation", "chi_square", "chi_square_p", "wasserstein")


def total_variation(reference: ArrayLike, current: ArrayLike) -> Floats:
    """Half of the sum of absolute differences of shares: 0 equal, 1 disjoint."""
    p, q = _shares(reference), _shares(current)
    return np.asarray(np.abs(p - q).sum(-1) / 2)


def kolmogorov_smirnov(reference: ArrayLike, current: ArrayLike) -> Floats:
    """Largest difference of the distribution functions, at the bins' edges. Not for categories: their order is idle."""
    p, q = _shares(reference), _shares(current)
    return np.asarray(np.abs(np.cumsum(p - q, -1)).max(-1))


def kolmogorov_smirnov_p(reference: ArrayLike, current: ArrayLike) -> Floats:
    """Asymptotic two-sided p-value of `kolmogorov_smirnov`; too large (safe) where many values share a bin."""
    n, m = _totals(reference), _totals(current)
    p: Floats = kolmogorov(kolmogorov_smirnov(reference, current) * np.sqrt(n * m / np.maximum(n + m, 1)))
    return p


def kullback_leibler(reference: ArrayLike, current: ArrayLike) -> Floats:
    """KL(current || reference) in nats, of smoothed shares."""
    p, q = _smoothed(reference, current)
    return np.asarray(rel_entr(q, p).sum(-1))


def psi(reference: ArrayLike, current: ArrayLike) -> Floats:
    """Population stability index, debiased: KL both ways of smoothed shares, minus (K-1)(1/n + 1/m), which it is on
    average where nothing has changed. K counts the bins in use, so the usual thresholds (0.1, 0.25) mean the same for
    any number of rows. May be slightly negative.
    """
    p, q = _smoothed(reference, current)
    n, m = _totals(reference), _totals(current)
    return np.asarray(((q - p) * np.log(q / p)).sum(-1) - (_used(reference, current) - 1) * (1 / n + 1 / m))


def jensen_shannon(reference: ArrayLike, current: ArrayLike) -> Floats:
    """Jensen-Shannon distance with base 2 (the root of the divergence): 0 equal, 1 disjoint; a metric."""
    p, q = _shares(reference), _shares(current)
    middle = (p + q) / 2
    divergence = (rel_entr(p, middle) + rel_entr(q, middle)).sum(-1) / 2
    return np.asarray(np.sqrt(np.maximum(divergence, 0.0) / np.log(2)))


def chi_square(reference: ArrayLike, current: ArrayLike) -> Floats:
    """Pearson's statistic of the two-row table of counts, over the bins in use."""
    table = np.stack([np.asarray(reference, np.float64), np.asarray(current, np.float64)])
    column, row = table.sum(0), table.sum(-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = row * column / column.sum(-1, keepdims=True)
        terms = np.where(column > 0, (table - expected) ** 2 / expected, 0.0)
    return np.where((row > 0).all((0, -1)), terms.sum((0, -1)), np.nan)


def chi_square_p(reference: ArrayLike, current: ArrayLike) -> Floats:
    """p-value of `chi_square` without continuity correction; 1 where a single bin is in use."""
    degrees = np.maximum(_used(reference, current) - 1, 0)
    tail: Floats = chdtrc(np.maximum(degrees, 1), chi_square(reference, current))
    return np.where(degrees > 0, tail, np.where(np.isnan(tail), np.nan, 1.0))


def wasserstein(reference: ArrayLike, current: ArrayLike, places: ArrayLike) -> Floats:
    """Earth mover's distance in the unit of the values, each bin standing at its place (`representatives`)."""
    p, q = _shares(reference), _shares(current)
    steps = np.diff(np.asarray(places, np.float64), axis=-1)
    return np.asarray((np.abs(np.cumsum(p - q, -1))[..., :-1] * steps).sum(-1))


def representatives(bins: Bins) -> Floats:
    """(K,) where the values of each numeric bin are taken to lie: the middle between its edges; the outer bins, which
    are open, as far beyond their edge as their neighbour's middle lies within.

    >>> representatives(Bins(edges=(0.0, 2.0, 4.0)))
    array([-1.,  1.,  3.,  5.])
    """
    edges = np.asarray(bins.edges, np.float64)
    if len(edges) < 2:
        return np.concatenate([edges, edges + 1]) if len(edges) else np.zeros(1)
    middles = (edges[1:] + edges[:-1]) / 2
    return np.concatenate([[2 * edges[0] - middles[0]], middles, [2 * edges[-1] - middles[-1]]])


def standard_deviation(reference: ArrayLike, places: ArrayLike) -> Floats:
    """Of the binned reference, to give `wasserstein` a scale."""
    p, x = _shares(reference), np.asarray(places, np.float64)
    mean = (p * x).sum(-1, keepdims=True)
    return np.asarray(np.sqrt((p * (x - mean) ** 2).sum(-1)))


def all_of(
    bins: Bins, reference: Sequence[int] | NDArray[np.int64], current: Sequence[int] | NDArray[np.int64]
) -> dict[str, float]:
    """Every statistic that makes sense for one stream, by name: order matters for numbers, so `ks` and `wasserstein`
    (in reference standard deviations) are only given where there are edges. A side without rows gives no statistics.
    """
    before, after = np.asarray(reference, np.float64)[: bins.size], np.asarray(current, np.float64)[: bins.size]
    if not before.sum() or not after.sum():
        return {}
    found = {
        "psi": psi(before, after),
        "kl": kullback_leibler(before, after),
        "js": jensen_shannon(before, after),
        "total_variation": total_variation(before, after),
        "chi_square": chi_square(before, after),
        "chi_square_p": chi_square_p(before, after),
    }
    if bins.edges:
        places = representatives(bins)
        scale = float(standard_deviation(before, places))
        found["ks"] = kolmogorov_smirnov(before, after)
        found["wasserstein"] = wasserstein(before, after, places) / (scale if scale > 0 else 1.0)
    return {name: float(found[name]) for name in NAMES if name in found}


def _totals(counts: ArrayLike) -> Floats:
    """(...,) rows; NaN where there are none, which then goes through every formula."""
    total = np.asarray(counts, np.float64).sum(-1)
    return np.where(total > 0, total, np.nan)


def _shares(counts: ArrayLike) -> Floats:
    c = np.asarray(counts, np.float64)
    return np.asarray(c / _totals(c)[..., None])


def _used(reference: ArrayLike, current: ArrayLike) -> Floats:
    """(...,) bins in which either side has rows."""
    either = (np.asarray(reference) + np.asarray(current)) > 0
    return either.sum(-1).astype(np.float64)


def _smoothed(reference: ArrayLike, current: ArrayLike) -> tuple[Floats, Floats]:
    """Shares with a pseudo-count in every bin in use; 1 on both sides elsewhere, which adds nothing to any sum."""
    r, c = np.asarray(reference, np.float64), np.asarray(current, np.float64)
    used = (r + c) > 0
    pseudo = PSEUDO_COUNT * used
    sides = []
    for x in (r, c):
        total = _totals(x) + pseudo.sum(-1)
        sides.append(np.where(used, (x + pseudo) / total[..., None], np.where(np.isnan(total), np.nan, 1.0)[..., None]))
    return sides[0], sides[1]


def wilson(hits: Floats, of: Floats, comparisons: int = 1) -> tuple[Floats, Floats]:
    """(g,) bounds of each rate by Wilson (1927), of so many comparisons at once.

    >>> [x.round(3).tolist() for x in wilson(np.array([50.0]), np.array([100.0]))]
    [[0.404], [0.596]]
    """
    z = -float(ndtri(LEVEL / 2 / max(comparisons, 1)))
    share = hits / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * np.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0)


def differences(hits: Floats, of: Floats, comparisons: int) -> tuple[Floats, Floats]:
    """(g, g) bounds of rate i minus rate j by Newcombe's method, of so many comparisons at once; 0 on the diagonal."""
    share, (low, high) = hits / of, wilson(hits, of, comparisons)
    by = share[:, None] - share[None, :]
    down = np.hypot((share - low)[:, None], (high - share)[None, :])
    up = np.hypot((high - share)[:, None], (share - low)[None, :])
    other = ~np.eye(len(share), dtype=np.bool_)
    return np.where(other, by - down, 0.0), np.where(other, by + up, 0.0)
