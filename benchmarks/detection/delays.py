"""How soon a change is found: one or ten of fifty features change, at a total budget of one false alarm per million
events.

This engine's replicates are streams of one detector, each with its part of the budget: a stream's evidence knows
nothing of the other streams. Peers are at the same false-alarm rate: ADWIN by an oracle that tunes delta until its
false alarms on the fifty features' null are as many as ours were measured to be, and that tells it the normal scores
of the values, for on the values themselves no delta keeps it quiet (null.py); windowed tests by their level.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.detection import bars, marginals, null, oracle, peers, reasons, telling, windowed
from benchmarks.detection.bars import Bar, Part
from detectors.contract import Budget, Rows, Stream
from detectors.counts import Counts

Floats = NDArray[np.float64]

REFERENCE_ROWS = 20_000
BEFORE_ROWS = 10_000
AFTER_ROWS_MAX = 40_000
CHUNK_ROWS = 512
PIECE_ROWS = 2_000
TOGETHER = 200
"""Streams of one detector at a time: more gain nothing, and their references would fill the memory."""

FEATURES_SHARE = 0.8
"""Of the budget, what the fifty features have in COUNTS.md 4.1 (0.016 per million each); the rest is for losses."""

TEN = (0, 1, 2, 3, 5, 6, 7, 8, 9, 10)
"""Ten numeric features of all marginals, as in DETECTION.md 3.2."""

CATEGORY = 36
"""A feature of five categories, the busiest of which has 44 %."""

PSI_WIDTH_MIN = 1_000
"""In smaller windows PSI's chi-square fails on rare categories: 150 times the false alarms of its level (null.py)."""

RAMP_ROWS = 50_000
SLACK = 1.05

SOURCE = "COUNTS.md 4.1 (R = 200)"
BOUNDS: dict[str, dict[int, float]] = {
    "0.1 sd, 1 of 50": {32: 3040, 256: 3058},
    "0.25 sd, 1 of 50": {32: 570, 256: 712},
    "0.5 sd, 1 of 50": {32: 172, 256: 310},
    "1 sd, 1 of 50": {32: 60, 256: 208},
    "variance x1.5, 1 of 50": {32: 483, 256: 610},
    "category share +0.05": {32: 3460, 256: 3444},
    "category share +0.10": {32: 843, 256: 1021},
}
"""Median delays of the method's prototype, by block size; a bar is at most SLACK times these."""


class Change(NamedTuple):
    """Which features change, and how: `to` takes latent values and the rows since the change (negative before it)."""

    name: str
    features: tuple[int, ...]
    to: Callable[[np.random.Generator, Floats, Floats], Floats]


def _shift(size: float) -> Callable[[np.random.Generator, Floats, Floats], Floats]:
    return lambda draw, z, since: z + size


def _share(size: float) -> Callable[[np.random.Generator, Floats, Floats], Floats]:
    """Some of the other categories become the busiest, whose latent values are the lowest."""
    moved = size / (1 - marginals.share(CATEGORY))
    return lambda draw, z, since: np.where(draw.random(z.shape) < moved, -10.0, z)


CHANGES = (
    *(Change(f"{size:g} sd, 1 of 50", (0,), _shift(size)) for size in (0.1, 0.25, 0.5, 1.0)),
    *(Change(f"{size:g} sd, 10 of 50", TEN, _shift(size)) for size in (0.1, 0.25, 0.5, 1.0)),
    Change("variance x1.5, 1 of 50", (0,), lambda draw, z, since: z * math.sqrt(1.5)),
    Change("category share +0.05", (CATEGORY,), _share(0.05)),
    Change("category share +0.10", (CATEGORY,), _share(0.10)),
    Change("0 to 0.5 sd over 50,000", (0,), lambda draw, z, since: z + 0.5 * np.minimum(since / RAMP_ROWS, 1.0)),
)
SIZES = (32, 256)


class Size(NamedTuple):
    """Runs of ours on rows with a bound and on the others, and of a peer; events of our null; values and pieces for the
    fit of ADWIN's delta, and values on which it is checked."""

    runs: int
    other_runs: int
    peer_runs: int
    null_events: int
    fit_values: int
    fit_pieces: int
    check_pieces: int


FULL = Size(2_000, 400, 100, 3_000_000, 1_000_000, 60, 200)
"""The medians of 200 runs in COUNTS.md have a standard error of 4 %, which is most of what SLACK allows; 2,000 runs
bring our side of it to about 1 %."""

QUICK = Size(10, 10, 2, 200_000, 250_000, 1, 1)
COMPARED = 32
"""Block size of ours at whose measured false alarms ADWIN is tuned: it looks every 32 values itself."""

