"""Rules in the configuration vote like annotators, abstain where they do not know, and are judged (F25, F39)."""

from __future__ import annotations

import doctest
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from learners import weak
from learners.annotators import NOTHING, Annotators, Vote
from learners.contract import FeatureDict
from learners.metrics import Task
from learners.weak import DEPTH_MAX, RULES_MAX, parse, votes


def holds(condition: Any, x: FeatureDict) -> bool | None:
    rules, faults = parse({"r": {"if": condition, "label": 1}}, "binary")
    assert faults == []
    return rules[0].holds(x)


def faults_of(tree: Any, task: Task = "binary") -> list[str]:
    return parse(tree, task)[1]


def of_condition(condition: Any) -> list[str]:
    return faults_of({"r": {"if": condition, "label": 1}})


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(weak).attempted > 0 and doctest.testmod(weak).failed == 0


@pytest.mark.parametrize(
    ("condition", "true", "false", "unknown"),
    [
        ({"above": 3}, 4, 3, "4"),
        ({"at_least": 3}, 3.0, 2.9, None),
        ({"below": 3}, True, 3, float("nan")),
        ({"at_most": 3}, 3, 4, [1.0]),
        ({"above": 1, "below": 3}, 2, 3, "2"),
        ({"is": "AA"}, "AA", "BB", 3),
        ({"is": 3}, 3.0, 4, "3"),
        ({"one_of": ["a", "b"]}, "b", "c", 1),
        ({"one_of": ["a", 7]}, 7, 8, None),
        ({"missing": True}, None, 0, "never"),
        ({"missing": False}, "", float("nan"), "never"),
    ],
)
def test_a_comparison_holds_does_not_or_does_not_know(condition: Any, true: Any, false: Any, unknown: Any) -> None:
    """F25: and what it does not know, its negation does not know either."""
    asked = {"feature": "f", **condition}
    assert holds(asked, {"f": true}) is True and holds({"not": asked}, {"f": true}) is False
    assert holds(asked, {"f": false}) is False and holds({"not": asked}, {"f": false}) is True
    if unknown != "never":
        assert holds(asked, {"f": unknown}) is None and holds({"not": asked}, {"f": unknown}) is None
        assert holds(asked, {}) is None


@given(some.lists(some.sampled_from([True, False, None]), min_size=1, max_size=4))
def test_all_and_any_are_kleene_s(values: list[bool | None]) -> None:
    number = {True: 5.0, False: 1.0, None: None}
    x = {f"f{i}": number[value] for i, value in enumerate(values)}
    parts = [{"feature": f"f{i}", "above": 3} for i in range(len(values))]
    every = False if False in values else None if None in values else True
    some_one = True if True in values else None if None in values else False
    assert holds({"all": parts}, x) is every and holds({"any": parts}, x) is some_one
    assert holds({"not": {"any": [{"not": part} for part in parts]}}, x) is every


def test_every_rule_that_holds_votes_and_the_others_abstain() -> None:
    """F25."""
    rules, faults = parse(
        {
            "large": {"if": {"feature": "amount", "above": 1000}, "label": 1, "confidence": 0.7},
            "usual": {
                "if": {
                    "all": [
                        {"feature": "country", "one_of": ["NL", "BE"]},
                        {"not": {"feature": "amount", "above": 50}},
                    ]
                },
                "label": 0,
            },
        },
        "binary",
    )
    assert faults == [] and [rule.annotator for rule in rules] == ["rule:large", "rule:usual"]
    assert votes(rules, {"amount": 2_000, "country": "NL"}) == [Vote("rule:large", 1, 0.7)]
    assert votes(rules, {"amount": 20, "country": "NL"}) == [Vote("rule:usual", 0, 1.0)]
    assert votes(rules, {"amount": 20, "country": "FR"}) == votes(rules, {"country": "NL"}) == votes(rules, {}) == []


def test_every_fault_is_reported_with_its_path() -> None:
    """F25."""
    assert faults_of(
        {
            "a": {"if": {"feature": "x", "above": 3}, "labl": 1},
            "b": {"if": {"feature": "x", "above": "3"}, "label": 2, "confidence": 1.5},
            "c": 7,
            "d": {"if": {"any": [{"feature": "x"}, {"fature": "x", "is": [1]}]}, "label": 0},
            "fine": {"if": {"feature": "x", "missing": True}, "label": 0},
        }
    ) == [
        "a.labl: unknown key; did you mean label?",
        "a.label: missing",
        "b.if.above: expected a number, found a str",
        "b.label: 2; a binary task knows 1 (positive) and 0",
        "b.confidence: 1.5; write a number above 0, at most 1",
        "c: expected a mapping with if, label and confidence, found a int",
        "d.if.any[0]: compares with nothing; write above, at_least, ...",
        "d.if.any[1].fature: unknown key; did you mean feature?",
        "d.if.any[1].feature: missing",
        "d.if.any[1].is: expected a word or a number, found a list",
    ]


