"""What tests of delivery share: a real HTTP server on loopback that answers as it is told, alerts to send to it, and
what a receiver checks: the schema of an Alertmanager, and the signature."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple

import msgspec

from stream.events import Alert, RankedFeature, Since

DRIP_S = 0.02
"""Between two bytes of a receiver that never ends; far below the timeout that must end it."""


class Received(NamedTuple):
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Reply(NamedTuple):
    """What the receiver does with a request. `how`: answer, hang (say nothing), drip (a header byte now and then)."""

    status: int = 200
    headers: dict[str, str] = {}  # noqa: RUF012  # never changed
    body: bytes = b""
    how: str = "answer"


class Receiver:
    """Answers with `replies` in order, then with 200; keeps every request in `received`."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.received: list[Received] = []
        self.done = threading.Event()
        self.lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with receiver.lock:
                    receiver.received.append(Received(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                    reply = receiver.replies.pop(0) if receiver.replies else Reply()
                if reply.how == "hang":
                    receiver.done.wait()
                elif reply.how == "drip":
                    while not receiver.done.wait(DRIP_S):
                        try:
                            self.wfile.write(b"H")
                        except OSError:
                            return
                else:
                    self.send_response(reply.status)
                    for name, value in reply.headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(reply.body)))
                    self.end_headers()
                    self.wfile.write(reply.body)

            def log_message(self, format: str, *arguments: Any) -> None:
                """Not to the test's output."""

        class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
            daemon_threads = True
            allow_reuse_address = True

        self.server = Server(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def ids(self) -> list[str]:
        """Ids of the CloudEvents received, in order."""
        return [received.json()["id"] for received in self.received]


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver that listens."""
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield receiver
    finally:
        receiver.done.set()
        receiver.server.shutdown()
        thread.join()
        receiver.server.server_close()


def alert(number: int = 1, **changes: Any) -> Alert:
    """A concept drift at LGA, as watch sends it."""
    made = Alert(
        alert_id=f"late15/LGA/concept/2013-06-24T11:20:00Z/{number:04x}", fingerprint=f"c41d{number:04x}",
        status="firing", kind="concept_drift", severity="warning", model="late15", at="2013-06-24T18:00:00Z",
        summary="late15 is wrong more often at LGA: error 0.190 → 0.310 since 24 June 11:20", slice={"origin": "LGA"},
        stream="loss", model_version="17", impact={"metric": "error", "before": 0.19, "now": 0.31, "delta": 0.12},
        since=Since("2013-06-24T11:20:00Z", ("2013-06-24T09:40:00Z", "2013-06-24T13:05:00Z")),
        features=[RankedFeature("carrier=EV", 0.44), RankedFeature("carrier=MQ", 0.27)],
        actions=[{"suggested": "start a challenger on examples since then, and compare it in shadow"}],
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


STRING = {"type": "string"}
LABEL_SET = {"type": "object", "additionalProperties": STRING}
DATE_TIME = {"type": "string", "format": "date-time"}
POSTABLE_ALERTS = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["labels"],
        "properties": {
            "labels": LABEL_SET,
            "annotations": LABEL_SET,
            "startsAt": DATE_TIME,
            "endsAt": DATE_TIME,
            "generatorURL": {"type": "string", "format": "uri"},
        },
    },
}
"""`postableAlerts` of Alertmanager's api/v2/openapi.yaml, its references resolved."""

FORMATS = {"date-time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "uri": r"[a-z][a-z0-9+.-]*:[\x21-\x7e]*"}


def faults(value: Any, schema: dict[str, Any], at: str = "$") -> Iterator[str]:
    """Where a JSON value departs from a schema; properties that it does not name are faults too."""
    kind = {"string": str, "object": dict, "array": list}[schema["type"]]
    if not isinstance(value, kind):
        yield f"{at}: not a {schema['type']}"
    elif isinstance(value, list):
        for i, each in enumerate(value):
            yield from faults(each, schema["items"], f"{at}[{i}]")
    elif isinstance(value, dict):
        known = schema.get("properties", {})
        yield from (f"{at}.{name}: missing" for name in schema.get("required", []) if name not in value)
        for name, each in value.items():
            inner = known.get(name, schema.get("additionalProperties"))
            yield from faults(each, inner, f"{at}.{name}") if inner else [f"{at}.{name}: unknown"]
    elif "format" in schema and not re.fullmatch(FORMATS[schema["format"]], value):
        yield f"{at}: not a {schema['format']}"


def verifies(headers: dict[str, str], body: bytes, key: bytes) -> bool:
    """As the specification of Standard Webhooks has it for receivers."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    wanted = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    return hmac.compare_digest(headers["webhook-signature"], f"v1,{wanted}")
