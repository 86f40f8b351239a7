"""The configuration: all faults together with their paths, units, defaults, identity."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path

import pytest

from stream import yaml_text
from stream.config import load, parse
from stream.errors import ConfigError
from stream.units import Duration, FalseAlarms, LearnerSpec

SMALL = "models: {m: {task: binary}}"


def faults(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "c.yaml")
    return caught.value.faults


def test_every_fault_is_told_with_its_path() -> None:
    text = """
models:
  a:
    task: binry
    false_alarms: often
    windows: {every: 1h, events: 5}
    labels: {horizn: 7d, implicit: {after: soon}}
  b:
    task: regression
    learn: {champion: [1, 2], buffer: {bytes: lots}}
kafka: {security_protocol: TLS}
engine: 5
unknown: 1
"""
    found = faults(text)
    paths = [fault.split(":")[0] for fault in found]
    assert paths == [
        "unknown", "models.a.task", "models.a.false_alarms", "models.a.labels.horizn", "models.a.labels.implicit.after",
        "models.b.learn.champion", "models.b.learn.buffer.bytes", "kafka.security_protocol", "engine",
    ]  # fmt: skip
    assert "models.a.labels.horizn: unknown setting; did you mean horizon?" in found
    assert "models.a.labels.implicit.after: 'soon' is not a duration; write 30s, 15m, 2h, 7d or 4w" in found


def test_settings_that_contradict_each_other_are_told() -> None:
    text = """
models:
  m:
    task: binary
    windows: {every: 1h, events: 5}
    labels: {horizon: 1d, implicit: {after: 2d}}
input: {model: n, event_time: {column: t, start: "2024-01-01"}, label_delay: {events: 1, time: 1h}}
"""
    assert faults(text) == [
        "models.m.windows: give either every (event time) or events (a number)",
        "models.m.labels.implicit.after: must not exceed labels.horizon",
        "input.model: no model 'n' under models",
        "input.label_delay: give exactly one of events, time, column, exponential",
        "input.event_time: give either column, or start and step",
        "input.event_time.step: missing; write 1m, say",
        "input.prediction: null lets a champion predict, and the model has none; name a column, or add learn",
    ]


@pytest.mark.parametrize("policy", ["off", '"off"'])
def test_off_is_a_policy_and_no_truth_value(policy: str) -> None:
    """Quoted or not: YAML 1.1 would read the second kind of word as false."""
    assert doctest.testmod(yaml_text).attempted == 1 and doctest.testmod(yaml_text).failed == 0
    learn = parse(f"models: {{m: {{task: binary, learn: {{policy: {policy}}}}}}}").models["m"].learn
    assert learn is not None and learn.policy == "off"


def test_of_a_mapping_nothing_stands_twice_but_what_is_merged() -> None:
    twice = "models:\n  fraud: {task: binary}\n  fraud: {task: regression}\n"
    assert faults(twice) == ["line 3: fraud stands twice, first in line 2"]
    merged = yaml_text.read("a: &a {x: 1, y: 1}\nb: &b {<<: *a, x: 2}\nc: {<<: *b, x: 3}\n1: one\n'1': two\n")
    assert merged["c"] == {"x": 3, "y": 1} and merged["b"] == {"x": 2, "y": 1} and merged[1] == "one"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xfa\x00", "cannot be read as text (UTF-8): 'utf-8' codec can't decode byte 0xfa in position 0"),
        (b"[" * 100_000, "not YAML that can be read: nested too deep"),
        (b"a: \x00", "not YAML: unacceptable character"),
        (b"models: !!python/object/apply:os.system [true]", "line 1: not YAML: could not determine a constructor"),
    ],
    ids=["bytes", "deep", "control", "object"],
)
def test_a_file_that_is_no_configuration_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        load(path)
    assert str(raised.value).startswith(f"c.yaml: {message}") and "\n" not in str(raised.value)


def test_a_word_that_is_none_of_those_known_is_told_with_them() -> None:
    assert faults("models: {m: {task: binary, learn: {policy: onlin}}}") == [
        "models.m.learn.policy: 'onlin' is none of off, manual, scheduled, triggered, online; did you mean online?"
    ]


def test_a_model_that_learns_needs_its_examples() -> None:
    assert faults("models: {m: {task: binary, examples: false, learn: {champion: majority}}}") == [
        "models.m.examples: must not be false, for the model learns from them"
    ]


def test_random_delays_need_a_seed() -> None:
    text = f"{SMALL}\ninput: {{model: m, prediction: p, label_delay: {{exponential: 1h}}}}"
    assert faults(text) == ["input.label_delay.seed: random delays need a seed, so that a replay repeats"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "the file: expected a mapping, found nothing"),
        ("models: {}", "models: name at least one model"),
        ("models: [a", "line 1: not YAML: expected ',' or ']', but got '<stream end>'"),
        ("models: {m: {}}", "models.m.task: missing"),
        ("models: {m: 5}", "models.m: expected a mapping, found int 5"),
    ],
)
def test_a_file_of_another_shape_is_told(text: str, fault: str) -> None:
    assert faults(text) == [fault]


def test_a_missing_file_is_told() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read: No such file or directory"):
        load("nowhere.yaml")


@pytest.mark.parametrize(
    ("text", "seconds"), [("250ms", 0.25), ("90s", 90), ("1.5h", 5400), ("7d", 604_800), ("4w", 2_419_200), (12, 12)]
)
def test_durations_have_units(text: object, seconds: float) -> None:
    assert Duration.read(text) == seconds


@pytest.mark.parametrize("text", ["5", "-1s", "1 fortnight", None, True, -3])
def test_other_durations_are_refused(text: object) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        Duration.read(text)


def test_false_alarms_are_a_rate() -> None:
    assert FalseAlarms.read("2 per week") == FalseAlarms(2.0, seconds=604_800.0)
    assert str(FalseAlarms.read("1 per 1000000 events")) == "1 per 1000000 events"
    with pytest.raises(ValueError, match="not a rate"):
        FalseAlarms.read("0 per month")


def test_learners_have_parameters() -> None:
    assert LearnerSpec.read({"river.forest.ARFClassifier": {"seed": 1}}).parameters == {"seed": 1}
    assert LearnerSpec.read("experts") == LearnerSpec("experts", {})


def test_identity_is_of_what_decides_outputs() -> None:
    """F42: where bytes are carried changes nothing; what is watched does."""
    plain = parse(SMALL).hash()
    assert parse(SMALL + "\nkafka: {bootstrap_servers: 'elsewhere:1'}\nengine: {checkpoint: 1s}").hash() == plain
    assert parse("models: {m: {task: binary, slices: [a]}}").hash() != plain
    assert parse("models: {m: {task: multiclass}}").hash() != plain


def test_reading_a_configuration_does_not_load_scipy() -> None:
    """Every command reads one, and loading SciPy takes four times as long as all the rest of it."""
    code = "import stream.config, sys; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
