"""What one model's configuration says about joining, laid out for the hot path. Refuses to know what joins.

Owns how a model's labels and predictions read as values: 1 and 0 for a binary task, numbers for a regression, classes
as they are for the rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from learners import weak
from learners.annotators import Vote
from learners.contract import FeatureDict
from learners.weak import WeakRule
from stream.config import Model, Task
from stream.errors import ConfigError
from stream.events import Class

FLUSH_S_MAX = 900.0
"""The longest stretch of event time between two chunks of observations, so that watch learns of silence."""

FLUSH_S_BY_EVENTS = 60.0
"""The same where reporting windows are numbers of events, and no length of time is configured."""

FLUSHES_PER_WINDOW = 4
"""So that a window closes at most a quarter of its length late."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Times in seconds. `index` is the model's place in the configuration, which settles the order of equal marks."""

    index: int
    name: str
    task: Task
    positive: Class
    positive_text: str
    horizon_s: float
    early_s: float
    implicit_after_s: float | None
    implicit_label: Class | None
    implicit_value: Class
    weak: tuple[WeakRule, ...]
    flush_s: float
    slices: tuple[str, ...]
    examples: bool
    annotators: Literal["majority", "weighted", "dawid_skene"] | None = None

    @classmethod
    def of(cls, index: int, name: str, model: Model) -> Rules:
        """Raises ConfigError if the implicit label is none that the task can have."""
        implicit = model.labels.implicit
        flush_s = FLUSH_S_BY_EVENTS
        if model.windows.every:
            flush_s = min(float(model.windows.every) / FLUSHES_PER_WINDOW, FLUSH_S_MAX)
        made = cls(
            index=index,
            name=name,
            task=model.task,
            positive=model.positive,
            positive_text=str(model.positive),
            horizon_s=float(model.labels.horizon),
            early_s=float(model.labels.early),
            implicit_after_s=None if implicit is None else float(implicit.after),
            implicit_label=implicit.label if implicit else None,
            implicit_value=0.0,
            weak=(),
            flush_s=flush_s,
            slices=tuple(dict.fromkeys(name for entry in model.sliced for name in entry)),
            examples=model.examples,
            annotators=model.labels.annotators,
        )
        if implicit is None:
            return made
        rules = [made._reading(rule) for rule in weak.parse(implicit.rules, model.task)[0]]
        try:
            value = 0.0 if implicit.label is None else made.read(implicit.label)
        except ValueError as error:
            raise ConfigError("configuration", [f"models.{name}.labels.implicit.label: {error}"]) from None
        return replace(made, implicit_value=value, weak=tuple(rules))

    def _reading(self, rule: WeakRule) -> WeakRule:
        """The rule with its label as the task reads it; in a binary task it votes 1 or 0, whatever the positive one
        is called."""
        value = float(rule.vote.label) if self.task == "binary" else self.read(rule.vote.label)
        return rule._replace(vote=rule.vote._replace(label=value))

    def votes(self, features: FeatureDict) -> list[Vote]:
        """What the weak rules say of a prediction; nothing where all abstain."""
        return weak.votes(self.weak, features)

    def read(self, value: Class) -> Class:
        """A label or prediction as this task counts it. Raises ValueError, with a reason for people, where it cannot.

        >>> from stream.config import Model
        >>> Rules.of(0, "m", Model(task="binary", positive="late")).read("late")
        1.0
        >>> Rules.of(0, "m", Model(task="binary")).read("1"), Rules.of(0, "m", Model(task="binary")).read(True)
        (1.0, 1.0)
        >>> [Rules.of(0, "m", Model(task="binary", positive="late")).read(said) for said in (1, 0, "on time")]
        [1.0, 0.0, 0.0]
        """
        if self.task == "binary":
            if value == self.positive:
                return 1.0
            if isinstance(value, str) == isinstance(self.positive, str):
                return 0.0
            # Text that reads like the positive label is it: producers differ in whether they write 1 or "1". And a
            # model says 1 whatever word the labels have for it.
            return 1.0 if str(value) == self.positive_text or value == 1 else 0.0
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{value} is not a finite number")
        if self.task == "multiclass":
            return value
        if isinstance(value, str):
            raise ValueError(f"{value[:100]!r} is text where the regression of {self.name!r} needs a number")
        return float(value)
