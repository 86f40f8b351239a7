"""Streams in which one thing changes, and what it was: simulated models, and real rows with a change put into them.

Owns the cases and their truth; refuses to know who diagnoses. Every case is a reference, then the change at a known
row. About half of them change in one slice alone. The model is fixed and imperfect: of the simulated world it lacks
the interaction, of the real rows it is a table of steps fitted to others of them.
"""

from __future__ import annotations

import csv
import gzip
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from detectors import binning, domain
from detectors.contract import Bins, Stream
from detectors.design import encode
from stream.surface import flights

Floats = NDArray[np.float64]
Columns = dict[str, NDArray[Any]]
"""Numbers as float64, NaN missing; text as objects, None missing."""

REFERENCE, CURRENT = 3_000, 3_000
"""Rows before and since: an engine that finds a change after a thousand rows and more is to see enough labels after
that for its last look, and what is normal it learns from the first 2,000."""

TRAINING = 5_000
KINDS = ("covariate", "concept", "data_quality", "label")
FAULTS = ("unit", "constant", "missing")
DATA = Path(__file__).parents[2].parent / "shared" / "data"


class Case(NamedTuple):
    """place: the slice that changes alone, '' where all do. labelled: rows whose label comes at all. fault: of a broken
    feed, which."""

    kind: str
    guilty: str
    place: str
    columns: Columns
    label: Floats
    prediction: Floats
    slices: str
    labelled: NDArray[np.bool_]
    fault: str = ""
    change: int = REFERENCE


class World(Protocol):
    slices: str

    def case(self, kind: str, local: bool, draw: np.random.Generator) -> Case: ...


def stacked(before: Columns, after: Columns) -> Columns:
    return {name: np.concatenate([before[name], after[name]]) for name in before}


def broken(
    rows: Columns, positive: list[str], slices: str, local: bool, draw: np.random.Generator
) -> tuple[Columns, str, str, str]:
    """The rows as a broken feed hands them over, the guilty feature, the slice and the fault. Units change in features
    whose values have one sign, as a quantity's have; in one slice alone only missing values are a fault of a feed."""
    fault = "missing" if local else FAULTS[int(draw.integers(3))]
    numeric = [name for name, column in rows.items() if column.dtype != object]
    guilty = str(draw.choice(positive if fault == "unit" else numeric))
    value = rows[guilty].copy()
    place = place_of(rows[slices], draw) if local else ""
    if fault == "unit":
        value *= 1_000.0
    elif fault == "constant":
        value[:] = np.nanmedian(value)
    else:
        here = rows[slices] == place if local else np.ones(len(value), np.bool_)
        value[here & (draw.random(len(value)) < (0.9 if local else 0.6))] = np.nan
    return {**rows, guilty: value}, guilty, f"{slices}={place}" if local else "", fault


def place_of(column: NDArray[Any], draw: np.random.Generator) -> str:
    """A slice that is not small: what happens in a twentieth of the rows is not found in two thousand."""
    names, counts = np.unique(column[column != None].astype(str), return_counts=True)  # noqa: E711
    return str(draw.choice(names[counts >= len(column) / 10]))


