"""What people may order, and who may order what, as words: for the command line and the configuration.

Owns the list of actions and what is wrong with grants. Refuses to know keys and signatures (`stream.commands`), and
imports nothing heavy: the command line reads it at every start.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

ACTIONS: Final = (
    "pause", "resume", "update", "relearn", "publish", "promote", "rollback", "approve", "reject", "halt", "retire",
    "acknowledge", "mute",
)  # fmt: skip
"""Every action that a stage obeys."""

May: TypeAlias = list[str] | str
"""Actions that a key may order, or `all`."""

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
"""Of a key: whose it is."""

VALID_S_MAX: Final = 604_800.0
"""The longest life of a signed command. It bounds for how long an id is kept."""


def faults(at: str, grants: Mapping[str, May]) -> Iterator[str]:
    """Everything that is wrong with a configuration's grants, each with its path."""
    for name, granted in grants.items():
        if not NAME.fullmatch(name):
            yield f"{at}.{name}: write letters, digits, '_', '.' and '-', at most 40"
        if isinstance(granted, str):
            if granted != "all":
                yield f"{at}.{name}: write all, or a list of actions such as [acknowledge, mute]"
            continue
        for i, action in enumerate(granted):
            if action not in ACTIONS:
                close = difflib.get_close_matches(action, ACTIONS, 1)
                hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(ACTIONS)}"
                yield f"{at}.{name}[{i}]: no action {action!r}; {hint}"
