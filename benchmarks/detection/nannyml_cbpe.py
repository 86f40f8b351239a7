"""NannyML's CBPE as a program of its own: a task as JSON on stdin, its estimates as JSON on stdout, by reference.

Run by `estimation.py` with the interpreter of an environment that holds NannyML, and nothing of this project: their
dependencies must not meet ours. Settings are NannyML's defaults.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from typing import Any

os.environ["NML_DISABLE_USAGE_LOGGING"] = "1"
warnings.simplefilter("ignore")

import nannyml  # noqa: E402
import pandas  # noqa: E402

METRICS = ["accuracy", "f1", "roc_auc"]


def main() -> None:
    task = json.load(sys.stdin)
    table = pandas.read_csv(task["file"])
    table = table[[task["label"], task["prediction"], *task["scores"].values()]]
    found = [estimates(task, table, start, stop) for start, stop in task["references"]]
    json.dump(found, sys.stdout)


def estimates(task: dict[str, Any], table: pandas.DataFrame, start: int, stop: int) -> dict[str, list[float]]:
    """Each metric by window, with the rows from start to stop as reference."""
    estimator = nannyml.CBPE(
        problem_type=f"classification_{task['kind']}",
        y_pred=task["prediction"],
        y_pred_proba=task["scores"] if task["kind"] == "multiclass" else next(iter(task["scores"].values())),
        y_true=task["label"],
        metrics=METRICS,
        chunk_size=task["window"],
    )
    estimator.fit(table[start:stop].reset_index(drop=True))
    later = table[task["first"] :].drop(columns=task["label"]).reset_index(drop=True)
    found = estimator.estimate(later).filter(period="analysis").to_df()
    return {metric: found[metric]["value"].tolist() for metric in METRICS}


if __name__ == "__main__":
    main()
