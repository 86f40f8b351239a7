"""The ready default: linear models at several step sizes and a Hoeffding tree, weighed by their losses.

No single model is best on every stream, and which one is depends on how late the labels are; a mixture is about as good
as the best of its experts in hindsight. Owns the weights. Refuses to know features (`learners.linear`).
"""

from __future__ import annotations

import math
from operator import mul
from typing import Any, Final, NamedTuple, cast

import numpy as np
from river import tree

from learners import state
from learners.contract import FeatureDict, Label, Said
from learners.features import present
from learners.linear import Array, Linear
from learners.metrics import Task
from learners.state import Keeps

STEPS: Final = (0.003, 0.01, 0.1, 1.0)
"""Measured on six streams: each step size is the best one somewhere, 1.0 for prompt labels, 0.003 for late ones."""

RATE: Final = 1.0
"""Brier loss is exp-concave at rate 1 (Vovk 1990): the mixture's regret against the best expert does not grow."""

SHARE: Final = 1e-3
"""Share of the weight that is handed back to all: how fast a neglected expert can return."""

TREE_DEPTH_MAX: Final = 12
"""Bounds the tree: River's own bound in bytes measures objects, which a restored copy holds in other sizes."""

LAG_MIN: Final = 32
"""A shorter lag is judged as none: what the experts say now is what they said then, nearly."""

COPY_PER_LEAF: Final = 50
"""Examples between two frozen copies of the tree, for each of its leaves: copying costs about 0.2 ms a leaf."""


class _Frozen(NamedTuple):
    """The experts as they were after so many updates. A tree in thousands of leaves changes slowly and is costly to
    copy, so it may be older than the linear models beside it."""

    at: int
    linear: Linear
    tree: Any
    tree_at: int


