"""One run: workers on a real broker, a stream that does not stop, and the faults of a plan, one after the other.

Owns how each fault is done and when work counts as resumed. Refuses to judge what came out (`tests.chaos.judge`). It
waits for conditions, each with a deadline that is far beyond what a busy machine needs; the only times that are slept
are those that the plan draws.
"""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from stream.contract import JOURNAL, TOPICS
from stream.runtime.kafka import broker as brokers
from stream.runtime.kafka.broker import Broker, BrokerError, GivenBroker, Running
from tests.chaos import records
from tests.chaos.figures import Happened
from tests.chaos.plan import Fault
from tests.chaos.source import Source
from tests.chaos.workload import EVENTS_MIN, MODELS
from tests.kafka_support import Cluster, Worker, wait

DEADLINE_S: Final = 240.0
QUIET_S: Final = 4.0
"""Of silence at the end of every input, after which nothing more will come: longer than a worker keeps an output, or
an offset, to itself."""

UNDER_WAY_S: Final = 0.1
"""A checkpoint that the broker takes so soon after a worker is gone was sent before."""

RECOVERY_TRIES: Final = 5
"""Of catching a worker while it restores, which takes a tenth of a second where states are small."""

LOOK_S: Final = 0.02
"""Between two looks for a worker that restores: restoring takes a few tenths of a second."""

READY: Final = re.compile(r"ready: partitions \[([\d, ]*)\].*restored in ([\d.]+) s")
RESTORING: Final = re.compile(r"replayed \d+ records|ready: partitions")

EXIT_ENGINE: Final = 70
"""A worker that cannot know whether its checkpoint was taken, or has no broker for long, ends with this and leaves the
rest to its successor: that is how it is meant."""

EXCUSES: Final = frozenset({"broker", "zombie"})
"""Faults, this one or the one before, after which a worker may end so."""

Say = Callable[[str], None]


