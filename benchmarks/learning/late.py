"""The default learner against its own experts on whole streams, with labels as late as many concepts last.

The prequential part takes 20,000 rows of a stream, for the forest's cost. Where labels come 10,000 late, half of those
are answered before any label, and for another 10,000 all that is learned tells of answers that were given without any:
what weighing the experts is worth shows only later. Here every file is followed from its first row to its last, and the
generators' concepts come in turn for 60,000 rows. Regression has no right answers and is left out.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from benchmarks.detection.bars import Bar, Part, at_most
from benchmarks.detection.datasets import Missing
from benchmarks.learning import streams
from benchmarks.learning.prequential import BELOW_BEST_MAX, CLASSIFIERS, OURS, follow
from benchmarks.learning.streams import Labelled
from learners.registry import make


class Size(NamedTuple):
    """What is run: at most so many rows of a file, and so many of a generator."""

    names: tuple[str, ...]
    file_rows: int
    generated_rows: int
    delay: int


FULL: Final = Size(
    tuple(name for name in streams.NAMES if name not in streams.FILES or streams.FILES[name].task != "regression"),
    100_000,
    60_000,
    10_000,
)
"""One file is longer than that."""

QUICK: Final = Size(("elec2", "stagger recurring"), 6_000, 6_000, 1_000)


def run(quick: bool, seed: int) -> Part:
    size = QUICK if quick else FULL
    told: dict[str, Any] = {}
    for name in size.names:
        rows = size.file_rows if name in streams.FILES else size.generated_rows
        try:
            told[name] = one_stream(streams.whole(name, rows, seed), size.delay)
        except Missing as missing:
            told[name] = str(missing)
        print(f"  {name}", file=sys.stderr, flush=True)
    shown = {"unit": "% of answers right", "delay": size.delay, "streams": told, "means": means(told)}
    return Part(figures=shown, bars=bars(told, size.delay))


def one_stream(stream: Labelled, delay: int) -> dict[str, Any]:
    """Accuracy of the default and of each of its experts, and which of them was best in hindsight."""
    path, parameters = CLASSIFIERS[OURS]
    found = follow(make(path, parameters, stream.task, 1), stream, delay)
    n = len(stream.y)
    experts = {name: round(100.0 * right / n, 3) for name, right in found.experts.items()}
    best = max(experts, key=experts.__getitem__)
    right = sum(a == b for a, b in zip(found.said, stream.y, strict=True))
    return {
        "rows": n,
        "task": stream.task,
        "drifts": len(stream.drifts),
        OURS: round(100.0 * right / n, 3),
        "best_expert": experts[best],
        "best_expert_is": best,
        "experts": experts,
        "cpu_s": round(found.cpu_s, 3),
    }


def means(told: Mapping[str, Any]) -> dict[str, float]:
    """Over the streams that are there."""
    found = [of for of in told.values() if isinstance(of, dict)]
    return {key: round(float(np.mean([of[key] for of in found])), 3) for key in (OURS, "best_expert") if found}


def bars(told: Mapping[str, Any], delay: int) -> list[Bar]:
    """On the stream where the default is furthest behind its best expert, and on average."""
    behind = {name: float(of["best_expert"] - of[OURS]) for name, of in told.items() if isinstance(of, dict)}
    if not behind:
        return []
    worst = max(behind, key=behind.__getitem__)
    among = f"worst of {len(behind)} whole streams, labels {delay} late: {worst}"
    mean = float(np.mean(list(behind.values())))
    return [
        at_most(f"behind the best expert, {among}", behind[worst], BELOW_BEST_MAX, "points"),
        at_most("behind the best expert on average", mean, 0.0, "points"),
    ]
