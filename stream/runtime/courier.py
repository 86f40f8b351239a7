"""The way of a notice to its target: one HTTP request an attempt, and attempts until the rules say stop.

`http.client` and a thread for each attempt: alerts are few, a target gets them one after another, and a client with a
pool (aiohttp) would be a dependency to save nothing. Redirects are not followed, since they would carry the token to
whoever they name. Owns connections and clocks; refuses to know what is sent, and shows no secret and no path of a URL.
"""

from __future__ import annotations

import asyncio
import http.client
import logging
import os
import re
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from time import monotonic, time
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from stream import targets
from stream.config import Config, Deliver
from stream.errors import ConfigError, TidegateError
from stream.events import Alert
from stream.runtime.delivery import Answer, Desk, next_try
from stream.runtime.notices import Credentials, Notice, credentials, headers

log = logging.getLogger("tidegate.delivery")

BODY_TOLD: Final = (400, 422)
"""Answers of which the body is read: it says what is wrong with what we sent. Others may repeat what was sent."""

SENT, FAILED, GIVEN_UP = "sent", "failed tries", "given up"
"""What is counted of a target, as it is said."""

BODY_BYTES_MAX: Final = 4_096
BODY_CHARS_TOLD: Final = 200

Send: TypeAlias = Callable[[Notice], Awaitable[Answer]]
Pause: TypeAlias = Callable[[float], Awaitable[bool]]
"""Waits so many seconds; False: leave it, somebody else or a later run will do it."""


class Sender:
    """Makes requests to one target, one at a time."""

    def __init__(self, target: Deliver, secrets: Credentials) -> None:
        self.name = targets.name_of(target)
        self.origin = targets.origin_of(target)
        self._parts = urlsplit(targets.url_of(target))
        self._timeout_s = float(target.timeout)
        self._secrets = secrets
        self._context: ssl.SSLContext | None = None
        if self._parts.scheme == "https":
            self._context = ssl.create_default_context()
            self._context.minimum_version = ssl.TLSVersion.TLSv1_2

    def __repr__(self) -> str:
        return f"Sender({self.name}, {self.origin})"

    async def __call__(self, notice: Notice) -> Answer:
        return await asyncio.to_thread(self.attempt, notice, time())

    def attempt(self, notice: Notice, now_s: float) -> Answer:
        """One request. Never raises for what the other side does, and ends: connecting and the exchange have the
        timeout each, and a receiver that sends a byte now and then is cut off as one that sends none."""
        connection, late = self._connection(), threading.Event()
        watch = None
        try:
            connection.connect()
            watch = threading.Timer(self._timeout_s, _cut, [connection.sock, late])
            watch.daemon = True
            watch.start()
            path = f"{self._parts.path or '/'}{'?' + self._parts.query if self._parts.query else ''}"
            connection.request("POST", path, notice.body, headers(notice, self._secrets, now_s))
            return self._read(connection.getresponse())
        except (OSError, http.client.HTTPException) as error:
            if late.is_set() or isinstance(error, TimeoutError):
                return Answer(None, f"no answer within {self._timeout_s:g} s")
            return Answer(None, self._masked(f"{type(error).__name__}: {error}"))
        finally:
            if watch is not None:
                watch.cancel()
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._context is None:
            return http.client.HTTPConnection(host, port, timeout=self._timeout_s)
        return http.client.HTTPSConnection(host, port, timeout=self._timeout_s, context=self._context)

    def _read(self, response: http.client.HTTPResponse) -> Answer:
        words = f"{response.status} {http.client.responses.get(response.status, '')}".strip()
        if response.status in BODY_TOLD:
            words = f"{words}: {self._masked(response.read(BODY_BYTES_MAX).decode('utf-8', 'replace'))}".rstrip(": ")
        after = response.getheader("Retry-After", "")
        return Answer(response.status, words, float(after) if re.fullmatch(r"\d{1,6}", after) else None)

    def _masked(self, text: str) -> str:
        """What the other side said, in one short line: a receiver may send back the token that it was sent."""
        if self._secrets.token:
            text = text.replace(self._secrets.token, "***")
        return " ".join(re.sub(r"[^\x20-\x7e]", " ", text).split())[:BODY_CHARS_TOLD]


