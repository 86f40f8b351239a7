"""Fixtures for all tests: one real broker a session, and small topics on it for one test."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from stream.runtime.kafka.broker import Broker, BrokerError, find
from tests.kafka_support import MODELS, Cluster, left_out

# A change is judged by what it does, not by the luck of a draw: in CI the examples are the same in every run, and new
# ones are found on people's machines, each with the smallest case that fails. How quick a machine is does not count.
settings.register_profile("tidegate", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("tidegate")


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """A real Apache Kafka. Where none can be had, tests that need it are left out."""
    try:
        found = find()
        found.start()
    except BrokerError as error:
        left_out(error)
    yield found
    found.stop()


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Connections are in reference cycles: one that a test left open is told of in that test, not in a later one."""
    yield
    if request.node.get_closest_marker("kafka"):
        gc.collect()


@pytest.fixture
def cluster(broker: Broker, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Topics of two partitions for the small model, under the test's own name."""
    made = Cluster(broker.bootstrap, tmp_path, MODELS, request.node.name.replace("test_", "")[:40], partitions=2)
    yield made
    made.end()
