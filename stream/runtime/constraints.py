"""Constraints that are files (F11): read for watch, and learned from a file's rows for a person to edit.

Owns where they come from; what they mean is `detectors.constraints`', and how they are written `constraint_text`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from detectors import constraint_text
from detectors import constraints as leaf
from detectors.constraints import Constraint
from stream import limits, yaml_text
from stream.config import Config, Model
from stream.errors import ConfigError
from stream.events import Column, Prediction, Request
from stream.joining import columns
from stream.runtime.feed import Feed
from stream.windows.sources.features import is_free_text


class Learned(NamedTuple):
    """Constraints, the columns from which they were learned, and the number of rows."""

    constraints: dict[str, Constraint]
    columns: Mapping[str, Column]
    rows: int


def load(config: Config) -> dict[str, dict[str, Constraint]]:
    """What the files say, by model. Raises ConfigError with every fault of every file and its path."""
    found = [fault for name, model in config.models.items() for fault in faults(name, model)]
    if found:
        raise ConfigError("configuration", found)
    named = {name: model for name, model in config.models.items() if model.constraints is not None}
    return {name: of_model(name, model) for name, model in named.items()}


def of_model(name: str, model: Model) -> dict[str, Constraint]:
    """What the model's file says. Raises ConfigError."""
    assert model.constraints is not None
    found, own = _read(Path(model.constraints))
    if own:
        raise ConfigError("configuration", faults(name, model))
    return found


def faults(name: str, model: Model) -> list[str]:
    """What is wrong with the model's file, each fault with its path."""
    own = [] if model.constraints is None else _read(Path(model.constraints))[1]
    return [f"models.{name}.constraints: {model.constraints}: {fault}" for fault in own]


def _read(path: Path) -> tuple[dict[str, Constraint], list[str]]:
    try:
        tree = yaml_text.load(path)
    except yaml_text.YamlError as error:
        return {}, [str(error)]
    return constraint_text.from_plain(tree)


def learn(config: Config, path: Path) -> Learned:
    """From the file's first rows, as many as the reference has: what watch would learn of them. Raises ConfigError."""
    feed = Feed(config, path)
    asked = (item.event for item in feed if isinstance(item.event, (Request, Prediction)))
    first = list(islice(asked, feed.model.reference.first))
    if not first:
        raise ConfigError(str(path), ["no rows"])
    found, _, _ = columns.table([event.features for event in first], limits.FEATURES_MAX)
    texts = [name for name, column in found.items() if is_free_text(column)]
    plain = {name: leaf.Column(column.values, column.words) for name, column in found.items()}
    return Learned(leaf.learn_all(plain, texts), found, len(first))
