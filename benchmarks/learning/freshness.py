"""The freshness curve against a drift of known speed, and on a real stream (F37).

Known: the coefficients of a line are a random walk and River's linear regression learns them online. A copy of age a
loses speed * a more than the learner as it goes on, whatever that learner is worth (its steps are independent), so the
best interval between updates is the square root of 2 * cost / speed. Beside it what updating at a quarter to four times
that interval really cost on the same stream. Real: elec2 with a logistic regression, log loss, and the intervals at
several prices.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

from benchmarks.detection.bars import Bar, Part, at_least, at_most
from benchmarks.detection.datasets import Missing
from benchmarks.learning.streams import stream
from learners.contract import FeatureDict, Label, Learner, Said
from learners.freshness import Freshness, FreshnessPlan, Interval
from learners.metrics import Metrics, Task
from learners.registry import make

AGES: Final = tuple(16.0 * 2**i for i in range(6))
ELEC2_AGES: Final = tuple(48.0 * 2**i for i in range(6))
"""Half-hours: a day to a month."""

FEATURES: Final = 3
SPEEDS: Final = (0.0005, 0.002, 0.008)
"""Excess squared loss that a copy gains by each example of age; the noise of the labels has the variance 1."""

COST: Final = 10.0
"""Of an update, in units of loss summed over examples."""

FACTORS: Final = (0.25, 0.5, 1.0, 2.0, 4.0)
FOUND_WITHIN: Final = 2.0
COVERED: Final = 0.75
"""Of the 90 % intervals, whose number here is small."""

RELEARNED: Final = 5_000
"""Rows that one update of elec2's model is made of, whose CPU time is its cost."""

PRICES: Final = (1.0, 10.0, 100.0, 1_000.0)
"""Units of log loss that one CPU second is worth."""

Pair = tuple[dict[str, Any], Label]


class Maker(NamedTuple):
    """A learner by name, and fresh copies of it."""

    path: str
    task: Task

    def fresh(self) -> Learner:
        return make(self.path, {}, self.task, 1)

    def copy(self, learner: Learner) -> Learner:
        twin = self.fresh()
        twin.restore(learner.snapshot())
        return twin


def run(quick: bool, seed: int) -> Part:
    """Both halves. In the quick form one drift a speed, half as long."""
    rows, seeds = (8_000, 1) if quick else (20_000, 4)
    known = [_known(speed, rows, seed + i) for speed in SPEEDS for i in range(seeds)]
    figures = {"known": known, "elec2": _elec2(8_000 if quick else 40_000)}
    return Part(figures=figures, bars=_bars(known))


def _bars(known: list[dict[str, Any]]) -> list[Bar]:
    worst = max(run["off_by"] for run in known)
    covered = sum(run["covered"] for run in known) / len(known)
    dearest = max(run["cost_of_found"] / run["cost_least"] for run in known)
    return [
        at_most("interval off the best one, worst of all drifts", worst, FOUND_WITHIN, "times"),
        at_least("90 % intervals that hold the best one", covered, COVERED, "share"),
        at_most("cost at the interval found, over the least possible, worst", dearest, 1.25, "times"),
    ]


def _known(speed: float, rows: int, seed: int) -> dict[str, Any]:
    best = math.sqrt(2.0 * COST / speed)
    watch = Freshness(FreshnessPlan(ages=AGES, update_cost=COST), seed)
    maker = Maker("river.linear_model.LinearRegression", "regression")
    schedules = {factor: _Schedule(maker, round(factor * best)) for factor in FACTORS}
    _watch(watch, maker, _walk(speed, rows, seed), _squared, list(schedules.values()))
    found = watch.recommend()
    assert found is not None
    interval = math.inf if found.best is None else found.best
    return {
        "speed": speed,
        "seed": seed,
        "best": round(best, 1),
        "found": _rounded(found),
        "off_by": max(interval / best, best / interval),
        "covered": found.low is not None and found.low <= best and (found.high is None or best <= found.high),
        "cost_least": speed * best,
        "cost_of_found": speed * interval / 2.0 + COST / interval,
        "measured_cost": {f"{f:g} times": round(s.cost(), 4) for f, s in schedules.items()},
        "curve": [[round(p.age), round(p.mean, 4), round(p.fitted, 4), round(speed * p.age, 4)] for p in watch.curve()],
    }


