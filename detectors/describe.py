"""How much a stream has changed, for people. Knows counts before and after; nothing of evidence."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detectors.bets import normal_scores, smooth
from detectors.contract import Bins, Kind

Ints = NDArray[np.int64]
Counts = NDArray[np.int64] | NDArray[np.float64]

LEVEL_SD = 0.5
"""A level that moved by this much is the news, even where a bet on the spread or on a quarter won by a nose."""


def bin_names(bins: Bins, kind: Kind) -> tuple[str, ...]:
    """(K,) names of the bins; only those of categories are ever shown."""
    if kind == "categorical":
        return (*bins.categories, "other categories")
    return tuple(str(k) for k in range(bins.size))


def effect(kind: Kind, bins: Bins, before: Counts, after: Counts, bin_: int) -> dict[str, float]:
    """Size of a change between (K,) counts before and after.

    Numeric: `effect` in standard deviations, as the mean normal score of the bins (robust; it saturates near 2, as bins
    know no more of a value than that it lies beyond the last edge), `reference` and `current` medians. Others: shares
    of the bin that moved, and `effect` their difference. `rows` is how many rows the current side rests on.
    """
    rows = {"rows": float(after.sum())}
    if not before.sum() or not after.sum():
        return rows
    if kind != "numeric":
        k = bin_ if bin_ >= 0 else len(before) - 1
        was, now = float(before[k] / before.sum()), float(after[k] / after.sum())
        return {"effect": now - was, "reference": was, "current": now, **rows}
    p = smooth(before)
    x = normal_scores(p)
    sd = float(np.sqrt(p @ x**2 - (p @ x) ** 2))
    shift = float(after @ x / after.sum() - before @ x / before.sum())
    medians = {"reference": median(bins, before), "current": median(bins, after)}
    return {"effect": shift / sd if sd > 0 else 0.0, **medians, **rows}


def words(kind: Kind, won: str, sizes: dict[str, float]) -> str:
    """What to say of a change of these sizes, where the bet `won` gained most."""
    shift = sizes.get("effect", 0.0)
    if kind == "numeric" and abs(shift) >= LEVEL_SD:
        return "level up" if shift > 0 else "level down"
    return won


def like(before: Ints, after: Ints) -> NDArray[np.float64]:
    """(K,) of (C, K) counts before a change, each part of the day weighted as it occurs in (C, K) counts after it: an
    evening is compared with evenings."""
    n, m = before.sum(1), after.sum(1)
    weights = np.where(n > 0, m / np.maximum(n, 1), 0.0)
    mixed = weights @ before
    return np.asarray(mixed * (n.sum() / max(float(mixed.sum()), 1e-300)), np.float64)


def median(bins: Bins, counts: Counts) -> float:
    """Edge or middle of the bin in which half of the rows is reached."""
    if not bins.edges:
        return 0.0
    k = int(np.searchsorted(np.cumsum(counts), counts.sum() / 2))
    low, high = bins.edges[max(k - 1, 0)], bins.edges[min(k, len(bins.edges) - 1)]
    return low + (high - low) / 2
