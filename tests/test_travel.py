"""Time travel over logs in memory: any state and alert comes out again bit for bit, and every forgery is found."""

from __future__ import annotations

import msgspec
import pytest

from stream import codec
from stream.contract import ALERTS, COMMANDS, LABELS, OBSERVATIONS, PREDICTIONS, Batch, Chunk, Output, Record
from stream.errors import StateError, TidegateError
from stream.events import Observations
from stream.runtime import proof, travel
from stream.runtime.past import History
from stream.runtime.proof import Verdict
from stream.runtime.shard import Encoded
from stream.runtime.travel import AlertAt, ClockAt, Point, Reached, ReadAt
from stream.stages.join import REST
from tests.rewinding import CONFIG, SHIFT_AT, Lived, T, joined, watched


@pytest.fixture(scope="module")
def living() -> tuple[Lived, Lived]:
    join = joined()
    return join, watched(join)


def fork(lived: Lived) -> Lived:
    """One of the two for this test to spoil."""
    other = object.__new__(Lived)
    other.__dict__ = {**lived.__dict__, "journal": list(lived.journal), "logs": dict(lived.logs)}
    return other


@pytest.fixture
def join(living: tuple[Lived, Lived]) -> Lived:
    return fork(living[0])


@pytest.fixture
def watch(living: tuple[Lived, Lived]) -> Lived:
    return fork(living[1])


def rebuild(lived: Lived, point: Point) -> Reached:
    return travel.rebuild(lived.past(), point, lived.load, lived.make, lived.read, lived.bounds())


def verify(lived: Lived, everything: bool = False) -> Verdict:
    return proof.verify(lived.past(), lived.load, lived.make, lived.read, lived.bounds()[0], everything)


def alert_of(watch: Lived) -> tuple[float, Encoded, str]:
    """When the first alert was written, its event and its id."""
    clock, sent = next((clock, out) for clock, out in watch.outputs if out.topic == ALERTS)
    return clock, sent, msgspec.json.decode(sent.value)["alert_id"]


# ---- states ---------------------------------------------------------------------------------------------------------


def test_the_state_after_every_batch_is_rebuilt_bit_for_bit_from_its_last_record(join: Lived) -> None:
    """F42: also in the middle of a checkpoint, and of both inputs."""
    before = dict.fromkeys(join.moments[0].positions, 0)
    seen = 0
    for moment in join.moments:
        moved = [source for source, at in moment.positions.items() if at > before[source]]
        if moved:
            (source,) = moved
            reached = rebuild(join, ReadAt(*source, moment.positions[source] - 1))
            assert reached.shard.machine.snapshot() == moment.state
            assert reached.shard.positions == moment.positions and reached.clock == moment.clock
            seen += 1
        before = moment.positions
    assert seen == 42


def test_the_state_at_any_moment_of_the_clock_is_rebuilt_bit_for_bit(join: Lived) -> None:
    """F42: ticks count too."""
    for moment in join.moments:
        reached = rebuild(join, ClockAt(moment.clock + 0.5))
        assert reached.shard.machine.snapshot() == moment.state
    assert rebuild(join, ClockAt(T + 1e6)).shard.machine.snapshot() == join.moments[-1].state


def test_a_rebuild_begins_at_the_latest_whole_state_before_the_point(join: Lived) -> None:
    sequences = [kept.manifest.sequence for kept in join.past().states]
    assert len(sequences) == 6
    reached = rebuild(join, ReadAt(PREDICTIONS, 0, 2_700))
    earlier = [kept for kept in join.past().states if dict_of(kept.manifest.positions)[PREDICTIONS, 0] <= 2_700]
    assert reached.base.name == f"whole state {earlier[-1].manifest.sequence}"
    assert reached.proven == 18 - earlier[-1].manifest.sequence, "row 2700 is the first of the nineteenth checkpoint"
    assert reached.shard.positions[PREDICTIONS, 0] == 2_701
    assert rebuild(join, ReadAt(PREDICTIONS, 0, 0)).base.name == "the beginning of its journal"


