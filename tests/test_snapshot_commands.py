"""Published models from the command line: what is there, what it is, and how it leaves (F29)."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

import tidegate
from learners import snapshots, state
from learners.registry import make
from stream.runtime import registry_export
from stream.runtime.kafka.tail import Tailed
from stream.surface import cli
from tests.learning import stream, taught

KEY = "0123456789abcdef0123456789abcdef"
LINEAGE = {"parent": "2@100", "from": "2026-01-01T00:00:00+00:00", "to": "2026-02-01T00:00:00+00:00", "config": "c0de"}

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the snapshots of a replay in `kept`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIDEGATE_SNAPSHOT_KEY", KEY)
    kept = tmp_path / "kept"
    kept.mkdir()
    for learner, path in (("champion", "river.tree.HoeffdingTreeClassifier"), ("baseline", "majority")):
        (kept / f"m-{learner}.snapshot").write_bytes(sealed(learner, path))
    return tmp_path


def sealed(
    learner: str = "champion", path: str = "majority", version: str = "3", payload: bytes | None = None
) -> bytes:
    from stream.runtime.stages import secrets_from

    secrets = secrets_from({"TIDEGATE_SNAPSHOT_KEY": KEY})
    assert secrets.key is not None
    metrics = {} if learner == "baseline" else {"accuracy": 0.8125, "log_loss": 0.4}
    header = snapshots.Header(
        model="m", learner=learner, version=version, updates=60, path=path, lineage={**LINEAGE, "metrics": metrics}
    )
    content = taught(make(path, {}, "binary", 1), stream(60)).snapshot() if payload is None else payload
    return snapshots.seal(header, content, secrets.key, secrets.key_id)


def run(capsys: Capture, *arguments: str) -> tuple[int, str, str]:
    code = cli.run(["snapshots", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_directory_is_listed_with_what_matters(folder: Path, capsys: Capture) -> None:
    """F29: one row a file; a changed file stands there with the reason, and not with what it claims to be."""
    whole = sealed("challenger")
    (folder / "kept" / "x.snapshot").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    code, out, err = run(capsys, "list", "kept")
    assert (code, err) == (0, "")
    rows = {line.split()[1]: line.split() for line in out.splitlines() if "kept/" in line}
    assert rows["champion"][:5] == ["m", "champion", "3", "60", "2026-02-01T00:00"]
    assert "accuracy 0.8125, log_loss 0.4" in out and "holds" in rows["champion"] and "holds" in rows["baseline"]
    assert "challenger" not in out and "snapshot has been changed" in out


def test_a_list_as_json_is_one_document_a_line(folder: Path, capsys: Capture) -> None:
    code, out, _ = run(capsys, "list", "kept", "--json", "--learner", "champion")
    (document,) = map(orjson.loads, out.splitlines())
    assert (code, document["signature"], document["at"]) == (0, "holds", LINEAGE["to"])
    assert document["header"]["lineage"]["parent"] == "2@100"
    assert document["bytes"] == (folder / "kept" / "m-champion.snapshot").stat().st_size


def test_one_is_shown_with_its_lineage_and_its_classes(folder: Path, capsys: Capture) -> None:
    """F29, F53: after its signature held."""
    code, out, err = run(capsys, "show", "kept", "--learner", "champion")
    assert (code, err) == (0, "")
    told = {line[:13].strip(): line[13:].strip() for line in out.splitlines()}
    assert told["signature"] == "holds" and told["parent"] == "2@100" and told["configuration"] == "c0de"
    assert told["examples"] == f"{LINEAGE['from']} to {LINEAGE['to']}"
    count, _, outcome = told["classes"].partition(" ")
    assert int(count) > 3 and outcome == "named, all may be loaded"
    _, out, _ = run(capsys, "show", "kept/m-champion.snapshot", "--json")
    document = orjson.loads(out)
    assert (
        document["loads"] is True
        and document["classes"]["river.tree.hoeffding_tree_classifier.HoeffdingTreeClassifier"]
    )


class Bomb:
    """Writes a file when it is unpickled."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("ran"),)


