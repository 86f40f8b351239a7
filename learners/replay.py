"""Replay buffers by name: the one table, and what a kind needs of the task.

Replay learns a few past examples again with every new one, so that a model which follows the present does not forget
what it knew (experience replay, Lin 1992). Owns the names. Refuses to know when to replay (`stream.stages.course`).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from typing import Final

from learners.balanced import Balanced
from learners.buffers import Buffer, Recent, Reservoir
from learners.contract import Label, Said
from learners.metrics import Task
from learners.prioritised import Prioritised

BUFFERS: Final[Mapping[str, Callable[[int, int], Buffer]]] = {
    "reservoir": Reservoir,
    "recent": Recent,
    "balanced": Balanced,
    "prioritised": Prioritised,
}
"""Buffer by name: (bytes it may hold, seed)."""


def make(kind: str, bytes_max: int, seed: int, task: Task) -> Buffer:
    """An empty buffer. Raises ValueError for an unknown kind, and for one that does not fit the task."""
    if kind not in BUFFERS:
        close = difflib.get_close_matches(kind, BUFFERS, 1)
        hint = f"; did you mean {close[0]}?" if close else f"; write one of {', '.join(BUFFERS)}"
        raise ValueError(f"no buffer {kind!r}{hint}")
    if kind == "balanced" and task == "regression":
        raise ValueError("balanced keeps classes in equal parts, and a regression has none; write reservoir")
    return BUFFERS[kind](bytes_max, seed)


def loss(task: Task, said: Said, y: Label) -> float:
    """How wrong an answer was, for a buffer that asks: Brier loss of the label's share between 0 and 1, of an answer
    without a score 0 or 1; regression: the absolute error. Infinite where the answer is no number.

    >>> loss("binary", Said(1, 0.75), 0), loss("regression", Said(3.0), 5.0)
    (0.5625, 2.0)
    """
    if task == "regression":
        error = abs(float(said.prediction) - float(y))
        return error if math.isfinite(error) else math.inf
    share = share_of(task, said, y)
    return (1.0 - share) ** 2 if math.isfinite(share) else math.inf


def share_of(task: Task, said: Said, y: Label) -> float:
    """The probability that an answer gave to the label; of an answer without one, all or nothing. For classes."""
    if said.score is None:
        return float(said.prediction == y)
    if task == "binary":
        return said.score if y == 1 else 1.0 - said.score
    return (said.probabilities or {str(said.prediction): said.score}).get(str(y), 0.0)
