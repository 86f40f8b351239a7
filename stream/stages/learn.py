"""Learn: examples become better learners, and their snapshots. One shard holds the courses of its models.

Owns the routing of examples, alerts and commands, and the state of the stage. What happens to one model is told in
`stream.stages.course`. Refuses to know how predictions and labels were joined, and who serves the snapshots.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from learners.assignment import Routing
from stream import codec, versions
from stream.commands import Gate, Refused, Rules, Taken
from stream.config import Config
from stream.contract import ALERTS, COMMANDS, EXAMPLES, Batch, Output, Record
from stream.errors import InputFault
from stream.events import Alert, Example
from stream.joining.letters import dead_letter
from stream.joining.partition import partition_of
from stream.stages.course import Course, CourseState
from stream.stages.publishing import Signing
from stream.stages.roster import Served

VERSION: Final = 3


class _State(msgspec.Struct):
    version: int = VERSION
    courses: dict[str, CourseState] = {}
    examples: int = 0
    rejected: int = 0
    taken: Taken = msgspec.field(default_factory=Taken)


class Learn:
    """One shard of the stage. Without a `key` nothing is published: an unsigned snapshot would not be opened. Without
    `rules` commands are not verified."""

    def __init__(
        self, config: Config, shard: int, shards: int, key: bytes | None, key_id: str = "dev",
        rules: Rules | None = None,
    ) -> None:  # fmt: skip
        signing = None if key is None else Signing(key, key_id, config.hash())
        self._shard = shard
        self._shards = shards
        self._gate = Gate(rules)
        self._courses = {
            name: Course(name, model, signing)
            for name, model in config.models.items()
            if model.learn is not None and model.learn.policy != "off"
        }
        self._examples = 0
        self._rejected = 0

    def process(self, batch: Batch) -> list[Output]:
        out: list[Output] = []
        for chunk in batch.chunks:
            take = _TAKE[chunk.input]
            for record in chunk.records:
                try:
                    take(self, record, out)
                except InputFault as fault:
                    self._rejected += 1
                    out.append(dead_letter(chunk.input, chunk.partition, record, fault))
        return out

    def _example(self, record: Record, out: list[Output]) -> None:
        example = codec.decode(Example, record.value)
        course = self._courses.get(example.prediction.model)
        if course is not None:
            self._examples += 1
            course.example(example, out)

    def _alert(self, record: Record, out: list[Output]) -> None:
        alert = codec.decode(Alert, record.value)
        course = self._courses.get(alert.model)
        if course is not None:
            course.alert(alert, out)

    def _command(self, record: Record, out: list[Output]) -> None:
        """Commands come from people, so one that cannot be read is a dead letter. One that must not be obeyed is only
        counted: watch reads the same commands with the same keys, and tells of it."""
        try:
            command = self._gate.admit(record)
        except Refused:
            self._rejected += 1
            return
        course = self._courses.get(command.model)
        if course is None:
            return
        # In another partition it would find a model that has learned nothing, and publish that, say.
        belongs = partition_of(command.model.encode(), self._shards)
        if belongs != self._shard:
            where = f"lies in partition {self._shard}, its model's is {belongs}"
            raise InputFault("wrong_partition", f"command {command.command_id} {where}; use its model as the key")
        course.command(command, record.timestamp_s, out)

    def served(self, model: str) -> Mapping[str, Served]:
        """The live learners of a model, the champion first; the mapping changes as versions do."""
        return self._courses[model].served

    def routing(self, model: str) -> Routing | None:
        """Which of the learners serves whom; None: the champion serves everybody."""
        return self._courses[model].routing

    def digests(self) -> dict[str, dict[str, str]]:
        """Every learner's state by value. Slow: it walks whole models."""
        return {name: course.digests() for name, course in self._courses.items()}

    def snapshot(self) -> bytes:
        courses = {name: course.state() for name, course in self._courses.items()}
        return codec.pack(_State(VERSION, courses, self._examples, self._rejected, self._gate.taken))

    def restore(self, state: bytes) -> None:
        """Models and learners that the configuration no longer has are dropped, new ones start untrained. Raises
        StateError."""
        versions.check("learn", state, VERSION)
        read: _State = codec.unpack(_State, state)
        self._examples, self._rejected = read.examples, read.rejected
        self._gate.taken = read.taken
        for name, course in self._courses.items():
            if name in read.courses:
                course.restore(read.courses[name])

    def figures(self) -> dict[str, Any]:
        """Of the models that this shard has seen examples of; a lone shard tells of all."""
        models = {n: c.figures() for n, c in self._courses.items() if self._shards == 1 or c.kept.seen}
        return {"examples": self._examples, "rejected": self._rejected, "models": models}


_TAKE = {EXAMPLES: Learn._example, ALERTS: Learn._alert, COMMANDS: Learn._command}
