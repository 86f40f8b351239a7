"""Record batches as a fetch brings them, unpacked within bounds.

Kafka's clients unpack a compressed batch whole: with aiokafka 1 GB of zeros, which gzip packs into one megabyte and
zstd into 47 kB, took 1.9 GB of a worker's memory; with the bounds here it takes 63 MB and 0.1 s. A batch that unpacks
to more than `limits.BATCH_UNPACKED_BYTES_MAX`, or not at all, becomes one record that says so (`contract.Unread`), at
the batch's last offset: the stage that reads it makes it a dead letter, the position passes it, and a replay finds the
same. A fetch of a megabyte may hold many batches that unpack to much: it is handed out in portions. A record whose
header has a name that is not UTF-8, at which the clients stop, is read without its headers.

Workers read through aiokafka, people and time travel through kafka-python (which by itself wants a package for each
codec but gzip): both see the same.

Owns the bounds' keeping for every consumer of this process (`install`); refuses to know what records mean.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import cramjam
import numpy as np
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint
from kafka.consumer import fetcher as past_fetcher
from kafka.errors import CorruptRecordError
from kafka.record.memory_records import MemoryRecords as PastMemoryRecords

from stream import limits
from stream.contract import Unread
from stream.errors import TidegateError

CODECS: Final = {1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}
HEADER: Final = struct.Struct(">qiibIhiqqqhii")
"""Of a batch (magic 2): base offset, length, leader epoch, magic, CRC, attributes, last offset delta, first and largest
timestamp, producer id and epoch, base sequence, number of records."""

PREFIX: Final = struct.Struct(">qi")
MAGIC: Final = 2
MAGIC_AT: Final = 16
CODEC_MASK: Final = 0x07
APPEND_TIME: Final = 0x08
GZIP_WINDOW: Final = 31
XERIAL: Final = b"\x82SNAPPY\x00"
XERIAL_HEADER: Final = 16
FULL: Final = "failed to write whole buffer"
"""What cramjam says when the output has no more room."""


class RefusedError(Exception):
    """Why a batch is not read."""


class Plain(NamedTuple):
    """A record made here; what the clients ask of one."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | Unread | None
    timestamp_type: int = 0
    checksum: int | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    size_in_bytes: int = 0

    def validate_crc(self) -> bool:
        return True


class Guarded:
    """A batch, to the client that it comes from a batch like any other. Unpacked when its records are asked for. Raises
    TidegateError for a batch of an old format."""

    def __init__(self, batch: Any, data: memoryview) -> None:
        if data[MAGIC_AT] < MAGIC:
            raise TidegateError("a batch of a message format that Kafka 0.11 has replaced; copy the topic")
        self.bytes = 0
        """That unpacking has made."""
        self._batch = batch
        self._data = data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)  # the marker of a control batch

    def __iter__(self) -> Iterator[Any]:
        header = HEADER.unpack_from(self._data)
        codec = header[5] & CODEC_MASK
        batch, payload = self._batch, self._data[HEADER.size :]
        if codec:
            try:
                payload = memoryview(unpack(codec, payload))
            except RefusedError as error:
                yield self._unread(header, f"{len(self._data)} bytes of {CODECS.get(codec, codec)}: {error}")
                return
            self.bytes = len(payload)
            plain = [*header]
            plain[1], plain[5] = HEADER.size - PREFIX.size + len(payload), header[5] & ~CODEC_MASK
            batch = type(batch)(HEADER.pack(*plain) + payload)
        given = -1
        try:
            for record in batch:
                given = record.offset
                yield record
        except (CorruptRecordException, CorruptRecordError, ValueError):  # a header's name is not UTF-8, for one
            try:
                yield from (record for record in _leniently(header, payload) if record.offset > given)
            except (IndexError, ValueError) as error:
                yield self._unread(header, f"{len(self._data)} bytes, cannot be read ({error!r})")

    def _unread(self, header: tuple[int, ...], why: str) -> Plain:
        reason = f"a batch of {header[12]} records from offset {self.base_offset} on, {why}; it was passed over"
        return Plain(self.next_offset - 1, header[8], None, Unread(reason, len(self._data)))


