"""Why an alarm was raised: the labelled rows before and since the change, compared (F19).

Owns which labelled rows are kept to be compared and how an alarm becomes evidence; what follows from it is
`detectors.diagnosis`'s. Labels come later than inputs move, so what could not be decided when an alert was raised is
looked at again as labels come.

An alert also says how much of what the model goes by has moved (F55), for whoever has several alerts to look at. This
stage has no model to ask, and what the stage that learns finds reaches no one at a fixed place of the log; so it goes
by the scores, which are there whoever made the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np

from detectors.case import Evidence, serious
from detectors.contract import Bins, Rows, Stream
from detectors.diagnosis import Diagnosis, diagnose
from detectors.explanation import Explanation, explain
from detectors.importance import of_score
from detectors.sample import Labelled, Layout, Sample, SampleState, in_proportion
from stream.events import Alert, OutcomeRows, RankedFeature
from stream.windows import columns
from stream.windows.cells import cell_of
from stream.windows.columns import Ints
from stream.windows.results import Results
from stream.windows.schema import Schema
from stream.windows.sources.outcomes import LOSS, Outcomes
from stream.windows.sources.reading import read

QUANTITIES: Final = {
    "feature": "feature", "length": "feature", "invalid": "feature", "pair": "feature", "distance": "feature",
    "strange": "feature",
    "missing": "missing", "score": "score", "unsure": "score", "prediction": "prediction", "label": "label",
    "loss": "loss", "calibration": "loss",
}  # fmt: skip
"""What a stream is a case of, by the first part of its name; others are not diagnosed."""

KINDS: Final = {
    "data_quality": "data_quality", "covariate": "covariate_drift", "label": "label_drift",
    "concept": "concept_drift", "delayed_labels": "label_delay",
}  # fmt: skip
"""Kinds of the diagnosis as alerts have them."""

SAMPLE_SEED: Final = 1

LOOKS_PER_SLAB: Final = 2
"""Comparisons of labelled rows a slab: one takes some 50 ms, and a flood of alarms must not stop the stream. What was
not looked at is looked at again as labels come."""

IMPORTANCE: Final = "importance"
"""The statistic of a feature, and of an alert: its part of what the model's output goes along with."""

SIDE_ROWS_MAX: Final = 2_000
"""Labelled rows of either time that are compared: more make what is seen hardly surer, and every look longer."""


class Case(msgspec.Struct):
    """What an alarm says: its stream, when the change began (the earliest, the estimate, the latest), whether these are
    moments of labels, the slice that it speaks of, what is broken, and how far each feature has moved (PSI)."""

    stream: str
    low_s: float
    since_s: float
    high_s: float
    by_label: bool
    place: str | None
    faults: dict[str, str]
    psi: dict[str, float]


class Answer(NamedTuple):
    """What kind of change it is, whether labelled rows had their say, and what the model goes by."""

    found: Diagnosis
    by_labels: bool
    importance: dict[str, float]


