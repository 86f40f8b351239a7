"""Parts of the Kafka runtime that need no broker: holding inputs, quiet logs, keys, what a worker runs."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from stream import config
from stream.errors import TidegateError
from stream.runtime import stages
from stream.runtime.kafka.alignment import HOLD_RECORDS, Alignment
from stream.runtime.kafka.logs import RateLimit

MODELS = "models: {m: {task: binary%s}}"


def test_the_input_that_runs_ahead_of_a_backlog_is_held_and_let_go_again() -> None:
    """F52."""
    alignment = Alignment(slack_s=60.0)
    behind = {"predictions": 100.0, "labels": 100.0}
    lag = {"predictions": 9_000_000, "labels": 5}
    assert alignment.held(behind, {"labels": 10, "predictions": 10}, lag) == ()
    ahead = {"predictions": 100.0, "labels": 9_000.0}
    assert alignment.held(ahead, {"labels": HOLD_RECORDS, "predictions": 10}, lag) == ()
    assert alignment.held(ahead, {"labels": HOLD_RECORDS + 10, "predictions": 10}, lag) == ("labels",)
    nearer = {"predictions": 8_900.0, "labels": 9_000.0}
    assert alignment.held(nearer, {"labels": HOLD_RECORDS + 10, "predictions": 900}, lag) == ("labels",)
    caught = {"predictions": 9_000.0, "labels": 9_000.0}
    assert alignment.held(caught, {"labels": HOLD_RECORDS + 10, "predictions": 900}, lag) == ()


def test_nobody_is_held_for_an_input_that_is_silent_or_has_shown_nothing() -> None:
    alignment = Alignment(slack_s=60.0)
    progress = {"predictions": 1e9, "labels": float("-inf")}
    for count in (0, 10 * HOLD_RECORDS):
        assert alignment.held(progress, {"predictions": count}, {"labels": 0}) == ()
    assert alignment.held({"predictions": float("-inf"), "labels": float("-inf")}, {}, {"labels": 5}) == ()


def test_a_client_that_says_the_same_a_hundred_times_is_heard_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("stream.runtime.kafka.logs.monotonic", lambda: now[0])
    limit = RateLimit()

    def said(name: str) -> str | None:
        record = logging.LogRecord(name, logging.ERROR, "", 0, "cannot connect", (), None)
        return record.getMessage() if limit.filter(record) else None

    assert said("aiokafka.conn") == "cannot connect"
    assert [said("aiokafka.client") for _ in range(99)] == [None] * 99
    assert said("tidegate.kafka") == "cannot connect", "our own lines are never left out"
    now[0] += 1.0
    assert said("kafka.net") == "cannot connect (and 99 more lines)"


def test_models_that_learn_need_a_key_and_the_key_does_not_show(tmp_path: Path) -> None:
    """F53."""
    learning = config.parse(MODELS % ", learn: {policy: online}")
    watching = config.parse(MODELS % "")
    assert stages.stages_of(watching) == ("join", "watch")
    assert stages.stages_of(learning) == ("score", "join", "watch", "learn")
    stages.need_key(watching, stages.Secrets())
    with pytest.raises(TidegateError, match="set TIDEGATE_SNAPSHOT_KEY"):
        stages.need_key(learning, stages.secrets_from({}))
    with pytest.raises(TidegateError, match="give at least 16"):
        stages.secrets_from({"TIDEGATE_SNAPSHOT_KEY": "short"})
    file = tmp_path / "key"
    file.write_text("0123456789abcdef\n")
    secrets = stages.secrets_from({"TIDEGATE_SNAPSHOT_KEY_FILE": str(file)})
    assert secrets.key == b"0123456789abcdef"
    assert secrets.key_id == stages.secrets_from({"TIDEGATE_SNAPSHOT_KEY": "0123456789abcdef"}).key_id
    assert "0123456789abcdef" not in f"{secrets!r} {secrets}"
    with pytest.raises(TidegateError, match="cannot be read"):
        stages.secrets_from({"TIDEGATE_SNAPSHOT_KEY_FILE": str(tmp_path / "absent")})
