"""kafka-python's clients leave no socket open: without Kafka, on a socket that one is waiting for as it is closed."""

from __future__ import annotations

import socket
from contextlib import closing
from typing import Any

import pytest
from kafka.net.compat import KafkaNetClient

from stream.config import Kafka
from stream.runtime.kafka.clients import Clients
from stream.runtime.kafka.sockets import network_client

NOBODY = "127.0.0.1:1"


@pytest.mark.parametrize(("made", "left_open"), [(network_client, False), (KafkaNetClient, True)])
def test_a_socket_that_is_waited_for_is_closed_with_the_client(made: Any, left_open: bool) -> None:
    """Once kafka-python's own client closes it, ours is not needed any more."""
    client = made(bootstrap_servers=NOBODY)
    mine, other = socket.socketpair()
    with closing(mine), closing(other):

        async def wait() -> None:
            await client._net.wait_read(mine)

        client._net.call_soon(wait)
        client.poll(timeout_ms=0)
        client.close()
        assert (mine.fileno() != -1) == left_open


def test_every_client_of_kafka_python_is_made_so(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    for name in ("KafkaAdminClient", "KafkaConsumer", "KafkaProducer"):
        monkeypatch.setattr(f"stream.runtime.kafka.clients.{name}", lambda **settings: taken.append(settings))
    clients = Clients(Kafka(bootstrap_servers=NOBODY))
    for make in (clients.admin, clients.tail, clients.producer):
        make()
    assert [settings["kafka_client"] for settings in taken] == [network_client] * 3
