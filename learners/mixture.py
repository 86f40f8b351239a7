"""Weights of experts, moved by what each of them got wrong.

Owns how losses move weights. Refuses to know who the experts are and what they look at (`learners.experts`).
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from learners.linear import Array
from learners.metrics import Task

RATES: Final[Array] = np.array([0.03, 0.1, 0.3, 0.3, 0.3, 1.0])
SHARES: Final[Array] = np.array([0.0, 1e-8, 1e-6, 1e-4, 1e-3, 1e-2])
"""Slow and fast: a weight falls by the factor exp(-rate) with each mistake, and the share is handed back to all. The
first keeps to the best expert of all time, the last follows the best of the last dozens of labels. Which is best
depends on the stream and on how late its labels are, and cannot be learned in time where labels are late: a second
level of weights over the rules was no better on thirteen streams than their plain mean."""

VIEWS: Final = 2
"""Ways to look at the same experts, each with weights of its own."""

WEIGHT_MIN: Final = 1e-200
"""Keeps a weight that falls for ever from becoming nothing, from which it could not return."""


class Mixture:
    """The mean of several fixed-share mixtures (Herbster and Warmuth 1998): a pair of RATES and SHARES each, for each
    view.

    Weights move by mistakes (0 or 1) rather than by the losses of probabilities: those favour experts that are never
    sure, and cost up to three points where labels are late and drift is sudden. For numbers, by squared errors.
    """

    def __init__(self, task: Task, experts: int) -> None:
        self.task: Task = task
        self.inner: Array = np.full((VIEWS, len(RATES), experts), 1.0 / experts)
        """(views, rules, experts); each rule's weights sum to 1."""
        self.weights: Array = np.full(experts, 1.0 / experts)
        """What each expert's answer counts for; sums to 1."""

    def learn(self, answers: Array, y: float, weight: float = 1.0) -> None:
        """Judge (views, experts) probabilities of 1 or standardised numbers, or (views, experts, classes)
        probabilities, by what came: 0 or 1, a standardised number, or the place of a class. A `weight` above 1 counts
        as 1. Answers that are all right, or all wrong, change nothing."""
        losses = self._losses(answers, y)
        if losses.min() == losses.max():
            return
        moved = np.maximum(self.inner * self._factors(losses, min(weight, 1.0)), WEIGHT_MIN)
        kept = (1.0 - SHARES) / moved.sum(axis=2)
        self.inner = moved * kept[:, :, None] + (SHARES / losses.shape[1])[:, None]
        self.weights = self.inner.sum(axis=(0, 1)) / (VIEWS * len(RATES))

    def _losses(self, answers: Array, y: float) -> Array:
        """(views, experts)"""
        if self.task == "binary":
            return ((answers > 0.5) != y).astype(np.float64)
        if self.task == "multiclass":
            return (answers.argmax(axis=2) != y).astype(np.float64)
        return np.minimum((answers - y) ** 2, 4.0) / 4.0

    def _factors(self, losses: Array, force: float) -> Array:
        """(views, rules, experts)"""
        if self.task == "regression":
            exponents = (-force * RATES)[None, :, None] * losses[:, None, :]
            return np.array([math.exp(one) for one in exponents.ravel().tolist()]).reshape(exponents.shape)
        falls = np.array([1.0 - math.exp(-force * rate) for rate in RATES.tolist()])
        return 1.0 - falls[None, :, None] * losses[:, None, :]

    def state(self) -> Any:
        return self.inner, self.weights

    def become(self, state: Any) -> None:
        self.inner, self.weights = state
