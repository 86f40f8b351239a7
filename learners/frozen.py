"""A learner that stops learning: the model as most are served, trained once, beside those that go on (F30).

Owns when it stops. Refuses to know what it wraps.
"""

from __future__ import annotations

from learners.contract import FeatureDict, Label, Learner, Said


class Frozen:
    """Learns its first `after` examples and then no more. Its state is that of the learner inside.

    Raises ValueError where `after` is not positive.
    """

    def __init__(self, inner: Learner, after: int) -> None:
        if isinstance(after, bool) or not isinstance(after, int) or after < 1:
            raise ValueError(f"frozen: after is {after!r}; give the number of examples that it learns, at least 1")
        self.inner = inner
        self.after = after
        self.updates = inner.updates

    def predict(self, x: FeatureDict) -> Said:
        return self.inner.predict(x)

    def learn(self, x: FeatureDict, y: Label, weight: float = 1.0, lag: int = 0) -> None:
        if self.updates < self.after:
            self.inner.learn(x, y, weight, lag)
            self.updates = self.inner.updates

    def snapshot(self) -> bytes:
        return self.inner.snapshot()

    def restore(self, state: bytes) -> None:
        self.inner.restore(state)
        self.updates = self.inner.updates

    def digest(self) -> str:
        return self.inner.digest()
