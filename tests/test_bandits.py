"""Bandits: allocations of known answer, late rewards, forgetting, commitment, exact state (F33)."""

from __future__ import annotations

import doctest
import itertools
import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from numpy.typing import NDArray
from scipy import integrate, stats

from benchmarks.learning import bandits as benchmark
from learners import bandits
from learners.assignment import Routing, assign, propensities, rerouted
from learners.bandits import BANDITS, Allocator, Evidence, best_of_betas, best_of_normals
from learners.contract import SnapshotError
from learners.off_policy import OffPolicy
from learners.plans import Settings
from tests import conformance
from tests.betting import ARMS, feed_bandit

PROMPT = Settings(every=1, floor=0.02)


def taught(name: str, settings_: Settings, rewards: Mapping[str, list[float]], arms: tuple[str, ...] = ARMS) -> Any:
    bandit = BANDITS[name](arms, settings_)
    for arm, values in rewards.items():
        for value in values:
            bandit.reward(arm, value)
    return bandit


def always(chosen: NDArray[np.float64]) -> Callable[[Evidence], NDArray[np.float64]]:
    return lambda evidence: chosen


def right(hits: int, of: int) -> list[float]:
    return [1.0] * hits + [0.0] * (of - hits)


@pytest.mark.parametrize("name", list(BANDITS))
def test_a_bandit_conforms(name: str) -> None:
    """F33: the same again, in any process, and from a snapshot in mid-stream."""
    conformance.check(f"tests.betting:{name}")


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(bandits).failed == 0


@pytest.mark.parametrize(
    ("a", "b"), [((3, 5), (2, 4)), ((81, 21), (71, 31)), ((8_001, 2_001), (81, 25)), ((1, 1), (900, 100))]
)
def test_the_probability_that_an_arm_is_best_is_the_integral(a: tuple[int, int], b: tuple[int, int]) -> None:
    """F33: two Beta posteriors against adaptive quadrature, near and far apart, wide and narrow."""
    first, second = stats.beta(*a), stats.beta(*b)
    lines = [x for d in (first, second) for x in d.ppf([1e-9, 0.01, 0.5, 0.99, 1 - 1e-9])]
    expected, _ = integrate.quad(lambda x: first.pdf(x) * second.cdf(x), 0, 1, points=sorted(lines), limit=400)
    found = best_of_betas(np.array([a[0], b[0]], float), np.array([a[1], b[1]], float))
    assert found[0] == pytest.approx(expected, abs=3e-4) and found.sum() == pytest.approx(1.0)


def test_the_probability_that_a_normal_is_best_is_known() -> None:
    """F33: P(X > Y) = Φ(difference / root of the summed variances), and draws for three."""
    found = best_of_normals(np.array([1.0, 0.5]), np.array([0.3, 0.4]))
    assert found[0] == pytest.approx(stats.norm.cdf(0.5 / 0.5), abs=3e-4)
    mean, spread = np.array([0.0, 0.2, 100.0]), np.array([1.0, 0.01, 60.0])
    draws = mean + spread * np.random.default_rng(1).normal(size=(200_000, 3))
    assert best_of_normals(mean, spread) == pytest.approx(np.bincount(draws.argmax(1)) / 200_000, abs=0.004)
    assert best_of_normals(np.array([1.0, 1.0, 0.0]), np.zeros(3)).tolist() == [0.5, 0.5, 0.0]


@pytest.mark.parametrize("name", list(BANDITS))
def test_all_arms_are_equal_before_any_reward(name: str) -> None:
    assert BANDITS[name](ARMS, PROMPT).shares() == pytest.approx(dict.fromkeys(ARMS, 1 / 3))


