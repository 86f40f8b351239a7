"""Snapshots that leave tidegate: as files, as an unsigned pickle, or as a model version in an MLflow registry.

MLflow gets the signed envelope and the file `mlflow_model.py`, which opens it with the key of whoever serves it: no
pickle is written there, and a changed snapshot is refused as it is everywhere else. Refuses to know where snapshots
come from.
"""

from __future__ import annotations

import importlib
import pickle
import re
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson

from learners.estimators import Estimator
from learners.snapshots import Header, Opened, SnapshotError, load
from stream.errors import TidegateError

MLFLOW_MISSING: Final = "MLflow is not installed; install tidegate[mlflow]"
MODEL_CODE: Final = Path(__file__).with_name("mlflow_model.py")


def stem(header: Header) -> str:
    """The name of its files.

    >>> stem(Header(model="fraud", learner="champion", version="3", updates=500, path="experts"))
    'fraud-champion-3-500'
    """
    text = f"{header.model}-{header.learner}-{header.version}-{header.updates}"
    return re.sub(r"[^\w.-]", "_", text).lstrip(".")


def to_files(envelope: bytes, header: Header, out: Path) -> list[Path]:
    """The envelope, and its header as JSON beside it. Raises TidegateError."""
    told = orjson.dumps(msgspec.to_builtins(header), option=orjson.OPT_INDENT_2)
    parts = ((".snapshot", envelope), (".json", told))
    return [_write(out / f"{stem(header)}{suffix}", content) for suffix, content in parts]


def to_pickle(opened: Opened, out: Path) -> Path:
    """A plain pickle: the River model where it is one, else the learner, which needs tidegate to be loaded. Raises
    TidegateError."""
    learner = _loaded(opened)
    model = learner.model if isinstance(learner, Estimator) else learner
    try:
        content = pickle.dumps(model)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise TidegateError(f"{opened.header.path} cannot be pickled: {error}") from error
    return _write(out / f"{stem(opened.header)}.pickle", content)


def to_mlflow(envelope: bytes, opened: Opened, uri: str | None) -> str:
    """Log a run with parameters, metrics and lineage, and register the model's next version; returns its URI.

    Raises TidegateError where MLflow is missing or refuses.
    """
    try:
        mlflow: Any = importlib.import_module("mlflow")
        pyfunc: Any = importlib.import_module("mlflow.pyfunc")
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "mlflow":
            raise TidegateError(MLFLOW_MISSING) from error
        raise TidegateError(f"MLflow cannot be used: {error}; install tidegate[mlflow]") from error
    _loaded(opened)
    header, name = opened.header, f"{opened.header.model}-{opened.header.learner}"
    with tempfile.TemporaryDirectory() as folder:
        file, head = to_files(envelope, header, Path(folder))
        try:
            if uri is not None:
                mlflow.set_tracking_uri(uri)
            with mlflow.start_run(run_name=f"{name} {header.version}"):
                mlflow.log_params(_parameters(header))
                mlflow.log_metrics(header.lineage.get("metrics") or {})
                mlflow.log_artifact(str(head))
                logged = pyfunc.log_model(
                    name="model",
                    python_model=str(MODEL_CODE),
                    artifacts={"snapshot": str(file)},
                    registered_model_name=name,
                    pip_requirements=[f"tidegate=={version('tidegate')}"],
                )
        except mlflow.exceptions.MlflowException as error:
            raise TidegateError(f"MLflow: {str(error).splitlines()[0]}") from error
    return f"models:/{name}/{logged.registered_model_version}"


def _parameters(header: Header) -> dict[str, Any]:
    """What MLflow shows beside a run: each as short text."""
    lineage = {f"lineage_{name}": value for name, value in header.lineage.items() if name != "metrics"}
    own = ("model", "learner", "version", "updates", "path", "task", "seed", "sha256")
    return {name: getattr(header, name) for name in own} | lineage


def _loaded(opened: Opened) -> Any:
    try:
        return load(opened)
    except SnapshotError as error:
        raise TidegateError(str(error)) from error


def _write(file: Path, content: bytes) -> Path:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    except OSError as error:
        raise TidegateError(f"{file}: cannot be written: {error.strerror}") from error
    return file
