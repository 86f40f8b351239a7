"""Trials of challengers: how seldom the worse one is promoted, how soon the better one (F30, F31, F32).

Simulated: 0/1 losses of two models that are right or wrong together on 80 % or 90 % of the examples, looked at every
100 labels, straight from shadow and with the default ramp; beside the trial a z-test that is looked at as often; and
how long it was foretold to take.

Learned: a logistic regression and a Hoeffding tree on River's radial basis functions, the one as challenger of the
other. Frozen after a warm-up, so that held-out rows say which one is better; and learning from nothing, where that
changes on the way: no bar is set there, as there is no truth to hold the decision against. The last of them turns to
a plane half-way, which the linear model learns sooner.
"""

from __future__ import annotations

from itertools import chain, islice
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from river import linear_model, optim, preprocessing, tree
from river.datasets import synth
from scipy import stats

from benchmarks.detection import bars
from benchmarks.detection.bars import Bar, Part, at_least, at_most
from learners.duration import expected_labels, fixed_labels
from learners.trials import Step, Trial, TrialPlan

Floats = NDArray[np.float64]

ALPHA: Final = 0.05
LOOK: Final = 100
AGREEMENTS: Final = (0.8, 0.9)
EFFECTS: Final = (-0.02, -0.01, 0.0, 0.02)
WITHIN: Final = {0.8: 12_000, 0.9: 6_000}
"""Labels within which nine in ten of the better challengers are to be promoted: half more than `expected_labels` says
for a gain of 2 points and a power of 0.9 (7,851 and 3,927)."""

RAMP_LABELS: Final = 2_000
"""More labels for the default ramp, three shares of 500 at the least each."""

ROWS: Final = 12_000
TURN: Final = 6_000
WARM_UP: Final = 4_000
CLEARLY: Final = 0.02
"""A held-out gain from which on a challenger is to be promoted within `ROWS` labels."""


class Size(NamedTuple):
    """Runs of each setting; agreements; seeds of the learned streams; rows held out."""

    runs: int
    agreements: tuple[float, ...]
    streams: int
    held_out: int


FULL: Final = Size(400, AGREEMENTS, 20, 20_000)
QUICK: Final = Size(200, (0.9,), 1, 5_000)


class Ended(NamedTuple):
    """One simulated trial: how it ended, the labels until promotion (infinite if never), and whether the peeking z-test
    would have promoted."""

    state: str
    labels: float
    peeked: bool


def losses(draw: np.random.Generator, n: int, effect: float, disagreement: float) -> tuple[Floats, Floats]:
    """(n,) 0/1 losses of champion and challenger; where they agree, four in five answers are right."""
    chance = draw.random(n)
    only_challenger = chance < (disagreement + effect) / 2
    only_champion = ~only_challenger & (chance < disagreement)
    both_wrong = chance > 1 - 0.2 * (1 - disagreement)
    return (only_challenger | both_wrong).astype(float), (only_champion | both_wrong).astype(float)


def simulated(plan: TrialPlan, labels: int, effect: float, disagreement: float, key: list[int]) -> Ended:
    champion, challenger = losses(np.random.default_rng(key), labels, effect, disagreement)
    trial, promoted = Trial(plan), np.inf
    for start in range(0, labels, LOOK):
        trial.take(champion[start : start + LOOK, None], challenger[start : start + LOOK, None])
        step = trial.check(start + LOOK)
        if step is not None and step.state_to == "promoted":
            promoted = start + LOOK
        if trial.over or promoted < np.inf:
            break
    return Ended(trial.state, promoted, _peeked(champion - challenger))


def _peeked(d: Floats) -> bool:
    n = np.arange(LOOK, len(d) + 1, LOOK)
    total, squares = np.cumsum(d)[n - 1], np.cumsum(d * d)[n - 1]
    spread = np.sqrt(np.maximum(squares - total**2 / n, 1e-9))
    return bool((total / spread > stats.norm.ppf(1 - ALPHA)).any())


def _setting(size: Size, seed: int, effect: float, agreement: float, plan: TrialPlan, labels: int) -> dict[str, Any]:
    ends = [simulated(plan, labels, effect, 1 - agreement, [seed, run, labels]) for run in range(size.runs)]
    found = np.array([end.labels for end in ends])
    promoted = np.isfinite(found)
    low, high = stats.binomtest(int(promoted.sum()), len(ends)).proportion_ci()
    return {
        "agreement": agreement,
        "effect": effect,
        "ramp": list(plan.ramp),
        "labels_max": labels,
        "runs": len(ends),
        "promoted": round(float(promoted.mean()), 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "retired_as_worse_or_equal": round(sum(end.state == "retired" for end in ends) / len(ends), 4),
        "labels_median": bars.known(float(np.quantile(found, 0.5, method="inverted_cdf"))),
        "labels_p90": bars.known(float(np.quantile(found, 0.9, method="inverted_cdf"))),
        "promoted_by_peeking_z_test": round(float(np.mean([end.peeked for end in ends])), 4),
    }


def _simulations(size: Size, seed: int) -> tuple[dict[str, Any], list[Bar]]:
    settings, found = [], []
    for agreement in size.agreements:
        labels = WITHIN[agreement]
        plan = TrialPlan(ramp=(), labels_min=LOOK, labels_max=labels)
        for effect in EFFECTS:
            one = _setting(size, seed, effect, agreement, plan, labels)
            settings.append(one)
            words = f"{100 * effect:+.0f} points promoted within {labels:,} labels, agreement {agreement}"
            bar = at_least if effect > 0 else at_most
            found.append(bar(words, one["promoted"], 0.9 if effect > 0 else ALPHA, "of runs"))
        ramped = TrialPlan(labels_max=labels + RAMP_LABELS)
        settings.append(_setting(size, seed, 0.02, agreement, ramped, labels + RAMP_LABELS))
    durations = [_duration(settings, agreement) for agreement in size.agreements]
    return {"settings": settings, "durations": durations}, found


def _duration(settings: list[dict[str, Any]], agreement: float) -> dict[str, Any]:
    """Of a gain of 2 points: foretold, simulated, and by a z-test that is looked at once, with a power of 0.9."""
    came = next(one for one in settings if (one["agreement"], one["effect"], one["ramp"]) == (agreement, 0.02, []))
    disagreement = 1 - agreement
    return {
        "agreement": agreement,
        "foretold_median": expected_labels(0.02, disagreement, ALPHA, 0.5),
        "median": came["labels_median"],
        "foretold_p90": expected_labels(0.02, disagreement, ALPHA, 0.9),
        "p90": came["labels_p90"],
        "fixed_sample_of_power_0.9": fixed_labels(0.02, disagreement, ALPHA, 0.9),
    }


def models() -> dict[str, Any]:
    return {
        "logistic": preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(0.01)),
        "tree": tree.HoeffdingTreeClassifier(grace_period=100),
    }


