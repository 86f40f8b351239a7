"""Prequential accuracy of the default learner beside River's models, on every labelled stream and at several delays.

Each example is answered before it is learned, and learned when its label comes, so many events later. The default is
judged against the best of its own experts in hindsight and against a forest; no-change and majority stand beside. The
streams are told in `benchmarks.learning.streams`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from benchmarks.detection.bars import Bar, Part, at_least, at_most
from benchmarks.detection.datasets import Missing
from benchmarks.learning import streams
from benchmarks.learning.streams import Labelled
from learners.contract import Label, Learner
from learners.experts import Experts
from learners.metrics import Task
from learners.registry import make

OURS: Final = "default"
FOREST: Final = "ARF(10)"
LOGISTIC: Final = "scaler, logistic"
NO_CHANGE, MAJORITY = "no change", "majority"

DELAYS: Final = (0, 100, 1_000, 10_000)
"""Events between an answer and its label."""

BELOW_BEST_MAX: Final = 1.0
"""Points of accuracy by which the default may stay behind the best of its experts, on any stream at any delay."""

FOREST_SHARE_MAX: Final = 0.5
"""Of the forest's CPU time."""

WINDOW: Final = 250
"""Events over which accuracy is taken to see a model recover from a drift."""

RECOVERED: Final = 2.0
"""A model has recovered when it is no more than so many points below its accuracy before the drift."""

_TREE: Final = {"river.tree.HoeffdingTreeClassifier": {}}
CLASSIFIERS: Final[Mapping[str, tuple[str, dict[str, Any]]]] = {
    OURS: ("experts", {}),
    LOGISTIC: ("river.linear_model.LogisticRegression", {}),
    "naive Bayes": ("river.naive_bayes.GaussianNB", {}),
    "Hoeffding tree": ("river.tree.HoeffdingTreeClassifier", {}),
    "HAT": ("river.tree.HoeffdingAdaptiveTreeClassifier", {"seed": 1}),
    "retrained at drift": ("river.drift.DriftRetrainingClassifier", {"model": _TREE}),
    "leveraging bagging(3)": ("river.ensemble.LeveragingBaggingClassifier", {"model": _TREE, "n_models": 3, "seed": 1}),
    FOREST: ("river.forest.ARFClassifier", {"n_models": 10, "seed": 1}),
    NO_CHANGE: ("last", {}),
    MAJORITY: ("majority", {}),
}
"""Nothing is tuned to a stream: River's own defaults, and a seed where there is chance."""

REGRESSORS: Final[Mapping[str, tuple[str, dict[str, Any]]]] = {
    OURS: ("experts", {}),
    "scaler, linear": ("river.linear_model.LinearRegression", {}),
    "Hoeffding tree": ("river.tree.HoeffdingTreeRegressor", {}),
    NO_CHANGE: ("last", {}),
    "mean": ("mean", {}),
}

SEVERAL: Final = ("river.multiclass.OneVsRestClassifier", {"classifier": "river.linear_model.LogisticRegression"})
"""The logistic regression where there are more than two classes."""

DEAR: Final = frozenset({"HAT", "leveraging bagging(3)"})
DEAR_DELAYS: Final = frozenset({0, 1_000})
"""Models that cost much and decide nothing are run at these delays only."""


class Size(NamedTuple):
    """What is run."""

    names: tuple[str, ...]
    rows: int
    delays: tuple[int, ...]
    without: frozenset[str]


FULL: Final = Size(streams.NAMES, streams.ROWS, DELAYS, frozenset())
QUICK: Final = Size(("elec2", "stagger recurring"), 3_000, (0, 1_000), DEAR | {FOREST})


class Answers(NamedTuple):
    """What came of one model on one stream at one delay: its answers in order, CPU time, and of the default learner
    how many of its experts' answers were right."""

    said: list[Label]
    cpu_s: float
    experts: dict[str, int]