@settings(max_examples=150)
@given(
    some.sampled_from(sorted(BANDITS)),
    some.lists(some.tuples(some.sampled_from(ARMS), some.floats(-1e6, 1e6), some.floats(1e-3, 1.0)), max_size=60),
    some.sampled_from([1.0, 0.9, 0.05]),
    some.booleans(),
)
def test_shares_sum_to_one_and_keep_the_floor(
    name: str, rewards: list[tuple[str, float, float]], discount: float, balanced: bool
) -> None:
    """F33: whatever comes, also when arms are all but forgotten: propensities are bounded below."""
    options = Settings(rewards="real", every=1, floor=0.05, discount=discount, balanced=balanced, commit_after=50)
    bandit = BANDITS[name](ARMS, options)
    for arm, value, propensity in rewards:
        bandit.reward(arm, value, propensity)
        shares = bandit.shares({"a": 3})
        assert math.fsum(shares.values()) == pytest.approx(1.0, abs=1e-9) and min(shares.values()) >= 0.05 - 1e-12


def test_the_better_arm_gets_what_the_floors_leave() -> None:
    """F33: every rule, once the evidence is plain."""
    clear = {"a": right(500, 1_000), "b": right(700, 1_000), "c": right(400, 1_000)}
    for name, most in (
        ("thompson", 0.96),
        ("ucb", 0.96),
        ("epsilon_greedy", 0.02 + 0.94 * (0.9 + 0.1 / 3)),
        ("fixed", 0.96),
    ):
        shares = taught(name, PROMPT, clear).shares()
        assert shares["b"] == pytest.approx(most, abs=1e-6), name
    gains = {arm: [10.0 * x for x in values] for arm, values in clear.items()}
    for name in ("thompson", "ucb", "fixed"):
        shares = taught(name, Settings(rewards="real", every=1), gains).shares()
        assert shares["b"] == pytest.approx(0.98, abs=1e-6), name


def test_an_allocation_stands_until_enough_rewards_have_come() -> None:
    """F33: updates in batches; the log's propensities belong to one allocation."""
    bandit = BANDITS["thompson"](ARMS, Settings(every=10))
    seen = [tuple(feed_bandit(bandit, ("a", 1.0, 1.0, 0))[0].values()) for _ in range(40)]
    changes = [i for i, (one, two) in enumerate(itertools.pairwise(seen), 2) if one != two]
    assert changes == [11, 21, 31]  # the first look found one reward and began to count


def test_an_arm_whose_rewards_are_slow_is_neither_starved_nor_fed() -> None:
    """F33: without a reward of it, Thompson sampling gives it what the prior is worth; UCB as long as too few wait."""
    fast = {"a": right(70, 100), "b": right(60, 100)}
    assert taught("thompson", PROMPT, fast).shares()["c"] == pytest.approx(0.02 + 0.94 * 0.29, abs=0.02)
    assert taught("ucb", PROMPT, fast).shares()["c"] == pytest.approx(0.96)
    assert taught("ucb", PROMPT, fast).shares({"c": 20})["c"] == pytest.approx(0.96)
    assert taught("ucb", PROMPT, fast).shares({"c": 300})["c"] == pytest.approx(0.02)


def test_the_upper_bound_is_that_of_the_binary_divergence() -> None:
    """F33: Garivier and Cappé 2011: n kl(mean, q) = log t."""
    q = float(bandits._kl_bounds(np.array([0.7]), np.array([math.log(200) / 50]))[0])
    assert 0.7 * math.log(0.7 / q) + 0.3 * math.log(0.3 / (1 - q)) == pytest.approx(math.log(200) / 50, rel=1e-6)
    assert bandits._kl_bounds(np.array([1.0, 0.0]), np.array([0.1, 0.1])) == pytest.approx([1.0, 1 - math.exp(-0.1)])


