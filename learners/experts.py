"""The ready default: linear models and hinges at several step sizes, trees and neighbours, weighed by their mistakes.

No single model is best on every stream, and which one is depends on how late the labels are; a mixture is about as good
as the best of its experts in hindsight. Owns who the experts are, and what they said when they were asked. Refuses to
know features (`learners.linear`) and how losses move weights (`learners.mixture`).
"""

from __future__ import annotations

import math
from operator import mul
from typing import Any, Final

import numpy as np

from learners.contract import FeatureDict, Label, Said
from learners.features import present
from learners.hinges import STEP_MAX, Hinges
from learners.linear import Array, Linear, Prepared
from learners.metrics import Task
from learners.mixture import HONEST, VIEWS, Mixture
from learners.neighbours import Neighbours
from learners.state import Keeps, made
from learners.trees import Bare, Shares, Trees

STEPS: Final = (0.003, 0.01, 0.1, 1.0)
"""Measured on thirteen streams: each is the best one somewhere, 1.0 for prompt labels, 0.003 for late ones."""

HINGE_STEPS: Final = (0.03, 0.3, 3.0)
"""Larger than those of the linear models: they are divided by the length of the hidden layer. In a regression those of
the linear models are too, and none is taken for more than `STEP_MAX`."""

LAG_MIN: Final = 32.0
"""A shorter lag is judged as none: what the experts say now is what they said then, nearly."""

LAG_MEMORY: Final = 256
"""Examples over which the usual lag is averaged: labels are late by different amounts, and copies are for all."""

AGES: Final = (0.5, 0.1)
"""Of the lag, or of the labels so far: how old the copies are that the younger views of the mixture ask; its honest
view asks one of the full age. That one tells of a drift as late again as its labels came, so that what is best since is
known two lags after: up to ten points behind the best expert. One that is hardly old favours those that follow the last
labels: two to six points behind. Half of the weight to each of these two is never more than one behind, at labels up to
1,000 late."""

APART: Final = 0.25
"""Of the lag: how far apart copies may be that the younger views ask no more. The one nearest to the full age is asked:
the next older one, 1.1 lags old on average, cost three points where a concept lasts two lags."""

COPY_EVERY_MIN: Final = 25
"""Examples between two copies: a copy costs as much as two examples."""


class _Panel:
    """The experts at one moment; a frozen one answers as they did then, and does not learn. It remembers the weights
    of the mixture's candidates."""

    def __init__(
        self,
        linear: Linear,
        hinges: Hinges,
        trees: Trees | Bare | None,
        near: Neighbours | None,
        at: int = 0,
        candidates: Array | None = None,
    ) -> None:
        self.linear, self.hinges, self.trees, self.near = linear, hinges, trees, near
        self.at, self.candidates = at, candidates

    def frozen(self, at: int, candidates: Array) -> _Panel:
        trees = self.trees.frozen() if isinstance(self.trees, Trees) else None
        near = None if self.near is None else self.near.frozen()
        return _Panel(self.linear.frozen(), self.hinges.frozen(), trees, near, at, candidates)

    def answers(self, x: dict[str, Any]) -> Array:
        """(experts,) probabilities of 1 or numbers, or (experts, classes) probabilities."""
        linear = self.linear
        prepared = linear.prepare(x)
        raw = self.hinges.raw(self.hinges.hidden(prepared))
        if linear.task == "multiclass":
            rows = [linear.answers(prepared), linear.said(raw), self._counted(x), self._shares_near(prepared)]
            return np.concatenate([row for row in rows if len(row)])
        numbers = [*linear.answers(prepared), *linear.said(raw)]
        if linear.task == "binary" and self.trees is not None:
            numbers += [_share_of_one(counts) for counts in self.trees.shares(x)]
        if self.near is not None:
            near = self.near.near(prepared)
            if linear.task == "binary":
                numbers.append((float(near.sum()) + 0.5) / (len(near) + 1.0))
            else:
                numbers.append(float(near.mean()) if len(near) else linear.label_scale[1])
        return np.array(numbers)

    def _counted(self, x: dict[str, Any]) -> list[list[float]]:
        if self.trees is None:
            return []
        classes = self.linear.classes
        return [_normalised([counts.get(y, 0.0) for y in classes]) for counts in self.trees.shares(x)]

    def _shares_near(self, x: Prepared) -> list[list[float]]:
        if self.near is None:
            return []
        counts = np.bincount(self.near.near(x).astype(np.int64), minlength=len(self.linear.classes))
        return [_normalised((counts + 1.0 / len(counts)).tolist())]

    def learn(self, x: dict[str, Any], y: Label, weight: float) -> None:
        linear = self.linear
        prepared = linear.learn(x, y, weight)
        hidden = self.hinges.hidden(prepared)
        self.hinges.learn(hidden, linear.slope(self.hinges.raw(hidden), y, weight))
        if isinstance(self.trees, Trees):
            self.trees.learn(x, y, weight)
        if self.near is not None:
            self.near.learn(prepared, float(linear.classes.index(y) if linear.task == "multiclass" else y))

    def state(self) -> Any:
        parts = self.linear.__dict__, self.hinges.weights, self._trees_state(), self._near_state()
        return *parts, self.at, self.candidates

    def _near_state(self) -> Any:
        return None if self.near is None else self.near.__dict__

    def _trees_state(self) -> Any:
        return None if self.trees is None else dict(self.trees.__dict__)


