"""A state in named sections, so that what has not changed need not be written again. Owns the form in which sections
make one state; refuses to know what is in them and where they are kept."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, Protocol, runtime_checkable

import msgspec

from stream.contract import Stage
from stream.errors import StateError

LENGTH_BYTES: Final = 4
ALL: Final = "all"
"""The only section of a stage that does not cut its state."""


@runtime_checkable
class Sectioned(Stage, Protocol):
    """A stage whose state is large and mostly the same as a moment ago."""

    def sections(self, known: Collection[str]) -> dict[str, bytes | None]:
        """The state by section. Of those that lie in `known`, what can never change is None.

        A section that is not immutable is a function of the log alone. `together` of all sections, the immutable ones
        as they were when they were handed out, is a state to restore; `sections(())` together is a `snapshot`.
        """


def sections_of(stage: Stage, known: Collection[str] = ()) -> dict[str, bytes | None]:
    """The sections of any stage."""
    return stage.sections(known) if isinstance(stage, Sectioned) else {ALL: stage.snapshot()}


def together(sections: Mapping[str, bytes]) -> bytes:
    """One state of several sections: a table of (name, size), its length before it, and the sections in order."""
    if list(sections) == [ALL]:
        return sections[ALL]
    table = msgspec.msgpack.encode([(name, len(payload)) for name, payload in sections.items()])
    return b"".join([len(table).to_bytes(LENGTH_BYTES, "big"), table, *sections.values()])


def apart(state: bytes) -> dict[str, memoryview]:
    """The inverse of `together` for more than one section. Raises StateError where it is none."""
    view = memoryview(state)
    begin = LENGTH_BYTES + int.from_bytes(view[:LENGTH_BYTES], "big")
    try:
        table = msgspec.msgpack.decode(view[LENGTH_BYTES:begin], type=list[tuple[str, int]])
    except msgspec.DecodeError as error:
        raise StateError(f"not a state in sections: {error}") from error
    found: dict[str, memoryview] = {}
    for name, size in table:
        found[name] = view[begin : begin + size]
        begin += size
    if begin != len(view):
        raise StateError(f"not a state in sections: {len(view)} bytes where the table says {begin}")
    return found
