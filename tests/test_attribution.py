"""F04: a change of the loss taken apart into other inputs and another rule, and who carries it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from detectors import domain, joint
from detectors.attribution import ROWS_MIN, Attribution, attribute
from detectors.contract import Bins, Stream
from detectors.decomposition import three_terms
from detectors.design import FEATURES_MAX, design, movement
from detectors.explanation import explain
from detectors.sample import Labelled, Layout, Sample, empty, in_proportion
from tests.changes import LABEL, LABEL_BINS, changed

STANDS, FALLS = 4.0, 8.0
"""Standard deviations of chance within which a true kind stays, and beyond which the others fall."""


def found(kind: str, seed: int) -> Attribution:
    answer = attribute(*changed(kind, seed))
    assert answer is not None
    return answer


def first(answer: Attribution, part: str) -> str:
    return max(answer.features, key=lambda each: float(getattr(each, part))).name


@pytest.mark.parametrize("kind", ["covariate", "concept", "label"])
@pytest.mark.parametrize("seed", range(4))
def test_a_pure_change_fits_its_own_kind_and_no_other(kind: str, seed: int) -> None:
    """F19"""
    misfit = {name: each.excess for name, each in found(kind, seed).misfit.items()}
    assert misfit[kind] < STANDS
    assert min(value for name, value in misfit.items() if name != kind) > FALLS


def test_where_nothing_changes_every_kind_fits() -> None:
    """F19: over thirty samples the misfits stay where chance puts them."""
    every = np.array([[each.excess for each in found("nothing", seed).misfit.values()] for seed in range(30)])
    assert np.abs(every.mean(0)).max() < 0.9
    assert every.std(0).min() > 0.5
    assert every.std(0).max() < 1.5


@pytest.mark.parametrize("seed", range(4))
def test_other_inputs_are_covariate_and_their_feature_stands_first(seed: int) -> None:
    """F04"""
    answer = found("covariate", seed)
    assert not answer.loss.concept.sure
    assert first(answer, "share") == "a"
    assert answer.features[0].share > 0.9
    assert answer.decided


@pytest.mark.parametrize("seed", range(4))
def test_another_rule_is_concept_and_its_feature_stands_first(seed: int) -> None:
    """F04"""
    answer = found("concept", seed)
    assert answer.loss.concept.sure and answer.loss.concept.value > 0.1
    assert abs(answer.loss.covariate.value) < 0.02
    assert first(answer, "concept") == "a"
    assert answer.features[0].concept > 0.8


def test_other_shares_of_the_labels_are_a_level_and_no_feature() -> None:
    """F04"""
    answer = found("label", 1)
    assert answer.level > 0.6
    assert list(answer.label) == ["label=1"] and answer.label["label=1"] > 0.1


@pytest.mark.parametrize("kind", ["covariate", "concept", "label", "nothing"])
def test_the_parts_sum_to_the_change(kind: str) -> None:
    """F04: the terms exactly, the features' parts up to the rule of integration."""
    answer = found(kind, 7)
    loss = answer.loss
    assert loss.total.value == pytest.approx(answer.now - answer.before)
    assert sum(each.value for each in loss.terms) == pytest.approx(loss.total.value)
    assert loss.covariate.value + loss.concept.value == pytest.approx(loss.total.value)
    assert sum(each.loss for each in answer.features) == pytest.approx(loss.covariate.value, abs=1e-4)
    assert sum(each.share for each in answer.features) == pytest.approx(1.0)


@settings(max_examples=50)
@given(st.integers(0, 2**32), st.integers(20, 200), st.integers(20, 200))
def test_three_terms_sum_to_the_total_whatever_the_weights(seed: int, n: int, m: int) -> None:
    """F04"""
    draw = np.random.default_rng(seed)
    logit, loss = draw.normal(scale=3, size=n + m), draw.random(n + m)
    assert three_terms(logit, loss, n).sum() == pytest.approx(loss[n:].mean() - loss[:n].mean())


