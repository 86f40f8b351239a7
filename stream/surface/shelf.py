"""Snapshots where people find them: a file, a directory of files, the snapshots topic. Owns finding, verifying and
choosing them. Refuses to know what is done with them, and trusts nothing whose signature does not hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from learners import state
from learners.snapshots import Header, Opened, SnapshotError, load, open_sealed
from stream.errors import TidegateError
from stream.runtime.stages import KEY_VARIABLE, secrets_from

SUFFIX: Final = ".snapshot"
"""Of the files that `tidegate replay --snapshots` and `tidegate snapshots export` write."""


class Held(NamedTuple):
    """An envelope and where it was found; what is in it where its signature holds, else why it does not."""

    where: str
    envelope: bytes
    opened: Opened | None
    fault: str
    published: str | None = None

    @property
    def at(self) -> str | None:
        """When it was published; of a file that does not say, the time of the last example that was learned."""
        if self.published is not None or self.opened is None:
            return self.published
        return self.opened.header.lineage.get("to")

    @property
    def trusted(self) -> Opened:
        """Raises TidegateError where the signature does not hold."""
        if self.opened is None:
            raise TidegateError(f"{self.where}: {self.fault}")
        return self.opened

    def document(self) -> dict[str, Any]:
        """As JSON shows it."""
        told: dict[str, Any] = {"where": self.where, "at": self.at, "bytes": len(self.envelope)}
        if self.opened is None:
            return {**told, "signature": self.fault}
        return {**told, "signature": "holds", "header": msgspec.to_builtins(self.opened.header)}


def keys() -> dict[str, bytes]:
    """The keys of the environment by their ids, old ones too. Raises TidegateError where there is none."""
    secrets = secrets_from()
    if not secrets.keys:
        raise TidegateError(f"the key is missing: set {KEY_VARIABLE} or {KEY_VARIABLE}_FILE")
    return secrets.keys


def found(source: Path | None, config_file: Path | None) -> list[Held]:
    """All snapshots of a file, a directory or, with a configuration, the topic; in the order in which they lie there.

    Raises TidegateError where there are none.
    """
    if (source is None) == (config_file is None):
        raise TidegateError("name a file or a directory of snapshots, or the topic's configuration with --config")
    known = keys()
    if config_file is not None:
        held = list(_topic(config_file, known))
        if not held:
            raise TidegateError(f"{config_file.name}: its snapshots topic is empty; a model that learns publishes them")
        return held
    assert source is not None
    files = [source]
    if source.is_dir():
        files = sorted(source.glob(f"*{SUFFIX}"))
        if not files:
            raise TidegateError(f"{source}: no {SUFFIX} files; tidegate replay --snapshots {source} writes them")
    return [_held(str(file), _read(file), known) for file in files]


def choose(held: list[Held], model: str | None, learner: str | None, version: str | None) -> Held:
    """The newest that fits. Raises TidegateError where none does, or several learners do."""
    if len(held) == 1 and held[0].opened is None:
        return held[0]
    fits = [one for one in held if one.opened is not None and _fits(one.opened.header, model, learner, version)]
    if not fits:
        there = _names(held) or "none whose signature holds"
        raise TidegateError(f"no snapshot fits --model, --learner and --version; there are: {there}")
    if len({(one.trusted.header.model, one.trusted.header.learner) for one in fits}) > 1:
        raise TidegateError(f"several learners: add --model and --learner; there are: {_names(fits)}")
    return max(enumerate(fits), key=lambda pair: (*_age(pair[1].trusted.header), pair[0]))[1]


def only(held: list[Held], model: str | None, learner: str | None) -> list[Held]:
    """Those of a model and a learner; those that cannot be read stay where none was asked for."""
    asked = model is not None or learner is not None
    return [
        one for one in held if (not asked if one.opened is None else _fits(one.opened.header, model, learner, None))
    ]


def classes(opened: Opened) -> tuple[dict[str, bool], str]:
    """The classes that the state names, with whether each may be made; and why it cannot be loaded here, or nothing."""
    try:
        named = state.classes(opened.payload)
    except SnapshotError:
        named = {}  # a learner of another package, in a form of its own
    try:
        load(opened)
    except SnapshotError as error:
        return named, str(error)
    return named, ""


def _topic(config_file: Path, known: dict[str, bytes]) -> Iterator[Held]:
    from stream import codec
    from stream.contract import SNAPSHOTS
    from stream.events import ModelSnapshot, Traffic
    from stream.runtime.kafka.tail import tail
    from stream.surface.cli_kafka import clients_of, with_kafka

    config = with_kafka(config_file)
    topic = config.topics.name(SNAPSHOTS)
    for partition, record in tail(config, clients_of(config), SNAPSHOTS):
        if isinstance(record.value, bytes):
            event = codec.decode_either(ModelSnapshot, Traffic, record.value)
            if isinstance(event, ModelSnapshot):
                yield _held(f"{topic}-{partition}@{record.offset}", event.envelope, known, event.at)


def _held(where: str, envelope: bytes, known: dict[str, bytes], published: str | None = None) -> Held:
    try:
        return Held(where, envelope, open_sealed(envelope, known), "", published)
    except SnapshotError as error:
        return Held(where, envelope, None, str(error), published)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise TidegateError(f"{file}: cannot be read: {error.strerror}") from error


def _fits(header: Header, model: str | None, learner: str | None, version: str | None) -> bool:
    wanted = ((model, header.model), (learner, header.learner), (version, header.version))
    return all(asked is None or asked == is_ for asked, is_ in wanted)


def _age(header: Header) -> tuple[int, int]:
    """Versions count up; a version that is no number is older than any that is."""
    return int(header.version) if header.version.isdecimal() else -1, header.updates


def _names(held: list[Held]) -> str:
    headers = [one.opened.header for one in held if one.opened is not None]
    return ", ".join(dict.fromkeys(f"{h.model}/{h.learner} version {h.version}" for h in headers))