def dict_of(positions: list[tuple[str, int, int]]) -> dict[tuple[str, int], int]:
    return {(name, partition): at for name, partition, at in positions}


def test_a_point_that_is_not_there_is_told(join: Lived) -> None:
    with pytest.raises(TidegateError, match="labels-0@3001 has not been processed yet: join/0 stands at 3001"):
        rebuild(join, ReadAt(LABELS, 0, 3_001))
    with pytest.raises(TidegateError, match="join/0 does not read it; its inputs are labels/0, predictions/0"):
        rebuild(join, ReadAt(OBSERVATIONS, 0, 3))


def test_before_its_first_batch_a_shard_had_no_past(join: Lived) -> None:
    assert rebuild(join, ClockAt(T + 150)).shard.machine.snapshot() == join.moments[0].state
    with pytest.raises(TidegateError, match="join/0 had no past then; it began at 2023-11-14T22:15:50Z"):
        rebuild(join, ClockAt(T + 149))


@pytest.mark.parametrize("text", ["predictions/0@12", "predictions-0@12"])
def test_points_are_read_as_people_write_them(text: str) -> None:
    assert travel.point_of(text) == ReadAt(PREDICTIONS, 0, 12)
    assert travel.point_of("2023-11-14T22:13:20Z") == ClockAt(T)
    alert = "m/feature/x/covariate/2023-11-14T22:37:03Z/4e9d"
    assert travel.point_of(alert) == AlertAt(alert)
    with pytest.raises(TidegateError, match="without its zone; write 2026-12-01T08:00:00Z"):
        travel.point_of("2023-11-14T22:13:20")


# ---- alerts ---------------------------------------------------------------------------------------------------------


def test_an_alert_is_rebuilt_bit_for_bit_with_the_record_that_caused_it(watch: Lived) -> None:
    """F42: right before that record the shard has not spoken, and the record holds rows since the change."""
    clock, sent, alert_id = alert_of(watch)
    reached = rebuild(watch, AlertAt(alert_id, clock))
    assert reached.alert == sent
    cause = reached.cause
    assert cause is not None and cause.source == (OBSERVATIONS, 0) and cause.first == cause.last
    assert reached.shard.positions[OBSERVATIONS, 0] == cause.last + 1
    assert cause.clock <= clock and cause.sequence > 0
    before = rebuild(watch, ReadAt(OBSERVATIONS, 0, cause.first - 1))
    assert before.shard.machine.figures()["models"]["m"] != reached.shard.machine.figures()["models"]["m"]
    spoken: list[Output] = []
    before.shard.machine = travel.Overheard(before.shard.machine, spoken.append)
    (record,) = watch.read(OBSERVATIONS, 0, cause.first, cause.last + 1)
    assert spoken == [] and codec.decode(Observations, record.value).through > T + SHIFT_AT
    before.shard.accept(Batch(cause.clock, (Chunk(OBSERVATIONS, 0, cause.first, cause.last + 1, [record]),)))
    assert [output.topic for output in spoken if output.topic == ALERTS] == [ALERTS]


def test_where_an_alert_was_sent_decides_where_to_begin_and_not_what_comes_out(watch: Lived) -> None:
    clock, _, alert_id = alert_of(watch)
    near, far = rebuild(watch, AlertAt(alert_id, clock)), rebuild(watch, AlertAt(alert_id))
    assert near.base.sequence > far.base.sequence == 0
    assert (near.alert, near.cause) == (far.alert, far.cause)
    assert near.shard.machine.snapshot() == far.shard.machine.snapshot()


def test_without_a_journal_an_alert_comes_out_of_the_inputs_alone(watch: Lived) -> None:
    """F42: compaction has taken what lies before the alert; its batches are cut anew, by the clock of the log."""
    clock, sent, alert_id = alert_of(watch)
    straight = rebuild(watch, AlertAt(alert_id, clock))
    after = next(i for i, record in enumerate(watch.journal) if record.timestamp_s >= clock)
    watch.without("journal", after + 2)
    watch.without("state", after + 1)
    reached = rebuild(watch, AlertAt(alert_id, clock))
    assert not reached.base.journaled and reached.base.name == "the beginning of its inputs"
    assert reached.alert == sent
    assert straight.cause is not None and reached.cause is not None
    assert (reached.cause.source, reached.cause.last) == (straight.cause.source, straight.cause.last)


