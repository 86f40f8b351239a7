"""What a champion goes by, asked while it learns; that a change of it is told; and what alerts make of it (F55)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

from detectors import importance as leaf
from detectors.importance import FEATURES_MAX, Sums, Tally, drift, shift
from learners.contract import FeatureDict, Label, Said, SnapshotError
from learners.policies import Item
from stream import config
from stream.contract import ALERTS, DECISIONS
from stream.errors import ConfigError
from stream.events import Decision
from stream.stages.learn import Learn
from stream.stages.weighing import ALPHA, BLOCK_ROWS, EVERY, Weighing
from stream.surface import figures, findings
from tests import conformance
from tests.conformance import Scenario
from tests.learning import KEY, LIGHT, LOGISTIC, Pair, batch, configured, events, example, fed, model_figures, stream
from tests.test_learn_stage import alert, by_value
from tests.watching import START, Stream, alerts, watched

Draw = np.random.Generator


class Fixed:
    """A model that has been made elsewhere: answers by a function, learns nothing."""

    updates = 0

    def __init__(self, rule: Callable[[FeatureDict], Label]) -> None:
        self.rule = rule

    def predict(self, x: FeatureDict) -> Said:
        return Said(self.rule(x))

    def learn(self, x: FeatureDict, y: Label, weight: float = 1.0, lag: int = 0) -> None:
        self.updates += 1

    def snapshot(self) -> bytes:
        return b""

    def restore(self, state: bytes) -> None:
        pass

    def digest(self) -> str:
        return ""


def weighing(every: int = 1, task: str = "binary", seed: int = 1) -> Weighing:
    text = f"      policy: online\n      seed: {seed}\n      importance: {every}"
    return Weighing("m", configured(text, task).models["m"])


def shown(part: Weighing, model: Fixed, pairs: Iterable[Pair], start: int = 0, version: int = 1) -> list[Decision]:
    found = (part.watch(Item(x, y, 1.0, float(i)), model, version) for i, (x, y) in enumerate(pairs, start))
    return [decision for decision in found if decision is not None]


def signs(draw: Draw, n: int, rule: Callable[[FeatureDict], Label]) -> list[Pair]:
    """Three coins a row, and a fourth that is 1 in a hundredth of the rows."""
    coins, rare = draw.integers(0, 2, (n, 3)).tolist(), (draw.random(n) < 0.01).astype(int).tolist()
    rows = [{"a": a, "b": b, "c": c, "rare": r} for (a, b, c), r in zip(coins, rare, strict=True)]
    return [(x, rule(x)) for x in rows]


def by_a(x: FeatureDict) -> Label:
    return 1 - int(x["a"]) if x["rare"] else int(x["a"])


def by_b(x: FeatureDict) -> Label:
    return int(x["b"])


def test_the_importance_of_a_known_model_is_what_arithmetic_says() -> None:
    """F55: another's coin is another one half of the time; the rare feature is in the way in 2 % of the rows."""
    part = weighing()
    shown(part, Fixed(by_a), signs(np.random.default_rng(1), 20 * BLOCK_ROWS, by_a))
    told = part.figures()
    found = told["features"]
    assert list(found)[:2] == ["a", "rare"] and set(found) == {"a", "b", "c", "rare"}
    assert found["a"]["low"] < 0.5 < found["a"]["high"] and found["a"]["high"] - found["a"]["low"] < 0.2
    assert found["rare"]["value"] == pytest.approx(0.02, abs=0.02)
    assert found["b"]["value"] == found["c"]["value"] == found["b"]["share"] == 0.0
    assert found["a"]["share"] > 0.9 and sum(each["share"] for each in found.values()) == pytest.approx(1.0)
    assert told["rows"] > BLOCK_ROWS and told["changes"] == 0


