"""What the conformance suite feeds to buffers. Apart, so that a fresh process need not import what tests need."""

from __future__ import annotations

from typing import Any

from learners.buffers import Buffer, Reservoir
from learners.replay import BUFFERS
from tests.conformance import Scenario


def numbered(n: int, size: int = 8) -> list[bytes]:
    return [i.to_bytes(size, "big") for i in range(n)]


def number(item: bytes) -> int:
    return int.from_bytes(item[:8], "big")


def label(i: int) -> str:
    """Four classes of unequal frequency."""
    return "abcd"[(i % 3 == 0) + (i % 7 == 0) + (i % 21 == 0)]


def loss(i: int) -> float:
    """Between 0 and 1, in no order."""
    return i * 7919 % 1_000 / 1_000


def filled(buffer: Buffer, items: list[bytes]) -> Buffer:
    """The buffer, after it has been filled these with their labels and losses."""
    for item in items:
        buffer.add(item, label(number(item)), loss(number(item)))
    return buffer


def feed(buffer: Buffer, item: bytes) -> list[Any]:
    filled(buffer, [item])
    return [buffer.draw(2, number(item)), list(buffer.items)[:2]]


def _unequal(kind: str) -> Scenario:
    items = [i.to_bytes(8, "big") + b"x" * (i % 13) for i in range(400)]
    return Scenario(lambda: BUFFERS[kind](2_000, 7), feed, items, 2_500, bad=[b"x" * 3_000])


def reservoir() -> Scenario:
    return _unequal("reservoir")


def recent() -> Scenario:
    return _unequal("recent")


def balanced() -> Scenario:
    return _unequal("balanced")


def prioritised() -> Scenario:
    return _unequal("prioritised")


class Unkeyed(Reservoir):
    """A planted fault: what it draws depends on how often it was asked, which no snapshot knows."""

    asked = 0

    def draw(self, number: int, counter: int) -> list[bytes]:
        self.asked += 1
        return super().draw(number, counter + self.asked)


def unkeyed() -> Scenario:
    items = [i.to_bytes(8, "big") for i in range(100)]
    return Scenario(lambda: Unkeyed(2_000, 7), feed, items, 2_500)
