"""What the engine adds to learning: the learn stage against a bare loop with the very same model.

Both answer each example and then learn it; CPU time, the two by turns in one process, medians. The examples are made
beforehand, as structs: that is how stages of one process hand them on. River's models are looped over as River's own
users do it; the default champion, which is no model of River's, by its own `predict` and `learn`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

from river import linear_model, neighbors, optim, preprocessing, tree

from benchmarks.detection.bars import Part, at_most
from benchmarks.detection.datasets import Missing
from benchmarks.learning import streams
from benchmarks.learning.streams import Labelled
from learners.classpaths import build
from learners.experts import STEPS
from learners.neighbours import NEAREST, WINDOW
from learners.registry import NAMED, make
from learners.trees import SPAN, TREE_DEPTH_MAX
from stream import config
from stream.contract import EXAMPLES, Batch, Chunk, Record
from stream.events import Example, Prediction
from stream.stages.learn import Learn

BOUND: Final = 10.0
"""Percent."""

BATCH: Final = 500

PIPELINE: Final = "pipeline: [river.preprocessing.StandardScaler, river.linear_model.LogisticRegression]"
MODELS: Final[Mapping[str, str]] = {
    "scaler, logistic": PIPELINE,
    "Hoeffding tree": "river.tree.HoeffdingTreeClassifier: {}",
    "HAT": "river.tree.HoeffdingAdaptiveTreeClassifier: {seed: 1}",
    "ARF(3)": "river.forest.ARFClassifier: {n_models: 3, seed: 1}",
    "ARF(10)": "river.forest.ARFClassifier: {n_models: 10, seed: 1}",
    "default champion": "experts: {}",
}
"""As a user writes them; the bare loop builds the same."""

SHOWN: Final = ("scaler, logistic",)
"""At some 25 us an example a percentage means nothing; all others are held to the bound."""


RIVERS: Final = "learn stage, default champion, over River's loop of its experts"


class Size(NamedTuple):
    """Rows, and how often each of the two is run."""

    rows: int
    repeats: int


FULL: Final = Size(10_000, 7)
QUICK: Final = Size(1_500, 3)


def learned_bare(spec: config.Learn, pairs: Labelled) -> None:
    path, parameters = spec.champion.path, spec.champion.parameters
    if path in NAMED:
        learner = make(path, parameters, pairs.task, spec.seed)
        answer, learn = learner.predict, learner.learn
    else:
        model: Any = build(path, parameters)
        answer, learn = model.predict_one, model.learn_one
    for x, y in zip(pairs.x, pairs.y, strict=True):
        answer(x)
        learn(x, y)


def learned_by_stage(configured: config.Config, batches: list[Batch]) -> None:
    stage = Learn(configured, 0, 1, None)
    for batch in batches:
        stage.process(batch)


class Forgetting:
    """A pair of River's trees that start some examples apart; the elder answers."""

    def __init__(self) -> None:
        self.elder, self.younger, self.learned = _tree(), _tree(), 0

    def predict_one(self, x: dict[str, Any]) -> Any:
        return self.elder.predict_one(x)

    def learn_one(self, x: dict[str, Any], y: Any) -> None:
        self.elder.learn_one(x, y)
        self.learned += 1
        if self.learned > SPAN:
            self.younger.learn_one(x, y)
            if self.learned % SPAN == 0:
                self.elder, self.younger = self.younger, _tree()


def _tree() -> Any:
    return tree.HoeffdingTreeClassifier(grace_period=50, delta=1e-3, leaf_prediction="mc", max_depth=TREE_DEPTH_MAX)


def _logistic(step: float) -> Any:
    return preprocessing.StandardScaler() | linear_model.LogisticRegression(optim.SGD(step))


def rivers() -> dict[str, list[Any]]:
    """River's models for the experts of the default champion, by kind. Its three networks of random hinges have no
    counterpart in River and are left out, as is the weighing of the experts."""
    engine = neighbors.LazySearch(window_size=WINDOW)
    near = preprocessing.StandardScaler() | neighbors.KNNClassifier(n_neighbors=NEAREST, engine=engine)
    return {"logistic": [_logistic(step) for step in STEPS], "trees": [_tree(), Forgetting()], "nearest": [near]}


