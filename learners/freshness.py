"""Loss against age: what an older copy of a model loses, and how often an update is worth its cost (F37).

Copies are frozen at several ages and answer beside the model that goes on learning; on each labelled example the
caller tells what both lost. Owns which copies to keep, the curve, and the recommended interval. Refuses to know
learners, labels, clocks and what a loss is: ages and moments are any one unit, seconds or examples.

The differences are paired, so what made an example hard for both cancels. Ages fall into buckets from one age of the
plan to the next; a curve that does not fall is fitted to their means (isotonic regression, Ayer et al. 1955) and drawn
straight from (0, 0) through them. A model updated every T has each age from 0 to T equally often, so it costs

    rate * (integral of excess over 0 to T) / T  +  price * update_cost / T        a unit of time

as in age replacement (Barlow and Hunter 1960). Where the derivative is zero, T * excess(T) - integral = price *
update_cost / rate; the left side never falls, so the best T is the first that reaches the right side. Intervals come
from resampling runs of blocks (circular block bootstrap, Politis and Romano 1992), since losses that lie together in
time are alike, and are widened for the few runs that there are (expanded percentiles, Hesterberg 2015). They need a
stream many times as long as the oldest age: at twelve times, 90 % intervals covered the truth in about 90 % of runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from learners.contract import SnapshotError
from learners.packing import unpacked

Array = NDArray[np.float64]

AGES_MAX: Final = 32
"""Buckets of age: each is a copy of the model that is kept and that answers."""

BLOCKS_MAX: Final = 256
"""Blocks of examples that are kept apart; then neighbours are merged and blocks are twice as long."""

BLOCK_EXAMPLES: Final = 16
"""Scored examples in a block at first."""

BLOCKS_MIN: Final = 20
"""Blocks from which an interval is told, and an update recommended."""

RUNS_MIN: Final = 5
"""Runs of blocks that a resample is put together from at least; fewer would all look alike."""

RESAMPLES: Final = 400
"""Enough for the ends of a 90 % interval: three to twenty lie beyond each."""

SURE: Final = 0.9
"""Of the intervals."""


class FreshnessPlan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Ages to look at, ascending, in the unit of `at`; a copy is frozen whenever the youngest has the first age.

    Each one twice the one before keeps every bucket filled. `price` says how many units of loss, summed over examples,
    one unit of update cost is worth; `update_cost` is what an update costs, in CPU seconds, examples, or money. One
    example in `every` is scored by the copies.
    """

    ages: tuple[float, ...]
    price: float = 1.0
    update_cost: float = 1.0
    every: int = 1

    def __post_init__(self) -> None:
        ages = self.ages
        if not 1 <= len(ages) <= AGES_MAX or not all(math.isfinite(a) and a > 0 for a in ages):
            raise ValueError(f"freshness: ages must be 1 to {AGES_MAX} positive numbers")
        if any(a >= b for a, b in pairwise(ages)):
            raise ValueError("freshness: ages must ascend, each one larger than the one before")
        for name in ("price", "update_cost"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"freshness: {name} is {getattr(self, name)}; give a positive number")
        if self.every < 1:
            raise ValueError(f"freshness: every is {self.every}; give a whole number, at least 1")

    @property
    def edges(self) -> tuple[float, ...]:
        """Where buckets begin, and where the last one ends: as wide again as it is old."""
        return (*self.ages, 2.0 * self.ages[-1])


class Turn(NamedTuple):
    """What to do with the copies before an example is learned: ids to drop, then the id of a new one to freeze from
    the model as it stands, or None; and whether this example is to be scored by the copies."""

    drop: list[int]
    freeze: int | None
    score: bool


class Excess(NamedTuple):
    """One bucket: mean age, scored pairs, mean excess loss with its interval (None where there are too few blocks), and
    the fitted curve there."""

    age: float
    pairs: int
    mean: float
    low: float | None
    high: float | None
    fitted: float


