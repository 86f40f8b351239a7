"""What a worker's process holds beyond what it uses is given back: shards that were released, cycles, freed memory."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from typing import Final

import msgspec
import pytest

from stream import config
from stream.config import Config
from stream.contract import SNAPSHOTS, STAGE_INPUTS, Batch, Chunk, Record
from stream.runtime import collector
from stream.runtime.embedded import Embedded
from stream.runtime.memory import ALLOCATOR, EVERY_S, Memory
from stream.runtime.shard import Shard
from stream.runtime.stages import Secrets, make_stage
from tests.chaos.weight import in_memory, own_resident_bytes
from tests.chaos.workload import MODELS, Stream

KEY = b"0123456789abcdef0123456789abcdef"
SECRETS = Secrets(KEY, "k")
EVENTS = 1_500

BLOCK = b"x" * 60_000
"""The C library cuts as much out of its heap."""

BLOCKS = 600
KEPT_EVERY = 20

PAST_DUE_S = 100 * EVERY_S


THREADS: Final = 4
ARENAS: Final = f"""
import ctypes, sys, threading
from stream.runtime.memory import Memory
if sys.argv[1:]:
    Memory()
together = threading.Barrier({THREADS})
def scrape():
    together.wait()
    blocks = [b"x" * 60_000 for _ in range(10)]
    together.wait()
threads = [threading.Thread(target=scrape) for _ in range({THREADS})]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
ctypes.CDLL(None).malloc_stats()
"""
"""In a process of its own, as what the C library has made stays; it tells of each arena on its standard error."""


OBJECTS: Final = 200_000
PAGES: Final = f"""
import sys
from stream.runtime import memory
if sys.argv[1:] == ["again"]:
    memory.start_again()
from tests.chaos.weight import own_resident_bytes
giving = memory.Memory()
giving.look(1, 0.0)
before = own_resident_bytes()
held = [b"x" * 64 + b"%d" % i for i in range({OBJECTS})][::500]
assert giving.look(2, 1.0)
print(own_resident_bytes() - before)
"""
"""What a process of its own has gained by objects of which it holds one in 500: in every MB, and in a page in eight."""


def gained(*arguments: str, **environment: str) -> int:
    order = [sys.executable, "-c", PAGES, *arguments]
    others = {name: value for name, value in os.environ.items() if name != ALLOCATOR[0]}
    return int(subprocess.run(order, capture_output=True, check=True, env=others | environment).stdout)


def arenas(with_memory: bool) -> int:
    """Of the C library, once threads have allocated at the same time."""
    order = [sys.executable, "-c", ARENAS, *(["Memory"] if with_memory else [])]
    return subprocess.run(order, capture_output=True, check=True, text=True).stderr.count("Arena ")


class Knot:
    """Refers to itself."""

    def __init__(self) -> None:
        self.own = self


@pytest.fixture
def memory() -> Iterator[Memory]:
    """Nothing but it collects; afterwards the collector is as it was."""
    thresholds = gc.get_threshold()
    with collector.paused():
        yield Memory()
    gc.unfreeze()
    gc.set_threshold(*thresholds)


@pytest.fixture(scope="module")
def models() -> Config:
    return config.parse(f"topics: {{prefix: m, partitions: 1}}\n{MODELS}")


@pytest.fixture(scope="module")
def states(models: Config) -> dict[str, bytes]:
    """Of every stage, after the first events of the chaos runs."""
    published: list[msgspec.Struct] = []
    embedded = Embedded(models, key=KEY, key_id="k", keep=(), taps={SNAPSHOTS: published.append})
    stream = Stream(1)
    while stream.number < EVENTS:
        for role, key, event, _ in stream.step():
            embedded.feed(role, 0, [Record(0, stream.at, (key or "").encode(), event)], stream.at)
    score = make_stage("score", models, 0, 1, SECRETS)
    told = [Record(i, stream.at, b"asked", one) for i, one in enumerate(published)]
    score.process(Batch(stream.at, (Chunk(SNAPSHOTS, 0, 0, len(told), told),)))
    return {one.name: one.stage.snapshot() for one in embedded.consumers} | {"score": score.snapshot()}


def test_the_states_are_of_learners_that_have_learned(states: dict[str, bytes]) -> None:
    assert {name for name, state in states.items() if len(state) > 5_000} == {"score", "join", "watch", "learn"}


@pytest.mark.parametrize("stage", ("score", "join", "watch", "learn"))
def test_of_a_released_shard_nothing_waits_for_the_collector(
    models: Config, states: dict[str, bytes], stage: str
) -> None:
    with collector.paused():
        machine = make_stage(stage, models, 0, 1, SECRETS)
        machine.restore(states[stage])
        shard = Shard(stage, 0, machine, {(role, 0): 0 for role in STAGE_INPUTS[stage]}, key=KEY)
        assert shard.accept(Batch(0.0)) is None
        assert shard.checkpoint(whole=True) is not None
        gone = weakref.ref(machine)
        del machine, shard
        assert gone() is None


def test_cycles_go_once_shards_have_moved_and_once_some_time_has_passed(memory: Memory) -> None:
    def goes(rebalances: int, now: float) -> bool:
        gone = weakref.ref(Knot())
        assert gone() is not None
        assert memory.look(rebalances, now) is (gone() is None)
        return gone() is None

    assert not goes(0, PAST_DUE_S), "there are no shards yet"
    assert goes(1, 0.0)
    assert gc.get_freeze_count()
    assert not goes(1, 1.0)
    assert goes(2, 2.0)
    assert not goes(2, 3.0)
    assert goes(2, 3.0 + PAST_DUE_S)


def test_freed_memory_goes_back_although_what_lies_between_is_still_held(memory: Memory) -> None:
    memory.look(1, 0.0)
    blocks = [BLOCK + b"%d" % i for i in range(BLOCKS)]
    held = blocks[::KEPT_EVERY]
    blocks.clear()
    before = own_resident_bytes()
    assert memory.look(2, 1.0)
    assert before - own_resident_bytes() > 0.8 * BLOCKS * len(BLOCK) and len(held) == BLOCKS // KEPT_EVERY


def test_threads_that_come_and_go_leave_no_memory_of_their_own() -> None:
    """A scrape has a thread, whose freed memory would stay with an arena of its own."""
    assert arenas(with_memory=False) > 1, "where nothing is set, each thread has one"
    assert arenas(with_memory=True) == 1


def test_a_worker_starts_again_where_one_object_would_hold_a_megabyte() -> None:
    peak = OBJECTS * sys.getsizeof(b"x" * 70)
    assert gained() > 0.9 * peak
    assert gained("again") < 0.2 * peak
    assert gained("again", PYTHONMALLOC="pymalloc") > 0.9 * peak, "a user's own choice stands"


def test_a_state_takes_more_in_memory_than_as_it_is_written(models: Config, states: dict[str, bytes]) -> None:
    """What is pending is objects: known to be 1.2 kB for 320 bytes."""
    held = in_memory(models, SECRETS, {f"{name}/0": state for name, state in states.items()})
    assert 1.0 < held / sum(map(len, states.values())) < 10.0
