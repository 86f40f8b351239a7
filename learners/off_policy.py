"""What another policy would have earned, from the log of the one that served.

Own the estimates, their intervals and what is wrong with the weights. Refuse to know models, events and who served.
Sums only, so the state does not grow. All estimates are quotients of two sums, and one delta method serves them all.

Rewards of answers that were shown only: an accuracy is known for every shadow too, and needs none of this.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgspec
import xxhash

from learners.assignment import ARMS_MAX, TOLERANCE
from learners.contract import SnapshotError
from learners.packing import unpacked

Estimator: TypeAlias = Literal["ips", "snips", "dr", "dr_stable"]

ESTIMATORS: Final[tuple[Estimator, ...]] = ("ips", "snips", "dr", "dr_stable")

WEIGHT_MAX: Final = 100.0
"""A weight is clipped here: no reward speaks for more than a hundred. No floor of 0.01 or more ever meets it."""

NORMAL_95: Final = 1.959963984540054
"""Standard deviations on each side of a 95 % interval."""

CELLS_MAX: Final = 64
"""Contexts with means of their own; an event of any further one is counted, and expected at the means of all."""

CELL_PRIOR: Final = 10.0
"""Rewards that the arm's overall mean counts for in a cell: a handful of rewards must not make an outcome model."""

GROUPS: Final = 256
"""Units are hashed into so many groups, whose sums are independent although the events of one unit are not."""

POLICIES_MAX: Final = 32
"""Target policies; each costs a few hundred bytes, or some 16 kB with units."""


class Interval(NamedTuple):
    """An estimate with its 95 % interval; not a number before the first reward."""

    value: float
    low: float
    high: float


class _Quotient(msgspec.Struct, array_like=True):
    """Sums of (y, z) by event or, where they are given, by group: their quotient and its variance."""

    y: float = 0.0
    z: float = 0.0
    yy: float = 0.0
    yz: float = 0.0
    zz: float = 0.0
    groups: dict[int, tuple[float, float]] = {}

    def take(self, y: float, z: float, group: int | None) -> None:
        """The squares are of what a group has summed up to: they grow by what this event changes."""
        old_y, old_z = (0.0, 0.0) if group is None else self.groups.get(group, (0.0, 0.0))
        if group is not None:
            self.groups[group] = (old_y + y, old_z + z)
        self.y += y
        self.z += z
        self.yy += y * (y + 2.0 * old_y)
        self.yz += y * z + old_y * z + old_z * y
        self.zz += z * (z + 2.0 * old_z)

    def interval(self) -> Interval:
        """Delta method: the variance of y - value z, over z squared."""
        if self.z <= 0.0:
            return Interval(math.nan, math.nan, math.nan)
        value = self.y / self.z
        variance = max(self.yy - 2.0 * value * self.yz + value * value * self.zz, 0.0)
        n = len(self.groups)
        half = NORMAL_95 * math.sqrt(variance * (n / (n - 1.0) if n > 1 else 1.0)) / self.z
        return Interval(value, value - half, value + half)


class _Policy(msgspec.Struct, array_like=True):
    events: int = 0
    clipped: int = 0
    unsupported: int = 0
    weights: float = 0.0
    weight_squares: float = 0.0
    quotients: list[_Quotient] = []


class _Means(msgspec.Struct, array_like=True):
    """The outcome model: rewards and their sum, by arm."""

    n: list[int]
    total: list[float]


class _State(msgspec.Struct, array_like=True):
    policies: list[tuple[str, list[float]]]
    arms: list[str]
    sums: list[_Policy]
    overall: _Means
    cells: dict[str, _Means] = {}
    beyond: int = 0