def test_asking_as_rows_come_agrees_with_asking_all_at_once() -> None:
    """F55: with `detectors.importance.permutation`, on a model that has learned."""
    stage = Learn(configured(f"      champion: {LOGISTIC}\n      importance: 1"), 0, 1, None)
    pairs = stream(4_000, seed=3)
    asked = [{name: x[name] for name in "abc"} for x, _ in pairs]
    fed(stage, [example(i, x, y) for i, (x, (_, y)) in enumerate(zip(asked, pairs, strict=True))])
    model = stage.served("m")["champion"].learner
    labels = [y for _, y in pairs]

    def brier(name: str | None) -> np.ndarray:
        order = np.random.default_rng(5).permutation(len(asked)).tolist()
        rows = asked if name is None else [leaf.borrowed(x, name, asked[i]) for x, i in zip(asked, order, strict=True)]
        return np.array([(y - (model.predict(x).score or 0.0)) ** 2 for x, y in zip(rows, labels, strict=True)])

    found = model_figures(stage)["importance"]["features"]
    for name in "abc":
        at_once = (brier(name) - brier(None)).mean()
        half = (found[name]["high"] - found[name]["low"]) / 2
        assert found[name]["value"] == pytest.approx(at_once, abs=1.6 * half), name
    assert list(found) == ["a", "b", "c"]


def test_two_features_that_swap_their_parts_are_both_named() -> None:
    """F55: the label goes by a, then by b, and the champion learns it."""
    draw = np.random.default_rng(6)
    n, at = 9_000, 5_000
    values = draw.normal(size=(n, 4))
    pairs = [
        ({"a": a, "b": b, "c": c}, int((a if i < at else b) + 0.3 * noise > 0))
        for i, (a, b, c, noise) in enumerate(values.round(6).tolist())
    ]
    stage = Learn(configured(f"{LIGHT}00\n      importance: 1"), 0, 1, None)
    out = fed(stage, [example(i, x, y) for i, (x, y) in enumerate(pairs)])
    (told,) = [d for d in events(out, DECISIONS) if d.action == "importance_changed"]
    assert told.why["gained"] == ["b"] and told.why["lost"] == ["a"]
    assert told.why["why"] == "the champion goes more by b and less by a"
    assert max(told.why["p"].values()) < ALPHA / 3
    before, after = told.before["importance"], told.after["importance"]
    assert before["a"] > 0.2 > 0.02 > before["b"] and after["b"] > 0.2 > 0.05 > after["a"]
    assert "1970-01-01T01:23" < told.at < "1970-01-01T02:00", "after second 5,000, within 2,200 examples"
    assert told.decision_id == "m-importance-1" and model_figures(stage)["importance"]["changes"] == 1


def test_another_champion_that_goes_by_something_else_is_told_with_both_versions() -> None:
    """F55: whoever plays the part."""
    part, draw = weighing(), np.random.default_rng(7)
    shown(part, Fixed(by_a), signs(draw, 5_000, by_a))
    found = shown(part, Fixed(by_b), signs(draw, 4_000, by_b), 5_000, version=2)
    assert [(d.why["gained"], d.why["lost"]) for d in found] == [(["b"], ["a"])]
    assert (found[0].before["version"], found[0].after["version"]) == ("1", "2")


def test_a_model_that_stays_as_it_is_is_never_said_to_have_changed() -> None:
    """F55: with ALPHA for each of 30 models, one of them would be by chance in four times."""
    told, blocks = 0, 0
    for seed in range(30):
        part = weighing(seed=seed)
        told += len(shown(part, Fixed(by_a), signs(np.random.default_rng(100 + seed), 8_000, by_a)))
        blocks += part.figures()["blocks"]
    assert blocks > 30 * 6 and told == 0


def tally(values: np.ndarray) -> Tally:
    """What `Tally.add` makes of so many rows of one feature."""
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    return Tally(len(values), {"a": Sums(float(values.sum()), float((values**2).sum()), low, high)})