def follow(learner: Learner, stream: Labelled, delay: int) -> Answers:
    """Answer and learn a whole stream. What the experts said is asked outside the time that is measured."""
    said: list[Label] = []
    right = np.zeros(len(learner.names) if isinstance(learner, Experts) else 0, np.int64)
    x, y = stream.x, stream.y
    asking_s, began_s = 0.0, time.process_time()
    for i in range(len(x)):
        said.append(learner.predict(x[i]).prediction)
        if isinstance(learner, Experts) and stream.task != "regression":
            start_s = time.process_time()
            right += learner.right(x[i], y[i])
            asking_s += time.process_time() - start_s
        if i >= delay:
            learner.learn(x[i - delay], y[i - delay], lag=min(delay, i - delay))
    cpu_s = time.process_time() - began_s - asking_s
    names = learner.names if isinstance(learner, Experts) else []
    return Answers(said, cpu_s, dict(zip(names, right.tolist(), strict=True)))


def models(task: Task, without: frozenset[str]) -> dict[str, tuple[str, dict[str, Any]]]:
    every = dict(REGRESSORS if task == "regression" else CLASSIFIERS)
    if task == "multiclass":
        every[LOGISTIC] = SEVERAL
    return {name: spec for name, spec in every.items() if name not in without}


def kappa(said: list[Label], y: list[Label]) -> float:
    """Agreement beyond chance (Cohen 1960); 0 where one side never changes."""
    n = len(y)
    agreed = sum(a == b for a, b in zip(said, y, strict=True)) / n
    chance = sum(said.count(label) * y.count(label) for label in dict.fromkeys(y)) / n**2
    return (agreed - chance) / (1.0 - chance) if chance < 1.0 else 0.0


def recoveries(hits: np.ndarray, drifts: tuple[int, ...]) -> list[int | None]:
    """Events from each drift until accuracy over WINDOW events is back; None where it is not before the next drift.
    A window counts only when it lies beyond the drift as a whole."""
    found: list[int | None] = []
    sums = np.concatenate([[0], np.cumsum(hits)])
    for at, end in pairwise((*drifts, len(hits))):
        before = 100.0 * hits[max(at - 4 * WINDOW, 0) : at].mean()
        ends = np.arange(at + WINDOW, end + 1)
        accuracy = 100.0 * (sums[ends] - sums[ends - WINDOW]) / WINDOW
        back = np.flatnonzero(accuracy >= before - RECOVERED)
        found.append(int(ends[back[0]] - at) if len(back) else None)
    return found


def figures(found: dict[str, Answers], stream: Labelled) -> dict[str, Any]:
    """Of each model accuracy, kappa, kappa-temporal (against no-change at the same delay: Zliobaite et al. 2015),
    recovery and cost; of numbers the mean absolute error."""
    y, out = stream.y, {}
    if stream.task == "regression":
        return {
            name: {
                "mae": round(float(np.mean([abs(float(a) - float(b)) for a, b in zip(one.said, y, strict=True)])), 4),
                "cpu_s": round(one.cpu_s, 3),
            }
            for name, one in found.items()
        }
    hits = {name: np.array([a == b for a, b in zip(one.said, y, strict=True)]) for name, one in found.items()}
    plain = float(hits[NO_CHANGE].mean())
    for name, one in found.items():
        accuracy = float(hits[name].mean())
        out[name] = {
            "accuracy": round(100.0 * accuracy, 3),
            "kappa": round(kappa(one.said, y), 4),
            "kappa_temporal": round((accuracy - plain) / (1.0 - plain), 4) if plain < 1.0 else None,
            "recovery": recoveries(hits[name], stream.drifts),
            "cpu_s": round(one.cpu_s, 3),
        }
    return out


