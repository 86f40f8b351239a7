"""Streams whose drifts are known: recall, precision and delay, with always-alarm and never-alarm beside.

This engine watches the features together, and the errors of a simple model of River that goes on learning (or, where
the file holds the predictions of a model in production, of that), each with half the budget; peers, as their libraries
come, watch each feature or the errors. An alarm is right if it comes within the horizon after the drift has begun; the
first right one is its delay. On streams where only the labels' rule changes no alarm on features is right, and all
count as false. The features' own drifts of the two Harvard streams are not published: the means of their segments
differ by a tenth of a standard deviation where the labels' rule changes (five standard errors and more).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from river import drift, linear_model, naive_bayes, preprocessing
from river.drift import binary

from benchmarks.detection import bars, datasets, peers, reasons, telling
from benchmarks.detection.bars import Part
from benchmarks.detection.datasets import DAY_S, ELEC2_START, HALF_HOUR_S, Column, Real
from detectors import registry
from detectors.contract import Alarm, Budget, Stream

Floats = NDArray[np.float64]

MONTH_S = 30 * DAY_S
ALWAYS_EVERY = 10
"""The always-alarm alarms ten times a horizon."""

CHUNK_ROWS = 1_024


class Known(NamedTuple):
    """A stream, where its features and its errors drift, how many rows an alarm may take, rows of the reference, and
    the column of labels.

    A drift may begin before the published point where the data show that it is gradual. `times`: how rows get times;
    without it a row takes a second and the budget is one alarm per rows.
    """

    name: str
    features: tuple[int, ...]
    errors: tuple[int, ...]
    horizon: int
    reference: int
    label: str
    times: str = ""
    categorical: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    said: str = ""


TORNADO = (20_000, 40_000, 60_000, 80_000)
SEA = (10_000, 20_000, 30_000)
USENET = (300, 600, 900, 1_200)
INSECTS = 10_350
"""Where the gradual zone of the insects begins in the data; the published point is 14,028."""

STREAMS = (
    Known("tornado_sine1_w_50_n_0.1", (), TORNADO, 5_000, 5_000, "class"),
    Known("harvard_sea_0123_abrupt_noise0.2", SEA, SEA, 5_000, 2_500, "class"),
    Known("harvard_sine_0123_gradual", (20_000,), (9_500, 20_000, 30_500), 5_000, 2_500, "class"),
    Known("usenet1", USENET, USENET, 150, 150, "interesting"),
    Known("insects_gradual_balanced", (INSECTS,), (INSECTS,), 14_028 + 2_000 - INSECTS, 5_000, "class"),
    Known("elec2", (17_424,), (), 48, 48 * 56, "class", "elec2", left_out=("date", "day", "period")),
    Known(
        "nannyml_car_loan", (75_000,), (75_000,), 5_000, 20_000, "repaid", "timestamp",
        ("salary_range", "repaid_loan_on_prev_car", "size_of_downpayment"),
        ("id", "partition", "y_pred_proba"), "y_pred",
    ),
    Known(
        "nannyml_credit_mc", (90_000,), (90_000,), 5_000, 20_000, "y_true", "timestamp",
        ("acq_channel", "app_channel", "is_customer"),
        ("id", "partition", "y_pred_proba_prepaid_card", "y_pred_proba_highstreet_card", "y_pred_proba_upmarket_card"),
        "y_pred",
    ),
)  # fmt: skip
QUICK = ("usenet1", "harvard_sea_0123_abrupt_noise0.2")

ON_ERRORS: dict[str, Callable[[], peers.OneByOne]] = {
    "ADWIN": drift.ADWIN,
    "DDM": binary.DDM,
    "EDDM": binary.EDDM,
    "HDDM_A": binary.HDDMA,
    "HDDM_W": binary.HDDMW,
    "PageHinkley": drift.PageHinkley,
}
ON_FEATURES: dict[str, Callable[[], peers.OneByOne]] = {"ADWIN": drift.ADWIN, "PageHinkley": drift.PageHinkley}


def run(quick: bool, seed: int) -> Part:
    figures: dict[str, Any] = {"unit": "rows", "streams": {}}
    demands = []
    for known in STREAMS:
        if quick and known.name not in QUICK:
            continue
        try:
            found = judged(known, seed)
        except datasets.Missing as missing:
            figures["streams"][known.name] = str(missing)
            continue
        figures["streams"][known.name] = found
        if known.name == "elec2":
            delay = found["features"]["ours"]["delay"]
            value = math.inf if delay is None else delay
            demands.append(bars.at_most("delay, elec2, market extension on features", value, 48, "rows (half hours)"))
    figures["mean_f1"] = mean_f1(figures["streams"])
    figures["against_always"] = against_always(figures["streams"])
    telling.show(f"known: {telling.ALWAYS}", telling.always(figures))
    return Part(figures=figures, bars=demands)


def against_always(streams: dict[str, Any]) -> list[dict[str, Any]]:
    """Our F1 on every stream beside that of always alarming, and the reason where that scores better."""
    return [
        {
            "stream": name,
            "kind": kind,
            "ours": ours,
            "always": always,
            "never": 0.0,
            "reason": reasons.of_known(name, kind) if ours < always else "",
        }
        for name, found in streams.items()
        if isinstance(found, dict)
        for kind in ("features", "errors")
        if found["drifts"][kind]
        for ours, always in ((found[kind]["ours"]["f1"], found[kind]["always"]["f1"]),)
    ]


def judged(known: Known, seed: int) -> dict[str, Any]:
    """Every detector on features and on errors."""
    features, errors, time_s = load(known)
    n = len(time_s)
    numeric = [np.asarray(c) for c, s in zip(features.columns, features.streams, strict=True) if s.kind == "numeric"]
    loss = Real(known.name, [Stream("loss", "loss")], [errors], time_s)

    def on(columns: Sequence[Floats], made: Callable[[], peers.OneByOne]) -> list[int]:
        rows: list[int] = []
        for x in columns:
            detector = made()
            peers.alarms(detector, x[: known.reference].tolist())
            rows += [known.reference + i for i in peers.alarms(detector, x[known.reference :].tolist())]
        return rows

    def scored(rows: Iterable[int], of: Sequence[int]) -> dict[str, Any]:
        return score(sorted(rows), of, known.horizon, known.reference, n)

    always = range(known.reference, n, max(known.horizon // ALWAYS_EVERY, 1))
    return {
        "rows": n,
        "error_rate": bars.known(float(np.nanmean(errors))),
        "drifts": {"features": known.features, "errors": known.errors},
        "features": {
            "ours": scored(engine(known, features, seed), known.features),
            **{
                f"{name} (River), default": scored(on(numeric, made), known.features)
                for name, made in ON_FEATURES.items()
            },
            "always": scored(always, known.features),
            "never": scored((), known.features),
        },
        "errors": {
            "ours": scored(engine(known, loss, seed), known.errors),
            **{
                f"{name} (River), default": scored(on([errors], made), known.errors) for name, made in ON_ERRORS.items()
            },
            "always": scored(always, known.errors),
            "never": scored((), known.errors),
        },
    }


def engine(known: Known, real: Real, seed: int) -> list[int]:
    """Rows at which this engine, with nothing set, alarms."""
    half = 0.5
    budget = Budget(half, seconds=MONTH_S) if known.times else Budget(half, events=len(real.time_s))
    detector = registry.make("auto", {}, real.streams, budget, seed)
    bins = real.bins(known.reference)
    rows = real.rows(bins)
    detector.fit(bins, rows.part(0, known.reference))
    alarms: list[Alarm] = []
    for start in range(known.reference, len(rows), CHUNK_ROWS):
        alarms += detector.update(rows.part(start, min(start + CHUNK_ROWS, len(rows))))
    return [int(np.searchsorted(real.time_s, alarm.at_s)) for alarm in alarms]


def score(rows: Sequence[int], begins: Sequence[int], horizon: int, start: int, end: int) -> dict[str, Any]:
    """Recall over drifts, precision over alarms, median delay of the drifts found; alarms of one drift that come
    together (several streams, several times) are each right.

    >>> score([110, 130, 400], [100, 200], 50, 0, 500)["precision"]
    0.6667
    """
    right = [row for row in rows if any(b <= row < b + horizon for b in begins)]
    delays = [min((row - b for row in rows if b <= row < b + horizon), default=math.inf) for b in begins]
    found = [delay for delay in delays if math.isfinite(delay)]
    recall = len(found) / len(begins) if begins else 0.0
    precision = len(right) / len(rows) if rows else 0.0
    both = recall + precision
    return {
        "alarms": len(rows),
        "false": len(rows) - len(right),
        "recall": round(recall, 4),
        "precision": round(precision, 4),
        "f1": round(2 * recall * precision / both, 4) if both else 0.0,
        "delay": bars.known(float(np.median(found))) if found else None,
        "false_per_10000_rows": round((len(rows) - len(right)) * 1e4 / (end - start), 4),
    }


def mean_f1(streams: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Of each detector, over all streams whose features (errors) are known to change."""
    means: dict[str, dict[str, float]] = {}
    for kind in ("features", "errors"):
        told = [f[kind] for f in streams.values() if isinstance(f, dict) and f["drifts"][kind]]
        names = told[0] if told else ()
        means[kind] = {name: round(float(np.mean([one[name]["f1"] for one in told])), 4) for name in names}
    return means


