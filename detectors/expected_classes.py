"""Many classes: accuracy and macro F1 without labels, from the predicted class and its confidence alone (F13).

Owns the counts that a window needs and what they lead one to expect. The rate of being right is learned by predicted
class and bin of confidence; what the wrong ones turn out to be is learned by predicted class. So the whole confusion
matrix can be expected, and macro F1 with it, without the other classes' scores. Where those travel too, one
`expected_binary` model a class, fed (its score, whether it was predicted), also gives the one-against-rest areas. What
intervals mean and cannot mean is said in `estimation.py`.

Counts of a cell: seen by (prediction, bin), labelled by (prediction, bin), then labelled by (prediction, label).
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from detectors import calibration
from detectors.calibration import SCORE_BINS, Floats, Ints
from detectors.estimation import Estimate, Point, Reconciled, interval, meet, points

VERSION: Final = 1

CELLS_MAX: Final = 4_096
"""Classes times bins, at most: 64 KB of counts a window."""

BINS_MIN: Final = 10
CLASSES_MAX: Final = 200
"""More have to share codes: the counts of a window hold a number for each pair of classes."""

POOL_ROWS: Final = 50.0
"""Rows of the map over all classes that every class's own map starts with."""

WRONG_ROWS: Final = 1.0
"""Rows, shared out as labels are, that the wrong predictions of a class start with."""


class Classes(msgspec.Struct, frozen=True):
    """What a predicted class and its confidence mean. `confusion`: (prediction, label) reference counts. `rate`:
    (prediction, bin) probability of being right, with its `variance`; `alone`: places without reference rows nearby.
    `others`: (prediction, label) what a wrong prediction turns out to be, resting on `wrong` (prediction,) rows."""

    edges: NDArray[np.float64]
    confusion: NDArray[np.float64]
    rate: NDArray[np.float64]
    variance: NDArray[np.float64]
    alone: NDArray[np.bool_]
    others: NDArray[np.float64]
    wrong: NDArray[np.float64]
    version: int = VERSION


