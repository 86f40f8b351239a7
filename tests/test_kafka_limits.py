"""The edges of the engine on Kafka: a broker that does not come back, records that are gone, batches that are bombs."""

from __future__ import annotations

import asyncio
import gzip
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka.consumer import fetcher
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition as AsyncPartition
from kafka import TopicPartition
from kafka.consumer.fetcher import Fetcher as Past
from kafka.errors import CorruptRecordError
from kafka.record.memory_records import MemoryRecords as PastMemoryRecords

from stream import codec, limits
from stream.contract import DEAD_LETTERS, EXAMPLES, LABELS, PREDICTIONS, Unread
from stream.errors import InputFault
from stream.events import DeadLetter, Label
from stream.runtime.kafka import unpacking
from stream.runtime.kafka.app import EXIT_ENGINE, EXIT_FAULT, STOP_S
from stream.runtime.kafka.broker import Broker, GivenBroker
from stream.runtime.kafka.clients import gone
from stream.runtime.kafka.logs import RateLimit
from stream.runtime.kafka.tail import tail
from stream.runtime.kafka.unpacking import Batches, PastBatches
from stream.runtime.kafka.watchdog import LOOK_S, Watchdog
from tests.batches import batch, send
from tests.kafka_support import Cluster
from tests.test_kafka_faults import STEP, exactly, produce

BOMB_BYTES = 160_000_000
ZEROS = b"0" * 800_000
TP = AsyncPartition("t", 0)


# ---- the watchdog: no clock, no broker -------------------------------------------------------------------------------


def looks(dog: Watchdog, moments: list[tuple[float, float | None, float | None]]) -> list[bool]:
    return [dog.look(*moment) is not None for moment in moments]


def test_either_answer_keeps_the_watchdog_quiet() -> None:
    dog = Watchdog(10.0, 20.0, "b:9092", now=0.0)
    assert looks(dog, [(float(i), float(i), None) for i in range(100)]) == [False] * 100
    assert looks(dog, [(float(i), 99.0, float(i)) for i in range(100, 200)]) == [False] * 100, "all inputs may be held"
    assert looks(dog, [(float(i), 99.0, 199.0) for i in range(200, 230)]) == [False] * 30
    said = dog.look(229.5, 99.0, 199.0)
    assert said is not None and said.startswith("no answer from b:9092 for 30 s (no fetch, no heartbeat")


def test_a_process_that_was_stopped_has_not_been_waiting() -> None:
    dog = Watchdog(6.0, 12.0, "b", now=0.0)
    assert looks(dog, [(1.0, 1.0, 1.0), (2.0, 1.5, 1.0), (500.0, 1.5, 1.0), (501.0, 1.5, 1.0)]) == [False] * 4
    assert dog.silent_s == pytest.approx(501.0 - 1.5 - (498.0 - LOOK_S))
    assert looks(dog, [(float(i), 1.5, 1.0) for i in range(502, 520)])[-1], "it waits from here on"


def test_a_group_that_meets_is_not_silence() -> None:
    """Its members hear nothing until all have come, for up to the rebalance timeout."""
    assert Watchdog(6.0, 20.0, "b", now=0.0).patience_s == 26.0
    assert Watchdog(10.0, 20.0, "b", now=0.0).patience_s == 30.0


# ---- the log --------------------------------------------------------------------------------------------------------


