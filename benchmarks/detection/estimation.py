"""Performance before labels come, against the labels that came: this engine beside NannyML's CBPE, same rows, same run.

Mean absolute error between estimated and realised accuracy, F1 and area under the ROC curve over windows of 5,000 rows
of two sets with predictions of a model in production. For many classes, accuracy and macro F1 are estimated here from
the confidence in the predicted class alone; CBPE, and our areas, take every class's score. Beside it: what fewer or
more bins of score cost, and how often the intervals hold the realised figure where nothing but chance is at work.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.detection import bars, datasets
from benchmarks.detection.bars import Bar, Part
from detectors import calibration, expected_binary, expected_classes
from detectors.estimation import Estimate

Floats = NDArray[np.float64]
Figures = dict[str, Floats]

METRICS = ("accuracy", "f1", "roc_auc")
WINDOW_ROWS = 5_000
POINTS = 100
"""Errors are told in points, hundredths of the figure."""

NANNYML = ("nannyml==0.13.1", "statsmodels")
"""NannyML imports statsmodels and does not declare it."""

ENVIRONMENT = datasets.ROOT / "build" / "bench-venv"
PROGRAM = Path(__file__).with_name("nannyml_cbpe.py")
SMALL, SMALL_REFERENCES = (5_000, 1_000), 5
"""Rows of references as small as the engine's default and smaller, and how many of each are averaged over."""

BINS = (100, 200, 400)
COVERAGE_RUNS, COVERAGE_RUNS_QUICK = 2_000, 300


class Served(NamedTuple):
    """A set with served predictions. `scores`: the column of each class's score; a binary one has that of class 1."""

    name: str
    label: str
    prediction: str
    scores: dict[str, str]
    reference: int

    @property
    def kind(self) -> str:
        return "multiclass" if len(self.scores) > 1 else "binary"


CARDS = ("prepaid_card", "highstreet_card", "upmarket_card")
SETS = (
    Served("nannyml_car_loan", "repaid", "y_pred", {"1": "y_pred_proba"}, 50_000),
    Served("nannyml_credit_mc", "y_true", "y_pred", {c: f"y_pred_proba_{c}" for c in CARDS}, 60_000),
)


class Columns(NamedTuple):
    """(n,) predictions and labels as codes, and (n, classes) scores; one column of scores is that of class 1."""

    prediction: Floats
    label: Floats
    scores: Floats

    def rows(self, part: slice) -> Columns:
        return Columns(self.prediction[part], self.label[part], self.scores[part])


def run(quick: bool, seed: int) -> Part:
    """Figures and bars; `quick` leaves the small references out. What is missing is said in the figures."""
    figures: dict[str, Any] = {"coverage": coverage(COVERAGE_RUNS_QUICK if quick else COVERAGE_RUNS, seed)}
    found = [
        bars.at_least(f"coverage of 95 % intervals, {name}", share, 0.90, "share")
        for name, share in figures["coverage"].items()
    ]
    try:
        interpreter: Path | None = nannyml_interpreter()
    except subprocess.CalledProcessError as error:
        interpreter, figures["nannyml"] = None, f"could not be installed: {error.stderr[-500:]}"
    for each in SETS:
        try:
            file = datasets.path(each.name)
        except datasets.Missing as missing:
            figures[each.name] = str(missing)
            continue
        figures[each.name], more = compare(each, file, interpreter, quick)
        found += more
    return Part(figures=figures, bars=found)