def one_stream(stream: Labelled, size: Size) -> dict[str, Any]:
    """Every model at every delay. The experts' accuracies in hindsight stand beside, and the best of them."""
    told: dict[str, Any] = {"rows": len(stream.x), "task": stream.task, "drifts": list(stream.drifts), "delays": {}}
    for delay in size.delays:
        specs = models(stream.task, size.without if delay in DEAR_DELAYS else size.without | DEAR)
        found = {
            name: follow(make(path, parameters, stream.task, 1), stream, delay)
            for name, (path, parameters) in specs.items()
        }
        row: dict[str, Any] = {"models": figures(found, stream)}
        if stream.task != "regression":
            experts = {name: round(100.0 * n / len(stream.y), 3) for name, n in found[OURS].experts.items()}
            row |= {"experts": experts, "best_expert": max(experts.values())}
        told["delays"][str(delay)] = row
        print(f"  {stream.name}, labels {delay} late", file=sys.stderr, flush=True)
    return told


def run(quick: bool, seed: int) -> Part:
    size = QUICK if quick else FULL
    told: dict[str, Any] = {}
    for name in size.names:
        try:
            told[name] = one_stream(streams.stream(name, size.rows, seed), size)
        except Missing as missing:
            told[name] = str(missing)
    found = cells(told)
    by_delay = {str(delay): means([cell for cell in found if cell[1] == str(delay)]) for delay in size.delays}
    shown = {"unit": "% of answers right", "streams": told, "means": means(found), "means_by_delay": by_delay}
    return Part(figures=shown, bars=bars(told))


Cell: TypeAlias = tuple[str, str, dict[str, Any]]


def cells(told: Mapping[str, Any]) -> list[Cell]:
    """Streams of classes at their delays."""
    return [
        (name, delay, row)
        for name, of in told.items()
        if isinstance(of, dict)
        for delay, row in of["delays"].items()
        if "best_expert" in row
    ]


def means(found: list[Cell]) -> dict[str, Any]:
    """Accuracy and CPU time of each model that was run in every cell, and the accuracy of the best expert."""
    rows = [row for _, _, row in found]
    every = dict.fromkeys(name for row in rows for name in row["models"])
    names = [name for name in every if all(name in row["models"] for row in rows)]
    out: dict[str, Any] = {
        name: {
            "accuracy": round(float(np.mean([row["models"][name]["accuracy"] for row in rows])), 3),
            "cpu_s": round(sum(row["models"][name]["cpu_s"] for row in rows), 2),
        }
        for name in names
    }
    if rows:
        out["best expert in hindsight"] = {"accuracy": round(float(np.mean([row["best_expert"] for row in rows])), 3)}
    return out


def bars(told: Mapping[str, Any]) -> list[Bar]:
    """On each stream and delay, and on average, against the best expert and against the forest where it was run.

    Labels that come as late as a concept lasts leave nothing to learn: every model is then worse than the majority, and
    the best expert in hindsight is the one that learned least. Those cells count, and are told apart.
    """
    found = cells(told)
    if not found:
        return []
    learnable = [cell for cell in found if cell[2]["best_expert"] > cell[2]["models"][MAJORITY]["accuracy"]]
    out = [_worst("every stream and delay", found)]
    if learnable:
        out.append(_worst("where the best expert beats the majority", learnable))
    behind = float(np.mean([_behind(row) for _, _, row in found]))
    out.append(at_most("behind the best expert in hindsight, on average", behind, 0.0, "points"))
    mean = means(found)
    if FOREST in mean:
        ahead = mean[OURS]["accuracy"] - mean[FOREST]["accuracy"]
        out.append(at_least("ahead of the forest of ten, on average", ahead, 0.0, "points"))
        share = mean[OURS]["cpu_s"] / mean[FOREST]["cpu_s"]
        out.append(at_most("CPU time, of the forest's", share, FOREST_SHARE_MAX, "parts"))
    return out


def _behind(row: Mapping[str, Any]) -> float:
    return float(row["best_expert"] - row["models"][OURS]["accuracy"])


def _worst(among: str, found: list[Cell]) -> Bar:
    name, delay, row = max(found, key=lambda cell: _behind(cell[2]))
    told = f"behind the best expert, worst of {len(found)} ({among}): {name}, labels {delay} late"
    return at_most(told, _behind(row), BELOW_BEST_MAX, "points")
