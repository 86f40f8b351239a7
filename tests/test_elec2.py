"""Elec2, a real stream, its labels 1,000 events late: the engine against a few lines of plain River (F23, F28)."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from river import linear_model, preprocessing, tree

from stream.config import Config, parse
from stream.contract import PREDICTIONS
from stream.events import Prediction
from stream.runtime.embedded import Embedded
from stream.runtime.feed import Feed
from stream.runtime.replay import replay
from stream.surface import report

DATA = Path(__file__).parent.parent.parent / "shared" / "data" / "elec2.csv.gz"
ROWS = 45_312
"""All of it."""

FIRST = 12_000
"""Predictions and labels of which every answer is compared."""

DELAY = 1_000

SETTINGS = f"""
models:
  elec2:
    task: binary
    positive: UP
    labels: {{horizon: 7d}}
    learn:
      champion: {{pipeline: [river.preprocessing.StandardScaler, river.linear_model.LogisticRegression]}}
      challengers: {{tree: river.tree.HoeffdingTreeClassifier}}
input: {{model: elec2, label: class, label_delay: {{events: {DELAY}}}}}
"""

pytestmark = pytest.mark.skipif(
    not DATA.exists(),
    reason="elec2.csv.gz is not the project's to ship; put it under ../shared/data (see README, Tests)",
)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first rows of the stream."""
    path = tmp_path_factory.mktemp("elec2") / "elec2.csv"
    with gzip.open(DATA, "rt") as file:
        path.write_text("".join(line for _, line in zip(range(ROWS + 1), file, strict=False)))
    return path


@pytest.fixture(scope="module")
def settings() -> Config:
    return parse(SETTINGS)


def plain_river(path: Path, model: Any) -> list[int]:
    """Answers, each given before the row that came 1,000 earlier is learned; an answer of nothing counts as 0."""
    with path.open() as file:
        rows = [
            ({k: float(v) for k, v in row.items() if k != "class"}, row["class"] == "UP")
            for row in csv.DictReader(file)
        ]
    answers = []
    for i, (x, _) in enumerate(rows):
        answers.append(int(model.predict_one(x) or 0))
        if i >= DELAY:
            model.learn_one(*rows[i - DELAY])
    return answers


MODELS: dict[str, Callable[[], Any]] = {
    "champion": lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression(),
    "tree": tree.HoeffdingTreeClassifier,
}


@pytest.fixture(scope="module")
def plain(head: Path) -> dict[str, list[int]]:
    return {name: plain_river(head, make()) for name, make in MODELS.items()}


def test_champion_and_shadow_answer_as_plain_river_does(
    head: Path, settings: Config, plain: dict[str, list[int]]
) -> None:
    """F23, F28, F30: every single answer, so every figure made of them to the last digit."""
    embedded = Embedded(settings, keep=(PREDICTIONS,))
    for _ in islice(embedded.run(Feed(settings, head)), FIRST):
        pass
    embedded.finish()
    said: dict[str, list[int]] = {"champion": [], "tree": [], "baseline": []}
    for _, event in embedded.logs[PREDICTIONS]:
        assert isinstance(event, Prediction) and isinstance(event.prediction, int)
        said[event.learner].append(event.prediction)
    assert len(said["tree"]) > FIRST / 3
    for name, answers in plain.items():
        assert said[name] == answers[: len(said[name])]


def test_the_accuracy_of_a_replay_is_that_of_plain_river(
    head: Path, settings: Config, plain: dict[str, list[int]]
) -> None:
    """F23, F45: every label comes in the end, so the accuracy is over all rows."""
    with head.open() as file:
        labels = [int(row["class"] == "UP") for row in csv.DictReader(file)]
    document = replay(settings, head).to_dict()
    learners, shown = document["learning"]["models"]["elec2"]["learners"], report.render(document)
    for name, answers in plain.items():
        right = sum(answer == label for answer, label in zip(answers, labels, strict=True))
        assert learners[name]["seen"] == ROWS
        assert learners[name]["metrics"]["accuracy"] == right / ROWS
        assert learners[name]["leaks"] == 0
        of_watch = document["models"]["elec2"]["learners"][name]
        assert (of_watch["labelled"], of_watch["metrics"]["accuracy"]) == (ROWS, right / ROWS)
        assert f"{right / ROWS:.3f} ({name})" in shown
    assert learners["baseline"]["metrics"]["accuracy"] < learners["champion"]["metrics"]["accuracy"]
