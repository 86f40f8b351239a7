"""Data quality as streams (F11): of each feature the share of its values that break what it may be, and the share of
rows that come twice.

Owns which constraints are asked of which columns, and what the newest broken values have in common; what a constraint
is, is `detectors.constraints`'. The shares are judged as every stream is, against the reference's own: a constraint
that the reference itself breaks in places does not alarm by that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from detectors import binning, constraint_text, constraints
from detectors.constraints import LENGTH, NORM, RANGE, RULES, TYPE, WHOLE, Constraint
from detectors.contract import Bins, Stream
from stream.events import Column, PredictionRows
from stream.windows.breaches import Breach
from stream.windows.columns import Floats
from stream.windows.sources import repeats
from stream.windows.sources.features import Features
from stream.windows.sources.reading import Codes, Shown, read, weighted
from stream.windows.sources.repeats import Repeats
from stream.windows.words import DUPLICATE

SHARE: Final = 0.05
"""Of the predictions' part of the budget: what is broken is broken grossly."""

AS_TEXT: Final = "comes as text where numbers belong,"

TEXT: Final = Constraint(type="text", numbers=True)
"""What every value keeps."""

Rules = NDArray[np.int8]
"""(n,) of each row, as `constraints.broken` has it."""

LATELY: Final = 16
"""The newest broken values of a feature that say which rule is broken; few, so that those of the reference are soon
forgotten."""


class Quality(msgspec.Struct, tag="quality"):
    """`watched`: the features that have a stream, in its order; `declared`: their constraints are a person's. `lately`:
    (watched, LATELY) rules of the newest broken values, 0 where there were none yet; `as_text`: whether numbers came as
    texts, or among them, last; `unwatched`: features with a constraint that the reference did not have; `in_reference`:
    the share of the reference's values that are broken."""

    constraints: dict[str, Constraint]
    declared: bool
    watched: list[str]
    repeats: Repeats | None
    streams: list[Stream]
    bins: list[Bins]
    lately: np.ndarray
    as_text: list[bool]
    unwatched: list[str]
    in_reference: dict[str, float]

    def read(self, rows: PredictionRows, shown: Shown, values: Floats, codes: Codes) -> None:
        """As `Source.read`; each row is to be read once, in order."""
        n = len(rows.order)
        for j, name in enumerate(self.watched):
            column = rows.features.get(name)
            if column is not None:
                self.as_text[j] = column.words is not None and self.constraints.get(name, TEXT).type != "text"
            rules = self._broken(name, rows)
            codes[j] = np.sign(rules)
            values[j] = np.where(rules < 0, np.nan, codes[j])
            if rules.max(initial=0) > 0:
                newest = rules[rules > 0][-LATELY:]
                self.lately[j] = np.concatenate([self.lately[j], newest])[-LATELY:]
        if self.repeats is not None:
            values[-1], codes[-1] = read(Column(self.repeats.read(rows)), "rate", self.bins[-1], n)

    def _broken(self, name: str, rows: PredictionRows) -> Rules:
        constraint = self.constraints.get(name)
        embedded = constraint is not None and constraint.type == "embedding"
        column = rows.features.get(name + NORM if embedded else name)
        rules = np.full(len(rows.order), -1, np.int8)
        if column is not None and constraint is not None:
            rules = constraints.broken(constraint, _asked(column))
        other = rows.features.get(name) if embedded else None
        if other is not None:  # what is no list keeps its name
            rules[other.values >= 0 if other.words is not None else ~np.isnan(other.values)] = TYPE
        return rules

    def edit(self, declared: Mapping[str, Constraint]) -> None:
        """Constraints from a file that may have changed since: they count from now on, against the old shares. Features
        that were not watched have no share, and wait for the next reference."""
        known = [*self.watched, *self.constraints]
        self.constraints = {name: each for name, each in sorted(declared.items()) if name in known}
        self.unwatched = [name for name in sorted(declared) if name not in known]
        self.declared = True

    def breaches(self) -> dict[str, Breach]:
        """By stream, what is wrong with it where something is; and which share may be missing."""
        found = {f"missing/{name}": Breach("missing", "", each.missing_max) for name, each in self.constraints.items()}
        for name, texts in zip(self.watched, self.as_text, strict=True):
            if texts and name in self.constraints:  # a stream of numbers cannot read it, and has it as missing
                found[f"missing/{name}"] = Breach("type", AS_TEXT, self.constraints[name].missing_max)
        for name, lately in zip(self.watched, self.lately.tolist(), strict=True):
            rules = Counter(rule for rule in lately if rule)
            if rules and name in self.constraints:
                rule = min(rules, key=lambda r: (-rules[r], r))
                text = constraint_text.breach(self.constraints[name], rule)
                breach = Breach("type" if rule == WHOLE else RULES[rule], text)
                if not self.declared and rule in (RANGE, LENGTH):
                    breach = breach._replace(values=self._values(name), bounds=_bounds(self.constraints[name]))
                found[f"invalid/{name}"] = breach
        if self.repeats is not None:
            found[DUPLICATE] = Breach(DUPLICATE, f"repeat one of the {self.repeats.window} before them")
        return found

    def _values(self, name: str) -> str:
        """The feature whose stream holds the values, or their lengths."""
        return name + NORM if self.constraints[name].type == "embedding" else name

    def figures(self) -> dict[str, Any]:
        """For people: each constraint in a few words, and the reference's own breaches."""
        window = None if self.repeats is None else self.repeats.window
        return {
            "from": "file" if self.declared else "reference",
            "features": {name: constraint_text.say(each) for name, each in self.constraints.items()},
            "broken_in_reference": dict(self.in_reference),
            "unwatched": list(self.unwatched),
            "repeats_within_rows": window,
        }


