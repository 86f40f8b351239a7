"""River estimators and pipelines as learners.

Owns the bridge: which features an estimator is given, what its answer means, and which estimators fit a task. Refuses
to know where the parameters come from (`learners.classpaths`).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

from river import base, compose

from learners.classpaths import build
from learners.contract import FeatureDict, Label, Said
from learners.features import Mixed, present
from learners.metrics import Task
from learners.state import Keeps

_TAKES_TEXT: Final = ("river.tree", "river.forest", "river.dummy")
"""Packages whose classifiers split on text themselves and do not care for scale. Their regressors have linear models
in the leaves, which take numbers only."""


class Estimator(Keeps):
    """A River classifier or regressor that learns one example at a time.

    A bare estimator that takes numbers only is put behind `learners.features.Mixed`; trees and forests of classes, and
    whatever the user composes as a pipeline, get the features as they are, without the missing ones.
    """

    def __init__(self, path: str, parameters: Mapping[str, Any], task: Task) -> None:
        model = build(path, parameters)
        _check_task(path, model, task)
        self.task: Task = task
        self.updates = 0
        self.model = model if isinstance(model, compose.Pipeline) or _takes_text(model) else Mixed() | model
        last = _last(self.model)
        self._takes_weight = "w" in inspect.signature(type(last).learn_one).parameters
        self._tells_probability = _tells_probability(last)

    def predict(self, x: FeatureDict) -> Said:
        x = present(x)
        if self.task == "regression":
            value = self.model.predict_one(x)
            return Said(0.0 if value is None else float(value))
        if not self._tells_probability:
            answer = self.model.predict_one(x)
            return Said((0 if self.task == "binary" else "") if answer is None else _plain(answer))
        shares: dict[Label, float] = self.model.predict_proba_one(x)
        if not shares:
            return Said(0, 0.5) if self.task == "binary" else Said("", None)
        best = max(shares, key=shares.__getitem__)  # the first wins a tie, as in River's predict_one
        if self.task == "binary":
            return Said(int(best), _share_of_one(shares))
        return Said(_plain(best), float(shares[best]), {str(y): float(p) for y, p in shares.items()})

    def learn(self, x: FeatureDict, y: Label, weight: float = 1.0, lag: int = 0) -> None:
        if weight != 1.0 and self._takes_weight:
            self.model.learn_one(present(x), y, w=weight)
        else:
            self.model.learn_one(present(x), y)
        self.updates += 1

    def _state(self) -> Any:
        return self.updates, self.model

    def _become(self, state: Any) -> None:
        self.updates, self.model = state


def _plain(answer: Any) -> Label:
    """A class as JSON can carry it: River may answer with a numpy scalar."""
    return answer.item() if hasattr(answer, "item") else answer


def _share_of_one(shares: Mapping[Label, float]) -> float:
    """A model that has seen one class only tells of that one."""
    if 1 in shares:
        return float(shares[1])
    return 1.0 - float(shares[0])


def _last(model: Any) -> Any:
    return _last(list(model.steps.values())[-1]) if isinstance(model, compose.Pipeline) else model


def _takes_text(model: Any) -> bool:
    inner = getattr(model, "model", None)
    if isinstance(inner, base.Estimator):  # an ensemble or a wrapper takes what its models take
        return isinstance(inner, compose.Pipeline) or _takes_text(inner)
    return isinstance(model, base.Classifier) and type(model).__module__.startswith(_TAKES_TEXT)


def _tells_probability(model: Any) -> bool:
    method = getattr(type(model), "predict_proba_one", None)
    return method is not None and method is not base.Classifier.predict_proba_one


def _check_task(path: str, model: Any, task: Task) -> None:
    last = _last(model)
    name = f"river.{type(last).__module__.split('.')[1]}.{type(last).__name__}"
    wanted, word = (base.Regressor, "regressor") if task == "regression" else (base.Classifier, "classifier")
    if not isinstance(last, wanted):
        raise ValueError(f"{name} is no {word}; the model's task is {task}")
    if task == "multiclass" and not last._multiclass:
        raise ValueError(f"{name} knows two classes only; wrap it: {{river.multiclass.OneVsRestClassifier: ...}}")
