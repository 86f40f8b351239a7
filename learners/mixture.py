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
depends on the stream and on how late its labels are, and cannot be learned in time where labels are late: on the first
20,000 rows of thirteen streams a second level of weights over the rules was no better than their plain mean. The second
level that there is weighs views (`HONEST`), and shows its worth on longer streams."""

VIEWS: Final = 3
"""Ways to look at the same experts, each with weights of its own. The last one is honest: the experts as they were when
they were asked. The others are younger."""

HONEST: Final = 0.003
"""Weight of the honest view before anything is known of it. It learns of a drift two lags late, so that the younger
views are better on most streams. But where the labels that come tell of another concept than the one that is asked,
they favour experts that follow the last labels: with labels 10,000 late they alone were up to 16.2 points behind the
best expert (stagger, 60,000 events), and are 8.3 with the honest view beside them. Ten times as much gave half a point
more there, and took a tenth where labels are 1,000 late (evl_2CDT)."""

HONEST_RATE: Final = 0.1
HONEST_SHARE: Final = 1e-6
"""How that weight moves, and what of it is handed back."""

WEIGHT_MIN: Final = 1e-200
"""Keeps a weight that falls for ever from becoming nothing, from which it could not return."""


class Mixture:
    """Two candidates, weighed by a fixed-share mixture (Herbster and Warmuth 1998): the younger views, and the honest
    one. Each is the mean of a fixed-share mixture of the experts for each pair of RATES and SHARES and each of its
    views.

    Weights move by mistakes (0 or 1) rather than by the losses of probabilities: those favour experts that are never
    sure, and cost up to three points where labels are late and drift is sudden. For numbers, by squared errors.
    """

    def __init__(self, task: Task, experts: int) -> None:
        self.task: Task = task
        self.inner: Array = np.full((VIEWS, len(RATES), experts), 1.0 / experts)
        """(views, rules, experts); each rule's weights sum to 1."""
        self.honest = HONEST
        """Weight of the honest view, the rest being that of the younger ones together."""
        self._mix()

    def learn(self, answers: Array, y: float, weight: float = 1.0, then: Array | None = None) -> None:
        """Judge (views, experts) probabilities of 1 or standardised numbers, or (views, experts, classes)
        probabilities, by what came: 0 or 1, a standardised number, or the place of a class. A `weight` above 1 counts
        as 1. Answers that are all right, or all wrong, change nothing.

        Without the answers of the honest view only the younger ones are judged. `then`: the `candidates` when those
        answers were given, by which they would have been mixed; as they are now, if it was just now."""
        losses = self._losses(answers, y)
        if losses.min() == losses.max():
            return
        force, n = min(weight, 1.0), len(losses)
        if n == VIEWS:
            self._choose(answers[-1], y, force, self.candidates if then is None else then)
        moved = np.maximum(self.inner[:n] * self._factors(losses, force), WEIGHT_MIN)
        kept = (1.0 - SHARES) / moved.sum(axis=2)
        judged = moved * kept[:, :, None] + (SHARES / losses.shape[1])[:, None]
        self.inner = judged if n == VIEWS else np.concatenate([judged, self.inner[n:]])
        self._mix()

    def _mix(self) -> None:
        sums = self.inner.sum(axis=1)
        younger = sums[:-1].sum(axis=0) / ((VIEWS - 1) * len(RATES))
        honest = sums[-1] / len(RATES)
        self.candidates: Array = np.array([younger, honest])
        """(2, experts); what each expert's answer counts for in each candidate."""
        self.weights: Array = younger + self.honest * (honest - younger)
        """What each expert's answer counts for; sums to 1."""

    def _choose(self, answers: Array, y: float, force: float, weights: Array) -> None:
        """Judge the candidates by what they would have said of the honest answers with (2, experts) `weights`."""
        shape = (*weights.shape, *(1 for _ in answers.shape[1:]))
        votes = np.add.reduce(weights.reshape(shape) * answers, axis=1)
        younger, honest = self._losses(votes, y).tolist()
        if younger != honest:
            ours = self.honest * math.exp(-HONEST_RATE * force * honest)
            others = (1.0 - self.honest) * math.exp(-HONEST_RATE * force * younger)
            self.honest = (1.0 - HONEST_SHARE) * ours / (ours + others) + HONEST_SHARE * HONEST

    def _losses(self, answers: Array, y: float) -> Array:
        """Of each answer, from 0 to 1."""
        if self.task == "binary":
            return ((answers > 0.5) != y).astype(np.float64)
        if self.task == "multiclass":
            return (answers.argmax(axis=-1) != y).astype(np.float64)
        return np.minimum((answers - y) ** 2, 4.0) / 4.0

    def _factors(self, losses: Array, force: float) -> Array:
        """(views, rules, experts)"""
        if self.task == "regression":
            exponents = (-force * RATES)[None, :, None] * losses[:, None, :]
            return np.array([math.exp(one) for one in exponents.ravel().tolist()]).reshape(exponents.shape)
        falls = np.array([1.0 - math.exp(-force * rate) for rate in RATES.tolist()])
        return 1.0 - falls[None, :, None] * losses[:, None, :]

    def state(self) -> Any:
        return self.inner, self.honest

    def become(self, state: Any) -> None:
        self.inner, self.honest = state
        self._mix()
