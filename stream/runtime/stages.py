"""Which stages a configuration runs, and how each is made: the one place where runtimes meet constructors.

Owns the keys that sign snapshots and commands, which come from the environment and never from a topic, and what is said
at the start where something is not protected; refuses to know what stages do.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from stream import commands
from stream.commands import Rules
from stream.config import Config
from stream.contract import Stage
from stream.errors import TidegateError
from stream.runtime import constraints, references
from stream.runtime.environment import is_loopback, secret
from stream.stages.join import Join
from stream.stages.learn import Learn
from stream.stages.score import Score
from stream.stages.watch import Watch

KEY_VARIABLE: Final = "TIDEGATE_SNAPSHOT_KEY"
OLD_VARIABLE: Final = "TIDEGATE_SNAPSHOT_KEYS_OLD"
KEY_BYTES_MIN: Final = commands.KEY_BYTES_MIN
COMMAND_VARIABLES: Final = ("TIDEGATE_COMMAND_KEYS", "TIDEGATE_COMMAND_KEY")
"""What a worker verifies with; the second is also what `tidegate command` signs with."""


class Secrets(NamedTuple):
    """The key that signs snapshots and its id, keys that signed before, and keys of commands. Does not show itself."""

    key: bytes | None = None
    key_id: str = ""
    old: tuple[bytes, ...] = ()
    commands: tuple[commands.Key, ...] = ()

    @property
    def keys(self) -> dict[str, bytes]:
        """What opens snapshots, by key id: the key and those before it."""
        known = [] if self.key is None else [(self.key_id, self.key)]
        return dict([*((_key_id(key), key) for key in self.old), *known])

    @property
    def trusted(self) -> tuple[bytes, ...]:
        """Any of these may have signed a snapshot or a whole state; empty where nothing is verified."""
        return tuple(self.keys.values())

    def __repr__(self) -> str:
        old, signers = len(self.old), [key.key_id for key in self.commands]
        return f"Secrets(key={'***' if self.key else None}, key_id={self.key_id!r}, old={old}, commands={signers})"


def secrets_from(environ: Mapping[str, str] = os.environ) -> Secrets:
    """Keys from TIDEGATE_SNAPSHOT_KEY, TIDEGATE_SNAPSHOT_KEYS_OLD, TIDEGATE_COMMAND_KEYS and TIDEGATE_COMMAND_KEY, or
    the files that the same names with _FILE name. Raises TidegateError, which never repeats a key.

    A snapshot's key id is derived from the key, so that a new key has a new one."""
    text = secret(KEY_VARIABLE, environ)
    key = None if text is None else _checked(KEY_VARIABLE, text)
    before = re.split(r"[\s,]+", secret(OLD_VARIABLE, environ) or "")
    old = tuple(_checked(OLD_VARIABLE, text) for text in before if text)
    return Secrets(key, "" if key is None else _key_id(key), old, _command_keys(environ))


def signer(environ: Mapping[str, str] = os.environ) -> commands.Key | None:
    """The key that signs commands here, from TIDEGATE_COMMAND_KEY; None where there is none. Raises TidegateError."""
    found = _keys_in(COMMAND_VARIABLES[1], environ)
    if len(found) > 1:
        raise TidegateError(f"{COMMAND_VARIABLES[1]}: holds {len(found)} keys; give the one that signs")
    return found[0] if found else None


def _command_keys(environ: Mapping[str, str]) -> tuple[commands.Key, ...]:
    found = [key for name in COMMAND_VARIABLES for key in _keys_in(name, environ)]
    return tuple({key.key_id: key for key in found}.values())


def _keys_in(name: str, environ: Mapping[str, str]) -> list[commands.Key]:
    text = secret(name, environ)
    try:
        return [] if text is None else commands.keys_from(text)
    except ValueError as error:
        raise TidegateError(f"{name}: {error}") from None


def _checked(name: str, text: str) -> bytes:
    key = text.encode()
    if len(key) < KEY_BYTES_MIN:
        raise TidegateError(f"{name}: {len(key)} bytes; give at least {KEY_BYTES_MIN} (openssl rand -hex 32)")
    return key


def _key_id(key: bytes) -> str:
    return hashlib.sha256(b"tidegate key id\0" + key).hexdigest()[:8]


def rules_of(config: Config, secrets: Secrets) -> Rules | None:
    """What is verified of commands; None where neither keys nor grants are configured.

    Raises TidegateError where grants and keys do not fit: a name without a key, a key without a grant.
    """
    grants = {} if config.commands is None else config.commands.keys
    if not grants and not secrets.commands:
        return None
    names = {key.name: key for key in secrets.commands}
    missing = [name for name in grants if name not in names]
    if missing or not secrets.commands:
        raise TidegateError(f"commands.keys: no key for {', '.join(missing)}; add NAME:SECRET to TIDEGATE_COMMAND_KEYS")
    idle = [name for name in names if grants and name not in grants]
    if idle:
        raise TidegateError(f"TIDEGATE_COMMAND_KEYS: {', '.join(idle)} may order nothing; add it under commands.keys")
    return Rules(config.topics.prefix, {key.key_id: key for key in secrets.commands}, grants)


def unprotected(config: Config, secrets: Secrets) -> Iterator[str]:
    """What of an installation whose broker is not this machine's alone is open to whoever reaches it, a line each."""
    if config.kafka is None:
        return
    servers = [server.strip().rsplit(":", 1)[0] for server in config.kafka.bootstrap_servers.split(",")]
    if all(map(is_loopback, servers)):
        return
    commands_topic, journal = config.topics.name("commands"), config.topics.name("journal")
    if config.kafka.security_protocol in ("PLAINTEXT", "SASL_PLAINTEXT"):
        yield f"kafka: {config.kafka.security_protocol} is not encrypted; write security_protocol: SASL_SSL"
    if rules_of(config, secrets) is None:
        yield f"commands are not signed: whoever may write to {commands_topic} may order; set TIDEGATE_COMMAND_KEYS"
    if secrets.key is None:
        yield f"states are not signed: whoever may write to {journal} may change them; set {KEY_VARIABLE}"


def learns(config: Config) -> bool:
    """Whether any model of the configuration learns."""
    return any(model.learn is not None and model.learn.policy != "off" for model in config.models.values())


def stages_of(config: Config) -> tuple[str, ...]:
    """The stages that a configuration needs: without a model that learns, nothing scores and nothing learns."""
    return ("score", "join", "watch", "learn") if learns(config) else ("join", "watch")


def need_key(config: Config, secrets: Secrets) -> None:
    """Raises TidegateError if snapshots would be written that nobody could verify, or keys and grants do not fit."""
    rules_of(config, secrets)
    if learns(config) and secrets.key is None:
        raise TidegateError(
            f"models learn, and their snapshots need a key: set {KEY_VARIABLE} or {KEY_VARIABLE}_FILE "
            "(openssl rand -hex 32)"
        )


def make_stage(name: str, config: Config, partition: int, partitions: int, secrets: Secrets) -> Stage:
    """A fresh stage of one shard."""
    if name == "join":
        return Join(config, partition, partitions)
    if name == "watch":
        rules = rules_of(config, secrets)
        return Watch(config, partition, partitions, references.load(config), constraints.load(config), rules)
    if name == "learn":
        return Learn(config, partition, partitions, secrets.key, secrets.key_id, rules_of(config, secrets))
    if name == "score":
        return Score(config, partition, partitions, None, secrets.keys)
    raise KeyError(name)
