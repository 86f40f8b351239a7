"""What a run leaves: the closing table, the whole result as JSON, a report. Owns where these go, and that a place that
cannot be written is told before the run and not after it; refuses to know what stands in them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stream.errors import TidegateError
from stream.surface import summary

if TYPE_CHECKING:
    from stream.runtime.replay import Result


def demand_places(*paths: Path | None) -> None:
    """Directories for what a run will write. Raises TidegateError where there can be none."""
    for path in paths:
        if path is not None:
            _make_place(path)


def leave(result: Result, json_file: Path | None, report_file: Path | None) -> dict[str, Any]:
    """Says what came of a run, and writes what is asked for; gives the result as a document."""
    document = result.to_dict()
    for line in summary.lines(document):
        click.echo(line)
    if json_file is not None:
        write(json_file, result.to_json())
    if report_file is not None:
        from stream.surface import report  # Plotly: half a second

        write(report_file, report.render(document).encode())
    return document


def write(path: Path, content: bytes) -> None:
    """Raises TidegateError where it cannot be written."""
    _make_place(path)
    try:
        path.write_bytes(content)
    except OSError as error:
        raise TidegateError(f"{path}: cannot be written: {error.strerror}") from error


def _make_place(path: Path) -> None:
    place = path.parent
    try:
        if not place.is_dir():
            place.mkdir(parents=True)
    except OSError as error:
        reason = "Not a directory" if place.exists() else error.strerror
        raise TidegateError(f"{path}: cannot be written: {reason}") from error
    if not os.access(path if path.exists() else place, os.W_OK):
        raise TidegateError(f"{path}: cannot be written: no permission")
