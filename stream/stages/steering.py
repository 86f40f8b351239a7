"""Every change to one model's learners: what they learn, who plays which part, what is taken back, when learning stops.

Owns that each change is a decision with its reason, is told to those who serve, and leaves trials, guard and copies in
agreement with the learners. Refuses to know which event asks for a change (`stream.stages.course`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import msgspec

from learners import replay
from learners.imbalance import Balance
from learners.policies import Item, Update, decode
from learners.trials import Command as OrderOfTrial
from stream.config import Model
from stream.contract import SNAPSHOTS, Output
from stream.errors import InputFault
from stream.events import Traffic as TrafficTold
from stream.learning import CHAMPION, PREVIOUS
from stream.stages.fitting import identity, made_for, refill
from stream.stages.freshening import Freshening, FresheningState
from stream.stages.guarding import HELD_OUT_EVERY, HELD_OUT_MIN, Failed, Guard, GuardState
from stream.stages.milestones import Milestone, Milestones, MilestonesState
from stream.stages.publishing import Decisions, Signing, Span, moment, publish
from stream.stages.roster import Roster, RosterState
from stream.stages.traffic import Traffic, TrafficState
from stream.stages.trialling import ACTIONS, Moved, Trials, TrialsState

PAUSES_MAX: Final = 1_000
"""Reasons for which a model can pause at once; more of them change nothing."""

GUARD: Final = "guard"
"""The reason of a pause that follows updates which failed one after the other."""


class Kept(msgspec.Struct):
    """What is no part with a state of its own. `forgotten` counts examples that were learned and taken back. Those who
    serve were told to ask the learners `asked`, and the routing numbered `told`; `settled` is the configuration that
    they were last told of."""

    learned: int = 0
    unpublished: int = 0
    forgotten: int = 0
    unlearnable: int = 0
    too_large: int = 0
    decisions: int = 0
    first_at: float | None = None
    last_at: float | None = None
    pauses: list[str] = []
    asked: list[str] = []
    told: int = 0
    settled: str = ""


class SteeringState(msgspec.Struct):
    kept: Kept
    roster: RosterState
    milestones: MilestonesState
    guard: GuardState
    traffic: TrafficState
    buffer: bytes
    trials: TrialsState | None = None
    balance: bytes | None = None
    freshening: FresheningState | None = None


class Steering:
    """Of one model. Each method that changes something takes `at` (event time), the cause's id, and where to tell."""

    def __init__(self, name: str, model: Model, signing: Signing | None) -> None:
        assert model.learn is not None
        learn = model.learn
        self._name = name
        self._model = model
        self._learn = learn
        self.made_for = made_for(model)
        self._identity = identity(model)
        self._signing = signing
        self._decisions = Decisions(name)
        self.roster = Roster(model, version=1 if learn.policy == "online" else 0)
        self.buffer = replay.make(learn.buffer.kind, learn.buffer.bytes, learn.seed, model.task)
        self.milestones = Milestones(learn.publish)
        self.guard = Guard(model, learn.guard, learn.publish)
        self.trials = None if learn.trial is None else Trials(model, learn.trial, self.roster)
        self.traffic = Traffic(model, self.roster)
        self.balance = None if learn.balance is None else Balance(learn.balance.kind, seed=learn.seed)
        self.freshening = None if learn.freshness is None else Freshening(model, learn.freshness)
        self.kept = Kept(pauses=[], asked=list(self.roster.pupils))
        self.traffic.decide(None)

    # -- learning -----------------------------------------------------------------------------------------------------

    def teach(self, item: Item) -> list[str]:
        """All learners, and what is replayed with it; a learner that fails is as it was before. Why those failed."""
        kept = self.kept
        faults = self.roster.teach(item, self.balance)
        if self._learn.buffer.replay:
            for old in self.buffer.draw(self._learn.buffer.replay, kept.learned):
                self.roster.teach(decode(old), None)
        kept.unlearnable += bool(faults)
        kept.learned += 1
        kept.unpublished += 1
        kept.first_at = item.at if kept.first_at is None else kept.first_at
        kept.last_at = item.at
        return faults

    def update(self, update: Update | None, at: float, cause: str | None, out: list[Output]) -> bool:
        """A batch, as a new version, unless the guard finds it worse than the one before. Whether it is served."""
        if update is None:
            return False
        before, copy = self._standing(), self.roster.champion.remember()
        if update.reset:
            for pupil in self.roster.pupils.values():
                pupil.start_over()
            self.kept.first_at = None
        guarded = self.guard.is_on and len(update.items) >= HELD_OUT_MIN and before["updates"] > 0
        held = update.items[::HELD_OUT_EVERY] if guarded else []
        rest = update.items if not held else [one for i, one in enumerate(update.items) if i % HELD_OUT_EVERY]
        for item in rest:
            self.teach(item)
        failed = self.guard.compare(self.roster.champion, copy, held, at) if held else None
        if failed is not None:
            self.turn_back("refuse", failed, at, cause, out)
            return False
        for item in held:
            self.teach(item)
        self.milestones.clear(self.kept.learned)
        self.roster.renew()
        why = {"why": update.why, "examples": len(update.items), "started_over": update.reset}
        self._decide("relearn" if update.reset else "update", at, cause, why, before, out)
        self.publish(at, out)
        return True

    def challenge(self, items: Sequence[Item], at: float, cause: str, out: list[Output]) -> None:
        """Start a rival of the champion from these examples; it serves nobody before a trial has promoted it."""
        rival = self.roster.start_rival()
        faults = sum(rival.learn(item) is not None for item in items)
        if self.trials is not None:
            self.trials.enter()
        why = {"why": "alert", "examples": len(items) - faults}
        self._decide("challenge", at, cause, why, self._standing(), out, rival.name)
        self._agree(at, out)
        self.publish(at, out)

    # -- going back ---------------------------------------------------------------------------------------------------

    def turn_back(self, action: str, failed: Failed, at: float, cause: str | None, out: list[Output]) -> None:
        """The champion as the last good one was; after a second failure in a row learning rests."""
        before = self._standing()
        if not self.guard.go_back(self.roster.champion):
            return
        self.milestones.clear(self.kept.learned)
        self.roster.renew()
        self._decide(action, at, cause, {"why": failed.how, "evidence": failed.evidence()}, before, out)
        self.publish(at, out)
        if self.guard.must_rest:
            self.pause(GUARD, at, f"{self._name}-learn-{self._decisions.told}", {"why": "updates failed again"}, out)

    def go_back(self, to: Milestone | None, at: float, cause: str, why: dict[str, Any], out: list[Output]) -> None:
        """Every learner as it was at an earlier copy; without one nothing changes."""
        if to is None or to.learned == self.kept.learned:
            return
        before = self._standing()
        for part, state in to.learners.items():
            if part in self.roster.pupils:
                self.roster.pupils[part].go_back(state)
        forgotten = self.kept.learned - to.learned
        self.kept.forgotten += forgotten
        self.kept.last_at = to.at
        self.milestones.drop_after(to, self.kept.learned)
        self.guard.begin()
        self.roster.renew()
        self._decide("rollback", at, cause, why | {"forgotten": forgotten, "learned_until": moment(to.at)}, before, out)
        self.publish(at, out)

    def pause(self, reason: str, at: float, cause: str, why: dict[str, Any], out: list[Output]) -> None:
        pauses = self.kept.pauses
        if reason in pauses or len(pauses) >= PAUSES_MAX:
            return
        pauses.append(reason)
        if len(pauses) == 1:
            self._decide("pause", at, cause, why, self._standing(), out)

    def pass_by(self, at: float, out: list[Output]) -> None:
        """An example that is not learned, as learning is paused. A rest that the guard has ordered ends by itself."""
        if self.kept.pauses == [GUARD] and self.guard.rest():
            self.resume([GUARD], at, f"{self._name}-learn-{self._decisions.told}", {"why": "rested"}, out)

    def resume(self, reasons: list[str], at: float, cause: str, why: dict[str, Any], out: list[Output]) -> None:
        was_paused = bool(self.kept.pauses)
        self.kept.pauses = [reason for reason in self.kept.pauses if reason not in reasons]
        if GUARD in reasons:
            self.guard.forgive()
        if was_paused and not self.kept.pauses:
            self._decide("resume", at, cause, why, self._standing(), out)

    # -- who plays which part -----------------------------------------------------------------------------------------

    def promote(self, part: str, at: float, cause: str, why: dict[str, Any], out: list[Output]) -> None:
        """A challenger at once, by an order. Raises InputFault."""
        if self.trials is not None and part in self.roster.pupils and part != PREVIOUS:
            self.move(self.trials.order("promote", part, at), cause, why, out)
            return
        before = self._standing()
        self.roster.promote(part)
        self._changed_hands("promote", at, cause, why | {"learner": part}, before, out)

    def roll_back(self, at: float, cause: str, why: dict[str, Any], out: list[Output]) -> None:
        """To the champion before this one, or else to an earlier copy of this one. Raises InputFault."""
        newest = self.milestones.newest()
        if self.trials is not None and self.trials.on_probation:
            self.move(self.trials.order("roll_back", CHAMPION, at), cause, why, out)
        elif PREVIOUS in self.roster.pupils:
            before = self._standing()
            self.roster.roll_back()
            self._changed_hands("rollback", at, cause, why, before, out)
        elif newest is not None:
            self.go_back(newest, at, cause, why, out)
        else:
            raise InputFault("rollback", "there is neither a champion before this one nor an earlier copy of it")

    def order(self, action: str, part: str, at: float, cause: str, why: dict[str, Any], out: list[Output]) -> None:
        """What a person says of a trial: approve, reject, halt, resume, retire. Raises InputFault."""
        if self.trials is None:
            raise InputFault(action, f"the model has no trials to {action}; add learn.trial")
        self.move(self.trials.order(cast(OrderOfTrial, action), part, at), cause, why, out)

    def move(self, moved: Moved, cause: str | None, why: dict[str, Any], out: list[Output]) -> None:
        """Do what a step of a trial says."""
        assert self.trials is not None
        part, step, before = moved.part, moved.step, self._standing()
        if step.state_to == "promoted":
            self.roster.promote(part)
            self.trials.restart(promoted=part)
        elif step.state_to == "rolled_back":
            origin = self.roster.champion.origin
            self.roster.roll_back()
            self.roster.retire(origin)
            self.trials.restart()
        elif step.state_to == "retired":
            self.roster.retire(part)
            self.trials.end(part)
        elif step.state_to == "champion":
            self.trials.end(part)
        if step.state_to in ("promoted", "rolled_back"):
            self._begin_anew()
        self._decide(ACTIONS[step.state_to], step.at, cause, why | moved.why(), before, out, part)
        self._agree(step.at, out)
        self.publish(step.at, out)

    def look(self, at: float, out: list[Output]) -> None:
        """Look at the trials and the bandit, if there is something new to see."""
        if self.trials is not None:
            for moved in self.trials.check(at):
                self.move(moved, None, {}, out)
        if self.traffic.is_due:
            self._agree(at, out)

    def _changed_hands(
        self, action: str, at: float, cause: str, why: dict[str, Any], before: dict[str, Any], out: list[Output]
    ) -> None:
        self._begin_anew()
        if self.trials is not None:
            self.trials.restart()
        self._decide(action, at, cause, why, before, out)
        self._agree(at, out)
        self.publish(at, out)

    def _begin_anew(self) -> None:
        """The champion is another one: copies and comparisons of the one before fit it no more."""
        self.guard.begin()
        self.milestones.clear(self.kept.learned)
        if self.freshening is not None:
            self.freshening.begin()

    def refresh(self, item: Item, out: list[Output]) -> None:
        """Let frozen copies answer an example before it is learned; tell how often to update, where that is new."""
        if self.freshening is not None:
            found = self.freshening.watch(item, self.roster.champion)
            if found is not None:
                self._decide("recommend_interval", item.at, None, found, self._standing(), out)

    def _agree(self, at: float, out: list[Output]) -> None:
        """Tell those who serve whom to ask, where that has changed."""
        self.traffic.decide(None if self.trials is None else self.trials.shares())
        asked, routing, version = list(self.roster.pupils), self.traffic.routing, str(self.roster.version)
        number = 0 if routing is None else routing.number
        if (number, asked) != (self.kept.told, self.kept.asked):
            self.kept.told, self.kept.asked = number, asked
            told = TrafficTold(model=self._name, at=moment(at), version=version, learners=asked, routing=routing)
            out.append(Output(SNAPSHOTS, self._name, told))

    def settle(self, at: float, out: list[Output]) -> None:
        """The first example under another configuration: tell those who serve what it changes for them (F54)."""
        if self.kept.settled != self._identity:
            self.kept.settled = self._identity
            self._agree(at, out)

    # -- what is told -------------------------------------------------------------------------------------------------

    def offer(self, at: float, out: list[Output]) -> None:
        """If enough has been learned, keep a copy to go back to, and publish if the guard lets it: one copy serves all
        three."""
        if self.kept.unpublished < self._learn.publish:
            return
        copies = self.milestones.pass_by(self.kept.learned, at, self.roster)
        failed = self.guard.publishable(self.roster.champion, copies.get(CHAMPION), at)
        if failed is None:
            self.publish(at, out, copies)
        else:
            self.turn_back("refuse", failed, at, None, out)

    def publish(self, at: float, out: list[Output], copies: Mapping[str, bytes] | None = None) -> None:
        """Learners of whom a copy has just been taken are not copied again."""
        self.kept.unpublished = 0
        if self._signing is not None:
            span = Span(self.kept.first_at, self.kept.last_at)
            self.kept.too_large += publish(self._name, self.roster, copies or {}, span, at, self._signing, out)

    def _standing(self) -> dict[str, Any]:
        champion = self.roster.champion
        return {"version": str(self.roster.version), "origin": champion.origin, "updates": champion.learner.updates}

    def _decide(
        self,
        action: str,
        at: float,
        cause: str | None,
        why: dict[str, Any],
        before: dict[str, Any],
        out: list[Output],
        learner: str = CHAMPION,
    ) -> None:
        after = self._standing() | {"paused": bool(self.kept.pauses)}
        self._decisions.tell(out, action, at, cause, why, before, after, learner)

    def state(self) -> SteeringState:
        self.kept.decisions = self._decisions.told
        return SteeringState(
            self.kept,
            self.roster.state(),
            self.milestones.state(),
            self.guard.state(),
            self.traffic.state(),
            self.buffer.snapshot(),
            None if self.trials is None else self.trials.state(),
            None if self.balance is None else self.balance.snapshot(),
            None if self.freshening is None else self.freshening.state(),
        )

    def restore(self, state: SteeringState, rested: Mapping[str, str]) -> None:
        """Parts whose learners are others begin anew, and those whose state `rested` on other settings (F54). Raises
        SnapshotError."""
        same = {part: rested.get(part) == settings for part, settings in self.made_for.items()}
        going_on = self.roster.restore(state.roster, same["task"])
        champion = self.roster.champion
        self.milestones.restore(state.milestones, [part for part in self.roster.pupils if part not in going_on])
        self.traffic.restore(state.traffic, going_on, same["traffic"])
        if self.trials is not None:
            self.trials.restore((same["trials"] and state.trials) or TrialsState(), going_on)
        if CHAMPION in going_on:
            self.guard.restore(state.guard, champion)
            if self.freshening is not None and state.freshening is not None and same["freshness"]:
                self.freshening.restore(state.freshening, champion)
        if same["task"]:
            if same["buffer"]:
                self.buffer.restore(state.buffer)
            else:
                refill(self.buffer, rested["buffer"], state.buffer, self._model, champion)
            if self.balance is not None and state.balance is not None:
                self.balance.restore(state.balance)
        self.kept = state.kept
        self._decisions.told = state.kept.decisions

    def figures(self) -> dict[str, Any]:
        kept = self.kept
        found = {
            "learners": self.roster.figures(),
            "buffer": self.buffer.figures(),
            "copies": self.milestones.figures(),
            "guard": self.guard.figures(),
            "traffic": self.traffic.figures(),
            "paused": bool(kept.pauses),
            "learned": kept.learned,
            "forgotten": kept.forgotten,
            "unlearnable": kept.unlearnable,
            "too_large": kept.too_large,
            "decisions": self._decisions.told,
        }
        parts = {"trials": self.trials, "balance": self.balance, "freshness": self.freshening}
        return found | {name: part.figures() for name, part in parts.items() if part is not None}
