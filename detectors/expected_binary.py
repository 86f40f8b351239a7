"""Two classes: accuracy, precision, recall, F1, ROC area, log loss and Brier score before labels come (F13).

Owns the counts that a window needs, what they lead one to expect, and how labels replace expectation. Confidence-based
estimation (CBPE, Bialek and others 2024, arXiv 2401.08348) on counts by bin of score: 6 numbers a bin, whatever the
number of rows, and they add up. What intervals mean and cannot mean is said in `estimation.py`.

Counts of a cell: seen by (prediction, bin), then labelled by (label, prediction, bin).
"""

from __future__ import annotations

import math
from typing import Final

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from detectors import calibration
from detectors.calibration import SCORE_BINS, Floats, Ints
from detectors.estimation import Estimate, Point, Reconciled, Z, interval, meet, points

VERSION: Final = 1

LOG_LOSS_FLOOR: Final = 1e-15
"""A score of exactly 0 or 1 that turns out wrong costs 34.5 nats instead of infinitely many."""

HIGHEST: Final = {"log_loss": math.inf}
COST_ROWS: Final = 10.0
"""Rows by which the mean loss of a bin's rows of one label leans on what their scores make likely."""

SHARE_MIN: Final = 1e-3
"""Class shares nearer to 0 or 1 are taken as this: a class that is gone altogether has no odds to move rates by."""


class Binary(msgspec.Struct, frozen=True):
    """What a score means. `reference`: (label, prediction, bin) counts. `rate`: probability of label 1 by bin, its
    sampling `variance`, and `shared`, the standard error that all bins have in common (of a prior, see `with_share`).
    `alone`: bins without reference rows nearby, whose rates are guesses that err together. `costs`: (label, figure,
    bin) mean log loss and squared error of a row."""

    edges: NDArray[np.float64]
    reference: NDArray[np.float64]
    rate: NDArray[np.float64]
    variance: NDArray[np.float64]
    shared: NDArray[np.float64]
    alone: NDArray[np.bool_]
    costs: NDArray[np.float64]
    version: int = VERSION

    @property
    def confusion(self) -> Floats:
        """(prediction, label) counts of the reference, as `prior_shift.py` wants them."""
        return np.asarray(self.reference.sum(2).T)


def learn(score: ArrayLike, prediction: ArrayLike, label: ArrayLike, bins: int = SCORE_BINS) -> Binary:
    """The meaning of scores, from (n,) labelled reference rows: score in [0, 1], prediction and label 0 or 1.

    Raises ValueError for fewer than 100 rows, for values out of range or missing, and where all labels are alike.
    """
    s, p, y = calibration.columns(score=score, prediction=prediction, label=label)
    if len(s) < calibration.REFERENCE_ROWS_MIN:
        raise ValueError(f"{len(s)} reference rows; at least {calibration.REFERENCE_ROWS_MIN} are needed")
    calibration.refuse(~((s >= 0) & (s <= 1)), "score", s, "a score is between 0 and 1")
    calibration.refuse(~np.isin(p, (0.0, 1.0)), "prediction", p, "a prediction is 0 or 1")
    calibration.refuse(~np.isin(y, (0.0, 1.0)), "label", y, "a label is 0 or 1")
    if y.min() == y.max():
        raise ValueError(f"all {len(y)} reference labels are {y[0]:g}; both are needed to learn what a score means")
    edges = calibration.score_edges(s, bins)
    size = len(edges) + 1
    at = calibration.code(edges, s)
    place = (y.astype(np.int64) * 2 + p.astype(np.int64)) * size + at
    reference = np.bincount(place, minlength=4 * size).reshape(2, 2, size).astype(np.float64)
    by_label = reference.sum(1)
    rows = by_label.sum(0)
    rate, resting = calibration.monotone_rates(rows, by_label[1]), calibration.support(rows)
    variance = calibration.rate_variance(rate, resting)
    alone = resting < calibration.LEAN_ROWS
    return Binary(edges, reference, rate, variance, np.zeros(size), alone, _costs(edges, s, y, at))