def test_forgetting_follows_an_arm_that_has_changed() -> None:
    """F33: a thousand rewards say a, the last two hundred say b."""
    change = {"a": right(800, 1_000) + right(60, 200)[::-1], "b": right(600, 1_000)}
    keeps, forgets = (BANDITS["thompson"](("a", "b"), Settings(every=1, discount=discount)) for discount in (1.0, 0.99))
    for bandit in (keeps, forgets):
        for old in range(1_000):
            bandit.reward("a", change["a"][(old * 7) % 1_000])
            bandit.reward("b", change["b"][(old * 7) % 1_000])
        for i in range(200):
            bandit.reward("a", float(i % 10 < 3))
            bandit.reward("b", float(i % 10 < 6))
    assert keeps.shares()["a"] > 0.9 and forgets.shares()["a"] < 0.1


def test_a_level_that_swings_for_all_favours_none_when_balanced() -> None:
    """F33: b is better at any time, but a got its traffic in good times: Simpson's paradox, and the way out of it."""
    found = {}
    for balanced in (False, True):
        bandit = BANDITS["thompson"](("a", "b"), Settings(every=1, balanced=balanced))
        for good, share in ((0.8, 0.9), (0.3, 0.1)):
            for arm, own, level in (("a", share, good), ("b", 1 - share, good + 0.1)):
                n = round(2_000 * own)
                for value in right(round(level * n), n):
                    bandit.reward(arm, value, own)
        found[balanced] = bandit.shares()["b"]
    assert found[False] < 0.02 and found[True] > 0.9


def test_fixed_commits_when_its_test_is_sure_and_never_goes_back() -> None:
    """F33."""
    bandit = taught("fixed", PROMPT, {"a": right(70, 150), "b": right(80, 150), "c": right(70, 150)})
    assert bandit.shares()["b"] == pytest.approx(1 / 3) and bandit.figures()["committed"] is None
    for arm, values in (("a", right(300, 900)), ("b", right(600, 900)), ("c", right(300, 900))):
        for value in values:
            bandit.reward(arm, value)
    assert bandit.shares()["b"] == pytest.approx(0.96) and bandit.figures()["committed"] == "b"
    for _ in range(5_000):
        bandit.reward("a", 1.0)
    assert bandit.shares()["b"] == pytest.approx(0.96)


def test_fixed_commits_at_its_end_whatever_the_test_says() -> None:
    """F33."""
    equal = {arm: right(50 + (arm == "c"), 100) for arm in ARMS}
    early, late = (taught("fixed", Settings(every=1, commit_after=n), equal) for n in (301, 300))
    assert early.shares()["c"] == pytest.approx(1 / 3) and late.shares()["c"] == pytest.approx(0.98)


def test_fixed_seldom_commits_between_equal_arms_however_often_it_looks() -> None:
    """F33: 5 % over all looks are allowed; a test of 5 % at each look, planted beside, commits far more often."""
    runs, n = 200, np.arange(100, 4_001, 50)
    mixture = each_look = 0
    for run in range(runs):
        hits = np.cumsum(np.random.default_rng([11, run]).random((4_000, 2)) < 0.5, 0)[n - 1]
        p = hits / n[:, None]
        each_look += bool((np.abs(p[:, 0] - p[:, 1]) / np.sqrt(0.5 / n) > 1.96).any())
        seen = [
            Evidence(np.full(2, float(count)), mean, mean * (1 - mean), np.zeros(2), Settings(), 2 * int(count))
            for count, mean in zip(n, p, strict=True)
        ]
        mixture += any(bandits.fixed(evidence).max() == 1.0 for evidence in seen)
    allowed = stats.binom.isf(0.001, runs, 0.05)
    assert mixture <= allowed < each_look


@pytest.mark.parametrize(
    ("arm", "value", "propensity", "message"),
    [
        ("d", 1.0, 1.0, "unknown arm 'd'"),
        ("a", 1.5, 1.0, "rewards=real"),
        ("a", math.nan, 1.0, "rewards=real"),
        ("a", 1.0, 0.0, "propensity 0.0"),
        ("a", 1.0, 1.01, "propensity 1.01"),
    ],
)
def test_a_reward_that_cannot_be_is_refused_and_leaves_no_trace(
    arm: str, value: float, propensity: float, message: str
) -> None:
    bandit = taught("thompson", PROMPT, {"a": [1.0]})
    before = bandit.snapshot()
    with pytest.raises(ValueError, match=message):
        bandit.reward(arm, value, propensity)
    assert bandit.snapshot() == before


