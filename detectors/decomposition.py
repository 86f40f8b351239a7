"""Why a mean loss has changed: other inputs, or another loss for the same inputs. Owns the arithmetic of the weights;
refuses to know how the inputs became columns.

The loss is taken apart as DISDE does (Cai, Namkoong, Yadlowsky 2023, arXiv 2303.02011): with pi(x) the chance that a
row with inputs x is current, the reference weighted by pi and the current rows weighted by 1 - pi have the same inputs,
those that both times share. So mean loss now - before = (reference to shared) + (shared, now - before) + (shared to
current): the first and last are covariate, the middle one is concept. The weights are bounded: what is shared may be
little, but one row never stands for all.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectors import domain
from detectors.design import Design
from detectors.domain import Fit

Floats = NDArray[np.float64]

BLOCKS: Final = 20
T_95: Final = 2.09
"""Blocks of time of each side that the jackknife leaves out in turn, and Student's 95 % quantile for 19 degrees. Whole
blocks of time, as neighbouring rows are alike and single rows would promise too much."""

NODES, NODE_WEIGHTS = np.polynomial.legendre.leggauss(8)


class Part(NamedTuple):
    """A part of a change of the mean loss, with 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def sure(self) -> bool:
        return not self.low <= 0 <= self.high


class Parts(NamedTuple):
    """Parts of the change of a mean loss. `covariate` is the sum of the first and last of the three `terms`, `concept`
    the middle one, and together they are `total`."""

    total: Part
    covariate: Part
    concept: Part
    terms: tuple[Part, Part, Part]


def decompose(made: Design, inputs: Fit, loss: Floats, n: int) -> Parts:
    """The three terms and their sums, each with the jackknife's interval."""
    is_current = np.arange(len(loss)) >= n
    block = np.concatenate([_blocks(n), BLOCKS + _blocks(len(loss) - n)])
    x = np.column_stack([made.columns, np.ones(len(loss))])
    whole = three_terms(inputs.logit, loss, n)
    left_out = np.empty((2 * BLOCKS, 3))
    for k, beta in enumerate(domain.without_blocks(inputs, made.columns, is_current, block)):
        rest = block != k
        left_out[k] = three_terms((x @ beta - inputs.prior)[rest], loss[rest], int(rest[:n].sum()))
    sums = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [1, 0, 1]], np.float64)
    values, spread = sums @ whole, np.zeros(len(sums))
    for side in (left_out[:BLOCKS], left_out[BLOCKS:]):
        off = (side - side.mean(0)) @ sums.T
        spread += (BLOCKS - 1) / BLOCKS * (off**2).sum(0)
    half = T_95 * np.sqrt(spread)
    found = [Part(float(v), float(v - h), float(v + h)) for v, h in zip(values, half, strict=True)]
    return Parts(found[3], found[4], found[1], (found[0], found[1], found[2]))


def three_terms(logit: Floats, loss: Floats, n: int) -> Floats:
    """(3,) reference to shared, concept on the shared, shared to current; they sum to the change of the mean."""
    chance = domain.sigmoid(logit)
    weight = np.where(np.arange(len(loss)) < n, chance, 1 - chance)
    was, now = float(loss[:n].mean()), float(loss[n:].mean())
    shared_was = float(weight[:n] @ loss[:n] / weight[:n].sum())
    shared_now = float(weight[n:] @ loss[n:] / weight[n:].sum())
    return np.array([shared_was - was, shared_now - shared_was, now - shared_now])


def overlap_of(inputs: Fit, n: int) -> tuple[float, tuple[float, float]]:
    """4 pi (1 - pi) on average over both times, and (sum w)^2 / sum w^2 of each side."""
    chance = domain.sigmoid(inputs.logit)
    both = 4 * chance * (1 - chance)
    sides = (chance[:n], 1 - chance[n:])
    first, second = (float(w.sum() ** 2 / (w**2).sum()) if w.any() else 0.0 for w in sides)
    return float((both[:n].mean() + both[n:].mean()) / 2), (first, second)


def loss_parts(made: Design, inputs: Fit, loss: Floats, n: int) -> Floats:
    """(f,) each feature's part of the covariate change of the loss, by integrating along logit * t for t in 0..1
    (Aumann and Shapley 1974): the parts sum to the two covariate terms, up to the error of an 8-point rule."""
    by_feature = (made.columns * inputs.coefficients[:-1]) @ made.owners
    whole = by_feature.sum(1)
    intercept = float(np.mean(inputs.logit - whole))
    parts = np.zeros(made.owners.shape[1])
    for node, share in zip((NODES + 1) / 2, NODE_WEIGHTS / 2, strict=True):
        chance = domain.sigmoid(intercept + node * whole)
        slope = chance * (1 - chance)
        for rows, weight in ((slice(0, n), chance), (slice(n, None), 1 - chance)):
            w, own = weight[rows], by_feature[rows]
            mean = float(w @ loss[rows] / w.sum())
            parts += share * ((slope[rows] * (loss[rows] - mean)) @ own) / w.sum()
    return parts


def _blocks(n: int) -> NDArray[np.int64]:
    return np.arange(n, dtype=np.int64) * BLOCKS // n
