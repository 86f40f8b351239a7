"""What the conformance suite feeds to bandits and off-policy estimates. Apart, so that a fresh process loads little."""

from __future__ import annotations

from typing import Any

import numpy as np

from learners.bandits import BANDITS
from learners.off_policy import OffPolicy
from learners.plans import Settings
from tests.conformance import Scenario

ARMS = ("a", "b", "c")
SHARES = {"a": 0.7, "b": 0.2, "c": 0.1}


def feed_bandit(bandit: Any, item: tuple[str, float, float, int]) -> list[Any]:
    arm, value, propensity, pending = item
    bandit.reward(arm, value, propensity)
    return [bandit.shares({arm: pending})]


def of_bandit(name: str) -> Scenario:
    """Two hundred rewards with changing propensities, everything switched on."""
    draw = np.random.default_rng(5)
    items = [
        (ARMS[int(draw.integers(3))], float(draw.random() < 0.6), float(draw.uniform(0.05, 1.0)), int(draw.integers(9)))
        for _ in range(200)
    ]
    options = Settings(every=7, discount=0.99, balanced=True, commit_after=150)
    return Scenario(lambda: BANDITS[name](ARMS, options), feed_bandit, items, 600)


def thompson() -> Scenario:
    return of_bandit("thompson")


def ucb() -> Scenario:
    return of_bandit("ucb")


def epsilon_greedy() -> Scenario:
    return of_bandit("epsilon_greedy")


def fixed() -> Scenario:
    return of_bandit("fixed")


def feed_off_policy(estimates: OffPolicy, item: tuple[str, float, str, str]) -> list[Any]:
    arm, reward, cell, unit = item
    estimates.take(arm, SHARES[arm], reward, SHARES, cell=cell, unit=unit)
    return [estimates.values(), estimates.figures()]


def off_policy() -> Scenario:
    """Three hundred rewards with more cells than fit, and units."""
    draw = np.random.default_rng(2)
    items = [
        (ARMS[int(draw.integers(3))], float(draw.normal()), str(draw.integers(90)), f"u{draw.integers(40)}")
        for _ in range(300)
    ]
    return Scenario(lambda: OffPolicy(ARMS), feed_off_policy, items, 20_000)