class Interval(NamedTuple):
    """Between updates: the best one and the ends of its 90 % interval; None means longer than the oldest age seen.
    `excess` is the mean excess loss an example then pays, None beyond what was seen. An interval below the youngest age
    rests on the straight line to its bucket: look at younger ages too before it is trusted."""

    best: float | None
    low: float | None
    high: float | None
    excess: float | None


class _Block(msgspec.Struct, array_like=True):
    """Sums over neighbouring examples; by bucket: pairs, excess losses, ages."""

    examples: int
    pairs: list[int]
    excess: list[float]
    ages: list[float]


class _State(msgspec.Struct, array_like=True):
    seen: int = 0
    first_at: float | None = None
    last_at: float | None = None
    made: int = 0
    copies: dict[int, float] = {}
    length: int = BLOCK_EXAMPLES
    blocks: list[_Block] = []
    invalid: int = 0


class Freshness:
    """One model's curve. For each labelled example: `turn`, then `take` where it is to be scored, then learn it.

    Where the caller has copies of its own, as published versions, `turn` need not be called; then every example counts
    as scored by `take`.
    """

    def __init__(self, plan: FreshnessPlan, seed: int) -> None:
        self.plan = plan
        self.seed = seed
        self._s = _State(copies={}, blocks=[])

    def turn(self, at: float) -> Turn:
        """Which copies to drop and freeze at `at`. At most one copy a bucket: the elder stays until it is too old for
        its bucket, and a younger one that comes to it is dropped."""
        s, edges = self._s, self.plan.edges
        drop, taken = [], -1
        for name, born in list(s.copies.items()):  # the eldest first
            bucket = self._bucket(at - born)
            if bucket >= len(edges) - 1 or (bucket >= 0 and bucket == taken):
                drop.append(name)
                del s.copies[name]
            else:
                taken = bucket
        newest = max(s.copies.values(), default=-math.inf)
        freeze = None
        if at - newest >= self.plan.ages[0]:
            freeze, s.made = s.made, s.made + 1
            s.copies[freeze] = at
        s.seen += 1
        return Turn(drop, freeze, (s.seen - 1) % self.plan.every == 0)

    def ages(self, at: float) -> dict[int, float]:
        """Ages of the copies that answer now, by id; those younger than the first age do not yet."""
        return {name: at - born for name, born in self._s.copies.items() if at - born >= self.plan.ages[0]}

    def take(self, at: float, current: float, copies: Sequence[tuple[float, float]]) -> None:
        """The losses of one example: of the model as it is now, and of each copy as (age, loss). `at` does not go back.
        A loss that is no number is counted as invalid and left out."""
        s = self._s
        s.first_at = at if s.first_at is None else s.first_at
        s.last_at = at if s.last_at is None else max(at, s.last_at)
        if not s.blocks or s.blocks[-1].examples >= s.length:
            self._next_block()
        block = s.blocks[-1]
        block.examples += 1
        for age, loss in copies:
            bucket = self._bucket(age)
            if not math.isfinite(loss - current):
                s.invalid += 1
            elif 0 <= bucket < len(self.plan.ages):
                block.pairs[bucket] += 1
                block.excess[bucket] += loss - current
                block.ages[bucket] += age

    def _bucket(self, age: float) -> int:
        """-1 where it is younger than the first age."""
        return sum(age >= edge for edge in self.plan.edges) - 1

    def _next_block(self) -> None:
        s, zeros = self._s, len(self.plan.ages)
        if len(s.blocks) >= BLOCKS_MAX:
            pairs = zip(s.blocks[::2], s.blocks[1::2], strict=True)
            s.blocks = [_merged(a, b) for a, b in pairs]
            s.length *= 2
        s.blocks.append(_Block(0, [0] * zeros, [0.0] * zeros, [0.0] * zeros))

    def _span(self) -> float:
        s = self._s
        return 0.0 if s.first_at is None or s.last_at is None else s.last_at - s.first_at

    def curve(self) -> list[Excess]:
        """Mean excess loss by age, youngest bucket first; buckets without a pair are left out."""
        tables = self._tables()
        seen = tables[0].sum(axis=0) > 0
        means = [_ratio(tables[:, :, seen])] if seen.any() else []
        lows: Sequence[float | None] = [None] * int(seen.sum())
        highs = lows
        if self._is_enough() and means:
            # a bucket that a resample missed has no mean in it
            drawn = np.array([_ratio(tables[:, rows][:, :, seen])[0] for rows in self._resamples()])
            tail = 100.0 * self._tail()
            lows, highs = np.nanpercentile(drawn, tail, axis=0).tolist(), np.nanpercentile(drawn, 100 - tail, axis=0)
        out = []
        for excess, ages in means:
            pairs = tables[0].sum(axis=0)[seen]
            fitted = isotonic(excess, pairs)
            for i, age in enumerate(ages.tolist()):
                low, high = (None if v is None else float(v) for v in (lows[i], highs[i]))
                out.append(Excess(age, int(pairs[i]), float(excess[i]), low, high, float(fitted[i])))
        return out

    def recommend(self, update_cost: float | None = None, price: float | None = None) -> Interval | None:
        """The interval between updates that costs least, by the plan's cost and price unless others are given.

        None before there are enough blocks. Of the resamples the middle 90 % give the ends.
        """
        if not self._is_enough():
            return None
        cost = self.plan.update_cost if update_cost is None else update_cost
        share = (self.plan.price if price is None else price) * cost / self._rate()
        tables = self._tables()
        points = _points(tables)
        best = cheapest(points, share)
        drawn = sorted(cheapest(_points(tables[:, rows]), share) for rows in self._resamples())
        tail = round(self._tail() * len(drawn))
        low, high = drawn[tail], drawn[-1 - tail]
        excess = _integral(points, best) / best if math.isfinite(best) else None
        return Interval(_told(best), _told(low), _told(high), excess)

    def figures(self) -> dict[str, Any]:
        """Plain values for people: the curve, the recommendation, and what it stands on."""
        s, found = self._s, self.recommend()
        return {
            "examples": sum(block.examples for block in s.blocks),
            "copies": len(s.copies),
            "invalid": s.invalid,
            "curve": [point._asdict() for point in self.curve()],
            "interval": None if found is None else found._asdict(),
        }

    def _is_enough(self) -> bool:
        return len(self._s.blocks) >= BLOCKS_MIN and self._span() > 0.0 and bool(self._tables()[0].any())

    def _rate(self) -> float:
        """Labelled examples a unit of time, those not scored included."""
        count = sum(block.examples for block in self._s.blocks)
        return (count - 1) * self.plan.every / self._span()

    def _tables(self) -> NDArray[np.float64]:
        """(3, blocks, buckets): pairs, excess, ages."""
        blocks = self._s.blocks
        table = [[b.pairs for b in blocks], [b.excess for b in blocks], [b.ages for b in blocks]]
        return np.array(table, np.float64).reshape(3, len(blocks), len(self.plan.ages))

    def _run(self) -> int:
        """Blocks that are drawn together: as long as the oldest copy lives, for what it lost is one observation."""
        count = len(self._s.blocks)
        return max(1, min(math.ceil(self.plan.edges[-1] * count / self._span()), count // RUNS_MIN))

    def _tail(self) -> float:
        """The share of resamples beyond each end: less than 5 %, the fewer runs there are."""
        runs = len(self._s.blocks) / self._run()
        wide = stats.t.ppf((1.0 - SURE) / 2.0, runs - 1.0) * math.sqrt(runs / (runs - 1.0))
        return float(stats.norm.cdf(wide))

    def _resamples(self) -> list[NDArray[np.intp]]:
        """Rows of blocks."""
        count, run = len(self._s.blocks), self._run()
        draw = np.random.default_rng([self.seed & 0xFFFFFFFF, sum(block.examples for block in self._s.blocks)])
        starts = draw.integers(count, size=(RESAMPLES, math.ceil(count / run)))
        rows = (starts[:, :, None] + np.arange(run)).reshape(RESAMPLES, -1)[:, :count] % count
        return list(rows)

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode((len(self.plan.ages), self._s))

    def restore(self, state: bytes) -> None:
        """Raises SnapshotError."""
        ages, found = unpacked(state, tuple[int, _State], "a freshness curve")
        if ages != len(self.plan.ages) or any(len(block.pairs) != ages for block in found.blocks):
            raise SnapshotError(f"state of {ages} ages where {len(self.plan.ages)} are configured")
        self._s = found


def isotonic(y: Array, weights: Array) -> Array:
    """The nearest curve, in weighted squares, that neither falls nor goes below zero; (n,) values in the order of age.

    Pooling of adjacent violators (Ayer, Brunk, Ewing, Reid and Silverman 1955).

    >>> isotonic(np.array([-1.0, 3.0, 1.0, 4.0]), np.ones(4)).tolist()
    [0.0, 2.0, 2.0, 4.0]
    """
    pools: list[tuple[float, float, int]] = []
    for value, weight in zip(y.tolist(), weights.tolist(), strict=True):
        mean, total, size = value, weight, 1
        while pools and pools[-1][0] >= mean:
            before, load, count = pools.pop()
            mean = (before * load + mean * total) / (load + total)
            total, size = load + total, size + count
        pools.append((mean, total, size))
    return np.array([max(mean, 0.0) for mean, _, size in pools for _ in range(size)])


def cheapest(points: Sequence[tuple[float, float]], share: float) -> float:
    """The best T for a curve through (0, 0) and these (age, excess) points, ascending in both; infinite where it lies
    beyond the last of them. `share` is price * update_cost / rate.

    A straight line of slope c gives the square root of 2 * share / c, the economic order quantity (Harris 1913):

    >>> round(cheapest([(100.0, 0.5)], 1.0), 6)
    20.0
    """
    gained, x, y = 0.0, 0.0, 0.0
    for age, excess in points:
        slope = (excess - y) / (age - x)
        rise = slope * (age * age - x * x) / 2.0
        if rise > 0.0 and gained + rise >= share:
            return math.sqrt(x * x + 2.0 * (share - gained) / slope)
        gained, x, y = gained + rise, age, excess
    return math.inf


def _integral(points: Sequence[tuple[float, float]], until: float) -> float:
    """Of the curve from 0 to `until`, which lies on it."""
    area, x, y = 0.0, 0.0, 0.0
    for age, excess in points:
        end = min(age, until)
        height = y + (excess - y) * (end - x) / (age - x)
        area += (y + height) / 2.0 * (end - x)
        if end == until:
            break
        x, y = age, excess
    return area


def _points(tables: NDArray[np.float64]) -> list[tuple[float, float]]:
    """(age, fitted excess) of the buckets that have a pair."""
    kept = tables[:, :, tables[0].sum(axis=0) > 0]
    excess, ages = _ratio(kept)
    fitted = isotonic(excess, kept[0].sum(axis=0))
    return list(zip(ages.tolist(), fitted.tolist(), strict=True))


def _ratio(tables: NDArray[np.float64]) -> tuple[Array, Array]:
    """Mean excess and mean age by bucket."""
    pairs, excess, ages = tables.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return excess / pairs, ages / pairs


def _merged(a: _Block, b: _Block) -> _Block:
    pairs = [x + y for x, y in zip(a.pairs, b.pairs, strict=True)]
    excess = [x + y for x, y in zip(a.excess, b.excess, strict=True)]
    return _Block(a.examples + b.examples, pairs, excess, [x + y for x, y in zip(a.ages, b.ages, strict=True)])


def _told(interval: float) -> float | None:
    return interval if math.isfinite(interval) else None