def test_a_signed_snapshot_with_a_foreign_class_is_told_and_not_run(folder: Path, capsys: Capture) -> None:
    """F53: planted: whoever has the key may still have made a mistake."""
    (folder / "bad.snapshot").write_bytes(sealed(payload=state.dumps(("Majority", 1, Bomb()))))
    code, out, err = run(capsys, "show", "bad.snapshot")
    assert code == 2 and "classes        may not be loaded: pathlib.Path.touch" in out
    assert err.startswith("tidegate: bad.snapshot: pathlib.") and err.count("\n") == 1
    code, _, err = run(capsys, "export", "bad.snapshot", "--unsigned-pickle", "--out", "out")
    assert (code, err.count("\n")) == (2, 1)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    "path",
    ["majority", "experts", "river.tree.HoeffdingTreeClassifier", "river.naive_bayes.GaussianNB"],
)
def test_the_classes_of_a_state_are_read_without_making_them(path: str) -> None:
    """F53: the names are those that loading needs, all on the list."""
    learner = taught(make(path, {}, "binary", 1), stream(80))
    named = state.classes(learner.snapshot())
    assert all(named.values()) and (named or path == "majority")
    with pytest.raises(snapshots.SnapshotError):
        state.classes(b"\x00\x00\x00\x00junk")


def test_the_newest_version_is_taken_unless_one_is_asked_for(folder: Path, capsys: Capture) -> None:
    for version in ("9", "10", "2"):
        (folder / "kept" / f"m-{version}.snapshot").write_bytes(sealed(version=version))
    for more, version in (([], "10"), (["--version", "9"], "9")):
        code, out, _ = run(capsys, "show", "kept", "--learner", "champion", "--json", *more)
        assert (code, orjson.loads(out)["header"]["version"]) == (0, version)


def test_an_export_is_the_envelope_and_its_header(folder: Path, capsys: Capture) -> None:
    """F29: what was exported loads in two lines."""
    code, out, err = run(capsys, "export", "kept", "--learner", "champion", "--out", "there")
    assert (code, err, len(out.splitlines())) == (0, "", 2)
    file = folder / "there" / "m-champion-3-60.snapshot"
    assert file.read_bytes() == (folder / "kept" / "m-champion.snapshot").read_bytes()
    assert orjson.loads(file.with_suffix(".json").read_bytes())["updates"] == 60
    from stream.runtime.stages import secrets_from

    assert tidegate.load_snapshot(file, KEY.encode(), secrets_from().key_id).updates == 60
    assert sorted(p.suffix for p in (folder / "there").iterdir()) == [".json", ".snapshot"]


def test_a_pickle_is_written_only_on_demand_and_with_a_warning(folder: Path, capsys: Capture) -> None:
    """F29, F53: it opens with River alone."""
    code, out, err = run(capsys, "export", "kept", "--learner", "champion", "--out", "there", "--unsigned-pickle")
    assert code == 0 and "m-champion-3-60.pickle" in out
    assert err.startswith(
        "tidegate: warning: there/m-champion-3-60.pickle is an unsigned pickle: whoever can change it"
    )
    model = pickle.loads((folder / "there" / "m-champion-3-60.pickle").read_bytes())  # noqa: S301 - ours, just written
    original = taught(make("river.tree.HoeffdingTreeClassifier", {}, "binary", 1), stream(60))
    assert model.predict_proba_one({"a": 1.0, "word": "r"})[1] == original.predict({"a": 1.0, "word": "r"}).score