SHORT = "not compared: the null of the quick form is too short to tune ADWIN on"
FIT_DELTAS = (0.03, 0.01, 0.003, 0.001)
FIT_DELTAS_QUICK = (0.3, 0.1)


def run(quick: bool, seed: int) -> Part:
    size = QUICK if quick else FULL
    ours = {w: {c.name: engine(c, w, runs_of(c, size), seed) for c in CHANGES} for w in SIZES}
    tuned = tune_adwin(size, quick, seed)
    theirs = {c.name: others(c, tuned["delta"], size.peer_runs, seed) for c in CHANGES}
    figures: dict[str, Any] = {"unit": "events to the alarm, median", "bounds_from": SOURCE, "adwin": tuned, "rows": {}}
    losses: dict[str, Any] = {}
    for change in CHANGES:
        row = {f"ours, blocks of {w}": ours[w][change.name] for w in SIZES}
        figures["rows"][change.name] = {
            **row,
            **theirs[change.name],
            "always": {"median": 1},
            "never": {"median": None},
        }
        losses[change.name] = quicker(change, {**row, **theirs[change.name]})
    figures["a_peer_is_quicker"] = SHORT if quick else {name: found for name, found in losses.items() if found}
    telling.show(f"delays: {telling.QUICKER}", telling.quicker(figures))
    return Part(figures=figures, bars=demands(ours))


def runs_of(change: Change, size: Size) -> int:
    return size.runs if change.name in BOUNDS else size.other_runs


