"""Answers and label sources for the tests of guards. Apart, so that a fresh process need not import what tests need."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from learners.contract import Label, Said
from learners.guard import Verdict
from learners.influence import SOURCES_MAX, Influence, InfluencePlan
from learners.plans import GuardPlan
from learners.probation import Watchman
from tests.conformance import Scenario


class Given(NamedTuple):
    """One label as it is weighed."""

    source: str
    y: Label
    said: Said


def said(p: float) -> Said:
    return Said(int(p >= 0.5), p)


def labels(n: int, seed: int, sources: int = 4, flip: float = 0.0, only: int | None = None) -> list[Given]:
    """Calibrated answers, most of them confident, and their labels; source 0 flips."""
    draw = np.random.default_rng([seed, 41])
    p = draw.beta(0.4, 0.4, n)
    y = (draw.random(n) < p).astype(int)
    whose = draw.integers(0, sources, n)
    flipped = (whose == 0) & (draw.random(n) < flip)
    if only is not None:
        flipped &= y == only
    rows = zip(whose.tolist(), np.where(flipped, 1 - y, y).tolist(), p.tolist(), strict=True)
    return [Given(f"s{k}", label, said(score)) for k, label, score in rows]


def feed_influence(part: Influence, item: Given) -> list[Any]:
    return [part.weigh(*item)]


def influence() -> Scenario:
    odd = [Given("s1", 1, Said(0, None)), Given("s2", 0, Said(0, float("nan")))]
    many = [Given(f"late {i}", i % 2, said(0.5)) for i in range(SOURCES_MAX + 3)]
    return Scenario(
        lambda: Influence("binary", InfluencePlan(memory=200)),
        feed_influence,
        [*labels(300, 5, flip=0.4), *odd, *many, *labels(50, 6, flip=0.4)],
        600 * (SOURCES_MAX + 1) + 500,
    )


def feed_watchman(part: Watchman, item: tuple[float, float]) -> list[Any]:
    if not part.is_open:
        part.judge(Verdict(()), part.figures()["published"] * 1e5)
    return [part.take(*item)]


def watchman() -> Scenario:
    draw = np.random.default_rng(43)
    good = draw.random(300)
    served = np.clip(good + np.where(np.arange(300) < 170, 0.0, 0.6), 0, 1)
    return Scenario(
        lambda: Watchman(GuardPlan(probation_labels=60)),
        feed_watchman,
        list(zip(served.tolist(), good.tolist(), strict=True)),
        400,
    )
