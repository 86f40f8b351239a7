"""A reference that is a file: training-serving skew is seen from the first event on (F12)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from stream.config import parse
from stream.errors import ConfigError
from stream.runtime import references
from stream.runtime.replay import replay

CONFIG = """
models:
  m:
    task: binary
    reference: {{file: {file}}}
    windows: {{every: 4h, min_events: 50}}
    labels: {{horizon: 1d}}
    detectors: [counts]
input: {{model: m, prediction: said, score: p, label: y, prediction_id: id, tags: [region]}}
"""


def write(path: Path, shift: float, extra: bool, rows: int = 2_000) -> Path:
    random = np.random.default_rng(3)
    x = random.normal(shift, 1.0, rows)
    names = "x,c" + (",id,said,p,y,region" if extra else "")
    lines = [f"{v:.4f},{'ab'[i % 2]}" + (f",{i},{i % 2},0.{i % 9 + 1},1,n" if extra else "") for i, v in enumerate(x)]
    path.write_text("\n".join([names, *lines]) + "\n")
    return path


@pytest.mark.parametrize("extra", [False, True])
def test_the_columns_of_the_reference_are_features_alone(tmp_path: Path, extra: bool) -> None:
    settings = parse(CONFIG.format(file=write(tmp_path / "train.csv", 0.0, extra)))
    rows = references.load(settings)["m"]
    assert list(rows.features) == ["x", "c"]
    assert len(rows.order) == 2_000
    assert np.isnan(rows.prediction.values).all() != extra


@pytest.mark.parametrize("extra", [False, True])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_a_stream_unlike_its_training_data_alarms_and_one_like_it_does_not(
    tmp_path: Path, shift: float, extra: bool
) -> None:
    """F12"""
    settings = parse(CONFIG.format(file=write(tmp_path / "train.csv", 0.0, extra)))
    document = replay(settings, write(tmp_path / "serve.csv", shift, extra=True)).to_dict()
    moved = {alert["stream"] for alert in document["alerts"]}
    assert ("feature/x" in moved) == bool(shift)
    assert "feature/c" not in moved


def test_a_shuffled_file_is_put_in_order(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text("t,x\n300,3\n100,1\n200,2\n")
    text = CONFIG.format(file=path).replace("tags: [region]", "event_time: {column: t, format: epoch_s}")
    rows = references.load(parse(text))["m"]
    assert rows.order.tolist() == [100, 200, 300]
    assert rows.features["x"].values.tolist() == [1, 2, 3]


def test_an_empty_reference_is_told(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text("x\n")
    with pytest.raises(ConfigError, match=r"no rows \(models.m.reference.file\)"):
        references.load(parse(CONFIG.format(file=path)))
