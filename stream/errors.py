"""Errors, split by whose fault they are. Every message says what, where and what to do.

Bad input is not here on purpose: a record that cannot be used is an *output* (a dead letter with its reason and
position), not an exception. `InputFault` only carries that reason from the codec to the stage that writes the letter.
"""

from __future__ import annotations


class TidegateError(Exception):
    """Anything tidegate raises on purpose."""


class ConfigError(TidegateError):
    """The operator's fault: all faults of a configuration, together, each with its path."""

    def __init__(self, source: str, faults: list[str]) -> None:
        self.source = source
        self.faults = faults
        super().__init__("\n".join(f"{source}: {fault}" for fault in faults))


class StateError(TidegateError):
    """The disk's or the log's fault: state, journal or snapshot that does not fit; processing must not go on."""


class BugError(TidegateError):
    """Ours: an invariant of tidegate itself does not hold."""


class InputFault(TidegateError):  # noqa: N818  # it is a reason that travels, not an error that escapes
    """Theirs: why one record cannot be used. `code` is a stable word for counters, `reason` is for people."""

    def __init__(self, code: str, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"{code}: {reason}")
