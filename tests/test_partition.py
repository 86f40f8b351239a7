"""Keys go to the partition that Kafka's Java client would choose."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2

from stream.joining.partition import partition_of, partitions_of


@given(st.binary(max_size=40), st.integers(1, 64))
def test_one_key_goes_where_kafka_python_sends_it(key: bytes, partitions: int) -> None:
    assert partition_of(key, partitions) == (murmur2(key) & 0x7FFFFFFF) % partitions


def test_many_keys_of_all_lengths_go_where_each_would_go_alone() -> None:
    draw = random.Random(7)
    keys = [draw.randbytes(draw.randrange(34)) for _ in range(2_000)] + ["größe-漢字".encode()] * 9
    assert partitions_of(keys, 12) == [partition_of(key, 12) for key in keys]
    assert partitions_of([], 12) == []


def test_known_hashes_of_the_java_client() -> None:
    """From `org.apache.kafka.common.utils.UtilsTest.testMurmur2`."""
    cases = {
        b"21": -973932308,
        b"foobar": -790332482,
        b"a-little-bit-long-string": -985981536,
        b"a-little-bit-longer-string": -1486304829,
        b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    }
    for key, signed in cases.items():
        assert partition_of(key, 1 << 31) == (signed & 0x7FFFFFFF)
