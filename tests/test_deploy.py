"""What is deployed fits together: compose file, image, Prometheus, Grafana, and the names that the engine really has.

Runs without Docker: the files are read as data, and the image's one step that can fail for our reasons, building the
package from the copied files, is done in an empty directory.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import click
import numpy as np
import pytest
import yaml

from stream import config
from stream.contract import LABELS, TOPICS, Record
from stream.events import Alert
from stream.ledger import Ledger
from stream.runtime.embedded import Embedded
from stream.runtime.feed import Feed
from stream.runtime.metrics import METRICS, Figures, ShardFigures
from stream.surface.cli import cli
from tests.house import ROOT

DEPLOY = ROOT / "deploy"
KNOWN = {spec.name: spec for spec in METRICS}
OF_PROMETHEUS = {"instance", "job", "le"}
RECORDED = {
    "tidegate:alerts:total",
    "tidegate:dead_letters:total",
    "tidegate:input_lag:records",
    "tidegate:leaks:total",
    "tidegate:learner_faults:total",
    "tidegate:records:rate1m",
}


def load(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


def compose() -> dict[str, Any]:
    return dict(load("docker-compose.yml"))


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


def dashboard() -> dict[str, Any]:
    return dict(json.loads((DEPLOY / "grafana/dashboards/tidegate.json").read_text()))


def test_compose_has_the_whole_loop() -> None:
    """F20, F46, F47: broker, topics, engine, producer, subscriber, delivery, Alertmanager, Prometheus, Grafana."""
    services = compose()["services"]
    ours = {"topics", "engine", "producer", "alerts", "forward"}
    assert set(services) == {*ours, "kafka", "alertmanager", "prometheus", "grafana"}
    assert services["kafka"]["image"] == "apache/kafka:4.1.0"
    for name, service in services.items():
        assert ":" in service["image"] or "build" in service, f"{name}: an image without a version changes under us"


def test_compose_waits_for_services_that_exist_and_say_that_they_are_ready() -> None:
    services = compose()["services"]
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    for name, service in services.items():
        needs = service.get("depends_on", {})
        conditions = needs if isinstance(needs, dict) else {other: {"condition": "service_started"} for other in needs}
        for other, how in conditions.items():
            assert other in services, f"{name} depends on {other}"
            if how["condition"] == "service_healthy":
                check = services[other].get("healthcheck", {})
                built = "build" in services[other] and "HEALTHCHECK" in dockerfile
                assert not check.get("disable") and ("test" in check or built), f"{other} never says it is healthy"
            if how["condition"] == "service_completed_successfully":
                assert "restart" not in services[other], f"{other} never completes"


def test_compose_mounts_what_exists() -> None:
    volumes = compose()["volumes"]
    for name, service in compose()["services"].items():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            if source.startswith("."):
                assert (ROOT / source).exists(), f"{name} mounts {source}"
                assert mount.endswith(":ro"), f"{name} may write {source}"
            else:
                assert source in volumes, f"{name} mounts the undeclared volume {source}"


def test_compose_publishes_on_loopback_only() -> None:
    """F53."""
    ports = [port for service in compose()["services"].values() for port in service.get("ports", [])]
    assert len(ports) >= 4
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []
    for name, service in compose()["services"].items():
        assert not service.get("privileged") and service.get("network_mode") != "host", name


def test_the_engine_refuses_to_start_without_a_key_and_none_is_committed() -> None:
    """F53: compose itself stops at `:?`, the example holds no key, and .env is not committed."""
    key = compose()["services"]["engine"]["environment"]["TIDEGATE_SNAPSHOT_KEY"]
    assert re.fullmatch(r"\$\{TIDEGATE_SNAPSHOT_KEY:\?.+\}", key)
    assert re.search(r"^TIDEGATE_SNAPSHOT_KEY=$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert ".env" in (ROOT / ".gitignore").read_text().split()
    for path in [ROOT / "docker-compose.yml", ROOT / ".env.example", *filter(Path.is_file, DEPLOY.rglob("*"))]:
        assert not re.search(rb"\b[0-9a-f]{32,}\b", path.read_bytes()), f"a key in {path}?"


def container_config() -> str:
    """The configuration as the image puts it together."""
    assert any("cat demo.yaml kafka.yaml > tidegate.yaml" in line for line in instructions("RUN"))
    return (ROOT / "stream/surface/demo.yaml").read_text() + (DEPLOY / "kafka.yaml").read_text()


def test_the_containers_configuration_is_the_demonstrations_with_a_broker() -> None:
    loaded = config.parse(container_config())
    assert loaded.kafka is not None and loaded.kafka.bootstrap_servers == "kafka:9092"
    assert loaded.input is not None and loaded.input.model in loaded.models
    assert loaded.engine.metrics_host == "0.0.0.0"  # the container's own network; published on loopback
    assert config.Engine().metrics_host == "127.0.0.1"
    prometheus = load("deploy/prometheus/prometheus.yml")["scrape_configs"][0]["dns_sd_configs"][0]
    assert prometheus["names"] == ["engine"] and prometheus["port"] == loaded.engine.metrics_port


@pytest.mark.parametrize("name", ["topics", "engine", "producer", "alerts", "forward"])
def test_compose_gives_commands_that_there_are(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F47: each command line is parsed by the command line itself, beside the files that the image holds."""
    service = compose()["services"][name]
    assert service["working_dir"] in instructions("WORKDIR")
    (tmp_path / "tidegate.yaml").write_text(container_config())
    (tmp_path / "flights.csv.gz").touch()
    monkeypatch.chdir(tmp_path)
    command: Any = cli
    arguments = list(service["command"])
    while isinstance(command, click.Group):
        command = command.commands[arguments.pop(0)]
    context = command.make_context(name, arguments)
    assert context.params["config_file"].exists()


