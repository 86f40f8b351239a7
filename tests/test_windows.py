"""Reporting windows: when they close, what they hold, and how labels that come late change them."""

from __future__ import annotations

import numpy as np
import pytest

from stream.events import Column, Observations, Window
from stream.stages.watch import Watch
from stream.windows import performance
from stream.windows.columns import join_columns
from stream.windows.performance import Performance, roc_auc
from tests.watching import (
    DAY,
    END,
    HOUR,
    START,
    Stream,
    config,
    in_turn,
    observations,
    plain,
    run,
    text,
    watched,
    windows,
)

HOURLY = "task: binary, reference: {first: 100}, windows: {every: 1h, min_events: 1}"


def champion(found: list[Window]) -> list[Window]:
    return [w for w in found if w.learner == "champion" and not w.slice]


def newest(found: list[Window]) -> list[Window]:
    """Of every window what was said last."""
    return list({w.start: w for w in champion(found)}.values())


def test_windows_are_hours_and_hold_their_own_predictions() -> None:
    stream = plain(1000, seed=1, step=40.0)
    _, outputs = watched(HOURLY, stream)
    found = newest(windows(outputs))
    assert [w.start for w in found] == [START + i * HOUR for i in range(len(found))]
    assert {w.end - w.start for w in found} == {HOUR}
    assert [w.n for w in found[:-1]] == [90] * (len(found) - 1)
    for w in found[:-1]:
        mine = (stream.time >= w.start) & (stream.time < w.end)
        assert w.metrics["accuracy"] == (stream.prediction == stream.label)[mine].mean()
        assert w.prediction_mean == stream.prediction[mine].mean()


def test_windows_merge_until_they_hold_enough() -> None:
    stream = plain(1000, seed=2, step=40.0)
    _, outputs = watched(HOURLY.replace("min_events: 1", "min_events: 200"), stream)
    found = newest(windows(outputs))
    assert {w.n for w in found} == {270}
    assert [w.start for w in found] == [START + i * 3 * HOUR for i in range(len(found))]


def test_windows_by_number_hold_exactly_that_number() -> None:
    stream = plain(1000, seed=3)
    _, outputs = watched("task: binary, reference: {first: 300}, windows: {every: null, events: 128}", stream)
    found = newest(windows(outputs))
    assert [w.n for w in found] == [128] * 7
    assert found[0].end <= found[1].start


def test_a_window_is_sent_when_it_closes_and_again_when_its_labels_have_come() -> None:
    stream = plain(2000, seed=4, step=10.0)
    stream.delay = 90 * 60.0
    _, outputs = watched(HOURLY, stream)
    first = [w for w in champion(windows(outputs)) if w.start == START + HOUR]
    assert [w.final for w in first] == [False, True]
    assert first[0].maturity < 1.0 == first[1].maturity
    assert (first[0].n, first[1].n_labelled) == (360, 360)
    assert first[1].delay_median_s == pytest.approx(90 * 60.0, rel=0.05)


def test_predictions_that_never_get_a_label_mature_too() -> None:
    stream = plain(1000, seed=5)
    stream.status = np.where(np.arange(1000) % 2, 3, 0).astype(np.int32)
    _, outputs = watched(HOURLY, stream)
    last = newest(windows(outputs))[-2]
    assert last.maturity == 1.0
    assert last.n_labelled == last.n / 2


def test_a_correction_revises_the_window_that_was_final() -> None:
    """F21: the old label is taken away and the new one counted."""
    stream = plain(1000, seed=6)
    stream.prediction[:] = 1.0
    stream.label = np.ones(1000)
    log = in_turn(observations(stream, end=float(stream.time[-1]) + 1))
    rows = stream.outcomes(np.array([3, 5]))
    late = float(stream.time[-1]) + 10
    rows.order[:], rows.status[:] = late, 2
    rows.label, rows.previous = text([0.0, 0.0]), text([1.0, 1.0])
    log.append(Observations("m", 0, 1, 90, END, outcomes=rows, rows="outcomes"))
    log.append(Observations("m", 0, 1, 91, END, rows="predictions"))
    watch = Watch(config(HOURLY), 0, 1)
    found = [w for w in champion(windows(run(watch, log))) if w.start == START]
    assert [w.metrics["accuracy"] for w in found] == [1.0, 358 / 360]
    assert found[-1].n_labelled == 360
    overall = watch.figures()["models"]["m"]["performance"]["champion"]["overall"]
    assert (overall["labelled"], overall["accuracy"]) == (1000, 998 / 1000)


def test_a_prediction_that_comes_late_is_counted_and_told_in_the_final_window() -> None:
    stream = plain(1000, seed=7)
    stream.delay = 2 * HOUR
    stream.time[700] = START + 30.0
    stream.delay = np.full(1000, 2 * HOUR)
    stream.delay[700] = START + 7000.0 + 2 * HOUR - stream.time[700]
    watch, outputs = watched(HOURLY, stream)
    first = [w for w in champion(windows(outputs)) if w.start == START]
    assert [w.n for w in first] == [360, 361]
    assert watch.figures()["models"]["m"]["late"] == 1