def _costs(edges: Floats, score: Floats, label: Floats, at: Ints) -> Floats:
    """(label, figure, bin): what a row of the bin and label costs by log loss and Brier score.

    Its mean over such rows, leaning on that over all rows of the bin weighted by how likely the score makes the label:
    within the outermost bins, where losses differ most, rows of the unlikely label have the milder scores.
    """
    size = len(edges) + 1
    middle = (np.append(0.0, edges) + np.append(edges, 1.0)) / 2
    score, label, at = np.append(score, middle), np.append(label, np.full(size, -1.0)), np.append(at, np.arange(size))
    costs = np.empty((2, 2, size))
    for value in (0, 1):
        likely = np.maximum(score if value else 1.0 - score, LOG_LOSS_FLOOR)
        weight = COST_ROWS * likely / np.bincount(at, likely, size)[at] + (label == value)
        for figure, cost in enumerate((_log_loss, _squared_error)):
            costs[value, figure] = np.bincount(at, weight * cost(score, value), size) / np.bincount(at, weight, size)
    return costs


def _log_loss(score: Floats, label: int) -> Floats:
    return np.asarray(-np.log(np.clip(score if label else 1.0 - score, LOG_LOSS_FLOOR, 1.0)))


def _squared_error(score: Floats, label: int) -> Floats:
    return np.asarray((score - label) ** 2)


def width(model: Binary) -> int:
    """Length of a cell's counts."""
    return 6 * len(model.rate)


def count_seen(model: Binary, cell: Ints, cells: int, score: Floats, prediction: Floats) -> Floats:
    """(cells, width) counts of (n,) predictions; rows without a score or a prediction are passed over."""
    known = np.isfinite(score) & np.isin(prediction, (0.0, 1.0))
    return _count(model, cell[known], cells, prediction[known].astype(np.int64), score[known], None)


def count_labelled(
    model: Binary, cell: Ints, cells: int, score: Floats, prediction: Floats, label: Floats, sign: Floats | None = None
) -> Floats:
    """(cells, width) counts of (n,) labels of rows that are, or will be, counted as seen too."""
    known = np.isfinite(score) & np.isin(prediction, (0.0, 1.0)) & np.isin(label, (0.0, 1.0))
    block = 2 + 2 * label[known].astype(np.int64) + prediction[known].astype(np.int64)
    return _count(model, cell[known], cells, block, score[known], None if sign is None else sign[known])


def _count(model: Binary, cell: Ints, cells: int, block: Ints, score: Floats, sign: Floats | None) -> Floats:
    """(cells, width) counts of rows by the block of bins that each belongs to."""
    size = len(model.rate)
    place = (cell * 6 + block) * size + calibration.code(model.edges, score)
    return np.bincount(place, sign, cells * 6 * size).reshape(cells, 6 * size).astype(np.float64)


def estimate(model: Binary, counts: Floats) -> dict[str, Estimate]:
    """Figures to expect of one cell's predictions, by name; labels that are already in do not count."""
    seen, _ = _split(model, counts)
    return {name: interval(point, high=HIGHEST.get(name, 1.0)) for name, point in _expected(model, seen).items()}


def reconcile(model: Binary, counts: Floats) -> dict[str, Reconciled]:
    """Figures of one cell's counts, by name: estimated, realised, and the two together."""
    seen, known = _split(model, counts)
    labelled = known.sum(0)
    realised = _figures(model, known[1], known[0])[0] if labelled.sum() > 0 else {}
    still_open = np.maximum(seen - labelled, 0.0)
    return meet(
        _expected(model, seen), _expected(model, labelled), realised, _expected(model, still_open, known), HIGHEST
    )


