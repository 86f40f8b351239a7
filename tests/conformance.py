"""One suite for everything that holds state: stages, detectors, learners, buffers.

A `Scenario` says how to make a part, how to feed it and with what. `check` then demands: the same again, a snapshot in
mid-stream changes nothing, cutting the input differently changes nothing, another PYTHONHASHSEED changes nothing, the
state stays bounded, bad input is survived wherever it comes, looking at figures changes nothing.
`tests/test_conformance.py` plants a violation of each and sees it found.

Scenarios are module-level functions, so that a fresh process can build them: `check("tests.test_join:scenario")`.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from stream import codec
from stream.contract import Batch, Chunk, Record


@dataclass
class Scenario:
    """`make()` gives a fresh part; `feed(part, item)` gives its outputs as a list; `items` is the input.

    `recut(items, size)` cuts the same input into items of about `size` (None: the part takes one thing at a time);
    `bad` are items that must neither raise nor spoil what follows; `state_bytes_max` bounds the snapshot at any time.
    """

    make: Callable[[], Any]
    feed: Callable[[Any, Any], list[Any]]
    items: Sequence[Any]
    state_bytes_max: int
    recut: Callable[[Sequence[Any], int], Sequence[Any]] | None = None
    bad: Sequence[Any] = field(default_factory=list)
    digest: Callable[[Any], str] | None = None
    """Identity of the state by value, where snapshots of equal states may differ in bytes (pickles)."""


class ConformanceError(AssertionError):
    """Which demand was not met."""


def check(name: str) -> None:
    """Run every check on the scenario `module:function`."""
    scenario = load(name)
    whole = run(scenario, scenario.items)
    demand(len(whole[0]) > 0, "the scenario has outputs (a check of nothing proves nothing)")
    demand(run(scenario, scenario.items) == whole, "the same input gives the same outputs and state")
    check_round_trips(scenario, whole)
    if scenario.recut is not None:
        for size in (1, 7, 64):
            outputs, state = run(scenario, scenario.recut(scenario.items, size))
            demand(outputs == whole[0], f"input cut into pieces of {size} gives the same outputs")
            demand(state == whole[1], f"input cut into pieces of {size} gives the same state")
    check_bad_input(scenario, whole)
    for seed in ("0", "1", "4711"):
        demand(run_elsewhere(name, seed) == fingerprint(whole), f"PYTHONHASHSEED={seed} changes nothing")


def load(name: str) -> Scenario:
    module, function = name.split(":")
    scenario = getattr(importlib.import_module(module), function)()
    assert isinstance(scenario, Scenario)
    return scenario


def run(scenario: Scenario, items: Sequence[Any], part: Any = None) -> tuple[list[bytes], str]:
    """Feed all items; outputs as canonical bytes, and the identity of the final state."""
    part = scenario.make() if part is None else part
    outputs = []
    for item in items:
        outputs += [plain(output) for output in scenario.feed(part, item)]
        size = len(part.snapshot()) if scenario.digest is None else 0
        demand(size <= scenario.state_bytes_max, f"the state stays under {scenario.state_bytes_max} bytes, is {size}")
    demand(len(part.snapshot()) <= scenario.state_bytes_max, "the state stays bounded")
    check_figures(scenario, part)
    return outputs, identity(scenario, part)


def check_round_trips(scenario: Scenario, whole: tuple[list[bytes], str]) -> None:
    count = len(scenario.items)
    for cut in sorted({0, 1, count // 3, count // 2, count - 1}):
        first = scenario.make()
        outputs = [plain(o) for item in scenario.items[:cut] for o in scenario.feed(first, item)]
        state = first.snapshot()
        demand(isinstance(state, bytes), "a snapshot is bytes")
        demand(identity(scenario, first) == identity(scenario, restored(scenario, state)), f"state survives at {cut}")
        rest, end = run(scenario, scenario.items[cut:], restored(scenario, state))
        demand(outputs + rest == whole[0], f"a snapshot after {cut} of {count} items changes no output")
        demand(end == whole[1], f"a snapshot after {cut} of {count} items changes no state")


def check_bad_input(scenario: Scenario, whole: tuple[list[bytes], str]) -> None:
    """Fed before the good input, where there is nothing to spoil yet, and in the middle of it, where there is."""
    if not scenario.bad:
        return
    half = len(scenario.items) // 2
    for before, where in ((0, "before"), (half, "among")):
        part = scenario.make()
        outputs = [plain(o) for item in scenario.items[:before] for o in scenario.feed(part, item)]
        for bad in scenario.bad:
            try:
                scenario.feed(part, bad)
            except Exception as error:
                raise ConformanceError(f"bad input raised {error!r}: {bad!r}") from error
        outputs += run(scenario, scenario.items[before:], part)[0]
        good = [output for output in outputs if output in whole[0]]
        demand(good == whole[0], f"bad input {where} the good changes no good output")


def check_figures(scenario: Scenario, part: Any) -> None:
    """Stages show figures to people and to Prometheus; looking must not touch."""
    if not hasattr(part, "figures"):
        return
    before = identity(scenario, part)
    try:
        msgspec.json.encode(part.figures())
    except (TypeError, ValueError) as error:
        raise ConformanceError(f"not so: figures are plain JSON values: {error}") from error
    demand(identity(scenario, part) == before, "looking at the figures changes no state")


def restored(scenario: Scenario, state: bytes) -> Any:
    part = scenario.make()
    part.restore(state)
    return part


def identity(scenario: Scenario, part: Any) -> str:
    return scenario.digest(part) if scenario.digest else codec.digest(part.snapshot())


def plain(output: Any) -> bytes:
    """Outputs by value: arrays and structs included."""
    return codec.pack(msgspec.to_builtins(output, enc_hook=codec._array_out))


def fingerprint(result: tuple[list[bytes], str]) -> str:
    return hashlib.sha256(b"".join(result[0])).hexdigest() + result[1]


def run_elsewhere(name: str, hash_seed: str) -> str:
    """The fingerprint of the scenario in a fresh process."""
    code = f"from tests import conformance as c; s = c.load({name!r}); print(c.fingerprint(c.run(s, s.items)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    demand(done.returncode == 0, f"the scenario runs in a fresh process: {done.stderr[-2000:]}")
    return done.stdout.strip().splitlines()[-1]


def demand(holds: bool, what: str) -> None:
    if not holds:
        raise ConformanceError(f"not so: {what}")


def feed_stage(stage: Any, batch: Batch) -> list[Any]:
    """`Scenario.feed` for stages."""
    return list(stage.process(batch))


def recut_batches(batches: Sequence[Batch], size: int) -> list[Batch]:
    """The same records in the same order, in batches of at most `size` records; ticks stay where they are."""
    out: list[Batch] = []
    for batch in batches:
        if not batch.chunks:
            out.append(batch)
        for chunk in batch.chunks:
            start = chunk.start
            for i in range(0, max(len(chunk.records), 1), size):
                records: list[Record] = chunk.records[i : i + size]
                last = i + size >= len(chunk.records)
                end = chunk.end if last else records[-1].offset + 1
                piece = Chunk(chunk.input, chunk.partition, start, end, records, chunk.at_end and last)
                out.append(Batch(batch.clock, (piece,)))
                start = end  # positions never have holes, offsets may
    return out
