"""Secrets from the environment: a variable, or the file that its namesake with _FILE names. And what is this machine.

Owns how a secret is read and that it never stands in a fault's words; refuses to know what any of them opens.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path

from stream.errors import TidegateError


class Secret(str):
    """A string that does not show itself."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


def secret(name: str, environ: Mapping[str, str] | None = None) -> Secret | None:
    """The variable `name`, or what the file holds that `name`_FILE names; None where neither says anything.

    Raises TidegateError for a file that cannot be read.
    """
    given = os.environ if environ is None else environ
    text, path = given.get(name, ""), given.get(f"{name}_FILE")
    if not text and path:
        try:
            text = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise TidegateError(f"{name}_FILE: {path} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise TidegateError(f"{name}_FILE: {path} is not text; write the secret as hexadecimal") from error
    return Secret(text.strip()) if text.strip() else None


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's alone.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0"), is_loopback("::ffff:127.0.0.1")
    (True, True, False, True)
    """
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return host == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
