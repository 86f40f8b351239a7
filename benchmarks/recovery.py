"""How long until a worker's successor is ready, and how long until a worker that is told to end is gone (F50).

On a real Apache Kafka, workers as processes of their own. Pending predictions are unlabelled, of ten numbers, of one
model. Three forms: a million in four partitions, a million in one, and as many in one as make a state of 64 MB. Some
times over each:

* `stop`: a worker under a steady load is told to end (SIGTERM), and a successor starts, with nothing to process again;
* `kill`: a worker under a steady load is killed (SIGKILL), more records come, and a successor starts;
* `kill, behind`: the same while the worker catches up at full speed, with much since its last whole state to process
  again. No bar: it is as much as a worker does within `engine.snapshot`, or within 20 times what a state costs.

A successor must hold every prediction; each turn adds some 24,000, `kill, behind` 204,000. Time counts from the
assignment, as the worker logs it, to `ready`, and to when the join of every partition has journaled records that came
meanwhile. CPU time of the worker stands beside it, and how busy others (the broker among them) kept the machine.

`make bench-recovery` runs it; `--quick` is a short form. Not a test: nothing depends on time.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import re
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import orjson
import yaml
from kafka import TopicPartition
from rich.console import Console
from rich.table import Table

from benchmarks.detection.bars import Bar, at_most
from benchmarks.pending import SEED, TOLD_S, Source, say
from benchmarks.processes import TICKS_PER_S, BenchmarkError, Measured, machine
from stream import codec, config
from stream.contract import JOURNAL, LABELS, PREDICTIONS
from stream.errors import TidegateError
from stream.runtime import journal
from stream.runtime.journal import JournalRecord
from stream.runtime.kafka import broker, restore, topics
from stream.runtime.kafka.clients import Clients

KEY: Final = "00" * 32
TIDEGATE: Final = str(Path(sys.executable).with_name("tidegate"))
MEANWHILE: Final = 4_000
"""Predictions that come before a successor starts."""

STEADY: Final = 20_000
"""Predictions that a worker takes under load before its end: ten seconds' worth, the interval of whole states."""

BEHIND: Final = 200_000
"""Predictions that are sent as fast as possible before a worker is killed that catches up."""

UNBOUND: Final = "kill, behind"
STOP_BOUND_S: Final = 15.0
DEADLINE_S: Final = 900.0
LOOK_S: Final = 0.02
CONFIG: Final = """
models:
  bench:
    task: binary
    examples: false
    reference: {first: 5000}
    windows: {every: 15m, min_events: 200}
    labels: {horizon: 30d}
engine: {session: 6s, metrics_port: 0}
"""


class Form(NamedTuple):
    """So many pending predictions; `bound_s` to be ready; `state` is the least that the join's shards must hold."""

    name: str
    partitions: int
    pending: int
    bound_s: float
    state: int = 0


FULL: Final[tuple[Form, ...]] = (
    Form("1,000,000 pending, 4 partitions", 4, 1_000_000, 10.0),
    Form("1,000,000 pending, 1 partition", 1, 1_000_000, 10.0),
    Form("64 MB of state in a shard", 1, 193_000, 5.0, 64 * 2**20),
)
QUICK: Final[tuple[Form, ...]] = (
    Form("50,000 pending, 4 partitions", 4, 50_000, 10.0),
    Form("50,000 pending, 1 partition", 1, 50_000, 10.0),
)