class Simulated:
    """Ten mixed features, two of them correlated; a logistic truth with an interaction that the model lacks."""

    slices = "region"
    regions, channels = ("A", "B", "C", "D"), ("web", "app", "shop")
    positive = ("income", "wait", "age")

    def case(self, kind: str, local: bool, draw: np.random.Generator) -> Case:
        self.weights = {
            name: float(draw.choice([-1, 1]) * draw.uniform(0.4, 0.9))
            for name in ("a", "b", "income", "heavy", "wait", "age", "c", "flag")
        }
        self.by_region = dict(zip(self.regions, draw.normal(size=4) * 0.5, strict=True))
        self.by_channel = dict(zip(self.channels, draw.normal(size=3) * 0.5, strict=True))
        self.interaction = float(draw.uniform(0.5, 1.0))
        served = {name: w * float(draw.uniform(0.7, 1.2)) for name, w in self.weights.items()}
        before = self.rows(REFERENCE, draw)
        known = self.label(before, draw)
        after, label, guilty, place, *fault = getattr(self, f"_{kind}")(local, draw)
        rows = stacked(before, after)
        labelled = np.ones(len(rows["a"]), np.bool_)
        whole = np.concatenate([known, label])
        if kind == "delayed_labels":
            labelled[REFERENCE:] = (label == 1) | (draw.random(len(label)) < 0.3)
        said = (self.logit(rows, served, 0.0) > 0).astype(np.float64)
        return Case(kind, guilty, place, rows, whole, said, self.slices, labelled, *fault)

    def rows(self, n: int, draw: np.random.Generator) -> Columns:
        latent = draw.normal(size=(n, 5))
        return {
            "a": latent[:, 0],
            "b": (latent[:, 1] + 0.6 * latent[:, 0]) / 1.36**0.5,
            "income": np.exp(0.5 * latent[:, 2]),
            "heavy": draw.standard_t(3, size=n),
            "wait": draw.exponential(size=n),
            "age": np.round(40 + 12 * latent[:, 3]),
            "c": latent[:, 4],
            "flag": (draw.random(n) < 0.3).astype(np.float64),
            "region": draw.choice(self.regions, n, p=[0.35, 0.3, 0.2, 0.15]).astype(object),
            "channel": draw.choice(self.channels, n, p=[0.5, 0.3, 0.2]).astype(object),
        }

    def logit(self, rows: Columns, weights: dict[str, float], interaction: float) -> Floats:
        plain = {
            **rows, "income": np.log(np.maximum(rows["income"], 1e-9)) / 0.5,
            "heavy": np.clip(rows["heavy"], -4, 4) / 1.3, "wait": rows["wait"] - 1, "age": (rows["age"] - 40) / 12,
            "flag": rows["flag"] - 0.3,
        }  # fmt: skip
        total = np.full(len(rows["a"]), -0.5)
        for name, weight in weights.items():
            total += weight * np.nan_to_num(plain[name])
        total += np.array([self.by_region[x] for x in rows["region"]])
        total += np.array([self.by_channel[x] for x in rows["channel"]])
        return np.asarray(total + interaction * np.nan_to_num(plain["a"] * plain["c"]))

    def label(self, rows: Columns, draw: np.random.Generator, weights: dict[str, float] | None = None) -> Floats:
        chance = domain.sigmoid(self.logit(rows, weights or self.weights, self.interaction))
        return (draw.random(len(chance)) < chance).astype(np.float64)

    def _where(self, rows: Columns, local: bool, draw: np.random.Generator) -> tuple[NDArray[np.bool_], str]:
        if not local:
            return np.ones(len(rows["a"]), np.bool_), ""
        place = place_of(rows["region"], draw)
        return rows["region"] == place, f"region={place}"

    def _covariate(self, local: bool, draw: np.random.Generator) -> tuple[Columns, Floats, str, str]:
        rows = self.rows(CURRENT, draw)
        here, place = self._where(rows, local, draw)
        guilty = str(draw.choice([*self.weights, "channel"]))
        value = rows[guilty]
        if guilty == "channel":
            moved = np.where(draw.random(CURRENT) < 0.4, "shop", value)
        elif guilty == "flag":
            moved = np.where(draw.random(CURRENT) < 0.4, 1.0, value)
        elif guilty in ("income", "wait"):
            moved = value * 2
        elif guilty == "age":  # whole years stay whole: what comes between them is a broken feed
            moved = np.round(value + 0.8 * value.std())
        else:
            moved = value + 0.8 * value.std()
        rows[guilty] = np.where(here, moved, value)
        return rows, self.label(rows, draw), guilty, place

    def _concept(self, local: bool, draw: np.random.Generator) -> tuple[Columns, Floats, str, str]:
        rows = self.rows(CURRENT, draw)
        here, place = self._where(rows, local, draw)
        guilty = str(draw.choice(["a", "b", "income", "heavy", "wait", "age", "c"]))
        turned = {**self.weights, guilty: self.weights[guilty] * (-4.0 if local else -1.5)}
        return rows, np.where(here, self.label(rows, draw, turned), self.label(rows, draw)), guilty, place

    def _data_quality(self, local: bool, draw: np.random.Generator) -> tuple[Columns, Floats, str, str, str]:
        rows = self.rows(CURRENT, draw)
        served, guilty, place, fault = broken(rows, list(self.positive), self.slices, local, draw)
        return served, self.label(rows, draw), guilty, place, fault

    def _label(self, local: bool, draw: np.random.Generator) -> tuple[Columns, Floats, str, str]:
        rows = self.rows(12 * CURRENT, draw)
        label = self.label(rows, draw)
        here, place = self._where(rows, local, draw)
        kept = reweighted(label, here, float(draw.choice([1 / 4, 4])), draw)[:CURRENT]
        return {name: column[kept] for name, column in rows.items()}, label[kept], "label=1", place

    def _delayed_labels(self, local: bool, draw: np.random.Generator) -> tuple[Columns, Floats, str, str]:
        rows = self.rows(CURRENT, draw)
        return rows, self.label(rows, draw), "label=1", ""


