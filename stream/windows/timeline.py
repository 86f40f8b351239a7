"""Rows of several shards and both kinds in one order, cut into slabs. Owns the canonical order; refuses to know what
rows hold.

Rows arrive as chance has it. They leave in the order of (order, kind, shard, position), and only when nothing can come
before them. What is done with them is done slab by slab, and where a slab ends depends on the rows alone: at a fixed
mark of event time by which it holds enough, or after `SLAB_ROWS` rows. So predictions and outcomes meet in the same way
in every run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, NamedTuple, TypeAlias

import msgspec
import numpy as np

from stream.events import OutcomeRows, PredictionRows
from stream.windows.columns import Ints, Span, join_outcomes, join_predictions

SLAB_ROWS: Final = 2048
"""Rows of a full slab: a slab costs about a millisecond whatever it holds, a full one 0.5 us a row."""

MARK_S: Final = 3600.0
"""Event time between two marks, at most."""

FEW_ROWS: Final = 256
"""A slab ends at a mark if it holds so many rows, or as many as a window needs."""

PATIENCE_S: Final = 21_600.0
"""Multiples of this end a slab in any case, be it of one row: quarters of the day, by which the season is judged."""


class PredictionChunk(msgspec.Struct):
    rows: PredictionRows
    start: int = 0


class OutcomeChunk(msgspec.Struct):
    rows: OutcomeRows
    start: int = 0


Queue: TypeAlias = list[PredictionChunk] | list[OutcomeChunk]


class Slab(NamedTuple):
    """Rows before `end` that no other slab holds, or up to `end` where it is the last one's order. `first` is the
    order of the first row."""

    predictions: PredictionRows | None
    outcomes: OutcomeRows | None
    first: float
    end: float


class Timeline(msgspec.Struct):
    """What has arrived and is not yet in order; part of a stage's state."""

    mark_s: float
    rows: int
    predictions: list[list[PredictionChunk]]
    outcomes: list[list[OutcomeChunk]]
    pending: int = 0
    seen: float = -math.inf
    wait: float = -math.inf

    @classmethod
    def of(cls, shards: int, mark_s: float, rows: int = FEW_ROWS) -> Timeline:
        """`rows`: from so many on a slab ends at a mark."""
        return cls(mark_s, min(rows, FEW_ROWS), [[] for _ in range(shards)], [[] for _ in range(shards)])

    def recut(self, mark_s: float, rows: int) -> None:
        """Slabs end by these marks from here on."""
        if (self.mark_s, self.rows) != (mark_s, min(rows, FEW_ROWS)):
            self.mark_s, self.rows = mark_s, min(rows, FEW_ROWS)
            self.seen = self.wait = -math.inf

    def add_predictions(self, shard: int, rows: PredictionRows) -> None:
        if len(rows.order):
            self.predictions[shard].append(PredictionChunk(rows))
            self.pending += len(rows.order)

    def add_outcomes(self, shard: int, rows: OutcomeRows) -> None:
        if len(rows.order):
            self.outcomes[shard].append(OutcomeChunk(rows))
            self.pending += len(rows.order)

    def slabs(self, through: float) -> Iterator[Slab]:
        """Slabs that are whole, given that every row with `order` < `through` has been added."""
        # Most calls need not look: no slab can end before the next mark, unless there is a full one.
        while self.pending and through > self.seen and (through >= self.wait or self.pending >= SLAB_ROWS):
            queues: list[Queue] = [*self.predictions, *self.outcomes]
            first = min(float(queue[0].rows.order[queue[0].start]) for queue in queues if queue)
            last = (math.floor(first / PATIENCE_S) + 1) * PATIENCE_S
            ends = [_ends(queue, min(last, through)) for queue in queues]
            mark = self._mark(queues, ends, last)
            if mark < last and mark <= through:
                ends = [_ends(queue, mark) for queue in queues]
            if sum(map(sum, ends)) >= SLAB_ROWS:
                predictions, outcomes, end = self._take(_first_rows(queues, ends))
            elif mark <= through and first < through:
                predictions, outcomes, _ = self._take([sum(each) for each in ends])
                end = mark
            else:
                self.seen, self.wait = through, min(self._mark_after(through), last)
                return
            self.wait = -math.inf
            yield Slab(predictions, outcomes, first, end)

    def _mark_after(self, order: float) -> float:
        return (math.floor(order / self.mark_s) + 1) * self.mark_s

    def _mark(self, queues: list[Queue], ends: list[list[int]], last: float) -> float:
        """The first mark by which there are `rows` of the rows that `ends` counts, or `last`."""
        if sum(map(sum, ends)) < self.rows:
            return last
        orders = [
            queue[k].rows.order[queue[k].start : queue[k].start + n]
            for queue, counts in zip(queues, ends, strict=True)
            for k, n in enumerate(counts)
        ]
        place = self.rows - 1
        return min(self._mark_after(float(np.partition(np.concatenate(orders), place)[place])), last)

    def _take(self, counts: list[int]) -> tuple[PredictionRows | None, OutcomeRows | None, float]:
        shards = len(self.predictions)
        said: list[PredictionRows] = []
        said_spans: list[Span] = []
        known: list[OutcomeRows] = []
        known_spans: list[Span] = []
        for shard in range(shards):
            for rows, span in _pop(self.predictions[shard], counts[shard]):
                said.append(rows)  # type: ignore[arg-type]
                said_spans.append(span)
            for rows, span in _pop(self.outcomes[shard], counts[shards + shard]):
                known.append(rows)  # type: ignore[arg-type]
                known_spans.append(span)
        self.pending -= sum(counts)
        predictions = join_predictions(said, said_spans) if said else None
        outcomes = join_outcomes(known, known_spans) if known else None
        last = max(float(rows.order[-1]) for rows in (predictions, outcomes) if rows is not None)
        return predictions, outcomes, last


def _ends(queue: Queue, limit: float) -> list[int]:
    """How many rows of each chunk, from its start, lie before the limit."""
    counts: list[int] = []
    for chunk in queue:
        order = chunk.rows.order
        if order[-1] < limit:
            counts.append(len(order) - chunk.start)
            continue
        counts.append(max(int(np.searchsorted(order, limit, side="left")) - chunk.start, 0))
        break
    return counts


def _first_rows(queues: list[Queue], ends: list[list[int]]) -> list[int]:
    """How many rows of each queue are among the first SLAB_ROWS in the canonical order."""
    orders, owners = [], []
    for i, (queue, counts) in enumerate(zip(queues, ends, strict=True)):
        for k, n in enumerate(counts):
            chunk = queue[k]
            orders.append(chunk.rows.order[chunk.start : chunk.start + n])
            owners.append(np.full(n, i))
    # Queues stand as predictions by shard, then outcomes by shard, so a stable sort settles ties.
    rank: Ints = np.argsort(np.concatenate(orders), kind="stable")[:SLAB_ROWS]
    return [int(n) for n in np.bincount(np.concatenate(owners)[rank], minlength=len(queues))]


def _pop(queue: Queue, count: int) -> Iterator[tuple[PredictionRows | OutcomeRows, Span]]:
    while count:
        chunk = queue[0]
        end = min(len(chunk.rows.order), chunk.start + count)
        yield chunk.rows, (chunk.start, end)
        count -= end - chunk.start
        if end == len(chunk.rows.order):
            queue.pop(0)
        else:
            chunk.start = end