def prequential(stream: Any) -> dict[str, Floats]:
    """(n,) 0/1 losses of each model, every example asked before it is learned."""
    made = models()
    found: dict[str, list[float]] = {name: [] for name in made}
    for x, y in stream:
        for name, model in made.items():
            found[name].append(float(model.predict_one(x) != y))
            model.learn_one(x, y)
    return {name: np.array(own) for name, own in found.items()}


def tried(champion: Floats, challenger: Floats, plan: TrialPlan) -> list[Step]:
    trial, steps = Trial(plan), []
    for start in range(0, len(champion), LOOK):
        rows = slice(start, start + LOOK)
        trial.take(champion[rows, None], challenger[rows, None], start + np.arange(len(champion[rows])))
        step = trial.check(start + LOOK)
        steps += [step] if step is not None else []
    return steps


def _rbf(seed: int) -> Any:
    return synth.RandomRBF(seed_model=seed, seed_sample=seed, n_centroids=20)


def _frozen(size: Size, seed: int) -> tuple[dict[str, Any], list[Bar]]:
    """Each model as challenger of the other, neither learning any more."""
    rows = []
    for own in range(seed, seed + size.streams):
        stream = iter(_rbf(own))
        made = models()
        for x, y in islice(stream, WARM_UP):
            for model in made.values():
                model.learn_one(x, y)
        rest = [(x, y) for x, y in islice(stream, ROWS + size.held_out)]
        lost = {name: np.array([float(model.predict_one(x) != y) for x, y in rest]) for name, model in made.items()}
        for champion, challenger in (("logistic", "tree"), ("tree", "logistic")):
            gain = float((lost[champion] - lost[challenger])[ROWS:].mean())
            steps = tried(lost[champion][:ROWS], lost[challenger][:ROWS], TrialPlan(labels_max=ROWS))
            rows.append(
                {
                    "seed": own,
                    "challenger": challenger,
                    "gain": round(gain, 4),
                    "agreement": round(float((lost[champion] == lost[challenger]).mean()), 4),
                    "promoted": any(step.state_to == "promoted" for step in steps),
                    "steps": _told(steps),
                }
            )
    better = [row["promoted"] for row in rows if row["gain"] >= CLEARLY]
    worse = [row["promoted"] for row in rows if row["gain"] <= 0]
    found = [at_most("worse frozen model promoted", float(np.mean(worse)), ALPHA, "of trials")]
    if better:
        found.append(at_least("frozen model better by 2 points promoted", float(np.mean(better)), 0.9, "of trials"))
    return {"trials": rows, "clearly_better": len(better), "worse": len(worse)}, found


def _learning(size: Size, seed: int) -> list[dict[str, Any]]:
    rows = []
    for own in range(seed, seed + size.streams // 2 + 1):
        still = prequential(islice(_rbf(own), ROWS))
        plane = synth.Hyperplane(seed=own, noise_percentage=0.05)
        turning = prequential(chain(islice(_rbf(own), TURN), islice(plane, ROWS - TURN)))
        plan = TrialPlan(labels_max=ROWS)
        rows.append(
            {
                "seed": own,
                "accuracy": {name: round(1 - float(lost.mean()), 4) for name, lost in still.items()},
                "tree_against_logistic": _told(tried(still["logistic"], still["tree"], plan)),
                "logistic_against_tree": _told(tried(still["tree"], still["logistic"], plan)),
                "turning": _told(tried(turning["logistic"], turning["tree"], plan)),
            }
        )
    return rows


def _told(steps: list[Step]) -> list[str]:
    return [f"{step.at:.0f}: {step.state_to} {step.share:g}, {step.why}" for step in steps]


def run(quick: bool, seed: int) -> Part:
    """All of it: about 2 minutes of CPU in full, 10 s quick."""
    size = QUICK if quick else FULL
    figures, found = _simulations(size, seed)
    frozen, more = _frozen(size, seed)
    return Part(figures=figures | {"frozen": frozen, "learning": _learning(size, seed)}, bars=found + more)
