"""Fifty features that never change unless they are told to: 35 numeric of mixed and heavy-tailed marginals, 15
categorical, in ten groups correlated 0.5 (a Gaussian copula), independent in time. Refuses to know detectors.

A feature is a rising function of a latent normal, so its codes are those of the latent at the edges carried back to
it: one search instead of a transformation and a search, and thirty million events take a minute. The test of this
file's claim is that both ways give the same codes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import ndtr, ndtri

from detectors import binning
from detectors.contract import Bins, Rows, Stream

Floats = NDArray[np.float64]

NUMERIC, CATEGORICAL = 35, 15
FEATURES = NUMERIC + CATEGORICAL
MARGINALS = ("normal", "lognormal", "t2", "exponential", "poisson", "cauchy")
LEVELS = (3, 5, 8, 12, 20)
GROUPS, CORRELATION = 10, 0.5
POISSON_MEAN = 4.0

DISTRIBUTIONS = {
    "normal": stats.norm(),
    "lognormal": stats.lognorm(1.0),
    "t2": stats.t(2),
    "exponential": stats.expon(),
    "poisson": stats.poisson(POISSON_MEAN),
    "cauchy": stats.cauchy(),
}
POISSON_CUTS = ndtri(stats.poisson(POISSON_MEAN).cdf(np.arange(60)))


def _t2(z: Floats) -> Floats:
    below, above = ndtr(z), ndtr(-z)
    found: Floats = (below - above) / np.sqrt(2 * below * above)
    return found


QUANTILES: dict[str, Callable[[Floats], Floats]] = {
    "normal": lambda z: z,
    "lognormal": np.exp,
    "t2": _t2,
    "exponential": lambda z: -np.log(ndtr(-z)),
    "poisson": lambda z: np.searchsorted(POISSON_CUTS, z).astype(np.float64),
    "cauchy": lambda z: np.sign(z) / np.tan(np.pi * ndtr(-np.abs(z))),
}
"""A latent normal value as one of each distribution, in closed form: scipy's quantiles take a hundred times as long."""


class Learned(NamedTuple):
    """What the reference showed: bins as the detectors get them, and for each feature the latent edges with the code of
    each interval between them."""

    features: tuple[int, ...]
    bins: list[Bins]
    edges: list[Floats]
    numbers: list[NDArray[np.int32]]


def streams() -> list[Stream]:
    return [Stream(f"x{j:02d}", "numeric" if j < NUMERIC else "categorical") for j in range(FEATURES)]


def marginal(j: int) -> str:
    return MARGINALS[j % len(MARGINALS)] if j < NUMERIC else "categorical"


def share(j: int) -> float:
    """Of the busiest category of a categorical feature."""
    return float(_shares(j)[0])


def latent(draw: np.random.Generator, n: int, features: Sequence[int] = range(FEATURES)) -> Floats:
    """(features, n) normal values, correlated 0.5 within a group: those of features j with the same j mod 10."""
    own = draw.standard_normal((len(features), n))
    own *= np.sqrt(1 - CORRELATION)
    for group in sorted({j % GROUPS for j in features}):
        common = draw.standard_normal(n) * np.sqrt(CORRELATION)
        own[[row for row, j in enumerate(features) if j % GROUPS == group]] += common
    return own


def values(j: int, z: Floats) -> Floats:
    """A feature's values; of a categorical one the number of the category, 0 the busiest."""
    if j >= NUMERIC:
        return np.searchsorted(_category_edges(j), z).astype(np.float64)
    return QUANTILES[marginal(j)](z)


def learn(reference: Floats, features: Sequence[int] = range(FEATURES)) -> Learned:
    """Bins from (features, n) latent reference values, by way of the features' own values."""
    learned = Learned(tuple(features), [], [], [])
    for j, z in zip(features, reference, strict=True):
        x = values(j, z)
        if j < NUMERIC:
            own = binning.learn_bins(Stream("", "numeric"), x)
            edges, numbers = _carried_back(j, np.array(own.edges)), np.arange(own.size, dtype=np.int32)
        else:
            own = binning.learn_bins(Stream("", "categorical"), [str(int(k)) for k in x])
            edges, numbers = _category_edges(j), binning.code(own, [str(k) for k in range(_levels(j))])
        learned.bins.append(own)
        learned.edges.append(edges)
        learned.numbers.append(numbers)
    return learned


def rows(learned: Learned, z: Floats, start_s: float) -> Rows:
    """Rows of (features, n) latent values, one a second; as values they carry the latent ones."""
    return Rows(start_s + np.arange(float(z.shape[1])), codes(learned, z).T, z.T)


def codes(learned: Learned, z: Floats) -> NDArray[np.int32]:
    """(features, n) codes from latent values."""
    found = np.empty(z.shape, np.int32)
    for row, (edges, numbers) in enumerate(zip(learned.edges, learned.numbers, strict=True)):
        found[row] = numbers[np.searchsorted(edges, z[row])]
    return found


def _carried_back(j: int, edges: Floats) -> Floats:
    """Where the latent passes these values of a feature."""
    name = marginal(j)
    if name == "normal":
        return edges
    if name == "lognormal":
        return np.log(edges)
    below, above = DISTRIBUTIONS[name].cdf(edges), DISTRIBUTIONS[name].sf(edges)
    found: Floats = np.where(below < 0.5, ndtri(below), -ndtri(above))
    return found


def _levels(j: int) -> int:
    return LEVELS[j % len(LEVELS)]


def _shares(j: int) -> Floats:
    weights = 1 / np.arange(1.0, _levels(j) + 1)
    found: Floats = weights / weights.sum()
    return found


def _category_edges(j: int) -> Floats:
    found: Floats = ndtri(np.cumsum(_shares(j))[:-1])
    return found
