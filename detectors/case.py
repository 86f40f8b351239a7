"""What is at hand when an alarm is raised, in plain values. Owns the words for it; refuses to judge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

import msgspec

from detectors.attribution import Attribution
from detectors.explanation import Explanation

Kind = Literal["data_quality", "covariate", "label", "concept", "delayed_labels"]
KINDS: Final[tuple[Kind, ...]] = ("data_quality", "covariate", "label", "concept", "delayed_labels")


MISSING_PART: Final = 0.5
MISSING_PSI: Final = 0.02
"""More values missing are a fault that explains an alarm only if the feature has moved by more than the second, and by
at least this part of what the most moved sound feature has: a world that moves takes its gaps along."""


def serious(faults: Mapping[str, str], psi: Mapping[str, float]) -> dict[str, str]:
    """Faults that may explain an alarm: hard ones, and gaps that are not an effect of what else has moved. `psi` counts
    missing values as a value."""
    sound = max((value for name, value in psi.items() if name not in faults), default=0.0)
    least = max(MISSING_PSI, MISSING_PART * sound)
    return {name: word for name, word in faults.items() if word != "missing" or psi.get(name, 0.0) >= least}


class Evidence(NamedTuple):
    """What is at hand when an alarm is raised; what is not known stays at its default.

    stream: which quantity alarmed (a key of USUAL). name: the feature of it, if it has one. faults: the `serious` ones,
    feature to fault (`unit`, `constant`, `missing`, `unseen`). psi: debiased PSI of the features of all predictions
    since, above chance, missing values as a value. maturity, maturity_before: share of predictions that have a label.
    version: the only model version whose loss rose.
    """

    stream: str
    name: str = ""
    faults: Mapping[str, str] = {}
    psi: Mapping[str, float] = {}
    explanation: Explanation | None = None
    maturity: float = 1.0
    maturity_before: float = 1.0
    version: str | None = None

    @property
    def found(self) -> Attribution | None:
        return None if self.explanation is None else self.explanation.purest


class Share(msgspec.Struct):
    """A feature, class or slice, and its part of the change."""

    name: str
    share: float
    statistics: dict[str, float] = {}
