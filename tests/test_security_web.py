"""The worker's web address lets in this machine and whoever shows the token, and answers nothing but /metrics (F53)."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterable
from typing import Any

import pytest

from stream.errors import TidegateError
from stream.runtime import metrics, scrape
from stream.runtime.metrics import Figures
from stream.runtime.scrape import HEADERS, Guarded

TOKEN = "a-token-that-nobody-guesses"


def app(environ: Any, start: Any) -> Iterable[bytes]:
    start("200 OK", [("Content-Type", "text/plain")])
    return [b"figures"]


def asked(token: str | None = TOKEN, **environ: str) -> tuple[str, dict[str, str], bytes]:
    """What a caller from elsewhere is answered; `environ` changes the request."""
    told: list[Any] = []
    request = {"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics", "REMOTE_ADDR": "10.0.0.9", "HTTP_HOST": "w:9464"}
    body = b"".join(Guarded(app, token)({**request, **environ}, lambda *answer: told.append(answer)))  # type: ignore[arg-type]
    status, headers = told[0]
    return status, dict(headers), body


@pytest.mark.parametrize(
    ("environ", "status"),
    [
        ({}, "401"),
        ({"HTTP_AUTHORIZATION": f"Bearer {TOKEN}"}, "200"),
        ({"HTTP_AUTHORIZATION": f"Bearer {TOKEN}x"}, "401"),
        ({"HTTP_AUTHORIZATION": TOKEN}, "401"),
        ({"HTTP_AUTHORIZATION": "Bearer \xff"}, "401"),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "127.0.0.1:9464"}, "200"),
        ({"REMOTE_ADDR": "::1", "HTTP_HOST": "[::1]:9464"}, "200"),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "evil.example"}, "401"),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "localhost", "HTTP_X_FORWARDED_FOR": "10.0.0.9"}, "401"),
        ({"HTTP_AUTHORIZATION": f"Bearer {TOKEN}", "PATH_INFO": "/"}, "404"),
        ({"PATH_INFO": "/"}, "401"),
        ({"HTTP_AUTHORIZATION": f"Bearer {TOKEN}", "REQUEST_METHOD": "POST"}, "405"),
    ],
    ids=str,
)
def test_who_is_let_in(environ: dict[str, str], status: str) -> None:
    found, headers, body = asked(**environ)
    assert found[:3] == status
    assert (body == b"figures") == (status == "200")
    assert dict(HEADERS).items() <= headers.items(), "every answer carries them"


def test_without_a_token_only_this_machine_is_let_in() -> None:
    assert asked(None)[0][:3] == "401"
    assert asked(None, HTTP_AUTHORIZATION="Bearer None")[0][:3] == "401"
    assert asked(None, REMOTE_ADDR="127.0.0.1", HTTP_HOST="localhost")[0][:3] == "200"


def test_an_address_off_loopback_is_not_taken_without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(scrape.TOKEN_VARIABLE, raising=False)
    with pytest.raises(TidegateError, match=r"0\.0\.0\.0 is reached from elsewhere; set TIDEGATE_METRICS_TOKEN"):
        metrics.serve(Figures(), "0.0.0.0", 0)
    monkeypatch.setenv(scrape.TOKEN_VARIABLE, "short-one")
    with pytest.raises(TidegateError, match="9 characters; give 16") as caught:
        metrics.serve(Figures(), "0.0.0.0", 0)
    assert "short-one" not in str(caught.value)
    monkeypatch.setenv(scrape.TOKEN_VARIABLE, TOKEN)
    assert metrics.serve(Figures(), "0.0.0.0", 0) > 0


def test_an_address_that_cannot_be_had_is_told_in_a_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(TidegateError, match=r"engine\.metrics_port: 127\.0\.0\.1:"):
            metrics.serve(Figures(), "127.0.0.1", taken.getsockname()[1])


def test_the_page_is_served_and_says_little_of_itself(capfd: pytest.CaptureFixture[str]) -> None:
    figures = Figures()
    figures.publish([], {"ready": True})
    port = metrics.serve(figures, "127.0.0.1", 0)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        text = answer.read().decode()
        assert answer.status == 200 and "tidegate_metrics_dropped" in text
        assert (
            "Python" not in (answer.headers["Server"] or "") and answer.headers["X-Content-Type-Options"] == "nosniff"
        )
        connection.close()
        connection.request("GET", "/metrics/../etc/passwd?x=%0d%0aSet-Cookie:a")
        assert connection.getresponse().status == 404
    finally:
        connection.close()
    assert capfd.readouterr() == ("", ""), "what strangers send is in no log"


def test_more_connections_than_are_answered_at_once_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that opens connections and says nothing takes neither threads without end nor the page from others for
    longer than the server is patient."""
    monkeypatch.setattr(scrape, "CONNECTIONS_MAX", 1)
    port = metrics.serve(Figures(), "127.0.0.1", 0)
    at = ("127.0.0.1", port)
    with socket.create_connection(at, timeout=5), socket.create_connection(at, timeout=5) as second:
        assert second.recv(1) == b""
