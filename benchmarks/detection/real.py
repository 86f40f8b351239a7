"""Real streams: false alarms when their days come in another order, planted faults, and the year as it was.

The budget is one false alarm per model and month over all streams of the model, and nothing else is set: days are UTC
days, the reference is the first 28. Bins for permuted streams are fitted on the whole stream, as its days are
interchangeable. Days after an alarm, while a stream learns its new level, count as watched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.detection import bars, datasets, peers, surrogates, windowed
from benchmarks.detection.bars import Bar, Part
from benchmarks.detection.datasets import DAY_S, Real
from detectors import registry
from detectors.contract import Alarm, Bins, Budget, Detector, Rows, Stream

Floats = NDArray[np.float64]

MONTH_S = 30 * DAY_S
LEARNING_DAYS = 28
CHUNK_ROWS = 4_096
PARTS, DAY_CLASSES = 4, 2
"""Cells of `cells`: quarters of the day, on workdays and weekends."""

CHANGE_DAY, WATCHED_DAYS = 98, 60
UNIT = "alarms per model-month"
ONE_A_MONTH = Budget(1, seconds=MONTH_S)

BLOCKS_FACTOR = 2
"""So many times the budget may be alarmed where a border between blocks of four weeks changes the level."""


class Size(NamedTuple):
    """Permutations of each set and grain, how many of them the others watch, and runs of a planted fault."""

    sets: tuple[str, ...]
    permutations: dict[str, int]
    others: int
    faults: int
    grains: tuple[str, ...] = surrogates.GRAINS


FULL = Size(("flights", "elec2", "bikes"), {"flights": 8, "elec2": 8, "bikes": 4}, 2, 24)
QUICK = Size(("flights", "bikes"), {"flights": 1, "bikes": 1}, 1, 2, surrogates.GRAINS[1:2])


def run(quick: bool, seed: int) -> Part:
    size = QUICK if quick else FULL
    figures: dict[str, Any] = {"unit": UNIT, "permuted": {}}
    demands: list[Bar] = []
    for name in size.sets:
        try:
            real = datasets.LOADERS[name]()
        except datasets.Missing as missing:
            figures["permuted"][name] = str(missing)
            continue
        figures["permuted"][name] = permuted(real, size, seed)
        demands += demanded(name, figures["permuted"][name])
        if name == "flights":
            chosen = FAULTS[: len(FAULT_BOUNDS)] if quick else FAULTS
            figures["planted"] = planted(real, chosen, size.faults, seed)
            at_home = real._replace(time_s=real.time_s - NEW_YORK_S)
            figures["planted_at_new_yorks_midnight"] = planted(at_home, chosen, size.faults, seed)
            demands += [
                bars.at_most(f"delay, flights, {fault}", _median(found), bound, "days, median")
                for fault, found in figures["planted"].items()
                for bound in (FAULT_BOUNDS.get(fault),)
                if bound is not None
            ]
            figures["as_it_was"] = as_it_was(real)
    return Part(figures=figures, bars=demands)


def demanded(name: str, figures: dict[str, Any]) -> list[Bar]:
    """At most the budget, and twice the budget in blocks of four weeks, as those change level at every border."""
    return [
        bars.at_most(
            f"false alarms, {name}, {grain} permuted",
            found["default"]["rate"],
            ONE_A_MONTH.number * (BLOCKS_FACTOR if grain == surrogates.GRAINS[2] else 1),
            UNIT,
        )
        for grain, found in figures.items()
    ]


def permuted(real: Real, size: Size, seed: int) -> dict[str, Any]:
    """Alarms per model-month by grain and detector."""
    bins = real.bins()
    rows = real.rows(bins)
    figures: dict[str, Any] = {}
    for grain in size.grains:
        counts: dict[str, list[tuple[int, float]]] = {}
        for i in range(size.permutations[real.name]):
            draw = np.random.default_rng([seed, 401, i, *real.name.encode(), *grain.encode()])
            moved = surrogates.arrange(rows, surrogates.permuted(surrogates.days_of(rows), grain, draw))
            for name, watch in WATCHERS.items():
                if name == "default" or i < size.others:
                    counts.setdefault(name, []).append(watch(real.streams, bins, moved, seed))
        figures[grain] = {
            name: bars.rate(sum(n for n, _ in found), sum(months for _, months in found))
            for name, found in counts.items()
        }
        figures[grain] |= {"always (every day)": {"rate": 30.0}, "never": {"rate": 0.0}}
    return figures


def first_rows(rows: Rows, days: int = LEARNING_DAYS) -> int:
    """Rows of the first days."""
    return int(np.searchsorted(rows.time_s, np.floor(rows.time_s[0] / DAY_S) * DAY_S + days * DAY_S))


def months(rows: Rows) -> float:
    """Months after the reference."""
    return float((rows.time_s[-1] - rows.time_s[first_rows(rows)]) / MONTH_S)


def alarms_of(detector: Detector, bins: list[Bins], rows: Rows) -> list[Alarm]:
    first = first_rows(rows)
    detector.fit(bins, rows.part(0, first))
    return [
        alarm
        for start in range(first, len(rows), CHUNK_ROWS)
        for alarm in detector.update(rows.part(start, min(start + CHUNK_ROWS, len(rows))))
    ]


def by_name(name: str) -> Callable[[list[Stream], list[Bins], Rows, int], tuple[int, float]]:
    """A detector of this engine, with nothing set."""

    def watch(streams: list[Stream], bins: list[Bins], rows: Rows, seed: int) -> tuple[int, float]:
        return len(alarms_of(registry.make(name, {}, streams, ONE_A_MONTH, seed), bins, rows)), months(rows)

    return watch


def cells(streams: list[Stream], bins: list[Bins], rows: Rows, seed: int) -> tuple[int, float]:
    """`counts` with a bag for each cell: every stream once for each quarter of the day, on workdays and weekends."""
    split = [Stream(f"{s.name} in {k}", s.kind) for k in range(PARTS * DAY_CLASSES) for s in streams]
    number = (rows.time_s % DAY_S // (DAY_S / PARTS)).astype(np.int64)
    thursday_first = (rows.time_s // DAY_S).astype(np.int64) % 7  # 1 January 1970 was a Thursday
    number += PARTS * np.isin(thursday_first, (2, 3))
    d = len(streams)
    codes = np.full((len(rows), len(split)), -1, np.int32)
    for k in range(PARTS * DAY_CLASSES):
        codes[number == k, k * d : (k + 1) * d] = rows.codes[number == k]
    apart = Rows(rows.time_s, codes, codes.astype(np.float64))
    detector = registry.make("counts", {}, split, ONE_A_MONTH, seed)
    return len(alarms_of(detector, bins * (PARTS * DAY_CLASSES), apart)), months(rows)


def adwin(delta: float) -> Callable[[list[Stream], list[Bins], Rows, int], tuple[int, float]]:
    """River's, one for each stream of numbers; it cannot see categories."""

    def watch(streams: list[Stream], bins: list[Bins], rows: Rows, seed: int) -> tuple[int, float]:
        first, found = first_rows(rows), 0
        for j, stream in enumerate(streams):
            if stream.kind != "categorical":
                x, detector = rows.values[:, j], peers.ADWIN.make(delta)
                for part, counts in ((x[:first], False), (x[first:], True)):
                    hits = len(peers.alarms(detector, part[~np.isnan(part)].tolist()))
                    found += hits if counts else 0
        return found, months(rows)

    return watch


