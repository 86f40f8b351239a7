"""Coded rows as the columns of a regression that tells two times apart. Owns how a feature becomes columns; refuses to
know losses and what is concluded.

A numeric feature is its normal score (`bets.normal_scores` of the reference) and its square; a category is an indicator
for each level that is not rare; what is missing has an indicator of its own. Features that have moved on their own get
eight steps in place of the square, and pairs whose correlation has moved get their product: a shift of any plain shape
is then inside the model, and what it leaves to the labels is theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectors import statistics
from detectors.bets import normal_scores, smooth
from detectors.binning import count
from detectors.contract import Bins, Kind
from detectors.domain import standardised

Floats = NDArray[np.float64]
Codes = NDArray[np.int16] | NDArray[np.int32]

FEATURES_MAX: Final = 48
"""Features in the regression, those that moved most: its cost grows with the square of the columns, and at 48 features
it takes a second."""

FINE_MAX: Final = 8
STEPS: Final = 8
"""Features that get steps, and how many: more would spend rows on shapes that are not there."""

PAIRS_MAX: Final = 6
PAIR_SURE: Final = 5.0
"""Standard errors by which a covariance must move to get a product; among a thousand pairs chance reaches 4.5 once in
two hundred alarms."""

RARE: Final = 20
"""Rows of both times together; a level with fewer shares one indicator with the other rare ones."""


class Design(NamedTuple):
    """columns: (N, p) standardised. owners: (p, f) which feature each belongs to, halves for a product. main: (p,)
    whether it is a score or a level, with which the label is crossed. product: (p,) whether it is of a pair. psi: (f,)
    debiased PSI of each feature."""

    columns: Floats
    owners: Floats
    main: NDArray[np.bool_]
    product: NDArray[np.bool_]
    psi: Floats


class Block(NamedTuple):
    columns: list[Floats]
    main: list[bool]


def design(kinds: Sequence[Kind], bins: Sequence[Bins], codes: Codes, n: int, skip: Sequence[int] = ()) -> Design:
    """Columns of (N, f) codes whose first n rows are the reference. Features in `skip` get none."""
    f = len(kinds)
    psi, surprise = movement(bins, codes, n)
    usable = [j for j in range(f) if j not in skip]
    chosen = sorted(sorted(usable, key=lambda j: (-surprise[j], j))[:FEATURES_MAX])
    fine = sorted((j for j in chosen if surprise[j] > 2.0), key=lambda j: (-psi[j], j))[:FINE_MAX]
    columns, owner, main = [np.zeros((len(codes), 0))], [], []
    for j in chosen:
        block = encode(kinds[j], bins[j].size, codes[:, j], n, j in fine)
        columns += [column[:, None] for column in block.columns]
        owner += [j] * len(block.columns)
        main += block.main
    x = standardised(np.concatenate(columns, axis=1))
    varies = x.any(0)
    x, owners = x[:, varies], np.eye(f)[owner].reshape(len(owner), f)[varies]
    is_main = np.array(main, np.bool_)[varies]
    products, of_both = moved_pairs(x[:, is_main], owners[is_main], n)
    return Design(
        np.concatenate([x, products], axis=1), np.concatenate([owners, of_both]),
        np.append(is_main, np.zeros(products.shape[1], np.bool_)),
        np.arange(len(is_main) + products.shape[1]) >= len(is_main), psi,
    )  # fmt: skip


def movement(bins: Sequence[Bins], codes: Codes, n: int) -> tuple[Floats, Floats]:
    """(f,) debiased PSI of each feature, missing values as a bin of their own, and how many standard deviations of
    chance that is."""
    width = max((each.size for each in bins), default=1) + 1
    shifted = codes.astype(np.int32) + 1
    before, after = count(shifted[:n], width), count(shifted[n:], width)
    psi = statistics.psi(before, after)
    used = ((before + after) > 0).sum(-1)
    chance = np.sqrt(2 * np.maximum(used - 1, 1)) * (1 / max(n, 1) + 1 / max(len(codes) - n, 1))
    return psi, np.asarray(psi / chance)


def encode(kind: Kind, size: int, codes: Codes, n: int, fine: bool) -> Block:
    """Columns of one feature."""
    present = codes >= 0
    block = Block([], [])
    if kind == "numeric":
        p = smooth(count(codes[:n, None].astype(np.int32), size)[0])
        z = np.where(present, normal_scores(p)[np.maximum(codes, 0)], 0.0)
        block.columns.append(z)
        block.main.append(True)
        for column in steps(codes, size) if fine else [z * z]:
            block.columns.append(column)
            block.main.append(False)
    else:
        for column in levels(codes, size):
            block.columns.append(column)
            block.main.append(True)
    if min(int(present.sum()), int((~present).sum())) >= RARE:
        block.columns.append((~present).astype(np.float64))
        block.main.append(True)
    return block


def levels(codes: Codes, size: int) -> list[Floats]:
    """Indicators of the levels but the busiest; rare ones share one."""
    seen = count(codes[:, None].astype(np.int32), size)[0]
    base = int(np.argmax(seen))
    busy = [k for k in range(size) if k != base and seen[k] >= RARE]
    rare = np.flatnonzero((seen < RARE) & (np.arange(size) != base))
    found = [(codes == k).astype(np.float64) for k in busy]
    return [*found, np.isin(codes, rare).astype(np.float64)] if len(rare) else found


def steps(codes: Codes, size: int) -> list[Floats]:
    """Indicators of STEPS groups of neighbouring bins, about as many rows each; the first has none."""
    seen = count(codes[:, None].astype(np.int32), size)[0]
    middle = (np.cumsum(seen) - seen / 2) / max(int(seen.sum()), 1)
    group = np.minimum((STEPS * middle).astype(np.int64), STEPS - 1)
    of_row = np.where(codes >= 0, group[np.maximum(codes, 0)], -1)
    return [(of_row == k).astype(np.float64) for k in np.unique(group)[1:]]


def moved_pairs(main: Floats, owners: Floats, n: int) -> tuple[Floats, Floats]:
    """(N, k) products of the pairs of columns of two features whose covariance has moved surely, and their owners."""
    before, after = main[:n] - main[:n].mean(0), main[n:] - main[n:].mean(0)
    difference = after.T @ after / len(after) - before.T @ before / len(before)
    error = np.sqrt(covariance_variance(before) + covariance_variance(after))
    sure = np.abs(difference) / np.where(error > 0, error, np.inf)
    sure[(owners @ owners.T > 0) | np.tri(len(owners), dtype=np.bool_)] = 0.0
    a, b = np.unravel_index(np.argsort(-sure, axis=None, kind="stable")[:PAIRS_MAX], sure.shape)
    keep = sure[a, b] > PAIR_SURE
    a, b = a[keep], b[keep]
    return standardised(main[:, a] * main[:, b]), (owners[a] + owners[b]) / 2


def covariance_variance(centred: Floats) -> Floats:
    """(p, p) sampling variance of each covariance."""
    n = len(centred)
    squares = centred**2
    return np.asarray((squares.T @ squares / n - (centred.T @ centred / n) ** 2) / n)