def learn(
    confidence: ArrayLike, prediction: ArrayLike, label: ArrayLike, classes: int, bins: int | None = None
) -> Classes:
    """The meaning of confidences, from (n,) labelled reference rows: confidence in [0, 1], prediction and label class
    codes from 0 to classes - 1.

    Raises ValueError for fewer than 100 rows, and for values out of range or missing.
    """
    s, p, y = calibration.columns(confidence=confidence, prediction=prediction, label=label)
    if not 2 <= classes <= CLASSES_MAX:
        raise ValueError(f"{classes} classes; between 2 and {CLASSES_MAX} can be told apart")
    if len(s) < calibration.REFERENCE_ROWS_MIN:
        raise ValueError(f"{len(s)} reference rows; at least {calibration.REFERENCE_ROWS_MIN} are needed")
    calibration.refuse(~((s >= 0) & (s <= 1)), "confidence", s, "a confidence is between 0 and 1")
    for what, codes in (("prediction", p), ("label", y)):
        calibration.refuse(~np.isin(codes, np.arange(classes)), what, codes, f"codes are 0 to {classes - 1}")
    edges = calibration.score_edges(s, bins or int(np.clip(CELLS_MAX // classes, BINS_MIN, SCORE_BINS)))
    size = len(edges) + 1
    said, true = p.astype(np.int64), y.astype(np.int64)
    place = said * size + calibration.code(edges, s)
    rows = np.bincount(place, minlength=classes * size).reshape(classes, size).astype(np.float64)
    right = np.bincount(place[said == true], minlength=classes * size).reshape(classes, size).astype(np.float64)
    rate, resting = _rates(rows, right)
    confusion = np.bincount(said * classes + true, minlength=classes**2).reshape(classes, classes).astype(np.float64)
    others, wrong = _others(confusion)
    variance = calibration.rate_variance(rate, resting)
    return Classes(edges, confusion, rate, variance, resting < calibration.LEAN_ROWS, others, wrong)


def _rates(rows: Floats, right: Floats) -> tuple[Floats, Floats]:
    """(prediction, bin) rates, each class's own as far as it has rows, and what they rest on."""
    pooled = calibration.monotone_rates(rows.sum(0), right.sum(0))
    start = POOL_ROWS * rows.sum(0) / rows.sum()
    rates = [calibration.monotone_rates(n + start, m + start * pooled) for n, m in zip(rows, right, strict=True)]
    return np.stack(rates), np.stack([calibration.support(n + start) for n in rows])


def _others(confusion: Floats) -> tuple[Floats, Floats]:
    """(prediction, label) shares of the wrong predictions, rows adding to 1, and the rows they rest on."""
    start = np.tile((confusion.sum(0) + 1) / (confusion.sum() + len(confusion)), (len(confusion), 1))
    wrong = confusion.copy()
    np.fill_diagonal(start, 0.0)
    np.fill_diagonal(wrong, 0.0)
    filled = wrong + WRONG_ROWS * start / start.sum(1, keepdims=True)
    rows = filled.sum(1)
    return filled / rows[:, None], rows


def width(model: Classes) -> int:
    """Length of a cell's counts."""
    return 2 * model.rate.size + model.confusion.size


def count_seen(model: Classes, cell: Ints, cells: int, confidence: Floats, prediction: Floats) -> Floats:
    """(cells, width) counts of (n,) predictions; rows without a confidence or with an unknown class are passed over."""
    counts = np.zeros((cells, width(model)))
    counts[:, : model.rate.size] = _places(model, cell, cells, confidence, prediction, None)
    return counts


def count_labelled(
    model: Classes, cell: Ints, cells: int, confidence: Floats, prediction: Floats, label: Floats,
    sign: Floats | None = None,
) -> Floats:  # fmt: skip
    """(cells, width) counts of (n,) labels of rows that are, or will be, counted as seen too. A label of a class that
    the reference did not have is passed over."""
    k = len(model.rate)
    signed = np.ones(len(label)) if sign is None else sign
    codes = np.arange(k)
    known = np.isfinite(confidence) & np.isin(prediction, codes) & np.isin(label, codes)
    c, p, y, w = cell[known], prediction[known], label[known], signed[known]
    counts = np.zeros((cells, width(model)))
    counts[:, model.rate.size : 2 * model.rate.size] = _places(model, c, cells, confidence[known], p, w)
    pair = (c * k + p.astype(np.int64)) * k + y.astype(np.int64)
    counts[:, 2 * model.rate.size :] = np.bincount(pair, w, cells * k * k).reshape(cells, k * k)
    return counts


def _places(
    model: Classes, cell: Ints, cells: int, confidence: Floats, prediction: Floats, sign: Floats | None
) -> Floats:
    k, size = model.rate.shape
    known = np.isfinite(confidence) & np.isin(prediction, np.arange(k))
    place = (cell[known] * k + prediction[known].astype(np.int64)) * size
    place += calibration.code(model.edges, confidence[known])
    weights = None if sign is None else sign[known]
    return np.bincount(place, weights, cells * k * size).reshape(cells, k * size).astype(np.float64)


def estimate(model: Classes, counts: Floats) -> dict[str, Estimate]:
    """Figures to expect of one cell's predictions, by name; labels that are already in do not count."""
    seen, _, _ = _split(model, counts)
    return {name: interval(point) for name, point in _expected(model, seen).items()}


def reconcile(model: Classes, counts: Floats) -> dict[str, Reconciled]:
    """Figures of one cell's counts, by name: estimated, realised, and the two together."""
    seen, labelled, known = _split(model, counts)
    realised = _figures(known)[0] if known.sum() > 0 else {}
    still_open = np.maximum(seen - labelled, 0.0)
    now = _expected(model, still_open, known)
    return meet(_expected(model, seen), _expected(model, labelled), realised, now, {})


def _split(model: Classes, counts: Floats) -> tuple[Floats, Floats, Floats]:
    """(prediction, bin) seen and labelled, (prediction, label) labelled. Raises ValueError where the model is
    another's."""
    if counts.shape != (width(model),):
        raise ValueError(f"counts of shape {counts.shape}; this model's have {width(model)} numbers")
    size = model.rate.size
    seen, labelled, known = counts[:size], counts[size : 2 * size], counts[2 * size :]
    return seen.reshape(model.rate.shape), labelled.reshape(model.rate.shape), known.reshape(model.confusion.shape)


def _expected(model: Classes, still_open: Floats, known: Floats | None = None) -> dict[str, Point]:
    """Figures of `known` (prediction, label) rows and of (prediction, bin) rows whose labels are still open."""
    table = np.zeros(model.confusion.shape) if known is None else known.copy()
    if not still_open.sum() + table.sum() > 0:
        return {}
    right, wrong = (still_open * model.rate).sum(1), (still_open * (1 - model.rate)).sum(1)
    table += np.diag(right) + wrong[:, None] * model.others

    def variance(slope: Floats) -> float:
        """Chance: a row is right, or one of the others. The reference: how often right, and which others."""
        own = np.diag(slope)
        mean = (model.others * slope).sum(1)
        scatter = np.maximum((model.others * slope**2).sum(1) - mean**2, 0.0)
        gain = (own - mean)[:, None]
        chance = (still_open * gain**2 * model.rate * (1 - model.rate)).sum() + (wrong * scatter).sum()
        pull = still_open * gain
        sampled = (pull**2 * model.variance)[~model.alone].sum() + (wrong**2 * scatter / model.wrong).sum()
        guessed = (np.abs(pull) * np.sqrt(model.variance))[model.alone].sum() ** 2
        return float(chance + sampled + guessed)

    return points(*_figures(table), variance)


def _figures(table: Floats) -> tuple[dict[str, float], dict[str, Floats]]:
    """Values of the figures, and their slopes by one more row, from (prediction, label) counts. Macro F1 is over the
    classes that occur on either side."""
    n, hits = float(table.sum()), np.diag(table)
    both = table.sum(0) + table.sum(1)
    occurs = both > 0
    total = np.where(occurs, both, 1.0)
    f1, classes = 2 * hits / total, int(occurs.sum())
    one = np.eye(len(table))
    through_label = -(f1 / total)[None, :] / classes  # a row of prediction i and label j lengthens label j's total
    slopes = {"accuracy": one / n, "f1_macro": one * 2 / total / classes + through_label}
    return {"accuracy": float(hits.sum()) / n, "f1_macro": float(f1[occurs].sum()) / classes}, slopes
