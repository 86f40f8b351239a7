"""Alerts from their topic to the targets of `deliver`: `tidegate alerts forward`.

**At least once, and no more than one notice twice.** Every target has a consumer group of its own, so that one that is
down holds up no other. Alerts go one after another; the group's offset is committed after each, and the next one waits
for the commit. Whoever takes a partition over reads it from its beginning: what lies before the committed offset only
tells what is open and what has been told (`stream.runtime.delivery`), what lies after it is sent. So a kill at any
moment repeats the notice that was on its way, with the id it had, and loses none. What is given up goes to dead-letters
before the offset moves.

Owns positions and membership; refuses to know what a notice says.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import suppress
from time import monotonic, time
from typing import Any, Final

from aiokafka import ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from kafka.errors import KafkaError as AdminKafkaError

from stream import codec
from stream.config import Config, Deliver
from stream.contract import ALERTS, DEAD_LETTERS, Record
from stream.errors import InputFault, StateError, TidegateError
from stream.events import Alert
from stream.joining.letters import dead_letter
from stream.runtime import courier, metrics
from stream.runtime.courier import Sender, Tally
from stream.runtime.delivery import RESEND_S, Desk
from stream.runtime.kafka.clients import Clients
from stream.runtime.kafka.produce import Producer

log = logging.getLogger("tidegate.delivery")

POLL_MS: Final = 250
POLL_RECORDS: Final = 500
COMMIT_PAUSE_S: Final = 1.0

PUBLISH_S: Final = 1.0
"""Between two looks at the figures for Prometheus, as often as a worker's."""

IDLE_MS_MAX: Final = 86_400_000
"""How long a member may go without asking for records: as long as a target may be tried. That it is alive is told by
its heartbeats, which come from the same loop that delivers."""


class Seat:
    """A partition that is ours: its desk, and where delivery begins. `told` is set once all before that is read."""

    def __init__(self, desk: Desk, floor: int) -> None:
        self.desk = desk
        self.floor = floor
        self.reached = floor
        self.told = floor == 0


