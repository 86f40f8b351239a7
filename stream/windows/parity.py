"""Declared groups of people: how alike a binary model treats them, in windows, over the run, and for sure (F18).

Owns which slices are groups, their counts by version, and the tests that watch their gaps. Refuses to know what an
alert says (`disparity.py`). Selection rates are of all predictions, the other rates of those whose label has come.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from detectors import fairness, gaps
from detectors.fairness import Counts, Gap
from detectors.gaps import GapAlarm, GapState, Tolerance
from stream.config import Model
from stream.events import Column, PredictionRows
from stream.windows import columns, schema
from stream.windows.columns import Floats, Ints
from stream.windows.evidence import budget_of
from stream.windows.performance import EARLIER, VERSIONS_MAX
from stream.windows.results import Results
from stream.windows.schema import Schema, SliceIndex, share_of

GROUPS_MAX: Final = 20
"""Values of one declared group that are compared, the busiest of the reference: 190 pairs."""

CALM_UNITS: Final = 3
"""Units in a row within the tolerated gap after which an alert is over, as with other alerts."""

OVER: Final = f"the gap was within what is tolerated for {CALM_UNITS} blocks in a row"
"""Why an alert of a gap ends."""

WATCHED: Final = ("demographic_parity", "equal_opportunity", "equalised_odds", "predictive_parity")
"""Each has one rate of its own to watch; equalised odds that of false positives, for equal opportunity has the other.
"""

ROWS, SAID, LABELLED = 0, 1, 2
"""Places among the counts of a group: those of `detectors.fairness.Counts`."""


class Group(NamedTuple):
    """One declaration: its place among the slices, where its values begin among those of all slices, and what they are
    called."""

    name: str
    place: int
    start: int
    values: list[str]
    labels: list[dict[str, str]]


class ParityState(msgspec.Struct):
    """(values of all groups, 6) counts by version, oldest first; the tests by stream."""

    versions: dict[str, np.ndarray] = {}
    tests: dict[str, GapState] = {}


class Verdict(NamedTuple):
    """Of one stream: a gap beyond the tolerated one, or, without an alarm, none for so long that it is over."""

    stream: str
    measure: str
    group: Group
    at_s: float
    alarm: GapAlarm | None


def groups_of(model: Model, found: Schema) -> list[Group]:
    """The declared groups, as the reference has them."""
    if model.fairness is None:
        return []
    wanted = [[entry] if isinstance(entry, str) else entry for entry in model.fairness.groups]
    groups: list[Group] = []
    start = 0
    for i, each in enumerate(found.slices):
        if each.names in wanted and all(group.name != ",".join(each.names) for group in groups):
            labels = [each.label(k) for k in range(min(len(each.values), GROUPS_MAX))]
            values = [",".join(label.values()) for label in labels]
            groups.append(Group(",".join(each.names), i, start, values, labels))
        start += len(each.values)
    return groups


def of_window(model: Model, groups: list[Group], rows: Ints, said: Floats, sums: Floats | None) -> dict[str, Any]:
    """Figures of a window, from its (slice values,) rows and positive predictions and its sums by slice."""
    told = {}
    for group in groups:
        part = slice(group.start, group.start + len(group.values))
        if part.stop > len(rows):
            continue  # the window opened before the group was declared
        labelled = np.zeros((len(group.values), 4)) if sums is None else sums[part, :4]
        told[group.name] = figures(model, group, np.column_stack([rows[part], said[part], labelled]))
    return {name: found for name, found in told.items() if found}


def figures(model: Model, group: Group, counts: Floats) -> dict[str, dict[str, Any]]:
    """Of one group's (values, 6) counts, by measure."""
    assert model.fairness is not None
    found = fairness.measures(group.values, Counts(*counts.T), model.fairness.min_events)
    return {measure: _told(measure, gap) for measure, gap in found.items()}


def _told(measure: str, gap: Gap) -> dict[str, Any]:
    what = "ratio" if measure == "disparate_impact" else "gap"
    told: dict[str, Any] = {what: gap.value, "low": gap.low, "high": gap.high, "worst": gap.worst, "best": gap.best}
    return {**told, "left_out": list(gap.left_out)} if gap.left_out else told


def group_of(stream: str) -> str:
    """The name of the group whose gap a stream is.

    >>> group_of("equal_opportunity[sex,race]")
    'sex,race'
    """
    return stream.partition("[")[2].removesuffix("]")


