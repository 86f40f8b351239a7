"""What is betted on: how a stream might change, and how much weight each way gets. Refuses to know blocks and budgets.

A bet is a vector v on the nodes of a stream's tree. With z the scores of a block (N(0,1) each if nothing has changed)
and r the effective block size, e = exp(sqrt(r) v.z - r |v|^2 / 2) has mean exactly 1, whatever v. It is made from an
alternative Q of the bins: v = sign * sqrt(2 Q(node) KL(split under Q || split under p)), the direction in which Q would
push the scores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from detectors.contract import Kind
from detectors.scores import tree

Floats = NDArray[np.float64]

LOCATION_SD = np.array([0.05, 0.08, 0.125, 0.2, 0.32, 0.5, 0.8, 1.25])
SCALE_LOG_VARIANCE = np.array([0.1, 0.2, 0.4, 0.8])
QUARTER_ARCSINE = (0.1, 0.3)
CATEGORY_ARCSINE = (0.07, 0.14, 0.28, 0.56)
RATE_ARCSINE = (0.05, 0.075, 0.11, 0.16, 0.24, 0.36)
"""Sizes of change, on scales where the same step is as hard to see everywhere; weight goes with size ** -1/2."""

TWOFOLD: Final[Mapping[Kind, tuple[int, ...]]] = {"loss": (1,), "rate": (1, -1)}
"""Kinds with two bins, and which ways they are watched. A change by an angle of the arcsine scale has that same angle
as its bet, nearly, whatever the rate was: so these bets are not learned, and every row of a reference is evidence."""

LOCATION_WEIGHT, SCALE_WEIGHT, QUARTER_WEIGHT = 0.6, 0.25, 0.15

KEEP = 0.004
"""Subtrees worth less than this part of the information of every bet are cut: 15 of 63 nodes keep 99 %."""

CATEGORIES_BET_ON = 20
QUARTERS = ("lowest quarter", "second quarter", "third quarter", "highest quarter")


class Alternatives(NamedTuple):
    """Ways to change. probabilities: (bets, K); weights: (bets,), sum 1 (all 0 where nothing can
    change); words: what each says; bins: the bin whose share moves, -1 where it is not one."""

    probabilities: Floats
    weights: Floats
    words: tuple[str, ...]
    bins: tuple[int, ...]


class Bets(NamedTuple):
    """One stream's tree and bets. nodes: (nodes, 3); vectors: (nodes, bets)."""

    nodes: NDArray[np.int64]
    vectors: Floats
    alternatives: Alternatives


def smooth(counts: NDArray[np.int64] | Floats) -> Floats:
    """(K,) probabilities from counts, none of them zero."""
    c = np.asarray(counts, np.float64)
    return (c + 0.5) / (c.sum() + 0.5 * len(c))


def make(p: Floats, kind: Kind, names: Sequence[str]) -> Bets:
    """Tree and bets of a stream whose bins have mass p; `names` of its bins are used for categories."""
    ways = alternatives(p, kind, names)
    nodes, vectors = _vectors(p, tree(p), ways.probabilities)
    if kind in TWOFOLD and len(nodes):
        vectors = np.array([[-sign * size for size in RATE_ARCSINE for sign in TWOFOLD[kind]]])
    return Bets(nodes, vectors, ways)


def alternatives(p: Floats, kind: Kind, names: Sequence[str]) -> Alternatives:
    """How a stream of this kind may change from p, with prior weights."""
    collected = _Collected(p)
    k = np.arange(len(p))
    if kind == "loss":
        collected.share(k == len(p) - 1, RATE_ARCSINE, 1.0, "loss", TWOFOLD["loss"])
    elif kind == "rate":
        collected.share(k == len(p) - 1, RATE_ARCSINE, 1.0, "rate", TWOFOLD["rate"])
    elif kind == "categorical":
        for i in np.argsort(-p, kind="stable")[:CATEGORIES_BET_ON]:
            collected.share(k == i, CATEGORY_ARCSINE, 1.0, f"share of {names[i]}", (1, -1))
    else:
        collected.location_and_scale()
        quarter = quarters(p)
        unit = QUARTER_WEIGHT / 8 / sum(size**-0.5 for size in QUARTER_ARCSINE)
        for i, name in enumerate(QUARTERS):
            collected.share(quarter == i, QUARTER_ARCSINE, unit, name, (1, -1))
    return collected.alternatives()


