"""What a detector is, and what it eats. Knows numpy arrays and plain values; nothing of topics, events or models.

A **stream** is one monitored quantity: a feature, the share of missing values, a score, a delayed loss. A detector
watches a group of streams together, because the false alarms that a person accepts are one number over all of them.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

Kind = Literal["numeric", "categorical", "rate", "loss"]
"""`rate` is a 0/1 quantity watched in both directions, `loss` a 0/1 or bounded one of which only increases matter."""


class Stream(msgspec.Struct, frozen=True):
    """One monitored quantity; `weight` is its share of the budget relative to the others of its group."""

    name: str
    kind: Kind
    weight: float = 1.0


class Bins(msgspec.Struct, frozen=True):
    """How a quantity becomes a small integer. Numeric: `edges` (K-1 ascending; bin k holds edges[k-1] < x <= edges[k]).
    Categorical: `categories` (code k), everything else is code len(categories). Rate and loss: edges [0.5]."""

    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return len(self.edges) + 1 if self.edges or not self.categories else len(self.categories) + 1


class Rows(NamedTuple):
    """Observations in their canonical order; n rows of d streams.

    time_s: (n,) float64, event-time seconds, non-decreasing. codes: (n, d) int32 bin of each value, -1 missing or not
    applicable. values: (n, d) float64, NaN missing (for a categorical stream its code).
    """

    time_s: NDArray[np.float64]
    codes: NDArray[np.int32]
    values: NDArray[np.float64]

    def __len__(self) -> int:  # rows, not fields
        return len(self.time_s)

    def part(self, start: int, end: int) -> Rows:
        return Rows(self.time_s[start:end], self.codes[start:end], self.values[start:end])


class Budget(msgspec.Struct, frozen=True):
    """False alarms accepted over a whole group: `number` per `seconds` of event time or per `events` rows."""

    number: float
    seconds: float | None = None
    events: float | None = None

    def wage(self, rows: float, elapsed_s: float) -> float:
        """What the group may spend for so many rows in so much event time."""
        if self.events:
            return self.number * rows / self.events
        if self.seconds:
            return self.number * elapsed_s / self.seconds
        raise ValueError("a budget is per seconds or per events")


class Alarm(msgspec.Struct):
    """One stream's evidence has crossed the line. `since_s` estimates when the change began (event time), between
    `since_low_s` and `since_high_s`; `what` says in words how it changed ('level up', 'share of category 3 down')."""

    stream: int
    name: str
    judge: str
    what: str
    at_s: float
    since_s: float
    since_low_s: float
    since_high_s: float
    evidence: float
    threshold: float = 1.0
    details: dict[str, float] = {}


class Detector(Protocol):
    """Watches one group of streams. Deterministic: the same rows, however they are cut into calls, give the same
    alarms. Randomised scores draw from a generator keyed by (seed, stream, block number), never from a global one."""

    def fit(self, bins: list[Bins], reference: Rows) -> None:
        """Learn what is normal; the reference rows are part of the stream and must not be given again."""

    def update(self, rows: Rows) -> list[Alarm]:
        """Take the next rows, return the alarms they cause. An alarmed stream starts over by itself."""

    def snapshot(self) -> bytes:
        """The whole state, bins included."""

    def restore(self, state: bytes) -> None:
        """Become the detector whose snapshot this is; replaces `fit`."""

    def status(self) -> str:
        """For people: 'learning the season: 12 of 28 days', 'watching'."""
