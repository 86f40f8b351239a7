"""What a target of `deliver` may say: its address, its name, the names of its secrets.

Owns what is refused, and every fault's words; refuses to know how anything is sent. A fault never repeats a URL or what
stands where a name belongs: either may be a secret that somebody has put into the file.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, get_args, get_type_hints
from urllib.parse import SplitResult, urlsplit

from stream import codec
from stream.events import Alert

if TYPE_CHECKING:
    from stream.config import Deliver

KINDS: Final[tuple[str, ...]] = get_args(get_type_hints(Alert)["kind"])

ALERTS_PATH: Final = "/api/v2/alerts"
"""Where an Alertmanager takes alerts, below its own address."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
"""What Kafka takes as a part of a consumer group's name, and people as a word."""

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
"""Capitals only, by convention: a token pasted in place of its name is then nearly always refused."""

_PRINTABLE = re.compile(r"[\x21-\x7e]+")


def url_of(target: Deliver) -> str:
    """Where requests go."""
    if target.alertmanager is not None:
        return target.alertmanager.rstrip("/") + ALERTS_PATH
    assert target.webhook is not None
    return target.webhook


def name_of(target: Deliver) -> str:
    """The target's name: given, or made from what it is and where."""
    kind = "webhook" if target.alertmanager is None else "alertmanager"
    return target.name or f"{kind}-{codec.digest(url_of(target).encode())[:8]}"


def origin_of(target: Deliver) -> str:
    """Scheme and host: what may be shown of a URL, for the path of a webhook is often its secret."""
    parts = urlsplit(url_of(target))
    return f"{parts.scheme}://{parts.netloc}"


def faults(targets: Sequence[Deliver], models: Collection[str]) -> Iterator[str]:
    """Everything that is wrong with the targets, each with its path."""
    names: list[str] = []
    for i, target in enumerate(targets):
        at = f"deliver[{i}]"
        if (target.alertmanager is None) == (target.webhook is None):
            yield f"{at}: give either alertmanager (its address) or webhook (a URL)"
            continue
        yield from (f"{at}.{fault}" for fault in _address(target))
        yield from (f"{at}.{fault}" for fault in _settings(target, models))
        name = name_of(target)
        if name in names:
            yield f"{at}.name: deliver[{names.index(name)}] has the same; each keeps a place of its own in the topic"
        names.append(name)


def _address(target: Deliver) -> Iterator[str]:
    if target.alertmanager is not None:
        found, parts = _url("alertmanager", target.alertmanager)
        if parts is not None and (parts.query or parts.path.rstrip("/").endswith(ALERTS_PATH)):
            yield f"alertmanager: give its own address, http://host:9093 say; {ALERTS_PATH} is added"
    else:
        found, parts = _url("webhook", target.webhook or "")
    yield from found
    if parts is not None and parts.scheme == "http" and not _is_loopback(parts.hostname) and not target.insecure:
        setting = "webhook" if target.alertmanager is None else "alertmanager"
        yield f"{setting}: plain http shows alerts and tokens on the way; use https, or set insecure: true"
    if target.link is not None:
        yield from _url("link", target.link, fragment=True)[0]


def _url(setting: str, url: str, fragment: bool = False) -> tuple[list[str], SplitResult | None]:
    """What is wrong with a URL, and its parts where it has them."""
    try:
        parts = urlsplit(url) if _PRINTABLE.fullmatch(url) else None
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError(setting)
    except ValueError:
        return [f"{setting}: not a URL; write https://host/path"], None
    if "@" in parts.netloc:
        return [f"{setting}: no user or password in a URL; name a variable in token_env"], None
    if parts.fragment and not fragment:
        return [f"{setting}: the part after # is never sent; leave it out"], None
    return [], parts


def _is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ip_address(host or "").is_loopback
    except ValueError:
        return False


def _settings(target: Deliver, models: Collection[str]) -> Iterator[str]:
    if target.name is not None and not _NAME.fullmatch(target.name):
        yield "name: write small letters, digits, '.', '_' and '-', at most 64"
    for setting, known, given in (("models", list(models), target.models), ("kinds", list(KINDS), target.kinds)):
        for i, name in enumerate(given):
            if name not in known:
                close = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
                yield f"{setting}[{i}]: no {setting.removesuffix('s')} {name!r}; {hint}"
    for setting in ("token_env", "hmac_env"):
        name = getattr(target, setting)
        if name is not None and not _VARIABLE.fullmatch(name):
            yield f"{setting}: write the name of an environment variable in capitals, not the secret itself"
    if target.timeout <= 0:
        yield "timeout: must be above 0"
    if target.alertmanager is not None and target.hmac_env is not None:
        yield "hmac_env: an Alertmanager checks no signatures; use token_env"
    if target.webhook is not None and target.link is not None:
        yield "link: only an Alertmanager takes one"
