"""Signs that the future leaks into the past (F56): a feature that knows the label, labels older than their prediction,
and the same entity on both sides of a trial.

Owns when what has come is asked, and what is said of it; the statistics are `detectors.leakage`'s. What is found is no
change but a state of the stream, so it is of kind `operations`: people are told, and learning goes on. Sides of a trial
are known where it is held: the stage that learns asks them and tells of them (`stream.stages.course`).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from detectors import leakage, randomness
from detectors.bets import quarters, smooth
from detectors.leakage import Early, Knowing, Overlap, Sketch
from detectors.sample import Labelled, Layout, SampleState
from learners.assignment import Routing, propensities
from stream import codec
from stream.events import LABELLED, Alert, Example, OutcomeRows, RankedFeature, Since
from stream.windows.alerts import Book
from stream.windows.columns import Ints
from stream.windows.composing import fingerprint_of
from stream.windows.words import moment

FIRST_ROWS: Final = 400
"""Labelled rows with features that are asked at first, and again whenever twice as many have come: the newest of them.
An AUC of 0.98 has then an interval of a few hundredths."""

LABELS: Final = 1_000
"""Labels that are judged together by their times: five slips of a clock among them are not yet worth a word."""

CALM: Final = 3
"""Such groups in a row without a finding after which it is over, as with other alerts."""

SUSPECTS_MAX: Final = 10
"""Features named at a time, the most telling: where more know the label, the label itself stands among the inputs."""

TOLD: Final = 5
"""Features in the figures."""

SEED: Final = 1

SIDE_ROWS: Final = 200
"""Labelled examples of the smaller side of a trial at which the sides are first compared, and again whenever twice as
many have come: one entity in a hundred on both sides is then two of them."""

FLUSH_KEYS: Final = 256
"""Entities that wait to be taken together: one at a time, each costs a sort of the whole sketch."""

SAME_SHARE: Final = 1e-9
"""Propensities that differ by less are the same."""

NAMED: Final = 3
"""Entities on both sides that are named."""

OVER: Final = "it was not seen again"
"""Why a finding ends."""

KIND: Final = "operations"
"""Of the alerts: no change of a stream, so nobody else raises or ends one of it."""

EARLY: Final = "label_before_event"
"""The stream of a finding about the times of labels; of a feature it is `leakage/<feature>`."""

NEXT: Final = {
    EARLY: "compare the clocks and time zones of predictions and labels; if a label is known before its prediction is "
    "asked for, see that it is not among the inputs",
    "leakage": "find out when {name} is written: if only once the label is known, leave it out and train again",
}


class Finding(NamedTuple):
    """What has been found, in words, or, where there are none, that it is over."""

    stream: str
    at_s: float
    since_s: float
    words: str
    statistics: dict[str, float]


class Leaks(msgspec.Struct):
    """Of one model. `suspects`: features that knew the label at the last look; `told`: what was seen then; `before`,
    `same` and `rows`: labels of the group that is being filled, which began at `since_s`; `all_*`: of all labels."""

    looks: int = 0
    suspects: list[str] = []
    told: list[dict[str, Any]] = []
    before: int = 0
    same: int = 0
    rows: int = 0
    since_s: float = 0.0
    calm: int = 0
    all_before: int = 0
    all_same: int = 0
    all_rows: int = 0

    def labels(self, rows: OutcomeRows) -> list[Finding]:
        """Labels have come, in their order: whether too many are older than their prediction. Implied ones have no time
        of their own, and corrections may take any."""
        own = (rows.status == LABELLED) & ~np.isnan(rows.delay_s)
        order, delay_s = rows.order[own], rows.delay_s[own]
        found: list[Finding] = []
        while len(order):
            if not self.rows:
                self.since_s = float(order[0])
            end = min(LABELS - self.rows, len(order))
            self.before += int((delay_s[:end] < 0).sum())
            self.same += int((delay_s[:end] == 0).sum())
            self.rows += end
            if self.rows == LABELS:
                found += self._judge(float(order[end - 1]))
            order, delay_s = order[end:], delay_s[end:]
        return found

    def _judge(self, at_s: float) -> list[Finding]:
        """A group of labels is whole."""
        early = leakage.early(self.before, self.same, self.rows)
        self.all_before, self.all_same, self.all_rows = (
            self.all_before + self.before, self.all_same + self.same, self.all_rows + self.rows,
        )  # fmt: skip
        self.before = self.same = self.rows = 0
        self.calm = 0 if early.suspect else self.calm + 1
        if early.suspect:
            return [Finding(EARLY, at_s, self.since_s, early.words, _early(early))]
        return [Finding(EARLY, at_s, self.since_s, "", {})] if self.calm == CALM else []

    def due(self, sample: SampleState) -> bool:
        """Whether labelled rows are to be asked again."""
        return sample.seen >= FIRST_ROWS << self.looks

    def features(self, layout: Layout, f: int, sample: SampleState, auc: float | None, at_s: float) -> list[Finding]:
        """Enough labelled rows have come: which of the first `f` features know too much. `auc`: the model's."""
        while self.due(sample):
            self.looks += 1
        rows, features = sample.ring.rows, layout.features[:f]
        known = leakage.knows_label(features, rows.codes[:, :f].astype(np.int32), classes(layout, rows), SEED, auc)
        self.told = [_told(each) for each in known[:TOLD]]
        suspects = [each for each in known if each.suspect][:SUSPECTS_MAX]
        over = [name for name in self.suspects if all(each.feature != name for each in suspects)]
        self.suspects = [each.feature for each in suspects]
        since_s = float(rows.time_s[0])
        found = [Finding(f"leakage/{name}", at_s, since_s, "", {}) for name in over]
        for x in suspects:
            statistics = {x.measure: x.value, "low": x.low, "high": x.high}
            found.append(Finding(f"leakage/{x.feature}", at_s, since_s, x.words, statistics))
        return found

    def figures(self) -> dict[str, Any]:
        """For people: what features alone tell of the label, and labels by their time."""
        times = {
            "before": self.all_before + self.before, "same": self.all_same + self.same,
            "labels": self.all_rows + self.rows,
        }  # fmt: skip
        return {"features": list(self.told), "labels_before_event": times, "looks": self.looks}


