"""Detector state to bytes and back: msgpack with numpy arrays. Knows nothing of what the states mean."""

from __future__ import annotations

from typing import Any, TypeVar, get_origin

import msgspec
import numpy as np

S = TypeVar("S", bound=msgspec.Struct)


def pack(state: msgspec.Struct) -> bytes:
    """State as msgpack; arrays keep their type and shape."""
    return msgspec.msgpack.encode(state, enc_hook=_array_out)


def unpack(kind: type[S], version: int, value: bytes) -> S:
    """The inverse of `pack` for a struct with a field `version`.

    Raises ValueError where the bytes are of another kind or version.
    """
    try:
        state = msgspec.msgpack.decode(value, type=kind, dec_hook=_array_in)
    except (msgspec.DecodeError, TypeError, ValueError) as error:
        raise ValueError(f"not the state of a detector ({kind.__name__}): {error}") from error
    found = getattr(state, "version", None)
    if found != version:
        raise ValueError(f"the state of {kind.__name__} has version {found}, this program reads {version}")
    return state


def _array_out(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [value.dtype.str, list(value.shape), np.ascontiguousarray(value).tobytes()]
    raise NotImplementedError(f"{type(value).__name__} does not belong in state")


def _array_in(kind: Any, value: Any) -> Any:
    if get_origin(kind) is np.ndarray:
        dtype, shape, data = value
        return np.frombuffer(data, np.dtype(dtype)).reshape(shape).copy()
    raise NotImplementedError(kind)
