"""What the conformance suite feeds to buffers. Apart, so that a fresh process need not import what tests need."""

from __future__ import annotations

from typing import Any

from learners.buffers import Recent, Reservoir
from tests.conformance import Scenario


def numbered(n: int, size: int = 8) -> list[bytes]:
    return [i.to_bytes(size, "big") for i in range(n)]


def feed_reservoir(buffer: Reservoir, item: bytes) -> list[Any]:
    buffer.add(item)
    return [buffer.draw(2, int.from_bytes(item[:8], "big"))]


def reservoir() -> Scenario:
    items = [i.to_bytes(8, "big") + b"x" * (i % 13) for i in range(400)]
    return Scenario(lambda: Reservoir(2_000, 7), feed_reservoir, items, 2_500, bad=[b"x" * 3_000])


def feed_recent(buffer: Recent, item: bytes) -> list[Any]:
    buffer.add(item)
    return [list(buffer.items)[:2]]


def recent() -> Scenario:
    return Scenario(lambda: Recent(1_000), feed_recent, numbered(100), 1_500)