class Side(msgspec.Struct):
    """Labelled examples of one side, the entities that wait, and the sketch of those before."""

    rows: int = 0
    waiting: list[str] = []
    sketch: Sketch = msgspec.field(default_factory=lambda: leakage.sketch([], SEED))


class Sides(msgspec.Struct):
    """Of the trial that splits a model's traffic, at the step of its ramp that is numbered `number`: where shares
    change, entities change sides, and so they are compared within a step only. `without`: examples that do not say whom
    they are about; `told`: whether people have heard of this step; `last`: what was seen at the last look."""

    learner: str = ""
    number: int = -1
    sides: dict[str, Side] = {}
    both: list[str] = []
    looks: int = 0
    without: int = 0
    told: bool = False
    last: dict[str, Any] = {}

    def take(self, example: Example, entity: str, shares: dict[str, float], routing: Routing) -> Overlap | None:
        """A labelled example while traffic is split by `shares` (the champion's first, then the challenger's). What is
        on both sides, where it is too much and has not been told yet."""
        champion, learner = shares
        if (self.learner, self.number) != (learner, routing.number):
            self.learner, self.number, self.sides = learner, routing.number, {champion: Side(), learner: Side()}
            self.both, self.looks, self.without, self.told, self.last = [], 0, 0, False, {}
        served = example.prediction
        if served.learner not in self.sides or served.propensity is None:
            return None
        if abs(served.propensity - propensities(routing).get(served.learner, 0.0)) > SAME_SHARE:  # of an earlier step
            return None
        key = served.features.get(entity, served.tags.get(entity))  # as the routing reads its unit
        if key is None:
            self.without += 1
            return None
        side = self.sides[served.learner]
        side.rows += 1
        side.waiting.append(str(key))
        if len(side.waiting) >= FLUSH_KEYS:
            self._flush()
        if min(each.rows for each in self.sides.values()) < SIDE_ROWS << self.looks:
            return None
        return self._compare(entity)

    def _flush(self) -> None:
        """Those that wait are taken into their sketches; some that the other side has too are remembered by name."""
        first, second = self.sides.values()
        for side, other in ((first, second), (second, first)):
            hashes = randomness.keys(SEED, side.waiting)
            for i in np.flatnonzero(np.isin(hashes, other.sketch.hashes)).tolist():
                if len(self.both) < NAMED and side.waiting[i] not in self.both:
                    self.both.append(side.waiting[i])
            side.sketch = leakage.grown(side.sketch, hashes)
            side.waiting = []

    def _compare(self, entity: str) -> Overlap | None:
        self._flush()
        self.looks += 1
        (champion, first), (learner, second) = self.sides.items()
        found = leakage.overlap(first.sketch, second.sketch, (champion, learner))
        self.last = {
            "entity": entity, "learner": learner, "share": round(found.share, 4), "low": round(found.low, 4),
            "high": round(found.high, 4), "both": round(found.both), "suspect": found.suspect,
            "entities": {champion: round(found.first), learner: round(found.second)}, "such_as": list(self.both),
        }  # fmt: skip
        if not found.suspect or self.told:
            return None
        self.told = True
        return found

    def figures(self) -> dict[str, Any]:
        """What was seen at the last look, and how many labelled examples each side has by now."""
        rows = {learner: side.rows for learner, side in self.sides.items()}
        return {**self.last, "rows": rows, "without": self.without} if rows else {}


