"""Workers on a real Apache Kafka, killed, frozen, stopped and joined at random, and the broker killed too, against the
same logs undisturbed (F49, F50).

The faults come from the seed; with several seeds, the runs share them. Each run ends with a line of figures and, where
anything came out otherwise than undisturbed, with findings; then the exit code is 1, and the logs of all workers and of
the broker stay in --work.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import orjson

from benchmarks.processes import machine
from stream.runtime.kafka import broker
from stream.runtime.kafka.broker import BrokerError
from tests.chaos.figures import line
from tests.chaos.outcome import document, outcome
from tests.chaos.plan import Counts, plan
from tests.chaos.run import staged


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # what clients say while the broker is away is no news
    counts = Counts(options.kills, options.zombies, options.brokers, options.stops, options.joins)
    runs = []
    for n, seed in enumerate(options.seed):
        own = counts.share(n, len(options.seed))
        size = {name: getattr(options, name)[n % len(getattr(options, name))] for name in ("workers", "partitions")}
        runs.append({"seed": seed, **size, **_run(seed, own, size, options)})
        print("\n".join(runs[-1]["findings"]), end="\n" if runs[-1]["findings"] else "")
        print(line(f"seed {seed}, {size['workers']} workers, {size['partitions']} partitions", [runs[-1]]), flush=True)
    if len(runs) > 1:
        print(line(f"{len(runs)} seeds", runs))
    if options.out:
        document = {"chaos": counts._asdict(), "kafka": broker.KAFKA_VERSION, "machine": machine(), "runs": runs}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    return any(run["findings"] for run in runs)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20, help="kill -9; one in five during another's recovery")
    parser.add_argument("--zombies", type=int, default=5, help="workers frozen until others have taken over")
    parser.add_argument("--brokers", type=int, default=3, help="kill -9 of the broker, and its start")
    parser.add_argument("--stops", type=int, default=4, help="workers ended in order and replaced")
    parser.add_argument("--joins", type=int, default=4, help="one more worker for a while, then one less")
    parser.add_argument("--seed", type=int, nargs="+", default=[1], help="one run each; they share the faults")
    parser.add_argument("--workers", type=int, nargs="+", default=[2], help="of each run in turn")
    parser.add_argument("--partitions", type=int, nargs="+", default=[4], help="of each run in turn")
    parser.add_argument("--rate", type=float, default=100.0, help="events a second")
    parser.add_argument("--between", type=float, default=60.0, help="seconds, at most, between two faults")
    parser.add_argument("--out", type=Path, help="write the figures here, as JSON")
    parser.add_argument("--work", type=Path, default=Path("build/chaos"), help="for logs and the broker's data")
    return parser.parse_args(arguments)


def _run(seed: int, counts: Counts, size: dict[str, int], options: argparse.Namespace) -> dict[str, Any]:
    """One seed on a broker of its own."""
    directory = options.work / f"seed-{seed}"
    start = time.monotonic()
    name = f"chaos{seed}"
    with staged(directory, name, seed, options.rate, **size, brokers_die=counts.brokers > 0) as chaos:
        chaos.run(plan(seed, counts, options.between))
        chaos.say("comparing")
        made = document(chaos, outcome(chaos))
    if not made["findings"]:
        shutil.rmtree(directory / "broker", ignore_errors=True)
    return {"seconds": round(time.monotonic() - start, 1), **made}


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that workers and broker are ended too
    try:
        sys.exit(main())
    except BrokerError as error:
        sys.exit(str(error))
