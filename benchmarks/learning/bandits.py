"""Bandits whose rewards come late, and what their logs tell about the arms that they did not choose (F33, F38).

Regret: Bernoulli arms (versions that are right so often), each reward 100 to 900 events after its answer, the same luck
for every bandit of a seed. Thompson sampling against epsilon-greedy and against an equal split that commits, paired by
seed; UCB and an oracle that knows the best arm, and keeps the same floors, beside. `swap`: the best and the worst arm
change places half-way; there forgetting is what counts, and epsilon-greedy with the same discount is as good (figures,
no bar). `slow`: the best arm's rewards take 2,000 to 4,000 events.

Coverage: how often 95 % intervals for "always this arm" hold the truth, from a log of steady shares and from one that
Thompson sampling wrote, whose propensities follow the rewards; also where all rewards sink meanwhile, which only the
estimates hold out that give every time its own weight (`ips`, `snips`, `dr`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.detection.bars import Bar, Part, at_least, at_most
from learners.bandits import BANDITS, Bandit
from learners.off_policy import ESTIMATORS, NORMAL_95, Interval, OffPolicy
from learners.plans import Settings

Floats = NDArray[np.float64]

DELAY = (100, 900)
SLOW_DELAY = (2_000, 4_000)
EVERY = 100
FLOOR = 0.01
COMMIT_SHARE = 4
"""An equal split commits after a quarter of the events at the latest, earlier where its test decides."""

DISCOUNT = 0.9995


class Case(NamedTuple):
    """Arms by how often they are right; the best one is the first, and stands at another place in each run."""

    means: tuple[float, ...]
    swap: bool = False
    slow: bool = False


CASES: Final[Mapping[str, Case]] = {
    "3 arms, gaps 0.05 and 0.10": Case((0.80, 0.75, 0.70)),
    "4 arms, gaps 0.05 to 0.10": Case((0.60, 0.55, 0.52, 0.50)),
    "5 arms, gaps 0.02 to 0.10": Case((0.80, 0.78, 0.76, 0.73, 0.70)),
    "slow": Case((0.80, 0.75, 0.70), slow=True),
    "swap": Case((0.80, 0.75, 0.70), swap=True),
}

RIVALS = ("epsilon_greedy", "fixed")


class Size(NamedTuple):
    """Seeds and events of the regrets; runs and events of the coverage; whether bars are asked of every case."""

    seeds: int
    events: int
    runs: int
    log_events: int


FULL = Size(200, 20_000, 600, 5_000)
"""Where arms are .02 apart, regrets of one seed differ by 90 either way: over 50 seeds the interval of their mean is 25
wide on each side, which is what there is to be shown."""

QUICK = Size(8, 5_000, 30, 1_500)


def run(quick: bool, seed: int) -> Part:
    size = QUICK if quick else FULL
    regrets = {name: regret_of(case, size, seed, i) for i, (name, case) in enumerate(CASES.items())}
    covered = {name: coverage(kind, size, seed) for name, kind in LOGS.items()}
    minus = {
        name: {rival: paired(found[_form("thompson", name)], found[_form(rival, name)]) for rival in RIVALS}
        for name, found in regrets.items()
    }
    for name, found in regrets.items():
        if CASES[name].swap:
            minus[name]["thompson"] = paired(found[_form("thompson", name)], found["thompson"])
    figures = {
        "events": size.events,
        "seeds": size.seeds,
        "regret": {name: {who: _mean(x) for who, x in found.items()} for name, found in regrets.items()},
        "thompson_minus": minus,
        "coverage": covered,
    }
    return Part(figures=figures, bars=_regret_bars(minus, quick) + _coverage_bars(covered, quick))


def _form(who: str, case: str) -> str:
    """Where arms change, all that can forget do."""
    return f"{who}, discounted" if CASES[case].swap and who != "fixed" else who


def contenders(events: int) -> dict[str, tuple[str, Settings]]:
    plain = Settings(floor=FLOOR, every=EVERY)
    forgets = Settings(floor=FLOOR, every=EVERY, discount=DISCOUNT)
    commits = Settings(floor=0.0, every=EVERY, commit_after=events // COMMIT_SHARE)
    return {
        "thompson": ("thompson", plain),
        "thompson, discounted": ("thompson", forgets),
        "ucb": ("ucb", plain),
        "ucb, discounted": ("ucb", forgets),
        "epsilon_greedy": ("epsilon_greedy", Settings(floor=0.0, every=EVERY, epsilon=0.1)),
        "epsilon_greedy, discounted": ("epsilon_greedy", Settings(floor=0.0, every=EVERY, discount=DISCOUNT)),
        "fixed": ("fixed", commits),
    }


def regret_of(case: Case, size: Size, seed: int, number: int) -> dict[str, Floats]:
    """(seeds,) regrets of each contender and of the oracle: right answers missed, in expectation."""
    found: dict[str, list[float]] = {name: [] for name in (*contenders(size.events), "oracle with floors")}
    for i in range(size.seeds):
        world = World(case, size.events, np.random.default_rng([seed, 501, number, i]))
        for name, (kind, settings) in contenders(size.events).items():
            found[name].append(play(BANDITS[kind](world.names, settings), world))
        found["oracle with floors"].append(world.floors())
    return {name: np.array(x) for name, x in found.items()}


class World:
    """One run's luck, drawn before anybody plays."""

    def __init__(self, case: Case, events: int, draw: np.random.Generator) -> None:
        k = len(case.means)
        order = draw.permutation(k)
        first = np.array(case.means)[order]
        second = first.copy()
        if case.swap:
            best, worst = first.argmax(), first.argmin()
            second[[best, worst]] = second[[worst, best]]
        self.names = tuple(f"version {i}" for i in range(k))
        self.means = np.where(np.arange(events)[:, None] < events // 2, first, second)
        self.choice = draw.random(events)
        self.right = draw.random(events)[:, None] < self.means
        self.delay = np.repeat(draw.integers(*DELAY, events)[:, None], k, axis=1)
        if case.slow:
            self.delay[:, first.argmax()] = draw.integers(*SLOW_DELAY, events)

    def floors(self) -> float:
        """What the floors alone cost."""
        return float(FLOOR * (self.means.max(axis=1, keepdims=True) - self.means).sum())


def play(bandit: Bandit, world: World) -> float:
    """The regret of one run; rewards come when their delay is over, and those after the end never."""
    events, k = world.means.shape
    due: dict[int, list[tuple[int, float, float]]] = {}
    pending = dict.fromkeys(world.names, 0)
    served = np.zeros(events, np.int64)
    edges, shares = np.zeros(k), [1.0 / k] * k
    for t in range(events):
        for i, value, propensity in due.pop(t, ()):
            pending[world.names[i]] -= 1
            bandit.reward(world.names[i], value, propensity)
        if t % 10 == 0:
            shares = list(bandit.shares(pending).values())
            edges = np.cumsum(shares)
        i = min(int(edges.searchsorted(world.choice[t], side="right")), k - 1)
        served[t] = i
        pending[world.names[i]] += 1
        due.setdefault(t + int(world.delay[t, i]), []).append((i, float(world.right[t, i]), shares[i]))
    best = world.means.max(axis=1)
    return float((best - world.means[np.arange(events), served]).sum())


def _mean(x: Floats) -> dict[str, float]:
    half = float(stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)))
    return {
        "mean": round(float(x.mean()), 1),
        "low": round(float(x.mean()) - half, 1),
        "high": round(float(x.mean()) + half, 1),
        "worst": round(float(x.max()), 1),
    }


