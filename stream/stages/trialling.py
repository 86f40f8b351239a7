"""Trials of the challengers of one model: which of them is tried, on what evidence it moves, and whose traffic it gets.

Owns which losses are compared and that one challenger at a time leaves the shadow. Refuses to know how evidence becomes
a step (`learners.trials`) and how a step changes the parts (`stream.stages.course`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from learners import replay
from learners.contract import Label, Said
from learners.metrics import Task
from learners.packing import unpacked
from learners.trials import SHARE_TOLERANCE, Command, Step, Trial
from stream import learning
from stream.config import Model
from stream.errors import InputFault
from stream.events import Example
from stream.learning import CHAMPION, PREVIOUS
from stream.stages.roster import STANDING, Roster

OUT: Final = frozenset({"canary", "awaiting", "promoted"})
"""States in which a challenger has left the shadow."""

ERROR_SCALE: Final = 3.0
"""Regression: differences of absolute errors count up to so many mean absolute errors of the champion so far."""

LOG_LOSS_MIN: Final = 1e-6
"""Log losses are bounded, or one certain mistake would decide a trial."""


ACTIONS: Final = {
    "canary": "canary", "awaiting": "await_approval", "promoted": "promote", "champion": "confirm",
    "retired": "retire", "rolled_back": "rollback", "halted": "halt", "shadow": "shadow",
}  # fmt: skip
"""What a step of a trial is called among the decisions."""


class Moved(NamedTuple):
    """A step of one challenger's trial."""

    part: str
    step: Step

    def why(self) -> dict[str, Any]:
        step = self.step
        return {"why": step.why, "from": step.state_from, "share": step.share, "evidence": step.evidence}


class Row(msgspec.Struct, array_like=True):
    """One labelled example of one trial: losses of champion and challenger, when it was asked, whether the challenger
    was served and its share where traffic was split between the two, and what came of it."""

    champion: list[float]
    challenger: list[float]
    asked: float
    served: bool | None
    share: float
    outcome: float | None


class _Place(msgspec.Struct):
    """Of the state of a trial, where in the ramp it stands."""

    place: int = -1


class TrialsState(msgspec.Struct):
    """`labels` since the evidence was last looked at; `error` is the sum of the champion's absolute errors."""

    trials: dict[str, bytes] = {}
    labels: int = 0
    n: int = 0
    error: float = 0.0


