"""Leakage: what knows the label, what is too early and what stands on both sides is found; honest data is not (F56)."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from detectors import binning, leakage, randomness
from detectors.contract import Stream
from detectors.leakage import knows_label, label_before_event, overlap, sketch
from tests.streams import Floats


def coded(*columns: Floats) -> leakage.Codes:
    stream = Stream("x", "numeric")
    return np.column_stack([binning.code(binning.learn_bins(stream, x), x) for x in columns])


def numbers(*names: str) -> list[Stream]:
    return [Stream(name, "numeric") for name in names]


def test_a_feature_that_knows_the_label_is_named() -> None:
    """F56: one that was written after the label, beside an honest one and noise; with words for people."""
    draw = np.random.default_rng(1)
    y = (draw.random(2_000) < 0.2).astype(np.int64)
    codes = coded(y * 10 + draw.normal(size=2_000), y + draw.normal(size=2_000), draw.normal(size=2_000))
    found = knows_label(numbers("refunded", "age", "noise"), codes, y, 1, model_auc=0.97)
    assert [(each.feature, each.suspect) for each in found] == [("refunded", True), ("age", False), ("noise", False)]
    assert found[0].words.startswith("refunded alone tells the label with an AUC of 1.000")
    assert "the model 0.970" in found[0].words and found[0].words.endswith("Is refunded known before the label is?")


def test_that_a_value_is_missing_may_be_what_knows() -> None:
    """F56: a closing date that only closed cases have."""
    draw = np.random.default_rng(2)
    y = draw.integers(0, 2, 500)
    date = np.where(y == 1, draw.normal(size=500), np.nan)
    found = knows_label(numbers("noise", "closed_at"), coded(draw.normal(size=500), date), y, 1)
    assert found[0].feature == "closed_at" and found[0].suspect and found[0].low > 0.9


def test_a_feature_far_above_all_others_is_suspect() -> None:
    """F56: not certain, but in a class of its own; beside another one as good it would be honest."""
    draw = np.random.default_rng(3)
    y = draw.integers(0, 2, 3_000)
    strong, other = (y * 2.3 + draw.normal(size=3_000) for _ in range(2))
    noise = draw.normal(size=(5, 3_000))
    alone = knows_label(numbers("strong", *"abcde"), coded(strong, *noise), y, 1)
    both = knows_label(numbers("strong", "other", *"abcd"), coded(strong, other, *noise[:4]), y, 1)
    assert [each.feature for each in alone if each.suspect] == ["strong"] and alone[0].value < 0.98
    assert not any(each.suspect for each in both)


@pytest.mark.parametrize(("rows", "held_min", "lowest"), [(300, 55, 0.69), (2_000, 57, 0.74)])
def test_intervals_hold_the_truth_and_chance_is_never_praised(rows: int, held_min: int, lowest: float) -> None:
    """F56: 60 samples. The interval of an honest feature holds its AUC, though its value is a little low; levels that
    know nothing have one half on average."""
    draw = np.random.default_rng(4)
    features = [Stream("honest", "numeric"), Stream("noise", "categorical")]
    truth, held, values = float(ndtr(1 / np.sqrt(2))), 0, []
    for seed in range(60):
        y = (draw.random(rows) < 0.3).astype(np.int64)
        codes = np.column_stack([coded(y + draw.normal(size=rows)), draw.integers(0, 20, rows)]).astype(np.int32)
        found = {each.feature: each for each in knows_label(features, codes, y, seed)}
        held += found["honest"].low <= truth <= found["honest"].high
        values.append((found["honest"].value, found["noise"].value))
        assert not any(each.suspect for each in found.values())
    honest, noise = np.mean(values, 0)
    assert held >= held_min and lowest < honest < truth + 0.005 and abs(noise - 0.5) < 0.02


def test_several_classes_and_numbers_are_judged_by_information() -> None:
    """F56: three classes; and a regression, whose label comes in quantile classes."""
    draw = np.random.default_rng(5)
    y = draw.integers(0, 3, 1_500)
    codes = np.column_stack([(y + 1) % 3, np.where(draw.random(1_500) < 0.5, y, 0), draw.integers(0, 9, 1_500)])
    found = knows_label(
        [Stream(name, "categorical") for name in ("copy", "half", "noise")], codes.astype(np.int32), y, 1
    )
    assert [(each.feature, each.measure, each.suspect) for each in found] == [
        ("copy", "information", True), ("half", "information", False), ("noise", "information", False)
    ]  # fmt: skip
    assert abs(found[2].value) < 0.05 < 0.3 < found[1].value < 0.9
    price = draw.lognormal(size=3_000)
    eighths = np.searchsorted(np.quantile(price, np.arange(1, 8) / 8), price)
    found = knows_label(numbers("tax", "size"), coded(price * 0.19, price * draw.lognormal(size=3_000)), eighths, 1)
    assert [(each.feature, each.suspect) for each in found] == [("tax", True), ("size", False)]


@pytest.mark.parametrize("rows", [50, 110])
def test_too_few_rows_say_nothing(rows: int) -> None:
    y = np.where(np.arange(rows) < 10, 1, np.where(np.arange(rows) < 100, 0, -1))
    assert knows_label(numbers("x"), np.maximum(y, 0)[:, None].astype(np.int32), y, 1) == []


def test_labels_before_their_event_are_counted() -> None:
    """F56: a hundredth of the labels were known before; clocks may differ by two seconds."""
    draw = np.random.default_rng(6)
    delay = draw.exponential(600, 5_000) + 1
    assert not label_before_event(delay).suspect
    delay[::100] = -300.0
    delay[1::100] = -1.5
    delay[2::100] = np.nan
    found = label_before_event(delay, skew_s=2.0)
    assert (found.before, found.same, found.rows, found.suspect) == (50, 0, 4_950, True)
    assert found.low < 50 / 4_950 < found.high and "50 of 4950 labels" in found.words
    few = label_before_event(np.concatenate([[-5.0], np.ones(5_000)]))
    assert few.before == 1 and not few.suspect
    copied = label_before_event(np.zeros(10))
    assert copied.same == 10 and "10 carry the very time" in copied.words
    assert label_before_event(np.full(3, np.nan)).rows == 0


def users(start: int, end: int) -> list[str]:
    return [f"user-{i}" for i in range(start, end)]


def test_the_same_entities_on_both_sides_of_a_trial_are_found() -> None:
    """F56: exact while there are few, estimated within its interval when there are many."""
    few = overlap(sketch(users(0, 500), 1), sketch(users(450, 1_000), 1), ("control", "treatment"))
    assert (few.share, few.low, few.high, few.both) == (0.1, 0.1, 0.1, 50.0) and few.suspect
    assert few.words == "10.0% of the entities of control (10.0% to 10.0%), about 50, are in treatment too"
    held = 0
    for seed in range(12):
        found = overlap(sketch(users(0, 6_000), seed), sketch(users(5_400, 14_000), seed))
        held += found.low <= 0.1 <= found.high
        assert found.first == pytest.approx(6_000, rel=0.12) and found.suspect
    assert held >= 11


def test_sides_without_common_entities_are_not_suspect() -> None:
    for size in (500, 6_000):
        found = overlap(sketch(users(0, size), 1), sketch(users(size, 2 * size), 1))
        assert found.share == 0.0 and not found.suspect
    assert not overlap(sketch([], 1), sketch(users(0, 10), 1)).suspect


@settings(max_examples=20)
@given(st.lists(st.integers(1, 4_000), min_size=1, max_size=5), st.integers(0, 9))
def test_a_sketch_depends_on_who_is_in_it_only(cuts: list[int], seed: int) -> None:
    """F56: not on order, repetition or how rows were cut; and it is bounded."""
    hashes = randomness.keys(seed, users(0, 4_000))
    whole = leakage.grown(sketch([], seed), hashes)
    held = sketch([], seed)
    for part in np.split(np.concatenate([hashes[::-1], hashes[:500]]), np.sort(cuts)):
        held = leakage.grown(held, part)
    assert np.array_equal(held.hashes, whole.hashes) and len(held.hashes) == leakage.SKETCH_ROWS
    assert leakage.pack(leakage.unpack(leakage.pack(held))) == leakage.pack(held)


def test_examples_in_docstrings_are_true() -> None:
    assert doctest.testmod(leakage).attempted > 0 and doctest.testmod(leakage).failed == 0
