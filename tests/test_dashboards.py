"""The engine's metrics as people see them: dashboards, rules and alerts use names that the engine really has, and every
name is filled by a real run. The files are read as data."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from prometheus_client.core import Metric

from learners.probation import Status
from learners.trials import TRANSITIONS
from stream import config
from stream.contract import LABELS, Record
from stream.events import Alert
from stream.ledger import Ledger
from stream.runtime.embedded import Embedded
from stream.runtime.feed import Feed
from stream.runtime.metrics import METRICS, Figures, ShardFigures
from tests import steered
from tests.test_deploy import DEPLOY, KNOWN, compose, container_config, load

OF_PROMETHEUS = {"instance", "job", "le"}
RECORDED = {
    "tidegate:alerts:total",
    "tidegate:dead_letters:total",
    "tidegate:guard_stops:total",
    "tidegate:input_lag:records",
    "tidegate:leaks:total",
    "tidegate:learner_faults:total",
    "tidegate:records:rate1m",
}


def metric_faults(expression: str) -> Iterator[str]:
    """Names and labels of the engine that an expression uses and the engine does not have."""
    for name, labels in re.findall(r"\b(tidegate_\w+)(?:\{([^}]*)\})?", expression):
        base = name if name in KNOWN else re.sub(r"_(bucket|sum|count)$", "", name)
        spec = KNOWN.get(base)
        if spec is None or (base != name and spec.kind != "histogram"):
            yield f"no metric {name}"
            continue
        if spec.kind == "histogram" and base == name:
            yield f"{name} is a histogram: use its _bucket, _sum or _count"
        for label in re.findall(r"(\w+)\s*[=!]", labels):
            if label not in {*spec.labels, *OF_PROMETHEUS}:
                yield f"{name} has no label {label}"
    for name in re.findall(r"\btidegate:[\w:]+", expression):
        if name not in RECORDED:
            yield f"nothing records {name}"
    yield from _grouping_faults(expression)


def _grouping_faults(expression: str) -> Iterator[str]:
    """`by` may only name labels of a metric that stands in the expression."""
    specs = [
        KNOWN[name] for name in re.findall(r"\btidegate_\w+?(?=_bucket|_sum|_count|\b)", expression) if name in KNOWN
    ]
    if not specs:  # recorded series and Prometheus' own
        return
    allowed = OF_PROMETHEUS.union(*(spec.labels for spec in specs))
    for labels in re.findall(r"\bby\s*\(([^)]*)\)", expression):
        for label in re.split(r"\s*,\s*", labels.strip()):
            if label not in allowed:
                yield f"grouped by {label}, which none of its metrics has"


def rules() -> list[dict[str, str]]:
    return [rule for group in load("deploy/prometheus/rules.yml")["groups"] for rule in group["rules"]]


def dashboard(name: str = "tidegate") -> dict[str, Any]:
    return dict(json.loads((DEPLOY / f"grafana/dashboards/{name}.json").read_text()))


def panels(name: str) -> list[dict[str, Any]]:
    return [panel for panel in dashboard(name)["panels"] if panel["type"] != "row"]


BOARDS = {
    "tidegate": ["Health and ledger", "Throughput and lag", "Drift and alerts", "Models", "Transactions and state"],
    "learning": ["Learning now", "Challengers", "Arms", "Guard and updates"],
    "trust": ["Scores and groups", "Before labels come", "Groups", "Alerts arrive"],
}
"""Dashboards and their rows."""

LEARNING = """
models:
  m:
    task: binary
    false_alarms: 1 per 1000 events
    reference: {first: 500}
    windows: {every: 2h, min_events: 50}
    labels: {horizon: 1d}
    learn: {champion: river.linear_model.LogisticRegression, ask: {labels: 100 per 1000 events}}
