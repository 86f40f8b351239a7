"""One connection before all others: whether a broker's certificate is to be trusted, and whether it lets us in.

The clients retry for half a minute and then only say that they could not connect; this says why, at once. Owns the
words; refuses to know what the connection is for.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import (
    AuthenticationFailedError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from stream.errors import TidegateError

PATIENCE_MS: Final = 10_000
CLOSE_S: Final = 5.0
"""A connection is given so long to close: TLS waits for the other side to say goodbye, and a loop that ends before
leaves the socket open."""

NEVER_MADE_S: Final = 0.25
"""The same for one that may never have been made: it then says nothing when it is closed."""

_REFUSALS: Final = (AuthenticationFailedError, SaslAuthenticationFailed, UnsupportedSaslMechanismError)


class NotLetInError(TidegateError):
    """A broker is not to be trusted, or does not trust us; a line for each says why and where to look."""


def knock(servers: Sequence[str], security: Mapping[str, Any]) -> None:
    """Return once a broker has let us in, or if none could be asked. Raises NotLetInError if all that answered refuse.

    `security` is what clients take (`Clients.security`).
    """
    refusals = []
    for server in servers:
        found = asyncio.run(_refusal(server, security))
        if found == "":
            return
        refusals += [f"kafka: {server} {found}"] if found else []
    if refusals:
        raise NotLetInError("\n".join(refusals))


async def _refusal(server: str, security: Mapping[str, Any]) -> str | None:
    """Why a server does not let us in; empty if it does, None if it could not be asked."""
    host, _, port = server.rpartition(":")
    patience_s = NEVER_MADE_S
    connection = AIOKafkaConnection(
        host.strip("[]"), int(port), client_id="tidegate-knock", request_timeout_ms=PATIENCE_MS, **security
    )
    try:
        await connection.connect()
        patience_s = CLOSE_S
        return ""
    except ssl.SSLCertVerificationError as error:
        return f"shows a certificate that is not to be trusted: {error.verify_message}; check ssl_cafile and its name"
    except ssl.SSLError as error:
        return f"does not speak TLS as asked: {error.reason or error}; check security_protocol and the port"
    except _REFUSALS as error:
        patience_s = CLOSE_S
        return f"does not let us in: {_words(error)}; check TIDEGATE_SASL_USERNAME, _PASSWORD and sasl_mechanism"
    except (OSError, TimeoutError, KafkaError):
        return None
    finally:
        await asyncio.wait([connection.close()], timeout=patience_s)


def _words(error: Exception) -> str:
    return str(error.args[0]) if error.args and isinstance(error.args[0], str) else type(error).__name__