def load(known: Known) -> tuple[Real, Floats, Floats]:
    """Features as streams, the errors of the model, and times."""
    found = datasets.table(datasets.path(known.name))
    n = len(found[known.label])
    time_s = np.arange(float(n))
    if known.times == "elec2":
        time_s = ELEC2_START.timestamp() + HALF_HOUR_S * time_s
    elif known.times:
        time_s = np.array([x[:19].replace(" ", "T") for x in found[known.times]], "datetime64[s]").astype(np.float64)
    apart = {known.label, known.times, known.said, *known.left_out}
    names = [name for name in found if name not in apart]
    columns: list[Column] = [
        [x or None for x in found[name]] if name in known.categorical else datasets.numbers(found[name])
        for name in names
    ]
    streams = [Stream(name, "categorical" if name in known.categorical else "numeric") for name in names]
    features = Real(known.name, streams, columns, time_s)
    if known.said:
        errors = np.array([_differ(a, b) for a, b in zip(found[known.said], found[known.label], strict=True)])
    else:
        errors = prequential(features, found[known.label])
    return features, errors.astype(np.float64), time_s


def _differ(said: str, label: str) -> bool:
    """Files write the same class as 1 and as 1.0."""
    return said.removesuffix(".0") != label.removesuffix(".0")


def prequential(features: Real, labels: Sequence[str]) -> NDArray[np.bool_]:
    """Whether each answer was wrong, of a model that learns every row after it has answered."""
    classes = sorted(set(labels))
    model: Any
    if len(classes) == 2:
        model = preprocessing.StandardScaler() | linear_model.LogisticRegression()
        answers: list[Any] = [label == classes[1] for label in labels]
    else:
        model, answers = naive_bayes.GaussianNB(), list(labels)
    names = [stream.name for stream in features.streams]
    wrong = np.zeros(len(labels), np.bool_)
    values = zip(*(np.asarray(column).tolist() for column in features.columns), strict=True)
    for i, (row, answer) in enumerate(zip(values, answers, strict=True)):
        x = dict(zip(names, row, strict=True))
        wrong[i] = model.predict_one(x) != answer
        model.learn_one(x, answer)
    return wrong
