"""An hour on a real Apache Kafka with a fault every minute: one worker is spared, and must not grow.

Others are killed, stopped and frozen, the broker is killed, workers come and go; the spared one takes over what they
leave, and gives it back. Its resident memory is measured all the time, less the states that it carries: what they take
in memory, which is several times what is told of them as they are written (`tests.chaos.weight`). In the end everything
is judged as in `tests.chaos`. Owns how memory grows; refuses to know how faults are done.
"""

from __future__ import annotations

import argparse
import logging
import random
import re
import signal
import statistics
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
from scipy.stats import theilslopes

from benchmarks.processes import machine
from stream.contract import STAGE_INPUTS
from stream.runtime.kafka import broker
from stream.runtime.kafka.broker import BrokerError
from tests.chaos.figures import line
from tests.chaos.outcome import SECRETS, document, outcome
from tests.chaos.plan import DARK_S_MAX, FROZEN_S_MAX, Fault, Kind
from tests.chaos.run import Chaos, staged
from tests.chaos.weight import in_memory, resident_bytes
from tests.kafka_support import Cluster, Worker

SAMPLE_S: Final = 2.0
MB: Final = 1e6

MINUTES_MAX: Final = 65.0
"""A shard makes some two checkpoints a second, and the journal keeps 8,192 (`RING`): after a longer run it is no longer
known what was taken together, and nothing could be compared."""

GROWTH_MB_MAX: Final = 1.0
"""An hour, beyond what the states explain."""

KINDS: Final[tuple[Kind, ...]] = ("kill", "zombie", "broker", "stop", "join")
"""In turn, in an order that is drawn anew each time round."""

WARM: Final = 0.2
"""The part of the time before memory is looked at: the buffers and windows of the stages fill, Python's arenas grow."""


class Sample(NamedTuple):
    """Of which process; `at`: seconds since the start; bytes that are resident, and that the whole states of all its
    shards take."""

    process: int
    at: float
    resident: int
    states: int


class Memory:
    """Samples the spared worker from a thread, until `stop`; its successor, should it give up for a broker's sake."""

    def __init__(self, chaos: Chaos) -> None:
        self.samples: list[Sample] = []
        self._chaos = chaos
        self._start = time.monotonic()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(SAMPLE_S):
            worker = self._chaos.spared
            if worker is None:
                continue
            states, resident = states_bytes(worker), resident_bytes(worker.process.pid)
            if states is not None and resident is not None:
                self.samples.append(Sample(worker.process.pid, time.monotonic() - self._start, resident, states))


def states_bytes(worker: Worker) -> int | None:
    """Of all shards, as the worker tells Prometheus; None while it carries none, or does not answer."""
    try:
        with urllib.request.urlopen(worker.metrics_url(), timeout=5) as answer:
            text = answer.read().decode()
    except (OSError, AssertionError):
        return None
    found = re.findall(r"^tidegate_state_bytes\{.*\} (\S+)$", text, re.MULTILINE)
    return int(sum(map(float, found))) if found else None


def whole_states(cluster: Cluster) -> dict[str, bytes]:
    """The newest of every shard, as a worker would begin with it."""
    shards = [(stage, p) for stage in STAGE_INPUTS for p in range(cluster.config.topics.partitions)]
    pasts = {f"{stage}/{p}": cluster.past(stage, p) for stage, p in shards}
    return {shard: past.whole.state for shard, past in pasts.items() if past is not None}


