"""Which commands are obeyed: those that can be read and, once there are keys, those that a key signed that may order
them, each once and before it expires.

Owns the form of a signature, who may order what, and the memory of what was taken. Refuses to know what obeys a command
and where keys are kept, and asks no clock: a command expires by the time at which its record was written, so the same
log gives the same verdicts whenever it is read.

    signature = HMAC-SHA256(key, canonical JSON of [FORM, prefix of the topics, key id, command_id, action, model,
                                                    arguments, issued_by, issued_at, expires_at])

The prefix of the topics binds an order to one installation. A command is taken at most once, ever: its id is kept until
it expires, and `Taken.latest` does not go back, so what was forgotten has expired. Whoever verifies could also sign: a
worker is trusted with the keys, a topic is not (HMAC: Krawczyk, Bellare and Canetti 1997, RFC 2104).
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from stream import codec, limits
from stream.contract import Record
from stream.errors import InputFault, StateError
from stream.events import Command
from stream.orders import NAME, VALID_S_MAX, May

FORM: Final = "tidegate command 1"
"""Begins what is signed, so that no signature of another form or purpose can be taken for one of this."""

COMMAND_BYTES_MAX: Final = 65_536
"""A larger one is refused before it is decoded; people write a few hundred bytes."""

DEPTH_MAX: Final = 8
"""Nesting of a command, looked at before it is decoded: deeper ones could be read where the stack is short and break
the stage where it is written again."""

SKEW_S_MAX: Final = 300.0
"""How far the clock of a person's machine may run ahead of the broker's."""

TAKEN_MAX: Final = 10_000
"""Ids of commands that have not expired, of one shard: 0.5 MB. Beyond it new ones are refused; an id that was forgotten
before its time could be used again."""

KEY_BYTES_MIN: Final = 16
"""A shorter key can be guessed; 32 random bytes are what one should use."""


class Refused(InputFault):
    """A command that can be read and must not be obeyed. Codes: unsigned, forged, role, future, expired, repeated,
    crowded."""


class Key(NamedTuple):
    """Who signs, and with what. Does not show itself."""

    name: str
    secret: bytes

    @property
    def key_id(self) -> str:
        """Names the key without telling it: two keys of one name may live side by side while one replaces the other."""
        return f"{self.name}-{hashlib.sha256(b'tidegate command key' + bytes([0]) + self.secret).hexdigest()[:8]}"

    def __repr__(self) -> str:
        return f"Key({self.key_id}, ***)"


class Rules(NamedTuple):
    """What is verified. `prefix` is that of the topics, `keys` those known, by id; `may` says what each name may order,
    and is empty where all may everything."""

    prefix: str
    keys: Mapping[str, Key]
    may: Mapping[str, May]

    def allows(self, name: str, action: str) -> bool:
        """Whether a key may order it. Where nothing is granted to anybody, every key may order everything."""
        granted = self.may.get(name, [] if self.may else "all")
        return granted == "all" or (not isinstance(granted, str) and action in granted)


class Taken(msgspec.Struct):
    """Signed commands that were taken and have not expired: id to expiry. `latest`: when the newest was written."""

    latest: float = 0.0
    expiries: dict[str, float] = {}


def keys_from(text: str) -> list[Key]:
    """Keys written as NAME:SECRET, apart by spaces, commas or lines. Raises ValueError, which repeats no secret."""
    keys = []
    for number, entry in enumerate(re.split(r"[\s,]+", text.strip()), 1):
        name, colon, secret = entry.partition(":")
        if not colon or not NAME.fullmatch(name):
            raise ValueError(f"key {number} is not NAME:SECRET; write oncall:$(openssl rand -hex 32), say")
        if len(secret.encode()) < KEY_BYTES_MIN:
            raise ValueError(f"the key of {name} has {len(secret.encode())} bytes; give at least {KEY_BYTES_MIN}")
        keys.append(Key(name, secret.encode()))
    return keys


def sign(command: Command, key: Key, prefix: str) -> Command:
    """The command with key id and signature; anything but these may no longer be changed."""
    named = msgspec.structs.replace(command, key_id=key.key_id, signature=None)
    return msgspec.structs.replace(named, signature=_signature(named, key, prefix))


def read(value: bytes | msgspec.Struct | None) -> Command:
    """Decode a command that a person may have written. Raises InputFault for what is none, too large or too deep."""
    if isinstance(value, bytes):
        if len(value) > COMMAND_BYTES_MAX:
            raise InputFault("huge", f"{len(value)} bytes; a command has at most {COMMAND_BYTES_MAX}")
        if codec.is_deeper(value, DEPTH_MAX):
            raise InputFault("command", f"nested deeper than {DEPTH_MAX}; arguments are a few plain values")
    try:
        command = codec.decode(Command, value)
    except StateError as error:
        raise InputFault("command", str(error)) from error
    if not _is_plain(command.arguments, DEPTH_MAX):
        raise InputFault("command", "arguments hold what is no text, number of 64 bits, truth value, list or mapping")
    return command


class Gate:
    """Stands before the commands of one shard. `taken` is its state; without `rules` it only reads."""

    def __init__(self, rules: Rules | None = None) -> None:
        self._rules = rules
        self.taken = Taken()

    def admit(self, record: Record) -> Command:
        """The command, once; with rules its `issued_by` also names the key. Raises InputFault for one that cannot be
        read, Refused for one that must not be obeyed."""
        command = read(record.value)
        if self._rules is None:
            return command
        key = _verified(command, self._rules)
        if not self._rules.allows(key.name, command.action):
            raise Refused("role", f"key {key.name} may not order {command.action!r}; see commands.keys")
        self._take(command, max(record.timestamp_s, self.taken.latest))
        return msgspec.structs.replace(command, issued_by=f"{command.issued_by} ({key.key_id})".strip())

    def _take(self, command: Command, now: float) -> None:
        """Note that it is taken. Raises Refused where its time is not, or it was taken before."""
        taken, name = self.taken, f"command {command.command_id}"
        issued = _seconds(command.issued_at)
        expires = issued if command.expires_at is None else _seconds(command.expires_at)
        if not 0.0 < expires - issued <= VALID_S_MAX:
            raise Refused("expired", f"{name} must expire within {VALID_S_MAX:.0f} s after issued_at; set expires_at")
        if issued > now + SKEW_S_MAX:
            raise Refused("future", f"{name} was issued {issued - now:.0f} s after it was written; set the clock right")
        if expires < now:
            raise Refused("expired", f"{name} expired {now - expires:.0f} s before it was written; order it again")
        if command.command_id in taken.expiries:
            raise Refused("repeated", f"{name} was taken before; each is obeyed once, order it again under a new id")
        kept = {known: until for known, until in taken.expiries.items() if until >= now}
        if len(kept) >= TAKEN_MAX:
            raise Refused("crowded", f"{name}: {TAKEN_MAX} commands have not expired yet; order it again later")
        self.taken = Taken(now, {**kept, command.command_id: expires})


def _verified(command: Command, rules: Rules) -> Key:
    """The key that signed. Raises Refused."""
    name = f"command {command.command_id}"
    if not command.signature or not command.key_id:
        raise Refused("unsigned", f"{name} is not signed; set TIDEGATE_COMMAND_KEY where it is ordered")
    key = rules.keys.get(command.key_id)
    if key is None:
        raise Refused("forged", f"{name} names a key that is not known here; add it to TIDEGATE_COMMAND_KEYS")
    if not hmac.compare_digest(_signature(command, key, rules.prefix).encode(), command.signature.encode()):
        raise Refused("forged", f"{name} is not what {command.key_id} signed for {rules.prefix!r}; order it again")
    return key


def _signature(command: Command, key: Key, prefix: str) -> str:
    expires = None if command.expires_at is None else _seconds(command.expires_at)
    signed = [
        FORM, prefix, command.key_id, command.command_id, command.action, command.model, command.arguments,
        command.issued_by, _seconds(command.issued_at), expires,
    ]  # fmt: skip
    return hmac.new(key.secret, codec.canonical(signed), hashlib.sha256).hexdigest()


def _seconds(moment: float | datetime) -> float:
    return moment.timestamp() if isinstance(moment, datetime) else float(moment)


def _is_plain(value: Any, depth: int) -> bool:
    """Whether a value can be written again as JSON and as msgpack."""
    if isinstance(value, str):
        return len(value) <= limits.TEXT_CHARS_MAX
    if value is None or isinstance(value, bool):
        return True
    if isinstance(value, int):
        return -(2**63) <= value < 2**64
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return depth > 0 and all(isinstance(k, str) and _is_plain(v, depth - 1) for k, v in value.items())
    return isinstance(value, list) and depth > 0 and all(_is_plain(each, depth - 1) for each in value)
