"""What producers send in one run: requests, predictions, labels, commands, in all the ways that go wrong.

Owns the events and when they are sent; the seed decides everything. Refuses to know who reads them.
"""

from __future__ import annotations

import random
from typing import Final, NamedTuple

import msgspec

from stream import codec, config
from stream.config import Config
from stream.contract import COMMANDS, LABELS, PREDICTIONS, REQUESTS
from stream.events import Command, Heartbeat, Label, Prediction, Request
from stream.joining.partition import partition_of
from tests.simulation.clock import START_S

LEARNED: Final = "learned"
WATCHED: Final = "watched"
SPAN_S: Final = 9.0
"""Virtual seconds during which events are sent."""

STEP_S: Final = 20.0
"""Event time between two events: a run is about an hour of it."""

END_S: Final = 200_000.0
"""Event time after the start by which everything has expired and every window is closed."""


class Sent(NamedTuple):
    """A record on its way: when it is sent, where to, what."""

    at: float
    topic: str
    partition: int
    timestamp_s: float
    key: bytes | None
    value: bytes


TIGHT: Final = {
    "stream.limits.PENDING_MAX": 25,
    "stream.limits.EARLY_LABELS_MAX": 6,
    "stream.limits.EXPIRED_IDS_MAX": 5,
}
"""Bounds of the join that are reached: then what arrives when can be seen, and the truth is not known any more."""


class Plan(NamedTuple):
    """One run's configuration and input. `exact` says that neither a clock nor a bound decides: then the truth is
    known."""

    config: Config
    events: list[Sent]
    exact: bool
    bounds: dict[str, int]


def plan(seed: int) -> Plan:
    chance = random.Random(f"workload {seed}")
    kind = chance.choice(("exact",) * 8 + ("idle", "tight"))
    made = configuration(chance, "2s" if kind == "idle" else "1h")
    events = sorted(Source(chance, made).run(), key=lambda sent: sent.at)
    return Plan(made, events, kind == "exact", TIGHT if kind == "tight" else {})


def configuration(chance: random.Random, idle: str) -> Config:
    partitions = chance.choice((1, 2, 2, 3))
    champion = chance.choice(("last", "majority", "last", "river.linear_model.LogisticRegression"))
    horizon, early = chance.choice((("10m", "3m"), ("20m", "10m"), ("1h", "20m")))
    implicit = chance.choice(("", ", implicit: {after: 5m, label: 0}"))
    trial = "\n      challengers: {other: majority}\n      trial: {labels_min: 20, every: 10, ramp: [0.5]}"
    checkpoint, snapshot = chance.choice(("250ms", "500ms")), chance.choice(("1s", "2s", "5s"))
    return config.parse(f"""
topics: {{partitions: {partitions}}}
engine: {{idle: {idle}, checkpoint: {checkpoint}, snapshot: {snapshot}, slack: {chance.choice(("1m", "1h"))}}}
models:
  {LEARNED}:
    task: binary
    reference: {{first: {chance.choice((20, 40))}}}
    false_alarms: 20 per day
    windows: {{every: 10m, min_events: 5}}
    labels: {{horizon: {horizon}, early: {early}{implicit}}}
    detectors: [{{counts: {{block_rows: 8, loss_block_rows: 4}}}}]
    learn:
      policy: online
      champion: {champion}
      buffer: {{bytes: 20000}}
      publish: {chance.choice((5, 20))}
      respond: {{data_quality: ignore}}{chance.choice(("", trial))}
  {WATCHED}:
    task: regression
    reference: {{first: 30}}
    false_alarms: 20 per day
    windows: {{events: 20}}
    slices: [place]
    labels: {{horizon: {horizon}, early: {early}}}
    detectors: [{{counts: {{block_rows: 8, loss_block_rows: 4}}}}]
""")