def daily_tests(streams: list[Stream], bins: list[Bins], rows: Rows, seed: int) -> tuple[int, float]:
    """Days on which KS or chi-square differs from the reference, Bonferroni at the level of one day a month."""
    first = first_rows(rows)
    level = DAY_S / MONTH_S / len(streams)
    known: list[windowed.Reference] = []
    for j, stream in enumerate(streams):
        x = rows.values[:first, j]
        known.append(windowed.Reference(x[~np.isnan(x)], stream.kind != "numeric"))
    days = np.floor(rows.time_s[first:] / DAY_S)
    borders = [first + int(b) for b in np.flatnonzero(np.diff(days)) + 1]
    found = 0
    for start, end in zip([first, *borders], [*borders, len(rows)], strict=True):
        values = [x[~np.isnan(x)] for x in rows.values[start:end].T]
        found += any(r.look(x)[0] < level for r, x in zip(known, values, strict=True) if len(x))
    return found, months(rows)


WATCHERS: dict[str, Callable[[list[Stream], list[Bins], Rows, int], tuple[int, float]]] = {
    "default": by_name("auto"),
    "counts in one bag": by_name("counts"),
    "counts in cells": cells,
    "ADWIN (River), default": adwin(peers.ADWIN.default),
    "ADWIN (River), delta 1e-12": adwin(1e-12),
    "KS/chi2 a day, Bonferroni": daily_tests,
}


Fault = Callable[[Floats, np.random.Generator], Floats]


def raised(factor: float) -> Fault:
    """A rate that grows by this factor: some of the zeros become ones."""

    def change(x: Floats, draw: np.random.Generator) -> Floats:
        wanted = min((factor - 1) * x.mean() / (1 - x.mean()), 1.0)
        return np.where((x == 0) & (draw.random(len(x)) < wanted), 1.0, x)

    return change


