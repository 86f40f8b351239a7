"""How many events a second, beside the least that reading them can cost (F15, F45, F49).

One load (`benchmarks.load`), monitoring only: predictions and labels are given, joined, watched by the default
detectors. Three ways in turn, three times, each in a process of its own:

* `bare`: aiokafka's getmany and orjson.loads over the same topics, doing nothing with what they read;
* `replay`: `tidegate replay` of the load as a CSV file;
* `kafka`: `tidegate run` on the same broker, with journal and transactions.

`seconds` counts from when a process is ready to when the last record is done: for `kafka` that means joined, watched
and committed. `make bench-throughput` runs it; `--events 100000` is a short form. Not a test: nothing depends on time.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import orjson
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks import load
from benchmarks.processes import BenchmarkError, Measured, machine
from stream import config
from stream.runtime.kafka import broker, topics
from stream.runtime.kafka.clients import Clients

WAYS = ("bare", "replay", "kafka")
PARTITIONS = 4
DEADLINE_S = 1_800.0
SETTLED_S = 2.5
"""A worker publishes its figures once a second, so `seconds` of kafka may be one too long, and two looks in a row tell
more than one."""

SEED = 7
TIDEGATE = str(Path(sys.executable).with_name("tidegate"))

BARS = (("replay", "bare", 0.25), ("kafka", "bare", 0.5))
"""What is asked for: of two ways, the first one's events a second are at least this share of the second's."""


class Bench:
    """One load on one broker, and the ways to run it."""

    def __init__(self, work: Path, bootstrap: str, events: int) -> None:
        self.work = work
        self.bootstrap = bootstrap
        self.events = events
        self.file = work / "load.csv"
        self.topics = ("bench.predictions", "bench.labels")
        self.settings = work / "bench.yaml"
        self.settings.write_text(load.CONFIG)

    def prepare(self) -> None:
        """Write the file and fill the topics: once, for every run reads the same."""
        self._create(self._kafka_settings("bench-load"))
        # In a process of its own: a child's largest memory begins at that of the process which started it.
        numbers = map(str, (self.events, SEED, PARTITIONS))
        command = [sys.executable, "-m", "benchmarks.load", self.bootstrap, str(self.file), *self.topics, *numbers]
        Measured(command, self.work / "load.log").finish()

    def run(self, way: str, turn: int) -> dict[str, Any]:
        """One measured run; `seconds` and `cpu_s` are of the work, `wall_s` and `process_cpu_s` of the process."""
        log = self.work / f"{way}-{turn}.log"
        measured: dict[str, Any] = getattr(self, f"_{way}")(log, turn)
        rates = {
            "events_per_s": self.events / measured["seconds"],
            "records_per_s": 2 * self.events / measured["seconds"],
        }
        per_event = {"cpu_us_per_event": 1e6 * measured["cpu_s"] / self.events}
        return {"way": way, "turn": turn, **measured, **rates, **per_event}

    def _bare(self, log: Path, turn: int) -> dict[str, Any]:
        command = [sys.executable, "-m", "benchmarks.bare", self.bootstrap, str(2 * self.events), *self.topics]
        process = Measured(command, log)
        cost = process.finish()
        said = orjson.loads(log.read_bytes().splitlines()[-1])
        return {"seconds": said["seconds"], "cpu_s": said["cpu_s"], **_whole(cost)}

    def _replay(self, log: Path, turn: int) -> dict[str, Any]:
        out = self.work / f"replay-{turn}.json"
        process = Measured([TIDEGATE, "replay", str(self.file), "-c", str(self.settings), "--json", str(out)], log)
        cost = process.finish()
        result = orjson.loads(out.read_bytes())
        _demand_all(result["ledger"]["predictions"]["joined"], self.events, "replay")
        seconds = result["timings"]["elapsed_s"]
        stages = result["timings"]["stages_s"]
        # CPU time is the whole process', its start included: about two seconds, whatever the number of events.
        return {"seconds": seconds, "cpu_s": cost.cpu_s, **_whole(cost), "stages_s": stages}

    def _kafka(self, log: Path, turn: int) -> dict[str, Any]:
        settings = self._kafka_settings(f"bench-{turn}")
        self._create(settings)
        port = config.load(settings).engine.metrics_port
        process = Measured([TIDEGATE, "run", "-c", str(settings)], log, {"TIDEGATE_SNAPSHOT_KEY": "00" * 32})
        try:
            process.wait_until(lambda: _scrape(port).get("tidegate_ready") == 1, DEADLINE_S)
            ready, cpu_before = process.elapsed_s(), process.cpu_s()
            elapsed, cpu = self._wait_done(process, port)
            cost = process.finish(stop=True)
        finally:
            process.stop()
        return {"seconds": elapsed - ready, "cpu_s": cpu - cpu_before, **_whole(cost), "ready_s": ready}

    def _wait_done(self, process: Measured, port: int) -> tuple[float, float]:
        """Seconds and CPU time of the process when it had done everything, which is what it still says SETTLED_S
        later: both logs are read and accounted for, and nothing that came of them waits for watch."""
        since: list[tuple[float, float, float]] = []

        def done() -> bool:
            figures = _scrape(port)
            read = [figures.get(f'tidegate_ledger_{side}{{state="in"}}', 0) for side in ("predictions", "labels")]
            if read != [self.events] * 2 or figures.get("tidegate_input_lag_records", 1) > 0:
                since.clear()
                return False
            records = figures["tidegate_records_total"]
            if not since or since[0][2] != records:
                since[:] = [(process.elapsed_s(), process.cpu_s(), records)]
            return process.elapsed_s() - since[0][0] > SETTLED_S

        process.wait_until(done, DEADLINE_S)
        return since[0][:2]

    def _kafka_settings(self, prefix: str) -> Path:
        """A configuration of its own for every run: fresh journal and outputs, the same inputs."""
        tree = yaml.safe_load(load.CONFIG)
        tree["kafka"] = {"bootstrap_servers": self.bootstrap}
        tree["topics"] = {"prefix": prefix, "partitions": PARTITIONS}
        tree["topics"] |= {"predictions": self.topics[0], "labels": self.topics[1]}
        path = self.work / f"{prefix}.yaml"
        path.write_text(yaml.safe_dump(tree))
        return path

    def _create(self, settings: Path) -> None:
        read = config.load(settings)
        assert read.kafka is not None
        topics.create(read, Clients(read.kafka))


def _whole(cost: Any) -> dict[str, float]:
    return {"wall_s": cost.wall_s, "process_cpu_s": cost.cpu_s, "memory_mib": cost.memory_mib}


def _demand_all(joined: int, events: int, way: str) -> None:
    if joined != events:
        raise BenchmarkError(f"{way} joined {joined} of {events} predictions: the figures would be of something else")


def _scrape(port: int) -> dict[str, float]:
    """Metrics of the worker, added up over partitions; those of the ledger by state."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except (OSError, urllib.error.URLError):
        return {}
    sums: dict[str, float] = {}
    for name, labels, value in re.findall(r"^(\w+)(?:\{(.*)\})? (\S+)$", text, re.MULTILINE):
        state = re.search(r'state="\w+"', labels)
        key = f"{name}{{{state[0]}}}" if state else name
        sums[key] = sums.get(key, 0.0) + float(value)
    return sums


