"""Parts of the Kafka runtime that need no broker: holding inputs, quiet logs, keys, what a worker runs."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from aiokafka.errors import KafkaTimeoutError, ProducerFenced

from stream import config
from stream.contract import EXAMPLES
from stream.errors import TidegateError
from stream.runtime import stages
from stream.runtime.kafka.alignment import HOLD_RECORDS, Alignment
from stream.runtime.kafka.carried import Carried
from stream.runtime.kafka.clients import Clients
from stream.runtime.kafka.logs import RateLimit
from stream.runtime.kafka.writer import FencedError, Writer
from stream.runtime.shard import Shard
from tests.simulation.broker import Batch
from tests.toy import ToyStage

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


class FailingProducer:
    """A transactional producer whose sends fail with what `fails` is set to, once it is set. It knows what is done with
    it."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.sending = asyncio.Event()
        self.aborted = asyncio.Event()
        self.fails: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self.create_batch = Batch

    def transactional(self, id: str) -> FailingProducer:
        return self

    async def start(self) -> None:
        self.said.append("start")

    async def stop(self) -> None:
        self.said.append("stop")

    async def begin_transaction(self) -> None:
        self.said.append("begin")

    async def abort_transaction(self) -> None:
        self.said.append("abort")
        self.aborted.set()

    async def send_batch(self, batch: Batch, topic: str, partition: int) -> Any:
        self.sending.set()
        raise await asyncio.shield(self.fails)


def with_a_checkpoint_under_way(
    goes_on: Callable[[Carried, FailingProducer, asyncio.Task[bool]], Awaitable[None]],
) -> None:
    """Run what goes on while a checkpoint is being sent. Faults that nobody hears of are failures."""
    unheard: list[dict[str, Any]] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: unheard.append(context))
        made = config.parse(MODELS % "")
        producer = FailingProducer()
        writer = Writer(cast(Clients, producer), made.topics, "toy-0")
        await writer.start()
        carried = Carried(Shard("toy", 0, ToyStage(), {(EXAMPLES, 0): 0}), writer, made)
        waiter = asyncio.create_task(carried.checkpoint(whole=True))
        await asyncio.wait_for(producer.sending.wait(), 10)
        await goes_on(carried, producer, waiter)

    asyncio.run(run())
    gc.collect()  # a task says what nobody has asked it when it is collected
    assert unheard == []


def test_a_shard_that_is_given_up_writes_no_more() -> None:
    """F49: a rebalance does not wait for ever, and the next owner must not meet a transaction of the one before."""

    async def goes_on(carried: Carried, producer: FailingProducer, waiter: asyncio.Task[bool]) -> None:
        waiter.cancel()  # as a rebalance does whose time is over
        other = asyncio.create_task(carried.checkpoint())
        producer.fails.set_result(KafkaTimeoutError("away"))
        await asyncio.wait_for(producer.aborted.wait(), 10)
        await carried.stop()
        assert await other is False  # a timer that waits as well is not cancelled with it
        assert await carried.checkpoint(whole=True) is False
        assert producer.said == ["start", "begin", "abort", "stop"]

    with_a_checkpoint_under_way(goes_on)


def test_a_checkpoint_that_fails_when_nobody_waits_is_heard_of_by_who_asks_next() -> None:
    """F49: else its shard would go on, and never write again."""

    async def goes_on(carried: Carried, producer: FailingProducer, waiter: asyncio.Task[bool]) -> None:
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        producer.fails.set_result(ProducerFenced())
        with pytest.raises(FencedError):
            await carried.checkpoint()
        await carried.stop()

    with_a_checkpoint_under_way(goes_on)