def test_settings_are_refused_with_every_fault() -> None:
    with pytest.raises(ValueError, match=r"floor.*every.*discount.*epsilon.*commit_after.*significance"):
        Settings(floor=1.0, every=0, discount=0.0, epsilon=2.0, commit_after=0, significance=1.0)
    with pytest.raises(ValueError, match="lower floor"):
        BANDITS["ucb"](ARMS, Settings(floor=0.4))
    with pytest.raises(ValueError, match="each its own"):
        BANDITS["ucb"](("a", "a"), Settings())


def test_state_of_other_arms_is_refused() -> None:
    bandit = BANDITS["thompson"](ARMS, PROMPT)
    for state in (b"\xc1 nonsense", BANDITS["thompson"](("a", "b"), PROMPT).snapshot()):
        with pytest.raises(SnapshotError):
            bandit.restore(state)


def test_a_rule_of_ones_own_is_one_function() -> None:
    """F33."""
    bandit = Allocator(ARMS, lambda evidence: np.eye(3)[int(evidence.mean.argmin())], PROMPT)
    for arm in ARMS:
        bandit.reward(arm, float(arm != "b"))
    assert bandit.shares() == pytest.approx({"a": 0.02, "b": 0.96, "c": 0.02})


def test_routing_bandit_and_estimates_work_as_one_loop() -> None:
    """F33, F38: answers are assigned by the bandit's shares, rewards come 50 events late, and the log tells afterwards
    what each arm alone would have earned."""
    truth = {"a": 0.5, "b": 0.75}
    bandit, estimates = BANDITS["thompson"](("a", "b"), Settings(every=50, floor=0.05)), OffPolicy(("a", "b"))
    routing = Routing(number=1, seed=8, arms=(("a", 0.5), ("b", 0.5)), exploration=0.1)
    late: deque[tuple[str, float, float, dict[str, float]]] = deque()
    draw = np.random.default_rng(12)
    for i in range(1_500):
        if len(late) == 50:
            arm, reward, propensity, chances = late.popleft()
            bandit.reward(arm, reward, propensity)
            estimates.take(arm, propensity, reward, chances)
        if bandit.shares() != dict(routing.arms):
            routing = rerouted(routing, bandit.shares())
        arm, propensity = assign(routing, f"prediction {i}")
        late.append((arm, float(draw.random() < truth[arm]), propensity, propensities(routing)))
    assert 20 < routing.number <= 1 + 1_500 / 50 and bandit.shares()["b"] == pytest.approx(0.95, abs=1e-3)
    assert propensities(routing)["a"] == pytest.approx(0.9 * 0.05 + 0.05, abs=1e-3)
    for name, found in estimates.values().items():
        assert found["dr_stable"].low <= truth[name] <= found["dr_stable"].high


def test_the_benchmark_counts_what_is_missed() -> None:
    """F33: who knows the best arm misses nothing once rewards come, and who takes the worst misses its whole gap."""
    case, events = benchmark.CASES["3 arms, gaps 0.05 and 0.10"], 3_000
    regret = []
    for best in (True, False):
        world = benchmark.World(case, events, np.random.default_rng(4))
        chosen = np.eye(3)[world.means[0].argmax() if best else world.means[0].argmin()]
        regret.append(benchmark.play(Allocator(world.names, always(chosen), Settings(floor=0.0)), world))
    assert 0 < regret[0] < benchmark.DELAY[1] * 0.1  # all arms are equal until the first rewards come
    assert regret[1] == pytest.approx(events * 0.1, rel=0.1)