def test_the_terms_of_two_values_are_those_worked_out_by_hand() -> None:
    """F04: x is 1 for a fifth of the reference and four fifths of the current rows. Losses were .1 at 0 and .3 at 1,
    they are .2 and .5. Shared rows have x = 1 half of the time, so shared before is .2 and shared now .35."""
    n = 10_000
    x = np.concatenate([np.arange(n) < 0.2 * n, np.arange(n) < 0.8 * n])
    loss = np.where(np.arange(2 * n) < n, np.where(x, 0.3, 0.1), np.where(x, 0.5, 0.2))
    order = np.concatenate([np.random.default_rng(1).permutation(n), n + np.random.default_rng(2).permutation(n)])
    x, loss = x[order], loss[order]
    columns = domain.standardised(x[:, None].astype(np.float64))
    inputs = domain.fit(columns, np.arange(2 * n) >= n)
    assert three_terms(inputs.logit, loss, n) == pytest.approx([0.2 - 0.14, 0.35 - 0.2, 0.44 - 0.35], abs=2e-3)


@pytest.mark.parametrize("kind", ["covariate", "concept"])
def test_sides_that_are_swapped_turn_every_sign(kind: str) -> None:
    """F04: a comparison that had taken the reference for the current rows would call a worse model a better one."""
    plan, before, after = changed(kind, 3)
    there, back = attribute(plan, before, after), attribute(plan, after, before)
    assert there is not None and back is not None
    assert back.loss.total.value == pytest.approx(-there.loss.total.value)
    for part in ("covariate", "concept"):
        assert getattr(back.loss, part).value == pytest.approx(-getattr(there.loss, part).value, abs=0.02)
    assert there.now > there.before or kind == "covariate"


def test_the_interval_of_concept_holds_zero_where_only_inputs_moved() -> None:
    """F04: of 60 samples at most 8 miss it; of a true 95 % interval more would in one case of a hundred."""
    missed = sum(found("covariate", seed).loss.concept.sure for seed in range(60))
    assert missed <= 8


