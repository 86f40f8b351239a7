"""Whether predictions whose label came differ from those whose label never came (F14): figures that rest on the former
say nothing of the latter where they do.

Owns what is compared and when it is sure; refuses to know windows. Rows are a sample of those whose fate is known, so
both sides are drawn alike, and they are compared within the window of their predictions, so the time of the year is the
same. It is told and not alarmed: labels that are lost come in bursts, and a burst differs by its hour alone, whatever
the rows. That fewer labels come is a stream of its own (`unlabelled`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from stream.windows.columns import Floats
from stream.windows.sources.features import Features

COLUMNS_MAX: Final = 256
"""Columns that are compared; a window keeps 48 bytes of each until its labels have come."""

LEVELS: Final = 5
"""Categories of a feature that have a column of their own, one less than there are, as the last follows from them."""

ROWS_MIN: Final = 30
"""Fewer rows of a side say nothing."""

TOLD: Final = 5
"""Columns that are told, those farthest apart."""

LEVEL: Final = 0.05
"""Chance, over all columns, that an interval misses."""

SCORE: Final = "score"


class Column(NamedTuple):
    """One number of a row: the bin of a feature's value (its rank among the reference's quantiles) where `category` is
    -1, else whether the value is that category."""

    name: str
    feature: int
    category: int


def columns_of(features: Features) -> list[Column]:
    """What of the features is compared."""
    found: list[Column] = []
    for j, name in enumerate(features.names):
        words = features.bins[j].categories
        if features.streams[j].kind == "categorical":
            found += [Column(f"{name} = {word}", j, k) for k, word in enumerate(words[: min(LEVELS, len(words) - 1)])]
        else:
            found.append(Column(name, j, -1))
    return found[:COLUMNS_MAX]


def sums(columns: Sequence[Column], codes: NDArray[np.int32], score: Floats, labelled: NDArray[np.bool_]) -> Floats:
    """(2, 3, c + 1) rows, sums and sums of squares of (n, f) codes and (n,) scores, of those without a label first.
    Sums of several calls add up."""
    n = len(score)
    x = np.empty((n, len(columns) + 1))
    for k, column in enumerate(columns):
        code = codes[:, column.feature]
        value = code if column.category < 0 else code == column.category
        x[:, k] = np.where(code >= 0, value, np.nan)
    x[:, -1] = score
    out = np.zeros((2, 3, x.shape[1]))
    for side in (0, 1):
        own = x[labelled == bool(side)]
        out[side] = (~np.isnan(own)).sum(0), np.nansum(own, 0), np.nansum(own * own, 0)
    return out


def told(columns: Sequence[Column], total: Floats, every: bool = False) -> dict[str, dict[str, float]]:
    """By name, how far the labelled lie from the unlabelled, in standard deviations of both together, with an interval
    that holds for all columns at once (Welch's); those where it is sure, or `every` one, the farthest first."""
    rows, added, squares = total[:, 0], total[:, 1], total[:, 2]
    n = np.maximum(rows, 1.0)
    means = added / n
    variances = np.maximum(squares / n - means**2, 0.0) * n / np.maximum(n - 1, 1.0)
    spread = np.sqrt(variances.mean(0))
    enough = (rows >= ROWS_MIN).all(0) & (spread > 0)
    unit = np.where(enough, spread, 1.0)
    difference = (means[1] - means[0]) / unit
    half = float(ndtri(1 - LEVEL / 2 / max(int(enough.sum()), 1))) * np.sqrt((variances / n).sum(0)) / unit
    sure = enough & (np.abs(difference) > half) if not every else enough
    names = [*(column.name for column in columns), SCORE]
    order = sorted(np.flatnonzero(sure).tolist(), key=lambda k: (-abs(float(difference[k])), k))[:TOLD]
    return {
        names[k]: {
            "difference": round(float(difference[k]), 4), "low": round(float(difference[k] - half[k]), 4),
            "high": round(float(difference[k] + half[k]), 4), "labelled": float(rows[1, k]),
            "unlabelled": float(rows[0, k]),
        }
        for k in order
    }  # fmt: skip