def compare(each: Served, file: Path, interpreter: Path | None, quick: bool) -> tuple[dict[str, Any], list[Bar]]:
    """Errors by reference, ours and CBPE's; the bars are for the whole reference."""
    data, found = load(each, file), []
    later = data.rows(slice(each.reference, None))
    windows = np.arange(len(later.label)) // WINDOW_ROWS
    truth = realised(each, later, windows)
    whole = slice(0, each.reference)
    figures: dict[str, Any] = {"windows": int(windows[-1]) + 1, "window_rows": WINDOW_ROWS}
    for rows in (each.reference, *(() if quick else SMALL)):
        references = [whole] if rows == each.reference else spaced(each.reference, rows)
        ours = mean([errors(estimated(each, data.rows(part), later, windows), truth) for part in references])
        figures[f"reference {rows}"] = {"references": len(references), "ours": ours}
        if interpreter is None:
            continue
        theirs = mean([errors(one, truth) for one in cbpe(interpreter, each, file, references)])
        figures[f"reference {rows}"]["cbpe"] = theirs
        if rows == each.reference:
            found += [
                bars.at_most(f"{each.name}: error of estimated {m} (CBPE is the bound)", ours[m], theirs[m], "points")
                for m in METRICS
            ]
    figures["bins"] = {str(n): errors(estimated(each, data.rows(whole), later, windows, n), truth) for n in BINS}
    return figures, found


def spaced(reference: int, rows: int) -> list[slice]:
    """Small references at even distances within the whole one."""
    starts = np.linspace(0, reference - rows, SMALL_REFERENCES).astype(int)
    return [slice(int(start), int(start) + rows) for start in starts]


def mean(found: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(float(np.mean([each[name] for each in found])), 4) for name in METRICS}


def load(each: Served, file: Path) -> Columns:
    table = datasets.table(file)
    scores = np.column_stack([datasets.numbers(table[column]) for column in each.scores.values()])
    if each.kind == "binary":
        return Columns(datasets.numbers(table[each.prediction]), datasets.numbers(table[each.label]), scores)
    codes = {name: float(k) for k, name in enumerate(each.scores)}
    said, true = (np.array([codes[word] for word in table[name]]) for name in (each.prediction, each.label))
    return Columns(said, true, scores)


def realised(each: Served, later: Columns, windows: NDArray[np.int64]) -> Figures:
    """Every figure of every window from its rows; areas by ranks, without bins."""
    found: dict[str, list[float]] = {name: [] for name in METRICS}
    for w in range(int(windows[-1]) + 1):
        part = later.rows(slice(w * WINDOW_ROWS, (w + 1) * WINDOW_ROWS))
        of = [1.0] if each.kind == "binary" else [float(k) for k in range(len(each.scores))]
        said, true = ([x == k for k in of] for x in (part.prediction, part.label))
        found["accuracy"].append(float((part.prediction == part.label).mean()))
        both = [2 * float((p & y).sum()) / float(p.sum() + y.sum()) for p, y in zip(said, true, strict=True)]
        found["f1"].append(float(np.mean(both)))
        found["roc_auc"].append(float(np.mean([area(y, s) for y, s in zip(true, part.scores.T, strict=True)])))
    return {name: np.array(values) for name, values in found.items()}


def area(label: NDArray[np.bool_], score: Floats) -> float:
    """Area under the ROC curve from ranks, ties halved (Mann, Whitney 1947)."""
    order, place = np.unique(score, return_inverse=True)
    ones, zeros = (np.bincount(place, x, len(order)) for x in (label, ~label))
    return float((ones * (np.cumsum(zeros) - zeros / 2)).sum() / (ones.sum() * zeros.sum()))


def estimated(
    each: Served, reference: Columns, later: Columns, windows: NDArray[np.int64], bins: int = calibration.SCORE_BINS
) -> Figures:
    """Ours, by window, without looking at the later labels."""
    cells = int(windows[-1]) + 1
    areas, found = [], {}
    of = [1.0] if each.kind == "binary" else [float(k) for k in range(len(each.scores))]
    for k, before, score in zip(of, reference.scores.T, later.scores.T, strict=True):
        said = (later.prediction == k).astype(np.float64)
        model = expected_binary.learn(before, reference.prediction == k, reference.label == k, bins)
        one = values([
            expected_binary.estimate(model, c) for c in expected_binary.count_seen(model, windows, cells, score, said)
        ])  # fmt: skip
        areas.append(one["roc_auc"])
        found = {"accuracy": one["accuracy"], "f1": one["f1"]}
    if each.kind == "multiclass":
        confidence, now = (x.scores[np.arange(len(x.label)), x.prediction.astype(int)] for x in (reference, later))
        learned = expected_classes.learn(confidence, reference.prediction, reference.label, len(of), bins)
        counts = expected_classes.count_seen(learned, windows, cells, now, later.prediction)
        both = values([expected_classes.estimate(learned, c) for c in counts])
        found = {"accuracy": both["accuracy"], "f1": both["f1_macro"]}
    return {**found, "roc_auc": np.mean(areas, axis=0)}