def test_inputs_that_do_not_overlap_leave_it_undecided() -> None:
    """F04"""
    plan, before, after = changed("nothing", 5)
    after.codes[:, 0] = plan.bins[0].size - 1
    before = before.take(before.codes[:, 0] < plan.bins[0].size // 2)
    answer = attribute(plan, before, after)
    assert answer is not None
    assert not answer.decided and answer.overlap < 0.1


def test_too_few_rows_say_nothing() -> None:
    """F04"""
    plan, before, after = changed("concept", 5)
    assert attribute(plan, before, after.take(slice(0, ROWS_MIN - 1))) is None
    after.loss[:-50] = np.nan
    assert attribute(plan, before, after) is None


def test_a_feature_that_is_left_out_carries_nothing() -> None:
    """F04"""
    answer = attribute(*changed("covariate", 2), skip=[0])
    assert answer is not None
    assert answer.features[0].share == 0 and answer.features[0].loss == 0 and answer.features[0].concept == 0
    assert answer.misfit["concept"].excess < FALLS


def test_one_newton_step_leaves_a_block_out_as_a_new_fit_would() -> None:
    draw = np.random.default_rng(4)
    columns = domain.standardised(draw.normal(size=(900, 4)))
    current = draw.random(900) < domain.sigmoid(columns @ np.array([0.8, -0.4, 0.2, 0.0]))
    block = np.arange(900) * 10 // 900
    whole = domain.fit(columns, current)
    by_step = domain.without_blocks(whole, columns, current, block)
    for k in (0, 4, 9):
        rest = block != k
        anew = domain.fit(columns[rest], current[rest])
        assert by_step[k] == pytest.approx(anew.coefficients, abs=0.002)
        assert np.abs(anew.coefficients - whole.coefficients).max() > 0.012


def test_rows_that_are_wholly_separate_end_the_fit() -> None:
    column = domain.standardised(np.repeat([0.0, 1.0], 500)[:, None])
    found_fit = domain.fit(column, np.arange(1_000) >= 500)
    assert np.isfinite(found_fit.logit).all() and found_fit.gain > 600


def test_a_change_of_correlation_alone_is_a_change_of_the_inputs() -> None:
    """F01: neither feature moves on its own; the product of both tells the two times apart."""
    draw = np.random.default_rng(6)
    a, b = draw.normal(size=(2, 3_000))
    b[2_000:] = 0.7 * a[2_000:] + 0.51**0.5 * b[2_000:]
    bins = Bins(edges=tuple(np.linspace(-2, 2, 31)))
    codes = np.searchsorted(np.asarray(bins.edges), np.column_stack([a, b])).astype(np.int16)
    made = design(["numeric", "numeric"], [bins, bins], codes, 2_000)
    assert made.product.sum() == 1 and made.owners[made.product].tolist() == [[0.5, 0.5]]
    fit = domain.fit(made.columns, np.arange(3_000) >= 2_000)
    parts = joint.column_distance(fit.coefficients[:-1], made.columns, 2_000)
    assert made.product[np.argmax(parts)]
    assert movement([bins, bins], codes, 2_000)[1].max() < 2


def test_wide_rows_are_compared_by_what_moved_most() -> None:
    draw = np.random.default_rng(8)
    codes = draw.integers(0, 8, size=(1_500, 60)).astype(np.int16)
    codes[1_000:, 57] = np.minimum(codes[1_000:, 57] + 2, 7)
    bins = [Bins(edges=tuple(np.arange(7.0)))] * 60
    made = design(["numeric"] * 60, bins, codes, 1_000)
    used = made.owners.sum(0) > 0
    assert used.sum() == FEATURES_MAX and used[57]


def test_several_classes_and_numbers_are_labels_too() -> None:
    """F04"""
    plan, before, after = changed("covariate", 4)
    draw = np.random.default_rng(1)
    for label, bins in (
        (Stream("label", "categorical"), Bins(categories=("x", "y", "z"))),
        (Stream("label", "numeric"), Bins(edges=tuple(np.arange(15.0)))),
    ):
        sides = [
            replace(side, label=draw.integers(0, bins.size, len(side)).astype(np.int16)) for side in (before, after)
        ]
        answer = attribute(plan._replace(label=label, label_bins=bins), *sides)
        assert answer is not None
        assert answer.misfit["covariate"].excess < STANDS and answer.misfit["concept"].excess > FALLS


@pytest.mark.parametrize("kind", ["covariate", "concept", "label"])
def test_a_change_in_one_place_is_found_there_and_pure_inside(kind: str) -> None:
    """F10, F19"""
    answer = explain(*changed(kind, 1, n=4_000, m=3_000, place="south"))
    assert answer is not None and answer.place is not None
    assert answer.place.name == "place=south" == answer.slices[0].name
    assert answer.place.share > 0.7
    assert answer.purest.misfit[kind].excess < STANDS


def test_a_change_everywhere_has_no_place() -> None:
    """F10"""
    for kind in ("covariate", "concept", "label", "nothing"):
        answer = explain(*changed(kind, 2))
        assert answer is not None and answer.place is None and answer.purest is answer.whole


def test_a_slice_that_alarmed_is_looked_into_even_where_it_is_not_sure() -> None:
    """F10"""
    answer = explain(*changed("nothing", 2), alarmed="place=north")
    assert answer is not None and answer.place is not None and answer.inside is not None
    assert answer.place.name == "place=north" and answer.inside.rows[0] < answer.whole.rows[0]


def test_labels_that_come_later_are_seen_by_their_delay() -> None:
    """F14"""
    plan, before, after = changed("nothing", 3)
    draw = np.random.default_rng(2)
    before = replace(before, delay_s=draw.exponential(60, len(before)).astype(np.float32))
    same = replace(after, delay_s=draw.exponential(60, len(after)).astype(np.float32))
    late = replace(same, delay_s=np.where(same.label == 1, 3 * same.delay_s, same.delay_s))
    usual, moved = explain(plan, before, same), explain(plan, before, late)
    assert usual is not None and moved is not None
    assert max(usual.delays) < 0.05
    assert moved.delays.of_label > 0.25 > moved.delays.psi


def rows_of(n: int, start: int = 0) -> Labelled:
    number = np.arange(start, start + n)
    return Labelled(
        number.astype(np.float64), np.column_stack([number % 7, number % 3 - 1]).astype(np.int16),
        (number % 2)[:, None].astype(np.int16), (number % 5).astype(np.int16), (number / 8).astype(np.float32),
        np.zeros(n, np.float32),
    )  # fmt: skip


@settings(max_examples=40)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.integers(0, 5))
def test_what_is_kept_does_not_depend_on_how_rows_were_cut(cuts: list[int], seed: int) -> None:
    one, many = (Sample(2, 1, seed, "m", reservoir_rows=20, ring_rows=30) for _ in range(2))
    one.add(rows_of(sum(cuts)))
    start = 0
    for cut in cuts:
        many.add(rows_of(cut, start))
        start += cut
    assert one.snapshot() == many.snapshot()
    assert len(one) == min(sum(cuts), 50)


