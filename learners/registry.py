"""Learners by name: the one table, class paths, and those that other packages register.

A package adds its own under the entry point group `tidegate.learners`: a callable `(task, seed, **parameters)` that
returns a Learner.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any, Final, cast

from learners.baselines import Last, Majority, Mean
from learners.contract import Learner
from learners.estimators import Estimator
from learners.experts import Experts
from learners.frozen import Frozen
from learners.metrics import Task
from learners.scikit import Scikit

GROUP: Final = "tidegate.learners"

Factory = Callable[..., Learner]

NAMED: Final[Mapping[str, Factory]] = {
    "experts": lambda task, seed, **parameters: Experts(task, **parameters),
    "majority": lambda task, seed: Majority(task),
    "last": lambda task, seed: Last(task),
    "mean": lambda task, seed: Mean(task),
    "frozen": lambda task, seed, of, after: Frozen(make(*_named(of), task, seed), after),
}


def make(path: str, parameters: Mapping[str, Any], task: Task, seed: int) -> Learner:
    """A fresh learner: one of `NAMED`, a class path of River or scikit-learn, `pipeline`, or a registered name.

    Raises ValueError with what is wrong and what to write instead.
    """
    if path.startswith("sklearn."):
        return Scikit(path, parameters, task)
    if path == "pipeline" or "." in path:
        return Estimator(path, parameters, task)
    factory = NAMED.get(path) or _registered(path)
    try:
        return factory(task, seed, **parameters)
    except TypeError as error:
        raise ValueError(f"{path}: {str(error).replace('<lambda>() ', '')}") from error


def _named(of: Any) -> tuple[str, Mapping[str, Any]]:
    """A learner inside another's parameters, written as in the configuration."""
    if isinstance(of, str):
        return of, {}
    if isinstance(of, Mapping) and len(of) == 1:
        path, parameters = next(iter(of.items()))
        if isinstance(path, str) and (parameters is None or isinstance(parameters, Mapping)):
            return path, parameters or {}
    raise ValueError(f"{of!r} is not a learner; write a name, a class path, or {{class path: {{parameters}}}}")


def baseline(task: Task) -> Learner:
    """The trivial learner that stands beside every model of the task."""
    return Mean(task) if task == "regression" else Majority(task)


def _registered(name: str) -> Factory:
    found = entry_points(group=GROUP)
    for entry in found:
        if entry.name == name:
            return cast(Factory, entry.load())
    names = [*NAMED, "pipeline", *(entry.name for entry in found)]
    close = difflib.get_close_matches(name, names, 1)
    hint = f"; did you mean {close[0]}?" if close else "; write experts, or a class path such as river.tree.X"
    raise ValueError(f"no learner {name!r}{hint}")
