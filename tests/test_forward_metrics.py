"""F20, F46: what forwards alerts says on /metrics what became of them, while it happens."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import socket
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stream import config
from stream.runtime.kafka import forward
from tests.kafka_support import Cluster, wait
from tests.receivers import Receiver, Reply
from tests.test_forward import Forwarder, cluster, of, receiver, write

__all__ = ["cluster", "receiver"]


def scraped(port: int) -> dict[str, float]:
    """Name and the values of the labels by their names, as "tidegate_notices_total delivered pager", with the value."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
        families = text_string_to_metric_families(page.read().decode())
    return {" ".join([s.name, *s.labels.values()]): s.value for family in families for s in family.samples}


@pytest.mark.kafka
def test_a_scrape_sees_a_target_fail_and_recover(cluster: Cluster, receiver: Receiver) -> None:
    receiver.replies = [Reply(), Reply(503), Reply(503), Reply(503)]
    write(cluster, of("m", 0, 2))
    running = Forwarder(cluster)
    said = re.compile(r"metrics on http://127\.0\.0\.1:(\d+)/metrics")
    wait("its port", lambda: said.search(running.said) is not None or running.process.poll() is not None)
    found = said.search(running.said)
    assert found is not None, running.said
    port = int(found[1])
    wait("a failure that is seen", lambda: scraped(port).get("tidegate_delivery_tries pager", 0.0) >= 2)
    seen = scraped(port)
    assert seen["tidegate_delivery_failures_total pager"] >= 2
    wait("the rest", lambda: scraped(port)["tidegate_notices_total delivered pager"] == 2)
    seen = scraped(port)
    assert seen["tidegate_delivery_tries pager"] == 0 and seen["tidegate_delivery_failures_total pager"] == 3
    assert seen["tidegate_notices_total given_up pager"] == 0
    assert running.end(signal.SIGTERM) == 0


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody else has."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def test_a_port_that_is_taken_is_told_and_holds_up_no_alert(taken: int, caplog: pytest.LogCaptureFixture) -> None:
    """A worker on the same machine has it: alerts go out all the same."""
    configured = config.parse(f"models: {{m: {{task: binary}}}}\nengine: {{metrics_port: {taken}}}")
    with caplog.at_level(logging.WARNING, "tidegate.delivery"):
        asyncio.run(forward._publish(configured, [], asyncio.Event()))
    assert f"no metrics of delivery: engine.metrics_port: 127.0.0.1:{taken} cannot be had" in caplog.text
