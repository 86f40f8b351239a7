"""The commands on published models: list, show, verify, export. Owns what is said of a snapshot; where it is found is
`shelf`'s, how it leaves is `stream.runtime.registry_export`'s."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from stream.errors import TidegateError
from stream.surface import console
from stream.surface.options import FILE

if TYPE_CHECKING:
    from learners.snapshots import Header
    from stream.surface.shelf import Held

Command = Callable[..., Any]

PIPE_WIDTH: Final = 200
"""Columns of a table where there is no terminal that has a width."""

METRICS_SHOWN: Final = 3
"""In a row of the list; `show` has them all."""

PICKLE_WARNING: Final = (
    "is an unsigned pickle: whoever can change it can run code where it is loaded; "
    "prefer the .snapshot, which tidegate.load_snapshot opens"
)

TOPIC = click.option("--config", "-c", "config_file", type=FILE, help="Read the snapshots topic of this configuration.")
MODEL = click.option("--model", help="Of this model.")
LEARNER = click.option("--learner", help="Of this learner: champion, baseline, or a challenger's name.")


def _source(command: Command) -> Command:
    """A file or directory, or a topic, and which of its snapshots."""
    path = click.argument("source", required=False, type=click.Path(path_type=Path))
    return path(TOPIC(MODEL(LEARNER(command))))


VERSION = click.option("--version", help="Of this version (default: the newest).")


@click.group()
def snapshots() -> None:
    """Look at published models, and take them elsewhere. The key comes from TIDEGATE_SNAPSHOT_KEY."""


@snapshots.command("list")
@_source
@click.option("--json", "as_json", is_flag=True, help="One JSON document a line.")
def snapshots_list(
    source: Path | None, config_file: Path | None, model: str | None, learner: str | None, as_json: bool
) -> None:
    """List the snapshots of a file, a directory or a topic, and whether their signatures hold.

    \b
    Example:
      tidegate snapshots list models/
      tidegate snapshots list --config fraud.yaml --model fraud --json
    """
    import orjson

    from stream.surface import shelf

    held = shelf.only(shelf.found(source, config_file), model, learner)
    if as_json:
        for one in held:
            click.echo(orjson.dumps(one.document()))
    elif held:
        _print_table(held)
    else:
        raise TidegateError("no snapshot fits --model and --learner; without them all are listed")


@snapshots.command("show")
@_source
@VERSION
@click.option("--json", "as_json", is_flag=True, help="As a JSON document.")
def snapshots_show(
    source: Path | None,
    config_file: Path | None,
    model: str | None,
    learner: str | None,
    version: str | None,
    as_json: bool,
) -> None:
    """Show one snapshot: what it is, where it comes from, and whether all classes in it may be loaded here. Exit 2 if
    its signature does not hold or it cannot be loaded.

    \b
    Example:
      tidegate snapshots show model.snapshot
      tidegate snapshots show --config fraud.yaml --model fraud --learner champion --version 3
    """
    import orjson

    from stream.surface import shelf

    held = shelf.choose(shelf.found(source, config_file), model, learner, version)
    opened = held.trusted
    named, fault = shelf.classes(opened)
    if as_json:
        document = {**held.document(), "classes": named, "loads": fault or True}
        click.echo(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    else:
        click.echo(console.table(_rows(held, opened.header, named)))
    if fault:
        raise TidegateError(f"{held.where}: {fault}")


@snapshots.command("verify")
@click.argument("file", type=FILE)
def snapshots_verify(file: Path) -> None:
    """Check a snapshot's signature and print what it says of itself. Nothing in it is run.

    \b
    Example:
      TIDEGATE_SNAPSHOT_KEY=... tidegate snapshots verify model.snapshot
    """
    import msgspec
    import orjson

    from stream.surface import shelf

    (held,) = shelf.found(file, None)
    click.echo(orjson.dumps(msgspec.to_builtins(held.trusted.header), option=orjson.OPT_INDENT_2))


@snapshots.command("export")
@_source
@VERSION
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path(), help="Directory (default: .).")
@click.option("--unsigned-pickle", is_flag=True, help="Also a plain pickle of the model. Read the warning.")
@click.option("--to", "registry", type=click.Choice(["mlflow"]), help="Register it there instead of writing files.")
@click.option("--uri", help="The registry's address (default: MLFLOW_TRACKING_URI).")
def snapshots_export(
    source: Path | None,
    config_file: Path | None,
    model: str | None,
    learner: str | None,
    version: str | None,
    out: Path,
    unsigned_pickle: bool,
    registry: str | None,
    uri: str | None,
) -> None:
    """Write one snapshot as a signed file with its header as JSON, or register it with MLflow.

    \b
    Example:
      tidegate snapshots export --config fraud.yaml --model fraud --learner champion --out models/
      tidegate snapshots export model.snapshot --to mlflow --uri http://localhost:5000
      tidegate snapshots export model.snapshot --unsigned-pickle
    """
    from stream.runtime import registry_export
    from stream.surface import shelf

    if registry and unsigned_pickle:
        raise TidegateError("--unsigned-pickle: MLflow gets the signed snapshot; leave one of the two out")
    held = shelf.choose(shelf.found(source, config_file), model, learner, version)
    opened = held.trusted
    if registry == "mlflow":
        click.echo(f"registered {registry_export.to_mlflow(held.envelope, opened, uri)}")
        return
    for file in registry_export.to_files(held.envelope, opened.header, out):
        click.echo(f"wrote {file}")
    if unsigned_pickle:
        file = registry_export.to_pickle(opened, out)
        click.echo(f"wrote {file}")
        print(f"tidegate: warning: {file} {PICKLE_WARNING}", file=sys.stderr)


def _print_table(held: list[Held]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("model", "learner", "version", "updates", "at", "bytes", "metrics", "signature", "where"):
        table.add_column(name, justify="right" if name in ("updates", "bytes") else "left", overflow="fold")
    for one in held:
        size, at = console.count(len(one.envelope)), (one.at or "")[:16]
        if one.opened is None:
            table.add_row("?", "?", "?", "?", at, size, "", one.fault, one.where)
        else:
            h, metrics = one.opened.header, _metrics(one.opened.header, METRICS_SHOWN)
            updates = console.count(h.updates)
            table.add_row(h.model, h.learner, h.version, updates, at, size, metrics, "holds", one.where)
    out = Console(file=sys.stdout, width=None if sys.stdout.isatty() else PIPE_WIDTH, markup=False, highlight=False)
    out.print(table)


def _metrics(header: Header, most: int | None = None) -> str:
    found = header.lineage.get("metrics") or {}
    numbers = [f"{name} {value:.4g}" for name, value in found.items() if isinstance(value, (int, float))]
    return ", ".join(numbers[:most])


def _rows(held: Held, header: Header, named: dict[str, bool]) -> list[tuple[str, str]]:
    import orjson

    lineage = header.lineage
    refused = [name for name, is_allowed in named.items() if not is_allowed]
    kinds = f"{len(named)} named, all may be loaded" if named else "none named"
    return [
        ("where", held.where),
        ("signature", "holds"),
        ("model", f"{header.model}, {header.task}"),
        ("learner", header.learner),
        ("version", f"{header.version}, {console.count(header.updates)} updates"),
        ("at", held.at or "not said"),
        ("made by", f"{header.path} {orjson.dumps(header.parameters).decode()}, seed {header.seed}"),
        ("parent", str(lineage.get("parent") or "none")),
        ("examples", f"{lineage.get('from') or '?'} to {lineage.get('to') or '?'}"),
        ("configuration", str(lineage.get("config") or "not said")),
        ("metrics", _metrics(header) or "none yet"),
        ("size", f"{console.count(header.size)} bytes, sha256 {header.sha256}"),
        ("classes", f"may not be loaded: {', '.join(refused)}" if refused else kinds),
    ]
