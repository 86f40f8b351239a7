"""From a tree of plain values, as YAML gives it, to typed structs. Owns how every fault is told with its path; refuses
to know what settings there are."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Union, get_args, get_origin

import msgspec


def build(kind: type[msgspec.Struct], tree: Any, path: str, faults: list[str]) -> Any:
    """A struct, made field by field, so that one fault does not hide the next; None where it cannot be made. Faults are
    added to `faults`, each with its path. A type that has a method `read` reads its value itself."""
    if not isinstance(tree, dict):
        faults.append(f"{path or 'the file'}: expected a mapping, found {_kind_of(tree)}")
        return None
    hints = typing.get_type_hints(kind)
    prefix = f"{path}." if path else ""
    for key in tree:
        if key not in hints:
            faults.append(f"{prefix}{key}: unknown setting{meant(key, hints)}")
    values: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        if field.name in tree:
            values[field.name] = _value(hints[field.name], tree[field.name], prefix + field.name, faults)
        elif field.required:
            faults.append(f"{prefix}{field.name}: missing")
    try:
        return kind(**values)
    except TypeError:  # a required field is missing, which has been said
        return None
    except ValueError as error:  # what the values mean together
        faults.append(f"{path}: {error}")
        return None


def meant(word: Any, known: Iterable[str]) -> str:
    """The word that was likely meant, if one is close."""
    close = difflib.get_close_matches(str(word), known, 1)
    return f"; did you mean {close[0]}?" if close else ""


def _kind_of(tree: Any) -> str:
    return "nothing" if tree is None else f"{type(tree).__name__} {tree!r}"


def _value(hint: Any, tree: Any, path: str, faults: list[str]) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if tree is None and type(None) in arguments:
            return None
        inner = [a for a in arguments if a is not type(None)]
        if len(inner) == 1:
            return _value(inner[0], tree, path, faults)
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct) and not hasattr(hint, "read"):
        return build(hint, tree, path, faults)
    if origin is dict and isinstance(tree, dict):
        return {str(key): _value(arguments[1], value, f"{path}.{key}", faults) for key, value in tree.items()}
    if origin is list and isinstance(tree, list):
        return [_value(arguments[0], value, f"{path}[{i}]", faults) for i, value in enumerate(tree)]
    if hasattr(hint, "read"):
        try:
            return hint.read(tree)
        except ValueError as error:
            faults.append(f"{path}: {error}")
            return None
    if origin is typing.Literal and isinstance(tree, str):
        if tree not in arguments:
            faults.append(f"{path}: {tree!r} is none of {', '.join(map(str, arguments))}{meant(tree, arguments)}")
            return None
        return tree
    if isinstance(tree, datetime) and hint is str:  # YAML reads a bare timestamp as one
        return tree.isoformat()
    if isinstance(tree, (float, int)) and hint is str:
        faults.append(f"{path}: expected text, found {tree!r}; put it in quotes")
        return None
    try:
        return msgspec.convert(tree, hint)
    except msgspec.ValidationError as error:
        faults.append(f"{path}: {str(error)[0].lower()}{str(error)[1:]}")
        return None
