"""An error rate that rises: 0.10 to 0.12, 0.15 and 0.20, this engine's loss stream against detectors made for it.

Every peer is tuned by an oracle to the loosest parameter that raises at most ten false alarms per million on this very
null; this engine's budget is ten. `calibrated` raises its budget until it is measured to raise ten as well: a
comparison, not a mode with a stated bound. All see 10,000 errors before the change, of which 5,000 are the reference.

**Who alarmed before the change** has no delay (Pollak 1985): those runs are left out, of ours and of the peers, and
counted beside. The figures to beat were measured so in effect, by an engine that kept its whole reference after a false
alarm; this one learns anew, as it must where an alarm is none, and has a twentieth of the runs to spare. The median of
all runs stands beside too.

A peer's null is streams as long as those of the delays, counted after the reference, each with a fresh detector. On one
stream of two million EDDM was tuned to 13 alarms, all in its first 4,000 values: then its largest distance was one that
it never came near again. At that parameter it raises 2,000 per million where delays are measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.detection import bars, oracle, peers, reasons, telling
from benchmarks.detection.bars import Bar, Part
from benchmarks.detection.peers import Peer
from detectors import budget as budgeting
from detectors.binning import training_rows
from detectors.contract import Bins, Budget, Stream
from detectors.panel import Panel

BEFORE, AFTER = 0.10, (0.12, 0.15, 0.20)
REFERENCE_ROWS = 5_000
BEFORE_ROWS = 5_000
AFTER_ROWS_MAX = 20_000
BLOCK_ROWS = 32
PER_MILLION = 10.0
SLACK = 1.05
TOGETHER = 500

GUARANTEED, CALIBRATED = "ours, budget 10", "ours, calibrated to 10"
BOUNDS = {GUARANTEED: (2315, 558, 205), CALIBRATED: (1933, 492, 186)}
"""Median delays of the prototype, blocks of 32: COUNTS.md 4.3 (R = 600)."""


ENOUGH = 5 * 1e6 / PER_MILLION
"""Errors of a null on which ten per million can be tuned to at all."""

SHORT = "not compared: the nulls of the quick form are too short to tune peers on"


class Size(NamedTuple):
    """Runs of ours and of a peer; errors of our null, of the calibrated one, of a peer's and a slow peer's; halvings of
    an oracle."""

    runs: int
    peer_runs: int
    null: int
    calibrated_null: int
    peer_null: int
    slow_null: int
    steps: int


FULL = Size(12_000, 200, 2_400_000_000, 480_000_000, 2_000_000, 500_000, 9)
QUICK = Size(60, 3, 600_000, 600_000, 30_000, 4_000, 3)


def run(quick: bool, seed: int) -> Part:
    size = QUICK if quick else FULL
    alarms = engine_null(PER_MILLION, size.null, seed)
    measured = bars.rate(alarms, size.null / 1e6)
    calibrated = PER_MILLION * PER_MILLION / max(measured["rate"], PER_MILLION / 4)
    budgets = {GUARANTEED: PER_MILLION, CALIBRATED: calibrated}
    false_alarms: dict[str, Any] = {
        GUARANTEED: {"budget": PER_MILLION, **measured},
        CALIBRATED: {
            "budget": round(calibrated, 2),
            **bars.rate(engine_null(calibrated, size.calibrated_null, seed + 1), size.calibrated_null / 1e6),
        },
    }
    rows: dict[str, dict[str, Any]] = {}
    for after in AFTER:
        rows[_name(after)] = {
            name: delays_of(engine(budget, after, size.runs, seed)) for name, budget in budgets.items()
        }
    failed: dict[str, str] = {} if peers.frouros() else {"Frouros": peers.FROUROS_MISSING}
    for peer in (*peers.RIVER, *peers.frouros()):
        try:
            false_alarms[peer.name], delays = other(peer, size, seed)
        except (ValueError, ArithmeticError) as error:
            failed[peer.name] = str(error)
            continue
        for name, found in delays.items():
            rows[name][peer.name] = found
    for row in rows.values():
        row |= {"always": {"median": 1}, "never": {"median": None}}
    figures = {
        "unit": "errors to the alarm, median; missed within 20,000",
        "false_alarms_per_million": false_alarms,
        "rows": rows,
        "failed": failed,
        "a_peer_is_quicker": {name: _behind(row) for name, row in rows.items()} if size.slow_null >= ENOUGH else SHORT,
    }
    telling.show(f"errors: {telling.QUICKER}", telling.quicker(figures))
    return Part(figures=figures, bars=demands(alarms, size.null, rows))


def demands(alarms: int, errors: int, rows: dict[str, dict[str, Any]]) -> list[Bar]:
    found = [
        bars.at_most(
            "false alarms, error stream, budget 10", alarms * 1e6 / errors, PER_MILLION, "alarms per 1M errors"
        )
    ]
    for name, bounds in BOUNDS.items():
        for after, bound in zip(AFTER, bounds, strict=True):
            told = f"delay, error rate {_name(after)}, {name}"
            found.append(bars.median_at_most(told, rows[_name(after)][name], SLACK * bound, "errors"))
    return found


def _name(after: float) -> str:
    return f"{BEFORE:.2f} to {after:.2f}"


class Found(NamedTuple):
    """Errors from the change to the alarm, infinite where there was none; whether it had alarmed before."""

    delay: float
    early: bool


def delays_of(found: Sequence[Found]) -> dict[str, Any]:
    """Delays of those who had not alarmed before."""
    everyone = bars.delays([run.delay for run in found])["median"]
    kept = [run.delay for run in found if not run.early] or [math.inf]
    return {**bars.delays(kept), "alarmed_before": len(found) - len(kept), "median_of_all": everyone}


def _behind(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Against ours at the same measured false-alarm rate, with why."""
    medians = {name: found["median"] for name, found in row.items() if name not in ("always", "never")}
    return [
        {"against": CALIBRATED, **lost, "reason": reasons.of_errors(lost["peer"])}
        for lost in bars.behind(medians, CALIBRATED)
    ]