class Parity:
    """The groups of one model whose reference is known. `predictions` and `outcomes` are the only mutators."""

    def __init__(self, model: Model, state: ParityState, found: Schema) -> None:
        assert model.fairness is not None
        self.model = model
        self.state = state
        self.groups = groups_of(model, found)
        self.indexes = [SliceIndex(found.slices[group.place]) for group in self.groups]
        tests = max(len(self.groups) * len(WATCHED), 1)
        budget = budget_of(model.false_alarms, share_of(model, "fairness") / tests)
        self.accepted = Tolerance(model.fairness.gap, model.fairness.min_events, budget)

    def predictions(self, rows: PredictionRows) -> list[Verdict]:
        """The champion's next predictions."""
        said = rows.prediction.values if rows.prediction.words is None else np.full(len(rows.order), np.nan)
        coded = self._codes(schema.slice_columns(rows), len(rows.order))
        ones = np.ones(len(rows.order))
        self._count(columns.as_text(rows.version), coded, ROWS, [ones, np.nan_to_num(said)])
        known = ~np.isnan(said)
        found: list[Verdict] = []
        for group, code in zip(self.groups, coded, strict=True):
            found += self._test("demographic_parity", group, rows.order, np.where(known, code, -1), said == 1.0)
        return found

    def outcomes(self, results: Results) -> list[Verdict]:
        """What has become known of earlier predictions. Corrections count in the figures, not in the tests."""
        label, said, _, sign = results.learners["champion"]
        known = ~np.isnan(label) & ~np.isnan(said)
        coded = [np.where(known, code, -1) for code in self._codes(results.slices, len(label))]
        one, yes = np.nan_to_num(label), np.nan_to_num(said)
        terms = [sign, sign * one, sign * yes, sign * one * yes]
        self._count(columns.take(columns.as_text(results.version), results.row), coded, LABELLED, terms)
        rows, order = results.fates, results.order[results.fates]
        one, yes = one[rows], yes[rows]
        found: list[Verdict] = []
        for group, every in zip(self.groups, coded, strict=True):
            code = every[rows]
            found += self._test("equal_opportunity", group, order, np.where(one == 1, code, -1), yes == 1)
            found += self._test("equalised_odds", group, order, np.where(one == 0, code, -1), yes == 1)
            found += self._test("predictive_parity", group, order, np.where(yes == 1, code, -1), one == 1)
        return found

    def _codes(self, found: dict[str, Column], n: int) -> list[Ints]:
        """Of each group, every row's value; -1 for none of those compared."""
        coded = [index.codes(found, n) for index in self.indexes]
        return [np.where(code < len(group.values), code, -1) for group, code in zip(self.groups, coded, strict=True)]

    def _test(self, measure: str, group: Group, order: Floats, code: Ints, hit: np.ndarray) -> list[Verdict]:
        stream = f"{measure}[{group.name}]"
        if stream not in self.state.tests:
            self.state.tests[stream] = gaps.begin(len(group.values))
        test = self.state.tests[stream]
        alarms = gaps.take(test, self.accepted, order, code, hit.astype(np.float64))
        found = [Verdict(stream, measure, group, alarm.at_s, alarm) for alarm in alarms]
        if test.calm >= CALM_UNITS and len(order):
            found.append(Verdict(stream, measure, group, float(order[-1]), None))
        return found

    def _count(self, version: Column, coded: list[Ints], start: int, terms: list[Floats]) -> None:
        """Add rows to the counts of their versions and values: `terms` belong to the columns from `start` on."""
        words, place = version.words or [], version.values
        size = sum(len(group.values) for group in self.groups)
        for word in np.unique(place[place >= 0]).tolist():
            mine, counts = place == word, self._version(words[word], size)
            at = 0
            for group, code in zip(self.groups, coded, strict=True):
                chosen = mine & (code >= 0)
                for k, term in enumerate(terms, start):
                    counts[at : at + len(group.values), k] += np.bincount(code[chosen], term[chosen], len(group.values))
                at += len(group.values)

    def _version(self, name: str, size: int) -> Floats:
        """The counts of a version; the oldest join `earlier` where there are too many."""
        versions = self.state.versions
        if name not in versions:
            versions[name] = np.zeros((size, len(Counts._fields)))
            if len(versions) - (EARLIER in versions) > VERSIONS_MAX:
                oldest = next(key for key in versions if key != EARLIER)
                gone = versions.pop(oldest)
                versions[EARLIER] = versions[EARLIER] + gone if EARLIER in versions else gone
        return versions[name]

    def figures(self) -> dict[str, Any]:
        """By version, and over all of them: by group and measure."""
        if not self.state.versions:
            return {}
        every = {"overall": np.sum(list(self.state.versions.values()), axis=0), **self.state.versions}
        return {version: self._by_group(counts) for version, counts in every.items()}

    def _by_group(self, counts: Floats) -> dict[str, Any]:
        told, at = {}, 0
        for group in self.groups:
            told[group.name] = figures(self.model, group, counts[at : at + len(group.values)])
            at += len(group.values)
        return told
