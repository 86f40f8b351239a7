"""A large champion is copied seldom, and what is published between two copies is examined all the same (F34)."""

from __future__ import annotations

import pytest

from stream.contract import DECISIONS, SNAPSHOTS
from stream.events import ModelSnapshot
from stream.stages.learn import Learn
from tests.learning import KEY, configured, events, example, fed, numbers_only, stream

PUBLISH = 400


@pytest.mark.parametrize(
    ("labels", "spoilt_at", "decided", "words"),
    [
        (20, 560, "refuse", "refused before it was served"),
        (100, 810, "rollback", "worse than the last good one while it served"),
    ],
)
def test_a_bad_update_of_a_large_model_is_found_between_two_copies(
    labels: int, spoilt_at: int, decided: str, words: str
) -> None:
    """F34: 400 updates of the experts are published with a copy of 29 kB, the next is due 460 later, and 800 lie
    between. Spoilt behind the stage's back after its watch has passed (20 labels: 120 examples), it is not published
    at 800; spoilt just after that, it is watched again, and found long before the examination at 1,200."""
    text = f"      champion: experts\n      publish: {PUBLISH}\n      guard: {{probation_labels: {labels}}}"
    stage = Learn(configured(text), 0, 1, KEY)
    pairs = numbers_only(stream(3 * PUBLISH))
    asked = [example(i, x, y) for i, (x, y) in enumerate(pairs)]
    assert events(fed(stage, asked[:spoilt_at]), DECISIONS) == []
    champion = stage.served("m")["champion"].learner
    assert len(champion.snapshot()) // 64 > PUBLISH, "no copy is due at 800"
    for x, y in pairs[:800]:
        champion.learn(x, 1 - int(y), 20.0)
    out = fed(stage, asked[spoilt_at:1_100])
    (told,) = events(out, DECISIONS)
    assert (told.action, told.why["why"]) == (decided, words)
    first = next(one for one in events(out, SNAPSHOTS) if isinstance(one, ModelSnapshot) and one.learner == "champion")
    assert first.updates == told.after["updates"] == PUBLISH, "the good copy is served again"
