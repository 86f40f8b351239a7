"""What the tests of the join share: small logs, ways to interleave them, and a join by definition to compare with."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from stream import codec, config
from stream.contract import DEAD_LETTERS, EXAMPLES, LABELS, PREDICTIONS, Batch, Chunk, Output, Record
from stream.events import Example, Heartbeat, Label, Observations, Prediction
from stream.stages.join import Join

Event = msgspec.Struct | bytes | None

CONFIG = config.parse(
    """
models:
  a: {task: binary, windows: {every: 40s}, slices: [place], labels: {horizon: 20s, early: 8s}}
  b: {task: regression, windows: {every: 100s}, labels: {horizon: 30s, early: 12s, implicit: {after: 10s, label: 0}}}
"""
)


def said(id: str, at: float, model: str = "a", value: Any = 1, **more: Any) -> Prediction:
    more.setdefault("features", {"x": at, "place": f"at {id}"})
    return Prediction(prediction_id=id, model=model, event_time=at, prediction=value, **more)


def known(id: str, at: float, value: Any = 1, **more: Any) -> Label:
    return Label(prediction_id=id, event_time=at, label=value, **more)


def beat(at: float) -> Heartbeat:
    return Heartbeat(at)


def records(events: Iterable[Event], first: int = 0) -> list[Record]:
    """Written at the same moment each, so that no event time is in the future. Structs are copied: a log does not
    change when a stage reads it."""
    copies = (msgspec.structs.replace(e) if isinstance(e, msgspec.Struct) else e for e in events)
    return [Record(first + i, 1e9, None, event) for i, event in enumerate(copies)]


def chunk(role: str, rows: Sequence[Record], at_end: bool = False) -> Chunk:
    start = rows[0].offset if rows else 0
    return Chunk(role, 0, start, rows[-1].offset + 1 if rows else 0, list(rows), at_end)


def join_of(
    predictions: Sequence[Event], labels: Sequence[Event], configuration: config.Config = CONFIG
) -> tuple[Join, list[Output]]:
    """Both logs read whole, the predictions first."""
    join = Join(configuration, 0, 1)
    batch = Batch(0.0, (chunk(PREDICTIONS, records(predictions)), chunk(LABELS, records(labels))))
    return join, join.process(batch)


def examples(outputs: Iterable[Output]) -> list[Example]:
    return [o.event for o in outputs if isinstance(o.event, Example)]


def observations(outputs: Iterable[Output], rows: str) -> list[Observations]:
    return [o.event for o in outputs if isinstance(o.event, Observations) and o.event.rows == rows]


def interleaved(
    draw: random.Random, predictions: Sequence[Event], labels: Sequence[Event], chunk_max: int = 5
) -> list[Batch]:
    """Both logs cut and interleaved by chance; each batch holds one or two chunks."""
    left = {PREDICTIONS: records(predictions), LABELS: records(labels)}
    batches = []
    while left[PREDICTIONS] or left[LABELS]:
        chunks = []
        for _ in range(draw.choice((1, 1, 2))):
            role = draw.choice([role for role, rows in left.items() if rows] or [PREDICTIONS])
            n = draw.randint(1, chunk_max)
            rows, left[role] = left[role][:n], left[role][n:]
            if rows:
                chunks.append(chunk(role, rows))
        batches.append(Batch(0.0, tuple(chunks)))
    return batches


def seen(join: Join, batches: Iterable[Batch]) -> dict[str, Any]:
    """All that the interleaving must not change: examples and both sequences of observations in their order, dead
    letters, and the ledger. (A label that its prediction refuses is a letter when both are known, so letters have no
    order.)"""
    found: dict[str, Any] = {}
    for batch in batches:
        for topic, key, event, _ in join.process(batch):
            sequence = "" if topic == EXAMPLES else key
            if isinstance(event, Observations):
                sequence = f"{key}/{event.rows}"
            found.setdefault(f"{topic} {sequence}", []).append(codec.pack(event))
    for name, letters in found.items():
        if name.startswith(DEAD_LETTERS):
            letters.sort()
    found["ledger"] = msgspec.to_builtins(join.ledger)
    found["models"] = join.figures()["models"]
    return found


def small_logs(draw: random.Random, size: int = 24) -> tuple[list[Event], list[Event]]:
    """Few ids, times that jitter, and everything that can go wrong with either log."""
    predictions: list[Event] = []
    labels: list[Event] = []
    for i in range(draw.randint(1, size)):
        at = float(max(0, 2 * i + draw.choice((-25, -6, -1, 0, 0, 0, 0, 1, 3, 15))))
        id, model = f"id-{draw.randint(0, size // 3)}", draw.choice("aab")
        kind = draw.randint(0, 19)
        if kind == 0:
            predictions.append(beat(at))
        elif kind == 1:
            predictions.append(draw.choice((b"not json", None, said(id, at, "unknown"), said(id, at, "b", "text"))))
        elif kind <= 4:
            learner = draw.choice(("forest", "linear"))
            predictions.append(said(id, at, model, draw.randint(0, 1), role="shadow", learner=learner))
        else:
            predictions.append(said(id, at, model, draw.randint(0, 1), role=draw.choice(("champion", "canary"))))
    for i in range(draw.randint(1, size)):
        at = float(max(0, 2 * i + draw.choice((-25, -6, -1, 0, 0, 2, 5, 12, 24))))
        id, naming = f"id-{draw.randint(0, size // 3)}", draw.choice(("a", "b", None, None))
        kind = draw.randint(0, 19)
        if kind == 0:
            labels.append(beat(at))
        elif kind == 1:
            labels.append(draw.choice((b"{}", None, known(id, at, model="unknown"), known(id, at, "text"))))
        else:
            source = draw.choice(("world", "world", "person"))
            labels.append(
                known(id, at, draw.randint(0, 1), model=naming, label_source=source, retracted=kind in (2, 3))
            )
    if draw.randint(0, 1):
        predictions.append(beat(500.0))
        labels.append(beat(500.0))
    return predictions, labels
