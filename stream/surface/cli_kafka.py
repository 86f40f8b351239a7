"""The commands that need a broker: worker, topics, producer, tails, a development broker."""

from __future__ import annotations

import logging
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stream.errors import TidegateError
from stream.surface import console
from stream.surface.options import CONFIG, FILE

if TYPE_CHECKING:
    from stream.config import Config
    from stream.runtime.feed import Feed
    from stream.runtime.kafka.clients import Clients
    from stream.runtime.kafka.produce import Event

FOLLOW = click.option("--follow", "-f", is_flag=True, help="Go on as new ones come.")
LAST = click.option("--last", type=click.IntRange(min=1), help="Start so many offsets before the end.")
JSON = click.option("--json", "as_json", is_flag=True, help="The events as they are, one a line.")

PACE_S = 0.05
"""Waits shorter than this are not worth a system call; they add up to the next one."""


@click.command("run")
@CONFIG
@click.option("--group", help="Workers of one group share the work (default: topics.prefix).")
@click.option("--until-caught-up", is_flag=True, help="End when every input has been read to its end.")
@click.option("--verbose", "-v", is_flag=True, help="Log what the worker does.")
def run_command(config_file: Path, group: str | None, until_caught_up: bool, verbose: bool) -> None:
    """Run a worker on Kafka. Start more of them to scale out.

    \b
    Example:
      tidegate topics create --config flights.yaml
      tidegate run --config flights.yaml
    """
    from stream.runtime import memory

    config = with_kafka(config_file)
    memory.start_again()

    from stream.runtime import stages
    from stream.runtime.kafka import app, logs
    from stream.surface import check

    check.demand(config, config_file.name)
    for line in stages.unprotected(config, stages.secrets_from()):
        click.echo(f"warning: {line}", err=True)
    logs.set_up(logging.INFO if verbose else logging.WARNING)
    sys.exit(app.run(config, group=group, until_caught_up=until_caught_up))


@click.group("topics")
def topics_group() -> None:
    """Create or check the topics of a configuration."""


@topics_group.command("create")
@CONFIG
def topics_create(config_file: Path) -> None:
    """Create the topics that are missing.

    \b
    Example:
      tidegate topics create --config flights.yaml
    """
    from stream.runtime.kafka import topics

    config = with_kafka(config_file)
    made = topics.create(config, clients_of(config))
    click.echo("\n".join(f"created {name}" for name in made) if made else "all topics are there")


@topics_group.command("check")
@CONFIG
def topics_check(config_file: Path) -> None:
    """Say what is wrong with the topics; exit 1 if anything is.

    \b
    Example:
      tidegate topics check --config flights.yaml
    """
    from stream.runtime.kafka import topics

    config = with_kafka(config_file)
    faults = topics.check(config, clients_of(config))
    click.echo("\n".join(faults) if faults else "all topics are as they should be")
    sys.exit(bool(faults))


@click.command()
@CONFIG
@click.option("--worker", required=True, help="Principal of the workers, such as User:worker.")
@click.option("--producer", required=True, help="Principal of who sends predictions and labels.")
@click.option("--operator", required=True, help="Principal of who orders and reads alerts.")
@click.option("--group", help="The workers' group (default: topics.prefix).")
@click.option("--bootstrap-server", help="Where they are to be set (default: kafka.bootstrap_servers).")
@click.option("--command-config", default="admin.properties", show_default=True, help="The administrator's settings.")
def acls(
    config_file: Path,
    worker: str,
    producer: str,
    operator: str,
    group: str | None,
    bootstrap_server: str | None,
    command_config: str,
) -> None:
    """Print the least rights that workers, producers and operators need, as lines for Kafka's own kafka-acls.sh.

    \b
    Example:
      tidegate acls -c fraud.yaml --worker User:worker --producer User:app --operator User:oncall
    """
    from stream.runtime.kafka import rights

    config = with_kafka(config_file)
    assert config.kafka is not None
    who = rights.Principals(worker, producer, operator)
    at = bootstrap_server or config.kafka.bootstrap_servers
    for right in rights.needed(config, who, group):
        click.echo(right.line(at, command_config))


@click.command()
@click.argument("data", type=FILE)
@CONFIG
@click.option("--speed", type=click.FloatRange(min=0, min_open=True), help="Times real time (default: no waiting).")
@click.option("--close", "closing", is_flag=True, help="End with heartbeats: nothing more will come.")
def produce(data: Path, config_file: Path, speed: float | None, closing: bool) -> None:
    """Send a file's events to the topics, as the world would.

    \b
    Example:
      tidegate produce flights.csv.gz --config flights.yaml --speed 3600
    """
    from stream.runtime.feed import Feed
    from stream.runtime.kafka.produce import Producer

    config = with_kafka(config_file)
    feed = Feed(config, data)
    with Producer(config, clients_of(config)) as producer:
        sent = producer.send_all(events(config, feed, speed, closing, data.name))
    bad = f", {console.count(feed.bad_rows)} bad rows to dead-letters" if feed.bad_rows else ""
    click.echo(f"sent {console.count(sent)} events: {console.count(feed.rows)} rows{bad}")


@click.group()
def alerts() -> None:
    """Follow the alerts, or send them on."""


