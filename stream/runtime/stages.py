"""Which stages a configuration runs, and how each is made: the one place where runtimes meet constructors.

Owns the key that signs snapshots, which comes from the environment and never from a topic; refuses to know what stages
do.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from stream.config import Config
from stream.contract import Stage
from stream.errors import TidegateError
from stream.runtime import constraints, references
from stream.stages.join import Join
from stream.stages.learn import Learn
from stream.stages.score import Score
from stream.stages.watch import Watch

KEY_VARIABLE: Final = "TIDEGATE_SNAPSHOT_KEY"
KEY_BYTES_MIN: Final = 16


class Secrets(NamedTuple):
    """The key that signs snapshots, and its id. Does not show itself."""

    key: bytes | None = None
    key_id: str = ""

    def __repr__(self) -> str:
        return f"Secrets(key={'***' if self.key else None}, key_id={self.key_id!r})"


def secrets_from(environ: Mapping[str, str] = os.environ) -> Secrets:
    """The key from TIDEGATE_SNAPSHOT_KEY, or the file that TIDEGATE_SNAPSHOT_KEY_FILE names. Raises TidegateError.

    The key id is derived from the key, so that a new key has a new one."""
    text = environ.get(KEY_VARIABLE, "")
    path = environ.get(f"{KEY_VARIABLE}_FILE")
    if not text and path:
        try:
            text = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise TidegateError(f"{KEY_VARIABLE}_FILE: {path} cannot be read: {error.strerror}") from error
    key = text.strip().encode()
    if not key:
        return Secrets()
    if len(key) < KEY_BYTES_MIN:
        raise TidegateError(f"{KEY_VARIABLE}: {len(key)} bytes; give at least {KEY_BYTES_MIN} (openssl rand -hex 32)")
    return Secrets(key, hashlib.sha256(b"tidegate key id\0" + key).hexdigest()[:8])


def learns(config: Config) -> bool:
    """Whether any model of the configuration learns."""
    return any(model.learn is not None and model.learn.policy != "off" for model in config.models.values())


def stages_of(config: Config) -> tuple[str, ...]:
    """The stages that a configuration needs: without a model that learns, nothing scores and nothing learns."""
    return ("score", "join", "watch", "learn") if learns(config) else ("join", "watch")


def need_key(config: Config, secrets: Secrets) -> None:
    """Raises TidegateError if snapshots would be written that nobody could verify."""
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
        return Watch(config, partition, partitions, references.load(config), constraints.load(config))
    if name == "learn":
        return Learn(config, partition, partitions, secrets.key, secrets.key_id)
    if name == "score":
        keys = {} if secrets.key is None else {secrets.key_id: secrets.key}
        return Score(config, partition, partitions, None, keys)
    raise KeyError(name)