class Trials:
    """One trial for each challenger that is not served yet, and one for the promoted one while it is on probation."""

    def __init__(self, model: Model, settings: learning.Trial, roster: Roster) -> None:
        assert model.learn is not None
        self._task = model.task
        self._settings = settings
        self._roster = roster
        self._state = TrialsState()
        self.plan = learning.plan_of(settings, len(model.learn.challengers) + 1)
        self._holdout = model.learn.traffic.holdout.share if model.learn.traffic.holdout else 0.0
        self._floor = min([0.5, *settings.ramp, *(1.0 - share for share in settings.ramp)]) - SHARE_TOLERANCE
        self._metrics = [_LOSSES[self._task, name] for name in settings.metrics]
        self._trials: dict[str, Trial] = {}
        self._rows: dict[str, list[Row]] = {}
        self.enter()

    def enter(self) -> None:
        """A trial for every challenger that has none; none for parts that are gone."""
        parts = [part for part in self._roster.pupils if part not in STANDING]
        known = {part: trial for part, trial in self._trials.items() if part in parts or part == CHAMPION}
        self._trials = {**known, **{part: Trial(self.plan) for part in parts if part not in known}}

    def restart(self, promoted: str | None = None) -> None:
        """The champion has changed: everybody is compared with the new one. The trial of who was promoted goes on, as
        the champion's, against the one before."""
        self._rows = {}
        going_on = {} if promoted is None else {CHAMPION: self._trials[promoted]}
        self._trials = going_on
        self.enter()

    def take(self, example: Example, item_y: Label, answers: Mapping[str, Said]) -> None:
        """What each said of one labelled example."""
        state, served = self._state, example.prediction
        state.labels += 1
        champion = answers.get(CHAMPION)
        if champion is not None and self._task == "regression":
            state.n += 1
            state.error += abs(float(champion.prediction) - float(item_y))
        for part, trial in self._trials.items():
            before, after = answers.get(PREVIOUS if part == CHAMPION else CHAMPION), answers.get(part)
            if before is None or after is None:
                continue
            scale = self._scaled()
            losses = [[loss(self._task, said, item_y) / scale for loss in self._metrics] for said in (before, after)]
            if not all(map(math.isfinite, losses[0] + losses[1])):
                continue
            was_served, share = self._split(part, trial, served.learner, served.propensity)
            asked = served.event_time if isinstance(served.event_time, float) else math.inf
            row = Row(losses[0], losses[1], asked, was_served, share, self._outcome(example))
            self._rows.setdefault(part, []).append(row)

    def _scaled(self) -> float:
        """What a loss is divided by; 1 for classes."""
        return ERROR_SCALE * self._state.error / self._state.n if self._state.n and self._state.error > 0 else 1.0

    def _split(self, part: str, trial: Trial, served: str, propensity: float | None) -> tuple[bool | None, float]:
        """Whether the challenger was served, and its share among it and the champion; None where traffic was not split
        between the two, or was when the share was another."""
        if trial.state not in ("canary", "awaiting") or propensity is None or served not in (CHAMPION, part):
            return None, 0.0
        own = propensity / (1.0 - self._holdout)
        share = own if served == part else 1.0 - own
        return (served == part, share) if min(share, 1.0 - share) >= self._floor else (None, 0.0)

    def _flush(self) -> None:
        """Take the rows together: one at a time they cost 37 us each, many at once 59 us all together, and how they are
        cut changes nothing (tests/test_trials.py)."""
        for part, rows in self._rows.items():
            for kind in (None, False, True):
                same = [row for row in rows if _kind(row) is kind]
                if part in self._trials and same:
                    _take(self._trials[part], same)
        self._rows = {}

    def _outcome(self, example: Example) -> float | None:
        wanted = self._settings.outcome
        if wanted is None or not math.isfinite(found := example.values.get(wanted.value, math.nan)):
            return None
        return min(max(found, wanted.low), wanted.high)

    def check(self, at: float) -> list[Moved]:
        """Look at the evidence if enough labels have come. While one challenger is out of the shadow the others wait:
        their evidence does not spoil by it."""
        if self._state.labels < self._settings.every:
            return []
        self._state.labels = 0
        self._flush()
        out = [part for part, trial in self._trials.items() if trial.state in OUT]
        moved = []
        for part in out or list(self._trials):
            step = self._trials[part].check(at)
            if step is not None:
                moved.append(Moved(part, step))
                if step.state_to in OUT:
                    break
        return moved

    def order(self, command: Command, part: str, at: float) -> Moved:
        """As a person says. Raises InputFault."""
        self._flush()
        trial = self._trials.get(part)
        if trial is None:
            raise InputFault(command, f"no trial of {part!r}; there are: {', '.join(self._trials) or 'none'}")
        try:
            return Moved(part, trial.order(command, at))
        except ValueError as error:
            raise InputFault(command, str(error)) from error

    @property
    def on_probation(self) -> bool:
        """Whether the champion was promoted not long ago."""
        return CHAMPION in self._trials

    def end(self, part: str) -> None:
        del self._trials[part]

    def shares(self) -> dict[str, float] | None:
        """The arms of the traffic while it is split."""
        for part, trial in self._trials.items():
            if trial.state in ("canary", "awaiting") and trial.share > 0:
                return {CHAMPION: 1.0 - trial.share, part: trial.share}
        return None

    def state(self) -> TrialsState:
        self._flush()
        return msgspec.structs.replace(self._state, trials={part: t.snapshot() for part, t in self._trials.items()})

    def restore(self, state: TrialsState, going_on: Collection[str]) -> None:
        """The trials go on in which both are the same as before, at a step that the ramp still has; others begin anew.
        Raises SnapshotError."""
        self._state = msgspec.structs.replace(state, trials={})
        self._trials, self._rows = {}, {}
        for part, kept in state.trials.items():
            against = PREVIOUS if part == CHAMPION else CHAMPION
            place = unpacked(kept, _Place, "a trial").place
            if part in going_on and against in going_on and place < len(self.plan.ramp):
                self._trials[part] = Trial(self.plan)
                self._trials[part].restore(kept)
        self.enter()

    def figures(self) -> dict[str, Any]:
        """With the evidence of the rows that wait."""
        self._flush()
        return {
            part: {"state": trial.state, "share": trial.share, "evidence": trial.evidence()}
            for part, trial in self._trials.items()
        }


def _kind(row: Row) -> bool | None:
    """None: not split. Else whether its outcome is known."""
    return None if row.served is None else row.outcome is not None


def _take(trial: Trial, rows: Sequence[Row]) -> None:
    """Rows of one kind."""
    champion, challenger = [row.champion for row in rows], [row.challenger for row in rows]
    asked = [row.asked for row in rows]
    kind = _kind(rows[0])
    if kind is None:
        trial.take(champion, challenger, asked)
    else:
        outcomes = [row.outcome for row in rows if row.outcome is not None] if kind else None
        served, shares = [row.served is True for row in rows], [row.share for row in rows]
        trial.take(champion, challenger, asked, served, shares, outcomes)


def _error(task: Task, said: Said, y: Label) -> float:
    return float(said.prediction != y)


def _log_loss(task: Task, said: Said, y: Label) -> float:
    return math.log(max(replay.share_of(task, said, y), LOG_LOSS_MIN)) / math.log(LOG_LOSS_MIN)


_LOSSES: Final[Mapping[tuple[str, str], Callable[[Task, Said, Label], float]]] = {
    **{(task, name): loss for task in ("binary", "multiclass")
       for name, loss in (("loss", _error), ("error", _error), ("brier", replay.loss), ("log_loss", _log_loss))},
    **{("regression", name): replay.loss for name in ("loss", "absolute")},
}  # fmt: skip
"""Losses by task and name (`learning.METRICS`): of classes from 0 to 1, of a regression in its unit."""
