"""The life of a challenger: shadow, a growing share of traffic, promotion, probation, or the way out.

Own the states, who may follow whom, and what evidence each step asks for. Refuse to know models, events and topics:
losses and counts come in, at most one `Step` at a time goes out, and whoever serves does what it says. `at` is any
number that does not go back, such as event time.

Two comparisons run side by side. The **paired** one uses the losses of both models on the same examples, which are to
be had as both score everything; it decides. The **split** one uses the outcome of the arm that was served, with its
propensity, where what is served changes what happens; it guards, and so does the count of the arms.

What is promised, with the plan's alpha and n challengers tried at once (`learners.sequential` says why):

* with probability 1 - alpha none of the n ever gets a step up while its average expected advantage so far is at most
  `margin`, however often the evidence is looked at, drift or not;
* with probability 1 - alpha, for each challenger, no guard removes it although it was at least as good as its
  `tolerance` allows, on average over the step it is in. Guards of losses start afresh at each step, so that old merits
  do not hide a new fault; alpha is shared among the steps and the guarded figures;
* with probability 1 - alpha a sound split is not called broken. Each `resume` gives the last two their chance to err
  once more.

Orders of people are outside of these promises.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from learners.contract import SnapshotError
from learners.packing import unpacked
from learners.ratio import SampleRatio
from learners.sequential import Differences
from learners.values import ValueDifference

Floats = NDArray[np.float64]
State: TypeAlias = Literal["shadow", "canary", "awaiting", "promoted", "champion", "retired", "rolled_back", "halted"]
Command: TypeAlias = Literal["approve", "reject", "promote", "roll_back", "halt", "resume", "retire"]

TRANSITIONS: Final[Mapping[State, frozenset[State]]] = {
    "shadow": frozenset({"canary", "promoted", "awaiting", "retired", "halted"}),
    "canary": frozenset({"canary", "promoted", "awaiting", "retired", "halted"}),
    "awaiting": frozenset({"canary", "promoted", "retired", "halted"}),
    "promoted": frozenset({"champion", "rolled_back"}),
    "halted": frozenset({"shadow", "retired"}),
    "champion": frozenset(),
    "retired": frozenset(),
    "rolled_back": frozenset(),
}
"""shadow: scores, is not served. canary: is served a share of the ramp. awaiting: as before, until a person has
decided. promoted: is served everything, the old champion scores on as the previous one. halted: not served until a
person resumes. The trial is over as champion (probation passed), retired, or rolled_back (the previous one serves)."""

ORDERS: Final[Mapping[Command, Mapping[State, State]]] = {
    "approve": {"awaiting": "canary"},  # or promoted: whichever step is waiting
    "reject": {"awaiting": "retired"},
    "promote": {"shadow": "promoted", "canary": "promoted", "awaiting": "promoted"},
    "roll_back": {"promoted": "rolled_back", "canary": "halted", "awaiting": "halted"},
    "halt": {"shadow": "halted", "canary": "halted", "awaiting": "halted", "promoted": "rolled_back"},
    "resume": {"halted": "shadow"},
    "retire": {"shadow": "retired", "canary": "retired", "awaiting": "retired", "halted": "retired"},
}
"""What people, and guardrails outside of the trial, may order. After halt or roll_back the champion, or the previous
one, serves everything. Blue-green is `promote` and `roll_back`."""

SHARE_TOLERANCE: Final = 1e-9
"""Shares come back from a log, in which 1 - 0.95 is not 0.05."""

METRICS_MAX: Final = 32
RAMP_MAX: Final = 32
"""Bound the state; the guards share one alpha, so many of them see little."""


class Metric(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A loss, the smaller the better. Differences are divided by `scale` and clipped to [-1, 1]: 1 for 0/1 and Brier
    loss; for others the largest difference that shall count, say three times the champion's mean loss. Guards bear
    with a loss that is larger by `tolerance`."""

    name: str = "loss"
    scale: float = 1.0
    tolerance: float = 0.0


class TrialPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a trial asks for. The first metric decides, all of them guard.

    `margin`: by how much the challenger must be better, in units of the first metric; negative, down to minus its
    tolerance: by how much it may be worse. `ramp`: rising shares of traffic; empty promotes straight from shadow.
    `labels_min`: before each step up, of examples asked since the last step. `labels_max`: labels in all, after which
    a trial without evidence is over, or goes on (`then`). `approve`: what a person must approve, the first share
    ("canary"), the promotion ("promoted"), or both. `outcome`: range of an outcome, the larger the better, guarded
    while traffic is split. `challengers`: tried at once against the same champion.
    """

    metrics: tuple[Metric, ...] = (Metric(),)
    alpha: float = 0.05
    margin: float = 0.0
    ramp: tuple[float, ...] = (0.05, 0.25, 0.5)
    labels_min: int = 500
    labels_max: int | None = 50_000
    then: Literal["retire", "stay"] = "retire"
    approve: tuple[Literal["canary", "promoted"], ...] = ()
    probation_labels: int = 5_000
    outcome: tuple[float, float] | None = None
    challengers: int = 1


def faults(plan: TrialPlan) -> list[str]:
    """Everything that is wrong with a plan, each with its name and what is wanted."""
    names = [metric.name for metric in plan.metrics]
    steps = (0.0, *plan.ramp, 1.0)
    demands = {
        f"metrics: 1 to {METRICS_MAX} of different names": 1 <= len(names) <= METRICS_MAX
        and len(dict.fromkeys(names)) == len(names),
        "metrics.scale: above 0": all(metric.scale > 0 for metric in plan.metrics),
        "metrics.tolerance: at least 0": all(metric.tolerance >= 0 for metric in plan.metrics),
        "alpha: between 0 and 1": 0 < plan.alpha < 1,
        "margin: at least minus the first metric's tolerance, or its guard retires what the test would promote":
            not plan.metrics or plan.margin >= -plan.metrics[0].tolerance,
        f"ramp: at most {RAMP_MAX} rising shares between 0 and 1": len(plan.ramp) <= RAMP_MAX
        and all(a < b for a, b in itertools.pairwise(steps)),
        "labels_min: at least 1": plan.labels_min >= 1,
        "labels_max: at least labels_min, or null": plan.labels_max is None or plan.labels_max >= plan.labels_min,
        "approve: no canary without a ramp": "canary" not in plan.approve or bool(plan.ramp),
        "probation_labels: at least 1": plan.probation_labels >= 1,
        "outcome: [low, high] with low < high, and a ramp": plan.outcome is None
        or (plan.outcome[0] < plan.outcome[1] and bool(plan.ramp)),
        "challengers: at least 1": plan.challengers >= 1,
    }  # fmt: skip
    return [demand for demand, met in demands.items() if not met]


class Step(msgspec.Struct, frozen=True):
    """One move of the life cycle: from when on the challenger is served which share, and why.

    `why`: better, worse, worse_outcome, sample_ratio, no_difference, probation_passed, or the command. `evidence`:
    figures as they stood, log e-values among them.
    """

    at: float
    state_from: State
    state_to: State
    share: float
    why: str
    evidence: dict[str, float]


class _Split(NamedTuple):
    """Examples on which either model could have been served."""

    served: NDArray[np.bool_]
    shares: Floats
    outcomes: Floats | None


def _split(n: int, served: ArrayLike, shares: ArrayLike, outcomes: ArrayLike | None, floor: float) -> _Split:
    """Checked, before anything is taken: where one of the models could not have been served there is nothing to
    compare. `floor`: the smallest share of either that the plan knows."""
    arms = np.atleast_1d(np.asarray(served)).astype(bool)
    share = np.atleast_1d(np.asarray(shares, np.float64))
    values = None if outcomes is None else np.atleast_1d(np.asarray(outcomes, np.float64))
    if len(arms) != n or len(share) != n or (values is not None and len(values) != n):
        raise ValueError(f"{n} examples, and not as many of served, shares and outcomes")
    both = (share > 0) & (share < 1)
    smallest = np.minimum(share, 1.0 - share)[both]
    if not ((share >= 0) & (share <= 1)).all() or (smallest < floor - SHARE_TOLERANCE).any():
        raise ValueError(
            f"a share is no number from 0 to 1, or leaves a model less than the {floor} of the plan's ramp"
        )
    if values is not None and not np.isfinite(values).all():
        raise ValueError("an outcome is no finite number; leave out what is not known yet")
    return _Split(arms[both], share[both], None if values is None else values[both])


class _State(msgspec.Struct):
    state: State = "shadow"
    place: int = -1
    """In the ramp; -1 before it."""
    waiting: Literal["canary", "promoted"] | None = None
    entered_at: float = -math.inf
    clipped: int = 0
    evidence: tuple[bytes, ...] = ()


class Trial:
    """One challenger against one champion, by the names they had when the trial began.

    Feed `take` with labelled examples in order, and `check` as often as you like. The challenger is judged by its
    average, childhood included: begin when it has learned from a buffer what it can. Raises ValueError where the plan
    has faults.
    """

    def __init__(self, plan: TrialPlan) -> None:
        found = faults(plan)
        if found:
            raise ValueError("trial: " + "; ".join(found))
        self.plan = plan
        self._state = _State()
        self._scales = np.array([metric.scale for metric in plan.metrics])
        self._tolerances = np.array([metric.tolerance for metric in plan.metrics]) / self._scales
        self._floor = min(*plan.ramp, *(1.0 - share for share in plan.ramp), 0.5, 0.5)
        self._whole = Differences(len(plan.metrics))
        self._start_step()
        self._start_split()

    @property
    def state(self) -> State:
        return self._state.state

    @property
    def over(self) -> bool:
        return not TRANSITIONS[self.state]

    @property
    def share(self) -> float:
        """Of the traffic that the challenger is to be served."""
        if self.state in ("promoted", "champion"):
            return 1.0
        return self.plan.ramp[self._state.place] if self._state.place >= 0 else 0.0

    def take(
        self,
        champion: ArrayLike,
        challenger: ArrayLike,
        asked: ArrayLike = math.inf,
        served: ArrayLike | None = None,
        shares: ArrayLike | None = None,
        outcomes: ArrayLike | None = None,
    ) -> None:
        """One labelled example or n of them, in order: (m,) or (n, m) losses of each model by the plan's m metrics.

        `asked`: when it was predicted; examples asked before the present step count for the whole, not for the step.
        `served`: whether the challenger's answer was the one that was used; `shares`: with which probability, among the
        two; `outcomes`: what came of it. Raises ValueError. Does nothing once the trial is over.
        """
        if self.over:
            return
        before, after = (np.atleast_2d(np.asarray(losses, np.float64)) for losses in (champion, challenger))
        wanted = (len(before), len(self.plan.metrics))
        if not before.shape == after.shape == wanted or not (np.isfinite(before).all() and np.isfinite(after).all()):
            raise ValueError(f"losses of shapes {before.shape} and {after.shape}; finite ones of both models are "
                             f"wanted, by {', '.join(metric.name for metric in self.plan.metrics)}")  # fmt: skip
        split = None if served is None or shares is None else _split(len(before), served, shares, outcomes, self._floor)
        scaled = (before - after) / self._scales
        differences = np.clip(scaled, -1.0, 1.0)
        since = np.broadcast_to(np.asarray(asked, np.float64), len(before)) >= self._state.entered_at
        self._whole.take(differences)
        self._state.clipped += int((differences != scaled).sum())
        if since.any():
            self._step.take(differences[since])
        if split is not None and len(split.served):
            self._take_split(split)

    def _take_split(self, split: _Split) -> None:
        share = split.shares
        self._ratio.take(split.served.astype(np.int64), np.column_stack([1.0 - share, share]))
        if self._value is not None and split.outcomes is not None:
            propensities = np.maximum(np.where(split.served, share, 1.0 - share), self._floor)
            self._value.take(np.where(split.served, 1, -1), split.outcomes, propensities)

    def check(self, at: float) -> Step | None:
        """The step that the evidence asks for now, taken; None where things stay as they are."""
        if self.over or self.state == "halted":
            return None
        return self._guarded(at) or self._forward(at)

    def order(self, command: Command, at: float) -> Step:
        """Do as a person, or a guardrail outside, says. Raises ValueError where the command does not fit the state."""
        to = ORDERS[command].get(self.state)
        if to is None:
            raise ValueError(f"{command} does not fit a trial that is {self.state}; {command} is for "
                             f"{', '.join(ORDERS[command])}")  # fmt: skip
        if command == "approve" and self._state.waiting is not None:
            to = self._state.waiting
        if command == "resume":
            self._start_split()
        return self._move(to, at, command)

    def _guarded(self, at: float) -> Step | None:
        out: State = "rolled_back" if self.state == "promoted" else "retired"
        if (self._worse() >= self._guard_evidence()).any():
            return self._move(out, at, "worse")
        if self.state in ("canary", "awaiting"):
            if self._ratio.log_e() >= -math.log(self.plan.alpha):
                return self._move("halted", at, "sample_ratio")
            if self._value is not None and self._value.below() >= self._guard_evidence():
                return self._move(out, at, "worse_outcome")
        return None

    def _forward(self, at: float) -> Step | None:
        plan = self.plan
        if self.state == "promoted":
            return self._move("champion", at, "probation_passed") if self._step.n >= plan.probation_labels else None
        if self.state == "awaiting":
            return None
        if self._better() < math.log(plan.challengers / plan.alpha):
            ends = plan.labels_max is not None and self._whole.n >= plan.labels_max and plan.then == "retire"
            return self._move("retired", at, "no_difference") if ends else None
        if self._step.n < plan.labels_min:
            return None
        to: Literal["canary", "promoted"] = "canary" if self._state.place + 1 < len(plan.ramp) else "promoted"
        if to in plan.approve and (to == "promoted" or self._state.place < 0):
            self._state.waiting = to
            return self._move("awaiting", at, "better")
        return self._move(to, at, "better")

    def _move(self, to: State, at: float, why: str) -> Step:
        s = self._state
        assert to in TRANSITIONS[s.state], f"{s.state} may not become {to}"
        evidence = self.evidence()
        came, s.state = s.state, to
        if to != "awaiting":
            s.waiting = None
            s.place = s.place + 1 if to == "canary" else -1
            s.entered_at = float(at)
            self._start_step()
        return Step(float(at), came, to, self.share, why, evidence)

    def evidence(self) -> dict[str, float]:
        """What there is to show: labels, the first metric's mean difference and its confidence sequence (positive:
        the challenger is better), and log e-values: `better`, `worse` of each metric, `sample_ratio`, `outcome`."""
        scale = float(self._scales[0])
        low, high = self._whole.interval(self.plan.alpha)[:, 0] * scale
        found = {
            "labels": float(self._whole.n),
            "labels_step": float(self._step.n),
            "difference": float(self._whole.means[0]) * scale,
            "low": float(low),
            "high": float(high),
            "clipped": float(self._state.clipped),
            "better": self._better(),
            "sample_ratio": self._ratio.log_e(),
        }
        for metric, worse in zip(self.plan.metrics, self._worse().tolist(), strict=True):
            found[f"worse.{metric.name}"] = worse
        if self._value is not None:
            low, high = self._value.interval(self.plan.alpha)
            found |= {"outcome": self._value.mean, "outcome_low": low, "outcome_high": high}
        return found

    def _better(self) -> float:
        return float(self._whole.above(self.plan.margin / float(self._scales[0]))[0])

    def _worse(self) -> Floats:
        """(m,) log e-values against each metric being within its tolerance, over the present step."""
        return self._step.below(-self._tolerances)

    def _guard_evidence(self) -> float:
        """Shadow, each share and probation have their guards, of every metric and of the outcome."""
        guards = (len(self.plan.ramp) + 2) * (len(self.plan.metrics) + (self._value is not None))
        return math.log(guards / self.plan.alpha)

    def _start_step(self) -> None:
        self._step = Differences(len(self.plan.metrics))

    def _start_split(self) -> None:
        self._ratio = SampleRatio(2)
        self._value: ValueDifference | None = None
        if self.plan.outcome is not None:
            self._value = ValueDifference(*self.plan.outcome, self._floor)

    def _parts(self) -> tuple[Differences | SampleRatio | ValueDifference, ...]:
        parts = (self._whole, self._step, self._ratio)
        return parts if self._value is None else (*parts, self._value)

    def snapshot(self) -> bytes:
        evidence = tuple(part.snapshot() for part in self._parts())
        return msgspec.msgpack.encode(msgspec.structs.replace(self._state, evidence=evidence))

    def restore(self, state: bytes) -> None:
        """Become the trial of the same plan whose snapshot this is. Raises SnapshotError, and stays what it was."""
        read: _State = unpacked(state, _State, "a trial")
        fresh = Trial(self.plan)
        if len(read.evidence) != len(fresh._parts()) or not -1 <= read.place < len(self.plan.ramp):
            raise SnapshotError("the state of a trial with another plan; restore it under the plan it was made with")
        for part, own in zip(fresh._parts(), read.evidence, strict=True):
            part.restore(own)
        fresh._state = msgspec.structs.replace(read, evidence=())
        self.__dict__ = fresh.__dict__