def _leniently(header: tuple[int, ...], payload: memoryview) -> Iterator[Plain]:
    """The records of an unpacked batch without their headers, which nothing here asks for."""
    data, at = bytes(payload), 0
    for _ in range(header[12]):
        size, at = decode_varint(data, at)
        end = at + size
        delta, at = decode_varint(data, at + 1)
        offset, at = decode_varint(data, at)
        key, at = _bytes(data, at)
        value, at = _bytes(data, at)
        if size < 0 or at > end or end > len(data):
            raise ValueError("a record is longer than it says")
        timestamp = header[8] if header[5] & APPEND_TIME else header[7] + delta
        yield Plain(header[0] + offset, timestamp, key, value)
        at = end


def _bytes(data: bytes, at: int) -> tuple[bytes | None, int]:
    size, at = decode_varint(data, at)
    return (None, at) if size < 0 else (data[at : at + size], at + size)


class Batches:
    """The batches of one fetch of one partition. Says that there are no more when enough has been handed out: the next
    fetch begins there."""

    def __init__(self, data: bytes) -> None:
        self._records = MemoryRecords(data)
        self._data = memoryview(data)
        self._at = 0
        self._given = 0
        self._last: Guarded | None = None

    def size_in_bytes(self) -> int:
        return len(self._data)

    def has_next(self) -> bool:
        given = self._given + (self._last.bytes if self._last else 0)
        return given < limits.FETCH_UNPACKED_BYTES_MAX and self._records.has_next()

    def next_batch(self) -> Any:
        start = self._at
        batch = self._records.next_batch()
        self._at = start + PREFIX.size + PREFIX.unpack_from(self._data, start)[1]
        self._given += self._last.bytes if self._last else 0
        self._last = Guarded(batch, self._data[start : self._at])
        return self._last


class PastBatches(PastMemoryRecords):
    """The same for kafka-python, which asks for a batch's records only when the last one's have been taken."""

    def next_batch(self) -> Any:
        data = self._next_slice
        batch = super().next_batch()
        return None if batch is None else Guarded(batch, data)


def install() -> None:
    """Have the consumers of this process unpack within bounds."""
    fetcher.MemoryRecords = Batches
    past_fetcher.MemoryRecords = PastBatches


def unpack(codec: int, data: memoryview) -> bytes:
    """The records of a batch. Raises RefusedError, before more than the bound is in memory."""
    most = limits.BATCH_UNPACKED_BYTES_MAX
    if codec == 1:
        return _gunzip(data, most)
    if codec not in CODECS:
        raise RefusedError("a compression that is not known here")
    try:
        if codec == 2:
            return _unsnappy(data, most)
        # Memory that is never written to is never taken.
        room = np.empty(most + 1, np.uint8)
        size = getattr(cramjam, CODECS[codec]).decompress_into(bytes(data), room)
    except cramjam.DecompressionError as error:
        raise _too_much(most) if FULL in str(error) else _spoiled(error) from None
    if size > most:
        raise _too_much(most)
    return room[:size].tobytes()


def _gunzip(data: memoryview, most: int) -> bytes:
    inflater = zlib.decompressobj(GZIP_WINDOW)
    try:
        payload = inflater.decompress(data, most + 1)
    except zlib.error as error:
        raise _spoiled(error) from None
    if len(payload) > most:
        raise _too_much(most)
    if not inflater.eof or inflater.unused_data:
        raise _spoiled("it does not end where the batch ends")
    return payload


def _unsnappy(data: memoryview, most: int) -> bytes:
    """Blocks with a header (as Java writes them), or one without; each begins with the size it unpacks to."""
    raw = bytes(data)
    blocks = [raw]
    if raw.startswith(XERIAL):
        blocks, at = [], XERIAL_HEADER
        while at < len(raw):
            size = int.from_bytes(raw[at : at + 4], "big")
            blocks.append(raw[at + 4 : at + 4 + size])
            at += 4 + size
    if sum(cramjam.snappy.decompress_raw_len(block) for block in blocks) > most:
        raise _too_much(most)
    return b"".join(bytes(cramjam.snappy.decompress_raw(block)) for block in blocks)


def _too_much(most: int) -> RefusedError:
    return RefusedError(f"it unpacks to more than {most}")


def _spoiled(error: object) -> RefusedError:
    return RefusedError(f"it cannot be unpacked ({error})")
