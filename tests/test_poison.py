"""A thousand records of poison among a hundred thousand good ones change nothing but the dead letters and the counts
(F24)."""

from __future__ import annotations

import random
from collections import Counter

import msgspec

from stream import codec, config, limits
from stream.contract import DEAD_LETTERS, LABELS, PREDICTIONS, Batch, Chunk, Output, Record
from stream.events import DeadLetter, Observations
from stream.joining.partition import partitions_of
from stream.stages.join import Join

CONFIG = config.parse(
    "models: {late15: {task: binary, slices: [carrier], windows: {every: 1h}}, fare: {task: regression}}"
)
GOOD = 50_000
"""Predictions, and as many labels."""
POISON = 500
"""In each log."""
SHARDS = 2
START = 1_700_000_000.0
BATCH = 2_000
KINDS = (
    "malformed", "schema", "not_finite", "missing", "huge", "unknown_model",
    "wrong_partition", "future", "null", "duplicate", "impossible",
)  # fmt: skip
CODES = {"not_finite": "malformed", "missing": "schema"}
"""JSON has no NaN; a missing id is a fault of the schema."""


def ids() -> tuple[list[str], str]:
    """Ids that belong to shard 0, and one that does not."""
    names = [f"flight-{i:06d}" for i in range(3 * GOOD)]
    belongs = partitions_of([name.encode() for name in names], SHARDS)
    mine = [name for name, partition in zip(names, belongs, strict=True) if partition == 0]
    return mine[:GOOD], names[belongs.index(1)]


def good() -> tuple[list[bytes], list[bytes], str]:
    names, stranger = ids()
    draw = random.Random(11)
    predictions, labels = [], []
    for i, name in enumerate(names):
        at = START + i + draw.random()
        features = {"hour": i % 24, "distance": draw.random(), "carrier": draw.choice(("AA", "UA"))}
        event = {"prediction_id": name, "model": "late15", "event_time": at, "features": features, "prediction": i % 2}
        predictions.append(msgspec.json.encode(event))
        came = at + draw.expovariate(1 / 300)
        labels.append((came, msgspec.json.encode({"prediction_id": name, "event_time": came, "label": i % 3 == 0})))
    return predictions, [value for _, value in sorted(labels)], stranger


def poisoned(log: list[bytes], stranger: str) -> tuple[list[bytes | None], dict[int, str]]:
    """The log with poison at places drawn by chance, and what stands where."""
    draw = random.Random(12)
    places = sorted(draw.sample(range(100, len(log)), POISON), reverse=True)
    values: list[tuple[bytes | None, str]] = [(value, "") for value in log]
    for n, place in enumerate(places):
        kind = KINDS[n % len(KINDS)]
        values.insert(place, (poison(kind, log[place - 1], stranger), kind))
    return [value for value, _ in values], {i: kind for i, (_, kind) in enumerate(values) if kind}


def poison(kind: str, near: bytes, stranger: str) -> bytes | None:
    """One bad record made of the good one before it."""
    event = msgspec.json.decode(near)
    text = "label" if "label" in event else "prediction"
    late = {**event, "event_time": event["event_time"] + 3_000}  # would move progress, were it taken
    changed = {
        "schema": {**late, "event_time": [1]},
        "missing": {name: value for name, value in late.items() if name != "prediction_id"},
        "huge": {**late, "junk": "x" * limits.EVENT_BYTES_MAX},
        "unknown_model": {**late, "model": "late51"},
        "wrong_partition": {**late, "prediction_id": stranger},
        "future": {**event, "event_time": START + 10_000_000},
        "impossible": {**late, "model": "fare", text: "many"},
        "duplicate": event,
    }
    if kind == "null":
        return None
    if kind == "malformed":
        return near[:-7] + b"\xff"
    if kind == "not_finite":
        return near[:-1] + b',"score":NaN}'
    return msgspec.json.encode(changed[kind])


def run(predictions: list[bytes | None], labels: list[bytes | None]) -> tuple[Join, list[Output]]:
    join, outputs = Join(CONFIG, 0, SHARDS), list[Output]()
    logs = {
        role: [Record(i, START + 2 * GOOD, b"k", value) for i, value in enumerate(values)]
        for role, values in ((PREDICTIONS, predictions), (LABELS, labels))
    }
    for start in range(0, max(map(len, logs.values())), BATCH):
        chunks = (Chunk(role, 0, start, start + BATCH, rows[start : start + BATCH]) for role, rows in logs.items())
        outputs += join.process(Batch(0.0, tuple(chunk for chunk in chunks if chunk.records)))
    return join, outputs


def by_sequence(outputs: list[Output]) -> dict[str, list[bytes]]:
    """Examples, and the two sequences of observations of each model, in their order."""
    found: dict[str, list[bytes]] = {}
    for topic, key, event, _ in outputs:
        if topic != DEAD_LETTERS:
            rows = event.rows if isinstance(event, Observations) else ""
            found.setdefault(f"{topic} {key} {rows}", []).append(codec.pack(event))
    return found


def test_poison_becomes_dead_letters_and_changes_nothing_else() -> None:
    """F24."""
    predictions, labels, stranger = good()
    clean, expected = run(list(predictions), list(labels))
    logs = {PREDICTIONS: poisoned(predictions, stranger), LABELS: poisoned(labels, stranger)}
    join, outputs = run(logs[PREDICTIONS][0], logs[LABELS][0])
    assert by_sequence(outputs) == by_sequence(expected)

    letters = {(o.event.topic, o.event.offset): o.event for o in outputs if isinstance(o.event, DeadLetter)}
    for role, (values, places) in logs.items():
        for offset, kind in places.items():
            letter = letters.pop((role, offset), None)
            if kind == "duplicate":
                assert letter is None
                continue
            assert letter is not None and letter.partition == 0 and letter.reason and letter.key == "k"
            impossible = "label" if role == LABELS else "prediction"
            assert letter.code == CODES.get(kind, impossible if kind == "impossible" else kind)
            value = values[offset]
            head = None if value is None else value[: limits.DEAD_LETTER_BYTES_MAX].decode("utf-8", "replace")
            assert letter.value == head
    assert letters == {}, "no good record was refused"

    ledger = join.ledger
    ledger.check()
    count = Counter(kind for _, places in logs.values() for kind in places.values())
    assert ledger.predictions.duplicate + ledger.labels.duplicate == count["duplicate"]
    assert ledger.predictions.rejected + ledger.labels.rejected == 2 * POISON - count["duplicate"]
    assert ledger.predictions.received == ledger.labels.received == GOOD + POISON
    assert (clean.ledger.predictions.joined, clean.ledger.labels.joined) == (
        ledger.predictions.joined, ledger.labels.joined,
    )  # fmt: skip
    assert join.watermark.through() == clean.watermark.through(), "poison moves no progress"
