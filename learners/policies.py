"""When to learn, and from what: online, scheduled, triggered, manual.

A policy is shown every example and every reason to update, and answers with what to learn now. Owns what waits to be
learned. Refuses to know learners, events and topics; `at` is any number that does not go back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias

import msgspec

from learners.buffers import Recent
from learners.contract import Label
from learners.packing import unpacked

RELEARN_MIN: Final = 100
"""Fewer examples than this since an estimated change are not enough to start a model from; then all are taken."""

Why: TypeAlias = Literal["schedule", "first", "alert", "command", "policy"]


class Item(msgspec.Struct, array_like=True):
    """One example as it waits: features, label, weight, when it was complete, and how many others had been learned
    since it was predicted."""

    x: dict[str, Any]
    y: Label
    weight: float
    at: float
    lag: int = 0


class Update(NamedTuple):
    """Learn these in order, as a new version; `reset` first where the old is to be forgotten."""

    why: Why
    items: list[Item]
    reset: bool = False


class Policy(Protocol):
    """Three of these are the spectrum between a person's order and every single example."""

    def example(self, item: Item) -> list[Item]:
        """Show one example; what to learn of at once, as part of the present version."""

    def due(self, at: float) -> Update | None:
        """Whether an update falls due before an example of this time is taken."""

    def ask(self, why: Why, since: float | None) -> Update | None:
        """An alert or a command asks for an update; `since` is when the change is thought to have begun."""

    def snapshot(self) -> bytes: ...

    def restore(self, state: bytes) -> None:
        """Go on where this or another policy was: what that one has collected still waits. Raises SnapshotError."""

    def waiting(self) -> int:
        """Examples collected and not learned yet."""


_ITEM: Final = msgspec.msgpack.Decoder(Item)
encode: Final[Callable[[Item], bytes]] = msgspec.msgpack.Encoder().encode


def decode(item: bytes) -> Item:
    return _ITEM.decode(item)


class _Collected(msgspec.Struct, array_like=True):
    unlearned: int
    next_at: float | None
    started: bool
    recent: bytes


class Online:
    """Every example at once; an order to update finds nothing waiting. What a policy that collects has left is learned
    first, as one update."""

    def __init__(self) -> None:
        self._left = b""

    def example(self, item: Item) -> list[Item]:
        return [item]

    def due(self, at: float) -> Update | None:
        if not self._left:
            return None
        items, self._left = self._unlearned(), b""
        return Update("policy", items) if items else None

    def ask(self, why: Why, since: float | None) -> Update | None:
        return None

    def _unlearned(self) -> list[Item]:
        if not self._left:
            return []
        before = Collecting(0)
        before.restore(self._left)
        return before.unlearned_items()

    def snapshot(self) -> bytes:
        return self._left

    def restore(self, state: bytes) -> None:
        """Raises SnapshotError."""
        self._left = state
        self._unlearned()

    def waiting(self) -> int:
        return len(self._unlearned())


class Collecting:
    """Collects, and learns the batch when a person orders it (manual), or on an alert or a schedule besides.

    `every`: an update falls due when so much of `at` has passed since the last one. `first`: the very first update
    falls due at so many examples. On an alert the model starts over from the newest examples, those since the change
    if there are enough of them; these stay collected, in case the next alert comes soon.
    """

    def __init__(self, bytes_max: int, every: float | None = None, first: int | None = None) -> None:
        self.every = every
        self.first = first
        self.recent = Recent(bytes_max)
        self.unlearned = 0
        self.next_at: float | None = None
        self.started = False

    def example(self, item: Item) -> list[Item]:
        self.recent.add(encode(item))
        self.unlearned = min(self.unlearned + 1, len(self.recent))
        if self.every is not None and self.next_at is None:
            self.next_at = item.at + self.every
        return []

    def due(self, at: float) -> Update | None:
        if self.next_at is not None and self.every is not None and at >= self.next_at:
            steps = (at - self.next_at) // self.every + 1
            self.next_at += steps * self.every
            return self._batch("schedule")
        if self.first is not None and not self.started and self.unlearned >= self.first:
            return self._batch("first")
        return None

    def ask(self, why: Why, since: float | None) -> Update | None:
        if why == "command":
            return self._batch("command")
        if self.first is None or not len(self.recent):
            return None
        items = [decode(item) for item in self.recent.items]
        after = [item for item in items if since is not None and item.at >= since]
        self.started = True
        self.unlearned = 0
        return Update("alert", after if len(after) >= RELEARN_MIN else items, reset=True)

    def _batch(self, why: Why) -> Update | None:
        """What has not been learned yet. Only the triggered policy keeps it, to start over from."""
        items = self.unlearned_items()
        if not items:
            return None
        if self.first is None:
            self.recent.take_all()
        self.unlearned = 0
        self.started = True
        return Update(why, items)

    def unlearned_items(self) -> list[Item]:
        """What waits, the oldest first."""
        return [decode(item) for item in list(self.recent.items)[len(self.recent) - self.unlearned :]]

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(_Collected(self.unlearned, self.next_at, self.started, self.recent.snapshot()))

    def restore(self, state: bytes) -> None:
        """The online policy leaves nothing. Raises SnapshotError."""
        if not state:
            return
        read: _Collected = unpacked(state, _Collected, "a policy")
        self.unlearned, self.next_at, self.started = read.unlearned, read.next_at, read.started
        self.recent.restore(read.recent)

    def waiting(self) -> int:
        return self.unlearned


def _triggered(bytes_max: int, every: float, first: int) -> Policy:
    return Collecting(bytes_max, first=first)


POLICIES: Final[Mapping[str, Callable[[int, float, int], Policy]]] = {
    "online": lambda bytes_max, every, first: Online(),
    "manual": lambda bytes_max, every, first: Collecting(bytes_max),
    "scheduled": lambda bytes_max, every, first: Collecting(bytes_max, every=every),
    "triggered": _triggered,
}
"""Policy by name: (bytes it may hold, event time between updates, examples before the first update)."""
