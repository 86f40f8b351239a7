"""False alarms on streams that never change, and around changes that are real.

Four settings for this engine: fifty stationary features; the same in other block sizes; streams and slices that come
and go; real changes, after each of which the detector starts over by itself (what they cause is not counted). Peers
see the fifty features with their libraries' defaults. Alarms are per million events over all streams together, with
the exact Poisson interval of the count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.detection import bars, marginals, peers, windowed
from benchmarks.detection.bars import Part
from detectors.contract import Bins, Budget, Rows, Stream
from detectors.counts import Counts

Floats = NDArray[np.float64]

REFERENCE_ROWS = 20_000
CHUNK_ROWS = 8_192
UNIT = "alarms per 1M events"

SLICES = 20
"""Slices beside thirty features in the setting where streams come and go."""

PHASE_ROWS = 30_000
"""How long a stream stays or stays away, at least; twice that at most."""

CHANGE_EVERY = 12_000
"""Rows between real changes, of one feature in turn: a feature changes again after 600,000 rows."""

CHANGE_SD = 1.0


class Setting(NamedTuple):
    """Events of one run of this engine, its budget per million events, and its block size."""

    events: int
    budget: float
    block_rows: int = 256


FULL = {
    "budget 1": Setting(30_000_000, 1.0),
    "budget 20": Setting(6_000_000, 20.0),
    "budget 20, blocks of 32": Setting(3_000_000, 20.0, 32),
    "budget 20, blocks of 2000": Setting(10_000_000, 20.0, 2_000),
}
QUICK = {"budget 20": Setting(400_000, 20.0), "budget 100, blocks of 32": Setting(120_000, 100.0, 32)}
MOVING = Setting(6_000_000, 20.0)
MOVING_QUICK = Setting(180_000, 20.0)


class PeerRows(NamedTuple):
    """Rows of the fifty features that each kind of peer sees: their costs differ by a factor of a thousand."""

    adwin: int
    page_hinkley: int
    kswin: int
    frouros: int
    windows: int


PEER_ROWS = PeerRows(1_000_000, 200_000, 2_000, 40_000, 1_000_000)
PEER_ROWS_QUICK = PeerRows(10_000, 3_000, 120, 500, 20_000)


def run(quick: bool, seed: int) -> Part:
    settings, moving = (QUICK, MOVING_QUICK) if quick else (FULL, MOVING)
    alarms = {f"stationary, {name}": (own, stationary(own, seed)) for name, own in settings.items()}
    alarms["streams and slices that come and go"] = moving, coming_and_going(moving, seed)
    after, found, changes = rebaselined(moving, seed)
    alarms["after real changes"] = moving, after
    figures: dict[str, Any] = {
        "unit": UNIT,
        "ours": {
            name: {"budget": own.budget, "block_rows": own.block_rows, **bars.rate(count, own.events / 1e6)}
            for name, (own, count) in alarms.items()
        },
        "real_changes": {"planted": changes, "found": found},
        "peers": others(PEER_ROWS_QUICK if quick else PEER_ROWS, seed),
    }
    demands = [
        bars.at_most(f"false alarms, {name}", count * 1e6 / own.events, own.budget, UNIT)
        for name, (own, count) in alarms.items()
    ]
    return Part(figures=figures, bars=demands)


def stationary(setting: Setting, seed: int) -> int:
    """Alarms of fifty features that never change."""
    draw = np.random.default_rng([seed, 101])
    reference = marginals.latent(draw, REFERENCE_ROWS)
    learned = marginals.learn(reference)
    detector = _watch(marginals.streams(), learned.bins, marginals.rows(learned, reference, 0.0), setting, seed)
    found = 0
    for start in range(0, setting.events, CHUNK_ROWS):
        n = min(CHUNK_ROWS, setting.events - start)
        found += len(detector.update(marginals.rows(learned, marginals.latent(draw, n), float(REFERENCE_ROWS + start))))
    return found


def _watch(streams: list[Stream], bins: list[Bins], reference: Rows, setting: Setting, seed: int) -> Counts:
    detector = Counts(streams, Budget(setting.budget, events=1e6), seed, block_rows=setting.block_rows)
    detector.fit(bins, reference)
    return detector


def coming_and_going(setting: Setting, seed: int) -> int:
    """Alarms of thirty features, half of which are missing for long stretches (some from the start), and the losses of
    twenty slices that appear one after the other, each with an error rate of its own."""
    draw = np.random.default_rng([seed, 102])
    features = 30
    learned = marginals.learn(marginals.latent(draw, REFERENCE_ROWS))
    streams = marginals.streams()[:features] + [Stream(f"slice {k}", "loss") for k in range(SLICES)]
    bins = learned.bins[:features] + [Bins(edges=(0.5,))] * SLICES
    present = np.array([_phases(draw, REFERENCE_ROWS + setting.events) for _ in range(features // 2)])
    rates = np.linspace(0.02, 0.5, SLICES)
    begins = np.linspace(0, setting.events / 2, SLICES)

    def piece(start: int, n: int) -> Rows:
        made = marginals.rows(learned, marginals.latent(draw, n), float(start))
        codes = np.full((features + SLICES, n), -1, np.int32)
        codes[:features] = made.codes.T[:features]
        for j, borders in enumerate(present):
            away = np.searchsorted(borders, np.arange(start, start + n), side="right") % 2 == 1
            codes[j, away] = -1
        known = int(np.searchsorted(begins, max(start - REFERENCE_ROWS, 0), side="right"))
        own = draw.integers(0, known, n)
        codes[features + own, np.arange(n)] = draw.random(n) < rates[own]
        return Rows(made.time_s, codes.T, codes.T.astype(np.float64))

    detector = _watch(streams, bins, piece(0, REFERENCE_ROWS), setting, seed)
    found = 0
    for start in range(0, setting.events, CHUNK_ROWS):
        found += len(detector.update(piece(REFERENCE_ROWS + start, min(CHUNK_ROWS, setting.events - start))))
    return found


def _phases(draw: np.random.Generator, rows: int) -> NDArray[np.int64]:
    """Rows at which a stream goes and comes, in turn; some are away from the first row on."""
    lengths = draw.integers(PHASE_ROWS, 2 * PHASE_ROWS, rows // PHASE_ROWS + 2)
    borders = np.cumsum(lengths)
    return borders - borders[0] if draw.random() < 0.5 else borders


def rebaselined(setting: Setting, seed: int) -> tuple[int, int, int]:
    """Real changes of one feature after another, each to a new level for good: alarms that no change caused, changes
    found, changes planted. The first alarm of a feature after it has changed is the change's; all others are false."""
    draw = np.random.default_rng([seed, 103])
    reference = marginals.latent(draw, REFERENCE_ROWS)
    learned = marginals.learn(reference)
    detector = _watch(marginals.streams(), learned.bins, marginals.rows(learned, reference, 0.0), setting, seed)
    level = np.zeros(marginals.FEATURES)
    pending: set[int] = set()
    false = found = planted = 0
    for start in range(0, setting.events, CHANGE_EVERY):
        n = min(CHANGE_EVERY, setting.events - start)
        j = planted % marginals.FEATURES
        level[j] = 0.0 if level[j] else CHANGE_SD
        pending.add(j)
        planted += 1
        z = marginals.latent(draw, n) + level[:, None]
        for alarm in detector.update(marginals.rows(learned, z, float(REFERENCE_ROWS + start))):
            false, found = (false, found + 1) if alarm.stream in pending else (false + 1, found)
            pending.discard(alarm.stream)
    return false, found, planted


