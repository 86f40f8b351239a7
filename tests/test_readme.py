"""The README's commands and code are run, so that they stay true."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import click
import msgspec
import pytest

import tidegate
from learners import snapshots
from learners.registry import make
from stream import config
from stream.events import Label, Prediction
from stream.surface import cli, demo

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """The tidegate commands of all shell blocks, without the name."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    words = [shlex.split(line, comments=True) for line in lines if line.startswith("tidegate ")]
    return [[word for word in line[1:] if word != "&"] for line in words]


@pytest.mark.parametrize("text", blocks("yaml"))
def test_configurations_are_valid(text: str) -> None:
    assert config.parse(text).models


def test_the_demonstrations_configuration_is_the_one_that_runs() -> None:
    shown = next(text for text in blocks("yaml") if "late15" in text)
    assert config.parse(shown) == config.load(demo.CONFIG)


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_commands_have_the_options_that_are_shown(arguments: list[str]) -> None:
    command: click.Command = cli.cli
    while isinstance(command, click.Group):
        found = command.commands[arguments[0]]
        command, arguments = found, arguments[1:]
    command.make_context("tidegate", list(arguments))


def test_check_and_replay_work_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """F45"""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIDEGATE_SNAPSHOT_KEY", "0123456789abcdef0123456789abcdef")
    shown = next(text for text in blocks("yaml") if "late15" in text)
    (tmp_path / "flights.yaml").write_text(shown)
    (tmp_path / "fraud.yaml").write_text(blocks("yaml")[0])
    head = "flight_id,scheduled_departure,landed,late,carrier,origin,distance\n"
    rows = "".join(
        f"F{i},2013-01-01T{i // 60:02}:{i % 60:02}:00Z,2013-01-02T00:00:00Z,{i % 4 // 3},UA,EWR,{i % 7}\n"
        for i in range(300)
    )
    (tmp_path / "flights.csv").write_text(head + rows)
    here = [line for line in commands() if line[0] in ("check", "replay", "schema")]
    assert len(here) >= 4
    for line in here:
        arguments = [word.removesuffix(".gz") for word in line]
        assert cli.run(arguments) == 0, (line, capsys.readouterr().err)
    assert (tmp_path / "report.html").stat().st_size > 1e6
    assert (tmp_path / "models" / "late15-champion.snapshot").exists()


def test_events_are_valid() -> None:
    prediction, label = blocks("json")
    assert msgspec.json.decode(prediction, type=Prediction).features["country"] == "PT"
    assert msgspec.json.decode(label, type=Label).label == 1


def test_a_snapshot_opens_in_two_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F29"""
    monkeypatch.chdir(tmp_path)
    learner = make("majority", {}, "binary", 1)
    learner.learn({}, 1)
    header = snapshots.Header(
        model="m", learner="champion", version="1", updates=1, path="majority", parameters={}, task="binary", seed=1,
        lineage={},
    )  # fmt: skip
    Path("model.snapshot").write_bytes(snapshots.seal(header, learner.snapshot(), b"0123456789abcdef0123", "dev"))
    (code,) = blocks("python")
    scope: dict[str, object] = {}
    exec(code, scope)
    assert scope["model"].predict({}).prediction == 1  # type: ignore[attr-defined]
    assert tidegate.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    named = [re.split(r"[=<>\[]", text)[0] for text in [*project["dependencies"], *extras["demo"], *extras["parquet"]]]
    table = README.split("## Dependencies")[1]
    assert [name for name in named if name not in table] == []


def test_files_that_are_shown_exist() -> None:
    for path in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / path).is_file(), path
