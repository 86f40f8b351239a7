"""`tidegate demo --kafka`: the same flights over a real broker, with a worker process and an alert subscriber.

Owns the order of the parts; each is what a user would start by hand: `topics create`, `run`, `produce`, `alerts tail`.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import click

from stream import config as configuration
from stream.config import Config
from stream.contract import ALERTS, DEAD_LETTERS, DECISIONS, EXAMPLES, SNAPSHOTS, WINDOWS
from stream.errors import TidegateError
from stream.runtime.feed import Feed
from stream.runtime.kafka import topics
from stream.runtime.kafka.broker import Running, find
from stream.runtime.kafka.clients import Clients
from stream.runtime.kafka.produce import Producer
from stream.runtime.kafka.tail import tail
from stream.runtime.stages import KEY_VARIABLE
from stream.surface import demo
from stream.surface.cli_kafka import events
from stream.surface.console import count, duration

ROWS = 50_000
"""Flights sent by default: until the end of February, past the first days on which the weather was missing."""

SPEED: float | None = 60_000.0
"""Times real time: a month takes 43 s, and what a model has learned serves a day or two of event time later. None: all
at once, as a backlog, which is answered by the models of its beginning."""

KAFKA = """
kafka: {{bootstrap_servers: "{bootstrap}"}}
topics: {{prefix: tidegate-demo-{run}, partitions: 4}}
engine: {{metrics_port: 0}}
"""


def run(out: Path, rows: int | None = None) -> None:
    """Broker, topics, producer, workers and an alert subscriber; then what the topics hold."""
    data, settings = demo.prepare(out, ROWS if rows is None else rows)
    environment = {**os.environ, KEY_VARIABLE: os.environ.get(KEY_VARIABLE) or secrets.token_hex(32)}
    with Running(find()) as bootstrap:
        click.echo(f"Apache Kafka at {bootstrap}")
        with_kafka = settings.with_name("demo-kafka.yaml")
        text = settings.read_text(encoding="utf-8") + KAFKA.format(bootstrap=bootstrap, run=secrets.token_hex(3))
        with_kafka.write_text(text, encoding="utf-8")
        config = configuration.load(with_kafka)
        assert config.kafka is not None
        clients = Clients(config.kafka)
        click.echo(f"topics created: {len(topics.create(config, clients))}")
        with _tidegate("alerts", "tail", "--follow", settings=with_kafka, environment=environment):
            _loop(config, clients, data, with_kafka, environment)
        _tell(config, clients)


def _loop(config: Config, clients: Clients, data: Path, settings: Path, environment: dict[str, str]) -> None:
    """A worker serves while the flights come; then another takes over where it stood, and reads to the end."""
    start = monotonic()
    with _tidegate("run", settings=settings, environment=environment), Producer(config, clients) as producer:
        sent = producer.send_all(events(config, Feed(config, data), SPEED, True, data.name))
    click.echo(f"sent {count(sent)} events in {duration(monotonic() - start)}; another worker takes over")
    start = monotonic()
    with _tidegate("run", "--until-caught-up", settings=settings, environment=environment) as worker:
        code = worker.wait()
    if code:
        raise TidegateError(f"the worker ended with code {code}")
    click.echo(f"all of it taken in {duration(monotonic() - start)} later")


def _tell(config: Config, clients: Clients) -> None:
    click.echo("the topics hold")
    for role in (EXAMPLES, WINDOWS, ALERTS, SNAPSHOTS, DECISIONS, DEAD_LETTERS):
        click.echo(f"  {role:<14} {count(sum(1 for _ in tail(config, clients, role)))}")


@contextmanager
def _tidegate(*words: str, settings: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A command as users start it; gone when the block ends."""
    command = [sys.executable, "-m", "tidegate", *words, "--config", str(settings)]
    process = subprocess.Popen(command, env=environment)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
