"""What is remembered of a model, made to fit what its configuration declares now (F54). Owns what goes with a slice, a
group of people or a search that is declared no more, and where a later slice is put; refuses to know how they are
learned and judged.

What is declared no more leaves no trace but its alerts, which end. All else stays where it was: slices keep their
order, and those that were declared later come after them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

import msgspec
import numpy as np

from detectors.sample import Kept, SampleState
from stream import versions
from stream.config import Model
from stream.errors import StateError
from stream.windows import leaks, parity, schema
from stream.windows.columns import Ints
from stream.windows.found import FoundSlices
from stream.windows.parity import Parity, ParityState
from stream.windows.remembered import WatcherState
from stream.windows.reporting import Reporting
from stream.windows.schema import Schema, Slices

WITHDRAWN: Final = "the configuration does not watch it any more"
"""Why an alert ends of which nothing is left that could end it."""


def adopt(state: WatcherState, model: Model) -> None:
    """Let go of what the model does not declare any more. Raises StateError where it is another model by now."""
    if state.performance.task != model.task:
        raise StateError(
            f"its task was {state.performance.task} and is {model.task}: give the new model another name, or "
            f"{versions.ANEW}"
        )
    if not model.find_slices:
        state.found = FoundSlices()
        state.groups.pop("found", None)
    if state.schema is None:
        return
    if not undeclared(model, state.schema):
        state.collecting_slices = []
    put(state, model, [each for each in state.schema.slices if each.names in model.sliced])
    watched = {schema.group_of(each) for each in state.schema.slices}
    for held in (state.groups, state.sliced):
        for name in [name for name in held if name.startswith(schema.SLICE) and name not in watched]:
            del held[name]


def undeclared(model: Model, found: Schema) -> list[list[str]]:
    """Slices whose values are not known yet, because they were declared after the reference was whole."""
    known = [each.names for each in found.slices]
    return [names for names in model.sliced if names not in known]


def put(state: WatcherState, model: Model, slices: list[Slices]) -> None:
    """Make these the slices of a model: some of those that it has, in their order, and new ones after them."""
    found = state.schema
    assert found is not None
    before = found.slices
    if slices != before:
        starts = np.cumsum([0, *(len(each.values) for each in before)])
        names = [each.names for each in before]
        places = [names.index(each.names) if each.names in names else -1 for each in slices]
        kept = [np.arange(starts[i], starts[i + 1]) for i in places if i >= 0]
        _pick(state.reporting, np.concatenate([np.zeros(0, np.int64), *kept]))
        state.sample = None if state.sample is None else _resampled(state.sample, places)
        found.slices = slices
        found.labels = [label for each in slices for label in each.labels]
    groups = parity.groups_of(model, found)
    state.parity = _rearranged(state.parity, before, groups) if model.fairness else ParityState()


def _pick(reporting: Reporting, kept: Ints) -> None:
    """What windows hold by slice value. One that opened before a slice was known does not count it."""
    for window in reporting.windows:
        own = kept[kept < len(window.slice_n)]
        window.slice_n = window.slice_n[own]
        if window.slice_said is not None:
            window.slice_said = window.slice_said[own]
        if window.slice_sums is not None:
            window.slice_sums = window.slice_sums[own]


def _resampled(sample: SampleState, places: Sequence[int]) -> SampleState:
    """Labelled rows with the slices at these places, -1 for one that was not declared when they came."""

    def rows(kept: Kept) -> Kept:
        held = kept.rows.slices
        columns = [np.full(len(held), -1, np.int16) if place < 0 else held[:, place] for place in places]
        slices = np.stack(columns, axis=1) if columns else np.zeros((len(held), 0), np.int16)
        return msgspec.structs.replace(kept, rows=msgspec.structs.replace(kept.rows, slices=slices))

    return msgspec.structs.replace(sample, reservoir=rows(sample.reservoir), ring=rows(sample.ring))


def _rearranged(state: ParityState, before: Sequence[Slices], groups: Sequence[parity.Group]) -> ParityState:
    """Counts and tests of the groups that are declared now; new ones have counted nothing."""
    tested = {parity.group_of(stream) for stream in state.tests}
    at: dict[str, slice] = {}
    start = 0
    for name, size in ((",".join(each.names), len(each.values)) for each in before):
        if name in tested and name not in at:
            at[name] = slice(start, start + min(size, parity.GROUPS_MAX))
            start = at[name].stop
    counts_of = {
        version: np.concatenate(
            [counts[:0], *(counts[at[g.name]] if g.name in at else np.zeros((len(g.values), 6)) for g in groups)]
        )
        for version, counts in state.versions.items()
    }
    names = [group.name for group in groups]
    tests = {stream: test for stream, test in state.tests.items() if parity.group_of(stream) in names}
    return ParityState(counts_of, tests)


def is_watched(groups: Collection[str], peoples: Parity | None, group: str, stream: str) -> bool:
    """Whether something still judges what an alert says of a stream; `groups` are those of the model's streams."""
    if group == "fairness":
        return peoples is not None and parity.group_of(stream) in [each.name for each in peoples.groups]
    return group == leaks.KIND or group in groups
