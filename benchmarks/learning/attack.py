"""A label source that flips: what it costs a champion that believes every source alike, and one that does not (F36).

Every run has three champions on the same examples: without the attack, attacked, attacked and guarded by
`learners.influence`. The cost of an attack is lost accuracy, in points, of answers against the clean labels, from the
first attacked label on. The same is measured without any attack, and after a true drift that all sources report. What
`learners.guard` and `learners.probation` do is measured in `benchmarks.learning.halts`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.detection import datasets
from benchmarks.detection.bars import Bar, Part, at_most
from benchmarks.learning import halts, streams
from learners import registry
from learners.contract import Learner
from learners.influence import Influence

Ints = NDArray[np.int64]

SOURCES: Final = 4
RIGHT_AFTER: Final = 1_500
"""Examples after a drift whose errors are counted."""

SPAN: Final = 200
RECOVERED: Final = 0.02
"""A champion has recovered from a drift once its accuracy over `SPAN` answers is so near to what it was before."""

FLIPPER: Final = "source 0"


class Size(NamedTuple):
    """Examples of a run, and how many runs of each case."""

    rows: int
    runs: int


FULL, QUICK = Size(8_000, 20), Size(2_000, 3)


class Attack(NamedTuple):
    """`rate` of the first source's labels are flipped, only those of `only` if given; it gives `share` of all labels.
    `region`: nine in ten of its labels are of the examples highest in the first feature. `begins`: part of the run."""

    rate: float
    share: float = 1 / 3
    only: int | None = None
    region: bool = False
    begins: float = 0.25


class Case(NamedTuple):
    stream: str
    learner: str
    attack: Attack
    delay: int = 0
    bound: float | None = 1 / 3
    """Of the cost that the guard may leave; None where it is told without a bar."""


def _logistic(step: float) -> tuple[str, dict[str, Any]]:
    last = {"river.linear_model.LogisticRegression": {"optimizer": {"river.optim.SGD": {"lr": step}}}}
    return "pipeline", {"steps": ["river.preprocessing.StandardScaler", last]}


LEARNERS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "experts": ("experts", {}),
    "logistic 0.01": _logistic(0.01),
    "logistic 0.1": _logistic(0.1),
    "logistic 1": _logistic(1.0),
}

FEW, HALF, DENIED = Attack(0.2), Attack(0.5), Attack(0.5, only=1)
REGION = Attack(0.5, only=1, region=True)
CASES: Final = (
    Case("elec2", "logistic 1", FEW),
    Case("made", "logistic 0.1", FEW),
    Case("rare", "logistic 0.1", FEW),
    Case("rare", "experts", FEW),
    Case("elec2", "logistic 1", DENIED),
    Case("made", "experts", DENIED),
    Case("elec2", "logistic 1", HALF),
    Case("made", "logistic 0.1", REGION),
    Case("elec2", "logistic 1", Attack(0.2, begins=0.0)),
    Case("made", "logistic 0.1", FEW, delay=500),
    Case("elec2", "experts", FEW, bound=None),
    Case("elec2", "experts", DENIED, bound=None),
    Case("elec2", "experts", HALF, bound=None),
    Case("elec2", "logistic 1", REGION, bound=None),
    Case("elec2", "logistic 0.1", FEW, bound=None),
    Case("made", "experts", FEW, bound=None),
    Case("made", "logistic 0.01", FEW, bound=None),
    Case("elec2", "experts", DENIED, delay=500, bound=None),
)
"""Those without a bar cost next to nothing to begin with, or are on elec2, where each label foretells the next: the
labels that are lost with an attacker may cost there what the guard saves, or more (at step 0.1)."""

QUIET: Final = (
    Case("elec2", "experts", Attack(0.0)),
    Case("made", "logistic 0.1", Attack(0.0)),
    Case("elec2", "logistic 1", Attack(0.0)),
    Case("elec2", "logistic 1", Attack(0.0, share=0.7), bound=None),
    Case("elec2", "logistic 1", Attack(0.0, region=True), bound=None),
)
"""No attack. Told without a bar: what the cap takes of an honest source that gives most labels, and what it costs an
honest source to be nearly alone in a region; both cost something, and are what `trusted` is for."""

QUIET_MAX: Final = 0.1
"""Points of accuracy that the guard may cost where there is no attack."""


class Run(NamedTuple):
    x: list[dict[str, Any]]
    y: list[int]
    first: NDArray[np.float64]
    """The feature by which a region is told."""


def run(quick: bool, seed: int) -> Part:
    size = QUICK if quick else FULL
    figures: dict[str, Any] = {"unit": "points of accuracy on clean labels", "runs": size.runs, "rows": size.rows}
    found: list[Bar] = []
    figures["attacks"], figures["quiet"], figures["left_out"] = {}, {}, []
    for case in CASES[:3] if quick else CASES:
        told = _told(case, size, seed, figures)
        if told is None:
            continue
        figures["attacks"][_name(case)] = told
        if case.bound is not None:
            found.append(at_most(f"cost left of {_name(case)}", told["left"], case.bound, "of the unguarded cost"))
    for case in QUIET[:2] if quick else QUIET:
        told = _told(case, size, seed, figures)
        if told is not None:
            figures["quiet"][_name(case)] = told
        if told is not None and case.bound is not None:
            found.append(at_most(f"cost of the guard, {_name(case)}", told["guarded"], QUIET_MAX, "points of accuracy"))
    figures["drift"] = drift = _drift(size, seed)
    found.append(at_most("recovery from a drift, guarded", drift["recovery_ratio"], 1.1, "of the unguarded time"))
    halted = halts.run(quick, seed)
    figures["guard"] = halted["figures"]
    return Part(figures=figures, bars=found + halted["bars"])


def _name(case: Case) -> str:
    attack = case.attack
    what = f"{attack.rate:.0%} of {'labels' if attack.only is None else f'the {attack.only}s'} flipped"
    words = ["no attack" if not attack.rate else what, f"source of {attack.share:.0%}"]
    words += ["in a region"] if attack.region else []
    words += ["from the start"] if not attack.begins else []
    return ", ".join([case.stream, case.learner, *words] + ([f"delay {case.delay}"] if case.delay else []))


def _told(case: Case, size: Size, seed: int, figures: dict[str, Any]) -> dict[str, Any] | None:
    """Mean costs over the runs, and the part of the cost that is left with its standard error (delta method)."""
    try:
        costs = np.array([_costs(case, size.rows, seed, i) for i in range(size.runs)])
    except datasets.Missing as missing:
        figures["left_out"].append(f"{_name(case)}: {missing}")
        return None
    attacked, guarded, brier_attacked, brier_guarded, flip_rate = costs.mean(axis=0).tolist()
    errors = costs.std(axis=0, ddof=1) / math.sqrt(len(costs))
    told = {"attacked": attacked, "guarded": guarded, "guarded_error": errors[1], "flip_rate": flip_rate}
    if case.attack.rate:
        left = guarded / attacked if attacked > 0 else math.inf
        spread = (costs[:, 1] - left * costs[:, 0]).std(ddof=1) / math.sqrt(len(costs)) / max(attacked, 1e-9)
        told |= {"attacked_error": errors[0], "left": left, "left_error": spread}
        told["brier_left"] = brier_guarded / brier_attacked if brier_attacked > 0 else math.inf
    return {name: round(value, 4) for name, value in told.items()}


def _costs(case: Case, rows: int, seed: int, i: int) -> tuple[float, float, float, float, float]:
    data = STREAMS[case.stream](rows, seed, i)
    begins = int(case.attack.begins * rows)
    sources, labels = _attacked(data, case.attack, np.random.default_rng([seed, 402, i]), begins)
    clean = _clean(case.stream, case.learner, case.delay, rows, seed, i)
    unguarded = clean if labels == data.y else _serve(data, labels, case.learner, case.delay)
    influence = Influence("binary")
    guarded = _serve(data, labels, case.learner, case.delay, sources, influence)
    right = [float(_right(said, data.y)[begins:].mean()) for said in (clean, unguarded, guarded)]
    brier = [float(((said - np.array(data.y)) ** 2)[begins:].mean()) for said in (clean, unguarded, guarded)]
    rate = influence.figures()["sources"][FLIPPER]["flip_rate"]
    return (
        100 * (right[0] - right[1]),
        100 * (right[0] - right[2]),
        brier[1] - brier[0],
        brier[2] - brier[0],
        rate,
    )


@lru_cache(maxsize=64)
def _clean(stream: str, learner: str, delay: int, rows: int, seed: int, i: int) -> NDArray[np.float64]:
    data = STREAMS[stream](rows, seed, i)
    return _serve(data, data.y, learner, delay)


def _right(said: NDArray[np.float64], y: list[int]) -> NDArray[np.bool_]:
    return (said >= 0.5) == (np.array(y) == 1)


def _serve(
    data: Run,
    labels: list[int],
    learner: str,
    delay: int,
    sources: list[str] | None = None,
    influence: Influence | None = None,
) -> NDArray[np.float64]:
    """What the champion said of each example, before its label came `delay` examples later."""
    champion: Learner = registry.make(*LEARNERS[learner], "binary", 1)
    waiting: deque[Any] = deque()
    scores = np.empty(len(data.x))
    for i, x in enumerate(data.x):
        said = champion.predict(x)
        scores[i] = said.score
        waiting.append((i, said))
        if len(waiting) > delay:
            j, then = waiting.popleft()
            weight = 1.0 if influence is None or sources is None else influence.weigh(sources[j], labels[j], then)
            champion.learn(data.x[j], labels[j], weight, delay)
    return scores


def _attacked(data: Run, attack: Attack, draw: np.random.Generator, begins: int) -> tuple[list[str], list[int]]:
    """Who labels each example, and what they say."""
    n = len(data.y)
    whose = np.where(draw.random(n) < attack.share, 0, 1 + draw.integers(0, SOURCES - 1, n))
    if attack.region:
        high = data.first > np.quantile(data.first, 1 - attack.share)
        whose = np.where(high & (draw.random(n) < 0.9), 0, 1 + draw.integers(0, SOURCES - 1, n))
    y = np.array(data.y)
    flipped = (whose == 0) & (draw.random(n) < attack.rate) & (np.arange(n) >= begins)
    if attack.only is not None:
        flipped &= y == attack.only
    return [f"source {k}" for k in whose.tolist()], np.where(flipped, 1 - y, y).tolist()


def _made(rows: int, seed: int, i: int, drift_at: int | None = None, offset: float = 0.0) -> Run:
    """Eight normal features and a logistic truth (about 85 % can be foretold); at a drift, it turns around."""
    draw = np.random.default_rng([seed, 401, i])
    towards = draw.normal(size=8)
    values = draw.normal(size=(rows, 8))
    logits = 4.0 * values @ (towards / np.linalg.norm(towards)) - offset
    if drift_at is not None:
        logits[drift_at:] *= -1.0
    y = (draw.random(rows) < 1 / (1 + np.exp(-logits))).astype(int)
    x = [dict(zip("abcdefgh", row, strict=True)) for row in values.tolist()]
    return Run(x, y.tolist(), values[:, 0])


@lru_cache(maxsize=1)
def _whole_elec2() -> streams.Labelled:
    return streams.stream("elec2", 45_312, 1)


def _elec2(rows: int, seed: int, i: int) -> Run:
    """Half-hours of the Australian market, in order, from another one in each run."""
    whole = _whole_elec2()
    start = int(np.random.default_rng([seed, 403, i]).integers(0, len(whole.y) - rows))
    x = whole.x[start : start + rows]
    return Run(x, [int(y) for y in whole.y[start : start + rows]], np.array([row["nswprice"] for row in x]))


def _rare(rows: int, seed: int, i: int) -> Run:
    """The same with a tenth of 1s."""
    return _made(rows, seed, i, offset=6.0)


STREAMS: Final[dict[str, Callable[[int, int, int], Run]]] = {"made": _made, "rare": _rare, "elec2": _elec2}


def _drift(size: Size, seed: int) -> dict[str, Any]:
    """The truth turns around, and every source says so: guarded against unguarded."""
    at = size.rows // 2
    times, errors, lowered = [], [], []
    for i in range(size.runs):
        data = _made(size.rows, seed, i, at)
        sources, labels = _attacked(data, Attack(0.0), np.random.default_rng([seed, 404, i]), 0)
        influence = Influence("binary")
        both = (
            _serve(data, labels, "experts", 0),
            _serve(data, labels, "experts", 0, sources, influence),
        )
        before = float(_right(both[0], data.y)[at - 1_000 : at].mean())
        times.append([_recovery(_right(said, data.y)[at:], before) for said in both])
        errors.append([int((~_right(said, data.y)[at : at + RIGHT_AFTER]).sum()) for said in both])
        lowered.append(sum(one["lowered"] for one in influence.figures()["sources"].values()))
    mean, wrong = np.mean(times, axis=0), np.mean(errors, axis=0)
    return {
        "unit": f"examples until the accuracy of {SPAN} is within {RECOVERED} of before; errors in {RIGHT_AFTER}",
        "unguarded": round(float(mean[0]), 1),
        "guarded": round(float(mean[1]), 1),
        "recovery_ratio": round(float(mean[1] / mean[0]), 4),
        "errors_unguarded": round(float(wrong[0]), 1),
        "errors_guarded": round(float(wrong[1]), 1),
        "examples_lowered": float(np.mean(lowered)),
    }


def _recovery(right: NDArray[np.bool_], before: float) -> int:
    means = np.convolve(right, np.full(SPAN, 1 / SPAN), "valid")
    good = np.flatnonzero(means >= before - RECOVERED)
    return int(good[0]) + SPAN if len(good) else len(right)
