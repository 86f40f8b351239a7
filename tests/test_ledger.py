"""The ledger's equations (F24)."""

from __future__ import annotations

import pytest

from stream.errors import BugError
from stream.ledger import Ledger


def ledger() -> Ledger:
    made = Ledger(heartbeats=3, rejected={"null": 1})
    made.predictions.received, made.predictions.joined, made.predictions.rejected = 3, 2, 1
    made.labels.received, made.labels.joined, made.labels.waiting = 5, 2, 3
    made.shadows.received, made.shadows.attached = 1, 1
    return made


def test_a_balanced_ledger_passes_and_says_so() -> None:
    """F24."""
    ledger().check()
    assert ledger().figures()["balanced"] is True
    assert ledger().figures()["predictions"]["in"] == 3


@pytest.mark.parametrize(
    ("log", "field", "words"),
    [
        ("predictions", "expired", "predictions: 3 came in, 4 are accounted for"),
        ("labels", "received", "labels: 6 came in, 5 are accounted for"),
        ("shadows", "waiting", "shadows: 1 came in, 2 are accounted for"),
        ("predictions", "rejected", "rejected: 2 records, 1 by code"),
    ],
)
def test_a_record_too_many_or_too_few_is_found_with_both_sides(log: str, field: str, words: str) -> None:
    """F24."""
    broken = ledger()
    counts = getattr(broken, log)
    setattr(counts, field, getattr(counts, field) + 1)
    assert not broken.balanced
    with pytest.raises(BugError, match=words):
        broken.check()


def test_shards_add_up() -> None:
    """F24."""
    first, second = ledger(), ledger()
    second.reject("huge")
    second.labels.received += 1
    second.labels.rejected += 1
    total = first.merge(second)
    total.check()
    assert total.labels.received == 11 and total.heartbeats == 6 and total.rejected == {"null": 2, "huge": 1}
    assert first.labels.received == 5, "merging changes neither"
