"""What a candidate must pass before it is published, each check a function of figures, with its bound and its evidence.

Owns the bounds and what counts as evidence. Refuses to know clocks (a latency and a span of event time are given), who
gave the answers, and what is done about a verdict. What serves is watched in `learners.probation`.

A check of a quantity that is only estimated halts on two conditions: the bound is exceeded beyond chance, and the
candidate is worse than the last good one, for calibration and gaps by half the bound. A candidate that repairs half of
a fault is not halted for the other half, and a world in which no model is calibrated halts nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, TypeAlias

from scipy import special, stats

from learners.contract import Label, Said
from learners.metrics import Task
from learners.plans import GuardPlan

Check: TypeAlias = Literal["finite", "size", "latency", "update_rate", "loss", "calibration", "gap", "slice", "served"]

ENOUGH: Final = 30
"""Answers below which a mean is no evidence: the paired test assumes that a mean is about normal."""

CALIBRATION_BINS: Final = 10
"""At most; fewer where there are not `ENOUGH` answers for each."""

WORSE: Final = 0.5
"""Of a bound: by how much more than the last good one a candidate must break it."""

SLICES_MAX: Final = 100
"""Slices and groups that are looked at; more would leave none of them any evidence."""

LOSS_MAX: Final = 1.0
"""Of one answer that is a number."""

SQUARED_MAX: Final = 4.0
"""Regression: squared errors, in variances of the label, up to which a loss grows."""


class Finding(NamedTuple):
    """One check: what was measured, what it may be, whether it holds, and that in words. A value of None: too few
    answers to say, which holds."""

    check: Check
    value: float | None
    bound: float
    holds: bool
    words: str


class Verdict(NamedTuple):
    """All checks of one candidate."""

    findings: tuple[Finding, ...]

    @property
    def holds(self) -> bool:
        return all(finding.holds for finding in self.findings)

    @property
    def broken(self) -> list[Finding]:
        return [finding for finding in self.findings if not finding.holds]


class Answered(NamedTuple):
    """One labelled example, best one that neither has learned: what the candidate says of it, what the last good copy
    says, its group (for fairness) and its slices, by name."""

    y: Label
    candidate: Said
    good: Said
    group: str | None = None
    slices: tuple[str, ...] = ()


class Candidate(NamedTuple):
    """What is known of a candidate. `seconds`: event time in which it took its `updates`. `latency_ms`: of one answer,
    measured by whoever may read a clock. `variance`: of the labels of a regression."""

    task: Task
    answers: Sequence[Answered]
    size_bytes: int
    updates: int = 0
    seconds: float = 0.0
    latency_ms: float | None = None
    variance: float = 1.0


def examine(plan: GuardPlan, candidate: Candidate) -> Verdict:
    """Every check that the plan has bounds and the candidate has answers for."""
    found = [finite(candidate.answers), size(plan, candidate.size_bytes)]
    if candidate.latency_ms is not None and plan.latency_ms_max is not None:
        found.append(latency(plan.latency_ms_max, candidate.latency_ms))
    if plan.updates_per_second_max is not None:
        found.append(update_rate(plan.updates_per_second_max, candidate.updates, candidate.seconds))
    if not found[0].holds:
        return Verdict(tuple(found))  # figures of answers that are no numbers would say nothing
    alpha = plan.alpha / 4.0
    found.append(loss_against(candidate, plan.margin, alpha))
    if candidate.task == "binary" and plan.ece_max is not None:
        found.append(calibration(candidate.answers, plan.ece_max, alpha))
    if candidate.task == "binary" and plan.gap_max is not None:
        found.append(gap(candidate.answers, plan.gap_max, alpha))
    found.append(worst_slice(candidate, plan.slice_margin, alpha))
    return Verdict(tuple(found))


def loss(said: Said, y: Label, task: Task, variance: float = 1.0) -> float:
    """From 0 to 1: Brier; for classes half of it; for numbers the squared error up to two deviations of the label.
    Infinite where the answer is no number.

    >>> loss(Said(1, 0.75), 1, "binary"), loss(Said(1, float("nan")), 1, "binary")
    (0.0625, inf)
    """
    if not is_finite(said):
        return math.inf
    if task == "regression":
        error = float(said.prediction) - float(y)
        return min(error * error / (variance or 1.0), SQUARED_MAX) / SQUARED_MAX
    if said.score is None:
        return float(said.prediction != y)
    if task == "binary":
        wrong = said.score - float(y)
        return min(wrong * wrong, LOSS_MAX)
    every = said.probabilities or {str(said.prediction): said.score}
    hit = every.get(str(y), 0.0)
    return min((math.fsum(p * p for p in every.values()) - 2.0 * hit + 1.0) / 2.0, LOSS_MAX)


def is_finite(said: Said) -> bool:
    """Whether every number of the answer is one."""
    numbers: list[float] = [] if said.score is None else [said.score]
    if isinstance(said.prediction, float):
        numbers.append(said.prediction)
    numbers += (said.probabilities or {}).values()
    return all(map(math.isfinite, numbers))


def finite(answers: Sequence[Answered]) -> Finding:
    bad = sum(not is_finite(one.candidate) for one in answers)
    return Finding("finite", bad, 0.0, bad == 0, f"{bad} of {len(answers)} answers are no numbers")


def size(plan: GuardPlan, size_bytes: int) -> Finding:
    bound = plan.size_bytes_max
    return Finding("size", size_bytes, bound, size_bytes <= bound, f"{size_bytes} bytes, at most {bound}")


def latency(bound: float, latency_ms: float) -> Finding:
    holds = latency_ms <= bound  # a latency that is no number does not hold
    return Finding("latency", latency_ms, bound, holds, f"{latency_ms:.3g} ms an answer, at most {bound:.3g}")


def update_rate(bound: float, updates: int, seconds: float) -> Finding:
    """Updates a second of event time; in no time at all, any update is too many a second."""
    rate = updates / seconds if seconds > 0 else (math.inf if updates else 0.0)
    return Finding("update_rate", rate, bound, rate <= bound, f"{rate:.3g} updates a second, at most {bound:.3g}")


def loss_against(candidate: Candidate, margin: float, alpha: float) -> Finding:
    """The candidate loses no more than `margin` against the last good copy, by a paired t test."""
    differences = [_difference(candidate, one) for one in candidate.answers]
    return _paired("loss", "all examples", differences, margin, alpha)


def worst_slice(candidate: Candidate, margin: float, alpha: float) -> Finding:
    """The same in every slice with enough examples; `alpha` is shared among them (Bonferroni)."""
    by_slice: dict[str, list[float]] = {}
    for one in candidate.answers:
        for name in one.slices:
            if name in by_slice or len(by_slice) < SLICES_MAX:
                by_slice.setdefault(name, []).append(_difference(candidate, one))
    enough = {name: found for name, found in by_slice.items() if len(found) >= ENOUGH}
    found = [_paired("slice", name, each, margin, alpha / len(enough)) for name, each in enough.items()]
    if not found:
        return Finding("slice", None, margin, True, "no slice with enough examples")
    return max(found, key=lambda one: (not one.holds, one.value or 0.0))


def _difference(candidate: Candidate, one: Answered) -> float:
    own, good = (loss(said, one.y, candidate.task, candidate.variance) for said in (one.candidate, one.good))
    return min(own, LOSS_MAX) - min(good, LOSS_MAX)


def _paired(check: Check, where: str, differences: Sequence[float], margin: float, alpha: float) -> Finding:
    n = len(differences)
    if n < ENOUGH:
        return Finding(check, None, margin, True, f"{where}: {n} answers, too few to compare")
    mean = math.fsum(differences) / n
    error = math.sqrt(math.fsum((x - mean) ** 2 for x in differences) / (n - 1) / n)
    low = mean + float(special.stdtrit(n - 1, alpha)) * error  # stats.t.isf, without its 200 us of checks
    words = f"{where}: loses {mean:+.4f} against the last good one ({n} answers), surely {low:+.4f}, at most {margin}"
    return Finding(check, mean, margin, low <= margin, words)


def calibration(answers: Sequence[Answered], bound: float, alpha: float) -> Finding:
    """Root of the squared calibration error over bins of equal count, less what chance adds (debiased: Kumar,
    Liang and Ma 2019, section 5). Evidence: the sum of squares against the largest that `bound` allows, as a gamma
    variable of the same mean and variance (Satterthwaite 1946)."""
    if len(answers) < ENOUGH or any(one.candidate.score is None for one in answers):
        words = f"calibration: {len(answers)} answers with a score, too few to say"
        return Finding("calibration", None, bound, True, words)
    own, chance = _calibration([(one.candidate.score or 0.0, float(one.y)) for one in answers], bound)
    before, _ = _calibration([(one.good.score or 0.0, float(one.y)) for one in answers], bound)
    holds = chance > alpha or own <= before + WORSE * bound
    words = f"calibration error {own:.3f} (the last good one {before:.3f}; {len(answers)} answers), at most {bound}"
    return Finding("calibration", own, bound, holds, words)


def _calibration(pairs: list[tuple[float, float]], bound: float) -> tuple[float, float]:
    """The debiased error, and the chance of one so large where the true one is `bound`."""
    pairs = sorted(pairs, key=lambda pair: pair[0])  # by the score alone: equal scores must not part by their label
    n = len(pairs)
    bins = min(n // ENOUGH, CALIBRATION_BINS)
    square = noise = spread = 0.0
    for k in range(bins):
        part = pairs[k * n // bins : (k + 1) * n // bins]
        m = len(part)
        said = math.fsum(p for p, _ in part) / m
        came = math.fsum(y for _, y in part) / m
        variance = (came * (m - came * m) + 0.5) / (m - 0.5)  # not zero where all labels are equal
        square += m * (came - said) ** 2 / n
        noise += variance / n
        spread += 2.0 * (variance / n) ** 2 + 4.0 * (variance / n) * (m / n) * bound**2
    mean = noise + bound**2
    chance = float(stats.gamma.sf(square, mean * mean / spread, scale=spread / mean))
    return math.sqrt(max(square - noise, 0.0)), chance


def gap(answers: Sequence[Answered], bound: float, alpha: float) -> Finding:
    """Largest difference between two groups in the share of positive answers; each pair's with its standard error."""
    own, low, words = _gap([(one.group, one.candidate) for one in answers], alpha)
    before, _, _ = _gap([(one.group, one.good) for one in answers], alpha)
    if own is None or before is None:
        return Finding("gap", None, bound, True, "no two groups with enough answers")
    words = f"{words} (the last good one {before:.3f}), at most {bound}"
    return Finding("gap", own, bound, low <= bound or own <= before + WORSE * bound, words)


def _gap(said: Sequence[tuple[str | None, Said]], alpha: float) -> tuple[float | None, float, str]:
    """The largest gap, what it surely is, and in words."""
    groups: dict[str, list[int]] = {}
    for group, answer in said:
        if group is not None and (group in groups or len(groups) < SLICES_MAX):
            groups.setdefault(group, []).append(int(answer.prediction == 1))
    shares = sorted((sum(x) / len(x), len(x), name) for name, x in groups.items() if len(x) >= ENOUGH)
    if len(shares) < 2:
        return None, 0.0, ""
    (p, n, least), (q, m, most) = shares[0], shares[-1]
    pairs = len(shares) * (len(shares) - 1) / 2
    error = math.sqrt(p * (1 - p) / n + q * (1 - q) / m)
    low = q - p - float(stats.norm.isf(alpha / pairs)) * error
    return q - p, low, f"positive answers: {q:.3f} of {most}, {p:.3f} of {least}"
