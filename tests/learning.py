"""Streams, configurations and batches for the tests of learners and of the stages that hold them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np

from learners.contract import Label, Learner
from learners.experts import Experts
from learners.metrics import Task
from learners.registry import make
from stream import codec, config
from stream.contract import EXAMPLES, PREDICTIONS, REQUESTS, Batch, Chunk, Output, Record
from stream.events import Example, Prediction, Request, Vote
from stream.stages.learn import Learn
from stream.stages.roster import Served
from stream.stages.score import Score
from tests.conformance import Scenario

KEY = b"a key for tests, 32 bytes long.."

Pair = tuple[dict[str, Any], Label]


def stream(n: int, task: str = "binary", seed: int = 1, change: int | None = None) -> list[Pair]:
    """Three numbers and a text decide the label, with noise; after `change` the other way round."""
    draw = np.random.default_rng(seed)
    out: list[Pair] = []
    for i in range(n):
        a, b, c, noise = (round(float(v), 6) for v in draw.normal(size=4))
        x: dict[str, Any] = {"a": a, "b": b, "c": 10.0 + c, "word": "rgb"[int(draw.integers(3))]}
        level = 2.0 * a - b + (1.5 if x["word"] == "r" else 0.0) + 0.3 * noise
        if change is not None and i >= change:
            level = -level
        label: dict[str, Label] = {
            "binary": int(level > 0),
            "multiclass": "low" if level < -1 else "high" if level > 1 else "middle",
            "regression": 50.0 + 10.0 * level,
        }
        out.append((x, label[task]))
    return out


def numbers_only(pairs: Iterable[Pair]) -> list[Pair]:
    return [({name: value for name, value in x.items() if name != "word"}, y) for x, y in pairs]


def taught(learner: Learner, pairs: Iterable[Pair]) -> Learner:
    for x, y in pairs:
        learner.learn(x, y)
    return learner


def prequential(learner: Learner, pairs: list[Pair], delay: int = 0) -> float:
    """Share of right answers, each example learned `delay` examples after it was asked."""
    right = 0
    for i, (x, y) in enumerate(pairs):
        right += learner.predict(x).prediction == y
        if i >= delay:
            learner.learn(*pairs[i - delay], lag=min(delay, i - delay))
    return right / len(pairs)


def judged(learner: Experts, pairs: list[Pair], delay: int) -> tuple[float, dict[str, float]]:
    """Accuracy of the mixture and of each of its experts, each example learned so many examples after it was asked."""
    right, experts = 0, np.zeros(len(learner.names))
    for i, (x, y) in enumerate(pairs):
        right += learner.predict(x).prediction == y
        experts += learner.right(x, y)
        if i >= delay:
            learner.learn(*pairs[i - delay], lag=min(delay, i - delay))
    return right / len(pairs), dict(zip(learner.names, experts / len(pairs), strict=True))


class Several:
    """Learners side by side, as one part for the conformance suite."""

    def __init__(self, specs: dict[str, tuple[str, dict[str, Any]]], task: Task) -> None:
        self.learners = {name: make(path, parameters, task, 1) for name, (path, parameters) in specs.items()}

    def feed(self, item: Pair) -> list[Any]:
        """Every learner answers, then learns, as if the label had been 40 examples late."""
        out = []
        for name, learner in self.learners.items():
            out.append([name, *learner.predict(item[0])])
            learner.learn(*item, lag=min(learner.updates, 40))
        return out

    def snapshot(self) -> bytes:
        return codec.pack({name: learner.snapshot() for name, learner in self.learners.items()})

    def restore(self, state: bytes) -> None:
        parts: dict[str, bytes] = codec.unpack(dict[str, bytes], state)
        for name, learner in self.learners.items():
            learner.restore(parts[name])

    def digest(self) -> str:
        return " ".join(learner.digest() for learner in self.learners.values())


def learners_scenario(
    specs: dict[str, tuple[str, dict[str, Any]]], task: Task, pairs: list[Pair], bytes_max: int
) -> Scenario:
    return Scenario(
        make=lambda: Several(specs, task),
        feed=Several.feed,
        items=pairs,
        state_bytes_max=bytes_max,
        digest=Several.digest,
    )


def configured(text: str = "", task: str = "binary") -> config.Config:
    """One model `m`; `text` is what stands under `learn`, indented by six spaces."""
    positive = "    positive: 1\n" if task == "binary" else ""
    return config.parse(f"models:\n  m:\n    task: {task}\n{positive}    learn:\n{text or '      policy: online'}\n")


LOGISTIC = "{pipeline: [river.preprocessing.StandardScaler, river.linear_model.LogisticRegression]}"


LIGHT = f"      champion: {LOGISTIC}\n      publish: 100"
"""A champion that learns in microseconds."""


def batch(topic: str, events: Iterable[msgspec.Struct | bytes | None], start: int = 0) -> Batch:
    """Events as one chunk, written one second apart."""
    records = [Record(i, float(i), b"m", event) for i, event in enumerate(events, start)]
    return Batch(0.0, (Chunk(topic, 0, start, start + len(records), records),))


def example(i: int, x: dict[str, Any], y: Label, served: dict[str, Served] | None = None, **more: Any) -> Example:
    """An example complete at second i, predicted by the learners as they stand now, or by nobody of ours."""
    said = {name: (one, one.learner.predict(x)) for name, one in (served or {}).items()}
    votes = [
        Vote(
            learner=name,
            prediction=answer.prediction,
            score=answer.score,
            probabilities=answer.probabilities,
            model_version=one.version,
            model_updates=one.learner.updates,
        )
        for name, (one, answer) in said.items()
        if name != "champion"
    ]
    prediction = Prediction(prediction_id=str(i), model="m", event_time=float(i), features=x, prediction=0)
    if "champion" in said:
        one, answer = said["champion"]
        prediction.prediction, prediction.score = answer.prediction, answer.score
        prediction.model_version, prediction.model_updates = one.version, one.learner.updates
    return Example(
        prediction=prediction,
        votes=votes,
        label=y,
        label_time=float(i),
        completed=float(i),
        delay_s=0.0,
        **more,
    )


def events(outputs: Iterable[Output], topic: str) -> list[Any]:
    return [output.event for output in outputs if output.topic == topic]


def close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=0.0, abs_tol=1e-12)


def examples(n: int, start: int = 0, seed: int = 1) -> list[Example]:
    """Predicted by somebody else."""
    return [example(start + i, x, y) for i, (x, y) in enumerate(numbers_only(stream(n, seed=seed)))]


def fed(stage: Learn, some: Iterable[msgspec.Struct | bytes], topic: str = EXAMPLES) -> list[Output]:
    return stage.process(batch(topic, some))


def model_figures(stage: Learn) -> Any:
    return stage.figures()["models"]["m"]


def lived_through(stage: Learn, score: Score, asked: Request, y: Label) -> tuple[Prediction, list[Output]]:
    """One event of the loop: answered by the learners as they stand and served by the arm that the routing says, then
    labelled at once and learned. What was served, and what learning caused."""
    i = int(asked.prediction_id)
    served = events(score.process(batch(REQUESTS, [asked], i)), PREDICTIONS)[0]
    made = example(i, asked.features, y, dict(stage.served("m")))
    made.prediction, made.votes = served, [vote for vote in made.votes if vote.learner != served.learner]
    return served, fed(stage, [made])