def learn(
    features: Features, rows: PredictionRows, declared: Mapping[str, Constraint] | None, ordered: bool
) -> Quality:
    """What the reference rows show, or a person has declared. `ordered`: the rows stand as they came, so that those
    which repeat an earlier one can be counted."""
    if declared is None:
        asked = {name: _asked(column) for name, column in rows.features.items()}
        known = constraints.learn_all(asked, features.texts)
    else:
        known = dict(sorted(declared.items()))
    there = {name for name, each in known.items() if name in rows.features or _is_norm(name, each, rows)}
    watched = [name for name in known if name in there and constraints.can_break(known[name])]
    again = repeats.learn(features.names, rows) if ordered else None
    streams = [Stream(f"invalid/{name}", "rate") for name in watched]
    if again is not None:
        streams.append(Stream(DUPLICATE, "rate"))
    found = Quality(
        constraints={name: known[name] for name in known if name in there},
        declared=declared is not None,
        watched=watched,
        repeats=again,
        streams=weighted(streams, SHARE) if streams else [],
        bins=[binning.learn_bins(stream, np.zeros(0)) for stream in streams],
        lately=np.zeros((len(watched), LATELY), np.int8),
        as_text=[False] * len(watched),
        unwatched=[name for name in known if name not in there],
        in_reference={},
    )
    for name in watched:
        rules = found._broken(name, rows)
        share = float((rules > 0).sum() / max(int((rules >= 0).sum()), 1))
        if share:
            found.in_reference[name] = round(share, 6)
    return found


def _bounds(constraint: Constraint) -> tuple[float, float]:
    """Of a learned range, which has both ends; or of lengths."""
    if constraint.low is None or constraint.high is None:
        return 0.0, float(constraint.length_max or 0)
    return constraint.low, constraint.high


def _is_norm(name: str, constraint: Constraint, rows: PredictionRows) -> bool:
    return constraint.type == "embedding" and name + NORM in rows.features


def _asked(column: Column) -> constraints.Column:
    return constraints.Column(column.values, column.words)
