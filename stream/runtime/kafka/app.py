"""The worker: a Faust app around the engine, run in this process until a signal, a fault, or the end of the inputs.

Owns Faust's settings, the order of starting and stopping, and the exit code; refuses to know what shards hold. Faust's
web server, agents, tables and its exactly-once mode are not used (ARCHITECTURE.md has the reasons).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import tempfile
import threading
import uuid
from pathlib import Path
from time import monotonic
from typing import Any, Final

import faust

from stream.config import Config
from stream.errors import BugError, TidegateError
from stream.runtime import metrics
from stream.runtime.kafka import topics
from stream.runtime.kafka.clients import Clients
from stream.runtime.kafka.consumer import Transport
from stream.runtime.kafka.engine import Engine
from stream.runtime.kafka.restorer import Restorer
from stream.runtime.kafka.watchdog import NoAnswerError, Watchdog
from stream.runtime.memory import Memory
from stream.runtime.stages import Secrets, make_stage, need_key, secrets_from, stages_of

log = logging.getLogger("tidegate.kafka")

STOP_S: Final = 15.0
"""A worker that has been told to stop is gone after this, in order or not: its state is in its checkpoints."""

TICK_S: Final = 1.0
IDLE_CHECKS: Final = 3
"""Looks, a second apart, that must find every input at its end before a run `until_caught_up` ends."""

EXIT_FAULT: Final = 1
EXIT_ENGINE: Final = 70


class Worker(faust.Worker):
    """Faust's worker, with a time by which it is gone, whatever still hangs: a broker that is away, a thread."""

    deadline: threading.Timer | None = None

    def _schedule_shutdown(self, signal: signal.Signals) -> None:
        self.begin_deadline()
        super()._schedule_shutdown(signal)

    def begin_deadline(self) -> None:
        if self.deadline is None:
            self.deadline = threading.Timer(STOP_S, os._exit, [EXIT_ENGINE])
            self.deadline.daemon = True
            self.deadline.start()

    def ended(self) -> None:
        """The loop has ended. Threads that have not would keep the process alive, so the deadline stands for them."""
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                self.begin_deadline()
                thread.join()
        if self.deadline is not None:
            self.deadline.cancel()


class App(faust.App):
    """Faust's app with our consumer and no agents."""

    owner: Engine
    worker: Any = None

    def _new_consumer(self) -> Any:
        return self.transport.create_consumer(
            callback=self.owner.on_batch,
            on_partitions_revoked=self._on_partitions_revoked,
            on_partitions_assigned=self._on_partitions_assigned,
            beacon=self.beacon,
        )

    async def on_stop(self) -> None:
        """The last checkpoint is written while this worker is still a member of the group."""
        self.worker.begin_deadline()  # a worker also ends without a signal, by a fault
        await self.owner.close()
        await super().on_stop()

    def give_up(self) -> None:
        """End the worker from within."""
        self.worker._schedule_shutdown(signal.SIGTERM)


def make_app(config: Config, engine: Engine, group: str, datadir: Path) -> App:
    """Faust's app for an engine. Two workers of one group must have different `datadir`s."""
    session = float(config.engine.session)
    app = App(
        group,
        broker=[f"kafka://{server}" for server in engine.clients.bootstrap],
        datadir=str(datadir),
        store="memory://",
        canonical_url=f"http://{uuid.uuid4().hex}.invalid:6066",  # the assignor tells workers apart by it
        web_enabled=False,
        autodiscover=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=1,  # 0 would silently choose an assignor without co-partitioning
        stream_wait_empty=False,
        broker_commit_interval=float(config.engine.checkpoint),
        broker_session_timeout=session,
        broker_heartbeat_interval=session / 3,
        broker_rebalance_timeout=max(20.0, 2 * session),
        broker_request_timeout=max(30.0, 2 * session),
        producer_request_timeout=30.0,
        producer_acks=-1,
    )
    app.owner = engine
    engine.app = app
    app.transport = Transport(app.conf.broker_consumer, app)
    app.producer_transport = Transport(app.conf.broker_producer, app)
    for name in engine.topics:
        app.topics.add(app.topic(name, value_serializer="raw", key_serializer="raw"))
    app.on_rebalance_complete.connect(engine.restore, weak=False)
    return app


