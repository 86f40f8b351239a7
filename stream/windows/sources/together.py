"""How features hang together, as streams: products of pairs, and the distance from the reference (F01, joint).

A change of the correlation alone moves no feature's own stream. Owns the fit to the engine; what the numbers are is
`detectors.codependence`'s.
"""

from __future__ import annotations

from typing import Final

import msgspec

from detectors import binning, codependence
from detectors.codependence import Codependence
from detectors.contract import Bins, Stream
from stream.events import Column, PredictionRows
from stream.windows.columns import Floats
from stream.windows.sources.features import Features
from stream.windows.sources.reading import Codes, Shown, learn_bins, read, weighted

SHARE: Final = 0.20
"""Of the predictions' part of the budget."""


class Together(msgspec.Struct, tag="together"):
    """The streams of a `Codependence`."""

    learned: Codependence
    streams: list[Stream]
    bins: list[Bins]

    def read(self, rows: PredictionRows, shown: Shown, values: Floats, codes: Codes) -> None:
        """As `Source.read`."""
        found = codependence.read(self.learned, shown.codes.T)
        for j, bins in enumerate(self.bins):
            values[j], codes[j] = read(Column(found[:, j]), "numeric", bins, len(found))


def learn(features: Features, codes: Codes, seed: int) -> Together:
    """From (f, n) codes of the reference's features. The first rows shape the covariance, as they shape the bets; the
    others the bins, since the former look nearer to what they have shaped."""
    f = len(features.names)
    own = binning.training_rows(codes.shape[1])
    found = codependence.learn(features.named, features.bins[:f], codes.T[:own], seed)
    streams = codependence.streams(found)
    numbers = codependence.read(found, codes.T[own:])
    bins = [learn_bins(stream, Column(numbers[:, j])) for j, stream in enumerate(streams)]
    return Together(found, weighted(streams, SHARE) if streams else [], bins)
