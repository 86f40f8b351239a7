"""Whether a worker still hears of its broker, and what is said when it does not.

A client whose broker is away tries again for ever, and sometimes goes on trying when the broker has long been back. The
watchdog ends the process then: its state is in its checkpoints, so a new one goes on where it was, with connections of
its own. Decides only; refuses to know a clock, a client, or how a process ends.
"""

from __future__ import annotations

from typing import Final

SESSIONS: Final = 3
"""Session timeouts without an answer: after one the group has given the partitions to somebody else, so nothing is lost
by ending; after three a broker that was only restarted is back, and clients that still hear nothing may be stuck."""

LOOK_S: Final = 5.0
"""The longest time between two looks that counts as waiting. A process that was stopped, or a machine that slept, has
not been waiting for anybody."""


class NoAnswerError(Exception):
    """The broker has not answered for too long: neither ours nor the state's fault, so the process ends with 70."""


class Watchdog:
    """Counts the silence. All moments are of one clock that never goes back, in seconds.

    >>> dog = Watchdog(session_s=10.0, rebalance_s=20.0, broker="kafka:9092", now=0.0)
    >>> [dog.look(now, fetched=1.0, heartbeat=None) for now in (1.0, 6.0, 11.0, 16.0, 21.0, 26.0, 31.0)].count(None)
    7
    >>> print(dog.look(31.5, fetched=1.0, heartbeat=None)[:55])
    no answer from kafka:9092 for 30 s (no fetch, no heartb
    """

    def __init__(self, session_s: float, rebalance_s: float, broker: str, now: float) -> None:
        # Nobody is heard while a group meets: the broker answers when all members have come, or their time is over.
        self.patience_s = max(SESSIONS * session_s, rebalance_s + session_s)
        self._broker = broker
        self._heard = now
        self._looked = now
        self._away_s = 0.0
        self.silent_s = 0.0

    def look(self, now: float, fetched: float | None, heartbeat: float | None) -> str | None:
        """What to say at the end, if it has come: `fetched` and `heartbeat` are when the broker last answered a fetch
        and a heartbeat; None before the first."""
        newest = max((moment for moment in (fetched, heartbeat) if moment is not None), default=self._heard)
        if newest > self._heard:
            self._heard, self._away_s = newest, 0.0
        self._away_s += max(0.0, now - max(self._looked, self._heard) - LOOK_S)
        self._looked = now
        self.silent_s = now - self._heard - self._away_s
        if self.silent_s <= self.patience_s:
            return None
        return (
            f"no answer from {self._broker} for {self.silent_s:.0f} s (no fetch, no heartbeat; the limit is "
            f"{self.patience_s:.0f} s), although the clients kept connecting and asking again; the worker ends. "
            "Nothing is lost: its state is in its checkpoints, and the worker that its supervisor starts goes on "
            "there. See whether the broker runs and can be reached from here"
        )
