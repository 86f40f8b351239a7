"""The sender: a process of its own that sends a stream at a steady rate, whether anybody takes it or not.

A process, for what it leaves behind (sockets of connections that were refused while the broker was away) and what it
waits for (the broker) must not be the test's. It ends in order when its standard input does: with the labels that are
left, and heartbeats beyond all.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from stream import config
from stream.contract import LABELS, REQUESTS
from stream.runtime.kafka.produce import Event, Producer
from tests.chaos.workload import END_S, Stream
from tests.kafka_support import ROOT

BLOCK_S: Final = 0.1
FINISH_S: Final = 180.0


class SourceError(Exception):
    """The sender has ended by itself; what it said."""


class Source:
    """The process, seen from the run. It sends nothing before `start`."""

    def __init__(self, settings: Path, log: Path, seed: int, rate: float) -> None:
        self._command = [sys.executable, "-m", "tests.chaos.source", str(settings), str(seed), str(rate)]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("wb") as out:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT
            )

    @property
    def events(self) -> int:
        """How many there have been, as of the last tenth of a second."""
        said = self._log.read_text().split() if self._log.exists() else []
        return int(next((word for word in reversed(said) if word.isdigit()), 0))

    def check(self) -> None:
        """Raises SourceError if it has ended."""
        if self._process is not None and self._process.poll() is not None:
            raise SourceError(self._log.read_text()[-2_000:])

    def finish(self) -> None:
        """End in order, once the broker has everything. Raises SourceError."""
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.close()
        if self._process.wait(FINISH_S):
            raise SourceError(self._log.read_text()[-2_000:])

    def give_up(self) -> None:
        """End at once, whatever is left."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdin is not None
            self._process.stdin.close()


def send(settings: str, seed: int, rate: float, done: threading.Event) -> None:
    """Send until `done`, and end in order; prints the number of events now and then."""
    stream, steps = Stream(seed), max(1, round(rate * BLOCK_S))
    with Producer(config.load(settings)) as producer:
        while not done.wait(BLOCK_S):
            for _ in range(steps):
                _send(producer, stream.step())
            print(stream.number, flush=True)
        _send(producer, stream.rest())
        for role in (REQUESTS, LABELS):
            producer.heartbeat(role, stream.at + END_S)


def _send(producer: Producer, events: Iterator[Event]) -> None:
    for role, key, event, timestamp_s in events:
        producer.send(role, key, event, timestamp_s)


def main() -> None:
    settings, seed, rate = sys.argv[1:]
    done = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        done.set()

    threading.Thread(target=listen, daemon=True).start()
    send(settings, int(seed), float(rate), done)


if __name__ == "__main__":
    main()
