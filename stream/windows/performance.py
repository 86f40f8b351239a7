"""How well predictions did: sums that add up over rows, windows and versions, and the figures made of them.

Owns metrics; refuses to know where rows come from. A correction is the new label added and the old one taken away.

Sums of a cell, by task:
* binary: rows, labels 1, predictions 1, both 1, log loss, Brier, rows with a score, then label 0 and label 1 by score
  (`SCORE_BINS` bins each, which bounds the error of the area under the ROC curve by half the mass that shares a bin);
* multiclass: rows, correct, then wrong and right rows by the score of the predicted class, binned alike;
* regression: rows, absolute error, squared error, label, squared label.
"""

from __future__ import annotations

import math
from typing import Any, Final, Literal, TypeAlias

import msgspec
import numpy as np

from detectors import reliability
from stream.events import Calibration
from stream.windows.columns import Floats, Ints

Task: TypeAlias = Literal["binary", "multiclass", "regression"]

SCORE_BINS: Final = 100
LOG_LOSS_FLOOR: Final = 1e-15
"""A score of exactly 0 or 1 that turns out wrong costs 34.5 nats instead of infinitely many."""

VERSIONS_MAX: Final = 64
"""Versions of one learner with figures of their own, the newest; earlier ones share one line."""

CLASSES_MAX: Final = 100
"""Classes with marginals of their own (for kappa); the rest share one."""

EARLIER: Final = "earlier"

WIDTHS: Final[dict[str, int]] = {"binary": 7 + 2 * SCORE_BINS, "multiclass": 2 + 2 * SCORE_BINS, "regression": 5}
"""Length of the sums, by task."""

PLAIN_WIDTHS: Final[dict[str, int]] = {"binary": 4, "multiclass": 2, "regression": 5}
"""Length of those sums that need no score, which come first."""


def log_losses(label: Floats, score: Floats) -> Floats:
    """-log of the probability given to what happened; NaN where there is no score."""
    given = np.where(label == 1.0, score, 1.0 - score)
    return np.asarray(-np.log(np.clip(given, LOG_LOSS_FLOOR, 1.0)))


def sums(
    task: Task, cell: Ints, cells: int, label: Floats, prediction: Floats, score: Floats, sign: Floats | None = None
) -> Floats:
    """(cells, width) sums of (n,) rows that have both label and prediction; `cell` says where each belongs.

    label, prediction: 0/1 (binary), class codes (multiclass) or values. `sign` is -1 for rows to be taken away.
    """
    unknown = np.isnan(label) | np.isnan(prediction)
    if unknown.any():
        known = ~unknown
        cell, label, prediction, score = cell[known], label[known], prediction[known], score[known]
        sign = None if sign is None else sign[known]

    def by_cell(x: Floats | None) -> Floats:
        weights = x if sign is None else sign if x is None else sign * x
        return np.bincount(cell, weights, cells).astype(np.float64)

    if task == "regression":
        error = prediction - label
        terms = [None, np.abs(error), error * error, label, label * label]
        return np.stack([by_cell(term) for term in terms], axis=1)
    if task == "multiclass":
        right = (label == prediction).astype(np.float64)
        plain = np.stack([by_cell(None), by_cell(right)], axis=1)
        return np.concatenate([plain, _score_sums(cell, cells, right, score, sign)[:, 3:]], axis=1)
    both = np.stack([by_cell(None), by_cell(label), by_cell(prediction), by_cell(label * prediction)], axis=1)
    return np.concatenate([both, _score_sums(cell, cells, label, score, sign)], axis=1)


def _score_sums(cell: Ints, cells: int, label: Floats, score: Floats, sign: Floats | None) -> Floats:
    scored = ~np.isnan(score)
    if not scored.any():
        return np.zeros((cells, 3 + 2 * SCORE_BINS))
    if not scored.all():
        cell, label, score = cell[scored], label[scored], score[scored]
        sign = None if sign is None else sign[scored]
    signed = np.ones(len(cell)) if sign is None else sign
    losses = [log_losses(label, score), (score - label) ** 2, np.ones(len(cell))]
    plain = np.stack([np.bincount(cell, signed * x, cells) for x in losses], axis=1)
    bins = np.clip((score * SCORE_BINS).astype(np.int64), 0, SCORE_BINS - 1)
    place = (cell * 2 + label.astype(np.int64)) * SCORE_BINS + bins
    curve = np.bincount(place, signed, cells * 2 * SCORE_BINS).reshape(cells, 2 * SCORE_BINS)
    return np.concatenate([plain, curve], axis=1)


