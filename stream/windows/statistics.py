"""Drift statistics of streams between two profiles (F06), by the names that alerts and windows carry."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detectors import statistics
from detectors.contract import Bins, Stream
from stream.windows.profiles import Profile
from stream.windows.words import Change

RARE = ("missing/", "invalid/", "duplicate")
RARE_TOLD = 0.001
"""The debiased PSI of such a share from which on a window tells it: most features miss nothing, ever."""


def psi_all(reference: NDArray[np.int64], current: NDArray[np.int64]) -> NDArray[np.float64]:
    """(d,) debiased population stability index of (d, K) counts; 0 where chance gives as much, or a side is empty."""
    return np.maximum(np.nan_to_num(statistics.psi(reference, current)), 0.0)


def describe(change: Change) -> dict[str, float]:
    """Statistics of a change, from the counts of both sides."""
    before, current = change.before.bins(change.j), change.current.bins(change.j)
    found = statistics.all_of(change.bins, before, current)
    return {**found, "rows_before": float(before.sum()), "rows": float(current.sum())}


def window_drift(
    streams: list[Stream], bins: list[Bins], reference: Profile, current: Profile
) -> dict[str, dict[str, float]]:
    """PSI (debiased) and Jensen-Shannon distance of every stream of a window; of numbers also Kolmogorov-Smirnov and
    Wasserstein, in standard deviations of the reference. Streams without rows have none; pairs are too many to tell."""
    before, after = reference.counts[:, 1:], current.counts[:, 1:]
    rows = (before.sum(1) > 0) & (after.sum(1) > 0)
    psi, js = psi_all(before, after), statistics.jensen_shannon(before, after)
    numbers = np.array([stream.kind == "numeric" for stream in streams])
    places = np.stack([_places(each, before.shape[1]) for each in bins])[numbers]
    ks = statistics.kolmogorov_smirnov(before[numbers], after[numbers])
    spread = statistics.standard_deviation(before[numbers], places)
    far = statistics.wasserstein(before[numbers], after[numbers], places)
    found: dict[str, dict[str, float]] = {}
    number = np.cumsum(numbers) - 1
    for j, stream in enumerate(streams):
        quiet = stream.name.startswith("pair/") or (stream.name.startswith(RARE) and psi[j] < RARE_TOLD)
        if not rows[j] or quiet:
            continue
        each = found[stream.name] = {"psi": float(psi[j]), "js": float(js[j])}
        if numbers[j]:
            k = int(number[j])
            each["ks"] = float(ks[k])
            if spread[k] > 0:
                each["wasserstein"] = float(far[k] / spread[k])
    return found


def _places(bins: Bins, width: int) -> NDArray[np.float64]:
    """Where the bins lie, padded with the last place: nothing lies there and nothing moves there."""
    places = statistics.representatives(bins)[:width]
    return np.concatenate([places, np.full(width - len(places), places[-1])])
