"""A configuration run over the records that a running system has in its topics (F42): what it would have alarmed and
learned, had it been in force.

Owns the order in which the topics' partitions become one feed, and which of them a model is fed from; refuses to know
how records are read. Nothing goes back into any topic. `stream.runtime.replay` runs the feed as it runs a file.

* Partitions are merged by **progress** (the largest event time so far in each): the order in which producers and
  fetches happened to run decides nothing. Heartbeats are passed over, the end of the run says more than they do.
* A model that learns in the new configuration is **asked again**: its requests go in, and what the running system
  answered stays out. Any other model is judged by the predictions that stand in the topic.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from stream import codec
from stream.config import Config
from stream.contract import DEAD_LETTERS, LABELS, PREDICTIONS, REQUESTS, Record
from stream.errors import InputFault
from stream.events import DeadLetter, Heartbeat, Label, Prediction, Request
from stream.runtime.feed import Item
from stream.runtime.journal import Source

INPUTS: Final = (PREDICTIONS, LABELS, REQUESTS)
"""The topics that a backtest reads: what came from outside, and what was answered."""

VALUE_CHARS_MAX: Final = 1_000
"""How much of a record that cannot be used its dead letter keeps."""

Logs = Mapping[Source, Iterable[Record]]
"""The records of every partition of the inputs, in the order of their offsets."""


class Feed:
    """The records of the topics as one feed, in the order of progress; at the same progress labels come last.

    `total` is the number of offsets to come, for `done`.
    """

    def __init__(self, config: Config, logs: Logs, total: int = 0) -> None:
        self.rows = 0
        self.labels = 0
        self.bad_rows = 0
        self.passed_over = 0
        self._learning = {
            name for name, model in config.models.items() if model.learn is not None and model.learn.policy != "off"
        }
        self._logs = logs
        self._total = total
        self._read = 0

    def done(self) -> float:
        """How much has been read, 0 to 1."""
        return min(self._read / self._total, 1.0) if self._total else 0.0

    def figures(self) -> dict[str, int]:
        """Records that were fed or could not be used, and those that no model is fed from."""
        rows = self.rows + self.bad_rows
        return {
            "rows": rows, "bad_rows": self.bad_rows, "predictions": self.rows, "labels": self.labels,
            "passed_over": self.passed_over,
        }  # fmt: skip

    def __iter__(self) -> Iterator[Item]:
        ordered = sorted(self._logs, key=lambda source: (source[0] == LABELS, source))
        logs = [self._log(i, source) for i, source in enumerate(ordered)]
        for _, _, item in heapq.merge(*logs, key=lambda entry: entry[:2]):
            if item.topic == LABELS:
                self.labels += 1
            elif item.topic != DEAD_LETTERS:
                self.rows += 1
            yield item

    def _log(self, place: int, source: Source) -> Iterator[tuple[float, int, Item]]:
        """One partition: the progress at which each record counts, the log's place, the item."""
        name, partition = source
        progress = float("-inf")
        for record in self._logs[source]:
            self._read += 1
            try:
                event = self._event(name, record)
            except InputFault as fault:
                self.bad_rows += 1
                yield progress, place, Item(DEAD_LETTERS, 0.0, name, _letter(name, partition, record, fault))
                continue
            if isinstance(event, Heartbeat):
                continue
            when = float(event.event_time)  # type: ignore[arg-type]  # the codec has made it epoch seconds
            progress = max(progress, when)
            if self._is_fed(event):
                yield progress, place, Item(name, when, event.prediction_id, event)
            else:
                self.passed_over += 1

    @staticmethod
    def _event(name: str, record: Record) -> Prediction | Label | Request | Heartbeat:
        if name == PREDICTIONS:
            return codec.decode_inbound(Prediction, record.value, record.timestamp_s)
        if name == LABELS:
            return codec.decode_inbound(Label, record.value, record.timestamp_s)
        return codec.decode_inbound(Request, record.value, record.timestamp_s)

    def _is_fed(self, event: Prediction | Label | Request) -> bool:
        """A prediction of our own score stage carries how much the model had learned; one from outside does not."""
        if isinstance(event, Request):
            return event.model in self._learning
        if isinstance(event, Prediction):
            return event.model not in self._learning or event.model_updates is None
        return True


def _letter(name: str, partition: int, record: Record, fault: InputFault) -> DeadLetter:
    value = record.value
    text = value.decode("utf-8", "replace")[:VALUE_CHARS_MAX] if isinstance(value, bytes) else None
    return DeadLetter(
        topic=name, partition=partition, offset=record.offset, code=fault.code, reason=fault.reason,
        timestamp_s=record.timestamp_s, value=text,
    )  # fmt: skip
