"""The command line: `tidegate`. Owns names, options and exit codes; every command is a few lines over what does it.

Heavy modules (River, Plotly, Kafka clients) are imported by the command that needs them, so that help comes at once.
Exit codes: 0 done, 1 a finding asked for by `--fail-on`, 2 usage, configuration or input.
"""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import Any

import click

from stream.errors import TidegateError
from stream.surface import cli_command, cli_journal, cli_kafka, cli_snapshots, console
from stream.surface.options import CONFIG, FAIL_ON, FILE, REPORT, RESULT

EXIT_FINDING = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


class Commands(click.Group):
    """Commands in the order in which a newcomer meets them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """With the nearest name where there is none."""
        found = super().get_command(ctx, cmd_name)
        close = difflib.get_close_matches(cmd_name, self.commands, 1)
        if found is None and close:
            raise click.UsageError(f"No command '{cmd_name}'; did you mean {close[0]}?", ctx)
        return found


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="tidegate", message="tidegate %(version)s")
def cli() -> None:
    """Joins predictions with the labels that come late, tells drift from noise, and keeps models learning.

    Start with: tidegate demo
    """


@cli.command(short_help="A year of real flights: late labels, drift, learning, a report.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("build/demo"), show_default=True)
@click.option("--kafka", is_flag=True, help="The same on a real broker, with worker and alert subscriber.")
@click.option("--rows", type=click.IntRange(min=1), help="Only the first so many flights.")
def demo(out: Path, kafka: bool, rows: int | None) -> None:
    """Watch a year of real flights: late labels, drift, learning, a report.

    \b
    Example:
      tidegate demo --out build/demo
    """
    if kafka:
        from stream.surface import demo_kafka

        demo_kafka.run(out, rows)
    else:
        from stream.surface import demo as embedded_demo

        embedded_demo.run(out, rows)


SNAPSHOTS_HELP = "Write the learners as they stand at the end here, signed with TIDEGATE_SNAPSHOT_KEY."


@cli.command(short_help="Run a file through the engine: what would have alarmed and been learned.")
@click.argument("data", type=FILE)
@CONFIG
@RESULT
@REPORT
@click.option("--snapshots", "snapshot_dir", type=click.Path(file_okay=False, path_type=Path), help=SNAPSHOTS_HELP)
@click.option("--partitions", type=click.IntRange(1, 256), default=1, show_default=True, help="Join shards.")
@FAIL_ON
@click.option("--deliver", is_flag=True, help="Send the alerts to the targets under `deliver`, once the run is over.")
def replay(
    data: Path,
    config_file: Path,
    json_file: Path | None,
    report_file: Path | None,
    snapshot_dir: Path | None,
    partitions: int,
    fail_on: str | None,
    deliver: bool,
) -> None:
    """Run a file (CSV, JSON Lines, Parquet) through the same engine: what would have alarmed, what would have been
    learned.

    \b
    Example:
      tidegate replay flights.csv.gz --config flights.yaml --report report.html
    """
    import msgspec

    from stream import config
    from stream.events import Alert
    from stream.runtime import courier
    from stream.runtime.replay import replay as run_replay
    from stream.runtime.stages import secrets_from
    from stream.surface import check, outcome, summary

    read = config.load(config_file)
    check.demand(read, config_file.name)
    sending = courier.senders(read, config_file.name) if deliver else []
    secrets = secrets_from() if snapshot_dir else None
    if secrets and not secrets.key:
        raise TidegateError("--snapshots: set TIDEGATE_SNAPSHOT_KEY, which signs them (openssl rand -hex 32)")
    outcome.demand_places(json_file, report_file, snapshot_dir / "*.snapshot" if snapshot_dir else None)
    with console.progress(data.name) as on_progress:
        result = run_replay(read, data, partitions, on_progress, secrets)
    document = outcome.leave(result, json_file, report_file)
    for (model, learner), snapshot in result.snapshots.items():
        assert snapshot_dir is not None
        outcome.write(snapshot_dir / f"{model}-{learner}.snapshot", snapshot.envelope)
    if deliver:
        alerts = [msgspec.convert(alert, Alert) for alert in document["alerts"]]
        tallies = courier.deliver_all(read, alerts, sending)
        click.echo("\n".join(map(str, tallies)))
        courier.demand_delivered(tallies)
    if fail_on and summary.findings(document):
        sys.exit(EXIT_FINDING)


@cli.command("check", short_help="Say what a configuration means, or what is wrong with it.")
@click.argument("config_file", type=FILE)
@click.option("--data", type=FILE, help="A file in the form that `input` describes, to count features and slices.")
def check_command(config_file: Path, data: Path | None) -> None:
    """Say what a configuration means, or everything that is wrong with it.

    \b
    Example:
      tidegate check flights.yaml --data flights.csv.gz
    """
    from stream import config
    from stream.surface import check

    read = config.load(config_file)
    check.demand(read, config_file.name)
    for line in check.explain(read, data):
        click.echo(line)


@cli.command("constraints", short_help="Learn what values may be, as a file to edit.")
@click.argument("data", type=FILE)
@CONFIG
@click.option("--out", type=FILE, help="Write the file here, where none is yet (default: print it).")
def constraints_command(data: Path, config_file: Path, out: Path | None) -> None:
    """Learn what the values of each feature may be (type, range, categories, length) from the file's first rows, as
    many as the reference has, and write it as YAML to edit. Name that file under models.<model>.constraints.

    \b
    Example:
      tidegate constraints flights.csv.gz --config flights.yaml --out constraints.yaml
    """
    from stream import config
    from stream.surface import constraints, outcome

    text = constraints.render(config.load(config_file), data)
    if out is None:
        click.echo(text, nl=False)
    elif out.exists():
        raise TidegateError(f"{out}: is there already, perhaps with edits; give another name, or delete it")
    else:
        outcome.write(out, text.encode())


@cli.command(short_help="JSON Schema of events or configuration; AsyncAPI.")
@click.option("--config", "which", flag_value="config", help="The configuration's JSON Schema.")
@click.option("--asyncapi", "which", flag_value="asyncapi", help="An AsyncAPI document of the topics.")
def schema(which: str | None) -> None:
    """Print the JSON Schema of the events (or of the configuration, or an AsyncAPI document).

    \b
    Example:
      tidegate schema > events.schema.json
    """
    from stream.surface import schema as schemas

    click.echo(schemas.text(which or "events"))


for command in (*cli_kafka.COMMANDS, cli_snapshots.snapshots, cli_command.command, cli_journal.journal):
    cli.add_command(command)


CLIENTS = ("kafka", "aiokafka")
"""Packages whose exceptions are the broker's state, and no fault of ours that deserves a traceback."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the `tidegate` command."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run a command; returns its exit code. Users' faults are one line each on stderr, never a traceback."""
    try:
        code: Any = cli.main(arguments, prog_name="tidegate", standalone_mode=False)
    except TidegateError as error:
        console.say_error(error)
        return EXIT_USAGE
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return EXIT_USAGE
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "tidegate"
        message = error.format_message().rstrip(".")
        console.say_error(f"{message[0].lower()}{message[1:]}; see {command} --help")
        return EXIT_USAGE
    except click.Abort:
        console.say_error("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stderr.close()
        return 0
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in CLIENTS:
            raise
        console.say_error(f"{error}; is the broker up, and kafka.bootstrap_servers right?")
        return EXIT_USAGE
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else EXIT_USAGE
    return code if isinstance(code, int) else 0
