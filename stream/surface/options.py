"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

FILE = click.Path(dir_okay=False, path_type=Path)
CONFIG = click.option("--config", "-c", "config_file", type=FILE, required=True, help="The YAML configuration.")

RESULT = click.option("--json", "json_file", type=FILE, help="Write the whole result here.")
REPORT = click.option("--report", "report_file", type=FILE, help="Write a report (one HTML file) here.")
FAIL_ON = click.option(
    "--fail-on", type=click.Choice(["alert"]), help="Exit 1 when an alert fired (above information level)."
)
