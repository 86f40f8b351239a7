"""Every learner keeps the contract: repeatable, restorable in mid-stream, bounded (F28, F29)."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest

from learners.baselines import Last, Majority, Mean
from learners.contract import Said
from learners.experts import Experts
from learners.metrics import Task
from learners.registry import GROUP, baseline, make
from stream import codec
from tests import conformance
from tests.conformance import Scenario
from tests.learning import LOGISTIC, configured, learners_scenario, numbers_only, prequential, stream, taught

PIPELINE = {"steps": ["river.preprocessing.StandardScaler", "river.linear_model.LogisticRegression"]}


BINARY: dict[str, tuple[str, dict[str, Any]]] = {
    "logistic": ("river.linear_model.LogisticRegression", {}),
    "tree": ("river.tree.HoeffdingTreeClassifier", {"grace_period": 50}),
    "hat": ("river.tree.HoeffdingAdaptiveTreeClassifier", {"grace_period": 50, "seed": 1}),
    "forest": ("river.forest.ARFClassifier", {"n_models": 2, "seed": 1, "grace_period": 30}),
    "experts": ("experts", {}),
    "majority": ("majority", {}),
    "last": ("last", {}),
    "frozen": ("frozen", {"of": {"river.tree.HoeffdingTreeClassifier": {"grace_period": 50}}, "after": 100}),
}
CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "bayes": ("river.naive_bayes.GaussianNB", {}),
    "bagging": (
        "river.ensemble.LeveragingBaggingClassifier",
        {"model": "river.tree.HoeffdingTreeClassifier", "seed": 1},
    ),
    "experts": ("experts", {}),
    "majority": ("majority", {}),
    "last": ("last", {}),
}
NUMBERS: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": ("river.linear_model.LinearRegression", {}),
    "tree": ("river.tree.HoeffdingTreeRegressor", {"grace_period": 50}),
    "experts": ("experts", {}),
    "mean": ("mean", {}),
    "last": ("last", {}),
}


def binary() -> Scenario:
    return learners_scenario(BINARY, "binary", stream(260, change=130), 1_000_000)


def classes() -> Scenario:
    return learners_scenario(CLASSES, "multiclass", stream(100, "multiclass"), 1_000_000)


def numbers() -> Scenario:
    return learners_scenario(NUMBERS, "regression", stream(160, "regression"), 1_000_000)


@pytest.mark.parametrize("name", ["binary", "classes", "numbers"])
def test_learners_conform(name: str) -> None:
    """F28, F29: same again, restored in mid-stream, under other hash seeds, bounded. Many learners in one scenario,
    because every fresh process has to import River."""
    conformance.check(f"tests.test_learners:{name}")


def test_a_random_learner_without_a_seed_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ARFClassifier is random and has no seed; add seed: 1"):
        make("river.forest.ARFClassifier", {"n_models": 2}, "binary", 1)


def test_a_random_part_inside_a_learner_without_a_seed_is_refused() -> None:
    nested = {"model": {"river.tree.HoeffdingAdaptiveTreeClassifier": {}}, "seed": 1}
    with pytest.raises(ValueError, match="HoeffdingAdaptiveTreeClassifier is random and has no seed"):
        make("river.ensemble.LeveragingBaggingClassifier", nested, "binary", 1)


def own(task: Task, seed: int, word: str = "a") -> Majority:
    """A learner of another package, as it would be registered."""
    learner = Majority(task)
    learner.learn({}, word)
    return learner


def test_a_registered_learner_is_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """F28: what a package declares under the entry point group `tidegate.learners`."""
    entry = EntryPoint("own", "tests.test_learners:own", GROUP)
    monkeypatch.setattr("learners.registry.entry_points", lambda group: EntryPoints([entry]).select(group=group))
    assert make("own", {"word": "b"}, "multiclass", 1).predict({}).prediction == "b"
    with pytest.raises(ValueError, match="did you mean own"):
        make("ownn", {}, "multiclass", 1)


def test_an_unknown_class_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(ValueError, match=r"no class river.tree.HoefdingTree\w+; did you mean HoeffdingTreeClassifier"):
        make("river.tree.HoefdingTreeClassifier", {}, "binary", 1)


@pytest.mark.parametrize(
    ("path", "parameters", "task", "message"),
    [
        ("river.trees.HoeffdingTreeClassifier", {}, "binary", "did you mean river.tree.HoeffdingTreeClassifier"),
        ("HoeffdingTreeClassifier", {}, "binary", "no learner 'HoeffdingTreeClassifier'"),
        ("expert", {}, "binary", "did you mean experts"),
        ("experts", {"stepz": [1]}, "binary", "unexpected keyword argument 'stepz'"),
        ("river.linear_model.LogisticRegression", {"l22": 1}, "binary", "has no parameter l22; did you mean l2"),
        ("river.linear_model.LogisticRegression", {}, "multiclass", "knows two classes only"),
        ("river.linear_model.LinearRegression", {}, "binary", "LinearRegression is no classifier"),
        ("river.tree.HoeffdingTreeClassifier", {}, "regression", "is no regressor"),
        ("river.ensemble.BaggingClassifier", {"seed": 1}, "binary", "missing 1 required positional argument: 'model'"),
        ("os.system", {}, "binary", "no class os.system"),
        ("pipeline", {"steps": []}, "binary", "give a list"),
        ("majority", {}, "regression", "use mean"),
        ("mean", {}, "binary", "use majority"),
        ("frozen", {"of": "experts"}, "binary", "missing 1 required positional argument: 'after'"),
        ("frozen", {"of": "experts", "after": 0}, "binary", "at least 1"),
        ("frozen", {"of": ["experts"], "after": 5}, "binary", "is not a learner"),
        ("frozen", {"of": "expert", "after": 5}, "binary", "did you mean experts"),
    ],
)
def test_a_faulty_learner_is_refused_with_what_to_write(
    path: str, parameters: dict[str, Any], task: Task, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(path, parameters, task, 1)


def test_a_pipeline_with_nested_parameters_comes_from_yaml() -> None:
    text = """
      champion:
        pipeline:
          - river.preprocessing.StandardScaler
          - river.linear_model.LogisticRegression: {optimizer: {river.optim.SGD: {lr: 0.05}}}
    """
    learn = configured(text).models["m"].learn
    assert learn is not None
    learner = make(learn.champion.path, learn.champion.parameters, "binary", 1)
    assert learner.model["LogisticRegression"].optimizer.learning_rate == 0.05  # type: ignore[attr-defined]


def test_a_bare_linear_model_takes_text_and_a_pipeline_is_left_alone() -> None:
    bare = prequential(make("river.linear_model.LogisticRegression", {}, "binary", 1), stream(1_500))
    without_text = prequential(make("pipeline", PIPELINE, "binary", 1), numbers_only(stream(1_500)))
    assert bare > without_text + 0.03


@pytest.mark.parametrize(
    "path", ["experts", "river.linear_model.LogisticRegression", "river.tree.HoeffdingTreeClassifier"]
)
def test_missing_values_and_unknown_features_are_survived(path: str) -> None:
    learner = taught(make(path, {}, "binary", 1), stream(300))
    for x in ({"a": None, "b": 1.0}, {}, {"new": 3.0, "word": "never seen"}, {"a": float("nan")}, {"a": [1.0, 2.0]}):
        score = learner.predict(x).score
        assert score is not None and 0.0 <= score <= 1.0


def test_an_answer_leaves_the_learner_as_it_was() -> None:
    for name in ("experts", "river.forest.ARFClassifier"):
        parameters = {"n_models": 2, "seed": 1} if "forest" in name else {}
        learner = taught(make(name, parameters, "binary", 1), stream(300))
        before = learner.digest()
        for x, _ in stream(50, seed=2):
            learner.predict(x)
        assert learner.digest() == before


def test_untrained_learners_answer_without_an_opinion() -> None:
    assert make("river.tree.HoeffdingTreeClassifier", {}, "binary", 1).predict({"a": 1.0}) == Said(0, 0.5)
    assert make("river.tree.HoeffdingTreeRegressor", {}, "regression", 1).predict({"a": 1.0}) == Said(0.0)
    assert Experts("binary").predict({"a": 1.0}).score == 0.5
    assert Experts("multiclass").predict({"a": 1.0}) == Said("", None)
    assert Majority("multiclass").predict({}) == Said("", None)
    assert Last("multiclass").predict({}) == Said("", None)
    assert Mean("regression").predict({}) == Said(0.0)


def test_the_baseline_is_the_share_or_the_mean_of_what_was_learned() -> None:
    binary = taught(baseline("binary"), [({}, 1), ({}, 0), ({}, 1), ({}, 1)])
    assert binary.predict({}) == Said(1, 0.75)
    number = taught(baseline("regression"), [({}, 1.0), ({}, 2.0)])
    assert number.predict({}) == Said(1.5)


def test_answers_of_learners_can_be_written_as_events() -> None:
    for name, (path, parameters) in CLASSES.items():
        learner = taught(make(path, parameters, "multiclass", 1), stream(60, "multiclass"))
        said = learner.predict(stream(1)[0][0])
        assert codec.canonical(list(said)) and isinstance(said.prediction, str), name


def test_the_yaml_of_these_tests_is_what_users_write() -> None:
    learn = configured(f"      champion: {LOGISTIC}").models["m"].learn
    assert learn is not None and learn.champion.parameters == PIPELINE


def test_a_frozen_learner_answers_as_it_did_when_it_stopped() -> None:
    """F30"""
    rows = stream(200)
    frozen = make("frozen", {"of": "river.linear_model.LogisticRegression", "after": 120}, "binary", 1)
    plain = make("river.linear_model.LogisticRegression", {}, "binary", 1)
    for i, (x, y) in enumerate(rows):
        frozen.learn(x, y)
        if i < 120:
            plain.learn(x, y)
    assert frozen.updates == 120
    assert frozen.digest() == plain.digest()
    assert [frozen.predict(x) for x, _ in rows] == [plain.predict(x) for x, _ in rows]
