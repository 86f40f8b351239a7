"""Constraints: learned with room, asked value by value, written and read as a file; and those of a training file
held against serving (F11, F12)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import constraint_text, constraints
from detectors.constraints import CATEGORY, KEPT, LENGTH, RANGE, TYPE, WHOLE, Column, Constraint
from stream import yaml_text
from stream.config import parse
from stream.errors import ConfigError
from stream.joining.columns import column
from stream.runtime import constraints as files
from stream.runtime.replay import replay
from stream.surface import cli
from stream.surface import constraints as written

CONFIG = """
models:
  m:
    task: binary
    reference: {first: 1000}
    constraints: limits.yaml
    labels: {horizon: 1d}
    detectors: [counts]
input: {model: m, prediction: said, label: y, prediction_id: id}
"""


def of(values: Any) -> Column:
    """A column as the join makes it."""
    made = column(list(values))
    assert made is not None
    return Column(made.values, made.words)


def rules(constraint: Constraint, values: Any) -> list[int]:
    return [int(rule) for rule in constraints.broken(constraint, of(values))]


LAWS: dict[str, Callable[[np.random.Generator, int], Any]] = {
    "normal": lambda draw, n: draw.normal(size=n),
    "exponential": lambda draw, n: draw.exponential(size=n),
    "laplace": lambda draw, n: draw.laplace(size=n),
    "uniform": lambda draw, n: draw.random(n),
    "counts": lambda draw, n: draw.poisson(3.0, n).astype(float),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("n", [100, 1000])
def test_fewer_than_one_in_a_thousand_good_values_leave_a_learned_range(law: str, n: int) -> None:
    draw = np.random.default_rng([n, len(law)])
    outside = []
    for _ in range(60):
        known = constraints.learn(Column(LAWS[law](draw, n)))
        outside.append((constraints.broken(known, Column(LAWS[law](draw, 5_000))) > 0).mean())
    assert np.mean(outside) < 1e-3


@settings(max_examples=60)
@given(st.lists(st.floats(-1e6, 1e6), min_size=100, max_size=300), st.integers(0, 99))
def test_no_value_of_the_reference_breaks_what_was_learned_from_it(values: list[float], gaps: int) -> None:
    known = np.array(values)
    known[:gaps] = np.nan
    learned = constraints.learn(Column(known))
    assert (constraints.broken(learned, Column(known)) <= 0).all()


def test_an_atom_at_the_edge_is_the_bound() -> None:
    """What is never negative and often zero must not be."""
    draw = np.random.default_rng(1)
    delay = np.maximum(draw.normal(size=2_000), 0.0)
    learned = constraints.learn(Column(delay))
    assert learned.low == 0.0
    assert rules(learned, [-0.1, 0.0, None, 99.0]) == [RANGE, KEPT, -1, RANGE]


def test_integers_and_booleans_are_known_as_such() -> None:
    draw = np.random.default_rng(2)
    months = constraints.learn(of(draw.integers(1, 13, 3_000).tolist()))
    assert (months.low, months.high, months.whole) == (1.0, 12.0, True)
    assert rules(months, [3, 3.5, 13, "May"]) == [KEPT, WHOLE, RANGE, TYPE]
    flag = constraints.learn(of((draw.random(500) < 0.5).tolist()))
    assert flag.type == "boolean"
    assert rules(flag, [True, False, 2, "yes"]) == [KEPT, KEPT, TYPE, TYPE]


def test_a_constant_and_a_few_values_have_no_range() -> None:
    assert constraints.learn(Column(np.full(500, 7.0))) == Constraint(type="number", missing_max=0.02)
    assert constraints.learn(Column(np.arange(99.0))) == Constraint(type="number", missing_max=0.02)


@pytest.mark.parametrize("times", [6, 7])
def test_a_set_is_closed_if_its_rarest_category_was_seen_often(times: int) -> None:
    colours = of(["red", "green"] * 200 + ["blue"] * times)
    learned = constraints.learn(colours)
    assert (learned.categories == ("blue", "green", "red")) == (times >= constraints.SEEN_MIN)
    assert rules(learned, ["blue", "violet", None, 5]) == [KEPT, CATEGORY if times == 7 else KEPT, -1, TYPE]


def test_texts_may_be_twice_as_long_as_the_longest_and_no_number() -> None:
    notes = of([f"note {i:04}" for i in range(500)])
    learned = constraints.learn(notes, free_text=True)
    assert learned.length_max == 18
    assert rules(learned, ["x" * 18, "x" * 19, 12.5]) == [KEPT, LENGTH, TYPE]
    assert rules(constraints.learn(of(["7", "x8", "9"] * 50)), ["7", 9]) == [KEPT, KEPT]


def test_an_embedding_is_asked_by_its_norm() -> None:
    draw = np.random.default_rng(3)
    numbers = {f"e~{k}": Column(draw.normal(size=300)) for k in range(1, 9)}
    numbers["e~norm"] = Column(draw.gamma(50.0, size=300))
    learned = constraints.learn_all({"x": Column(draw.normal(size=300)), **numbers})
    assert list(learned) == ["e", "x"]
    assert learned["e"].type == "embedding"
    assert rules(learned["e"], [50.0, 5_000.0]) == [KEPT, RANGE]


def test_what_cannot_break_is_known() -> None:
    assert not constraints.can_break(Constraint(type="text", numbers=True))
    assert constraints.can_break(Constraint(type="text"))
    assert constraints.can_break(Constraint(type="number"))


VALUES = st.one_of(st.none(), st.floats(-1e9, 1e9), st.integers(-(10**17), 10**17), st.booleans(), st.text(max_size=6))


@settings(max_examples=80)
@given(st.lists(VALUES, min_size=1, max_size=12), st.data())
def test_a_value_is_judged_by_itself_whatever_stands_around_it(values: list[Any], data: st.DataObject) -> None:
    """Chunks in which text and numbers meet hold text: how rows are cut must not decide."""
    cut = data.draw(st.integers(0, len(values)))
    for each in (
        Constraint(type="number", low=-5.0, high=1e6, whole=True),
        Constraint(type="boolean"),
        Constraint(type="text", categories=("a", "1", "True")),
        Constraint(type="text", length_max=3),
    ):
        apart = [rule for part in (values[:cut], values[cut:]) if part for rule in rules(each, part)]
        texts = [value for value in values if isinstance(value, str) and constraints.number_of(value) is not None]
        if not texts:  # a text that reads as a number is one among numbers; only its own chunk could tell
            assert apart == rules(each, values)


CONSTRAINTS = st.one_of(
    st.builds(
        lambda bounds, whole, most: Constraint(
            type="number", low=min(bounds), high=max(bounds), whole=whole, missing_max=most
        ),
        st.tuples(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9)), st.booleans(), st.none() | st.floats(0, 1),
    ),
    st.builds(
        lambda words, longest, numbers: Constraint(
            type="text", categories=tuple(words), length_max=longest, numbers=numbers
        ),
        st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=4), st.none() | st.integers(0, 9), st.booleans(),
    ),
    st.sampled_from([Constraint(type="boolean"), Constraint(type="embedding", high=3.0), Constraint(type="number")]),
)  # fmt: skip


@settings(max_examples=80)
@given(st.dictionaries(st.text(min_size=1, max_size=6), CONSTRAINTS, max_size=3))
def test_what_is_written_is_read_back(known: dict[str, Constraint]) -> None:
    text = written.dump(constraint_text.to_plain(known))
    assert constraint_text.from_plain(yaml_text.read(text)) == (known, [])


def test_every_fault_of_a_file_is_told_with_its_path() -> None:
    text = """
