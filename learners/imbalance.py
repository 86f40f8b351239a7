"""Learning where classes are unequally frequent: by weight, by leaving examples out, or by learning some again.

Owns how often classes are and how much of each is learned. Refuses to know learners, features and time.

**A balanced model's scores are too high for rare classes**, as if they were as frequent as they were made; `corrected`
takes that back. A stream of 4,000 with 1 positive in 50, logistic regression of step 0.03, prequential with the
threshold at one half, means of 10 seeds (tests/test_imbalance.py):

| | accuracy | G-mean | MCC | PR-AUC | log loss | corrected |
|---|---|---|---|---|---|---|
| as it comes | .977 | .08 | .02 | .05 | .149 | |
| weight | .785 | .81 | .21 | .26 | .469 | .077 |
| under | .829 | .81 | .23 | .28 | .493 | .085 |
| over | .867 | .80 | .25 | .29 | .319 | .075 |
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args

import msgspec

from learners.buffers import chance
from learners.contract import Label
from learners.packing import unpacked

Kind: TypeAlias = Literal["weight", "under", "over"]

DISCOUNT: Final = 0.999
"""What a count is worth one example later: the frequencies are those of about the last 1,000 examples, 20 of them of a
class of 1 in 50."""

RATIO_MAX: Final = 50.0
"""How much more of one class than of another is learned, at most: one example of a class that is rarer still, or
mislabelled, must not throw the model."""

CLASSES_MAX: Final = 100
"""Classes with a frequency of their own; further ones are learned once, with weight 1, and counted in `beyond`."""

START: Final = 1.0
"""Examples of each class that are taken for seen when it first comes."""

_UNIT_MAX: Final = 1e100


class Portion(NamedTuple):
    """How to learn one example: so many `copies` (0: leave it out), each with this `weight`. `probability`: that it is
    learned at all."""

    copies: int
    weight: float
    probability: float


class _State(msgspec.Struct, array_like=True):
    counts: dict[Label, float] = {}
    """In units of the newest example: counts grow dearer instead of all being discounted each time."""

    unit: float = 1.0
    taken: int = 0
    copies: int = 0
    beyond: int = 0


class Balance:
    """Asked for every example, in order, how much of it to learn. Raises ValueError.

    * `weight`: all once, with weights that are inverse to the frequency, of mean 1. Cheap; for learners that heed
      weights.
    * `under`: examples of frequent classes are left out by chance: a fraction of the time, and less is learned.
    * `over`: examples of rare classes are learned several times: 1 / the ratio on the mean, rounded by chance, as is
      oversampling online bagging (Wang, Minku and Yao 2015) but for the rounding, which varies less than a Poisson
      number. Costs learning time; for learners that do not heed weights.

    `desired`: the share of each class in what is learned; None: all equal. Classes not named in it share evenly what
    is left. All in the same ratio, and capped at `RATIO_MAX` between any two classes.

    >>> balance = Balance("weight", seed=1)
    >>> for y in [0] * 300 + [1] * 100: portion = balance.take(y)
    >>> round(balance.ratio(1) / balance.ratio(0), 1)
    2.4
    """

    def __init__(
        self, kind: Kind, desired: Mapping[Label, float] | None = None, seed: int = 0, discount: float = DISCOUNT
    ) -> None:
        faults = []
        if kind not in get_args(Kind):
            faults.append(f"kind is {kind!r}; one of {', '.join(get_args(Kind))}")
        shares = list((desired or {}).values())
        if not all(0 < share < 1 for share in shares) or math.fsum(shares) > 1 + 1e-9:
            faults.append(f"desired is {desired}; shares lie between 0 and 1 and sum to at most 1")
        if not 0 < discount <= 1:
            faults.append(f"discount is {discount}; above 0, at most 1 (never forget)")
        if faults:
            raise ValueError("imbalance: " + "; ".join(faults))
        self.kind = kind
        self.desired = dict(desired or {})
        self.seed = seed
        self.discount = discount
        self._state = _State(counts={})

    def take(self, y: Label) -> Portion:
        """Count an example's class, and say how much of the example to learn."""
        s = self._state
        s.taken += 1
        if not self._count(y):
            s.beyond += 1
            s.copies += 1
            return Portion(1, 1.0, 1.0)
        ratios = self._ratios()
        own = ratios[y]
        if self.kind == "weight":
            portion = Portion(1, own, 1.0)
        else:
            wanted = own / (max(ratios.values()) if self.kind == "under" else min(ratios.values()))
            whole = math.floor(wanted)
            more = chance(self.seed, "imbalance", s.taken, 1 << 53) * 2.0**-53 < wanted - whole
            portion = Portion(whole + more, 1.0, min(wanted, 1.0))
        s.copies += portion.copies
        return portion

    def _count(self, y: Label) -> bool:
        s = self._state
        if y not in s.counts and len(s.counts) >= CLASSES_MAX:
            return False
        s.unit /= self.discount
        s.counts[y] = s.counts.get(y, START * s.unit) + s.unit
        if s.unit > _UNIT_MAX:
            s.counts = {name: count / s.unit for name, count in s.counts.items()}
            s.unit = 1.0
        return True

    def _ratios(self) -> dict[Label, float]:
        """By class, how much more of it is to be learned than comes: desired share / share, of mean 1 over examples."""
        counts = self._state.counts
        total = math.fsum(counts.values())
        named = math.fsum(self.desired.get(y, 0.0) for y in counts)
        others = sum(y not in self.desired for y in counts)
        rest = max(1.0 - named, 0.0) / others if others else 0.0
        raw = {y: self.desired.get(y, rest) * total / max(count, 1e-9 * total) for y, count in counts.items()}
        least = max(raw.values()) / RATIO_MAX
        ratios = {y: max(ratio, least) for y, ratio in raw.items()}
        mean = math.fsum(ratios[y] * count for y, count in counts.items()) / total
        return {y: ratio / mean for y, ratio in ratios.items()}

    def ratio(self, y: Label) -> float:
        """How much more of this class is learned than comes, in the mean over all 1; 1 for a class not seen."""
        return self._ratios().get(y, 1.0) if self._state.counts else 1.0

    def corrected(self, score: float) -> float:
        """Binary: the probability of 1 that a balanced model's score stands for (Elkan 2001, theorem 2).

        By the ratios of now; while they still move, or after a change, only nearly. The prediction is not to follow it:
        a corrected score above one half asks for what the unbalanced model would have said.
        """
        ones, zeros = score / self.ratio(1), (1.0 - score) / self.ratio(0)
        return ones / (ones + zeros)

    def corrected_shares(self, probabilities: Mapping[str, float]) -> dict[str, float]:
        """The same for several classes, keyed by their text (Saerens, Latinne and Decaestecker 2002, equation 2.4)."""
        ratios = {str(y): ratio for y, ratio in self._ratios().items()} if self._state.counts else {}
        masses = {name: share / ratios.get(name, 1.0) for name, share in probabilities.items()}
        whole = math.fsum(masses.values())
        return {name: mass / whole for name, mass in masses.items()} if whole > 0.0 else dict(probabilities)

    def figures(self) -> dict[str, Any]:
        """`shares`: of the classes lately; `ratios`: how much more of each is learned."""
        s = self._state
        total = math.fsum(s.counts.values())
        return {
            "kind": self.kind,
            "taken": s.taken,
            "copies": s.copies,
            "beyond": s.beyond,
            "shares": {str(y): count / total for y, count in s.counts.items()},
            "ratios": {str(y): ratio for y, ratio in self._ratios().items()} if s.counts else {},
        }

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self._state)

    def restore(self, state: bytes) -> None:
        """Raises SnapshotError."""
        self._state = unpacked(state, _State, "a balance")
