"""What a configuration means, in words and figures, and what in it cannot work (`tidegate check`).

`stream.config` checks shapes; here learners and detectors are really made, and a file's first rows are looked at.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

from detectors import registry as detectors
from detectors.constraint_text import did_you_mean
from detectors.contract import Budget, Stream
from learners import registry as learners
from stream import limits, targets
from stream.config import Config, Deliver, Implicit, Model
from stream.errors import ConfigError
from stream.events import Prediction, Request
from stream.runtime import constraints
from stream.runtime.feed import Feed
from stream.surface.console import count, duration
from stream.units import LearnerSpec

TIMES = " \N{MULTIPLICATION SIGN} "

SAMPLE_ROWS = 20_000
"""Rows of `--data` that are looked at: enough to know kinds, slices and the rate."""

TIMED_ROWS = 500
"""Rows that the champion answers and learns, to tell what an event costs."""

SHIFT_SD = 0.25
"""The change whose detection delay is told: small enough to matter, large enough to be found."""

PENDING_BYTES = 300
"""What a prediction that waits for its label takes."""

SPARE_NATS = 2.0
"""Evidence lost to not knowing beforehand how a stream will change (a mixture over bets)."""


class Sample(NamedTuple):
    """The first rows of a file: kind of each feature, values of each slice, events an hour, and some features."""

    kinds: Mapping[str, str]
    slices: list[tuple[str, int]]
    per_hour: float
    rows: list[dict[str, Any]]


def demand(config: Config, source: str) -> None:
    """Make every learner and detector once. Raises ConfigError with all faults, each with its path."""
    faults = []
    for name, model in config.models.items():
        for path, spec in _learners(model):
            try:
                learners.make(spec.path, spec.parameters, model.task, 1)
            except ValueError as error:
                faults.append(f"models.{name}.learn.{path}: {error}")
        for i, detector in enumerate(model.detectors):
            try:
                detectors.make(detector.path, detector.parameters, [Stream("loss", "loss")], Budget(1.0, events=1e6), 1)
            except ValueError as error:
                faults.append(f"models.{name}.detectors[{i}]: {error}")
        faults += constraints.faults(name, model)
        if model.reference.file is not None and not Path(model.reference.file).is_file():
            faults.append(f"models.{name}.reference.file: no file {model.reference.file}")
    if faults:
        raise ConfigError(source, faults)


def _learners(model: Model) -> Iterator[tuple[str, LearnerSpec]]:
    if model.learn is not None and model.learn.policy != "off":
        yield "champion", model.learn.champion
        for name, spec in model.learn.challengers.items():
            yield f"challengers.{name}", spec


def explain(config: Config, data: Path | None, environ: Mapping[str, str] = os.environ) -> list[str]:
    """What the configuration means. With a file, also how many features and slices there are and what they cost."""
    lines = []
    sampled = config.input.model if config.input is not None and data is not None else None
    for name, model in config.models.items():
        sample = _sample(config, data, model) if name == sampled and data is not None else None
        lines += [
            _what(name, model, sample),
            _watches(model, sample),
            _asks(name, model, sample),
            _holds(model, sample),
        ]
        lines += [_compares(model)] if model.fairness is not None else []
        lines.append(_learns(model, sample))
    lines += [_delivers(target, environ) for target in config.deliver]
    if sampled is None:
        lines.append("give --data FILE to count features, slices, memory and time")
    return lines


def _what(name: str, model: Model, sample: Sample | None) -> str:
    slices = " and ".join(TIMES.join(columns) for columns in model.sliced)
    if sample is None:
        return f"{name}: {model.task}, slices {slices or 'none'}"
    kinds = list(sample.kinds.values())
    numeric, text = kinds.count("numeric"), kinds.count("text")
    told = ", ".join(
        f"{name} ({values}{f', the {limits.SLICES_MAX} busiest watched' if values > limits.SLICES_MAX else ''})"
        for name, values in sample.slices
    )
    return f"{name}: {model.task}, {len(kinds)} features ({numeric} numeric, {text} text), slices {told or 'none'}"


def _watches(model: Model, sample: Sample | None) -> str:
    budget = f"with false alarms budgeted at {model.false_alarms} over all of them"
    if sample is None:
        return f"watches every feature, missing shares, predictions, scores, losses and labels, {budget}"
    slices = sum(min(values, limits.SLICES_MAX) for _, values in sample.slices)
    streams = 2 * len(sample.kinds) + 4 + slices
    rate = model.false_alarms
    between = (rate.events or (rate.seconds or 0.0) / 3600.0 * sample.per_hour) / rate.number
    blocks = max(between / limits.EVIDENCE_BLOCK_ROWS, 1.0)
    need = (math.log(blocks * streams) + SPARE_NATS) / (SHIFT_SD**2 / 2)
    events = math.ceil(need / limits.EVIDENCE_BLOCK_ROWS) * limits.EVIDENCE_BLOCK_ROWS
    after = (
        f"about {count(events)} events ({duration(events / sample.per_hour * 3600)} at {sample.per_hour:.0f} an hour)"
    )
    return (
        f"watches about {streams} streams {budget}; a lasting shift of {SHIFT_SD} sd in one feature is seen after "
        f"{after}, later where the stream has seasons"
    )


def _asks(name: str, model: Model, sample: Sample | None) -> str:
    """Which constraints values are asked to keep."""
    if model.constraints is None:
        whence = model.reference.file or f"the first {count(model.reference.first)} events"
        return f"learns from {whence} what values may be: type, range, categories, length"
    known = constraints.of_model(name, model)
    faults = [
        f"models.{name}.constraints: {model.constraints}: no feature {each!r}" + did_you_mean(each, sample.kinds)
        for each in known
        if sample is not None and each not in sample.kinds
    ]
    if faults:
        raise ConfigError("configuration", faults)
    return f"asks values to keep {count(len(known))} constraints of {model.constraints}"


def _compares(model: Model) -> str:
    """Which groups are to be treated alike, and how nearly."""
    assert model.fairness is not None
    groups = ", ".join(TIMES.join([g] if isinstance(g, str) else g) for g in model.fairness.groups)
    return (
        f"compares groups by {groups}: an alert where a rate differs by more than {100 * model.fairness.gap:g} points, "
        f"within the budget; groups of fewer than {model.fairness.min_events} events are left out"
    )


def _holds(model: Model, sample: Sample | None) -> str:
    horizon = float(model.labels.horizon)
    text = f"waits up to {duration(horizon)} for labels"
    if model.labels.implicit is not None:
        text += f"; without one after {duration(model.labels.implicit.after)} {_implied(model.labels.implicit)}"
    if sample is None:
        return text
    pending = min(sample.per_hour * horizon / 3600.0, limits.PENDING_MAX)
    size = pending * PENDING_BYTES / 1e6
    return f"{text}: about {count(pending)} predictions, {size:.1f} MB"


def _implied(implicit: Implicit) -> str:
    """What a prediction without a label counts as."""
    if not implicit.rules:
        return f"it is {implicit.label!r}"
    otherwise = "stays without" if implicit.label is None else f"is {implicit.label!r}"
    return f"{count(len(implicit.rules))} rules over features vote on it, and where all abstain it {otherwise}"


def _learns(model: Model, sample: Sample | None) -> str:
    learn = model.learn
    if learn is None or learn.policy == "off":
        return "does not learn; the model is served elsewhere"
    text = f"learns {learn.policy} with {learn.champion.path}"
    if learn.challengers:
        text += f", challengers {', '.join(learn.challengers)} in shadow"
    if sample is not None and sample.rows:
        text += f"; the champion takes about {_cost_ms(model, sample):.2g} ms an event here"
    if learn.respond.data_quality == "pause":
        text += "; pauses while an alert of broken data is firing, unless values are only missing"
    if learn.ask is not None:
        why = ", ".join(f"{share:.0%} by {name}" for name, share in learn.ask.mixture.items() if share)
        text += f"; asks people to label {learn.ask.labels}, chosen {why}"
    return text


def _delivers(target: Deliver, environ: Mapping[str, str]) -> str:
    """Who is told of what, for how long it is tried, and which secrets are not set here."""
    kinds = " and ".join(kind.replace("_", " ") for kind in target.kinds) or "every kind"
    models = " and ".join(target.models) or "every model"
    what = "an Alertmanager" if target.webhook is None else "a webhook"
    text = f"alerts of {models}, {kinds}, from {target.min_severity} up, go to {targets.name_of(target)}"
    text += f", {what} at {targets.origin_of(target)}; tried for {duration(float(target.retry_for))}"
    for use, name in (("token", target.token_env), ("signed by", target.hmac_env)):
        if name is not None:
            text += f", {use} {name}{'' if environ.get(name) else ' (not set here)'}"
    return text


def _cost_ms(model: Model, sample: Sample) -> float:
    assert model.learn is not None
    spec = model.learn.champion
    learner = learners.make(spec.path, spec.parameters, model.task, model.learn.seed)
    start = perf_counter()
    for i, features in enumerate(sample.rows):
        learner.predict(features)
        learner.learn(features, i % 2)
    return 1e3 * (perf_counter() - start) / len(sample.rows)


def _sample(config: Config, data: Path, model: Model) -> Sample:
    kinds: dict[str, str] = {}
    names = model.sliced
    seen: list[set[tuple[Any, ...]]] = [set() for _ in names]
    times: list[float] = []
    rows: list[dict[str, Any]] = []
    for item in islice(Feed(config, data), 2 * SAMPLE_ROWS):
        event = item.event
        if not isinstance(event, (Request, Prediction)):
            continue
        times.append(item.event_time)
        if len(rows) < TIMED_ROWS:
            rows.append(event.features)
        for name, value in event.features.items():
            if value is not None:
                kinds.setdefault(name, "text" if isinstance(value, str) else "numeric")
        known = {**event.features, **event.tags}
        for values, columns in zip(seen, names, strict=True):
            values.add(tuple(known.get(column) for column in columns))
    at = f"models.{config.input.model if config.input else ''}"
    faults = [
        f"{at}.{f'slices[{i}]' if i < len(model.slices) else 'fairness'}: no feature or tag {column!r} in {data.name}"
        for i, columns in enumerate(names)
        for column in columns
        if rows and column not in rows[0] and column not in (config.input.tags if config.input else [])
    ]
    if faults:
        raise ConfigError(data.name, faults)
    hours = (max(times) - min(times)) / 3600.0 if times else 0.0
    slices = [(TIMES.join(columns), len(values)) for columns, values in zip(names, seen, strict=True)]
    return Sample(kinds, slices, len(times) / hours if hours else 0.0, rows)