def values(estimates: list[dict[str, Estimate]]) -> Figures:
    return {name: np.array([each[name].value for each in estimates]) for name in estimates[0]}


def errors(found: Figures, truth: Figures) -> dict[str, float]:
    """Mean absolute error over the windows, in points."""
    return {name: round(POINTS * float(np.abs(found[name] - truth[name]).mean()), 4) for name in METRICS}


def nannyml_interpreter() -> Path:
    """Python of an environment that holds NannyML, made if need be. Raises CalledProcessError where it cannot be."""
    python = ENVIRONMENT / "bin" / "python"
    probe = [str(python), "-c", "import nannyml"]
    if python.exists() and not subprocess.run(probe, capture_output=True, check=False).returncode:
        return python
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv:
        make = [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(ENVIRONMENT)]
        fill = [uv, "pip", "install", "--quiet", "--python", str(python), *NANNYML]
    else:
        make = [sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)]
        fill = [str(python), "-m", "pip", "install", "--quiet", *NANNYML]
    for command in (make, fill, probe):
        subprocess.run(command, capture_output=True, check=True, text=True)
    return python


def cbpe(interpreter: Path, each: Served, file: Path, references: list[slice]) -> list[Figures]:
    """NannyML's estimates by window, for every reference."""
    task = {
        "file": str(file), "kind": each.kind, "label": each.label, "prediction": each.prediction,
        "scores": each.scores, "references": [[part.start, part.stop] for part in references],
        "first": each.reference, "window": WINDOW_ROWS,
    }  # fmt: skip
    command = [str(interpreter), str(PROGRAM)]
    done = subprocess.run(command, input=json.dumps(task), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{PROGRAM.name} failed on {each.name}: {done.stderr[-2_000:]}")
    return [{name: np.array(found) for name, found in one.items()} for one in json.loads(done.stdout)]


def coverage(runs: int, seed: int) -> dict[str, float]:
    """How often intervals hold the realised figure: a reference of 2,000 rows, a window of 600 after a covariate shift,
    a model that is too sure of itself."""
    held = dict.fromkeys((*METRICS, "log_loss"), 0)
    for run_number in range(runs):
        draw = np.random.default_rng([seed, run_number])
        sides = []
        for rows, shift in ((2_000, 0.0), (600, 0.8)):
            x = draw.normal(shift, 1.5, rows)
            score, label = 1 / (1 + np.exp(-1.6 * x)), (draw.random(rows) < 1 / (1 + np.exp(-x))).astype(np.float64)
            sides.append((score, (score >= 0.5).astype(np.float64), label))
        model = expected_binary.learn(*sides[0])
        score, said, label = sides[1]
        cell = np.zeros(len(score), np.int64)
        found = expected_binary.estimate(model, expected_binary.count_seen(model, cell, 1, score, said)[0])
        hits = float((said * label).sum())
        truth = {
            "accuracy": float((said == label).mean()),
            "f1": 2 * hits / float(said.sum() + label.sum()),
            "roc_auc": area(label == 1, score),
            "log_loss": float(-np.log(np.where(label == 1, score, 1 - score)).mean()),
        }
        for name in held:
            held[name] += found[name].low <= truth[name] <= found[name].high
    return {name: round(hits / runs, 4) for name, hits in held.items()}


if __name__ == "__main__":
    json.dump(run(quick="--quick" in sys.argv, seed=1), sys.stdout, indent=2)
