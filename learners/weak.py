"""Weak labels: rules over features, written in the configuration, each of which votes like an annotator or abstains.

Owns the form of the rules, its faults in words, and their votes; `learners.annotators` makes one label of them, and
learns how far each rule is to be believed. Refuses to know where labels come from otherwise, and code of users.

A rule is a condition, the label it votes for, and a confidence:

    weak_labels:
      large: {if: {feature: amount, above: 1000}, label: 1, confidence: 0.7}
      usual: {if: {all: [{feature: country, one_of: [NL, BE]}, {not: {feature: amount, above: 50}}]}, label: 0}

A comparison with a feature that is missing, or of another type than what it is compared with, is unknown, and so is its
negation; a rule whose condition is not true, be it false or unknown, abstains (Kleene's logic of three values). What
rules say together is a label model (Ratner and others 2017, Snorkel) with Dawid-Skene in the place of its factor graph.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from learners.annotators import Vote
from learners.contract import FeatureDict, Label
from learners.metrics import Task

PREFIX: Final = "rule:"
"""Before a rule's name where it stands among annotators."""

RULES_MAX: Final = 16
"""They vote beside people, and an event takes so many votes of both as `stream.limits.VOTES_MAX` says. Each is asked at
about 0.3 us a comparison."""

DEPTH_MAX: Final = 10
"""Conditions within conditions; deeper ones nobody reads."""

Condition: TypeAlias = Callable[[FeatureDict], bool | None]
"""True, false, or None where the features do not say."""

_KEYS: Final = ("if", "label", "confidence")
_COMBINING: Final = ("all", "any", "not")
_COMPARING: Final = ("above", "at_least", "below", "at_most", "is", "one_of", "missing")


class WeakRule(NamedTuple):
    """One rule, read. `annotator` is its name among annotators."""

    annotator: str
    holds: Condition
    vote: Vote


def parse(tree: Any, task: Task) -> tuple[list[WeakRule], list[str]]:
    """Rules from plain values of a configuration, and every fault with its path; a rule with faults is left out.

    >>> parse({"big": {"if": {"feature": "amount", "abvoe": 3}, "label": 1}}, "binary")[1]
    ['big.if.abvoe: unknown key; did you mean above?', 'big.if: compares with nothing; write above, at_least, ...']
    """
    if not isinstance(tree, dict):
        return [], [f"expected a mapping of rules by name, found {_kind_of(tree)}"]
    faults = [f"{len(tree)} rules; at most {RULES_MAX}"] if len(tree) > RULES_MAX else []
    rules = []
    for key, each in tree.items():
        own: list[str] = []
        made = _rule(str(key), each, task, own)
        if made is not None and not own:
            rules.append(made)
        faults += own
    return rules, faults


def votes(rules: Iterable[WeakRule], features: FeatureDict) -> list[Vote]:
    """What the rules that do not abstain say of one event, in their order.

    >>> rules, _ = parse({"big": {"if": {"feature": "amount", "above": 3}, "label": 1, "confidence": 0.7}}, "binary")
    >>> votes(rules, {"amount": 4}), votes(rules, {"amount": 3}), votes(rules, {"amount": None})
    ([Vote(annotator='rule:big', label=1, confidence=0.7)], [], [])
    """
    return [rule.vote for rule in rules if rule.holds(features)]


def _rule(name: str, tree: Any, task: Task, faults: list[str]) -> WeakRule | None:
    if not isinstance(tree, dict):
        faults.append(f"{name}: expected a mapping with if, label and confidence, found {_kind_of(tree)}")
        return None
    faults += [f"{name}.{key}: unknown key{_did_you_mean(key, _KEYS)}" for key in tree if key not in _KEYS]
    faults += [f"{name}.{key}: missing" for key in ("if", "label") if key not in tree]
    holds = _condition(f"{name}.if", tree["if"], faults, 1) if "if" in tree else None
    label, confidence = tree.get("label"), tree.get("confidence", 1.0)
    if "label" in tree:
        fault = _label_fault(label, task)
        faults += [f"{name}.label: {fault}"] if fault else []
    if not _is_number(confidence) or not 0.0 < confidence <= 1.0:
        faults.append(f"{name}.confidence: {confidence!r}; write a number above 0, at most 1")
    if holds is None or label is None or faults:
        return None
    return WeakRule(PREFIX + name, holds, Vote(PREFIX + name, label, float(confidence)))


def _label_fault(label: Any, task: Task) -> str | None:
    if task == "regression":
        return None if _is_number(label) else f"{label!r}; a regression needs a number"
    if task == "binary" and label not in (0, 1):
        return f"{label!r}; a binary task knows 1 (positive) and 0"
    return (
        None if isinstance(label, str) or _is_number(label, true=True) else f"expected a class, found {_kind_of(label)}"
    )


