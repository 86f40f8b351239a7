"""How features hang together, as numbers that an ordinary detector can watch: products of pairs and one distance.

Owns the map from a row's bins to those numbers, learned once; it judges nothing. A feature enters as the normal score
of its bin, standardised, so heavy tails and units do not matter; a categorical one as indicators of its busiest levels.
The mean of a pair's product is its correlation. The distance is Mahalanobis', with a covariance shrunk towards the
identity (Ledoit and Wolf 2004), so that it exists for any number of features.

A correlation that changes moves the pair's product, and the distance where it was strong before. A correlation that is
new, between features that had none, is seen only where the pair is among those watched: all of them up to ten features.
A feature that changes alone moves its pairs too; that the joint law alone has changed is said by the features' silence.

Scores and root lie on a grid of 2 ** -16, so every product and sum is exact in a float64 whatever the order in which a
library adds: the same row gives the same bits, however rows are cut into calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors import randomness
from detectors import state as states
from detectors.bets import normal_scores, smooth
from detectors.binning import count
from detectors.contract import Bins, Stream

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Codes = NDArray[np.int32]

PAIRS_MAX: Final = 50
"""Pairs that are watched: twice as many cost 0.7 nats of evidence each, about 4 % of the delay, and twice the time."""

DRAWN_MIN: Final = 10
"""Of them drawn at random where there are more: what hangs together today is not all that may do so tomorrow."""

CORRELATION_SD: Final = 4.0
"""Standard errors that a correlation is beyond zero before it ranks; the largest of noise would look strong in the rows
that it was chosen by and in no others."""

COLUMNS_MAX: Final = 256
"""Columns of the covariance; time grows with the square. Features beyond are counted in `left_out`."""

LEVELS: Final = 5
"""Busiest levels of a categorical feature with an indicator; one less than there are, as the last follows from them."""

MINOR_SHARE_MIN: Final = 0.02
"""A column of which all but this share is one bin is left out: standardised, its few others would drown the rest."""

SHRINKAGE_MIN: Final = 0.02
"""Part of the identity even where the estimate would do without: copies of a column must not blow up the inverse."""

GRID: Final = 2.0**16
"""Steps in a unit. With scores below 2 ** 4 and roots below 2 ** 7, sums of 256 stay below 2 ** 53 steps."""

ROWS_MIN: Final = 100
"""Fewer rows show no dependence."""

TIMES: Final = "\u00d7"
VERSION: Final = 1


class Codependence(msgspec.Struct, frozen=True):
    """c columns, p pairs, bins up to K. `feature`: (c,) place of each column's feature; `table`: (c, K + 1) scores, the
    first for a missing value (NaN); `pairs`: (p, 2) columns; `root`: (c, c), so that the distance is |z @ root| ** 2;
    `rows`: how many it was learned from; `own_share`: what one of them weighs in the covariance."""

    columns: tuple[str, ...]
    feature: Ints
    table: Floats
    pairs: Ints
    root: Floats
    rows: int
    own_share: float
    left_out: int
    version: int = VERSION


def learn(features: Sequence[Stream], bins: Sequence[Bins], codes: Codes, seed: int) -> Codependence:
    """Columns, pairs and covariance of (n, f) training codes; fewer than 100 rows or 2 columns leave nothing to watch.

    >>> draw = np.random.default_rng(1)
    >>> x = draw.integers(0, 4, 500)
    >>> codes = np.column_stack([x, 3 - x, draw.integers(0, 4, 500)]).astype(np.int32)
    >>> found = learn([Stream(name, "numeric") for name in "abc"], [Bins(edges=(0.0, 1.0, 2.0))] * 3, codes, seed=1)
    >>> [stream.name.replace(TIMES, " with ") for stream in streams(found)]
    ['pair/a with b', 'pair/a with c', 'pair/b with c', 'distance']
    >>> correlations(found, read(found, codes))[:1].round(2).tolist()
    [-1.0]
    """
    names, places, table = _columns(features, bins, codes)
    kept = slice(0, COLUMNS_MAX if len(names) > 1 and len(codes) >= ROWS_MIN else 0)
    feature = np.array(places[kept], np.int64)
    left_out = len(dict.fromkeys(places)) - len(dict.fromkeys(places[kept]))
    none, n = np.zeros((0, 0)), len(codes)
    pairs = np.zeros((0, 2), np.int64)
    made = Codependence(tuple(names[kept]), feature, table[kept], pairs, none, n, 0.0, left_out)
    if not made.columns:
        return made
    z = np.nan_to_num(_scores(made, codes))
    covariance = z.T @ z / n
    shrinkage = _shrinkage(z, covariance)
    target = np.eye(len(feature)) * np.trace(covariance) / len(feature)
    root = np.linalg.inv(np.linalg.cholesky((1 - shrinkage) * covariance + shrinkage * target)).T
    return msgspec.structs.replace(
        made,
        pairs=_pairs(covariance, feature, n, seed),
        root=np.round(root * GRID) / GRID,
        own_share=(1 - shrinkage) / n,
    )


def streams(found: Codependence, weight: float = 1.0) -> list[Stream]:
    """What `read` gives, as numeric streams that share `weight`: the pairs, then the distance."""
    names = [f"pair/{found.columns[a]}{TIMES}{found.columns[b]}" for a, b in found.pairs.tolist()]
    names += ["distance"] if found.columns else []
    return [Stream(name, "numeric", weight / len(names)) for name in names]


def read(found: Codependence, codes: Codes, own: int = 0) -> Floats:
    """(n, p + 1) products and distance of (n, f) codes; (n, 0) where nothing is watched.

    A pair is missing (NaN) where either value is. In the distance a missing value stands at the centre: it adds nothing
    itself, but a column that it used to explain looks stranger, so a missing share that changes moves the distance too.
    Only a row without any value has none. `own`: how many of the first rows the covariance was learned from; theirs is
    the distance from what the others show, or they would look nearer than all later rows (by 0.46 standard deviations
    with 40 columns of 400 rows; 0.06 are left). About 1 us a row of 98 columns and 50 pairs in calls of 256.
    """
    if not found.columns:
        return np.zeros((len(codes), 0))
    z = _scores(found, codes)
    known = ~np.isnan(z)
    a, b = found.pairs.T
    distance = ((np.where(known, z, 0.0) @ found.root) ** 2).sum(1)
    distance[:own] /= 1 - found.own_share * distance[:own]  # Sherman-Morrison: the covariance without this row
    distance[~known.any(1)] = np.nan
    return np.column_stack([z[:, a] * z[:, b], distance])


def correlations(found: Codependence, values: Floats) -> Floats:
    """(p,) correlation of each pair in rows of `read`, in the units of the rows learned from; NaN without rows."""
    products = values[:, : len(found.pairs)]
    n = (~np.isnan(products)).sum(0)
    return np.where(n > 0, np.nansum(products, 0) / np.maximum(n, 1), np.nan)


def pack(found: Codependence) -> bytes:
    return states.pack(found)


def unpack(state: bytes) -> Codependence:
    """The inverse of `pack`. Raises ValueError where the bytes are something else."""
    return states.unpack(Codependence, VERSION, state)


def _columns(features: Sequence[Stream], bins: Sequence[Bins], codes: Codes) -> tuple[list[str], list[int], Floats]:
    """Names, features and (c, K + 1) scores of all columns that vary enough."""
    width = max((each.size for each in bins), default=0)
    counts = count(codes, width)
    names: list[str] = []
    places: list[int] = []
    rows = [np.zeros((0, width + 1))]
    for j, (stream, own) in enumerate(zip(features, bins, strict=True)):
        known = counts[j, : own.size]
        p = smooth(known)
        scored = _indicators(own, known) if own.categories else [("", known, normal_scores(p))]
        for level, counted, score in scored:
            if counted.max(initial=0) >= (1 - MINOR_SHARE_MIN) * counted.sum():
                continue
            standard = (score - p @ score) / np.sqrt(p @ score**2 - (p @ score) ** 2)
            names.append(stream.name + level)
            places.append(j)
            rows.append(np.full((1, width + 1), np.nan))
            rows[-1][0, 1 : own.size + 1] = np.round(standard * GRID) / GRID
    return names, places, np.concatenate(rows)


def _indicators(bins: Bins, known: Ints) -> list[tuple[str, Ints, Floats]]:
    """Each busy level: its words, counts without and with it, and its indicator over the bins."""
    busiest = np.argsort(-known[:-1], kind="stable")[: min(LEVELS, len(bins.categories) - 1)]
    n = int(known.sum())
    return [
        (f"={bins.categories[k]}", np.array([n - known[k], known[k]]), (np.arange(len(known)) == k).astype(np.float64))
        for k in busiest.tolist()
    ]


def _scores(found: Codependence, codes: Codes) -> Floats:
    """(n, c) scores, NaN where missing."""
    width = found.table.shape[1]
    places = codes.take(found.feature, axis=1) + (np.arange(len(found.feature)) * width + 1)
    scores: Floats = found.table.ravel().take(places)
    return scores


def _shrinkage(z: Floats, covariance: Floats) -> float:
    """Ledoit and Wolf's (2004, section 3.2) share of the identity: how much of the spread of eigenvalues is noise."""
    n, c = z.shape
    mean = np.trace(covariance) / c
    spread = float(((covariance - mean * np.eye(c)) ** 2).sum())
    noise = float(((z**2).sum(1) ** 2).sum() / n - (covariance**2).sum()) / n
    return max(min(noise / spread, 1.0) if spread > 0 else 1.0, SHRINKAGE_MIN)


def _pairs(covariance: Floats, feature: Ints, n: int, seed: int) -> Ints:
    """(p, 2) pairs of columns of different features: the strongest first, then some of the others at random."""
    a, b = np.triu_indices(len(feature), 1)
    different = feature[a] != feature[b]
    a, b = a[different], b[different]
    strength = np.abs(covariance[a, b])
    order = np.argsort(-strength, kind="stable")
    strong = int((strength * np.sqrt(n) > CORRELATION_SD).sum())
    drawn = DRAWN_MIN if len(order) > PAIRS_MAX else 0
    first, rest = np.split(order, [min(strong, PAIRS_MAX - drawn)])
    draw = randomness.generator(seed, "pairs")
    others = np.sort(draw.permutation(len(rest))[: PAIRS_MAX - len(first)])
    chosen = np.concatenate([first, rest[others]])
    return np.column_stack([a[chosen], b[chosen]]).astype(np.int64)
