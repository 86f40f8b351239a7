"""Event-time progress of several sources, and the one rule that makes merges independent of arrival.

Each source (predictions and labels for the join, the join's shards for watch) has a **progress**: the largest event
time seen in it, which never goes back. A record that arrives late counts at the progress it finds. Work that needs
several sources is done in the order of progress, and only once *every* source has gone past it (`through`). What comes
out is then a function of the sources' logs alone: how their records were interleaved on the way cannot be seen in it.

A source that has been read to its end and stays silent would hold the others for ever. After `idle_s` seconds of
processing it follows them. This is the only place where the clock matters; it is counted in `idled`, and the clock is
part of the batch, so a replay of the journal does the same.
"""

from __future__ import annotations

import math

import msgspec

CLOCK_STEP_MAX_S = 1.0
"""The most that one batch may add to a source's silence: time during which nothing ran (a restart) is not silence."""


class SourceState(msgspec.Struct):
    """Progress of one source."""

    progress: float = -math.inf
    silent_s: float = 0.0
    at_end: bool = False
    idle: bool = False


class Watermark(msgspec.Struct):
    """Progress of all sources; part of a stage's state, so it is serialised with it.

    >>> w = Watermark.of(["predictions", "labels"], idle_s=60)
    >>> w.advance("predictions", 10.0), w.advance("predictions", 8.0)
    (10.0, 10.0)
    >>> w.through()
    -inf
    >>> w.advance("labels", 12.0), w.through()
    (12.0, 10.0)
    """

    sources: dict[str, SourceState]
    idle_s: float
    clock: float | None = None
    idled: int = 0

    @classmethod
    def of(cls, names: list[str], idle_s: float) -> Watermark:
        return cls(sources={name: SourceState() for name in names}, idle_s=idle_s)

    def advance(self, name: str, event_time: float) -> float:
        """The source has shown this event time; returns its progress, which is where the record counts."""
        source = self.sources[name]
        if event_time > source.progress:
            source.progress = event_time
        return source.progress

    def through(self) -> float:
        """Everything before this event time (strictly) is known of every source."""
        return min(source.progress for source in self.sources.values())

    def found_end(self, name: str) -> None:
        """The source was looked at and held nothing more: its silence may begin, and is not ended by looking again."""
        self.sources[name].at_end = True

    def tick(self, clock: float, read: dict[str, bool]) -> None:
        """Account for silence, once a batch, after its records. `read` maps each source of the batch that had records
        to whether it was at its end after them."""
        step = 0.0 if self.clock is None else min(max(clock - self.clock, 0.0), CLOCK_STEP_MAX_S)
        self.clock = clock
        for name, source in self.sources.items():
            if name in read:
                source.at_end = read[name]
                source.silent_s = 0.0
                source.idle = False
            elif source.at_end:
                source.silent_s += step
                if source.silent_s >= self.idle_s and not source.idle:
                    source.idle = True
                    self.idled += 1
        busy = [source.progress for source in self.sources.values() if not source.idle]
        if busy and len(busy) < len(self.sources):
            follow = min(busy)
            for source in self.sources.values():
                if source.idle and follow > source.progress:
                    source.progress = follow