@pytest.mark.parametrize(
    "law",
    [
        lambda draw, n: 0.5 * (draw.random(n) < 0.02),
        lambda draw, n: np.clip(draw.normal(0.2, 0.35, n), -1.0, 1.0),
        lambda draw, n: draw.standard_t(3, n),
    ],
)
def test_the_bound_holds_for_any_distribution(law: Callable[[Draw, int], np.ndarray]) -> None:
    """F55: p is as small as told no oftener than told, also where the loss has no bound."""
    draw = np.random.default_rng(8)
    p = np.array([shift(tally(law(draw, 1_000)), tally(law(draw, BLOCK_ROWS)))["a"] for _ in range(2_000)])
    assert (p < 0.05).mean() <= 0.05 and (p < 0.01).mean() <= 0.01


def test_a_normal_approximation_would_not_do() -> None:
    """F55: a feature that matters in one row of fifty, compared block by block: false alarms twenty times too often."""
    draw = np.random.default_rng(9)
    pairs = [[tally(0.5 * (draw.random(n) < 0.02)) for n in (1_000, BLOCK_ROWS)] for _ in range(2_000)]
    normal = np.array([drift(was.importances(), now.importances()).p for was, now in pairs])
    assert (normal < 0.001).mean() > 0.01 > 0.001 >= np.mean([shift(*pair)["a"] < 0.001 for pair in pairs])


def test_a_tally_is_the_same_however_it_is_joined() -> None:
    rows = [{"a": 0.25 * i, "b": -0.5} if i % 3 else {"a": 0.5} for i in range(60)]
    whole, first, second = Tally(), Tally(), Tally()
    for i, row in enumerate(rows):
        whole.add(row)
        (first if i < 20 else second).add(row)
    assert first.joined(second) == whole and whole.rows == 60
    assert whole.importances().values[1] == pytest.approx(-0.5 * 40 / 60), "a row without it counts as no increase"
    assert np.isnan(Tally(10, {"a": Sums()}).importances().values[0])


def test_asking_changes_nothing_of_what_is_learned() -> None:
    """F55: the ready default, which remembers its last answer."""
    text = "      champion: experts\n      publish: 100"
    plain, asking = (Learn(configured(each), 0, 1, None) for each in (text, text + "\n      importance: 1"))
    some = [example(i, x, y) for i, (x, y) in enumerate(stream(400))]
    fed(plain, some)
    fed(asking, some)
    assert plain.digests() == asking.digests()
    assert "importance" not in model_figures(plain), "off unless it is asked for"
    assert model_figures(asking)["importance"]["rows"] > 50


def test_questions_are_as_seldom_as_configured() -> None:
    """F55: so many examples for each question; coins that show the same need none."""
    for every, setting in ((EVERY, "true"), (3, "3")):
        stage = Learn(configured(f"{LIGHT}\n      importance: {setting}"), 0, 1, None)
        fed(stage, [example(i, x, y) for i, (x, y) in enumerate(signs(np.random.default_rng(2), 3_000, by_a))])
        found = model_figures(stage)["importance"]
        assert found["examples"] == 3_000
        assert 0.4 * 3_000 / every < found["questions"] < 0.8 * 3_000 / every


def test_features_that_come_and_go_are_weighed_too() -> None:
    """F55: lacking is a value, text and lists are borrowed whole, and values that are alike cost no question."""
    draw = np.random.default_rng(3)
    pairs: list[Pair] = []
    for i in range(2_000):
        x: dict[str, Any] = {"word": "xy"[int(draw.integers(2))], "vector": [1.0, float(i)], "same": 1}
        if draw.random() < 0.5:
            x["there"] = 1
        pairs.append((x, int("there" in x)))
    part = weighing()
    shown(part, Fixed(lambda x: int("there" in x)), pairs)
    found = part.figures()
    assert found["features"]["there"]["low"] < 0.5 < found["features"]["there"]["high"]
    assert found["features"]["same"]["value"] == found["features"]["vector"]["value"] == 0.0
    assert found["questions"] < 3.5 * (found["rows"] + BLOCK_ROWS * found["blocks"])


