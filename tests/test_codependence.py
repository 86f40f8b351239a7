"""Dependence between features and embeddings, as streams: what hangs together is seen to come apart (F01)."""

from __future__ import annotations

import doctest
from collections.abc import Sequence
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors import binning, codependence, projection
from detectors.contract import Alarm, Bins, Budget, Rows, Stream
from detectors.counts import Counts
from tests import streams
from tests.streams import Floats

Codes = codependence.Codes


def grouped(draw: np.random.Generator, n: int, features: int, groups: int = 10, rho: float = 0.5) -> Floats:
    """(n, features) normal values; every `groups`-th hangs together with correlation rho."""
    common = draw.normal(size=(n, groups))[:, np.arange(features) % groups]
    return np.asarray(np.sqrt(rho) * common + np.sqrt(1 - rho) * draw.normal(size=(n, features)))


def coded(bins: Sequence[Bins], values: Floats) -> Codes:
    return streams.rows(bins, values, streams.each_second(len(values))).codes


class Watched:
    """Features, their pairs and the distance under one `Counts`, as they would be wired: four fifths of the budget for
    the features."""

    def __init__(self, reference: Floats, budget: float, block_rows: int, seed: int) -> None:
        d, own = reference.shape[1], binning.training_rows(len(reference))
        features = [Stream(f"x{j}", "numeric", 0.8 / d) for j in range(d)]
        self.bins = streams.learned(features, reference[:own])
        codes = coded(self.bins, reference)
        self.hang = codependence.learn(features, self.bins, codes[:own], seed)
        values = codependence.read(self.hang, codes, own)
        more = codependence.streams(self.hang, 0.2)
        self.more_bins = streams.learned(more, values)
        self.counts = Counts([*features, *more], Budget(budget, events=1e6), seed, block_rows=block_rows)
        self.counts.fit([*self.bins, *self.more_bins], self.rows(codes, values, 0))

    def rows(self, codes: Codes, values: Floats, start: int) -> Rows:
        both = np.column_stack([codes, coded(self.more_bins, values)])
        return Rows(streams.each_second(len(codes), start), both, both.astype(np.float64))

    def update(self, x: Floats, start: int) -> list[Alarm]:
        codes = coded(self.bins, x)
        return self.counts.update(self.rows(codes, codependence.read(self.hang, codes), start))


def first_alarm(seed: int, block_rows: int) -> tuple[float, str]:
    """Rows until two of fifty features that leave their groups are named, at one false alarm in a million rows."""
    draw = np.random.default_rng([seed, 3])
    before = int(draw.integers(0, block_rows))
    watched = Watched(grouped(draw, 10_000, 50), 1.0, block_rows, seed)
    assert watched.update(grouped(draw, before, 50), 10_000) == []
    for start in range(0, 2_000, 250):
        x = grouped(draw, 250, 50)
        x[:, [0, 5]] = draw.normal(size=(250, 2))
        for alarm in watched.update(x, 20_000 + start):
            return alarm.at_s - streams.MONDAY_S - 20_000 + 1, alarm.name
    return np.inf, ""


@pytest.mark.parametrize(("block_rows", "expected"), [(32, 160), (256, 420)])
def test_a_change_of_correlation_alone_is_seen_as_soon_as_was_measured(block_rows: int, expected: float) -> None:
    """F01: no feature changes; the prototype needed 128 to 160 rows with blocks of 32."""
    found = [first_alarm(seed, block_rows) for seed in range(5)]
    assert np.median([delay for delay, _ in found]) <= expected
    assert all(name.startswith("pair/") and ("x0" in name or "x5" in name) for _, name in found)


def test_false_alarms_of_pairs_and_distance_stay_within_the_budget() -> None:
    """F01, F08: 20 correlated features, 50 pairs and the distance, 150,000 rows; 30 alarms accepted."""
    draw = np.random.default_rng(11)
    watched = Watched(grouped(draw, 5_000, 20, groups=4), 200.0, 256, 5)
    found = [a for at in range(0, 150_000, 15_000) for a in watched.update(grouped(draw, 15_000, 20, groups=4), at)]
    assert 0 < len(found) <= 30
    assert any("/" in alarm.name for alarm in found)


def learn(values: Floats, seed: int = 1) -> tuple[codependence.Codependence, Codes]:
    features = [Stream(f"x{j}", "numeric") for j in range(values.shape[1])]
    codes = coded(streams.learned(features, values), values)
    return codependence.learn(features, streams.learned(features, values), codes, seed), codes


