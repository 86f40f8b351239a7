"""River objects from configuration: class paths with parameters, nested, lists composed into pipelines.

Owns reading `{river.linear_model.LogisticRegression: {optimizer: {river.optim.SGD: {lr: 0.05}}}}` and the faults in it.
Refuses to know what the objects are for (`learners.estimators`). Every fault is a ValueError for the operator.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from typing import Any, Final

import river
from river import compose

_SEEDS: Final = ("seed", "random_state")


def build(path: str, parameters: Mapping[str, Any]) -> Any:
    """The object of a class path, `pipeline` included, with its parameters built recursively.

    Raises ValueError for an unknown class or parameter, a value that the class refuses, and a random class without a
    seed: its results could not be repeated.
    """
    if path == "pipeline":
        steps = parameters.get("steps")
        if not isinstance(steps, (list, tuple)) or not steps or set(parameters) != {"steps"}:
            raise ValueError("pipeline: give a list of class paths, the estimator last")
        return compose.Pipeline(*(_value(step) for step in steps))
    found = _find(path)
    arguments = {name: _value(value) for name, value in parameters.items()}
    signature = inspect.signature(found)
    _check_names(path, signature, arguments)
    for seed in _SEEDS:
        if seed in signature.parameters and arguments.get(seed) is None:
            raise ValueError(f"{path} is random and has no seed; add {seed}: 1")
    try:
        return found(**arguments)
    except (TypeError, ValueError, AttributeError, NotImplementedError) as error:
        raise ValueError(f"{path}: {error}") from error


def _value(value: Any) -> Any:
    """A parameter: a class path or a dict of one class path is built, the rest is taken as it is."""
    if isinstance(value, str) and _is_path(value):
        return build(value, {})
    if isinstance(value, Mapping) and len(value) == 1:
        name, inner = next(iter(value.items()))
        if name == "pipeline":
            return build("pipeline", {"steps": inner})
        if isinstance(name, str) and _is_path(name):
            return build(name, inner or {})
    if isinstance(value, (list, tuple)):
        return [_value(item) for item in value]
    return value


def _is_path(text: str) -> bool:
    return text.startswith("river.") and text.count(".") >= 2 and " " not in text


def _check_names(path: str, signature: inspect.Signature, arguments: Mapping[str, Any]) -> None:
    kinds = {p.kind for p in signature.parameters.values()}
    for name in arguments:
        if name not in signature.parameters and inspect.Parameter.VAR_KEYWORD not in kinds:
            raise ValueError(f"{path} has no parameter {name}{_did_you_mean(name, list(signature.parameters))}")


def _find(path: str) -> type:
    module_name, _, name = path.rpartition(".")
    if not _is_path(path):
        raise ValueError(f"no class {path}{_did_you_mean(path.rpartition('.')[2], _every_class())}")
    try:
        module = importlib.import_module(module_name)
    except ImportError:
        raise ValueError(f"no class {path}{_did_you_mean(name, _every_class())}") from None
    found = getattr(module, name, None)
    if not isinstance(found, type):
        names = [n for n, value in vars(module).items() if isinstance(value, type) and not n.startswith("_")]
        hint = _did_you_mean(name, names) or _did_you_mean(name, _every_class())
        raise ValueError(f"no class {path}{hint}")
    return found


def _did_you_mean(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, 1)
    exact = [full for full in names if full.rpartition(".")[2] == name] or close
    if not exact:
        by_end = {full.rpartition(".")[2]: full for full in names}
        exact = [by_end[end] for end in difflib.get_close_matches(name, by_end, 1)]
    return f"; did you mean {exact[0]}?" if exact else ""


def _every_class() -> list[str]:
    """Class paths of River's public packages; read only when an error needs a hint."""
    out = []
    for info in pkgutil.iter_modules(river.__path__):
        if info.ispkg and not info.name.startswith("_") and info.name not in ("datasets", "checks", "stream"):
            module = importlib.import_module(f"river.{info.name}")
            out += [f"river.{info.name}.{name}" for name in getattr(module, "__all__", ())]
    return out
