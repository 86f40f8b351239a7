"""Guards on healthy and on bad updates: how often the first are halted, how soon the second are found (F34).

A logistic regression learns online and is published every `EVERY` examples. One example in five is held out of
learning; a candidate and the last good copy answer the newest of these, which are all younger than that copy. What
passes serves, and is compared with the last good copy on the examples that follow. Bad updates of several kinds are
planted; each is first shown to the checks before publishing, and then, as if these had missed it, to the watch over
what serves. On the real stream nobody knows which updates are healthy: what the halted ones lose afterwards is told.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from scipy import stats

from benchmarks.detection import bars, datasets
from benchmarks.detection.bars import Bar, Part
from benchmarks.learning import streams
from learners import guard, registry
from learners.contract import Label
from learners.estimators import Estimator
from learners.guard import Answered, Candidate
from learners.plans import GuardPlan
from learners.probation import Watchman

EVERY: Final = 500
HOLDOUT_EVERY: Final = 5
HOLDOUT: Final = 100
AFTER: Final = 300
"""Examples on which a bad update is compared while it serves."""
FIRST: Final = 2_000
"""Examples before the first publication, which nothing can be compared with."""

HALTS_MAX: Final = 0.01
STEP: Final = 0.05

Features = dict[str, Any]


class Size(NamedTuple):
    """Publications of healthy updates on each stream; bad updates of each kind."""

    healthy: int
    bad: int


FULL, QUICK = Size(1_000, 200), Size(30, 5)


class Rows(NamedTuple):
    x: list[Features]
    y: list[Label]


def made(rows: int, draw: np.random.Generator) -> Rows:
    """Eight normal features and a logistic truth that wanders slowly, as healthy worlds do."""
    towards = draw.normal(size=8)
    paths = towards + np.cumsum(draw.normal(size=(rows, 8)) * 0.01, axis=0)
    values = draw.normal(size=(rows, 8))
    logits = 4.0 * (values * paths).sum(axis=1) / np.linalg.norm(paths, axis=1)
    y = (draw.random(rows) < 1 / (1 + np.exp(-logits))).astype(int).tolist()
    return Rows([dict(zip("abcdefgh", row, strict=True)) for row in values.tolist()], y)


def run(quick: bool, seed: int) -> Part:
    size = QUICK if quick else FULL
    figures: dict[str, Any] = {"healthy": {}, "bad": {}}
    found: list[Bar] = []
    for name in ("made", "elec2"):
        try:
            told = healthy(name, size.healthy, seed)
        except datasets.Missing as missing:
            figures["healthy"][name] = str(missing)
            continue
        figures["healthy"][name] = told
        if name == "made":
            found.append(bars.at_most("healthy updates halted", told["halted"], HALTS_MAX, "of publications"))
    for kind in BAD:
        figures["bad"][kind] = told = bad(kind, size.bad, seed)
        if kind in SURE:
            found.append(bars.at_least(f"found before publishing: {kind}", told["refused"], 0.95, "of bad updates"))
            median = told["labels"]["median"]
            found.append(
                bars.at_most(
                    f"found while serving: {kind}", math.inf if median is None else median, 60, "labels, median"
                )
            )
    return Part(figures=figures, bars=found)


def healthy(name: str, publications: int, seed: int) -> dict[str, Any]:
    """Halts of updates that are as they should be."""
    counts = {"refused": 0, "rolled_back": 0, "passed": 0}
    reasons: dict[str, int] = {}
    after: list[float] = []
    done = i = 0
    while done < publications:
        draw = np.random.default_rng([seed, 411, i])
        data = made(FIRST + 20 * EVERY, draw) if name == "made" else _elec2(FIRST + 20 * EVERY, draw)
        course = _Course(data, _learner())
        done += course.go()
        for finding in course.findings:
            reasons[finding.check] = reasons.get(finding.check, 0) + 1
        after += course.losses_after
        for kind in counts:
            counts[kind] += course.watchman.figures()[kind]
        i += 1
    halts = counts["refused"] + counts["rolled_back"]
    low, high = stats.binomtest(halts, done).proportion_ci()
    told = {"publications": done, "halted": halts / done, "low": low, "high": high}
    lost = round(float(np.mean(after)), 4) if after else None
    return {**{k: round(v, 5) for k, v in told.items()}, **counts, "reasons": reasons, "refused_lose_after": lost}


class _Course:
    """A learner that is published again and again, under guard."""

    def __init__(self, data: Rows, learner: Any) -> None:
        self.data, self.learner = data, learner
        self.good = learner
        self.next = learner.snapshot()
        self.plan = GuardPlan()
        self.watchman = Watchman(self.plan)
        self.held: list[int] = []
        self.findings: list[guard.Finding] = []
        self.losses_after: list[float] = []
        """Of what each refused candidate would have lost against what served, until the next publication."""

    def go(self) -> int:
        publications = 0
        for i, (x, y) in enumerate(zip(self.data.x, self.data.y, strict=True)):
            if i >= FIRST and i % EVERY == 0:
                publications += 1
                self._publish(i)
            if self.watchman.is_open:
                self._watch(x, y)
            if i % HOLDOUT_EVERY:
                self.learner.learn(x, y)
            else:
                self.held.append(i)
            if i == FIRST - 1:
                self.good = _copy(self.learner.snapshot())
        return publications

    def _publish(self, i: int) -> None:
        verdict = guard.examine(self.plan, _candidate(self.data, self.held, self.learner, self.good))
        self.findings += verdict.broken
        if self.watchman.judge(verdict, float(i) * 60.0):
            self.next = self.learner.snapshot()
            return
        candidate = _copy(self.learner.snapshot())
        after = [
            guard.loss(candidate.predict(x), y, "binary") - guard.loss(self.good.predict(x), y, "binary")
            for x, y in zip(self.data.x[i : i + EVERY], self.data.y[i : i + EVERY], strict=True)
        ]
        self.losses_after.append(float(np.mean(after)))

    def _watch(self, x: Features, y: Label) -> None:
        losses = (guard.loss(one.predict(x), y, "binary") for one in (self.learner, self.good))
        finding = self.watchman.take(*losses)
        if finding is None:
            return
        if finding.holds:
            self.good = _copy(self.next)
        else:
            self.findings.append(finding)
            self.learner.restore(self.good.snapshot())


def _candidate(data: Rows, held: list[int], candidate: Any, good: Any) -> Candidate:
    answers = []
    for i in held[-HOLDOUT:]:
        x = data.x[i]
        half = str(i % (3 * HOLDOUT_EVERY) // HOLDOUT_EVERY)
        answers.append(Answered(data.y[i], candidate.predict(x), good.predict(x), half, (half,)))
    return Candidate("binary", answers, len(candidate.snapshot()))


def _learner() -> Any:
    last = {"river.linear_model.LogisticRegression": {"optimizer": {"river.optim.SGD": {"lr": STEP}}}}
    return registry.make("pipeline", {"steps": ["river.preprocessing.StandardScaler", last]}, "binary", 1)


def _copy(state: bytes) -> Any:
    made = _learner()
    made.restore(state)
    return made


def _elec2(rows: int, draw: np.random.Generator) -> Rows:
    whole = streams.stream("elec2", 45_312, 1)
    start = int(draw.integers(0, len(whole.y) - rows))
    return Rows(whole.x[start : start + rows], whole.y[start : start + rows])


def _scaled(learner: Estimator, data: Rows) -> None:
    weights = learner.model["LogisticRegression"]._weights
    for name in weights:
        weights[name] *= 10.0


def _not_a_number(learner: Estimator, data: Rows) -> None:
    learner.model["LogisticRegression"]._weights["a"] = math.nan


def _flipped(n: int) -> Callable[[Estimator, Rows], None]:
    def plant(learner: Estimator, data: Rows) -> None:
        for x, y in zip(data.x[FIRST - n : FIRST], data.y[FIRST - n : FIRST], strict=True):
            learner.learn(x, 1 - int(y))

    return plant


BAD: Final[dict[str, Callable[[Estimator, Rows], None]]] = {
    "a weight is no number": _not_a_number,
    "weights times ten": _scaled,
    "learned 200 flipped labels": _flipped(200),
    "learned 50 flipped labels": _flipped(50),
}
SURE: Final = ("a weight is no number", "learned 200 flipped labels")


def bad(kind: str, runs: int, seed: int) -> dict[str, Any]:
    """The part refused before publishing, and the labels until a rollback where it is published all the same."""
    refused, delays, lost = 0, [], []
    for i in range(runs):
        data = made(FIRST + AFTER, np.random.default_rng([seed, 412, i]))
        learner: Any = _learner()
        held = list(range(0, FIRST, HOLDOUT_EVERY))
        for j in range(FIRST):
            if j % HOLDOUT_EVERY:
                learner.learn(data.x[j], data.y[j])
        good = _copy(learner.snapshot())
        BAD[kind](learner, data)
        refused += not guard.examine(GuardPlan(), _candidate(data, held, learner, good)).holds
        watchman = Watchman()
        watchman.judge(guard.Verdict(()), 0.0)
        delay, differences = math.inf, []
        for n, (x, y) in enumerate(zip(data.x[FIRST:], data.y[FIRST:], strict=True), 1):
            served, before = (guard.loss(one.predict(x), y, "binary") for one in (learner, good))
            differences.append(min(served, 1.0) - before)
            finding = watchman.take(served, before)
            if finding is not None:
                delay = math.inf if finding.holds else n
                break
        delays.append(delay)
        lost.append(float(np.mean(differences)))
    return {"refused": refused / runs, "labels": bars.delays(delays), "loss": round(float(np.mean(lost)), 4)}
