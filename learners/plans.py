"""Settings of guards and bandits, apart from what they need to compute: a configuration is read by every command, and
loading SciPy for it took 1.8 s of 2.2.

Own bounds and defaults, each with its reason. Refuse to know how they are used (`learners.guard`, `learners.bandits`).
"""

from __future__ import annotations

from typing import Literal

import msgspec


class GuardPlan(msgspec.Struct, frozen=True):
    """Bounds; None leaves a check out. Raises ValueError.

    margin: loss (Brier, 0 to 1) that a candidate may lose against the last good one; a hundredth is half of what a
    usual update moves. slice_margin: the same in one slice, where fewer examples say more by chance.
    alpha: chance that a candidate that is just at its bounds is halted, for all checks together.
    size_bytes_max: no broker takes more. ece_max: a tenth off is what people notice in a probability.
    gap_max: largest difference in shares of positive answers between groups, only where groups are given.
    latency_ms_max, updates_per_second_max: depend on the service; none by default.
    probation_margin, probation_labels, alpha_month: see `Watchman`.
    """

    margin: float = 0.01
    slice_margin: float = 0.05
    alpha: float = 0.005
    size_bytes_max: int = 8_388_608
    ece_max: float | None = 0.1
    gap_max: float | None = 0.2
    latency_ms_max: float | None = None
    updates_per_second_max: float | None = None
    probation_margin: float = 0.02
    probation_labels: int = 300
    alpha_month: float = 0.1

    def __post_init__(self) -> None:
        chances = {"alpha": self.alpha, "alpha_month": self.alpha_month}
        faults = [f"{name} {x} must be between 0 and 1" for name, x in chances.items() if not 0 < x < 1]
        margins = {"margin": self.margin, "slice_margin": self.slice_margin, "probation_margin": self.probation_margin}
        faults += [f"{name} {x} must be at least 0 and less than 1" for name, x in margins.items() if not 0 <= x < 1]
        if self.probation_labels < 1:
            faults.append(f"probation_labels {self.probation_labels} must be at least 1")
        if faults:
            raise ValueError(f"guard: {'; '.join(faults)}")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`rewards`: unit, in [0, 1] (right or wrong), or real. `floor`: the least share of each arm. `every`: rewards
    between two allocations. `discount`: what a reward is still worth after one more; 0.999 remembers about a thousand;
    1 for arms that stay as they are. `balanced`: weigh rewards by 1 / propensity, so that a level that swings for all
    arms alike favours none; costs evidence. `epsilon`: share explored by epsilon_greedy. `commit_after`: rewards after
    which `fixed` commits whatever the test says; None: only by the test. `significance`: how seldom that test may
    commit to a worse arm, over all arms and times. Raises ValueError with every fault together."""

    rewards: Literal["unit", "real"] = "unit"
    floor: float = 0.01
    every: int = 100
    discount: float = 1.0
    balanced: bool = False
    epsilon: float = 0.1
    commit_after: int | None = None
    significance: float = 0.05

    def __post_init__(self) -> None:
        sound = {
            "floor must be in [0, 1)": 0.0 <= self.floor < 1.0,
            "every must be at least 1": self.every >= 1,
            "discount must be in (0, 1]": 0.0 < self.discount <= 1.0,
            "epsilon must be in [0, 1]": 0.0 <= self.epsilon <= 1.0,
            "commit_after must be at least 1, or None": self.commit_after is None or self.commit_after >= 1,
            "significance must be in (0, 1)": 0.0 < self.significance < 1.0,
        }
        faults = [text for text, holds in sound.items() if not holds]
        if faults:
            raise ValueError(f"bandit: {'; '.join(faults)}")
