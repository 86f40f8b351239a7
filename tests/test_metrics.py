"""Metrics: the table is sound, figures become series, whatever is missing."""

from __future__ import annotations

import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from stream.runtime import metrics
from stream.runtime.metrics import METRICS, Figures, Histogram, ShardFigures, steps_of

JOIN = {
    "ledger": {"predictions": {"read": 12, "joined": 9, "pending": 3}, "labels": {"read": 9}},
    "progress": {"predictions": 100.5, "labels": float("-inf")},
    "rejected": {"schema": 2},
}
LEARN = {"models": {"delays": {"learners": {"champion": {"updates": 9, "version": "9", "metrics": {"accuracy": 0.8}}}}}}
WATCH = {"models": {"delays": {"performance": {"champion": {"1": {"log_loss": 0.4}}}, "alerts": {}, "windows": 4}}}


def scraped(figures: Figures) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """What Prometheus reads over HTTP."""
    port = metrics.serve(figures, "127.0.0.1", 0)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
        text = page.read().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_figures_of_stages_become_series() -> None:
    """F46."""
    batches = Histogram()
    batches.observe(0.02)
    figures = Figures()
    figures.publish(
        [
            ShardFigures(
                "join", 0, JOIN, {"inputs": {"labels": {"records": 9, "lag": 1}}, "batch_s": batches.figures()}
            ),
            ShardFigures("watch", 1, WATCH, {"transactions": {"committed": 3}}),
            ShardFigures("learn", 1, LEARN, {}),
        ],
        {"ready": True, "shards": {"join": 1}, "rebalances": 2},
    )
    seen = scraped(figures)
    assert seen["tidegate_ledger_predictions", (("partition", "0"), ("state", "pending"))] == 3
    assert seen["tidegate_dead_letters_total", (("code", "schema"), ("partition", "0"))] == 2
    assert seen["tidegate_input_lag_records", (("input", "labels"), ("partition", "0"), ("stage", "join"))] == 1
    assert seen["tidegate_batch_seconds_bucket", (("le", "0.025"), ("partition", "0"), ("stage", "join"))] == 1
    assert seen["tidegate_batch_seconds_bucket", (("le", "0.01"), ("partition", "0"), ("stage", "join"))] == 0
    labels = (("learner", "champion"), ("metric", "log_loss"), ("model", "delays"), ("version", "1"))
    assert seen["tidegate_performance", labels] == 0.4
    labels = (("learner", "champion"), ("metric", "accuracy"), ("model", "delays"))
    assert seen["tidegate_learner_metric", labels] == 0.8
    assert seen["tidegate_ready", ()] == 1
    assert seen["tidegate_rebalances_total", ()] == 2


def test_missing_figures_give_no_series_and_no_error() -> None:
    figures = Figures()
    figures.publish([ShardFigures("join", 0, {}, {}), ShardFigures("watch", 0, {"models": {"m": None}}, {})], {})
    assert scraped(figures) == {("tidegate_metrics_dropped", ()): 0.0}


def test_too_many_series_are_left_out_and_counted() -> None:
    figures = Figures()
    codes = {str(i): 1 for i in range(metrics.SERIES_MAX + 5)}
    figures.publish([ShardFigures("join", 0, {"rejected": codes}, {})], {})
    assert scraped(figures)["tidegate_metrics_dropped", ()] == 5


STEERED = {
    "models": {
        "m": {
            "paused": True,
            "trials": {
                "tree": {
                    "state": "canary", "share": 0.25,
                    "evidence": {"labels": 900.0, "difference": 0.02, "low": 0.01, "high": 0.03, "clipped": 4.0,
                                 "better": 7.5, "worse.loss": -1.0, "worse.log_loss": -2.0, "sample_ratio": 0.1},
                }
            },
            "traffic": {
                "shares": {"tree": 0.25}, "values": {"tree": {"dr": [0.8, 0.7, 0.9], "ips": [None, None, None]}},
            },
            "guard": {"status": "rolled_back", "strikes": 1, "published": 7, "rolled_back": 2, "evidence": None},
            "freshness": {"interval": {"best": 3600.0, "low": 1800.0, "high": None, "excess": 0.01}},
        }
    }
}  # fmt: skip


def series(figures: Figures, name: str) -> dict[tuple[str, ...], float]:
    """By the values of the labels, in the table's order."""
    labels = next(spec.labels for spec in METRICS if spec.name == name)
    return {
        tuple(sample.labels[label] for label in labels): sample.value
        for family in figures.collect()
        for sample in family.samples
        if sample.name == name
    }


