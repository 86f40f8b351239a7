"""Constraints as people write and read them: plain values for a file and back, and in words. Owns keys, faults and
wording; refuses to know files, and how a constraint is asked."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from typing import Any, Final, get_args

import msgspec

from detectors.constraints import CATEGORY, LENGTH, RANGE, WHOLE, Constraint, Type, number_word

TYPES: Final[tuple[str, ...]] = get_args(Type)

KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "type": TYPES,
    "low": ("number", "embedding"),
    "high": ("number", "embedding"),
    "whole": ("number",),
    "categories": ("text",),
    "length_max": ("text",),
    "numbers": ("text",),
    "missing_max": TYPES,
}
"""What may be said, and of which types."""

NAMED_MAX: Final = 5
"""Categories named in a sentence; of more, their number."""


def to_plain(constraints: Mapping[str, Constraint]) -> dict[str, dict[str, Any]]:
    """Mappings and lists for a file, in the order of the struct's fields; what is not limited is left out."""
    return {name: msgspec.to_builtins(each) for name, each in constraints.items()}


def from_plain(tree: Any) -> tuple[dict[str, Constraint], list[str]]:
    """The inverse of `to_plain`, and every fault with its path.

    >>> from_plain({"age": {"type": "number", "hihg": 120}})
    ({}, ['age.hihg: unknown key; did you mean high?'])
    """
    if not isinstance(tree, dict):
        return {}, [f"expected a mapping of features, found {_kind_of(tree)}"]
    found: dict[str, Constraint] = {}
    faults: list[str] = []
    for key, each in tree.items():
        name = key if isinstance(key, str) else str(key)
        own: list[str] = []
        values = _read(name, each, own)
        if not own:
            found[name] = Constraint(**values)
        faults += own
    return found, faults


def _read(name: str, tree: Any, faults: list[str]) -> dict[str, Any]:
    if not isinstance(tree, dict):
        faults.append(f"{name}: expected a mapping, found {_kind_of(tree)}")
        return {}
    for key in tree:
        if key not in KEYS:
            faults.append(f"{name}.{key}: unknown key" + did_you_mean(str(key), KEYS))
    kind = tree.get("type")
    if kind not in TYPES:
        what = "missing" if kind is None else f"{kind!r} is none"
        faults.append(f"{name}.type: {what}; one of {', '.join(TYPES)}" + did_you_mean(str(kind), TYPES))
        return {}
    values: dict[str, Any] = {}
    for key, types in KEYS.items():
        if tree.get(key) is None:
            continue
        if kind not in types:
            faults.append(f"{name}.{key}: not for type {kind}, for {' and '.join(types)} only")
            continue
        try:
            values[key] = READERS[key](tree[key])
        except ValueError as error:
            faults.append(f"{name}.{key}: {error}")
    low, high = values.get("low"), values.get("high")
    if low is not None and high is not None and low > high:
        faults.append(f"{name}.low: {low:g} is above high ({high:g})")
    return values


def _text(value: Any) -> str:
    return str(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"expected a number, found {_kind_of(value)}")
    return float(value)


def _share(value: Any) -> float:
    if not 0 <= _number(value) <= 1:
        raise ValueError(f"expected a share from 0 to 1, found {value!r}")
    return float(value)


def _length(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"expected a number of characters, found {_kind_of(value)}")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, found {_kind_of(value)}")
    return value


def _categories(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"expected a list, found {_kind_of(value)}")
    words: list[str] = []
    for each in value:
        if isinstance(each, str):
            words.append(each)
        elif isinstance(each, (int, float)) and not isinstance(each, bool):  # YAML reads an unquoted 7 as a number
            words.append(number_word(float(each)))
        else:
            raise ValueError(f"{each!r} is no text; put categories in quotes")
    return tuple(words)


READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "type": _text,
    "low": _number,
    "high": _number,
    "whole": _flag,
    "categories": _categories,
    "length_max": _length,
    "numbers": _flag,
    "missing_max": _share,
}


def say(constraint: Constraint) -> str:
    """A constraint in a few words.

    >>> say(Constraint(type="number", low=0.0, high=45.0)), say(Constraint(type="text", categories=("a", "b")))
    ('number, 0 to 45', 'text, one of a, b')
    """
    said = ("whole " if constraint.whole else "") + constraint.type
    low, high = constraint.low, constraint.high
    norm = "norm " if constraint.type == "embedding" else ""
    if low is not None and high is not None:
        said += f", {norm}{low:.6g} to {high:.6g}"
    elif low is not None or high is not None:
        said += f", {norm}{'at least' if high is None else 'at most'} {low if high is None else high:.6g}"
    if constraint.categories is not None:
        said += f", {_one_of(constraint.categories)}"
    if constraint.length_max is not None:
        said += f", at most {constraint.length_max} characters"
    return said


def breach(constraint: Constraint, rule: int) -> str:
    """What is wrong with values that break this rule, as the rest of a sentence that begins with the feature's name.

    >>> breach(Constraint(type="number", low=0.0), RANGE), breach(Constraint(type="number"), 1)
    ('below 0', 'is no number')
    """
    low, high = constraint.low, constraint.high
    if rule == RANGE:
        norm = "norm " if constraint.type == "embedding" else ""
        if low is not None and high is not None:
            return f"{norm}outside {low:.6g} to {high:.6g}"
        return f"{norm}below {low:.6g}" if high is None else f"{norm}above {high:.6g}"
    if rule == CATEGORY:
        return f"is not {_one_of(constraint.categories or ())}"
    if rule == LENGTH:
        return f"is longer than {constraint.length_max} characters"
    if rule == WHOLE:
        return "is no whole number"
    return {
        "number": "is no number",
        "text": "is a number and no text",
        "boolean": "is neither true nor false",
        "embedding": "is no list of numbers",
    }[constraint.type]


def _one_of(categories: tuple[str, ...]) -> str:
    if len(categories) > NAMED_MAX:
        return f"one of its {len(categories)} categories"
    return f"one of {', '.join(categories)}"


def _kind_of(value: Any) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {value!r}"


def did_you_mean(word: str, known: Mapping[str, Any] | tuple[str, ...]) -> str:
    """The nearest of the known words as the end of a sentence, if one is near."""
    close = difflib.get_close_matches(word, list(known), 1)
    return f"; did you mean {close[0]}?" if close else ""
