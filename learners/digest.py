"""Identity of a learner's state by value: the same before and after a round trip, in any process.

Two pickles of equal objects may differ (which strings are shared, in what order a set is walked), so bytes do not
identify state. This walks the values themselves, in the canonical form of `learners.state`. Refuses to know what the
values mean.
"""

from __future__ import annotations

import copyreg
import struct
from typing import Any

import numpy as np
import xxhash

from learners.state import PROTOCOL, reduction


def digest(value: Any) -> str:
    """128 bits over a value, in hexadecimal; for comparison, never for security.

    Floats count by their bits, dicts in their order, sets without, shared and cyclic references by where they were
    first met. Objects count by what pickle would keep of them.

    >>> digest({"a": [1, 2.0]}) == digest({"a": [1, 2.0]}), digest(1) == digest(1.0), digest(0.0) == digest(-0.0)
    (True, False, False)
    """
    hasher = xxhash.xxh3_128()
    _Walk(hasher).take(value)
    return hasher.hexdigest()


class _Walk:
    """One walk. `seen` numbers mutable objects by where they were met; `held` keeps them alive, so that no id is used
    twice."""

    def __init__(self, hasher: xxhash.xxh3_128, seen: dict[int, int] | None = None) -> None:
        self.hasher = hasher
        self.seen: dict[int, int] = {} if seen is None else seen
        self.held: list[Any] = []

    def put(self, tag: bytes, data: bytes = b"") -> None:
        self.hasher.update(tag + len(data).to_bytes(8, "little") + data)

    def take(self, value: Any) -> None:
        kind = type(value)
        atom = _ATOMS.get(kind)
        if atom is not None:
            self.put(kind.__name__.encode(), atom(value))
        elif isinstance(value, np.generic):
            self.put(b"scalar", value.dtype.str.encode() + value.tobytes())
        elif isinstance(value, type) or kind is _FUNCTION or kind is _BUILTIN:
            self.put(b"named", f"{value.__module__}.{value.__qualname__}".encode())
        elif kind is tuple:
            self.each(b"tuple", value)
        elif kind in (set, frozenset):
            self.unordered(value)
        elif not self.met(value):
            self.compound(value, kind)

    def met(self, value: Any) -> bool:
        """Whether the object was met before; if so, only its number counts."""
        number = self.seen.get(id(value))
        if number is None:
            self.seen[id(value)] = len(self.seen)
            self.held.append(value)
            return False
        self.put(b"again", number.to_bytes(8, "little"))
        return True

    def compound(self, value: Any, kind: type) -> None:
        if kind is list:
            self.each(b"list", value)
        elif kind is dict:
            self.pairs(value)
        elif isinstance(value, np.ndarray) and value.dtype != object:
            self.put(b"array", f"{value.dtype.str}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
        else:
            self.reduced(value, kind)

    def each(self, tag: bytes, values: Any) -> None:
        self.put(tag, len(values).to_bytes(8, "little"))
        for value in values:
            self.take(value)

    def pairs(self, value: dict[Any, Any]) -> None:
        self.put(b"dict", len(value).to_bytes(8, "little"))
        for key, entry in value.items():
            self.take(key)
            self.take(entry)

    def unordered(self, values: Any) -> None:
        self.put(b"set", b"".join(sorted(digest(value).encode() for value in values)))

    def reduced(self, value: Any, kind: type) -> None:
        """Any other object: its class, what makes it, its state, items and pairs, as pickle sees them."""
        self.put(b"object", f"{kind.__module__}.{kind.__qualname__}".encode())
        parts = reduction(value) or value.__reduce_ex__(PROTOCOL)
        self.held.append(parts)
        if isinstance(parts, str):
            self.put(b"global", parts.encode())
            return
        maker, arguments, *rest = parts
        if maker is not copyreg.__newobj__:  # type: ignore[attr-defined]
            self.take(maker)
        self.take(arguments)
        for part in rest:
            if part is None or isinstance(part, (dict, tuple, list)):
                self.take(part)
            elif hasattr(part, "__next__"):
                self.each(b"items", [*part])
            else:
                self.take(part)


def _function() -> None: ...


_FUNCTION = type(_function)
_BUILTIN = type(len)
_ATOMS: dict[type, Any] = {
    int: lambda value: str(value).encode(),
    float: lambda value: struct.pack("<d", value),
    str: lambda value: value.encode("utf-8", "surrogatepass"),
    bytes: bytes,
    bool: lambda value: b"1" if value else b"0",
    type(None): lambda value: b"",
    complex: lambda value: struct.pack("<dd", value.real, value.imag),
}
