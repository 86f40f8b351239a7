"""Record batches as nobody should send them, written byte by byte, and sent as they are."""

from __future__ import annotations

import struct
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from stream.runtime.kafka.clients import Clients

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
ROOM = 1 << 30
CRC_AT, CRC_FROM = 17, 21


def batch(values: list[bytes], codec: str = "none", header: bytes | None = None) -> bytes:
    """A batch of these values; `header` (two bytes) is the name of a header of the second record."""
    builder = DefaultRecordBatchBuilder(2, CODECS[codec], 0, -1, -1, 0, ROOM)
    for i, value in enumerate(values):
        headers: list[tuple[str, bytes | None]] = [("zz", b"x")] if header and i == 1 else []
        assert builder.append(i, 1_600_000_000_000, b"k", value, headers) is not None
    made = bytes(builder.build())
    if header:
        made = made.replace(b"\x04zz", b"\x04" + header)
    return with_crc(made)


def with_crc(made: bytes) -> bytes:
    """The batch with a check sum that fits."""
    return made[:CRC_AT] + struct.pack(">I", calc_crc32c(made[CRC_FROM:])) + made[CRC_FROM:]


class _Made:
    """What aiokafka's producer asks of the builder of a batch."""

    def __init__(self, made: bytes, builder: Any) -> None:
        self._made = made
        self._builder = builder

    def build(self) -> bytearray:
        return bytearray(self._made)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._builder, name)


async def send(clients: Clients, topic: str, made: bytes, partition: int = 0) -> None:
    """Send a batch as any producer may, and wait until the broker has taken it."""
    producer = AIOKafkaProducer(bootstrap_servers=clients.bootstrap, enable_idempotence=False, **clients.security())
    await producer.start()
    try:
        builder = producer.create_batch()
        builder.append(key=b"k", value=b"-", timestamp=None)
        builder.close()
        builder._builder = _Made(made, builder._builder)
        await (await producer.send_batch(builder, topic, partition=partition))
    finally:
        await producer.stop()