@alerts.command("tail")
@CONFIG
@FOLLOW
@LAST
@JSON
def alerts_tail(config_file: Path, follow: bool, last: int | None, as_json: bool) -> None:
    """Print the alerts of a topic, and go on with --follow.

    \b
    Example:
      tidegate alerts tail --config flights.yaml --follow
    """
    from stream import codec
    from stream.contract import ALERTS
    from stream.events import Alert

    for value in _tail(config_file, ALERTS, follow, last):
        if as_json:
            click.echo(value)
        else:
            alert = codec.decode(Alert, value)
            click.echo(f"{alert.at[:16]}  {alert.severity:<11}  {alert.status:<12}  {alert.kind:<16}  {alert.summary}")


@alerts.command("forward")
@CONFIG
@click.option("--once", is_flag=True, help="End where the topic ends now; exit 2 if anything was given up.")
@click.option("--skip-old", is_flag=True, help="A target that is new begins with the alerts from now on.")
@click.option("--verbose", "-v", is_flag=True, help="Log what is done.")
def alerts_forward(config_file: Path, once: bool, skip_old: bool, verbose: bool) -> None:
    """Send the alerts on to the targets under `deliver`: Alertmanagers, webhooks. Every notice arrives at least once.

    \b
    Example:
      PAGER_TOKEN=... tidegate alerts forward --config flights.yaml
    """
    from stream.runtime import courier
    from stream.runtime.kafka import forward, logs

    config = with_kafka(config_file)
    sending = courier.senders(config, config_file.name)
    logs.set_up(logging.INFO if verbose else logging.WARNING)
    tallies = forward.run(config, clients_of(config), sending, once, skip_old)
    click.echo("\n".join(map(str, tallies)))
    if once:
        courier.demand_delivered(tallies)


@click.group("dead-letters")
def dead_letters() -> None:
    """Look at records that could not be used."""


@dead_letters.command("tail")
@CONFIG
@FOLLOW
@LAST
@JSON
def dead_letters_tail(config_file: Path, follow: bool, last: int | None, as_json: bool) -> None:
    """Print the dead letters: where each stood, and why it is one.

    \b
    Example:
      tidegate dead-letters tail --config flights.yaml
    """
    from stream import codec
    from stream.contract import DEAD_LETTERS
    from stream.events import DeadLetter

    for value in _tail(config_file, DEAD_LETTERS, follow, last):
        if as_json:
            click.echo(value)
        else:
            letter = codec.decode(DeadLetter, value)
            click.echo(f"{letter.topic}-{letter.partition}@{letter.offset}  {letter.code:<10}  {letter.reason}")


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=9092, show_default=True)
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="Keep the data here.")
def broker(port: int, data: Path | None) -> None:
    """Run one Apache Kafka for development, until interrupted.

    \b
    Example:
      tidegate broker --port 9092
    """
    from stream.runtime.kafka.broker import Running, find

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # at any moment: what was started is ended
    with suppress(KeyboardInterrupt), Running(find(data, port)) as bootstrap:
        click.echo(f"Apache Kafka at {bootstrap}; end with Ctrl-C")
        sys.stdout.flush()
        signal.pause()


def with_kafka(config_file: Path) -> Config:
    """A configuration that names a broker. Raises TidegateError."""
    from stream import config

    read = config.load(config_file)
    if read.kafka is None:
        raise TidegateError(f"{config_file.name}: kafka: missing; add kafka: {{bootstrap_servers: localhost:9092}}")
    return read


def clients_of(config: Config) -> Clients:
    """What talks to its broker."""
    from stream.runtime.kafka.clients import Clients

    assert config.kafka is not None
    return Clients(config.kafka)


def _tail(config_file: Path, role: str, follow: bool, last: int | None) -> Iterator[bytes]:
    from stream.contract import Unread
    from stream.runtime.kafka.tail import tail

    config = with_kafka(config_file)
    for partition, record in tail(config, clients_of(config), role, follow, last):
        if isinstance(record.value, bytes):
            yield record.value
        elif isinstance(record.value, Unread):
            click.echo(f"{config.topics.name(role)}-{partition}: {record.value.reason}", err=True)


def events(config: Config, feed: Feed, speed: float | None, closing: bool, title: str) -> Iterator[Event]:
    """The feed's events at the pace asked for, then heartbeats beyond every horizon."""
    from stream.contract import DEAD_LETTERS, LABELS, PREDICTIONS, REQUESTS
    from stream.events import Heartbeat
    from stream.runtime.embedded import end_after
    from stream.runtime.replay import Progress

    start = time.monotonic()
    first: float | None = None
    last, sent = 0.0, 0
    with console.progress(title) as show:
        for item in feed:
            if item.topic != DEAD_LETTERS:
                last = max(last, item.event_time)
                first = item.event_time if first is None else first
                if speed is not None:
                    _wait(start + (item.event_time - first) / speed)
            yield item.topic, item.key, item.event, None
            sent += 1
            if sent % 500 == 0:
                show(Progress(feed.done(), sent, last, 0, time.monotonic() - start))
    if closing and sent:
        asked = PREDICTIONS if config.input is not None and config.input.prediction else REQUESTS
        for role in (asked, LABELS):
            yield role, None, Heartbeat(last + end_after(config)), None


def _wait(until: float) -> None:
    left = until - time.monotonic()
    if left > PACE_S:
        time.sleep(left)


COMMANDS = (run_command, topics_group, acls, produce, alerts, dead_letters, broker)
"""In the order in which they are listed."""
