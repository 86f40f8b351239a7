"""kafka-python's event loop, which leaves no socket open when it ends.

A client that is closed only cancels what its loop still does. A socket that is being connected then, or that has bytes
yet to be written, stays open until Python's cycle collector finds it. Owns that; refuses to know what clients are for.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

from kafka.net.compat import KafkaNetClient
from kafka.net.selector import NetworkSelector


class ClosingSelector(NetworkSelector):
    """Closes, when it is closed, every socket that it has ever waited for: a second closing does nothing."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._waited_for: WeakSet[Any] = WeakSet()

    def register_event(self, fileobj: Any, event: int, task: Any) -> None:
        self._waited_for.add(fileobj)
        super().register_event(fileobj, event, task)

    def close(self) -> None:
        super().close()
        for each in list(self._waited_for):
            each.close()


def network_client(**settings: Any) -> KafkaNetClient:
    """What kafka-python's `kafka_client` setting takes."""
    return KafkaNetClient(net=ClosingSelector(**settings), **settings)
