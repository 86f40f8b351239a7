"""Incremental scikit-learn estimators are learners like any other, and nothing of them is unpickled (F28, F29)."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import msgspec
import numpy as np
import pytest

from learners import state
from learners.contract import Learner, SnapshotError
from learners.features import Mixed
from learners.metrics import Task
from learners.registry import make
from learners.scikit import Scikit
from learners.snapshots import Header, load, open_sealed, seal
from stream import codec
from tests import conformance
from tests.conformance import Scenario
from tests.learning import KEY, Pair, Several, numbers_only, prequential, stream, taught

sgd = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed (tidegate[sklearn])")

SGD = "sklearn.linear_model.SGDClassifier"
CLASSES = ["low", "middle", "high"]
SMALL: dict[str, Any] = {"width": 8}
SEEDED: dict[str, Any] = {**SMALL, "random_state": 1}
LOGISTIC: dict[str, Any] = {**SEEDED, "loss": "log_loss"}
MLP: dict[str, Any] = {**SEEDED, "hidden_layer_sizes": [5], "batch": 4}

BINARY: dict[str, tuple[str, dict[str, Any]]] = {
    "logistic": (SGD, LOGISTIC),
    "averaged": (SGD, {**SEEDED, "loss": "modified_huber", "average": True}),
    "hinge": (SGD, {**SEEDED, "average": 20}),
    "perceptron": ("sklearn.linear_model.Perceptron", {**SMALL, "batch": 5}),
    "bayes": ("sklearn.naive_bayes.GaussianNB", {**SMALL, "batch": 10}),
    "network": ("sklearn.neural_network.MLPClassifier", MLP),
}
MANY: dict[str, tuple[str, dict[str, Any]]] = {
    "logistic": (SGD, {**LOGISTIC, "classes": CLASSES}),
    "averaged": (SGD, {**SEEDED, "average": True, "classes": CLASSES}),
    "bernoulli": ("sklearn.naive_bayes.BernoulliNB", {**SMALL, "classes": CLASSES}),
    "network": ("sklearn.neural_network.MLPClassifier", {**MLP, "solver": "sgd", "classes": CLASSES}),
}
NUMBERS: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": ("sklearn.linear_model.SGDRegressor", SEEDED),
    "averaged": ("sklearn.linear_model.SGDRegressor", {**SEEDED, "average": True, "loss": "huber"}),
    "network": ("sklearn.neural_network.MLPRegressor", MLP),
}


class Tasks:
    """All of them as one part, since every fresh process has to import River and scikit-learn."""

    def __init__(self) -> None:
        self.parts = [Several(BINARY, "binary"), Several(MANY, "multiclass"), Several(NUMBERS, "regression")]

    def feed(self, item: tuple[Pair, ...]) -> list[Any]:
        return [said for part, pair in zip(self.parts, item, strict=True) for said in part.feed(pair)]

    def snapshot(self) -> bytes:
        return codec.pack([part.snapshot() for part in self.parts])

    def restore(self, state: bytes) -> None:
        for part, inner in zip(self.parts, codec.unpack(list[bytes], state), strict=True):
            part.restore(inner)

    def digest(self) -> str:
        return " ".join(part.digest() for part in self.parts)


def every() -> Scenario:
    pairs = zip(stream(24, change=12), stream(24, "multiclass"), stream(24, "regression"), strict=True)
    return Scenario(make=Tasks, feed=Tasks.feed, items=list(pairs), state_bytes_max=40_000, digest=Tasks.digest)


def test_estimators_conform() -> None:
    """F28, F29: same again, restored anywhere in mid-stream bit for bit, under other hash seeds, bounded."""
    conformance.check("tests.test_scikit:every")


@pytest.mark.filterwarnings("ignore:Class PassiveAggressive:FutureWarning")
@pytest.mark.parametrize(
    ("path", "parameters", "task"),
    [
        ("sklearn.linear_model.PassiveAggressiveClassifier", SEEDED, "binary"),
        ("sklearn.linear_model.PassiveAggressiveRegressor", SEEDED, "regression"),
        ("sklearn.naive_bayes.MultinomialNB", {**SMALL, "classes": CLASSES}, "multiclass"),
        ("sklearn.naive_bayes.ComplementNB", SMALL, "binary"),
        ("sklearn.linear_model.Perceptron", {**SMALL, "penalty": "l1", "classes": CLASSES}, "multiclass"),
    ],
)
def test_a_restored_estimator_goes_on_bit_for_bit(path: str, parameters: dict[str, Any], task: Task) -> None:
    """F29: those that the scenarios leave out, because they are deprecated or take no negative numbers."""
    pairs = [({n: abs(v) if type(v) is float else v for n, v in x.items()}, y) for x, y in stream(60, task)]
    whole = taught(make(path, parameters, task, 1), pairs[:30])
    copy = make(path, parameters, task, 1)
    copy.restore(whole.snapshot())
    for x, y in pairs[30:]:
        assert copy.predict(x) == whole.predict(x)
        copy.learn(x, y)
        whole.learn(x, y)
    assert copy.digest() == whole.digest() and copy.snapshot() == whole.snapshot()


def test_the_answers_are_those_of_scikit_learn_by_hand() -> None:
    """F28: known answers: the same standardised rows, one `partial_fit` each."""
    pairs = numbers_only(stream(200))
    ours, own, scaling = make(SGD, LOGISTIC, "binary", 1), sgd.SGDClassifier(loss="log_loss", random_state=1), Mixed()
    row = np.zeros((1, 8))
    for i, (x, y) in enumerate(pairs):
        if i:
            row[0, :3] = list(scaling.transform_one(x).values())
            assert ours.predict(x).score == own.predict_proba(row)[0, 1]
            assert ours.predict(x).prediction == own.predict(row)[0]
        scaling.learn_one(x)
        row[0, :3] = list(scaling.transform_one(x).values())
        own.partial_fit(row, [y], classes=[0, 1])
        ours.learn(x, y)


@pytest.mark.parametrize(("batch", "least"), [(1, 0.8), (10, 0.75)])
def test_estimators_learn_mixed_features(batch: int, least: float) -> None:
    """F28: numbers, texts and missing values; before the first `partial_fit` the answer is undecided."""
    learner = make(SGD, {**LOGISTIC, "batch": batch}, "binary", 1)
    pairs: list[Pair] = [({**x, "c": None if i % 7 == 0 else x["c"]}, y) for i, (x, y) in enumerate(stream(600))]
    assert learner.predict(pairs[0][0]).score == 0.5
    assert prequential(learner, pairs) > least


def test_weights_count() -> None:
    """An example of weight 2 is learned as scikit-learn learns it."""
    plain, heavy = (make(SGD, LOGISTIC, "binary", 1) for _ in range(2))
    plain.learn({"a": 1.0}, 1)
    heavy.learn({"a": 1.0}, 1, weight=2.0)
    for learner, weight in ((plain, 1.0), (heavy, 2.0)):
        learner.learn({"a": 1.0}, 0, weight=weight)
    own = sgd.SGDClassifier(loss="log_loss", random_state=1)
    rows = np.zeros((1, 8))
    own.partial_fit(rows, [1], classes=[0, 1], sample_weight=[2.0])
    own.partial_fit(rows, [0], sample_weight=[2.0])
    assert heavy.predict({}).score == own.predict_proba(rows)[0, 1] != plain.predict({}).score


def test_what_finds_no_column_is_left_out_and_counted() -> None:
    """F28: bounded whatever names and texts come."""
    learner = make(SGD, {**LOGISTIC, "width": 3}, "binary", 1)
    assert isinstance(learner, Scikit)
    for i in range(50):
        learner.learn({"a": float(i), "word": f"w{i}"}, i % 2)
    assert list(learner.columns) == ["a", "word=w0", "word=w1"]
    assert learner.left_out == 1  # w2 found no column; the preparation keeps no more texts than there are columns
    assert len(learner.snapshot()) < 2_500


def test_the_state_of_a_network_does_not_grow() -> None:
    """F29: scikit-learn keeps the loss of every `partial_fit`; we keep the last."""
    learner = make("sklearn.neural_network.MLPClassifier", {**MLP, "batch": 1}, "binary", 1)
    sizes = [len(taught(learner, numbers_only(stream(40, seed=i))).snapshot()) for i in range(3)]
    assert sizes[2] - sizes[0] < 20


MLP_PATH = "sklearn.neural_network.MLPClassifier"
BAD = [
    (SGD, {}, "binary", r"SGDClassifier is random and has no seed; add random_state: 1"),
    (SGD, {"random_state": 1, "loss": "log"}, "binary", r"The 'loss' parameter of SGDClassifier must be"),
    (SGD, {"random_state": 1, "lozz": 1}, "binary", r"unexpected keyword argument 'lozz'"),
    (SGD, SEEDED, "multiclass", r"must know all classes beforehand; add classes: \[one, another"),
    (SGD, {**SEEDED, "classes": ["a"]}, "multiclass", r"classes must be a list of 2 to 100 different labels"),
    (SGD, {**SEEDED, "classes": ["a", "a"]}, "multiclass", r"different labels"),
    (SGD, {**SEEDED, "classes": "ab"}, "multiclass", r"different labels"),
    (SGD, {**SEEDED, "classes": [0, 1]}, "binary", r"classes is for multi-class tasks"),
    (SGD, SEEDED, "regression", r"SGDClassifier is no regressor"),
    (SGD, {**SEEDED, "width": 0}, "binary", r"width is 0; give a whole number from 1 to 10000"),
    (SGD, {**SEEDED, "batch": True}, "binary", r"batch is True; give a whole number"),
    (SGD, {**SEEDED, "early_stopping": True}, "binary", r"early_stopping should be False with partial_fit"),
    ("sklearn.linear_model.SGDRegressor", SEEDED, "binary", r"SGDRegressor is no classifier"),
    ("sklearn.linear_model.SGDClassifer", SEEDED, "binary", r"no class .*; did you mean SGDClassifier\?"),
    ("sklearn.linear.SGDClassifier", SEEDED, "binary", r"no class sklearn.linear.SGDClassifier; write it as in"),
    ("sklearn.linear_model.LogisticRegression", {}, "binary", r"no partial_fit.*; sklearn.linear_model has .*SGD"),
    ("sklearn.tree.DecisionTreeClassifier", {}, "binary", r"no partial_fit.*; take sklearn.linear_model.SGD"),
    ("sklearn.preprocessing.StandardScaler", {}, "binary", r"StandardScaler is no classifier"),
    ("sklearn.naive_bayes.GaussianNB", {}, "binary", r"takes its smoothing from a batch; add batch: 32"),
    ("sklearn.naive_bayes.CategoricalNB", {}, "binary", r"wants numbered categories"),
    ("sklearn.multiclass.OneVsRestClassifier", {}, "binary", r"missing 1 required positional argument: 'estimator'"),
]


@pytest.mark.parametrize(("path", "parameters", "task", "message"), BAD)
def test_faults_are_told_at_configuration_time(path: str, parameters: dict[str, Any], task: Task, message: str) -> None:
    """F28: one line that says what is wrong and what to write."""
    with pytest.raises(ValueError, match=message) as caught:
        make(path, parameters, task, 1)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(("no class", path))


def test_an_estimator_whose_state_cannot_be_kept_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """F29, F53: planted: other objects of scikit-learn inside would have to be unpickled."""

    class Nested(sgd.SGDClassifier):  # type: ignore[misc, name-defined]
        def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Any:
            self.inside_ = [sgd.Perceptron()]
            return super().partial_fit(X, y, classes)

    monkeypatch.setattr(sgd, "Nested", Nested, raising=False)
    with pytest.raises(ValueError, match="keeps list in inside_, which cannot be saved as plain values"):
        make("sklearn.linear_model.Nested", SEEDED, "binary", 1)


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """F28."""
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ValueError, match=r"SGDClassifier: scikit-learn is not installed; install tidegate\[sklearn\]"):
        make(SGD, SEEDED, "binary", 1)


def test_a_label_outside_the_classes_is_refused_and_changes_nothing() -> None:
    learner = taught(make(SGD, {**SEEDED, "classes": CLASSES}, "multiclass", 1), stream(20, "multiclass"))
    before = learner.digest()
    with pytest.raises(ValueError, match=r"label 'huge' is not among classes of .*: low, middle, high"):
        learner.learn({"a": 1.0}, "huge")
    assert learner.digest() == before


def test_state_holds_no_object_of_scikit_learn() -> None:
    """F53: what is in the bytes needs no class of the package, so none is on the list of classes."""
    for name, (path, parameters) in BINARY.items():
        learner = taught(make(path, parameters, "binary", 1), stream(40))
        assert b"sklearn" not in learner.snapshot().replace(path.encode(), b""), name


def renamed(payload: bytes) -> bytes:
    """As if another version of scikit-learn had written it."""
    kind, form, (_, *rest, (learned, parts)) = state.loads(payload)
    return state.dumps((kind, form, ("0.1", *rest, ({f"{n}x": v for n, v in learned.items()}, parts))))


def test_state_of_another_version_or_of_another_kind_is_refused() -> None:
    """F29, F54."""
    learner = taught(make(SGD, LOGISTIC, "binary", 1), stream(20))
    fresh = make(SGD, LOGISTIC, "binary", 1)
    with pytest.raises(SnapshotError, match=r"saved by scikit-learn 0.1 with other attributes than"):
        fresh.restore(renamed(learner.snapshot()))
    with pytest.raises(SnapshotError, match="state of Majority"):
        fresh.restore(make("majority", {}, "binary", 1).snapshot())
    network = taught(make(MLP_PATH, MLP, "binary", 1), stream(20))
    kind, form, (*rest, (learned, parts)) = state.loads(network.snapshot())
    swapped = {name: ("Popen", values) for name, (_, values) in parts.items()}
    with pytest.raises(SnapshotError, match="Popen may not appear"):
        make(MLP_PATH, MLP, "binary", 1).restore(state.dumps((kind, form, (*rest, (learned, swapped)))))


def test_a_signed_snapshot_brings_the_estimator_back() -> None:
    """F29: with what the header says alone."""
    learner: Learner = taught(make(SGD, LOGISTIC, "binary", 1), stream(50))
    header = Header(model="m", learner="champion", version="1", updates=50, path=SGD, parameters=LOGISTIC)
    opened = open_sealed(seal(header, learner.snapshot(), KEY, "dev"), {"dev": KEY})
    assert load(opened).digest() == learner.digest()
    assert msgspec.json.encode(opened.header.parameters)


def test_deprecated_estimators_say_so_themselves() -> None:
    """We pass scikit-learn's own warning on."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make("sklearn.linear_model.PassiveAggressiveClassifier", SEEDED, "binary", 1)
    assert not caught or "PassiveAggressive" in str(caught[0].message)
