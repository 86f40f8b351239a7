"""Log lines of a worker: one format, and no floods. While a broker is away, clients say so a hundred times a second,
and every shard says of every try that its checkpoint was not written."""

from __future__ import annotations

import logging
import sys
from time import monotonic
from typing import Final

INTERVAL_S: Final = 1.0
"""Between two lines of what repeats: clients that cannot connect wrote 120 a second."""

REPEATS_S: Final = 60.0
"""After which a warning of ours is new again."""

WARNINGS_KEPT: Final = 100
"""Warnings that are remembered; there are fewer in the source."""

NOISY: Final = ("aiokafka", "kafka")
QUIET: Final = ("faust", "mode", "stream.runtime.kafka")
"""Faust names the loggers of its services after the modules of our subclasses; ours is `tidegate`."""

FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class RateLimit(logging.Filter):
    """At most one line a second from the Kafka clients and from warnings of ours that repeat, all together; the next
    one says how many were left out. A warning's first line, all else that we say, and errors of ours always pass."""

    def __init__(self) -> None:
        super().__init__()
        self._last = -INTERVAL_S
        self._dropped = 0
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        now = monotonic()
        if record.name.split(".")[0] not in NOISY and not self._repeats(record, now):
            return True
        if now - self._last < INTERVAL_S:
            self._dropped += 1
            return False
        self._last = now
        if self._dropped:
            record.msg = f"{record.msg} (and {self._dropped} more lines)"
            self._dropped = 0
        return True

    def _repeats(self, record: logging.LogRecord, now: float) -> bool:
        """A warning that was said before, by its text without what was filled in: shards and attempts differ."""
        if record.levelno != logging.WARNING:
            return False
        said = str(record.msg)
        before = self._said.get(said)
        if before is None and len(self._said) >= WARNINGS_KEPT:
            self._said.clear()
        if before is None or now - before > REPEATS_S:
            self._said[said] = now
            return False
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