def test_warnings_that_repeat_share_the_one_line_a_second_and_errors_always_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Eight shards try their checkpoints again and again while clients complain: a line a second; the end is told."""
    now = [100.0]
    monkeypatch.setattr("stream.runtime.kafka.logs.monotonic", lambda: now[0])
    limit = RateLimit()

    def said(name: str, level: int, text: str, *filled_in: object) -> str | None:
        record = logging.LogRecord(name, level, "", 0, text, filled_in, None)
        return record.getMessage() if limit.filter(record) else None

    aborted = "%s: checkpoint aborted (attempt %d)"
    heard: list[str] = []
    for second in range(60):
        now[0] = 100.0 + second
        lines = [said("aiokafka.conn", logging.ERROR, "cannot connect")]
        lines += [said("tidegate.kafka", logging.WARNING, aborted, f"join/{p}", second) for p in range(8)]
        heard += [line for line in lines if line is not None]
    assert heard[1] == "join/0: checkpoint aborted (attempt 0)", "the first is heard at once, beside the clients' line"
    assert len(heard) == 60 + 1 and heard[-1] == "cannot connect (and 8 more lines)"
    failed = "%s: checkpoint failed"
    ends = [said("tidegate.kafka", logging.ERROR, failed, f"join/{p}") for p in range(8)]
    assert ends == [f"join/{p}: checkpoint failed" for p in range(8)]
    assert said("tidegate.kafka", logging.WARNING, "something else") == "something else"
    ready = [said("tidegate.kafka", logging.INFO, "ready: %s", p) for p in range(3)]
    assert ready == ["ready: 0", "ready: 1", "ready: 2"]


# ---- batches --------------------------------------------------------------------------------------------------------


def records(made: bytes) -> list[Any]:
    """As aiokafka reads them for us."""
    read = fetcher.PartitionRecords(TP, Batches(made), [], 0, None, None, True, fetcher.READ_COMMITTED)
    return list(read)


def past(made: bytes, batches: type[Any] = PastBatches) -> list[Any]:
    """As kafka-python reads them for tails and time travel."""
    return list(Past.PartitionRecords(0, TopicPartition("t", 0), batches(made)).record_iterator)


READERS = pytest.mark.parametrize("read", [records, past])


@pytest.mark.parametrize("name", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_batches_within_the_bounds_are_read_as_the_clients_read_them(name: str) -> None:
    made = batch([b"one", b"", b"three" * 1000], name)
    expected = fetcher.PartitionRecords(TP, MemoryRecords(made), [], 0, None, None, True, fetcher.READ_COMMITTED)
    assert records(made) == list(expected)
    assert [(r.offset, r.key, r.value) for r in past(made)] == [(r.offset, r.key, r.value) for r in records(made)]
    if name in ("none", "gzip"):  # for the others it wants packages that nothing else here needs
        assert past(made) == past(made, PastMemoryRecords)


@READERS
@pytest.mark.parametrize("name", ["gzip", "snappy", "lz4", "zstd"])
def test_a_bomb_is_one_record_that_says_what_it_was(
    name: str, read: Callable[[bytes], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BATCH_UNPACKED_BYTES_MAX", 10_000)
    (one,) = read(batch([b"0" * 5_000, b"0" * 5_000], name))
    assert one.offset == 1 and isinstance(one.value, Unread)
    assert re.fullmatch(
        rf"a batch of 2 records from offset 0 on, \d+ bytes of {name}: it unpacks to more than 10000; "
        "it was passed over",
        one.value.reason,
    )
    with pytest.raises(InputFault, match="huge: a batch of 2 records"):
        codec.decode_inbound(Label, one.value, 1.6e9)
    assert len(read(batch([b"0" * 4_900, b"0" * 4_900], name))) == 2


def test_bytes_that_are_no_gzip_or_go_on_after_it_are_passed_over() -> None:
    for spoiled in (b"no gzip", gzip.compress(b"x") + gzip.compress(b"y"), gzip.compress(b"x" * 99)[:-9]):
        with pytest.raises(unpacking.RefusedError, match="it cannot be unpacked"):
            unpacking.unpack(1, memoryview(spoiled))


@READERS
def test_a_header_whose_name_is_not_text_costs_its_record_nothing_but_the_headers(
    read: Callable[[bytes], list[Any]],
) -> None:
    """The clients stop at it: one such record would end every worker that comes to it."""
    made = batch([b"one", b"two", b"three"], header=b"\xff\xfe")
    assert [(r.offset, r.key, r.value, r.timestamp) for r in read(made)] == [
        (i, b"k", value, 1_600_000_000_000) for i, value in enumerate((b"one", b"two", b"three"))
    ]
    with pytest.raises(UnicodeDecodeError):
        list(fetcher.PartitionRecords(TP, MemoryRecords(made), [], 0, None, None, True, fetcher.READ_COMMITTED))
    with pytest.raises(CorruptRecordError):
        past(made, PastMemoryRecords)


def test_a_fetch_of_many_batches_is_handed_out_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of it is fetched again, from where the last portion ended."""
    monkeypatch.setattr(limits, "FETCH_UNPACKED_BYTES_MAX", 10_000)
    one = batch([b"0" * 6_000], "gzip")
    made = b"".join(i.to_bytes(8, "big") + one[8:] for i in range(5))
    read = fetcher.PartitionRecords(TP, Batches(made), [], 0, None, None, True, fetcher.READ_COMMITTED)
    assert [r.offset for r in read] == [0, 1] and read.next_fetch_offset == 2


class Asked:
    """What `gone` asks of a consumer."""

    async def beginning_offsets(self, partitions: list[Any]) -> dict[Any, int]:
        return dict.fromkeys(partitions, 40)

    async def end_offsets(self, partitions: list[Any]) -> dict[Any, int]:
        return dict.fromkeys(partitions, 90)


