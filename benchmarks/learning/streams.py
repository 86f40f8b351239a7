"""Labelled streams for the parts that learn: files in their own order, and River's generators with planted drift.

Owns which rows, features and drift points a stream has. Refuses to know learners and delays. The files are not the
project's to ship: `benchmarks.detection.datasets.path` says where they are looked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import cycle, islice
from typing import Any, Final, NamedTuple

from river.datasets import synth

from benchmarks.detection import datasets
from learners.contract import Label
from learners.metrics import Task

Features = dict[str, Any]

ROWS: Final = 20_000
"""Rows of a stream in the full form: a forest costs up to 2 ms an event, and there are four delays."""

SUDDEN: Final = 50
"""Width, in events, of a drift that comes at once; River's sigmoid overflows where it is much narrower."""


class Labelled(NamedTuple):
    """A stream: features and labels in order, and the rows (from 0) at which a drift is known to begin."""

    name: str
    task: Task
    x: list[Features]
    y: list[Label]
    drifts: tuple[int, ...] = ()

    def first(self, rows: int) -> Labelled:
        return self._replace(x=self.x[:rows], y=self.y[:rows], drifts=tuple(at for at in self.drifts if at < rows))


class File(NamedTuple):
    """A file and which of its rows are taken. `positive` is the label that counts as 1; `without` are columns that are
    identifiers, times, or somebody else's predictions."""

    target: str
    task: Task
    start: int = 0
    positive: str = "1"
    without: tuple[str, ...] = ()
    drifts: tuple[int, ...] = ()


_LOAN: Final = ("id", "timestamp", "y_pred_proba", "y_pred", "partition")
_CARD: Final = (
    "id",
    "timestamp",
    "y_pred_proba_prepaid_card",
    "y_pred_proba_highstreet_card",
    "y_pred_proba_upmarket_card",
    "y_pred",
    "partition",
)
_BIKES: Final = ("instant", "dteday", "casual", "registered")

FILES: Final[Mapping[str, File]] = {
    "elec2": File("class", "binary", positive="UP", drifts=(17_424,)),
    "insects_gradual_balanced": File("class", "multiclass", drifts=(14_028,)),
    "harvard_sea_0123_abrupt_noise0.2": File("class", "binary", positive="1.0", drifts=(10_000, 20_000, 30_000)),
    "harvard_sine_0123_gradual": File("class", "binary", positive="1.0", drifts=(9_500, 20_000, 30_500)),
    "tornado_sine1_w_50_n_0.1": File("class", "binary", 10_000, "p", (), (20_000, 40_000, 60_000, 80_000)),
    "evl_2CDT": File("class", "binary", positive="1"),
    "nannyml_car_loan": File("repaid", "binary", 65_000, "1.0", _LOAN, (75_000,)),
    "nannyml_credit_mc": File("y_true", "multiclass", 80_000, "", _CARD, (90_000,)),
    "bike_sharing_hourly": File("cnt", "regression", without=_BIKES),
}
"""Three files are longer than the cap and start late, so that a known drift lies in the rows that `stream` takes."""


def concepts(make: Callable[[int, int], Any], order: tuple[int, ...], every: int, width: int, seed: int) -> Any:
    """Concepts one after the other, each for so many events: `make` gives the generator of a concept and a seed."""
    last = make(order[-1], seed + len(order))
    for place in range(len(order) - 2, -1, -1):
        last = synth.ConceptDriftStream(
            make(order[place], seed + place + 1), last, seed=seed, position=every, width=width
        )
    return last


class Generated(NamedTuple):
    """A generator with planted drifts, `every` so many events."""

    task: Task
    make: Callable[[int, int], Any]
    order: tuple[int, ...]
    every: int
    width: int


def _led(concept: int, seed: int) -> Any:
    return synth.LEDDrift(seed=seed, noise_percentage=0.1, irrelevant_features=True, n_drift_features=concept)


def _sea(concept: int, seed: int) -> Any:
    return synth.SEA(variant=concept, seed=seed, noise=0.1)


def _agrawal(concept: int, seed: int) -> Any:
    return synth.Agrawal(classification_function=concept, seed=seed)


def _stagger(concept: int, seed: int) -> Any:
    return synth.STAGGER(classification_function=concept, seed=seed)


GENERATED: Final[Mapping[str, Generated]] = {
    "sea sudden": Generated("binary", _sea, (0, 3, 1, 2), 5_000, SUDDEN),
    "agrawal gradual": Generated("binary", _agrawal, (0, 3, 6), 7_000, 2_000),
    "agrawal recurring": Generated("binary", _agrawal, (0, 2, 0, 2), 5_000, SUDDEN),
    "led gradual": Generated("multiclass", _led, (0, 3, 7), 7_000, 2_000),
    "stagger recurring": Generated("binary", _stagger, (0, 1, 2, 0, 1, 2, 0, 1), 2_500, SUDDEN),
}

NAMES: Final = (*FILES, *GENERATED)


def stream(name: str, rows: int, seed: int) -> Labelled:
    """At most so many rows of one stream. Raises datasets.Missing where its file is not there."""
    return _read(name, FILES[name], rows) if name in FILES else _generated(name, GENERATED[name], rows, seed)


def whole(name: str, rows: int, seed: int) -> Labelled:
    """At most so many rows of one stream, a file's from its first on, a generator's with its concepts in turn for as
    long as it goes on. Raises datasets.Missing where its file is not there."""
    if name in FILES:
        return _read(name, FILES[name]._replace(start=0), rows)
    of = GENERATED[name]
    turns = islice(cycle(dict.fromkeys(of.order)), -(-rows // of.every))
    return _generated(name, of._replace(order=tuple(turns)), rows, seed)


def _read(name: str, of: File, rows: int) -> Labelled:
    table = datasets.table(datasets.path(name))
    labels = table.pop(of.target)[of.start : of.start + rows]
    columns = {
        column: _column(values[of.start : of.start + rows])
        for column, values in table.items()
        if column not in of.without
    }
    x = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    drifts = tuple(at - of.start for at in of.drifts if of.start < at < of.start + len(x))
    return Labelled(name, of.task, x, [_label(label, of) for label in labels], drifts)


def _column(values: list[str]) -> list[Any]:
    """Numbers where every value is one; text, and nothing for an empty value, otherwise."""
    try:
        return [None if value == "" else float(value) for value in values]
    except ValueError:
        return [value or None for value in values]


def _label(label: str, of: File) -> Label:
    if of.task == "binary":
        return int(label == of.positive)
    return float(label) if of.task == "regression" else label


def _generated(name: str, of: Generated, rows: int, seed: int) -> Labelled:
    pairs = list(islice(concepts(of.make, of.order, of.every, of.width, seed), rows))
    drifts = tuple(of.every * place for place in range(1, len(of.order)) if of.every * place < rows)
    y = [str(label) if of.task == "multiclass" else int(label) for _, label in pairs]
    return Labelled(name, of.task, [{str(k): v for k, v in x.items()} for x, _ in pairs], y, drifts)
