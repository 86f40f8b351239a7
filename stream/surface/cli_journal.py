"""`tidegate journal`: the past of a running system, and proof of it (F42).

Owns the commands; what they say is `journal_text`'s, the past itself `stream.runtime.past`, `travel` and `backtest`.
Everything here only reads: no group, no offsets, nothing is written to a topic.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stream.errors import StateError, TidegateError
from stream.surface import console
from stream.surface.options import CONFIG, FAIL_ON, FILE, REPORT, RESULT

if TYPE_CHECKING:
    from stream.config import Config
    from stream.runtime.kafka.rewind import Rewind
    from stream.runtime.past import Past
    from stream.runtime.travel import Reached, Step

EXIT_FINDING = 1

JSON = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.group("journal", short_help="The past of a running system: verify, rebuild, explain, backtest.")
def journal() -> None:
    """Look into the past of a running system: verify it, rebuild any state, see why an alert came, or run another
    configuration over it. Reads only. Set the keys that the workers have."""


@journal.command("list", short_help="What the journal holds of every shard.")
@CONFIG
@JSON
def journal_list(config_file: Path, as_json: bool) -> None:
    """Say what the journal still holds of every shard: checkpoints, positions, whole states.

    \b
    Example:
      tidegate journal list --config fraud.yaml
      tidegate journal list --config fraud.yaml --json
    """
    import orjson

    from stream.contract import JOURNAL
    from stream.runtime.kafka.rewind import Inputs, history
    from stream.runtime.stages import secrets_from, stages_of
    from stream.surface import journal_text
    from stream.surface.cli_kafka import clients_of, with_kafka

    config, keys = with_kafka(config_file), secrets_from().trusted
    partitions = range(config.topics.partitions)
    with (
        Inputs(config, clients_of(config), [(JOURNAL, p) for p in partitions]) as inputs,
        _steps("read the journal") as on_step,
    ):
        held = [history(inputs, p, on_step).pasts for p in partitions]
    for partition, pasts in enumerate(held):
        for stage in stages_of(config):
            past = pasts.get(f"{stage}/{partition}")
            document = journal_text.listed(past, keys) if past else {"shard": f"{stage}/{partition}", "checkpoints": 0}
            if as_json:
                click.echo(orjson.dumps(document))
            else:
                click.echo(journal_text.shard_text(document, config.hash()))


@journal.command("verify", short_help="Prove that the past comes out again as it did.")
@CONFIG
@click.option(
    "--all", "everything", is_flag=True, help="Begin as far back as the journal goes, not where a restart does."
)
@JSON
def journal_verify(config_file: Path, everything: bool, as_json: bool) -> None:
    """Replay what was journaled since the newest whole state of each shard, and compare what comes out with what came
    out then. Exit 1 where anything differs.

    \b
    Example:
      tidegate journal verify --config fraud.yaml
      tidegate journal verify --config fraud.yaml --all
    """
    import orjson

    from stream.runtime.proof import Verdict
    from stream.runtime.stages import stages_of
    from stream.surface import journal_text
    from stream.surface.cli_kafka import with_kafka

    config = with_kafka(config_file)
    differ = False
    for partition in range(config.topics.partitions):
        with _rewind(config, partition, stages_of(config)) as rewind:
            for stage in stages_of(config):
                with _steps(f"verify {stage}/{partition}") as on_step:
                    past = rewind.past(stage, on_step)
                    nothing = Verdict(f"{stage}/{partition}", 0, 0, 0, 0)
                    verdict = nothing if past is None else rewind.verify(stage, past, everything, on_step)
                changed = past is not None and past.config_of() != config.hash()
                differ = differ or bool(verdict.fault)
                if as_json:
                    click.echo(orjson.dumps({**verdict._asdict(), "config_changed": changed}))
                else:
                    click.echo(journal_text.verdict_text(verdict, changed))
    if differ:
        sys.exit(EXIT_FINDING)


@journal.command("replay", short_help="Rebuild a shard at any point; why an alert came.")
@CONFIG
@click.option("--until", required=True, metavar="POINT", help="An alert's id, INPUT/PARTITION@OFFSET, or a moment.")
@click.option(
    "--shard", metavar="STAGE/PARTITION", help="Such as watch/0 (default: that which watches the alert's model)."
)
@click.option("--out", type=FILE, help="Write the state as it stood there to this file.")
@JSON
def journal_replay(config_file: Path, until: str, shard: str | None, out: Path | None, as_json: bool) -> None:
    """Rebuild a shard as it stood at a point: right after the record that raised an alert, after any record of its
    inputs, or at a moment of the workers' clocks. Exit 1 if the alert does not come out as it was sent.

    \b
    Example:
      tidegate journal replay --config fraud.yaml --until fraud/loss/concept/2026-11-24T15:00:00Z/3f9a
      tidegate journal replay --config fraud.yaml --shard watch/0 --until observations/0@812
      tidegate journal replay --config fraud.yaml --shard join/3 --until 2026-11-24T15:00:00Z --out join-3.state
    """
    import orjson

    from stream.runtime import travel
    from stream.runtime.kafka.rewind import sent_alert
    from stream.surface import journal_text
    from stream.surface.cli_kafka import clients_of, with_kafka

    config = with_kafka(config_file)
    point = travel.point_of(until)
    sent = None
    if isinstance(point, travel.AlertAt):
        sent = sent_alert(config, clients_of(config), point.alert_id)
        point = point._replace(written_s=sent[0].record.timestamp_s)
        shard = shard or _watching(config, sent[1].model)
    stage, partition = _shard_of(config, shard)
    with _rewind(config, partition, (stage,)) as rewind:
        with _steps(f"rebuild {stage}/{partition}") as on_step:
            past = rewind.past(stage, on_step)
            if past is None:
                raise StateError(f"{stage}/{partition} has no past: no worker has written a checkpoint of it")
            _warn_of_config(config, past)
            reached = rewind.rebuild(stage, past, point, on_step)
        document = journal_text.reached_document(reached)
        if sent is not None:
            document["alert"] = _why(config, rewind, reached, *sent)
    if out is not None:
        document["state"] = _write_state(out, reached)
    if as_json:
        click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS))
    else:
        click.echo(journal_text.reached_text(document))
    if sent is not None and not document["alert"]["same"]:
        console.say_error(f"{until}: the alert does not come out as it was sent")
        sys.exit(EXIT_FINDING)


@journal.command("backtest", short_help="Another configuration over the topics' records.")
@CONFIG
@click.option("--with", "new_file", type=FILE, help="What to run (default: the configuration, as it is now).")
@click.option("--from", "begin", metavar="MOMENT", help="Records written from this moment on (default: all there are).")
@click.option("--to", "end", metavar="MOMENT", help="Records written before this moment.")
@RESULT
@REPORT
@FAIL_ON
def journal_backtest(
    config_file: Path,
    new_file: Path | None,
    begin: str | None,
    end: str | None,
    json_file: Path | None,
    report_file: Path | None,
    fail_on: str | None,
) -> None:
    """Run another configuration over what the topics of a running system hold: what it would have alarmed and learned.
    The system goes on undisturbed.

    \b
    Example:
      tidegate journal backtest --config fraud.yaml --with fraud-new.yaml --from 2026-11-24T00:00:00Z --report new.html
    """
    from stream import config as configs
    from stream.runtime import backtest, replay
    from stream.runtime.kafka.rewind import Inputs
    from stream.surface import check, outcome, summary
    from stream.surface.cli_kafka import clients_of, with_kafka

    running = with_kafka(config_file)
    new = running if new_file is None else configs.load(new_file)
    check.demand(new, (new_file or config_file).name)
    outcome.demand_places(json_file, report_file)
    partitions = running.topics.partitions
    sources = [(name, p) for name in backtest.INPUTS for p in range(partitions)]
    with Inputs(running, clients_of(running), sources) as inputs:
        first, ends = inputs.bounds()
        starts = {**first, **(inputs.at(_moment("--from", begin)) if begin else {})}
        stops = {**ends, **(inputs.at(_moment("--to", end)) if end else {})}
        ranges = {s: (max(first[s], starts[s]), min(ends[s], stops[s])) for s in sources}
        total = sum(max(stop - start, 0) for start, stop in ranges.values())
        if not total:
            raise TidegateError(f"{config_file.name}: its topics hold no predictions, labels or requests of that time")
        feed = backtest.Feed(new, {s: inputs.log(s, start, stop) for s, (start, stop) in ranges.items()}, total)
        title = f"topics of {running.topics.prefix}"
        with console.progress(title) as on_progress:
            result = replay.run(new, feed, title, partitions, on_progress)
    deleted = [f"{name}-{p} is there from offset {first[name, p]} on" for name, p in sources if first[name, p]]
    if deleted and not begin:
        print(f"tidegate: warning: the topics do not go back to their beginning: {', '.join(deleted)}", file=sys.stderr)
    document = outcome.leave(result, json_file, report_file)
    if fail_on and summary.findings(document):
        sys.exit(EXIT_FINDING)


# ---- what the commands share ----------------------------------------------------------------------------------------


def _rewind(config: Config, partition: int, stages: tuple[str, ...]) -> Rewind:
    from stream.runtime.kafka.rewind import Rewind
    from stream.runtime.stages import secrets_from
    from stream.surface.cli_kafka import clients_of

    return Rewind(config, clients_of(config), secrets_from(), partition, stages)


def _watching(config: Config, model: str) -> str:
    """The shard that watches a model: its observations go where its name is hashed to."""
    from stream.joining.partition import partition_of

    return f"watch/{partition_of(model.encode(), config.topics.partitions)}"


def _shard_of(config: Config, name: str | None) -> tuple[str, int]:
    from stream.runtime.stages import stages_of

    stages, partitions = stages_of(config), config.topics.partitions
    if name is None:
        raise click.UsageError("--shard is missing: which shard is meant, such as watch/0")
    stage, _, number = name.partition("/")
    if stage not in stages or not number.isdecimal() or int(number) >= partitions:
        raise click.UsageError(f"--shard {name!r}: there are {', '.join(stages)}, each with /0 to /{partitions - 1}")
    return stage, int(number)


def _warn_of_config(config: Config, past: Past) -> None:
    was = past.config_of()
    if was != config.hash():
        print(
            f"tidegate: warning: the journal of {past.shard} was written under configuration {was}, this one is "
            f"{config.hash()}: what decided then may not be what decides here",
            file=sys.stderr,
        )


def _why(config: Config, rewind: Rewind, reached: Reached, sent: Any, alert: Any) -> dict[str, Any]:
    """Everything that is known of why the alert came."""
    from stream.runtime.kafka.rewind import windows_before
    from stream.surface import journal_text
    from stream.surface.cli_kafka import clients_of

    assert reached.alert is not None
    cause = reached.cause
    record = None
    if cause is not None and cause.source is not None:
        record = rewind.record(cause.source, cause.last)
    windows = windows_before(config, clients_of(config), alert, sent.record.timestamp_s)
    return journal_text.alert_document(sent, alert, reached.alert.value, cause, record, windows)


def _write_state(path: Path, reached: Reached) -> dict[str, Any]:
    from stream.surface import outcome

    state = reached.shard.machine.snapshot()
    outcome.write(path, state)
    return {"file": str(path), "bytes": len(state), "sha256": hashlib.sha256(state).hexdigest()}


@contextmanager
def _steps(title: str) -> Iterator[Step]:
    """Progress of a walk, as of a replay: records a second, the workers' clock."""
    from stream.runtime.replay import Progress

    start = time.monotonic()
    with console.progress(title) as show:
        yield lambda share, records, clock: show(Progress(share, records, clock, 0, time.monotonic() - start))


def _moment(option: str, text: str) -> float:
    from stream.runtime.travel import ClockAt, point_of

    point = point_of(text)
    if not isinstance(point, ClockAt):
        raise click.UsageError(f"{option} {text!r} is no moment; write 2026-12-01T08:00:00Z")
    return point.clock
