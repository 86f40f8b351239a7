"""What is deployed fits together: compose file, image, make (`tests/test_dashboards.py` has Prometheus and Grafana).

Runs without Docker: the files are read as data, and the image's one step that can fail for our reasons, building the
package from the copied files, is done in an empty directory.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from stream import config
from stream.contract import TOPICS
from stream.runtime.metrics import METRICS
from stream.runtime.scrape import TOKEN_VARIABLE
from stream.surface.cli import cli
from tests.house import ROOT

DEPLOY = ROOT / "deploy"
KNOWN = {spec.name: spec for spec in METRICS}


def load(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text())


def compose() -> dict[str, Any]:
    return dict(load("docker-compose.yml"))


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
    needed = [("engine", "TIDEGATE_SNAPSHOT_KEY"), ("engine", TOKEN_VARIABLE), ("forward", TOKEN_VARIABLE)]
    for service, name in needed:
        assert re.fullmatch(rf"\$\{{{name}:\?.+\}}", compose()["services"][service]["environment"][name])
        assert re.search(rf"^{name}=$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert ".env" in (ROOT / ".gitignore").read_text().split()
    for path in [ROOT / "docker-compose.yml", ROOT / ".env.example", *filter(Path.is_file, DEPLOY.rglob("*"))]:
        assert not re.search(rb"\b[0-9a-f]{32,}\b", path.read_bytes()), f"a key in {path}?"


def test_prometheus_shows_the_token_that_the_engine_asks_for() -> None:
    """F53: an address off loopback is served to nobody without one (`stream.runtime.scrape`)."""
    composed, jobs = compose(), load("deploy/prometheus/prometheus.yml")["scrape_configs"]
    assert composed["secrets"]["metrics_token"] == {"environment": TOKEN_VARIABLE}
    assert composed["services"]["prometheus"]["secrets"] == ["metrics_token"]
    for job in jobs:
        assert job["authorization"] == {"credentials_file": "/run/secrets/metrics_token"}, job["job_name"]


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
