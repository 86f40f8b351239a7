"""What stands around an alarm: which features moved with it, which slices carry it, how much has been seen since.

Owns comparisons across a model's groups; refuses to know how alerts live."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stream.events import RankedFeature
from stream.windows.composing import Context
from stream.windows.evidence import Found, Group
from stream.windows.profiles import Profile
from stream.windows.statistics import psi_all

ROWS_MIN = 30
"""Fewer labelled rows of a slice since the change say nothing of it."""


def context_of(
    model: str, version: str | None, reference_id: str | None, budget: str, groups: Mapping[str, Group],
    places: Mapping[str, list[dict[str, str]]], group: str, found: Found,
) -> Context:  # fmt: skip
    """The context of an alarm of one group; `places` are, of the groups that watch slices, their streams' values."""
    since = found.alarm.since_s
    features: dict[str, float] = {}
    predictions = groups.get("predictions")
    seen = None if predictions is None else predictions.around(since)
    if predictions is not None and seen is not None:
        before, current = seen
        psi = predictions.psi(before, current)
        noise = predictions.psi_noise(before, current)
        own = found.alarm.name
        features = {
            name.removeprefix("feature/"): value
            for (name, value), by_chance in zip(psi.items(), noise, strict=True)
            if name.startswith("feature/") and (value > by_chance or name == own)
        }
    outcomes = groups.get("outcomes")
    labelled = None if outcomes is None else outcomes.around(since)
    loss = found.alarm.name.startswith(("loss", "calibration")) and group == "outcomes"
    declared = [(groups[name], values) for name, values in places.items() if name in groups and name != "found"]
    return Context(
        model=model,
        version=version,
        reference_id=reference_id,
        budget=budget,
        features=features,
        slices=slices_of(declared, since) if loss else [],
        place=places[group][found.alarm.stream] if group in places else {},
        n=seen[1].n if seen else 0,
        n_labelled=labelled[1].n if labelled else 0,
        by_label=group != "predictions",
        psi=moves(predictions, seen) if predictions is not None else {},
    )


def moves(predictions: Group, seen: tuple[Profile, Profile] | None) -> dict[str, float]:
    """Debiased PSI of every feature between the counts before and since a moment (`Group.around`), above chance, a
    missing value being a value."""
    if seen is None:
        return {}
    before, current = seen
    psi, noise = psi_all(before.counts, current.counts), predictions.psi_noise(before, current)
    return {
        stream.name.partition("/")[2]: float(value)
        for stream, value, by_chance in zip(predictions.state.streams, psi, noise, strict=True)
        if stream.name.startswith(("feature/", "length/")) and value > by_chance
    }


def slices_of(declared: Sequence[tuple[Group, list[dict[str, str]]]], since: float) -> list[RankedFeature]:
    """Slices by their part of the increase of the loss: rows since times the increase of their mean. Each declared
    slice covers the same rows once more, so shares are of one declaration's sum."""
    ranked = [each for group, values in declared for each in _carrying(group, values, since)]
    return sorted(ranked, key=lambda each: (-each.share, each.name))


def _carrying(group: Group, values: list[dict[str, str]], since: float) -> list[RankedFeature]:
    seen = group.around(since)
    if seen is None:
        return []
    before, current = seen
    found: list[tuple[float, str, dict[str, float]]] = []
    for j, label in enumerate(values):
        n = current.present(j)
        if n < ROWS_MIN or before.present(j) < ROWS_MIN:
            continue
        was, now = before.mean(j), current.mean(j)
        if now > was:
            name = ",".join(f"{key}={value}" for key, value in label.items())
            found.append((n * (now - was), name, {"before": was, "now": now, "n": float(n)}))
    total = sum(excess for excess, _, _ in found)
    return [RankedFeature(name, excess / total, figures) for excess, name, figures in found]
