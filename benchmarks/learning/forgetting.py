"""Forgetting on recurring streams: accuracy in the first 1,000 events after an old concept comes back, with a replay
buffer and without, by a paired test over 20 seeds (F27).

Each seed is a stream in which three concepts come, go and come back. Beside the kinds of buffer stands `again`, which
learns every new example twice and keeps nothing: what it gains too comes from more steps, not from memory. Labels are
prompt, or a thousand events late; then nothing of the concept that came back is known while it is judged, so a model
without memory answers by the rules of the concept before. Owns the streams, the pairs and the test. The loop is the
learn stage's own in short; that it is the same is checked by running the stage.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.detection.bars import SURE, Bar, Part, at_least, at_most, known
from learners import registry, replay
from learners.contract import Label, Said
from learners.metrics import Task
from learners.policies import Item, decode, encode
from stream import config
from stream.contract import EXAMPLES, Batch, Chunk, Record
from stream.events import Example, Prediction
from stream.stages.learn import Learn

Floats = NDArray[np.float64]
Pair = tuple[dict[str, Any], Label]

CONCEPTS: Final = 3
PHASES: Final = (0, 1, 2, 0, 1, 2)
PHASE_EVENTS: Final = 1_200
SCORED: Final = 1_000
"""Events after a return that count."""

SEEDS: Final = 20
SEEDS_QUICK: Final = 6
LATE: Final = 1_000
BUFFER_BYTES: Final = 130_000
"""About 650 examples of ten features, a tenth of what is seen, so that what a buffer gives up matters."""

FEATURES: Final = 10
RADIUS: Final = 2.5
"""Distance of each cluster's centre from the origin, in standard deviations of the clusters."""

SEA: Final = (8.0, 9.0, 7.0)
NOISE: Final = 0.1

AGAIN: Final = "again"


class Setting(NamedTuple):
    """A kind of buffer, or `again`, and how many examples are learned with every new one."""

    kind: str
    replay: int

    @property
    def name(self) -> str:
        return f"{self.kind} x{self.replay}" if self.replay else "none"


NONE: Final = Setting("reservoir", 0)
SETTINGS: Final = (
    Setting(AGAIN, 1),
    Setting("reservoir", 1),
    Setting("reservoir", 3),
    Setting("recent", 1),
    Setting("balanced", 1),
    Setting("prioritised", 1),
)


class Case(NamedTuple):
    """A stream, a learner by class path, and how many events late its labels are."""

    stream: str
    learner: str
    late: int

    @property
    def task(self) -> Task:
        return "multiclass" if self.stream == "classes" else "binary"


LOGISTIC: Final = "river.linear_model.LogisticRegression"
SOFTMAX: Final = "river.linear_model.SoftmaxRegression"
TREE: Final = "river.tree.HoeffdingTreeClassifier"

QUICK: Final = (Case("patterns", LOGISTIC, LATE),)
LIGHT: Final = (
    *(
        Case(stream, SOFTMAX if stream == "classes" else LOGISTIC, late)
        for stream in ("patterns", "classes", "sea", "flip")
        for late in (0, LATE)
    ),
    *(Case("patterns", TREE, late) for late in (0, LATE)),
)
MAIN: Final = Case("patterns", "experts", LATE)
HEAVY: Final = (
    *(Case("patterns", "experts", late) for late in (0, 100, 300)),
    *(Case(stream, "experts", LATE) for stream in ("classes", "sea", "flip")),
    Case("flip", "experts", 0),
)
"""The engine's default learner costs ten times as much: only with what is recommended, and `again` in the main case."""

RECOMMENDED: Final = Setting("reservoir", 1)
"""Where labels are a hundred events late and more. With prompt labels a learner that adapts at once has little to gain
and loses by old labels, most where they contradict the new ones. The kind that asks nothing of labels and losses gains
nearly as much as the others; three replays gain more than one where labels are late, and cost more where they are not.
"""


def run(quick: bool, seed: int) -> Part:
    """In the quick form one case with fewer seeds; in the full form the default learner decides the bars."""
    seeds = range(seed, seed + (SEEDS_QUICK if quick else SEEDS))
    rows = [row for case in (QUICK if quick else LIGHT) for row in compared(case, SETTINGS, seeds)]
    if not quick:
        rows += compared(MAIN, (Setting(AGAIN, 1), RECOMMENDED), seeds)
        rows += [row for case in HEAVY for row in compared(case, (RECOMMENDED,), seeds)]
    main = QUICK[0] if quick else MAIN
    apart = abs(staged(main, RECOMMENDED, seed) - scores(main, RECOMMENDED, seed)[0])
    hurts = [f"{r['stream']}, {r['learner']}, {r['late']} late: {r['setting']}" for r in rows if r["high"] < 0]
    return Part(figures={"rows": rows, "hurts": hurts}, bars=_bars(rows, main, apart))


