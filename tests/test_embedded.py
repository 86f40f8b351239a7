"""The embedded engine: the plain prequential loop, the same bytes every time, every record accounted for."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import orjson
import pytest

from learners import registry
from stream.config import Config, parse
from stream.contract import DEAD_LETTERS, EXAMPLES, LABELS, PREDICTIONS, Record
from stream.events import DeadLetter, Example, Prediction
from stream.runtime.embedded import Embedded, collector_off
from stream.runtime.feed import Feed
from stream.runtime.replay import Progress, replay

ROWS = 600

LEARNING = """
models:
  m:
    task: binary
    reference: {{first: 200}}
    windows: {{every: 2h, min_events: 50}}
    slices: [s]
    labels: {{horizon: 1d}}
    learn:
      champion: {champion}
      challengers: {{tree: {{river.tree.HoeffdingTreeClassifier: {{grace_period: 50}}}}}}
input: {{model: m, label: y, label_delay: {delay}}}
"""
GIVEN = """
models:
  m:
    task: binary
    reference: {first: 200}
    windows: {every: 2h, min_events: 50}
    labels: {horizon: 1d}
input: {model: m, label: y, label_delay: {time: 30m}, prediction: said, score: p, drop: [s]}
"""


def config(delay: str = "{events: 20}", champion: str = "river.linear_model.LogisticRegression") -> Config:
    return parse(LEARNING.format(delay=delay, champion=champion))


def stream(folder: Path, rows: int = ROWS, shift_at: int | None = None) -> Path:
    random = np.random.default_rng(5)
    x = random.normal(size=(rows, 2))
    if shift_at is not None:
        x[shift_at:, 0] += 1.5
    y = (x[:, 0] + random.normal(size=rows) > 0).astype(int)
    p = 1 / (1 + np.exp(-x[:, 0]))
    lines = ["a,b,s,y,said,p"]
    for i in range(rows):
        lines.append(f"{x[i, 0]:.6f},{x[i, 1]:.6f},{'uvw'[i % 3]},{y[i]},{int(p[i] > 0.5)},{p[i]:.4f}")
    path = folder / "stream.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def plain_loop(config: Config, path: Path, delay: int) -> list[float]:
    """What a few lines of plain River say: answer, and learn each row once its label has been known for a row."""
    spec = config.models["m"].learn.champion  # type: ignore[union-attr]
    learner = registry.make(spec.path, spec.parameters, "binary", 1)
    rows, said = [], []
    for item in Feed(parse(LEARNING.format(delay="{events: 0}", champion=spec.path)), path):
        if item.topic == LABELS:
            rows[-1][1] = item.event.label  # type: ignore[attr-defined]
        else:
            rows.append([item.event.features, None])  # type: ignore[attr-defined]
    for i, (x, _) in enumerate(rows):
        if i > delay:
            learner.learn(*rows[i - delay - 1])
        said.append(learner.predict(x).score)
    return said  # type: ignore[return-value]


@pytest.mark.parametrize("partitions", [1, 3])
@pytest.mark.parametrize("delay", [0, 20])
def test_it_answers_as_a_plain_loop_does_to_the_last_digit(tmp_path: Path, delay: int, partitions: int) -> None:
    """F23, F28"""
    path, settings = stream(tmp_path, 300), config(f"{{events: {delay}}}")
    embedded = Embedded(settings, partitions, keep=(PREDICTIONS,))
    for _ in embedded.run(Feed(settings, path)):
        pass
    embedded.finish()
    said = [event for _, event in embedded.logs[PREDICTIONS] if isinstance(event, Prediction)]
    champion = {int(p.prediction_id): p.score for p in said if p.role == "champion"}
    assert [champion[i] for i in range(300)] == plain_loop(settings, path, delay)


def test_no_prediction_saw_its_own_label_or_a_later_one(tmp_path: Path) -> None:
    """F23: row i is answered by a model that has learned the rows up to i - 21 and no other."""
    settings = config()
    embedded = Embedded(settings, keep=(PREDICTIONS,))
    for _ in embedded.run(Feed(settings, stream(tmp_path, 100))):
        pass
    for _, event in embedded.logs[PREDICTIONS]:
        assert isinstance(event, Prediction)
        assert event.model_updates == max(int(event.prediction_id) - 20, 0)


def test_every_record_is_accounted_for(tmp_path: Path) -> None:
    """F24: a row without a label expires; a duplicate id is a duplicate."""
    path = tmp_path / "d.csv"
    path.write_text(
        "id,x,y\n" + "".join(f"{i},{i % 7},{'' if i % 10 == 0 else i % 2}\n" for i in range(100)) + "5,1,1\n"
    )
    settings = parse(
        "models: {m: {task: binary, labels: {horizon: 1d}, learn: {champion: majority}}}\n"
        "input: {model: m, prediction_id: id, label: y, label_delay: {time: 5m}}"
    )
    ledger = replay(settings, path).to_dict()["ledger"]
    counts = ledger["predictions"]
    assert (counts["in"], counts["joined"], counts["expired"], counts["duplicate"]) == (101, 90, 10, 1)
    assert counts["pending"] == counts["rejected"] == 0
    assert ledger["balanced"]


def test_bad_rows_and_bad_records_are_dead_letters(tmp_path: Path) -> None:
    """F51"""
    settings = config()
    path = stream(tmp_path, 50)
    with path.open("a") as file:
        file.write("1,2\n")
    document = replay(settings, path).to_dict()
    assert document["dead_letters"]["codes"] == {"row": 1}
    assert document["dead_letters"]["first"][0]["reason"] == "line 52: 2 fields where the first line names 6"
    embedded = Embedded(settings)
    embedded.feed(PREDICTIONS, 0, [Record(0, 1e9, b"a", b"nonsense"), Record(1, 1e9, b"b", None)], 1e9)
    letters = [event for _, event in embedded.logs[DEAD_LETTERS] if isinstance(event, DeadLetter)]
    assert [letter.code for letter in letters] == ["malformed", "null"]


def test_records_fed_as_bytes_join_as_structs_do() -> None:
    """F21"""
    settings = parse("models: {m: {task: binary, labels: {horizon: 1h}}}")
    embedded = Embedded(settings, keep=(EXAMPLES,))
    asked = b'{"prediction_id":"a","model":"m","event_time":100,"features":{"x":1},"prediction":1}'
    label = b'{"prediction_id":"a","event_time":160,"label":0}'
    embedded.feed(LABELS, 0, [Record(0, 1e9, b"a", label)], 1e9)
    embedded.feed(PREDICTIONS, 0, [Record(0, 1e9, b"a", asked)], 1e9)
    embedded.finish()
    ((_, example),) = embedded.logs[EXAMPLES]
    assert isinstance(example, Example)
    assert (example.label, example.delay_s) == (0, 60.0)


def digests(path: Path, settings: Config, partitions: int = 1) -> dict[str, object]:
    document = replay(settings, path, partitions).to_dict()
    return {k: v for k, v in document.items() if k != "timings"}


def test_the_same_file_gives_the_same_bytes_in_any_process(tmp_path: Path) -> None:
    """F42, F45: also under another PYTHONHASHSEED."""
    path = stream(tmp_path)
    (tmp_path / "c.yaml").write_text(LEARNING.format(delay="{exponential: 20m, seed: 3}", champion="experts"))
    code = (
        "import sys, orjson; from stream import config; from stream.runtime.replay import replay\n"
        "document = replay(config.load(sys.argv[1]), sys.argv[2]).to_dict(); document.pop('timings')\n"
        "sys.stdout.buffer.write(orjson.dumps(document, option=orjson.OPT_SORT_KEYS))"
    )
    outputs = []
    for seed in ("0", "4711"):
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "c.yaml"), str(path)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            timeout=120,
        )
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1]
    assert len(orjson.loads(outputs[0])["windows"]) > 0


def test_given_predictions_give_the_same_windows_whatever_the_partitions(tmp_path: Path) -> None:
    """F49: what watch says does not depend on how the work is shared."""
    path, settings = stream(tmp_path, 3000, shift_at=1500), parse(GIVEN)
    one, four = digests(path, settings), digests(path, settings, 4)
    assert one["windows"] == four["windows"]
    assert one["alerts"] == four["alerts"]
    assert one["ledger"]["predictions"] == four["ledger"]["predictions"]  # type: ignore[index]


def test_a_result_has_windows_learners_and_delays(tmp_path: Path) -> None:
    """F45"""
    document = replay(config("{time: 30m}"), stream(tmp_path)).to_dict()
    assert {w.get("learner", "champion") for w in document["windows"]} >= {"champion", "tree", "baseline"}
    assert document["learning"]["updates"]["m"]["champion"] == ROWS
    assert document["delays"]["m"]["labels"] == ROWS
    assert document["delays"]["m"]["median_s"] == pytest.approx(1800, rel=0.01)
    assert sum(document["delays"]["m"]["counts"]) == ROWS
    assert document["feed"]["first"] == "2024-01-01T00:00:00Z"
    assert set(document["timings"]["stages_s"]) == {"join", "watch", "learn", "score", "feed and log"}


def test_progress_is_told_to_the_end(tmp_path: Path) -> None:
    """F45"""
    seen: list[Progress] = []
    replay(config(), stream(tmp_path), on_progress=seen.append)
    assert seen[-1].done == 1.0
    assert [p.events for p in seen] == sorted(p.events for p in seen)
    assert seen[-1].events == 2 * ROWS


def test_the_cycle_collector_is_off_inside_and_on_again_after() -> None:
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), collector_off() as collect:
        assert not gc.isenabled()
        collect(10**9)
        raise ZeroDivisionError
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
