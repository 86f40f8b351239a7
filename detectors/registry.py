"""Detectors by name. Knows how each is made; nothing of what it does.

Names: `auto`, `blocks`, `counts`, `season`, River's (`ADWIN`, `DDM`, ...), entry points of the group
`tidegate.detectors`, or the path of a class that is called with (streams, budget, seed, **parameters) and keeps
`contract.Detector`.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, TypeAlias

from detectors import river
from detectors.auto import Auto
from detectors.blocks import Blocks
from detectors.contract import Budget, Detector, Stream
from detectors.counts import Counts
from detectors.season import Season

Maker: TypeAlias = Callable[..., Detector]

GROUP = "tidegate.detectors"
OWN: Mapping[str, Maker] = {"auto": Auto, "blocks": Blocks, "counts": Counts, "season": Season}
METHODS = ("fit", "update", "snapshot", "restore", "status")


def make(
    path: str, parameters: Mapping[str, Any], streams: Sequence[Stream], budget: Budget, seed: int = 0
) -> Detector:
    """The detector of this name for a group of streams, not yet fitted.

    Raises ValueError, with what to write instead, where the name or a parameter is unknown, a parameter has a value
    that the detector refuses, or a random detector has no seed of its own.
    """
    if path in river.NAMES:
        return river.make(path, parameters, streams, seed)
    maker = _find(path)
    own = {name: value for name, value in parameters.items() if name != "seed"}
    try:
        inspect.signature(maker).bind(streams, budget, seed, **own)
    except TypeError as error:
        known = [name for name in inspect.signature(maker).parameters if name not in ("streams", "budget")]
        raise ValueError(f"detector {path!r}: {error}; its parameters are {', '.join(known)}") from error
    return maker(streams, budget, parameters.get("seed", seed), **own)


def names() -> list[str]:
    """Every name that `make` knows, besides class paths."""
    return [*OWN, *river.NAMES, *sorted(entry.name for entry in entry_points(group=GROUP))]


def _find(path: str) -> Maker:
    """What makes the detector of this name. Raises ValueError with the nearest known name."""
    if path in OWN:
        return OWN[path]
    for entry in entry_points(group=GROUP):
        if entry.name == path:
            return _checked(path, entry.load())
    if "." in path:
        return _checked(path, _load(path))
    known = {name.lower(): name for name in names()}
    near = difflib.get_close_matches(path.lower(), known, n=1)
    hint = f"did you mean {known[near[0]]!r}? " if near else ""
    raise ValueError(f"no detector is called {path!r}; {hint}Known: {', '.join(names())}, or the path of a class")


def _load(path: str) -> object:
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"detector {path!r} cannot be loaded: {error}") from error


def _checked(path: str, found: object) -> Maker:
    lacking = [method for method in METHODS if not callable(getattr(found, method, None))]
    if lacking or not callable(found):
        raise ValueError(f"{path!r} is not a detector: it lacks {', '.join(lacking) or 'a constructor'}")
    return found
