"""`tidegate command`: what people order of a running model, as an event in the commands topic, signed with
TIDEGATE_COMMAND_KEY where that is set (F41, F53).

Owns what each action needs. Refuses to know what obeys them (`stream.stages.course`, `stream.stages.watch`) and what a
signature is (`stream.commands`).
"""

from __future__ import annotations

import getpass
import time
import uuid
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from stream.orders import ACTIONS, VALID_S_MAX
from stream.surface.options import CONFIG

if TYPE_CHECKING:
    from stream.config import Config
    from stream.events import Command

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
@click.option("--valid", "valid_s", type=click.IntRange(1, int(VALID_S_MAX)), default=3600, help="Seconds it is valid.")
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
    """Order something of a running model; the answer is in the decisions topic, a refusal in dead-letters.

    With TIDEGATE_COMMAND_KEY (NAME:SECRET, or a file that TIDEGATE_COMMAND_KEY_FILE names) the order is signed. Workers
    that have keys obey nothing else.

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
    order = _signed(order, config)
    with Producer(config, clients_of(config)) as producer:
        producer.send(COMMANDS, model, order)
    signed = f", signed by {order.key_id}" if order.key_id else ""
    click.echo(f"sent {action} of {model} as {order.command_id}{signed}")


def _signed(order: Command, config: Config) -> Command:
    """The order with the signature of this environment's key, if there is one. Raises TidegateError where the
    configuration asks for one that may order this."""
    from stream.commands import Rules, sign
    from stream.errors import TidegateError
    from stream.runtime.stages import signer

    key, prefix = signer(), config.topics.prefix
    grants = {} if config.commands is None else config.commands.keys
    if key is None:
        if grants:
            raise TidegateError(f"commands are signed here: set TIDEGATE_COMMAND_KEY to a key of {', '.join(grants)}")
        return order
    if not Rules(prefix, {}, grants).allows(key.name, order.action):
        raise TidegateError(f"key {key.name} may not order {order.action!r}; see commands.keys in the configuration")
    return sign(order, key, prefix)


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
