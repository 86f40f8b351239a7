"""What we rely on inside Faust, mode and aiokafka, by name: an upgrade that changes any of it must fail here first."""

from __future__ import annotations

import inspect
import re
from importlib.metadata import version
from typing import Any

import aiokafka
import faust
import mode
import pytest
from aiokafka.consumer.consumer import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher, FetchError, FetchResult, PartitionRecords
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import Assignment, SubscriptionState, TopicPartitionState
from aiokafka.producer.producer import AIOKafkaProducer
from faust.tables.recovery import Recovery
from faust.transport.consumer import Consumer
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from stream.runtime.kafka import consumer, unpacking

PINNED = {"faust-streaming": "0.15.3", "aiokafka": "0.14.0", "mode-streaming": "0.7.1"}

SIGNATURES: list[tuple[Any, str]] = [
    (driver.AIOKafkaConsumerThread._create_worker_consumer, "(self, transport)"),
    (driver.AIOKafkaConsumerThread._fetch_records, "(self, consumer, active_partitions, timeout, max_records)"),
    (driver.AIOKafkaConsumerThread.seek_wait, "(self, partitions)"),
    (driver.AIOKafkaConsumerThread._ensure_consumer, "(self)"),
    (driver.Consumer._new_consumer_thread, "(self)"),
    (driver.Producer._settings_auth, "(self)"),
    (Consumer.getmany, "(self, timeout)"),
    (Consumer._wait_next_records, "(self, timeout)"),
    (Consumer._add_gap, "(self, tp, offset_from, offset_to)"),
    (Consumer.force_commit, "(self, topics, start_new_transaction)"),
    (Consumer.perform_seek, "(self)"),
    (Consumer.seek_to_committed, "(self)"),
    (Consumer.on_partitions_revoked, "(self, revoked)"),
    (Consumer.verify_all_partitions_active, "(self)"),
    (Consumer.stop_flow, "(self)"),
    (faust.App._new_consumer, "(self)"),
    (faust.App._on_partitions_revoked, "(self, revoked)"),
    (faust.App._on_partitions_assigned, "(self, assigned, generation_id)"),
    (mode.Worker._schedule_shutdown, "(self, signal)"),
    (Fetcher._create_fetch_waiter, "(self)"),
    (Fetcher._notify, "(self, future)"),
    (FetchResult.getall, "(self, max_records)"),
    (FetchResult.has_more, "(self)"),
    (SubscriptionState.fetch_context, "(self)"),
    (SubscriptionState.wait_for_assignment, "(self)"),
    (SubscriptionState.is_assigned, "(self, tp)"),
    (Assignment.state_value, "(self, tp)"),
    (AIOKafkaProducer.create_batch, "(self)"),
    (AIOKafkaProducer.send_batch, "(self, batch, topic, partition)"),
]


@pytest.mark.parametrize(("package", "pinned"), PINNED.items())
def test_the_versions_are_the_pinned_ones(package: str, pinned: str) -> None:
    assert version(package) == pinned


@pytest.mark.parametrize(("function", "parameters"), SIGNATURES, ids=lambda x: getattr(x, "__qualname__", ""))
def test_a_method_that_is_overridden_or_called_takes_what_it_did(function: Any, parameters: str) -> None:
    assert f"({', '.join(inspect.signature(function).parameters)})" == parameters


def test_attributes_that_are_read_are_still_set() -> None:
    for source, names in (
        (Fetcher.__init__, ("_records", "_subscriptions", "_wait_consume_future", "_closed")),
        (AIOKafkaConsumer.__init__, ("_fetcher", "_coordinator", "_subscription", "_closed")),
        (GroupCoordinator.__init__, ("_coordination_task",)),
        (Assignment.__init__, ("_tp_state",)),
        (TopicPartitionState.__init__, ("lso", "highwater")),
    ):
        text = inspect.getsource(source)
        for name in names:
            assert f"self.{name}" in text, f"{source.__qualname__} sets {name}"
    assert isinstance(TopicPartitionState.position, property)
    assert isinstance(TopicPartitionState.has_valid_position, property)
    assert isinstance(SubscriptionState.reassignment_in_progress, property)


def test_one_fetch_is_one_message_and_carries_what_a_message_must() -> None:
    fetched = consumer.Fetched(5, 9, 3, True, [])
    at = TP("t", 0)
    message = consumer.FetchedMessage("t", 0, 8, 0.0, 0, None, None, None, None, 0, 0, at, generation_id=3)
    message.fetched = fetched
    assert (message.tp, message.offset, message.generation_id) == (at, 8, 3)
    assert isinstance(message, ConsumerMessage)


def test_shards_are_restored_before_the_seek_and_the_seek_comes_before_the_flow() -> None:
    """F50. The restore is a handler of `on_rebalance_complete`; our positions must stand before anything is fetched."""
    text = inspect.getsource(Recovery._resume_streams)
    steps = ["on_rebalance_complete.send()", "perform_seek()", "flow_control.resume()", "consumer.resume_flow()"]
    assert [text.index(step) for step in steps] == sorted(text.index(step) for step in steps)


def test_only_sets_of_partitions_that_the_assignor_groups_are_shared() -> None:
    """Without standbys Faust would silently choose an assignor that does not keep partitions of one number together."""
    text = inspect.getsource(driver.AIOKafkaConsumerThread._create_worker_consumer)
    assert "table_standby_replicas > 0" in text
    assert aiokafka.__version__ == PINNED["aiokafka"]


def test_what_watchdog_and_unpacking_stand_on_is_as_it_was() -> None:
    """`consumer.BatchThread` wraps the heartbeat and reads when a fetch was answered; `unpacking` takes the place of
    the fetcher's `MemoryRecords`, and hands its batches to `PartitionRecords`."""
    assert "success = await self._do_heartbeat()" in inspect.getsource(GroupCoordinator._heartbeat_routine)
    assert "self.timestamp" in inspect.getsource(TopicPartitionState.__init__)
    answered = inspect.getsource(Fetcher._proc_fetch_request)
    assert "tp_state.timestamp = now_ms" in answered and "records = MemoryRecords(part_data[-1])" in answered
    assert "Errors.OffsetOutOfRangeError({tp: fetch_offset})" in answered
    assert "self._error" in inspect.getsource(FetchError.__init__)
    asked = inspect.getsource(PartitionRecords)
    assert set(re.findall(r"\bnext_batch\.(\w+)", asked)) == {
        "base_offset", "is_control_batch", "is_transactional", "next_offset", "producer_id", "validate_crc",
    }  # fmt: skip
    assert set(re.findall(r"\brecords\.(\w+)", asked + answered)) == {"has_next", "next_batch", "size_in_bytes"}
    assert set(re.findall(r"\brecord\.(\w+)", asked)) <= set(unpacking.Plain._fields)
