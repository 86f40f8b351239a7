"""A feed of events through the embedded engine, and what came of it as one plain document (F45).

Owns the shape of the result, which report, demo and tests read; refuses to know how it is shown. The same file,
configuration and seed give the same bytes, apart from `timings`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from pathlib import Path
from time import perf_counter
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from learners.assignment import propensities
from stream import codec
from stream.config import Config
from stream.contract import ALERTS, DEAD_LETTERS, DECISIONS, OBSERVATIONS, SNAPSHOTS, WINDOWS
from stream.events import LABELLED, ModelSnapshot, Observations, Traffic, Window
from stream.ledger import Ledger
from stream.runtime import feed as files
from stream.runtime.embedded import Embedded, collector_off
from stream.runtime.feed import Item
from stream.runtime.known import moment
from stream.runtime.stages import Secrets

SCHEMA_VERSION = 1

OVERALL: Final = "overall"
"""What watch calls the performance of a learner over all its versions."""

PROGRESS_EVERY = 500
"""Events between two calls of `on_progress`."""

WINDOWS_MAX = 200_000
"""Windows that a result holds; the earliest beyond them are left out and counted."""

DEAD_LETTERS_SHOWN = 100

TRAFFIC_MAX: Final = 2_000
"""Changes of one model's traffic that a result holds, the newest: a picture shows no more."""

DELAY_BINS = 2_000
DELAY_STEP = math.log(3.2e7) / DELAY_BINS
"""Delays from a second to a year, each bin 0.9% wider than the one before."""

DELAY_COARSE = 20
"""Fine bins that a picture's bar takes together."""


class Progress(NamedTuple):
    """How far a replay has come: share of the file read, events taken, event time, alerts so far, seconds."""

    done: float
    events: int
    event_time: float
    alerts: int
    elapsed_s: float


OnProgress: TypeAlias = Callable[[Progress], None]


class Result(msgspec.Struct):
    """What came of a replay; `document` holds plain JSON values (see `to_dict`)."""

    document: dict[str, Any]
    snapshots: dict[tuple[str, str], ModelSnapshot]
    """The last of each (model, learner), if there was a key to sign them with."""

    def to_dict(self) -> dict[str, Any]:
        return self.document

    def to_json(self) -> bytes:
        """Sorted keys, indented: for people, and equal for equal results."""
        return orjson.dumps(self.document, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)


class Feed(Protocol):
    """Events in the order in which the world would send them; `done` is how much of them has been read, 0 to 1."""

    def __iter__(self) -> Iterator[Item]: ...

    def done(self) -> float: ...

    def figures(self) -> dict[str, int]:
        """Counts of what was read."""


def replay(
    config: Config,
    path: str | Path,
    partitions: int = 1,
    on_progress: OnProgress | None = None,
    secrets: Secrets | None = None,
) -> Result:
    """Run a file through all stages. Raises ConfigError where file and configuration do not fit."""
    return run(config, files.Feed(config, path), str(Path(path).name), partitions, on_progress, secrets)


