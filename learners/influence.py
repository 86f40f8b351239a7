"""How much each label source may teach: a cap on its share, and less weight the more of its labels look flipped.

A source is compared with the other sources on answers of the same confidence, never with the model alone: where the
world changes, all sources contradict the model together, and nothing is held back. Owns the weights of examples.
Refuses to know features, learners and where labels come from.

Assumes that most labels of every confidence come from honest sources. A region of the inputs that one source alone
labels cannot be told from an attack by its labels; name such a source in `trusted`.
"""

from __future__ import annotations

import bisect
import math
from typing import Any, Final

import msgspec

from learners.contract import Label, Said, SnapshotError
from learners.flips import Bin, estimate
from learners.metrics import Task
from learners.packing import unpacked

SOURCES_MAX: Final = 32
"""Label sources that are told apart; the labels of all later ones are judged as one source, and counted."""

OTHERS: Final = "(others)"

EDGES: Final = (0.003, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97, 0.99, 0.997)
"""Between bins of confidence: finer towards 0 and 1, where a rare class lives and where a flip shows most."""

REFRESH: Final = 20
"""Labels of a source between two estimates of it: an estimate costs about 60 us."""

SEVERAL: Final = 3
"""Fewer sources than this are not capped: of two, one always gives at least half."""

PRESENT_SHARE: Final = 0.05
"""A source with a smaller share of the labels does not count among the several."""

CAP_WEIGHT_MIN: Final = 0.25
"""The cap takes at most three quarters of an example: a source of nearly all labels must go on teaching."""

WEIGHT_MIN: Final = 0.01
"""Of an example's own weight, whatever is thought of it: some learners have no use for a weight of nothing."""

INSIDE: Final = 0.95
"""Regression: a label beyond the bound that this share of all labels is within contradicts the answer."""

BOUND_STEP: Final = 0.1
"""Of the logarithm of that bound, an example: it follows a loss that doubles within some hundred examples."""

UNIT_MAX: Final = 1e9
"""A new label counts one unit, which grows instead of all older counts shrinking; beyond this, all are scaled down."""


class InfluencePlan(msgspec.Struct, frozen=True):
    """Settings. Raises ValueError.

    cap: largest share of the learned weight that one of several sources may have. Half: the others can outvote it.
    memory: labels, of all sources, after which the past counts a third. A thousand: a source that begins to flip is
    soon known by what it does now (5,000 left up to half more of an attack's cost), and a fifth flipped shows in 100.
    deviations: standard errors of a flip rate below which it is chance. Two, as belief in it grows gently from there.
    ignored: a flip rate up to this is the everyday difference between honest sources, and changes nothing.
    trusted: sources that are neither capped nor judged.
    """

    cap: float = 0.5
    memory: int = 1_000
    deviations: float = 2.0
    ignored: float = 0.02
    trusted: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (0 < self.cap <= 1 and self.memory >= 100 and self.deviations >= 0 and 0 <= self.ignored < 0.5):
            raise ValueError(
                f"influence: cap {self.cap} must be in (0, 1], memory {self.memory} at least 100, deviations "
                f"{self.deviations} at least 0, ignored {self.ignored} in [0, 0.5)"
            )


class _Source(msgspec.Struct, array_like=True):
    """Counts of its labels by bin of confidence, and sums of weights, in units. `trust[label][bin]`: the chance that
    a label is no flip. `to_zero`, `to_one`: estimated shares of all its labels that are a flipped 1, or 0."""

    ones: list[float]
    zeros: list[float]
    trust: tuple[list[float], list[float]]
    to_zero: float = 0.0
    to_one: float = 0.0
    arrived: float = 0.0
    wanted: float = 0.0
    kept: float = 0.0
    since: int = 0
    labels: int = 0
    lowered: int = 0
    capped: int = 0


class _State(msgspec.Struct, array_like=True):
    sources: dict[str, _Source]
    unit: float = 1.0
    kept: float = 0.0
    several: bool = False
    bound: float = 0.0
    unnamed: int = 0