class Forward(ConsumerRebalanceListener):
    """One target's reading of the alerts topic. `stopping` ends it between two attempts; `tries` counts those of the
    notice that is on its way which have failed."""

    def __init__(
        self,
        config: Config,
        clients: Clients,
        target: Deliver,
        send: Sender,
        letters: Producer,
        stopping: asyncio.Event,
    ) -> None:
        self.tally = Tally(send.name)
        self.tries = 0
        self._config = config
        self._clients = clients
        self._target = target
        self._send = send
        self._letters = letters
        self._stopping = stopping
        self._consumer: Any = None
        self._seats: dict[Any, Seat] = {}
        self._joined = False
        self._met = 0
        self._again_at = 0.0

    async def run(self, once: bool, skip_old: bool) -> None:
        """Deliver until stopped; `once`: until where the topic ends now. `skip_old`: a target without a position begins
        at the topic's end. Raises KafkaError."""
        session_ms = int(float(self._config.engine.session) * 1000)
        topic = self._config.topics.name(ALERTS)
        self._consumer = self._clients.consumer(
            group_id=f"{self._config.topics.prefix}.deliver.{self._send.name}",
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=session_ms // 3,
            max_poll_interval_ms=IDLE_MS_MAX,
        )
        self._consumer.subscribe([topic], listener=self)
        await self._consumer.start()
        try:
            ends = await self._ends(topic) if once else None
            while not self._stopping.is_set() and (ends is None or not await self._beyond(ends)):
                await self._sit(skip_old)
                batch = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=POLL_RECORDS)
                for tp, records in batch.items():
                    await self._work(tp, records)
                await self._look()
                await self._keep_open()
        finally:
            await self._consumer.stop()

    async def on_partitions_assigned(self, assigned: Any) -> None:
        """What is ours may be nothing, where there are more of us than partitions."""
        self._joined = True

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Others may deliver from now on; what was known of the partitions is void."""
        self._joined = False
        self._met += 1
        self._seats.clear()

    # ---- partitions -----------------------------------------------------------------------------------------------

    async def _ends(self, topic: str) -> dict[Any, int]:
        partitions = [TopicPartition(topic, p) for p in sorted(self._consumer.partitions_for_topic(topic) or ())]
        return dict(await self._consumer.end_offsets(partitions))

    async def _beyond(self, ends: dict[Any, int]) -> bool:
        """Whether everything before these offsets has been worked off, as far as it is ours."""
        if not self._joined or self._seats.keys() != self._consumer.assignment():
            return False
        return all([await self._consumer.position(tp) >= ends[tp] for tp in self._seats])

    async def _sit(self, skip_old: bool) -> None:
        """Begin with the partitions that are new to us, from their beginnings."""
        for tp in sorted(self._consumer.assignment() - self._seats.keys()):
            met = self._met
            floor = await self._consumer.committed(tp)
            if floor is None and skip_old:
                floor = (await self._consumer.end_offsets([tp]))[tp]
                await self._commit(tp, floor)
            if met != self._met:
                return
            await self._consumer.seek_to_beginning(tp)
            if met == self._met:
                self._seats[tp] = Seat(Desk(self._config, self._target), floor or 0)

    async def _look(self) -> None:
        """Commit what was left out, and see which partitions are known to their floors."""
        for tp, seat in list(self._seats.items()):
            if seat.reached > seat.floor:
                await self._commit(tp, seat.reached)
                seat.floor = seat.reached
            if not seat.told and self._seats.get(tp) is seat:
                seat.told = await self._consumer.position(tp) >= seat.floor

    async def _commit(self, tp: Any, offset: int) -> None:
        """Until it is done, or the partition is somebody else's."""
        while True:
            try:
                await self._consumer.commit({tp: offset})
                return
            except (CommitFailedError, IllegalStateError) as error:
                log.warning("%s: %s-%d moved on while a notice was sent: %r", self._send.name, *tp, error)
                self._seats.pop(tp, None)
                return
            except KafkaError as error:
                log.warning("%s: offset %d not committed: %r", self._send.name, offset, error)
                if not await self._wait(COMMIT_PAUSE_S):
                    return

    # ---- alerts ---------------------------------------------------------------------------------------------------

    async def _work(self, tp: Any, records: list[Any]) -> None:
        seat = self._seats.get(tp)
        for record in records:
            if seat is None or self._seats.get(tp) is not seat or self._stopping.is_set():
                return
            alert = _read(record)
            if record.offset >= seat.floor:
                seat.told = True
                await self._take(tp, seat, record, alert)
            elif alert is not None and seat.desk.why_not(alert) is None:
                seat.desk.remember(alert)

    async def _take(self, tp: Any, seat: Seat, record: Any, alert: Alert | None) -> None:
        """Deliver one alert, or bury it, and only then move on."""
        why = "unreadable" if alert is None else seat.desk.why_not(alert)
        if why is not None:
            self.tally.left_out[why] += 1
        if alert is None:
            await self._bury(record, InputFault("unreadable", f"not an alert, so {self._send.name} is not told of it"))
        elif why is None and not await self._deliver(tp, seat, record, alert):
            return
        seat.reached = record.offset + 1
        if why is None:
            seat.floor = seat.reached
            await self._commit(tp, seat.floor)

    async def _deliver(self, tp: Any, seat: Seat, record: Any, alert: Alert) -> bool:
        """Whether the alert is dealt with: delivered, or given up and buried."""

        async def pause(seconds: float) -> bool:
            self.tries += 1
            await self._keep_open()
            return await self._wait(seconds) and self._seats.get(tp) is seat

        notice = seat.desk.notice(alert, time())
        outcome = await courier.deliver(self._send.name, notice, self._send, pause, float(self._target.retry_for))
        tries, self.tries = self.tries, 0
        if outcome is None:
            self.tally.counts[courier.FAILED] += tries
            return False
        self.tally.take(outcome)
        if not outcome.delivered:
            reason = f"{self._send.name} ({self._send.origin}): {outcome.reason}"
            log.error("given up: %s; %s", alert.alert_id, reason)
            await self._bury(record, InputFault("undelivered", reason))
        seat.desk.remember(alert)
        return True

    def figures(self) -> dict[str, Any]:
        """What became of the alerts so far, for Prometheus."""
        counts = self.tally.counts
        return {
            "notices": {"delivered": counts[courier.SENT], "given_up": counts[courier.GIVEN_UP]},
            "left_out": dict(self.tally.left_out),
            "failures": counts[courier.FAILED] + self.tries,
            "tries": self.tries,
        }

    async def _bury(self, record: Any, fault: InputFault) -> None:
        taken = Record(record.offset, record.timestamp / 1000, record.key, record.value)
        letter = dead_letter(ALERTS, record.partition, taken, fault)

        def send() -> None:
            self._letters.send(DEAD_LETTERS, letter.key, letter.event)
            self._letters.flush()

        await asyncio.to_thread(send)

    async def _keep_open(self) -> None:
        """Tell an Alertmanager again of what is open. One try each: the next comes in a minute."""
        known = [seat for seat in self._seats.values() if seat.told]
        if self._target.alertmanager is None or not known or monotonic() < self._again_at:
            return
        self._again_at = monotonic() + RESEND_S
        for notice in [notice for seat in known for notice in seat.desk.again(time())]:
            answer = await self._send(notice)
            if not answer.delivered:
                self.tally.counts[courier.FAILED] += 1
                log.warning("%s: open alerts not told again: %s", self._send.name, answer.reason)

    async def _wait(self, seconds: float) -> bool:
        """False when it is time to stop."""
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return True
        return False