def test_what_is_gone_is_said_with_where_and_how_much() -> None:
    lost = asyncio.run(gone(Asked(), OffsetOutOfRangeError({TP: 12})))
    assert lost.records == 28 and "t-0: 28 records were deleted" in str(lost) and "offset 12" in str(lost)
    assert "but the topic ends at 90" in str(asyncio.run(gone(Asked(), OffsetOutOfRangeError({TP: 120}))))


# ---- on a broker ----------------------------------------------------------------------------------------------------


def peak_mb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) // 1024


@pytest.mark.kafka
def test_a_bomb_and_a_header_that_is_no_text_stop_nothing(cluster: Cluster) -> None:
    """F51, F53. A batch of 160 kB that unpacks to 160 MB is one dead letter, and memory stays where it was."""
    worker = cluster.start()
    produce(cluster, 0)
    exactly(cluster, 1)
    before = peak_mb(worker.process.pid)
    topic = cluster.config.topics.name(LABELS)
    asyncio.run(send(cluster.clients, topic, batch([ZEROS] * (BOMB_BYTES // len(ZEROS)), "gzip")))
    late = msgspec.json.encode({"prediction_id": "stranger", "event_time": 1.6e9})
    asyncio.run(send(cluster.clients, topic, batch([b"{", late, b"null"], header=b"\xff\xfe")))
    produce(cluster, 1)
    exactly(cluster, 2)
    cluster.wait("the letters", lambda: cluster.count(DEAD_LETTERS) >= 4)
    assert peak_mb(worker.process.pid) - before < 150
    assert worker.stop() == 0, worker.said
    letters = [codec.decode(DeadLetter, value) for value in cluster.values(DEAD_LETTERS)]
    (bomb,) = (letter for letter in letters if letter.code == "huge")
    assert (bomb.topic, bomb.partition) == (LABELS, 0)
    assert f"a batch of {BOMB_BYTES // len(ZEROS)} records from offset" in bomb.reason
    assert sorted(letter.code for letter in letters) == ["huge", "malformed", "schema", "schema"]
    seen = [found.record.value for found in tail(cluster.config, cluster.clients, LABELS)]
    (unread,) = (value for value in seen if isinstance(value, Unread))
    assert unread.reason in bomb.reason, "people who look at the topic are told the same"


@pytest.mark.kafka
def test_records_that_were_deleted_unread_end_the_worker_with_a_clear_line(cluster: Cluster) -> None:
    worker = cluster.start()
    produce(cluster, 0)
    exactly(cluster, 1)
    cluster.wait("it has read everything", cluster.caught_up)
    worker.pause()
    produce(cluster, 1)
    topic = cluster.config.topics.name(PREDICTIONS)
    with cluster.clients.admin() as admin:
        admin.delete_records({TopicPartition(topic, p): -1 for p in (0, 1)})
    worker.ended = True
    worker.resume()
    assert worker.process.wait(60) == EXIT_FAULT, worker.said
    found = re.search(rf"{topic}-[01]: (\d+) records were deleted before they were read: the next to read is at offset "
                      r"(\d+), the first that is left at (\d+)\. Raise the topic's retention", worker.said)  # fmt: skip
    assert found is not None, worker.said
    lost, position, first = map(int, found.groups())
    assert lost == first - position > 0
    again = cluster.start()
    again.ended = True
    assert again.process.wait(60) == EXIT_FAULT, "it does not go on in silence when it is started again"
    assert "deleted before they were read" in again.said
    assert cluster.count(EXAMPLES) >= STEP - 2


@pytest.mark.kafka
def test_a_worker_whose_broker_does_not_come_back_ends_with_a_clear_line(cluster: Cluster, broker: Broker) -> None:
    if isinstance(broker, GivenBroker):
        pytest.skip("the broker of KAFKA_BOOTSTRAP_SERVERS is not ours to crash")
    worker = cluster.start()
    produce(cluster, 0)
    exactly(cluster, 1)
    patience = Watchdog(6.0, 20.0, "", 0.0).patience_s
    broker.kill()
    try:
        worker.ended = True
        assert worker.process.wait(patience + 2 * STOP_S) == EXIT_ENGINE, worker.said
    finally:
        broker.start()
    lines = [line for line in worker.said.splitlines() if "ERROR tidegate" in line]
    (line,) = (line for line in lines if "no answer from" in line)
    assert re.search(r"stopped: no answer from \S+ for 2\d s \(no fetch, no heartbeat; .*supervisor starts", line)
    assert len(worker.said.splitlines()) < 2 * patience + 20, "at most a line a second"
    other = cluster.start()
    produce(cluster, 1)
    exactly(cluster, 2)
    assert other.stop() == 0, other.said
