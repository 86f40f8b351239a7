"""What kind of change an alert says it is, through the stage that watches, where the answer is known (F19)."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from stream.events import Alert
from tests.watching import START, Stream, alerts, watched

SETTINGS = "task: binary, reference: {first: 2000}, windows: {every: 1h}, false_alarms: 1 per 100000 events"
N, AT = 9_000, 5_000


def world(seed: int, before: np.ndarray, after: np.ndarray, shift: float = 0.0, delay: float = 600.0) -> Stream:
    """Three normal features and a label by a logistic rule, whose coefficients change at AT, where x1 may shift. The
    model predicts by the first rule but knows nothing of x1 beyond 1."""
    draw = np.random.default_rng(seed)
    late = np.arange(N) >= AT
    x = draw.normal(size=(N, 3))
    x[late, 1] += shift
    rule = np.where(late[:, None], after, before)
    label = (draw.random(N) < 1 / (1 + np.exp(-(x * rule).sum(1)))).astype(float)
    known = x.copy()
    known[:, 1] = np.minimum(known[:, 1], 1.0) - 3.0 * (known[:, 1] > 1.0)
    score = 1 / (1 + np.exp(-(known * before).sum(1)))
    return Stream(
        time=START + np.arange(N) * 10.0, prediction=(score > 0.5).astype(float), label=label,
        features={f"x{j}": x[:, j] for j in range(3)}, score=score, delay=delay,
    )  # fmt: skip


def last_words(stream: Stream) -> list[Alert]:
    """What was known of each alert at last, before it ended."""
    _, outputs = watched(SETTINGS, stream)
    found: dict[str, Alert] = {}
    for alert in alerts(outputs):
        if alert.status != "resolved":
            found[alert.alert_id] = alert
    return list(found.values())


RULE = np.array([2.0, 2.0, 0.0])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_another_rule_for_the_same_inputs_is_concept_drift(seed: int) -> None:
    found = last_words(world(seed, RULE, np.array([2.0, -2.0, 0.0])))
    assert [alert.kind for alert in found] == ["concept_drift"]
    assert max(found[0].diagnosis, key=lambda kind: found[0].diagnosis[kind]) == "concept"
    assert found[0].diagnosis["concept"] > 0.8
    assert found[0].features[0].name == "x1"
    assert found[0].impact is not None and found[0].impact["delta"] > 0.1
    assert sum(found[0].diagnosis.values()) == pytest.approx(1.0, abs=0.001)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_other_inputs_for_the_same_rule_are_covariate_drift_though_errors_rise(seed: int) -> None:
    found = last_words(world(seed, RULE, RULE, shift=1.5))
    kinds = {alert.kind for alert in found if alert.severity != "information"}
    assert "covariate_drift" in kinds and "concept_drift" not in kinds
    cause = next(alert for alert in found if alert.kind == "covariate_drift")
    assert cause.features[0].name == "x1"
    assert cause.diagnosis["covariate"] > 0.8
    assert any(a.impact is not None and a.impact["delta"] > 0.05 for a in found), "what it did to the model is said"


def test_broken_inputs_are_called_so_and_errors_are_their_effect() -> None:
    stream = world(4, RULE, RULE)
    stream.features["x0"][AT:] = 0.25
    assert stream.score is not None
    known = np.stack([stream.features[f"x{j}"] for j in range(3)], axis=1)
    stream.score[AT:] = 1 / (1 + np.exp(-(known[AT:] * RULE).sum(1)))
    stream.prediction[AT:] = stream.score[AT:] > 0.5
    found = [alert for alert in last_words(stream) if alert.severity != "information"]
    broken = next(alert for alert in found if alert.kind == "data_quality")
    assert broken.features[0].name == "x0"
    assert broken.diagnosis["data_quality"] > 0.8
    assert broken.evidence["fault"] == "constant"
    assert "concept_drift" not in {alert.kind for alert in found}


def test_labels_revise_what_inputs_alone_had_to_guess() -> None:
    """F19: more positives bring other inputs with them; two hours later the labels say which of the two it was."""
    draw = np.random.default_rng(6)
    share = np.where(np.arange(N) < AT, 0.3, 0.7)
    label = (draw.random(N) < share).astype(float)
    x = draw.normal(size=(N, 3)) + label[:, None] * np.array([1.5, 0.0, 0.0])
    score = 1 / (1 + np.exp(-(1.5 * x[:, 0] - 1.97)))
    stream = Stream(
        time=START + np.arange(N) * 10.0, prediction=(score > 0.5).astype(float), label=label,
        features={f"x{j}": x[:, j] for j in range(3)}, score=score, delay=7_200.0,
    )  # fmt: skip
    _, outputs = watched(SETTINGS, stream)
    first = next(alert for alert in alerts(outputs) if alert.stream == "feature/x0")
    assert first.kind == "covariate_drift"
    assert "too few labels have come since" in " ".join(first.evidence["because"])
    revised = [alert for alert in alerts(outputs) if alert.alert_id == first.alert_id and alert.status == "revised"]
    assert revised[-1].kind == "label_drift"
    assert revised[-1].diagnosis["label"] > 0.5
    assert revised[-1].features[0].name == "label=1"


def test_a_feature_that_is_called_score_is_named_and_the_models_own_score_is_not() -> None:
    """F19: the feature whose rule changes bears the name that the model's output has."""
    stream = world(1, RULE, np.array([2.0, -2.0, 0.0]))
    stream.features["score"] = stream.features.pop("x1")
    found = last_words(stream)
    assert [alert.kind for alert in found] == ["concept_drift"]
    assert found[0].features[0].name == "score"
    assert "score of the model" not in [feature.name for feature in found[0].features]


