"""What alarms are called, measured: seeded cases of each kind, named rightly, with the guilty feature and slice first.

Two measurements of the same cases. *Leaf*: `detectors.diagnosis` is given the time of the change (to a twentieth of the
rows) and no detector runs. *Engine*: the events go through the embedded runtime, and its first alert after the change
is judged by what it says in the end, as it is revised while labels come.

**What is asked** (F19): of a hundred seeded runs, a covariate change, a concept change and a broken feed (another unit,
a frozen feature, a burst of missing values) are each named rightly in 95, and the guilty feature and slice stand first
in 90. Seeded runs are those of the simulated world, in which what was put in is all that changes; changed shares of
labels, and labels that come late, are measured beside. Late labels are the leaf's alone: the engine tells of them by
streams of their own (how long labels take, how many never come), which are no case of diagnosis.

**Real rows.** In random order nothing changes in them but what is put in, so the leaf is asked the same; through the
engine they are figures without a bar, as a run takes a second and so few of them tell .95 from .90 no better than a
coin. In their own order they are figures without a bar for another reason: several things change in them at once, and
what was put in is not the only truth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.detection.bars import Bar, Part, at_least
from benchmarks.detection.diagnosis_cases import FAULTS, KINDS, WORLDS, Case, Real, World, coded, learned
from detectors.carriers import SURE, Candidate, candidates_of, rise
from detectors.case import Evidence, serious
from detectors.contract import Bins, Rows, Stream
from detectors.design import movement
from detectors.diagnosis import Diagnosis, diagnose
from detectors.explanation import MOVED, explain
from detectors.sample import Labelled, Layout
from stream.config import parse
from stream.contract import ALERTS, LABELS, PREDICTIONS
from stream.events import Alert, Label, Prediction
from stream.runtime.embedded import Embedded
from stream.runtime.feed import Item
from stream.windows import words
from stream.windows.evidence import SURE_ROWS
from stream.windows.profiles import Profile

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

NAMED, FIRST = 0.95, 0.90
"""What is asked for: this part of the runs named rightly, and with the guilty feature and slice first."""

RUNS, RUNS_QUICK = 100, 4
RUNS_SHOWN = 25
"""Of cells without a bar."""

ENGINE_RUNS_QUICK = 2
QUICK_WORLDS = ("simulated", "elec2")
"""To unpack the flights takes as long as all else of the quick form."""

TRIES = 2
"""At most so many cases a run: some changes are too small to raise an alarm, and no alarm needs no diagnosis."""

ALARMS = 5.0
"""Standard deviations of chance from which a feature or a label counts as one that alarms."""

NOISE = 0.05
"""By how much of the current rows the time of the change is missed."""

FIRST_ROWS = 2_000
"""The engine's reference, which at a row every 40 seconds ends within a day: so the rows are judged by their number. Of
a quicker stream the join hands fewer rows with their features to where alerts are explained, and the same certainty
takes more of them (at a row every 10 seconds, 1.8 times as many)."""

START_S, STEP_S, DELAY_S = 1_356_998_400.0, 40.0, 30.0
ENGINE = """
models:
  m:
    task: binary
    reference: {{first: {first}}}
    false_alarms: 1 per 100000 events
    windows: {{every: 1h}}
    slices: [{slices}]
    labels: {{horizon: 1d}}