class Chaos:
    """Workers, a source and what has happened to them. `run` does all of it."""

    def __init__(self, cluster: Cluster, broker: Broker, source: Source, workers: int, say: Say) -> None:
        self.cluster = cluster
        self.broker = broker
        self.source = source
        self.say = say
        self.happened: list[Happened] = []
        self.gave_up: list[str] = []
        self.findings: list[str] = []
        self.missed = 0  # tries of a kill in recovery in which nobody was caught in it
        self.spared: Worker | None = None  # is never killed or stopped
        self._sending = False
        self._lately: tuple[str, ...] = ()
        self._every = list(range(cluster.config.topics.partitions))
        self._do: Mapping[str, Callable[[Fault], None]] = {
            "kill": self._kill,
            "recovery": self._kill_in_recovery,
            "zombie": self._freeze,
            "broker": self._kill_broker,
            "stop": self._stop,
            "join": self._join,
        }
        records.stamp_by_broker(cluster.config, cluster.clients)
        self.workers = [cluster.start() for _ in range(workers)]

    # -- the course of a run -------------------------------------------------------------------------------------------

    def run(self, faults: Sequence[Fault]) -> None:
        """From the start of the stream to the end of all workers."""
        self.begin()
        for n, fault in enumerate(faults, 1):
            self.say(f"{n}/{len(faults)} {fault.kind}")
            self.fault(fault)
        self.finish()

    def begin(self) -> None:
        """Until every worker has a share and work is under way."""
        self._settle("at the start")
        self.source.start()
        self._sending = True
        self._moved(self._every, self._ends(), "at the start")

    def fault(self, fault: Fault) -> None:
        """Leave all in peace for a while, do one fault, and wait until work goes on everywhere."""
        until = time.monotonic() + fault.pause_s
        self._until(lambda: time.monotonic() >= until, "a pause")
        before = len(self.happened)
        self._lately = (*self._lately[-1:], fault.kind)
        self._do[fault.kind](fault)
        self._settle(fault.kind)
        for done in self.happened[before:]:
            self.say(f"{done.kind} of {done.partitions}, {self.source.events:,} events so far")

    def finish(self) -> None:
        """No more events, once there were enough; wait until everything is read; end the workers in order."""
        self._until(lambda: self.source.events >= EVENTS_MIN, f"{EVENTS_MIN:,} events are sent")
        self.source.finish()
        self._sending = False
        self.say(f"{self.source.events:,} events are sent; reading to the end")
        roles = tuple(role for role in TOPICS if role != JOURNAL)
        last, since = dict[records.Log, int](), 0.0

        def quiet() -> bool:
            nonlocal last, since
            now = records.ends(self.cluster.config, self.cluster.clients, roles)
            if not self.cluster.caught_up() or now != last:
                last, since = now, time.monotonic()
            return time.monotonic() - since >= QUIET_S

        self._until(quiet, "every input is read to its end")
        for worker in self.workers:
            self._end(worker)

    # -- faults --------------------------------------------------------------------------------------------------------

    def _kill(self, fault: Fault) -> None:
        self._resume(self._strike(self._whom(fault)))

    def _kill_in_recovery(self, fault: Fault) -> None:
        """Kill one; as soon as any other says that it restores something, and before it is ready, kill that one. Where
        all were ready sooner than that could be seen, two have been killed one after the other: then again."""
        for _ in range(RECOVERY_TRIES):
            if self._kill_two(fault):
                return
            self.missed += 1

    def _kill_two(self, fault: Fault) -> bool:
        """Whether the second was in its recovery."""
        said = {id(worker): len(worker.said) for worker in self.workers}
        first = self._strike(self._whom(fault))
        caught: list[Worker] = []

        def restoring() -> bool:
            for worker in self.workers:
                found = RESTORING.search(worker.said, said.get(id(worker), 0))
                if found is not None and not found[0].startswith("ready"):
                    caught.append(worker)
                    return True
            return self._is_settled()  # all are ready, and none has replayed anything

        self._until(restoring, "a worker restores what another has left", LOOK_S)
        victim = caught[0] if caught else self._whom(fault)
        second = self._strike(victim)
        in_recovery = bool(caught) and READY.search(victim.said, said.get(id(victim), 0)) is None
        if in_recovery:
            second.kind = "kill in recovery"
        second.partitions = sorted({*first.partitions, *second.partitions})
        self.happened.append(first)
        self._resume(second)
        return in_recovery

    def _freeze(self, fault: Fault) -> None:
        """Stop a worker where it stands until it has lost its session and others have what it had; then let it go on.
        It must find out that it owns nothing any more."""
        zombie, at = self._whom(fault), time.time()
        partitions, ready = zombie.partitions() or [], self.assignments(zombie)
        zombie.pause()
        dark = time.time() + UNDER_WAY_S

        def taken_over() -> bool:
            return self._share([worker for worker in self.workers if worker is not zombie]) == self._every

        self._until(taken_over, "others take over from a frozen worker")
        until = time.monotonic() + fault.length_s
        self._until(lambda: time.monotonic() >= until, "a pause")
        zombie.resume()
        self._until(
            lambda: zombie not in self.workers or len(self.assignments(zombie)) > len(ready), "a zombie is back"
        )
        self._resume(Happened("zombie", at, dark, partitions))

    def _kill_broker(self, fault: Fault) -> None:
        before, at = self._ends(), time.time()
        self.broker.kill()
        until = time.monotonic() + fault.length_s
        wait("a pause", lambda: time.monotonic() >= until)
        self.broker.start()
        back = time.time()
        self._moved(self._every, before, "the broker is back")
        self.happened.append(Happened("broker", at, at, self._every, round(back - at, 3)))

    def _stop(self, fault: Fault) -> None:
        worker = self._whom(fault)
        at, partitions = time.time(), worker.partitions() or []
        self.workers.remove(worker)
        self._end(worker)
        dark = time.time()
        self.workers.append(self.cluster.start())
        self._resume(Happened("stop", at, dark, partitions))

    def _join(self, fault: Fault) -> None:
        """One more worker; when it has had its share (or nothing) for a while, one leaves."""
        at = time.time()
        self.workers.append(self.cluster.start())
        self._settle("one more worker")
        gained = self.workers[-1].partitions() or []
        self.happened.append(Happened("join", at, at, gained, resumed_s=round(time.time() - at, 3)))
        until = time.monotonic() + fault.length_s
        self._until(lambda: time.monotonic() >= until, "a pause")
        leaver = self._whom(fault)
        at, partitions = time.time(), leaver.partitions() or []
        self.workers.remove(leaver)
        self._end(leaver)
        self._resume(Happened("leave", at, time.time(), partitions))

    # -- doing and waiting ---------------------------------------------------------------------------------------------

    def _whom(self, fault: Fault) -> Worker:
        """A worker that has something to lose: with more workers than the assignor needs, some wait."""
        mortal = [worker for worker in self.workers if worker is not self.spared]
        busy = [worker for worker in mortal if worker.partitions()] or mortal
        return busy[int(fault.whom * len(busy))]

    def _strike(self, worker: Worker) -> Happened:
        """Kill -9, and a new one in its place."""
        at, partitions = time.time(), worker.partitions() or []
        worker.kill()
        dark = time.time() + UNDER_WAY_S
        self.workers[self.workers.index(worker)] = self.cluster.start()
        return Happened("kill", at, dark, partitions)

    def _end(self, worker: Worker) -> None:
        code = worker.stop()
        if code:
            self.findings.append(f"a worker that was told to stop ended with {code}: {_last(worker)}")

    def _resume(self, happened: Happened) -> None:
        """Wait until the partitions that a fault hit have new checkpoints."""
        self.happened.append(happened)
        self._moved(happened.partitions, self._ends(), happened.kind)

    def _moved(self, partitions: list[int], before: dict[int, int], what: str) -> None:
        def moved() -> bool:
            now = self._ends()
            return all(now[p] > before[p] for p in partitions)

        self._until(moved, f"{what}: partitions {partitions} go on")

    def _settle(self, what: str) -> None:
        self._until(self._is_settled, f"{what}: every partition has one worker")

    def _is_settled(self) -> bool:
        return self._share(self.workers) == self._every

    def _share(self, workers: list[Worker]) -> list[int] | None:
        """All partitions that these workers have, once each has said what; one of two owners stands there twice."""
        shares = [worker.partitions() for worker in workers]
        return None if None in shares else sorted(p for share in shares for p in share or ())

    def _ends(self) -> dict[int, int]:
        """By partition, how far the journal is."""
        found = records.ends(self.cluster.config, self.cluster.clients, (JOURNAL,))
        return {partition: end for (_, partition), end in found.items()}

    def _until(self, done: Callable[[], bool], what: str, step: float = 0.2) -> None:
        wait(what, lambda: self._supervise() or done(), DEADLINE_S, step)

    def _supervise(self) -> bool:
        """A new worker for one that has ended by itself, as whoever runs containers does. Never the end of a wait."""
        if self._sending:
            self.source.check()
        for i, worker in enumerate(self.workers):
            code = worker.process.poll()
            if code is None:
                continue
            worker.ended = True
            self.gave_up.append(f"{code}: {_last(worker)}")
            if code != EXIT_ENGINE or not EXCUSES.intersection(self._lately):
                self.findings.append(f"a worker ended by itself with {code}: {_last(worker)}")
            self.workers[i] = self.cluster.start()
            if worker is self.spared:
                self.spared = self.workers[i]
        return False

    @staticmethod
    def assignments(worker: Worker) -> list[tuple[list[int], float]]:
        """What a worker was given again and again, and how long each took to be ready."""
        return [([int(p) for p in ps.split(",") if p.strip()], float(s)) for ps, s in READY.findall(worker.said)]


def _last(worker: Worker) -> str:
    """The last thing a worker said."""
    return (worker.said.splitlines() or ["nothing"])[-1]


@contextmanager
def staged(
    directory: Path, name: str, seed: int, rate: float, workers: int = 2, partitions: int = 4, brokers_die: bool = True
) -> Iterator[Chaos]:
    """Workers and a source on a broker of their own, in a directory that is emptied before; all have ended afterwards.
    Progress is told on standard error. Raises BrokerError where there is no broker, or none that may be killed."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    start = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - start:6.0f} s  {text}", file=sys.stderr, flush=True)

    found = brokers.find((directory / "broker").resolve())
    if brokers_die and isinstance(found, GivenBroker):
        why = "KAFKA_BOOTSTRAP_SERVERS names a broker that is not ours to kill"
        raise BrokerError(f"{why}; unset it, or let no broker be killed (tests.chaos: --brokers 0)")
    with Running(found) as bootstrap:
        cluster = Cluster(bootstrap, directory.resolve(), MODELS, f"{name}-{int(time.time())}", partitions)
        source = Source(cluster.path, directory / "source.log", seed, rate)
        try:
            yield Chaos(cluster, found, source, workers, say)
        finally:
            source.give_up()
            cluster.end()