def run(
    config: Config,
    *,
    group: str | None = None,
    datadir: Path | None = None,
    serve_metrics: bool = True,
    until_caught_up: bool = False,
) -> int:
    """Run a worker; its exit code. Raises TidegateError if it cannot start.

    `group` (default: the topics' prefix) names the workers that share the work. `until_caught_up` ends the run when
    every input has been read to its end. Exit codes: 0 in order, 1 state or journal that does not fit, 70 otherwise.
    """
    if config.kafka is None:
        raise TidegateError("the configuration has no `kafka` section; add kafka: {bootstrap_servers: host:9092}")
    secrets = secrets_from()
    need_key(config, secrets)
    clients = Clients(config.kafka)
    faults = topics.check(config, clients)
    if faults:
        raise TidegateError("\n".join(faults))
    figures = metrics.Figures()
    if serve_metrics:
        port = metrics.serve(figures, config.engine.metrics_host, config.engine.metrics_port)
        log.info("metrics on http://%s:%d/metrics", config.engine.metrics_host, port)
    group = group or config.topics.prefix
    with tempfile.TemporaryDirectory(prefix="tidegate-") as fresh:
        return _run(config, clients, secrets, figures, group, datadir or Path(fresh), until_caught_up)


def _run(
    config: Config,
    clients: Clients,
    secrets: Secrets,
    figures: metrics.Figures,
    group: str,
    datadir: Path,
    until_caught_up: bool,
) -> int:
    stages = stages_of(config)
    try:
        for stage in stages:
            make_stage(stage, config, 0, config.topics.partitions, secrets)
    except ValueError as error:  # a learner or detector that there is not: say so before joining the group
        raise TidegateError(str(error)) from error
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    restorer = Restorer(config, clients, group, stages, secrets)
    engine = Engine(config, clients, stages, restorer, figures)
    app = make_app(config, engine, group, datadir)
    app.worker = Worker(
        app, loop=loop, quiet=True, override_logging=False, redirect_stdouts=False, loglevel=logging.WARNING
    )
    app.worker.spinner = None
    app.task(lambda: _ticking(app, engine))
    app.task(lambda: _watching(app, engine))
    app.task(engine.broadcast)
    if until_caught_up:
        app.task(lambda: _until_caught_up(app, engine))
    code = 0
    try:
        app.worker.execute_from_commandline()
    except SystemExit as ended:
        code = int(ended.code or 0)
    app.worker.ended()
    return _exit_code(engine.fault, code)


def _exit_code(fault: BaseException | None, code: int) -> int:
    if fault is None:
        return EXIT_ENGINE if code else 0
    if not isinstance(fault, NoAnswerError):  # that was said at once
        log.error("stopped: %s", fault)
    return EXIT_FAULT if isinstance(fault, TidegateError) and not isinstance(fault, BugError) else EXIT_ENGINE


async def _ticking(app: App, engine: Engine) -> None:
    memory = Memory()
    while not app.should_stop:
        await app.sleep(TICK_S)
        await engine.tick()
        memory.look(engine.rebalances, monotonic())


async def _watching(app: App, engine: Engine) -> None:
    """Of its own, as a tick may wait for a client that hangs."""
    broker = ", ".join(engine.clients.bootstrap)
    dog = Watchdog(app.conf.broker_session_timeout, app.conf.broker_rebalance_timeout, broker, monotonic())
    while not app.should_stop:
        await app.sleep(TICK_S)
        said = dog.look(monotonic(), *app.consumer._thread.heard())
        engine.silent_s = dog.silent_s
        if said is not None:
            log.error("stopped: %s", said)  # closing may hang until the deadline, which says nothing
            engine.fail(NoAnswerError(said))
            return


async def _until_caught_up(app: App, engine: Engine) -> None:
    found = 0
    while not app.should_stop and found < IDLE_CHECKS:
        await app.sleep(TICK_S)
        found = found + 1 if await engine.caught_up() else 0
    app.give_up()
