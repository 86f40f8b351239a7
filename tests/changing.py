"""A stream of two models through join and watch, stopped in the middle and gone on with under another configuration."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from stream import codec, config
from stream.contract import ALERTS, EXAMPLES, LABELS, OBSERVATIONS, PREDICTIONS, WINDOWS, Batch, Chunk, Output, Record
from stream.events import Alert, Heartbeat, Label, Prediction, Window
from stream.stages.join import Join
from stream.stages.watch import Watch, WatchState
from stream.windows.remembered import WatcherState
from tests.joins import chunk

T = 1_700_000_000.0
ROWS, HALF, HARDER = 4_000, 2_000, 3_000
"""A row a second, of either model in turn, from `HALF` on every tenth of a third one; from `HARDER` on model a errs in
the south."""

DELAY_S, LATE_S = 30.0, 1_200.0
"""Of labels; every tenth is late."""

BASE: dict[str, Any] = {
    "task": "binary", "reference": {"first": 300}, "windows": {"every": "10m", "min_events": 50},
    "labels": {"horizon": "30m"}, "slices": ["region", "shop"], "false_alarms": "1 per 20000 events",
    "detectors": ["auto", {"PageHinkley": {"threshold": 20.0}}],
}  # fmt: skip

Model = dict[str, Any]


def configured(**models: Model) -> config.Config:
    return config.parse(json.dumps({"models": models}))


def model(*dropped: str, **changed: Any) -> Model:
    return {name: value for name, value in {**BASE, **changed}.items() if name not in dropped}


B = model(windows={"every": "7m", "min_events": 40})
TOLD = (EXAMPLES, OBSERVATIONS, WINDOWS)
BEFORE = configured(a=model(), b=B)


@cache
def logs() -> dict[str, list[Record]]:
    """Predictions and labels, and a number of each to end with."""
    draw = np.random.default_rng(11)
    made: dict[str, list[tuple[float, Any]]] = {PREDICTIONS: [], LABELS: []}
    for i in range(ROWS):
        name = "new" if i >= HALF and i % 10 == 9 else "ab"[i % 2]
        region, shop = ("north", "south", "west")[i % 3], f"shop {i % 4 // 2}"
        said, error = int(draw.random() < 0.4), 0.7 if i >= HARDER and region == "south" and name == "a" else 0.1
        prediction = Prediction(
            prediction_id=f"p{i}", model=name, event_time=T + i, features={"x": float(draw.normal())}, prediction=said,
            score=0.8 if said else 0.2, tags={"region": region, "shop": shop},
        )  # fmt: skip
        made[PREDICTIONS].append((T + i, prediction))
        at = T + i + (LATE_S if i % 10 < 2 else DELAY_S)
        label = 1 - said if draw.random() < error else said
        made[LABELS].append((at, Label(prediction_id=f"p{i}", event_time=at, label=label)))
    found = {}
    for role, events in made.items():
        log = sorted((each for each in events if each[0] < T + ROWS - 1), key=lambda each: each[0])
        log.append((T + ROWS - 1, Heartbeat(T + ROWS + 3_000)))
        found[role] = [Record(n, at, None, event) for n, (at, event) in enumerate(log)]
    return found


@cache
def batches(start: int, end: int) -> list[Batch]:
    """What lies between two rows' times, in both logs, a hundred seconds at a time."""
    made = []
    for first in range(start, end, 100):
        chunks = []
        for role, log in logs().items():
            times = [record.timestamp_s for record in log]
            low, high = np.searchsorted(times, [T + first, T + first + 100]).tolist()
            chunks.append(chunk(role, log[low:high]))
        made.append(Batch(T + first + 100, tuple(chunks)))
    return made


