"""Incremental scikit-learn estimators as learners: whatever has `partial_fit`, by its class path.

Owns the bridge: which columns an estimator sees, which classes it is told of, what of it is state. Refuses to unpickle
anything of scikit-learn: state is what an estimator has learned, as arrays and plain values, and goes onto an estimator
that is made anew. The package is optional and is imported when an estimator of it is asked for.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from learners.contract import FeatureDict, Label, Said, SnapshotError
from learners.features import Mixed, present
from learners.linear import CLASSES_MAX
from learners.metrics import Task
from learners.state import Keeps

Array = NDArray[np.float64]

WIDTH: Final = 256
"""Columns unless told otherwise. scikit-learn settles their number at the first example, before all features and texts
are known; free ones stay zero."""

WIDTH_MAX: Final = 10_000
"""Columns at most: each is a weight of every class, and a zero to multiply where it is free."""

BATCH_MAX: Final = 10_000
"""Examples at most that wait for one `partial_fit`; they are part of every snapshot."""

SMOOTHED_BATCH_MIN: Final = 10
"""An estimator that takes its smoothing from the variance of a batch (GaussianNB) divides by zero with one example."""

CURVE: Final = "loss_curve_"
"""The one thing that grows with every `partial_fit`; only its last entry is ever looked at."""

REMADE: Final = frozenset({"_loss_function_", "_random_state"})
"""Attributes that `partial_fit` makes anew from the parameters before it uses them."""

PARTS: Final[Mapping[str, str]] = {
    "AdamOptimizer": "sklearn.neural_network._stochastic_optimizers",
    "LabelBinarizer": "sklearn.preprocessing",
    "SGDOptimizer": "sklearn.neural_network._stochastic_optimizers",
}
"""Objects of scikit-learn inside an estimator that hold plain values only, by exact name, and where they are found."""

INSTALL: Final = "scikit-learn is not installed; install tidegate[sklearn]"


class Scikit(Keeps):
    """An estimator of scikit-learn that learns one example at a time, or `batch` at once.

    It sees (1, `width`) rows: numbers standardised with what was learned so far and text one-hot, each in the column
    that it got when it was first learned; what finds no free column is left out and counted in `left_out`. An estimator
    that takes no negative numbers gets them as they are. `classes` names the labels of a multi-class task, which
    scikit-learn must know beforehand. With a `batch`, up to `batch - 1` examples wait, and are part of the state.

    One `partial_fit` costs about 500 us whatever it is given, so `batch: 32` is thirty times cheaper than one by one.
    Sums are those of the machine's linear algebra: other kinds of processor may differ in the last bit.

    Raises ValueError for an estimator that learns from whole data sets only, fits another task, is random without
    `random_state`, refuses its parameters, or keeps state that cannot be written as plain values.
    """

    def __init__(self, path: str, parameters: Mapping[str, Any], task: Task) -> None:
        own = dict(parameters)
        self.task: Task = task
        self.width = _whole(path, "width", own.pop("width", WIDTH), WIDTH_MAX)
        self.batch = _whole(path, "batch", own.pop("batch", 1), BATCH_MAX)
        self.classes = _classes(path, own.pop("classes", None), task)
        self._path = path
        self._kind = _find(path)
        self._parameters = own
        self.model = self._fresh()
        self._check()
        self._names, self._tells_probability = self._tried()
        self._index = {label: i for i, label in enumerate(self.classes)}
        self._takes_weight = "sample_weight" in inspect.signature(self.model.partial_fit).parameters
        self.updates = 0
        self.left_out = 0
        self.columns: dict[str, int] = {}
        self.waiting: list[tuple[Array, float, float]] = []
        tags = self.model.__sklearn_tags__().input_tags
        self.scaling = None if tags.positive_only else Mixed(self.width)

    def predict(self, x: FeatureDict) -> Said:
        if self.updates < self.batch:
            return self._untrained()
        row = self._row(self._numbers(present(x)))
        with np.errstate(all="ignore"):  # a class without examples has the logarithm of zero in it
            if self._tells_probability:
                return self._said(self.model.predict_proba(row)[0].tolist())
            answer = self.model.predict(row)[0]
        if self.task == "regression":
            return Said(float(answer)) if math.isfinite(answer) else self._untrained()
        return Said(self.classes[int(answer)])

    def learn(self, x: FeatureDict, y: Label, weight: float = 1.0, lag: int = 0) -> None:
        """Raises ValueError for a label that is not among `classes`, and for what the estimator refuses."""
        target = self._target(y)
        x = present(x)
        if self.scaling is not None:
            self.scaling.learn_one(x)
        numbers = self._numbers(x)
        for name in numbers:
            if name not in self.columns:
                if len(self.columns) < self.width:
                    self.columns[name] = len(self.columns)
                else:
                    self.left_out += 1
        self.waiting.append((self._row(numbers)[0], target, weight))
        if len(self.waiting) >= self.batch:
            rows, targets, weights = zip(*self.waiting, strict=True)
            self.waiting = []
            self._fit(self.model, np.array(rows), np.array(targets), weights)
        self.updates += 1

    def _fit(self, model: Any, rows: Array, targets: Array, weights: Sequence[float] = ()) -> None:
        more: dict[str, Any] = {}
        if self.task != "regression":
            more["classes"] = np.arange(len(self.classes))
            targets = targets.astype(np.int64)
        if any(weight != 1.0 for weight in weights) and self._takes_weight:
            more["sample_weight"] = np.array(weights)
        with np.errstate(all="ignore"):
            model.partial_fit(rows, targets, **more)
        if CURVE in vars(model):
            del vars(model)[CURVE][:-1]

    def _numbers(self, x: dict[str, Any]) -> dict[str, float]:
        if self.scaling is not None:
            return self.scaling.transform_one(x)
        return {f"{name}={v}" if type(v) is str else name: 1.0 if type(v) is str else float(v) for name, v in x.items()}

    def _row(self, numbers: Mapping[str, float]) -> Array:
        row = np.zeros((1, self.width))
        for name, value in numbers.items():
            column = self.columns.get(name)
            if column is not None:
                row[0, column] = value
        return row

    def _target(self, y: Label) -> float:
        if self.task == "regression":
            return float(y)
        found = self._index.get(y)
        if found is None:
            raise ValueError(f"label {y!r} is not among classes of {self._path}: {', '.join(map(str, self.classes))}")
        return found

    def _untrained(self) -> Said:
        if self.task == "binary":
            return Said(0, 0.5) if self._tells_probability else Said(0)
        return Said(0.0) if self.task == "regression" else Said("")

    def _said(self, shares: list[float]) -> Said:
        if not all(map(math.isfinite, shares)):
            return self._untrained()
        best = max(range(len(shares)), key=shares.__getitem__)  # the first wins a tie, as in scikit-learn's argmax
        if self.task == "binary":
            return Said(best, shares[1])
        return Said(
            self.classes[best], shares[best], {str(y): share for y, share in zip(self.classes, shares, strict=True)}
        )

    def _fresh(self) -> Any:
        try:
            return self._kind(**self._parameters)
        except TypeError as error:
            raise ValueError(f"{self._path}: {error}") from error

    def _check(self) -> None:
        """What can be read off the estimator before it has seen anything."""
        path, known = self._path, importlib.import_module("sklearn.base")
        if self.task == "regression" and not known.is_regressor(self.model):
            raise ValueError(f"{path} is no regressor; the model's task is regression")
        if self.task != "regression" and not known.is_classifier(self.model):
            raise ValueError(f"{path} is no classifier; the model's task is {self.task}")
        settings = self.model.get_params(deep=False)
        if "random_state" in settings and type(settings["random_state"]) is not int:
            raise ValueError(f"{path} is random and has no seed; add random_state: 1")
        if "var_smoothing" in settings and self.batch < SMOOTHED_BATCH_MIN:
            raise ValueError(f"{path} takes its smoothing from a batch; add batch: 32 (at least {SMOOTHED_BATCH_MIN})")
        if self.model.__sklearn_tags__().input_tags.categorical:
            raise ValueError(f"{path} wants numbered categories in every column; use MultinomialNB or BernoulliNB")

    def _tried(self) -> tuple[list[str], bool]:
        """Fit a throw-away twin, so that what it refuses, and state that cannot be kept, are faults of configuration.
        Returns the names of what it learns, and whether it tells probabilities."""
        twin = self._fresh()
        targets = np.arange(float(max(len(self.classes), 2)))
        rows = np.zeros((len(targets), self.width))
        rows[:, 0] = targets
        try:
            self._fit(twin, rows, targets)
        except Exception as error:  # an estimator of any kind stands behind this
            raise ValueError(f"{self._path}: {str(error).splitlines()[0] if str(error) else error!r}") from error
        learned, parts = _learned(twin, self._path)
        return sorted([*learned, *parts]), hasattr(twin, "predict_proba")

    def _state(self) -> Any:
        fitted = _learned(self.model, self._path) if self.updates >= self.batch else None
        version = importlib.import_module("sklearn").__version__
        return version, self.updates, self.left_out, self.columns, self.scaling, self.waiting, fitted

    def _become(self, state: Any) -> None:
        version, updates, left_out, columns, scaling, waiting, fitted = state
        model = self._fresh()
        if fitted is not None:
            learned, parts = fitted
            if sorted([*learned, *parts]) != self._names:
                here = importlib.import_module("sklearn").__version__
                raise SnapshotError(
                    f"{self._path} was saved by scikit-learn {version} with other attributes than {here} keeps; "
                    f"install scikit-learn {version}, or train anew"
                )
            vars(model).update(learned)
            vars(model).update({name: _part(*part) for name, part in parts.items()})
        self.model, self.updates, self.left_out = model, updates, left_out
        self.columns, self.scaling, self.waiting = columns, scaling, waiting


def _whole(path: str, name: str, value: Any, most: int) -> int:
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError(f"{path}: {name} is {value!r}; give a whole number from 1 to {most}")
    return value


def _classes(path: str, given: Any, task: Task) -> list[Label]:
    """0 and 1 for a binary task, the configured ones for a multi-class one, none for regression."""
    if task != "multiclass":
        if given is not None:
            raise ValueError(f"{path}: classes is for multi-class tasks; take it out")
        return [0, 1] if task == "binary" else []
    if given is None:
        raise ValueError(f"{path} must know all classes beforehand; add classes: [one, another, ...]")
    labels = list(given) if isinstance(given, (list, tuple)) else []
    if not all(isinstance(y, (str, int, float)) for y in labels):
        labels = []
    if not 2 <= len({str(y) for y in labels}) == len(labels) <= CLASSES_MAX:
        raise ValueError(f"{path}: classes must be a list of 2 to {CLASSES_MAX} different labels")
    return labels


def _find(path: str) -> type:
    """The class of a path. Raises ValueError where there is none, or it learns from whole data sets only."""
    module_name, _, name = path.rpartition(".")
    try:
        importlib.import_module("sklearn")
    except ImportError:
        raise ValueError(f"{path}: {INSTALL}") from None
    try:
        module: Any = importlib.import_module(module_name)
    except ImportError:
        module = None
    found = getattr(module, name, None)
    names = [name for name in getattr(module, "__all__", ()) if hasattr(getattr(module, name), "partial_fit")]
    if not isinstance(found, type):
        close = difflib.get_close_matches(name, names, 1)
        hint = f"; did you mean {close[0]}?" if close else "; write it as in sklearn.linear_model.SGDClassifier"
        raise ValueError(f"no class {path}{hint}")
    if not hasattr(found, "partial_fit"):
        others = f"; {module_name} has {', '.join(names)}" if names else "; take sklearn.linear_model.SGDClassifier"
        raise ValueError(f"{path} has no partial_fit, it learns from whole data sets only{others}")
    return found


def _learned(model: Any, path: str) -> tuple[dict[str, Any], dict[str, tuple[str, dict[str, Any]]]]:
    """What a fitted estimator has beside its parameters: plain values, and the values of its `PARTS`.

    Raises ValueError for anything else.
    """
    given = model.get_params(deep=False)
    learned: dict[str, Any] = {}
    parts: dict[str, tuple[str, dict[str, Any]]] = {}
    for name, value in vars(model).items():
        kind = type(value)
        if name in given or name in REMADE:
            continue
        if PARTS.get(kind.__name__) is not None and kind.__module__.startswith(PARTS[kind.__name__]):
            inner = vars(value)
            if not all(map(_is_plain, inner.values())):
                raise ValueError(f"{path}: {name} holds what cannot be saved as plain values")
            parts[name] = kind.__name__, dict(inner)
        elif _is_plain(value):
            learned[name] = value
        else:
            raise ValueError(
                f"{path} keeps {kind.__name__} in {name}, which cannot be saved as plain values, and nothing of "
                f"scikit-learn is unpickled; choose an estimator without others inside"
            )
    return learned, parts


def _is_plain(value: Any) -> bool:
    """Values and arrays that come back from a snapshot as they were, order in memory included."""
    kind = type(value)
    if value is None or kind in (bool, int, float, str) or isinstance(value, np.generic):
        return True
    if kind is np.ndarray:
        return value.dtype.kind in "biufU" and value.flags.c_contiguous
    if kind in (list, tuple):
        return all(map(_is_plain, value))
    return kind is dict and all(map(_is_plain, value)) and all(map(_is_plain, value.values()))


def _part(name: str, state: Mapping[str, Any]) -> Any:
    if name not in PARTS:
        raise SnapshotError(f"{name} may not appear in the state of an estimator")
    kind = getattr(importlib.import_module(PARTS[name]), name)
    part = kind.__new__(kind)
    vars(part).update(state)
    return part
