"""Settings of learning: what learns, when, from what, and what guards it (`learn` of a model).

Owns their shapes and defaults; refuses to know what a learner is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias, get_args

import msgspec

from learners import choosing, trials
from learners.influence import InfluencePlan
from learners.metrics import Task
from learners.plans import GuardPlan, Settings
from stream import limits
from stream.units import Duration, FalseAlarms, LearnerSpec

CHAMPION: Final = "champion"
BASELINE: Final = "baseline"
PREVIOUS: Final = "previous"
"""The champion before this one."""

RIVAL: Final = "rival"
"""A fresh learner like the champion, started after an alert from what has come since the change."""

PARTS: Final = frozenset({CHAMPION, BASELINE, PREVIOUS, RIVAL})
"""Parts that learners play; no challenger may have such a name."""


class Buffer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    kind: Literal["reservoir", "recent", "balanced", "prioritised"] = "reservoir"
    bytes: int = limits.REPLAY_BYTES
    replay: int = 0
    """Examples drawn from the buffer and learned again with every new one."""


Action: TypeAlias = Literal["ignore", "pause", "freeze", "adapt", "reset", "warm_start", "challenge"]


MISSING: Final = "missing"


class Respond(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an alert does to learning, by its kind; of broken data, by whether values are wrong or only `missing`.

    `pause`: learn nothing until it is resolved, and forget what was learned since the data broke; `freeze`: the same
    until a person resumes; `adapt`: what the policy does (triggered: start over, the others: go on); `reset`: start
    from nothing; `warm_start`: start over from the buffer's examples since the change; `challenge`: start a rival of
    the champion from them, in shadow.
    """

    data_quality: Action = "pause"
    missing: Action = "ignore"
    """What is missing teaches nothing wrong: learners go by the rest. In a year of flights a sensor that was out for an
    eighth of the rows had learning wait for 18 days, and accuracy fell from .75 to .35 meanwhile."""
    covariate_drift: Action = "adapt"
    label_drift: Action = "adapt"
    concept_drift: Action = "adapt"
    prediction_drift: Action = "ignore"
    label_delay: Action = "ignore"
    business_drift: Action = "ignore"
    fairness: Action = "ignore"
    operations: Action = "ignore"

    def to(self, kind: str, fault: str | None = None) -> Action:
        """`fault`: of broken data, how (the evidence of its alert)."""
        action: Action = getattr(self, MISSING if kind == "data_quality" and fault == MISSING else kind)
        return action


