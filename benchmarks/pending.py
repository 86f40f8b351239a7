"""The load of the recovery benchmark: predictions of ten numbers that nobody labels. The log of labels says with
heartbeats that it is as far in event time, as a producer whose labels come late does; else watch would hold every row.

Owns what they look like, all drawn from one seed; refuses to know who measures what with them.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import orjson
from aiokafka import AIOKafkaProducer

from benchmarks.processes import BenchmarkError
from stream.joining.partition import partitions_of

SEED: Final = 11
MODEL: Final = "bench"
START_S: Final = 1_704_067_200.0  # 2024-01-01
RATE: Final = 100.0
"""Predictions a second of event time: none of them expires while this runs."""

BLOCK: Final = 20_000
"""Predictions drawn and sent at a time."""

LOAD: Final = (100, 0.05)
"""While a worker is killed or told to end: so many predictions, and seconds until the next; at most 2,000 a second."""

TOLD_S: Final = 10.0
"""Between two lines that say how far something long has come."""

NUMBERS: Final = tuple(f"number_{i}" for i in range(10))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def events(first: int, count: int) -> tuple[list[bytes], list[bytes]]:
    """Keys and values of so many predictions, the first of them number `first`."""
    keys = [b"p%09d" % i for i in range(first, first + count)]
    rows = np.random.default_rng([SEED, first]).normal(size=(count, len(NUMBERS))).round(4)
    scores = (1 / (1 + np.exp(-rows[:, 0]))).round(4).tolist()
    values = [
        orjson.dumps(
            {
                "prediction_id": key.decode(),
                "model": MODEL,
                "event_time": START_S + i / RATE,
                "features": dict(zip(NUMBERS, row, strict=True)),
                "prediction": int(score > 0.5),
                "score": score,
            }
        )
        for i, (key, row, score) in enumerate(zip(keys, rows.tolist(), scores, strict=True), first)
    ]
    return keys, values


class Source:
    """Predictions, each sent once, drawn from one seed. `sent` counts what the broker has."""

    def __init__(self, bootstrap: str, predictions: str, labels: str, partitions: int) -> None:
        self.sent = 0
        self._bootstrap, self._topic, self._labels, self._partitions = bootstrap, predictions, labels, partitions

    def send(self, count: int) -> None:
        """Returns once the broker has them."""
        asyncio.run(self._send(self.sent + count, BLOCK, 0.0, threading.Event()))

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """A steady load inside."""
        stop = threading.Event()
        failed: list[BaseException] = []

        def flow() -> None:
            try:
                asyncio.run(self._send(sys.maxsize, *LOAD, stop))
            except Exception as error:  # told by the thread that waits
                failed.append(error)

        thread = threading.Thread(target=flow)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        if failed:
            raise BenchmarkError(f"the load could not be sent: {failed[0]!r}") from failed[0]

    async def _send(self, end: int, block: int, pause_s: float, stop: threading.Event) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self._bootstrap, max_batch_size=200_000, linger_ms=5)
        await producer.start()
        told = time.monotonic()
        try:
            while self.sent < end and not stop.is_set():
                count = min(block, end - self.sent)
                await self._send_block(producer, self.sent, count)
                self.sent += count
                if time.monotonic() - told > TOLD_S and pause_s == 0.0:
                    told = time.monotonic()
                    say(f"  sent {self.sent:,} of {end:,} predictions")
                await asyncio.sleep(pause_s)
        finally:
            await producer.stop()

    async def _send_block(self, producer: Any, first: int, count: int) -> None:
        """Whole batches: three times as fast as record by record."""
        keys, values = events(first, count)
        batches = {p: producer.create_batch() for p in range(self._partitions)}
        sent = []
        for p, key, value in zip(partitions_of(keys, self._partitions), keys, values, strict=True):
            if batches[p].append(key=key, value=value, timestamp=None) is None:
                sent.append(await producer.send_batch(batches[p], self._topic, partition=p))
                batches[p] = producer.create_batch()
                batches[p].append(key=key, value=value, timestamp=None)
        sent += [
            await producer.send_batch(batch, self._topic, partition=p)
            for p, batch in batches.items()
            if batch.record_count()
        ]
        await asyncio.gather(*sent)
        beat = orjson.dumps({"heartbeat": START_S + (first + count - 1) / RATE})
        for p in range(self._partitions):
            await producer.send_and_wait(self._labels, beat, partition=p)
