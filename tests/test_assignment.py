"""Who is served by which arm: exact shares, steady keys, holdout and exploration (F31, F33, F38)."""

from __future__ import annotations

import doctest
import os
import subprocess
import sys

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy import stats

from learners import assignment
from learners.assignment import Holdout, Routing, assign, is_held_out, key_of, propensities, rerouted
from learners.contract import SnapshotError
from tests import house

KEYS = [f"prediction {i}" for i in range(20_000)]
THREE = Routing(number=1, seed=3, arms=(("canary 1", 0.05), ("canary 2", 0.05), ("champion", 0.9)))
HELD = Routing(
    number=1,
    seed=3,
    arms=(("a", 0.7), ("b", 0.3)),
    exploration=0.2,
    holdout=Holdout("baseline", 0.1, 99),
)


def served(routing: Routing, keys: list[str] = KEYS) -> list[str]:
    return [assign(routing, key).arm for key in keys]


def moved(before: Routing, after: Routing) -> list[tuple[str, str]]:
    """From where to where, of the keys that change their arm."""
    return [pair for pair in zip(served(before), served(after), strict=True) if pair[0] != pair[1]]


def test_the_example_in_the_docstring_holds() -> None:
    assert doctest.testmod(assignment).failed == 0


@pytest.mark.parametrize("routing", [THREE, HELD], ids=["shares", "with holdout and exploration"])
def test_arms_are_met_as_often_as_their_propensities_say(routing: Routing) -> None:
    """F33, F38: what is logged is the probability with which it was chosen."""
    expected = propensities(routing)
    found = served(routing)
    counts = [found.count(arm) for arm in expected]
    assert sum(expected.values()) == pytest.approx(1.0, abs=1e-12) and sum(counts) == len(KEYS)
    assert stats.chisquare(counts, [p * len(KEYS) for p in expected.values()]).pvalue > 0.001
    assert all(assign(routing, key).propensity == expected[assign(routing, key).arm] for key in KEYS[:500])


def test_propensities_of_holdout_and_exploration_are_exact() -> None:
    """F38: 0.9 of the traffic, of which 0.8 by shares and 0.2 evenly; the holdout's arm stands apart."""
    assert propensities(HELD) == pytest.approx(
        {"a": 0.9 * (0.56 + 0.1), "b": 0.9 * (0.24 + 0.1), "baseline": 0.1}, abs=1e-15
    )
    inside = msgspec.structs.replace(HELD, holdout=Holdout("a", 0.1, 99))
    assert propensities(inside)["a"] == pytest.approx(0.1 + 0.9 * 0.66, abs=1e-15)


def test_a_key_once_with_the_canary_stays_there_as_the_ramp_grows() -> None:
    """F31: with two arms, and beside a second canary."""
    for others in ({}, {"canary 2": 0.05}):
        stays: set[str] = set()
        for share in (0.01, 0.05, 0.1, 0.25, 0.5, 1.0 - sum(others.values())):
            routing = rerouted(THREE, {"canary 1": share, **others, "champion": 1.0 - share - sum(others.values())})
            with_canary = {key for key in KEYS[:5_000] if assign(routing, key).arm == "canary 1"}
            assert stays <= with_canary
            stays = with_canary
        assert stays


def test_a_growing_share_moves_few_keys() -> None:
    """F31: two arms move what the shares differ by; a third keeps its keys but for the few that it must give and get
    (cumulated shares would move the whole of canary 2)."""
    two = Routing(number=1, seed=3, arms=(("champion", 0.9), ("canary", 0.1)))
    changed = moved(two, rerouted(two, {"champion": 0.7, "canary": 0.3}))
    assert {pair for pair in changed} == {("champion", "canary")} and len(changed) / len(KEYS) == pytest.approx(
        0.2, abs=0.01
    )
    changed = moved(THREE, rerouted(THREE, {"canary 1": 0.1, "canary 2": 0.05, "champion": 0.85}))
    assert len(changed) / len(KEYS) == pytest.approx(0.05, abs=0.01)
    assert sum("canary 2" in pair for pair in changed) / len(KEYS) < 0.01