def with_share(model: Binary, share: Estimate) -> Binary:
    """The model where only the share of label 1 has changed (prior shift), to a share estimated without labels.

    Rates move by the odds (Saerens, Latinne, Decaestecker 2002). Not where scores moved for any other reason: it adds
    an error of its own there (about 0.02 of accuracy, measured).
    """
    before = float(np.clip(model.reference[1].sum() / model.reference.sum(), SHARE_MIN, 1 - SHARE_MIN))
    after = float(np.clip(share.value, SHARE_MIN, 1 - SHARE_MIN))
    up, down = after / before, (1 - after) / (1 - before)
    rate = model.rate * up / (model.rate * up + (1 - model.rate) * down)
    slope = rate * (1 - rate) / (model.rate * (1 - model.rate))
    error = (share.high - share.low) / 2 / Z
    shared = rate * (1 - rate) / (after * (1 - after)) * error
    return msgspec.structs.replace(model, rate=rate, variance=model.variance * slope**2, shared=shared)


def _split(model: Binary, counts: Floats) -> tuple[Floats, Floats]:
    """(prediction, bin) seen and (label, prediction, bin) labelled. Raises ValueError where the model is another's."""
    size = len(model.rate)
    if counts.shape != (6 * size,):
        raise ValueError(f"counts of shape {counts.shape}; this model's have {6 * size} numbers")
    return counts[: 2 * size].reshape(2, size), counts[2 * size :].reshape(2, 2, size)


def _expected(model: Binary, still_open: Floats, known: Floats | None = None) -> dict[str, Point]:
    """Figures of `known` (label, prediction, bin) rows and of (prediction, bin) rows whose labels are still open."""
    if known is None:
        known = np.zeros((2, *still_open.shape))
    if not still_open.sum() + known.sum() > 0:
        return {}
    ones, zeros = known[1] + still_open * model.rate, known[0] + still_open * (1 - model.rate)
    spread = model.rate * (1 - model.rate)

    def variance(slope: Floats) -> float:
        chance = (slope**2 * still_open * spread).sum()
        pull = (slope * still_open).sum(0)
        sampled = (pull**2 * model.variance)[~model.alone].sum()
        guessed = (np.abs(pull) * np.sqrt(model.variance))[model.alone].sum() ** 2
        return float(chance + sampled + guessed + (pull * model.shared).sum() ** 2)

    return points(*_figures(model, ones, zeros), variance)


def _figures(model: Binary, ones: Floats, zeros: Floats) -> tuple[dict[str, float], dict[str, Floats]]:
    """Values of the figures, and their slopes by one more label 1 in place of a 0, from (prediction, bin) counts."""
    n, positive, said = float((ones + zeros).sum()), float(ones.sum()), float((ones + zeros)[1].sum())
    hits = float(ones[1].sum())
    one, any_ = np.zeros(ones.shape), np.ones(ones.shape)
    one[1] = 1.0
    values = {"accuracy": (hits + float(zeros[0].sum())) / n}
    slopes = {"accuracy": (2 * one - 1) / n}
    for k, name in enumerate(("log_loss", "brier")):
        values[name] = float((ones * model.costs[1, k] + zeros * model.costs[0, k]).sum() / n)
        slopes[name] = any_ * (model.costs[1, k] - model.costs[0, k]) / n
    if said > 0:
        values["precision"], slopes["precision"] = hits / said, one / said
    if positive > 0:
        values["recall"], slopes["recall"] = hits / positive, one / positive - any_ * hits / positive**2
    if positive + said > 0:
        f1 = 2 * hits / (positive + said)
        values["f1"], slopes["f1"] = f1, (2 * one - any_ * f1) / (positive + said)
    if 0 < positive < n:
        values["roc_auc"], slope = _area(ones.sum(0), zeros.sum(0))
        slopes["roc_auc"] = any_ * slope
    return values, slopes


def _area(ones: Floats, zeros: Floats) -> tuple[float, Floats]:
    """Area under the ROC curve and its (bin,) slope; rows that share a bin count as ties."""
    positive, negative = float(ones.sum()), float(zeros.sum())
    below = np.cumsum(zeros) - zeros / 2
    above = positive - np.cumsum(ones) + ones / 2
    area = float((ones * below).sum()) / (positive * negative)
    return area, (below - above) / (positive * negative) - area * (1 / positive - 1 / negative)
