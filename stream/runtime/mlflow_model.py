"""The code of a model in MLflow: opens the signed snapshot beside it with the key of whoever serves it.

MLflow copies this file into the model and runs it where the model is loaded; tidegate itself never imports it.
TIDEGATE_SNAPSHOT_KEY, or the file that TIDEGATE_SNAPSHOT_KEY_FILE names, must hold the key there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow

from learners.contract import Learner
from learners.snapshots import load, open_sealed
from stream.runtime.stages import KEY_VARIABLE, secrets_from


class Signed(mlflow.pyfunc.PythonModel):  # type: ignore[misc]  # MLflow is an extra: without it its class is unknown
    """Answers rows of features with prediction, score and probabilities."""

    learner: Learner

    def load_context(self, context: Any) -> None:
        """Raises SnapshotError for a snapshot that is not ours, whole and unchanged."""
        secrets = secrets_from()
        if not secrets.keys:
            raise ValueError(f"the key of the snapshot is missing: set {KEY_VARIABLE}")
        envelope = Path(context.artifacts["snapshot"]).read_bytes()
        self.learner = load(open_sealed(envelope, secrets.keys))

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """n answers for a data frame of n rows, a column a feature. Without type hints, because MLflow takes them for a
        schema, which would refuse data frames."""
        return [self.learner.predict(row)._asdict() for row in model_input.to_dict("records")]


mlflow.models.set_model(Signed())
