"""What is expected of a window before its labels come, through the stage that watches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stream.events import Window
from stream.stages.watch import Watch
from tests import conformance
from tests.watching import HOUR, START, Stream, batches, config, in_turn, observations, run, watched, windows

SETTINGS = "task: binary, reference: {first: 2000}, windows: {events: 1000}, false_alarms: 1 per 1000000 events"
DELAY_S = 5 * HOUR


def scored(n: int, seed: int, at: int = 0, shift: float = 0.0, turned: float = 0.0) -> Stream:
    """A calibrated score of a normal feature; from row `at` on the feature shifts, or labels turn around with some
    probability. A prediction every 10 s, its label five hours later."""
    draw = np.random.default_rng(seed)
    late = np.arange(n) >= at
    x = draw.normal(size=n) + shift * late
    score = 1 / (1 + np.exp(-1.5 * x))
    label = (draw.random(n) < score).astype(float)
    label = np.where(late & (draw.random(n) < turned), 1 - label, label)
    return Stream(
        time=START + np.arange(n) * 10.0, prediction=(score > 0.5).astype(float), label=label, features={"x": x},
        score=score, delay=DELAY_S,
    )  # fmt: skip


def told(stream: Stream, settings: str = SETTINGS) -> list[list[Window]]:
    """By window, what was said of it: when it closed, then when its labels had come."""
    _, outputs = watched(settings, stream)
    found: dict[float, list[Window]] = {}
    for window in windows(outputs):
        if window.learner == "champion" and not window.slice and window.expected:
            found.setdefault(window.start, []).append(window)
    return list(found.values())


def test_what_is_expected_is_what_the_labels_show() -> None:
    """F13: at once, and within its interval nearly always."""
    inside = 0
    series = [each for each in told(scored(20_000, 1, at=12_000, shift=0.8)) if each[-1].final]
    assert len(series) >= 14
    for each in series:
        first, last = each[0], each[-1]
        assert first.n_labelled == 0 and last.n_labelled == last.n == 1000
        expected = first.expected["accuracy"]
        assert expected.estimated == expected.combined and expected.disagreement is None
        value, low, high = expected.estimated
        assert high - low < 0.1 and abs(value - last.metrics["accuracy"]) < 0.05
        inside += low <= last.metrics["accuracy"] <= high
        assert last.expected["accuracy"].combined == pytest.approx([last.metrics["accuracy"]] * 3)
        assert last.expected["roc_auc"].combined[0] == pytest.approx(last.metrics["roc_auc"], abs=0.005)
    assert inside >= len(series) - 2
    before, after = series[2][0].expected["accuracy"].estimated, series[-1][0].expected["accuracy"].estimated
    assert before[0] + 0.02 < after[0], "scores are surer after the shift, and the estimate sees it before any label"


def test_the_estimated_share_of_a_label_moves_before_labels_come() -> None:
    """F02."""
    series = told(scored(20_000, 2, at=12_000, shift=0.0))
    covered = 0
    for each in series:
        _, low, high = each[0].expected["label_mean"].estimated
        assert each[0].n_labelled == 0 and high - low < 0.2
        covered += not each[-1].final or low <= each[-1].metrics["label_mean"] <= high
    assert covered >= len(series) - 2
    stream = scored(20_000, 3)
    more = np.flatnonzero((np.arange(20_000) < 12_000) | (stream.label == 1) | (np.arange(20_000) % 2 == 0))
    stream = Stream(
        time=START + np.arange(len(more)) * 10.0, prediction=stream.prediction[more], label=stream.label[more],
        features={"x": stream.features["x"][more]}, score=stream.score[more], delay=DELAY_S,  # type: ignore[index]
    )  # fmt: skip
    series = told(stream)
    shares = [each[0].expected["label_mean"].estimated[0] for each in series if each[0].n_labelled == 0]
    assert np.mean(shares[:5]) == pytest.approx(0.5, abs=0.05)
    assert np.mean(shares[-3:]) == pytest.approx(2 / 3, abs=0.05)


def test_labels_tell_when_the_estimate_is_wrong() -> None:
    """F13: concept drift is invisible without labels, and the first labels say so."""
    series = [each for each in told(scored(20_000, 4, at=12_000, turned=0.4)) if each[-1].final]
    wrong = [each for each in series if each[0].start >= START + 11_990 * 10.0]
    assert wrong
    first = wrong[0]
    assert first[0].expected["accuracy"].estimated[1] > first[-1].metrics["accuracy"] + 0.1
    apart = first[-1].expected["accuracy"].disagreement
    assert apart is not None and apart < -3
    before = [each[-1].expected["accuracy"].disagreement or 0.0 for each in series if each not in wrong]
    assert max(map(abs, before)) < 3


def test_scores_are_read_anew_as_labels_come() -> None:
    """F13: what has changed for good is expected once enough labels show it."""
    settings = SETTINGS.replace("first: 2000", "first: 3000")
    series = [each for each in told(scored(24_000, 5, at=8_000, turned=0.4), settings) if each[-1].final]
    last = series[-1]
    assert last[0].expected["accuracy"].estimated[0] == pytest.approx(last[-1].metrics["accuracy"], abs=0.05)


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_other_tasks_are_expected_too(task: str) -> None:
    """F13."""
    n = 12_000
    draw = np.random.default_rng(6)
    sure = draw.uniform(0.4, 1.0, n)
    if task == "multiclass":
        truth = draw.integers(0, 3, n)
        said: Any = np.where(draw.random(n) < sure, truth, (truth + 1) % 3)
        label, prediction = [f"c{k}" for k in truth], [f"c{k}" for k in said]
        stream = Stream(
            START + np.arange(n) * 10.0, np.array(prediction), np.array(label), {"x": sure}, score=sure, delay=DELAY_S
        )
        metric = "accuracy"
    else:
        value = draw.uniform(0.0, 10.0, n)
        stream = Stream(
            START + np.arange(n) * 10.0, value, value + draw.normal(size=n) * (0.2 + value / 5), {"x": value},
            delay=DELAY_S,
        )  # fmt: skip
        metric = "mae"
    series = [each for each in told(stream, SETTINGS.replace("binary", task)) if each[-1].final]
    assert len(series) >= 4
    for each in series:
        value_, low, high = each[0].expected[metric].estimated
        assert low < value_ < high
        assert value_ == pytest.approx(each[-1].metrics[metric], rel=0.1)


def scenario() -> conformance.Scenario:
    """Two shards; meanings are learned, windows refer to them, labels come late."""
    settings = SETTINGS.replace("first: 2000", "first: 600").replace("events: 1000", "events: 300")
    stream = scored(2400, 7, at=1500, shift=0.5)
    stream.delay = HOUR
    return conformance.Scenario(
        make=lambda: Watch(config(settings), 0, 2),
        feed=conformance.feed_stage,
        items=batches(in_turn(observations(stream, 2))),
        recut=conformance.recut_batches,
        bad=[],
        state_bytes_max=4_000_000,
    )


def test_expectations_keep_the_contract_of_state() -> None:
    conformance.check("tests.test_expected:scenario")


def test_labels_that_are_all_alike_teach_nothing() -> None:
    """F13: nothing is expected, nothing breaks."""
    stream = scored(6000, 8)
    stream.label = np.ones(6000)
    watch = Watch(config(SETTINGS), 0, 1)
    assert all(not w.expected for w in windows(run(watch, in_turn(observations(stream)))))
    assert watch.watchers["m"].state.expected.refused >= 1
