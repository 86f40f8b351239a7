"""Prequential metrics: running sums over answers that were given before the label was learned.

Owns what is good and bad in numbers. Refuses to know who answered and when.
"""

from __future__ import annotations

import math
from typing import Final, Literal, TypeAlias

import msgspec

from learners.contract import Label, Said

Task: TypeAlias = Literal["binary", "multiclass", "regression"]

PROBABILITY_MIN: Final = 1e-15
"""Log loss is taken of probabilities no nearer to 0 or 1, as scikit-learn does: one certain mistake must not make a
mean infinite for ever."""


class Metrics(msgspec.Struct):
    """Sums over scored answers; `values` turns them into means.

    >>> m = Metrics("binary")
    >>> m.take(Said(1, 0.75), 1); m.take(Said(1, 0.75), 0)
    >>> m.values()["accuracy"], m.values()["brier"]
    (0.5, 0.3125)
    """

    task: Task
    n: int = 0
    right: int = 0
    scored: int = 0
    log_loss: float = 0.0
    brier: float = 0.0
    absolute: float = 0.0
    squared: float = 0.0

    def take(self, said: Said, y: Label) -> None:
        """Count one answer against its label. Regression: `y` and the prediction are numbers."""
        self.n += 1
        if self.task == "regression":
            error = float(said.prediction) - float(y)
            self.absolute += abs(error)
            self.squared += error * error
            return
        self.right += said.prediction == y
        if said.score is None:
            return
        self.scored += 1
        if self.task == "binary":
            share = said.score if y == 1 else 1.0 - said.score
            self.brier += (1.0 - share) ** 2
        else:
            every = said.probabilities or {str(said.prediction): said.score}
            share = every.get(str(y), 0.0)
            self.brier += sum(p * p for p in every.values()) - 2.0 * share + 1.0
        self.log_loss -= math.log(min(max(share, PROBABILITY_MIN), 1.0))

    def values(self) -> dict[str, float]:
        """Means by name: accuracy, log_loss and brier, or mae and rmse; empty before the first answer."""
        if not self.n:
            return {}
        if self.task == "regression":
            return {"mae": self.absolute / self.n, "rmse": math.sqrt(self.squared / self.n)}
        out = {"accuracy": self.right / self.n}
        if self.scored:
            out |= {"log_loss": self.log_loss / self.scored, "brier": self.brier / self.scored}
        return out