def calibration(task: Task, total: Floats) -> Calibration | None:
    """Whether scores mean what they say, from one cell's sums; None where nothing is scored. For several classes the
    score is that of the predicted one, and what it says is that the prediction is right."""
    if task == "regression":
        return None
    start = WIDTHS[task] - 2 * SCORE_BINS
    found = reliability.curve(total[start : start + SCORE_BINS], total[start + SCORE_BINS :])
    if found is None:
        return None
    return Calibration(found.ece, found.ece_plain, [(each.score, each.ones, each.n) for each in found.bins])


def metrics(task: Task, total: Floats) -> dict[str, float]:
    """Figures of one cell's sums; those that are not defined (no positive, no score) are left out."""
    n = float(total[0])
    if n <= 0:
        return {}
    if task == "multiclass":
        return {"accuracy": float(total[1]) / n}
    if task == "regression":
        spread = float(total[4]) - float(total[3]) ** 2 / n
        found = {"mae": float(total[1]) / n, "rmse": math.sqrt(max(float(total[2]), 0.0) / n)}
        if spread > 0:
            found["r2"] = 1.0 - float(total[2]) / spread
        return {**found, "label_mean": float(total[3]) / n}
    ones, said, both = (float(x) for x in total[1:4])
    found = {"accuracy": (n - ones - said + 2 * both) / n, "label_mean": ones / n, "prediction_mean": said / n}
    if said:
        found["precision"] = both / said
    if ones:
        found["recall"] = both / ones
    if ones + said:
        found["f1"] = 2 * both / (ones + said)
    scored = float(total[6])
    if scored > 0:
        found["log_loss"], found["brier"] = float(total[4]) / scored, float(total[5]) / scored
        area = roc_auc(total[7 : 7 + SCORE_BINS], total[7 + SCORE_BINS :])
        if area is not None:
            found["roc_auc"] = area
    return found


def roc_auc(zeros: Floats, ones: Floats) -> float | None:
    """Area under the ROC curve from score histograms of both labels; rows that share a bin count as ties.

    >>> roc_auc(np.array([3.0, 1.0]), np.array([1.0, 3.0]))
    0.75
    """
    n, m = float(zeros.sum()), float(ones.sum())
    if n <= 0 or m <= 0:
        return None
    below = np.cumsum(zeros) - zeros
    return float((ones * (below + zeros / 2)).sum() / (n * m))


def kappa(agreement: float, chance: float) -> float | None:
    """Cohen's kappa, or kappa-temporal where chance is the accuracy of repeating the last label."""
    return (agreement - chance) / (1.0 - chance) if chance < 1.0 else None


class Tally(msgspec.Struct):
    """Of one learner or version. `events` are predictions seen, `total` the sums of the labelled ones."""

    total: np.ndarray
    events: int = 0

    @classmethod
    def empty(cls, task: Task) -> Tally:
        return cls(np.zeros(WIDTHS[task]))

    def figures(self, task: Task) -> dict[str, float]:
        found = {"events": self.events, "labelled": int(self.total[0]), **metrics(task, self.total)}
        scored = calibration(task, self.total)
        return found if scored is None else {**found, "ece": scored.ece}


class Learner(msgspec.Struct):
    """Figures of one learner, over all and by version; marginals of classes for kappa."""

    overall: Tally
    versions: dict[str, Tally] = {}
    labels: dict[str, int] = {}
    predictions: dict[str, int] = {}

    def version(self, name: str, task: Task) -> Tally:
        """The tally of a version; the oldest joins `earlier` where there are too many."""
        tally = self.versions.get(name)
        if tally is None:
            tally = self.versions[name] = Tally.empty(task)
            if len(self.versions) - (EARLIER in self.versions) > VERSIONS_MAX:
                oldest = next(key for key in self.versions if key != EARLIER)
                gone = self.versions.pop(oldest)
                kept = self.versions.setdefault(EARLIER, Tally.empty(task))
                kept.total += gone.total
                kept.events += gone.events
        return tally


