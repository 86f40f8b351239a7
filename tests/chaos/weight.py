"""What is resident of a process, and what whole states take in memory: they are smaller as they are written. An answer
that waits for its label is some 320 bytes there, and 1.2 kB as objects.

Owns the weighing, which is done in a process that does nothing else. Refuses to know whose states they are.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final
from unittest.mock import patch

from stream.config import Config
from stream.contract import Stage
from stream.runtime.memory import ALLOCATOR, Memory
from stream.runtime.stages import Secrets, make_stage

COPIES: Final = 8
"""Held at once, beyond the first, which also pays for what a process makes once."""


def resident_bytes(process: int) -> int | None:
    """None once it has ended."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return None


def own_resident_bytes() -> int:
    """Of this process."""
    found = resident_bytes(os.getpid())
    assert found is not None
    return found


def in_memory(config: Config, secrets: Secrets, states: Mapping[str, bytes]) -> float:
    """Bytes that these shards' states ("join/0") take together, beyond what shards take that hold nothing. In a process
    that allocates as workers do."""
    spawn = multiprocessing.get_context("spawn")
    with patch.dict(os.environ, [ALLOCATOR]), ProcessPoolExecutor(1, spawn) as process:
        return process.submit(_weigh, config, secrets, dict(states)).result()


def _weigh(config: Config, secrets: Secrets, states: dict[str, bytes]) -> float:
    memory, held = Memory(), list[Stage]()

    def resident() -> int:
        memory.look(1 + len(held), 0.0)  # as after a rebalance: what is free is given back
        return own_resident_bytes()

    def taken(copies: int, is_full: bool) -> float:
        """Bytes that one copy of all shards takes."""
        before = resident()
        for _ in range(copies):
            for shard, state in states.items():
                name, _, partition = shard.partition("/")
                stage = make_stage(name, config, int(partition), config.topics.partitions, secrets)
                if is_full:
                    stage.restore(state)
                held.append(stage)
        return (resident() - before) / copies

    taken(1, is_full=True)
    empty = taken(COPIES, is_full=False)
    return taken(COPIES, is_full=True) - empty