class OffPolicy:
    """Values of target policies, one "always this arm" each where none are given, from rewards and propensities.

    `ips`: inverse propensities (Horvitz and Thompson 1952). `snips`: the same, divided by the sum of its weights
    (Hájek 1971; Swaminathan and Joachims 2015). `dr`: doubly robust (Robins, Rotnitzky and Zhao 1994; Dudík, Langford
    and Li 2011) with an outcome model that has not seen the reward it is corrected by. `dr_stable`: the same terms,
    each weighed by the root of its propensity, so that all vary alike: what an adaptive log needs for its intervals to
    be normal (Luedtke and van der Laan 2016; Hadad et al. 2021); with steady propensities it equals `dr`.

    Show `dr`. Measured (benchmarks/learning/bandits.py): its intervals hold the truth 94 to 95 times of 100, on logs of
    steady shares, of Thompson sampling, and of that while all rewards sink; `dr_stable` is up to a quarter narrower on
    the second and holds 92 of 100 on the third: it weighs the times by their propensities, the others alike.

    Not for policies that choose what the log never did, nor for rewards of which some never come and the arm decides
    which.

    `policies`: probabilities of the arms by name of the policy. Raises ValueError.
    """

    def __init__(
        self,
        arms: Sequence[str],
        policies: Mapping[str, Mapping[str, float]] | None = None,
        weight_max: float = WEIGHT_MAX,
    ) -> None:
        if not 1 <= len(arms) <= ARMS_MAX or len(set(arms)) < len(arms):
            raise ValueError(f"off-policy: arms {list(arms)}; give 1 to {ARMS_MAX} names, each its own")
        if not weight_max >= 1.0:
            raise ValueError(f"off-policy: weight_max is {weight_max}; give at least 1")
        self.arms = tuple(arms)
        self.weight_max = weight_max
        self._place = {arm: i for i, arm in enumerate(arms)}
        targets = policies if policies is not None else {arm: {arm: 1.0} for arm in arms}
        if len(targets) > POLICIES_MAX:
            raise ValueError(f"off-policy: {len(targets)} policies; give at most {POLICIES_MAX}")
        named = [(name, _probabilities(name, target, self.arms)) for name, target in targets.items()]
        sums = [_Policy(quotients=[_Quotient(groups={}) for _ in ESTIMATORS]) for _ in named]
        self._state = _State(named, list(arms), sums, _no_means(arms), {})

    def take(
        self,
        arm: str,
        propensity: float,
        reward: float,
        propensities: Mapping[str, float] | None = None,
        cell: str = "",
        estimates: Mapping[str, float] | None = None,
        unit: str | None = None,
    ) -> None:
        """One reward, when it comes. Raises ValueError.

        `propensities`: of all arms when this one was chosen; without them there is no `dr_stable`, and an arm that
        could not be chosen is not noticed. `cell`: a coarse context for the outcome model; `estimates`: a caller's
        rewards expected of each arm, in place of it, made before this reward was known. `unit`: where one unit is asked
        about again and again by the same arm, its name; its events then count as one observation.
        """
        i = self._checked(arm, propensity, reward, propensities)
        expected = self.expected(cell) if estimates is None else [float(estimates[name]) for name in self.arms]
        chances = None if propensities is None else [propensities.get(name, 0.0) for name in self.arms]
        group = None if unit is None else xxhash.xxh3_64_intdigest(unit.encode()) % GROUPS
        for (_, target), sums in zip(self._state.policies, self._state.sums, strict=True):
            self._take(sums, target, i, propensity, reward, chances, expected, group)
        self._learn(i, reward, cell)

    def _checked(self, arm: str, propensity: float, reward: float, every: Mapping[str, float] | None) -> int:
        if arm not in self._place:
            raise ValueError(f"reward for unknown arm {arm!r}; the arms are {list(self.arms)}")
        if not 0.0 < propensity <= 1.0 or not math.isfinite(reward):
            raise ValueError(f"{arm!r}: propensity {propensity} must be in (0, 1], reward {reward} finite")
        if every is not None and abs(every.get(arm, 0.0) - propensity) > TOLERANCE:
            raise ValueError(f"{arm!r}: propensity {propensity}, but {every.get(arm)} among all: not of one routing")
        return self._place[arm]

    def _take(
        self,
        sums: _Policy,
        target: list[float],
        i: int,
        propensity: float,
        reward: float,
        chances: list[float] | None,
        expected: list[float],
        group: int | None,
    ) -> None:
        stable = 0.0
        if chances is not None:
            if any(p > 0.0 and not chance > 0.0 for p, chance in zip(target, chances, strict=True)):
                sums.unsupported += 1
                return
            # One over the standard deviation of a term, but for what all have in common.
            stable = sum(p * p / chance for p, chance in zip(target, chances, strict=True) if p > 0.0) ** -0.5
        weight = target[i] / propensity
        sums.clipped += weight > self.weight_max
        weight = min(weight, self.weight_max)
        sums.events += 1
        sums.weights += weight
        sums.weight_squares += weight * weight
        direct = sum(p * q for p, q in zip(target, expected, strict=True))
        term = direct + weight * (reward - expected[i])
        pairs = ((weight * reward, 1.0), (weight * reward, weight), (term, 1.0), (stable * term, stable))
        for quotient, (y, z) in zip(sums.quotients, pairs, strict=True):
            quotient.take(y, z, group)

    def expected(self, cell: str = "") -> list[float]:
        """The outcome model as it is now: (arms,) mean rewards in the cell, drawn to the arm's mean over all cells, and
        that to the mean of all arms."""
        whole = self._state.overall
        middle = sum(whole.total) / max(sum(whole.n), 1)
        means = [(total + middle) / (n + 1.0) for n, total in zip(whole.n, whole.total, strict=True)]
        own = self._state.cells.get(cell)
        if own is None:
            return means
        return [
            (total + CELL_PRIOR * mean) / (n + CELL_PRIOR)
            for n, total, mean in zip(own.n, own.total, means, strict=True)
        ]

    def _learn(self, i: int, reward: float, cell: str) -> None:
        s = self._state
        if cell and cell not in s.cells:
            if len(s.cells) < CELLS_MAX:
                s.cells[cell] = _no_means(self.arms)
            else:
                s.beyond += 1
        for means in (s.overall, s.cells.get(cell)):
            if means is not None:
                means.n[i] += 1
                means.total[i] += reward

    def values(self) -> dict[str, dict[Estimator, Interval]]:
        """Estimates by policy and estimator. In their own right; that several are looked at widens none of them."""
        return {
            name: {kind: q.interval() for kind, q in zip(ESTIMATORS, sums.quotients, strict=True)}
            for (name, _), sums in zip(self._state.policies, self._state.sums, strict=True)
        }

    def figures(self) -> dict[str, Any]:
        """By policy: events, the share of clipped weights, the effective sample size (Kish 1965), and events at which
        the policy could not have been followed."""
        out: dict[str, Any] = {}
        for (name, _), sums in zip(self._state.policies, self._state.sums, strict=True):
            size = sums.weights**2 / sums.weight_squares if sums.weight_squares else 0.0
            out[name] = {
                "events": sums.events,
                "effective": size,
                "clipped_share": sums.clipped / max(sums.events, 1),
                "unsupported": sums.unsupported,
            }
        return {"policies": out, "cells": len(self._state.cells), "beyond_cells": self._state.beyond}

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self._state)

    def restore(self, state: bytes) -> None:
        """Raises SnapshotError, also where the state is of other arms or policies."""
        read: _State = unpacked(state, _State, "off-policy estimates")
        if (read.arms, read.policies) != (self._state.arms, self._state.policies):
            raise SnapshotError(f"the state is of other arms {read.arms} or other policies than {list(self.arms)}")
        self._state = read


def _no_means(arms: Sequence[str]) -> _Means:
    return _Means([0] * len(arms), [0.0] * len(arms))


def _probabilities(name: str, target: Mapping[str, float], arms: tuple[str, ...]) -> list[float]:
    unknown = [arm for arm in target if arm not in arms]
    found = [float(target.get(arm, 0.0)) for arm in arms]
    if unknown or not all(p >= 0.0 for p in found) or abs(math.fsum(found) - 1.0) > TOLERANCE:
        raise ValueError(f"policy {name!r}: {dict(target)}; give probabilities of {list(arms)} that sum to 1")
    return found