def _bars(rows: Sequence[Mapping[str, Any]], main: Case, apart: float) -> list[Bar]:
    own = {r["setting"]: r for r in rows if (r["stream"], r["learner"], r["late"]) == main}
    where = f"{main.stream}, {main.learner.rsplit('.', 1)[-1]}, labels {main.late:,} late"
    best = own[RECOMMENDED.name]
    return [
        at_least(f"{where}: points gained after a return, low end", best["low"], 0.0, "points"),
        at_most(f"{where}: p of the paired test", best["p"], 0.05, "p"),
        at_least(f"{where}: gained beyond learning twice", best["gain"] - own[f"{AGAIN} x1"]["gain"], 0.0, "points"),
        at_most("the learn stage beside this loop", apart, 0.0, "difference of accuracy"),
    ]


# -- the paired test --------------------------------------------------------------------------------------------------


def compared(case: Case, settings: Sequence[Setting], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Of each setting: accuracy after returns and over the whole stream, and what it gains over none."""
    runs = np.array([[scores(case, setting, seed) for setting in (NONE, *settings)] for seed in seeds])
    bare = runs[:, 0]
    rows = []
    for setting, own in zip(settings, runs.swapaxes(0, 1)[1:], strict=True):
        gains = paired(100.0 * (own[:, 0] - bare[:, 0]))
        rows.append(
            {"stream": case.stream, "learner": case.learner, "late": case.late, "setting": setting.name}
            | {"without": known(100.0 * bare[:, 0].mean()), "with": known(100.0 * own[:, 0].mean())}
            | gains
            | {"gain_everywhere": known(100.0 * (own[:, 1] - bare[:, 1]).mean())}
        )
    return rows


def paired(differences: Floats) -> dict[str, Any]:
    """Mean of the differences with its 95 % interval and the two-sided p of Student's paired test, and how many are
    above 0.

    >>> paired(np.array([1.0, 2.0, 3.0]))
    {'gain': 2.0, 'low': -0.4841, 'high': 4.4841, 'p': 0.0741799, 'better': 3, 'seeds': 3}
    """
    n = len(differences)
    mean, error = float(differences.mean()), float(differences.std(ddof=1)) / n**0.5
    reach = error * float(stats.t.isf((1 - SURE) / 2, n - 1))
    p = 2 * float(stats.t.sf(abs(mean) / error, n - 1)) if error else float(mean == 0)
    better = int((differences > 0).sum())
    return {"gain": known(mean), "low": known(mean - reach), "high": known(mean + reach), "p": round(p, 9),
            "better": better, "seeds": n}  # fmt: skip


def scores(case: Case, setting: Setting, seed: int) -> tuple[float, float]:
    """Accuracy after returns, and over the whole stream."""
    right = answered(case, setting, seed)
    return after_returns(right), float(right.mean())


def after_returns(right: Floats) -> float:
    """Mean over the first events of each phase whose concept has been there before."""
    starts = [i * PHASE_EVENTS for i, concept in enumerate(PHASES) if concept in PHASES[:i]]
    return float(np.mean([right[start : start + SCORED].mean() for start in starts]))


# -- learning ---------------------------------------------------------------------------------------------------------


def answered(case: Case, setting: Setting, seed: int) -> Floats:
    """Which answers were right: each example is predicted, and learned once its label has come, with what is replayed.
    A learner counts its lag in updates, those of replayed examples among them."""
    pairs = pairs_of(case.stream, seed)
    learner = registry.make(case.learner, {}, case.task, seed)
    buffer = None if setting.kind == AGAIN else replay.make(setting.kind, BUFFER_BYTES, seed, case.task)
    said: list[tuple[Said, int]] = []
    for i, (x, _) in enumerate(pairs):
        said.append((learner.predict(x), learner.updates))
        if i < case.late:
            continue
        (past_x, y), (answer, updates) = pairs[i - case.late], said[i - case.late]
        item = Item(past_x, y, 1.0, float(i), learner.updates - updates)
        learner.learn(item.x, item.y, item.weight, item.lag)
        if buffer is None:
            replayed = [item] * setting.replay
        else:
            replayed = [decode(old) for old in buffer.draw(setting.replay, i - case.late)]
            buffer.add(encode(item), y, replay.loss(case.task, answer, y))
        for old in replayed:
            learner.learn(old.x, old.y, old.weight, old.lag)
    return np.array([answer.prediction == y for (answer, _), (_, y) in zip(said, pairs, strict=True)], np.float64)


def staged(case: Case, setting: Setting, seed: int) -> float:
    """The same through the engine's learn stage, as a configuration turns it on."""
    text = f"""
models:
  m:
    task: {case.task}
    learn:
      champion: {case.learner}
      seed: {seed}
      buffer: {{kind: {setting.kind}, bytes: {BUFFER_BYTES}, replay: {setting.replay}}}
      guard: null  # it would halt learning at the first change of concept, and the loop has none
"""
    stage = Learn(config.parse(text), 0, 1, None)
    pairs = pairs_of(case.stream, seed)
    asked: list[Prediction] = []
    for i, (x, _) in enumerate(pairs):
        served = stage.served("m")["champion"]
        answer = served.learner.predict(x)
        asked.append(
            Prediction(
                prediction_id=str(i), model="m", event_time=float(i), features=x, prediction=answer.prediction,
                score=answer.score, probabilities=answer.probabilities, model_version=served.version,
                model_updates=served.learner.updates,
            )
        )  # fmt: skip
        if i >= case.late:
            at = i - case.late
            example = Example(
                prediction=asked[at],
                label=pairs[at][1],
                label_time=float(i),
                completed=float(i),
                delay_s=float(case.late),
            )
            stage.process(Batch(0.0, (Chunk(EXAMPLES, 0, at, at + 1, [Record(at, float(i), b"m", example)]),)))
    return after_returns(np.array([one.prediction == y for one, (_, y) in zip(asked, pairs, strict=True)], np.float64))


# -- streams ----------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=2)
def pairs_of(name: str, seed: int) -> list[Pair]:
    return list(STREAMS[name](seed))


def _clusters(seed: int, label: Callable[[int], Label]) -> Iterator[Pair]:
    """Each concept has two clusters of its own, so the inputs tell which concept it is, and one rule can know all."""
    draw = np.random.default_rng([seed, 27])
    centres = draw.normal(size=(2 * CONCEPTS, FEATURES))
    centres *= RADIUS / np.linalg.norm(centres, axis=1, keepdims=True)
    for concept in PHASES:
        for _ in range(PHASE_EVENTS):
            cluster = 2 * concept + int(draw.integers(2))
            yield _features(draw.normal(size=FEATURES) + centres[cluster]), label(cluster)


def patterns(seed: int) -> Iterator[Pair]:
    """One of a concept's clusters is 1, the other 0: a pattern of fraud that comes back."""
    return _clusters(seed, lambda cluster: cluster % 2)


def classes(seed: int) -> Iterator[Pair]:
    """Each cluster is a class, so a concept has two of the six."""
    return _clusters(seed, lambda cluster: f"class {cluster}")


def sea(seed: int) -> Iterator[Pair]:
    """Street and Kim 2001: the sum of two of three features against a threshold that moves, with noise. The inputs do
    not tell the concept, and concepts agree on most of them."""
    draw = np.random.default_rng([seed, 28])
    for concept in PHASES:
        for _ in range(PHASE_EVENTS):
            x = draw.uniform(0.0, 10.0, size=3)
            yield _features(x), int((x[0] + x[1] <= SEA[concept]) != (draw.uniform() < NOISE))


def flip(seed: int) -> Iterator[Pair]:
    """The same inputs and the labels turned round in the second concept: what was learned before is wrong now, and
    nothing but the labels says so."""
    draw = np.random.default_rng([seed, 29])
    rule = draw.normal(size=FEATURES)
    for concept in PHASES:
        for _ in range(PHASE_EVENTS):
            x = draw.normal(size=FEATURES)
            yield _features(x), int((float(x @ rule) > 0.0) != (concept == 1))


def _features(x: Floats) -> dict[str, Any]:
    return {f"x{i}": round(float(value), 4) for i, value in enumerate(x)}


STREAMS: Final[Mapping[str, Callable[[int], Iterator[Pair]]]] = {
    "patterns": patterns,
    "classes": classes,
    "sea": sea,
    "flip": flip,
}