def test_a_pair_s_mean_is_its_correlation() -> None:
    values = grouped(np.random.default_rng(2), 2_000, 4, groups=2, rho=0.6)
    found, codes = learn(values)
    measured = codependence.correlations(found, codependence.read(found, codes))
    expected = [np.corrcoef(values[:, a], values[:, b])[0, 1] for a, b in found.pairs]
    assert measured == pytest.approx(expected, abs=0.03)
    assert np.isnan(codependence.correlations(found, np.zeros((0, 7)))).all()


def test_rows_that_shaped_the_covariance_are_hardly_nearer_than_others() -> None:
    """F01: otherwise a reference looks nearer than all that follows it (half a standard deviation here), and the
    distance alarms on nothing. 400 rows shape 40 columns; the others are what follows."""
    gaps = []
    for seed in range(6):
        values = grouped(np.random.default_rng(seed), 2_400, 40, groups=4)
        features = [Stream(f"x{j}", "numeric") for j in range(40)]
        bins = streams.learned(features, values)
        codes = coded(bins, values)
        found = codependence.learn(features, bins, codes[:400], 1)
        distances = [codependence.read(found, codes, own)[:, -1] for own in (found.rows, 0)]
        gaps.append([(d[400:].mean() - d[:400].mean()) / d[400:].std() for d in distances])
    fair, naive = np.mean(gaps, 0)
    assert naive > 0.4 and abs(fair) < 0.1


def test_missing_values_are_missing_from_pairs_and_stand_at_the_centre_of_the_distance() -> None:
    found, codes = learn(np.random.default_rng(4).normal(size=(1_000, 3)))
    asked = np.array([codes[0], [-1, codes[0, 1], codes[0, 2]], [-1, -1, -1]], np.int32)
    values = codependence.read(found, asked)
    assert np.isnan(values[1]).tolist() == [0 in pair for pair in found.pairs.tolist()] + [False]
    assert np.isnan(values[2]).all() and values[1, -1] < values[0, -1]


@settings(max_examples=30)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=6), st.integers(1, 60))
def test_the_same_rows_give_the_same_bits_however_they_are_cut(sizes: list[int], features: int) -> None:
    found, codes = learn(grouped(np.random.default_rng(5), 300, features + 1))
    cuts = np.minimum(np.cumsum(sizes), 300)
    parts = [codependence.read(found, part) for part in np.split(codes, cuts)]
    assert np.array_equal(np.concatenate(parts), codependence.read(found, codes), equal_nan=True)


def test_categories_enter_as_their_busiest_levels() -> None:
    """F01: a number that hangs together with a category."""
    draw = np.random.default_rng(6)
    plan = draw.choice(4, 1_500, p=[0.4, 0.3, 0.2, 0.1])
    x = draw.normal(size=1_500) + 2 * (plan == 1)
    features = [Stream("plan", "categorical"), Stream("x", "numeric")]
    bins = [Bins(categories=("a", "b", "c", "d")), binning.learn_bins(features[1], x)]
    codes = np.column_stack([plan, binning.code(bins[1], x)]).astype(np.int32)
    found = codependence.learn(features, bins, codes, 1)
    assert found.columns == ("plan=a", "plan=b", "plan=c", "x")
    measured = codependence.correlations(found, codependence.read(found, codes))
    pairs = {found.columns[a]: r for (a, _), r in zip(found.pairs, measured, strict=True)}
    assert pairs["plan=b"] > 0.5 and set(pairs) == {"plan=a", "plan=b", "plan=c"}  # never two levels of one feature


def test_what_cannot_hang_together_is_not_watched() -> None:
    draw = np.random.default_rng(7)
    values = np.column_stack([draw.normal(size=500), np.full(500, 3.0), draw.random(500) < 0.005])
    for found, codes in (learn(values), learn(draw.normal(size=(99, 3)))):
        assert codependence.streams(found) == [] and codependence.read(found, codes).shape == (len(codes), 0)


def test_copies_of_a_column_do_not_break_the_distance() -> None:
    x = np.random.default_rng(8).normal(size=(1_000, 2))
    found, codes = learn(np.column_stack([x, x, x]))
    distance = codependence.read(found, codes, 1_000)[:, -1]
    assert np.isfinite(distance).all() and distance.min() >= 0
    torn = codes.copy()
    torn[:, 0] = torn[::-1, 0]
    assert codependence.read(found, torn)[:, -1].mean() > 3 * distance.mean()


def test_columns_and_pairs_are_bounded_and_the_strongest_are_always_among_them() -> None:
    values = np.random.default_rng(9).normal(size=(800, 300))
    values[:, 7] = values[:, 3] + 0.3 * values[:, 7]
    (one, _), (other, _) = learn(values, seed=1), learn(values, seed=2)
    assert len(one.columns) == codependence.COLUMNS_MAX and one.left_out == 44
    assert len(one.pairs) == codependence.PAIRS_MAX == len(np.unique(one.pairs, axis=0))
    assert one.pairs[0].tolist() == other.pairs[0].tolist() == [3, 7]
    assert not np.array_equal(one.pairs, other.pairs)