def test_with_a_whole_state_but_no_journal_an_alert_comes_out_of_the_inputs_since(watch: Lived) -> None:
    """F42: the inputs before that state may be gone."""
    clock, sent, alert_id = alert_of(watch)
    straight = rebuild(watch, AlertAt(alert_id, clock))
    watch.without("journal", next(i for i, record in enumerate(watch.journal) if record.timestamp_s >= clock) + 2)
    needed = straight.base.positions[OBSERVATIONS, 0]
    watch.logs[OBSERVATIONS] = watch.logs[OBSERVATIONS][needed:]
    reached = rebuild(watch, AlertAt(alert_id, clock))
    assert not reached.base.journaled and reached.base.name == straight.base.name == "whole state 4"
    assert reached.alert == sent and needed > 0
    assert reached.cause is not None and straight.cause is not None and reached.cause.last == straight.cause.last


def test_what_was_deleted_is_named_with_where_it_begins_now(watch: Lived) -> None:
    """F42: every beginning is gone, and each says why."""
    clock, _, alert_id = alert_of(watch)
    watch.logs[OBSERVATIONS] = watch.logs[OBSERVATIONS][30:]
    with pytest.raises(StateError) as found:
        rebuild(watch, AlertAt(alert_id, clock))
    told = str(found.value)
    assert "watch/0 cannot be rebuilt there" in told
    assert "from the beginning of its journal: observations-0 is needed from offset 0, it is there from 30 on" in told
    assert "from the beginning of its inputs: observations-0 is needed from offset 0" in told
    assert "from whole state" in told


def test_an_alert_of_another_shard_is_not_found(watch: Lived) -> None:
    with pytest.raises(TidegateError, match="watch/0 puts out no alert 'nobody' after the beginning of its journal"):
        rebuild(watch, AlertAt("nobody"))


# ---- proof ----------------------------------------------------------------------------------------------------------


def test_a_past_that_is_as_it_was_verifies_output_for_output_and_state_for_state(join: Lived, watch: Lived) -> None:
    """F42"""
    assert verify(join) == Verdict("join/0", 20, 21, 2, 0)
    assert verify(join, everything=True) == Verdict("join/0", 0, 21, 6_002, 6)
    assert verify(watch, everything=True).fault == ""


def test_after_compaction_what_is_left_verifies(join: Lived) -> None:
    newest = {record.key: record for record in join.journal}
    join.journal = sorted(newest.values(), key=lambda record: record.offset)
    assert len(join.past().states) == 2
    assert verify(join, everything=True).fault == ""


@pytest.mark.parametrize("everything", [False, True])
def test_a_journal_record_that_somebody_changed_is_found(join: Lived, everything: bool) -> None:
    """F42, F53: planted: another digest, in the newest checkpoint."""
    place = join.journal_place(21)
    digest = codec.unpack(travel.JournalRecord, join.journal[place].value).digest  # type: ignore[arg-type]
    join.replace(place, digest.encode(), digest[::-1].encode())
    verdict = verify(join, everything)
    assert verdict.end == 20
    assert verdict.fault == "join/0: the batches of journal record 21 did not come out as they did before"


def test_a_journal_record_that_lies_about_its_batches_is_found(join: Lived) -> None:
    """Planted: a batch less, all else as it was."""
    place = join.journal_place(12)
    record = codec.unpack(travel.JournalRecord, join.journal[place].value)  # type: ignore[arg-type]
    forged = msgspec.structs.replace(record, batches=record.batches[1:])
    join.journal[place] = join.journal[place]._replace(value=codec.pack(forged))
    verdict = verify(join, everything=True)
    assert verdict.end == 11 and "journal record 12" in verdict.fault


