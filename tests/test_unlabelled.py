"""Predictions whose label never comes (F04): judged from when that can be known, and while predictions come."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from datetime import datetime

from stream import config
from stream.contract import ALERTS, LABELS, PREDICTIONS
from stream.events import Alert, Label, Prediction
from stream.runtime.embedded import Embedded
from stream.runtime.feed import Item

START_S = 1.6e9
CONFIG = "models: {m: {task: binary, reference: {first: 1000}, labels: {horizon: 2d}}}"
EVENTS = 16_000
"""Eleven days, a prediction a minute."""


def alerts(never: Callable[[int], float], seed: int = 1) -> list[Alert]:
    """Of a model whose labels come within an hour, or never, with the chance that the place of the prediction gives."""
    chance = random.Random(seed)
    engine = Embedded(config.parse(CONFIG))

    def feed() -> Iterator[Item]:
        due: list[tuple[float, int]] = []
        for i in range(EVENTS):
            at = START_S + 60.0 * i
            while due and due[0][0] <= at:
                known, j = heapq.heappop(due)
                label = Label(prediction_id=str(j), event_time=known, label=chance.randrange(2))
                yield Item(LABELS, known, str(j), label)
            said = Prediction(
                prediction_id=str(i), model="m", event_time=at, features={"a": chance.gauss(0, 1)},
                prediction=chance.randrange(2),
            )  # fmt: skip
            yield Item(PREDICTIONS, at, str(i), said)
            if chance.random() >= never(i):
                heapq.heappush(due, (at + 3_600.0 * chance.random(), i))

    for _ in engine.run(feed()):
        pass
    engine.finish()
    return [event for _, event in engine.logs[ALERTS] if isinstance(event, Alert)]


def test_a_tenth_without_a_label_is_no_news_a_horizon_after_the_first_nor_after_the_last_prediction() -> None:
    """Before a horizon has passed only labels are known, so the share seemed to rise from 0 to 10 %; and when no more
    predictions come only those without a label are left."""
    assert alerts(lambda i: 0.1) == []


def test_labels_that_stop_are_told_within_hours_and_labels_that_become_fewer_after_the_horizon() -> None:
    stopped = alerts(lambda i: 0.1 if i < EVENTS / 2 else 1.0)[0]
    assert (stopped.stream, stopped.kind) == ("unlabelled", "label_delay")
    assert 0.0 < hours_after_change(stopped) < 36.0, "before what stopped can expire: what expired before stands alone"
    fewer = alerts(lambda i: 0.1 if i < EVENTS / 2 else 0.4)[0]
    assert (fewer.stream, fewer.kind) == ("unlabelled", "label_delay")
    assert 0.0 < hours_after_change(fewer) < 72.0


def hours_after_change(alert: Alert) -> float:
    return (datetime.fromisoformat(alert.at).timestamp() - START_S - 60.0 * EVENTS / 2) / 3_600.0