def growth(samples: list[Sample], warm_s: float, weight: float) -> dict[str, Any]:
    """Of the process that lived longest: the slope of what is resident beyond the states, in MB an hour, with a 95 %
    interval (Theil and Sen: robust against the times when it carries everything); and both at the start and the
    end. A byte of a state as it is written takes `weight` bytes; `as_written` is the slope where it is taken for
    one."""
    longest, _ = Counter(s.process for s in samples).most_common(1)[0]
    mine = [s for s in samples if s.process == longest]
    kept = [s for s in mine if s.at >= mine[0].at + warm_s]
    hours = [s.at / 3_600.0 for s in kept]
    own = [(s.resident - weight * s.states) / MB for s in kept]
    slope, _, low, high = theilslopes(own, hours)
    as_written = theilslopes([(s.resident - s.states) / MB for s in kept], hours)
    tenth = max(1, len(kept) // 10)
    states = [statistics.median(s.states / MB for s in part) for part in (kept[:tenth], kept[-tenth:])]
    return {
        "minutes": round((kept[-1].at - kept[0].at) / 60.0, 1),
        "samples": len(kept),
        "mb_per_hour": round(float(slope), 3),
        "low": round(float(low), 3),
        "high": round(float(high), 3),
        "as_written": [round(float(mb), 3) for mb in (as_written[0], *as_written[2:])],
        "in_memory": round(weight, 2),
        "first_mb": round(statistics.median(own[:tenth]), 2),
        "last_mb": round(statistics.median(own[-tenth:]), 2),
        "states_mb": [round(mb, 2) for mb in states],
        "resident_max_mb": round(max(s.resident for s in samples) / MB, 1),
    }


def faults(seed: int, every_s: float) -> Iterator[Fault]:
    """One after the other, for ever."""
    chance = random.Random(f"soak {seed}")
    lengths = {"zombie": FROZEN_S_MAX, "broker": DARK_S_MAX, "join": 5.0}
    while True:
        for kind in chance.sample(KINDS, len(KINDS)):
            yield Fault(kind, chance.random(), chance.uniform(0.0, lengths.get(kind, 0.0)), every_s)


def soak(chaos: Chaos, options: argparse.Namespace) -> dict[str, Any]:
    """The run; what is known of it."""
    chaos.spared = chaos.workers[0]
    chaos.begin()
    memory = Memory(chaos)
    start = time.monotonic()
    for n, fault in enumerate(faults(options.seed, options.every), 1):
        due = start + n * options.every
        if time.monotonic() >= start + 60.0 * options.minutes:
            break
        chaos.fault(fault._replace(pause_s=max(0.0, due - time.monotonic())))
        if memory.samples:
            now = memory.samples[-1]
            chaos.say(f"{fault.kind}; {now.resident / MB:.1f} MB resident, states of {now.states / MB:.1f} MB")
    memory.stop()
    seconds = time.monotonic() - start
    states = whole_states(chaos.cluster)
    chaos.finish()
    chaos.say("weighing the states")
    weight = in_memory(chaos.cluster.config, SECRETS, states) / sum(map(len, states.values()))
    chaos.say("comparing")
    made = document(chaos, outcome(chaos))
    lines = round(len(chaos.spared.said.splitlines()) * 3_600.0 / seconds)
    found = growth(memory.samples, WARM * seconds, weight)
    bar = {
        "name": "resident memory beyond states, growth an hour",
        "value": found["mb_per_hour"],
        "bound": GROWTH_MB_MAX,
        "unit": "MB",
        "holds": found["mb_per_hour"] < GROWTH_MB_MAX,
    }
    shown = [s._asdict() for s in memory.samples]
    return {
        "seconds": round(seconds, 1),
        "memory": found,
        "log_lines_an_hour": lines,
        "bars": [bar],
        "samples": shown,
    } | made


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    with staged(options.work / f"soak-{options.seed}", f"soak{options.seed}", options.seed, options.rate) as chaos:
        made = soak(chaos, options)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    whole = {"machine": machine(), "seed": options.seed, "runs": 1, "kafka": broker.KAFKA_VERSION} | made
    options.out.write_bytes(orjson.dumps(whole, option=orjson.OPT_INDENT_2))
    memory = made["memory"]
    print("\n".join(made["findings"]), end="\n" if made["findings"] else "")
    print(line(f"{made['seconds'] / 60:.0f} minutes", [made]))
    print(
        f"in {memory['minutes']} minutes one worker of {memory['first_mb']} MB beyond states of "
        f"{memory['states_mb'][0]} MB grew by {memory['mb_per_hour']} MB an hour ({memory['low']} to "
        f"{memory['high']}), to {memory['last_mb']} beyond {memory['states_mb'][1]}; bar {GROWTH_MB_MAX}; a byte of a "
        f"state takes {memory['in_memory']} in memory (taken for one: {memory['as_written'][0]} MB an hour); "
        f"it logged {made['log_lines_an_hour']} lines an hour"
    )
    return bool(made["findings"])


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0, help="of faults")
    parser.add_argument("--every", type=float, default=60.0, help="seconds from one fault to the next")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=100.0, help="events a second")
    parser.add_argument("--out", type=Path, default=Path("build/soak.json"), help="write the figures here, as JSON")
    parser.add_argument("--work", type=Path, default=Path("build/chaos"), help="for logs and the broker's data")
    options = parser.parse_args(arguments)
    if not 0 < options.minutes <= MINUTES_MAX:
        parser.error(
            f"--minutes {options.minutes:g}: more than 0, at most {MINUTES_MAX:g}; the journal goes no further"
        )
    return options


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        sys.exit(main())
    except BrokerError as error:
        sys.exit(str(error))
