"""Bandits over arms with late rewards: what share of the traffic each arm gets from now on.

Own the evidence for each arm and the allocation. Refuse to know models, events, and who serves (`learners.assignment`).
No chance at serving: an allocation is a function of the rewards so far. It is computed anew when enough rewards have
come; between two times it stands, so that propensities are known. Every arm keeps a floor, so that they are bounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import special

from learners.assignment import ARMS_MAX
from learners.contract import SnapshotError
from learners.packing import unpacked
from learners.plans import Settings

Floats = NDArray[np.float64]

WEIGHT_MAX: Final = 100.0
"""No reward counts for more than this many, however small its propensity was."""

GRID: Final = np.linspace(-8.0, 8.0, 241)
"""Where the posterior of an arm is looked at, in its standard deviations: shares are right to about 1e-4."""

HALVINGS: Final = 40
"""Of the search for an upper confidence bound: the interval [mean, 1] shrinks to 1e-12."""

TEST_REWARDS_MIN: Final = 100
"""The sequential test is asymptotic: it says nothing before each arm has so many rewards."""

EFFECT: Final = 0.1
"""The difference, in standard deviations of a reward, that the sequential test is made to find quickest."""

FORGOTTEN: Final = 1e-9
"""An arm whose rewards are discounted to less than this has none: quotients of smaller numbers mean nothing."""

PRIOR: Final = 1.0
"""Rewards that the prior counts for: a uniform one where they lie in [0, 1], else one at the mean of all arms."""


class Bandit(Protocol):
    """Learns from rewards whenever they come, and says how the traffic is to be shared."""

    arms: tuple[str, ...]

    def reward(self, arm: str, value: float, propensity: float = 1.0) -> None:
        """The reward of one answer of this arm, which had been chosen with this propensity. Raises ValueError.

        How long a reward takes must not depend on its value: where a success is known at once and a failure at a
        deadline, hand both in at the deadline, or the arm with the youngest traffic looks best.
        """

    def shares(self, pending: Mapping[str, int] | None = None) -> dict[str, float]:
        """The allocation from now on; sums to 1. `pending`: answers by arm whose rewards have not come yet."""

    def figures(self) -> dict[str, Any]: ...

    def snapshot(self) -> bytes: ...

    def restore(self, state: bytes) -> None:
        """Raises SnapshotError."""


class Evidence(NamedTuple):
    """What an allocation is made of, (k,) each: rewards that count (discounted, weighted), their mean and variance (of
    all arms' where an arm has none), and answers that wait for their reward."""

    counted: Floats
    mean: Floats
    variance: Floats
    pending: Floats
    settings: Settings
    rewards: int

    @property
    def arms(self) -> int:
        return len(self.counted)


class _State(msgspec.Struct, array_like=True):
    arms: list[str]
    rewards: list[int]
    """Rewards by arm, each counted once."""
    weight: list[float]
    """Sums of weights, of weighted rewards and their squares, and of squared weights, all discounted alike."""
    total: list[float]
    squares: list[float]
    weight_squares: list[float]
    since: int = 0
    shares: list[float] = []
    committed: int = -1


class Allocator:
    """A bandit of any rule: keeps the evidence, the floors and the rhythm; the rule shares out what is left.

    A rule is `rule(evidence) -> (k,) weights that sum to 1`. `commits`: once it gives one arm everything, that stays.
    """

    def __init__(
        self, arms: Sequence[str], rule: Callable[[Evidence], Floats], settings: Settings, commits: bool = False
    ) -> None:
        if not 1 <= len(arms) <= ARMS_MAX or len(set(arms)) < len(arms) or not all(arms):
            raise ValueError(f"bandit: arms {list(arms)}; give 1 to {ARMS_MAX} names, each its own")
        if len(arms) * settings.floor > 1.0:
            raise ValueError(f"bandit: {len(arms)} floors of {settings.floor} are more than the traffic; lower floor")
        self.arms = tuple(arms)
        self.settings = settings
        self._rule = rule
        self._commits = commits
        self._place = {arm: i for i, arm in enumerate(arms)}
        k = len(arms)
        self._state = _State(list(arms), [0] * k, [0.0] * k, [0.0] * k, [0.0] * k, [0.0] * k)

    def reward(self, arm: str, value: float, propensity: float = 1.0) -> None:
        i, settings, s = self._checked(arm, value, propensity), self.settings, self._state
        if settings.discount < 1.0:
            for sums in (s.weight, s.total, s.squares, s.weight_squares):
                sums[:] = [settings.discount * each for each in sums]
        weight = min(1.0 / propensity, WEIGHT_MAX) if settings.balanced else 1.0
        s.rewards[i] += 1
        s.weight[i] += weight
        s.total[i] += weight * value
        s.squares[i] += weight * value * value
        s.weight_squares[i] += weight * weight
        s.since += 1

    def _checked(self, arm: str, value: float, propensity: float) -> int:
        if arm not in self._place:
            raise ValueError(f"reward for unknown arm {arm!r}; the arms are {list(self.arms)}")
        if not math.isfinite(value) or (self.settings.rewards == "unit" and not 0.0 <= value <= 1.0):
            raise ValueError(f"reward {value} of {arm!r}: give a number in [0, 1], or any finite one with rewards=real")
        if not 0.0 < propensity <= 1.0:
            raise ValueError(f"propensity {propensity} of {arm!r}: it was chosen, so give its probability, in (0, 1]")
        return self._place[arm]

    def shares(self, pending: Mapping[str, int] | None = None) -> dict[str, float]:
        s = self._state
        if not s.shares or s.since >= self.settings.every:
            s.since = 0
            s.shares = self._allocate(pending or {})
        return dict(zip(self.arms, s.shares, strict=True))

    def _allocate(self, pending: Mapping[str, int]) -> list[float]:
        s, k = self._state, len(self.arms)
        if not any(s.rewards):
            return [1.0 / k] * k
        chosen = np.zeros(k)
        if s.committed >= 0:
            chosen[s.committed] = 1.0
        else:
            chosen = self._rule(self.evidence(pending))
            if self._commits and chosen.max() == 1.0:
                s.committed = int(chosen.argmax())
        floor = self.settings.floor
        found: list[float] = (floor + (1.0 - k * floor) * chosen / chosen.sum()).tolist()
        return found

    def evidence(self, pending: Mapping[str, int] | None = None) -> Evidence:
        """What the next allocation would be made of."""
        s = self._state
        weight, total, squares = np.array(s.weight), np.array(s.total), np.array(s.squares)
        known = weight > FORGOTTEN
        safe = np.where(known, weight, 1.0)
        everything = weight.sum() if known.any() else 1.0
        overall = total.sum() / everything
        mean = np.where(known, total / safe, overall)
        count = np.where(known, weight * weight / np.where(known, s.weight_squares, 1.0), 0.0)
        within = np.maximum(squares - weight * mean * mean, 0.0)
        pooled = within.sum() / everything
        # One reward at the pooled variance keeps an arm whose few rewards were equal from seeming certain.
        variance = (np.where(known, within / safe, pooled) * count + pooled) / (count + 1.0)
        waits = np.array([float((pending or {}).get(arm, 0)) for arm in self.arms])
        return Evidence(count, mean, variance, waits, self.settings, sum(s.rewards))

    def figures(self) -> dict[str, Any]:
        found, s = self.evidence(), self._state
        arms = {
            arm: {"rewards": s.rewards[i], "mean": float(found.mean[i]), "share": s.shares[i] if s.shares else None}
            for i, arm in enumerate(self.arms)
        }
        return {"arms": arms, "committed": self.arms[s.committed] if s.committed >= 0 else None}

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self._state)

    def restore(self, state: bytes) -> None:
        """Raises SnapshotError, also where the state is of other arms."""
        read: _State = unpacked(state, _State, "a bandit")
        if tuple(read.arms) != self.arms:
            raise SnapshotError(f"the state is of the arms {read.arms}, this bandit has {list(self.arms)}")
        self._state = read


