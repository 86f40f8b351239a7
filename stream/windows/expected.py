"""Performance before labels come: what to expect of each reporting window, and how labels replace that (F13, F02).

Owns which labelled rows teach what a score is worth, and when; the statistics are `detectors.estimation`'s. A window
keeps the meaning of scores that was in force when it opened. That meaning is learned anew whenever as many labels have
come as the reference holds predictions, from the newest of them: a champion that learns changes what its scores mean.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec
import numpy as np

from detectors import expected_binary, expected_classes, expected_errors, prior_shift
from detectors.calibration import REFERENCE_ROWS_MIN
from detectors.estimation import Estimate, Reconciled
from detectors.expected_binary import Binary
from detectors.expected_classes import Classes
from detectors.expected_errors import Errors
from stream.config import Task
from stream.events import Expectation
from stream.windows.columns import Floats, Ints
from stream.windows.reporting import Open, Outcome

NONE: Final = -1
"""The number of a window's meaning of scores where none was known when it opened."""

ROWS_MAX: Final = 20_000
"""Labelled rows that a meaning is learned from, at most: more make its own error no smaller than a window's chance."""

CLASSES_MAX: Final = 50
"""Classes that are told apart; a task with more has no expectation: a window's table would be larger than its rows."""

Meaning: TypeAlias = Binary | Classes | Errors


class Rows(msgspec.Struct):
    """The newest labelled rows of the champion: (n,) score, prediction, label."""

    score: np.ndarray
    prediction: np.ndarray
    label: np.ndarray


class Expected(msgspec.Struct):
    """Of one model's champion. The meanings are kept as long as a window refers to them; `words` are the classes' codes
    in the order of their places in each, where there are classes."""

    task: Task
    rows_wanted: int
    binary: dict[int, Binary] = {}
    classes: dict[int, Classes] = {}
    errors: dict[int, Errors] = {}
    words: dict[int, np.ndarray] = {}
    newest: int = NONE
    recent: Rows | None = None
    fresh: int = 0
    refused: int = 0
    """Times that the rows taught nothing: all labels alike, too many classes."""

    def open(self, window: Open) -> None:
        """A window opens: it will be judged by the newest meaning."""
        window.meaning = self.newest

    def taught(self, outcome: Outcome, rows: Ints, first: int, windows: list[Open]) -> None:
        """Labels have come: (N,) outcomes of which `rows` are new. The first meaning is learned from `first` rows."""
        label, prediction, score = outcome.label[rows], outcome.prediction[rows], outcome.score[rows]
        known = ~np.isnan(label) & ~np.isnan(prediction)
        if self.task != "regression":
            known &= (score >= 0.0) & (score <= 1.0)
        if not known.any():
            return
        new = Rows(score[known], prediction[known], label[known])
        self.recent = new if self.recent is None else _joined(self.recent, new, min(self.rows_wanted, ROWS_MAX))
        self.fresh += int(known.sum())
        wanted = max(first if self.newest == NONE else self.rows_wanted, REFERENCE_ROWS_MIN)
        if self.fresh >= wanted:
            self.fresh = 0
            self._learn(self.recent, windows)

    def _learn(self, rows: Rows, windows: list[Open]) -> None:
        number = self.newest + 1
        try:
            if self.task == "binary":
                self.binary[number] = expected_binary.learn(rows.score, rows.prediction, rows.label)
            elif self.task == "regression":
                self.errors[number] = expected_errors.learn(rows.prediction, rows.label)
            else:
                words = np.unique(np.concatenate([rows.prediction, rows.label]))
                if len(words) > CLASSES_MAX:
                    raise ValueError(f"{len(words)} classes")
                said, known = (np.searchsorted(words, x).astype(np.float64) for x in (rows.prediction, rows.label))
                self.classes[number] = expected_classes.learn(rows.score, said, known, len(words))
                self.words[number] = words
        except ValueError:  # labels that are all alike teach nothing; the next ones may
            self.refused += 1
            return
        self.newest = number
        needed = {number, *(window.meaning for window in windows)}
        for kept in (self.binary, self.classes, self.errors, self.words):
            for gone in [each for each in kept if each not in needed]:
                del kept[gone]

    def seen(self, window: Open, score: Floats, prediction: Floats) -> None:
        """Predictions of one window."""
        n = window.meaning
        cell = np.zeros(len(prediction), np.int64)
        if n in self.binary:
            self._add(window, expected_binary.count_seen(self.binary[n], cell, 1, score, prediction))
        elif n in self.classes:
            code = self._codes(n, prediction)
            self._add(window, expected_classes.count_seen(self.classes[n], cell, 1, score, code))
        elif n in self.errors:
            self._add(window, expected_errors.count_seen(self.errors[n], cell, 1, prediction))

    def labelled(self, window: Open, outcome: Outcome) -> None:
        """Outcomes of one window, corrections among them."""
        n = window.meaning
        label, prediction, score, sign = outcome
        cell = np.zeros(len(label), np.int64)
        if window.expected is None:
            return
        if n in self.binary:
            counts = expected_binary.count_labelled(self.binary[n], cell, 1, score, prediction, label, sign)
        elif n in self.classes:
            said, known = self._codes(n, prediction), self._codes(n, label)
            counts = expected_classes.count_labelled(self.classes[n], cell, 1, score, said, known, sign)
        else:
            counts = expected_errors.count_labelled(self.errors[n], cell, 1, prediction, label, sign=sign)
        self._add(window, counts)

    def figures(self, window: Open) -> dict[str, Expectation]:
        """What is to be expected of a window, by metric; nothing where no meaning was known when it opened."""
        n, counts = window.meaning, window.expected
        if counts is None:
            return {}
        if n in self.binary:
            model = self.binary[n]
            found = _told(expected_binary.reconcile(model, counts))
            size = len(model.rate)
            share = _label_share(model.confusion, counts[: 2 * size].reshape(2, size).sum(1))
            return found if share is None else {**found, "label_mean": share}
        if n in self.classes:
            return _told(expected_classes.reconcile(self.classes[n], counts))
        return _told(expected_errors.reconcile(self.errors[n], counts))

    def _codes(self, number: int, classes: Floats) -> Floats:
        """Places of classes among the known ones; NaN for others."""
        words = self.words[number]
        place = np.minimum(np.searchsorted(words, classes), len(words) - 1)
        return np.where(words[place] == classes, place, np.nan).astype(np.float64)

    def _add(self, window: Open, counts: Floats) -> None:
        window.expected = counts[0] if window.expected is None else window.expected + counts[0]


def _joined(old: Rows, new: Rows, most: int) -> Rows:
    return Rows(
        np.concatenate([old.score, new.score])[-most:],
        np.concatenate([old.prediction, new.prediction])[-most:],
        np.concatenate([old.label, new.label])[-most:],
    )


def _told(found: dict[str, Reconciled]) -> dict[str, Expectation]:
    return {
        name: Expectation(list(each.estimated), list(each.combined), each.disagreement) for name, each in found.items()
    }


def _label_share(confusion: Floats, said: Floats) -> Expectation | None:
    """The share of label 1 by black-box shift estimation, where the model tells the classes apart well enough."""
    if not said.sum() > 0:
        return None
    found = prior_shift.estimate(prior_shift.learn(confusion), said)
    share: Estimate = found.shares[1]
    return None if found.ill_conditioned else Expectation(list(share), list(share))
