"""Who serves whom: the routing of one model's traffic, from its trials, its bandit, exploration and the holdout.

Owns rewards and what they say of policies that were not followed (F33, F38). Refuses to know how shares are found
(`learners.bandits`) and how a request finds its arm (`learners.assignment`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec

from learners.assignment import Holdout, Routing, propensities
from learners.bandits import BANDITS, Bandit
from learners.contract import Label, Said
from learners.off_policy import OffPolicy
from stream.config import Model
from stream.events import Example
from stream.learning import BASELINE, CHAMPION, PREVIOUS
from stream.stages.roster import Roster

HOLDOUT_SEED: Final = 0x7F4A7C15
"""Never changes, so that the same units stay apart from everything that is tried."""


class TrafficState(msgspec.Struct):
    """`arms` are those that the evidence is of; `strange` counts rewards that were none."""

    routing: Routing | None = None
    number: int = 0
    bandit: bytes | None = None
    values: bytes | None = None
    arms: list[str] = []
    rewards: int = 0
    since: int = 0
    strange: int = 0


class Traffic:
    """Of one model. `decide` says the routing from now on; the course tells it to others where it has changed."""

    def __init__(self, model: Model, roster: Roster) -> None:
        assert model.learn is not None
        self._learn = model.learn
        self._task = model.task
        self._roster = roster
        self._state = TrafficState(arms=[])
        self._every = model.learn.bandit.settings.every if model.learn.bandit else 0
        self._bandit: Bandit | None = None
        self._values: OffPolicy | None = None
        self._begin(self._arms())

    @property
    def routing(self) -> Routing | None:
        return self._state.routing

    @property
    def is_due(self) -> bool:
        """Whether the bandit has earned a new allocation."""
        return self._bandit is not None and self._state.since >= self._every

    def _arms(self) -> list[str]:
        """Who may be served something."""
        if self._learn.bandit is None and self._learn.traffic.explore == 0.0:
            return []
        return [part for part in self._roster.pupils if part not in (BASELINE, PREVIOUS)]

    def _begin(self, arms: list[str]) -> None:
        """The evidence of other arms is of no use."""
        bandit = self._learn.bandit
        self._state.arms = arms
        self._bandit = BANDITS[bandit.kind](arms, bandit.settings) if bandit is not None and arms else None
        self._values = OffPolicy(arms) if arms else None

    def take(self, example: Example, y: Label, answers: Mapping[str, Said]) -> None:
        """The reward of one answer that was served with a known propensity."""
        served = example.prediction
        arm, propensity = served.learner, served.propensity
        if propensity is None or arm not in self._state.arms:
            return
        value = self._reward(example, y)
        if not math.isfinite(value):
            return
        self._state.rewards += 1
        self._state.since += 1
        try:
            if self._bandit is not None:
                self._bandit.reward(arm, value, propensity)
            if self._values is not None:
                estimates = self._estimates(y, answers)
                self._values.take(arm, propensity, value, estimates=estimates)
        except ValueError:  # a reward out of its range, or propensities of nobody here
            self._state.strange += 1

    def _estimates(self, y: Label, answers: Mapping[str, Said]) -> dict[str, float] | None:
        """Where the reward is being right, every arm's is known once the label is, for all of them had answered."""
        if self._learn.bandit is not None and self._learn.bandit.reward is not None:
            return None
        if self._task == "regression" or any(arm not in answers for arm in self._state.arms):
            return None
        return {arm: float(answers[arm].prediction == y) for arm in self._state.arms}

    def _reward(self, example: Example, y: Label) -> float:
        bandit = self._learn.bandit
        if bandit is not None and bandit.reward is not None:
            return example.values.get(bandit.reward, math.nan)
        if self._task == "regression":
            return -abs(float(example.prediction.prediction) - float(y))
        return float(example.prediction.prediction == y)

    def decide(self, trial: Mapping[str, float] | None) -> bool:
        """Settle the routing, with the shares of a trial if one is on; whether it is another than before."""
        self._state.since = 0
        arms = self._arms()
        if arms != self._state.arms:
            self._begin(arms)
        shares = self._shares(trial)
        state, old = self._state, self._state.routing
        settings = self._learn.traffic
        holdout = settings.holdout
        if shares is None and holdout is None:
            state.routing = None
            return old is not None
        held = None if holdout is None else Holdout(holdout.learner, holdout.share, HOLDOUT_SEED)
        wanted = Routing(
            number=state.number,
            seed=self._learn.seed,
            arms=tuple((shares or {CHAMPION: 1.0}).items()),
            unit=settings.unit,
            exploration=settings.explore if len(shares or {}) > 1 else 0.0,
            holdout=held,
        )
        if old is not None and wanted == old:
            return False
        state.number += 1
        state.routing = msgspec.structs.replace(wanted, number=state.number)
        return True

    def _shares(self, trial: Mapping[str, float] | None) -> dict[str, float] | None:
        if self._bandit is not None:
            return self._bandit.shares()
        if trial is not None:
            return dict(trial)
        if self._state.arms:
            return {arm: float(arm == CHAMPION) for arm in self._state.arms}
        return None

    def state(self) -> TrafficState:
        return msgspec.structs.replace(
            self._state,
            bandit=None if self._bandit is None else self._bandit.snapshot(),
            values=None if self._values is None else self._values.snapshot(),
        )

    def restore(self, state: TrafficState, going_on: Collection[str], same_rewards: bool) -> None:
        """The evidence goes on where arms and rewards are the same as before. Raises SnapshotError."""
        arms = self._arms()
        self._state = msgspec.structs.replace(state, bandit=None, values=None)
        self._begin(arms)
        if arms != state.arms or not same_rewards or any(arm not in going_on for arm in arms):
            return
        if self._bandit is not None and state.bandit is not None:
            self._bandit.restore(state.bandit)
        if self._values is not None and state.values is not None:
            self._values.restore(state.values)

    def figures(self) -> dict[str, Any]:
        """`values`: what each arm would earn alone, by estimator: [estimate, low, high]."""
        routing = self._state.routing
        found: dict[str, Any] = {"shares": {} if routing is None else propensities(routing)}
        if self._values is not None:
            values = self._values.values()
            found["values"] = {arm: {kind: list(i) for kind, i in each.items()} for arm, each in values.items()}
        if self._bandit is not None:
            found["bandit"] = self._bandit.figures()
        return found | {"rewards": self._state.rewards, "strange": self._state.strange}
