"""River's drift detectors as plain data and back, without pickle. Knows which classes they are made of, no others.

Bytes of doubtful origin can therefore raise ValueError, but never run anything; and equal states have equal bytes. Not
for learners: their objects are too many kinds (`learners` opens signed pickles through an allowlist).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from river import drift, stats
from river._river_rust import drift as rust_drift  # River's own compiled helpers: state by their pickle protocol
from river._river_rust import stats as rust_stats
from river.drift import binary
from river.drift.binary.hddm_w import SampleInfo

_KNOWN: Final = {
    "ADWIN": drift.ADWIN,
    "PageHinkley": drift.PageHinkley,
    "KSWIN": drift.KSWIN,
    "DDM": binary.DDM,
    "EDDM": binary.EDDM,
    "FHDDM": binary.FHDDM,
    "HDDMA": binary.HDDMA,
    "HDDMW": binary.HDDMW,
    "SampleInfo": SampleInfo,
    "Mean": stats.Mean,
    "Var": stats.Var,
    "EWMean": stats.EWMean,
}
_COMPILED: Final = {"AdaptiveWindowing": rust_drift.AdaptiveWindowing, "RsEWMean": rust_stats.RsEWMean}
_Generator: Final = type(drift.KSWIN(seed=0)._rng)
"""Python's own generator; it only comes in with KSWIN, whose seed is given, and is never asked for a number here."""

_METHODS: Final = ("_test_increase", "_test_decrease", "_test_both")
"""PageHinkley keeps which of its own tests it runs as a bound method."""


def freeze(value: Any) -> Any:
    """Plain data for msgpack. Raises TypeError for anything that River's detectors are not made of."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    name = type(value).__name__
    if isinstance(value, deque):
        return ["deque", value.maxlen, [freeze(item) for item in value]]
    if isinstance(value, _Generator):
        version, numbers, gauss = value.getstate()
        return ["random", version, list(numbers), gauss]
    if _KNOWN.get(name) is type(value):
        return ["object", name, {key: _freeze_field(value, field) for key, field in vars(value).items()}]
    if _COMPILED.get(name) is type(value):
        reduced = value.__reduce_ex__(2)
        return ["compiled", name, list(reduced[1][1:]), reduced[2]]
    raise TypeError(f"{type(value).__module__}.{name} is not part of a drift detector of River")


def thaw(data: Any) -> Any:
    """The inverse of `freeze`. Raises ValueError where the data is not such."""
    if not isinstance(data, list):
        return data
    try:
        kind, *rest = data
        return _THAW[kind](*rest)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"not the state of a drift detector of River: {error!r}") from error


def _freeze_field(owner: Any, value: Any) -> Any:
    method = getattr(value, "__name__", "")
    if getattr(value, "__self__", None) is owner and method in _METHODS:
        return ["method", method]
    return freeze(value)


def _thaw_object(name: str, fields: dict[str, Any]) -> Any:
    made = _KNOWN[name].__new__(_KNOWN[name])
    for key, data in fields.items():
        if isinstance(data, list) and data[:1] == ["method"] and data[1] in _METHODS:
            vars(made)[key] = getattr(made, data[1])
        else:
            vars(made)[key] = thaw(data)
    return made


def _thaw_compiled(name: str, arguments: list[Any], state: bytes) -> Any:
    made = _COMPILED[name].__new__(_COMPILED[name], *arguments)
    try:
        made.__setstate__(state)
    except BaseException as error:  # a panic of compiled code is no Exception, and its class cannot be imported
        if type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"the compiled state of {name} cannot be read") from error
    return made


def _thaw_random(version: int, numbers: list[int], gauss: float | None) -> Any:
    made = _Generator(0)
    made.setstate((version, tuple(numbers), gauss))
    return made


_THAW: Final[dict[str, Callable[..., Any]]] = {
    "deque": lambda maxlen, items: deque((thaw(item) for item in items), maxlen),
    "random": _thaw_random,
    "object": _thaw_object,
    "compiled": _thaw_compiled,
}