age: {type: number, low: 5, high: 3}
a: {type: numbr}
b: {low: 1}
c: {type: text, categories: [yes, true], hihg: 3, whole: true}
d: {type: number, low: .nan, missing_max: 2}
e: 7
f: {type: text, length_max: few, categories: x}
"""
    assert constraint_text.from_plain(yaml_text.read(text))[1] == [
        "age.low: 5 is above high (3)",
        "a.type: 'numbr' is none; one of number, text, boolean, embedding; did you mean number?",
        "b.type: missing; one of number, text, boolean, embedding",
        "c.hihg: unknown key; did you mean high?",
        "c.whole: not for type text, for number only",
        "c.categories: True is no text; put categories in quotes",
        "d.low: expected a number, found float nan",
        "d.missing_max: expected a share from 0 to 1, found 2",
        "e: expected a mapping, found int 7",
        "f.categories: expected a list, found str 'x'",
        "f.length_max: expected a number of characters, found str 'few'",
    ]
    assert constraint_text.from_plain(None)[1] == ["expected a mapping of features, found nothing"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a stream of 2,000 rows and its configuration."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(4)
    temp, colour = draw.gamma(20.0, 1.0, 2_000), draw.choice(["red", "green"], 2_000)
    rows = [f"{i},{t:.3f},{c},{i % 2},{i % 2}" for i, (t, c) in enumerate(zip(temp, colour, strict=True))]
    (tmp_path / "d.csv").write_text("\n".join(["id,temp,colour,said,y", *rows]) + "\n")
    (tmp_path / "c.yaml").write_text(CONFIG)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.run(list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_writes_a_file_that_is_read_and_not_written_over(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ("constraints", "d.csv", "-c", "c.yaml", "--out", "limits.yaml")
    assert run(capsys, *ask) == (0, "", "")
    text = (folder / "limits.yaml").read_text()
    assert text.startswith("# What the values of model 'm' may be, learned from the first 1,000 rows of d.csv.\n")
    assert "# seen: 2 different texts, the longest of 5 characters; missing in 0% of the rows\ncolour:\n" in text
    known = files.load(parse(CONFIG))["m"]
    assert list(known) == ["colour", "temp"]
    assert known["colour"].categories == ("green", "red")
    code, _, err = run(capsys, *ask)
    assert (code, err) == (
        2, "tidegate: limits.yaml: is there already, perhaps with edits; give another name, or delete it\n",
    )  # fmt: skip


def test_check_counts_constraints_and_tells_what_is_wrong_with_them(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "limits.yaml").write_text("temp: {type: number, low: 0}\ncolour: {type: text, categories: [red]}\n")
    code, out, _ = run(capsys, "check", "c.yaml", "--data", "d.csv")
    assert code == 0
    assert "asks values to keep 2 constraints of limits.yaml" in out
    (folder / "limits.yaml").write_text("tmp: {type: number, low: 0}\n")
    code, _, err = run(capsys, "check", "c.yaml", "--data", "d.csv")
    assert code == 2
    assert "models.m.constraints: limits.yaml: no feature 'tmp'; did you mean temp?" in err
    (folder / "limits.yaml").write_text("temp: {type: number, lo: 0}\n")
    code, _, err = run(capsys, "check", "c.yaml")
    assert code == 2
    assert "c.yaml: models.m.constraints: limits.yaml: temp.lo: unknown key; did you mean low?" in err
    (folder / "limits.yaml").unlink()
    assert "limits.yaml: cannot be read: No such file or directory" in run(capsys, "check", "c.yaml")[2]
    (folder / "c.yaml").write_text(CONFIG.replace("    constraints: limits.yaml\n", ""))
    assert "learns from the first 1,000 events what values may be" in run(capsys, "check", "c.yaml")[1]


@pytest.mark.parametrize(
    ("text", "fault"),
    [("temp: [", "line 2: not YAML"), ("[1, 2]", "expected a mapping of features, found list [1, 2]")],
)
def test_a_file_that_is_none_is_told(folder: Path, text: str, fault: str) -> None:
    (folder / "limits.yaml").write_text(text + "\n")
    with pytest.raises(ConfigError, match=r"models\.m\.constraints: limits\.yaml") as caught:
        files.load(parse(CONFIG))
    assert fault in caught.value.faults[0]


def test_serving_is_held_against_what_training_had(tmp_path: Path) -> None:
    """F12: with a reference that is a file the constraints are that file's, from the first event on."""
    draw = np.random.default_rng(18)
    train = [f"{t:.3f},{'ab'[i % 2]}" for i, t in enumerate(draw.gamma(20.0, 1.0, 2_000))]
    (tmp_path / "train.csv").write_text("\n".join(["temp,c", *train]) + "\n")
    serve = [f"{-1.0 if i % 8 == 0 else t:.3f},{'ab'[i % 2]},{i % 2}" for i, t in enumerate(draw.gamma(20, 1, 1_500))]
    (tmp_path / "serve.csv").write_text("\n".join(["temp,c,said", *serve]) + "\n")
    text = f"""
models: {{m: {{task: binary, reference: {{file: {tmp_path / "train.csv"}}}, labels: {{horizon: 1d}}}}}}
input: {{model: m, prediction: said, event_time: {{start: "2024-01-01T00:00:00Z", step: 10s}}}}
"""
    document = replay(parse(text), tmp_path / "serve.csv").to_dict()
    shown = document["models"]["m"]["watch"]["constraints"]
    assert shown["features"]["c"] == "text, one of a, b"
    assert (shown["from"], shown["repeats_within_rows"]) == ("reference", None)
    alert = document["alerts"][-1]
    assert (alert["kind"], alert["stream"], alert["evidence"]["fault"]) == ("data_quality", "invalid/temp", "range")
    assert alert["since"]["estimate"] < "2024-01-01T01", "from the first block on"
