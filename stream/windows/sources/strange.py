"""Strange inputs (F57): how strange each row is against the reference, the share of strange rows as one stream, and the
newest of them for people to look at.

Owns which rows shape the measure, which have a p-value, and what is remembered of strange ones; what strange means is
`detectors.conformal`'s. The first half of the reference shapes the measure and says nothing; the second calibrates it,
so a hundredth of it is strange by construction, and later rows are compared with that.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import msgspec
import numpy as np

from detectors import binning, conformal
from detectors.codependence import Codependence
from detectors.conformal import COMBINATION, SHAPING_SHARE, STRANGE_P, Strangeness
from detectors.contract import Bins, Stream
from stream.events import PredictionRows, RankedFeature
from stream.windows.columns import Floats, Ints
from stream.windows.sources.features import Features
from stream.windows.sources.reading import Codes, Shown
from stream.windows.words import STRANGE, moment, number

SHARE: Final = 0.03
"""Of the predictions' part of the budget: a stream that sees rows which stand alone; what moves as a whole, others see
sooner."""

KEPT: Final = 100
"""Newest strange rows that are remembered: enough to say which feature makes them so since a change."""

TOLD: Final = 20
"""Of them in the figures: as many as a person looks through."""

EXAMPLES: Final = 3
"""Of them in an alert."""

TEXT_CHARS: Final = 60
"""What is shown of a strange text."""

TOGETHER: Final = "how its features come together"
"""What makes a row strange of which no single value is."""


class Odd(msgspec.Struct):
    """A strange row: when it was asked, its p-value, the feature that makes it strange (none where it is how they come
    together), and that in words."""

    event_time: float
    p: float
    feature: str
    words: str


class Strange(msgspec.Struct, tag="strange"):
    """`learned` is None, and `off` says why, where the reference is too small. `shaping`: the first rows, which have no
    p-value; `reference`: rows of the reference; `row`: rows that have been read; `rows` and `found`: those with a
    p-value after the reference, and the strange ones among them."""

    features: Features
    learned: Strangeness | None
    off: str
    streams: list[Stream]
    bins: list[Bins]
    shaping: int
    reference: int
    row: int = 0
    rows: int = 0
    found: int = 0
    newest: list[Odd] = []

    def read(self, rows: PredictionRows, shown: Shown, values: Floats, codes: Codes) -> None:
        """As `Source.read`; each row is to be read once, in order."""
        if self.learned is None:
            return
        n, first = len(rows.order), self.row
        self.row += n
        p = conformal.p_values(self.learned, shown.codes.T, shown.values.T, first)
        strange = p < STRANGE_P
        values[0] = codes[0] = strange
        shaped = max(min(self.shaping - first, n), 0)
        values[0, :shaped], codes[0, :shaped] = np.nan, -1
        own = max(min(self.reference - first, n), 0)
        self.rows += n - own
        self._remember(rows, shown, own + np.flatnonzero(strange[own:]), p)

    def _remember(self, rows: PredictionRows, shown: Shown, strange: Ints, p: Floats) -> None:
        if not len(strange) or self.learned is None:
            return
        self.found += len(strange)
        strange = strange[-KEPT:]
        places = conformal.strangest(self.learned, shown.codes.T[strange], shown.values.T[strange])
        for row, place in zip(strange.tolist(), places.tolist(), strict=True):
            name = "" if place == COMBINATION else self.features.names[place]
            said = self._words(rows, name, row) if name else TOGETHER
            self.newest.append(Odd(float(rows.event_time[row]), float(p[row]), name, said))
        del self.newest[:-KEPT]

    def _words(self, rows: PredictionRows, name: str, row: int) -> str:
        column = rows.features.get(name)
        value = None if column is None else column.values[row]
        if column is None or value is None or np.isnan(value) or (column.words is not None and value < 0):
            return f"{name} is missing"
        text = number(float(value)) if column.words is None else column.words[int(value)]
        if name in self.features.texts:
            return f"{name} has {len(text)} characters"
        return f"{name} = {text[:TEXT_CHARS]}"

    def since(self, moment_s: float) -> tuple[list[RankedFeature], list[str]]:
        """What makes the remembered rows since a moment strange, by their share, and the newest of them in words."""
        newest = [each for each in self.newest if each.event_time >= moment_s]
        counts = Counter(each.feature or TOGETHER for each in newest)
        ranked = [RankedFeature(name, n / len(newest), {"rows": float(n)}) for name, n in counts.items()]
        return sorted(ranked, key=lambda x: (-x.share, x.name)), [each.words for each in newest[-EXAMPLES:]]

    def figures(self) -> dict[str, Any]:
        """For people: how many rows were strange since the reference, and the newest of them."""
        if self.learned is None:
            return {"off": self.off}
        newest = [{"at": moment(x.event_time), "p": round(x.p, 6), "why": x.words} for x in self.newest[-TOLD:]]
        return {
            "rows": self.rows,
            "strange": self.found,
            "share": round(self.found / self.rows, 6) if self.rows else 0.0,
            "expected": STRANGE_P,
            "newest": newest[::-1],
        }


def learn(features: Features, shown: Shown, together: Codependence, seed: int) -> Strange:
    """From the features' codes and values of the reference's rows, (f, n) each."""
    f, n = shown.codes.shape
    off, learned = "", None
    try:
        if not f:
            raise ValueError("there are no features")
        learned = conformal.learn(features.named, features.bins[:f], shown.codes.T, shown.values.T, together, seed)
    except ValueError as error:
        off = f"strange inputs are not looked for: {error}"
    streams = [] if learned is None else [Stream(STRANGE, "rate", SHARE)]
    bins = [binning.learn_bins(stream, np.zeros(0)) for stream in streams]
    return Strange(features, learned, off, streams, bins, int(n * SHAPING_SHARE), n)
