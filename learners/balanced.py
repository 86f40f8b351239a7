"""A replay buffer in which rare classes have as much room as common ones.

Owns how the bytes are shared between classes. Refuses to know what a class means, and that numbers could be labels too:
a regression has no classes (`learners.replay.make` says so).
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

import msgspec

from learners.buffers import ITEM_OVERHEAD, chance
from learners.contract import Label
from learners.packing import unpacked

CLASSES_MAX: Final = 100
"""Classes with room of their own, as many as the linear learners know; labels that come later share the last one, and
are counted as `beyond`."""


class _Class(msgspec.Struct, array_like=True):
    """`full`: an item has been given up, so what is kept is a sample, no longer everything seen of the class."""

    label: Label
    seen: int = 0
    size: int = 0
    full: bool = False
    items: list[bytes] = []


class _State(msgspec.Struct, array_like=True):
    size: int = 0
    evicted: int = 0
    refused: int = 0
    beyond: int = 0
    classes: list[_Class] = []


class Balanced:
    """A uniform sample of each class, the classes in equal parts of `bytes_max` (class-balancing reservoir sampling,
    Chrysakis and Moens 2020, algorithm 1).

    A class keeps everything until the bytes run out; then room is taken from whichever class holds the most bytes, by
    chance, and a class that has given up room goes on as a reservoir (Vitter 1985). Draws are uniform over the classes,
    then over the items of the class. Not for streams whose frequencies of classes are what is to be learned: a model
    that learns from balanced draws says the rare class more often than it occurs.
    """

    asks_loss: ClassVar[bool] = False

    def __init__(self, bytes_max: int, seed: int) -> None:
        self.bytes_max = bytes_max
        self.seed = seed
        self._state = _State(classes=[])
        self._places: dict[Label, int] = {}

    def __len__(self) -> int:
        return sum(len(own.items) for own in self._state.classes)

    @property
    def items(self) -> list[bytes]:
        """What is kept, class by class."""
        return [item for own in self._state.classes for item in own.items]

    def add(self, item: bytes, label: Label | None = None, loss: float | None = None) -> None:
        """Show one item of a class; it may or may not be kept. Raises ValueError without a label."""
        if label is None or label != label:
            raise ValueError(f"balanced: label {label!r} names no class; give each item its label, or use reservoir")
        s = self._state
        cost = len(item) + ITEM_OVERHEAD
        if cost > self.bytes_max:
            s.refused += 1
            return
        place = self._place(label)
        own = s.classes[place]
        own.seen += 1
        kept = len(own.items)
        if not own.full:
            self._grow(own, item, cost)
        # Where other classes have taken all its room, it comes back as a sample of one.
        elif (at := chance(self.seed, f"place{place}", own.seen, own.seen)) < max(kept, 1):
            if not kept or s.size + cost <= self.bytes_max:  # as a `Reservoir` grows where there is room again
                self._grow(own, item, cost)
            else:
                growth = len(item) - len(own.items[at])
                own.items[at] = item
                own.size += growth
                s.size += growth
        while s.size > self.bytes_max:
            self._give_up()

    def _place(self, label: Label) -> int:
        classes = self._state.classes
        place = self._places.get(label)
        if place is None and len(classes) < CLASSES_MAX:
            place = self._places[label] = len(classes)
            classes.append(_Class(label, items=[]))
        elif place is None:
            place = CLASSES_MAX - 1
            self._state.beyond += 1
        return place

    def _grow(self, own: _Class, item: bytes, cost: int) -> None:
        own.items.append(item)
        own.size += cost
        self._state.size += cost

    def _give_up(self) -> None:
        """One item of the class that holds the most bytes, by chance; the new one is no safer than the others."""
        s = self._state
        largest = max(s.classes, key=lambda own: own.size)
        place = chance(self.seed, "evict", s.evicted, len(largest.items))
        cost = len(largest.items[place]) + ITEM_OVERHEAD
        largest.items[place] = largest.items[-1]
        largest.items.pop()
        largest.size -= cost
        largest.full = True
        s.size -= cost
        s.evicted += 1

    def draw(self, number: int, counter: int) -> list[bytes]:
        """`number` items with replacement, each class as likely; the same for the same counter and content."""
        classes = [own.items for own in self._state.classes if own.items]
        if not classes:
            return []
        out = []
        for i in range(number):
            items = classes[chance(self.seed, f"class{i}", counter, len(classes))]
            out.append(items[chance(self.seed, f"draw{i}", counter, len(items))])
        return out

    def figures(self) -> dict[str, Any]:
        """`classes`: items kept of each label."""
        s = self._state
        return {"items": len(self), "bytes": s.size, "bytes_max": self.bytes_max,
                "seen": sum(own.seen for own in s.classes), "evicted": s.evicted, "refused": s.refused,
                "beyond": s.beyond, "classes": {str(own.label): len(own.items) for own in s.classes}}  # fmt: skip

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self._state)

    def restore(self, state: bytes) -> None:
        """Raises SnapshotError."""
        self._state = unpacked(state, _State, "a buffer")
        self._places = {own.label: place for place, own in enumerate(self._state.classes)}
