"""When a row's prediction was asked and when its label becomes known: the times of a file's rows, and labels waiting.

Labels become known at a time (a column, a fixed or a random delay after the prediction) or after so many predictions.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

import numpy as np

from stream.config import Input
from stream.events import Label
from stream.runtime.tables import Cell, Chunk

DELAYS_PER_BLOCK = 1_024
"""Random delays drawn together; each block has its own generator, keyed by (seed, block), so that a delay depends on
the row's number alone."""


class LabelsByTime:
    """Labels that become known at a time: handed out before the first prediction of a later time."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Label]] = []
        self._count = 0

    def put(self, label: Label) -> None:
        self._count += 1  # rows whose labels come at the same time keep their order
        heapq.heappush(self._heap, (float(label.event_time), self._count, label))  # type: ignore[arg-type]

    def before(self, event_time: float) -> Iterator[tuple[float, Label]]:
        while self._heap and self._heap[0][0] < event_time:
            time, _, label = heapq.heappop(self._heap)
            yield time, label

    def after(self, event_time: float) -> Iterator[tuple[float, Label]]:
        return iter(())

    def rest(self) -> Iterator[tuple[float, Label]]:
        return self.before(float("inf"))


class LabelsByCount:
    """Labels that become known right after so many later predictions, at the time of the last of these."""

    def __init__(self, events: int) -> None:
        self._events = events
        self._queue: deque[tuple[int, Label]] = deque()
        self._asked = 0
        self._now = 0.0

    def put(self, label: Label) -> None:
        self._queue.append((self._asked + 1 + self._events, label))

    def before(self, event_time: float) -> Iterator[tuple[float, Label]]:
        return iter(())

    def after(self, event_time: float) -> Iterator[tuple[float, Label]]:
        self._asked += 1
        self._now = event_time
        while self._queue and self._queue[0][0] <= self._asked:
            yield self._known(self._queue.popleft()[1])

    def rest(self) -> Iterator[tuple[float, Label]]:
        while self._queue:
            yield self._known(self._queue.popleft()[1])

    def _known(self, label: Label) -> tuple[float, Label]:
        label.event_time = self._now
        return self._now, label


def event_times(entry: Input, chunk: Chunk) -> Sequence[float | str]:
    """Event times of the chunk's rows: epoch seconds, or what is wrong with them."""
    spec = entry.event_time
    if spec.column is None:
        assert spec.start is not None and spec.step is not None
        start, step = epoch_s(spec.start), float(spec.step)
        return [start + number * step for number in chunk.numbers]
    times = _read_times(chunk.columns[spec.column], spec.format, spec.column)
    return [f"{spec.column} (the event time) is empty" if time is None else time for time in times]


def label_times(entry: Input, chunk: Chunk, times: Sequence[float | str]) -> Sequence[float | str | None]:
    """When each row's label becomes known; None: never."""
    delay = entry.label_delay
    if delay.column is not None:
        return _read_times(chunk.columns[delay.column], entry.event_time.format, delay.column)
    if delay.exponential is not None:
        assert delay.seed is not None
        draw = _delays(float(delay.exponential), delay.seed)
        return [t if isinstance(t, str) else t + draw(n) for t, n in zip(times, chunk.numbers, strict=True)]
    after = float(delay.time or 0.0)
    return [t if isinstance(t, str) else t + after for t in times]


def _read_times(values: list[Cell], form: str, name: str) -> list[float | str | None]:
    out: list[float | str | None] = []
    last: Cell = None
    time: float | str | None = None
    scale = 0.001 if form == "epoch_ms" else 1.0
    for value in values:
        if value != last:  # the same time often stands in many rows
            last = value
            try:
                time = None if value is None else epoch_s(str(value)) if form == "iso8601" else float(value) * scale  # type: ignore[arg-type]
            except (ValueError, TypeError, OverflowError):
                time = f"{name} is not a time ({form}): {value!r}"
        out.append(time if last is not None else None)
    return out


def epoch_s(value: str) -> float:
    """Epoch seconds of an ISO 8601 time; without an offset it is UTC. Raises ValueError."""
    moment = datetime.fromisoformat(value)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def moment(seconds: float) -> str:
    """RFC 3339 in UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19] + "Z"


def epoch_of(value: str) -> float | None:
    """Epoch seconds of an ISO 8601 time, or None where it is none."""
    try:
        return epoch_s(value)
    except ValueError:
        return None


def _delays(mean_s: float, seed: int) -> Callable[[int], float]:
    blocks: dict[int, list[float]] = {}

    def draw(number: int) -> float:
        block, i = divmod(number, DELAYS_PER_BLOCK)
        if block not in blocks:
            blocks.clear()
            drawn = np.random.default_rng([seed, block]).exponential(mean_s, DELAYS_PER_BLOCK)
            blocks[block] = drawn.tolist()
        return blocks[block][i]

    return draw
