"""What a learner is. Knows dicts of features and labels; nothing of topics, events or time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

FeatureDict: TypeAlias = Mapping[str, Any]
Label: TypeAlias = bool | int | float | str


class Said(NamedTuple):
    """A learner's answer. Binary: `prediction` 0 or 1, `score` the probability of 1. Multi-class: `score` the
    probability of the predicted class, `probabilities` of all. Regression: `prediction` a number, the rest None."""

    prediction: Label
    score: float | None = None
    probabilities: dict[str, float] | None = None


class Learner(Protocol):
    """One model that learns one example at a time. Deterministic: the same examples give the same state and answers in
    any process, whatever PYTHONHASHSEED."""

    updates: int
    """Examples learned since it was made."""

    def predict(self, x: FeatureDict) -> Said:
        """Answer without learning; leaves the state's behaviour as it is."""

    def learn(self, x: FeatureDict, y: Label, weight: float = 1.0, lag: int = 0) -> None:
        """Take one example in. `lag` is how many others it has learned since it answered this one: what a mixture needs
        to judge its experts by what they said then."""

    def snapshot(self) -> bytes:
        """The whole state. Opened again only through learners.snapshots, inside a signed envelope."""

    def restore(self, state: bytes) -> None:
        """Become the learner whose snapshot this is, bit for bit. Only for bytes of trusted origin."""

    def digest(self) -> str:
        """Identifies the state by value: equal before and after a round trip, whatever the process."""


class SnapshotError(ValueError):
    """Bytes that are not a snapshot of ours: tampered, of another kind, or naming what may not be loaded."""
