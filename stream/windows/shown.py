"""What people may see of one model under watch, as plain values. Refuses to change anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stream.windows import words
from stream.windows.cohorts import Cohorts
from stream.windows.evidence import Group
from stream.windows.explaining import Explaining
from stream.windows.parity import Parity
from stream.windows.remembered import WatcherState


def figures_of(
    state: WatcherState, groups: Mapping[str, Group], cohorts: Cohorts | None, parity: Parity | None,
    explaining: Explaining | None, first: int,
) -> dict[str, Any]:  # fmt: skip
    """`first`: predictions of a whole reference."""
    found = state.reference
    return {
        "status": {name: group.status() for name, group in groups.items()},
        "reference": {"collecting": state.collected, "of": first}
        if found is None
        else {"id": found.id, "n": found.n, "from": words.moment(found.start), "to": words.moment(found.end)},
        "rows": state.rows,
        "outcomes": state.outcome_rows,
        "expired": state.expired,
        "outcomes_left_out": state.outcomes_left_out,
        "late": state.reporting.late,
        "lost": state.reporting.lost,
        "windows": state.reporting.count,
        "windows_forgotten": state.reporting.forgotten,
        "new_features": dict(state.new_features),
        "strange": {} if state.schema is None else state.schema.strange.figures(),
        "leakage": state.leaks.figures(),
        "found_slices": state.found.figures(),
        "label_bias": {} if cohorts is None else cohorts.biased(),
        "constraints": {} if state.schema is None else state.schema.quality.figures(),
        "performance": state.performance.figures(),
        "alerts": state.book.figures(),
        "importance": {} if explaining is None else explaining.importance(),
        "expected": {name: dict(each) for name, each in state.reporting.expected.items()},
        "realised": dict(state.reporting.realised),
        "calibration": state.performance.meaning("champion"),
        "fairness": {} if parity is None else parity.figures(),
        "streams": {} if cohorts is None else {k: {"psi": v} for k, v in state.reporting.psi.items()},
    }