def test_more_features_than_are_asked_about_are_counted() -> None:
    names = [f"x{i}" for i in range(FEATURES_MAX + 5)]
    draw = np.random.default_rng(4)
    values = draw.integers(0, 2, (8_000, len(names))).tolist()
    part = weighing()
    shown(part, Fixed(lambda x: int(x["x0"])), ((dict(zip(names, v, strict=True)), v[0]) for v in values))
    found = part.figures()
    assert found["rows"] >= 20 and len(found["features"]) == FEATURES_MAX and found["left_out"] > 0


def test_a_model_that_cannot_answer_is_counted_and_the_stream_goes_on() -> None:
    """F55, F51: it fails where a feature is another's, or answers with no number."""

    def fussy(x: FeatureDict) -> Label:
        return 1 / (int(x["a"]) - int(x["b"]))

    part = weighing(task="regression")
    pairs: list[Pair] = [({"a": i % 7, "b": i % 5 + 7}, 0.0) for i in range(400)]
    shown(part, Fixed(fussy), pairs)
    assert part.figures()["faults"] == 0 and part.figures()["rows"] > 50
    shown(part, Fixed(lambda x: 1 / (int(x["a"]) % 2)), pairs)
    shown(part, Fixed(lambda x: float("nan")), pairs)
    rows, faults = part.figures()["rows"], part.figures()["faults"]
    assert faults > 100 and rows < 200


def test_nothing_is_asked_while_learning_is_paused() -> None:
    """F55: broken data says nothing of what matters."""
    stage = Learn(configured(f"{LIGHT}\n      importance: 1"), 0, 1, None)
    some = [example(i, x, y) for i, (x, y) in enumerate(signs(np.random.default_rng(5), 200, by_a))]
    fed(stage, some[:100])
    fed(stage, [alert("data_quality", "firing", 100)], ALERTS)
    fed(stage, some[100:])
    assert model_figures(stage)["importance"]["examples"] == 100


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_every_task_is_weighed_by_its_own_loss(task: str) -> None:
    stage = Learn(configured("      champion: experts\n      publish: 100\n      importance: 1", task), 0, 1, None)
    fed(stage, [example(i, x, y) for i, (x, y) in enumerate(stream(1_200, task))])
    found = model_figures(stage)["importance"]["features"]
    assert next(iter(found)) == "a" and found["a"]["low"] > 0 and list(found)[-1] == "c"


@pytest.mark.parametrize("setting", ["0", "-3", "often"])
def test_a_cadence_that_is_none_is_refused_with_its_path(setting: str) -> None:
    with pytest.raises(ConfigError, match=r"models\.m\.learn\.importance"):
        configured(f"      importance: {setting}")


def test_bytes_of_something_else_are_no_state() -> None:
    with pytest.raises(SnapshotError, match="what a champion goes by"):
        weighing().restore(b"\xc1")


def scenario() -> Scenario:
    """A block every 200 examples or so; what the champion goes by changes in the middle of it."""
    text = (
        f"      champion: {LOGISTIC}\n      publish: 500\n      importance: 1\n      respond: {{concept_drift: reset}}"
    )
    draw = np.random.default_rng(11)
    pairs = [({"a": x["a"]}, y) for x, y in signs(draw, 1_100, by_a)]
    pairs += [({"a": x["a"]}, int(draw.integers(2))) for x, _ in signs(draw, 1_100, by_a)]
    some = [example(i, x, y) for i, (x, y) in enumerate(pairs)]
    batches = [batch("examples", some[i : i + 50], i) for i in range(0, len(some), 50)]
    made = configured(text)
    return Scenario(
        make=lambda: Learn(made, 0, 1, KEY),
        feed=conformance.feed_stage,
        items=batches,
        state_bytes_max=1_000_000,
        recut=conformance.recut_batches,
        digest=by_value,
    )