def test_only_looks_that_labelled_rows_answered_are_counted() -> None:
    """F19: looks of a slab that were spent, or a side with too few rows, leave the looks of an alert as they are."""
    stream = world(6, RULE, np.array([2.0, -2.0, 0.0]))
    watch, _ = watched(SETTINGS, stream)
    watcher = watch.watchers["m"]
    explaining, book = watcher.explaining, watcher.state.book
    assert explaining is not None
    each = next(iter(book.open.values()))
    group, each.looks, each.asked = watcher.groups["predictions"], 0, 0
    explaining.looks = 0
    book.reconsider(explaining, group, 0.0)
    assert (each.looks, each.asked) == (0, 0)
    assert each.case is not None
    explaining.begin()
    earliest, each.case.low_s, each.case.since_s = each.case.low_s, 0.0, 0.0  # nothing lies before
    book.reconsider(explaining, group, 0.0)
    assert each.looks == 0 and each.asked == explaining.labels_since(each.case) > 100
    each.case.low_s = each.case.since_s = earliest
    book.reconsider(explaining, group, 0.0)
    assert each.looks == 0, "it waits for more labels"
    each.asked -= 100
    book.reconsider(explaining, group, 0.0)
    assert (each.looks, each.asked) == (1, 0)


def more_positives(seed: int) -> Stream:
    """Three times in ten the label is 1, seven times from AT on; it moves x0 plainly and x1 a little."""
    draw = np.random.default_rng(seed)
    label = (draw.random(N) < np.where(np.arange(N) < AT, 0.3, 0.7)).astype(float)
    x = draw.normal(size=(N, 3)) + label[:, None] * np.array([1.5, 0.4, 0.0])
    score = 1 / (1 + np.exp(-(1.5 * x[:, 0] - 1.97)))
    return Stream(
        time=START + np.arange(N) * 10.0, prediction=(score > 0.5).astype(float), label=label,
        features={f"x{j}": x[:, j] for j in range(3)}, score=score, delay=60.0,
    )  # fmt: skip


@pytest.mark.parametrize("seed", [6, 7, 8])
def test_an_alarm_that_labels_call_by_another_name_joins_the_alert_of_that_name(seed: int) -> None:
    """F20: x1 moves with the label hours after that was found; as an input that moves it would be an alert of its own,
    and labelled rows say at once that it is not."""
    watch, outputs = watched(SETTINGS, more_positives(seed))
    assert "feature/x1" not in {alert.stream for alert in alerts(outputs) if alert.status == "firing"}
    known = next(each for each in watch.watchers["m"].state.book.open.values() if each.alert.stream == "feature/x0")
    assert known.alert.kind == "label_drift" and "feature/x1" in known.alert.related


def test_where_a_feed_broke_is_told_once_labelled_rows_have_shown_it() -> None:
    """F19, F10: kind and feature are known from the first moment; the slice is news, and people hear of it."""
    draw = np.random.default_rng(5)
    stream = world(5, RULE, RULE)
    region = draw.choice(["a", "b", "c"], N)
    stream.features["x2"][(np.arange(N) >= AT) & (region == "b") & (draw.random(N) < 0.9)] = np.nan
    stream.tags, stream.slices = {"region": region.tolist()}, ("region",)
    _, outputs = watched(f"{SETTINGS}, slices: [region]", stream)
    first = next(alert for alert in alerts(outputs) if alert.stream == "missing/x2")
    assert first.kind == "data_quality" and "slices" not in first.evidence
    told = [alert for alert in alerts(outputs) if alert.alert_id == first.alert_id and alert.status == "revised"]
    assert told[-1].evidence["slices"][0] == "region=b"


def test_an_alert_of_a_slice_waits_for_labelled_rows_of_the_slice() -> None:
    """F19: of which it has one in four, and the change is judged by these alone."""
    stream = world(6, RULE, RULE)
    region = np.where(np.arange(N) % 4 == 0, "a", "b")
    late = (np.arange(N) >= AT) & (region == "a")
    stream.label = np.where(late, 1 - stream.label, stream.label)
    stream.tags, stream.slices = {"region": region.tolist()}, ("region",)
    watch, _ = watched(f"{SETTINGS}, slices: [region]", stream)
    watcher = watch.watchers["m"]
    explaining = watcher.explaining
    assert explaining is not None
    each = next(each for each in watcher.state.book.open.values() if each.alert.slice == {"region": "a"})
    assert each.case is not None
    own, every = explaining.labels_since(each.case), explaining.labels_since(replace(each.case, place=None))
    assert own == pytest.approx(every / 4, abs=2) and own > 100
    assert each.alert.kind == "concept_drift" and each.alert.evidence["decided"]
