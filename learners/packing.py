"""State of parts that are no learners: read from msgpack, of a known shape. Learners' own state is `learners.state`.

Refuses to know what the state is of; whoever restores it checks what a shape cannot say.
"""

from __future__ import annotations

from typing import Any

import msgspec

from learners.contract import SnapshotError


def unpacked(state: bytes, kind: Any, what: str) -> Any:
    """The state as `kind`, a Struct or any type that msgspec reads; `what` names its owner to people. Raises
    SnapshotError."""
    try:
        return msgspec.msgpack.decode(state, type=kind)
    except msgspec.DecodeError as error:
        raise SnapshotError(f"not the state of {what}: {error}") from error
