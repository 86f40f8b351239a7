"""How fast the champion of one model ages: frozen copies of several ages answer beside it, and what that says of the
best interval between updates (F37).

Owns the copies and when the recommendation is told. Refuses to know how losses become a curve (`learners.freshness`).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from learners import replay
from learners.contract import Learner
from learners.freshness import Freshness, FreshnessPlan
from learners.policies import Item
from stream import learning
from stream.config import Model
from stream.stages.pupil import Pupil

TELL_AGES: Final = 2.0
"""The recommendation is looked at again when so many times the oldest age has passed."""

MOVED: Final = 1.5
"""It is told again where it has moved by this factor."""


class FresheningState(msgspec.Struct):
    """`copies` by id; `told` is the interval that was told last, 0 before the first."""

    curve: bytes = b""
    copies: dict[int, bytes] = {}
    next_at: float | None = None
    told: float = 0.0


class Freshening:
    """Of one model's champion. The copies are begun anew when the champion is another one."""

    def __init__(self, model: Model, settings: learning.Freshness) -> None:
        assert model.learn is not None
        self._task = model.task
        self._plan = plan_of(settings)
        self._seed = model.learn.seed
        self._curve = Freshness(self._plan, self._seed)
        self._state = FresheningState(copies={})
        self._learners: dict[int, Learner] = {}

    def watch(self, item: Item, champion: Pupil) -> dict[str, Any] | None:
        """Let the copies answer an example that the champion has not learned yet; what is recommended, where that is
        new."""
        turn, state = self._curve.turn(item.at), self._state
        for name in turn.drop:
            del state.copies[name], self._learners[name]
        if turn.freeze is not None:
            state.copies[turn.freeze] = champion.remember()
            self._learners[turn.freeze] = champion.twin(state.copies[turn.freeze])
        ages = self._curve.ages(item.at) if turn.score else {}
        if ages:
            current = self._loss(champion.learner, item)
            losses = [(age, self._loss(self._learners[name], item)) for name, age in ages.items()]
            self._curve.take(item.at, current, losses)
        return self._recommended(item.at)

    def _loss(self, learner: Learner, item: Item) -> float:
        return replay.loss(self._task, learner.predict(item.x), item.y)

    def _recommended(self, at: float) -> dict[str, Any] | None:
        state, pause = self._state, TELL_AGES * self._plan.ages[-1]
        if state.next_at is None:
            state.next_at = at + pause
        if at < state.next_at:
            return None
        state.next_at = at + pause
        found = self._curve.recommend()
        if found is None or found.best is None or state.told / MOVED < found.best < state.told * MOVED:
            return None
        state.told = found.best
        return {"interval_s": found.best, "low_s": found.low, "high_s": found.high}

    def begin(self) -> None:
        """Another champion: what is known of the one before says nothing of it."""
        self._curve = Freshness(self._plan, self._seed)
        self._state = FresheningState(copies={}, told=self._state.told)
        self._learners = {}

    def state(self) -> FresheningState:
        return msgspec.structs.replace(self._state, curve=self._curve.snapshot())

    def restore(self, state: FresheningState, champion: Pupil) -> None:
        """Raises SnapshotError."""
        self._curve.restore(state.curve)
        self._state = msgspec.structs.replace(state, curve=b"")
        self._learners = {name: champion.twin(copy) for name, copy in state.copies.items()}

    def figures(self) -> dict[str, Any]:
        """Loss against age, and the interval between updates that costs least."""
        return self._curve.figures()


def plan_of(settings: learning.Freshness) -> FreshnessPlan:
    """Raises ValueError."""
    ages = tuple(float(age) for age in settings.ages)
    return FreshnessPlan(ages=ages, price=settings.price, update_cost=settings.update_cost, every=settings.every)