def _walk(speed: float, rows: int, seed: int) -> list[Pair]:
    draw = np.random.default_rng([seed, 37])
    x = draw.normal(size=(rows, FEATURES))
    steps = draw.normal(size=(rows, FEATURES)) * math.sqrt(speed / FEATURES)
    y = (x * np.cumsum(steps, axis=0)).sum(axis=1) + draw.normal(size=rows)
    names = [f"x{j}" for j in range(FEATURES)]
    return [(dict(zip(names, row, strict=True)), label) for row, label in zip(x.tolist(), y.tolist(), strict=True)]


class _Schedule:
    """A model that is replaced by a copy of the learner every so many examples: what that costs an example."""

    def __init__(self, maker: Maker, every: int) -> None:
        self.maker = maker
        self.every = every
        self.copy = maker.fresh()
        self.excess = 0.0
        self.count = 0

    def show(self, learner: Learner, x: FeatureDict, y: Label, current: float) -> None:
        if self.count % self.every == 0:
            self.copy = self.maker.copy(learner)
        self.excess += _squared(self.copy.predict(x), y) - current
        self.count += 1

    def cost(self) -> float:
        return self.excess / self.count + COST / self.every


def _watch(
    watch: Freshness, maker: Maker, pairs: list[Pair], loss: Callable[[Said, Label], float], schedules: list[_Schedule]
) -> None:
    """The loop of an engine: copies are frozen and dropped as told, all answer, then the learner learns."""
    learner = maker.fresh()
    copies: dict[int, Learner] = {}
    for i, (x, y) in enumerate(pairs):
        at = float(i)
        turn = watch.turn(at)
        for name in turn.drop:
            del copies[name]
        if turn.freeze is not None:
            copies[turn.freeze] = maker.copy(learner)
        current = loss(learner.predict(x), y)
        if turn.score:
            watch.take(at, current, [(age, loss(copies[n].predict(x), y)) for n, age in watch.ages(at).items()])
        for schedule in schedules:
            schedule.show(learner, x, y, current)
        learner.learn(x, y)


def _squared(said: Said, y: Label) -> float:
    return (float(said.prediction) - float(y)) ** 2


def _log_loss(said: Said, y: Label) -> float:
    one = Metrics("binary")
    one.take(said, y)
    return one.log_loss


def _elec2(rows: int) -> dict[str, Any]:
    try:
        labelled = stream("elec2", rows, 1)
    except Missing as error:
        return {"missing": str(error)}
    pairs = list(zip(labelled.x, labelled.y, strict=True))
    maker = Maker("river.linear_model.LogisticRegression", "binary")
    start = time.process_time()
    learner = maker.fresh()
    for x, y in pairs[:RELEARNED]:
        learner.learn(x, y)
    cpu_s = time.process_time() - start
    watch = Freshness(FreshnessPlan(ages=ELEC2_AGES, update_cost=cpu_s, every=4), 1)
    _watch(watch, maker, pairs, _log_loss, [])
    prices = {f"{price:g}": watch.recommend(price=price) for price in PRICES}
    return {
        "rows": len(pairs),
        "update_cpu_s": round(cpu_s, 4),
        "curve": [[round(p.age), p.pairs, *_told(p.mean, p.low, p.high, p.fitted)] for p in watch.curve()],
        "interval_by_price": {price: None if found is None else _rounded(found) for price, found in prices.items()},
    }


def _rounded(found: Interval) -> list[float | None]:
    """Best, low, high; None is beyond the oldest age."""
    return [None if value is None else round(value, 1) for value in found[:3]]


def _told(*values: float | None) -> list[float | None]:
    return [None if value is None else round(value, 4) for value in values]