class Run:
    """Join and watch of one configuration, the one fed by the other."""

    def __init__(self, configuration: config.Config) -> None:
        self.join, self.watch = Join(configuration, 0, 1), Watch(configuration, 0, 1)
        self.offset = 0
        self.outputs: list[Output] = []

    def feed(self, start: int, end: int) -> Run:
        for batch in batches(start, end):
            made = self.join.process(batch)
            self.outputs += made
            self.observe([output.event for output in made if output.topic == OBSERVATIONS])
        return self

    def observe(self, seen: Sequence[Any]) -> None:
        records = [Record(self.offset + i, 0.0, None, event) for i, event in enumerate(seen)]
        self.offset += len(records)
        part = Chunk(OBSERVATIONS, 0, self.offset - len(records), self.offset, records)
        self.outputs += self.watch.process(Batch(0.0, (part,)))

    def stopped(self) -> tuple[bytes, bytes]:
        return self.join.snapshot(), self.watch.snapshot()

    def going_on(self, states: tuple[bytes, bytes]) -> Run:
        self.join.restore(states[0])
        self.watch.restore(states[1])
        return self

    def told(self, name: str, *topics: str) -> dict[str, list[bytes]]:
        """Every event of a model, in the order of its topic, as it would be sent."""
        found: dict[str, list[bytes]] = {topic: [] for topic in topics}
        for output in self.outputs:
            if output.key == name and (output.topic in topics or not topics):
                found.setdefault(output.topic, []).append(codec.encode(output.event))
        return found

    def alerts(self, name: str) -> list[Alert]:
        return [o.event for o in self.outputs if o.topic == ALERTS and o.key == name and isinstance(o.event, Alert)]

    def windows(self, name: str) -> list[Window]:
        return [o.event for o in self.outputs if o.topic == WINDOWS and o.key == name and isinstance(o.event, Window)]

    def status(self, name: str) -> dict[str, dict[str, str]]:
        return dict(self.watch.figures()["models"][name]["status"])


@cache
def first_half() -> tuple[bytes, bytes]:
    return Run(BEFORE).feed(0, HALF).stopped()


@cache
def unchanged() -> Run:
    return Run(BEFORE).going_on(first_half()).feed(HALF, ROWS)


@cache
def ran(name: str) -> Run:
    return Run(CHANGES[name]).going_on(first_half()).feed(HALF, ROWS)


NEW = model(reference={"first": 100})
CHANGES: dict[str, config.Config] = {
    "a model added before the others": configured(new=NEW, a=model(), b=B),
    "a model added with other times": configured(
        a=model(),
        b=B,
        new={**NEW, "windows": {"every": "1m", "min_events": 5}, "labels": {"horizon": "2h", "early": "2d"}},
    ),
    "models in another order": configured(b=B, a=model()),
    "a model removed": configured(b=B),
    "a slice added": configured(a=model(slices=["region", "shop", ["region", "shop"]]), b=B),
    "a slice removed": configured(a=model(slices=["region"]), b=B),
    "slices in another order": configured(a=model(slices=["shop", "region"]), b=B),
    "all slices removed": configured(a=model("slices"), b=B),
    "a detector added": configured(a=model(detectors=[{"ADWIN": {"delta": 0.002}}, *BASE["detectors"]]), b=B),
    "a detector removed": configured(a=model(detectors=["auto"]), b=B),
    "a detector's parameter changed": configured(
        a=model(detectors=["auto", {"PageHinkley": {"threshold": 30.0}}]), b=B
    ),
    "all detectors changed": configured(a=model(detectors=["counts"]), b=B),
    "longer windows": configured(a=model(windows={"every": "20m", "min_events": 50}), b=B),
    "shorter windows": configured(a=model(windows={"every": "3m", "min_events": 20}), b=B),
    "windows by number": configured(a=model(windows={"events": 20}), b=B),
    "a longer horizon": configured(a=model(labels={"horizon": "2h"}), b=B),
    "a shorter horizon": configured(a=model(labels={"horizon": "10m"}), b=B),
    "labels that are implied": configured(
        a=model(labels={"horizon": "30m", "implicit": {"after": "5m", "label": 0}}), b=B
    ),
    "a reference of another size": configured(a=model(reference={"first": 100}), b=B),
    "more false alarms": configured(a=model(false_alarms="50 per day"), b=B),
    "groups of people": configured(a=model(fairness={"groups": ["region"]}), b=B),
    "groups of people that were no slice": configured(a=model(slices=["region"], fairness={"groups": ["shop"]}), b=B),
    "a search for slices": configured(a=model(find_slices=True), b=B),
    "annotators": configured(a=model(labels={"horizon": "30m", "annotators": "majority"}), b=B),
    "no examples": configured(a=model(examples=False), b=B),
}
"""What a model `a` becomes; `b` stays as it is."""


@cache
def halved() -> list[Output]:
    return Run(BEFORE).feed(0, HALF).outputs


def decoded(states: tuple[object, bytes], name: str = "a") -> WatcherState:
    found: WatchState = codec.unpack(WatchState, states[1])
    return found.models[name].watcher


def judges(run: Run, group: str, name: str = "a") -> dict[str, bytes]:
    """Detectors of a group, with their states."""
    state = decoded(run.stopped(), name).groups[group]
    return dict(zip(state.specs, state.detectors, strict=True))


def sliced(run: Run, name: str = "a") -> set[tuple[str, ...]]:
    """Columns of the slices that windows tell of."""
    return {tuple(window.slice) for window in run.windows(name) if window.slice}