def others(size: PeerRows, seed: int) -> dict[str, Any]:
    """Peers on the fifty features as their libraries come, and windowed tests; always and never beside them."""
    made: list[tuple[str, Callable[[], peers.OneByOne], int]] = [
        ("ADWIN (River), default", lambda: peers.ADWIN.make(peers.ADWIN.default), size.adwin),
        ("ADWIN (River), delta 1e-12", lambda: peers.ADWIN.make(1e-12), size.adwin),
        ("PageHinkley (River), default", peers.page_hinkley, size.page_hinkley),
        ("KSWIN (River), default", lambda: peers.kswin(seed), size.kswin),
    ]
    made += [(f"{name} (Frouros), default", make, size.frouros) for name, make in peers.frouros_of_values()]
    figures: dict[str, Any] = {name: _peer_rate(make, rows, seed) for name, make, rows in made}
    if not peers.frouros_of_values():
        figures["Frouros"] = peers.FROUROS_MISSING
    for width in windowed.WIDTHS:
        counts, windows = windowed.null(size.windows, width, seed)
        for test, count in counts.items():
            figures[f"{test}, windows of {width}"] = bars.rate(count, windows * width / 1e6)
    figures["always (every event)"] = {"rate": 1e6}
    figures["never"] = {"rate": 0.0}
    return figures


def _peer_rate(make: Callable[[], peers.OneByOne], rows: int, seed: int) -> dict[str, Any]:
    """One detector for each feature; alarms by marginal too, and features on which the detector raised an error."""
    draw = np.random.default_rng([seed, 104])
    z = marginals.latent(draw, rows)
    by_marginal = dict.fromkeys((*marginals.MARGINALS, "categorical"), 0)
    failed: list[str] = []
    for j in range(marginals.FEATURES):
        try:
            by_marginal[marginals.marginal(j)] += len(peers.alarms(make(), marginals.values(j, z[j]).tolist()))
        except (ValueError, ArithmeticError) as error:
            failed.append(f"x{j:02d} ({marginals.marginal(j)}): {error}")
    count = sum(by_marginal.values())
    return {**bars.rate(count, rows / 1e6), "alarms_by_marginal": by_marginal, "failed_features": failed}
