"""Linear models at several step sizes at once, over one shared preparation of mixed features.

The weights of all step sizes are one matrix, so four logistic regressions cost little more than one. Each column of a
binary one equals River's `StandardScaler() | LogisticRegression(SGD(step))` (tests/test_learners_linear.py). Refuses to
know how the columns are weighed against each other (`learners.experts`).
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from learners.contract import FeatureDict, Label
from learners.metrics import Task

Array = NDArray[np.float64]

INTERCEPT_STEP: Final = 0.01
"""River's default, for every step size: the intercept sees every example and needs no haste."""

ROWS_MAX: Final = 20_000
"""Numbers and words that get weights; later ones are left out and counted in `left_out`."""

CLASSES_MAX: Final = 100
"""Classes that get weights; an answer is a mapping of all of them, and each costs a column of every step size."""

NUMBER_MAX: Final = 1e100
"""A larger number is left out: its square would be no number, and every answer after it none."""

SCALED_MAX: Final = 100.0
"""Standard deviations from the mean; further out a number is broken, and must not throw the weights. A number that is
learned cannot lie that far out before the ten thousandth example."""

LABELS_AMPLE: Final = 30
"""Regression: labels after which their scale is known well enough to tell one that is broken."""

_LOGIT_MAX: Final = 30.0
_GRADIENT_LOGIT_MAX: Final = 18.0


class Prepared(NamedTuple):
    """An example as distinct rows of the weights, their scaled values as a column, and the weights of those rows."""

    rows: list[int]
    column: Array
    weights: Array


