"""The synthetic load of the throughput benchmark: events of ten features, as a file and as records of a broker.

Owns what the events look like; refuses to know who measures what with them. Everything is drawn from one seed.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
from aiokafka import AIOKafkaProducer

from stream.joining.partition import partitions_of

MODEL = "bench"
NUMBERS = tuple(f"number_{i}" for i in range(9))
CATEGORY = "category"
CATEGORIES = np.array(["amber", "birch", "cedar", "delta", "ember", "frost", "grove", "haven"])
START_S = 1_704_067_200.0  # 2024-01-01
RATE = 100.0
"""Events a second of event time: a busy model, 8.6 million a day. What a sparse stream costs is another question: the
join hands rows on at least at fixed marks of event time, however few they are."""

LABEL_DELAY = 1_000
"""Events between a prediction and its label: the join always holds so many."""

BLOCK = 20_000
"""Events drawn at a time."""

BATCH_BYTES = 200_000

CONFIG = """
models:
  bench:
    task: binary
    examples: false
    false_alarms: 1 per month
    reference: {first: 5000}
    windows: {every: 15m, min_events: 200}
    labels: {horizon: 10m, early: 1m}
input:
  model: bench
  prediction_id: id
  event_time: {column: time, format: epoch_s}
  label: label
  label_delay: {events: 1000}
  prediction: prediction
  score: score
"""

Row = tuple[str, float, list[float], str, int, float, int]
"""id, event time, numbers, category, prediction, score, label."""


def rows(events: int, seed: int) -> Iterator[list[Row]]:
    """The events in blocks: stationary, so that what is measured is the watching and not the alarms."""
    for block, first in enumerate(range(0, events, BLOCK)):
        n = min(BLOCK, events - first)
        draw = np.random.default_rng([seed, block])
        numbers = draw.normal(size=(n, len(NUMBERS))).round(4)
        score = (1 / (1 + np.exp(-numbers[:, 0] - 0.5 * numbers[:, 1]))).round(4)
        yield list(
            zip(
                [f"e{i:08d}" for i in range(first, first + n)],
                (START_S + np.arange(first, first + n) / RATE).round(3).tolist(),
                numbers.tolist(),
                CATEGORIES[draw.choice(len(CATEGORIES), n)].tolist(),
                (score > 0.5).astype(int).tolist(),
                score.tolist(),
                (draw.random(n) < score).astype(int).tolist(),
                strict=True,
            )
        )


def write_file(path: Path, events: int, seed: int) -> None:
    """The load as CSV, for replay."""
    with path.open("w", encoding="utf-8") as out:
        out.write(",".join(("id", "time", *NUMBERS, CATEGORY, "prediction", "score", "label")) + "\n")
        for block in rows(events, seed):
            out.writelines(
                f"{key},{time},{','.join(map(str, numbers))},{category},{said},{score},{label}\n"
                for key, time, numbers, category, said, score, label in block
            )


def records(events: int, seed: int) -> Iterator[tuple[list[bytes], list[bytes], list[bytes], list[bytes]]]:
    """The load as records: keys and values of predictions, then keys and values of labels, block by block."""
    waiting: list[tuple[str, int]] = []
    time = START_S
    for block in rows(events, seed):
        predictions, labels = [], []
        for key, time, numbers, category, said, score, label in block:
            features = dict(zip(NUMBERS, numbers, strict=True)) | {CATEGORY: category}
            event = {"prediction_id": key, "model": MODEL, "event_time": time, "features": features}
            predictions.append(orjson.dumps(event | {"prediction": said, "score": score}))
            waiting.append((key, label))
        known, waiting = waiting[:-LABEL_DELAY], waiting[-LABEL_DELAY:]
        for key, label in known:
            labels.append(_label(key, label, START_S + (int(key[1:]) + LABEL_DELAY) / RATE))
        yield [row[0].encode() for row in block], predictions, [key.encode() for key, _ in known], labels
    yield [], [], [key.encode() for key, _ in waiting], [_label(key, label, time) for key, label in waiting]


def _label(key: str, label: int, event_time: float) -> bytes:
    return orjson.dumps({"prediction_id": key, "event_time": round(event_time, 3), "label": label})


async def produce(bootstrap: str, topics: tuple[str, str], partitions: int, events: int, seed: int) -> None:
    """Send the load to the topics of predictions and of labels; returns once all of it is acknowledged."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, max_batch_size=BATCH_BYTES, linger_ms=50)
    await producer.start()
    try:
        for prediction_keys, predictions, label_keys, labels in records(events, seed):
            await _send(producer, topics[0], partitions, prediction_keys, predictions)
            await _send(producer, topics[1], partitions, label_keys, labels)
    finally:
        await producer.stop()


async def _send(
    producer: AIOKafkaProducer, topic: str, partitions: int, keys: list[bytes], values: list[bytes]
) -> None:
    """Whole batches: three times as fast as record by record, in the same order within a partition."""
    open_batches = {partition: producer.create_batch() for partition in range(partitions)}
    sent = []
    for partition, key, value in zip(partitions_of(keys, partitions), keys, values, strict=True):
        if open_batches[partition].append(key=key, value=value, timestamp=None) is None:
            sent.append(await producer.send_batch(open_batches[partition], topic, partition=partition))
            open_batches[partition] = producer.create_batch()
            open_batches[partition].append(key=key, value=value, timestamp=None)
    for partition, batch in open_batches.items():
        if batch.record_count():
            sent.append(await producer.send_batch(batch, topic, partition=partition))
    await asyncio.gather(*sent)


if __name__ == "__main__":
    bootstrap, file, predictions, labels, *numbers = sys.argv[1:]
    events, seed, partitions = map(int, numbers)
    write_file(Path(file), events, seed)
    asyncio.run(produce(bootstrap, (predictions, labels), partitions, events, seed))