"""


class Verdict(NamedTuple):
    kind: str
    feature: str
    slices: tuple[str, ...]


class Score(NamedTuple):
    """Over runs that raise an alarm: the part named rightly, and with the right feature and slice first; `called`
    counts the kinds, `silent` the runs in which the change was too small for any alarm. `faults`: of each fault of a
    feed, the part named rightly."""

    runs: int
    silent: int
    named: float
    feature: float
    slice: float
    called: dict[str, int]
    faults: dict[str, float]


def run(quick: bool, seed: int) -> Part:
    """Both measurements of every world that is at hand."""
    figures: dict[str, Any] = {"leaf": {}, "engine": {}, "leaf, in order": {}}
    bars: list[Bar] = []
    for name, make in WORLDS.items():
        world = make() if not quick or name in QUICK_WORLDS else None
        if world is None:
            continue
        real = isinstance(world, Real)
        for kind in KINDS if real else (*KINDS, "delayed_labels"):
            score = figures["leaf"][f"{name}/{kind}"] = score_of(
                world, kind, RUNS_QUICK if quick else RUNS, seed, by_leaf
            )
            bars += bars_of(f"leaf, {name}, {kind}", score)
            if kind in KINDS and not (quick and real):
                runs = ENGINE_RUNS_QUICK if quick else RUNS_SHOWN if real else RUNS
                score = figures["engine"][f"{name}/{kind}"] = score_of(world, kind, runs, seed, by_engine)
                bars += [] if real else bars_of(f"engine, {name}, {kind}", score)
            if isinstance(world, Real) and not quick:
                moving = score_of(world.in_order(), kind, RUNS_SHOWN, seed, by_leaf)
                figures["leaf, in order"][f"{name}/{kind}"] = moving
    return {"figures": plain(figures), "bars": bars}


def plain(figures: dict[str, Any]) -> dict[str, Any]:
    """As JSON has it; None where hardly any case raised an alarm."""
    return {
        part: {cell: None if score is None else score._asdict() for cell, score in cells.items()}
        for part, cells in figures.items()
    }


def bars_of(name: str, score: Score | None) -> list[Bar]:
    if score is None:
        return []
    return [
        at_least(f"{name}: named rightly", score.named, NAMED, "of runs"),
        *(at_least(f"{name}, {fault}: named rightly", part, NAMED, "of runs") for fault, part in score.faults.items()),
        at_least(f"{name}: guilty feature first", score.feature, FIRST, "of runs"),
        at_least(f"{name}: guilty slice first", score.slice, FIRST, "of runs in one slice"),
    ]


Judge = Callable[[Case, np.random.Generator], Verdict | None]


def score_of(world: World, kind: str, runs: int, seed: int, judge: Judge) -> Score | None:
    """Cases until so many have raised an alarm, every other one in a slice alone, but late labels, which are late
    everywhere. None where hardly any does."""
    key = [*KINDS, "delayed_labels"].index(kind)
    found: list[tuple[Case, Verdict]] = []
    tried = 0
    while len(found) < runs and tried < TRIES * runs:
        case = world.case(kind, tried % 2 == 1 and kind in KINDS, np.random.default_rng([seed, key, tried]))
        verdict = judge(case, np.random.default_rng([seed, key, tried, 9]))
        tried += 1
        if verdict is not None:
            found.append((case, verdict))
    if len(found) < runs:
        return None
    local = [case.place == next(iter(verdict.slices), "") for case, verdict in found if case.place]
    faults = {fault: [v.kind == case.kind for case, v in found if case.fault == fault] for fault in FAULTS}
    return Score(
        len(found), tried - len(found),
        float(np.mean([case.kind == verdict.kind for case, verdict in found])),
        float(np.mean([case.guilty == verdict.feature for case, verdict in found])),
        float(np.mean(local)) if local else 1.0,
        dict(sorted(Counter(verdict.kind for _, verdict in found).items())),
        {fault: float(np.mean(named)) for fault, named in faults.items() if named},
    )  # fmt: skip


def by_leaf(case: Case, draw: np.random.Generator) -> Verdict | None:
    """What the leaf modules say, the time of the change known but for noise."""
    answer = diagnosed(case, draw)
    if answer is None:
        return None
    first = answer.features[0].name if answer.features else ""
    return Verdict(answer.kind, first, tuple(each.name for each in answer.slices))


def diagnosed(case: Case, draw: np.random.Generator) -> Diagnosis | None:
    """The diagnosis of a case; None where nothing would have alarmed."""
    streams = [learned(name, column[: case.change]) for name, column in case.columns.items()]
    codes = np.column_stack(
        [coded(stream, bins, column) for (stream, bins), column in zip(streams, case.columns.values(), strict=True)]
    )
    names = tuple(sorted({str(x) for x in case.columns[case.slices][: case.change] if x is not None}))
    layout = Layout(
        tuple(stream for stream, _ in streams), tuple(bins for _, bins in streams), Stream("label", "rate"),
        Bins(edges=(0.5,)), (tuple(f"{case.slices}={name}" for name in names),),
    )  # fmt: skip
    place = np.array([names.index(x) if x in names else -1 for x in case.columns[case.slices]], np.int16)
    n = len(case.label)
    rows = Labelled(
        np.arange(n, dtype=np.float64), codes, place[:, None], case.label.astype(np.int16),
        (case.label != case.prediction).astype(np.float32), np.full(n, DELAY_S, np.float32),
    )  # fmt: skip
    noise = int(NOISE * (n - case.change))
    since = case.change + int(draw.integers(-noise, noise + 1))
    before, after = np.arange(n) < case.change - noise, np.arange(n) >= since
    both = np.concatenate([codes[before], codes[after]])
    psi, surprise = movement(layout.bins, both, int(before.sum()))
    moved = {
        stream.name: float(value)
        for stream, value, sure in zip(layout.features, psi, surprise, strict=True)
        if sure > MOVED
    }
    faults = serious(faults_of(case, layout, codes, before, after), moved)
    broken = [j for j, stream in enumerate(layout.features) if stream.name in faults]
    labelled_before, labelled_after = before & case.labelled, after & case.labelled
    sides = rows.take(labelled_before), rows.take(labelled_after)
    alarm = alarmed(layout, *sides, surprise)
    if alarm is None:
        return None
    explanation = explain(layout, *sides, broken, alarm.place)
    shares = float(case.labelled[after].mean()), float(case.labelled[before].mean())
    return diagnose(Evidence(alarm.stream, alarm.name, faults, moved, explanation, *shares))


class Alarmed(NamedTuple):
    stream: str
    name: str = ""
    place: str | None = None


def alarmed(layout: Layout, before: Labelled, after: Labelled, surprise: Floats) -> Alarmed | None:
    """Which stream would alarm, as far as counts tell: the loss, or that of the slice in which it rose most surely;
    else what has moved most surely, if that is more than chance does in a hundred streams."""
    every = Candidate("", np.ones(len(before), np.bool_), np.ones(len(after), np.bool_), False)
    slices = [each for each in candidates_of(layout, before, after, range(len(layout.features))) if each.declared]
    losses = before.loss.astype(np.float64), after.loss.astype(np.float64)
    rises = [rise(losses[0][each.before], losses[1][each.after]) for each in (every, *slices)]
    sure = [found.value / found.error if found.error > 0 else 0.0 for found in rises]
    best = int(np.argmax(sure))
    if sure[best] > SURE:
        return Alarmed("loss", "", slices[best - 1].name if best else None)
    label = np.concatenate([before.label, after.label])[:, None]
    of_label = float(movement([layout.label_bins], label, len(before))[1][0])
    if max(of_label, float(surprise.max())) < ALARMS:
        return None
    if of_label > surprise.max():
        return Alarmed("label")
    return Alarmed("feature", layout.features[int(np.argmax(surprise))].name)


def faults_of(case: Case, layout: Layout, codes: NDArray[np.int16], before: Mask, after: Mask) -> dict[str, str]:
    """The engine's words for broken features, from the same counts."""
    found: dict[str, str] = {}
    for j, (stream, bins) in enumerate(zip(layout.features, layout.bins, strict=True)):
        raw, missing = case.columns[stream.name], codes[:, j] < 0
        values = codes[:, j].astype(np.float64) if raw.dtype == object else raw.astype(np.float64)
        own = Change(
            Stream(f"feature/{stream.name}", stream.kind), bins, codes[:, j], np.where(missing, np.nan, values)
        )
        gaps = Change(Stream(f"missing/{stream.name}", "rate"), Bins(edges=(0.5,)), missing, missing)
        fault = fault_of(gaps, before, after) or fault_of(own, before, after)
        if fault:
            found[stream.name] = fault
    return found