def _condition(path: str, tree: Any, faults: list[str], depth: int) -> Condition | None:
    """The condition as one call; None, and its faults with their paths, where it cannot be read."""
    if not isinstance(tree, dict):
        faults.append(f"{path}: expected a mapping such as {{feature: amount, above: 1000}}, found {_kind_of(tree)}")
        return None
    if depth > DEPTH_MAX:
        faults.append(f"{path}: more than {DEPTH_MAX} conditions within each other")
        return None
    combining = [key for key in tree if key in _COMBINING]
    if not combining:
        return _comparison(path, tree, faults)
    if len(tree) > 1:
        faults.append(f"{path}: {combining[0]} stands alone; put {', '.join(map(str, tree))} into one list under all")
        return None
    key, inner = combining[0], tree[combining[0]]
    if key == "not":
        part = _condition(f"{path}.not", inner, faults, depth + 1)
        return None if part is None else _negated(part)
    if not isinstance(inner, list) or not inner:
        faults.append(f"{path}.{key}: expected a list of conditions, found {_kind_of(inner)}")
        return None
    parts = [_condition(f"{path}.{key}[{i}]", each, faults, depth + 1) for i, each in enumerate(inner)]
    whole = [part for part in parts if part is not None]
    return _combined(whole, key == "all") if len(whole) == len(parts) else None


def _comparison(path: str, tree: dict[Any, Any], faults: list[str]) -> Condition | None:
    """One feature against one or several values, all of which must hold."""
    before = len(faults)
    known = ("feature", *_COMPARING, *_COMBINING)
    faults += [f"{path}.{key}: unknown key{_did_you_mean(key, known)}" for key in tree if key not in known]
    name = tree.get("feature")
    if not isinstance(name, str) or not name:
        faults.append(f"{path}.feature: " + ("missing" if name is None else f"expected a name, found {_kind_of(name)}"))
    asked = [key for key in tree if key in _COMPARING]
    if not asked:
        faults.append(f"{path}: compares with nothing; write {', '.join(_COMPARING[:2])}, ...")
    parts = []
    for key in asked:
        fault = _value_fault(key, tree[key])
        if fault:
            faults.append(f"{path}.{key}: {fault}")
        elif isinstance(name, str):
            parts.append(_asking(name, key, tree[key]))
    if len(faults) > before:
        return None
    return parts[0] if len(parts) == 1 else _combined(parts, True)


def _value_fault(key: str, value: Any) -> str | None:
    if key == "missing":
        return None if isinstance(value, bool) else f"expected true or false, found {_kind_of(value)}"
    if key == "one_of":
        fit = isinstance(value, list) and value and all(isinstance(x, str) or _is_number(x, true=True) for x in value)
        return None if fit else f"expected a list of words or numbers, found {_kind_of(value)}"
    if key == "is":
        fit = isinstance(value, str) or _is_number(value, true=True)
        return None if fit else f"expected a word or a number, found {_kind_of(value)}"
    return None if _is_number(value) else f"expected a number, found {_kind_of(value)}"


def _asking(name: str, key: str, value: Any) -> Condition:
    """One comparison. Numbers are compared with numbers, words with words."""
    if key == "missing":
        return lambda x: _is_missing(x.get(name)) is value
    if key in ("is", "one_of"):
        words = frozenset(each for each in (value if key == "one_of" else [value]) if isinstance(each, str))
        numbers = frozenset(each for each in (value if key == "one_of" else [value]) if not isinstance(each, str))
        return lambda x: _is_among(x.get(name), words, numbers)
    compare = _NUMBERS[key]

    def holds(x: FeatureDict) -> bool | None:
        found = x.get(name)
        if isinstance(found, int | float) and found == found:
            return compare(found, value)
        return None

    return holds


_NUMBERS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "above": lambda found, value: found > value,
    "at_least": lambda found, value: found >= value,
    "below": lambda found, value: found < value,
    "at_most": lambda found, value: found <= value,
}


def _is_among(found: Any, words: frozenset[str], numbers: frozenset[Label]) -> bool | None:
    if isinstance(found, str):
        return found in words if words else None
    if isinstance(found, int | float) and found == found:
        return found in numbers if numbers else None
    return None


def _is_missing(found: Any) -> bool:
    return found is None or found != found


def _negated(part: Condition) -> Condition:
    def holds(x: FeatureDict) -> bool | None:
        found = part(x)
        return None if found is None else not found

    return holds


def _combined(parts: list[Condition], every: bool) -> Condition:
    """All of them, or any: one that decides does so whatever is unknown beside it."""

    def holds(x: FeatureDict) -> bool | None:
        found: bool | None = every
        for part in parts:
            answer = part(x)
            if answer is not every:
                if answer is not None:
                    return answer
                found = None
        return found

    return holds


def _is_number(value: Any, true: bool = False) -> bool:
    """A finite number; `true`: or true or false."""
    return isinstance(value, int | float) and (true or not isinstance(value, bool)) and math.isfinite(value)


def _kind_of(value: Any) -> str:
    if value is None:
        return "nothing"
    return f"{'an empty ' if value in ([], {}) else 'a '}{type(value).__name__}"


def _did_you_mean(key: Any, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(str(key), list(known), 1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(known)}"
