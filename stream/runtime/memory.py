"""The memory of a worker's process: what it holds beyond what it uses, and how that is given back.

Where shards come and go, buffers fill and learners are replaced, two things stay behind. Objects in reference cycles,
above all connections of Kafka clients, wait for Python's cycle collector, which with the thresholds below looks at old
objects as good as never. And what was freed stays with the C library, in the holes between what is held.

Owns when both are given back, and the thresholds of collector and C library; refuses to know what is held.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any, Final

EVERY_S: Final = 10.0
"""Exceptions of clients whose broker has died hold frames, and frames hold fetches, until the collector comes by."""
SHARE_MAX: Final = 0.001
"""Share of the time that giving back may take. It takes 8 to 10 ms beside 300,000 pending predictions, nearly all of it
the collector's."""

GC_THRESHOLDS: Final = (50_000, 20, 50)
"""Python's cycle collector between batches: with its defaults it took a twentieth of a worker's time, and what stages
hold has no cycles."""

ALLOCATOR: Final = ("PYTHONMALLOC", "malloc")
"""Python's own allocator takes memory in arenas of 1 MB, and one object that stays holds all of its arena: after each
peak of load they are fewer, and emptier. The C library gives back single pages from between what is held."""

MAPPED_BYTES_MIN: Final = 131_072
"""A buffer of this size (a fetch, a part of a state) has pages of its own, which go back when it is freed. It is where
glibc begins; left to itself it raises that up to 32 MB as soon as a large buffer is freed, and cuts the next ones out
of its heap. In the first eight minutes of a soak a worker grew at 119 MB an hour so, and at 54 with this alone."""

M_MMAP_THRESHOLD: Final = -3
M_ARENAS: Final = -8
"""Of glibc's malloc.h (the latter is its M_ARENA_MAX). One arena, as Python lets one thread run at a time anyway: each
scrape has a thread of its own, and in a soak they left 2.6 MB of holes in five further arenas."""


def start_again() -> None:
    """Begin this process anew, with the same arguments and number, where Python's small objects do not come from the C
    library: Python reads that before it starts. Does not return then. A user's own choice stands, and where the C
    library is another than glibc all stays as it is."""
    name, value = ALLOCATOR
    if name in os.environ or not sys.executable or _glibc() is None:
        return
    os.environ[name] = value
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


class Memory:
    """Looked at once a second, between batches."""

    def __init__(self) -> None:
        glibc = _glibc()
        self._trim: Callable[[int], int] = glibc.malloc_trim if glibc else int
        if glibc:
            glibc.mallopt(M_MMAP_THRESHOLD, MAPPED_BYTES_MIN)
            glibc.mallopt(M_ARENAS, 1)
        self._rebalances = 0
        self._due = 0.0

    def look(self, rebalances: int, now: float) -> bool:
        """Give back if shards have come or gone (`rebalances` counts how often), or some time has passed since; whether
        it was done. Not before the first shards are here; what is there by then is looked at once and never again."""
        if rebalances == 0 or (rebalances == self._rebalances and now < self._due):
            return False
        start = perf_counter()
        gc.collect()
        self._trim(0)
        if self._rebalances == 0:
            gc.freeze()
            gc.set_threshold(*GC_THRESHOLDS)
        self._rebalances = rebalances
        self._due = now + max(EVERY_S, (perf_counter() - start) / SHARE_MAX)
        return True


def _glibc() -> Any:
    """The C library, if it is one that has malloc_trim and mallopt; None otherwise."""
    try:
        library = ctypes.CDLL(None)
        return library if library.malloc_trim and library.mallopt else None
    except (AttributeError, OSError, TypeError):
        return None
