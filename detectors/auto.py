"""`auto`: `season` where the reference spans days of event time, else `counts`. Owns the choice and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from detectors import state as states
from detectors.calendar import DAY_S
from detectors.contract import Alarm, Bins, Budget, Detector, Rows, Stream
from detectors.counts import Counts
from detectors.season import Season

SPAN_S = DAY_S
"""Event time that a reference must span for a season to be looked for: a stream that fills its reference in less has
rows in plenty, and will tell by then whether they come in any order."""

VERSION = 1
CHOICES: Final[Mapping[str, Callable[[Sequence[Stream], Budget, int], Detector]]] = {"counts": Counts, "season": Season}


class AutoState(msgspec.Struct):
    chosen: str
    state: bytes
    version: int = VERSION


class Auto:
    """Chooses at `fit`, for good; the rest is the chosen detector's."""

    def __init__(self, streams: Sequence[Stream], budget: Budget, seed: int) -> None:
        self.streams = list(streams)
        self.budget = budget
        self.seed = seed
        self.chosen = ""
        self._detector: Detector | None = None

    def fit(self, bins: list[Bins], reference: Rows) -> None:
        """Choose by the reference's span of event time, and learn."""
        span_s = float(reference.time_s[-1] - reference.time_s[0]) if len(reference) else 0.0
        self._choose("season" if span_s >= SPAN_S else "counts").fit(bins, reference)

    def update(self, rows: Rows) -> list[Alarm]:
        """Alarms of the chosen detector; none before `fit`."""
        return self._detector.update(rows) if self._detector is not None else []

    def snapshot(self) -> bytes:
        """Which was chosen, and its whole state."""
        return states.pack(AutoState(self.chosen, self._detector.snapshot() if self._detector is not None else b""))

    def restore(self, state: bytes) -> None:
        """Become the detector whose snapshot this is. Raises ValueError where it is none of ours."""
        found = states.unpack(AutoState, VERSION, state)
        if found.chosen:
            self._choose(found.chosen).restore(found.state)

    def status(self) -> str:
        """What was chosen and how it stands."""
        return f"{self.chosen}: {self._detector.status()}" if self._detector is not None else "not fitted"

    def _choose(self, name: str) -> Detector:
        if name not in CHOICES:
            raise ValueError(f"the state is of {name!r}, auto chooses between {', '.join(CHOICES)}")
        self.chosen = name
        self._detector = CHOICES[name](self.streams, self.budget, self.seed)
        return self._detector