def test_state_goes_round() -> None:
    found, codes = learn(grouped(np.random.default_rng(10), 500, 12))
    again = codependence.unpack(codependence.pack(found))
    assert codependence.pack(again) == codependence.pack(found)
    assert np.array_equal(codependence.read(again, codes), codependence.read(found, codes))
    with pytest.raises(ValueError, match="not the state"):
        codependence.unpack(b"nothing")


def embeddings(draw: np.random.Generator, n: int, dimensions: int = 64) -> Floats:
    """Vectors as encoders make them: a few directions carry most of the variation, around a mean that is not zero."""
    mean = np.random.default_rng(0).normal(size=dimensions)
    return np.asarray(mean + draw.normal(size=(n, dimensions)) * 0.9 ** np.arange(dimensions))


@pytest.mark.parametrize(("change", "norm_moves", "direction_moves"), [("norm", True, False), ("encoder", False, True)])
def test_embeddings_are_watched_by_direction_and_norm(change: str, norm_moves: bool, direction_moves: bool) -> None:
    """F01: vectors that grow, and vectors whose coordinates another encoder puts elsewhere."""
    draw = np.random.default_rng(12)
    reference, later = embeddings(draw, 3_000), embeddings(draw, 3_000)
    later = later * 1.5 if change == "norm" else later[:, ::-1]
    found = projection.learn("text", reference.tolist(), 3)
    watched = projection.streams(found)
    values = projection.project(found, [*reference.tolist(), *later.tolist()])
    bins = streams.learned(watched, values[: binning.training_rows(3_000)])
    detector = Counts(watched, Budget(1.0, events=1e6), 3)
    alarms = streams.run(detector, bins, streams.rows(bins, values, streams.each_second(6_000)), 3_000)
    names = {alarm.name for alarm in alarms}
    assert ("text~norm" in names) == norm_moves
    assert any(name != "text~norm" for name in names) == direction_moves


def test_projections_keep_distances_on_average() -> None:
    """The mean square of projections of unit vectors is one, as for any directions of random signs."""
    draw = np.random.default_rng(13)
    vectors = draw.normal(size=(500, 100))
    squares = [projection.project(projection.learn("e", vectors.tolist(), s), vectors.tolist()) ** 2 for s in range(20)]
    assert np.mean([square[:, :-1].mean() for square in squares]) == pytest.approx(1.0, abs=0.05)
    assert np.sqrt(squares[0][:, -1]) == pytest.approx(np.linalg.norm(vectors, axis=1))


@settings(max_examples=60)
@given(st.lists(st.none() | st.lists(st.none() | st.floats(), max_size=5), max_size=12))
def test_any_list_is_read_or_missing(vectors: list[list[float | None] | None]) -> None:
    found = projection.learn("e", [[1.0, 2.0, 3.0]], 1)
    values = projection.project(found, vectors)
    assert values.shape == (len(vectors), projection.DIRECTIONS + 1)
    for vector, row in zip(vectors, values, strict=True):
        whole = vector is not None and len(vector) == 3 and all(x is not None and np.isfinite(x) for x in vector)
        assert np.isnan(row[-1]) != whole
        assert np.isnan(row[:-1]).all() != (whole and any(vector or ()))
    alone = [projection.project(found, [vector]) for vector in vectors]
    assert np.array_equal(np.concatenate([np.zeros((0, 9)), *alone]), values, equal_nan=True)


def test_vectors_are_cut_anyhow_and_state_goes_round() -> None:
    vectors = embeddings(np.random.default_rng(14), 200, 384).tolist()
    found = projection.learn("e", vectors, 5)
    whole = projection.project(found, vectors)
    for size in (1, 7, 64):
        parts = [projection.project(found, vectors[at : at + size]) for at in range(0, 200, size)]
        assert np.array_equal(np.concatenate(parts), whole)
    again = projection.unpack(projection.pack(found))
    assert np.array_equal(projection.project(again, vectors), whole)


def test_a_feature_without_usable_vectors_has_no_projections() -> None:
    found = projection.learn("e", [[1.0], None, [0.0] * (projection.DIMENSIONS_MAX + 1)], 1)
    assert projection.streams(found) == [] and projection.project(found, [[1.0, 2.0]]).shape == (1, 0)


@pytest.mark.parametrize("module", [codependence, projection])
def test_examples_in_docstrings_are_true(module: ModuleType) -> None:
    assert doctest.testmod(module).attempted > 0 and doctest.testmod(module).failed == 0