def test_the_holdout_is_the_same_under_every_routing() -> None:
    """F38."""
    held = [key for key in KEYS if is_held_out(HELD, key)]
    other = msgspec.structs.replace(HELD, number=2, seed=4711, arms=(("c", 1.0),), exploration=0.0)
    assert held == [key for key in KEYS if is_held_out(other, key)] and len(held) / len(KEYS) == pytest.approx(
        0.1, abs=0.01
    )
    assert {assign(other, key).arm for key in held} == {"baseline"}
    assert not any(is_held_out(THREE, key) for key in KEYS[:100])


def test_the_holdout_says_nothing_about_the_arm_of_the_others() -> None:
    """F38: with one salt for both, the held-out keys would be those that an arm would have had."""
    free = msgspec.structs.replace(HELD, holdout=None, exploration=0.0)
    held = [assign(free, key).arm for key in KEYS if is_held_out(HELD, key)]
    assert stats.binomtest(held.count("a"), len(held), 0.7).pvalue > 0.001


def test_another_seed_is_another_draw() -> None:
    other = msgspec.structs.replace(THREE, seed=4)
    both = sum(a == b == "canary 1" for a, b in zip(served(THREE), served(other), strict=True))
    assert stats.binomtest(both, len(KEYS), 0.05 * 0.05).pvalue > 0.001


def test_one_person_always_meets_the_same_arm() -> None:
    """F33."""
    routing = msgspec.structs.replace(THREE, unit="person")
    assert key_of(routing, "p1", {"person": 17}) == key_of(routing, "p2", {"person": 17}) == "17"
    assert key_of(routing, "p1", {}) == key_of(THREE, "p1", {"person": 17}) == "p1"


def test_the_arm_is_the_same_in_any_process() -> None:
    here = str([tuple(assign(HELD, key)) for key in KEYS[:40]])
    code = (
        "from learners.assignment import assign, decode\n"
        f"routing, keys = decode({assignment.encode(HELD)!r}), {KEYS[:40]!r}\n"
        "print([tuple(assign(routing, key)) for key in keys])"
    )
    for seed in ("0", "4711"):
        done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, cwd=house.ROOT,
                              capture_output=True, text=True, check=True)  # fmt: skip
        assert done.stdout.strip() == here


@settings(max_examples=100)
@given(some.lists(some.floats(0.0, 1.0), min_size=1, max_size=6).filter(lambda x: sum(x) > 0.01), some.floats(0.0, 1.0))
def test_no_arm_without_a_share_is_ever_met(parts: list[float], exploration: float) -> None:
    arms = tuple((f"arm {i}", part / sum(parts)) for i, part in enumerate(parts))
    routing = Routing(number=1, seed=1, arms=arms, exploration=exploration)
    for key in KEYS[:20]:
        arm, propensity = assign(routing, key)
        assert propensity > 0.0 and (exploration > 0.0 or dict(arms)[arm] > 0.0)


def test_a_faulty_routing_is_refused_with_every_fault() -> None:
    with pytest.raises(ValueError, match=r"sum to 0.9.*exploration is 2.0.*holdout 1.0"):
        Routing(number=1, seed=1, arms=(("a", 0.5), ("b", 0.4)), exploration=2.0, holdout=Holdout("a", 1.0, 1))
    with pytest.raises(ValueError, match="names, each its own"):
        Routing(number=1, seed=1, arms=(("a", 0.5), ("a", 0.5)))
    with pytest.raises(ValueError, match=r"shares must lie in \[0, 1\]"):
        Routing(number=1, seed=1, arms=(("a", 1.5), ("b", -0.5)))
    with pytest.raises(ValueError, match=r"shares must lie in \[0, 1\]"):
        rerouted(THREE, {"a": float("nan"), "b": 0.5})
    with pytest.raises(ValueError, match="has 0 arms"):
        Routing(number=1, seed=1, arms=())


def test_a_routing_survives_as_bytes_and_is_checked_again() -> None:
    assert assignment.decode(assignment.encode(HELD)) == HELD
    spoilt = assignment.encode(HELD).replace(b"holdout", b"holdxxx")
    for state in (b"\xc1", spoilt):
        with pytest.raises(SnapshotError):
            assignment.decode(state)
