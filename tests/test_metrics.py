"""Metrics: the table is sound, figures become series, whatever is missing."""

from __future__ import annotations

import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from stream.runtime import metrics
from stream.runtime.metrics import METRICS, Figures, Histogram, ShardFigures

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


def test_every_label_of_the_table_has_a_source_and_names_are_unique() -> None:
    assert len({spec.name for spec in METRICS}) == len(METRICS)
    for spec in METRICS:
        found = {step[1:-1] for step in spec.path.split(".") if step.startswith("{")}
        assert set(spec.labels) - found <= {"stage", "partition"}, spec.name
        assert found <= set(spec.labels), spec.name
        assert spec.name.startswith("tidegate_")
        assert spec.name.endswith("_total") == (spec.kind == "counter"), spec.name