def test_without_mlflow_the_error_says_what_to_install(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F29."""
    monkeypatch.setitem(sys.modules, "mlflow", None)
    code, _, err = run(capsys, "export", "kept", "--learner", "champion", "--to", "mlflow")
    assert (code, err) == (2, "tidegate: MLflow is not installed; install tidegate[mlflow]\n")


@pytest.mark.filterwarnings("ignore")  # MLflow's own, which differ by its version
def test_a_model_is_registered_with_mlflow(folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """F29: with the real package, where it is installed: the signed snapshot, opened by whoever has the key."""
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed (tidegate[mlflow])")
    pandas = pytest.importorskip("pandas")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (folder / "runs").as_uri()
    code, out, _ = run(capsys, "export", "kept", "--learner", "champion", "--to", "mlflow", "--uri", uri)
    assert (code, out.splitlines()[-1]) == (0, "registered models:/m-champion/1")
    served = mlflow.pyfunc.load_model("models:/m-champion/1")
    original = taught(make("river.tree.HoeffdingTreeClassifier", {}, "binary", 1), stream(60))
    (said,) = served.predict(pandas.DataFrame([{"a": 1.0, "word": "r"}]))
    assert said["score"] == original.predict({"a": 1.0, "word": "r"}).score


def test_the_code_that_mlflow_runs_is_there() -> None:
    assert registry_export.MODEL_CODE.is_file()


def test_names_of_models_cannot_leave_the_directory() -> None:
    header = snapshots.Header(model="../a b", learner="c", version="1", updates=2, path="majority")
    assert registry_export.stem(header) == "_a_b-c-1-2"


FAULTS: list[tuple[tuple[str, ...], str]] = [
    (("list",), "name a file or a directory of snapshots, or the topic's configuration with --config"),
    (("list", "kept", "--config", "c.yaml"), "name a file or a directory"),
    (("list", "none"), "none: cannot be read: No such file or directory"),
    (("list", "empty"), "empty: no .snapshot files; tidegate replay --snapshots empty writes them"),
    (("list", "kept", "--model", "n"), "no snapshot fits --model and --learner"),
    (("show", "kept"), "several learners: add --model and --learner; there are: m/baseline version 3, m/champion"),
    (("show", "kept", "--version", "4"), "no snapshot fits --model, --learner and --version; there are: m/baseline"),
    (("show", "junk.snapshot"), "junk.snapshot: not a tidegate snapshot"),
    (("export", "kept", "--learner", "champion", "--out", "junk.snapshot/x"), "junk.snapshot/x/m-champion-3-60.snap"),
    (("export", "kept", "--to", "mlflow", "--unsigned-pickle"), "--unsigned-pickle: MLflow gets the signed snapshot"),
    (("list", "--config", "c.yaml"), "c.yaml: kafka: missing; add kafka:"),
]


@pytest.mark.parametrize(("arguments", "message"), FAULTS, ids=lambda value: " ".join(value)[:40])
def test_faults_are_one_line_and_exit_2(
    folder: Path, capsys: Capture, arguments: tuple[str, ...], message: str
) -> None:
    (folder / "empty").mkdir()
    (folder / "junk.snapshot").write_bytes(b"junk")
    (folder / "c.yaml").write_text("models: {m: {task: binary}}\n")
    code, out, err = run(capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"tidegate: {message}")


def test_without_a_key_nothing_is_opened(folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIDEGATE_SNAPSHOT_KEY")
    code, _, err = run(capsys, "list", "kept")
    assert (code, err.startswith("tidegate: the key is missing: set TIDEGATE_SNAPSHOT_KEY")) == (2, True)


def test_the_topic_is_listed_with_when_each_was_published(
    folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F29: records as they lie on the broker; tombstones and what is no snapshot are passed over. The broker itself is
    replaced here; tests/test_kafka.py reads topics for real."""
    from stream import codec
    from stream.contract import Record
    from stream.events import ModelSnapshot, Traffic

    event = ModelSnapshot(
        model="m", learner="champion", version="3", updates=60, at="2026-03-01T00:00:00+00:00", envelope=sealed()
    )
    traffic = Traffic(model="m", at="2026-03-01T00:00:00+00:00", version="3", learners=["champion"])
    values = [codec.encode(event), None, codec.encode(traffic)]
    lying = [Tailed(0, Record(i, 0.0, b"m", value)) for i, value in enumerate(values)]
    monkeypatch.setattr("stream.runtime.kafka.tail.tail", lambda config, clients, role: iter(lying))
    (folder / "k.yaml").write_text("kafka: {bootstrap_servers: 'localhost:1'}\nmodels: {m: {task: binary}}\n")
    code, out, _ = run(capsys, "list", "-c", "k.yaml", "--json")
    (document,) = map(orjson.loads, out.splitlines())
    assert (code, document["at"], document["where"]) == (0, event.at, "tidegate.snapshots-0@0")
    lying.clear()
    code, _, err = run(capsys, "list", "-c", "k.yaml")
    assert (code, err.startswith("tidegate: k.yaml: its snapshots topic is empty")) == (2, True)