def thompson(evidence: Evidence) -> Floats:
    """The probability that each arm is the best (Thompson 1933), instead of a draw from it: the same traffic on
    average, and known propensities.

    Answers that wait are left out, and rightly: what their rewards will do to the probability is nothing, on average
    (a posterior is a martingale), so an arm whose rewards are slow is neither starved nor fed (Chapelle and Li 2011).
    """
    count, mean = evidence.counted, evidence.mean
    if evidence.settings.rewards == "unit":
        return best_of_betas(PRIOR + count * mean, PRIOR + count * (1.0 - mean))
    overall = float((count * mean).sum() / count.sum())
    centre = (count * mean + PRIOR * overall) / (count + PRIOR)
    return best_of_normals(centre, np.sqrt(evidence.variance / (count + PRIOR)))


def best_of_betas(a: Floats, b: Floats) -> Floats:
    """(k,) probability that each of independent Beta(a, b) is the largest, by integration.

    >>> best_of_betas(np.array([1.0, 2.0]), np.array([1.0, 1.0])).round(3).tolist()
    [0.333, 0.667]
    """
    centre = a / (a + b)
    spread = np.sqrt(centre * (1.0 - centre) / (a + b + 1.0))
    points = np.clip(_points(centre, spread), 0.0, 1.0)
    return _best(special.betainc(a[:, None], b[:, None], points))


def best_of_normals(mean: Floats, spread: Floats) -> Floats:
    """(k,) probability that each of independent normal variables is the largest; equal shares where none varies."""
    if not (spread > 0.0).all():
        best = (mean == mean.max()).astype(np.float64)
        return best / best.sum()
    return _best(special.ndtr((_points(mean, spread) - mean[:, None]) / spread[:, None]))