class Experts(Keeps):
    """A two-level mixture of `Linear` and `Hinges` columns, nearest neighbours and, but for regression, two Hoeffding
    trees. Without `tree` or `neighbours` an example costs about a third less each.

    `learn` judges each expert by what it would have said of the example a while before: where labels are late, an
    expert that follows the last labels closely looks best now and was worst when it was asked. Its past is asked of
    frozen copies, whose age goes by how late labels usually are (`lag`), or by how many labels there are so far.
    """

    format = 2

    def __init__(
        self,
        task: Task,
        steps: tuple[float, ...] | list[float] = STEPS,
        hinge_steps: tuple[float, ...] | list[float] = HINGE_STEPS,
        tree: bool = True,
        neighbours: bool = True,
    ) -> None:
        if not steps or not hinge_steps or not all(step > 0 for step in (*steps, *hinge_steps)):
            raise ValueError("experts: steps and hinge_steps must be lists of positive numbers, at least one in each")
        self.task: Task = task
        self.updates = 0
        self.lag = 0.0
        trees = Trees() if tree and task != "regression" else None
        near = Neighbours() if neighbours else None
        most = STEP_MAX if task == "regression" else math.inf
        steps, hinge_steps = (tuple(min(float(step), most) for step in each) for each in (steps, hinge_steps))
        self.now = _Panel(Linear(task, steps), Hinges(hinge_steps), trees, near)
        self.names = [f"linear {step:g}" for step in steps] + [f"hinges {step:g}" for step in hinge_steps]
        self.names += (["tree", "recent tree"] if trees else []) + (["neighbours"] if neighbours else [])
        self.mixture = Mixture(task, len(self.names))
        self.past: list[_Panel] = []
        """Frozen copies, the eldest first: that one is asked, and two younger ones."""
        self._asked: tuple[int, FeatureDict, Array] | None = None
        """The last answers: a prompt label asks for them again. No state: it changes no answer."""

    def predict(self, x: FeatureDict) -> Said:
        if self.task == "multiclass" and not self.now.linear.classes:
            return Said("", None)
        answers, weights = self.answers(x), self.mixture.weights
        if self.task == "multiclass":
            return self._said_of_classes((weights[:, None] * answers).sum(axis=0).tolist())
        shares = weights.tolist()  # they sum to 1 save rounding, which must be no opinion
        mixed = math.fsum(map(mul, shares, answers.tolist())) / math.fsum(shares)
        return Said(mixed) if self.task == "regression" else Said(int(mixed > 0.5), mixed)

    def answers(self, x: FeatureDict) -> Array:
        """What each of `names` says: (experts,) probabilities of 1 or numbers, or (experts, classes) probabilities."""
        asked = self._asked
        if asked is not None and asked[0] == self.updates and (asked[1] is x or asked[1] == x):
            return asked[2]
        found = self.now.answers(present(x))
        self._asked = (self.updates, dict(x), found)
        return found

    def right(self, x: FeatureDict, y: Label) -> Array:
        """Of each of `names` whether its answer is right, 1 or 0; for classes. What a benchmark asks."""
        classes = self.now.linear.classes
        if self.task == "multiclass" and y not in classes:
            return np.zeros(len(self.names), np.int64)
        answers = self.answers(x)
        hit = answers.argmax(axis=1) == classes.index(y) if self.task == "multiclass" else (answers > 0.5) == y
        return hit.astype(np.int64)

    def learn(self, x: FeatureDict, y: Label, weight: float = 1.0, lag: int = 0) -> None:
        linear = self.now.linear
        if self.task == "regression":
            y = linear.within(float(y))
        known = len(linear.classes)
        if linear.meet(y):
            if len(linear.classes) > known:
                self.past.clear()  # they have no column for the new class
                self._asked = None
                self.now.hinges.meet(linear)
            self.lag += (lag - self.lag) / min(self.updates + 1, LAG_MEMORY)
            self._judge(x, y, weight)
            self.now.learn(present(x), y, weight)
        self.updates += 1

    def _judge(self, x: FeatureDict, y: Label, weight: float) -> None:
        if self.lag < LAG_MIN:
            self.past.clear()
            self._weigh([self.answers(x)] * VIEWS, y, weight)
            return
        span = max(min(self.lag, self.updates), LAG_MIN)
        half, youngest = (age * span for age in AGES)
        past, updates = self.past, self.updates
        if not past or updates - past[-1].at >= max(youngest, COPY_EVERY_MIN):
            past.append(self.now.frozen(updates, self.mixture.candidates.copy()))
            self._thin(half, APART * span)
        while len(past) > 1 and updates - past[1].at >= max(half, 2 * span - (updates - past[0].at)):
            past.pop(0)
        age = updates - past[0].at
        if age >= half:
            asked = [next(one for one in reversed(past) if updates - one.at >= old) for old in (half, youngest)]
            asked += past[:1] if age >= (1.0 - APART / 2.0) * span else []
            seen = present(x)
            self._weigh([one.answers(seen) for one in asked], y, weight, past[0].candidates)

    def _thin(self, half: float, apart: float) -> None:
        """Drop copies between two near ones, of which the younger is half as old as the lag, and so is asked itself."""
        for i in range(len(self.past) - 2, 0, -1):
            older, younger = self.past[i - 1].at, self.past[i + 1].at
            if self.updates - younger >= half and younger - older <= apart:
                del self.past[i]

    def _weigh(self, views: list[Array], y: Label, weight: float, then: Array | None = None) -> None:
        linear = self.now.linear
        if self.task == "multiclass":
            self.mixture.learn(np.array(views), linear.classes.index(y), weight, then)
        elif self.task == "binary":
            self.mixture.learn(np.array(views), int(y), weight, then)
        else:
            _, mean, variance = linear.label_scale
            deviation = math.sqrt(variance) or 1.0
            self.mixture.learn((np.array(views) - mean) / deviation, (float(y) - mean) / deviation, weight, then)

    def _said_of_classes(self, shares: list[float]) -> Said:
        classes = self.now.linear.classes
        best = max(range(len(shares)), key=shares.__getitem__)
        return Said(
            classes[best],
            min(shares[best], 1.0),
            {str(y): min(p, 1.0) for y, p in zip(classes, shares, strict=True)},
        )

    def _older(self, state: Any, version: int) -> Any:
        """Format 1 had no honest view: it begins with the weights of the copy of half the age. Its copies go: what the
        candidates would have said with them is not known."""
        updates, lag, (inner, _), (now, *_) = state
        return updates, lag, (np.concatenate([inner, inner[:1]]), HONEST), [(*now, None)]

    def _state(self) -> Any:
        panels = [panel.state() for panel in (self.now, *self.past)]
        return self.updates, self.lag, self.mixture.state(), panels

    def _become(self, state: Any) -> None:
        self.updates, self.lag, mixture, (now, *past) = state
        self.mixture.become(mixture)
        self._asked = None
        self.now = self._panel(now, is_frozen=False)
        self.past = [self._panel(one, is_frozen=True) for one in past]

    def _panel(self, state: Any, is_frozen: bool) -> _Panel:
        linear, weights, trees, near, *when = state
        hinges = made(Hinges, {"steps": self.now.hinges.steps, "weights": weights})
        kept = None if trees is None else made(Bare, trees) if is_frozen else made(Trees, trees)
        others = None if near is None else made(Neighbours, near)
        return _Panel(made(Linear, linear), hinges, kept, others, *when)


def _share_of_one(counts: Shares) -> float:
    total = math.fsum(counts.values())
    return counts.get(1, 0.0) / total if total else 0.5


def _normalised(counts: list[float]) -> list[float]:
    total = math.fsum(counts)
    return [count / total for count in counts] if total else [1.0 / len(counts)] * len(counts)
