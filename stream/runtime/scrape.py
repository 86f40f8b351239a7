"""The worker's web address: `/metrics` for whoever may read it, and nothing else.

Owns who is let in and the headers of every answer; refuses to know what the figures are. Processes of this machine read
freely. Everybody else shows the bearer token of TIDEGATE_METRICS_TOKEN, without which no address off loopback is taken.
Only GET and HEAD are answered, and no body is read. There is no TLS here: off a trusted network a proxy brings it.
"""

from __future__ import annotations

import hmac
import socket
import threading
from collections.abc import Iterable
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from stream.commands import KEY_BYTES_MIN
from stream.errors import TidegateError
from stream.runtime.environment import is_loopback, secret

TOKEN_VARIABLE: Final = "TIDEGATE_METRICS_TOKEN"

PATIENCE_S: Final = 10.0
"""After which a connection that says nothing is closed."""

CONNECTIONS_MAX: Final = 32
"""Answered at one time; further ones are closed. A scraper needs one."""

HEADERS: Final = (
    ("Server", "tidegate"),
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
)

FORWARDED: Final = ("HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR", "HTTP_VIA")
"""What a proxy on this machine adds: who asks through it is not of this machine."""


class Guarded:
    """An application behind the rules above. `token` None: only this machine is let in."""

    def __init__(self, app: WSGIApplication, token: str | None) -> None:
        self._app = app
        self._token = token

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        def with_headers(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            return start(status, [*headers, *HEADERS], *more)

        refused = self._refused(environ)
        if refused is None:
            return self._app(environ, with_headers)
        with_headers(refused, [("Content-Type", "text/plain; charset=utf-8"), ("WWW-Authenticate", "Bearer")])
        return [f"{refused}\n".encode()]

    def _refused(self, environ: WSGIEnvironment) -> str | None:
        """The status of a refusal; None for who is let in."""
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return "405 Method Not Allowed"
        if not self._is_let_in(environ):
            return "401 Unauthorized"
        return None if environ.get("PATH_INFO") == "/metrics" else "404 Not Found"

    def _is_let_in(self, environ: WSGIEnvironment) -> bool:
        near = is_loopback(environ.get("REMOTE_ADDR", "")) and not any(name in environ for name in FORWARDED)
        # A page elsewhere whose name is made to point here would still send its own name.
        if near and is_loopback(_host_of(environ.get("HTTP_HOST", "localhost"))):
            return True
        shown = environ.get("HTTP_AUTHORIZATION", "")
        return self._token is not None and hmac.compare_digest(shown.encode(), f"Bearer {self._token}".encode())


class _Server(ThreadingMixIn, WSGIServer):
    """A thread a connection, as many as CONNECTIONS_MAX; none of them keeps the process alive."""

    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        self._free = threading.Semaphore(CONNECTIONS_MAX)
        super().__init__(*arguments)

    def server_bind(self) -> None:
        """Without asking a name server who we are."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that goes away in the middle is nothing to tell."""


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = PATIENCE_S
    server_version = "tidegate"
    sys_version = ""

    def log_message(self, format: str, *arguments: Any) -> None:
        """Scrapes are not worth a line, and what strangers send does not belong in a log."""


def serve(app: WSGIApplication, host: str, port: int) -> int:
    """Serve an application from a thread of its own; the port taken. Raises TidegateError for an address off loopback
    without a token, a token that can be guessed, or an address that cannot be had."""
    token = secret(TOKEN_VARIABLE)
    if token is not None and len(token) < KEY_BYTES_MIN:
        raise TidegateError(f"{TOKEN_VARIABLE}: {len(token)} characters; give {KEY_BYTES_MIN} (openssl rand -hex 32)")
    if token is None and not is_loopback(host):
        raise TidegateError(
            f"engine.metrics_host: {host} is reached from elsewhere; set {TOKEN_VARIABLE} (openssl rand -hex 32), "
            "or write 127.0.0.1"
        )
    kind = _Server6 if ":" in host else _Server
    try:
        server = make_server(host, port, Guarded(app, token), kind, _Handler)
    except OSError as error:
        raise TidegateError(f"engine.metrics_port: {host}:{port} cannot be had: {error.strerror or error}") from error
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server.server_port


def _host_of(header: str) -> str:
    """The name in a Host header, without its port."""
    return header[: header.index("]") + 1] if header.startswith("[") and "]" in header else header.split(":")[0]