class Worker(Measured):
    """`tidegate run` under measurement."""

    def __init__(self, settings: Path, log: Path) -> None:
        self._file = log
        super().__init__([TIDEGATE, "run", "-c", str(settings), "--verbose"], log, {"TIDEGATE_SNAPSHOT_KEY": KEY})

    def ready_s(self) -> float | None:
        """What it says a restore has taken; None before it is ready."""
        found = re.search(r"ready: partitions \[.+\], \d+ shards, restored in ([\d.]+) s", self._text())
        return float(found[1]) if found else None

    def replayed(self) -> int:
        """Records that its shards had to process again."""
        return sum(map(int, re.findall(r"replayed (\d+) records", self._text())))

    def pending(self) -> int:
        """As its metrics tell, once a second."""
        address = re.search(r"metrics on (\S+)", self._text())
        if address is None:
            return -1
        try:
            with urllib.request.urlopen(address[1], timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            return -1
        found = re.findall(r'^tidegate_ledger_predictions\{.*state="pending".*\} (\S+)$', text, re.MULTILINE)
        return int(sum(map(float, found)))

    def wait(self, pending: int) -> None:
        """Until it holds so many pending predictions. Raises BenchmarkError where it never does, or holds more."""
        told = [self.elapsed_s()]

        def there() -> bool:
            found = self.pending()
            if self.elapsed_s() - told[0] > TOLD_S:
                told[0] = self.elapsed_s()
                say(f"  the worker holds {max(found, 0):,} of {pending:,} predictions")
            return found >= pending

        self.wait_until(there, self.elapsed_s() + DEADLINE_S)
        if self.pending() != pending:
            raise BenchmarkError(f"{self.pending():,} predictions are pending where {pending:,} were sent")

    def kill(self) -> float:
        before = self.elapsed_s()
        self._process.kill()
        self._process.wait()
        return self.elapsed_s() - before

    def end(self) -> float:
        """Seconds from SIGTERM to the end. Raises BenchmarkError unless it ended in order."""
        before = self.elapsed_s()
        cost = self.finish(stop=True)
        if self._process.returncode != 0:
            raise BenchmarkError(f"ended with {self._process.returncode} after SIGTERM: {self.said()}")
        return cost.wall_s - before

    def memory_mib(self) -> float:
        """The largest so far."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def _text(self) -> str:
        return self._file.read_text(errors="replace")


class Watched:
    """What a worker and the whole machine have used, over time."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._seen: list[tuple[float, float, float]] = []

    def look(self) -> None:
        ticks = [int(n) for n in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        busy = sum(ticks) - ticks[3] - ticks[4]  # all but idle and waiting for disks
        self._seen.append((self._worker.elapsed_s(), self._worker.cpu_s(), busy / TICKS_PER_S))

    def between(self, start: float, end: float) -> tuple[float, float]:
        """CPU seconds of the worker, and the share of the machine that everybody else had."""
        at, *columns = np.array(self._seen).T
        own, busy = (float(np.interp(end, at, column) - np.interp(start, at, column)) for column in columns)
        return own, (busy - own) / ((end - start) * (os.cpu_count() or 1))


class Bench:
    """One form on one broker."""

    def __init__(self, work: Path, bootstrap: str, form: Form, name: str) -> None:
        self.form = form
        self.runs: list[dict[str, Any]] = []
        self._work = work
        self._name = name
        self._settings = work / f"{name}.yaml"
        tree = yaml.safe_load(CONFIG)
        tree["kafka"] = {"bootstrap_servers": bootstrap}
        tree["topics"] = {"prefix": name, "partitions": form.partitions}
        self._settings.write_text(yaml.safe_dump(tree))
        self._config = config.load(self._settings)
        assert self._config.kafka is not None
        self._clients = Clients(self._config.kafka)
        topics.create(self._config, self._clients)
        names = self._config.topics
        self._source = Source(bootstrap, names.name(PREDICTIONS), names.name(LABELS), form.partitions)
        self._workers: list[Worker] = []

    def run(self, turns: int) -> None:
        say(f"{self.form.name}: filling")
        self._source.send(self.form.pending)
        worker = self._start()
        try:
            worker.wait(self._source.sent)
            for turn in range(turns):
                ended_s = self._under_load(worker, worker.end)
                worker = self._succeed("stop", turn, {"ended_s": ended_s, "state_bytes": self._state_bytes()})
            for turn in range(turns):
                self._under_load(worker, worker.kill)
                worker = self._succeed("kill", turn, {})
            for turn in range(turns):
                self._source.send(BEHIND)
                worker.kill()
                worker = self._succeed(UNBOUND, turn, {})
        finally:
            for one in self._workers:
                one.stop()

    def _start(self) -> Worker:
        self._workers.append(Worker(self._settings, self._work / f"{self._name}-{len(self._workers)}.log"))
        return self._workers[-1]

    def _under_load(self, worker: Worker, end: Callable[[], float]) -> float:
        """End a worker that takes records; how long that took."""
        enough = worker.pending() + STEADY
        with self._source.flowing():
            worker.wait_until(lambda: worker.pending() >= enough, worker.elapsed_s() + DEADLINE_S)
            return end()

    def _state_bytes(self) -> int:
        """Of the join's shards together. Raises BenchmarkError where that is less than the form asks for."""
        size = 0
        for p in range(self.form.partitions):
            shard = f"join/{p}"
            entries = asyncio.run(restore.read_journal(self._config, self._clients, p, (shard,)))
            found = journal.recover(shard, entries, (KEY.encode(),))
            if found is None:
                raise BenchmarkError(f"{shard} has written no state; the figures would be of something else")
            size += found.whole.manifest.size
        if size < self.form.state:
            raise BenchmarkError(f"a state of {size:,} bytes, where {self.form.state:,} are to be measured")
        return size

    def _succeed(self, kind: str, turn: int, more: dict[str, Any]) -> Worker:
        """Start a successor, measure how it comes back, and see that it has everything."""
        self._source.send(MEANWHILE)
        consumer = self._clients.tail(check_crcs=False)  # in Python these take a second for each megabyte
        try:
            partitions = [TopicPartition(self._config.topics.name(JOURNAL), p) for p in range(self.form.partitions)]
            consumer.assign(partitions)
            for tp, end in consumer.end_offsets(partitions).items():
                consumer.seek(tp, end)
            worker = self._start()
            watched = Watched(worker)
            journaled: dict[int, float] = {}
            ready: list[float] = []

            def done() -> bool:
                watched.look()
                if not ready and worker.ready_s() is not None:
                    ready.append(worker.elapsed_s())
                for tp, records in consumer.poll(timeout_ms=int(1000 * LOOK_S)).items():
                    if any(_takes_predictions(record) for record in records):
                        journaled.setdefault(tp.partition, worker.elapsed_s())
                return bool(ready) and len(journaled) == self.form.partitions

            worker.wait_until(done, DEADLINE_S, every_s=0.0)
        finally:
            consumer.close()
        seconds = worker.ready_s()
        assert seconds is not None
        assigned = ready[0] - seconds
        cpu_s, others = watched.between(assigned, ready[0])
        worker.wait(self._source.sent)
        run = {"form": self.form.name, "kind": kind, "turn": turn, "ready_s": seconds, "ready_cpu_s": cpu_s}
        run |= {"journaled_s": max(journaled.values()) - assigned, "assigned_s": assigned, "others_share": others}
        run |= {"replayed": worker.replayed(), "memory_mib": worker.memory_mib(), **more}
        self.runs.append(run)
        ended = f", after an end in {more['ended_s']:.1f} s" if "ended_s" in more else ""
        say(f"  {kind} {turn + 1}: ready in {seconds:.2f} s ({cpu_s:.2f} s of CPU), journaled in "
            f"{run['journaled_s']:.2f} s{ended}; others had {100 * others:.0f} % of the machine")  # fmt: skip
        return worker


def _takes_predictions(record: Any) -> bool:
    """Whether a record of the journal is a checkpoint of the join with predictions in it."""
    if not record.value or not record.key.startswith(b"join/") or b"/journal/" not in record.key:
        return False
    found: JournalRecord = codec.unpack(JournalRecord, record.value)
    return any(
        name == PREDICTIONS and end > start for taken in found.batches for name, _, start, end, _ in taken.chunks
    )


def summarise(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Median and worst of what was measured, by form and kind."""
    rows = []
    for form, kind in dict.fromkeys((run["form"], run["kind"]) for run in runs):
        own = [run for run in runs if (run["form"], run["kind"]) == (form, kind)]
        figures = {key: [run[key] for run in own] for key in own[0] if key not in ("form", "kind", "turn")}
        medians = {key: {"median": statistics.median(x), "worst": max(x)} for key, x in figures.items()}
        rows.append({"form": form, "kind": kind, "turns": len(own), **medians})
    return rows


def bars(forms: tuple[Form, ...], rows: list[dict[str, Any]]) -> list[Bar]:
    """What is asked for, of the worst that came. CPU time is what a machine would need that does nothing else."""
    found = []
    for form in forms:
        for row in (row for row in rows if row["form"] == form.name and row["kind"] != UNBOUND):
            name = f"{form.name}, after {row['kind']}"
            found.append(at_most(f"{name}: ready", row["ready_s"]["worst"], form.bound_s, "s"))
            found.append(at_most(f"{name}: ready, CPU time", row["ready_cpu_s"]["worst"], form.bound_s, "s"))
            found.append(at_most(f"{name}: records journaled", row["journaled_s"]["worst"], form.bound_s, "s"))
            if row["kind"] == "stop":
                found.append(at_most(f"{form.name}: SIGTERM to the end", row["ended_s"]["worst"], STOP_BOUND_S, "s"))
                found.append(at_most(f"{name}: replayed", row["replayed"]["worst"], 0, "records"))
    return found


def show(rows: list[dict[str, Any]], asked: list[Bar]) -> None:
    table = Table(title="seconds after the assignment, median / worst")
    columns = ("form", "after", "ready", "CPU s", "journaled", "SIGTERM to end", "replayed", "others", "memory MiB")
    for column in columns:
        table.add_column(column, justify="left" if column in ("form", "after") else "right")
    for row in rows:
        told = [
            f"{row[key]['median']:.2f} / {row[key]['worst']:.2f}" for key in ("ready_s", "ready_cpu_s", "journaled_s")
        ]
        ended = row.get("ended_s")
        told.append("" if ended is None else f"{ended['median']:.1f} / {ended['worst']:.1f}")
        told.append(f"{row['replayed']['median']:,.0f} / {row['replayed']['worst']:,}")
        told.append(f"{100 * row['others_share']['median']:.0f} %")
        table.add_row(row["form"], row["kind"], *told, f"{row['memory_mib']['worst']:,.0f}")
    Console(width=160).print(table)
    for bar in asked:
        held = "holds" if bar["holds"] else "MISSED"
        print(f"{held}: {bar['name']}: {bar['value']} {bar['unit']}, bound {bar['bound']}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.recovery", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="50,000 pending predictions; two minutes")
    parser.add_argument("--turns", type=int, default=3, help="kills, and as many ends in order, of each form")
    parser.add_argument("--forms", nargs="+", type=int, help="only these, counted from 1")
    parser.add_argument("--out", type=Path, help="write the figures here, as JSON")
    options = parser.parse_args(arguments)
    forms = QUICK if options.quick else FULL
    if any(not 1 <= i <= len(forms) for i in options.forms or ()) or options.turns < 1:
        parser.error(f"--forms are 1 to {len(forms)}, --turns at least 1")
    forms = tuple(forms[i - 1] for i in options.forms or range(1, len(forms) + 1))
    logging.getLogger("aiokafka").setLevel(logging.ERROR)  # topics that are new have no leader for a moment
    runs: list[dict[str, Any]] = []
    try:
        with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as work, broker.Running(broker.find()) as bootstrap:
            for i, form in enumerate(forms):
                bench = Bench(Path(work), bootstrap, form, f"recovery-{int(time.time())}-{i}")
                bench.run(options.turns)
                runs += bench.runs
    except (BenchmarkError, TidegateError) as error:
        say(f"no figures: {error}")
        return 1
    rows = summarise(runs)
    asked = bars(forms, rows)
    show(rows, asked)
    if options.out:
        document = {"benchmark": "recovery", "quick": options.quick, "seed": SEED, "kafka": broker.KAFKA_VERSION}
        document |= {"machine": machine(), "bars": asked, "summary": rows, "runs": runs}
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