def summarise(runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Medians by way of everything that was measured in every run of it."""
    medians = {}
    for way in dict.fromkeys(run["way"] for run in runs):
        own = [run for run in runs if run["way"] == way]
        numbers = [key for key, value in own[0].items() if isinstance(value, float)]
        medians[way] = {key: statistics.median(run[key] for run in own) for key in numbers}
    return medians


def bars(medians: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """What was asked for, what came, and whether that is enough."""
    found = []
    for way, other, share in BARS:
        if way in medians and other in medians:
            value = medians[way]["events_per_s"] / medians[other]["events_per_s"]
            name = f"events/s of {way} as a share of {other}"
            found.append({"name": name, "value": round(value, 3), "at_least": share, "met": value >= share})
    return found


def show(medians: dict[str, dict[str, float]], events: int) -> None:
    table = Table(title=f"{events:,} predictions and as many labels; medians")
    columns = ("way", "events/s", "records/s", "seconds", "CPU s", "CPU us/event", "whole process s", "memory MiB")
    for column in columns:
        table.add_column(column, justify="left" if column == "way" else "right")
    for way, median in medians.items():
        rates = [f"{median[key]:,.0f}" for key in ("events_per_s", "records_per_s")]
        times = [f"{median[key]:.1f}" for key in ("seconds", "cpu_s", "cpu_us_per_event", "wall_s")]
        table.add_row(way, *rates, *times, f"{median['memory_mib']:.0f}")
    Console(width=120).print(table)


def write(path: Path, events: int, runs: list[dict[str, Any]], medians: dict[str, dict[str, float]]) -> None:
    """Everything that was measured, with what it was measured on."""
    document = {
        "benchmark": "throughput",
        "events": events,
        "partitions": PARTITIONS,
        "seed": SEED,
        "kafka": broker.KAFKA_VERSION,
        "machine": machine(),
        "bars": bars(medians),
        "medians": medians,
        "runs": runs,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.throughput", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000, help="predictions, and as many labels")
    parser.add_argument("--turns", type=int, default=3, help="runs of each way, in turn")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--out", type=Path, help="write the figures here, as JSON")
    options = parser.parse_args(arguments)
    runs = []
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as work, broker.Running(broker.find()) as bootstrap:
        bench = Bench(Path(work), bootstrap, options.events)
        bench.prepare()
        for turn in range(options.turns):
            for way in options.ways:
                runs.append(bench.run(way, turn))
                print(f"{way} {turn + 1}: {runs[-1]['events_per_s']:,.0f} events/s", file=sys.stderr, flush=True)
    medians = summarise(runs)
    show(medians, options.events)
    for bar in bars(medians):
        print(f"{'met' if bar['met'] else 'MISSED'}: {bar['name']} is {bar['value']}, at least {bar['at_least']}")
    if options.out:
        write(options.out, options.events, runs, medians)
    return 0


if __name__ == "__main__":
    sys.exit(main())
