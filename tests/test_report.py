"""The report: one file, nothing from elsewhere, pictures from the result alone (F44)."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import orjson
import pytest

from stream import config
from stream.runtime.replay import replay
from stream.surface import canvas, figures, findings, report, summary

CONFIG = """
models:
  m:
    task: binary
    reference: {first: 1000}
    windows: {every: 4h, min_events: 50}
    slices: [s]
    labels: {horizon: 1d}
    detectors: [counts]
    learn: {champion: river.linear_model.LogisticRegression}
input: {model: m, label: y, label_delay: {exponential: 30m, seed: 1}}
"""

Document = dict[str, Any]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Document:
    """A run of 4,000 rows in which x jumps after 3,000; the last row is broken."""
    path = tmp_path_factory.mktemp("report") / "d.csv"
    rows = (f"{i * 7919 % 101 / 50 + (3 if i > 3000 else 0):.2f},{'uvw'[i % 3]},{i * 31 % 7 % 2}" for i in range(4000))
    path.write_text("x,s,y\n" + "\n".join(rows) + "\n1\n")
    found: Document = orjson.loads(replay(config.parse(CONFIG), path).to_json())
    return found


@pytest.fixture(scope="module")
def html(document: Document) -> str:
    return report.render(document)


def without_plotly(html: str) -> str:
    return html.replace(report.plotly_js(), "")


def embedded_figures(html: str) -> dict[str, Any]:
    found = re.search(r"^const figures = (.*);$", html, re.MULTILINE)
    assert found is not None
    parsed: dict[str, Any] = orjson.loads(found[1])
    return parsed


def test_nothing_is_loaded_from_elsewhere(html: str) -> None:
    own = without_plotly(html)
    assert len(own) < 0.5 * len(html), "Plotly is inside, once"
    assert not re.search(r"https?:|//[a-z]|\bsrc\s*=|<link|@import|url\(", own)


def test_every_picture_has_its_place(html: str) -> None:
    pictures = embedded_figures(html)
    assert pictures["m-performance"]["choices"][0] == ["accuracy", "accuracy"]
    assert {"m-performance", "m-drift", "m-alerts", "m-delays", "m-slices", "ledger"} <= pictures.keys()
    for name, figure in pictures.items():
        assert html.count(f'<div id="{name}"></div>') == 1
        assert figure["data"], name


def test_the_jump_stands_in_the_alert_table_and_in_the_heat_map(document: Document, html: str) -> None:
    assert any("x" in alert["stream"] for alert in document["alerts"])
    assert "x" in embedded_figures(html)["m-drift"]["data"][0]["y"]
    first = figures.by_alert(document, "m")[0]["last"]
    assert first["summary"].split(":")[0] in html


def test_bad_rows_are_shown_with_their_reason(html: str) -> None:
    """F51"""
    assert "line 4002: 1 fields where the first line names 3" in html


def test_words_from_outside_cannot_become_markup(document: Document) -> None:
    hostile = copy.deepcopy(document)
    evil = "</script><script>alert(1)</script><img src=x>"
    hostile["alerts"][0]["summary"] = evil
    hostile["alerts"][0]["at"] = evil
    hostile["dead_letters"]["first"][0]["reason"] = evil
    hostile["models"] = {evil: hostile["models"]["m"]}
    for event in hostile["alerts"] + hostile["windows"] + hostile["learning"]["decisions"]:
        event["model"] = evil
    hostile["learning"]["models"] = {evil: hostile["learning"]["models"]["m"]}
    hostile["delays"] = {evil: hostile["delays"]["m"]}
    own = without_plotly(report.render(hostile))
    assert own.count("<script>") == 2
    assert "<img" not in own
    assert "alert(1)" in own, "it is shown, as text"


def test_a_run_with_nothing_in_it_still_has_a_report(tmp_path: Path) -> None:
    path = tmp_path / "empty.csv"
    path.write_text("x,s,y\n")
    empty = orjson.loads(replay(config.parse(CONFIG), path).to_json())
    html = report.render(empty)
    assert "balanced: 0 = 0 joined" in html
    assert summary.lines(empty)


def test_figures_are_plain_and_pure(document: Document) -> None:
    before = orjson.dumps(document)
    for draw in (figures.performance, figures.drift, figures.alerts, figures.delays, figures.slices):
        assert orjson.loads(orjson.dumps(draw(document, "m"))) == draw(document, "m")
    assert orjson.dumps(document) == before


def test_a_moving_mean_is_weighted() -> None:
    assert canvas.smooth([1.0, 0.0, 0.0], [1, 3, 0]) == [1.0, 0.25, 0.25]
    assert canvas.smooth([0.5], [0]) == [0.5]


def test_strange_inputs_and_what_features_tell_of_the_label_are_shown(document: Document, html: str) -> None:
    """F56 F57: what jumps is strange, and named."""
    assert ">Strange inputs<" in html and ">Leakage<" in html
    rows = findings.strange_rows(document, "m")
    assert 0 < len(rows) <= 20 and all(row[2] for row in rows)
    line = findings.strange(document, "m")["data"][1]
    assert max(line["y"]) > 0.01 and all(0 <= y <= 1 for y in line["y"])
    assert {row[0] for row in findings.leak_rows(document, "m")} == {"x", "s"}
    assert findings.leak_words(document, "m").endswith("0 of 4,000 labels are older than their prediction.")
    assert findings.bias_rows(document, "m") == []


def test_a_reference_too_small_for_strange_inputs_is_said_in_the_report(document: Document) -> None:
    small = copy.deepcopy(document)
    small["models"]["m"]["watch"]["strange"] = {"off": "strange inputs are not looked for: 75 rows"}
    small["models"]["m"]["watch"]["label_bias"] = {
        "x<1>": {"difference": -0.5, "low": -0.7, "high": -0.3, "labelled": 1200.0, "unlabelled": 300.0}
    }
    page = without_plotly(report.render(small))
    assert "Strange inputs are not looked for: 75 rows." in page
    assert "x&lt;1&gt;" in page and "-0.70 to -0.30" in page
