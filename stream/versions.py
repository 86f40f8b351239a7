"""The version that a stage's state was written in, looked at before anything else of it. Owns what is said of a state
that this program does not read; refuses to know what is in it."""

from __future__ import annotations

from typing import Final

import msgspec

from stream.errors import StateError

ANEW: Final = "stop the workers and begin anew from the records that are left, as LIMITS.md says of deleted records"
"""What can be done about a state that cannot be gone on from."""

REMEDY: Final = f"run the program that wrote it, or {ANEW}"


class _Versioned(msgspec.Struct):
    version: int


def check(stage: str, state: bytes | memoryview, known: int) -> None:
    """Raises StateError for a state of another version: one that has another shape may not even be decoded."""
    try:
        found = msgspec.msgpack.decode(state, type=_Versioned).version
    except msgspec.DecodeError as error:
        raise StateError(f"not the state of {stage}, or one of an early version ({error}): {REMEDY}") from error
    if found != known:
        raise StateError(f"the state of {stage} has version {found}, this program reads {known}: {REMEDY}")