def quicker(change: Change, row: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Peers that are quicker than ours in either block size, with why."""
    medians = {name: found["median"] for name, found in row.items()}
    return [
        {"against": ours, **lost, "reason": reasons.of_delays(change.name, w, lost["peer"])}
        for w in SIZES
        for ours in (f"ours, blocks of {w}",)
        for lost in bars.behind(medians, ours)
    ]


def demands(ours: dict[int, dict[str, dict[str, Any]]]) -> list[Bar]:
    """Every row of the table that has a bound, at every block size."""
    return [
        bars.median_at_most(f"delay, {name}, blocks of {w}", ours[w][name], SLACK * bound[w], "events")
        for name, bound in BOUNDS.items()
        for w in SIZES
    ]


def engine(change: Change, block_rows: int, runs: int, seed: int) -> dict[str, Any]:
    """Delays of this engine; alarms before the change are counted beside."""
    at_once = max(TOGETHER // len(change.features), 1)
    found: list[float] = []
    before = 0
    for first in range(0, runs, at_once):
        batch = _Batch(change, block_rows, min(at_once, runs - first), seed, first)
        delays, early = batch.run()
        found += delays
        before += early
    return {**bars.delays(found), "alarms_before": before}


class _Batch:
    """Several runs side by side; the change comes at another place of a block in each."""

    def __init__(self, change: Change, block_rows: int, runs: int, seed: int, first: int) -> None:
        self.change = change
        self.runs = runs
        self.draw = np.random.default_rng([seed, 201, block_rows, first, *change.name.encode()])
        # Every place of a block is as frequent as any other: places drawn by chance would add their own noise.
        places = (np.arange(runs) + self.draw.random()) * block_rows / runs
        self.starts = REFERENCE_ROWS + BEFORE_ROWS + places.astype(np.int64)
        d = len(change.features)
        streams = [
            Stream(f"run {first + i} x{j:02d}", "categorical" if j >= marginals.NUMERIC else "numeric")
            for i in range(runs)
            for j in change.features
        ]
        share = FEATURES_SHARE / marginals.FEATURES
        self.detector = Counts(streams, Budget(share * runs * d, events=1e6), seed, block_rows=block_rows)

    def run(self) -> tuple[list[float], int]:
        reference = self._latent(REFERENCE_ROWS)
        self.learned = [marginals.learn(z, self.change.features) for z in reference]
        self.detector.fit([b for one in self.learned for b in one.bins], self._rows(reference, 0))
        delays = np.full(self.runs, np.inf)
        before = 0
        end = REFERENCE_ROWS + BEFORE_ROWS + AFTER_ROWS_MAX
        for start in range(REFERENCE_ROWS, end, CHUNK_ROWS):
            z = self._latent(CHUNK_ROWS)
            since = start + np.arange(float(CHUNK_ROWS)) - self.starts[:, None, None]
            z = np.where(since >= 0, self.change.to(self.draw, z, since), z)
            for alarm in self.detector.update(self._rows(z, start)):
                i = alarm.stream // len(self.change.features)
                since_s = alarm.at_s - self.starts[i] + 1
                before += int(since_s <= 0)
                if since_s > 0:
                    delays[i] = min(delays[i], since_s)
            if np.isfinite(delays).all():
                break
        return delays.tolist(), before

    def _latent(self, n: int) -> Floats:
        """(runs, features, n)."""
        return np.array([marginals.latent(self.draw, n, self.change.features) for _ in range(self.runs)])

    def _rows(self, z: Floats, start: int) -> Rows:
        codes = np.concatenate([marginals.codes(own, x) for own, x in zip(self.learned, z, strict=True)])
        return Rows(start + np.arange(float(z.shape[2])), codes.T, z.reshape(-1, z.shape[2]).T)


def tune_adwin(size: Size, quick: bool, seed: int) -> dict[str, Any]:
    """The delta at which ADWIN on fifty normal features raises as many false alarms as we were measured to raise in
    blocks of 32.

    That rate is too low to bisect on, so it is read off a line fitted where alarms can be counted, and checked.
    """
    budget = 20.0
    alarms = null.stationary(null.Setting(size.null_events, budget, COMPARED), seed)
    ratio = max(alarms, 1) / (budget * size.null_events / 1e6)
    target = ratio * FEATURES_SHARE / marginals.FEATURES

    def values(piece: int) -> Sequence[float]:
        made: list[float] = np.random.default_rng([seed, 202, piece]).standard_normal(size.fit_values).tolist()
        return made

    deltas = FIT_DELTAS_QUICK if quick else FIT_DELTAS
    line = oracle.line(peers.ADWIN, values, deltas, size.fit_values, size.fit_pieces)
    delta = line.parameter_of(target)
    checked = sum(
        len(peers.alarms(peers.ADWIN.make(delta), values(1_000 + piece))) for piece in range(size.check_pieces)
    )
    return {
        "ours_false_alarms_per_budget": round(ratio, 4),
        "target_per_million_and_feature": target,
        "delta": delta,
        "slope": line.slope,
        "fitted_on": line.points,
        "check": bars.rate(checked, size.check_pieces * size.fit_values / 1e6),
    }


def others(change: Change, delta: float, runs: int, seed: int) -> dict[str, Any]:
    """Peers on the same change: ADWIN on normal scores, or told which category to count; windowed tests on values."""
    found = {"ADWIN (River), tuned": bars.delays([_adwin(change, delta, seed, i) for i in range(runs)])}
    for width in windowed.WIDTHS:
        both = np.array([_windows(change, width, seed, i) for i in range(runs)])
        found[f"KS/chi2, windows of {width}"] = bars.delays(both[:, 0])
        if width >= PSI_WIDTH_MIN:
            found[f"PSI, windows of {width}"] = bars.delays(both[:, 1])
    return found


def _changed(change: Change, draw: np.random.Generator, rows: int, start: int) -> Floats:
    z = marginals.latent(draw, rows, change.features)
    return change.to(draw, z, start + np.broadcast_to(np.arange(float(rows)), z.shape))


def _adwin(change: Change, delta: float, seed: int, i: int) -> float:
    draw = np.random.default_rng([seed, 203, i])
    detectors = [peers.ADWIN.make(delta) for _ in change.features]

    def first(z: Floats) -> list[int]:
        shown = [
            x if j < marginals.NUMERIC else marginals.values(j, x) == 0 for j, x in zip(change.features, z, strict=True)
        ]
        both = zip(detectors, shown, strict=True)
        return [i for detector, x in both for i in peers.alarms(detector, x.astype(float).tolist())[:1]]

    first(marginals.latent(draw, REFERENCE_ROWS + BEFORE_ROWS + int(draw.integers(0, 256)), change.features))
    for start in range(0, AFTER_ROWS_MAX, PIECE_ROWS):
        found = first(_changed(change, draw, PIECE_ROWS, start))
        if found:
            return start + min(found) + 1.0
    return math.inf


def _windows(change: Change, width: int, seed: int, i: int) -> tuple[float, float]:
    """Delays of KS (chi-square) and of PSI, both at the level of the budget; windows begin anywhere."""
    draw = np.random.default_rng([seed, 204, width, i])
    reference = marginals.latent(draw, REFERENCE_ROWS, change.features)
    known = [
        windowed.Reference(marginals.values(j, z), j >= marginals.NUMERIC)
        for j, z in zip(change.features, reference, strict=True)
    ]
    level = windowed.level(width, marginals.FEATURES, FEATURES_SHARE)
    old = int(draw.integers(0, width))
    delays = [math.inf, math.inf]
    kept = marginals.latent(draw, old, change.features)
    end = width - old
    while end <= AFTER_ROWS_MAX and math.inf in delays:
        rows = width - kept.shape[1]
        z = np.concatenate([kept, _changed(change, draw, rows, end - rows)], 1)
        kept = z[:, :0]
        seen = [r.look(marginals.values(j, x)) for j, r, x in zip(change.features, known, z, strict=True)]
        for k in range(2):
            if min(one[k] for one in seen) < level:
                delays[k] = min(delays[k], float(end))
        end += width
    return delays[0], delays[1]
