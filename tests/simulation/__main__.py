"""As many seeds as asked for, or as a time gives: `python -m tests.simulation --seconds 3600 --first 1000`. Findings
are printed with their seeds; the exit code is 1 if there are any."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter

from tests.simulation.world import simulate

TOLD_EVERY_S = 60.0
"""Seconds between two lines of how far it has come, on stderr."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--first", type=int, default=200, help="the first seed; the tests have those before")
    parser.add_argument(
        "--runs", type=int, default=sys.maxsize, help="at most so many, where the time is not up before"
    )
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    met: Counter[str] = Counter()
    seed, found, end, start = options.first, 0, time.monotonic() + options.seconds, time.process_time()
    told = time.monotonic()
    while (now := time.monotonic()) < end and seed - options.first < options.runs:
        world = simulate(seed)
        met.update(world.broker.happened)
        if world.findings:
            found += 1
            print(f"seed {seed}: {len(world.findings)} findings, the first: {world.findings[0]}", flush=True)
        seed += 1
        if now - told >= TOLD_EVERY_S:
            told = now
            print(f"{seed - options.first} runs, {found} with findings", file=sys.stderr, flush=True)
    runs = seed - options.first
    each = (time.process_time() - start) / max(runs, 1)
    print(f"{runs} runs from seed {options.first} on, {found} with findings, {each:.2f} s of CPU each")
    print(", ".join(f"{what}: {n}" for what, n in met.most_common()))
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
