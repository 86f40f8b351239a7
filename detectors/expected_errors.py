"""Numbers: the mean absolute error to expect before labels come (F13).

Owns the counts that a window needs and what they lead one to expect. Direct loss estimation, kept simple: the absolute
error of a row is learned as a function of its prediction's bin, plus what bins of further features add, one after the
other; effects are smooth over the bins, as smooth as the reference's likelihood demands (empirical Bayes, so a feature
that says nothing adds nothing). An additive model needs no more than one histogram a feature from a window. What
intervals mean and cannot mean is said in `estimation.py`; errors that grow for reasons outside of these bins are not
seen.

Counts of a cell: seen by bin of the prediction and of each feature, labelled likewise, then labelled absolute error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from detectors import calibration, statistics
from detectors.calibration import Floats, Ints
from detectors.contract import Bins
from detectors.estimation import Estimate, Point, Reconciled, interval, meet

VERSION: Final = 1

BINS: Final = 40
"""Bins of the prediction and of each feature, at most; the effects are smooth, so more would show nothing more."""

FEATURES_MAX: Final = 16
"""Features that may add to the expected error; a window holds 40 counts of each."""

RARE: Final = 0.001
"""Share of rows at either end that bins by value do not reach: one outlier must not stretch them all."""

NOISE_ROWS: Final = 10.0
"""Rows of the mean variance that every bin's own starts with."""

LINE: Final = 4.0
"""Twice as steep as what the bins' means show is still likely."""

SHAPES: Final = ((0.0, 0.0), *((LINE, curve) for curve in (0.0, 1.0, 10.0, 100.0, 1_000.0, 10_000.0)))
"""Sizes of the priors of line and curve that are tried, in units of what the bins' means show."""

TINY: Final = 1e-12
"""Variance that every bin has, in units of the squared mean error: a matrix must stay invertible without noise."""


class Errors(msgspec.Struct, frozen=True):
    """What a prediction's size says about its error. `edges`: of the prediction, then of each feature. `starts`: where
    each one's bins begin. `mean`: the reference's error; `effect`: what a bin adds to it, with each column's
    `covariance` over samples; `share`: of the reference's rows by bin, 0 for the prediction's, whose effects carry the
    level. `noise`: variance of a row's error about what is expected of it, and `louder`, what a bin adds to that."""

    edges: list[NDArray[np.float64]]
    starts: NDArray[np.int64]
    mean: float
    effect: NDArray[np.float64]
    covariance: list[NDArray[np.float64]]
    share: NDArray[np.float64]
    noise: float
    louder: NDArray[np.float64]
    version: int = VERSION


def learn(prediction: ArrayLike, label: ArrayLike, features: Sequence[ArrayLike] = ()) -> Errors:
    """What to expect of errors, from (n,) labelled reference rows; `features` are (n,) numeric columns, NaN if missing.

    Raises ValueError for fewer than 100 rows, for more than 16 features, and for predictions or labels that are not
    finite.
    """
    named = {f"feature {j}": x for j, x in enumerate(features)}
    if len(named) > FEATURES_MAX:
        raise ValueError(f"{len(named)} features; at most {FEATURES_MAX} may add to the expected error")
    p, y, *extra = calibration.columns(prediction=prediction, label=label, **named)
    if len(p) < calibration.REFERENCE_ROWS_MIN:
        raise ValueError(f"{len(p)} reference rows; at least {calibration.REFERENCE_ROWS_MIN} are needed")
    for what, x in (("prediction", p), ("label", y)):
        calibration.refuse(~np.isfinite(x), what, x, "it must be finite")
    edges = [_edges(x) for x in (p, *extra)]
    codes = [_code(edge, x) for edge, x in zip(edges, (p, *extra), strict=True)]
    counts = [np.bincount(at, minlength=len(edge) + 2).astype(float) for at, edge in zip(codes, edges, strict=True)]
    error = np.abs(p - y)
    unit = float(error.mean()) or 1.0
    error /= unit
    effect, covariance, rest = _additive(edges, codes, counts, error - error.mean())
    noise = rest**2
    louder, _, _ = _additive(edges, codes, counts, noise - noise.mean())
    starts = np.concatenate([[0], np.cumsum([len(rows) for rows in counts])]).astype(np.int64)
    share = np.concatenate(counts) / len(p)
    share[: starts[1]] = 0.0
    return Errors(
        edges=edges,
        starts=starts,
        mean=unit * float(error.mean()),
        effect=unit * effect,
        covariance=[unit**2 * each for each in covariance],
        share=share,
        noise=unit**2 * float(noise.mean()),
        louder=unit**2 * louder,
    )