def reweighted(label: Floats, here: NDArray[np.bool_], odds: float, draw: np.random.Generator) -> NDArray[np.intp]:
    """Rows of which those in `here` have the odds of label 1 multiplied; the share of `here` stays."""
    weight = np.where(label == 1, max(odds, 1.0), max(1 / odds, 1.0))
    return thinned(weight, here, draw)


def thinned(weight: Floats, here: NDArray[np.bool_], draw: np.random.Generator) -> NDArray[np.intp]:
    """Rows kept with chance in proportion to `weight` in `here`, and at the same rate elsewhere."""
    chance = weight / weight[here].max()
    return np.flatnonzero(draw.random(len(weight)) < np.where(here, chance, chance[here].mean()))


def pushed(
    label: Floats, chance: Floats, score: Floats, here: NDArray[np.bool_], by: float, draw: np.random.Generator
) -> Floats:
    """Labels with the coefficient of one feature turned: as few of them change as must, so that the log-odds, which
    were about those of `chance`, move by the feature's score times `by`, against the way it used to point."""
    sign = -1.0 if np.corrcoef(score, label)[0, 1] > 0 else 1.0
    wanted = domain.sigmoid(np.log(chance / (1 - chance)) + np.where(here, sign * by * score, 0.0))
    up = (label == 0) & (draw.random(len(label)) < (wanted - chance) / (1 - chance))
    down = (label == 1) & (draw.random(len(label)) < (chance - wanted) / chance)
    return np.where(up | down, 1 - label, label)


class Real:
    """Rows of a file: in random order, so that nothing changes but what is put in, or in their own order from a random
    row on, with whatever else goes on in them."""

    def __init__(
        self, rows: Columns, label: Floats, slices: str, positive: list[str], shuffled: bool = True
    ) -> None:  # fmt: skip
        self.columns, self.label, self.slices, self.positive, self.shuffled = rows, label, slices, positive, shuffled

    def in_order(self) -> Real:
        return Real(self.columns, self.label, self.slices, self.positive, shuffled=False)

    def case(self, kind: str, local: bool, draw: np.random.Generator) -> Case:
        n = len(self.label)
        order = draw.permutation(n) if self.shuffled else np.roll(np.arange(n), int(draw.integers(n)))
        model = Table(self.columns, self.label, order[:TRAINING])
        before = order[TRAINING : TRAINING + REFERENCE]
        pool = order[TRAINING + REFERENCE :]
        place = place_of(self.columns[self.slices][pool], draw) if local else ""
        here = self.columns[self.slices][pool] == place if local else np.ones(len(pool), np.bool_)
        numeric = [name for name in model.columns if self.columns[name].dtype != object and model.size(name) >= 8]
        guilty, rows, label = str(draw.choice(numeric)), pool, self.label
        score = model.score(guilty, self.columns[guilty])
        if kind == "covariate":
            tilt = np.exp((1.5 if local else 1.0) * np.clip(score[pool], -1.5, 1.5) * draw.choice([-1, 1]))
            known = model.known(guilty, self.columns[guilty][pool])
            rows = pool[thinned(np.where(known, tilt, tilt[known].mean()), here, draw)]
        elif kind == "label":
            guilty, odds = "label=1", float(draw.choice([1 / 4, 4]))
            rows = pool[reweighted(self.label[pool], here, odds, draw)]
        elif kind == "concept":
            chance = model.chance({name: column[pool] for name, column in self.columns.items()})
            label = self.label.copy()
            label[pool] = pushed(label[pool], chance, score[pool], here, 3.0 if local else 1.5, draw)
        rows = rows[:CURRENT]
        after = {name: column[rows] for name, column in self.columns.items()}
        place, fault = f"{self.slices}={place}" if local else "", ""
        if kind == "data_quality":
            after, guilty, place, fault = broken(after, self.positive, self.slices, local, draw)
        whole = stacked({name: column[before] for name, column in self.columns.items()}, after)
        labels = np.concatenate([self.label[before], label[rows]])
        said = model.predict(whole)
        return Case(kind, guilty, place, whole, labels, said, self.slices, np.ones(len(labels), np.bool_), fault)