class Influence:
    """The weight of each example, by its source.

    Three factors: the cap; the source's reliability, 1 - 2 x its flip rate; and the same of the chance that this very
    label is flipped, which trims the largest losses of a suspicious source and no others (a smooth trimmed loss).
    """

    def __init__(self, task: Task, plan: InfluencePlan | None = None) -> None:
        self.task: Task = task
        self.plan = plan or InfluencePlan()
        self._growth = 1.0 / (1.0 - 1.0 / self.plan.memory)
        self._state = _State({})

    def weigh(self, source: str, y: Label, said: Said, weight: float = 1.0) -> float:
        """The weight to learn this example with, at most `weight`. `said` is the champion's answer before learning it.
        The example is weighed by what was known before it, and then taken in."""
        own = self._source(source)
        where = self._read(y, said)
        trusted = source in self.plan.trusted
        factor = 1.0
        if where is not None and not trusted:
            says, k = where
            factor = _pull(own.to_zero + own.to_one) * _pull(1.0 - own.trust[says][k])
        own.wanted += self._state.unit * weight * factor
        capped = 1.0 if trusted else self._capped(own)
        learned = weight * max(factor * capped, WEIGHT_MIN)
        own.labels += 1
        own.lowered += factor < 1.0
        own.capped += capped < 1.0
        self._count(own, where, weight, learned)
        return learned

    def _source(self, name: str) -> _Source:
        sources = self._state.sources
        if name not in sources and len(sources) >= SOURCES_MAX:
            self._state.unnamed += 1
            name = OTHERS
        if name not in sources:
            bins = len(EDGES) + 1
            sources[name] = _Source([0.0] * bins, [0.0] * bins, ([1.0] * bins, [1.0] * bins))
        return sources[name]

    def _capped(self, own: _Source) -> float:
        """What keeps the source's share of what is learned at the cap."""
        s, cap = self._state, self.plan.cap
        if not s.several or cap >= 1.0:
            return 1.0
        room = cap / (1.0 - cap) * max(s.kept - own.kept, 0.0)
        return 1.0 if own.wanted <= room else max(room / own.wanted, CAP_WEIGHT_MIN)

    def _count(self, own: _Source, where: tuple[int, int] | None, weight: float, learned: float) -> None:
        s = self._state
        own.arrived += s.unit * weight
        own.kept += s.unit * learned
        s.kept += s.unit * learned
        if where is not None:
            says, k = where
            (own.ones if says else own.zeros)[k] += s.unit
        s.unit *= self._growth
        if s.unit > UNIT_MAX:
            self._scale_down()
        own.since += 1
        if own.since >= REFRESH:
            own.since = 0
            self._estimate(own)

    def _read(self, y: Label, said: Said) -> tuple[int, int] | None:
        """The label as 0 or 1, and the bin of the confidence in 1; None where nothing can be compared. Multi-class: 1
        is agreement with the predicted class. Regression: 1 is a label within the bound; there is one bin."""
        if self.task != "regression":
            if said.score is None or not math.isfinite(said.score):
                return None
            says = y == 1 if self.task == "binary" else y == said.prediction
            return int(says), bisect.bisect_right(EDGES, said.score)
        loss = abs(float(said.prediction) - float(y))
        if not math.isfinite(loss):
            return None
        s = self._state
        s.bound = s.bound or loss
        within = loss <= s.bound
        s.bound *= math.exp(BOUND_STEP * (INSIDE - 1.0 if within else INSIDE))
        return int(within), 0

    def _estimate(self, own: _Source) -> None:
        s = self._state
        every = list(s.sources.values())
        arrived = math.fsum(one.arrived for one in every)
        s.several = sum(one.arrived >= PRESENT_SHARE * arrived for one in every) >= SEVERAL
        others = [one for one in every if one is not own and not self._one_sided(one)]
        if not others:
            return
        table = [
            Bin(x / s.unit, z / s.unit, math.fsum(xs) / s.unit, math.fsum(zs) / s.unit)
            for x, z, xs, zs in zip(
                own.ones,
                own.zeros,
                zip(*(one.ones for one in others), strict=True),
                zip(*(one.zeros for one in others), strict=True),
                strict=True,
            )
        ]
        flips = estimate(table, self.task, self.plan.deviations)
        total = flips.to_zero + flips.to_one
        used = 1.0 - self.plan.ignored / total if total > self.plan.ignored else 0.0
        own.to_zero, own.to_one = used * flips.to_zero, used * flips.to_one
        a, b = used * flips.of_ones, used * flips.of_zeros
        rates = [one.rate for one in table]
        own.trust = (
            [_part((1.0 - b) * (1.0 - r), a * r) for r in rates],
            [_part((1.0 - a) * r, b * (1.0 - r)) for r in rates],
        )

    def _one_sided(self, one: _Source) -> bool:
        """It has given one label only, as silence does that counts as a 0: its rates say nothing of others'."""
        few = 0.5 * self._state.unit
        return self.task == "binary" and (math.fsum(one.ones) < few or math.fsum(one.zeros) < few)

    def _scale_down(self) -> None:
        s = self._state
        for one in s.sources.values():
            one.ones = [x / s.unit for x in one.ones]
            one.zeros = [x / s.unit for x in one.zeros]
            one.arrived, one.wanted, one.kept = one.arrived / s.unit, one.wanted / s.unit, one.kept / s.unit
        s.kept = math.fsum(one.kept for one in s.sources.values())
        s.unit = 1.0

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self._state)

    def restore(self, state: bytes) -> None:
        """Raises SnapshotError."""
        read: _State = unpacked(state, _State, "the influence of sources")
        if any(
            len(row) != len(EDGES) + 1 for one in read.sources.values() for row in (one.ones, one.zeros, *one.trust)
        ):
            raise SnapshotError(f"state of the influence of sources without {len(EDGES) + 1} bins")
        self._state = read

    def figures(self) -> dict[str, Any]:
        s = self._state
        arrived = math.fsum(one.arrived for one in s.sources.values()) or 1.0
        return {
            "unnamed": s.unnamed,
            "sources": {
                name: {
                    "labels": one.labels,
                    "share": one.arrived / arrived,
                    "learned_share": one.kept / (s.kept or 1.0),
                    "weight": one.kept / (one.arrived or 1.0),
                    "flip_rate": one.to_zero + one.to_one,
                    "lowered": one.lowered,
                    "capped": one.capped,
                }
                for name, one in s.sources.items()
            },
        }


def _pull(chance: float) -> float:
    """What is left of a label's pull that is flipped with this chance, as flips pull the other way."""
    return max(1.0 - 2.0 * chance, 0.0)


def _part(one: float, other: float) -> float:
    return one / (one + other) if one + other > 0.0 else 1.0
