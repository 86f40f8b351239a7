"""The ledger: where every record that came in has gone, as two equations that hold exactly (F24).

    predictions in = joined + pending + expired + duplicate + rejected
    labels in      = joined + waiting + orphaned + duplicate + superseded + retracted + rejected

Shadows have an equation of their own: in = attached + waiting + unmatched + duplicate. A record of the predictions' log
that cannot be used counts as a prediction, whatever it was to be. Heartbeats are records of neither. Owns the counts
and the check; refuses to know what a record is.
"""

from __future__ import annotations

from typing import Any

import msgspec

from stream.errors import BugError


class PredictionCounts(msgspec.Struct, gc=False):
    """Predictions of champions and canaries. `joined` have a label that stands (`implicit` of them an implicit one);
    `pending` wait for one, or for both logs to pass it; `expired` never got one (`evicted` of them before their
    horizon, because `limits.PENDING_MAX` was reached)."""

    received: int = 0
    joined: int = 0
    pending: int = 0
    expired: int = 0
    duplicate: int = 0
    rejected: int = 0
    implicit: int = 0
    evicted: int = 0

    def sides(self) -> tuple[int, int]:
        return self.received, self.joined + self.pending + self.expired + self.duplicate + self.rejected


class LabelCounts(msgspec.Struct, gc=False):
    """Labels. `waiting` for their prediction, or for both logs to pass them; `joined` stand; `superseded` gave way to
    a later label or to a retraction; `retracted` are the retractions themselves; `orphaned` found no prediction
    (`late` of them one that had expired, `evicted` because a bound was reached). `corrected` of those that joined
    replaced another label."""

    received: int = 0
    joined: int = 0
    waiting: int = 0
    orphaned: int = 0
    duplicate: int = 0
    superseded: int = 0
    retracted: int = 0
    rejected: int = 0
    corrected: int = 0
    late: int = 0
    evicted: int = 0

    def sides(self) -> tuple[int, int]:
        parted = self.joined + self.waiting + self.orphaned + self.duplicate
        return self.received, parted + self.superseded + self.retracted + self.rejected


class ShadowCounts(msgspec.Struct, gc=False):
    """What shadows said. `attached` to the champion's prediction (`late` of them after the last example that could
    have carried them), `waiting` for it, `unmatched` in the end, or because there were too many of them."""

    received: int = 0
    attached: int = 0
    waiting: int = 0
    unmatched: int = 0
    duplicate: int = 0
    late: int = 0

    def sides(self) -> tuple[int, int]:
        return self.received, self.attached + self.waiting + self.unmatched + self.duplicate


class Ledger(msgspec.Struct):
    """All counts of one shard, or, merged, of several.

    >>> ledger = Ledger()
    >>> ledger.predictions.received += 2
    >>> ledger.predictions.joined += 1
    >>> ledger.check()
    Traceback (most recent call last):
        ...
    stream.errors.BugError: the ledger does not balance: predictions: 2 came in, 1 are accounted for
    """

    predictions: PredictionCounts = msgspec.field(default_factory=PredictionCounts)
    labels: LabelCounts = msgspec.field(default_factory=LabelCounts)
    shadows: ShadowCounts = msgspec.field(default_factory=ShadowCounts)
    heartbeats: int = 0
    rejected: dict[str, int] = {}
    """Rejected records of both logs by the code of their dead letter."""

    def reject(self, code: str) -> None:
        self.rejected[code] = self.rejected.get(code, 0) + 1

    @property
    def balanced(self) -> bool:
        return not self._faults()

    def check(self) -> None:
        """Raises BugError with both sides of every equation that does not hold."""
        faults = self._faults()
        if faults:
            raise BugError("the ledger does not balance: " + "; ".join(faults))

    def _faults(self) -> list[str]:
        faults = []
        for name, counts in (("predictions", self.predictions), ("labels", self.labels), ("shadows", self.shadows)):
            received, parted = counts.sides()
            if received != parted:
                faults.append(f"{name}: {received} came in, {parted} are accounted for")
        rejected = self.predictions.rejected + self.labels.rejected
        by_code = sum(self.rejected.values())
        if rejected != by_code:
            faults.append(f"rejected: {rejected} records, {by_code} by code")
        return faults

    def merge(self, other: Ledger) -> Ledger:
        """The ledger of both, for totals over shards."""
        total = Ledger(heartbeats=self.heartbeats + other.heartbeats)
        for ledger in (self, other):
            for name in ("predictions", "labels", "shadows"):
                into, counts = getattr(total, name), getattr(ledger, name)
                for field in counts.__struct_fields__:
                    setattr(into, field, getattr(into, field) + getattr(counts, field))
            for code, count in ledger.rejected.items():
                total.rejected[code] = total.rejected.get(code, 0) + count
        return total

    def figures(self) -> dict[str, Any]:
        """The counts as plain values; `received` is called `in`, as in the equations."""
        plain = msgspec.to_builtins(self)
        for name in ("predictions", "labels", "shadows"):
            plain[name] = {"in": plain[name].pop("received"), **plain[name]}
        return {**plain, "balanced": self.balanced}