def _cut(sock: socket.socket, late: threading.Event) -> None:
    """Ends whatever an attempt waits for."""
    late.set()
    with suppress(OSError):  # it has just ended by itself
        sock.shutdown(socket.SHUT_RDWR)


def senders(config: Config, source: str, environ: Mapping[str, str] = os.environ) -> list[Sender]:
    """A sender for each target. Raises ConfigError where there is none, and for every secret that cannot be used."""
    if not config.deliver:
        raise ConfigError(source, ["deliver: missing; add deliver: [{webhook: 'https://host/path'}]"])
    made, faults = [], []
    for i, target in enumerate(config.deliver):
        secrets, found = credentials(target, environ)
        faults += [f"deliver[{i}].{fault}" for fault in found]
        made.append(Sender(target, secrets))
    if faults:
        raise ConfigError(source, faults)
    return made


class Outcome(NamedTuple):
    """How a notice ended: delivered, or given up with the last answer's reason."""

    delivered: bool
    tries: int
    reason: str


async def deliver(
    who: str, notice: Notice, send: Send, pause: Pause, retry_for_s: float, clock: Callable[[], float] = monotonic
) -> Outcome | None:
    """Send to `who` until it is delivered or given up; None where `pause` said to leave it."""
    start, tries = clock(), 0
    while True:
        answer = await send(notice)
        tries += 1
        if answer.delivered:
            return Outcome(True, tries, answer.reason)
        wait_s = next_try(answer, tries, clock() - start, notice.id, retry_for_s)
        if wait_s is None:
            times = "once" if tries == 1 else f"{tries} times in {clock() - start:.0f} s"
            return Outcome(False, tries, f"{answer.reason} (tried {times})")
        log.warning("%s: %s; trying again in %.1f s", who, answer.reason, wait_s)
        if not await pause(wait_s):
            return None


class Tally:
    """What became of the alerts of one target."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.counts: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.last_reason = ""

    def take(self, outcome: Outcome) -> None:
        self.counts[SENT if outcome.delivered else GIVEN_UP] += 1
        self.counts[FAILED] += outcome.tries - outcome.delivered
        self.last_reason = self.last_reason if outcome.delivered else outcome.reason

    def __str__(self) -> str:
        said = [f"{self.counts[word]} {word}" for word in (SENT, FAILED, GIVEN_UP) if self.counts[word] or word is SENT]
        if self.left_out:
            why = ", ".join(f"{n} {word}" for word, n in sorted(self.left_out.items()))
            said.append(f"{self.left_out.total()} left out ({why})")
        return f"{self.name}: {', '.join(said)}"


def demand_delivered(tallies: Iterable[Tally]) -> None:
    """Raises TidegateError with a line for each target that was not told of everything."""
    lost = [
        f"{t.name}: {t.counts[GIVEN_UP]} given up; the last: {t.last_reason}" for t in tallies if t.counts[GIVEN_UP]
    ]
    if lost:
        raise TidegateError("\n".join(lost))


def deliver_all(config: Config, alerts: Iterable[Alert], sending: list[Sender]) -> list[Tally]:
    """All alerts of a run that is over to every target, in order; the targets side by side."""
    known = list(alerts)

    async def all_targets() -> list[Tally]:
        pairs = zip(config.deliver, sending, strict=True)
        return await asyncio.gather(*(_to_one(Desk(config, target), target, known, send) for target, send in pairs))

    return asyncio.run(all_targets())


async def _to_one(desk: Desk, target: Deliver, alerts: list[Alert], send: Sender) -> Tally:
    tally = Tally(send.name)
    for alert in alerts:
        why = desk.why_not(alert)
        if why is not None:
            tally.left_out[why] += 1
            continue
        outcome = await deliver(send.name, desk.notice(alert, time()), send, _patience, float(target.retry_for))
        assert outcome is not None
        tally.take(outcome)
        desk.remember(alert)
    return tally


async def _patience(seconds: float) -> bool:
    await asyncio.sleep(seconds)
    return True
