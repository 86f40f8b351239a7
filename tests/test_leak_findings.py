"""Leakage through the stage that watches: a feature that knows the label, labels before their prediction (F56)."""

from __future__ import annotations

import numpy as np
import pytest

from stream.events import Alert
from stream.windows.leaks import CALM, EARLY, FIRST_ROWS, LABELS, OVER, SUSPECTS_MAX
from tests.watching import Stream, alerts, config, in_turn, observations, plain, run, watched, windows

SETTINGS = "task: binary, reference: {first: 1000}, windows: {every: 1h}, false_alarms: 1 per 100000 events"


def findings(outputs: list, stream: str) -> list[Alert]:
    return [alert for alert in alerts(outputs) if alert.stream == stream]


def knowing(n: int, seed: int, end: int | None = None) -> Stream:
    """Plain rows, and `paid_at`, which tells the label, up to `end`."""
    stream = plain(n, seed=seed)
    paid = np.random.default_rng(seed).normal(size=n)
    stream.features["paid_at"] = np.where(np.arange(n) < (n if end is None else end), 5.0 * stream.label + paid, paid)
    return stream


def test_a_feature_that_knows_the_label_is_named_and_learning_goes_on() -> None:
    """F56: of kind operations, at which the learn stage does not pause."""
    watch, outputs = watched(SETTINGS, knowing(3_000, seed=1))
    found = findings(outputs, "leakage/paid_at")
    assert [alert.status for alert in found] == ["firing"]
    alert = found[0]
    assert (alert.kind, alert.severity) == ("operations", "warning")
    assert [feature.name for feature in alert.features] == ["paid_at"]
    assert alert.statistics["auc"] > 0.98 and alert.statistics["low"] > 0.9
    assert "paid_at alone tells the label with an AUC of 0.99" in alert.summary
    assert "paid_at" in alert.actions[0]["suggested"]
    assert all(a.kind != "data_quality" for a in alerts(outputs))
    told = watch.figures()["models"]["m"]["leakage"]["features"]
    assert told[0]["feature"] == "paid_at" and told[0]["suspect"] and not told[1]["suspect"]


def test_it_is_said_once_the_first_labelled_rows_with_features_are_there() -> None:
    stream = knowing(3_000, seed=2)
    _, outputs = watched(SETTINGS, stream)
    at = findings(outputs, "leakage/paid_at")[0].at
    _, few = watched(SETTINGS, knowing(1_000, seed=2))
    assert not findings(few, "leakage/paid_at")
    assert at < "2013-01-01T05:00:00Z", f"1,000 reference rows and {FIRST_ROWS} more lie within five hours"


def test_honest_features_are_no_finding() -> None:
    """F56: the best of them has an AUC of about 0.9, alone among the others."""
    n = 6_000
    stream = plain(n, seed=3)
    stream.features["good"] = 1.4 * stream.label + np.random.default_rng(3).normal(size=n)
    _, outputs = watched(SETTINGS, stream)
    assert not [alert for alert in alerts(outputs) if alert.kind == "operations"]


def test_a_leak_that_is_mended_is_over_at_the_next_look() -> None:
    _, outputs = watched(SETTINGS, knowing(16_000, seed=4, end=1_700))
    found = findings(outputs, "leakage/paid_at")
    assert [alert.status for alert in found] == ["firing", "resolved"]
    assert found[1].evidence["resolved_because"] == OVER


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_labels_of_other_tasks_are_known_by_what_they_leave_open(task: str) -> None:
    n = 3_000
    draw = np.random.default_rng(5)
    number = draw.normal(size=n)
    label = number if task == "regression" else np.array([f"c{k}" for k in np.digitize(number, [-0.5, 0.5])])
    stream = plain(n, seed=5)
    stream.label, stream.prediction, stream.score = label, label, None
    stream.features["later"] = number
    _, outputs = watched(SETTINGS.replace("binary", task), stream)
    found = findings(outputs, "leakage/later")
    assert [alert.status for alert in found] == ["firing"] and found[0].statistics["information"] > 0.8


def test_where_many_features_know_the_label_the_most_telling_are_named() -> None:
    stream = plain(2_500, seed=6, features=1)
    for k in range(15):
        stream.features[f"copy{k:02}"] = stream.label + 0.0
    _, outputs = watched(SETTINGS, stream)
    assert len([a for a in alerts(outputs) if a.kind == "operations" and a.status == "firing"]) == SUSPECTS_MAX


def test_labels_before_their_prediction_are_found_counted_and_over() -> None:
    """F56: two hours of labels that carry a time of before their prediction."""
    n = 12_000
    stream = plain(n, seed=7)
    wrong = (np.arange(n) >= 5_000) & (np.arange(n) < 5_700)
    stream.delay = np.where(wrong, -30.0, 60.0)
    watch, outputs = watched(SETTINGS, stream)
    found = findings(outputs, EARLY)
    assert [alert.status for alert in found] == ["firing", "resolved"]
    assert (found[0].kind, found[0].severity) == ("operations", "warning")
    assert f"of {LABELS} labels are older than their event" in found[0].summary
    counts = watch.figures()["models"]["m"]["leakage"]["labels_before_event"]
    assert counts == {"before": 700, "same": 0, "labels": n}
    told = {w.start: w.labels_before for w in windows(outputs) if not w.slice}
    assert sum(told.values()) == 700 and sum(v > 0 for v in told.values()) <= 3


def test_a_few_slips_of_a_clock_are_no_finding() -> None:
    n = 6_000
    stream = plain(n, seed=8)
    stream.delay = np.where(np.arange(n) % 500 == 0, -1.0, 60.0)
    watch, outputs = watched(SETTINGS, stream)
    assert not findings(outputs, EARLY)
    assert watch.figures()["models"]["m"]["leakage"]["labels_before_event"]["before"] == 12


def test_findings_do_not_depend_on_cuts_or_on_a_restore_on_the_way() -> None:
    stream = knowing(5_000, seed=9)
    stream.delay = np.where(np.arange(5_000) >= 3_000, -30.0, 60.0)
    watch, outputs = watched(SETTINGS, stream)
    log = in_turn(observations(stream))
    first = type(watch)(config(SETTINGS), 0, 1)
    said = run(first, log[: len(log) // 2], records=3)
    second = type(watch)(config(SETTINGS), 0, 1)
    second.restore(first.snapshot())
    said += run(second, log[len(log) // 2 :], records=5)
    assert alerts(said) == alerts(outputs)
    assert second.figures()["models"]["m"]["leakage"] == watch.figures()["models"]["m"]["leakage"]
    assert len(findings(outputs, EARLY)) == 1 and CALM > 1
