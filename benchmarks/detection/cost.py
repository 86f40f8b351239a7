"""What watching costs: CPU time per event by number of features and of slices, through the detector's contract and
through a model's watcher (`stream.windows`), which counts windows and figures besides. Best of several turns.

Twice the streams may cost twice the time at most: `linear` is the cost of the larger group over the smaller one's,
divided by the ratio of their sizes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.detection import bars
from benchmarks.detection.bars import Part
from detectors.contract import Bins, Budget, Rows, Stream
from detectors.counts import Counts
from stream.config import Model, parse
from stream.events import Column, OutcomeRows, PredictionRows
from stream.windows.timeline import SLAB_ROWS, Slab
from stream.windows.watcher import Watcher

FEATURES = (10, 50, 200)
SLICES = (1, 10, 100)
EDGES = tuple(np.linspace(-2, 2, 31).tolist())
RATE = 0.1
REFERENCE_ROWS = 5_000
EVENT_S = 0.1
FULL, QUICK = (64, 3), (4, 1)
"""Slabs of events that are measured, and turns."""

NOISE = 1.1
"""A bar allows so much for the noise of a shared machine."""


def run(quick: bool, seed: int) -> Part:
    slabs, turns = QUICK if quick else FULL
    rows = slabs * SLAB_ROWS
    ways: dict[str, tuple[tuple[int, ...], Callable[[int, int, int], Callable[[], float]]]] = {
        "detector, features": (FEATURES, features),
        "detector, slices": (SLICES, slices),
        "watcher, features": (FEATURES, lambda n, rows, seed: watched(n, 1, rows, seed)),
        "watcher, slices": (SLICES, lambda n, rows, seed: watched(10, n, rows, seed)),
    }
    figures: dict[str, Any] = {"unit": "CPU microseconds per event", "events": rows}
    demands = []
    for way, (sizes, prepare) in ways.items():
        costs = [min(prepare(n, rows, seed + turn)() for turn in range(turns)) / rows * 1e6 for n in sizes]
        figures[way] = {str(n): round(cost, 3) for n, cost in zip(sizes, costs, strict=True)}
        for i in range(len(sizes) - 1):
            growth = costs[i + 1] / costs[i] / (sizes[i + 1] / sizes[i])
            name = f"growth of cost, {way}, {sizes[i]} to {sizes[i + 1]}"
            demands.append(bars.at_most(name, growth, NOISE, "of linear growth"))
    return Part(figures=figures, bars=demands)


def timed(work: Callable[[], object]) -> Callable[[], float]:
    def measure() -> float:
        began = time.process_time()
        work()
        return time.process_time() - began

    return measure


def features(number: int, rows: int, seed: int) -> Callable[[], float]:
    """Half of the features numeric, half of them of five categories; events of a stationary stream."""
    draw = np.random.default_rng([seed, 601, number])
    numeric = np.arange(number) % 2 == 0
    streams = [Stream(f"x{j}", "numeric" if numeric[j] else "categorical") for j in range(number)]
    bins = [Bins(edges=EDGES) if numeric[j] else Bins(categories=tuple("abcde")) for j in range(number)]
    shown = _coded(np.floor(draw.random((REFERENCE_ROWS + rows, number)) * np.where(numeric, 32, 5)).astype(np.int32))
    return _through_counts(streams, bins, shown)


def slices(number: int, rows: int, seed: int) -> Callable[[], float]:
    """The losses of so many slices; each event is in one."""
    draw = np.random.default_rng([seed, 602, number])
    n = REFERENCE_ROWS + rows
    codes = np.full((n, number), -1, np.int32)
    codes[np.arange(n), draw.integers(0, number, n)] = draw.random(n) < RATE
    streams = [Stream(f"slice {k}", "loss") for k in range(number)]
    return _through_counts(streams, [Bins(edges=(0.5,))] * number, _coded(codes))


def _coded(codes: np.ndarray) -> Rows:
    return Rows(np.arange(float(len(codes))) * EVENT_S, codes, codes.astype(np.float64))


def _through_counts(streams: list[Stream], bins: list[Bins], shown: Rows) -> Callable[[], float]:
    detector = Counts(streams, Budget(1, events=1e6), 1)
    detector.fit(bins, shown.part(0, REFERENCE_ROWS))

    def work() -> None:
        for start in range(REFERENCE_ROWS, len(shown), SLAB_ROWS):
            detector.update(shown.part(start, start + SLAB_ROWS))

    return timed(work)


def watched(number: int, groups: int, rows: int, seed: int) -> Callable[[], float]:
    """A binary model of so many features and one declared slice of so many values; every label comes at once."""
    draw = np.random.default_rng([seed, 603, number, groups])
    settings = (
        f"models: {{m: {{task: binary, reference: {{first: {REFERENCE_ROWS}}}, windows: {{every: 1h}}, slices: [group],"
        f" labels: {{horizon: 1h}}, false_alarms: 1 per 1000000 events}}}}"
    )
    watcher = Watcher("m", _model(settings), 3_600.0)
    slabs = [_slab(draw, start, number, groups) for start in range(0, REFERENCE_ROWS + rows + SLAB_ROWS, SLAB_ROWS)]
    begun = (REFERENCE_ROWS + SLAB_ROWS) // SLAB_ROWS + 1
    for slab in slabs[:begun]:
        watcher.slab(slab)

    def work() -> None:
        for slab in slabs[begun : begun + rows // SLAB_ROWS]:
            watcher.slab(slab)

    return timed(work)


def _model(settings: str) -> Model:
    return parse(settings).models["m"]


def _slab(draw: np.random.Generator, start: int, number: int, groups: int) -> Slab:
    n = SLAB_ROWS
    time_s = EVENT_S * (start + np.arange(float(n)))
    said, label = (draw.random(n) < 0.4).astype(float), (draw.random(n) < 0.4).astype(float)
    group = Column(draw.integers(0, groups, n).astype(np.int32), [f"g{k}" for k in range(groups)])
    version, nothing = Column(np.zeros(n, np.int32), ["1"]), Column(np.full(n, np.nan))
    predictions = PredictionRows(
        order=time_s, event_time=time_s, features={f"x{j}": Column(draw.normal(size=n)) for j in range(number)},
        tags={"group": group}, prediction=Column(said), score=Column(draw.random(n)), version=version,
    )  # fmt: skip
    outcomes = OutcomeRows(
        order=time_s, event_time=time_s, delay_s=np.zeros(n), status=np.zeros(n, np.int32), label=Column(label),
        previous=nothing, prediction=Column(said), score=predictions.score, version=version,
        slices={"group": group}, votes={},
    )  # fmt: skip
    return Slab(predictions, outcomes, float(time_s[0]), float(time_s[-1]))
