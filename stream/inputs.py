"""What the `input` section may say beyond its shape. Owns what is refused, and every fault's words; refuses to know
files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from stream.tree import meant

if TYPE_CHECKING:
    from stream.config import Input, Model


def faults(entry: Input, models: Mapping[str, Model]) -> Iterator[str]:
    """Everything that is wrong with the section, each with its path."""
    if entry.model not in models:
        yield f"input.model: no model {entry.model!r} under models{meant(entry.model, models)}"
    delay = entry.label_delay
    given = [delay.events, delay.time, delay.column, delay.exponential]
    if sum(x is not None for x in given) != 1:
        yield "input.label_delay: give exactly one of events, time, column, exponential"
    if delay.exponential is not None and delay.seed is None:
        yield "input.label_delay.seed: random delays need a seed, so that a replay repeats"
    if (entry.event_time.column is None) == (entry.event_time.start is None):
        yield "input.event_time: give either column, or start and step"
    if entry.event_time.start is not None and entry.event_time.step is None:
        yield "input.event_time.step: missing; write 1m, say"
    learn = models[entry.model].learn if entry.model in models else None
    if entry.prediction is None and (learn is None or learn.policy == "off"):
        yield "input.prediction: null lets a champion predict, and the model has none; name a column, or add learn"
