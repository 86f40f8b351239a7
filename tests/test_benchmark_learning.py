"""The learning benchmark measures what it says, in a very small form; its figures themselves are not tested (F28)."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from benchmarks.detection.datasets import Missing
from benchmarks.learning import __main__ as command
from benchmarks.learning import late, overhead, prequential, streams
from benchmarks.learning.prequential import Answers, Size, kappa, recoveries
from benchmarks.learning.streams import Labelled
from learners.registry import make

BEST = "best expert in hindsight"
FOREST = ("river.forest.ARFClassifier", {"n_models": 1, "seed": 1})


def test_a_run_writes_accuracy_cost_and_bars_of_every_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prequential, "QUICK", Size(("stagger recurring", "elec2"), 250, (0, 100), frozenset()))
    monkeypatch.setattr(prequential, "CLASSIFIERS", {**prequential.CLASSIFIERS, prequential.FOREST: FOREST})
    monkeypatch.setattr(overhead, "QUICK", overhead.Size(60, 1))
    monkeypatch.setenv("TIDEGATE_DATA", str(tmp_path))
    out = tmp_path / "learning.json"
    parts = ["prequential", "overhead"]
    assert command.main(["--quick", "--seed", "3", "--out", str(out), "--parts", *parts]) == 0
    told = orjson.loads(out.read_bytes())
    assert (told["benchmark"], told["seed"], told["parts"]) == ("learning", 3, parts)
    found = told["figures"]["prequential"]
    assert "not in ../shared/data" in found["streams"]["elec2"]
    row = found["streams"]["stagger recurring"]["delays"]["100"]
    assert set(row["models"]) == set(prequential.CLASSIFIERS) - prequential.DEAR  # which are run at some delays only
    prompt = found["streams"]["stagger recurring"]["delays"]["0"]
    assert set(prompt["models"]) == set(prequential.CLASSIFIERS) == set(found["means_by_delay"]["0"]) - {BEST}
    assert "HAT" not in found["means"]
    assert row["best_expert"] == max(row["experts"].values()) and len(row["experts"]) == 10
    assert row["models"][prequential.NO_CHANGE]["kappa_temporal"] == 0.0
    assert found["means"][prequential.FOREST]["cpu_s"] > 0
    assert {bar["part"] for bar in told["bars"]} == set(parts)
    assert set(told["figures"]["overhead"]["models"]) == set(overhead.MODELS)
    page = out.with_suffix(".html").read_text(encoding="utf-8")
    assert "Plotly" in page and "Learning, measured" in page
    assert "what was asked for" in capsys.readouterr().out


def test_every_answer_is_given_before_its_label_is_learned() -> None:
    """A learner that says the last label is right exactly where the label of `delay` + 1 events before is the same."""
    y: list[Any] = [0, 0, 1, 1, 0, 1, 1, 1, 0, 0]
    stream = Labelled("own", "binary", [{} for _ in y], y)
    for delay in (0, 2):
        said = prequential.follow(make("last", {}, "binary", 1), stream, delay).said
        assert said[delay + 1 :] == y[: len(y) - delay - 1] and said[: delay + 1] == [0] * (delay + 1)


def test_the_experts_are_counted_without_touching_the_learner() -> None:
    stream = streams.stream("stagger recurring", 300, 1)
    learner, alone = make("experts", {}, "binary", 1), make("experts", {}, "binary", 1)
    found = prequential.follow(learner, stream, 50)
    said = []
    for i, x in enumerate(stream.x):
        said.append(alone.predict(x).prediction)
        if i >= 50:
            alone.learn(stream.x[i - 50], stream.y[i - 50], lag=min(50, i - 50))
    assert found.said == said and learner.digest() == alone.digest()
    assert 0 < max(found.experts.values()) <= 300


def test_kappa_is_agreement_beyond_chance() -> None:
    y: list[Any] = [0, 0, 1, 1]
    assert kappa(y, y) == 1.0 and kappa([0, 0, 0, 0], y) == 0.0 and kappa([1, 1, 0, 0], y) == -1.0
    assert kappa([0, 1, 1, 1], y) == pytest.approx(0.5)


def test_recovery_is_counted_from_the_drift_to_the_first_good_window() -> None:
    """Always right; wrong for 300 events after the drift; then right again. The window may hold 2 % of mistakes."""
    hits = np.ones(4_000, bool)
    hits[2_000:2_300] = False
    assert recoveries(hits, (2_000,)) == [300 + prequential.WINDOW - 5]
    hits[2_000:] = False
    assert recoveries(hits, (2_000,)) == [None] and recoveries(hits, ()) == []


def test_a_default_that_falls_behind_is_seen() -> None:
    """The planted fault: the mixture is three points behind its best expert on one of two streams."""

    def cell(ours: float, best: float) -> dict[str, Any]:
        models = {
            prequential.OURS: {"accuracy": ours, "cpu_s": 1.0},
            prequential.FOREST: {"accuracy": 80.0, "cpu_s": 4.0},
            prequential.MAJORITY: {"accuracy": 50.0, "cpu_s": 0.0},
        }
        return {"models": models, "best_expert": best}

    told = {"a": {"delays": {"0": cell(90.0, 89.0)}}, "b": {"delays": {"0": cell(77.0, 80.0)}}, "c": "not there"}
    bars = prequential.bars(told)
    assert [bar["holds"] for bar in bars] == [False, False, False, True, True]
    assert bars[0]["value"] == 3.0 and "b, labels 0 late" in bars[0]["name"]
    told["b"] = {"delays": {"0": cell(79.5, 80.0)}}
    assert all(bar["holds"] for bar in prequential.bars(told))
    assert prequential.bars({}) == []


def test_a_cell_where_nothing_can_be_learned_counts_apart() -> None:
    """Labels as late as a concept lasts: the best expert is worse than the majority."""
    models = {
        name: {"accuracy": accuracy, "cpu_s": 1.0}
        for name, accuracy in ((prequential.OURS, 30.0), (prequential.MAJORITY, 50.0))
    }
    bars = prequential.bars({"a": {"delays": {"0": {"models": models, "best_expert": 36.0}}}})
    assert len(bars) == 2 and not bars[0]["holds"] and bars[0]["value"] == 6.0


def test_generated_streams_repeat_and_drift_where_they_say() -> None:
    for name, of in streams.GENERATED.items():
        one = streams.stream(name, 600, 5)
        assert one == streams.stream(name, 600, 5) and len(one.x) == 600 and one.task == of.task
        assert one.y != streams.stream(name, 600, 6).y
    sudden = streams.stream("stagger recurring", 6_000, 5)
    assert sudden.drifts == (2_500, 5_000) and sudden.first(3_000).drifts == (2_500,)
    small_red = [int(x["size"] == 0 and x["color"] == 0) for x in sudden.x]  # the first concept of STAGGER
    agreed = np.array([a == b for a, b in zip(small_red, sudden.y, strict=True)])
    assert agreed[:2_400].all() and agreed[2_600:4_900].mean() < 0.7


def test_whole_streams_begin_at_the_first_row_and_their_concepts_come_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEGATE_DATA", str(tmp_path))
    with gzip.open(tmp_path / "nannyml_car_loan.csv.gz", "wt", encoding="utf-8") as text:
        text.write("a,repaid\n" + "".join(f"{i},{float(i % 2)}\n" for i in range(65_002)))
    assert [x["a"] for x in streams.whole("nannyml_car_loan", 2, 1).x] == [0.0, 1.0]
    assert [x["a"] for x in streams.stream("nannyml_car_loan", 2, 1).x] == [65_000.0, 65_001.0]
    recurring = streams.whole("agrawal recurring", 26_000, 5)
    assert len(recurring.x) == 26_000 and recurring.drifts == (5_000, 10_000, 15_000, 20_000, 25_000)
    sudden = streams.whole("stagger recurring", 8_500, 5)
    small_red = [int(x["size"] == 0 and x["color"] == 0) for x in sudden.x]  # the first concept of STAGGER
    agreed = np.array([a == b for a, b in zip(small_red, sudden.y, strict=True)])
    assert agreed[:2_400].all() and agreed[2_600:7_400].mean() < 0.7 and agreed[7_600:].all()


def test_whole_streams_with_late_labels_tell_how_far_the_default_is_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(late, "QUICK", late.Size(("stagger recurring", "elec2"), 250, 300, 100))
    monkeypatch.setenv("TIDEGATE_DATA", str(tmp_path))
    out = tmp_path / "late.json"
    assert command.main(["--quick", "--seed", "3", "--out", str(out), "--parts", "late"]) == 0
    told = orjson.loads(out.read_bytes())
    found = told["figures"]["late"]
    assert "not in ../shared/data" in found["streams"]["elec2"]
    row = found["streams"]["stagger recurring"]
    assert row["rows"] == 300 and len(row["experts"]) == 10
    assert row["best_expert"] == max(row["experts"].values()) == row["experts"][row["best_expert_is"]]
    first, second = told["bars"]
    assert first["name"] == "behind the best expert, worst of 1 whole streams, labels 100 late: stagger recurring"
    assert first["value"] == second["value"] == pytest.approx(row["best_expert"] - row["default"], abs=1e-3)
    assert "behind the best expert" in out.with_suffix(".html").read_text(encoding="utf-8")
    assert "DOES NOT HOLD" in capsys.readouterr().out or second["holds"]


def test_a_default_that_falls_behind_on_a_whole_stream_is_seen() -> None:
    told = {"a": {"default": 80.0, "best_expert": 79.0}, "b": {"default": 70.0, "best_expert": 73.0}, "c": "not there"}
    bars = late.bars(told, 50)
    assert [(bar["value"], bar["holds"]) for bar in bars] == [(3.0, False), (1.0, False)]
    assert bars[0]["name"].endswith("worst of 2 whole streams, labels 50 late: b")
    told["b"] = {"default": 72.5, "best_expert": 73.0}
    assert all(bar["holds"] for bar in late.bars(told, 50))
    assert late.bars({"c": "not there"}, 50) == [] and late.means({}) == {}


def test_a_file_is_read_as_numbers_text_and_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_DATA", str(tmp_path))
    with pytest.raises(Missing, match="elec2"):
        streams.stream("elec2", 10, 1)
    with gzip.open(tmp_path / "elec2.csv.gz", "wt", encoding="utf-8") as text:
        text.write("a,b,c,class\n1,x,2.5,UP\n,,3,DOWN\n2,y,4,UP\n")
    found = streams.stream("elec2", 2, 1)
    assert found.x == [{"a": 1.0, "b": "x", "c": 2.5}, {"a": None, "b": None, "c": 3.0}] and found.y == [1, 0]


def test_what_one_model_answered_is_told_with_its_cost() -> None:
    stream = Labelled("own", "binary", [{}] * 4, [0, 0, 1, 1], ())
    found = {
        prequential.NO_CHANGE: Answers([0, 1, 1, 0], 0.5, {}),
        "other": Answers([0, 0, 1, 0], 1.25, {}),
    }
    told = prequential.figures(found, stream)
    assert told["other"] == {"accuracy": 75.0, "kappa": 0.5, "kappa_temporal": 0.5, "recovery": [], "cpu_s": 1.25}