class Table:
    """A model that adds up one number for each step of each feature, from a logistic regression on the steps."""

    def __init__(self, rows: Columns, label: Floats, training: NDArray[np.intp]) -> None:
        self.columns: dict[str, tuple[Stream, Bins]] = {}
        blocks, owners = [], []
        for name, column in rows.items():
            stream, bins = learned(name, column[training])
            self.columns[name] = stream, bins
            codes = coded(stream, bins, column[training])
            block = encode(stream.kind, bins.size, codes, len(codes), True)
            blocks += block.columns
            owners += [name] * len(block.columns)
        x = np.array(blocks).T
        spread = np.where(x.std(0) > 0, x.std(0), 1.0)
        found = domain.fit((x - x.mean(0)) / spread, label[training] == 1)
        self.intercept = float(found.coefficients[-1])
        logit = {name: (x - x.mean(0)) / spread * found.coefficients[:-1] for name in self.columns}
        self.steps: dict[str, Floats] = {}
        for name, (stream, bins) in self.columns.items():
            own = logit[name][:, np.array(owners) == name].sum(1)
            codes = coded(stream, bins, rows[name][training]).astype(np.int64)
            seen = np.maximum(np.bincount(codes + 1, minlength=bins.size + 1), 1)
            self.steps[name] = np.bincount(codes + 1, weights=own, minlength=bins.size + 1) / seen

    def size(self, name: str) -> int:
        return self.columns[name][1].size

    def score(self, name: str, column: NDArray[Any]) -> Floats:
        """Ranks of a numeric feature's bins, centred, with deviation 1."""
        codes = coded(*self.columns[name], column).astype(np.float64)
        return np.asarray((codes - codes.mean()) / codes.std())

    def known(self, name: str, column: NDArray[Any]) -> NDArray[np.bool_]:
        return coded(*self.columns[name], column) >= 0

    def predict(self, rows: Columns) -> Floats:
        """The likelier class, as if both were equally frequent."""
        return (self.total(rows) > 0).astype(np.float64)

    def chance(self, rows: Columns) -> Floats:
        """Of label 1."""
        return np.clip(domain.sigmoid(self.total(rows) + self.intercept), 0.01, 0.99)

    def total(self, rows: Columns) -> Floats:
        total = np.zeros(len(next(iter(rows.values()))))
        for name, (stream, bins) in self.columns.items():
            total += self.steps[name][coded(stream, bins, rows[name]).astype(np.int64) + 1]
        return total


def learned(name: str, column: NDArray[Any]) -> tuple[Stream, Bins]:
    stream = Stream(name, "categorical" if column.dtype == object else "numeric")
    return stream, binning.learn_bins(stream, list(column) if column.dtype == object else column)


def coded(stream: Stream, bins: Bins, column: NDArray[Any]) -> NDArray[np.int16]:
    values = list(column) if stream.kind == "categorical" else column.astype(np.float64)
    return binning.code(bins, values).astype(np.int16)


@lru_cache
def elec2() -> Real | None:
    """Half-hourly electricity of New South Wales, 1996 to 1998; None where the file is not at hand."""
    path = DATA / "elec2.csv.gz"
    if not path.exists():
        return None
    table = read(path)
    rows: Columns = {name: numbers(table, name) for name in table[0] if name not in ("date", "day", "class")}
    rows["day"] = np.array([f"day {row['day']}" for row in table], object)
    up = np.array([row["class"] == "UP" for row in table], np.float64)
    return Real(rows, up, "day", ["nswdemand", "vicdemand", "transfer"])


@lru_cache
def late_flights() -> Real:
    """Flights of 2013 from New York that arrived, late or not; every fifth, as all would only take longer."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flights.csv.gz"
        flights.write(path)
        table = [row for row in read(path)[::5] if row["late"]]
    names = ("distance", "hour", "weekday", "temp", "humid", "wind_speed", "pressure", "visib")
    rows: Columns = {name: numbers(table, name) for name in names}
    rows |= {name: np.array([row[name] for row in table], object) for name in ("carrier", "origin")}
    return Real(rows, numbers(table, "late"), "origin", ["distance", "hour", "humid", "pressure"])


def read(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


def numbers(table: list[dict[str, str]], name: str) -> Floats:
    return np.array([float(row[name]) if row[name] else np.nan for row in table])


WORLDS: dict[str, Callable[[], World | None]] = {"simulated": Simulated, "flights": late_flights, "elec2": elec2}
