"""Every bound of the engine, named, with its reason. What happens at one, and what shows it: LIMITS.md."""

from __future__ import annotations

from typing import Final

EVENT_BYTES_MAX: Final = 262_144
"""A larger record is rejected before it is decoded: decoding is where memory could run away."""

DEPTH_MAX: Final = 64
"""Nesting of a record's JSON, looked at before it is decoded: how much deeper could be read depends on how full the
stack is, so a record that one worker takes another would refuse when it replays the journal."""

DEPTH_FREE_BYTES: Final = 512
"""Records up to this size are not looked at: they cannot nest deeper than any stack of ours allows."""

BATCH_UNPACKED_BYTES_MAX: Final = 33_554_432
"""What a compressed batch may unpack to: a full batch of a megabyte, the most that brokers take unless told otherwise,
at a ratio of 32; JSON events compress to a fifth to a twentieth."""

FETCH_UNPACKED_BYTES_MAX: Final = 33_554_432
"""Unpacked bytes of one fetch after which no further batch of it is looked at; the next fetch begins there."""

TAKE_RECORDS_MAX: Final = 50_000
"""Records that are taken at once, of all partitions together: one of seven bytes becomes an object of hundreds."""

FEATURES_MAX: Final = 1_000
"""Features of one event; more is a schema mistake (a nested document flattened), and every one costs a stream."""

TEXT_CHARS_MAX: Final = 4_096
"""Characters of one text value in features or tags."""

PREDICTION_ID_CHARS_MAX: Final = 256
"""An id is a key: it stands in an index for the whole horizon."""

EVENT_TIME_MIN_S: Final = 0.0
EVENT_TIME_MAX_S: Final = 4_102_444_800.0
"""1970 to 2100 in epoch seconds. Milliseconds given as seconds fall outside, which is the usual mistake."""

FUTURE_S_MAX: Final = 3_600.0
"""How far an event time may lie ahead of the moment the record was written: one wrong clock must not close every
window of everybody else."""

PENDING_MAX: Final = 2_000_000
"""Predictions of one shard that can still be labelled, corrected or repeated; at 1.2 kB each (measured, with ten
features, index included) this is 2.4 GB. The oldest expire first."""

EARLY_LABELS_MAX: Final = 500_000
"""Labels of one shard that wait for their prediction."""

EXPIRED_IDS_MAX: Final = 500_000
"""Expired predictions of one shard whose ids are kept, so that a label that comes after all is counted as late."""

VOTES_MAX: Final = 32
"""Annotators of one prediction; the labels of further ones are rejected."""

SHADOWS_MAX: Final = 32
"""Shadows that may say something of one prediction."""

DEAD_LETTER_BYTES_MAX: Final = 2_048
"""What a dead letter keeps of a record's value and of its key; the record itself stays in its topic."""

SLICES_MAX: Final = 64
"""Values of one declared slice that are watched, the busiest of the reference first; the rest count as 'other'."""

CATEGORIES_MAX: Final = 20
"""Categories of one feature that get a bin of their own; the rest share one. Rare ones carry no evidence."""

ROWS_PER_CHUNK: Final = 256
"""Rows that the join collects before it hands them to watch."""

SAMPLED_PER_CHUNK: Final = 32
"""Outcomes of a chunk that go to watch with all their features, so that it can tell a change of the inputs from one of
what follows from them; of a slow stream these are all."""

BUSINESS_VALUES_MAX: Final = 32
"""Business figures that are watched, by name; more is a label event that carries a document."""

EVIDENCE_BLOCK_ROWS: Final = 256
"""Events of one evidence block of features (from 256 on a value costs about 0.06 us)."""

LOSS_BLOCK_ROWS: Final = 32
"""Outcomes of one evidence block of losses: few streams, so the shorter delay is affordable."""

IDLE_S: Final = 60.0
"""Seconds of processing without a record after which an input that has been read to its end no longer holds the
watermark back."""

REPLAY_BYTES: Final = 8_388_608
"""Default size of a replay buffer."""
