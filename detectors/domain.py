"""Telling the rows of two times apart by logistic regression: how well it can be done, and by which columns.

Owns the fit; refuses to know what the columns mean. A few Newton steps from zero, with a small ridge, so that it ends
even where the two times do not overlap, and gives the same numbers for the same rows.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RIDGE: Final = 1.0
"""On the coefficients of standardised columns, in units of log-likelihood: a thousand rows outweigh it by far, and
columns that separate the two times end at a coefficient of about 5, not at infinity."""

STEPS_MAX: Final = 8
HALVINGS_MAX: Final = 6
CONVERGED: Final = 1e-3
"""Gain of the log-likelihood below which another step is idle: gains are compared with their degrees of freedom."""


class Fit(NamedTuple):
    """coefficients: (p + 1,), the intercept last. logit: (n,) log-odds of 'current', balanced as if both times had as
    many rows. gain: log-likelihood above that of the intercept alone. information: (p + 1, p + 1), ridge included."""

    coefficients: Floats
    logit: Floats
    gain: float
    information: Floats
    prior: float


def standardised(columns: Floats) -> Floats:
    """(n, p) columns with mean 0 and deviation 1; constant ones become 0."""
    spread = columns.std(0)
    return np.asarray((columns - columns.mean(0)) / np.where(spread > 0, spread, 1.0))


def fit(columns: Floats, current: NDArray[np.bool_]) -> Fit:
    """Log-odds that a row is current, from (n, p) standardised columns. Both times must have rows."""
    x = np.column_stack([columns, np.ones(len(columns))])
    n, m = len(current) - int(current.sum()), int(current.sum())
    prior = float(np.log(m / n))
    ridge = np.append(np.full(columns.shape[1], RIDGE), 0.0)
    beta = np.append(np.zeros(columns.shape[1]), prior)
    start = best = _likelihood(x @ beta, current, beta, ridge)
    for _ in range(STEPS_MAX):
        chance = sigmoid(x @ beta)
        score = x.T @ (current - chance) - ridge * beta
        step = np.linalg.solve(information(x, chance, ridge), score)
        for _ in range(HALVINGS_MAX):
            found = _likelihood(x @ (beta + step), current, beta + step, ridge)
            if found >= best:
                break
            step = step / 2
        if found - best < CONVERGED:
            break
        beta, best = beta + step, found
    logit = x @ beta
    whole = information(x, sigmoid(logit), ridge)
    return Fit(beta, logit - prior, best - start, whole, prior)


def without_blocks(found: Fit, columns: Floats, current: NDArray[np.bool_], block: NDArray[np.int64]) -> Floats:
    """(blocks, p + 1) coefficients with each block of rows left out, by one Newton step from the whole fit (the
    infinitesimal jackknife is its linear part): a hundredth of the work of fitting anew."""
    x = np.column_stack([columns, np.ones(len(columns))])
    chance = sigmoid(found.logit + found.prior)
    every = np.empty((int(block.max()) + 1, x.shape[1]))
    for k in range(len(every)):
        own = block == k
        score = x[own].T @ (current[own] - chance[own])
        rest = found.information - information(x[own], chance[own], np.zeros(x.shape[1]))
        every[k] = found.coefficients - np.linalg.solve(rest, score)
    return every


def sigmoid(logit: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-np.clip(logit, -500, 500))))


def information(x: Floats, chance: Floats, ridge: Floats) -> Floats:
    root = x * np.sqrt(chance * (1 - chance))[:, None]
    return np.asarray(root.T @ root + np.diag(ridge))  # one array with itself: half the work of two


def _likelihood(logit: Floats, current: NDArray[np.bool_], beta: Floats, ridge: Floats) -> float:
    signed = np.where(current, logit, -logit)
    return float(-np.logaddexp(0, -signed).sum() - (ridge * beta**2).sum() / 2)