def paired(ours: Floats, theirs: Floats) -> dict[str, float]:
    """The mean difference with its 95 % interval, and the p-value of Wilcoxon's signed ranks that ours is not less."""
    test = stats.wilcoxon(ours, theirs, alternative="less")
    return {**_mean(ours - theirs), "p": float(test.pvalue)}


TRUTH = (0.80, 0.75, 0.70)
CONTEXT = 0.08
"""Half the events are easier by so much, half harder, for every arm: what an outcome model can know."""

NAIVE = "plain mean"
"""Of the arm's own rewards, with the interval of independent ones: right only where shares are steady."""

STEADY = (0.8, 0.1, 0.1)
LOG_FLOOR = 0.02
SINKS = 0.1
"""A level that moves from so much above to so much below, for every arm alike: then it matters when an arm was met."""


class Log(NamedTuple):
    """Who shares out the traffic, and whether the level sinks meanwhile."""

    adaptive: bool
    sinks: bool = False


LOGS: Final[Mapping[str, Log]] = {
    "steady shares": Log(False),
    "Thompson sampling": Log(True),
    "Thompson sampling, rewards sink": Log(True, sinks=True),
}


def coverage(kept: Log, size: Size, seed: int) -> dict[str, Any]:
    """Of each estimator: the share of runs whose interval holds the truth, by arm and together, width, error."""
    k = len(TRUTH)
    found = np.array([log(kept, size.log_events, seed, i) for i in range(size.runs)])
    out: dict[str, Any] = {}
    for j, kind in enumerate((*ESTIMATORS, NAIVE)):
        value, low, high = (found[:, :, j, part] for part in range(3))
        holds = (low <= np.array(TRUTH)) & (np.array(TRUTH) <= high)
        out[kind] = {
            "covers": round(float(holds.mean()), 4),
            "by_arm": [round(float(x), 4) for x in holds.mean(axis=0)],
            "width": [round(float(x), 4) for x in (high - low).mean(axis=0)],
            "bias": [round(float(x), 4) for x in (value - np.array(TRUTH)).mean(axis=0)],
            "rmse": [round(float(x), 4) for x in np.sqrt(((value - np.array(TRUTH)) ** 2).mean(axis=0))],
            "intervals": len(found) * k,
        }
    return out