class Source:
    """Draws events one after the other; event time moves on by `STEP_S` on average, and so do the sendings. `many` of
    one model that change in the middle are what it takes to raise an alert."""

    def __init__(self, chance: random.Random, made: Config) -> None:
        self.chance = chance
        self.partitions = made.topics.partitions
        self.config = made
        self.hot = chance.random() < 0.3
        self.bursty = chance.random() < 0.5
        self.many = chance.random() < 0.06
        self.shift = self.many or chance.random() < 0.5
        self.names: list[tuple[str, float]] = []
        self.out: list[Sent] = []

    def run(self) -> list[Sent]:
        count = 300 if self.many else self.chance.randint(70, 130)
        at = 0.0
        for i in range(count):
            if not self.bursty or i % 25 == 0:
                at = SPAN_S * i / count
            self.event(i, count, at, START_S + i * STEP_S)
        return self.out

    def event(self, i: int, count: int, at: float, asked: float) -> None:
        chance = self.chance
        if self.names and chance.random() < (0.3 if self.hot else 0.05):
            name, asked = chance.choice(self.names[-20:])[0], max(START_S, asked - chance.choice((0.0, 5.0, 700.0)))
        else:
            name = f"e{i}"
        self.names.append((name, asked))
        x = chance.gauss(8.0 if self.shift and i > count / 2 else 0.0, 1.0)
        features = {"x": x, "place": chance.choice("abc")}
        model = chance.choice((LEARNED, *([WATCHED] * (6 if self.many else 1))))
        if model == LEARNED:
            event = Request(prediction_id=name, model=model, event_time=asked, features=features)
            self.send(at, REQUESTS, name, asked, event)
        else:
            said = Prediction(
                prediction_id=name, model=model, event_time=asked, features=features, prediction=round(x, 3)
            )
            self.send(at, PREDICTIONS, name, asked, said)
        self.labels(name, model, at, asked, x)
        self.nuisance(at, asked, i)

    def labels(self, name: str, model: str, at: float, asked: float, x: float) -> None:
        """None, one or several; early, late, beyond the horizon, corrected or taken back."""
        chance = self.chance
        for _ in range(chance.choice((0, 1, 1, 1, 1, 2))):
            known = max(START_S, asked + chance.choice((-100.0, 0.0, 30.0, 200.0, 500.0, 900.0, 4000.0)))
            value: float = (
                int(x > 0) ^ (chance.random() < 0.2) if model == LEARNED else round(x + chance.gauss(0, 1), 2)
            )
            retracted, named = chance.random() < 0.05, chance.choice((model, None))
            label = Label(prediction_id=name, event_time=known, label=value, model=named, retracted=retracted)
            sent = max(0.0, at + (known - asked) / STEP_S * SPAN_S / 150 + chance.uniform(-0.5, 0.5))
            self.send(min(sent, SPAN_S), LABELS, name, known, label)

    def nuisance(self, at: float, asked: float, i: int) -> None:
        """What nobody can use, what is said to fill silence, and what people order."""
        chance, kind = self.chance, self.chance.randint(0, 40)
        if kind == 0:
            self.raw(at, chance.choice((REQUESTS, PREDICTIONS, LABELS)), f"bad{i}", asked, b"{not json")
        elif kind == 1:
            stranger = Label(prediction_id=f"e{i}", event_time=asked, label=1, model="stranger")
            self.send(at, LABELS, f"e{i}", asked, stranger)
        elif kind == 2:
            self.send(at, LABELS, f"nobody{i}", asked, Label(prediction_id=f"nobody{i}", event_time=asked, label=1))
        elif kind == 3:
            for partition in range(self.partitions):
                self.out.append(Sent(at, LABELS, partition, asked, None, codec.encode(Heartbeat(asked))))
        elif kind == 4:
            action = chance.choice(("publish", "publish", "pause", "resume", "promote", "rollback", "nonsense"))
            arguments = {"learner": "other"} if action == "promote" else {}
            order = Command(command_id=f"order {i}", action=action, model=LEARNED, arguments=arguments)
            self.send(at, COMMANDS, LEARNED, asked, order)
        elif kind == 5:
            value = codec.encode(Label(prediction_id=f"e{i}", event_time=asked, label=1))
            self.out.append(Sent(at, LABELS, chance.randrange(self.partitions), asked, b"astray", value))

    def send(self, at: float, topic: str, key: str, timestamp_s: float, event: msgspec.Struct) -> None:
        self.raw(at, topic, key, timestamp_s, codec.encode(event))
        if self.chance.random() < 0.03:  # the acknowledgement was lost, and the producer sends it again
            self.raw(at + self.chance.uniform(0.0, 1.0), topic, key, timestamp_s, codec.encode(event))

    def raw(self, at: float, topic: str, key: str, timestamp_s: float, value: bytes) -> None:
        hashed = key.encode()
        self.out.append(Sent(at, topic, partition_of(hashed, self.partitions), timestamp_s, hashed, value))


def ending(made: Config) -> list[Sent]:
    """Heartbeats beyond all: nothing more will come."""
    beat, at = codec.encode(Heartbeat(START_S + END_S)), START_S + END_S
    return [Sent(0.0, topic, p, at, None, beat) for topic in (REQUESTS, LABELS) for p in range(made.topics.partitions)]
