"""False alarms of the ladder on streams that never change: `python -m benchmarks.detection.ladder [--quick]`.

The fifty features of `marginals.py`, in ten correlated groups, under three kinds of dependence between rows: none
(`exchangeable`), an AR(1) of the latent normals (`autoregressive`), and a daily season with an amplitude of one
standard deviation (`seasonal`, event time of many days). `null` is what other benchmarks call. Alarms are compared
with what the budget accepts; the interval is the exact one of a Poisson count.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.stats import chi2

from benchmarks.detection import marginals
from benchmarks.detection.bars import Part, at_most
from detectors import registry
from detectors.contract import Alarm, Budget, Rows

Floats = NDArray[np.float64]
Dependence = Literal["exchangeable", "autoregressive", "seasonal"]
KINDS: tuple[Dependence, ...] = ("exchangeable", "autoregressive", "seasonal")

AUTOREGRESSION = 0.5
AMPLITUDE = 1.0
CHUNK_ROWS = 8_192
DAY_S = 86_400.0
START_S = 1_704_067_200.0
ROWS_A_DAY = 5_000
"""Of the seasonal kind; the others have a row each millisecond, so that no reference spans a day."""

REFERENCE_DAYS = 28
"""Of the seasonal kind, so that it watches from the first row on."""


class Null(NamedTuple):
    """Alarms on streams that never change. bound: what the budget accepts; interval: 95 %, of the expected number of
    alarms; us_a_value: processor time of `update`; status: of the detector in the end."""

    kind: str
    detector: str
    reference_rows: int
    rows: int
    alarms: int
    bound: float
    interval: tuple[float, float]
    us_a_value: float
    status: str


def null(
    kind: Dependence,
    rows: int,
    budget: float = 20.0,
    detector: str = "auto",
    reference_rows: int = 20_000,
    seed: int = 0,
    autoregression: float = AUTOREGRESSION,
) -> Null:
    """Alarms in so many rows after the reference, at a budget of so many a million rows over all streams.

    A seasonal reference has 28 days, whatever `reference_rows` says.
    """
    if kind == "seasonal":
        reference_rows = REFERENCE_DAYS * ROWS_A_DAY
    source = latents(kind, reference_rows, rows, seed, autoregression)
    first, time_s = next(source)
    learned = marginals.learn(first)
    streams = marginals.streams()
    watcher = registry.make(detector, {}, streams, Budget(budget, events=1e6), seed + 1)
    watcher.fit(learned.bins, coded(learned, first, time_s))
    alarms: list[Alarm] = []
    spent_s = 0.0
    for latent, time_s in source:
        piece = coded(learned, latent, time_s)
        started = time.process_time()
        alarms += watcher.update(piece)
        spent_s += time.process_time() - started
    return Null(
        kind=kind, detector=detector, reference_rows=reference_rows, rows=rows, alarms=len(alarms),
        bound=budget * rows / 1e6, interval=interval(len(alarms)), us_a_value=spent_s * 1e6 / (rows * len(streams)),
        status=watcher.status(),
    )  # fmt: skip


def latents(
    kind: Dependence, first: int, rows: int, seed: int, autoregression: float = AUTOREGRESSION
) -> Iterator[tuple[Floats, Floats]]:
    """(50, n) latent values of variance 1 beside the season, and (n,) event times: the reference, then `rows` more."""
    draw = np.random.default_rng([seed, 77, KINDS.index(kind)])
    state = autoregression * marginals.latent(draw, 1)
    spacing_s = DAY_S / ROWS_A_DAY if kind == "seasonal" else 1e-3
    sizes = [first, *[CHUNK_ROWS] * (rows // CHUNK_ROWS), rows % CHUNK_ROWS]
    place = 0
    for n in filter(None, sizes):
        latent = marginals.latent(draw, n)
        time_s = START_S + spacing_s * np.arange(place, place + n)
        if kind == "autoregressive":
            scaled = (1 - autoregression**2) ** 0.5 * latent
            latent, state = lfilter([1.0], [1.0, -autoregression], scaled, axis=1, zi=state)
        elif kind == "seasonal":
            latent += AMPLITUDE * np.sin(2 * np.pi * time_s / DAY_S)
        yield latent, time_s
        place += n


def coded(learned: marginals.Learned, latent: Floats, time_s: Floats) -> Rows:
    return Rows(time_s, np.ascontiguousarray(marginals.codes(learned, latent).T), latent.T)


def interval(count: int) -> tuple[float, float]:
    """Exact 95 % interval of the mean of a Poisson count (Garwood 1936)."""
    low = float(chi2.ppf(0.025, 2 * count) / 2) if count else 0.0
    return low, float(chi2.ppf(0.975, 2 * count + 2) / 2)


def run(quick: bool, seed: int) -> Part:
    """Alarms under every kind of dependence; where rows depend on each other, at most twice the budget is demanded."""
    figures: dict[str, dict[str, object]] = {}
    bars = []
    for budget, rows in ((20.0, 200_000),) if quick else ((20.0, 2_000_000), (1.0, 30_000_000)):
        for kind in KINDS:
            found = null(kind, rows, budget, reference_rows=20_000, seed=seed)
            name = f"{kind}, budget {budget:g}"
            figures[name] = {**found._asdict(), "interval": found.interval}
            bound = found.bound if kind == "exchangeable" else 2 * found.bound
            bars.append(at_most(f"false alarms, rows {name} per 1M events", float(found.alarms), bound, "alarms"))
    return Part(figures=figures, bars=bars)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    rows = 200_000 if parser.parse_args().quick else 2_000_000
    print(f"null: {marginals.FEATURES} streams, {rows:,} rows, budget 20 a million rows")
    for kind in KINDS:
        for reference_rows in (20_000,) if kind == "seasonal" else (5_000, 20_000):
            found = null(kind, rows, reference_rows=reference_rows)
            low, high = found.interval
            print(
                f"  {kind:14} reference {found.reference_rows:7,}: {found.alarms:3} alarms ({low:.1f} to {high:.1f}), "
                f"bound {found.bound:.0f}, {found.us_a_value:.3f} us a value; {found.status}"
            )


if __name__ == "__main__":
    main()