def log(kept: Log, events: int, seed: int, number: int) -> list[list[Interval]]:
    """The intervals of one run, (arms, estimators and the plain mean)."""
    draw = np.random.default_rng([seed, 502, kept.adaptive, number])
    names = tuple(f"version {i}" for i in range(len(TRUTH)))
    bandit = BANDITS["thompson"](names, Settings(floor=LOG_FLOOR, every=EVERY))
    estimates = OffPolicy(names)
    choice, luck, hard = draw.random(events), draw.random(events), draw.integers(0, 2, events)
    delay = draw.integers(*DELAY, events)
    own: dict[str, list[float]] = {name: [] for name in names}
    shares = dict(zip(names, STEADY, strict=True))
    due: dict[int, list[tuple[str, float, dict[str, float], str]]] = {}
    for t in range(events + DELAY[1]):  # the last rewards are waited for
        for arm, value, chances, cell in due.pop(t, ()):
            bandit.reward(arm, value, chances[arm])
            own[arm].append(value)
            estimates.take(arm, chances[arm], value, chances, cell)
        if t >= events:
            continue
        if kept.adaptive and t % 10 == 0:
            shares = bandit.shares()
        i = min(int(np.cumsum(list(shares.values())).searchsorted(choice[t], side="right")), len(names) - 1)
        level = SINKS * (1.0 - 2.0 * t / events) if kept.sinks else 0.0
        value = float(luck[t] < TRUTH[i] + level + (CONTEXT if hard[t] else -CONTEXT))
        due.setdefault(t + int(delay[t]), []).append((names[i], value, shares, str(hard[t])))
    return [[*found.values(), _naive(own[arm])] for arm, found in estimates.values().items()]


def _naive(rewards: list[float]) -> Interval:
    mean = float(np.mean(rewards))
    half = NORMAL_95 * math.sqrt(mean * (1.0 - mean) / len(rewards))
    return Interval(mean, mean - half, mean + half)


def _regret_bars(found: dict[str, dict[str, dict[str, float]]], quick: bool) -> list[Bar]:
    """Few seeds of few events prove no difference: then only the mean is asked for, over all cases."""
    if quick:
        means = [row[rival]["mean"] for row in found.values() for rival in RIVALS]
        return [at_most("Thompson's regret minus its rivals', mean of all cases", float(np.mean(means)), 0.0, "regret")]
    return [
        at_most(f"Thompson's regret minus that of {rival}, upper end, {name}", row[rival]["high"], 0.0, "regret")
        for name, row in found.items()
        for rival in row
        if not (CASES[name].swap and rival == "epsilon_greedy")
    ]


def _coverage_bars(found: dict[str, dict[str, Any]], quick: bool) -> list[Bar]:
    least = 0.85 if quick else 0.93  # 90 intervals are 5 points of luck and more
    demands = [*((name, "dr") for name in found), ("Thompson sampling", "dr_stable")]
    return [
        at_least(f"95 % intervals of {kind} that cover, log of {name}", found[name][kind]["covers"], least, "share")
        for name, kind in demands
    ]