def _points(centre: Floats, spread: Floats) -> Floats:
    return np.sort((centre[:, None] + spread[:, None] * GRID).ravel())


def _best(below: Floats) -> Floats:
    """From (k, m) distribution functions at the same rising points: trapezia under the product of the others."""
    others = np.stack([np.delete(below, i, axis=0).prod(axis=0) for i in range(len(below))])
    found = (np.diff(below) * (others[:, 1:] + others[:, :-1]) / 2.0).sum(axis=1)
    return np.asarray(found / found.sum())


def ucb(evidence: Evidence) -> Floats:
    """Everything to the arm with the highest upper confidence bound: KL-UCB (Garivier and Cappé 2011) for rewards in
    [0, 1], UCB1 with the variance of the rewards (after Auer, Cesa-Bianchi and Fischer 2002) for others.

    Answers that wait narrow the bound as if they had come at the mean (Desautels, Krause and Burdick 2014), or the arm
    in front would get all traffic until its rewards come. An arm without rewards is judged by the mean of all.
    """
    pulls = evidence.counted + evidence.pending
    level = math.log(max(pulls.sum(), 2.0))
    safe = np.maximum(pulls, 1e-9)
    if evidence.settings.rewards == "unit":
        bound = _kl_bounds(np.clip(evidence.mean, 0.0, 1.0), level / safe)
    else:
        bound = evidence.mean + np.sqrt(2.0 * evidence.variance * level / safe)
    bound = np.where(pulls > 0.0, bound, np.inf)
    first = np.lexsort((pulls, -bound))[0]
    return np.asarray(np.arange(evidence.arms) == first, dtype=np.float64)


def _kl_bounds(mean: Floats, allowed: Floats) -> Floats:
    """The largest q with kl(mean, q) <= allowed, by halving; (k,) each."""
    low, high = mean.copy(), np.ones_like(mean)
    for _ in range(HALVINGS):
        middle = (low + high) / 2.0
        inside = special.rel_entr(mean, middle) + special.rel_entr(1.0 - mean, 1.0 - middle) <= allowed
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return low


def epsilon_greedy(evidence: Evidence) -> Floats:
    """`epsilon` spread evenly, the rest to the arm with the best mean; arms without rewards wait for their part."""
    mean = np.where(evidence.counted > 0.0, evidence.mean, -np.inf)
    epsilon = evidence.settings.epsilon
    greedy = np.arange(evidence.arms) == mean.argmax()
    return np.asarray(epsilon / evidence.arms + (1.0 - epsilon) * greedy)


def fixed(evidence: Evidence) -> Floats:
    """Equal shares until a sequential test finds one arm better than each other, or `commit_after` rewards have come.

    The test may be looked at any time: a normal mixture over the difference of two means (Robbins 1970; with estimated
    variances, asymptotically: Waudby-Smith et al. 2024). To commit to a worse arm it must err about the best one, so
    `significance` is divided by the number of the others.
    """
    k, settings = evidence.arms, evidence.settings
    leader = int(np.where(evidence.counted > 0.0, evidence.mean, -np.inf).argmax())
    if settings.commit_after is not None and evidence.rewards >= settings.commit_after:
        return np.asarray(np.arange(k) == leader, dtype=np.float64)
    if k > 1 and (evidence.counted < TEST_REWARDS_MIN).any():
        return np.full(k, 1.0 / k)
    others = np.arange(k) != leader
    of_mean = evidence.variance / evidence.counted
    noise = np.maximum(of_mean[leader] + of_mean[others], np.finfo(float).tiny)
    gain = (evidence.mean[leader] - evidence.mean[others]) / noise
    prior = 1.0 / max(EFFECT**2 * float(evidence.variance.mean()), np.finfo(float).tiny)
    each = settings.significance / max(k - 1, 1)
    bound = (1.0 / noise + prior) * (np.log((1.0 / noise + prior) / prior) - 2.0 * math.log(each))
    decided = (gain * gain > bound).all()
    return np.asarray(np.arange(k) == leader, dtype=np.float64) if decided else np.full(k, 1.0 / k)


BANDITS: Final[Mapping[str, Callable[[Sequence[str], Settings], Bandit]]] = {
    "thompson": lambda arms, settings: Allocator(arms, thompson, settings),
    "ucb": lambda arms, settings: Allocator(arms, ucb, settings),
    "epsilon_greedy": lambda arms, settings: Allocator(arms, epsilon_greedy, settings),
    "fixed": lambda arms, settings: Allocator(arms, fixed, settings, commits=True),
}
"""Bandit by name: (names of the arms, settings). Raise ValueError where they do not fit."""