def learned_by_rivers(models: list[Any], pairs: Labelled) -> None:
    for x, y in zip(pairs.x, pairs.y, strict=True):
        for model in models:
            model.predict_one(x)
            model.learn_one(x, y)


def beside_rivers(stream: Labelled, repeats: int) -> dict[str, Any]:
    """The default champion in the stage and River's loop of its experts, by turns."""
    whole, fed, rows = configured(MODELS["default champion"]), batches(stream), len(stream.x)
    pairs = []
    for _ in range(repeats):
        costs = {kind: cost_us(partial(learned_by_rivers, models, stream), rows) for kind, models in rivers().items()}
        pairs.append((costs, cost_us(lambda: learned_by_stage(whole, fed), rows)))
    shares = {kind: statistics.median(costs[kind] for costs, _ in pairs) for kind in pairs[0][0]}
    over = [100.0 * (stage / sum(costs.values()) - 1.0) for costs, stage in pairs]
    return {
        "experts": {kind: len(models) for kind, models in rivers().items()},
        "bare_us": {kind: round(cost, 2) for kind, cost in shares.items()},
        "stage_us": round(statistics.median(stage for _, stage in pairs), 2),
        "overhead_percent": round(statistics.median(over), 2),
    }


def configured(text: str) -> config.Config:
    learn = f"    learn:\n      policy: online\n      champion: {{{text}}}\n"
    return config.parse(f"models:\n  m:\n    task: binary\n    positive: 1\n{learn}")


def batches(stream: Labelled) -> list[Batch]:
    """Examples that somebody else predicted, complete a second apart: the stage asks its learners itself."""
    records = [
        Record(
            i,
            float(i),
            b"m",
            Example(
                prediction=Prediction(prediction_id=str(i), model="m", event_time=float(i), features=x, prediction=0),
                votes=[],
                label=y,
                label_time=float(i),
                completed=float(i),
                delay_s=0.0,
            ),
        )
        for i, (x, y) in enumerate(zip(stream.x, stream.y, strict=True))
    ]
    return [
        Batch(0.0, (Chunk(EXAMPLES, 0, start, start + len(part), part),))
        for start in range(0, len(records), BATCH)
        for part in [records[start : start + BATCH]]
    ]


def cost_us(run: Callable[[], None], rows: int) -> float:
    began_ns = time.process_time_ns()
    run()
    return (time.process_time_ns() - began_ns) / 1e3 / rows


def compare(text: str, stream: Labelled, repeats: int) -> dict[str, Any]:
    """Medians of both, in us an example, and what the stage adds to the bare loop, also in percent: medians over pairs
    that ran one after the other, so that a machine that slows down slows both."""
    whole = configured(text)
    learn = whole.models["m"].learn
    assert learn is not None
    fed, rows = batches(stream), len(stream.x)
    pairs = [
        (cost_us(lambda: learned_bare(learn, stream), rows), cost_us(lambda: learned_by_stage(whole, fed), rows))
        for _ in range(repeats)
    ]
    return {
        "bare_us": round(statistics.median(bare for bare, _ in pairs), 2),
        "stage_us": round(statistics.median(stage for _, stage in pairs), 2),
        "added_us": round(statistics.median(stage - bare for bare, stage in pairs), 2),
        "overhead_percent": round(statistics.median(100.0 * (stage / bare - 1.0) for bare, stage in pairs), 2),
    }


def run(quick: bool, seed: int) -> Part:
    size = QUICK if quick else FULL
    try:
        stream = streams.stream("elec2", size.rows, seed)
    except Missing:
        stream = streams.stream("agrawal gradual", size.rows, seed)
    found = {name: compare(text, stream, size.repeats) for name, text in MODELS.items()}
    bars = [
        at_most(f"learn stage over a bare loop, {n}", found[n]["overhead_percent"], BOUND, "%")
        for n in MODELS
        if n not in SHOWN
    ]
    beside = beside_rivers(stream, size.repeats)
    bars.append(at_most(RIVERS, beside["overhead_percent"], BOUND, "%"))
    figures = {"unit": "us an example", "stream": stream.name, "models": found, "rivers": beside}
    return Part(figures=figures, bars=bars)