class Performance(msgspec.Struct):
    """Figures of one model's learners over everything seen."""

    task: Task
    learners: dict[str, Learner] = {}
    repeats: int = 0
    """Labels equal to the one before: what repeating the last label would have got right (if it came at once)."""

    followed: int = 0
    last_label: float = math.nan

    def learner(self, name: str) -> Learner:
        if name not in self.learners:
            self.learners[name] = Learner(Tally.empty(self.task))
        return self.learners[name]

    def count_events(self, name: str, versions: dict[str, int]) -> None:
        learner = self.learner(name)
        for version, n in versions.items():
            learner.version(version, self.task).events += n
            learner.overall.events += n

    def add(
        self, name: str, names: list[str], version: Ints, label: Floats, prediction: Floats, score: Floats, sign: Floats
    ) -> None:
        """Rows in canonical order: `version` is each row's place in `names`. Log loss is added row by row, in order,
        so that it equals a plain loop's to the last digit that numpy's and the C library's logarithms share."""
        learner = self.learner(name)
        by_version = sums(self.task, version, len(names), label, prediction, score, sign)
        scored = self.task == "binary" and bool(by_version[:, 6].any())
        if scored:
            by_version[:, 4] = 0.0
            known = ~(np.isnan(label) | np.isnan(prediction) | np.isnan(score))
            losses, of = sign[known] * log_losses(label[known], score[known]), version[known]
            learner.overall.total[4] = _run(float(learner.overall.total[4]), losses)
        for i, each in enumerate(names):
            tally = learner.version(each, self.task)
            tally.total += by_version[i]
            if scored:
                tally.total[4] = _run(float(tally.total[4]), losses if len(names) == 1 else losses[of == i])
        learner.overall.total += by_version.sum(axis=0)

    def add_marginals(self, name: str, labels: dict[str, int], predictions: dict[str, int], sign: int) -> None:
        learner = self.learner(name)
        for kept, new in ((learner.labels, labels), (learner.predictions, predictions)):
            for word, n in new.items():
                key = word if word in kept or len(kept) < CLASSES_MAX else "other classes"
                kept[key] = kept.get(key, 0) + sign * n

    def add_sequence(self, label: Floats) -> None:
        """First labels of rows in canonical order, for kappa-temporal."""
        known = label[~np.isnan(label)]
        if not len(known):
            return
        before = np.concatenate([[self.last_label], known[:-1]])
        self.repeats += int((before == known).sum())
        self.followed += int((~np.isnan(before)).sum())
        self.last_label = float(known[-1])

    def meaning(self, name: str) -> dict[str, Any]:
        """A learner's reliability curve over everything seen; empty without scores."""
        known = self.learners.get(name)
        found = None if known is None else calibration(self.task, known.overall.total)
        if found is None:
            return {}
        return {"ece": found.ece, "ece_plain": found.ece_plain, "bins": [list(each) for each in found.bins]}

    def figures(self) -> dict[str, dict[str, dict[str, float]]]:
        """By learner: `overall`, and every version."""
        return {
            name: {
                "overall": {**learner.overall.figures(self.task), **self._kappas(learner)},
                **{version: tally.figures(self.task) for version, tally in learner.versions.items()},
            }
            for name, learner in self.learners.items()
        }

    def _kappas(self, learner: Learner) -> dict[str, float]:
        total, n = learner.overall.total, float(learner.overall.total[0])
        if self.task == "regression" or n <= 0:
            return {}
        if self.task == "binary":
            agreement = (n - total[1] - total[2] + 2 * total[3]) / n
            chance = (total[1] * total[2] + (n - total[1]) * (n - total[2])) / (n * n)
        else:
            agreement = total[1] / n
            chance = sum(k * learner.predictions.get(word, 0) for word, k in learner.labels.items()) / (n * n)
        found = {"kappa": kappa(float(agreement), float(chance))}
        if self.followed:
            found["kappa_temporal"] = kappa(float(agreement), self.repeats / self.followed)
        return {key: value for key, value in found.items() if value is not None}


def _run(start: float, terms: Floats) -> float:
    return float(np.add.accumulate(np.concatenate([[start], terms]))[-1])
