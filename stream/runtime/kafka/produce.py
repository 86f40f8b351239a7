"""The producer's client: predictions, labels, requests and heartbeats to the topics of a configuration.

Owns keys, topics and encoding; refuses to know where events come from. The key is the prediction_id, hashed as Java
clients do (murmur2): a prediction and its label must land in the same partition, whoever sends them.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Any, Final, TypeAlias

import msgspec
from kafka.errors import AuthorizationError, KafkaError

from stream import codec
from stream.config import Config
from stream.contract import LABELS, PREDICTIONS, REQUESTS
from stream.errors import TidegateError
from stream.events import Heartbeat, Label, Prediction, Request
from stream.runtime.kafka.clients import Clients

FLUSH_S: Final = 60.0

Event: TypeAlias = tuple[str, str | None, msgspec.Struct, float | None]
"""Topic role, key, event, and when it is written (epoch seconds; None: now). Without a key: to every partition."""


class DeliveryError(TidegateError):
    """The broker did not take an event; how many before it is unknown, so send again from the last flush."""


class Producer:
    """Sends events; `flush` returns once the broker has them all, and raises DeliveryError if it has not.

    A context manager: leaving it flushes.
    """

    def __init__(self, config: Config, clients: Clients | None = None) -> None:
        if config.kafka is None and clients is None:
            raise TidegateError("the configuration has no `kafka` section")
        self._topics = config.topics
        self._producer = (clients or Clients(config.kafka)).producer()  # type: ignore[arg-type]
        self._failures: list[Exception] = []
        self.sent = 0

    def request(self, event: Request, timestamp_s: float | None = None) -> None:
        """Ask for a prediction."""
        self.send(REQUESTS, event.prediction_id, event, timestamp_s)

    def prediction(self, event: Prediction, timestamp_s: float | None = None) -> None:
        """Tell what a model said."""
        self.send(PREDICTIONS, event.prediction_id, event, timestamp_s)

    def label(self, event: Label, timestamp_s: float | None = None) -> None:
        """Tell what the world said."""
        self.send(LABELS, event.prediction_id, event, timestamp_s)

    def heartbeat(self, role: str, event_time: float, timestamp_s: float | None = None) -> None:
        """Promise that nothing before `event_time` will follow, in every partition of a topic."""
        self.send(role, None, Heartbeat(event_time), timestamp_s)

    def send(self, role: str, key: str | None, event: msgspec.Struct, timestamp_s: float | None = None) -> None:
        """Send one event to a topic by its role; without a key to every partition."""
        self._check()
        topic = self._topics.name(role)
        value = codec.encode(event)
        at = None if timestamp_s is None else int(timestamp_s * 1000)
        try:
            if key is not None:
                self._watch(self._producer.send(topic, key=key.encode(), value=value, timestamp_ms=at))
                return
            for partition in sorted(self._producer.partitions_for(topic)):
                self._watch(self._producer.send(topic, value=value, partition=partition, timestamp_ms=at))
        except KafkaError as error:  # of the topic itself: it is not there, or not ours to write
            self._failures.append(error)
            self._check()

    def send_all(self, events: Iterable[Event]) -> int:
        """Send events in order and flush; how many."""
        before = self.sent
        for role, key, event, timestamp_s in events:
            self.send(role, key, event, timestamp_s)
        self.flush()
        return self.sent - before

    def flush(self) -> None:
        """Wait until the broker has everything."""
        self._producer.flush(timeout=FLUSH_S)
        self._check()

    def close(self) -> None:
        self._producer.close(timeout=FLUSH_S)

    def __enter__(self) -> Producer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.flush()
        finally:
            self.close()

    def _check(self) -> None:
        """Raises DeliveryError for the first event that was not taken."""
        if self._failures:
            first = self._failures[0]
            hint = "; this user has no right to it, see tidegate acls" if isinstance(first, AuthorizationError) else ""
            raise DeliveryError(f"the broker did not take an event: {first}{hint}") from first

    def _watch(self, future: Any) -> None:
        self.sent += 1
        future.add_errback(self._failures.append)
