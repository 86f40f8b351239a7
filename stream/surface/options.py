"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

FILE = click.Path(dir_okay=False, path_type=Path)
CONFIG = click.option("--config", "-c", "config_file", type=FILE, required=True, help="The YAML configuration.")
