"""Labelled predictions against those whose label never came, in windows and over the run (F14)."""

from __future__ import annotations

import numpy as np
import pytest

from stream.events import EXPIRED, Window
from stream.windows import label_bias
from stream.windows.label_bias import Column, sums, told
from tests.watching import Stream, config, in_turn, observations, plain, run, watched, windows

SETTINGS = (
    "task: binary, reference: {first: 1000}, windows: {every: 2h}, labels: {horizon: 2h}, "
    "false_alarms: 1 per 100000 events"
)
N = 10_000


def labelled_by(seed: int, pull: float) -> Stream:
    """Three in ten labels never come; the larger `pull`, the more they are those of rows with a large x1."""
    stream = plain(N, seed=seed)
    draw = np.random.default_rng([seed, 1])
    never = draw.random(N) < 1 / (1 + np.exp(0.85 - pull * stream.features["x1"]))
    stream.features["plan"] = np.where(draw.random(N) < np.where(never & (pull > 0), 0.8, 0.4), "a", "b").tolist()
    stream.status = np.where(never, EXPIRED, 0).astype(np.int32)
    stream.delay = np.where(never, 7_200.0, 60.0)
    return stream


def finals(outputs: list) -> list[Window]:
    last = {w.start: w for w in windows(outputs) if not w.slice and w.learner == "champion" and w.final}
    return list(last.values())


def test_a_bias_of_labels_is_told_by_window_and_over_the_run() -> None:
    """F14: the feature that decides which labels come stands first, and the side of the difference is right."""
    watch, outputs = watched(SETTINGS, labelled_by(1, pull=1.5))
    told_windows = finals(outputs)
    assert len(told_windows) >= 8
    for window in told_windows[:-1]:
        assert next(iter(window.label_bias)) == "x1"
        x1 = window.label_bias["x1"]
        assert x1["low"] < x1["difference"] < x1["high"] < 0
    whole = watch.figures()["models"]["m"]["label_bias"]
    assert next(iter(whole)) == "x1" and list(whole)[1] in ("plan = a", "plan = b")
    side = -1 if "plan = a" in whole else 1
    assert side * whole[list(whole)[1]]["difference"] > 0.5
    assert whole["x1"]["labelled"] + whole["x1"]["unlabelled"] <= N
    assert whole["x1"]["high"] - whole["x1"]["low"] < 0.2
    assert set(whole) > {"score"} and whole["score"]["low"] < 0 < whole["score"]["high"]


def test_labels_that_are_lost_by_chance_show_no_bias() -> None:
    """F14: intervals hold for all columns of a window at once, so one window in twenty may tell something."""
    told_windows = [w for seed in range(2, 7) for w in finals(watched(SETTINGS, labelled_by(seed, pull=0.0))[1])]
    assert len(told_windows) >= 40
    assert sum(bool(w.label_bias) for w in told_windows) <= 7  # of 60 at .05 each more come in 1 of 100 cases


def test_the_interval_of_the_difference_covers_it_as_often_as_it_says() -> None:
    """Of six columns at once, in 400 worlds."""
    columns = [Column(f"x{j}", j, -1) for j in range(5)]
    missed = 0
    for seed in range(400):
        draw = np.random.default_rng([7, seed])
        codes, score = draw.integers(0, 32, (300, 5)).astype(np.int32), draw.random(300)
        found = told(columns, sums(columns, codes, score, draw.random(300) < 0.7), every=True)
        missed += any(not each["low"] <= 0 <= each["high"] for each in found.values())
    assert missed <= 32  # Bonferroni of 5 %: 20 expected at most, 32 is beyond .995 of the binomial


def test_sums_add_up_and_the_difference_is_what_it_says() -> None:
    columns = [Column("x", 0, -1), Column("plan = a", 1, 0)]
    codes = np.array([[1, 0], [3, 1], [5, 0], [7, -1]] * 30, np.int32)
    score = np.array([0.0, 1.0, 0.0, np.nan] * 30)
    labelled = np.array([True, True, False, False] * 30)
    whole = sums(columns, codes, score, labelled)
    parts = sums(columns, codes[:50], score[:50], labelled[:50]) + sums(columns, codes[50:], score[50:], labelled[50:])
    assert np.array_equal(whole, parts)
    assert whole[1, 0].tolist() == [60, 60, 60] and whole[0, 0].tolist() == [60, 30, 30]
    found = told(columns, whole)
    assert next(iter(found)) == "x"
    assert found["x"]["difference"] == pytest.approx(-4 / np.sqrt(60 / 59), abs=1e-3)
    assert told(columns, sums(columns, codes[:40], score[:40], labelled[:40])) == {}, "too few rows say nothing"


def test_implied_labels_and_predictions_that_still_wait_are_no_bias() -> None:
    watch, outputs = watched(SETTINGS, plain(4_000, seed=8))
    assert all(not w.label_bias for w in windows(outputs))
    assert watch.figures()["models"]["m"]["label_bias"] == {}


def test_columns_are_bounded() -> None:
    stream = plain(300, seed=9, features=label_bias.COLUMNS_MAX + 10)
    watch, _ = watched(SETTINGS.replace("1000", "200"), stream)
    cohorts = watch.watchers["m"].cohorts
    assert cohorts is not None and len(cohorts.compared) == label_bias.COLUMNS_MAX


def test_a_restore_on_the_way_changes_nothing() -> None:
    stream = labelled_by(10, pull=1.0)
    watch, outputs = watched(SETTINGS, stream)
    log = in_turn(observations(stream))
    first = type(watch)(config(SETTINGS), 0, 1)
    said = run(first, log[:90], records=3)
    second = type(watch)(config(SETTINGS), 0, 1)
    second.restore(first.snapshot())
    said += run(second, log[90:], records=5)
    assert windows(said) == windows(outputs)
    assert second.figures()["models"]["m"]["label_bias"] == watch.figures()["models"]["m"]["label_bias"]