class _Replicates:
    """Independent loss streams of one detector, each with the whole budget for itself. After the reference they come in
    blocks, of which all but the last row are drawn as counts: the detector looks at nothing else, and a null of
    billions can be afforded."""

    def __init__(self, runs: int, budget: float, draw: np.random.Generator, seed: int, first: int = 0) -> None:
        self.runs, self.draw, self.rows = runs, draw, REFERENCE_ROWS
        streams = [Stream(f"run {i}", "loss") for i in range(first, first + runs)]
        split = Budget(budget * runs, events=1e6)
        self.panel = Panel(streams, list(range(runs)), budgeting.shares(streams), split, seed, BLOCK_ROWS)
        errors = (draw.random((REFERENCE_ROWS, runs)) < BEFORE).astype(np.int32)
        self.panel.fit([Bins(edges=(0.5,))] * runs, errors, training_rows(REFERENCE_ROWS), REFERENCE_ROWS)

    def show(self, changed: NDArray[np.int64], after: float) -> list[int]:
        """Who alarms at the next block; `changed` (runs,): its last so many rows are of the other rate."""
        draw, many = self.draw, np.maximum(changed - 1, 0)
        wrong = draw.binomial(BLOCK_ROWS - 1 - many, BEFORE) + draw.binomial(many, after)
        last = draw.random(self.runs) < np.where(changed > 0, after, BEFORE)
        self.panel.state.open = np.stack([BLOCK_ROWS - 1 - wrong, wrong], 1)
        self.panel.state.rows = BLOCK_ROWS - 1
        self.rows += BLOCK_ROWS
        alarms = self.panel.take(np.array([self.rows - 1.0]), last[None].astype(np.int32))
        return [alarm.stream for _, alarm in alarms]


def engine_null(budget: float, errors: int, seed: int, together: int = TOGETHER) -> int:
    """Alarms of streams whose error rate stays, over so many errors, rounded down to whole blocks."""
    runs = min(together, max(errors // 50_000, 1))
    replicates = _Replicates(runs, budget, np.random.default_rng([seed, 301]), seed)
    unchanged = np.zeros(runs, np.int64)
    return sum(len(replicates.show(unchanged, BEFORE)) for _ in range(errors // runs // BLOCK_ROWS))


def engine(budget: float, after: float, runs: int, seed: int) -> list[Found]:
    """What this engine found."""
    found: list[Found] = []
    while len(found) < runs:
        found += _found_together(budget, after, min(TOGETHER, runs - len(found)), seed, len(found))
    return found


def _found_together(budget: float, after: float, runs: int, seed: int, first: int) -> list[Found]:
    """The change comes at another place of a block in each run."""
    draw = np.random.default_rng([seed, 302, int(100 * after), first])
    delays, early = np.full(runs, np.inf), np.zeros(runs, np.bool_)
    starts = REFERENCE_ROWS + BEFORE_ROWS + draw.integers(0, BLOCK_ROWS, runs)
    replicates = _Replicates(runs, budget, draw, seed, first)
    while replicates.rows < REFERENCE_ROWS + BEFORE_ROWS + AFTER_ROWS_MAX and not np.isfinite(delays).all():
        end = replicates.rows + BLOCK_ROWS
        for i in replicates.show(np.clip(end - starts, 0, BLOCK_ROWS), after):
            if end > starts[i]:
                delays[i] = min(delays[i], end - starts[i])
            else:
                early[i] = True
    delays = np.where(delays <= AFTER_ROWS_MAX, delays, np.inf)
    return [Found(*run) for run in zip(delays.tolist(), early.tolist(), strict=True)]


def other(peer: Peer, size: Size, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """False alarms of a tuned peer, and its delays by row; its library's default beside."""
    n = size.slow_null if peer.slow else size.peer_null
    each = min(n, BEFORE_ROWS + AFTER_ROWS_MAX)
    draws = [np.random.default_rng([seed, 303, k]) for k in range(n // each)]
    nulls = [_zeros_and_ones(draw, REFERENCE_ROWS + each, BEFORE) for draw in draws]
    tuned = oracle.tune(peer, nulls, PER_MILLION, size.steps, REFERENCE_ROWS)
    told = {"parameter": tuned.parameter, "default": peer.default, **bars.rate(tuned.alarms, n // each * each / 1e6)}
    runs = max(size.peer_runs // 4, 2) if peer.slow else size.peer_runs
    delays = {
        _name(after): delays_of([_found(peer, tuned.parameter, after, seed, i) for i in range(runs)]) for after in AFTER
    }
    return told, delays


def _found(peer: Peer, parameter: float, after: float, seed: int, i: int) -> Found:
    draw = np.random.default_rng([seed, 304, i])
    detector = peer.make(parameter)
    before = REFERENCE_ROWS + BEFORE_ROWS + int(draw.integers(0, BLOCK_ROWS))
    early = any(at >= REFERENCE_ROWS for at in peers.alarms(detector, _zeros_and_ones(draw, before, BEFORE)))
    found = peers.alarms(detector, _zeros_and_ones(draw, AFTER_ROWS_MAX, after), first_only=True)
    return Found(found[0] + 1.0 if found else math.inf, early)


def _zeros_and_ones(draw: np.random.Generator, n: int, rate: float) -> Sequence[int]:
    errors: list[int] = (draw.random(n) < rate).astype(int).tolist()
    return errors
