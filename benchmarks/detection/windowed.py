"""Windows of rows against a reference, one test a feature: KS or chi-square with Bonferroni, and PSI. What most teams
run today, so it stands beside the others. Owns the tests; refuses to know where rows come from.

`calibrated` is the level at which the whole group is expected to alarm once per million events: each window may
spend width / 1e6, shared among the features. `Bonferroni at 5 %` is the common use: 5 % a window, shared.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import special

from benchmarks.detection import marginals

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WIDTHS = (200, 1_000)
REFERENCE_ROWS = 20_000
PSI_BINS = 10
PSI_SMALLEST_SHARE = 1e-4
RULES = (
    "KS/chi2 at 5 %",
    "KS/chi2, Bonferroni at 5 %",
    "KS/chi2, calibrated",
    "PSI, calibrated",
    "PSI > 0.1",
    "PSI > 0.25",
)
KS_TERMS = 8
"""Terms of Kolmogorov's series; the ninth is below 1e-40 wherever the level matters."""


def ks_p(reference: Floats, window: Floats) -> float:
    """Two-sample Kolmogorov-Smirnov of sorted values, asymptotic with Stephens' correction."""
    # The two step functions are furthest apart just before or at a value of the window.
    apart = 0.0
    for side in ("left", "right"):
        own = np.searchsorted(window, window, side) / len(window)
        apart = max(apart, float(np.abs(own - np.searchsorted(reference, window, side) / len(reference)).max()))
    root = math.sqrt(len(reference) * len(window) / (len(reference) + len(window)))
    x = (root + 0.12 + 0.11 / root) * apart
    series = 2 * sum((-1) ** (k - 1) * math.exp(-2 * k * k * x * x) for k in range(1, KS_TERMS + 1))
    return float(min(max(series, 0.0), 1.0))


def chi2_p(reference: Ints, window: Ints) -> float:
    """Homogeneity of two rows of counts; bins that are empty in both do not count."""
    used = reference + window > 0
    a, b = reference[used].astype(float), window[used].astype(float)
    both = (a + b) / (a.sum() + b.sum())
    statistic = ((a - both * a.sum()) ** 2 / (both * a.sum())).sum() + (
        (b - both * b.sum()) ** 2 / (both * b.sum())
    ).sum()
    return float(special.chdtrc(max(int(used.sum()) - 1, 1), statistic))


def psi(reference: Ints, window: Ints) -> float:
    """Population stability index; empty bins count as 0.0001, as in common use."""
    p = np.maximum(reference / reference.sum(), PSI_SMALLEST_SHARE)
    q = np.maximum(window / window.sum(), PSI_SMALLEST_SHARE)
    return float(((q - p) * np.log(q / p)).sum())


def psi_p(reference: Ints, window: Ints) -> float:
    """PSI as a test: times nm/(n+m) it is chi-square with K-1 degrees of freedom (Yurdakul and Naranjo 2020)."""
    n, m = reference.sum(), window.sum()
    return float(special.chdtrc(max(len(reference) - 1, 1), psi(reference, window) * n * m / (n + m)))


class Reference:
    """One feature's reference: sorted values and decile counts, or category counts."""

    def __init__(self, values: Floats, categorical: bool) -> None:
        self.categorical = categorical
        self.sorted = np.sort(values)
        if categorical:
            self.edges = np.arange(0.5, values.max() + 1)
        else:
            self.edges = np.unique(np.quantile(values, np.arange(1, PSI_BINS) / PSI_BINS))
        self.counts = self.count(values)

    def count(self, values: Floats) -> Ints:
        return np.bincount(np.searchsorted(self.edges, values), minlength=len(self.edges) + 1)

    def look(self, values: Floats) -> tuple[float, float, float]:
        """p of KS (chi-square for categories), p of PSI, and PSI itself."""
        counts = self.count(values)
        p = chi2_p(self.counts, counts) if self.categorical else ks_p(self.sorted, np.sort(values))
        return p, psi_p(self.counts, counts), psi(self.counts, counts)


def level(width: int, streams: int, per_million: float = 1.0) -> float:
    """Level of one test at which all streams together alarm so often per million events."""
    return per_million * width / 1e6 / streams


def null(rows: int, width: int, seed: int) -> tuple[dict[str, int], int]:
    """Windows of the fifty stationary features that alarm, by rule, and the number of windows."""
    draw = np.random.default_rng([seed, 105])
    d = marginals.FEATURES
    reference = marginals.latent(draw, REFERENCE_ROWS)
    known = [Reference(marginals.values(j, reference[j]), j >= marginals.NUMERIC) for j in range(d)]
    windows = rows // width
    counts = dict.fromkeys(RULES, 0)
    for _ in range(windows):
        z = marginals.latent(draw, width)
        seen = np.array([known[j].look(marginals.values(j, z[j])) for j in range(d)])
        ks, of_psi, largest = float(seen[:, 0].min()), float(seen[:, 1].min()), float(seen[:, 2].max())
        counts["KS/chi2 at 5 %"] += ks < 0.05
        counts["KS/chi2, Bonferroni at 5 %"] += ks < 0.05 / d
        counts["KS/chi2, calibrated"] += ks < level(width, d)
        counts["PSI, calibrated"] += of_psi < level(width, d)
        counts["PSI > 0.1"] += largest > 0.1
        counts["PSI > 0.25"] += largest > 0.25
    return {name: int(count) for name, count in counts.items()}, windows
