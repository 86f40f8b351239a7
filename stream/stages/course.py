"""The course of one model's learning: its learners, when they learn, when they stop, what is published of them.

Owns what decides: the check that nothing is learned before it was predicted (F23), the pause while data is broken, the
version numbers. Refuses to know topics' partitions and bytes (`stream.stages.learn`) and the learners' insides.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from learners import snapshots
from learners.buffers import Reservoir
from learners.contract import Label, Said
from learners.policies import POLICIES, Item, Update, decode, encode
from stream import config, limits
from stream.contract import DECISIONS, SNAPSHOTS, Output
from stream.errors import InputFault, StateError
from stream.events import Alert, Command, Decision, Example, ModelSnapshot, Prediction, Vote
from stream.joining.rules import Rules
from stream.stages.pupil import BASELINE, CHAMPION, Pupil, PupilState, Served, specs

__all__ = ["BASELINE", "CHAMPION", "Course", "CourseState", "Served", "Signing", "specs"]

UNTRAINED: Final = "0"
"""The version under which a learner answers that no snapshot has reached."""

FIRING: Final = frozenset({"firing", "revised", "acknowledged"})
DRIFTS: Final = frozenset({"concept_drift", "covariate_drift", "label_drift"})
"""Alerts on which the triggered policy starts over."""

PAUSES_MAX: Final = 1_000
"""Alerts of broken data that a model can wait for at once; more of them change nothing."""

NUMBER_MAX: Final = 1e100
"""One larger number in an example would leave most models without an answer for ever."""

COMMANDS_MAX: Final = 1_000
"""Ids of commands that are remembered, so that a repeated one is not obeyed twice."""

ENVELOPE_BYTES_MAX: Final = 8_388_608
"""A larger snapshot is not published, and counted: no broker would take it."""


class Signing(NamedTuple):
    """What snapshots are signed with, and the configuration that they come from."""

    key: bytes
    key_id: str
    config_hash: str


class Kept(msgspec.Struct):
    """Everything of a course that is not a learner, a buffer or a policy. `kinds` says of each feature whether it is a
    number, text or a list, settled by the first value."""

    version: int = 0
    seen: int = 0
    learned: int = 0
    unpublished: int = 0
    corrections: int = 0
    skipped: int = 0
    unlearnable: int = 0
    leaks: int = 0
    too_large: int = 0
    decisions: int = 0
    first_at: float | None = None
    last_at: float | None = None
    pauses: list[str] = []
    commands: list[str] = []
    kinds: dict[str, str] = {}


class CourseState(msgspec.Struct):
    kept: Kept
    pupils: dict[str, PupilState]
    buffer: bytes
    policy: bytes


class Course:
    """One model. Each method takes one event and appends what it causes."""

    def __init__(self, name: str, model: config.Model, signing: Signing | None) -> None:
        assert model.learn is not None
        self._name = name
        self._model = model
        self._rules = Rules.of(0, name, model)
        self._learn = model.learn
        self._signing = signing
        self._pupils = {n: Pupil(n, spec, model.task, model.learn.seed) for n, spec in specs(model).items()}
        self._buffer = Reservoir(model.learn.buffer.bytes, model.learn.seed)
        bytes_max, every, first = model.learn.buffer.bytes, float(model.learn.every), model.learn.publish
        self._policy = POLICIES[model.learn.policy](bytes_max, every, first)
        self.kept = Kept(version=1 if model.learn.policy == "online" else 0, pauses=[], commands=[], kinds={})
        self.served: dict[str, Served] = {}
        self._serve()

    def example(self, example: Example, out: list[Output]) -> None:
        """Score it with every learner, then learn what the policy says. Raises InputFault where it cannot be used."""
        features, y = example.prediction.features, self._label(example.label)
        item = Item(features, y, example.weight, example.completed, self._lag(example.prediction))
        self._check_kinds(item)
        self._check_leaks(example)
        kept = self.kept
        kept.seen += 1
        kept.corrections += example.revision > 0
        if kept.pauses:
            kept.skipped += 1
            return
        self._update(self._policy.due(item.at), item.at, None, out)
        said = _said(example)
        for name, pupil in self._pupils.items():
            pupil.judge(item, said.get(name))
        faults = [fault for now in self._policy.example(item) for fault in self._teach(now)]
        if faults:
            kept.unlearnable += 1
            raise InputFault("unlearnable", "; ".join(faults))
        self._buffer.add(encode(item))
        if kept.unpublished >= self._learn.publish:
            self._publish(item.at, out)

    def alert(self, alert: Alert, out: list[Output]) -> None:
        """Broken data pauses learning until it is resolved; drift may make the model start over."""
        at = _seconds(alert.at)
        if alert.kind == "data_quality" and self._learn.pause_on_data_quality:
            if alert.status in FIRING and alert.severity != "information":
                self._pause(alert.alert_id, at, alert.alert_id, {"alert": alert.summary}, out)
            elif alert.status == "resolved":
                self._resume([alert.alert_id], at, alert.alert_id, {"alert": alert.summary}, out)
        elif alert.kind in DRIFTS and alert.status == "firing" and not alert.slice and not self.kept.pauses:
            since = _seconds(alert.since.estimate) if alert.since else None
            self._update(self._policy.ask("alert", since), at, alert.alert_id, out)

    def command(self, command: Command, at: float, out: list[Output]) -> None:
        """`update`, `relearn` (start over from the buffer), `publish`, `pause`, `resume`; other actions are others'."""
        if command.command_id in self.kept.commands:
            return
        expires = command.expires_at
        if expires is not None and at > (expires.timestamp() if isinstance(expires, datetime) else expires):
            raise InputFault("expired", f"command {command.command_id} expired before it was written")
        why = {"issued_by": command.issued_by} | command.arguments
        if command.action == "update":
            self._update(self._policy.ask("command", None), at, command.command_id, out)
        elif command.action == "relearn":
            items = sorted(map(decode, self._buffer.items), key=lambda item: item.at)
            self._update(Update("command", items, reset=True) if items else None, at, command.command_id, out)
        elif command.action == "publish":
            self._publish(at, out)
        elif command.action == "pause":
            self._pause(command.command_id, at, command.command_id, why, out)
        elif command.action == "resume":
            self._resume(list(self.kept.pauses), at, command.command_id, why, out)
        else:
            return
        self.kept.commands = [*self.kept.commands, command.command_id][-COMMANDS_MAX:]

    def _label(self, label: Label) -> Label:
        """As the join and watch read it; learners want a binary one as 0 or 1."""
        try:
            read = self._rules.read(label)
        except ValueError as error:
            raise InputFault("label", f"label: {error}") from None
        return int(read) if self._model.task == "binary" else read

    def _lag(self, prediction: Prediction) -> int:
        """How many examples were learned since this was predicted; 0 where someone else predicted it."""
        if prediction.model_updates is None or prediction.model_version not in (str(self.kept.version), UNTRAINED):
            return 0
        return max(self._pupils[CHAMPION].learner.updates - prediction.model_updates, 0)

    def _check_kinds(self, item: Item) -> None:
        """A number that becomes text would raise in the middle of a model's update: refuse it before."""
        kinds = self.kept.kinds
        new: dict[str, str] = {}
        for name, value in item.x.items():
            if value is None:
                continue
            kind = _KINDS[type(value)]
            known = kinds.get(name)
            if known is None:
                new[name] = kind
            elif known != kind:
                raise InputFault("features", f"features.{name} is {kind}; in the first example it was {known}")
            if kind == "a number" and abs(value) > NUMBER_MAX:
                raise InputFault("features", f"features.{name} is {value:.3g}; its square is no number")
        if len(kinds) + len(new) > limits.FEATURES_MAX:
            raise InputFault("features", f"features.{next(iter(new))} is one more than {limits.FEATURES_MAX} names")
        kinds |= new

    def _check_leaks(self, example: Example) -> None:
        """F23: whoever predicted must not have learned more by then than the learner has learned now, before it
        learns this example."""
        said: list[tuple[str, Prediction | Vote]] = [(CHAMPION, example.prediction)]
        said += [(vote.learner, vote) for vote in example.votes]
        for name, one in said:
            pupil = self._pupils.get(name)
            if pupil is None or one.model_updates is None:
                continue
            version = one.model_version
            newer = version.isdecimal() and int(version) > self.kept.version
            if newer or (version == str(self.kept.version) and one.model_updates > pupil.learner.updates):
                self.kept.leaks += 1
                pupil.kept.leaks += 1
                raise InputFault(
                    "leak",
                    f"{name} predicted at version {version} with {one.model_updates} updates, but stands at "
                    f"version {self.kept.version} with {pupil.learner.updates}: it may have learned this example",
                )

    def _teach(self, item: Item) -> list[str]:
        """All learners, and what is replayed with it; a learner that fails is as it was before."""
        kept = self.kept
        faults = [fault for pupil in self._pupils.values() if (fault := pupil.learn(item))]
        for old in self._buffer.draw(self._learn.buffer.replay, kept.learned):
            for pupil in self._pupils.values():
                pupil.learn(decode(old))
        kept.learned += 1
        kept.unpublished += 1
        kept.first_at = item.at if kept.first_at is None else kept.first_at
        kept.last_at = item.at
        return faults

    def _update(self, update: Update | None, at: float, cause: str | None, out: list[Output]) -> None:
        """A batch, as a new version."""
        if update is None:
            return
        before = self._standing()
        if update.reset:
            for pupil in self._pupils.values():
                pupil.start_over()
            self.kept.first_at = None
            self.kept.kinds = {}  # the first value of a feature may have been the wrong one
        for item in update.items:
            self.kept.unlearnable += bool(self._teach(item))
        self.kept.version += 1
        self._serve()
        why = {"why": update.why, "examples": len(update.items), "started_over": update.reset}
        self._decide("relearn" if update.reset else "update", at, cause, why, before, out)
        self._publish(at, out)

    def _pause(self, reason: str, at: float, cause: str, why: dict[str, Any], out: list[Output]) -> None:
        pauses = self.kept.pauses
        if reason in pauses or len(pauses) >= PAUSES_MAX:
            return
        pauses.append(reason)
        if len(pauses) == 1:
            self._decide("pause", at, cause, why, self._standing(), out)

    def _resume(self, reasons: list[str], at: float, cause: str, why: dict[str, Any], out: list[Output]) -> None:
        was_paused = bool(self.kept.pauses)
        self.kept.pauses = [reason for reason in self.kept.pauses if reason not in reasons]
        if was_paused and not self.kept.pauses:
            self._decide("resume", at, cause, why | {"skipped": self.kept.skipped}, self._standing(), out)

    def _standing(self) -> dict[str, Any]:
        return {"version": str(self.kept.version), "updates": self._pupils[CHAMPION].learner.updates}

    def _decide(
        self, action: str, at: float, cause: str | None, why: dict[str, Any], before: dict[str, Any], out: list[Output]
    ) -> None:
        self.kept.decisions += 1
        decision = Decision(
            decision_id=f"{self._name}-learn-{self.kept.decisions}",
            model=self._name,
            action=action,
            at=_moment(at),
            why=why,
            before=before,
            after=self._standing() | {"paused": bool(self.kept.pauses)},
            causation_id=cause,
        )
        out.append(Output(DECISIONS, self._name, decision))

    def _publish(self, at: float, out: list[Output]) -> None:
        self.kept.unpublished = 0
        if self._signing is None:
            return
        for name, pupil in self._pupils.items():
            lineage = {
                "parent": pupil.kept.published,
                "from": None if self.kept.first_at is None else _moment(self.kept.first_at),
                "to": None if self.kept.last_at is None else _moment(self.kept.last_at),
                "config": self._signing.config_hash,
                "metrics": pupil.kept.metrics.values(),
            }
            version, updates = str(self.kept.version), pupil.learner.updates
            header = pupil.header(self._name, version, lineage)
            envelope = snapshots.seal(header, pupil.remember(), self._signing.key, self._signing.key_id)
            if len(envelope) > ENVELOPE_BYTES_MAX:
                self.kept.too_large += 1
                continue
            pupil.kept.published = f"{version}@{updates}"
            pupil.kept.snapshots += 1
            event = ModelSnapshot(
                model=self._name,
                learner=name,
                version=version,
                updates=updates,
                at=_moment(at),
                envelope=envelope,
                lineage=lineage,
            )
            out.append(Output(SNAPSHOTS, f"{self._name}/{name}", event))

    def _serve(self) -> None:
        version = str(self.kept.version)
        for name, pupil in self._pupils.items():
            self.served[name] = Served(pupil.learner, version)

    def digests(self) -> dict[str, str]:
        return {name: pupil.learner.digest() for name, pupil in self._pupils.items()}

    def state(self) -> CourseState:
        pupils = {name: pupil.state() for name, pupil in self._pupils.items()}
        return CourseState(self.kept, pupils, self._buffer.snapshot(), self._policy.snapshot())

    def restore(self, state: CourseState) -> None:
        """Raises StateError."""
        try:
            for name, pupil in self._pupils.items():
                if name in state.pupils:
                    pupil.restore(state.pupils[name])
            self._buffer.restore(state.buffer)
            self._policy.restore(state.policy)
        except snapshots.SnapshotError as error:
            raise StateError(f"state of learn, model {self._name}: {error}") from error
        self.kept = state.kept
        self._serve()

    def figures(self) -> dict[str, Any]:
        kept = self.kept
        return {
            "learners": {name: pupil.figures(str(kept.version)) for name, pupil in self._pupils.items()},
            "buffer": self._buffer.figures(),
            "policy": self._learn.policy,
            "waiting": self._policy.waiting(),
            "paused": bool(kept.pauses),
            "seen": kept.seen,
            "learned": kept.learned,
            "corrections": kept.corrections,
            "skipped": kept.skipped,
            "unlearnable": kept.unlearnable,
            "leaks": kept.leaks,
            "too_large": kept.too_large,
            "decisions": kept.decisions,
        }


_KINDS: Final = {bool: "a number", int: "a number", float: "a number", str: "text", list: "a list"}


def _said(example: Example) -> dict[str, Said]:
    """What our learners said of it; somebody else's champion has no `model_updates`, and is not ours to judge."""
    said = {v.learner: Said(v.prediction, v.score, v.probabilities) for v in example.votes}
    own = example.prediction
    if own.model_updates is not None:
        said[CHAMPION] = Said(own.prediction, own.score, own.probabilities)
    return said


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
