"""The command line: what users meet, exit codes, errors in one line (F45, F47, F51)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import orjson
import pytest

import tidegate
from learners import snapshots
from learners.registry import make
from stream.runtime.replay import Progress
from stream.runtime.stages import secrets_from
from stream.surface import cli, console

CONFIG = """
models:
  m:
    task: binary
    reference: {first: 100}
    windows: {every: 2h, min_events: 20}
    slices: [s]
    labels: {horizon: 1d}
    learn: {champion: majority}
input: {model: m, label: y, label_delay: {time: 30m}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a stream and its configuration, as the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(CONFIG)
    rows = "".join(f"{i % 9},{'ab'[i % 2]},{i % 3 % 2}\n" for i in range(400))
    (tmp_path / "d.csv").write_text("x,s,y\n" + rows)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.run(list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


def test_replay_writes_result_and_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """F44, F45"""
    code, out, _ = run(capsys, "replay", "d.csv", "-c", "c.yaml", "--json", "out/r.json", "--report", "out/r.html")
    assert code == 0
    assert "400 predictions · 400 labels" in out
    assert "balanced: 400 = 400 joined" in out
    assert orjson.loads((folder / "out/r.json").read_bytes())["ledger"]["predictions"]["joined"] == 400
    assert (folder / "out/r.html").read_text().startswith("<!doctype html>")


def test_rows_that_cannot_be_used_are_counted_and_the_first_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (folder / "d.csv").open("a") as file:
        file.write("too,few\n")
    code, out, _ = run(capsys, "replay", "d.csv", "-c", "c.yaml")
    told = out[out.index("dead letters") :].splitlines()
    assert code == 0 and told[0].split(maxsplit=2)[2] == "1 (1 row)"
    assert told[1].strip().startswith("such as d.csv: line ")


def test_a_place_that_cannot_be_written_is_told_before_the_run(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in ("--json", "--report"):
        code, out, err = run(capsys, "replay", "d.csv", "-c", "c.yaml", option, "d.csv/there/r")
        assert (code, out, err) == (2, "", "tidegate: d.csv/there/r: cannot be written: Not a directory\n")


def test_check_explains_and_counts_from_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "check", "c.yaml", "--data", "d.csv")
    assert code == 0
    assert "m: binary, 2 features (1 numeric, 1 text), slices s (2)" in out
    assert "waits up to 24 h for labels: about 1,444 predictions" in out
    assert "learns online with majority" in out
    asking = "champion: majority, ask: {labels: 5 per day}"
    (folder / "c.yaml").write_text(CONFIG.replace("champion: majority", asking))
    out = run(capsys, "check", "c.yaml")[1]
    assert "asks people to label 5 per day, chosen 80% by uncertainty, 20% by random" in out


def test_check_names_a_slice_that_the_data_lacks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "c.yaml").write_text(CONFIG.replace("slices: [s]", "slices: [region]"))
    code, _, err = run(capsys, "check", "c.yaml", "--data", "d.csv")
    assert (code, err) == (2, "tidegate: d.csv: models.m.slices[0]: no feature or tag 'region' in d.csv\n")


def test_all_faults_of_a_configuration_are_told_together(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = """
models:
  m:
    task: binary
    learn:
      champion: river.tree.HoefdingTreeClassifier
      challengers: {forest: river.forest.ARFClassifier}
"""
    (folder / "c.yaml").write_text(text)
    code, out, err = run(capsys, "check", "c.yaml")
    lines = err.splitlines()
    assert (code, out) == (2, "")
    assert lines[0].startswith("tidegate: c.yaml: models.m.learn.champion: no class river.tree.HoefdingTreeClassifier")
    assert "did you mean" in lines[0]
    assert lines[1].startswith(
        "tidegate: c.yaml: models.m.learn.challengers.forest: river.forest.ARFClassifier is random"
    )
    assert lines[2] == "tidegate: 2 faults in c.yaml, nothing started"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rply",), "no command 'rply'; did you mean replay?; see tidegate --help"),
        (("replay", "d.csv"), "missing option '--config' / '-c'; see tidegate replay --help"),
        (("replay", "d.csv", "-c", "no.yaml"), "no.yaml: cannot be read: No such file or directory"),
        (("replay", "no.csv", "-c", "c.yaml"), "no.csv: cannot be read: No such file or directory"),
        (("run", "-c", "c.yaml"), "c.yaml: kafka: missing; add kafka: {bootstrap_servers: localhost:9092}"),
        (("replay", "d.csv", "-c", "c.yaml", "--partitions", "0"), "invalid value for '--partitions'"),
        (("replay", "d.csv", "-c", "c.yaml", "--json", "d.csv/x"), "d.csv/x: cannot be written: Not a directory"),
        (
            ("snapshots", "verify", "d.csv"),
            "the key is missing: set TIDEGATE_SNAPSHOT_KEY or TIDEGATE_SNAPSHOT_KEY_FILE",
        ),
    ],
)
def test_a_users_fault_is_one_line_and_exit_2(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.delenv("TIDEGATE_SNAPSHOT_KEY", raising=False)
    monkeypatch.delenv("TIDEGATE_SNAPSHOT_KEY_FILE", raising=False)
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert err.startswith(f"tidegate: {message}")
    assert err.count("\n") == 1


def test_a_broker_that_is_not_there_is_one_line_and_exit_2(tmp_path: Path) -> None:
    """kafka-python tries for half a minute before it says so; a process of its own, as it leaves a socket behind."""
    (tmp_path / "k.yaml").write_text("kafka: {bootstrap_servers: '127.0.0.1:1'}\nmodels: {m: {task: binary}}\n")
    command = [sys.executable, "-m", "tidegate", "topics", "check", "-c", str(tmp_path / "k.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1 and "127.0.0.1:1" in done.stderr and "is the broker up" in done.stderr


def test_an_alert_fails_the_run_where_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """F45: a gate for CI."""
    rows = "".join(f"{i % 9 + (100 if i > 3000 else 0)},a,{i % 2}\n" for i in range(6000))
    (folder / "d.csv").write_text("x,s,y\n" + rows)
    (folder / "c.yaml").write_text(CONFIG.replace("first: 100}", "first: 1500}\n    detectors: [counts]"))
    assert run(capsys, "replay", "d.csv", "-c", "c.yaml")[0] == 0
    code, out, _ = run(capsys, "replay", "d.csv", "-c", "c.yaml", "--fail-on", "alert")
    assert code == 1, out


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    found: list[tuple[tuple[str, ...], click.Command]] = []
    for name, command in group.commands.items():
        found += commands(command, (*path, name)) if isinstance(command, click.Group) else [((*path, name), command)]
    return found


@pytest.mark.parametrize("path", [path for path, _ in commands(cli.cli)], ids=" ".join)
def test_the_help_of_every_command_has_an_example(capsys: pytest.CaptureFixture[str], path: tuple[str, ...]) -> None:
    code, out, _ = run(capsys, *path, "--help")
    assert code == 0
    assert f"tidegate {' '.join(path)}" in out.split("Example:")[1]


def test_help_comes_without_the_heavy_modules() -> None:
    code = (
        "import sys; from stream.surface import cli; cli.run(['--help'])\n"
        "heavy = {'river', 'plotly', 'faust', 'kafka', 'numpy', 'rich', 'scipy'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "tidegate", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("tidegate ")


def test_schemas_name_every_event(capsys: pytest.CaptureFixture[str]) -> None:
    """F47"""
    code, out, _ = run(capsys, "schema")
    assert code == 0
    assert orjson.loads(out)["$defs"].keys() >= {"Prediction", "Label", "Alert", "Command", "Heartbeat"}
    asyncapi = orjson.loads(run(capsys, "schema", "--asyncapi")[1])
    assert asyncapi["channels"]["alerts"]["address"] == "tidegate.alerts"
    config = orjson.loads(run(capsys, "schema", "--config")[1])
    model = config["properties"]["models"]["additionalProperties"]
    assert model["required"] == ["task"]
    assert model["properties"]["learn"]["anyOf"][0]["properties"]["champion"]["examples"][0] == "experts"


def test_a_snapshot_is_verified_and_a_changed_one_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """F29"""
    from stream.runtime.stages import secrets_from

    monkeypatch.setenv("TIDEGATE_SNAPSHOT_KEY", "0123456789abcdef0123")
    secrets = secrets_from()
    assert secrets.key is not None
    learner = make("majority", {}, "binary", 1)
    header = snapshots.Header(
        model="m", learner="champion", version="3", updates=0, path="majority", parameters={}, task="binary", seed=1,
        lineage={},
    )  # fmt: skip
    envelope = snapshots.seal(header, learner.snapshot(), secrets.key, secrets.key_id)
    (folder / "m.snapshot").write_bytes(envelope)
    code, out, _ = run(capsys, "snapshots", "verify", "m.snapshot")
    assert (code, orjson.loads(out)["version"]) == (0, "3")
    (folder / "m.snapshot").write_bytes(envelope[:-1] + bytes([envelope[-1] ^ 1]))
    code, _, err = run(capsys, "snapshots", "verify", "m.snapshot")
    assert code == 2
    assert err.startswith("tidegate: m.snapshot: ")


def test_a_replay_leaves_signed_snapshots_that_two_lines_load(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """F29: from a backtest to a model in service."""
    key = "0123456789abcdef0123456789abcdef"
    ask = ("replay", "d.csv", "-c", "c.yaml", "--snapshots", "kept", "--json", "out.json")
    code, _, err = run(capsys, *ask)
    assert (code, err.startswith("tidegate: --snapshots: set TIDEGATE_SNAPSHOT_KEY")) == (2, True)
    monkeypatch.setenv("TIDEGATE_SNAPSHOT_KEY", key)
    code, _, _ = run(capsys, *ask)
    learning = orjson.loads((folder / "out.json").read_bytes())["learning"]
    assert (code, learning["updates"]["m"]["champion"], learning["snapshots"]["m"]["champion"]) == (0, 400, 1)
    file = folder / "kept" / "m-champion.snapshot"
    model = tidegate.load_snapshot(file, key.encode(), secrets_from({"TIDEGATE_SNAPSHOT_KEY": key}).key_id)
    assert tidegate.load_snapshot(file, key.encode()).digest() == model.digest(), "the name of the key need not be told"
    assert (model.updates, model.predict({"x": 1.0}).prediction) == (400, 0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (42, "42 s"),
        (268.4, "4 min 28 s"),
        (720, "12 min"),
        (9660, "2 h 41 min"),
        (7200, "2 h"),
        (273_600, "3 d 4 h"),
        (172_800, "2 d"),
    ],
)
def test_durations_read_as_people_say_them(seconds: float, text: str) -> None:
    assert console.duration(seconds) == text


def test_a_long_run_without_a_terminal_says_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress("d.csv") as show:
        for second in range(0, 61, 5):
            show(Progress(second / 60, 100 * second, 1.7e9, 2, float(second)))
    assert capsys.readouterr().err.splitlines() == [
        "d.csv: 33%, 100 events/s · 2023-11-14 · 2 alert events",
        "d.csv: 67%, 100 events/s · 2023-11-14 · 2 alert events",
    ]
