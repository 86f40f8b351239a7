"""`tidegate broker`: what it starts, it ends, whenever it is told to (F46)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from stream.runtime.kafka.broker import BrokerError, missing_for_local
from tests.kafka_support import ROOT, left_out, wait

COMMAND: Final = """
from stream.runtime.kafka import broker
from stream.surface import cli

broker._works = lambda command: False  # no Docker engine: the process that must be ended is our own
cli.main(["broker", "--port", str(broker._free_port())])
"""

JAVA: Final = b"kafka.Kafka"


@pytest.mark.kafka
@pytest.mark.parametrize("how", (signal.SIGTERM, signal.SIGINT))
def test_a_broker_that_is_told_to_end_while_it_starts_leaves_nothing(how: signal.Signals) -> None:
    if missing_for_local():
        left_out(BrokerError(f"no Kafka of our own: install {missing_for_local()}"))
    environ = {name: value for name, value in os.environ.items() if name != "KAFKA_BOOTSTRAP_SERVERS"}
    with subprocess.Popen([sys.executable, "-c", COMMAND], cwd=ROOT, env=environ, stdout=subprocess.PIPE) as process:
        wait("Kafka's process", lambda: started_by(process.pid) != [])
        (kafka,) = started_by(process.pid)
        process.send_signal(how)
        said, _ = process.communicate(timeout=30)
    assert (process.returncode, said) == (0, b""), "it was not ready yet"
    left = Path(f"/proc/{kafka}").exists()
    if left:
        os.kill(kafka, signal.SIGKILL)
    assert not left


def started_by(process: int) -> list[int]:
    """Brokers among its children."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(child) for child in children if JAVA in Path(f"/proc/{child}/cmdline").read_bytes()]
