"""False alarms and delays of the detectors, measured: `python -m benchmarks.false_alarms [--quick]`.

Three parts. *Null*: streams that never change, alarms against the bound that the budget sets. *Delay*: one stream of
fifty changes, median number of rows until it is named. *Flights*: a year of real departures from New York, at a budget
of one alarm a month over six streams, without a setting; what the plain detector does with the same rows; and how soon
`season` names a change that is put into them.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from detectors import binning
from detectors.contract import Alarm, Bins, Budget, Detector, Rows, Stream
from detectors.counts import Counts
from detectors.season import Season
from stream.surface import flights

DAY_S = 86_400.0
MONTH_S = 30 * DAY_S
CHUNK = 256
Floats = NDArray[np.float64]
Column: TypeAlias = NDArray[np.float64] | list[str | None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the runs")
    few = parser.parse_args().quick
    null(runs=1 if few else 8)
    delays(runs=10 if few else 100)
    streams, columns, times = load_flights()
    real_flights(streams, columns, times)
    changed_flights(streams, columns, times, starts=range(0, 240, 60 if few else 20))


def null(runs: int) -> None:
    """Alarms of 40 streams that never change, 500,000 rows a run, at a budget of 20 a million rows."""
    print("\nnull: 40 streams (28 numeric, 12 categorical), 500,000 rows a run, budget 20 a million rows")
    for block_rows in (32, 256, 2_000):
        alarms = 0
        for run in range(runs):
            alarms += len(null_alarms(run, block_rows, rows=500_000))
        print(f"  blocks of {block_rows:5}: {alarms:4} alarms, bound {10 * runs}")


def null_alarms(seed: int, block_rows: int, rows: int) -> list[Alarm]:
    draw = np.random.default_rng([seed, 11])
    streams = [Stream(f"s{j}", "numeric" if j < 28 else "categorical") for j in range(40)]
    bins = [Bins(edges=tuple(np.arange(31.0))) if j < 28 else Bins(categories=tuple("abcde")) for j in range(40)]
    levels = np.array([32 if j < 28 else 5 for j in range(40)])
    detector = Counts(streams, Budget(20, events=1e6), seed, block_rows=block_rows)
    detector.fit(bins, coded(draw, levels, 5_000, 0))
    found: list[Alarm] = []
    for start in range(0, rows, 10_000):
        found += detector.update(coded(draw, levels, 10_000, 5_000 + start))
    return found


def coded(draw: np.random.Generator, levels: NDArray[np.int64], n: int, start: int) -> Rows:
    codes = np.floor(draw.random((n, len(levels))) * levels).astype(np.int32)
    return Rows(start + np.arange(float(n)), codes, codes.astype(np.float64))


def delays(runs: int) -> None:
    """Median rows to the alarm of the one changed stream of fifty, budget one a million rows over all."""
    print(f"\ndelay: one of fifty streams changes, budget 1 a million rows; median of {runs} runs")
    changes: dict[str, Callable[[Floats], Floats]] = {
        "0.1 sd": lambda x: x + 0.1,
        "0.25 sd": lambda x: x + 0.25,
        "0.5 sd": lambda x: x + 0.5,
        "1 sd": lambda x: x + 1.0,
        "variance x1.5": lambda x: x * 1.5**0.5,
    }
    for name, change in changes.items():
        for block_rows in (32, 256):
            found = [delay(change, run, block_rows) for run in range(runs)]
            print(f"  {name:14} blocks of {block_rows:4}: {np.median(found):7.0f}")


def delay(change: Callable[[Floats], Floats], seed: int, block_rows: int) -> float:
    """Rows from the change to the alarm; the other 49 streams are there by their share of the budget only."""
    draw = np.random.default_rng([seed, 23])
    stream = Stream("x", "numeric")
    reference = draw.normal(size=20_000)
    bins = binning.learn_bins(stream, reference[: binning.training_rows(len(reference))])
    detector = Counts([stream], Budget(1 / 50, events=1e6), seed, block_rows=block_rows)
    detector.fit([bins], numeric_rows(bins, reference, 0))
    before = 10_000 + int(draw.integers(0, block_rows))  # evidence is running when the change comes
    detector.update(numeric_rows(bins, draw.normal(size=before), 20_000))
    for start in range(0, 50_000, 1_000):
        alarms = detector.update(numeric_rows(bins, change(draw.normal(size=1_000)), 20_000 + before + start))
        if alarms:
            return alarms[0].at_s - 20_000 - before + 1
    return np.inf


def numeric_rows(bins: Bins, values: Floats, start: int) -> Rows:
    return Rows(start + np.arange(float(len(values))), binning.code(bins, values)[:, None], values[:, None])


def real_flights(streams: list[Stream], columns: list[Column], times: Floats) -> None:
    """Alarms of a year of flights as it was."""
    print("\nflights: 2013, six streams, budget 1 a month over all; days start at 5:00 UTC (midnight in New York)")
    first = int(np.searchsorted(times, times[0] + 28 * DAY_S))
    bins = [binning.learn_bins(s, column[:first]) for s, column in zip(streams, columns, strict=True)]
    months = (times[-1] - times[first]) / MONTH_S
    for detector in (
        Season(streams, Budget(1, seconds=MONTH_S), 1, offset_s=5 * 3600),
        Season(streams, Budget(1, seconds=MONTH_S), 1),
        Counts(streams, Budget(1, seconds=MONTH_S), 1),
    ):
        started = time.perf_counter()
        alarms = run(detector, bins, rows_of(bins, columns, times), first)
        spent = time.perf_counter() - started
        name = type(detector).__name__.lower()
        print(
            f"  {name}: {len(alarms)} alarms in {months:.1f} months, {len(alarms) / months:.2f} a month ({spent:.1f} s)"
        )
        for alarm in alarms if name == "season" else ():
            since = datetime.fromtimestamp(alarm.since_s - 5 * 3600, UTC).strftime("%d %b %H h")
            at = datetime.fromtimestamp(alarm.at_s - 5 * 3600, UTC).strftime("%d %b %H h")
            sizes = {key: round(value, 3) for key, value in alarm.details.items()}
            print(f"    {at}: {alarm.name} {alarm.what} ({alarm.judge}), since {since}, {sizes}")


def changed_flights(streams: list[Stream], columns: list[Column], times: Floats, starts: range) -> None:
    """Days until `season` names a change that begins 98 days after its start, for several starts in the year."""
    print(f"\nflights with a change put in: days to the alarm, median of {len(starts)} starts, missed in 60 days")
    names = [stream.name for stream in streams]
    for name, words, change in FLIGHT_CHANGES:
        j = names.index(name)
        column = np.asarray(columns[j], np.float64)
        found = []
        for start in starts:
            draw = np.random.default_rng(start)
            days = (times - times[0]) / DAY_S - start
            own = (days >= 0) & (days < 98 + 60)
            value, day = column[own].copy(), days[own]
            known = ~np.isnan(value)
            value, day = value[known], day[known]
            value[day >= 98] = change(value[day >= 98], draw)
            found.append(days_to_alarm(streams[j], value, day, times[0] + start * DAY_S))
        delays_found = sorted(found)
        missed = sum(not np.isfinite(x) for x in found)
        print(f"  {name:9} {words:10}: {delays_found[len(found) // 2]:6.2f} days, {missed} of {len(found)} missed")


def days_to_alarm(stream: Stream, values: Floats, day: Floats, start_s: float) -> float:
    first = int(np.searchsorted(day, 28))
    bins = binning.learn_bins(stream, values[:first])
    rows = Rows(start_s + day * DAY_S, binning.code(bins, values)[:, None], values[:, None])
    detector = Season([stream], Budget(1 / 6, seconds=MONTH_S), 1, offset_s=5 * 3600)
    changed_s = start_s + 98 * DAY_S
    return next(
        ((alarm.at_s - changed_s) / DAY_S for alarm in run(detector, [bins], rows, first) if alarm.at_s > changed_s),
        np.inf,
    )


def raised(factor: float) -> Callable[[Floats, np.random.Generator], Floats]:
    """A rate that grows by this factor: some of the zeros become ones."""

    def change(x: Floats, draw: np.random.Generator) -> Floats:
        wanted = min((factor - 1) * x.mean() / (1 - x.mean()), 1.0)
        return np.where((x == 0) & (draw.random(len(x)) < wanted), 1.0, x)

    return change


FLIGHT_CHANGES: tuple[tuple[str, str, Callable[[Floats, np.random.Generator], Floats]], ...] = (
    ("distance", "+0.25 sd", lambda x, draw: x + 0.25 * x.std()),
    ("distance", "+0.5 sd", lambda x, draw: x + 0.5 * x.std()),
    ("distance", "x1.609", lambda x, draw: x * 1.609),
    ("distance", "frozen", lambda x, draw: np.full_like(x, 1_000.0)),
    ("scheduled", "+60 min", lambda x, draw: x + 60),
    ("late", "x1.6", raised(1.6)),
    ("late", "x2.5", raised(2.5)),
)


def run(detector: Detector, bins: list[Bins], rows: Rows, first: int) -> list[Alarm]:
    detector.fit(bins, rows.part(0, first))
    found: list[Alarm] = []
    for start in range(first, len(rows), CHUNK):
        found += detector.update(rows.part(start, min(start + CHUNK, len(rows))))
    return found


def load_flights() -> tuple[list[Stream], list[Column], Floats]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flights.csv.gz"
        flights.write(path)
        with gzip.open(path, "rt", encoding="utf-8", newline="") as text:
            table = list(csv.DictReader(text))
    times = np.array([datetime.fromisoformat(row["scheduled_departure"]).timestamp() for row in table])
    streams = [Stream("late", "loss")]
    columns: list[Column] = [number(table, "late")]
    for name in ("carrier", "origin", "dest"):
        streams.append(Stream(name, "categorical"))
        columns.append([row[name] for row in table])
    streams += [Stream("distance", "numeric"), Stream("scheduled", "numeric")]
    columns += [number(table, "distance"), 60 * number(table, "hour") + number(table, "minute")]
    return streams, columns, times


def number(table: list[dict[str, str]], name: str) -> Floats:
    return np.array([float(row[name]) if row[name] else np.nan for row in table])


def rows_of(bins: list[Bins], columns: list[Column], times: Floats) -> Rows:
    codes = np.column_stack([binning.code(b, column) for b, column in zip(bins, columns, strict=True)])
    return Rows(times, codes, np.where(codes < 0, np.nan, codes))


if __name__ == "__main__":
    main()