@pytest.mark.parametrize(
    ("condition", "fault"),
    [
        ([], "r.if: expected a mapping such as {feature: amount, above: 1000}, found an empty list"),
        ({"all": []}, "r.if.all: expected a list of conditions, found an empty list"),
        ({"not": None}, "r.if.not: expected a mapping such as {feature: amount, above: 1000}, found nothing"),
        ({"feature": "x", "above": float("inf")}, "r.if.above: expected a number, found a float"),
        ({"feature": "x", "above": True}, "r.if.above: expected a number, found a bool"),
        ({"feature": "x", "one_of": "ab"}, "r.if.one_of: expected a list of words or numbers, found a str"),
        ({"feature": "x", "missing": 1}, "r.if.missing: expected true or false, found a int"),
        ({"feature": 3, "is": 1}, "r.if.feature: expected a name, found a int"),
        (
            {"any": [{"feature": "x", "is": 1}], "feature": "y"},
            "r.if: any stands alone; put any, feature into one list under all",
        ),
    ],
)
def test_a_condition_that_cannot_be_read_says_why(condition: Any, fault: str) -> None:
    assert of_condition(condition) == [fault]


def test_bounds_on_rules_and_depth() -> None:
    one = {"if": {"feature": "x", "is": 1}, "label": 1}
    assert faults_of({f"r{i}": one for i in range(RULES_MAX)}) == []
    assert faults_of({f"r{i}": one for i in range(RULES_MAX + 1)}) == [f"{RULES_MAX + 1} rules; at most {RULES_MAX}"]
    condition: Any = one["if"]
    for _ in range(DEPTH_MAX - 1):
        condition = {"not": condition}
    assert of_condition(condition) == []
    assert "within each other" in of_condition({"not": condition})[0]


@pytest.mark.parametrize(
    ("task", "label", "fits"),
    [
        ("binary", True, True),
        ("binary", "late", False),
        ("multiclass", "late", True),
        ("multiclass", 3, True),
        ("multiclass", None, False),
        ("multiclass", [1], False),
        ("regression", 2.5, True),
        ("regression", "2.5", False),
    ],
)
def test_labels_fit_the_task(task: Task, label: Any, fits: bool) -> None:
    rules, faults = parse({"r": {"if": {"feature": "x", "is": 1}, "label": label}}, task)
    assert bool(rules) is fits and bool(faults) is not fits


def test_rules_are_judged_like_annotators_and_a_bad_one_loses_its_voice() -> None:
    """F25, F39: three fair rules and one that is wrong; no label of the world is ever seen."""
    thresholds = {"a": 0.0, "b": 0.2, "c": -0.2}
    tree: dict[str, Any] = {f"above_{n}": {"if": {"feature": n, "above": t}, "label": 1} for n, t in thresholds.items()}
    tree |= {f"below_{n}": {"if": {"feature": n, "at_most": t}, "label": 0} for n, t in thresholds.items()}
    tree["wrong"] = {"if": {"feature": "a", "missing": False}, "label": 1}
    rules, faults = parse(tree, "binary")
    assert faults == []
    draw = np.random.default_rng(1)
    made, right = Annotators("binary", "dawid_skene"), {"model": 0, "majority": 0}
    for i in range(3_000):
        y = int(draw.random() < 0.3)
        x = {n: None if draw.random() < 0.3 else float(1.5 * (y - 0.5) + draw.normal()) for n in thresholds}
        said = votes(rules, x)
        if len(said) < 2:
            continue
        if i >= 500:
            right["model"] += made.resolve(said).label == y
            right["majority"] += Annotators("binary", "majority").resolve(said).label == y
        made.learn(NOTHING, said)
    accuracy = {name: each["accuracy"] for name, each in made.figures()["annotators"].items()}
    assert accuracy["rule:wrong"] < min(a for name, a in accuracy.items() if name != "rule:wrong")
    assert right["model"] > right["majority"] + 150, right
