"""`tidegate command`: what people order of a running model, as an event in the commands topic (F41).

Owns the words of the actions. Refuses to know what obeys them (`stream.stages.course`, `stream.stages.watch`).
"""

from __future__ import annotations

import getpass
import time
import uuid
from datetime import datetime
from pathlib import Path
from typing import Final

import click

from stream.surface.options import CONFIG

ACTIONS: Final = (
    "pause", "resume", "update", "relearn", "publish", "promote", "rollback", "approve", "reject", "halt", "retire",
    "acknowledge", "mute",
)  # fmt: skip
"""Every action that a stage obeys."""

NEED_LEARNER: Final = frozenset({"promote", "approve", "reject", "halt", "retire"})


@click.command("command")
@click.argument("action", type=click.Choice(ACTIONS))
@CONFIG
@click.option("--model", required=True, help="The model that is meant.")
@click.option("--learner", help="A challenger: for promote, approve, reject, halt, retire, and to resume its trial.")
@click.option("--alert", "alert_id", help="The alert that is meant: for acknowledge.")
@click.option("--stream", help="For mute: the stream that is meant (default: all of the model).")
@click.option("--until", help="For mute: until when, such as 2026-12-01T08:00:00Z.")
@click.option("--by", "issued_by", help="Who orders it (default: the user of this machine).")
@click.option("--valid", "valid_s", type=click.IntRange(min=1), default=3600, help="Seconds after which it expires.")
def command(
    action: str,
    config_file: Path,
    model: str,
    learner: str | None,
    alert_id: str | None,
    stream: str | None,
    until: str | None,
    issued_by: str | None,
    valid_s: int,
) -> None:
    """Order something of a running model; the answer is in the decisions topic.

    \b
    Example:
      tidegate command promote --config fraud.yaml --model fraud --learner forest
      tidegate command rollback --config fraud.yaml --model fraud
    """
    from stream.contract import COMMANDS
    from stream.events import Command
    from stream.runtime.kafka.produce import Producer
    from stream.surface.cli_kafka import clients_of, with_kafka

    if action == "mute" and until is None:
        raise click.UsageError("mute needs --until: when it is to end")
    if action in NEED_LEARNER and learner is None:
        raise click.UsageError(f"{action} needs --learner: which challenger is meant")
    config = with_kafka(config_file)
    if model not in config.models:
        raise click.UsageError(f"no model {model!r} in {config_file.name}; there are: {', '.join(config.models)}")
    now = time.time()
    given = {"learner": learner, "alert_id": alert_id, "stream": stream, "until": _seconds(until)}
    order = Command(
        command_id=uuid.uuid4().hex,
        action=action,
        model=model,
        arguments={name: value for name, value in given.items() if value is not None},
        issued_by=issued_by or getpass.getuser(),
        issued_at=now,
        expires_at=now + valid_s,
    )
    with Producer(config, clients_of(config)) as producer:
        producer.send(COMMANDS, model, order)
    click.echo(f"sent {action} of {model} as {order.command_id}")


def _seconds(moment: str | None) -> float | None:
    if moment is None:
        return None
    try:
        read = datetime.fromisoformat(moment)
    except ValueError:
        read = None
    if read is None or read.tzinfo is None:
        raise click.UsageError(f"--until {moment!r} is no moment with its zone; write 2026-12-01T08:00:00Z")
    return read.timestamp()