class Linear:
    """Stochastic gradient descent on standardised numbers and one-hot text, for `k` step sizes.

    Binary: logistic regression. Multi-class: softmax regression. Regression: normalised least mean squares (Nagumo and
    Noda 1967) on the standardised label, which stays stable at any number of features.
    """

    def __init__(self, task: Task, steps: tuple[float, ...]) -> None:
        self.task: Task = task
        self.steps = np.array(steps)
        self.classes: list[Label] = []
        self.numbers: dict[str, int] = {}
        self.words: dict[str, dict[str, int]] = {}
        self.counts: list[int] = []
        self.means: list[float] = []
        self.variances: list[float] = []
        self.deviations: list[float] = []
        self.left_out = 0
        self.weights: Array = np.zeros((16, len(steps)))
        self.intercepts: Array = np.zeros(len(steps))
        self.label_scale: list[float] = [0.0, 0.0, 0.0]
        """Regression: count, mean and variance of the label."""

    def prepare(self, x: FeatureDict) -> Prepared:
        """Scale with what is known; unknown features are left out."""
        rows: list[int] = []
        values: list[float] = []
        numbers, means, deviations = self.numbers, self.means, self.deviations
        known = len(means)
        for name, value in x.items():
            if type(value) is str:
                row = self.words[name].get(value, known) if name in self.words else known
                if row < known:
                    rows.append(row)
                    values.append(1.0)
                continue
            row = numbers.get(name, known)
            if row < known and -NUMBER_MAX <= value <= NUMBER_MAX:  # a frozen twin's index may have grown since
                deviation = deviations[row]
                scaled = (value - means[row]) / deviation if deviation else 0.0
                rows.append(row)
                values.append(scaled if -SCALED_MAX <= scaled <= SCALED_MAX else math.copysign(SCALED_MAX, scaled))
        return Prepared(rows, np.array(values)[:, None], self.weights[rows])

    def answers(self, x: Prepared) -> Array | list[float]:
        """What each step size says: k probabilities of 1, (k, classes) probabilities, or k numbers."""
        return self.said(self._raw(x))

    def said(self, raw: Array) -> Array | list[float]:
        """The link of the task, for as many models as there are raw answers."""
        if self.task == "binary":
            return [sigmoid(z) for z in raw.tolist()]
        if self.task == "multiclass":
            return softmax(raw.reshape(-1, max(len(self.classes), 1)))
        _, mean, variance = self.label_scale
        deviation = math.sqrt(variance)
        return [mean + min(max(z, -5.0), 5.0) * deviation for z in raw.tolist()]

    def learn(self, x: FeatureDict, y: Label, weight: float = 1.0) -> Prepared:
        """Take the numbers into the scaling, then step, in the order of River's pipelines; returns what it scaled."""
        prepared = self._scaled(x)
        raw = self._raw(prepared)
        if self.task == "regression":
            self._learn_number(prepared, raw, float(y), weight)
            return prepared
        slope = self.slope(raw, y, weight)
        steps = np.repeat(self.steps, len(slope) // len(self.steps))
        self._step(prepared, slope * steps, slope * INTERCEPT_STEP)
        return prepared

    def slope(self, raw: Array, y: Label, weight: float) -> Array:
        """Of the loss by each raw answer, flat: log loss, or half the squared error of the standardised label."""
        if self.task == "binary":
            sign = 1.0 if y == 1 else -1.0
            return np.array([log_gradient(z, sign) for z in raw.tolist()]) * weight
        if self.task == "multiclass":
            shares = softmax(raw.reshape(-1, len(self.classes)))
            shares[:, self.classes.index(y)] -= 1.0
            return (shares * weight).ravel()
        return (raw - self.standard(float(y))) * min(weight, 1.0)

    def standard(self, y: float) -> float:
        """Regression: the label in standard deviations from its mean, no further out than five."""
        _, mean, variance = self.label_scale
        return min(max((y - mean) / math.sqrt(variance), -5.0), 5.0) if variance > 0.0 else 0.0

    def within(self, y: float) -> float:
        """Regression: the label, or the nearest that lies no more than SCALED_MAX deviations from those before. The
        scale follows labels that have come to be larger, but one of 1e8 among labels of ten does not spoil every answer
        after it; and what is rare (a claim among ten thousand zeros) is within."""
        count, mean, variance = self.label_scale
        if count < LABELS_AMPLE or variance <= 0.0:
            return y
        far = SCALED_MAX * math.sqrt(variance)
        return min(max(y, mean - far), mean + far)

    def frozen(self) -> Linear:
        """A twin that answers as this one does now. It shares the index of features, in which rows are only added, and
        is not to learn."""
        twin = Linear.__new__(Linear)
        known = len(self.means)
        twin.__dict__ = {
            **self.__dict__,
            "classes": list(self.classes),
            "means": list(self.means),
            "deviations": list(self.deviations),
            "weights": self.weights[:known].copy(),
            "intercepts": self.intercepts.copy(),
            "label_scale": list(self.label_scale),
        }
        return twin

    def meet(self, y: Label) -> bool:
        """Multi-class: make room for the label's class; False where there is none left."""
        if self.task != "multiclass" or y in self.classes:
            return True
        if len(self.classes) >= CLASSES_MAX:
            return False
        k, count = len(self.steps), len(self.classes)
        self.weights = wider(self.weights, k, count)
        self.intercepts = wider(self.intercepts[None, :], k, count)[0]
        self.classes.append(y)
        return True

    def _raw(self, x: Prepared) -> Array:
        """Rows are added one after the other, elementwise, so that no processor's vector width shows in the sum."""
        return np.add.reduce(x.weights * x.column, axis=0) + self.intercepts

    def _step(self, x: Prepared, steps: Array, intercept_steps: Array) -> None:
        self.weights[x.rows] = x.weights - x.column * steps
        self.intercepts -= intercept_steps

    def _learn_number(self, x: Prepared, raw: Array, y: float, weight: float) -> None:
        count, mean, variance = self.label_scale
        count += 1.0
        new = mean + (y - mean) / count
        variance += ((y - mean) * (y - new) - variance) / count
        self.label_scale = [count, new, variance]
        if variance <= 0.0:
            return
        gradient = self.slope(raw, y, weight) * self.steps / (1.0 + float((x.column * x.column).sum()))
        self._step(x, gradient, gradient)

    def _scaled(self, x: FeatureDict) -> Prepared:
        """Take the features into the scaling, then scale them."""
        rows: list[int] = []
        values: list[float] = []
        numbers, counts, means, variances = self.numbers, self.counts, self.means, self.variances
        for name, value in x.items():
            if type(value) is str:
                words = self.words.setdefault(name, {})
                row = words.get(value)
                if row is None:
                    row = self._room(words, value)
                scaled = 1.0
            elif -NUMBER_MAX <= value <= NUMBER_MAX:
                row = numbers.get(name)
                if row is None:
                    row = self._room(numbers, name)
                if row is not None:
                    counts[row] += 1
                    old = means[row]
                    mean = old + (value - old) / counts[row]
                    variance = variances[row]
                    variance += ((value - old) * (value - mean) - variance) / counts[row]
                    means[row], variances[row] = mean, variance
                    self.deviations[row] = deviation = variance**0.5
                    scaled = (value - mean) / deviation if variance else 0.0
                    if not -SCALED_MAX <= scaled <= SCALED_MAX:
                        scaled = math.copysign(SCALED_MAX, scaled)
            else:
                self.left_out += 1
                continue
            if row is not None:
                rows.append(row)
                values.append(scaled)
        return Prepared(rows, np.array(values)[:, None], self.weights[rows])

    def _room(self, index: dict[str, int], name: str) -> int | None:
        row = len(self.counts)
        if row >= ROWS_MAX:
            self.left_out += 1
            return None
        index[name] = row
        self.counts.append(0)
        self.means.append(0.0)
        self.variances.append(0.0)
        self.deviations.append(0.0)
        if row >= len(self.weights):
            self.weights = np.concatenate([self.weights, np.zeros_like(self.weights)])
        return row


def wider(weights: Array, k: int, classes: int) -> Array:
    """One more class for each of the k step sizes; the columns of a step size stay together."""
    if classes == 0:
        return weights  # the columns of the first class are there from the start
    grown = np.zeros((len(weights), k, classes + 1))
    grown[:, :, :classes] = weights.reshape(len(weights), k, classes)
    return grown.reshape(len(weights), -1)


def sigmoid(z: float) -> float:
    if z < -_LOGIT_MAX:
        return 0.0
    if z > _LOGIT_MAX:
        return 1.0
    return 1.0 / (1.0 + math.exp(-z))


def log_gradient(z: float, sign: float) -> float:
    """Derivative of log loss by the logit, for a label of +1 or -1; River's guards against overflow."""
    margin = z * sign
    if margin > _GRADIENT_LOGIT_MAX:
        return math.exp(-margin) * -sign
    if margin < -_GRADIENT_LOGIT_MAX:
        return -sign
    return -sign / (math.exp(margin) + 1.0)


def softmax(raw: Array) -> Array:
    """Row by row; math.exp rather than numpy's, whose last bit depends on the processor."""
    shifted = raw - raw.max(axis=1, keepdims=True)
    shares = np.array([[math.exp(z) for z in row] for row in shifted.tolist()])
    return shares / np.array([[sum(row)] for row in shares.tolist()])