def run(
    config: Config,
    feed: Feed,
    title: str,
    partitions: int = 1,
    on_progress: OnProgress | None = None,
    secrets: Secrets | None = None,
) -> Result:
    """Run a feed through all stages of a configuration; `title` names it in the report.

    With a key in `secrets` snapshots are published as a worker would, and once more at the end."""
    key, key_id, *_ = secrets or Secrets()
    delays = {name: Delays() for name in config.models}

    def observed(seen: Observations) -> None:
        if seen.outcomes is not None:
            delays[seen.model].take(seen.outcomes.delay_s[seen.outcomes.status == LABELLED])

    snapshots: dict[tuple[str, str], ModelSnapshot] = {}

    traffic: dict[str, deque[dict[str, Any]]] = {name: deque(maxlen=TRAFFIC_MAX) for name in config.models}

    def published(event: ModelSnapshot | Traffic) -> None:
        if isinstance(event, ModelSnapshot):
            snapshots[event.model, event.learner] = event
        else:
            shares = {} if event.routing is None else propensities(event.routing)
            traffic[event.model].append({"at": event.at, "shares": shares})

    taps: dict[str, Callable[[Any], None]] = {OBSERVATIONS: observed, SNAPSHOTS: published}
    embedded = Embedded(config, partitions, key, key_id, taps=taps)
    span = Span()
    start = perf_counter()
    with collector_off() as collect:
        for events, item in enumerate(embedded.run(feed), 1):
            span.take(item)
            if events % PROGRESS_EVERY == 0:
                collect(events)
                if on_progress is not None:
                    alerts = len(embedded.logs[ALERTS])
                    on_progress(Progress(feed.done(), events, embedded.now, alerts, perf_counter() - start))
        embedded.finish()
        if key:
            embedded.publish()
    elapsed = perf_counter() - start
    if on_progress is not None:
        on_progress(Progress(1.0, span.events, span.last, len(embedded.logs[ALERTS]), elapsed))
    document = _document(config, embedded)
    document["feed"] = {
        "file": title,
        **feed.figures(),
        "first": moment(span.first) if span.events else None,
        "last": moment(span.last) if span.events else None,
    }
    document["learning"]["traffic"] = {name: list(told) for name, told in traffic.items() if told}
    document["delays"] = {name: found.figures() for name, found in delays.items()}
    document["digest"] = codec.digest(codec.canonical(document))
    document["timings"] = _timings(embedded, span.events, elapsed)
    return Result(document, snapshots)


class Delays:
    """Delays of one model's labels in bins of equal ratio: bounded, and quantiles to one part in a hundred."""

    def __init__(self) -> None:
        self.counts = np.zeros(DELAY_BINS + 1, np.int64)
        self.labels = 0

    def take(self, delays_s: NDArray[np.float64]) -> None:
        self.labels += len(delays_s)
        bins = (np.log(np.maximum(delays_s, 1.0)) / DELAY_STEP).astype(np.int64)
        np.add.at(self.counts, np.minimum(bins, DELAY_BINS), 1)

    def quantile(self, share: float) -> float:
        if not self.labels:
            return 0.0
        i = int(np.searchsorted(np.cumsum(self.counts), share * self.labels))
        return math.exp((i + 0.5) * DELAY_STEP) if i else 0.0

    def figures(self) -> dict[str, Any]:
        """Quantiles, and the counts in coarser bins from the first to the last that holds a label."""
        coarse = [int(self.counts[i : i + DELAY_COARSE].sum()) for i in range(0, DELAY_BINS, DELAY_COARSE)]
        held = [i for i, count in enumerate(coarse) if count]
        first, last = (held[0], held[-1]) if held else (0, -1)
        return {
            "labels": self.labels,
            "median_s": round(self.quantile(0.5), 1),
            "p99_s": round(self.quantile(0.99), 1),
            "edges_s": [round(math.exp(i * DELAY_COARSE * DELAY_STEP), 1) for i in range(first, last + 2)],
            "counts": coarse[first : last + 1],
        }


class Span:
    """First and last event time of what was asked, and the number of events."""

    def __init__(self) -> None:
        self.first = float("inf")
        self.last = float("-inf")
        self.events = 0

    def take(self, item: Item) -> None:
        if item.topic != DEAD_LETTERS:
            self.events += 1
            self.first = min(self.first, item.event_time)
            self.last = max(self.last, item.event_time)


