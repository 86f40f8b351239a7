"""A replay buffer that prefers what the model got wrong, within bounds.

Owns priorities: how a loss becomes one, what is kept and what is drawn by it. Refuses to know how the loss was
measured (`learners.replay.loss` is one way).
"""

from __future__ import annotations

import math
from heapq import heappop, heappush
from typing import Any, ClassVar, Final

import msgspec

from learners.buffers import chance
from learners.contract import Label
from learners.packing import unpacked

ALPHA: Final = 0.6
"""Priority is loss ** 0.6: between all alike (0) and in proportion (1), as Schaul et al. 2016 found best."""

LOSS_RATIO_MAX: Final = 4.0
"""A loss counts as at most four times, and at least a quarter of, the mean so far. A wrong label has the largest loss
of all and keeps it for ever; so bounded, it comes at most 2.3 times as often as an average example, and the easiest
example 0.44 times as often, so that what is known is not forgotten."""

LOSS_MIN: Final = 1e-12
"""Where every loss so far was 0, all are alike."""

TRIES_MAX: Final = 64
"""Of one draw. Each is accepted with the share of its priority in the greatest that counts; between the bounds above,
the chance that 64 in a row are not is below 2e-6."""

HEAP_OVERHEAD: Final = 169
"""Bytes that Python adds to each item: its header, two floats, a tuple and its place in the list."""

_FINE: Final = 1 << 53


class _State(msgspec.Struct, array_like=True):
    """`heap`: (minus the rank, priority, item). Smaller ranks are kept; `bound` is the smallest that was given up."""

    seen: int = 0
    size: int = 0
    dropped: int = 0
    refused: int = 0
    capped: int = 0
    mean: float = 0.0
    bound: float = math.inf
    heap: list[tuple[float, float, bytes]] = []


class Prioritised:
    """A sample of everything seen in which an item is as likely as its loss ** 0.6 (weighted reservoir sampling,
    algorithm A-Res, Efraimidis and Spirakis 2006; the draws after proportional prioritisation, Schaul et al. 2016).

    Each item gets a rank, exponential with its priority as the rate, and the smallest ranks are kept: that is A-Res in
    logarithms. Once a rank was given up, no greater one is taken, so items of unequal size stay a fair sample (an
    adaptive threshold, Ting 2022). A draw makes up for what keeping has already preferred: an item was kept with
    probability 1 - exp(-priority * bound), so it is drawn in proportion to its priority over that, and the draws are in
    proportion to the priorities of everything seen, before the buffer is full and after.

    A priority is settled once, by the loss when the item came, but a draw keeps it within the bounds that hold now:
    what was hard for an untrained model is not hard for ever. Not for streams with many wrong labels: what cannot be
    learned is replayed most.
    """

    asks_loss: ClassVar[bool] = True

    def __init__(self, bytes_max: int, seed: int) -> None:
        self.bytes_max = bytes_max
        self.seed = seed
        self._state = _State(heap=[])

    def __len__(self) -> int:
        return len(self._state.heap)

    @property
    def items(self) -> list[bytes]:
        """What is kept, in no order that means anything."""
        return [item for _, _, item in self._state.heap]

    def add(self, item: bytes, label: Label | None = None, loss: float | None = None) -> None:
        """Show one item; it may or may not be kept. A `loss` of None is one that nobody knows, an infinite one that of
        an answer that was no number; both count as the mean. Raises ValueError for one that is negative or no number.
        """
        if loss is not None and not loss >= 0.0:
            raise ValueError(f"prioritised: loss {loss!r} must be a number, 0 or more; None where it is unknown")
        s = self._state
        cost = len(item) + HEAP_OVERHEAD
        if cost > self.bytes_max:
            s.refused += 1
            return
        s.seen += 1
        priority = _priority(self._bounded(loss))
        uniform = (chance(self.seed, "rank", s.seen, _FINE) + 0.5) / _FINE
        rank = -math.log(uniform) / priority
        if rank >= s.bound:
            s.dropped += 1
            return
        s.size += cost
        heappush(s.heap, (-rank, priority, item))
        while s.size > self.bytes_max:
            greatest, _, dropped = heappop(s.heap)
            s.size -= len(dropped) + HEAP_OVERHEAD
            s.bound = -greatest
            s.dropped += 1

    def _bounded(self, loss: float | None) -> float:
        """By the mean of the bounded losses before it: one outlier moves neither bound far."""
        s = self._state
        if loss is None or loss == math.inf:
            loss = s.mean
        if s.seen > 1 and s.mean > 0.0:
            s.capped += loss > s.mean * LOSS_RATIO_MAX
            loss = min(max(loss, s.mean / LOSS_RATIO_MAX), s.mean * LOSS_RATIO_MAX)
        s.mean += (loss - s.mean) / s.seen
        return loss

    def draw(self, number: int, counter: int) -> list[bytes]:
        """`number` items with replacement, by priority; the same for the same counter and content."""
        if not self._state.heap:
            return []
        return [self._drawn(i, counter) for i in range(number)]

    def _drawn(self, i: int, counter: int) -> bytes:
        """By rejection: no sums to keep up to date, and a few tries on average."""
        s = self._state
        least, most = _priority(s.mean / LOSS_RATIO_MAX), _priority(s.mean * LOSS_RATIO_MAX)
        largest = most / _kept(most, s.bound)
        item = b""
        for attempt in range(TRIES_MAX):
            _, priority, item = s.heap[chance(self.seed, f"draw{i}.{attempt}", counter, len(s.heap))]
            accepted = chance(self.seed, f"take{i}.{attempt}", counter, _FINE) / _FINE
            if accepted * largest < min(max(priority, least), most) / _kept(priority, s.bound):
                break
        return item

    def figures(self) -> dict[str, Any]:
        """`capped`: losses above the bound; `mean_loss`: of the bounded losses."""
        s = self._state
        return {"items": len(s.heap), "bytes": s.size, "bytes_max": self.bytes_max, "seen": s.seen,
                "dropped": s.dropped, "refused": s.refused, "capped": s.capped, "mean_loss": s.mean}  # fmt: skip

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self._state)

    def restore(self, state: bytes) -> None:
        """Raises SnapshotError."""
        self._state = unpacked(state, _State, "a buffer")


def _priority(loss: float) -> float:
    return float(max(loss, LOSS_MIN) ** ALPHA)


def _kept(priority: float, bound: float) -> float:
    """The probability with which an item of this priority was kept."""
    return -math.expm1(-priority * bound)
