"""Workers in a simulated world, where everything fails that can: nothing is lost, doubled or decided otherwise (F50).

`pytest tests/simulation --seed N` repeats a run, `make soak-simulation SECONDS=3600` tries as many as an hour gives.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from stream import codec
from tests.simulation.faults import FAULTS
from tests.simulation.planted import PLANTS, Plant, planted
from tests.simulation.world import World, simulate

SEEDS: Final = 200
FOUND: Final = (260, 817, 821, 850, 884, 1145, 1252, 4582, 4802, 7555, 7882, 11124, 14554, 18227, 605329)
"""Seeds beyond them that once found something, of the product (821, 884, 1145: a checkpoint that went on being written
when its shard had been given up; 4802: an input deleted under a worker that reads it, which asked for ever; 7555: a
restore that went on when the next had begun; 11124: all readers of snapshots fenced while their consumer started;
14554: a restore that fenced the next owner; 18227: the name of a learner written where it is its default; 605329: one
that froze while it fenced, and wrote a checkpoint twice) or of the simulation (260, 817, 850, 1252: damage that two
workers read before the first was seen to have refused; 4582: a lone worker that froze while its group met; 7882: a
zombie that asks for what is deleted)."""

ROOT: Final = Path(__file__).parent.parent.parent
MET: Final[Counter[str]] = Counter()
"""What has happened in the runs of this session."""

MUST_HAPPEN: Final = (
    *FAULTS, "killed", "frozen", "zombie fenced", "open transaction aborted by its successor", "a batch refused",
    "a batch unacknowledged", "a commit refused", "a commit unacknowledged", "transactions aborted", "state flipped",
    "state torn", "state stale", "state unsigned", "refused", "came back beside the damage", "deleted what is needed",
    "deleted what nobody needs", "held", "alerts", "decisions", "snapshots", "windows", "idle", "tight",
)  # fmt: skip


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        only = metafunc.config.getoption("--seed", default=None)
        metafunc.parametrize("seed", [*range(SEEDS), *FOUND] if only is None else [only])


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Workers say a lot when they are killed."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_whatever_happens_nothing_is_lost_doubled_or_decided_otherwise(seed: int) -> None:
    """F23, F24, F49, F50."""
    world = simulate(seed)
    MET.update(world.broker.happened)
    assert not world.findings, f"seed {seed}: " + "\n".join(world.findings)


def test_everything_that_can_go_wrong_went_wrong() -> None:
    """A check of nothing proves nothing. Needs the runs before it."""
    if MET["transactions committed"] < 10 * SEEDS:
        pytest.skip("only some seeds were run")
    assert [what for what in MUST_HAPPEN if not MET[what]] == []


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found(plant: Plant) -> None:
    assert any(simulate(seed, within=planted(plant)).findings for seed in range(PLANTS[plant]))


def test_a_seed_is_the_same_run_in_every_process() -> None:
    """Else a failure could not be repeated."""
    here = fingerprint(simulate(7))
    assert fingerprint(simulate(7)) == here
    code = "from tests.simulation import test_simulation as t; print(t.fingerprint(t.simulate(7)))"
    for hash_seed in ("1", "4711"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        assert done.stdout.split()[-1] == here


def fingerprint(world: World) -> str:
    """Of everything in every log, to the record."""
    parts = [
        codec.pack([topic, p, s.offset, s.timestamp, s.key, s.value, s.visible])
        for (topic, p), partition in sorted(world.broker.partitions.items())
        for s in partition.log
    ]
    return codec.digest(*parts)
