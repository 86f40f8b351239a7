"""Which inputs to hold back while another is behind. Memory only depends on it: what comes out does not.

A prediction that waits for its label, or a label that waits for its prediction, is held in memory. Where both inputs
have a backlog, the one with the smaller records would run away from the other: a fetch of a megabyte holds four times
as many labels as predictions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

HOLD_RECORDS: Final = 20_000
"""Records that an input may be ahead of where the other stands before it is held, and twice as many as it may be when
it is let go: two fetches of labels, far below what the join can keep, and seldom enough that a hold, which costs a
fetch, does not show."""


class Alignment:
    """Progress of the inputs of one shard, and which are held.

    >>> a = Alignment(slack_s=3600.0)
    >>> a.held({"predictions": 0.0, "labels": 0.0}, {"predictions": 0, "labels": 0}, {"labels": 5})
    ()
    >>> a.held({"predictions": 9000.0, "labels": 0.0}, {"predictions": 30_000, "labels": 0}, {"labels": 5})
    ('predictions',)
    >>> a.held({"predictions": 9000.0, "labels": 8000.0}, {"predictions": 30_000, "labels": 9}, {"labels": 0})
    ()
    """

    def __init__(self, slack_s: float) -> None:
        self._slack_s = slack_s
        self._past: dict[str, deque[tuple[float, int]]] = {}
        self._held: tuple[str, ...] = ()

    def held(
        self, progress: Mapping[str, float], records: Mapping[str, int], lag: Mapping[str, int]
    ) -> tuple[str, ...]:
        """Inputs to hold now: ahead of another by more than the slack in event time and by more than HOLD_RECORDS
        records, while that other one has records to be read (`lag`). Who waits for nobody is not held: a silent input
        must not stop the world."""
        out = []
        for name in sorted(progress):
            past = self._past.setdefault(name, deque([(progress[name], records.get(name, 0))]))
            if progress[name] > past[-1][0]:
                past.append((progress[name], records.get(name, 0)))
            others = [progress[other] for other in progress if other != name and lag.get(other, 0) > 0]
            behind = min(others, default=progress[name])
            while len(past) > 1 and past[1][0] <= behind:
                past.popleft()
            ahead = records.get(name, 0) - past[0][1]
            bound = HOLD_RECORDS // 2 if name in self._held else HOLD_RECORDS
            if progress[name] - behind > self._slack_s and ahead >= bound:
                out.append(name)
        self._held = tuple(out)
        return self._held
