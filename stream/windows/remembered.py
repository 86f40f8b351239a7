"""Everything that is remembered of one model under watch; configuration apart. Owns the structs; refuses to know what
is done with them."""

from __future__ import annotations

import math

import msgspec

from detectors.sample import SampleState
from stream.events import OutcomeRows, PredictionRows
from stream.windows.alerts import Book
from stream.windows.cells import Cells
from stream.windows.collecting import Collected
from stream.windows.evidence import GroupState
from stream.windows.expected import Expected
from stream.windows.found import FoundSlices
from stream.windows.leaks import Leaks
from stream.windows.parity import ParityState
from stream.windows.performance import Performance
from stream.windows.reporting import Reporting
from stream.windows.schema import Schema
from stream.windows.sources.outcomes import Outcomes


class Reference(msgspec.Struct):
    """The predictions' reference, once it is whole; times are orders."""

    id: str
    n: int
    start: float
    end: float
    cells: Cells


class WatcherState(msgspec.Struct):
    """Of one model. `collecting` rows will be its reference; `collecting_slices` are those from which slices that were
    declared later learn their values, and `sliced` their losses, by group, until they are enough to be judged."""

    performance: Performance
    expected: Expected
    reporting: Reporting = msgspec.field(default_factory=Reporting)
    book: Book = msgspec.field(default_factory=Book)
    collecting: list[PredictionRows] = []
    collected: int = 0
    collecting_outcomes: list[OutcomeRows] = []
    collecting_slices: list[PredictionRows] = []
    sliced: dict[str, Collected] = {}
    reference: Reference | None = None
    schema: Schema | None = None
    outcomes: Outcomes | None = None
    groups: dict[str, GroupState] = {}
    rows: int = 0
    outcome_rows: int = 0
    expired: int = 0
    outcomes_kept: int = 0
    outcomes_left_out: int = 0
    new_features: dict[str, int] = {}
    version: str | None = None
    last_order: float = -math.inf
    parity: ParityState = msgspec.field(default_factory=ParityState)
    leaks: Leaks = msgspec.field(default_factory=Leaks)
    found: FoundSlices = msgspec.field(default_factory=FoundSlices)
    sample: SampleState | None = None
