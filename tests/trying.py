"""What the conformance suite feeds to sequential tests and trials, and paired losses to try them on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from learners.ratio import SampleRatio
from learners.sequential import Differences
from learners.trials import Metric, Trial, TrialPlan
from learners.values import ValueDifference
from tests.conformance import Scenario

Floats = NDArray[np.float64]


def paired(seed: int, n: int, effect: float, disagreement: float) -> tuple[Floats, Floats]:
    """(n, 1) 0/1 losses of champion and challenger, which both err on 30 % of the examples or so, together mostly: only
    one of them is right on a share `disagreement`, the challenger by `effect` more often."""
    chance = np.random.default_rng([seed, n]).random(n)
    only_challenger = chance < (disagreement + effect) / 2
    only_champion = (chance >= (disagreement + effect) / 2) & (chance < disagreement)
    both_wrong = chance > 0.8
    return ((only_challenger | both_wrong)[:, None].astype(float), (only_champion | both_wrong)[:, None].astype(float))


def feed_differences(test: Differences, item: list[float]) -> list[Any]:
    test.take(item)
    return [test.above(), test.below(0.01), test.interval(0.05)]


def differences() -> Scenario:
    items = np.random.default_rng(1).uniform(-1, 1, (60, 3)).tolist()
    return Scenario(lambda: Differences(3), feed_differences, items, 200)


def feed_ratio(test: SampleRatio, item: tuple[int, list[float]]) -> list[Any]:
    test.take(*item)
    return [test.log_e(), test.excess()]


def ratio() -> Scenario:
    draw = np.random.default_rng(2)
    items = [(int(draw.integers(3)), [0.5, 0.25, 0.25] if i % 2 else [0.4, 0.4, 0.2]) for i in range(60)]
    return Scenario(lambda: SampleRatio(3), feed_ratio, items, 200)


def feed_values(test: ValueDifference, item: tuple[int, float, float]) -> list[Any]:
    test.take(*item)
    return [test.mean, test.above(), test.below(1.0), test.interval(0.1)]


def values() -> Scenario:
    draw = np.random.default_rng(3)
    items = [(int(draw.integers(-1, 2)), float(draw.normal(5, 4)), float(draw.uniform(0.2, 0.8))) for _ in range(60)]
    return Scenario(lambda: ValueDifference(0.0, 10.0, 0.2), feed_values, items, 200)


PLAN = TrialPlan(
    metrics=(Metric(), Metric("cost", 5.0)),
    ramp=(0.1, 0.5),
    labels_min=100,
    probation_labels=300,
    approve=("promoted",),
    outcome=(0.0, 1.0),
)


def feed_trial(trial: Trial, item: dict[str, Any]) -> list[Any]:
    trial.take(item["champion"], item["challenger"], item["at"], item["served"], item["share"], item["outcome"])
    step = trial.check(item["at"])
    if trial.state == "awaiting" and item["at"] % 7 == 0:
        return [step, trial.order("approve", item["at"])]
    return [step]


def trial() -> Scenario:
    """From shadow through every state to the end of the probation."""
    champion, challenger = paired(4, 1_500, 0.08, 0.12)
    draw = np.random.default_rng(5)
    items = [
        {
            "champion": [*a, 3.0 * b[0]],
            "challenger": [*b, 3.0 * b[0]],
            "at": i,
            "served": bool(draw.random() < 0.3),
            "share": 0.3,
            "outcome": float(draw.random()),
        }
        for i, (a, b) in enumerate(zip(champion.tolist(), challenger.tolist(), strict=True))
    ]
    return Scenario(lambda: Trial(PLAN), feed_trial, items, 1_000)