class Explaining:
    """The labelled rows of one model. `add` is the only mutator."""

    def __init__(self, schema: Schema, outcomes: Outcomes, by_days: bool, state: SampleState | None = None) -> None:
        self.schema = schema
        self.by_days = by_days
        f = len(schema.features.names)
        slices = tuple(
            tuple(",".join(f"{k}={v}" for k, v in each.label(i).items()) for i in range(len(each.values)))
            for each in schema.slices
        )
        said: dict[str, tuple[Stream | None, Bins]] = {
            stream.name: (stream, bins) for stream, bins in zip(schema.streams, schema.bins, strict=True)
        }
        self.said, self.said_bins = said.get("score") or said.get("prediction") or (None, Bins())
        streams, bins_of = list(schema.features.named), schema.features.bins[:f]
        self.output = "" if self.said is None else self.said.name
        while self.output in schema.features.names:
            self.output += " of the model"
        if self.said is not None:
            streams = [*streams, msgspec.structs.replace(self.said, name=self.output)]
            bins_of = [*bins_of, self.said_bins]
        self.layout = Layout(tuple(streams), tuple(bins_of), outcomes.streams[0], outcomes.bins[0], slices)
        self.looks = LOOKS_PER_SLAB
        self._importance: dict[str, float] | None = None
        self.sample = Sample(len(streams), len(slices), SAMPLE_SEED)
        if state is not None:
            self.sample.state = state

    def add(
        self, rows: OutcomeRows, results: Results, streams: Rows, coded: list[tuple[int, Ints]]
    ) -> tuple[Ints, Labelled] | None:
        """Labelled rows whose features came with them: `streams` are the outcomes' of the new fates, `coded` the slices
        of all rows. Returns them and their places among the new fates."""
        if not len(rows.sampled):
            return None
        place = rows.sampled[results.fates]
        chosen = np.flatnonzero((place >= 0) & (streams.codes[:, 0] >= 0) & ~np.isnan(streams.values[:, LOSS]))
        if not len(chosen):
            return None
        size = max(len(column.values) for column in rows.sample.values()) if rows.sample else 0
        codes = self.schema.features.codes(rows.sample, size).T[place[chosen]]
        at = results.fates[chosen]
        if self.said is not None:  # what the model made of the inputs: it knows more of the label than any one of them
            column = rows.score if self.said.name == "score" else rows.prediction
            own = read(columns.take(column, at), self.said.kind, self.said_bins, len(at))[1]
            codes = np.column_stack([codes, own])
        slices = [code[at] for _, code in coded]
        added = Labelled(
            time_s=rows.event_time[at],
            codes=codes.astype(np.int16),
            slices=np.array(slices, np.int16).reshape(len(coded), len(chosen)).T,
            label=streams.codes[chosen, 0].astype(np.int16),
            loss=streams.values[chosen, LOSS].astype(np.float32),
            delay_s=results.delay[at].astype(np.float32),
        )
        self.sample.add(added)
        return chosen, added

    def diagnose(self, case: Case) -> Answer | None:
        """What kind of change it is; None for what is not diagnosed. Labelled rows are asked (60 ms for 6,000 of them)
        as long as the slab has looks left."""
        group, _, name = case.stream.partition("[")[0].partition("/")
        if group not in QUANTITIES:
            return None
        found = self._explain(case) if self.looks else None
        self.looks -= found is not None  # rows that are too few cost next to nothing
        faults = serious(case.faults, case.psi)
        answer = diagnose(Evidence(QUANTITIES[group], name, faults, case.psi, found))
        answer.features = [each for each in answer.features if each.name != self.output]
        return Answer(answer, found is not None, self.importance())

    def begin(self) -> None:
        """A slab begins."""
        self.looks = LOOKS_PER_SLAB
        self._importance = None

    def importance(self) -> dict[str, float]:
        """Each feature's share in what the model's output goes along with, by the newest labelled rows, asked once a
        slab (5 ms for 50 features); empty where there are too few, and where the output has no order: of several
        classes the score only says how sure the model is of one."""
        if self._importance is None:
            self._importance = self._shares()
        return self._importance

    def _shares(self) -> dict[str, float]:
        if self.said is None or self.said.kind == "categorical" or self.layout.label.kind == "categorical":
            return {}
        codes = self.sample.state.ring.rows.codes.astype(np.int32)
        said = np.where(codes[:, -1] >= 0, codes[:, -1].astype(np.float64), np.nan)
        shares = of_score([stream.name for stream in self.layout.features[:-1]], codes[:, :-1], said).shares()
        return shares if any(shares.values()) else {}

    def labels_since(self, case: Case) -> int:
        """Labelled rows that surely came after the change; where it is of one slice, those of the slice, which are
        what it is judged by."""
        for s, names in enumerate(self.layout.slices):
            if case.place in names:
                since = self.sample.sides(case.low_s, case.high_s, case.by_label)[1]
                return int((since.slices[:, s] == names.index(case.place)).sum())
        return self.sample.rows_since(case.high_s, case.by_label)

    def _explain(self, case: Case) -> Explanation | None:
        before, since = self.sample.sides(min(case.low_s, case.since_s), case.high_s, case.by_label)
        if not len(since):
            since = self.sample.sides(case.low_s, case.since_s, case.by_label)[1]
        if self.by_days and len(before) and len(since):
            was, now = (np.array([cell_of(t, True) for t in side.time_s.tolist()]) for side in (before, since))
            before = in_proportion(before, was, now)
        before, since = thinned(before), thinned(since)
        names = [stream.name for stream in self.layout.features]
        broken = [names.index(name) for name in serious(case.faults, case.psi) if name in names]
        if broken and self.said is not None:  # what the model made of broken inputs is broken too
            broken.append(len(names) - 1)
        return explain(self.layout, before, since, broken, case.place)


def thinned(rows: Labelled) -> Labelled:
    """At most SIDE_ROWS_MAX of the rows, evenly in time."""
    n = len(rows)
    return rows if n <= SIDE_ROWS_MAX else rows.take(np.arange(SIDE_ROWS_MAX) * n // SIDE_ROWS_MAX)


def explained(alert: Alert, found: Diagnosis, by_labels: bool, importance: Mapping[str, float]) -> Alert:
    """The alert with its diagnosis: kind, who carries it, what to do next, and its part of what the model goes by.
    Drift of outputs, delays, business and fairness stay what they are called; what inputs and losses show is called by
    its cause, where that is decided."""
    named = alert.kind in ("covariate_drift", "label_drift", "concept_drift") and found.decided
    kind = KINDS[found.kind] if named and (by_labels or found.kind == "data_quality") else alert.kind
    places = [each.name for each in found.slices]
    evidence = {**alert.evidence, "because": found.because, "decided": found.decided}
    features = weighed(carried(alert, kind, found) if by_labels else alert.features, importance)
    known = [each for each in features if IMPORTANCE in each.statistics]
    moved = {IMPORTANCE: round(sum(each.share * each.statistics[IMPORTANCE] for each in known), 4)} if known else {}
    return msgspec.structs.replace(
        alert,
        kind=kind,
        diagnosis={name: round(value, 4) for name, value in found.probabilities.items()},
        features=features,
        statistics={**alert.statistics, **moved},
        evidence={**evidence, "slices": places} if places else evidence,
        actions=[{"suggested": found.action}] if named else alert.actions,
    )


def carried(alert: Alert, kind: str, found: Diagnosis) -> list[RankedFeature]:
    """Who carries a change of this kind, by labelled rows; but which inputs have moved, those of all predictions say
    better than a sample, and of a pair, which is what alarmed, labelled rows only say which of the two."""
    features = [RankedFeature(each.name, each.share, each.statistics) for each in found.features]
    if not features:
        return alert.features
    if not kind == alert.kind == "covariate_drift" or alert.stream.startswith(("loss", "label")):
        return features
    own = {each.name: each.share for each in features}
    total = sum(own.get(each.name, 0.0) for each in alert.features)
    if not alert.stream.startswith("pair/") or not total:
        return alert.features
    parts = [msgspec.structs.replace(each, share=own.get(each.name, 0.0) / total) for each in alert.features]
    return sorted(parts, key=lambda each: -each.share)


def weighed(features: Sequence[RankedFeature], importance: Mapping[str, float]) -> list[RankedFeature]:
    """The features, each with its part of what the model goes by, where that is known."""
    return [
        msgspec.structs.replace(each, statistics={**each.statistics, IMPORTANCE: round(importance[each.name], 4)})
        if each.name in importance
        else each
        for each in features
    ]