def test_how_learning_is_steered_becomes_series_and_words_become_labels() -> None:
    """F30, F33, F34, F37: a state is a label with 1, a triple is three metrics, and what is not known gives nothing."""
    figures = Figures()
    figures.publish([ShardFigures("learn", 0, STEERED, {})], {})
    assert series(figures, "tidegate_trial_state") == {("m", "tree", "canary"): 1.0}
    assert series(figures, "tidegate_guard_state") == {("m", "rolled_back"): 1.0}
    assert series(figures, "tidegate_trial_share") == {("m", "tree"): 0.25}
    bounds = {("m", "tree", "difference"): 0.02, ("m", "tree", "low"): 0.01, ("m", "tree", "high"): 0.03}
    assert series(figures, "tidegate_trial_advantage") == bounds
    tests = {"better": 7.5, "worse.loss": -1.0, "worse.log_loss": -2.0, "sample_ratio": 0.1}
    assert series(figures, "tidegate_trial_log_evidence") == {("m", "tree", name): x for name, x in tests.items()}
    assert series(figures, "tidegate_arm_value") == {("m", "tree", "dr"): 0.8}
    assert series(figures, "tidegate_arm_value_high") == {("m", "tree", "dr"): 0.9}
    assert series(figures, "tidegate_guard_snapshots_total") == {("m", "published"): 7.0, ("m", "rolled_back"): 2.0}
    assert series(figures, "tidegate_freshness_interval_seconds") == {("m", "best"): 3600.0, ("m", "low"): 1800.0}
    assert series(figures, "tidegate_learning_paused") == {("m",): 1.0}


def test_whether_scores_and_groups_can_be_trusted_becomes_series() -> None:
    """F17, F18, F57: the whole run's figures only, for versions come and go."""
    gap = {"gap": 0.2, "low": 0.1, "high": 0.3, "worst": "a", "best": "b"}
    watch = {
        "calibration": {"ece": 0.04, "bins": [[0.1, 0.2, 5]]},
        "fairness": {"overall": {"sex": {"equal_opportunity": gap}}, "17": {"sex": {"equal_opportunity": gap}}},
        "label_bias": {"age": {"difference": -0.5, "low": -0.7, "high": -0.3}},
        "leakage": {"labels_before_event": {"before": 3, "labels": 100}},
    }
    figures = Figures()
    figures.publish([ShardFigures("watch", 0, {"models": {"m": watch}}, {})], {})
    assert series(figures, "tidegate_calibration_error") == {("m",): 0.04}
    assert series(figures, "tidegate_fairness_gap") == {("m", "sex", "equal_opportunity"): 0.2}
    ends = {("m", "sex", "equal_opportunity", "low"): 0.1, ("m", "sex", "equal_opportunity", "high"): 0.3}
    assert series(figures, "tidegate_fairness_bound") == ends
    assert series(figures, "tidegate_label_bias") == {("m", "age"): -0.5}
    assert series(figures, "tidegate_labels_before_event_total") == {("m",): 3.0}


def test_what_became_of_alerts_becomes_series_by_target() -> None:
    """F20."""
    told = {"notices": {"delivered": 4, "given_up": 0}, "left_out": {"muted": 2}, "failures": 5, "tries": 3}
    figures = Figures()
    figures.publish([], {"delivery": {"pager": told}})
    assert series(figures, "tidegate_notices_total") == {("pager", "delivered"): 4.0, ("pager", "given_up"): 0.0}
    assert series(figures, "tidegate_notices_left_out_total") == {("pager", "muted"): 2.0}
    assert series(figures, "tidegate_delivery_failures_total") == {("pager",): 5.0}
    assert series(figures, "tidegate_delivery_tries") == {("pager",): 3.0}


def test_every_label_of_the_table_has_a_source_and_names_are_unique() -> None:
    assert len({spec.name for spec in METRICS}) == len(METRICS)
    for spec in METRICS:
        found = {step[1:-1].partition(":")[0] for step in steps_of(spec.path) if step.startswith("{")}
        assert set(spec.labels) - found <= {"stage", "partition"}, spec.name
        assert found <= set(spec.labels), spec.name
        assert spec.name.startswith("tidegate_")
        assert spec.name.endswith("_total") == (spec.kind == "counter"), spec.name
