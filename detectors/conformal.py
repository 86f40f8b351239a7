"""How strange one row is against the reference, as a conformal p-value. Owns the measure; refuses to judge streams.

The share of calibration rows that are at least as strange as the new row, ties broken at random (Vovk, Gammerman and
Shafer 2005, section 2.5). **If the row is exchangeable with the calibration rows, p is uniform exactly**, whatever the
measure and however well it was shaped; a share alpha of ordinary rows has p below alpha. Rows that shape the measure
do not calibrate it. p-values of different rows share the calibration and so hang together a little: count how many lie
below alpha with a detector on a stream of its own, not with a binomial test.

Three things make a row strange, and the largest counts, each on a scale where 0 is the reference's median and 1 its
99th percentile: the **sum** of the surprises of all features, the **largest** surprise, and the **distance** of
`codependence`. A surprise is minus the log of a share: of the category; of the tail beyond a number, which goes on
after the last edge as a Pareto tail fitted to what lay there; of missing values where the value is missing.

Share of planted rows found at p < 0.01; 50 features, reference of 5,000 (of ordinary rows: .01):

| | x1000 | unseen category | two against their correlation of .9 | all as if independent | all spread x1.5 |
|---|---|---|---|---|---|
| largest of three (this) | 1.00 | 1.00 | .13 | 1.00 | .33 |
| bin masses + distance | .14 | .24 | .16 | .99 | .14 |
| distance alone | .26 | .04 | .34 | 1.00 | .12 |
| sum alone | .05 | .03 | .01 | .00 | .38 |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors import codependence, randomness
from detectors import state as states
from detectors.bets import smooth
from detectors.binning import count
from detectors.codependence import Codependence
from detectors.contract import Bins, Stream

Floats = NDArray[np.float64]
Codes = NDArray[np.int32]

CALIBRATION_MAX: Final = 4_096
"""Scores that are kept (32 kB): the smallest p-value is 1 / 4,097, well below any level that people can follow up."""

CALIBRATION_MIN: Final = 100
"""Fewer rows than this cannot tell the strangest hundredth."""

SHAPING_SHARE: Final = 0.5
"""Of the reference: a category that was never seen is no rarer than one over the rows that did not show it. With half
of 5,000 rows all of them were found among 50 features, with a fifth 2 in 100."""

STRANGE_P: Final = 0.01
"""Rows below are worth a look: one in a hundred ordinary ones is among them."""

COMBINATION: Final = -1
"""Stands where a feature's place would: no single feature is strange, but how they come together."""

UNIT_QUANTILES: Final = (0.5, 0.99)
UNIT_MIN: Final = 1e-6
"""Where nothing varied, whatever differs is strange beyond measure, and still a number."""

SLOPE_MIN: Final = 0.1
"""A tail of a few equal values must not make its neighbour infinitely strange."""

VERSION: Final = 1


class Strangeness(msgspec.Struct, frozen=True):
    """f features, bins up to K, m calibration rows. `surprise`: (f, K + 1), a missing value's first. The tails, low and
    high: `edges` (2, f), infinite where there is none; `scale` (2, f) the median excess; `slope` (2, f) mean of
    log(1 + excess / scale). `units`: (3, 2) median and width of sum, largest and distance. `scores`: (m,) ascending."""

    surprise: Floats
    edges: Floats
    scale: Floats
    slope: Floats
    units: Floats
    codependence: Codependence
    scores: Floats
    key: int
    version: int = VERSION


def learn(
    features: Sequence[Stream], bins: Sequence[Bins], codes: Codes, values: Floats, found: Codependence, seed: int
) -> Strangeness:
    """From (n, f) reference rows: the first half, which begins with the rows that `found` was learned from, shapes the
    measure, the second calibrates it. Raises ValueError where there are too few of either.
    """
    own = int(len(codes) * SHAPING_SHARE)
    rest = len(codes) - own
    if own < max(found.rows, codependence.ROWS_MIN) or rest < CALIBRATION_MIN:
        least = f"{max(found.rows, codependence.ROWS_MIN)} and {CALIBRATION_MIN}"
        raise ValueError(f"{own} rows to shape and {rest} to calibrate; at least {least} are needed")
    edges, scale, slope = _tails(features, bins, values[:own])
    made = Strangeness(
        _surprises(features, bins, codes[:own]), edges, scale, slope, np.array([[0.0, 1.0]] * 3), found, np.zeros(0),
        randomness.key(seed, "strangeness"),
    )  # fmt: skip
    low, high = np.quantile(_parts(made, codes[:own], values[:own], found.rows)[0], UNIT_QUANTILES, axis=0)
    made = msgspec.structs.replace(made, units=np.column_stack([low, np.maximum(high - low, UNIT_MIN)]))
    rows = own + np.linspace(0, rest - 1, min(rest, CALIBRATION_MAX)).astype(np.int64)
    return msgspec.structs.replace(made, scores=np.sort(scores(made, codes[rows], values[rows])))