def quarters(p: Floats) -> NDArray[np.int64]:
    """(K,) which quarter of the mass each bin's middle lies in."""
    return np.minimum((4 * (np.cumsum(p) - p / 2)).astype(np.int64), 3)


def normal_scores(p: Floats) -> Floats:
    """(K,) normal quantile of the middle of each bin's mass."""
    scores: Floats = ndtri(np.clip(np.cumsum(p) - p / 2, 1e-6, 1 - 1e-6))
    return scores


class _Collected:
    """Alternatives to p as they are named."""

    def __init__(self, p: Floats) -> None:
        self.p = p
        self.probabilities: list[Floats] = []
        self.weights: list[float] = []
        self.words: list[str] = []
        self.bins: list[int] = []

    def add(self, q: Floats, weight: float, words: str, bin_: int = -1) -> None:
        self.probabilities.append(q)
        self.weights.append(weight)
        self.words.append(words)
        self.bins.append(bin_)

    def share(
        self, mask: NDArray[np.bool_], sizes: Sequence[float], unit: float, name: str, signs: Sequence[int]
    ) -> None:
        """Changes of the share of some bins, equally spaced on the arcsine scale."""
        q0 = float(self.p[mask].sum())
        if not 0 < q0 < 1:
            return
        for size in sizes:
            for sign in signs:
                angle = min(max(math.asin(math.sqrt(q0)) + sign * size / 2, 0.01), math.pi / 2 - 0.01)
                q = math.sin(angle) ** 2
                moved = np.where(mask, self.p * q / q0, self.p * (1 - q) / (1 - q0))
                bin_ = int(np.argmax(mask)) if mask.sum() == 1 else -1
                self.add(moved, unit * size**-0.5, f"{name} {'up' if sign > 0 else 'down'}", bin_)

    def location_and_scale(self) -> None:
        """Shifts and stretches of the latent normal."""
        x = ndtri(np.clip(np.cumsum(self.p)[:-1], 1e-9, 1 - 1e-9))
        location = LOCATION_WEIGHT / 2 * LOCATION_SD**-0.5 / (LOCATION_SD**-0.5).sum()
        scale = SCALE_WEIGHT / 2 * SCALE_LOG_VARIANCE**-0.5 / (SCALE_LOG_VARIANCE**-0.5).sum()
        for sign, word in ((1, "up"), (-1, "down")):
            for size, weight in zip(LOCATION_SD, location, strict=True):
                self.add(_masses(x - sign * size), float(weight), f"level {word}")
            for size, weight in zip(SCALE_LOG_VARIANCE, scale, strict=True):
                self.add(_masses(x * math.exp(-sign * size / 2)), float(weight), f"spread {word}")

    def alternatives(self) -> Alternatives:
        if len(self.p) < 2:  # a stream of one bin cannot change
            return Alternatives(self.p[None], np.zeros(1), ("nothing",), (-1,))
        q = np.maximum(np.array(self.probabilities), 1e-12)
        weights = np.array(self.weights)
        return Alternatives(q / q.sum(1, keepdims=True), weights / weights.sum(), tuple(self.words), tuple(self.bins))


def _masses(cuts: Floats) -> Floats:
    return np.diff(np.concatenate([[0.0], ndtr(cuts), [1.0]]))


def _vectors(p: Floats, nodes: NDArray[np.int64], q: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Bet vectors on the nodes that matter: signed root of twice the information of each split."""
    a, b, c = nodes.T
    under_p, under_q = (np.concatenate([np.zeros((len(x), 1)), np.cumsum(x, 1)], 1) for x in (p[None], q))
    split_p, split_q = ((x[:, b] - x[:, a]) / (x[:, c] - x[:, a]) for x in (under_p, under_q))
    kl = split_q * np.log(split_q / split_p) + (1 - split_q) * np.log((1 - split_q) / (1 - split_p))
    mass = under_q[:, c] - under_q[:, a]
    vectors = (np.sign(split_q - split_p) * np.sqrt(2 * mass * np.maximum(kl, 0.0))).T
    squares = vectors**2
    total = np.maximum(squares.sum(0), 1e-300)
    inside = (a[None] >= a[:, None]) & (c[None] <= c[:, None])
    keep = (inside.astype(np.float64) @ squares / total).max(1, initial=0.0) >= KEEP
    return nodes[keep], vectors[keep]