def classes(layout: Layout, rows: Labelled) -> Ints:
    """(n,) classes of the labels, -1 where unknown; numbers by quarters."""
    label = rows.label.astype(np.int64)
    if layout.label.kind != "numeric" or not len(label):
        return label
    counts = np.bincount(label[label >= 0], minlength=layout.label_bins.size)
    part = quarters(smooth(counts)).astype(np.int64)
    return np.where(label >= 0, part[label], -1)


def make(finding: Finding, model: str, version: str | None, reference_id: str | None) -> Alert:
    """The alert of a finding."""
    fingerprint = fingerprint_of(model, {}, finding.stream)
    since, at = moment(finding.since_s), moment(finding.at_s)
    tail = codec.digest(fingerprint.encode(), repr((finding.at_s, finding.since_s)).encode())[:4]
    group, _, name = finding.stream.partition("/")
    return Alert(
        alert_id=f"{model}/{finding.stream}/operations/{since}/{tail}",
        fingerprint=fingerprint,
        status="firing",
        kind=KIND,
        severity="warning",
        model=model,
        summary=f"{model}: {finding.words}",
        at=at,
        model_version=version,
        stream=finding.stream,
        detector="leakage",
        features=[RankedFeature(name, 1.0, finding.statistics)] if name else [],
        statistics=finding.statistics,
        evidence={"detector": "leakage", "what": finding.words},
        reference_id=reference_id,
        window={"start": since, "end": at},
        since=Since(since),
        actions=[{"suggested": NEXT[group].format(name=name)}],
    )


def told(book: Book, found: list[Finding], model: str, version: str | None, reference_id: str | None) -> list[Alert]:
    """Findings become alerts, and end them."""
    answers = [
        book.raise_finding(make(each, model, version, reference_id), each.since_s, each.at_s)
        if each.words
        else book.end_finding(model, each.stream, OVER, each.at_s)
        for each in found
    ]
    return [answer for answer in answers if answer is not None]


def _early(early: Early) -> dict[str, float]:
    share = early.before / early.rows
    return {"share": share, "low": early.low, "high": early.high, "labels": float(early.rows)}


def _told(known: Knowing) -> dict[str, Any]:
    return {
        "feature": known.feature, known.measure: round(known.value, 4), "low": round(known.low, 4),
        "high": round(known.high, 4), "suspect": known.suspect,
    }  # fmt: skip
