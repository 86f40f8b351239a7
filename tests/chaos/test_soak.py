"""How a soak tells what grows from what its states take."""

from __future__ import annotations

from typing import Final

import pytest

from tests.chaos.soak import MB, Sample, growth

WEIGHT: Final = 4.0
HOUR_S: Final = 3_600.0


def sample(at: float, process: int = 1, leak: float = 0.0) -> Sample:
    """Of a worker whose states grow by 2 MB an hour as they are written, and which leaks so many MB an hour."""
    hours = at / HOUR_S
    states = (3.0 + 2.0 * hours) * MB
    return Sample(process, at, int(200.0 * MB + WEIGHT * states + leak * hours * MB), int(states))


@pytest.mark.parametrize("leak", (0.0, 5.0))
def test_what_states_take_in_memory_is_no_growth_and_the_rest_is(leak: float) -> None:
    found = growth([sample(at, leak=leak) for at in range(0, 3_601, 10)], 600.0, WEIGHT)
    assert found["mb_per_hour"] == pytest.approx(leak, abs=0.01)
    assert found["as_written"][0] == pytest.approx(leak + 2.0 * (WEIGHT - 1.0), abs=0.01)
    assert found["minutes"] == 50.0


def test_a_process_that_lived_shorter_does_not_count() -> None:
    longer = [sample(at) for at in range(0, 1_800, 10)]
    shorter = [sample(at, process=2, leak=100.0) for at in range(1_800, 2_400, 10)]
    assert growth(longer + shorter, 0.0, WEIGHT)["mb_per_hour"] == pytest.approx(0.0, abs=0.01)