def _read(record: Any) -> Alert | None:
    """None for what is no alert: somebody else may write to the topic, and the pager must not stop for it."""
    try:
        return codec.decode(Alert, record.value)
    except StateError:
        return None


def run(
    config: Config, clients: Clients, sending: list[Sender], once: bool = False, skip_old: bool = False
) -> list[Tally]:
    """Deliver until a signal, or once; what became of the alerts, by target. Raises TidegateError."""
    try:
        with clients.admin() as admin:
            there = set(admin.list_topics())
        missing = [name for name in map(config.topics.name, (ALERTS, DEAD_LETTERS)) if name not in there]
        if missing:
            raise TidegateError("\n".join(f"topic {name}: missing; run `tidegate topics create`" for name in missing))
        with Producer(config, clients) as letters:
            return asyncio.run(_all(config, clients, sending, letters, once, skip_old))
    except (KafkaError, AdminKafkaError) as error:
        raise TidegateError(f"kafka.bootstrap_servers: {', '.join(clients.bootstrap)}: {error}") from error


async def _all(
    config: Config, clients: Clients, sending: list[Sender], letters: Producer, once: bool, skip_old: bool
) -> list[Tally]:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    forwards = [
        Forward(config, clients, target, send, letters, stopping)
        for target, send in zip(config.deliver, sending, strict=True)
    ]
    for send in sending:
        log.info("%s: delivering to %s", send.name, send.origin)
    tasks = [forward.run(once, skip_old) for forward in forwards]
    if not once:
        tasks.append(_publish(config, forwards, stopping))
    await asyncio.gather(*tasks)
    return [forward.tally for forward in forwards]


async def _publish(config: Config, forwards: list[Forward], stopping: asyncio.Event) -> None:
    """Serve `/metrics` until it is time to stop. A port that cannot be had is told, and alerts go out all the same: a
    worker on this machine may have it, and people wait for the alerts."""
    figures = metrics.Figures()
    try:
        port = metrics.serve(figures, config.engine.metrics_host, config.engine.metrics_port)
        log.info("metrics on http://%s:%d/metrics", config.engine.metrics_host, port)
    except TidegateError as error:
        log.warning("no metrics of delivery: %s", error)
        return
    while not stopping.is_set():
        told = {forward.tally.name: forward.figures() for forward in forwards}
        figures.publish([], {"delivery": told})
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), PUBLISH_S)