def test_a_window_that_is_forgotten_counts_what_comes_for_it() -> None:
    stream = plain(3000, seed=8, step=120.0)
    stream.time[2900] = START
    stream.delay = np.full(3000, 60.0)
    stream.delay[2900] = float(stream.time[2899]) + 120.0 - START
    watch, _ = watched(HOURLY + ", labels: {horizon: 1d}", stream)
    assert watch.figures()["models"]["m"]["lost"] == 2


def test_learners_and_slices_have_windows_of_their_own() -> None:
    """F10, F30."""
    stream = plain(1000, seed=9, step=20.0)
    stream.votes = {"forest": 1.0 - stream.prediction}
    stream.tags["origin"] = ["EWR" if i % 4 else "JFK" for i in range(1000)]
    stream.features["carrier"] = ["UA", "DL"] * 500
    stream.slices = ("origin", "carrier")
    _, outputs = watched(HOURLY + ", slices: [origin, [origin, carrier]]", stream)
    mine = [w for w in windows(outputs) if w.start == START + HOUR and w.final]
    by = {(w.learner, tuple(w.slice.values())): w for w in mine}
    assert set(by) == {
        ("champion", ()), ("forest", ()), ("champion", ("EWR",)), ("champion", ("JFK",)),
        ("champion", ("EWR", "DL")), ("champion", ("EWR", "UA")), ("champion", ("JFK", "UA")),
    }  # fmt: skip
    assert by[("champion", ("JFK",))].n == 45
    assert by[("forest", ())].metrics["accuracy"] == pytest.approx(1 - by[("champion", ())].metrics["accuracy"])
    hour = (stream.time >= START + HOUR) & (stream.time < START + 2 * HOUR)
    ours = hour & (np.array(stream.tags["origin"]) == "JFK")
    assert by[("champion", ("JFK",))].metrics["accuracy"] == (stream.prediction == stream.label)[ours].mean()


def test_the_drift_of_a_window_is_of_its_own_rows() -> None:
    """F06."""
    stream = plain(3000, seed=10)
    stream.features["x1"][1440:1800] += 2.0
    _, outputs = watched("task: binary, reference: {first: 1000}, windows: {every: 1h, min_events: 1}", stream)
    psi = {w.start: w.drift["feature/x1"]["psi"] for w in champion(windows(outputs))}
    assert psi[START + 4 * HOUR] > 1.0
    assert max(value for start, value in psi.items() if start != START + 4 * HOUR) < 0.3


def test_a_season_within_the_day_is_no_drift_of_an_hour() -> None:
    """F05."""
    draw = np.random.default_rng(11)
    n = 28 * 480
    time = START + np.arange(n) * 180.0
    stream = Stream(
        time=time,
        prediction=np.zeros(n),
        label=np.zeros(n),
        features={"x": draw.normal(size=n) + 2 * np.floor(time % DAY / (6 * HOUR))},
    )
    settings = f"task: binary, reference: {{first: {21 * 480}}}, windows: {{every: 6h, min_events: 1}}"
    _, outputs = watched(settings, stream)
    drift = [w.drift["feature/x"]["psi"] for w in champion(windows(outputs)) if w.start >= START + 21 * DAY]
    assert len(drift) > 20
    assert max(drift) < 0.4 < 2.0, "against the whole day each would be above 2"


def test_area_under_the_curve_is_that_of_scikit_like_counting() -> None:
    draw = np.random.default_rng(12)
    label = (draw.random(400) < 0.3).astype(float)
    score = np.clip(np.round(label * 0.2 + draw.random(400) * 0.8, 2), 0, 0.99)
    total = performance.sums("binary", np.zeros(400, np.int64), 1, label, (score > 0.5) * 1.0, score)[0]
    ones, zeros = score[label == 1], score[label == 0]
    pairs = np.floor(ones * 100 + 1e-9)[:, None] - np.floor(zeros * 100 + 1e-9)[None, :]
    exact = ((pairs > 0) + 0.5 * (pairs == 0)).mean()
    assert performance.metrics("binary", total)["roc_auc"] == pytest.approx(exact, abs=0.02)
    assert roc_auc(np.zeros(3), np.ones(3)) is None


def test_old_versions_share_one_line() -> None:
    found = Performance("binary")
    one = np.ones(1)
    for i in range(100):
        found.count_events("champion", {str(i): 1})
        found.add("champion", [str(i)], np.zeros(1, np.int64), one, one, one * 0.9, one)
    figures = found.figures()["champion"]
    assert len(figures) == 2 + performance.VERSIONS_MAX
    assert figures["earlier"]["labelled"] == 36
    assert figures["overall"]["labelled"] == 100
    assert sum(each["labelled"] for name, each in figures.items() if name != "overall") == 100


def test_columns_of_different_words_are_joined_by_word() -> None:
    first, second = text(["a", "b", None]), text(["b", "c"])
    joined = join_columns([first, None, second, Column(np.array([1.0, np.nan]))], [(1, 3), (0, 1), (0, 2), (0, 2)])
    assert joined.words is not None
    read = [None if k < 0 else joined.words[k] for k in joined.values]
    assert read == ["b", None, None, "b", "c", "1", None]
