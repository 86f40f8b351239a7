"""Observations for the tests of watch: rows from plain columns, cut into chunks of several join shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stream.config import Config, parse
from stream.contract import ALERTS, OBSERVATIONS, WINDOWS, Batch, Chunk, Output, Record
from stream.events import Alert, Column, Observations, OutcomeRows, PredictionRows, Window
from stream.joining.columns import column
from stream.stages.watch import Watch

HOUR = 3600.0
DAY = 86_400.0
START = 1_356_998_400.0
"""2013-01-01, a Tuesday."""

END = 4e9


def config(model: str) -> Config:
    return parse(f"models: {{m: {{{model}}}}}")


def text(values: Sequence[Any]) -> Column:
    made = column(list(values))
    assert made is not None
    return made


@dataclass
class Stream:
    """n predictions at `time`, with outcomes `delay` later. Columns are arrays or lists."""

    time: np.ndarray
    prediction: np.ndarray
    label: np.ndarray
    features: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, Any] = field(default_factory=dict)
    score: np.ndarray | None = None
    version: Sequence[str] | None = None
    delay: float | np.ndarray = 0.0
    status: np.ndarray | None = None
    votes: dict[str, np.ndarray] = field(default_factory=dict)
    slices: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.time)

    def predictions(self, rows: np.ndarray) -> PredictionRows:
        score = np.full(len(self), np.nan) if self.score is None else self.score
        return PredictionRows(
            order=np.maximum.accumulate(self.time[rows]),
            event_time=self.time[rows],
            features={name: pick(values, rows) for name, values in self.features.items()},
            tags={name: pick(values, rows) for name, values in self.tags.items()},
            prediction=pick(self.prediction, rows),
            score=Column(score[rows]),
            version=pick(self.version or ["1"] * len(self), rows),
        )

    @property
    def completed(self) -> np.ndarray:
        return np.asarray(self.time + self.delay)

    def outcomes(self, rows: np.ndarray) -> OutcomeRows:
        score = np.full(len(self), np.nan) if self.score is None else self.score
        status = np.zeros(len(self), np.int32) if self.status is None else self.status
        labels = [
            None if s == 3 else v for s, v in zip(status[rows], np.asarray(self.label)[rows].tolist(), strict=True)
        ]
        one = Column(np.zeros(len(rows), np.int32), ["1"])
        both = {**self.tags, **self.features}
        return OutcomeRows(
            order=self.completed[rows],
            event_time=self.time[rows],
            delay_s=np.where(status[rows] == 3, np.nan, (self.completed - self.time)[rows]),
            status=status[rows],
            label=text(labels),
            previous=Column(np.full(len(rows), np.nan)),
            prediction=pick(self.prediction, rows),
            score=Column(score[rows]),
            version=pick(self.version or ["1"] * len(self), rows),
            slices={name: pick(both[name], rows) for name in self.slices},
            votes={
                name: (pick(said, rows), Column(np.full(len(rows), np.nan)), one) for name, said in self.votes.items()
            },
            sample={name: pick(values, rows) for name, values in self.features.items()},
            sampled=np.arange(len(rows), dtype=np.int32),
        )


def pick(values: Any, rows: np.ndarray) -> Column:
    if isinstance(values, np.ndarray) and values.dtype.kind == "f":
        return Column(values[rows])
    return text([values[i] for i in rows])


def observations(
    stream: Stream, shards: int = 1, rows_per_chunk: int = 100, model: str = "m", end: float = END, owner: Any = None
) -> list[list[Observations]]:
    """By shard and kind, the chunks that its join would send; rows go to the shards in turn, or as `owner` says."""
    owner = np.arange(len(stream)) % shards if owner is None else owner
    queues = []
    for shard in range(shards):
        mine = np.flatnonzero(owner == shard)
        known = mine[np.argsort(stream.completed[mine], kind="stable")]
        for kind, rows in (("predictions", mine), ("outcomes", known)):
            times = stream.time[rows] if kind == "predictions" else stream.completed[rows]
            queue = []
            for sequence, start in enumerate(range(0, max(len(rows), 1), rows_per_chunk)):
                part = rows[start : start + rows_per_chunk]
                last = start + rows_per_chunk >= len(rows)
                through = end if last else float(times[start + rows_per_chunk - 1])
                seen = Observations(model, shard, shards, sequence, through, rows=kind)  # type: ignore[arg-type]
                if kind == "predictions":
                    seen.predictions = stream.predictions(part)
                else:
                    seen.outcomes = stream.outcomes(part)
                queue.append(seen)
            queues.append(queue)
    return queues


def in_turn(queues: list[list[Observations]]) -> list[Observations]:
    """One log of all queues, as fast as each other."""
    longest = max(len(queue) for queue in queues)
    return [queue[i] for i in range(longest) for queue in queues if i < len(queue)]


def by_chance(queues: list[list[Observations]], seed: int) -> list[Observations]:
    """One log in which each queue keeps its order and nothing else is kept."""
    choose = np.random.default_rng(seed)
    owners = choose.permutation(np.repeat(np.arange(len(queues)), [len(queue) for queue in queues]))
    heads = [iter(queue) for queue in queues]
    return [next(heads[owner]) for owner in owners]


def batches(log: Sequence[Observations], records: int = 8, clock: float = 0.0) -> list[Batch]:
    made = []
    for start in range(0, len(log), records):
        part = [Record(i, 0.0, None, seen) for i, seen in enumerate(log[start : start + records], start)]
        made.append(Batch(clock, (Chunk(OBSERVATIONS, 0, start, start + len(part), part),)))
    return made


def run(watch: Watch, log: Sequence[Observations], records: int = 8) -> list[Output]:
    return [output for batch in batches(log, records) for output in watch.process(batch)]


def watched(settings: str, stream: Stream, shards: int = 1) -> tuple[Watch, list[Output]]:
    watch = Watch(config(settings), 0, shards)
    return watch, run(watch, in_turn(observations(stream, shards)))


def alerts(outputs: Sequence[Output]) -> list[Alert]:
    return [output.event for output in outputs if output.topic == ALERTS and isinstance(output.event, Alert)]


def windows(outputs: Sequence[Output]) -> list[Window]:
    return [output.event for output in outputs if output.topic == WINDOWS and isinstance(output.event, Window)]


def plain(n: int, seed: int, step: float = 10.0, features: int = 3, error: float = 0.2) -> Stream:
    """A stationary binary stream: normal features, a label that the prediction misses with probability `error`."""
    draw = np.random.default_rng(seed)
    said = (draw.random(n) < 0.4).astype(float)
    return Stream(
        time=START + np.arange(n) * step,
        prediction=said,
        label=np.where(draw.random(n) < error, 1.0 - said, said),
        features={f"x{i}": draw.normal(size=n) for i in range(features)},
        score=np.where(said == 1, 0.8, 0.2) + draw.normal(size=n) * 0.02,
    )
