"""The throughput benchmark measures what it says, on the load it says; its figures themselves are not tested."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import orjson
import pytest

from benchmarks import load, throughput
from benchmarks.processes import BenchmarkError, Measured, machine
from stream import codec, config
from stream.contract import LABELS, PREDICTIONS
from stream.events import Label, Prediction
from stream.runtime.feed import Feed

EVENTS = 3_000


def decoded() -> tuple[list[Prediction], list[Label]]:
    """The load as the broker gets it."""
    predictions: list[Prediction] = []
    labels: list[Label] = []
    now = load.START_S + EVENTS / load.RATE
    for keys, events, label_keys, known in load.records(EVENTS, seed=3):
        for key, value in zip(keys, events, strict=True):
            prediction = codec.decode_inbound(Prediction, value, now)
            assert isinstance(prediction, Prediction) and prediction.prediction_id == key.decode()
            predictions.append(prediction)
        for key, value in zip(label_keys, known, strict=True):
            label = codec.decode_inbound(Label, value, now)
            assert isinstance(label, Label) and label.prediction_id == key.decode()
            labels.append(label)
    return predictions, labels


def test_the_file_and_the_topics_hold_the_same_load(tmp_path: Path) -> None:
    """F15, F45."""
    load.write_file(tmp_path / "load.csv", EVENTS, seed=3)
    feed = list(Feed(config.parse(load.CONFIG), tmp_path / "load.csv"))
    predictions, labels = decoded()
    assert [item.event for item in feed if item.topic == PREDICTIONS] == predictions
    from_file = [item.event for item in feed if item.topic == LABELS]
    assert [(x.prediction_id, x.label) for x in from_file if isinstance(x, Label)] == [
        (x.prediction_id, x.label) for x in labels
    ]
    assert len(predictions) == len(labels) == EVENTS


def test_the_load_has_ten_features_and_labels_that_come_later() -> None:
    predictions, labels = decoded()
    assert all(len(event.features) == 10 for event in predictions)
    assert len({event.features[load.CATEGORY] for event in predictions}) == len(load.CATEGORIES)
    asked = {event.prediction_id: event.event_time for event in predictions}
    times = [float(label.event_time) for label in labels]  # type: ignore[arg-type]
    assert times == sorted(times)
    delays = [time - asked[label.prediction_id] for time, label in zip(times, labels, strict=True)]  # type: ignore[operator]
    assert min(delays[: EVENTS - load.LABEL_DELAY]) == pytest.approx(load.LABEL_DELAY / load.RATE, abs=0.01)


def test_the_same_seed_gives_the_same_load_and_another_does_not() -> None:
    assert list(load.records(100, 3)) == list(load.records(100, 3))
    assert list(load.records(100, 3)) != list(load.records(100, 4))


def test_medians_and_bars_are_those_of_the_runs() -> None:
    rates = {"bare": (100.0, 300.0, 200.0), "kafka": (90.0, 110.0, 120.0)}
    runs = [
        {"way": way, "turn": turn, "events_per_s": rate}
        for way, of_way in rates.items()
        for turn, rate in enumerate(of_way)
    ]
    medians = throughput.summarise(runs)
    assert medians == {"bare": {"events_per_s": 200.0}, "kafka": {"events_per_s": 110.0}}
    assert throughput.bars(medians) == [
        {"name": "events/s of kafka as a share of bare", "value": 0.55, "at_least": 0.5, "met": True}
    ]


def test_the_figures_are_written_with_what_they_were_measured_on(tmp_path: Path) -> None:
    throughput.write(tmp_path / "deep" / "out.json", 10, [], {})
    written = orjson.loads((tmp_path / "deep" / "out.json").read_bytes())
    assert {"bars", "machine", "seed", "runs", "events"} <= set(written)
    assert written["machine"] == machine() and written["machine"]["cores"] >= 1


def test_a_measured_process_tells_what_it_cost_and_why_it_failed(tmp_path: Path) -> None:
    work = "import time; until = time.process_time() + 0.05\nwhile time.process_time() < until: pass"
    cost = Measured([sys.executable, "-c", work], tmp_path / "log").finish()
    assert cost.cpu_s >= 0.05 and cost.wall_s > 0 and cost.memory_mib > 1
    with pytest.raises(BenchmarkError, match="ended with 3: because"):
        Measured([sys.executable, "-c", "print('because'); exit(3)"], tmp_path / "log").finish()
    waiting = Measured(["cat", os.devnull], tmp_path / "log")
    with pytest.raises(BenchmarkError, match="ended with 0"):
        waiting.wait_until(lambda: False, deadline_s=30)