def _document(config: Config, embedded: Embedded) -> dict[str, Any]:
    """Everything but timings, as plain values: equal runs give equal documents."""
    watch, learn = embedded.watch.stage.figures(), embedded.learn.stage.figures()
    windows, left_out = _newest(event for _, event in embedded.logs[WINDOWS] if isinstance(event, Window))
    letters = [msgspec.to_builtins(event) for _, event in embedded.logs[DEAD_LETTERS]]
    document = {
        "schema_version": SCHEMA_VERSION,
        "config_hash": config.hash(),
        "partitions": embedded.partitions,
        "ledger": reduce(Ledger.merge, embedded.ledgers()).figures(),
        "models": {
            name: {
                "task": model.task,
                "false_alarms": str(model.false_alarms),
                "learners": _learners(watch.get("models", {}).get(name, {}).get("performance", {}), name, windows),
                "watch": watch.get("models", {}).get(name, {}),
            }
            for name, model in config.models.items()
        },
        "alerts": [msgspec.to_builtins(event) for _, event in embedded.logs[ALERTS]],
        "windows": [msgspec.to_builtins(window) for window in windows],
        "windows_left_out": left_out,
        "learning": _learning(embedded, learn.get("models", {})),
        "dead_letters": {"count": len(letters), "codes": _count(letters), "first": letters[:DEAD_LETTERS_SHOWN]},
    }
    return orjson.loads(orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS))  # type: ignore[no-any-return]


def _learners(performance: dict[str, Any], model: str, windows: list[Window]) -> dict[str, Any]:
    """Of each learner and version: events, labelled, the metrics over all; and of each learner those per window."""
    out: dict[str, Any] = {}
    for learner, versions in performance.items():
        whole = [w for w in windows if (w.model, w.learner, w.slice) == (model, learner, {})]
        split = {version: _scored(figures) for version, figures in versions.items() if version != OVERALL}
        per_window = [{"start": w.start, "end": w.end, "labelled": w.n_labelled, "metrics": w.metrics} for w in whole]
        out[learner] = {**_scored(versions.get(OVERALL, {})), "versions": split, "windows": per_window}
    return out


def _scored(figures: dict[str, Any]) -> dict[str, Any]:
    metrics = {name: value for name, value in figures.items() if name not in ("events", "labelled")}
    return {"events": figures.get("events", 0), "labelled": figures.get("labelled", 0), "metrics": metrics}


def _learning(embedded: Embedded, models: dict[str, Any]) -> dict[str, Any]:
    """What was learned, published and decided."""
    each = {name: found.get("learners", {}) for name, found in models.items()}
    return {
        "updates": {name: {key: one["updates"] for key, one in found.items()} for name, found in each.items()},
        "snapshots": {name: {key: one["snapshots"] for key, one in found.items()} for name, found in each.items()},
        "decisions": [msgspec.to_builtins(event) for _, event in embedded.logs[DECISIONS]],
        "models": models,
        "digests": embedded.digests(),
    }


def _newest(windows: Iterable[Window]) -> tuple[list[Window], int]:
    """The last word on each window, in the order of their ends, and how many were left out."""
    newest: dict[tuple[Any, ...], Window] = {}
    for window in windows:
        where = (window.model, window.learner, window.model_version, tuple(sorted(window.slice.items())))
        newest[(*where, window.start, window.end)] = window
    ordered = sorted(newest.values(), key=lambda window: (window.end, window.start))
    return ordered[-WINDOWS_MAX:], max(len(ordered) - WINDOWS_MAX, 0)


def _count(letters: list[dict[str, Any]]) -> dict[str, int]:
    codes: dict[str, int] = {}
    for letter in letters:
        codes[letter["code"]] = codes.get(letter["code"], 0) + 1
    return codes


def _timings(embedded: Embedded, events: int, elapsed_s: float) -> dict[str, Any]:
    stages: dict[str, float] = {}
    for consumer in embedded.consumers:
        stages[consumer.name] = stages.get(consumer.name, 0.0) + consumer.elapsed_s
    stages["feed and log"] = elapsed_s - sum(stages.values())
    return {
        "elapsed_s": elapsed_s,
        "events": events,
        "events_per_s": events / elapsed_s if elapsed_s else 0.0,
        "stages_s": stages,
    }
