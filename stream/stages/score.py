"""Score: requests become predictions of the champion and of every shadow. The first stage of the loop, and optional.

On Kafka it serves the newest snapshots that it has read, each verified before it is opened. In the embedded runtime it
asks the live learners, which stand at the same place of the log. Where labels are scarce it also tells which answers
somebody should label. Refuses to know labels and how models learn.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, Final, Protocol

import msgspec

from learners import assignment, registry, snapshots
from learners.assignment import Routing
from learners.contract import Said
from stream import codec, config, versions
from stream.contract import PREDICTIONS, REQUESTS, Batch, Chunk, Output, Record
from stream.errors import InputFault, StateError
from stream.events import Heartbeat, ModelSnapshot, Prediction, Request, Role, Traffic
from stream.joining.letters import dead_letter
from stream.learning import CHAMPION, PREVIOUS, RIVAL
from stream.stages.asking import Asking, AskingState
from stream.stages.roster import Served, specs

VERSION: Final = 3


class Live(Protocol):
    """The learn stage, where it is the same process at the same place of the log."""

    def served(self, model: str) -> Mapping[str, Served]: ...

    def routing(self, model: str) -> Routing | None: ...


class _Held(msgspec.Struct):
    """A loaded snapshot as it came: what a restored stage loads again."""

    version: str
    updates: int
    envelope: bytes


class _State(msgspec.Struct):
    version: int = VERSION
    held: dict[str, dict[str, _Held]] = {}
    traffic: dict[str, Traffic] = {}
    requests: int = 0
    predictions: int = 0
    rejected: int = 0
    loaded: int = 0
    refused: int = 0
    shadow_faults: int = 0
    canaries: int = 0
    canary_faults: int = 0
    asking: dict[str, AskingState] = {}


class Score:
    """One shard of the stage. `live` gives the live learners of a model; without it, `keys` open the snapshots.

    A model without a snapshot is served by the untrained learner of its configuration, version "0".
    """

    def __init__(
        self, config: config.Config, shard: int, shards: int, live: Live | None, keys: Mapping[str, bytes]
    ) -> None:
        self._config = config
        self._live = live
        self._keys = keys
        self._state = _State()
        self._learners: dict[str, dict[str, Served]] = {}
        self._models = {
            name: specs(model) for name, model in config.models.items() if model.learn and model.learn.policy != "off"
        }
        self._asking = {
            name: Asking(name, model, shard, shards)
            for name, model in config.models.items()
            if name in self._models and model.learn is not None and model.learn.ask is not None
        }
        if live is None:
            for model in self._models:
                self._learners[model] = {name: self._untrained(model, name) for name in self._models[model]}

    def process(self, batch: Batch) -> list[Output]:
        out: list[Output] = []
        for chunk in batch.chunks:
            take = self._request if chunk.input == REQUESTS else self._snapshot
            for record in chunk.records:
                try:
                    take(chunk, record, out)
                except InputFault as fault:
                    self._state.rejected += 1
                    out.append(dead_letter(chunk.input, chunk.partition, record, fault))
        return out

    def _request(self, chunk: Chunk, record: Record, out: list[Output]) -> None:
        request = codec.decode_inbound(Request, record.value, record.timestamp_s)
        if isinstance(request, Heartbeat):
            out.append(Output(PREDICTIONS, "", request, chunk.partition))
            return
        if request.model not in self._models:
            raise InputFault("model", f"no model {request.model!r} that learns; add it under models, with learn")
        learners, routing = self._asked(request.model)
        key = request.prediction_id
        answer = self._answer(request, learners, routing)
        predictions = [answer]
        for name, served in learners.items():
            if name != answer.learner:
                try:
                    predictions.append(_ask(request, name, "shadow", served))
                except InputFault:
                    self._state.shadow_faults += 1
        self._state.requests += 1
        self._state.predictions += len(predictions)
        asking = self._asking.get(request.model)
        asked = None if asking is None else asking.offer(answer, predictions)
        out += [Output(PREDICTIONS, key, each) for each in predictions]
        if asked is not None:
            out.append(asked)

    def _asked(self, model: str) -> tuple[Mapping[str, Served], Routing | None]:
        """Who is to answer of a model, and which of them is served to whom."""
        if self._live is not None:
            return self._live.served(model), self._live.routing(model)
        learners, traffic = self._learners[model], self._state.traffic.get(model)
        if traffic is None:
            return learners, None
        return {name: learners[name] for name in traffic.learners if name in learners}, traffic.routing

    def _answer(self, request: Request, learners: Mapping[str, Served], routing: Routing | None) -> Prediction:
        """What is served. Where the arm of this request cannot answer, the champion does, and the propensity is not
        told: it is no longer known."""
        if routing is None:
            return _ask(request, CHAMPION, "champion", learners[CHAMPION])
        arm, propensity = assignment.assign(
            routing, assignment.key_of(routing, request.prediction_id, request.tags | request.features)
        )
        if arm != CHAMPION:
            try:
                answer = _ask(request, arm, "canary", learners[arm])
            except (InputFault, KeyError):
                self._state.canary_faults += 1
                return _ask(request, CHAMPION, "champion", learners[CHAMPION])
            self._state.canaries += 1
        else:
            answer = _ask(request, CHAMPION, "champion", learners[CHAMPION])
        answer.propensity = propensity
        return answer

    def _snapshot(self, chunk: Chunk, record: Record, out: list[Output]) -> None:
        """A snapshot that cannot be trusted is refused with its reason; the one before it goes on serving."""
        try:
            event = codec.decode_either(ModelSnapshot, Traffic, record.value)
            if event.model not in self._models:
                return  # of another configuration: not ours to judge
            if isinstance(event, Traffic):
                self._state.traffic[event.model] = event
                return
            if event.learner not in self._parts(event.model):
                return
            served = self._open(event.model, event.learner, event.envelope)
            if (served.version, served.learner.updates) != (event.version, event.updates):
                raise snapshots.SnapshotError("the event and its envelope name different versions")
        except (StateError, snapshots.SnapshotError) as error:
            self._state.refused += 1
            raise InputFault("snapshot", str(error)) from error
        self._state.loaded += 1
        held = self._state.held.setdefault(event.model, {})
        held[event.learner] = _Held(event.version, event.updates, event.envelope)
        if self._live is None:
            self._learners[event.model][event.learner] = served

    def _parts(self, model: str) -> Collection[str]:
        """Names under which learners of a model may come; none of a model of another configuration."""
        return {*self._models[model], PREVIOUS, RIVAL} if model in self._models else ()

    def _open(self, model: str, name: str, envelope: bytes) -> Served:
        opened = self._verified(model, name, envelope)
        if not self._is_configured(model, opened.header):
            paths = ", ".join(spec.path for spec in self._models[model].values())
            raise snapshots.SnapshotError(f"the snapshot is of {opened.header.path}, the configuration knows {paths}")
        return Served(snapshots.load(opened), opened.header.version)

    def _verified(self, model: str, name: str, envelope: bytes) -> snapshots.Opened:
        opened = snapshots.open_sealed(envelope, self._keys)
        header = opened.header
        if (header.model, header.learner) != (model, name):
            raise snapshots.SnapshotError(f"the envelope is of {header.model}/{header.learner}, not of {model}/{name}")
        return opened

    def _is_configured(self, model: str, header: snapshots.Header) -> bool:
        """Whether some learner of the model is built so; under which name does not matter, for parts change hands."""
        known = self._models[model].values()
        return any((header.path, header.parameters) == (spec.path, spec.parameters) for spec in known)

    def _untrained(self, model: str, name: str) -> Served:
        spec, settings = self._models[model][name], self._config.models[model]
        assert settings.learn is not None
        return Served(registry.make(spec.path, spec.parameters, settings.task, settings.learn.seed), "0")

    def snapshot(self) -> bytes:
        asking = {model: one.state() for model, one in self._asking.items()}
        return codec.pack(msgspec.structs.replace(self._state, asking=asking))

    def restore(self, state: bytes) -> None:
        """Loads the held snapshots again, verified again; those of learners that are configured no more, or otherwise,
        are let go, and so is what was asked for under other settings. Raises StateError."""
        versions.check("score", state, VERSION)
        read: _State = codec.unpack(_State, state)
        for model in list(read.held):
            parts = self._parts(model)
            read.held[model] = {name: one for name, one in read.held[model].items() if name in parts}
            if not parts:
                del read.held[model]
        read.traffic = {model: told for model, told in read.traffic.items() if model in self._models}
        for model, asking in self._asking.items():
            if model in read.asking:
                asking.restore(read.asking[model])
        read.asking = {}
        self._state = read
        if self._live is not None:
            return
        for model, held in read.held.items():
            for name, one in list(held.items()):
                try:
                    opened = self._verified(model, name, one.envelope)
                    if self._is_configured(model, opened.header):
                        self._learners[model][name] = Served(snapshots.load(opened), opened.header.version)
                    else:
                        del held[name]
                except snapshots.SnapshotError as error:
                    raise StateError(f"state of score: {model}/{name}: {error}") from error

    def figures(self) -> dict[str, Any]:
        s = self._state
        serving = {
            model: {name: {"version": one.version, "updates": one.updates} for name, one in held.items()}
            for model, held in s.held.items()
        }
        return {"requests": s.requests, "predictions": s.predictions, "rejected": s.rejected, "loaded": s.loaded,
                "refused": s.refused, "shadow_faults": s.shadow_faults, "canaries": s.canaries,
                "canary_faults": s.canary_faults, "models": serving,
                "asking": {model: one.figures() for model, one in self._asking.items()}}  # fmt: skip


def _ask(request: Request, name: str, role: Role, served: Served) -> Prediction:
    """What one learner says. Raises InputFault where it cannot take the features, or answers with no number."""
    try:
        said = served.learner.predict(request.features)
    except Exception as error:  # a model of any kind stands behind this, and features of any kind before it
        raise InputFault("features", f"{name} cannot use them: {type(error).__name__}: {error}") from error
    if not _is_sound(said):
        raise InputFault("not_finite", f"{name} answered {said.prediction!r} with score {said.score!r}")
    return Prediction(
        prediction_id=request.prediction_id,
        model=request.model,
        event_time=request.event_time,
        features={} if role == "shadow" else request.features,
        prediction=said.prediction,
        model_version=served.version,
        learner=name,
        role=role,
        score=said.score,
        probabilities=said.probabilities,
        tags={} if role == "shadow" else request.tags,
        model_updates=served.learner.updates,
    )


def _is_sound(said: Said) -> bool:
    answer = said.prediction
    return (said.score is None or math.isfinite(said.score)) and (type(answer) is not float or math.isfinite(answer))
