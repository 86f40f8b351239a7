"""What is sent to the engine under chaos: requests, predictions from elsewhere, late and unordered labels, orders.

Owns the events and their order, all drawn from one seed. Refuses to know who sends them (`tests.chaos.source`), workers
and faults.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Iterator
from itertools import count
from typing import Final

from stream.contract import COMMANDS, LABELS, PREDICTIONS, REQUESTS
from stream.events import Command, Feature, Label, Prediction, Request, Tag
from stream.runtime.kafka.produce import Event

ASKED: Final = "asked"
TOLD: Final = "told"

MODELS: Final = """
models:
  asked:
    task: binary
    reference: {first: 800}
    false_alarms: 20 per day
    windows: {every: 10m, min_events: 20}
    slices: [place]
    labels: {horizon: 1h, early: 1h}
    learn:
      policy: online
      champion: river.naive_bayes.GaussianNB
      challengers: {line: river.linear_model.LogisticRegression, tree: river.tree.HoeffdingTreeClassifier}
      buffer: {bytes: 200000, replay: 1}
      publish: 200
      trial: {ramp: [0.2, 0.5], labels_min: 200, every: 50, probation_labels: 500}
      respond: {concept_drift: challenge, data_quality: pause}
  told:
    task: regression
    reference: {first: 200}
    false_alarms: 20 per day
    windows: {events: 200}
    labels: {horizon: 1h, early: 1h}
"""
"""Two models, whose alerts and learners are at home in different partitions of four, five and six. One answers
requests, learns and is tried; of the other, somebody else's predictions are watched."""

START_S: Final = 1_600_000_000.0
STEP_S: Final = 1.0
"""Event time between two events. At a hundred a second a horizon of an hour is 36 seconds of the run: what a worker
that is killed had in memory matters."""

END_S: Final = 86_400.0
"""Event time after the last event by which everything has expired and every window is closed."""

PERIOD: Final = 2_000
"""Events after which the world changes: the rule that makes labels, then the inputs, then the rule again."""

BROKEN: Final = range(3_200, 3_500)
"""Of two periods, the events in which the data are broken."""

EVENTS_MIN: Final = 6_000
"""By then all of it has happened once."""

SHARE_ASKED: Final = 0.8
STRANGER_EVERY: Final = 97
REPEATED_EVERY: Final = 149
ORDERS_EVERY: Final = 900
ORDERS: Final = {0: "publish", 400: "pause", 500: "resume"}
"""After how many events of each round somebody orders what. Which alerts come, and what they meet, hangs on the order
in which the logs are read; these decisions come in every run. Broken data stops learning until a person resumes it."""

PLACES: Final = ("north", "east", "south", "west")


class Stream:
    """The events, one after the other."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(f"chaos {seed}")
        self.number = 0
        self._labels: list[tuple[int, int, str, Label]] = []
        self._drawn = count()

    @property
    def at(self) -> float:
        return START_S + self.number * STEP_S

    def step(self) -> Iterator[Event]:
        """The next event, and the labels whose time to be sent has come: a label is sent some time after it is known,
        or before, so that the log is not in the order of event time."""
        yield self._asked() if self.chance.random() < SHARE_ASKED else self._told()
        yield from self._nuisance()
        self.number += 1
        while self._labels and self._labels[0][0] <= self.number:
            yield self._due()

    def rest(self) -> Iterator[Event]:
        """Labels that are still to come."""
        while self._labels:
            yield self._due()

    def _due(self) -> Event:
        _, _, key, label = heapq.heappop(self._labels)
        return LABELS, key, label, None

    def _asked(self) -> Event:
        key, x, y, channel = f"a{self.number}", *self._inputs()
        self._label(key, ASKED, int(self.chance.random() < self._rule(y, channel)))
        features: dict[str, Feature] = {"x": x, "y": y, "channel": channel}
        event = Request(prediction_id=key, model=ASKED, event_time=self.at, features=features, tags=self._tags())
        return REQUESTS, key, event, None

    def _told(self) -> Event:
        key, x, y, channel = f"t{self.number}", *self._inputs()
        said = round(2.0 * x, 3)
        wrong = self.chance.gauss(3.0 if self._regime() % 2 else 0.0, 0.5)
        self._label(key, TOLD, round(said + wrong, 3))
        features: dict[str, Feature] = {"x": x, "y": y, "channel": channel}
        event = Prediction(
            prediction_id=key, model=TOLD, event_time=self.at, features=features, prediction=said, tags=self._tags()
        )
        return PREDICTIONS, key, event, None

    def _nuisance(self) -> Iterator[Event]:
        """What nobody can use, what is asked twice, and what people order."""
        if self.number % STRANGER_EVERY == 0:
            key = f"s{self.number}"
            yield REQUESTS, key, Request(prediction_id=key, model="stranger", event_time=self.at, features={}), None
            yield LABELS, key, Label(prediction_id=key, model="stranger", event_time=self.at, label=1), None
        if self.number % REPEATED_EVERY == 0:
            yield self._asked()
        action = ORDERS.get(self.number % ORDERS_EVERY)
        if action is not None:
            yield COMMANDS, ASKED, Command(command_id=f"{action} {self.number}", action=action, model=ASKED), None

    def _regime(self) -> int:
        return self.number // PERIOD % 4

    def _inputs(self) -> tuple[float, float, str]:
        x, y = self.chance.gauss(2.0 if self._regime() == 2 else 0.0, 1.0), self.chance.gauss(0.0, 1.0)
        if self.number % (2 * PERIOD) in BROKEN:
            return x, 9_999.0 if self.chance.random() < 0.9 else y, "###"
        return x, y, self.chance.choice(("shop", "web"))

    def _rule(self, y: float, channel: str) -> float:
        """The chance that the label is 1; in every second regime the other way round."""
        value = 3.0 * (y + (0.5 if channel == "web" else -0.5)) * (-1.0 if self._regime() % 2 else 1.0)
        return 1.0 / (1.0 + math.exp(-max(-50.0, min(50.0, value))))

    def _tags(self) -> dict[str, Tag]:
        return {"place": self.chance.choice(PLACES)}

    def _label(self, key: str, model: str, value: float) -> None:
        """One label of nine in ten; none, beyond the horizon, corrected or taken back of the others."""
        chance = self.chance
        draw, delay = chance.random(), chance.choice((0.0, 30.0, 120.0, 300.0, 600.0)) + chance.random()
        if draw < 0.05:
            return
        self._put(key, model, 5_000.0 if draw < 0.07 else delay, value)
        if draw > 0.97:
            self._put(key, model, delay + 200.0, 1 - value if model == ASKED else value + 1.0)
        elif draw > 0.95:
            self._put(key, model, delay + 100.0, value, retracted=True)

    def _put(self, key: str, model: str, delay: float, value: float, retracted: bool = False) -> None:
        known, named = self.at + delay, self.chance.choice((model, None))
        label = Label(prediction_id=key, event_time=known, label=value, model=named, retracted=retracted)
        late = self.chance.uniform(-20.0, 60.0)
        heapq.heappush(self._labels, (self.number + int((delay + late) / STEP_S), next(self._drawn), key, label))
