"""The watch over a learner that serves: a new one is on probation beside the last good copy, and is rolled back on
evidence that it is worse.

Owns the evidence, the budget of false rollbacks and the life cycle of a guard. Refuses to know learners, answers and
what a rollback does; `at` is event time in seconds, given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

import msgspec

from learners.contract import SnapshotError
from learners.guard import LOSS_MAX, Finding, Verdict
from learners.packing import unpacked
from learners.plans import GuardPlan

Status: TypeAlias = Literal["passing", "probation", "frozen", "rolled_back"]

TRANSITIONS: Final[Mapping[Status, frozenset[Status]]] = {
    "passing": frozenset({"probation", "frozen"}),
    "probation": frozenset({"probation", "passing", "frozen", "rolled_back"}),
    "frozen": frozenset({"frozen", "probation", "rolled_back"}),
    "rolled_back": frozenset({"probation", "frozen"}),
}
"""passing: what serves has passed, and is the last good one. probation: the newest serves beside it. frozen: a
candidate was refused; what served goes on, and so does its probation. rolled_back: the last good one serves again."""

BETS: Final = (0.1, 0.3, 0.6, 0.9)
"""Shares of the largest allowed bet. Small bets find small losses, large ones find large losses within some labels;
their mean costs a factor of four in evidence, which is two to ten labels."""

MONTH_S: Final = 30 * 86_400.0

SPEND: Final = 0.1
"""Of the budget at hand that one probation takes: there is always some left, and it fills up in event time."""


class _State(msgspec.Struct, array_like=True):
    """`capital`: logarithm of each bet's. `balance`: chance of a false rollback that is still to be spent."""

    balance: float
    status: Status = "passing"
    is_open: bool = False
    alpha: float = 0.0
    at: float | None = None
    labels: int = 0
    excess: float = 0.0
    capital: list[float] = []
    published: int = 0
    refused: int = 0
    passed: int = 0
    rolled_back: int = 0


class Watchman:
    """The guard of one learner's service.

    Evidence is the capital of a gambler who bets on every label that the served learner loses more than
    `plan.probation_margin` against the last good copy (testing by betting: Waudby-Smith and Ramdas 2024). Were it no
    worse, the capital would reach 1/alpha with a chance of at most alpha, whenever one looks (Ville 1939). What the
    probations of any month spend of alpha is at most `plan.alpha_month`.

    A snapshot that is published while another is on probation begins its labels anew, and the evidence is carried over.
    Where snapshots come faster than `plan.probation_labels` compared labels, none ever passes.
    """

    def __init__(self, plan: GuardPlan | None = None) -> None:
        self.plan = plan or GuardPlan()
        self._state = _State(self.plan.alpha_month / 2.0, capital=[])

    @property
    def status(self) -> Status:
        return self._state.status

    @property
    def is_open(self) -> bool:
        """Whether what serves is being compared with the last good copy."""
        return self._state.is_open

    def judge(self, verdict: Verdict, at: float) -> bool:
        """Take the verdict on a candidate; whether to publish it, which begins its probation."""
        s = self._state
        if not verdict.holds:
            s.refused += 1
            self._become("frozen")
            return False
        s.published += 1
        self._become("probation")
        s.labels, s.excess = 0, 0.0
        if not s.is_open:
            s.is_open = True
            s.capital = [0.0] * len(BETS)
            s.alpha = self._spend(at)
        return True

    def take(self, served_loss: float, good_loss: float) -> Finding | None:
        """Losses, 0 to 1, of what serves and of the last good copy on one example that neither has learned. A finding
        that does not hold: roll back. One that holds: the probation is passed, and what serves is the last good one.
        An infinite loss, or none, of what serves alone is reason enough."""
        s = self._state
        if not s.is_open:
            return None
        if not math.isfinite(served_loss) and math.isfinite(good_loss):
            return self._roll_back(math.inf, "an answer of what serves is no number")
        margin = self.plan.probation_margin
        excess = _bounded(served_loss) - _bounded(good_loss)
        s.labels += 1
        s.excess += excess
        most = 1.0 / (LOSS_MAX + margin)
        s.capital = [
            capital + math.log1p(bet * most * (excess - margin)) for capital, bet in zip(s.capital, BETS, strict=True)
        ]
        if self._evidence() >= -math.log(s.alpha):
            return self._roll_back(s.excess / s.labels, f"in {s.labels} labels of the newest snapshot")
        if s.labels >= self.plan.probation_labels:
            return self._pass()
        return None

    def _evidence(self) -> float:
        """Logarithm of the mean capital."""
        capital = self._state.capital
        top = max(capital)
        return top + math.log(math.fsum(math.exp(x - top) for x in capital) / len(capital))

    def _roll_back(self, value: float, where: str) -> Finding:
        s, margin = self._state, self.plan.probation_margin
        words = f"loses {value:+.4f} against the last good one, {where}; at most {margin}, chance of this {s.alpha:.1e}"
        s.rolled_back += 1
        s.is_open = False
        self._become("rolled_back")
        return Finding("served", value, margin, False, words)

    def _pass(self) -> Finding:
        s, margin = self._state, self.plan.probation_margin
        value = s.excess / s.labels
        s.passed += 1
        s.is_open = False
        if s.status == "probation":
            self._become("passing")
        return Finding("served", value, margin, True, f"loses {value:+.4f} in {s.labels} labels; at most {margin}")

    def _spend(self, at: float) -> float:
        """Half of the month's budget may be in store, and half comes in within a month."""
        s, half = self._state, self.plan.alpha_month / 2.0
        if s.at is not None:
            s.balance = min(s.balance + half * max(at - s.at, 0.0) / MONTH_S, half)
        s.at = at if s.at is None else max(s.at, at)
        spent = SPEND * s.balance
        s.balance -= spent
        return spent

    def _become(self, status: Status) -> None:
        s = self._state
        assert status in TRANSITIONS[s.status], f"{s.status} cannot become {status}"
        s.status = status

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self._state)

    def restore(self, state: bytes) -> None:
        """Raises SnapshotError."""
        read: _State = unpacked(state, _State, "a probation")
        if read.is_open and len(read.capital) != len(BETS):
            raise SnapshotError(f"state of a probation with {len(read.capital)} bets; this version has {len(BETS)}")
        self._state = read

    def figures(self) -> dict[str, Any]:
        s = self._state
        return {
            "status": s.status,
            "labels": s.labels if s.is_open else None,
            "evidence": self._evidence() if s.is_open else None,
            "needed": -math.log(s.alpha) if s.is_open else None,
            "published": s.published,
            "refused": s.refused,
            "passed": s.passed,
            "rolled_back": s.rolled_back,
        }


def _bounded(loss: float) -> float:
    return min(max(loss, 0.0), LOSS_MAX) if math.isfinite(loss) else LOSS_MAX