def scores(found: Strangeness, codes: Codes, values: Floats) -> Floats:
    """(n,) strangeness of (n, f) rows: 0 ordinary, 1 as the strangest hundredth of the reference in some respect."""
    return np.asarray(_parts(found, codes, values)[0].max(1))


def p_values(found: Strangeness, codes: Codes, values: Floats, first: int) -> Floats:
    """(n,) conformal p-values. `first` numbers the first row: the tie of a row is broken by its number, so cutting rows
    into calls differently changes nothing. About 2 us a row of 50 features in calls of 256.
    """
    score = scores(found, codes, values)
    larger = len(found.scores) - np.searchsorted(found.scores, score, side="right")
    equal = len(found.scores) - larger - np.searchsorted(found.scores, score, side="left")
    keys = np.uint64(found.key) + np.arange(first, first + len(codes), dtype=np.uint64)
    ties = randomness.uniforms(keys, 0, 1)[:, 0]
    return np.asarray((larger + ties * (equal + 1)) / (len(found.scores) + 1))


def strangest(found: Strangeness, codes: Codes, values: Floats) -> NDArray[np.int64]:
    """(n,) place of the feature that makes each row strange; `COMBINATION` where it is the distance."""
    parts, feature = _parts(found, codes, values)
    return np.where(parts.argmax(1) == 2, COMBINATION, feature)


def pack(found: Strangeness) -> bytes:
    return states.pack(found)


def unpack(state: bytes) -> Strangeness:
    """The inverse of `pack`. Raises ValueError where the bytes are something else."""
    return states.unpack(Strangeness, VERSION, state)


def _parts(found: Strangeness, codes: Codes, values: Floats, own: int = 0) -> tuple[Floats, NDArray[np.int64]]:
    """(n, 3) sum, largest and distance in their units, and the (n,) place of the largest surprise."""
    n, f = codes.shape
    width = found.surprise.shape[1]
    surprise = found.surprise.ravel().take(codes + (np.arange(f) * width + 1))
    for side, excess in ((0, found.edges[0] - values), (1, values - found.edges[1])):
        row, j = np.nonzero(excess > 0)
        surprise[row, j] += np.log1p(excess[row, j] / found.scale[side, j]) / found.slope[side, j]
    distances = codependence.read(found.codependence, codes, own)[:, -1:]
    distance = np.nan_to_num(distances[:, 0]) if distances.shape[1] else np.zeros(n)
    parts = np.column_stack([surprise.sum(1), surprise.max(1, initial=0.0), distance])
    place = surprise.argmax(1) if f else np.zeros(n, np.int64)
    return (parts - found.units[:, 0]) / found.units[:, 1], place


def _surprises(features: Sequence[Stream], bins: Sequence[Bins], codes: Codes) -> Floats:
    """(f, K + 1) minus log of shares, a missing value's first."""
    width = max((each.size for each in bins), default=0)
    counts = count(codes, width)
    out = np.zeros((len(bins), width + 1))
    for j, (stream, own) in enumerate(zip(features, bins, strict=True)):
        p = smooth(counts[j, : own.size])
        if stream.kind == "numeric":
            middle = np.cumsum(p) - p / 2
            p = 2 * np.minimum(middle, 1 - middle)
        known = int(counts[j].sum())
        out[j, 0] = -np.log(smooth(np.array([len(codes) - known, known]))[0])
        out[j, 1 : own.size + 1] = -np.log(p)
    return out


def _tails(features: Sequence[Stream], bins: Sequence[Bins], values: Floats) -> tuple[Floats, Floats, Floats]:
    """Edges, median excess and slope of the low and the high tail of each numeric feature; (2, f) each."""
    f = len(bins)
    edges = np.stack([np.full(f, -np.inf), np.full(f, np.inf)])
    scale, slope = np.ones((2, f)), np.ones((2, f))
    for j, (stream, own) in enumerate(zip(features, bins, strict=True)):
        if stream.kind != "numeric" or not own.edges:
            continue
        edges[:, j] = own.edges[0], own.edges[-1]
        x = values[:, j]
        body = own.edges[-1] - own.edges[0]
        for side, excess in ((0, own.edges[0] - x), (1, x - own.edges[-1])):
            beyond = excess[(excess > 0) & np.isfinite(excess)]
            # A tail that was empty begins at the width of what there was, or at the size of the edge itself.
            fallback = body or abs(own.edges[-1]) or 1.0
            scale[side, j] = np.median(beyond) if len(beyond) else fallback
            slope[side, j] = max(np.log1p(beyond / scale[side, j]).mean(), SLOPE_MIN) if len(beyond) else 1.0
    return edges, scale, slope