def instructions(word: str) -> list[str]:
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    return [line.split(maxsplit=1)[1] for line in text.splitlines() if line.split(" ")[0] == word]


def copied() -> list[str]:
    """What the image is built from."""
    copies = [line.split() for line in instructions("COPY") if not line.startswith("--from")]
    return [path for words in copies for path in words[:-1]]


def test_the_image_copies_what_exists_and_what_docker_is_given() -> None:
    allowed = [line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"]
    assert len(copied()) == len(set(copied())) >= 8
    for path in copied():
        assert (ROOT / path).exists(), path
        assert any(path == kept or path.startswith(f"{kept}/") for kept in allowed), f"{path} is ignored"


def test_the_image_does_not_run_as_root() -> None:
    assert instructions("USER")[-1] not in ("root", "0")
    assert "tidegate_ready" in KNOWN and "tidegate_ready" in instructions("HEALTHCHECK")[0]
    assert instructions("ENTRYPOINT") == ['["tidegate"]']


def test_what_the_image_copies_builds_into_a_complete_package(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for path in copied():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / path).is_dir():
            shutil.copytree(ROOT / path, source / path, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / path, source / path)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "-w", str(tmp_path), str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
        entry = next(name for name in packed if name.endswith("entry_points.txt"))
        assert "tidegate = stream.surface.cli:main" in archive.read(entry).decode()
    kept = [p for room in ("stream", "detectors", "learners") for p in (ROOT / room).rglob("*") if p.is_file()]
    wanted = {p.relative_to(ROOT).as_posix() for p in kept if "__pycache__" not in p.parts} | {"tidegate.py"}
    assert wanted - packed == set()
    assert {name.split("/")[0] for name in packed if ".dist-info" not in name} <= {*copied()}  # and no tests


LEARNING = """
models:
  m:
    task: binary
    false_alarms: 1 per 1000 events
    reference: {first: 500}
    windows: {every: 2h, min_events: 50}
    labels: {horizon: 1d}
    learn: {champion: river.linear_model.LogisticRegression}
input: {model: m, label: y, label_delay: {events: 5}}
"""


def test_every_metric_of_a_stage_leads_through_the_figures_of_real_stages(tmp_path: Path) -> None:
    """F15: a path that no stage has would be a panel that stays empty, and an alert that never fires."""
    draw = np.random.default_rng(3)
    rows = np.column_stack([draw.normal(size=2000), draw.integers(0, 2, 2000)])
    rows[1000:, 0] += 5.0  # something to raise an alert for
    lines = ["x,y", *(f"{x:.3f},{y:.0f}" for x, y in rows)]
    (tmp_path / "data.csv").write_text("\n".join(lines))
    loaded = config.parse(LEARNING)
    embedded = Embedded(loaded)
    for _ in embedded.run(Feed(loaded, tmp_path / "data.csv")):
        pass
    embedded.feed(LABELS, 0, [Record(0, embedded.now, b"key", b"not JSON")], embedded.now)
    embedded.finish()
    shards = [ShardFigures(consumer.name, 0, consumer.stage.figures(), {}) for consumer in embedded.consumers]
    figures = Figures()
    figures.publish(shards, {})
    filled = {family.name for family in figures.collect() if family.samples}
    of_stages = [spec for spec in METRICS if not spec.path.startswith(("shard.", "worker."))]
    assert [spec.name for spec in of_stages if spec.name.removesuffix("_total") not in filled] == []
    kinds = {s.labels["kind"] for family in figures.collect() for s in family.samples if "kind" in s.labels}
    assert kinds and kinds <= set(get_args(get_type_hints(Alert)["kind"])), "tidegate_alerts_total is by kind of alert"


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
    assert {f"Tidegate{name}" for name in wanted} <= names
    assert {rule["record"] for rule in rules() if "record" in rule} == RECORDED


def test_every_panel_uses_metrics_that_exist_and_the_provisioned_source() -> None:
    """F46."""
    (source,) = load("deploy/grafana/provisioning/datasources/prometheus.yml")["datasources"]
    shown = [panel for panel in dashboard()["panels"] if panel["type"] != "row"]
    assert len(shown) >= 15
    for panel in shown:
        assert panel["datasource"]["uid"] == source["uid"], panel["title"]
        assert panel["description"] and panel["targets"], panel["title"]
        for target in panel["targets"]:
            assert list(metric_faults(target["expr"])) == [], panel["title"]


def test_the_dashboard_has_its_rows_and_no_panel_lies_on_another() -> None:
    panels = dashboard()["panels"]
    assert [panel["title"] for panel in panels if panel["type"] == "row"] == [
        "Health and ledger",
        "Throughput and lag",
        "Drift and alerts",
        "Models",
        "Transactions and state",
    ]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        area = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not area & cells, panel["title"]
        cells |= area


def test_grafana_finds_the_dashboard_where_compose_mounts_it() -> None:
    mounts = dict(mount.split(":")[:2] for mount in compose()["services"]["grafana"]["volumes"])
    (provider,) = load("deploy/grafana/provisioning/dashboards/tidegate.yml")["providers"]
    assert mounts["./deploy/grafana/dashboards"] == provider["options"]["path"]
    home = compose()["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/tidegate.json"


def test_every_metric_is_shown_somewhere() -> None:
    """A metric that nobody sees is either missing on the dashboard or not worth its series."""
    seen = json.dumps(dashboard()) + json.dumps(rules())
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


def make(where: Path, *arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    program = shutil.which("make")
    assert program is not None, "missing: make"
    environment = {"PATH": os.environ["PATH"] if path is None else path, "HOME": str(where)}
    return subprocess.run(
        [program, *arguments], cwd=where, env=environment, capture_output=True, text=True, check=False
    )


def test_make_alone_lists_every_target() -> None:
    listed = set(re.findall(r"^  make ([a-z-]+) ", make(ROOT).stdout, re.MULTILINE))
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None and listed == {*phony[1].split()} - {"need-kafka"}
    assert {"setup", "test", "demo", "demo-kafka", "bench-throughput", "lint", "types", "lock", "help"} <= listed


@pytest.mark.parametrize(
    ("programs", "goal", "said"),
    [
        ((), "setup", "missing: python3 (Python 3.11 to 3.13; set PYTHON=...)"),
        ((), "need-kafka", "missing: java 17 or later (or a Docker engine, or KAFKA_BOOTSTRAP_SERVERS)"),
        (("java",), "need-kafka", "missing: mvn (Maven, to fetch Apache Kafka"),
    ],
)
def test_make_says_in_one_line_what_is_missing(tmp_path: Path, programs: tuple[str, ...], goal: str, said: str) -> None:
    for name in ("Makefile", "pyproject.toml", "requirements-dev.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "bin").mkdir()
    for program in programs:
        (tmp_path / "bin" / program).write_text("#!/bin/sh\n")
        (tmp_path / "bin" / program).chmod(0o755)
    done = make(tmp_path, goal, path=str(tmp_path / "bin"))
    assert done.returncode != 0 and done.stdout.startswith(said) and done.stdout.count("\n") == 1


def test_topics_of_the_contract_fit_the_names_of_a_broker() -> None:
    assert all(re.fullmatch(r"[a-zA-Z0-9._-]{1,249}", config.Topics().name(role)) for role in TOPICS)