def test_a_sample_goes_on_from_its_snapshot_as_if_nothing_had_happened() -> None:
    whole, cut = (Sample(2, 1, 3, "m", reservoir_rows=50, ring_rows=40) for _ in range(2))
    whole.add(rows_of(300))
    cut.add(rows_of(170))
    again = Sample(2, 1, 99, "other")
    again.restore(cut.snapshot())
    again.add(rows_of(130, 170))
    assert again.snapshot() == whole.snapshot()


def test_the_reservoir_is_a_uniform_sample_of_the_past() -> None:
    """Mean and spread of the kept numbers are those of a draw without replacement from all that left the ring."""
    means, kept = [], np.zeros(900)
    for seed in range(80):
        sample = Sample(2, 1, seed, reservoir_rows=60, ring_rows=100)
        sample.add(rows_of(1_000))
        numbers = sample.state.reservoir.number
        means.append(numbers.mean())
        kept[numbers] += 1
        assert sample.state.ring.number.tolist() == list(range(900, 1_000))
    error = 900 / 12**0.5 / 60**0.5
    assert abs(np.mean(means) - 449.5) < 4 * error / 80**0.5
    assert 0.7 * error < np.std(means) < 1.3 * error
    assert 4 * 0.7 < kept.var() < 6 * 1.3


def test_sides_leave_out_what_may_belong_to_either() -> None:
    sample = Sample(2, 1, 1, reservoir_rows=100, ring_rows=200)
    sample.add(rows_of(250))
    before, after = sample.sides(140.0, 160.0)
    assert before.time_s.tolist() == list(range(140)) and after.time_s.tolist() == list(range(160, 250))
    assert after.loss.dtype == np.float32 and after.codes.dtype == np.int16


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.integers(1, 6))
def test_earlier_rows_are_thinned_to_the_proportions_of_the_later_ones(seed: int, cells: int) -> None:
    """A cell's share differs by less than what rounding one row a cell makes; cells that are not there now are gone."""
    draw = np.random.default_rng(seed)
    before, after = draw.integers(0, 6, 3_000), draw.integers(0, cells, 400)
    kept = in_proportion(rows_of(3_000), before, after)
    cell = before[kept.time_s.astype(int)]
    assert len(kept) >= 200 and (np.diff(kept.time_s) > 0).all()
    shares = [np.bincount(side, minlength=6) / len(side) for side in (cell, after)]
    assert np.abs(shares[0] - shares[1]).max() < 6 / len(kept)


def test_earlier_rows_stay_where_too_few_are_of_the_same_time() -> None:
    before = np.zeros(1_000, np.int64)
    before[:50] = 1
    assert len(in_proportion(rows_of(1_000), before, np.ones(300, np.int64))) == 1_000


def test_an_empty_sample_has_empty_sides() -> None:
    before, after = Sample(2, 1, 1).sides(1.0, 2.0)
    assert len(before) == len(after) == 0 and before.codes.shape == (0, 2)


def test_a_layout_without_features_still_tells_label_from_loss() -> None:
    """F04: nothing but a label share that has moved."""
    plan = Layout((), (), LABEL, LABEL_BINS)
    rows = empty(0, 0)
    sides = []
    for share in (0.3, 0.6):
        label = (np.arange(500) % 10 < 10 * share).astype(np.int16)
        codes = np.zeros((500, 0), np.int16)
        sides.append(replace(
            rows, time_s=np.arange(500.0), codes=codes, slices=codes, label=label, loss=label.astype(np.float32),
            delay_s=np.zeros(500, np.float32),
        ))  # fmt: skip
    answer = attribute(plan, *sides)
    assert answer is not None
    assert answer.misfit["label"].excess < STANDS < FALLS < answer.misfit["covariate"].excess