def test_a_changed_input_is_found_and_a_changed_configuration_is_named(join: Lived) -> None:
    """Planted: one label of the past says something else."""
    record = join.logs[LABELS][2_000]
    assert isinstance(record.value, bytes)
    other = record._replace(value=record.value.replace(b'"label":0', b'"label":1'))
    assert other != record
    join.logs[LABELS] = [*join.logs[LABELS][:2_000], other, *join.logs[LABELS][2_001:]]
    found = verify(join, everything=True)
    assert found.fault.endswith(f"journal record {found.end + 1} did not come out as they did before")
    join.config = "another"
    assert "the configuration has changed since" in verify(join, everything=True).fault


def test_a_state_that_does_not_come_of_its_journal_is_found(join: Lived) -> None:
    """Planted: a whole state in itself sound (checksum and all), but not what the journal leads to."""
    past = join.past()
    (first, second) = past.states[2:4]
    places = {kept.manifest.sequence: kept for kept in past.states}
    mine, other = (dict(zip(one.manifest.places, one.places, strict=True)) for one in (second, first))
    rest = next(section for section in first.manifest.sections if section.name == REST)
    forged = next(join.journal[at].value for place, at in other.items() if place == rest.places[0])
    sections = [
        msgspec.structs.replace(section, sha256=rest.sha256, size=rest.size) if section.name == REST else section
        for section in second.manifest.sections
    ]
    manifest = msgspec.structs.replace(second.manifest, sections=sections)
    place = places[second.manifest.sequence]
    join.journal[place.at] = join.journal[place.at]._replace(value=codec.pack(manifest))
    at = next(at for place, at in mine.items() if place.startswith(f"state/{REST}/"))
    join.journal[at] = join.journal[at]._replace(value=forged)
    assert join.load(past.states[3]._replace(manifest=manifest)).manifest == manifest, "it is sound in itself"
    verdict = verify(join, everything=True)
    assert verdict.fault == f"join/0: whole state {second.manifest.sequence} does not come out as it was written: rest"


def test_a_damaged_newest_state_and_a_hole_are_found(join: Lived, watch: Lived) -> None:
    """Planted: what a restart would stumble over."""
    newest = join.past().states[-1]
    join.journal[newest.places[0]] = join.journal[newest.places[0]]._replace(
        value=b"\0" * newest.manifest.sections[0].size
    )
    damaged = f"join/0: whole state {newest.manifest.sequence} is damaged: the checksum of section 'rest' (entries "
    assert verify(join).fault.startswith(damaged)
    del watch.journal[watch.journal_place(7)]
    assert verify(watch) == Verdict("watch/0", 8, 8, 0, 0), "a restart does not need it"
    watch.without("state/all/1", 10**9)
    watch.without("state/1", 10**9)
    assert verify(watch).fault == "watch/0: the journal since checkpoint 4 has holes"


def test_a_state_that_another_key_signed_is_refused_before_it_is_looked_at(join: Lived) -> None:
    """F53"""
    join.key = b"k" * 32
    assert "is not signed with our key" in verify(join).fault
    with pytest.raises(StateError, match="is not signed with our key"):
        join.load(join.past().states[-1])


def test_a_record_that_is_no_journal_record_is_named_with_its_place() -> None:
    history = History(3)
    with pytest.raises(StateError, match="journal-3@17: of watch/3: not a JournalRecord"):
        history.take(Record(17, T, b"watch/3/journal/5", b"junk"))


def test_a_shard_that_began_anew_has_only_its_new_life_as_past(watch: Lived) -> None:
    """The topics were emptied but for the journal: numbers go back."""
    old = len(watch.journal)
    again = [record._replace(offset=old + record.offset) for record in watch.journal[:3]]
    lives = History(0)
    for record in [*watch.journal, *again]:
        lives.take(record)
    past = lives.pasts["watch/0"]
    assert past.since(0) is not None and len(past.journal) < old
    assert [kept.manifest.sequence for kept in past.states] == [1]
    assert COMMANDS in dict(((name, at) for name, _, at in past.positions())) and CONFIG.hash() == past.config_of()