def _additive(
    edges: list[Floats], codes: list[Ints], counts: list[Floats], rest: Floats
) -> tuple[Floats, list[Floats], Floats]:
    """Effects of all columns on (n,) values with mean 0, by bin, their covariances, and what is left of the values. The
    first column's effects carry the level, those of the others have mean 0 over the reference."""
    effects, covariances = [], []
    level = float((rest**2).mean())
    for edge, at, rows in zip(edges, codes, counts, strict=True):
        mean = np.bincount(at, rest, len(rows)) / np.maximum(rows, 1)
        effect, covariance = _smooth(_places_of(edge), rows, mean, _noise(at, rows, rest), level)
        if not level:
            effect -= float((rows * effect).sum() / rows.sum())
        level = 0.0
        rest = rest - effect[at]
        effects.append(effect)
        covariances.append(covariance)
    return np.concatenate(effects), covariances, rest


def _edges(x: Floats) -> Floats:
    """Edges between bins: half by rank, half by value between the outermost thousandths, so that what is rare in the
    reference and common after a shift is told apart."""
    known = x[np.isfinite(x)]
    if not len(known):
        return known
    low, high = np.quantile(known, [RARE, 1 - RARE])
    return np.unique(np.concatenate([calibration.rank_edges(known, BINS // 2), np.linspace(low, high, BINS // 2)]))


def _places_of(edges: Floats) -> Floats:
    """(bins,) where in [0, 1] each bin lies, by value; the outermost lie as far beyond their edge as their neighbour's
    middle lies within."""
    if len(edges) < 2:
        return np.linspace(0.0, 1.0, len(edges) + 2)
    middles = statistics.representatives(Bins(edges=tuple(edges)))
    return np.append((middles - middles[0]) / (middles[-1] - middles[0]), 1.0)


def _code(edges: Floats, x: Floats) -> Ints:
    """(n,) bin of each value; a missing one has a bin of its own, the last."""
    return np.where(np.isnan(x), len(edges) + 1, calibration.code(edges, x))


def _smooth(place: Floats, rows: Floats, mean: Floats, noise: Floats, level: float) -> tuple[Floats, Floats]:
    """(bins,) effects as a smoothing spline over the bins' places in [0, 1], and their covariance; the last bin, of
    missing values, stands alone.

    As a Gaussian process (Wahba 1990, section 1.5): nothing, a line, or a line and an integrated random walk, whichever
    makes the reference likeliest, about a level of its own if that has a prior variance. It goes on as a line where the
    reference has no rows, ever less surely. All rows weigh the same, since bins with small errors seem sure of them and
    would pull the rest down; how much noise each has enters the covariance.
    """
    scale = float((rows * mean**2).sum() / rows.sum())
    used = rows > 0
    scatter = np.diag(float((rows * noise).sum() / rows.sum()) / rows[used] + TINY)
    priors = [level + scale * _prior(place, line, curve) for line, curve in SHAPES]
    prior = max(priors, key=lambda x: _likelihood(mean[used], x[np.ix_(used, used)] + scatter))
    within = prior[np.ix_(used, used)]
    gain = prior[:, used] @ np.linalg.inv(within + scatter)
    leaning = gain @ prior[used]
    spread = gain @ (within + np.diag(noise[used] / rows[used])) @ gain.T
    return gain @ mean[used], prior - leaning - leaning.T + spread


def _prior(place: Floats, line: float, curve: float) -> Floats:
    """(bins, bins) covariance of effects before any row is seen."""
    low, high = np.minimum.outer(place, place), np.maximum.outer(place, place)
    prior = line * (1 + np.outer(place - 0.5, place - 0.5) * 12) + curve * low**2 * (3 * high - low) / 6
    prior[-1], prior[:, -1] = 0.0, 0.0
    prior[-1, -1] = line
    return np.asarray(prior)


def _likelihood(mean: Floats, covariance: Floats) -> float:
    sign, size = np.linalg.slogdet(covariance)
    return float(-size - mean @ np.linalg.solve(covariance, mean)) if sign > 0 else -math.inf


def _noise(at: Ints, rows: Floats, rest: Floats) -> Floats:
    """(bins,) variance of a row's error within its bin; bins with few rows lean on the mean variance."""
    mean = np.bincount(at, rest, len(rows)) / np.maximum(rows, 1)
    squares = (rest - mean[at]) ** 2
    return (np.bincount(at, squares, len(rows)) + NOISE_ROWS * float(squares.mean())) / (rows + NOISE_ROWS)


def width(model: Errors) -> int:
    """Length of a cell's counts."""
    return 2 * int(model.starts[-1]) + 1


def count_seen(model: Errors, cell: Ints, cells: int, prediction: Floats, features: Sequence[Floats] = ()) -> Floats:
    """(cells, width) counts of (n,) predictions; rows without a prediction are passed over."""
    counts = np.zeros((cells, width(model)))
    counts[:, : model.starts[-1]] = _places(model, cell, cells, np.isfinite(prediction), (prediction, *features), None)
    return counts


def count_labelled(
    model: Errors, cell: Ints, cells: int, prediction: Floats, label: Floats, features: Sequence[Floats] = (),
    sign: Floats | None = None,
) -> Floats:  # fmt: skip
    """(cells, width) counts of (n,) labels of rows that are, or will be, counted as seen too."""
    size = int(model.starts[-1])
    known = np.isfinite(prediction) & np.isfinite(label)
    signed = np.ones(len(label)) if sign is None else sign
    counts = np.zeros((cells, width(model)))
    counts[:, size : 2 * size] = _places(model, cell, cells, known, (prediction, *features), signed)
    error = np.abs(prediction[known] - label[known]) * signed[known]
    counts[:, -1] = np.bincount(cell[known], error, cells)
    return counts


def _places(
    model: Errors, cell: Ints, cells: int, known: NDArray[np.bool_], columns: Sequence[Floats], sign: Floats | None
) -> Floats:
    """(cells, bins) rows by the bins of every column."""
    if len(columns) != len(model.edges):
        raise ValueError(f"{len(columns) - 1} features given; this model has {len(model.edges) - 1}")
    size = int(model.starts[-1])
    total = np.zeros((cells, size))
    weights = None if sign is None else sign[known]
    for edge, start, x in zip(model.edges, model.starts[:-1], columns, strict=True):
        place = cell[known] * size + start + _code(edge, x[known])
        total += np.bincount(place, weights, cells * size).reshape(cells, size)
    return total


def estimate(model: Errors, counts: Floats) -> dict[str, Estimate]:
    """The mean absolute error to expect of one cell's predictions; labels that are already in do not count."""
    seen, _, _ = _split(model, counts)
    return {name: interval(point, high=math.inf) for name, point in _expected(model, seen).items()}


def reconcile(model: Errors, counts: Floats) -> dict[str, Reconciled]:
    """Mean absolute error of one cell's counts: estimated, realised, and the two together."""
    seen, labelled, error = _split(model, counts)
    n = _rows(model, labelled)
    realised = {"mae": error / n} if n > 0 else {}
    still_open = np.maximum(seen - labelled, 0.0)
    now = _expected(model, still_open, n, error)
    return meet(_expected(model, seen), _expected(model, labelled), realised, now, {"mae": math.inf})


def _split(model: Errors, counts: Floats) -> tuple[Floats, Floats, float]:
    """Seen and labelled by bin, and the sum of the labelled errors. Raises ValueError where the model is another's."""
    if counts.shape != (width(model),):
        raise ValueError(f"counts of shape {counts.shape}; this model's have {width(model)} numbers")
    size = int(model.starts[-1])
    return counts[:size], counts[size : 2 * size], float(counts[-1])


def _rows(model: Errors, counts: Floats) -> float:
    return float(counts[: model.starts[1]].sum())


def _expected(model: Errors, still_open: Floats, known: float = 0.0, error: float = 0.0) -> dict[str, Point]:
    """Mean absolute error of `known` rows whose errors add to `error`, and of rows whose labels are still open."""
    waiting = _rows(model, still_open)
    n = waiting + known
    if not n > 0:
        return {}
    total = error + waiting * model.mean + float((still_open * model.effect).sum())
    apart = still_open - waiting * model.share
    chance = max(waiting * model.noise + float((still_open * model.louder).sum()), 0.0)
    pulls = np.split(apart, model.starts[1:-1])
    sampled = sum(float(x @ covariance @ x) for x, covariance in zip(pulls, model.covariance, strict=True))
    return {"mae": Point(max(total / n, 0.0), math.sqrt(max(chance + sampled, 0.0)) / n)}
