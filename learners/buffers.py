"""Buffers of past examples, bounded in bytes: the contract, a fair sample, and the newest.

Own what is kept. Refuse to know examples and time: items are bytes, and who puts them in knows what they are. All
choices are keyed by (seed, counter), so a restored buffer goes on exactly as the one that was saved. The table of all
kinds is in `learners.replay`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, ClassVar, Final, Protocol

import msgspec
import xxhash

from learners.contract import Label
from learners.packing import unpacked

ITEM_OVERHEAD: Final = 49
"""Bytes that Python adds to each item: its header and its place in the list."""


def chance(seed: int, purpose: str, counter: int, below: int) -> int:
    """A number in [0, below), the same for the same key in any process; uniform to 2**-64 times `below`."""
    word = xxhash.xxh3_64_intdigest(f"{purpose}:{counter}".encode(), seed=seed & 0xFFFFFFFFFFFFFFFF)
    return (word * below) >> 64


class Buffer(Protocol):
    """What is learned again with new examples. Which items are kept and drawn is the kind's own idea; each is shown
    once. An item larger than the whole buffer is refused and counted."""

    asks_loss: ClassVar[bool]
    """Whether `loss` says anything to it."""

    def add(self, item: bytes, label: Label | None = None, loss: float | None = None) -> None:
        """Show one item with its label and the loss it had when it was predicted; it may or may not be kept. O(log n)
        at most. Raises ValueError where the kind needs what is missing."""

    def draw(self, number: int, counter: int) -> list[bytes]:
        """`number` items with replacement, none from an empty buffer; the same for the same counter and content."""

    @property
    def items(self) -> Sequence[bytes]:
        """What is kept, all of it."""

    def __len__(self) -> int: ...

    def figures(self) -> dict[str, Any]:
        """Counts of items and bytes, and of what was dropped and refused, as plain JSON values."""

    def snapshot(self) -> bytes: ...

    def restore(self, state: bytes) -> None:
        """Raises SnapshotError."""


class _ReservoirState(msgspec.Struct, array_like=True):
    seen: int = 0
    size: int = 0
    full: bool = False
    evicted: int = 0
    refused: int = 0
    items: list[bytes] = []


class Reservoir:
    """A uniform sample of everything seen (Vitter 1985, algorithm R), as many items as fit into `bytes_max`.

    Where a larger item takes the place of a smaller one and the bytes no longer suffice, items are given up at random:
    the rest is still a uniform sample, but for a slight preference of small items. Where there is room again, as when a
    restored buffer may hold more than before, an item that is taken costs no other. So a sample grows in proportion
    to what is seen, no faster: if it took everything, the newest would be in it more often than the others.
    """

    asks_loss: ClassVar[bool] = False

    def __init__(self, bytes_max: int, seed: int) -> None:
        self.bytes_max = bytes_max
        self.seed = seed
        self._state = _ReservoirState(items=[])

    def __len__(self) -> int:
        return len(self._state.items)

    @property
    def items(self) -> list[bytes]:
        """What is kept, in no order that means anything."""
        return self._state.items

    def add(self, item: bytes, label: Label | None = None, loss: float | None = None) -> None:
        """Show one item; it may or may not be kept, whatever its label and loss."""
        s = self._state
        cost = len(item) + ITEM_OVERHEAD
        if cost > self.bytes_max:
            s.refused += 1
            return
        s.seen += 1
        if not s.full and s.size + cost <= self.bytes_max:
            s.items.append(item)
            s.size += cost
        else:
            s.full = True
            place = chance(self.seed, "place", s.seen, s.seen)
            if place < max(len(s.items), 1):
                self._take(item, place)

    def _take(self, item: bytes, place: int) -> None:
        s = self._state
        if s.size + len(item) + ITEM_OVERHEAD <= self.bytes_max:
            s.items.append(item)
            s.size += len(item) + ITEM_OVERHEAD
            return
        s.size += len(item) - len(s.items[place])
        s.items[place] = item
        while s.size > self.bytes_max:
            place = chance(self.seed, "evict", s.evicted, len(s.items))
            s.size -= len(s.items[place]) + ITEM_OVERHEAD
            s.items[place] = s.items[-1]
            s.items.pop()
            s.evicted += 1

    def draw(self, number: int, counter: int) -> list[bytes]:
        """`number` items with replacement; the same for the same counter and content."""
        return drawn(self._state.items, self.seed, number, counter)

    def figures(self) -> dict[str, Any]:
        s = self._state
        return {"items": len(s.items), "bytes": s.size, "bytes_max": self.bytes_max, "seen": s.seen,
                "evicted": s.evicted, "refused": s.refused}  # fmt: skip

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self._state)

    def restore(self, state: bytes) -> None:
        """Raises SnapshotError."""
        self._state = unpacked(state, _ReservoirState, "a buffer")


class _RecentState(msgspec.Struct, array_like=True):
    size: int = 0
    dropped: int = 0
    items: list[bytes] = []
    refused: int = 0


class Recent:
    """The newest items, in order, as many as fit into `bytes_max`; the oldest go first, and are counted.

    It follows a change quickest, and forgets what has not come for long: no help where an old concept returns.
    """

    asks_loss: ClassVar[bool] = False

    def __init__(self, bytes_max: int, seed: int = 0) -> None:
        self.bytes_max = bytes_max
        self.seed = seed
        self.items: deque[bytes] = deque()
        self.size = 0
        self.dropped = 0
        self.refused = 0

    def __len__(self) -> int:
        return len(self.items)

    def add(self, item: bytes, label: Label | None = None, loss: float | None = None) -> None:
        """Keep one item, whatever its label and loss."""
        cost = len(item) + ITEM_OVERHEAD
        if cost > self.bytes_max:
            self.refused += 1
            return
        self.items.append(item)
        self.size += cost
        while self.size > self.bytes_max:
            self.size -= len(self.items.popleft()) + ITEM_OVERHEAD
            self.dropped += 1

    def draw(self, number: int, counter: int) -> list[bytes]:
        """`number` items with replacement; the same for the same counter and content."""
        return drawn(self.items, self.seed, number, counter)

    def take_all(self) -> list[bytes]:
        """Everything, oldest first; the buffer is empty afterwards."""
        taken = list(self.items)
        self.items.clear()
        self.size = 0
        return taken

    def figures(self) -> dict[str, Any]:
        return {"items": len(self.items), "bytes": self.size, "bytes_max": self.bytes_max, "dropped": self.dropped,
                "refused": self.refused}  # fmt: skip

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(_RecentState(self.size, self.dropped, list(self.items), self.refused))

    def restore(self, state: bytes) -> None:
        """Raises SnapshotError."""
        read = unpacked(state, _RecentState, "a buffer")
        self.size, self.dropped, self.items = read.size, read.dropped, deque(read.items)
        self.refused = read.refused


def drawn(items: Sequence[bytes], seed: int, number: int, counter: int) -> list[bytes]:
    """`number` of the items with replacement, each as likely as the others."""
    if not items:
        return []
    return [items[chance(seed, f"draw{i}", counter, len(items))] for i in range(number)]
