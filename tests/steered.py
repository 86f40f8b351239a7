"""Two small runs in which nearly everything happens that steers learning: a trial that ends in promotion, copies that
age, groups, label sources and labels that never come; and a bandit over arms that learn in batches, two of them
poisoned, so that the guard refuses them and learning rests."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

BATCH: Final = 360
"""Rows, one a minute, between two scheduled updates."""

POISONED: Final = (2, 3, 4)
"""Batches whose labels are the wrong way round, but where the guard looks (`guarding.HELD_OUT_EVERY`)."""

LINEAR = "{river.linear_model.LogisticRegression: {optimizer: {river.optim.SGD: {lr: 0.2}}}}"

TRIED = f"""
models:
  tried:
    task: binary
    positive: 1
    false_alarms: 1 per 1000 events
    reference: {{first: 500}}
    windows: {{every: 2h, min_events: 50}}
    labels: {{horizon: 3h}}
    detectors: [counts]
    fairness: {{groups: [g], min_events: 50}}
    learn:
      champion: majority
      challengers: {{linear: {LINEAR}, last: last}}
      publish: 100
      respond: {{data_quality: ignore}}
      influence: {{}}
      trial: {{ramp: [0.1, 0.5], labels_min: 150, every: 50, probation_labels: 400}}
      freshness: {{ages: [15m, 30m, 1h, 2h], update_cost: 1, price: 2, every: 1}}
input: {{model: tried, label: y, label_delay: {{events: 5}}}}
"""

CHOSEN = f"""
models:
  chosen:
    task: binary
    positive: 1
    reference: {{first: 500}}
    windows: {{every: 2h, min_events: 50}}
    labels: {{horizon: 3h}}
    detectors: [counts]
    learn:
      champion: {LINEAR}
      challengers: {{last: last}}
      policy: scheduled
      every: 6h
      respond: {{data_quality: ignore}}
      balance: {{kind: weight}}
      bandit: {{settings: {{floor: 0.05, every: 50}}}}
input: {{model: chosen, label: y, label_delay: {{events: 5}}}}
"""


def rows(folder: Path, poisoned: bool = False, n: int = 2600) -> Path:
    """A rule that turns, so that copies of a model age; labels of rows with a large `a` often never come, or, where
    batches are `poisoned`, those are."""
    draw = np.random.default_rng(7)
    a, b = draw.normal(size=(2, n))
    turn = np.linspace(0.0, 3.0, n)
    y = (2.0 * a * np.cos(turn) - 2.0 * b * np.sin(turn) + 0.6 * draw.normal(size=n) > 0).astype(int)
    text = [str(label) for label in y]
    if poisoned:
        for batch in POISONED:
            for i in range(batch * BATCH, (batch + 1) * BATCH):
                text[i] = str(y[i] if i % 10 == 0 else 1 - y[i])
    else:
        never = (a > 0.3) & (draw.random(n) < 0.4)
        text = ["" if gone else label for gone, label in zip(never, text, strict=True)]
    lines = [f"{a[i]:.4f},{b[i]:.4f},{'uv'[i % 3 == 0]},{text[i]}" for i in range(n)]
    path = folder / f"rows-{poisoned}.csv"
    path.write_text("a,b,g,y\n" + "\n".join(lines) + "\n")
    return path
