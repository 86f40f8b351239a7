"""What is known of a stream before and after a moment is what came of it, whatever has become normal (F20)."""

from __future__ import annotations

import numpy as np
import pytest

from detectors.contract import Bins, Rows, Stream
from stream.windows.cells import Cells
from stream.windows.evidence import Group, GroupState
from stream.windows.past import BLOCK_ROWS, MERGED, NEWEST, Past

STREAMS = [Stream("feature/a", "numeric"), Stream("feature/b", "numeric")]
BINS = Bins(edges=[0.0])
ROW_S = 10.0
BLOCKS = 3 * NEWEST


@pytest.fixture
def group() -> Group:
    """After rows whose first stream moves from below 0 to above it in the middle."""
    group = Group(GroupState(STREAMS, [BINS, BINS], False, Cells({}), Past(), Cells({}), 0.0), [])
    feed(group, 0, BLOCKS)
    return group


def feed(group: Group, first: int, blocks: int) -> None:
    for block in range(first, first + blocks):
        values = np.full((BLOCK_ROWS, 2), -1.0 if block < BLOCKS // 2 else 1.0)
        at = (block * BLOCK_ROWS + np.arange(BLOCK_ROWS)) * ROW_S
        group.update(group.count(Rows(at, (values > 0).astype(np.int64), values)))


def moment(block: int) -> float:
    return block * BLOCK_ROWS * ROW_S


@pytest.mark.parametrize("more", (0, 1, 2 * MERGED, 2 * NEWEST))
@pytest.mark.parametrize("since", (0, BLOCKS // 2, BLOCKS - 1, BLOCKS))
def test_a_stream_with_a_new_normal_has_no_rows_before_it(group: Group, since: int, more: int) -> None:
    """Once an alarm dated its change to before that, and -486 rows of the stream lay before it."""
    kept = group.state.past.since(moment(since)).total().counts.copy()
    other = group.state.total.total().counts[1].copy()
    group.rebase(0, moment(since))
    assert (group.state.total.total().counts[0] == kept[0]).all()
    assert (group.state.total.total().counts[1] == other).all(), "it is as it was"
    feed(group, BLOCKS, more)
    whole = group.state.total.total().counts
    assert whole[0].sum() == kept[0].sum() + more * BLOCK_ROWS
    for block in range(0, BLOCKS + more, 5):
        found = group.around(moment(block))
        assert found is not None
        before, after = found
        assert (before.counts >= 0).all() and (before.counts + after.counts == whole).all()
        assert before.total[0] == pytest.approx(before.counts[0, 2] - before.counts[0, 1])