class Outcome(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A business figure of label events, the larger the better, and the range that it is clipped to."""

    value: str
    low: float
    high: float


class Trial(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How challengers are tried: by tests that may be looked at at any time (`learners.trials`).

    `metrics`: the first decides, all of them guard: loss (wrong or not; absolute error), brier, log_loss. `alpha`: the
    chance that any challenger rises that is no better. `margin`: by how much it must be better, `tolerance`: by how
    much a guarded figure may be worse. `ramp`: shares of the traffic that it is served one after the other; empty
    promotes it straight from shadow. `approve`: what waits for a person: canary, promoted. `outcome`: a business figure
    that must not suffer while traffic is split. `every`: labels between two looks. `entity`: the tag or feature that
    says whom a prediction is about, by default the traffic's unit; it is told where the same is on both sides (F56).
    """

    metrics: tuple[str, ...] = ("loss",)
    alpha: float = 0.05
    margin: float = 0.0
    tolerance: float = 0.0
    ramp: tuple[float, ...] = (0.05, 0.25, 0.5)
    labels_min: int = 500
    labels_max: int | None = 50_000
    then: Literal["retire", "stay"] = "stay"
    approve: tuple[Literal["canary", "promoted"], ...] = ()
    probation_labels: int = 5_000
    outcome: Outcome | None = None
    every: int = 100
    entity: str = ""


class HoldoutShare(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A share of the traffic that the same learner always serves, so that what learning is worth can be told."""

    share: float
    learner: str = BASELINE


class Traffic(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is served by whom, beside trials and bandits. `unit`: the tag or feature whose value decides, so that one
    person always meets the same learner; by default each prediction is its own. `explore`: the share that is spread
    evenly over champion and challengers, whatever they are worth (F38)."""

    unit: str = ""
    explore: float = 0.0
    holdout: HoldoutShare | None = None


class Bandit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Traffic goes to champion and challengers by what they earn. `reward`: a business figure of label events; by
    default 1 where the served answer was right, 0 where it was wrong. `settings`: see `learners.bandits`."""

    kind: Literal["thompson", "ucb", "epsilon_greedy", "fixed"] = "thompson"
    reward: str | None = None
    settings: Settings = Settings()


class Freshness(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How fast the champion ages: frozen copies of these ages answer beside it (`learners.freshness`). `update_cost`:
    what an update costs, in any unit; `price`: loss, summed over examples, that one unit is worth. One example in
    `every` is answered by the copies."""

    ages: list[Duration]
    update_cost: float = 1.0
    price: float = 1.0
    every: int = 4


class Balance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rare classes learned as much as frequent ones (`learners.imbalance`): by weight, by leaving frequent ones out, or
    by learning rare ones again. Scores then are those of a world in which classes are as frequent as they were made."""

    kind: Literal["weight", "under", "over"] = "weight"


class LabelRate(FalseAlarms, frozen=True):
    """Labels that people can give: `40 per day`, or `50 per 1000 events`."""

    @classmethod
    def read(cls, value: Any) -> LabelRate:
        try:
            rate = FalseAlarms.read(value)
        except ValueError:
            raise ValueError(f"{value!r} is not a rate; write '40 per day' or '50 per 1000 events'") from None
        return cls(rate.number, rate.seconds, rate.events)


BY_CHANCE: Final = 0.2
"""Of the budget, where `ask.by` is one name: what makes estimates for all events possible."""


class Ask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which predictions people are asked to label, where they cannot label all (`learners.choosing`). `labels`: how
    many they can. `by`: what makes a label worth asking for, uncertainty, committee, diversity or random, or their
    shares, `{committee: 0.5, diversity: 0.3, random: 0.2}`; one name has four fifths, and chance the rest."""

    labels: LabelRate
    by: str | dict[str, float] = "uncertainty"

    @property
    def mixture(self) -> dict[str, float]:
        if not isinstance(self.by, str):
            return self.by
        return {self.by: 1.0} if self.by == "random" else {self.by: 1.0 - BY_CHANCE, "random": BY_CHANCE}


METRICS: Final[Mapping[str, tuple[str, ...]]] = {
    "binary": ("loss", "error", "brier", "log_loss"),
    "multiclass": ("loss", "error", "brier", "log_loss"),
    "regression": ("loss", "absolute"),
}
"""What challengers may be compared by, by task; `loss` is the task's own."""


class Learn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    policy: Literal["off", "manual", "scheduled", "triggered", "online"] = "online"
    champion: LearnerSpec = LearnerSpec("experts", {})
    challengers: dict[str, LearnerSpec] = {}
    every: Duration = Duration(86_400.0)
    """Scheduled policy: event time between updates from the buffer."""
    buffer: Buffer = Buffer()
    publish: int = 500
    """Examples learned between two published snapshots."""
    seed: int = 1
    respond: Respond = Respond()
    trial: Trial | None = None
    bandit: Bandit | None = None
    traffic: Traffic = Traffic()
    # Calibration is part of the loss already. Margins that are twice those of GuardPlan: where concepts come and go, a
    # model that follows them is often a little worse than the one before, for a while.
    guard: GuardPlan | None = GuardPlan(ece_max=None, margin=0.03, probation_margin=0.05)
    influence: InfluencePlan | None = None
    balance: Balance | None = None
    freshness: Freshness | None = None
    importance: bool | int = False
    """What the champion goes by (`stream.stages.weighing`); a number: examples learned for each question asked."""
    ask: Ask | None = None


def plan_of(settings: Trial, challengers: int) -> trials.TrialPlan:
    """What the configuration asks for, for so many challengers at once."""
    outcome = None if settings.outcome is None else (settings.outcome.low, settings.outcome.high)
    return trials.TrialPlan(
        metrics=tuple(trials.Metric(name, 1.0, settings.tolerance) for name in settings.metrics),
        alpha=settings.alpha,
        margin=settings.margin,
        ramp=settings.ramp,
        labels_min=settings.labels_min,
        labels_max=settings.labels_max,
        then=settings.then,
        approve=settings.approve,
        probation_labels=settings.probation_labels,
        outcome=outcome,
        challengers=challengers,
    )


def choosing_plan(task: Task, ask: Ask, shard: int, shards: int) -> choosing.Plan:
    """What one of the shards is to ask for: labels of a period are divided among them, those left over one each."""
    labels, mixture = ask.labels, {by: ask.mixture[by] for by in get_args(choosing.By) if by in ask.mixture}
    if labels.events is not None:
        return choosing.Plan(task, mixture, share=labels.number / labels.events)
    assert labels.seconds is not None
    own, left = divmod(int(labels.number), shards)
    return choosing.Plan(task, mixture, per_period=own + (shard < left), period_s=labels.seconds)


def faults(at: str, task: str, learn: Learn, partitions: int) -> Iterator[str]:
    """Everything that is wrong with the settings together, each with its path."""
    for name in learn.challengers:
        if name in PARTS:
            yield f"{at}.challengers.{name}: the name is taken; call the challenger something else"
    if learn.buffer.kind == "balanced" and task == "regression":
        yield f"{at}.buffer.kind: balanced needs classes, and this is a regression; write reservoir"
    if learn.balance is not None and task == "regression":
        yield f"{at}.balance: needs classes, and this is a regression"
    ages = [] if learn.freshness is None else learn.freshness.ages
    if learn.freshness is not None and (not ages or ages != sorted(set(ages)) or ages[0] <= 0):
        yield f"{at}.freshness.ages: give positive ages in rising order, such as [1h, 2h, 4h]"
    if learn.importance is not False and learn.importance < 1:
        yield f"{at}.importance: write true, or how many examples to learn for each question asked, at least 1"
    if learn.trial is not None and learn.bandit is not None:
        yield f"{at}.bandit: a trial and a bandit would both split the traffic; give one of them"
    yield from _trial_faults(f"{at}.trial", task, learn)
    yield from _traffic_faults(f"{at}.traffic", learn)
    if learn.ask is not None:
        yield from _ask_faults(f"{at}.ask", task, learn, learn.ask, partitions)
    bandit = learn.bandit
    if bandit is not None and not learn.challengers:
        yield f"{at}.bandit: there are no challengers to choose from"
    if bandit is not None and bandit.reward is None and task == "regression" and bandit.settings.rewards == "unit":
        yield f"{at}.bandit.settings.rewards: the reward of a regression is minus its absolute error; write real"


def _trial_faults(at: str, task: str, learn: Learn) -> Iterator[str]:
    if learn.trial is None:
        return
    for name in learn.trial.metrics:
        if name not in METRICS[task]:
            yield f"{at}.metrics: no metric {name!r} of a {task} task; there are: {', '.join(METRICS[task])}"
    if learn.trial.every < 1:
        yield f"{at}.every: at least 1"
    yield from (f"{at}.{fault}" for fault in trials.faults(plan_of(learn.trial, len(learn.challengers) + 1)))


def _traffic_faults(at: str, learn: Learn) -> Iterator[str]:
    traffic, holdout = learn.traffic, learn.traffic.holdout
    if not 0.0 <= traffic.explore < 1.0:
        yield f"{at}.explore: a share from 0 to less than 1"
    if traffic.explore and learn.trial is not None:
        yield f"{at}.explore: a trial has its own shares; explore with challengers alone, or with a bandit's floor"
    if holdout is not None and not 0.0 < holdout.share < 1.0:
        yield f"{at}.holdout.share: a share between 0 and 1"
    known = (BASELINE, *learn.challengers)
    if holdout is not None and holdout.learner not in known:
        yield f"{at}.holdout.learner: no learner {holdout.learner!r}; there are: {', '.join(known)}"


def _ask_faults(at: str, task: str, learn: Learn, ask: Ask, partitions: int) -> Iterator[str]:
    labels, shares = ask.labels, ask.mixture
    known = get_args(choosing.By)
    if learn.policy == "off":
        yield f"{at}: a model that does not learn is not asked, and so has no doubts; give a policy"
    for by in shares:
        if by not in known:
            yield f"{at}.by: no way to choose named {by!r}; there are: {', '.join(known)}"
    if not all(0.0 <= share < math.inf for share in shares.values()) or not sum(shares.values()) > 0.0:
        yield f"{at}.by: give shares of at least 0 that are not all 0, such as {{uncertainty: 0.8, random: 0.2}}"
    if task == "regression" and shares.get("uncertainty"):
        yield f"{at}.by: a regression tells no uncertainty; write committee, diversity or random"
    if shares.get("committee") and not learn.challengers:
        yield f"{at}.by: a committee is champion and challengers, and there are no challengers"
    if labels.events is not None and labels.number > labels.events:
        yield f"{at}.labels: more labels than events"
    if labels.events is None and labels.number != int(labels.number):
        yield f"{at}.labels: a whole number of labels per period"
    elif labels.events is None and labels.number < partitions:
        yield (
            f"{at}.labels: each of {partitions} partitions (topics.partitions) asks for its part, at least 1 label; "
            f"allow {partitions}, or take a longer period"
        )