input: {model: m, label: y, label_delay: {events: 5}}
"""


def filled(loaded: config.Config, path: Path) -> Iterator[Metric]:
    """What scrapes during a real run, and one at its end, find series of."""
    embedded, figures = Embedded(loaded), Figures()
    for i, _ in enumerate(embedded.run(Feed(loaded, path))):
        if i % 250 == 0:
            figures.publish([ShardFigures(each.name, 0, each.stage.figures(), {}) for each in embedded.consumers], {})
            yield from figures.collect()
    embedded.feed(LABELS, 0, [Record(0, embedded.now, b"key", b"not JSON")], embedded.now)
    embedded.finish()
    figures.publish([ShardFigures(each.name, 0, each.stage.figures(), {}) for each in embedded.consumers], {})
    yield from figures.collect()


def test_every_metric_of_a_stage_leads_through_the_figures_of_real_stages(tmp_path: Path) -> None:
    """F15, F30 to F37: a path that no stage has would be a panel that stays empty, and an alert that never fires."""
    draw = np.random.default_rng(3)
    rows = np.column_stack([draw.normal(size=2000), draw.integers(0, 2, 2000)])
    rows[1000:, 0] += 5.0  # something to raise an alert for
    lines = ["x,y", *(f"{x:.3f},{y:.0f}" for x, y in rows)]
    (tmp_path / "data.csv").write_text("\n".join(lines))
    runs = [
        (LEARNING, tmp_path / "data.csv"),
        (steered.TRIED, steered.rows(tmp_path)),
        (steered.CHOSEN, steered.rows(tmp_path, poisoned=True)),
    ]
    samples = [
        (family.name, sample)
        for text, path in runs
        for family in filled(config.parse(text), path)
        for sample in family.samples
    ]
    names = {name for name, _ in samples}
    of_stages = [spec for spec in METRICS if not spec.path.startswith(("shard.", "worker."))]
    assert [spec.name for spec in of_stages if spec.name.removesuffix("_total") not in names] == []
    kinds = {sample.labels["kind"] for _, sample in samples if "kind" in sample.labels}
    assert kinds and kinds <= set(get_args(get_type_hints(Alert)["kind"])), "tidegate_alerts_total is by kind of alert"
    states = {s.labels["state"] for name, s in samples if name in ("tidegate_trial_state", "tidegate_guard_state")}
    assert states <= {*TRANSITIONS, *get_args(Status)} and {"shadow", "canary", "promoted", "frozen"} <= states


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_every_rule_uses_metrics_that_exist(rule: dict[str, Any]) -> None:
    """F46."""
    assert list(metric_faults(rule["expr"])) == []
    if "alert" in rule:
        assert rule["labels"]["severity"] in ("information", "warning", "critical")
        assert {"summary", "action"} <= set(rule["annotations"])


def test_the_rule_of_the_ledger_adds_up_what_the_ledger_does() -> None:
    """F24: exactly the states that are terms of the equations, and the total."""
    rule = next(rule for rule in rules() if rule.get("alert") == "TidegateLedgerUnbalanced")["expr"]
    panel = next(panel for panel in dashboard()["panels"] if panel["title"] == "Records unaccounted for")
    for side in ("predictions", "labels"):
        kind = type(getattr(Ledger(), side))
        terms = [name for name in kind.__struct_fields__ if kind(**{name: 1}).sides()[1] == 1]
        assert len(terms) >= 5 and "in" in Ledger().figures()[side]
        for expression in (rule, panel["targets"][0]["expr"]):
            assert f'tidegate_ledger_{side}{{state=~"{"|".join(terms)}"}}' in expression
            assert f'tidegate_ledger_{side}{{state="in"}}' in expression


def test_the_rules_cover_what_must_wake_somebody() -> None:
    names = {rule.get("alert", "") for rule in rules()}
    wanted = {"LedgerUnbalanced", "LagGrowing", "NoProgress", "DeadLetters", "Drift", "WorkerDown", "LearnerFails"}
    wanted |= {"GuardActed", "LearningPaused", "TrialHalted", "DeliveryFails", "DeliveryGivenUp", "ForwarderDown"}
    assert {f"Tidegate{name}" for name in wanted} <= names
    assert {rule["record"] for rule in rules() if "record" in rule} == RECORDED


@pytest.mark.parametrize("name", BOARDS)
def test_every_panel_uses_metrics_that_exist_and_the_provisioned_source(name: str) -> None:
    """F46."""
    (source,) = load("deploy/grafana/provisioning/datasources/prometheus.yml")["datasources"]
    shown = panels(name)
    assert len(shown) >= 10
    for panel in shown:
        assert panel["datasource"]["uid"] == source["uid"], panel["title"]
        assert panel["description"] and panel["targets"], panel["title"]
        for target in panel["targets"]:
            assert list(metric_faults(target["expr"])) == [], panel["title"]


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_has_its_rows_and_no_panel_lies_on_another(name: str) -> None:
    panels = dashboard(name)["panels"]
    assert [panel["title"] for panel in panels if panel["type"] == "row"] == BOARDS[name]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        area = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not area & cells, panel["title"]
        cells |= area


def test_the_dashboards_are_those_that_are_deployed_and_each_leads_to_the_others() -> None:
    assert {path.stem for path in (DEPLOY / "grafana/dashboards").glob("*.json")} == BOARDS.keys()
    assert len({dashboard(name)["uid"] for name in BOARDS}) == len(BOARDS)
    for name in BOARDS:
        (link,) = dashboard(name)["links"]
        assert link["type"] == "dashboards" and link["tags"] == ["tidegate"] == dashboard(name)["tags"]


@pytest.mark.parametrize("name", ["learning", "trust"])
def test_a_dashboard_asks_which_models_and_every_panel_of_a_model_obeys(name: str) -> None:
    (variable,) = dashboard(name)["templating"]["list"]
    found = re.fullmatch(r"label_values\((\w+), model\)", variable["query"]["query"])
    assert found is not None and "model" in KNOWN[found[1]].labels
    for panel in panels(name):
        for expression in [target["expr"] for target in panel["targets"]]:
            of_models = any("model" in KNOWN[each].labels for each in re.findall(r"\btidegate_\w+", expression))
            assert ('model=~"$model"' in expression) == of_models, panel["title"]


def test_grafana_finds_the_dashboard_where_compose_mounts_it() -> None:
    mounts = dict(mount.split(":")[:2] for mount in compose()["services"]["grafana"]["volumes"])
    (provider,) = load("deploy/grafana/provisioning/dashboards/tidegate.yml")["providers"]
    assert mounts["./deploy/grafana/dashboards"] == provider["options"]["path"]
    home = compose()["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/tidegate.json"


def test_prometheus_scrapes_what_forwards_alerts() -> None:
    """F20: by the name that compose gives it, at the port that the configuration gives every process."""
    jobs = {job["job_name"]: job for job in load("deploy/prometheus/prometheus.yml")["scrape_configs"]}
    (found,) = jobs["tidegate-forward"]["dns_sd_configs"]
    assert set(found["names"]) <= set(compose()["services"])
    assert found["port"] == config.parse(container_config()).engine.metrics_port
    watched = {job for rule in rules() for job in re.findall(r'job="([\w-]+)"', rule["expr"])}
    assert watched == jobs.keys()


def test_every_metric_is_shown_somewhere() -> None:
    """A metric that nobody sees is either missing on the dashboard or not worth its series."""
    seen = "".join(json.dumps(dashboard(name)) for name in BOARDS) + json.dumps(rules())
    assert [name for name in KNOWN if name not in seen] == []


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("rate(tidegate_nothing_total[1m])", "no metric tidegate_nothing_total"),
        ("tidegate_ready_bucket", "no metric tidegate_ready_bucket"),
        ("tidegate_batch_seconds > 1", "is a histogram"),
        ('tidegate_ready{stage="join"}', "tidegate_ready has no label stage"),
        ("sum by (model) (tidegate_records_total)", "grouped by model"),
        ("tidegate:nothing:total > 1", "nothing records tidegate:nothing:total"),
    ],
)
def test_a_planted_fault_in_an_expression_is_found(expression: str, fault: str) -> None:
    assert fault in next(metric_faults(expression))