class Experts(Keeps):
    """Fixed-share mixture (Herbster and Warmuth 1998) of `Linear` columns and, but for regression, a Hoeffding tree.

    Without the `tree` an example costs about half as much.

    `learn` weighs each expert by the Brier loss of what it said of the example when it was asked, `lag` updates ago:
    where labels are late, an expert that follows the last labels closely looks best now and was worst then. Its past is
    asked of a frozen copy that is between one and two lags old.
    """

    def __init__(
        self,
        task: Task,
        steps: tuple[float, ...] | list[float] = STEPS,
        rate: float = RATE,
        share: float = SHARE,
        tree: bool = True,
    ) -> None:
        if not steps or not all(step > 0 for step in steps) or rate <= 0 or not 0 <= share < 1:
            raise ValueError("experts: steps and rate must be positive, share at least 0 and less than 1")
        self.task: Task = task
        self.rate = float(rate)
        self.share = float(share)
        self.updates = 0
        self.linear = Linear(task, tuple(float(step) for step in steps))
        self.tree = _tree() if tree and task != "regression" else None
        experts = len(steps) + (self.tree is not None)
        self.mix = [1.0 / experts] * experts
        self.past: list[_Frozen] = []
        """At most two: the one that is asked, and a younger one that will be."""

    def predict(self, x: FeatureDict) -> Said:
        x = present(x)
        if self.task == "multiclass":
            return self._said_of_classes(self._shares(self.linear, self.tree, x))
        mixed = math.fsum(map(mul, self.mix, self._numbers(self.linear, self.tree, x)))
        return Said(mixed) if self.task == "regression" else Said(int(mixed >= 0.5), mixed)

    def learn(self, x: FeatureDict, y: Label, weight: float = 1.0, lag: int = 0) -> None:
        x = present(x)
        known = len(self.linear.classes)
        if self.linear.meet(y):
            if len(self.linear.classes) > known:
                self.past.clear()  # they have no column for the new class
            self._weigh(x, y, weight, lag)
            self.linear.learn(x, y, weight)
            if self.tree is not None:
                self.tree.learn_one(x, y, w=weight)
        self.updates += 1

    def _weigh(self, x: dict[str, Any], y: Label, weight: float, lag: int) -> None:
        if lag < LAG_MIN:
            losses = self._losses(self.linear, self.tree, x, y)
        else:
            self._freeze(lag)
            then = self.past[0]
            if self.updates - then.at < lag:
                return  # when this was asked, the experts were untrained and all said the same
            losses = self._losses(then.linear, then.tree, x, y)
        rate = self.rate * min(weight, 1.0)
        moved = [share * math.exp(-rate * loss) for share, loss in zip(self.mix, losses, strict=True)]
        keep, back = (1.0 - self.share) / math.fsum(moved), self.share / len(moved)
        self.mix = [keep * share + back for share in moved]

    def _freeze(self, lag: int) -> None:
        """Keep a copy every `lag` updates, and forget the elder once the younger is old enough."""
        if self.past and self.updates - self.past[-1].at < lag:
            return
        tree, tree_at = self.tree, self.updates
        if self.past and tree is not None:
            last = self.past[-1]
            if self.updates - last.tree_at < COPY_PER_LEAF * tree.n_leaves:
                tree, tree_at = last.tree, last.tree_at
        if tree is self.tree and tree is not None:
            tree = state.loads(state.dumps(tree))
        self.past = [*self.past[-1:], _Frozen(self.updates, self.linear.frozen(), tree, tree_at)]

    def _numbers(self, linear: Linear, tree: Any, x: dict[str, Any]) -> list[float]:
        """What each expert says: probabilities of 1, or numbers."""
        answers = cast("list[float]", linear.answers(linear.prepare(x)))
        if tree is not None:
            shares = tree.predict_proba_one(x)
            answers.append(shares.get(1, 0.0) if shares else 0.5)
        return answers

    def _shares(self, linear: Linear, tree: Any, x: dict[str, Any]) -> Array:
        """(experts, classes) probabilities."""
        classes, answers = linear.classes, linear.answers(linear.prepare(x))
        if tree is None:
            return np.asarray(answers)
        shares = tree.predict_proba_one(x)
        said = [shares.get(y, 0.0) if shares else 1.0 / len(classes) for y in classes] or [1.0]
        return np.concatenate([answers, [said]])

    def _said_of_classes(self, answers: Array) -> Said:
        if not self.linear.classes:
            return Said("", None)
        shares = (np.array(self.mix)[:, None] * answers).sum(axis=0).tolist()
        best = max(range(len(shares)), key=shares.__getitem__)
        return Said(
            self.linear.classes[best],
            min(shares[best], 1.0),
            {str(y): min(p, 1.0) for y, p in zip(self.linear.classes, shares, strict=True)},
        )

    def _losses(self, linear: Linear, tree: Any, x: dict[str, Any], y: Label) -> list[float]:
        """Of each expert, between 0 and 1."""
        if self.task == "multiclass":
            shares = self._shares(linear, tree, x)
            hit = shares[:, self.linear.classes.index(y)]
            return (((shares**2).sum(axis=1) - 2.0 * hit + 1.0) / 2.0).tolist()
        answers, wanted = self._numbers(linear, tree, x), float(y)
        if self.task == "binary":
            return [(answer - wanted) ** 2 for answer in answers]
        variance = self.linear.label_scale[2] or 1.0
        return [min((answer - wanted) ** 2 / variance, 4.0) / 4.0 for answer in answers]

    def _state(self) -> Any:
        past = [(then.at, then.linear.__dict__, then.tree, then.tree_at) for then in self.past]
        return self.updates, self.linear.__dict__, self.tree, self.mix, past

    def _become(self, state: Any) -> None:
        self.updates, linear, self.tree, self.mix, past = state
        self.linear.__dict__.update(linear)
        self.past = []
        for at, frozen, elder, elder_at in past:
            twin = Linear.__new__(Linear)
            twin.__dict__ = frozen
            self.past.append(_Frozen(at, twin, elder, elder_at))


def _tree() -> Any:
    """Majority leaves: beside linear experts naive Bayes in the leaves gained nothing on four streams, and doubled the
    time. The bound by bytes is put out of reach on purpose (see TREE_DEPTH_MAX)."""
    return tree.HoeffdingTreeClassifier(
        grace_period=200, leaf_prediction="mc", max_depth=TREE_DEPTH_MAX, memory_estimate_period=1 << 60
    )
