"""Commands: read with bounds, obeyed only if a key signed that may order them, once, and before they expire (F53)."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream import codec, commands
from stream.commands import Gate, Key, Refused, Rules, keys_from, sign
from stream.config import parse
from stream.contract import COMMANDS, DEAD_LETTERS, DECISIONS, Batch, Chunk, Record
from stream.errors import ConfigError, InputFault, TidegateError
from stream.events import Command
from stream.joining.partition import partition_of
from stream.orders import ACTIONS, VALID_S_MAX
from stream.runtime import stages
from stream.runtime.embedded import Embedded
from stream.runtime.stages import Secrets, make_stage, rules_of, secrets_from, unprotected
from stream.stages.learn import Learn
from stream.stages.watch import Watch
from tests.learning import LIGHT, configured, events, examples, fed

NOW = 1_700_000_000.0
ONCALL, OWNER, STRANGER = Key("oncall", b"o" * 32), Key("owner", b"w" * 32), Key("oncall", b"x" * 32)
RULES = Rules("tidegate", {key.key_id: key for key in (ONCALL, OWNER)}, {"oncall": ["pause", "mute"], "owner": "all"})


def order(number: int = 1, action: str = "pause", model: str = "m", **more: Any) -> Command:
    times = {"issued_at": NOW - 10, "expires_at": NOW + 600}
    return Command(command_id=f"c{number}", action=action, model=model, issued_by="ann", **{**times, **more})


def signed(command: Command, key: Key = OWNER, prefix: str = "tidegate") -> bytes:
    return codec.encode(sign(command, key, prefix))


def record(value: bytes | msgspec.Struct | None, at: float = NOW) -> Record:
    return Record(0, at, b"m", value)


def refused(value: bytes | msgspec.Struct, at: float = NOW, gate: Gate | None = None) -> InputFault:
    with pytest.raises(InputFault) as caught:
        (gate or Gate(RULES)).admit(record(value, at))
    return caught.value


def test_a_signed_command_is_taken_and_tells_which_key_signed_it() -> None:
    gate = Gate(RULES)
    taken = gate.admit(record(signed(order(), ONCALL)))
    assert (taken.action, taken.issued_by) == ("pause", f"ann ({ONCALL.key_id})")
    assert gate.taken.expiries == {"c1": NOW + 600} and gate.taken.latest == NOW


def test_another_program_can_sign_as_the_documentation_says() -> None:
    """RFC 2104 over the list that `stream.commands` names, by the standard library alone."""
    secret = b"0123456789abcdef" * 2
    key_id = "oncall-" + hashlib.sha256(b"tidegate command key\0" + secret).hexdigest()[:8]
    arguments = {"until": 1.5, "stream": "é/x"}
    listed = ["tidegate command 1", "tidegate", key_id, "c1", "mute", "m", arguments, "ann", NOW, NOW + 60]
    text = json.dumps(listed, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    signature = hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()
    wire = {
        "command_id": "c1", "action": "mute", "model": "m", "arguments": arguments, "issued_by": "ann",
        "issued_at": "2023-11-14T22:13:20Z", "expires_at": NOW + 60, "key_id": key_id, "signature": signature,
    }  # fmt: skip
    rules = Rules("tidegate", {key_id: Key("oncall", secret)}, {})
    assert Gate(rules).admit(record(json.dumps(wire).encode())).arguments == arguments


def test_without_keys_commands_are_read_and_nothing_else() -> None:
    gate = Gate()
    assert gate.admit(record(codec.encode(order(expires_at=None)))).issued_by == "ann"
    assert gate.taken.expiries == {}


@pytest.mark.parametrize(
    ("value", "code", "words"),
    [
        (codec.encode(order()), "unsigned", "set TIDEGATE_COMMAND_KEY where it is ordered"),
        (signed(order(), STRANGER), "forged", "a key that is not known here"),
        (signed(order(), OWNER, "staging"), "forged", f"not what {OWNER.key_id} signed for 'tidegate'"),
        (signed(order(action="promote"), ONCALL), "role", "key oncall may not order 'promote'"),
        (signed(order(expires_at=NOW - 1)), "expired", "expired 1 s before it was written"),
        (signed(order(expires_at=None)), "expired", "must expire"),
        (signed(order(expires_at=NOW + 2 * VALID_S_MAX)), "expired", "within 604800 s after issued_at"),
        (signed(order(issued_at=NOW + 400)), "future", "issued 400 s after it was written"),
    ],
)
def test_what_must_not_be_obeyed_is_refused_with_a_clear_line(value: bytes, code: str, words: str) -> None:
    fault = refused(value)
    assert isinstance(fault, Refused) and fault.code == code and words in fault.reason and "\n" not in fault.reason


@pytest.mark.parametrize(
    "change",
    [
        {"action": "promote"},
        {"model": "n"},
        {"command_id": "c2"},
        {"issued_by": "eve"},
        {"expires_at": NOW + 601},
        {"issued_at": NOW - 11},
        {"arguments": {"learner": "evil"}},
        {"signature": "0" * 64},
        {"signature": "\udcff".encode("utf-8", "surrogatepass").decode("utf-8", "replace")},
        {"key_id": ONCALL.key_id},
    ],
    ids=str,
)
def test_a_command_that_was_changed_after_it_was_signed_is_forged(change: dict[str, Any]) -> None:
    command = msgspec.structs.replace(sign(order(), OWNER, "tidegate"), **change)
    assert refused(codec.encode(command)).code == "forged"


@given(st.integers(0, 500), st.integers(1, 255))
def test_no_flipped_byte_of_a_signed_command_makes_another_order(at: int, flip: int) -> None:
    value = bytearray(signed(order(action="mute", arguments={"until": NOW, "stream": "x"})))
    value[at % len(value)] ^= flip
    try:
        taken = Gate(RULES).admit(record(bytes(value)))
    except InputFault:
        return
    assert (taken.action, taken.arguments, taken.command_id) == ("mute", {"until": NOW, "stream": "x"}, "c1")


def test_a_command_is_taken_once_whatever_its_sender_claims_of_the_time() -> None:
    """The id is kept until it has expired, and the time of the gate does not go back: a record that pretends to be old
    does not bring a forgotten command to life again."""
    gate = Gate(RULES)
    gate.admit(record(signed(order(1)), NOW))
    assert refused(signed(order(1)), NOW + 5, gate).code == "repeated"
    gate.admit(record(signed(order(2, issued_at=NOW + 1_000, expires_at=NOW + 2_000)), NOW + 1_000))
    assert list(gate.taken.expiries) == ["c2"], "what has expired is forgotten"
    assert refused(signed(order(1)), NOW, gate).code == "expired"


def test_a_refused_command_leaves_no_trace() -> None:
    """Else whoever can write nonsense could fill the memory, or move the time on."""
    gate = Gate(RULES)
    for value in (codec.encode(order()), signed(order(), STRANGER), signed(order(action="halt"), ONCALL)):
        refused(value, NOW + 1e9, gate)
    assert gate.taken == commands.Taken()
    gate.admit(record(signed(order())))


def test_when_too_many_have_not_expired_new_ones_are_refused_and_none_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(commands, "TAKEN_MAX", 3)
    gate = Gate(RULES)
    for number in range(3):
        gate.admit(record(signed(order(number))))
    assert refused(signed(order(3)), NOW, gate).code == "crowded"
    assert refused(signed(order(0)), NOW, gate).code == "repeated"
    gate.admit(record(signed(order(3, expires_at=NOW + 700)), NOW + 601))


def deep(levels: int) -> bytes:
    return b'{"command_id": "c", "action": "pause", "model": "m", "arguments": {"a": %s%s}}' % (
        b"[" * levels,
        b"]" * levels,
    )


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (deep(20), "command"),
        (deep(30_000), "command"),
        (b'{"x": "' + b'\\"' * 30_000, "command"),
        (codec.encode(order(arguments={"a": "x" * 70_000})), "huge"),
        (codec.encode(order(arguments={"a": "x" * 5_000})), "command"),
        (deep(0).replace(b'"a": ', b'"a": ' + b"9" * 400), "command"),
        (deep(0).replace(b'"a": ', b'"a": 1e999'), "command"),
        (b"\xff\xfe", "command"),
        (b"", "command"),
    ],
    ids=["deep", "very deep", "endless text", "huge", "long text", "long number", "infinite", "no text", "empty"],
)
def test_a_command_that_could_break_a_stage_is_refused_before_or_as_it_is_read(value: bytes, code: str) -> None:
    """F53: without keys too."""
    start = time.process_time()
    assert refused(value, gate=Gate()).code == code
    assert time.process_time() - start < 1.0, "linear in its length"


def test_brackets_in_texts_are_no_depth() -> None:
    assert commands.read(codec.encode(order(arguments={"why": "[[[[[[[[[[[[[{{{{"}))).arguments["why"].startswith("[")


# ---- in the stages ---------------------------------------------------------------------------------------------------


def taken_by(stage: Learn | Watch, values: list[bytes], partition: int = 0) -> list[Any]:
    records = [Record(i, NOW, b"m", value) for i, value in enumerate(values)]
    return stage.process(Batch(0.0, (Chunk(COMMANDS, partition, 0, len(records), records),)))


def letters(outputs: list[Any]) -> list[tuple[str, int]]:
    return [(o.event.code, o.event.offset) for o in outputs if o.topic == DEAD_LETTERS]


def test_a_stage_obeys_what_is_signed_and_the_rest_is_one_dead_letter_each() -> None:
    """F41, F53: learn obeys, watch tells of what is refused, and the decision names the key."""
    learn, watch = Learn(configured(LIGHT), 0, 1, None, rules=RULES), Watch(configured(LIGHT), 0, 1, rules=RULES)
    fed(learn, examples(5))
    values = [
        codec.encode(order(1)),
        signed(order(2), STRANGER),
        signed(order(3), ONCALL),
        signed(order(3), ONCALL),
        signed(order(4, "rollback"), ONCALL),
        signed(order(5, expires_at=NOW - 1), ONCALL),
        b"{",
    ]
    obeyed = taken_by(learn, values)
    assert [d.why["issued_by"] for d in events(obeyed, DECISIONS)] == [f"ann ({ONCALL.key_id})"]
    told = [("unsigned", 0), ("forged", 1), ("repeated", 3), ("role", 4), ("expired", 5), ("command", 6)]
    assert letters(taken_by(watch, values)) == told
    assert letters(obeyed) == [("command", 6)], "learn counts what watch tells of"
    assert watch.figures()["bad_commands"] == 6 and learn.figures()["rejected"] == 6


def test_a_restored_stage_still_knows_what_it_has_taken() -> None:
    for make in (lambda: Learn(configured(LIGHT), 0, 1, None, rules=RULES),
                 lambda: Watch(configured(LIGHT), 0, 1, rules=RULES)):  # fmt: skip
        stage, twin = make(), make()
        taken_by(stage, [signed(order(1), ONCALL)])
        twin.restore(stage.snapshot())
        for one in (stage, twin):
            taken_by(one, [signed(order(1), ONCALL), signed(order(2), ONCALL)])
        assert twin.snapshot() == stage.snapshot()
        counted = twin.figures()["rejected" if isinstance(twin, Learn) else "bad_commands"]
        assert counted == 1


def test_a_command_in_another_models_partition_is_not_obeyed() -> None:
    """There it would find a model that has learned nothing, and publish that."""
    belongs = partition_of(b"m", 2)
    wrong, right = (Learn(configured(LIGHT), shard, 2, b"k" * 16) for shard in (1 - belongs, belongs))
    publish = codec.encode(order(1, "publish"))
    assert letters(taken_by(wrong, [publish], 1 - belongs)) == [("wrong_partition", 0)]
    assert [o.topic for o in taken_by(right, [publish], belongs)] == ["snapshots", "snapshots"]


def test_the_embedded_runtime_needs_no_keys() -> None:
    """Its log is this process: it publishes by a command of its own."""
    config = parse("models: {m: {task: binary, learn: {champion: majority}}}\ncommands: {keys: {owner: all}}")
    embedded = Embedded(config, key=b"k" * 16)
    embedded.publish()
    assert embedded.counts["snapshots"] == 2 and embedded.logs[DEAD_LETTERS] == []


# ---- keys and grants -------------------------------------------------------------------------------------------------

GRANTED = "models: {m: {task: binary}}\ncommands: {keys: {oncall: [acknowledge, mute], owner: all}}"
TWO = {"TIDEGATE_COMMAND_KEYS": f"oncall:{'o' * 32}, owner:{'w' * 32}"}


def test_grants_are_checked_with_the_configuration() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("models: {m: {task: binary}}\ncommands: {keys: {oncall: [acknowlege], 'a b': all, c: some}}")
    assert caught.value.faults == [
        "commands.keys.oncall[0]: no action 'acknowlege'; did you mean acknowledge?",
        "commands.keys.a b: write letters, digits, '_', '.' and '-', at most 40",
        "commands.keys.c: write all, or a list of actions such as [acknowledge, mute]",
    ]


def test_who_may_order_is_part_of_what_decides_outputs() -> None:
    plain = parse("models: {m: {task: binary}}")
    assert parse(GRANTED).hash() != plain.hash() == parse("models: {m: {task: binary}}\ntopics: {prefix: x}").hash()


def test_keys_and_grants_must_fit_or_nothing_starts() -> None:
    config, plain = parse(GRANTED), parse("models: {m: {task: binary}}")
    assert rules_of(plain, Secrets()) is None
    rules = rules_of(config, secrets_from(TWO))
    assert rules is not None and rules.allows("oncall", "mute") and not rules.allows("oncall", "pause")
    assert all(rules.allows("owner", action) for action in ACTIONS) and not rules.allows("eve", "mute")
    alone = rules_of(plain, secrets_from(TWO))
    assert alone is not None and alone.allows("oncall", "promote"), "without grants every key may order everything"
    for environ, words in [
        ({}, "no key for oncall, owner; add NAME:SECRET to TIDEGATE_COMMAND_KEYS"),
        ({"TIDEGATE_COMMAND_KEY": f"owner:{'w' * 32}"}, "no key for oncall"),
        ({"TIDEGATE_COMMAND_KEYS": TWO["TIDEGATE_COMMAND_KEYS"] + f" eve:{'e' * 32}"}, "eve may order nothing"),
    ]:
        with pytest.raises(TidegateError, match=words):
            stages.need_key(config, secrets_from(environ))


def test_a_new_key_and_the_old_one_live_side_by_side() -> None:
    """Rotation: add the new one everywhere, sign with it, then take the old one away."""
    both = rules_of(
        parse(GRANTED), secrets_from({"TIDEGATE_COMMAND_KEYS": TWO["TIDEGATE_COMMAND_KEYS"] + f"\noncall:{'n' * 32}"})
    )
    assert both is not None and len(both.keys) == 3
    gate = Gate(both)
    for number, key in enumerate((Key("oncall", b"o" * 32), Key("oncall", b"n" * 32))):
        gate.admit(record(signed(order(number, "mute"), key)))
    after = Gate(Rules("tidegate", {k: v for k, v in both.keys.items() if v != ONCALL}, both.may))
    assert refused(signed(order(7, "mute"), ONCALL), gate=after).code == "forged"


def test_stages_are_made_with_the_keys_of_the_environment() -> None:
    config = configured(LIGHT)
    for name in ("watch", "learn"):
        stage = make_stage(name, config, 0, 1, secrets_from(TWO))
        out = stage.process(Batch(0.0, (Chunk(COMMANDS, 0, 0, 1, [record(codec.encode(order()))]),)))
        assert letters(out) == ([("unsigned", 0)] if name == "watch" else [])


@pytest.mark.parametrize(
    "text", ["hunter2-hunter2-hunter2", "on call:hunter2-hunter2-hunter2", "oncall:hunter2", ":hunter2-hunter2-hunter2"]
)
def test_a_key_that_is_none_is_told_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="key") as caught:
        keys_from(text)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(TidegateError, match="TIDEGATE_COMMAND_KEYS: ") as told:
        secrets_from({"TIDEGATE_COMMAND_KEYS": text})
    assert "hunter2" not in str(told.value) and told.value.__cause__ is None


def test_one_key_signs() -> None:
    assert stages.signer({}) is None
    assert stages.signer({"TIDEGATE_COMMAND_KEY": f"oncall:{'o' * 32}"}) == ONCALL
    with pytest.raises(TidegateError, match="holds 2 keys; give the one that signs"):
        stages.signer({"TIDEGATE_COMMAND_KEY": TWO["TIDEGATE_COMMAND_KEYS"]})


def test_a_worker_off_loopback_says_what_is_open() -> None:
    """F53: the start banner."""
    kafka = "kafka: {bootstrap_servers: 'broker:9092'%s}\nmodels: {m: {task: binary}}"
    lines = list(unprotected(parse(kafka % ""), Secrets()))
    assert [line.split(":")[0] for line in lines] == ["kafka", "commands are not signed", "states are not signed"]
    assert "set TIDEGATE_COMMAND_KEYS" in lines[1]
    safe = parse(kafka % ", security_protocol: SSL")
    assert list(unprotected(safe, secrets_from({**TWO, "TIDEGATE_SNAPSHOT_KEY": "k" * 32}))) == []
    for here in ("localhost:9092", "127.0.0.1:9092, [::1]:9093"):
        assert list(unprotected(parse((kafka % "").replace("broker:9092", here)), Secrets())) == []
    assert list(unprotected(parse("models: {m: {task: binary}}"), Secrets())) == []