class Change(NamedTuple):
    """One stream of a case: codes and values of all its rows."""

    stream: Stream
    bins: Bins
    codes: NDArray[Any]
    values: NDArray[Any]


def fault_of(change: Change, before: Mask, after: Mask) -> str | None:
    n = len(change.codes)
    was, now, newest = (
        Profile.of(
            Rows(np.flatnonzero(part).astype(np.float64), change.codes[part].astype(np.int32)[:, None],
                 change.values[part].astype(np.float64)[:, None]),
            change.bins.size,
        )
        for part in (before, after, np.arange(n) >= n - SURE_ROWS)
    )  # fmt: skip
    return words.fault(words.Change(change.stream, change.bins, 0, was, now, newest, now, psi=0.0))


def by_engine(case: Case, draw: np.random.Generator) -> Verdict | None:
    """What the first alert after the change says in the end, as it is revised while labels come: its kind, its first
    feature, its own slice and those that it names."""
    alerts = [alert for alert in alerts_of(case) if alert.diagnosis]
    if not alerts:
        return None
    first = next(alert for alert in reversed(alerts) if alert.alert_id == alerts[0].alert_id)
    named = max(first.diagnosis, key=lambda each: first.diagnosis[each])
    slices = [f"{key}={value}" for key, value in first.slice.items()]
    slices += [str(each) for each in first.evidence.get("slices", [])]
    return Verdict(named, first.features[0].name if first.features else "", tuple(slices))


def alerts_of(case: Case) -> list[Alert]:
    """Alerts that the engine raises from the change on, in their order."""
    embedded = Embedded(parse(ENGINE.format(first=FIRST_ROWS, slices=case.slices)))
    for _ in embedded.run(items_of(case)):
        pass
    embedded.finish()
    changed = words.moment(START_S + STEP_S * case.change)
    return [alert for _, alert in embedded.logs[ALERTS] if isinstance(alert, Alert) and alert.at >= changed]


def items_of(case: Case) -> list[Item]:
    """Predictions and their labels, each a fixed delay later, in the order of time."""
    items = []
    columns = {name: column.tolist() for name, column in case.columns.items()}
    for i, (label, said) in enumerate(zip(case.label.tolist(), case.prediction.tolist(), strict=True)):
        key, at = f"p{i}", START_S + STEP_S * i
        features = {name: value[i] for name, value in columns.items() if value[i] == value[i]}  # NaN is not itself
        event = Prediction(
            prediction_id=key, model="m", event_time=at, features=features, prediction=said, model_version="1"
        )
        items.append(Item(PREDICTIONS, at, key, event))
        if case.labelled[i]:
            known = at + DELAY_S
            items.append(Item(LABELS, known, key, Label(prediction_id=key, event_time=known, label=label, model="m")))
    return sorted(items, key=lambda item: item.event_time)
