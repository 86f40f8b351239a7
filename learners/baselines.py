"""Trivial learners that every model must beat: majority or mean of the labels, and the last label.

They look at labels alone. Refuse to know features.
"""

from __future__ import annotations

from typing import Any

from learners.contract import FeatureDict, Label, Said
from learners.metrics import Task
from learners.state import Keeps


class Majority(Keeps):
    """The label seen most often; its score is its share. The first seen wins a tie."""

    def __init__(self, task: Task) -> None:
        if task == "regression":
            raise ValueError("majority is for classes; use mean for regression")
        self.task = task
        self.updates = 0
        self.counts: dict[Label, float] = {}

    def predict(self, x: FeatureDict) -> Said:
        counts = self.counts
        if self.task == "binary":
            ones = counts.get(1, 0.0)
            total = ones + counts.get(0, 0.0)
            share = ones / total if total else 0.5
            return Said(int(share > 0.5), share)
        total = sum(counts.values())
        if not total:
            return Said("", None)
        best = max(counts, key=counts.__getitem__)
        return Said(best, counts[best] / total, {str(y): n / total for y, n in counts.items()})

    def learn(self, x: FeatureDict, y: Label, weight: float = 1.0, lag: int = 0) -> None:
        self.counts[y] = self.counts.get(y, 0.0) + weight
        self.updates += 1

    def _state(self) -> Any:
        return self.updates, self.counts

    def _become(self, state: Any) -> None:
        self.updates, self.counts = state


class Last(Keeps):
    """The label learned last; labels that repeat make this hard to beat, and late labels make it easy."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.updates = 0
        self.last: Label | None = None

    def predict(self, x: FeatureDict) -> Said:
        if self.task == "binary":
            return Said(0, 0.5) if self.last is None else Said(self.last, float(self.last))
        if self.task == "regression":
            return Said(0.0 if self.last is None else self.last)
        return Said("", None) if self.last is None else Said(self.last, 1.0, {str(self.last): 1.0})

    def learn(self, x: FeatureDict, y: Label, weight: float = 1.0, lag: int = 0) -> None:
        self.last = y
        self.updates += 1

    def _state(self) -> Any:
        return self.updates, self.last

    def _become(self, state: Any) -> None:
        self.updates, self.last = state


class Mean(Keeps):
    """The mean of the labels, for regression."""

    def __init__(self, task: Task) -> None:
        if task != "regression":
            raise ValueError("mean is for regression; use majority for classes")
        self.updates = 0
        self.total = 0.0
        self.mean = 0.0

    def predict(self, x: FeatureDict) -> Said:
        return Said(self.mean)

    def learn(self, x: FeatureDict, y: Label, weight: float = 1.0, lag: int = 0) -> None:
        self.total += weight
        if self.total > 0:
            self.mean += (float(y) - self.mean) * weight / self.total
        self.updates += 1

    def _state(self) -> Any:
        return self.updates, self.total, self.mean

    def _become(self, state: Any) -> None:
        self.updates, self.total, self.mean = state