FAULTS: tuple[tuple[str, str, Fault], ...] = (
    ("distance", "unit, x1.609", lambda x, draw: x * 1.609),
    ("distance", "frozen", lambda x, draw: np.full_like(x, 1_000.0)),
    ("distance", "+0.5 sd", lambda x, draw: x + 0.5 * x.std()),
    ("distance", "+0.25 sd", lambda x, draw: x + 0.25 * x.std()),
    ("scheduled", "+60 min", lambda x, draw: x + 60),
    ("late", "x1.6", raised(1.6)),
    ("late", "x2.5", raised(2.5)),
)
NEW_YORK_S = 5 * 3_600.0
"""Behind UTC in winter: by its clock a day begins when nothing flies, by UTC in the evening's rush."""

FAULT_BOUNDS = {"distance unit, x1.609": 0.5, "distance frozen": 0.5, "distance +0.5 sd": 0.5}
"""Days, at the median: gross faults are to be found within half a day. The prototype needed 0.25 (SEASON.md section 3),
where days began at New York's midnight."""


def planted(real: Real, faults: Sequence[tuple[str, str, Fault]], runs: int, seed: int) -> dict[str, Any]:
    """Days to the alarm of a fault that begins at the start of a day; days are permuted within weekdays."""
    figures: dict[str, Any] = {}
    bins = real.bins()
    rows = real.rows(bins)
    names = [stream.name for stream in real.streams]
    for name, words, change in faults:
        j = names.index(name)
        found: list[float] = []
        for i in range(runs):
            draw = np.random.default_rng([seed, 402, i])
            order = surrogates.permuted(surrogates.days_of(rows), surrogates.GRAINS[0], draw)
            moved = surrogates.arrange(rows, order)
            found.append(_days_to_alarm(real.streams[j], moved.values[:, j], moved.time_s, change, draw, seed))
        figures[f"{name} {words}"] = bars.delays(found)
    return figures


def _days_to_alarm(
    stream: Stream, x: Floats, time_s: Floats, change: Fault, draw: np.random.Generator, seed: int
) -> float:
    """Of one stream with its sixth of the budget."""
    start = math.floor(time_s[0] / DAY_S) * DAY_S + CHANGE_DAY * DAY_S
    own = ~np.isnan(x) & (time_s < start + WATCHED_DAYS * DAY_S)
    x, time_s = x[own].copy(), time_s[own]
    x[time_s >= start] = change(x[time_s >= start], draw)
    alone = Real("one stream", [stream], [x], time_s)
    bins = alone.bins(alone.first(LEARNING_DAYS))
    detector = registry.make("auto", {}, [stream], Budget(1 / 6, seconds=MONTH_S), seed)
    alarms = alarms_of(detector, bins, alone.rows(bins))
    return min(((alarm.at_s - start) / DAY_S for alarm in alarms if alarm.at_s > start), default=math.inf)


def _median(found: dict[str, Any]) -> float:
    return math.inf if found["median"] is None else float(found["median"])


def as_it_was(real: Real) -> dict[str, Any]:
    """Every alarm of the unpermuted year, with what the stream did that day, in the days before, and since."""
    bins = real.bins(real.first(LEARNING_DAYS))
    rows = real.rows(bins)
    alarms = alarms_of(registry.make("auto", {}, real.streams, ONE_A_MONTH, 1), bins, rows)
    found = bars.rate(len(alarms), months(rows))
    return {**found, "alarms_listed": [behind(real, rows, bins, alarm) for alarm in alarms]}


def behind(real: Real, rows: Rows, bins: Sequence[Bins], alarm: Alarm) -> dict[str, Any]:
    """What lay behind an alarm: the share or mean of its stream on the day, in the 28 days before, since the onset."""
    j = alarm.stream
    value = _followed(bins[j], rows.codes[:, j], rows.values[:, j], alarm.what)
    day = math.floor((alarm.at_s - 1) / DAY_S) * DAY_S

    def mean(start: float, end: float) -> float | None:
        own = value[np.searchsorted(rows.time_s, start) : np.searchsorted(rows.time_s, end)]
        return bars.known(float(np.nanmean(own))) if len(own) and not np.isnan(own).all() else None

    return {
        "at": _moment(alarm.at_s),
        "since": _moment(alarm.since_s),
        "stream": alarm.name,
        "judge": alarm.judge,
        "what": alarm.what,
        "details": {key: bars.known(x) for key, x in alarm.details.items()},
        "28_days_before": mean(alarm.since_s - LEARNING_DAYS * DAY_S, alarm.since_s),
        "since_the_onset": mean(alarm.since_s, alarm.at_s),
        "that_day": mean(day, alarm.at_s),
    }


def _followed(bins: Bins, codes: NDArray[np.int32], values: Floats, what: str) -> Floats:
    """The quantity an alarm is about: a category's share where one is named, else the value."""
    named = [k for k, category in enumerate(bins.categories) if f"share of {category} " in f"{what} "]
    if not bins.categories:
        return values
    return np.where(codes < 0, np.nan, codes == (named[0] if named else len(bins.categories)))


def _moment(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M")