def test_what_is_known_of_features_survives_a_kill_at_any_point() -> None:
    """F50, F55: cut anywhere, and in any process."""
    conformance.check("tests.test_importance_stage:scenario")


def test_the_scenario_tells_a_change() -> None:
    made = scenario()
    stage = made.make()
    out = [output for item in made.items for output in made.feed(stage, item)]
    assert [d.why["lost"] for d in events(out, DECISIONS) if d.action == "importance_changed"] == [["a"]]


def drifting() -> Stream:
    """Somebody else's model goes by x0 mostly, by x1 a little; both inputs move at the same time, and so does x2, which
    it does not know."""
    draw, n, at = np.random.default_rng(12), 9_000, 5_000
    x = draw.normal(size=(n, 3))
    x[at:] += 1.5
    level = 2.0 * x[:, 0] + 0.7 * x[:, 1]
    score = 1 / (1 + np.exp(-level))
    return Stream(
        time=START + np.arange(n) * 10.0, prediction=(score > 0.5).astype(float),
        label=(draw.random(n) < score).astype(float), score=score, delay=600.0,
        features={f"x{j}": x[:, j] for j in (2, 1, 0)},
    )  # fmt: skip


SETTINGS = "task: binary, reference: {first: 2000}, windows: {every: 1h}, false_alarms: 1 per 100000 events"


def test_an_alert_says_how_much_of_what_the_model_goes_by_has_moved() -> None:
    """F55: of a model that tidegate cannot ask."""
    _, outputs = watched(SETTINGS, drifting())
    last = {a.alert_id: a for a in alerts(outputs) if a.kind == "covariate_drift" and a.status != "resolved"}
    known = {
        f.name: f.statistics["importance"] for a in last.values() for f in a.features if "importance" in f.statistics
    }
    assert known["x0"] > 0.7 > 0.3 > known["x1"] > known.get("x2", 0.0)
    for each in last.values():
        expected = sum(f.share * f.statistics.get("importance", 0.0) for f in each.features)
        assert each.statistics["importance"] == pytest.approx(expected, abs=0.001)


def test_alerts_of_one_moment_are_ranked_by_what_matters_to_the_model() -> None:
    """F55: after how bad they are."""

    def told(name: str, severity: str, importance: float | None) -> dict[str, Any]:
        statistics = {} if importance is None else {"importance": importance}
        return {
            "alert_id": name, "model": "m", "at": "2026-11-01T10:00:00Z", "kind": "covariate_drift",
            "severity": severity, "statistics": statistics,
        }  # fmt: skip

    raised = [
        told("trifle", "information", 0.9), told("minor", "warning", 0.1), told("unknown", "warning", None),
        told("major", "warning", 0.7), told("worst", "critical", 0.0),
    ]  # fmt: skip
    (group,) = figures.grouped({"alerts": raised}, "m")
    assert [a["last"]["alert_id"] for a in group] == ["worst", "major", "minor", "unknown", "trifle"]


def test_the_report_draws_what_the_champion_goes_by() -> None:
    """F44, F55."""
    part = weighing()
    shown(part, Fixed(by_a), signs(np.random.default_rng(1), 4_000, by_a))
    document = {"learning": {"models": {"m": {"importance": part.figures()}}}, "models": {"m": {"watch": {}}}}
    (trace,) = findings.importance(document, "m")["data"]
    assert trace["y"][0] == "a" and trace["x"][0] == pytest.approx(0.5, abs=0.1)
    words = findings.importance_words(document, "m")
    assert "has not changed" in words and f"{part.figures()['rows']}" in words
    nothing = {"learning": {"models": {}}, "models": {"m": {"watch": {}}}}
    assert findings.importance(nothing, "m")["data"] == []


def test_the_setting_is_part_of_the_configuration_s_identity() -> None:
    plain = config.parse("models: {m: {task: regression, learn: {}}}")
    assert config.parse("models: {m: {task: regression, learn: {importance: true}}}").hash() != plain.hash()
