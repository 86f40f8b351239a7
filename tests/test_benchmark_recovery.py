"""The recovery benchmark measures what it says; its figures themselves are not tested."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import pending, recovery
from benchmarks.recovery import Form, Watched, Worker
from stream import codec, config
from stream.contract import LABELS, PREDICTIONS
from stream.events import Prediction
from stream.runtime import journal
from stream.runtime.journal import JournalRecord, Taken

FORM = Form("few", 2, 10, 10.0)


def run(kind: str, turn: int, **more: Any) -> dict[str, Any]:
    times = {"ready_s": 2.0 + turn, "ready_cpu_s": 1.0, "journaled_s": 3.0 + turn, "assigned_s": 6.0}
    return {"form": "few", "kind": kind, "turn": turn, **times, "others_share": 0.5, "replayed": 0, **more}


def test_the_load_is_of_ten_numbers_and_no_prediction_expires() -> None:
    keys, values = pending.events(500, 100)
    found = [codec.decode_inbound(Prediction, value, pending.START_S + 1e6) for value in values]
    assert [event.prediction_id.encode() for event in found if isinstance(event, Prediction)] == keys
    assert all(set(event.features) == set(pending.NUMBERS) for event in found if isinstance(event, Prediction))
    model = config.parse(recovery.CONFIG).models[pending.MODEL]
    assert 2 * max(form.pending for form in recovery.FULL) / pending.RATE < float(model.labels.horizon)


def test_bars_are_of_the_worst_and_what_was_killed_while_behind_has_none() -> None:
    rows = recovery.summarise(
        [run("stop", turn, ended_s=4.0 * turn) for turn in range(3)] + [run("kill, behind", 0, ready_s=99.0)]
    )
    assert rows[0]["ready_s"] == {"median": 3.0, "worst": 4.0} and rows[0]["turns"] == 3
    bars = {bar["name"]: (bar["value"], bar["bound"], bar["holds"]) for bar in recovery.bars((FORM,), rows)}
    assert bars == {
        "few, after stop: ready": (4.0, 10.0, True),
        "few, after stop: ready, CPU time": (1.0, 10.0, True),
        "few, after stop: records journaled": (5.0, 10.0, True),
        "few: SIGTERM to the end": (8.0, 15.0, True),
        "few, after stop: replayed": (0.0, 0.0, True),
    }
    late = recovery.summarise(
        [run("stop", 0, ended_s=15.1, replayed=1, ready_s=10.1, ready_cpu_s=10.1, journaled_s=10.2)]
    )
    assert not any(bar["holds"] for bar in recovery.bars((FORM,), late))


def test_only_a_checkpoint_of_the_join_with_predictions_in_it_counts() -> None:
    def entry(shard: str, name: str, start: int, end: int) -> SimpleNamespace:
        taken = Taken(0.0, [(name, 0, start, end, False)])
        key, value = journal.journal_entry(JournalRecord(shard, 3, [], [taken], "", 1))
        return SimpleNamespace(key=key, value=value)

    assert recovery._takes_predictions(entry("join/0", PREDICTIONS, 4, 5))
    assert not recovery._takes_predictions(entry("join/0", PREDICTIONS, 4, 4))
    assert not recovery._takes_predictions(entry("join/0", LABELS, 4, 5))
    assert not recovery._takes_predictions(entry("watch/0", PREDICTIONS, 4, 5))
    assert not recovery._takes_predictions(SimpleNamespace(key=b"join/0/state/rest/0/0", value=b"part"))
    assert not recovery._takes_predictions(SimpleNamespace(key=b"join/0/journal/3", value=None))


def test_what_a_worker_said_is_read_from_its_log(tmp_path: Path) -> None:
    worker = object.__new__(Worker)
    worker._file = tmp_path / "log"
    worker._file.write_text("join/0: replayed 7 records in 0.10 s\n")
    assert worker.ready_s() is None
    with worker._file.open("a") as log:
        log.write("join/1: replayed 5 records in 0.10 s\nready: partitions [0, 1], 4 shards, restored in 1.25 s\n")
    assert (worker.ready_s(), worker.replayed()) == (1.25, 12)


def test_cpu_time_is_told_of_the_time_between_two_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    watched = object.__new__(Watched)
    watched._seen = [(0.0, 0.0, 10.0), (10.0, 5.0, 25.0)]
    assert watched.between(2.0, 6.0) == (2.0, pytest.approx(0.5))


def test_a_form_that_there_is_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        recovery.main(["--forms", "9"])
    assert "--forms are 1 to 3" in capsys.readouterr().err
