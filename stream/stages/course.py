"""The course of one model's learning: what each example, alert and command does to its learners.

Owns the order in which an example is judged, tried, guarded and learned, and what is done about an alert. Refuses to
know topics' partitions and bytes (`stream.stages.learn`) and how a change is made (`stream.stages.steering`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from learners import replay, snapshots
from learners.assignment import Routing
from learners.contract import Said
from learners.influence import Influence
from learners.policies import POLICIES, RELEARN_MIN, Item, Update, decode, encode
from stream import config
from stream.contract import DECISIONS, Output
from stream.errors import InputFault, StateError
from stream.events import Alert, Command, Decision, Example
from stream.learning import CHAMPION
from stream.stages.admission import Admission, AdmissionState
from stream.stages.publishing import Signing, moment
from stream.stages.roster import Served
from stream.stages.steering import Steering, SteeringState
from stream.stages.weighing import Weighing
from stream.windows.leaks import Sides

FIRING: Final = frozenset({"firing", "revised", "acknowledged"})

COMMANDS_MAX: Final = 1_000
"""Ids of commands that are remembered, so that a repeated one is not obeyed twice."""

ANSWERED_MAX: Final = 100
"""Open alerts of which it is remembered what was done for them, the newest; a model has far fewer."""


class Kept(msgspec.Struct):
    """What is no part with a state of its own."""

    seen: int = 0
    corrections: int = 0
    skipped: int = 0
    commands: list[str] = []
    answered: dict[str, str] = {}


class CourseState(msgspec.Struct):
    """`made_for`: the settings that the parts rest on (`stream.stages.fitting`)."""

    made_for: dict[str, str]
    kept: Kept
    admission: AdmissionState
    steering: SteeringState
    policy: bytes
    influence: bytes | None = None
    weighing: bytes | None = None
    sides: Sides = msgspec.field(default_factory=Sides)


class Course:
    """One model. Each method takes one event and appends what it causes."""

    def __init__(self, name: str, model: config.Model, signing: Signing | None) -> None:
        assert model.learn is not None
        learn = model.learn
        self._name = name
        self._model = model
        self._learn = learn
        self._steering = Steering(name, model, signing)
        self._admission = Admission(name, model, self._steering.roster)
        self._policy = POLICIES[learn.policy](learn.buffer.bytes, float(learn.every), learn.publish)
        self._influence = None if learn.influence is None else Influence(model.task, learn.influence)
        self._weighing = None if learn.importance is False else Weighing(name, model)
        self._entity = "" if learn.trial is None else learn.trial.entity or learn.traffic.unit
        self._sides = Sides()
        self.kept = Kept(commands=[])

    @property
    def served(self) -> Mapping[str, Served]:
        return self._steering.roster.served

    @property
    def routing(self) -> Routing | None:
        return self._steering.traffic.routing

    # -- examples -----------------------------------------------------------------------------------------------------

    def example(self, example: Example, out: list[Output]) -> None:
        """Score it with every learner, then learn what the policy says. Raises InputFault where it cannot be used."""
        item = self._admission.item(example)
        kept, steering = self.kept, self._steering
        kept.seen += 1
        kept.corrections += example.revision > 0
        steering.settle(item.at, out)
        if steering.kept.pauses:
            kept.skipped += 1
            steering.pass_by(item.at, out)
            return
        due = self._policy.due(item.at)
        if due is not None:
            self._update(due, item.at, None, out)
        said = self._admission.said(example)
        answers = self._judge(item, said, example.prediction.is_typical)
        answer = answers.get(CHAMPION)
        if self._influence is not None and answer is not None:
            item = self._weighed(example, item, answer)
        self._compare(example, item, answers, None if CHAMPION in said else answer, out)
        if self._weighing is not None:
            self._importance(example, item, out)
        if self._entity:
            self._overlap(example, item.at, out)
        faults = [fault for now in self._policy.example(item) for fault in steering.teach(now)]
        if faults:
            raise InputFault("unlearnable", "; ".join(faults))
        buffer = steering.buffer
        loss = replay.loss(self._model.task, answer, item.y) if buffer.asks_loss and answer is not None else None
        buffer.add(encode(item), item.y, loss)
        steering.look(item.at, out)
        steering.offer(item.at, out)

    def _judge(self, item: Item, said: Mapping[str, Said], is_typical: bool) -> dict[str, Said]:
        """What each learner said of the example when it was asked, or says now, before it learns it."""
        answers = {}
        for part, pupil in self._steering.roster.pupils.items():
            answer = pupil.judge(item, said.get(part), is_typical)
            if answer is not None:
                answers[part] = answer
        return answers

    def _weighed(self, example: Example, item: Item, said: Said) -> Item:
        """The example with the weight that its source has earned."""
        assert self._influence is not None
        if example.implicit:
            return item
        weight = self._influence.weigh(example.label_source, item.y, said, item.weight)
        return item if weight == item.weight else Item(item.x, item.y, weight, item.at, item.lag)

    def _compare(
        self, example: Example, item: Item, answers: Mapping[str, Said], now: Said | None, out: list[Output]
    ) -> None:
        """What the answers say of challengers and of arms, if the example is typical, and of the champion beside the
        last good one. `now` is the champion's answer, unless it was given long ago."""
        steering = self._steering
        if example.prediction.is_typical:
            if steering.trials is not None:
                steering.trials.take(example, item.y, answers)
            steering.traffic.take(example, item.y, answers)
        steering.refresh(item, out)
        failed = steering.guard.watch(example, item, steering.roster.champion, now)
        if failed is not None:
            steering.turn_back("rollback", failed, item.at, None, out)

    def _importance(self, example: Example, item: Item, out: list[Output]) -> None:
        """What the champion goes by (F55), asked before it learns; a corrected example it has learned already."""
        assert self._weighing is not None
        if not example.revision:
            roster = self._steering.roster
            told = self._weighing.watch(item, roster.champion.learner, roster.version)
            if told is not None:
                out.append(Output(DECISIONS, self._name, told))

    def _overlap(self, example: Example, at: float, out: list[Output]) -> None:
        """Whether the same entity is on both sides of the trial that splits the traffic (F56)."""
        trials, routing = self._steering.trials, self.routing
        shares = None if trials is None else trials.shares()
        if shares is None or routing is None or example.revision:
            return
        found = self._sides.take(example, self._entity, shares, routing)
        if found is not None:
            name, learner, last = self._name, self._sides.learner, self._sides.last
            told = Decision(
                decision_id=f"{name}-overlap-{routing.number}", model=name, action="overlap", at=moment(at),
                learner=learner, why={"why": found.words, **last},
            )  # fmt: skip
            out.append(Output(DECISIONS, name, told))

    def _update(self, update: Update | None, at: float, cause: str | None, out: list[Output]) -> None:
        if update is not None and update.reset:
            self._admission.forget()
        self._steering.update(update, at, cause, out)

    # -- alerts -------------------------------------------------------------------------------------------------------

    def alert(self, alert: Alert, out: list[Output]) -> None:
        """Do what the configuration says of an alert of this kind (`learn.respond`)."""
        action = self._learn.respond.to(alert.kind, alert.evidence.get("fault"))
        since = None if alert.since is None else _seconds(alert.since.estimate)
        if alert.status == "resolved":
            self.kept.answered.pop(alert.alert_id, None)
            if action != "freeze":
                self._let_go(alert, out)
        elif action in ("pause", "freeze"):
            self._halt(alert, since, out)
        elif action != "ignore" and not alert.slice and not self._steering.kept.pauses and self._is_news(alert, action):
            self._renew(action, since, _seconds(alert.at), alert.alert_id, out)

    def _is_news(self, alert: Alert, action: str) -> bool:
        """Whether it has fired, or what it says now asks for something else than was done: drift that began in one
        slice and is everywhere, or that is called otherwise since labels came."""
        answered = self.kept.answered
        if alert.status not in FIRING or (alert.status != "firing" and answered.get(alert.alert_id) == action):
            return False
        self.kept.answered = dict([*answered.items(), (alert.alert_id, action)][-ANSWERED_MAX:])
        return True

    def _let_go(self, alert: Alert, out: list[Output]) -> None:
        """What the alert has stopped goes on, of whatever kind it is called by now."""
        why, cause = {"alert": alert.summary, "skipped": self.kept.skipped}, alert.alert_id
        self._steering.resume([cause], _seconds(alert.at), cause, why, out)

    def _halt(self, alert: Alert, since: float | None, out: list[Output]) -> None:
        """Stop learning, and forget what was learned since the data broke. A trifle (F09) stops nothing."""
        steering, at, cause = self._steering, _seconds(alert.at), alert.alert_id
        why = {"alert": alert.summary}
        if alert.status in FIRING and alert.severity != "information":
            paused = bool(steering.kept.pauses)
            steering.pause(cause, at, cause, why, out)
            if not paused and since is not None:
                steering.go_back(steering.milestones.before(since), at, cause, why | {"broken_since": since}, out)

    def _renew(self, action: str, since: float | None, at: float, cause: str, out: list[Output]) -> None:
        """Adapt to a change: as the policy does, from nothing, from the examples since, or by a rival that must prove
        itself first."""
        if action == "adapt":
            self._update(self._policy.ask("alert", since), at, cause, out)
        elif action == "reset":
            self._update(Update("alert", [], reset=True), at, cause, out)
        elif action == "warm_start":
            items = self._since(since)
            self._update(Update("alert", items, reset=True) if items else None, at, cause, out)
        elif action == "challenge":
            self._steering.challenge(self._since(since), at, cause, out)

    def _since(self, since: float | None) -> list[Item]:
        """Examples of the buffer in their order: those since a change if there are enough of them, else all."""
        items = sorted(map(decode, self._steering.buffer.items), key=lambda item: item.at)
        after = [item for item in items if since is not None and item.at >= since]
        return after if len(after) >= RELEARN_MIN else items

    # -- commands -----------------------------------------------------------------------------------------------------

    def command(self, command: Command, at: float, out: list[Output]) -> None:
        """Obey a person, once; actions that are not learning's are others'. Raises InputFault."""
        if command.command_id in self.kept.commands:
            return
        expires = command.expires_at
        if expires is not None and at > (expires.timestamp() if isinstance(expires, datetime) else expires):
            raise InputFault("expired", f"command {command.command_id} expired before it was written")
        obey = _ACTIONS.get(command.action)
        if obey is not None:
            obey(self, command, {"issued_by": command.issued_by} | command.arguments, at, out)
            self.kept.commands = [*self.kept.commands, command.command_id][-COMMANDS_MAX:]

    def _order_update(self, command: Command, why: dict[str, Any], at: float, out: list[Output]) -> None:
        self._update(self._policy.ask("command", None), at, command.command_id, out)

    def _order_relearn(self, command: Command, why: dict[str, Any], at: float, out: list[Output]) -> None:
        """Start over from the buffer."""
        items = self._since(None)
        self._update(Update("command", items, reset=True) if items else None, at, command.command_id, out)

    def _order_publish(self, command: Command, why: dict[str, Any], at: float, out: list[Output]) -> None:
        self._steering.publish(at, out)

    def _order_pause(self, command: Command, why: dict[str, Any], at: float, out: list[Output]) -> None:
        self._steering.pause(command.command_id, at, command.command_id, why, out)

    def _order_resume(self, command: Command, why: dict[str, Any], at: float, out: list[Output]) -> None:
        """All reasons to pause are over; with `learner`, a trial that was halted goes on."""
        if "learner" in command.arguments:
            self._order_trial(command, why, at, out)
            return
        steering = self._steering
        steering.resume(list(steering.kept.pauses), at, command.command_id, why | {"skipped": self.kept.skipped}, out)

    def _order_promote(self, command: Command, why: dict[str, Any], at: float, out: list[Output]) -> None:
        self._steering.promote(self._learner(command), at, command.command_id, why, out)

    def _order_roll_back(self, command: Command, why: dict[str, Any], at: float, out: list[Output]) -> None:
        self._steering.roll_back(at, command.command_id, why, out)

    def _order_trial(self, command: Command, why: dict[str, Any], at: float, out: list[Output]) -> None:
        self._steering.order(command.action, self._learner(command), at, command.command_id, why, out)

    def _learner(self, command: Command) -> str:
        """Whom a command means (`arguments: {learner: NAME}`). Raises InputFault."""
        learner = command.arguments.get("learner")
        if not isinstance(learner, str):
            parts = ", ".join(self._steering.roster.pupils)
            raise InputFault(command.action, f"say which learner: arguments {{learner: NAME}}, one of {parts}")
        return learner

    # -- the contract's rest ------------------------------------------------------------------------------------------

    def digests(self) -> dict[str, str]:
        return self._steering.roster.digests()

    def state(self) -> CourseState:
        influence = None if self._influence is None else self._influence.snapshot()
        weighing = None if self._weighing is None else self._weighing.snapshot()
        return CourseState(
            self._steering.made_for, self.kept, self._admission.state, self._steering.state(), self._policy.snapshot(),
            influence, weighing, self._sides,
        )  # fmt: skip

    def restore(self, state: CourseState) -> None:
        """What rests on other settings begins anew; all of it where the model has another task. Raises StateError."""
        self.kept = state.kept
        try:
            self._steering.restore(state.steering, state.made_for)
            if state.made_for["task"] != self._steering.made_for["task"]:
                return
            self._policy.restore(state.policy)
            if self._influence is not None and state.influence is not None:
                self._influence.restore(state.influence)
            if self._weighing is not None and state.weighing is not None:
                self._weighing.restore(state.weighing)
        except snapshots.SnapshotError as error:
            raise StateError(f"state of learn, model {self._name}: {error}") from error
        self._admission.state = state.admission
        self._sides = state.sides

    def figures(self) -> dict[str, Any]:
        kept = self.kept
        found = self._steering.figures() | {
            "policy": self._learn.policy,
            "waiting": self._policy.waiting(),
            "seen": kept.seen,
            "corrections": kept.corrections,
            "skipped": kept.skipped,
            "leaks": self._admission.state.leaks,
        }
        if self._entity:
            found["overlap"] = self._sides.figures()
        if self._weighing is not None:
            found["importance"] = self._weighing.figures()
        return found if self._influence is None else found | {"sources": self._influence.figures()}


_ACTIONS: Final = {
    "update": Course._order_update,
    "relearn": Course._order_relearn,
    "publish": Course._order_publish,
    "pause": Course._order_pause,
    "resume": Course._order_resume,
    "promote": Course._order_promote,
    "rollback": Course._order_roll_back,
    "approve": Course._order_trial,
    "reject": Course._order_trial,
    "halt": Course._order_trial,
    "retire": Course._order_trial,
}
"""What a person can order of learning."""


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
