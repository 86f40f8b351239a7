"""Constraints as a file that a person reads and edits (`tidegate constraints`). Owns its layout and comments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from detectors import constraint_text
from detectors.constraints import NORM
from stream import yaml_text
from stream.config import Config
from stream.events import Column
from stream.runtime import constraints
from stream.surface.console import count

LINE_CHARS: Final = 120

HEAD: Final = """\
# What the values of model {model!r} may be, learned from the first {rows} rows of {file}.
# Edit it, and name it in the configuration: models.{model}.constraints: FILE
# The share of values that break a constraint is watched like any other stream (invalid/<feature>), against its share
# in the reference. A feature without an entry is not checked.
#
#   type          number, text, boolean or embedding (a list of numbers, checked by its norm)
#   low, high     the smallest and the largest value; learned ones leave room beyond what was seen
#   whole         true: integers only
#   categories    the only texts there are; learned where each was seen often
#   length_max    characters of a text
#   numbers       true: a text may also be a number
#   missing_max   a missing share up to this is no fault
"""


def render(config: Config, data: Path) -> str:
    """The file's text, with what was seen of each feature as a comment."""
    assert config.input is not None  # the feed demands it
    learned = constraints.learn(config, data)
    parts = [HEAD.format(model=config.input.model, rows=count(learned.rows), file=data.name)]
    for name, plain in constraint_text.to_plain(learned.constraints).items():
        column = learned.columns.get(name + NORM if plain["type"] == "embedding" else name)
        dumped = dump({name: plain})
        parts.append(f"# {_seen(column)}\n{dumped}" if column is not None else dumped)
    return "\n".join(parts)


def dump(plain: Mapping[str, Mapping[str, Any]]) -> str:
    """As YAML, letters as they are; escaped where that would be read otherwise (PyYAML folds U+0085 to a space)."""
    readable: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=LINE_CHARS)
    if yaml_text.read(readable) == plain:
        return readable
    return str(yaml.safe_dump(plain, sort_keys=False, width=LINE_CHARS))


def _seen(column: Column) -> str:
    """What the rows held."""
    known = column.values >= 0 if column.words is not None else ~np.isnan(column.values)
    missing = f"missing in {100 * (1 - known.mean()):.3g}% of the rows"
    values = column.values[known]
    if not len(values):
        return missing
    if column.words is None:
        return f"seen: {values.min():.6g} to {values.max():.6g}; {missing}"
    distinct = np.unique(values)
    longest = max(len(column.words[k]) for k in distinct)
    return f"seen: {count(len(distinct))} different texts, the longest of {longest} characters; {missing}"
