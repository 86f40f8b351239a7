"""Log lines of a worker: one format, and no floods. While a broker is away, clients say so a hundred times a second."""

from __future__ import annotations

import logging
import sys
from time import monotonic
from typing import Final

INTERVAL_S: Final = 1.0
NOISY: Final = ("aiokafka", "kafka")
QUIET: Final = ("faust", "mode", "stream.runtime.kafka")
"""Faust names the loggers of its services after the modules of our subclasses; ours is `tidegate`."""

FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class RateLimit(logging.Filter):
    """At most one line a second from the Kafka clients together; the next one says how many were left out."""

    def __init__(self) -> None:
        super().__init__()
        self._last = -INTERVAL_S
        self._dropped = 0

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.split(".")[0] not in NOISY:
            return True
        now = monotonic()
        if now - self._last < INTERVAL_S:
            self._dropped += 1
            return False
        self._last = now
        if self._dropped:
            record.msg = f"{record.msg} (and {self._dropped} more lines)"
            self._dropped = 0
        return True


def set_up(level: int = logging.INFO) -> None:
    """Lines of a worker go to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(FORMAT))
    handler.addFilter(RateLimit())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in (*QUIET, "aiokafka.consumer.group_coordinator"):  # every rebalance is a "failed heartbeat" to it
        logging.getLogger(name).setLevel(logging.ERROR)
